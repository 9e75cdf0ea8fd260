"""Check request bodies and queries field by field. Nothing is coerced, and every issue is collected."""

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NoReturn, cast

from clocknext_transports.emulator.books.envelopes import Issue, Refusal
from clocknext_transports.emulator.books.pricing import exact

MAX_BODY = 64 * 1024
MAX_DEPTH = 200
"""The most levels a body may be nested: what is accepted can be shown again, whatever it is shown in."""
MAX_CUSTOM = 32 * 1024
MAX_TOKENS = 2**53 - 1
MAX_AMOUNT = 10**15
MIN_PRICE = Decimal("1e-12")
"""The least price that is divided by: below it, quotients outgrow the arithmetic."""
_TOO_LARGE = 2**1024
"""Whole numbers from here on are infinite as doubles."""
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_AGENT_KEY = re.compile(r"[a-z0-9._-]+")
_CURRENCY = re.compile(r"[A-Z]{3}")


class Fields:
    """Read the fields of a body; `finish` refuses the body if any was invalid.

    An invalid field is noted as an issue, and its value is returned as if it were absent. `null` is not
    absence: it is a value of the wrong type wherever it is not expressly allowed.

    Args:
        body: The object to read.
        within: The path of the object in the body, such as `steps[0].`; it precedes the fields of issues.
        issues: The list that issues are noted in. Default: a new one.
    """

    def __init__(
        self, body: Mapping[str, object], *, within: str = "", issues: list[Issue] | None = None
    ) -> None:
        self._body = body
        self._within = within
        self.issues: list[Issue] = [] if issues is None else issues

    def __contains__(self, name: str) -> bool:
        return name in self._body

    def path_of(self, name: str) -> str:
        """Return the path of a field in the body, such as `steps[0].name`."""
        return self._within + name

    def reject(self, name: str, message: str) -> None:
        """Note an issue."""
        self.issues.append(Issue(self.path_of(name), message))

    def finish(self) -> None:
        """Refuse the body if there were issues.

        Raises:
            Refusal: 400 `INVALID_BODY`, listing them all.
        """
        if self.issues:
            raise Refusal(400, reason="INVALID_BODY", issues=self.issues)

    def require(self, *names: str) -> None:
        """Note an issue for each of these fields that is absent."""
        for name in names:
            if name not in self._body:
                self.reject(name, "is required")

    def others(self, known: Collection[str]) -> dict[str, object]:
        """Return the fields that are not among the known ones, as they can be stored."""
        return {name: storable(value) for name, value in self._body.items() if name not in known}

    def is_null(self, name: str) -> bool:
        """Return whether the field is `null` or absent."""
        return self._body.get(name) is None

    def required_text(self, name: str) -> str:
        """Read a required string that must not be blank."""
        self.require(name)
        return self.text(name) or ""

    def required_agent_key(self, name: str = "agentKey") -> str:
        """Read a required agent key: the name that signals and events give a definition."""
        key = self.required_text(name)
        if key and _AGENT_KEY.fullmatch(key) is None:
            self.reject(name, "must be lower case, of the characters a-z0-9._-")
        return key

    def text(self, name: str, *, max_length: int | None = None) -> str | None:
        """Read an optional string that must not be blank."""
        if name not in self._body:
            return None
        value = self._body[name]
        if not isinstance(value, str):
            self.reject(name, "must be a string")
        elif not value.strip():
            self.reject(name, "must not be blank")
        elif max_length is not None and len(value) > max_length:
            self.reject(name, f"must be at most {max_length} characters")
        else:
            return value
        return None

    def nullable_text(self, name: str) -> str | None:
        """Read an optional string. `null`, returned as `None`, and the empty string are allowed."""
        value = self._body.get(name)
        if value is None or isinstance(value, str):
            return value
        self.reject(name, "must be a string or null")
        return None

    def email(self, name: str) -> str | None:
        """Read an optional e-mail address."""
        value = self.text(name)
        if value is not None and _EMAIL.fullmatch(value) is None:
            self.reject(name, "must be an e-mail address")
            return None
        return value

    def currency(self, name: str) -> str | None:
        """Read an optional currency code. `null` is allowed."""
        value = self.nullable_text(name)
        if value is not None and _CURRENCY.fullmatch(value) is None:
            self.reject(name, "must be an ISO 4217 code such as USD")
        return value

    def choice(self, name: str, options: Sequence[str]) -> str | None:
        """Read an optional string that must be one of the options."""
        if name not in self._body:
            return None
        value = self._body[name]
        if isinstance(value, str) and value in options:
            return value
        self.reject(name, f"must be one of {', '.join(options)}")
        return None

    def integer(self, name: str, *, minimum: int, maximum: int) -> int | None:
        """Read an optional integer. `2.0` is one, as it is for the real server; `true` and `"2"` are not."""
        if name not in self._body:
            return None
        value = self._body[name]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            self.reject(name, "must be an integer")
        elif value < minimum:
            self.reject(name, f"must be at least {minimum}")
        elif value > maximum:
            self.reject(name, f"must be at most {maximum}")
        else:
            return value
        return None

    def number(self, name: str, *, minimum: float, maximum: float) -> float | None:
        """Read an optional number."""
        if name not in self._body:
            return None
        value = self._body[name]
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.reject(name, "must be a number")
        elif not minimum <= value <= maximum:
            self.reject(name, f"must be from {minimum:g} to {maximum:g}")
        else:
            return float(value)
        return None

    def amount(
        self,
        name: str,
        *,
        minimum: int | None = 0,
        maximum: int = MAX_AMOUNT,
        above: bool = False,
        required: bool = False,
    ) -> Decimal | None:
        """Read a number exactly, as the decimal it was written as.

        Args:
            name: The field.
            minimum: The least allowed value; `None`: `-maximum`.
            maximum: The greatest allowed value.
            above: Whether the minimum itself is refused.
            required: Whether absence is an issue; else `null` counts as absence, as it is shown.
        """
        if name not in self._body or (self._body[name] is None and not required):
            if required:
                self.reject(name, "is required")
            return None
        value = self._body[name]
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.reject(name, "must be a number")
        elif not abs(value) <= maximum:
            self.reject(name, f"must be at most {maximum}")
        elif minimum is not None and (value < minimum or (above and value == minimum)):
            self.reject(name, f"must be {'above' if above else 'at least'} {minimum}")
        else:
            return exact(value)
        return None

    def price(self, name: str) -> Decimal | None:
        """Read a required price above zero."""
        value = self.amount(name, above=True, required=True)
        if value is not None and value < MIN_PRICE:
            self.reject(name, f"must be at least {MIN_PRICE:f}")
            return None
        return value

    def listed(self, name: str, *, longest: int) -> list[object]:
        """Read an optional list of 1 to `longest` values."""
        if name not in self._body:
            return []
        value = self._body[name]
        if isinstance(value, list) and 1 <= len(cast("list[object]", value)) <= longest:
            return cast("list[object]", value)
        self.reject(name, f"must be a list of 1 to {longest}")
        return []

    def rows(self, name: str, *, required: bool = False) -> "list[Fields]":
        """Read a list of one or more objects; their issues are noted here."""
        if name not in self._body:
            if required:
                self.reject(name, "is required")
            return []
        value = self._body[name]
        if not isinstance(value, list) or not value:
            self.reject(name, "must be a list of one or more")
            return []
        rows = list[Fields]()
        for position, row in enumerate(cast("list[object]", value)):
            if isinstance(row, dict):
                within = f"{self._within}{name}[{position}]."
                rows.append(Fields(cast("Mapping[str, object]", row), within=within, issues=self.issues))
            else:
                self.reject(f"{name}[{position}]", "must be an object")
        return rows

    def flag(self, name: str) -> bool | None:
        """Read an optional boolean."""
        if name not in self._body:
            return None
        value = self._body[name]
        if isinstance(value, bool):
            return value
        self.reject(name, "must be true or false")
        return None

    def mapping(self, name: str) -> Mapping[str, object] | None:
        """Read an optional object."""
        if name not in self._body:
            return None
        value = self._body[name]
        if isinstance(value, dict):
            return cast("Mapping[str, object]", value)
        self.reject(name, "must be an object")
        return None


