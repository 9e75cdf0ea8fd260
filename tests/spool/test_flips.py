"""Single bits of a small file flipped: each signal is delivered, or the loss of it is reported."""

from pathlib import Path

import pytest

from clocknext_transports.spool.files import records
from tests.spool.flips import flip_each, made, made_with_log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def test_one_flipped_bit_of_header_or_schema_costs_no_signal(path: Path) -> None:
    file, expected = made(path, 3)
    content = file.read_bytes()
    schema = content.index(b"CREATE INDEX"), content.index(b"signals_by_key") + 512
    bits = [*range(0, 800, 7), *range(8 * schema[0], 8 * schema[1], 29), 8 * (content.index(b"PRIMARY")) + 3]
    outcome = flip_each(path, file, expected, bits)
    assert outcome.lost == 0
    assert outcome.set_aside > 100, "not in vain"


def test_one_flipped_bit_of_a_small_file_costs_at_most_the_signal_it_is_in(path: Path) -> None:
    file, expected = made(path, 3)
    outcome = flip_each(path, file, expected, range(5, file.stat().st_size * 8, 499))
    assert outcome.lost < 5


def test_one_flipped_bit_in_the_pages_of_a_long_signal(path: Path) -> None:
    file, expected = made(path, 2, size=20_000)
    flip_each(path, file, expected, range(8 * 4096, file.stat().st_size * 8, 9973))


def test_one_flipped_bit_in_the_last_frame_of_the_log_costs_at_most_its_signal(path: Path) -> None:
    log, expected, bits = made_with_log(path, 3)
    outcome = flip_each(path, log, expected, [*bits][::997])
    assert outcome.flips > 30


def test_one_flipped_bit_in_the_last_signal_of_the_log_is_told(path: Path) -> None:
    log, expected, _ = made_with_log(path, 3)
    at = 8 * log.read_bytes().rindex(b"key-2{")
    outcome = flip_each(path, log, expected, range(at - 70, at + 130, 3))
    assert outcome.lost > 30, "as its bytes were changed; the file is kept"


@pytest.mark.parametrize(
    "page", [bytes(4096), b"\x06\0" * 2048, b"\x09\0\xff\xff\xff\xff\xff" * 500, b"\x06\0"]
)
def test_what_only_looks_like_records_is_none(page: bytes) -> None:
    assert [*records.find(page, lambda _: b"")] == []
