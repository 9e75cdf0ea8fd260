"""A function that takes the fields of a TypedDict shows each field as a parameter."""

import inspect
from typing import Any, TypedDict, Unpack

import pytest

from clocknext_core.signatures import UNSET, spell_out


class Needed(TypedDict):
    """What has to be given."""

    needed: int


class Fields(Needed, total=False):
    """What may be given."""

    optional: str | None


@pytest.mark.parametrize(("default", "shown"), [(None, "None"), (UNSET, "<unset>")])
def test_each_field_is_a_parameter_with_a_default_where_it_may_be_left_out(
    default: object, shown: str
) -> None:
    def take(first: int, /, **fields: Unpack[Fields]) -> None: ...

    assert spell_out(take, default) is take
    text = f"(first: int, /, *, needed: int, optional: str | None = {shown}) -> None"
    assert str(inspect.signature(take)) == text


def test_other_functions_stay_as_they_are() -> None:
    def anything(**words: Any) -> None: ...

    def nothing() -> None: ...

    for function in (anything, nothing):
        assert spell_out(function) is function
        assert "__signature__" not in vars(function)
