"""Single bits of a small file flipped: each signal is delivered, or the loss of it is reported."""

from itertools import islice
from pathlib import Path

import pytest

from clocknext_transports.spool.files import records
from tests.spool.flips import areas, change_each, flip_each, made, made_with_log


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


def test_zeros_or_garbage_over_a_part_of_a_file_lose_nothing_without_a_word(path: Path) -> None:
    file, expected = made(path, 3)
    outcome = change_each(path, file, expected, islice(areas(file.read_bytes()), 0, None, 5))
    assert outcome.set_aside > 20


def test_zeros_or_garbage_over_a_part_of_the_log_lose_nothing_without_a_word(path: Path) -> None:
    log, expected, _ = made_with_log(path, 3)
    outcome = change_each(path, log, expected, islice(areas(log.read_bytes()), 0, None, 7))
    assert outcome.set_aside > 20


@pytest.mark.parametrize("ending", ["-wal", "-shm", ""])
@pytest.mark.parametrize("filling", [b"", b"\0", b"\xff", b"garbage"])
def test_what_is_beside_a_file_loses_nothing_whatever_is_in_it(
    path: Path, ending: str, filling: bytes
) -> None:
    log, expected, _ = made_with_log(path, 3)
    index = log.with_name(log.name.removesuffix("-wal") + "-shm")
    index.write_bytes(bytes(32768))  # a process that was killed leaves one
    index.chmod(0o600)
    file = log.with_name(log.name.removesuffix("-wal") + ending)
    size = file.stat().st_size
    content = (filling * size)[:size]
    outcome = change_each(path, file, expected, [("whole", content)])
    assert outcome.lost == 0 or ending != "-shm"


@pytest.mark.parametrize(
    "page", [bytes(4096), b"\x06\0" * 2048, b"\x09\0\xff\xff\xff\xff\xff" * 500, b"\x06\0"]
)
def test_what_only_looks_like_records_is_none(page: bytes) -> None:
    assert [*records.find(page, lambda _: b"")] == []
