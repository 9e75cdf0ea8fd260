"""Values: comparing, hashing and showing an object by its fields, written once for all dataclasses.

Left to it, `dataclass` writes these methods for each class anew, as text, and compiles them whenever the
module is imported: for our classes together that took a ninth of the time of the import. So the classes say
`eq=False, repr=False`, and those that are compared or shown derive from `Value`.
"""

from collections.abc import Callable
from dataclasses import Field, fields
from functools import cache
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any, ClassVar, TypeAlias, cast

_Content: TypeAlias = Callable[[object], tuple[object, ...]]


class Value:
    """A dataclass whose objects are equal if they are of one class and their fields are equal.

    What `field` says of a field counts: `compare`, `hash` and `repr`.
    """

    __slots__ = ()

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        compared = _reading(type(self))[0]
        return compared(self) == compared(other)

    def __hash__(self) -> int:
        return hash(_reading(type(self))[1](self))

    @recursive_repr()
    def __repr__(self) -> str:
        shown = _reading(type(self))[2]
        content = ", ".join([f"{name}={getattr(self, name)!r}" for name in shown])
        return f"{type(self).__qualname__}({content})"


class MutableValue(Value):
    """A value that may change, and so can't be in a set or the key of a mapping."""

    __slots__ = ()

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # as of a list


def _content_of(names: list[str]) -> _Content:
    # An origin is hashed for each exchange, and `attrgetter` is quick; but of one name it makes no tuple.
    return attrgetter(*names) if len(names) > 1 else lambda value: tuple([getattr(value, n) for n in names])


def _read(kind: type[Value]) -> tuple[_Content, _Content, list[str]]:
    """Return what reads the fields that are compared and that are hashed, and the names of those shown."""
    return (
        _content_of([each.name for each in fields(kind) if each.compare]),
        _content_of(
            [each.name for each in fields(kind) if (each.compare if each.hash is None else each.hash)]
        ),
        [each.name for each in fields(kind) if each.repr],
    )


# The cast, since mypy takes no class that defines `__hash__` for hashable itself.
_reading = cast("Callable[[type[Value]], tuple[_Content, _Content, list[str]]]", cache(_read))
