"""Every documented shape, as mappings and as objects; and what is refused, and how."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clocknext_core import Tokens, ValidationError
from clocknext_core.usage import SHAPES, read_model, read_usage
from tests.core.usage.cases import CASES, CHAT, CHAT_USAGE, MESSAGE, Case

DOCS = Path(__file__).parents[3] / "docs" / "tokens.md"


def as_objects(value: object) -> object:
    """Turn mappings into objects with attributes, all the way down."""
    if isinstance(value, Mapping):
        mapping = cast("Mapping[str, object]", value)
        return SimpleNamespace(**{name: as_objects(inner) for name, inner in mapping.items()})
    return [as_objects(inner) for inner in cast("list[object]", value)] if isinstance(value, list) else value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_shape(case: Case) -> None:
    for response in (case.response, as_objects(case.response), MappingProxyType(case.response)):
        tokens = Tokens.from_usage(response)
        assert tokens == case.tokens
        assert tokens.input + (tokens.cache or 0) == case.prompt


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_model(case: Case) -> None:
    for response in (case.response, as_objects(case.response)):
        if case.model is None:
            with pytest.raises(ValidationError, match=r"^model: is required"):
                read_model(response)
        else:
            assert read_model(response) == case.model


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_usage_alone(case: Case) -> None:
    usage = next(
        (
            case.response[name]
            for name in ("usage", "usage_metadata", "usageMetadata", "meta")
            if case.response.get(name)
        ),
        None,
    )
    if usage is not None:
        assert Tokens.from_usage(usage) == Tokens.from_usage(as_objects(usage)) == case.tokens


def test_usage_that_several_shapes_recognise_is_read_by_the_first() -> None:
    both = {"usage": {**CHAT_USAGE, **cast("dict[str, object]", MESSAGE["usage"])}}
    assert Tokens.from_usage(both) == Tokens(input=86, output=300, cache=1920)


class Unset:
    """What Mistral's SDK fills in where nothing was sent."""


def test_what_was_not_sent_is_absent() -> None:
    usage = SimpleNamespace(prompt_tokens=91, completion_tokens=29, connector_tokens=Unset())
    assert Tokens.from_usage(SimpleNamespace(usage=usage)) == Tokens(input=91, output=29)


SECRET = "sk-this-is-nobodys-business"


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (None, "NoneType without attributes"),
        (7, "int without attributes"),
        (SECRET, "str without attributes"),
        ([CHAT], "list without attributes"),
        ({}, "dict without keys"),
        ({"text": SECRET}, "dict with the keys 'text'"),
        ({7: SECRET}, "dict without keys"),
        ({f"key{n}": SECRET for n in range(99)}, "'key19', …"),
        (SimpleNamespace(text=SECRET, _key=SECRET), "SimpleNamespace with the attributes 'text'"),
        ({**CHAT, "usage": None}, "stream_options"),
        ({"usage": {"seconds": SECRET}}, "unknown shape: dict with the keys 'seconds'"),
        ({"usage": SECRET}, "unknown shape: str"),
        ({"meta": {"billed_units": {"search_units": 1}}}, "without input_tokens or output_tokens"),
        ({"type": "message_start", "message": MESSAGE}, "first event of a stream"),
        ({"type": "message_delta", "usage": {"output_tokens": 15}}, "give the final message"),
        (
            {"type": "message_delta", "usage": {"input_tokens": None, "output_tokens": 15}},
            "the final message",
        ),
    ],
)
def test_unknown(response: object, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Tokens.from_usage(response)
    assert caught.value.message.startswith("response: ")
    assert says in caught.value.message
    assert SECRET not in caught.value.message


@pytest.mark.parametrize(
    ("count", "says"),
    [
        (-1, "at least 0"),
        (2**53, r"at most 2\^53-1"),
        (1.5, "an integer, not float"),
        (float("nan"), "an integer, not float"),
        (float("inf"), "an integer, not float"),
        (True, "an integer, not bool"),
        ("5", "an integer, not str"),
        ([], "an integer, not list"),
    ],
)
def test_a_count_that_is_none(count: object, says: str) -> None:
    with pytest.raises(ValidationError, match=rf"^response\.usage\.prompt_tokens: must be {says}"):
        Tokens.from_usage({"usage": {"prompt_tokens": count}})


def test_counts_that_together_are_too_large() -> None:
    with pytest.raises(ValidationError, match=r"^tokens\.input: must be at most"):
        Tokens.from_usage({"inputTokens": 2**53 - 1, "cacheWriteInputTokens": 1})


def test_the_table_in_the_documentation_has_every_shape() -> None:
    rows = [line for line in DOCS.read_text("utf-8").splitlines() if line.startswith("| ")]
    for shape in SHAPES:
        assert any(shape.provider in row for row in rows), shape.provider


NAMES = sorted(
    {
        *(
            "usage",
            "usage_metadata",
            "usageMetadata",
            "meta",
            "response",
            "data",
            "message",
            "delta",
            "metadata",
            "x_groq",
        ),
        *(
            "prompt_tokens",
            "completion_tokens",
            "total_tokens",
            "prompt_tokens_details",
            "completion_tokens_details",
        ),
        *("cached_tokens", "reasoning_tokens", "input_tokens", "output_tokens", "input_tokens_details"),
        *(
            "input_token_details",
            "cache_read",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
            "iterations",
        ),
        *("inputTokens", "outputTokens", "cacheReadInputTokens", "promptTokenCount", "thoughtsTokenCount"),
        *("billed_units", "tokens", "total_input_tokens", "type", "model"),
    }
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 2**53),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["message_start", "compaction"]),
)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=25,
)


@given(JSON)
@example({"usage": {"iterations": [None, 5, {"type": "compaction"}], "input_tokens": 0}})
def test_nothing_else_is_ever_raised(response: object) -> None:
    for given_as in (response, as_objects(response)):
        with suppress(ValidationError):
            tokens = Tokens.from_usage(given_as)
            assert min(tokens.input, tokens.output, tokens.cache or 0) >= 0


COUNTS = st.integers(0, 2**50)


@given(prompt=COUNTS, cached=st.none() | COUNTS, output=COUNTS, written=COUNTS)
def test_input_and_cache_are_the_prompt_total(
    prompt: int, cached: int | None, output: int, written: int
) -> None:
    total, read = prompt, min(cached or 0, prompt)
    inclusive = (
        {
            "prompt_tokens": total,
            "completion_tokens": output,
            "prompt_tokens_details": {"cached_tokens": cached},
        },
        {"input_tokens": total, "output_tokens": output, "input_tokens_details": {"cached_tokens": cached}},
        {"input_tokens": total, "output_tokens": output, "input_token_details": {"cache_read": cached}},
        {"promptTokenCount": total, "candidatesTokenCount": output, "cachedContentTokenCount": cached},
    )
    for usage in inclusive:
        counts = read_usage({"usage": usage})
        assert (counts.input + (counts.cache or 0), counts.cache or 0, counts.output) == (total, read, output)
    exclusive = (
        {
            "input_tokens": prompt,
            "output_tokens": output,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": written,
        },
        {
            "inputTokens": prompt,
            "outputTokens": output,
            "cacheReadInputTokens": cached,
            "cacheWriteInputTokens": written,
        },
    )
    for usage in exclusive:
        assert read_usage({"usage": usage}) == (prompt + written, output, cached)
