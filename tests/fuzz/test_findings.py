"""What fuzzing found, in plain words; the inputs themselves are in fuzz/findings."""

import time

import pytest

from clocknext_core import Failure, Response
from clocknext_core.backoff import http_date, retry_after
from clocknext_transports.http11 import Connection
from clocknext_transports.http11.answers import MAX_FRAMING_BYTES, MAX_HEAD_BYTES
from tests.transports.support import answer, request

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n"

ALLOWED = {
    "head": answer(b"{}", "X: " + "x" * 30_000),
    "interim answers": INTERIM * 1000 + answer(b"{}"),
    "extension of a chunk": CHUNKED + b"2;x=" + b"x" * 2000 + b"\r\n{}\r\n0\r\n\r\n",
    "trailers": CHUNKED + b"2\r\n{}\r\n0\r\nX: " + b"x" * 2000 + b"\r\n\r\n",
}
TOO_MUCH = {
    "head": answer(b"{}", "X: " + "x" * MAX_HEAD_BYTES),
    "interim answers": INTERIM * (MAX_HEAD_BYTES // len(INTERIM)) + answer(b"{}"),
    "extension of a chunk": CHUNKED + b"2;x=" + b"x" * 2 * MAX_FRAMING_BYTES + b"\r\n{}\r\n0\r\n\r\n",
    "trailers": CHUNKED + b"2\r\n{}\r\n0\r\nX: " + b"x" * 2 * MAX_FRAMING_BYTES + b"\r\n\r\n",
}
SLOW = {
    "head": b"HTTP/1.1 200 OK\r\nA: %b\0\r\n\r\n",
    "head with a bare CR": b"HTTP/1.1 200 OK\r\nA: b\r: %b\f\r\n\r\n",
    "interim answer": b"HTTP/1.1 103 Early Hints\r\nA: %b\v\r\n\r\n" + answer(),
    "trailers": CHUNKED + b"0\r\nA: %b\0\r\n\r\n",
    "extension of a chunk": CHUNKED + b"1;%b\n\r\n{\r\n0\r\n\r\n",
}
"""What h11 takes minutes to refuse, with enough blanks in it."""


def outcome_of(data: bytes, size: int) -> Response | Failure | None:
    """Feed in parts of one size."""
    connection = Connection(wall_clock=lambda: 0.0)
    connection.send(request("https://api.example"))
    for start in range(0, len(data), size):
        if (outcome := connection.receive(data[start : start + size])) is not None:
            return outcome
    return None


@pytest.mark.parametrize("size", [1, 1000, 65536, 10**6])
@pytest.mark.parametrize("name", ALLOWED)
def test_long_framing_is_read_however_it_is_cut(name: str, size: int) -> None:
    outcome = outcome_of(ALLOWED[name], size)
    assert isinstance(outcome, Response)
    assert outcome.body == b"{}"


@pytest.mark.parametrize("size", [1, 1000, 65536, 10**6])
@pytest.mark.parametrize("name", TOO_MUCH)
def test_framing_without_end_is_refused_however_it_is_cut(name: str, size: int) -> None:
    assert isinstance(outcome_of(TOO_MUCH[name], size), Failure)


@pytest.mark.parametrize("size", [1, 4000, MAX_HEAD_BYTES, 10**6])
def test_the_limit_of_the_head_is_exact_however_it_is_cut(size: int) -> None:
    room = MAX_HEAD_BYTES - len(answer(b"{}", "X: ")) + len(b"{}")
    assert isinstance(outcome_of(answer(b"{}", "X: " + "x" * room), size), Response)
    assert isinstance(outcome_of(answer(b"{}", "X: " + "x" * (room + 1)), size), Failure)


@pytest.mark.parametrize("size", [1000, 10**6])
@pytest.mark.parametrize("name", SLOW)
def test_blanks_do_not_hold_the_reader_up(name: str, size: int) -> None:
    began = time.process_time()
    assert isinstance(outcome_of(SLOW[name] % (b" " * 60_000), size), Failure)
    assert time.process_time() - began < 5  # of computing; it were about a minute


@pytest.mark.parametrize("name", ["retry-after", "retry-after-ms"])
@pytest.mark.parametrize("value", ["\x1f13", "13\x1c", "\x1d13\x1e", "\x8513", "\xa013"])
def test_control_characters_around_a_wait_are_no_blanks(name: str, value: str) -> None:
    assert retry_after(Response(429, [(name, value)], b"")) is None


@pytest.mark.parametrize("second", ["61", "75", "99"])
def test_a_second_that_no_clock_shows_is_no_date(second: str) -> None:
    assert http_date(f"Wed, 01 Jul 2026 10:00:{second} GMT") is None
    assert http_date("Wed, 01 Jul 2026 10:00:60 GMT") == http_date("Wed, 01 Jul 2026 10:00:59 GMT")


def test_an_early_year_of_four_digits_is_in_the_past() -> None:
    headers = [("retry-after", "Wed, 15 Jul 0026 10:00:00 GMT")]
    assert retry_after(Response(503, headers, b"", 0.0)) == 0.0
    assert http_date("Wednesday, 15-Jul-26 10:00:00 GMT") == http_date("Wed, 15 Jul 2026 10:00:00 GMT")
