"""The paths in explanations and errors lead to the counts they name, in every shape on record."""

import json
import re
from typing import cast

import pytest

from clocknext_core import ValidationError
from clocknext_core.usage.reading import explain, read
from tests.core.usage.shapes import SHAPES, Shape

IN_A_RUN = {"openai-evals-models"}
"""A run of one request: the paths begin at that request."""
NOT_REFUSED = {
    "langchain-mistral-lost-cache",
    "litellm-standard-logging-object-redacted",
    "langfuse-usage-details",
}
"""Of two usages the other one is read; and a short name such as `input` may be something else."""
READ = [each for each in SHAPES if each.tokens and each.name not in IN_A_RUN]
REFUSED = [each for each in READ if each.name not in NOT_REFUSED]
STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


def copy_of(shape: Shape) -> object:
    return json.loads(json.dumps(shape.response))


def place_of(root: object, path: str) -> tuple[dict[str, object] | list[object], str | int]:
    """Follow a path; return what holds its last name or number, and that. A name may have dots in it."""
    assert path.startswith("response")
    steps: list[str | int] = [
        name or int(number) for name, number in STEP.findall(path.removeprefix("response"))
    ]
    holder = root
    while True:
        assert isinstance(holder, dict | list)
        inside = cast("dict[str | int, object]", holder)
        step = steps.pop(0)
        while steps and isinstance(holder, dict) and step not in inside:
            step = f"{step}.{steps.pop(0)}"
        if not steps:
            return cast("dict[str, object] | list[object]", holder), step
        holder = inside[step]


def value_at(root: object, path: str) -> object:
    holder, last = place_of(root, path)
    return cast("dict[str | int, object]", holder)[last]


def count_at(root: object, path: str) -> object:
    """The number at a path, or the one number in the entry of a list there."""
    value = value_at(root, path)
    if isinstance(value, dict):
        (value,) = [each for each in cast("dict[str, object]", value).values() if isinstance(each, int)]
    return value


@pytest.mark.parametrize("shape", READ, ids=lambda shape: shape.name)
def test_a_field_that_was_read_is_where_its_path_says(shape: Shape) -> None:
    response = copy_of(shape)
    explanation = explain(response)
    assert explanation.fields
    for field in explanation.fields:
        assert int(cast("int", count_at(response, field.path))) == field.value


@pytest.mark.parametrize("shape", REFUSED, ids=lambda shape: shape.name)
def test_a_count_that_is_none_is_refused_under_its_path(shape: Shape) -> None:
    for field in explain(copy_of(shape)).fields:
        response = copy_of(shape)
        holder, last = place_of(response, field.path)
        if isinstance(value_at(response, field.path), dict) or field.value == 0:
            continue
        cast("dict[str | int, object]", holder)[last] = -1
        with pytest.raises(ValidationError) as caught:
            read(response)
        assert caught.value.message == f"{field.path}: must be at least 0"
