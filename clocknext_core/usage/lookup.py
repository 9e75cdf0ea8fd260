"""Looking into a response: a mapping, or an object of any provider's SDK."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import FunctionType
from typing import Any, Final, TypeGuard, cast

from clocknext_core.errors import invalid

_LEAVES: Final = (str, bytes, bytearray, bool, int, float, complex, list, tuple, set, frozenset, type)
_MAPPINGS: Final = (dict, Mapping)  # the first is a mapping too, and quicker to tell
_LISTS: Final = (list, tuple)
_PLAIN: Final = frozenset({str, int, dict, list, float, bool})
_NO_NAMES: Final[dict[str, object]] = {}
_MOST_NAMES: Final = 20
_COUNTING: Final = re.compile("token|count|usage|cache")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SEPARATORS: Final = re.compile(r"[^a-z0-9]+")
_PREFIXES: Final = (
    "x_amzn_bedrock_",
    "gen_ai_usage_details_",
    "gen_ai_usage_",
    "llm_usage_",
    "llm_",
    "ai_usage_",
)


class _Kind:
    """What all objects of a class share. A look-up that fails takes long, above all on pydantic's models.

    Slots, since each look-up reads some of them: those of a named tuple take twice as long.
    """

    __slots__ = ("attributes", "declared", "has_all", "is_holder", "is_mapping", "is_message")

    def __init__(self, cls: type[object]) -> None:
        bases: tuple[type, ...] = cls.__mro__
        named = {name for base in bases for name in vars(base)}
        is_callable_or_number = bool(named & {"__call__", "__index__", "as_integer_ratio"})
        is_leaf = issubclass(cls, _LEAVES) or cls is type(None) or is_callable_or_number
        declared: list[str] = []
        for base in bases:
            slots: object = vars(base).get("__slots__", ())
            declared += [slots] if isinstance(slots, str) else cast("tuple[str, ...]", slots)
            # Other properties may compute, warn or log, as google-genai's text does.
            declared += [
                name
                for name, value in vars(base).items()
                if isinstance(value, property) and _COUNTING.search(name)
            ]
        self.is_mapping: bool = issubclass(cls, _MAPPINGS)
        self.is_holder: bool = self.is_mapping or not is_leaf
        """Whether an object may have names in it; a number, a text or a function has none."""
        self.declared: tuple[str, ...] = tuple(name for name in declared if not name.startswith("_"))
        """Names that the class declares for its instances: slots, and properties that count."""
        self.attributes: frozenset[str] | None = frozenset(named) if "__pydantic_fields__" in named else None
        """All names that the class gives a pydantic model; `None` for other classes, whose objects are
        asked."""
        self.has_all: bool = self.attributes is not None and not self.declared and not _has_more(bases)
        """Whether all names of its objects are in their `__dict__`, and in the extras of a pydantic model."""
        self.is_message: bool = "DESCRIPTOR" in named
        """Whether it is a protocol buffer's message."""


def _has_more(bases: tuple[type, ...]) -> bool:
    """Return whether a pydantic model has other values than those of its fields.

    They are its class's own, or objects that stand for fields that were not sent.
    """
    of_class = (
        value
        for base in bases[:-1]
        if not base.__module__.startswith("pydantic.")
        for name, value in vars(base).items()
        if name[:1] != "_" and name != "model_config"
    )
    if any(not isinstance(value, (FunctionType, classmethod, staticmethod)) for value in of_class):
        return True
    fields = cast("dict[str, object]", getattr(bases[0], "__pydantic_fields__", _NO_NAMES))
    return any(type(getattr(field, "default", None)).__name__ == "Unset" for field in fields.values())


_type_of = cast("Callable[[object], type[object]]", type)
_kind_of = cast("Callable[[type[object]], _Kind]", lru_cache(maxsize=512)(_Kind))


def opened(holder: Any) -> object:
    """Return the names of a pydantic model as a dict, where that is all it has; anything else as it is.

    A look-up in a dict takes a third of the time.
    """
    cls = _type_of(holder)
    if cls is dict or not _kind_of(cls).has_all:
        return holder
    extra: dict[str, object] | None = getattr(holder, "__pydantic_extra__", None)
    return {**extra, **holder.__dict__} if extra else holder.__dict__


def get(holder: Any, name: str) -> object:
    """Look up a key or an attribute; `None` where it is absent or was not sent."""
    cls = _type_of(holder)
    value: object
    if cls is dict:
        value = holder.get(name)
    else:
        kind = _kind_of(cls)
        attributes = kind.attributes
        if attributes is None:
            value = holder.get(name) if kind.is_mapping else getattr(holder, name, None)
        elif name in attributes:
            value = getattr(holder, name, None)
        else:
            value = holder.__dict__.get(name)
            if value is None and (extra := getattr(holder, "__pydantic_extra__", None)):
                value = extra.get(name)
    if value is None or type(value) in _PLAIN:
        return value
    # SDKs generated by Speakeasy (Mistral's, part of Google's) have an object for "not sent".
    return None if type(value).__name__ == "Unset" else value


def may_have(holder: Any, names: frozenset[str]) -> bool:
    """Return whether a holder may have one of some names; of dicts and pydantic models it is known."""
    cls = _type_of(holder)
    if cls is dict:
        return not names.isdisjoint(holder)
    attributes = _kind_of(cls).attributes
    if attributes is None:
        return True
    extra: dict[str, object] = getattr(holder, "__pydantic_extra__", None) or _NO_NAMES
    return not (
        names.isdisjoint(holder.__dict__) and names.isdisjoint(attributes) and names.isdisjoint(extra)
    )


