"""Values: comparing, hashing and showing an object by its fields, written once for all dataclasses.

Left to it, `dataclass` writes these methods for each class anew, as text, and compiles them whenever the
module is imported: for our classes together that took a ninth of the time of the import. So the classes say
`eq=False, repr=False`, and those that are compared or shown derive from `Value`.
"""

from collections.abc import Callable
from dataclasses import Field, fields
from functools import cache
from reprlib import recursive_repr
from typing import Any, ClassVar, TypeAlias, cast

_Names: TypeAlias = tuple[str, ...]


class Value:
    """A dataclass whose objects are equal if they are of one class and their fields are equal.

    What `field` says of a field counts: `compare`, `hash` and `repr`.
    """

    __slots__ = ()

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        compared, _, _ = _names_of(type(self))
        return _content(self, compared) == _content(other, compared)

    def __hash__(self) -> int:
        _, hashed, _ = _names_of(type(self))
        return hash(_content(self, hashed))

    @recursive_repr()
    def __repr__(self) -> str:
        _, _, shown = _names_of(type(self))
        content = ", ".join([f"{name}={getattr(self, name)!r}" for name in shown])
        return f"{type(self).__qualname__}({content})"


class MutableValue(Value):
    """A value that may change, and so can't be in a set or the key of a mapping."""

    __slots__ = ()

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # as of a list


def _content(value: object, names: _Names) -> tuple[object, ...]:
    return tuple([getattr(value, name) for name in names])


def _read_names(kind: type[Value]) -> tuple[_Names, _Names, _Names]:
    """Return the names of the fields that are compared, that are hashed and that are shown."""
    return (
        tuple(each.name for each in fields(kind) if each.compare),
        tuple(each.name for each in fields(kind) if (each.compare if each.hash is None else each.hash)),
        tuple(each.name for each in fields(kind) if each.repr),
    )


# The cast, since mypy takes no class that defines `__hash__` for hashable itself.
_names_of = cast("Callable[[type[Value]], tuple[_Names, _Names, _Names]]", cache(_read_names))
