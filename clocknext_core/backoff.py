"""When to try again: exponential back-off with jitter, and what a server's Retry-After asks for."""

import re
from datetime import UTC, datetime
from typing import Protocol

from clocknext_core.config import RetryPolicy
from clocknext_core.errors import ClockNextError
from clocknext_core.messages import Response

RETRY_AFTER_CAP = 24 * 3600.0
"""Longest wait a server can impose, seconds. Beyond it, a man in the middle could stop delivery for ever."""

_BLANKS = " \t"
"""What may stand around a header's value. Python's own idea of blanks differs between `strip` and `float`."""
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
# These patterns are compiled when they are first used: most programs never meet such an answer.
_SECONDS = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?"
_HTTP_DATES = (
    # RFC 9110 section 5.6.7: the format of today, then the two obsolete ones a recipient must accept.
    rf"[a-z]{{3}}, (?P<day>\d\d) (?P<month>[a-z]{{3}}) (?P<year>\d{{4}}) {_TIME} GMT",
    rf"[a-z]{{6,9}}, (?P<day>\d\d)-(?P<month>[a-z]{{3}})-(?P<year>\d\d) {_TIME} GMT",
    rf"[a-z]{{3}} (?P<month>[a-z]{{3}}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
)


class RandomSource(Protocol):
    """What the core needs of a `random.Random`: it is handed in, so that a run can be repeated."""

    def random(self) -> float:
        """Return the next number, uniform in [0, 1)."""
        ...


def backoff_delay(attempt: int, policy: RetryPolicy, rng: RandomSource) -> float:
    """Compute the wait in seconds after the failed attempt number `attempt` (1-based).

    min(base_delay · 2^(attempt-1), max_delay) · (0.5 + r/2), r uniform in [0, 1): half is certain, half is
    jitter, so that clients which failed together do not come back together.
    """
    try:
        ceiling = min(policy.base_delay * 2.0 ** (attempt - 1), policy.max_delay)
    except OverflowError:
        ceiling = policy.max_delay if policy.base_delay else 0.0
    return ceiling * (0.5 + rng.random() / 2)


def retry_delay(error: ClockNextError, attempt: int, policy: RetryPolicy, rng: RandomSource) -> float:
    """Compute the wait in seconds between the failed attempt number `attempt` (1-based) and the next one.

    Our own back-off, or what the server asked for where that is longer: never earlier than it said.
    """
    return max(backoff_delay(attempt, policy, rng), error.retry_after or 0.0)


def retry_after(response: Response) -> float | None:
    """Read the wait in seconds a response asks for; `None` when it asks for none that can be understood.

    `retry-after-ms`, a number ≥ 0, wins; else `retry-after` as seconds (fractions allowed, negative is 0) or
    as an HTTP date (past is 0), measured from the response's own Date, else from when it was received.
    Never more than `RETRY_AFTER_CAP`.
    """
    milliseconds = _number(response.header("retry-after-ms"))
    if milliseconds is not None and milliseconds >= 0:
        return min(milliseconds / 1000, RETRY_AFTER_CAP)
    value = response.header("retry-after")
    seconds = _number(value)
    if seconds is None:
        seconds = _until(value, response)
    return None if seconds is None else min(max(seconds, 0.0), RETRY_AFTER_CAP)


def _number(text: str | None) -> float | None:
    if text is None or not re.fullmatch(_SECONDS, text := text.strip(_BLANKS)):
        return None
    return float(text)


def _until(text: str | None, response: Response) -> float | None:
    at = http_date(text)
    if at is None:
        return None
    sent_at = http_date(response.header("date"))
    measured_from = response.received_at if sent_at is None else sent_at
    return None if measured_from is None else at - measured_from


def http_date(text: str | None) -> float | None:
    """Read an HTTP date as seconds since 1970; `None` when it is not one."""
    if text is None:
        return None
    for pattern in _HTTP_DATES:
        if found := re.fullmatch(pattern, text.strip(_BLANKS), re.ASCII | re.IGNORECASE):
            break
    else:
        return None
    year = int(found["year"])
    if len(found["year"]) == 2:  # the obsolete format: this century, unless that is far ahead
        year += 2000 if year < 70 else 1900
    try:
        return datetime(
            year,
            _MONTHS.index(found["month"].lower()) + 1,
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            59 if found["second"] == "60" else int(found["second"]),  # a leap second has no Unix time
            tzinfo=UTC,
        ).timestamp()
    except ValueError:
        return None
