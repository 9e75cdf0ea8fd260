"""Checks of what a test gives the emulator: a mistake raises where it is made, and is named.

Unchecked it would fail later, on the server's thread, where the test sees only a connection that closed.
Each raises a `ValueError` whose message begins with `what`, such as "The wallet of the customer 'cus_1'".
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import cast

from clocknext_transports.emulator.books.pricing import exact

MAX_SHOWN = 60
"""The most characters of a bad value that a message shows."""
MAX_LISTED = 5
"""The most names that a message lists."""


def shown(value: object) -> str:
    """Return how a message shows a bad value: its repr, cut short."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def with_article(kind: type) -> str:
    """Return the name of a class after "a" or "an"."""
    name = kind.__name__
    return f"an {name}" if name.startswith(tuple("AEIOaeio")) else f"a {name}"  # a Unit


def some_of(names: Iterable[str]) -> str:
    """Return how a message lists the names there are: a few, and the number of the rest."""
    known = list(names)
    first = ", ".join(shown(name) for name in known[:MAX_LISTED])
    more = len(known) - MAX_LISTED
    return f"{first} and {more} more" if more > 0 else first or "none"


def check_kind(what: str, value: object, *kinds: type, must: str = "must be") -> None:
    """Require a value of one of these classes."""
    if not isinstance(value, kinds):
        named = " or ".join(with_article(kind) for kind in kinds)
        raise ValueError(f"{what} {must} {named}; not {shown(value)}.")


def check_types(
    what: str, holder: object, types: Mapping[str, tuple[type, ...]], *, is_bool_int: bool = False
) -> None:
    """Require that attributes are of these classes: what is of another would only fail in an answer.

    Args:
        what: What has the attributes, such as "a fault".
        holder: The object that has them.
        types: The classes of each attribute.
        is_bool_int: Whether `True` and `False` are taken where an integer is.
    """
    for name, kinds in types.items():
        value: object = getattr(holder, name)
        is_flag = isinstance(value, bool) and bool not in kinds and not is_bool_int
        if is_flag or not isinstance(value, kinds):
            named = " or ".join(kind.__name__.removesuffix("Type") for kind in kinds)
            raise ValueError(f"The {name} of {what} must be of type {named}; not {shown(value)}.")


def check_text(what: str, value: object) -> None:
    """Require a string that is not blank."""
    if not isinstance(value, str):
        raise ValueError(f"{what} must be a string; not {shown(value)}.")
    if not value.strip():
        raise ValueError(f"{what} must not be blank.")


def check_choice(what: str, value: object, choices: Sequence[str]) -> None:
    """Require one of these strings."""
    if value not in choices:
        raise ValueError(f"{what} must be one of {', '.join(choices)}; not {shown(value)}.")


def check_amount(what: str, value: object, *, least: int | None = None, above: bool = False) -> None:
    """Require a finite number, as an `Amount` may be written.

    Args:
        what: How the message begins.
        value: The value.
        least: The least allowed; `None`: any.
        above: Whether `least` itself is refused.
    """
    amount = _amount(value)
    if amount is None:
        raise ValueError(f"{what} must be a number; not {shown(value)}.")
    if not amount.is_finite():
        raise ValueError(f"{what} must be a finite number; not {shown(value)}.")
    if least is not None and (amount < least or (above and amount == least)):
        raise ValueError(f"{what} must be {'above' if above else 'at least'} {least}; not {shown(value)}.")


def check_amounts(what: str, value: object) -> None:
    """Require a mapping of ids to finite numbers."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} must be a mapping of ids to numbers, as {{'c': 9}}; not {shown(value)}.")
    for item, quantity in cast("Mapping[object, object]", value).items():
        if not isinstance(item, str):
            raise ValueError(f"{what} must have ids; not {shown(item)}.")
        if (amount := _amount(quantity)) is None or not amount.is_finite():
            raise ValueError(f"{what} must have numbers; {shown(item)} has {shown(quantity)}.")


def check_members(what: str, value: object, *kinds: type) -> None:
    """Require a list or another sequence of values of these classes.

    A string is none, though it has members; nor is an iterator, which a reset of the ledger would find empty.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise ValueError(f"{what} must be a list or tuple; not {shown(value)}.")
    for member in cast("Sequence[object]", value):
        check_kind(what, member, *kinds, must="must each be")


def check_differ(what: str, names: Iterable[str]) -> None:
    """Require names that differ: of two with one name, the ledger would forget the first."""
    seen = set[str]()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} must differ; two are called {shown(name)}.")
        seen.add(name)


def _amount(value: object) -> Decimal | None:
    """Return a value as an exact number; `None`: it is none."""
    if isinstance(value, bool) or not isinstance(value, Decimal | int | float | str):
        return None
    try:
        return exact(value)
    except InvalidOperation:
        return None
