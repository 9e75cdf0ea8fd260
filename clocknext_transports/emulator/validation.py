"""Check request bodies and queries field by field, coercing nothing and collecting every issue."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import NoReturn, cast

from clocknext_transports.emulator.envelopes import Issue, Refusal

MAX_BODY = 64 * 1024
MAX_CUSTOM = 32 * 1024
MAX_TOKENS = 2**53 - 1
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


class Fields:
    """Read the fields of a body; `finish` refuses it if any was not as it should be.

    A field that is at fault is noted as an issue and reads as absent. An absent field and one that is `null`
    differ: `null` is a value of the wrong type wherever it is not expressly allowed.
    """

    def __init__(self, body: Mapping[str, object]) -> None:
        self._body = body
        self.issues: list[Issue] = []

    def __contains__(self, name: str) -> bool:
        return name in self._body

    def reject(self, name: str, message: str) -> None:
        """Note an issue."""
        self.issues.append(Issue(name, message))

    def finish(self) -> None:
        """Refuse the body if there were issues.

        Raises:
            Refusal: 400 `INVALID_BODY`, listing them all.
        """
        if self.issues:
            raise Refusal(400, reason="INVALID_BODY", issues=self.issues)

    def required_text(self, name: str) -> str:
        """Read a string that must be there and not be blank."""
        if name not in self._body:
            self.reject(name, "is required")
            return ""
        return self.text(name) or ""

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


def query_limit(query: Mapping[str, str], *, default: int, maximum: int) -> int:
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
