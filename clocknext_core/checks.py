"""Checks of arguments. One that fails raises a `ValidationError`, which names the argument and the fault."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import cast

from clocknext_core.errors import invalid, unexpected
from clocknext_core.wire import encode_json

MAX_ID_LENGTH = 255
MAX_INT = 2**53 - 1
MAX_SHOWN = 60
"""Most characters of a bad value that a message shows."""

_MAX_STEPS = 10
"""Most steps from an argument to the part of it that a message names."""

_MAPPINGS = (dict, Mapping)  # the first is a mapping too, and quicker to tell
_EMAIL = re.compile(r"[^@\s]+@\S+")


def check_text(name: str, value: object) -> str:
    """Require a string that is not blank."""
    if not isinstance(value, str):
        raise invalid(name, f"must be a string, not {type(value).__name__}")
    if not value.strip():
        raise invalid(name, "must not be blank")
    return value


def check_id(name: str, value: object) -> str:
    """Require an id: 1 to 255 characters, not blank."""
    text = check_text(name, value)
    if len(text) > MAX_ID_LENGTH:
        raise invalid(name, f"must be at most {MAX_ID_LENGTH} characters, not {len(text)}")
    return text


def check_email(name: str, value: object) -> str:
    """Require a string of the form of an e-mail address; whether it exists is not checked."""
    if isinstance(value, str) and _EMAIL.fullmatch(value):
        return value
    check_text(name, value)
    raise invalid(name, "must be an e-mail address")


def check_int(name: str, value: object, *, least: int) -> int:
    """Require an integer (not a bool) from `least` to 2^53-1, beyond which JSON readers lose digits."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid(name, f"must be an integer, not {type(value).__name__}")
    if value > MAX_INT:
        raise invalid(name, "must be at most 2^53-1")
    if value < least:
        raise invalid(name, f"must be at least {least}")
    return value


def check_bool(name: str, value: object) -> bool:
    """Require `True` or `False`."""
    if not isinstance(value, bool):
        raise invalid(name, f"must be True or False, not {type(value).__name__}")
    return value


def check_number(name: str, value: object) -> float:
    """Require a finite number (not a bool)."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise invalid(name, f"must be a number, not {type(value).__name__}")
    try:
        if isfinite(value):
            return value
    except OverflowError:  # an integer no float can hold
        pass
    raise invalid(name, "must be finite")


def check_seconds(name: str, value: object, *, positive: bool = False) -> float:
    """Require a finite number of seconds, at least 0, or more than 0 where `positive`."""
    seconds = check_number(name, value)
    if seconds < 0 or (positive and seconds == 0):
        raise invalid(name, f"must be {'more than' if positive else 'at least'} 0 seconds")
    return seconds


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> object:
    """Require one of a few words."""
    if value not in choices:
        raise invalid(name, f"must be one of {', '.join(map(repr, choices))}, not {shown(value)}")
    return value


def shown(value: object) -> str:
    """Return how a message shows a bad value: the beginning of a string, else only the type."""
    if not isinstance(value, str):
        return f"an object of type {type(value).__name__}"
    return repr(value if len(value) <= MAX_SHOWN else value[: MAX_SHOWN - 1] + "…")


def place(value: object) -> str:
    """Return where in a value is what can't be encoded as JSON: `, at ['a'][0]`; empty if it is all of it."""
    path = ""
    for _ in range(_MAX_STEPS):
        parts: Iterable[tuple[object, object]] = ()
        if isinstance(value, dict):
            parts = list(cast("dict[object, object]", value).items())  # another thread may change it
        elif isinstance(value, (list, tuple)):
            parts = enumerate(cast("Sequence[object]", value))
        for name, part in parts:
            try:
                encode_json(part)
            except ValueError:
                path += f"[{name if isinstance(name, int) else shown(name)}]"
                value = part
                break
        else:
            return path and f", at {path}"
    return ""  # a cycle has no end


def check_instance(name: str, value: object, kind: type) -> None:
    """Require an object of a class."""
    if not isinstance(value, kind):
        raise invalid(name, f"must be a {kind.__name__}, not {type(value).__name__}")


def check_mapping(name: str, value: object, *, hint: str = "") -> None:
    """Require a mapping; `hint` ends the message where it is none."""
    if not isinstance(value, _MAPPINGS):
        raise invalid(name, f"must be a mapping, not {type(value).__name__}{hint}")


def check_keywords(given: Mapping[str, object], known: frozenset[str]) -> None:
    """Require that each keyword argument is known, as Python does where they are spelt out.

    Raises:
        TypeError: One of them is not.
    """
    if not known.issuperset(given):
        name = next(name for name in given if name not in known)
        raise unexpected(name, known)


def is_coroutine_function(function: object) -> bool:
    """Return whether what a function returns has to be awaited; an object may be called like one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - it is asked what it is
    )


def takes(function: Callable[..., object], arguments: Sequence[str]) -> bool:
    """Return whether a function can be called with so many arguments by position, as far as is known."""
    try:
        # A decorator may add arguments to those that it is called with: what counts is the outermost.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return True  # some of C have none
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True
