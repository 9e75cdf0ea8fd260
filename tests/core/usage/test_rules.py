"""The rules of docs/tokens.md where no shape of a provider's shows them alone: small usages of our own."""

from typing import Any, NamedTuple

import pytest

from clocknext_core import Tokens, ValidationError
from clocknext_core.usage.reading import explain, read


class Usage(NamedTuple):
    """A usage, and what is read of it."""

    usage: dict[str, Any]
    tokens: tuple[int, int, int | None]
    """Input, output and cache."""
    other: dict[str, int] = {}  # noqa: RUF012 - read only


class Member:
    """A member of an enumeration, as google-genai has for modalities."""

    value = "AUDIO"


CHAT = {"prompt_tokens": 10, "completion_tokens": 5}
ANTHROPIC = {"input_tokens": 10, "output_tokens": 5}
COMPACTION = {"type": "compaction", "input_tokens": 3, "output_tokens": 2}
NATIVE = {"native_tokens_prompt": 80, "native_tokens_completion": 40}
MADE_TO_COMPARE = {"prompt_tokens": 100, "completion_tokens": 50}

RULES: dict[str, Usage] = {
    "native counts are billed though others are larger": Usage({**MADE_TO_COMPARE, **NATIVE}, (80, 40, None)),
    "their total is that of the others": Usage(
        {**MADE_TO_COMPARE, "total_tokens": 150, **NATIVE}, (80, 40, None)
    ),
    "what stands behind native counts is read too": Usage(
        {**NATIVE, "prompt_tokens_details": {"cached_tokens": 10}}, (70, 40, 10)
    ),
    "a compaction without a cache": Usage({**ANTHROPIC, "iterations": [COMPACTION]}, (13, 7, None)),
    "a compaction with a cache": Usage(
        {**ANTHROPIC, "iterations": [{**COMPACTION, "cache_read_input_tokens": 7}]}, (13, 7, 7)
    ),
    "a compaction beside a cache": Usage(
        {**ANTHROPIC, "cache_read_input_tokens": 7, "iterations": [COMPACTION]}, (13, 7, 7)
    ),
    "two compactions and a message that is counted already": Usage(
        {
            **ANTHROPIC,
            "cache_creation_input_tokens": 4,
            "server_tool_use": {"web_search_requests": 2},
            "iterations": [
                {**COMPACTION, "cache_creation_input_tokens": 6},
                {"type": "message", "input_tokens": 99, "output_tokens": 99},
                {**COMPACTION, "server_tool_use": {"web_fetch_requests": 1}},
            ],
        },
        (26, 9, None),
        {"cache_write_tokens": 10, "web_search_requests": 2, "web_fetch_requests": 1},
    ),
    "billed units alone, though they have no output": Usage(
        {"billed_units": {"input_tokens": 10}, "tokens": {"input_tokens": 500, "output_tokens": 20}},
        (10, 0, None),
    ),
    "billed units that say nothing": Usage(
        {"billed_units": {}, "tokens": {"input_tokens": 500, "output_tokens": 20}}, (500, 20, None)
    ),
    "groups under short names": Usage(
        {"input": {"total": 10, "cacheRead": 4}, "output": {"total": 3}}, (6, 3, 4)
    ),
    "groups with a total_tokens": Usage(
        {"prompt_tokens": {"total_tokens": 10, "cached_tokens": 4}, "completion_tokens": {"total_tokens": 5}},
        (6, 5, 4),
    ),
    "what is beside the counts in a group": Usage(
        {"inputTokens": {"total": 10, "audio": 3}, "outputTokens": {"total": 5, "audio": 2}},
        (10, 5, None),
        {"input_audio": 3, "output_audio": 2},
    ),
    "tokens_cached without llama.cpp": Usage({**CHAT, "tokens_cached": 4}, (6, 5, 4)),
    "tokens_cached of llama.cpp": Usage(
        {"tokens_cached": 30, "tokens_evaluated": 20, "tokens_predicted": 5}, (20, 5, None)
    ),
    "two results of Titan": Usage(
        {"inputTextTokenCount": 5, "results": [{"tokenCount": 3}, {"tokenCount": 4}]}, (5, 7, None)
    ),
    "results beside an output": Usage(
        {"inputTokens": 5, "outputTokens": 7, "results": [{"tokenCount": 3}]}, (5, 7, None)
    ),
    "writes for five minutes": Usage(
        {
            **ANTHROPIC,
            "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 0},
        },
        (13, 5, None),
        {"cache_write_tokens": 3},
    ),
    "writes for an hour": Usage(
        {
            **ANTHROPIC,
            "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4, "more": {}},
        },
        (17, 5, None),
        {"cache_write_tokens": 7, "cache_write_1h_tokens": 4},
    ),
    "Anthropic's name within details": Usage(
        {**ANTHROPIC, "input_tokens_details": {"cache_read_input_tokens": 4}}, (6, 5, 4)
    ),
    "a modality that is a member": Usage(
        {
            "promptTokenCount": 10,
            "candidatesTokenCount": 5,
            "promptTokensDetails": [
                {"modality": Member(), "tokenCount": 3},
                {"modality": "TEXT", "tokenCount": 7},
            ],
        },
        (10, 5, None),
        {"input_audio_tokens": 3},
    ),
    "characters beside tokens": Usage(
        {"inputTokens": 5, "outputTokens": 3, "inputCharacters": 20}, (5, 3, None), {"input_characters": 20}
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule(rule: str) -> None:
    usage, (given, made, cached), other = RULES[rule]
    reading = read({"usage": usage})
    assert reading.tokens == Tokens(input=given, output=made, cache=cached)
    assert reading.other == other


@pytest.mark.parametrize(
    ("usage", "place"),
    [
        ({"inputCharacters": 20}, "response.usage.inputCharacters: is a count in another unit"),
        ({**CHAT, "audio": {"seconds": 0, "tokens": 3}}, "response.usage.audio: is not known"),
        (
            {**CHAT, "prompt_tokens_details": {"caches_tokens": 3}},
            "response.usage.prompt_tokens_details.caches_tokens: is not known",
        ),
    ],
)
def test_a_refusal_names_the_field(usage: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read({"usage": usage})
    assert caught.value.message.startswith(place)


def test_the_fields_are_named_by_their_paths() -> None:
    explanation = explain({"usage": {"tokens": {"input_tokens": 9}, "output_tokens": 4}})
    assert [field.path for field in explanation.fields] == [
        "response.usage.tokens.input_tokens",
        "response.usage.output_tokens",
    ]