def parse_body(body: bytes, *, limit: int = MAX_BODY) -> Mapping[str, object]:
    """Parse a body as a JSON object.

    Args:
        body: The body as sent.
        limit: The most bytes it may have.

    Raises:
        Refusal: 413 too large; 400 empty, not JSON (NaN and Infinity are not), nested too deep, or not an
            object.
    """
    if len(body) > limit:
        raise Refusal(413, f"The body is over {limit} bytes.", reason="BODY_TOO_LARGE")
    if not body.strip():
        raise Refusal(400, "The body is empty.", reason="EMPTY_BODY")
    try:
        parsed = parse_json(body.decode())
    except ValueError:
        raise Refusal(400, "The body is not valid JSON.", reason="MALFORMED_JSON") from None
    if not isinstance(parsed, dict):
        raise Refusal(400, reason="INVALID_BODY", issues=[Issue("body", "must be a JSON object")])
    return cast("Mapping[str, object]", parsed)


def parse_json(text: str) -> object:
    """Parse JSON as JavaScript does: a number that is too large for a double is infinite.

    Raises:
        ValueError: Not JSON, or nested deeper than `MAX_DEPTH`.
    """
    parsed: object
    try:
        try:
            parsed = json.loads(text, parse_constant=_not_json)
        except json.JSONDecodeError:
            raise
        except ValueError:  # more digits than Python converts
            parsed = json.loads(text, parse_constant=_not_json, parse_int=float)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(parsed) > MAX_DEPTH:
        raise ValueError("nested too deep")
    return parsed


