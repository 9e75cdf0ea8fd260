"""Every documented shape, as mappings and as objects; and what is refused, and how."""

from contextlib import suppress
from decimal import Decimal
from types import MappingProxyType, SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clocknext_core import Tokens, ValidationError
from clocknext_core.usage.parts import parts_of
from clocknext_core.usage.reading import explain, read
from clocknext_core.usage.runs import explanations
from tests.core.usage.cases import CASES, CHAT, MESSAGE, Case
from tests.core.usage.support import as_objects


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_shape(case: Case) -> None:
    for response in (case.response, as_objects(case.response), MappingProxyType(case.response)):
        tokens = Tokens.from_usage(response)
        assert tokens == case.tokens
        assert tokens.input + (tokens.cache or 0) == case.prompt


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_model(case: Case) -> None:
    for response in (case.response, as_objects(case.response)):
        assert read(response).model == case.model


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
        ([CHAT], "is a list, not a response"),
        ({}, "dict without keys"),
        ({"text": SECRET}, "dict with the keys 'text'"),
        ({7: SECRET}, "dict without keys"),
        ({f"key{n}": SECRET for n in range(99)}, "'key19', …"),
        (SimpleNamespace(text=SECRET, _key=SECRET), "SimpleNamespace with the attributes 'text'"),
        ({**CHAT, "usage": None}, "stream_options"),
        ({"usage": {"speed": SECRET}}, "unknown shape: dict with the keys 'speed'"),
        ({"usage": SECRET}, "unknown shape: str"),
        ({"type": "message_start", "message": MESSAGE}, "first event of a stream"),
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
        ("5.0", "an integer, not str"),
        ("9" * 30, "an integer, not str"),
        (Decimal("1.5"), "an integer, not Decimal"),
        ([], "an integer, not list"),
    ],
)
def test_a_count_that_is_none(count: object, says: str) -> None:
    with pytest.raises(ValidationError, match=rf"^response\.usage\.prompt_tokens: must be {says}"):
        Tokens.from_usage({"usage": {"prompt_tokens": count}})


def test_counts_that_together_are_too_large() -> None:
    with pytest.raises(ValidationError, match=r"^tokens\.input: must be at most"):
        Tokens.from_usage({"inputTokens": 2**53 - 1, "cacheWriteInputTokens": 1})


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


@given(JSON)
@example({"data": {"prompt_tokens": 9, "completion_tokens": 4}})
@example({"a": {"input_tokens": 9}})
@example({"a": {"usage": {"input_tokens": 9}}})
def test_what_is_explained_is_what_is_read(response: object) -> None:
    explained, error, reading = explanations(response), None, None
    try:
        reading = read(response)
    except ValidationError as caught:
        error = caught.message
    assert (explain(response).reading, explain(response).error) == (reading, error)
    # Of a run each request is explained, which `read` refuses.
    is_run = parts_of_run(response) or isinstance(response, list)
    assert is_run or [(each.reading, each.error) for each in explained] == [(reading, error)]
    assert explained


def parts_of_run(response: object) -> bool:
    try:
        return bool(parts_of(response))
    except ValidationError:
        return True


COUNTS = st.integers(1, 2**50)


@given(prompt=COUNTS, cached=st.none() | COUNTS, output=COUNTS, written=COUNTS)
def test_input_and_cache_are_the_prompt_total(
    prompt: int, cached: int | None, output: int, written: int
) -> None:
    total, read = prompt + (cached or 0), cached or 0  # a cache above the prompt would be beside it
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
        tokens = Tokens.from_usage({"usage": usage})
        assert (tokens.input + (tokens.cache or 0), tokens.cache or 0, tokens.output) == (total, read, output)
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
        assert Tokens.from_usage({"usage": usage}) == Tokens(
            input=prompt + written, output=output, cache=cached
        )
