"""Retry-After: `backoff.retry_after` and `http_date`, from any values of the three headers they read.

Invariant: whatever a server writes into `Retry-After`, `retry-after-ms` and `Date`,

- nothing is raised, and the wait is `None` or a number of seconds from 0 to 24 hours: a man in the middle
  must not stop delivery for ever;
- it is what a second reader, written by the letter of the protocol and without patterns, reads: milliseconds
  win, then seconds, then a date, counted from the answer's own Date, else from its arrival;
- blanks around a value and the case of a header's name change nothing;
- a date that was read, written out in the format of today, is read as the same moment.

Allowed exceptions: none.
"""

from calendar import monthrange
from datetime import UTC, datetime
from email.utils import format_datetime
from math import isfinite

from clocknext_core import Response
from clocknext_core.backoff import RETRY_AFTER_CAP, http_date, retry_after
from fuzz.decoding import Decoder

MAX_BYTES = 160

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
ARRIVALS = (None, 0.0, 1_782_900_000.0, 784_111_777.0, 1_782_900_000.123456, -1.0, 4e9)

TOKENS = (
    *(b"Wed, 01 Jul 2026 10:00:00 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"),
    *(month.title().encode() for month in MONTHS),
    *(b"GMT", b" GMT", b"Mon, ", b"Monday, ", b":60", b"29 Feb 2024", b"1e3", b"1e999", b".5", b"-1", b"+0"),
    *(b"0.", b"\n", b"\n\n", b"inf", b"nan", b"1_000", b"0x10", b"9999", b"0000"),
)


def check(data: bytes) -> None:
    """Read an answer's headers: a byte for when it arrived, then up to three lines, the headers' values."""
    decoder = Decoder(data)
    received_at = decoder.pick(ARRIVALS)
    values = [*decoder.rest().decode("latin-1").split("\n"), "", ""][:3]
    names = ("retry-after", "retry-after-ms", "date")
    headers = [(name, value) for name, value in zip(names, values, strict=True) if value]
    wait = retry_after(Response(429, headers, b"", received_at))
    assert wait is None or (isfinite(wait) and 0 <= wait <= RETRY_AFTER_CAP)
    assert wait == _wait(dict(headers), received_at)
    padded = [(name.title(), f" {value}\t") for name, value in headers]
    assert retry_after(Response(429, padded, b"", received_at)) == wait
    for value in values:
        at = http_date(value)
        assert at == _date(value)
        if at is not None:
            written = format_datetime(datetime.fromtimestamp(at, UTC), usegmt=True)
            assert http_date(written) == at


def _wait(headers: dict[str, str], received_at: float | None) -> float | None:
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None and milliseconds >= 0:
        return _limited(milliseconds / 1000)
    value = headers.get("retry-after", "")
    seconds = _number(value)
    if seconds is None:
        at = _date(value)
        sent_at = _date(headers.get("date", ""))
        measured_from = received_at if sent_at is None else sent_at
        if at is None or measured_from is None:
            return None
        seconds = at - measured_from
    return _limited(seconds)


def _limited(seconds: float) -> float:
    # In branches, which the fuzzer sees; it would not see which side a min() takes.
    if seconds < 0:
        return 0.0
    if seconds > RETRY_AFTER_CAP:
        return RETRY_AFTER_CAP
    return seconds


def _number(text: str) -> float | None:
    """Read a decimal: digits with at most one point, perhaps a sign, and an exponent of at most 3 digits."""
    text = text.strip(" \t")
    mantissa, _, exponent = text.lower().partition("e")
    whole, _, fraction = mantissa[mantissa[:1] in ("+", "-") :].partition(".")
    if not _is_digits(whole + fraction):
        return None
    if "e" in text.lower():
        digits = exponent[exponent[:1] in ("+", "-") :]
        if not _is_digits(digits) or len(digits) > 3:
            return None
    return float(text)


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _date(text: str) -> float | None:
    """Read one of the three formats of RFC 9110, section 5.6.7. The day of the week is not looked at."""
    text = text.strip(" \t")
    weekday, comma, rest = text.partition(", ")
    if comma and rest[2:3] == " ":
        words = rest.split(" ")
        if len(weekday) != 3 or len(words) != 5 or words[4].lower() != "gmt":
            return None
        day, month, year, time = words[:4]
        if len(year) != 4:
            return None
    elif comma:
        words = rest.split(" ")
        if not 6 <= len(weekday) <= 9 or len(words) != 3 or words[2].lower() != "gmt":
            return None
        parts = words[0].split("-")
        if len(parts) != 3 or len(parts[2]) != 2:
            return None
        day, month, year, time = *parts, words[1]
        year = ("20" if year < "70" else "19") + year
    else:
        weekday, month, day, time, year = text[:3], text[4:7], text[8:10], text[11:19], text[20:]
        if len(text) != 24 or {text[3], text[7], text[10], text[19]} != {" "}:
            return None
        day = day.replace(" ", "0", 1) if day.startswith(" ") else day
    clock = time.split(":")
    if not (weekday.isascii() and weekday.isalpha() and month.lower() in MONTHS and len(clock) == 3):
        return None
    if not _is_digits(year) or not all(_is_digits(part) and len(part) == 2 for part in (day, *clock)):
        return None
    hour, minute, second = map(int, clock)
    if not (int(year) >= 1 and hour <= 23 and minute <= 59 and second <= 60):  # 60: a leap second
        return None
    number = MONTHS.index(month.lower()) + 1
    if not 1 <= int(day) <= monthrange(int(year), number)[1]:
        return None
    if second == 60:
        second = 59
    return datetime(int(year), number, int(day), hour, minute, second, tzinfo=UTC).timestamp()
