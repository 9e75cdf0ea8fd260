"""The limits of a signal's body: its size, how deeply it is nested, and the names that it must not hold."""

import json
import re
from collections.abc import Mapping
from typing import cast

from clocknext_core.errors import invalid
from clocknext_core.wire import encode_json

MAX_CUSTOM_BYTES = 32 * 1024
MAX_BODY_BYTES = 64 * 1024
MAX_DEPTH = 100
"""Deepest nesting of `custom` and of a metric's value: what is accepted, any JSON reader can read."""
_SMALL = 3 * MAX_DEPTH
"""Bytes of a body that breaks no limit: what is nested too deeply has two brackets for each level, and other
fields."""


def check_limits(body: Mapping[str, object], encoded: bytes) -> None:
    """Check the size of a body, how deeply it is nested, and the names in it.

    Raises:
        ValidationError: A limit is broken; it names the argument.
    """
    if len(encoded) > _SMALL:
        _check_size_and_depth(body, encoded)
    if b"proto" in encoded:  # as in both names
        _check_names(json.loads(encoded))


def _check_size_and_depth(body: Mapping[str, object], encoded: bytes) -> None:
    custom = encode_json(body["custom"]) if "custom" in body else b""
    if len(custom) > MAX_CUSTOM_BYTES:
        raise invalid("custom", f"must be at most {MAX_CUSTOM_BYTES} bytes once encoded")
    if len(encoded) > MAX_BODY_BYTES:
        raise invalid("signal", f"must be at most {MAX_BODY_BYTES} bytes once encoded")
    if _depth(encoded) > MAX_DEPTH + 1:
        culprit = "custom" if _depth(custom) > MAX_DEPTH else "metric"
        raise invalid(culprit, f"must be nested at most {MAX_DEPTH} deep")


def _depth(encoded: bytes) -> int:
    """Return how deep JSON is nested, or less where it has too few brackets to be nested too deeply."""
    if encoded.count(b"{") + encoded.count(b"[") <= MAX_DEPTH:
        return 0
    depth = deepest = 0  # without recursion, which has limits of its own
    for found in _BRACKETS.finditer(encoded):
        if found[1]:
            depth += 1
            deepest = max(deepest, depth)
        elif found[2]:
            depth -= 1
    return deepest


_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|([{\[])|([}\]])')


def _check_names(body: dict[str, object]) -> None:
    for argument, value in (("custom", body.pop("custom", None)), ("metric", body)):
        if _has_refused_name(value):
            raise invalid(argument, "must not hold the name __proto__, or prototype within constructor")


def _has_refused_name(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_has_refused_name, cast("list[object]", value)))
    if not isinstance(value, dict):
        return False
    names = cast("dict[str, object]", value)
    within = names.get("constructor")
    if "__proto__" in names or (isinstance(within, dict) and "prototype" in within):
        return True
    return any(map(_has_refused_name, names.values()))
