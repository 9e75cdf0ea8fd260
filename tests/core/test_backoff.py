"""Back-off, Retry-After, HTTP dates: tables, and nothing a server sends makes them fail."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given

from clocknext_core import ClockNextError, RateLimitError, Response, RetryPolicy
from clocknext_core.backoff import RETRY_AFTER_CAP, backoff_delay, http_date, retry_after, retry_delay
from tests.core.support import Dice, answer
from tests.recordings import Json, load_table

NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def imf(at: datetime) -> str:
    return f"{WEEKDAYS[at.weekday()][:3]}, {at.day:02} {MONTHS[at.month - 1]} {at.year:04} {at:%H:%M:%S} GMT"


def rfc850(at: datetime) -> str:
    return (
        f"{WEEKDAYS[at.weekday()]}, {at.day:02}-{MONTHS[at.month - 1]}-{at.year % 100:02} {at:%H:%M:%S} GMT"
    )


def asctime(at: datetime) -> str:
    return f"{WEEKDAYS[at.weekday()][:3]} {MONTHS[at.month - 1]} {at.day:2} {at:%H:%M:%S} {at.year:04}"


# Back-off


@pytest.mark.parametrize("row", load_table("backoff.json"), ids=str)
def test_the_recorded_delays(row: Json) -> None:
    policy = RetryPolicy(base_delay=row["base_delay"], max_delay=row["max_delay"])
    delay = backoff_delay(row["attempt"], policy, Dice(row["random"]))
    assert abs(delay - row["delay"]) <= 0.0005 + 1e-9  # they were rounded to whole milliseconds


@given(
    attempt=st.integers(1, 5000),
    base=st.just(0.0) | st.floats(1e-6, 1e6),
    most=st.floats(0, 1e6),
    number=st.floats(0, 1, exclude_max=True),
)
def test_half_of_a_delay_is_certain_and_half_is_jitter(
    attempt: int, base: float, most: float, number: float
) -> None:
    policy = RetryPolicy(base_delay=base, max_delay=most)
    ceiling = min(base * 2.0 ** min(attempt - 1, 900), most)
    delay = backoff_delay(attempt, policy, Dice(number))
    assert ceiling / 2 <= delay <= ceiling
    assert backoff_delay(attempt + 1, policy, Dice(number)) >= delay


def error(*, retryable: bool = True, wait: float | None = None) -> ClockNextError:
    return RateLimitError("slow down", status=429, retryable=retryable, retry_after=wait)


@pytest.mark.parametrize(
    ("failure", "attempt", "delay"),
    [
        (error(), 1, 0.1),
        (error(), 4, 0.8),
        (error(wait=3.0), 1, 3.0),
        (error(wait=0.0), 1, 0.1),
        (error(wait=0.05), 1, 0.1),
        (error(wait=86400.0), 4, 86400.0),
    ],
)
def test_the_delay_before_the_next_attempt(failure: ClockNextError, attempt: int, delay: float) -> None:
    assert retry_delay(failure, attempt, RetryPolicy(), Dice(0.0)) == delay


@pytest.mark.parametrize(("base_delay", "delay"), [(0.2, 5.0), (0.0, 0.0)])
def test_a_power_that_no_float_can_hold_is_the_ceiling(base_delay: float, delay: float) -> None:
    policy = RetryPolicy(max_attempts=5000, base_delay=base_delay, max_delay=10.0)
    assert backoff_delay(4999, policy, Dice(0.0)) == delay


# Retry-After


@pytest.mark.parametrize("row", load_table("retry_after.json"), ids=str)
def test_the_recorded_waits(row: Json) -> None:
    assert retry_after(Response(429, list(row["headers"].items()), b"")) == row["seconds"]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry_after": "0"}, 0.0),
        ({"retry_after": "-0"}, 0.0),
        ({"retry_after": "-5"}, 0.0),
        ({"retry_after": "+5"}, 5.0),
        ({"retry_after": ".5"}, 0.5),
        ({"retry_after": "5."}, 5.0),
        ({"retry_after": "  7\t"}, 7.0),
        ({"retry_after": ""}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "inf"}, None),
        ({"retry_after": "1_000"}, None),
        ({"retry_after": "1,5"}, None),
        ({"retry_after": "5 seconds"}, None),
        ({"retry_after": "X5"}, None),
        ({"retry_after": "٣"}, None),
        ({"retry_after": "\x0b5"}, None),
        ({"retry_after": "5\u00a0"}, None),
        ({"retry_after": "86400"}, 86400.0),
        ({"retry_after": "86401"}, RETRY_AFTER_CAP),
        ({"retry_after": "9" * 400}, RETRY_AFTER_CAP),
        ({"retry_after": "1e999"}, RETRY_AFTER_CAP),
        ({"retry_after": "-1e999"}, 0.0),
        ({"retry_after_ms": "0", "retry_after": "9"}, 0.0),
        ({"retry_after_ms": "1500.5"}, 1.5005),
        ({"retry_after_ms": "-1", "retry_after": "9"}, 9.0),
        ({"retry_after_ms": "-1"}, None),
        ({"retry_after_ms": "", "retry_after": "9"}, 9.0),
        ({"retry_after_ms": "1e12", "retry_after": "9"}, RETRY_AFTER_CAP),
        ({"Retry_After": "3"}, 3.0),
        ({"RETRY_AFTER_MS": "3"}, 0.003),
    ],
)
def test_the_wait_a_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(answer(429, b"", **headers)) == seconds


FORMATS = (imf, rfc850, asctime)


def dated(retry: str, date: str | None = None, received: datetime | None = None) -> Response:
    headers = [("Retry-After", retry)] + ([] if date is None else [("Date", date)])
    return Response(503, headers, b"", None if received is None else received.timestamp())


@pytest.mark.parametrize("written", FORMATS)
@pytest.mark.parametrize("date_written", FORMATS)
def test_a_date_is_measured_from_the_answers_own_date(
    written: Callable[[datetime], str], date_written: Callable[[datetime], str]
) -> None:
    until = written(NOON + timedelta(seconds=90))
    astray = NOON - timedelta(days=3)  # this machine's wall clock is wrong: it must not matter
    assert retry_after(dated(until, date_written(NOON), astray)) == 90.0


@pytest.mark.parametrize("written", FORMATS)
def test_without_a_date_it_is_measured_from_its_arrival(written: Callable[[datetime], str]) -> None:
    until = written(NOON + timedelta(seconds=90))
    assert retry_after(dated(until, None, NOON)) == 90.0
    assert retry_after(dated(until, "yesterday", NOON + timedelta(seconds=0.5))) == 89.5
    assert retry_after(dated(until)) is None


@pytest.mark.parametrize("written", FORMATS)
def test_a_past_date_asks_for_no_wait_and_a_far_one_for_a_day(written: Callable[[datetime], str]) -> None:
    assert retry_after(dated(written(NOON - timedelta(days=400)), imf(NOON))) == 0.0
    assert retry_after(dated(written(NOON), imf(NOON))) == 0.0
    assert retry_after(dated(written(NOON + timedelta(days=400)), imf(NOON))) == RETRY_AFTER_CAP
    assert retry_after(dated("Fri, 31 Dec 9999 23:59:59 GMT", imf(NOON))) == RETRY_AFTER_CAP


@given(st.datetimes(datetime(1970, 1, 1), datetime(2069, 12, 31)))  # noqa: DTZ001
def test_every_moment_of_a_century_is_read_back_in_every_format(moment: datetime) -> None:
    at = moment.replace(microsecond=0, tzinfo=UTC)
    for written in FORMATS:
        assert (
            http_date(written(at))
            == http_date(f" {written(at).lower()} ".replace("gmt", "GMT"))
            == at.timestamp()
        )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sun, 22 Nov 2026",
        "22 Nov 2026 12:00:00 GMT",
        "Sun, 22 Nov 2026 12:00:00",
        "Sun, 22 Nov 2026 12:00:00 CET",
        "Sun, 22 Nov 2026 12:00:00 +0000",
        "Sun, 31 Feb 2026 12:00:00 GMT",
        "Sun, 00 Nov 2026 12:00:00 GMT",
        "Sun, 22 Foo 2026 12:00:00 GMT",
        "Sun, 22 Nov 2026 24:00:00 GMT",
        "Sun, 22 Nov 2026 12:60:00 GMT",
        "Sun, ٢٢ Nov 2026 12:00:00 GMT",
        "2026-11-22T12:00:00Z",
        "Sun, 22 Nov 2026 12:00:00 GMT\x0b",
        "\u00a0Sun, 22 Nov 2026 12:00:00 GMT",
    ],
)
def test_what_is_no_http_date(text: str) -> None:
    assert http_date(text) is None
    assert retry_after(dated(text, imf(NOON), NOON)) is None


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone can't be changed here")
def test_a_date_is_in_utc_wherever_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        assert http_date("Thu, 01 Jan 1970 00:00:01 GMT") == 1.0
    time.tzset()


def test_a_leap_second_is_the_second_before() -> None:
    assert http_date("Sat, 31 Dec 2016 23:59:60 GMT") == http_date("Sat, 31 Dec 2016 23:59:59 GMT")


HEADER_TEXT = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"[+-]?[0-9.]{0,30}([eE][+-]?[0-9]{0,5})?", fullmatch=True),
    st.from_regex(r"[A-Z][a-z]{2,8}, [0-9]{2}[ -][A-Z][a-z]{2}[ -][0-9]{2,4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"),
    st.from_regex(r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} [0-9]{4}"),
)


@given(
    headers=st.lists(
        st.tuples(st.sampled_from(["retry-after", "Retry-After-Ms", "date", "Date", "x"]), HEADER_TEXT),
        max_size=4,
    ),
    received=st.none() | st.floats(-1e12, 1e12),
)
def test_whatever_the_headers_say_the_wait_is_none_or_within_a_day(
    headers: list[tuple[str, str]], received: float | None
) -> None:
    wait = retry_after(Response(429, headers, b"", received))
    assert wait is None or 0 <= wait <= RETRY_AFTER_CAP