def present(holder: Any, names: tuple[str, ...]) -> Iterable[str]:
    """Leave out the names that a dict or a pydantic model does not have; others have to be asked."""
    cls = _type_of(holder)
    if cls is dict:
        return filter(holder.__contains__, names)
    attributes = _kind_of(cls).attributes
    if attributes is None:
        return names
    own: dict[str, object] = holder.__dict__
    extra: dict[str, object] = getattr(holder, "__pydantic_extra__", None) or _NO_NAMES
    if not extra and attributes.isdisjoint(names):  # nearly always; `filter` makes no call for a name
        return filter(own.__contains__, names)
    return (name for name in names if name in own or name in extra or name in attributes)


def known(holder: object, names: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    """Yield those of some names that a holder has, in their order, where they may have names in them."""
    for name in present(holder, names):
        value = get(holder, name)
        if value is not None and is_holder(value):
            yield name, opened(value)


def first(holder: object, *names: str) -> object:
    """Look up several names; the first value that is not `None`."""
    for name in present(holder, names):
        value = get(holder, name)
        if value is not None:
            return value
    return None


def text_of(holder: object, *names: str) -> str | None:
    """Look up several names; the first value that is a string and not blank."""
    for name in present(holder, names):
        value = get(holder, name)
        if isinstance(value, str) and value.strip():
            return value
    return None


def is_list(value: object) -> TypeGuard[Sequence[object]]:
    """Return whether a value is a list or a tuple."""
    return isinstance(value, _LISTS)


def items_of(value: object) -> list[object]:
    """Return the items of a list or tuple; nothing of anything else."""
    return list(value) if is_list(value) else []


def is_holder(value: object) -> bool:
    """Return whether a value may have names in it: a mapping, or an object that is not a plain value."""
    return _kind_of(type(value)).is_holder


def fields_of(holder: object) -> dict[str, object]:
    """List the names that a mapping or an object has, with their values; private ones are left out."""
    kind = _kind_of(_type_of(holder))
    if kind.is_mapping:
        mapping = cast("Mapping[object, object]", holder)
        return {name: value for name, value in mapping.items() if isinstance(name, str)}
    if kind.attributes is not None:
        return _fields_of_model(holder, kind)
    names = dict.fromkeys(kind.declared)
    own: object = getattr(holder, "__dict__", None)
    if isinstance(own, dict):
        names.update(dict.fromkeys(cast("dict[str, object]", own)))
        inner = cast("dict[str, object]", own).get("_pb")
        if inner is not None:  # proto-plus wraps a protocol buffer
            return fields_of(inner)
    extra: object = getattr(holder, "__pydantic_extra__", None)
    if isinstance(extra, dict):
        names.update(dict.fromkeys(cast("dict[str, object]", extra)))
    if kind.is_message:  # such as xai-sdk's
        fields = cast("list[object]", getattr(getattr(holder, "DESCRIPTOR", None), "fields", ()))
        names.update(dict.fromkeys(str(getattr(field, "name", "")) for field in fields))
    return {name: get(holder, name) for name in names if not name.startswith("_")}


def is_model(value: object) -> bool:
    """Return whether a value is a pydantic model."""
    return _kind_of(type(value)).attributes is not None


def is_http(value: object) -> bool:
    """Return whether a value is the response of an HTTP client, such as httpx's or requests'."""
    return (
        not is_model(value)  # these have `json` too
        and callable(get(value, "json"))
        and first(value, "status_code", "status") is not None
    )


def check_awaited(name: str, value: object) -> None:
    """Refuse a coroutine, a task or a future in the place of what it returns.

    Raises:
        ValidationError: It is one; the message names the argument.
    """
    if hasattr(type(value), "__await__"):
        raise invalid(name, f"is a {type(value).__name__}, not what it returns: await it first")


def names_of(holder: object) -> Iterable[str]:
    """List the names that `fields_of` does, and more quickly; a private one may be among them."""
    cls = _type_of(holder)
    if cls is dict:
        return (name for name in cast("dict[object, object]", holder) if isinstance(name, str))
    kind = _kind_of(cls)
    if kind.attributes is None:
        return fields_of(holder)
    extra: dict[str, object] = getattr(holder, "__pydantic_extra__", None) or _NO_NAMES
    return (*holder.__dict__, *extra, *kind.declared)


def _fields_of_model(holder: Any, kind: _Kind) -> dict[str, object]:
    """List the names of a pydantic model; its own and extra values are there to be taken."""
    fields = {name: get(holder, name) for name in kind.declared}
    extra: dict[str, object] | None = getattr(holder, "__pydantic_extra__", None)
    for values in (holder.__dict__, extra) if extra else (holder.__dict__,):
        for name, value in values.items():
            if name[:1] != "_":
                fields[name] = value if value is None or type(value) in _PLAIN else get(holder, name)
    return fields


@lru_cache(maxsize=2048)
def plain_name(name: str) -> str:
    """Write a name in snake_case without the prefixes of headers and of OpenTelemetry."""
    plain = _SEPARATORS.sub("_", _CAMEL.sub("_", name[:120]).lower()).strip("_")
    for prefix in _PREFIXES:
        plain = plain.removeprefix(prefix)
    return plain


def words_of(name: str) -> set[str]:
    """Return the words of a plain name."""
    return set(plain_name(name).split("_"))


def describe(value: object) -> str:
    """Say what a thing is, for an error: its type and the names it has, not what they hold."""
    kind = type(value).__name__
    if isinstance(value, Mapping):
        called, names = "keys", list(fields_of(cast("Mapping[str, object]", value)))
    else:
        called = "attributes"
        names = [name for name in getattr(value, "__dict__", {}) if not name.startswith("_")]
    if not names:
        return f"{kind} without {called}"
    shown = ", ".join(ascii(name[:40]) for name in names[:_MOST_NAMES])
    return f"{kind} with the {called} {shown}{', …' if len(names) > _MOST_NAMES else ''}"
