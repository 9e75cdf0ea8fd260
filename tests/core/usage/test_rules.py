"""The rules of docs/tokens.md where no shape of a provider's shows them alone: small usages of our own."""

from typing import Any, NamedTuple

import pytest

from clocknext_core import Tokens, ValidationError
from clocknext_core.usage.counts import IN_ANOTHER_UNIT
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
GEMINI = {"promptTokenCount": 10, "candidatesTokenCount": 5, "toolUsePromptTokenCount": 3}
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
    "a total of 0 says nothing": Usage({**CHAT, "total_tokens": 0}, (10, 5, None)),
    "a cache and writes that are too large together": Usage(
        {**CHAT, "cached_tokens": 6, "cache_write_tokens": 6}, (16, 5, 6), {"cache_write_tokens": 6}
    ),
    "a cache and writes of which one is inside": Usage(
        {**CHAT, "cached_tokens": 6, "cache_write_tokens": 6, "total_tokens": 21},
        (10, 5, 6),
        {"cache_write_tokens": 6},
    ),
    "writes inside": Usage(
        {**CHAT, "cache_write_tokens": 3, "total_tokens": 15}, (10, 5, None), {"cache_write_tokens": 3}
    ),
    "writes beside": Usage(
        {**CHAT, "cache_write_tokens": 3, "total_tokens": 18}, (13, 5, None), {"cache_write_tokens": 3}
    ),
    "tools inside": Usage({**GEMINI, "totalTokenCount": 15}, (10, 5, None)),
    "tools beside": Usage({**GEMINI, "totalTokenCount": 18}, (13, 5, None)),
    "tools without a total": Usage(GEMINI, (13, 5, None)),
    "a cache that is too large moves no reasoning": Usage(
        {**CHAT, "cached_tokens": 16, "reasoning_tokens": 2}, (10, 5, 16)
    ),
    "a total that leaves something out": Usage(
        {**CHAT, "reasoning_tokens": 5, "total_tokens": 12}, (10, 5, None)
    ),
    "a total above all is reasoning where some is named": Usage(
        {**CHAT, "cached_tokens": 2, "reasoning_tokens": 3, "total_tokens": 25}, (8, 15, 2)
    ),
    "a total above all is reasoning where nothing else is": Usage(
        {**CHAT, "total_tokens": 25}, (10, 15, None)
    ),
    "audio that is all of the output": Usage(
        {**CHAT, "total_tokens": 15, "output_audio_tokens": 5}, (10, 5, None)
    ),
    "audio of either side": Usage({**CHAT, "total_tokens": 15, "audio_tokens": 7}, (10, 5, None)),
    "modalities that add up to the prompt": Usage(
        {**CHAT, "input_text_tokens": 7, "input_audio_tokens": 3}, (10, 5, None)
    ),
    "modalities that add up to the output": Usage(
        {**CHAT, "output_text_tokens": 4, "output_audio_tokens": 1}, (10, 5, None)
    ),
    "modalities of both": Usage(
        {
            **CHAT,
            "input_text_tokens": 7,
            "input_audio_tokens": 3,
            "output_text_tokens": 4,
            "output_audio_tokens": 1,
        },
        (10, 5, None),
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


UNKNOWN = (
    "is not known, and the total does not tell whether it is part of a number beside it: give tokens= with "
    "counts of your own, or report the shape"
)
UNEXPLAINED = (
    "is more than the counts beside it add up to, and nothing says what the rest is: give the provider's "
    "own response, or tokens= with counts of your own"
)
APART = (
    "is larger than the output, and the total leaves it out: the provider prices it apart (Perplexity's "
    "deep research does): give tokens= with counts of your own"
)
UNMEASURED = (
    "says that requests were not measured or still run, so the counts are too low: record the response "
    "of each request instead"
)
ZEROS = (
    "counts nothing but zeros, as servers do that can't count, and a prompt is never empty: ask the server "
    "for usage (OpenAI's streams: stream_options={'include_usage': True}), or count yourself and give tokens="
)
REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "characters": ({"inputCharacters": 20}, f"inputCharacters: {IN_ANOTHER_UNIT}"),
    "searches": (
        {"prompt_tokens": None, "num_search_queries": 2, "output_tokens_details": {"audio_tokens": 2}},
        f"num_search_queries: {IN_ANOTHER_UNIT}",
    ),
    "a group": ({**CHAT, "audio": {"seconds": 0, "tokens": 3}}, f"audio: {UNKNOWN}"),
    "caches": (
        {**CHAT, "prompt_tokens_details": {"caches_tokens": 3}},
        f"prompt_tokens_details.caches_tokens: {UNKNOWN}",
    ),
    "audio though the total is not all": (
        {**CHAT, "reasoning_tokens": 2, "total_tokens": 20, "audio_tokens": 3},
        f"audio_tokens: {UNKNOWN}",
    ),
    "audio without a total": ({**CHAT, "audio_tokens": 7}, f"audio_tokens: {UNKNOWN}"),
    "more audio than output": (
        {**CHAT, "total_tokens": 15, "output_audio_tokens": 7},
        f"output_audio_tokens: {UNKNOWN}",
    ),
    "more audio than prompt": (
        {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30, "input_audio_tokens": 12},
        f"input_audio_tokens: {UNKNOWN}",
    ),
    "the second that is not known": (
        {**CHAT, "total_tokens": 15, "audio_tokens": 7, "output_audio_tokens": 7},
        f"output_audio_tokens: {UNKNOWN}",
    ),
    "modalities that do not add up": (
        {**CHAT, "input_text_tokens": 6, "input_audio_tokens": 3},
        f"input_audio_tokens: {UNKNOWN}",
    ),
    "what stands behind modalities that add up": (
        {**CHAT, "input_text_tokens": 7, "input_audio_tokens": 3, "audio_tokens": 7},
        f"audio_tokens: {UNKNOWN}",
    ),
    "reasoning that is priced apart": (
        {"prompt_tokens": 8, "completion_tokens": 5, "reasoning_tokens": 8, "total_tokens": 13},
        f"reasoning_tokens: {APART}",
    ),
    **{
        f"a total above {name}": ({**usage, total: 25}, f"{total}: {UNEXPLAINED}")
        for name, usage, total in (
            ("tools", GEMINI, "totalTokenCount"),
            ("writes", {**CHAT, "cache_write_tokens": 3}, "total_tokens"),
            ("a cache", {**CHAT, "cached_tokens": 3}, "total_tokens"),
            ("audio", {**CHAT, "audio_tokens": 3}, "total_tokens"),
            ("a cache, twice", {**CHAT, "cached_tokens": 3, "total_tokens": 24}, "totalTokens"),
        )
    },
    "requests that were not measured": (
        {**CHAT, "unmeasured_requests": 1},
        f"unmeasured_requests: {UNMEASURED}",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_refusal_names_the_field(what: str) -> None:
    usage, message = REFUSALS[what]
    with pytest.raises(ValidationError) as caught:
        read({"usage": usage})
    assert caught.value.message == f"response.usage.{message}"


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (
            {"usage": {"prompt_tokens": 0, "completion_tokens": 0}},
            f"response.usage: {ZEROS}",
        ),
        (
            {"usage": {"prompt_tokens": None, "reasoning_tokens": 0}},
            "response.usage: has no count of prompt or output tokens",
        ),
        (
            {"data": [1], "usage": {"total_tokens": 10, "audio_tokens": 3}},
            f"response.usage.audio_tokens: {UNKNOWN}",
        ),
    ],
)
def test_a_usage_without_counts(response: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read(response)
    assert caught.value.message == message


ENDS: dict[str, tuple[dict[str, Any], str | None]] = {
    "a status": ({"status": "in_progress"}, "its status is in_progress"),
    "a status of another kind": ({"status": ["in_progress"]}, None),
    "a choice": ({"choices": [{"finish_reason": None}]}, "choices has one without a finish reason"),
    "a candidate": ({"candidates": [{"finishReason": None}]}, "candidates has one without a finish reason"),
    "a reason of another kind": ({"choices": [{"finish_reason": ["stop"]}]}, None),
    "Ollama's": ({"done": False}, "done is false"),
    "part": ({"partial": True}, "partial is true"),
    "DashScope's": ({"output": {"finish_reason": "null"}}, "its output has no finish reason"),
    "DashScope's choices": (
        {"output": {"choices": [{"finish_reason": "null"}]}},
        "its output has no finish reason",
    ),
    "DashScope's choices that have ended": ({"output": {"choices": [{"finish_reason": "stop"}]}}, None),
    "a stop reason beside content": ({"stop_reason": None, "content": []}, "stop_reason is null"),
    "a stop reason beside nothing": ({"stop_reason": None}, None),
    "an event": ({"type": "message_delta", "delta": {"stop_reason": None}}, "stop_reason is null"),
    "an event that ends": ({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, None),
    "another event": ({"type": "other", "delta": {"stop_reason": None}}, None),
    "a step": (
        {"content": [], "message_id": "m"},
        "it is a step of the Claude Agent SDK, whose counts are placeholders: give the ResultMessage",
    ),
}


@pytest.mark.parametrize("what", ENDS)
def test_what_says_that_a_response_goes_on(what: str) -> None:
    response, reason = ENDS[what]
    explanation = explain({**response, "usage": CHAT})
    if reason is None:
        assert explanation.error is None
    else:
        assert explanation.error is not None
        assert explanation.error.startswith(f"response: is not final, {reason}; give the last chunk")


def test_a_step_is_known_by_a_usage_of_that_name() -> None:
    assert explain({"content": [], "message_id": "m", "token_usage": CHAT}).error is None


@pytest.mark.parametrize(
    ("usage", "reasons"),
    [
        (
            {**CHAT, "cached_tokens": 16, "reasoning_tokens": 2},
            [
                "the cached tokens are beside the prompt: they are more than the count they would be in",
                "the reasoning tokens are inside the output: that is what the provider's names mean",
            ],
        ),
        (
            {**CHAT, "cached_tokens": 2, "reasoning_tokens": 3, "total_tokens": 25},
            [
                "the cached tokens are inside the prompt: the total adds up only so",
                "the reasoning tokens are inside the output: the total adds up only so",
                "the total has 10 more than all counts: reasoning, added to the output",
            ],
        ),
        (
            {**CHAT, "cached_tokens": 2, "total_tokens": 17},
            ["the cached tokens are beside the prompt: the total adds up only so"],
        ),
        (
            {**CHAT, "cached_tokens": 2, "total_tokens": 15},
            ["the cached tokens are inside the prompt: that is what the provider's names mean"],
        ),
    ],
)
def test_what_decided_is_told(usage: dict[str, Any], reasons: list[str]) -> None:
    assert [*explain({"usage": usage}).reasons] == reasons


def test_the_fields_are_named_by_their_paths() -> None:
    explanation = explain({"usage": {"tokens": {"input_tokens": 9}, "output_tokens": 4}})
    assert [field.path for field in explanation.fields] == [
        "response.usage.tokens.input_tokens",
        "response.usage.output_tokens",
    ]
