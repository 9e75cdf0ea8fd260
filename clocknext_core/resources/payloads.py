"""How resources read payloads: the object or list under one key, or the whole."""

from collections.abc import Callable
from typing import TypeVar

from clocknext_core.envelope import Payload, as_object, without_ok
from clocknext_core.models import Items, Model

M = TypeVar("M", bound=Model)


def one(kind: type[M], key: str) -> Callable[[Payload], M]:
    """Read the object under a key; an empty model where the server left it out."""

    def read(payload: Payload) -> M:
        return kind(as_object(payload.get(key)))

    return read


def many(kind: type[M], key: str) -> Callable[[Payload], Items[M]]:
    """Read the list of objects under a key; empty where the server left it out."""

    def read(payload: Payload) -> Items[M]:
        return Items[M].read(kind, payload.get(key))

    return read


def picked(kind: type[M]) -> Callable[[Payload], M]:
    """Read the payload's fields as one object."""

    def read(payload: Payload) -> M:
        return kind(without_ok(payload))

    return read


def nothing(payload: Payload) -> None:
    """Ignore the payload: the status is the result."""