def storable(value: object) -> object:
    """Return a parsed value as JSON can hold it: an infinite number becomes `null`, as in JavaScript."""
    match value:
        case str():  # most are
            return value
        case float():
            return value if math.isfinite(value) else None
        case int():
            return value if abs(value) < _TOO_LARGE else None
        case dict():
            members = cast("dict[str, object]", value)
            return {name: storable(member) for name, member in members.items()}
        case list():
            return [storable(member) for member in cast("list[object]", value)]
        case _:
            return value


def check_custom(custom: object, *, body_size: int) -> None:
    """Refuse a `custom` object that is too large once encoded.

    Raises:
        Refusal: 413 `CUSTOM_TOO_LARGE`.
    """
    if body_size <= MAX_CUSTOM:
        return  # a part is no larger than the whole
    size = encoded_size(custom)
    if size > MAX_CUSTOM:
        raise Refusal(
            413, f"`custom` is {size} bytes, over the {MAX_CUSTOM}-byte limit.", reason="CUSTOM_TOO_LARGE"
        )


def encoded_size(value: object) -> int:
    """Return the size of a value as compact JSON in UTF-8, bytes."""
    encoded = json.dumps(storable(value), separators=(",", ":"), ensure_ascii=False)
    return len(encoded.encode(errors="surrogatepass"))


def query_limit(query: Mapping[str, str], *, default: int = 50, maximum: int = 1000) -> int:
    """Read a `limit` parameter.

    Raises:
        Refusal: 400, not an integer from 1 to `maximum`.
    """
    text = query.get("limit")
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= maximum:
        return int(text)
    raise invalid("limit", f"must be an integer from 1 to {maximum}")


def query_number(query: Mapping[str, str], name: str) -> int:
    """Read a required number, from 0.

    Raises:
        Refusal: 400, anything else.
    """
    text = query.get(name, "")
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text)
    raise invalid(name, "must be an integer, at least 0")


def query_flag(query: Mapping[str, str], name: str) -> bool | None:
    """Read an optional `true` or `false` parameter.

    Raises:
        Refusal: 400, anything else.
    """
    text = query.get(name)
    if text not in {None, "true", "false"}:
        raise invalid(name, "must be true or false")
    return None if text is None else text == "true"


def invalid(field: str, message: str) -> Refusal:
    """Make the refusal of a request with one invalid field."""
    return Refusal(400, reason="INVALID_BODY", issues=[Issue(field, message)])


def _not_json(constant: str) -> NoReturn:
    raise ValueError(constant)


def _depth(value: object) -> int:
    """Return how many levels a parsed value is nested, without recursion."""
    depth, level = 0, [value]
    while level := [inner for outer in level for inner in _members(outer)]:
        depth += 1
    return depth


def _members(value: object) -> Iterable[object]:
    match value:
        case dict():
            return cast("dict[str, object]", value).values()
        case list():
            return cast("list[object]", value)
        case _:
            return ()
