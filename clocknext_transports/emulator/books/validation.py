"""Check request bodies and queries field by field, coercing nothing and collecting every issue."""

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import NoReturn, cast

from clocknext_transports.emulator.books.envelopes import Issue, Refusal
from clocknext_transports.emulator.books.pricing import exact

MAX_BODY = 64 * 1024
MAX_CUSTOM = 32 * 1024
MAX_TOKENS = 2**53 - 1
MAX_AMOUNT = 10**15
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_AGENT_KEY = re.compile(r"[a-z0-9._-]+")
_CURRENCY = re.compile(r"[A-Z]{3}")


class Fields:
    """Read the fields of a body; `finish` refuses it if any was not as it should be.

    A field that is at fault is noted as an issue and reads as absent. An absent field and one that is `null`
    differ: `null` is a value of the wrong type wherever it is not expressly allowed.

    Args:
        body: The object to read.
        within: Where it is nested in another, such as `steps[0].`: what its issues' fields begin with.
        issues: Where issues are noted.
    """

    def __init__(
        self, body: Mapping[str, object], *, within: str = "", issues: list[Issue] | None = None
    ) -> None:
        self._body = body
        self._within = within
        self.issues: list[Issue] = [] if issues is None else issues

    def __contains__(self, name: str) -> bool:
        return name in self._body

    def reject(self, name: str, message: str) -> None:
        """Note an issue."""
        self.issues.append(Issue(self._within + name, message))

    def finish(self) -> None:
        """Refuse the body if there were issues.

        Raises:
            Refusal: 400 `INVALID_BODY`, listing them all.
        """
        if self.issues:
            raise Refusal(400, reason="INVALID_BODY", issues=self.issues)

    def require(self, *names: str) -> None:
        """Note each field that is not there as required."""
        for name in names:
            if name not in self._body:
                self.reject(name, "is required")

    def others(self, known: Collection[str]) -> dict[str, object]:
        """Return the fields that are not among the known ones, as they were sent."""
        return {name: value for name, value in self._body.items() if name not in known}

    def is_null(self, name: str) -> bool:
        """Whether the field is `null` or not there."""
        return self._body.get(name) is None

    def required_text(self, name: str) -> str:
        """Read a string that must be there and not be blank."""
        self.require(name)
        return self.text(name) or ""

    def required_agent_key(self, name: str = "agentKey") -> str:
        """Read the key signals name a definition by, which must be there."""
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
        """Read an optional string that may be `null`, which reads as `None`, or empty."""
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
        """Read an optional currency code, which may be `null`."""
        value = self.nullable_text(name)
        if value is not None and _CURRENCY.fullmatch(value) is None:
            self.reject(name, "must be an ISO 4217 code such as USD")
        return value

    def choice(self, name: str, options: Sequence[str]) -> str | None:
        """Read an optional string that must be one of a few."""
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

    def number(self, name: str, *, minimum: float, maximum: float = math.inf) -> float | None:
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
        self, name: str, *, minimum: int | None = 0, above: bool = False, required: bool = False
    ) -> Decimal | None:
        """Read a number exactly, as the decimal it was written as.

        Args:
            name: The field.
            minimum: The least it may be; `None`: as far below zero as above.
            above: Whether it must be more than that.
            required: Whether it must be there; else `null` stands for its absence, as it is shown.
        """
        if name not in self._body or (self._body[name] is None and not required):
            if required:
                self.reject(name, "is required")
            return None
        value = self._body[name]
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.reject(name, "must be a number")
        elif not abs(value) <= MAX_AMOUNT:
            self.reject(name, f"must be at most {MAX_AMOUNT}")
        elif minimum is not None and (value < minimum or (above and value == minimum)):
            self.reject(name, f"must be {'above' if above else 'at least'} {minimum}")
        else:
            return exact(value)
        return None

    def rows(self, name: str, *, required: bool = False) -> "list[Fields]":
        """Read a list of objects, which must hold one at least; their issues are noted here."""
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


def parse_body(body: bytes) -> Mapping[str, object]:
    """Read a body as a JSON object.

    Raises:
        Refusal: 413 too large, 400 empty, not JSON (NaN and Infinity are not) or not an object.
    """
    if len(body) > MAX_BODY:
        raise Refusal(413, f"The body is over {MAX_BODY} bytes.", reason="BODY_TOO_LARGE")
    if not body.strip():
        raise Refusal(400, "The body is empty.", reason="EMPTY_BODY")
    try:
        parsed: object = json.loads(body.decode(), parse_constant=_not_json)
    except (ValueError, RecursionError):
        raise Refusal(400, "The body is not valid JSON.", reason="MALFORMED_JSON") from None
    if not isinstance(parsed, dict):
        raise Refusal(400, reason="INVALID_BODY", issues=[Issue("body", "must be a JSON object")])
    return cast("Mapping[str, object]", parsed)


def check_custom(custom: Mapping[str, object], *, body_size: int) -> None:
    """Refuse a `custom` object that is too large once encoded.

    Raises:
        Refusal: 413 `CUSTOM_TOO_LARGE`.
    """
    if body_size <= MAX_CUSTOM:
        return  # a part is no larger than the whole
    encoded = json.dumps(custom, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")
    if len(encoded) > MAX_CUSTOM:
        raise Refusal(413, f"custom is over {MAX_CUSTOM} bytes once encoded.", reason="CUSTOM_TOO_LARGE")


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
    """Make the refusal of a request with one field at fault."""
    return Refusal(400, reason="INVALID_BODY", issues=[Issue(field, message)])


def _not_json(constant: str) -> NoReturn:
    raise ValueError(constant)
