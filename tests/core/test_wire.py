"""JSON as it is sent: the same bytes and refusals with the encoder in C and without it."""

import json
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import pytest

from clocknext_core import wire
from clocknext_core.wire import encode_json


class Level(IntEnum):
    LOW = 3


class Name(str):
    """A string of a class of its own."""

    __slots__ = ()


def make_anew(patch: pytest.MonkeyPatch) -> None:
    """Have the encoder made as an import would, by what the standard library has now."""
    patch.setattr(wire, "_chunks", wire._make_chunks())  # pyright: ignore[reportPrivateUsage]


def takes_something_else(one: object) -> None:
    """An encoder that is made by one argument."""


@pytest.fixture(params=["C", "no C", "nothing that could be C", "C of another version"], autouse=True)
def encoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the encoder of this interpreter, or of one without the C extension."""
    if request.param == "no C":
        monkeypatch.setattr(json.encoder, "c_make_encoder", None)
    elif request.param == "C of another version":
        monkeypatch.setattr(json.encoder, "c_make_encoder", takes_something_else)
    elif request.param != "C":
        monkeypatch.delattr(json.encoder, "c_make_encoder")
    make_anew(monkeypatch)


VALUES: list[tuple[object, str]] = [
    (None, "null"),
    (True, "true"),
    (0, "0"),
    (-(2**70), "-1180591620717411303424"),
    (1.5, "1.5"),
    (1e100, "1e+100"),
    (Level.LOW, "3"),
    (Name("x"), '"x"'),
    ("", '""'),
    ('é\n"\\\x00\u2028\N{GRINNING FACE}', '"é\\n\\"\\\\\\u0000\u2028\N{GRINNING FACE}"'),
    ([], "[]"),
    ({}, "{}"),
    ((1, (2, ["3"])), '[1,[2,["3"]]]'),
    ({"b": {"é": [1, {"c": None}]}, "a": False}, '{"b":{"é":[1,{"c":null}]},"a":false}'),
    ({0: 1, None: 2, True: 3, 2.5: 4, Level.LOW: 5}, '{"0":1,"null":2,"true":3,"2.5":4,"3":5}'),
]


@pytest.mark.parametrize(("value", "text"), VALUES)
def test_the_exact_bytes(value: object, text: str) -> None:
    assert encode_json(value) == text.encode()


def cycle() -> object:
    value: dict[str, object] = {}
    value["self"] = [value]
    return value


NOT_FINITE = "^Out of range float values are not JSON compliant"
SURROGATE = "^holds a lone surrogate, which is not text$"
UNFIT: list[tuple[object, str]] = [
    (float("nan"), NOT_FINITE),
    ({"a": [float("inf")]}, NOT_FINITE),
    ([float("-inf")], NOT_FINITE),
    ({float("nan"): 1}, NOT_FINITE),
    ("\ud800", SURROGATE),
    ({"a": {"x\udfff": 1}}, SURROGATE),
    ([object()], "^Object of type object is not JSON serializable"),
    ({"a": b"x"}, "^Object of type bytes is not JSON serializable"),
    ({("a",): 1}, "^keys must be str, int, float, bool or None, not tuple"),
    ({"a": 10**5000}, "^Exceeds the limit"),
    (cycle(), "^is nested too deeply$|^Circular reference"),
]


@pytest.mark.parametrize(("value", "why"), UNFIT, ids=[str(number) for number in range(len(UNFIT))])
def test_what_is_not_json_is_refused_and_why(value: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        encode_json(value)


def test_what_is_nested_too_deeply_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match=r"^is nested too deeply$"):
        encode_json(deep)
    while deep:  # taken apart by hand: freeing it in one go recurses too
        deep = deep.pop()


def test_the_encoder_in_c_is_used_and_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def make(*how: object) -> Callable[[str, int], tuple[str, ...]]:
        made.append(how)
        return chunks

    def chunks(value: str, level: int) -> tuple[str, ...]:
        return "<", value, ">"

    monkeypatch.setattr(json.encoder, "c_make_encoder", make, raising=False)
    make_anew(monkeypatch)
    assert (encode_json("a"), encode_json("b")) == (b"<a>", b"<b>")
    assert len(made) == 1
