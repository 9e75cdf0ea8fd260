"""What the tests of usage share."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import cast


def as_objects(value: object) -> object:
    """Turn mappings into objects with attributes, all the way down."""
    if isinstance(value, Mapping):
        mapping = cast("Mapping[str, object]", value)
        return SimpleNamespace(**{name: as_objects(inner) for name, inner in mapping.items()})
    return [as_objects(inner) for inner in cast("list[object]", value)] if isinstance(value, list) else value
