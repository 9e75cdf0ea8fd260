"""Every shape on record, as mappings and as objects."""

import json
import re
from decimal import Decimal
from itertools import count
from types import MappingProxyType
from typing import Any, cast

import pytest

from clocknext_core import Tokens, ValidationError
from clocknext_core.usage.reading import explain, read
from clocknext_core.usage.runs import explanations
from tests.core.usage.further_shapes import FURTHER
from tests.core.usage.shapes import SHAPES, Shape
from tests.core.usage.shapes_of_layers import OF_LAYERS
from tests.core.usage.support import as_objects
from tests.core.usage.test_from_response import Recorder

ALL = [*SHAPES, *FURTHER, *OF_LAYERS]


def ways(shape: Shape) -> list[object]:
    """Give a response as JSON, as a read-only mapping and as objects."""
    response = cast("dict[str, object]", json.loads(json.dumps(shape.response)))
    return [response, MappingProxyType(response), as_objects(response)]


@pytest.mark.parametrize("shape", [each for each in ALL if each.tokens], ids=lambda shape: shape.name)
def test_a_shape_that_is_read(shape: Shape) -> None:
    for response in ways(shape):
        reading = read(response)
        assert reading.tokens == Tokens.from_usage(response) == shape.tokens
        assert reading.is_final
        if shape.model is not None:
            assert reading.model == shape.model
        if shape.id is not None:
            assert reading.response_id == shape.id
        if shape.tier is not None:
            assert reading.tier == shape.tier
        if shape.provider is not None:
            assert reading.provider == shape.provider
        assert dict(reading.other).items() >= dict(shape.other).items()


@pytest.mark.parametrize("shape", [each for each in ALL if not each.tokens], ids=lambda shape: shape.name)
def test_a_shape_that_is_refused(shape: Shape) -> None:
    assert shape.says
    for response in ways(shape):
        with pytest.raises(ValidationError) as caught:
            read(response)
        assert shape.says in caught.value.message
        assert re.match(r"response(\.[\w-]+|\[\d+\])*: ", caught.value.message)
        assert explain(response).error == caught.value.message


class Keyed(Recorder):
    """A recorder whose random keys differ."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = count(1)

    def make_key(self) -> str:
        return f"made-{next(self._numbers)}"


@pytest.mark.parametrize("shape", ALL, ids=lambda shape: shape.name)
def test_what_is_explained_is_what_is_billed(shape: Shape) -> None:
    """A response as `from_response` bills it, and the result of a run as `from_result` does."""
    explained, client = explanations(shape.response), Keyed()
    who: dict[str, Any] = {"customer_id": "cus_1", "type": "wallet"}
    if len(explained) > 1:
        client.signals.from_result(shape.response, **who)
    elif explained[0].reading is None:
        with pytest.raises(ValidationError) as caught:
            client.signals.from_response(shape.response, model="m", **who)
        assert caught.value.message == explained[0].error
        return
    else:
        client.signals.from_response(shape.response, model=explained[0].reading.model or "m", **who)
    billed: list[Any] = [signal for signal, _ in client.recorded]
    assert [(each.model, each.tokens) for each in billed] == [
        (each.reading and (each.reading.model or "m"), each.reading and each.reading.tokens)
        for each in explained
    ]
    for signal, each in zip(billed, explained, strict=True):
        assert each.reading is not None
        noted: Any = {} if signal.custom is None else signal.custom["usage"]
        tier = {} if each.reading.tier is None else {"tier": each.reading.tier}
        assert noted == {**each.reading.other, **tier}


def from_a_database(value: object) -> object:
    """Turn counts into Decimal and into digits, as databases give them back."""
    if isinstance(value, dict):
        mapping = cast("dict[str, object]", value)
        return {name: from_a_database(inner) for name, inner in mapping.items()}
    if isinstance(value, list):
        return [from_a_database(inner) for inner in cast("list[object]", value)]
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value) if value % 2 else str(value)
    return value


@pytest.mark.parametrize("shape", [each for each in ALL if each.tokens], ids=lambda shape: shape.name)
def test_a_shape_from_a_database(shape: Shape) -> None:
    assert read(from_a_database(shape.response)).tokens == shape.tokens


def test_each_shape_has_a_source_and_a_name_of_its_own() -> None:
    names = [shape.name for shape in ALL]
    assert len(set(names)) == len(names) > 74 + 45 + 100
    assert all(shape.source for shape in ALL)
