"""Looking into what responses are made of: each kind of holder gives the same answers."""

from collections import UserDict
from collections.abc import Callable
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from clocknext_core import Tokens
from clocknext_core.usage import lookup

Make = Callable[[dict[str, object]], Any]


class Plain:
    """An object with attributes."""

    def __init__(self, values: dict[str, object]) -> None:
        self.__dict__.update(values)


class Model:
    """As pydantic has it: declared fields in its dictionary, others apart, and properties of its class."""

    __pydantic_fields__: ClassVar[dict[str, object]] = {}

    def __init__(self, own: dict[str, object], extra: dict[str, object] | None = None) -> None:
        self.__dict__.update(own)
        self.__pydantic_extra__ = extra

    @property
    def total_token_count(self) -> int:
        return 9

    @property
    def text(self) -> str:
        raise AssertionError("It is computed, and may warn: it is not asked for.")

    def count_tokens(self) -> int:
        raise AssertionError("A method is no count.")


class Unset:
    """What Speakeasy's SDKs have for a field that was not sent."""


UNSET = Unset()
KINDS: dict[str, Make] = {
    "dict": dict,
    "mapping": UserDict,
    "object": Plain,
    "model": Model,
    "model with others": lambda values: Model({}, values),
    "model with both": lambda values: Model(dict([*values.items()][:1]), dict([*values.items()][1:])),
}
each_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
VALUES: dict[str, object] = {
    "one": "1",
    "blank": " ",
    "none": None,
    "unset": UNSET,
    "two": 2,
    "inner": {"a": 1},
}


@each_kind
def test_a_name_is_looked_up(make: Make) -> None:
    holder = make(VALUES)
    found = {name: lookup.get(holder, name) for name in (*VALUES, "absent")}
    assert found == {**VALUES, "unset": None, "absent": None}


@each_kind
def test_the_first_of_several_names_is_looked_up(make: Make) -> None:
    holder = make(VALUES)
    assert lookup.first(holder, "absent", "none", "unset", "two", "one") == 2
    assert lookup.first(holder, "absent", "none") is None
    assert lookup.text_of(holder, "absent", "none", "blank", "two", "one") == "1"
    assert lookup.text_of(holder, "absent", "two") is None
    assert [*lookup.known(holder, ("absent", "two", "none", "inner", "one"))] == [("inner", {"a": 1})]


@each_kind
def test_what_it_may_have_is_known_or_has_to_be_asked(make: Make) -> None:
    holder = make(VALUES)
    for name in VALUES:
        assert lookup.may_have(holder, frozenset({name, "absent"}))
    is_known = type(holder) in {dict, Model}
    assert lookup.may_have(holder, frozenset({"absent", "more"})) is not is_known


@each_kind
def test_its_fields_are_listed(make: Make) -> None:
    values = {"_private": 1, **VALUES}
    expected = {name: None if value is UNSET else value for name, value in VALUES.items()}
    holder = make(values)
    fields = lookup.fields_of(holder)
    if lookup.is_model(holder):
        assert fields.pop("total_token_count") == 9
        assert set(lookup.names_of(holder)) == {*values, "__pydantic_extra__", "total_token_count"}
    elif isinstance(holder, Plain):
        assert [*lookup.names_of(holder)] == [*fields]
    else:  # the names of a mapping are data
        expected = values
    assert fields == expected


def test_a_property_of_a_model_is_looked_up_only_if_it_counts() -> None:
    model = Model({"a": 1}, {"b": 2})
    assert lookup.get(model, "total_token_count") == 9
    assert lookup.first(model, "absent", "total_token_count") == 9
    assert lookup.may_have(model, frozenset({"total_token_count"}))
    assert "text" not in lookup.fields_of(model)
    assert "count_tokens" not in lookup.fields_of(model)


class Default:
    """What pydantic knows of a field."""

    def __init__(self, default: object) -> None:
        self.default = default


def to_json(_: object) -> str:
    """Stand for the functions of a class."""
    return ""


def model_with(
    own: dict[str, object],
    extra: dict[str, object] | None = None,
    of_class: dict[str, object] | None = None,
) -> Any:
    """Make a model whose class has these, and nothing else but its fields and functions."""
    names: dict[str, object] = {
        "__slots__": ("__dict__", "__pydantic_extra__"),
        "__pydantic_fields__": {"a": Default(None)},
        "model_config": {},
        "to_json": to_json,
        "build": classmethod(to_json),
        **(of_class or {}),
    }
    model: Any = type("Bare", (), names)()
    model.__dict__.update(own)
    model.__pydantic_extra__ = extra
    return model


def test_a_model_that_has_fields_alone_is_opened() -> None:
    own: dict[str, object] = {"a": 1, "unset": UNSET}
    assert lookup.opened(model_with(own)) == own
    assert lookup.opened(model_with(own, {})) == own
    assert lookup.opened(model_with(own, {"b": 2})) == {**own, "b": 2}


@pytest.mark.parametrize(
    "of_class",
    [
        {"model_version": property(lambda _: "1")},
        {"kind": "message"},
        {"cache_tokens": property(lambda _: 1)},
        {"__pydantic_fields__": {"a": Default(1), "b": Default(UNSET)}},
    ],
    ids=["a property", "a constant", "a property that counts", "a field that was not sent"],
)
def test_a_model_that_has_more_is_asked(of_class: dict[str, object]) -> None:
    model = model_with({"a": 1}, of_class=of_class)
    assert lookup.opened(model) is model


@each_kind
def test_anything_else_is_not_opened(make: Make) -> None:
    holder = make(VALUES)
    assert lookup.opened(holder) is holder


HOLDERS: list[object] = [{"a": 1}, UserDict({"a": 1}), Plain({}), Model({})]
LEAVES: list[object] = [None, 1, 1.5, Decimal(1), True, "a", b"a", ["a"], ("a",), {"a"}, print, Plain]


def test_what_may_have_names() -> None:
    assert [*map(lookup.is_holder, HOLDERS)] == [True] * len(HOLDERS)
    assert [*map(lookup.is_holder, LEAVES)] == [False] * len(LEAVES)
    assert not lookup.is_holder(lambda: None)


@pytest.mark.parametrize("status", ["status_code", "status"])
def test_an_http_response_has_a_status_and_reads_json(status: str) -> None:
    assert lookup.is_http(Plain({"json": dict, status: 200}))
    assert not lookup.is_http(Plain({"json": {}, status: 200}))
    assert not lookup.is_http(Plain({status: 200}))
    assert not lookup.is_http(Plain({"json": dict}))
    assert not lookup.is_http(Model({"json": dict, status: 200}))


def test_a_name_is_written_plainly_and_a_long_one_is_cut() -> None:
    assert lookup.plain_name("--promptTokens_Count__") == "prompt_tokens_count"
    assert lookup.plain_name("x" * 119 + "yz") == "x" * 119 + "y"


def test_a_description_leaves_private_names_out() -> None:
    assert lookup.describe(Plain({"_a": 1, "b": 2})) == "Plain with the attributes 'b'"
    assert lookup.describe(Plain({"_a": 1})) == "Plain without attributes"


class Numpys:
    """An integer as NumPy has them: it is no `int`, and has no ratio."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


def test_an_integer_of_another_kind_is_a_count_and_holds_no_names() -> None:
    assert not lookup.is_holder(Numpys(9))
    usage = {"prompt_tokens": Numpys(9), "completion_tokens": Numpys(3)}
    assert Tokens.from_usage(usage) == Tokens(input=9, output=3)
