"""Writes: the fields a resource takes, declared once as a TypedDict and checked here by their annotations.

A declaration gives each field its name in snake_case, its type and, in `Annotated`, what it means: its unit,
and what `None` means where `None` is taken. Both type checkers read it, `signatures` shows it, and
`checked` refuses a value of another type before anything is sent.

What is not declared:

- Catalogue definitions, purchases, webhooks and members pass it on. Their list of fields is not closed: it
  has grown with each version of the server, and a field that is added must be sendable without a new version
  of this client. Both type checkers report it, so a misspelt name is not lost on those who use one. The words
  of a `Literal` have grown in the same way: the checkers know them, here any text will do.
- Customers and automatic payment refuse it with a `TypeError`, as any function does: the protocol lists all
  the fields they have.

Only the first level is named in Python's way. The rows of a list are sent as they are, so they are declared,
given and checked under the names of the wire (`agentKey`, `upTo`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Literal, TypeAlias, cast, get_args, get_origin, get_type_hints

from clocknext_core.checks import (
    check_bool,
    check_email,
    check_instance,
    check_int,
    check_keywords,
    check_mapping,
    check_number,
    check_text,
)
from clocknext_core.errors import invalid


def check_agent_key(name: str, value: object) -> None:
    """Require a key that signals can name: lower case, of the characters `a-z0-9._-`."""
    if not re.fullmatch(r"[a-z0-9._-]+", check_text(name, value)):
        raise invalid(name, f"must be lower case, of the characters a-z0-9._-, not {value!r}")


AgentKey: TypeAlias = Annotated[str, check_agent_key]
"""A key where it is defined; where a signal names one, it is the server's to find."""
Email: TypeAlias = Annotated[str, check_email]


def checked(kind: type[object], fields: Mapping[str, object], *, closed: bool = False) -> dict[str, object]:
    """Check the fields of a write.

    A field that is left out stays out, and one that is `None` stays `None`: they mean different things.

    Args:
        kind: The TypedDict that declares them.
        fields: What the caller gave.
        closed: Whether there are no others.

    Raises:
        TypeError: A field is not declared, of a kind that is closed.
        ValidationError: A value is not what its field is declared to be; it names the field.
    """
    if closed:
        check_keywords(fields, frozenset(kind.__annotations__))
    _check_fields(kind, fields)
    return dict(fields)


def _check_fields(kind: type[object], fields: Mapping[str, object], within: str = "") -> None:
    for name, annotation in get_type_hints(kind, include_extras=True).items():
        if name in fields:
            _check(within + name, annotation, fields[name])


def _check(name: str, annotation: object, value: object) -> None:
    kind, parts = get_origin(annotation), get_args(annotation)
    if kind is Annotated:
        declared, *notes = parts
        own = next((note for note in notes if callable(note)), None)
        if own is None:
            _check(name, declared, value)
        else:
            own(name, value)
    elif kind is Literal:
        check_text(name, value)
    elif kind is Sequence:
        _check_rows(name, parts[0], value)
    else:
        _CHECKS[annotation](name, value)


def _check_rows(name: str, kind: type[object], value: object) -> None:
    if not isinstance(value, list | tuple):
        raise invalid(name, f"must be a list, not {type(value).__name__}")
    for position, row in enumerate(cast("Sequence[object]", value)):
        place = f"{name}[{position}]"
        check_mapping(place, row)
        _check_fields(kind, cast("Mapping[str, object]", row), f"{place}.")


def _or_none(check: Callable[[str, object], object]) -> Callable[[str, object], object]:
    return lambda name, value: None if value is None else check(name, value)


_CHECKS: Mapping[object, Callable[[str, object], object]] = {
    str: check_text,
    str | None: _or_none(partial(check_instance, kind=str)),  # what can be cleared may be empty
    bool: check_bool,
    int: partial(check_int, least=0),
    float: check_number,
    float | None: _or_none(check_number),
}
