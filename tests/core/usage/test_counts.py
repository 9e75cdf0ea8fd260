"""Counts that are there alone, under each of their names: what is absent is 0, and changes nothing else."""

import pytest

from clocknext_core import Tokens, ValidationError
from clocknext_core.usage.counts import read_counts

COUNTS: list[tuple[dict[str, object], Tokens]] = [
    ({"inputTokens": 5}, Tokens(input=5)),
    ({"inputTokens": 0, "cacheWriteInputTokens": 5}, Tokens(input=5)),
    ({"inputTokens": 0, "cacheReadInputTokens": 5}, Tokens(cache=5)),
    (
        {
            "prompt_token_count": 100,
            "cached_content_token_count": 40,
            "tool_use_prompt_token_count": 7,
            "thoughts_token_count": 20,
            "candidates_token_count": 30,
        },
        Tokens(input=67, output=50, cache=40),
    ),
    (
        {"promptTokenCount": 1, "toolUsePromptTokenCount": 2, "cachedContentTokenCount": 0},
        Tokens(input=3, cache=0),
    ),
    ({"total_input_tokens": 5}, Tokens(input=5)),
    ({"total_input_tokens": None, "total_tool_use_tokens": 5}, Tokens(input=5)),
    ({"billed_units": {"input_tokens": 5}}, Tokens(input=5)),
    ({"billed_units": {}, "tokens": {"input_tokens": 5, "output_tokens": 5}}, Tokens(input=5, output=5)),
    ({"prompt_tokens": 5}, Tokens(input=5)),
    ({"prompt_tokens": None, "connector_tokens": 5}, Tokens(input=5)),
    ({"input_tokens": 5, "input_tokens_details": {}}, Tokens(input=5)),
    ({"input_tokens": 5, "input_token_details": {}}, Tokens(input=5)),
    *(
        ({"input_tokens": 9, "input_token_details": {name: 5}}, Tokens(input=4, cache=5))
        for name in ("cache_read", "priority_cache_read", "flex_cache_read", "cached_tokens")
    ),
    ({"input_tokens": 5}, Tokens(input=5)),
    ({"input_tokens": 5, "cache_creation_input_tokens": 2}, Tokens(input=7)),
    (
        {
            "input_tokens": 1,
            "output_tokens": 2,
            "cache_read_input_tokens": 10,
            "iterations": [
                {"type": "message", "input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 10},
                {"type": "compaction", "input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 20},
            ],
        },
        Tokens(input=4, output=6, cache=30),
    ),
    # Of several names for one thing the largest counts.
    (
        {"prompt_tokens": 0, "input_tokens": 9, "completion_tokens": 0, "output_tokens": 4},
        Tokens(input=9, output=4),
    ),
    (
        {"prompt_tokens": 9, "cached_tokens": 0, "prompt_tokens_details": {"cached_tokens": 4}},
        Tokens(input=5, cache=4),
    ),
    ({"input_tokens": 9, "prompt_tokens": 9, "cache_read_input_tokens": 4}, Tokens(input=5, cache=4)),
]
REFUSED: list[tuple[dict[str, object], str]] = [
    ({"inputTokens": None, "outputTokens": 5}, "no prompt count"),
    ({"inputTokens": None, "cacheReadInputTokens": 5}, "no prompt count"),
    ({"prompt_token_count": None, "candidates_token_count": 3}, "no prompt count"),
    ({"prompt_token_count": 0, "candidates_token_count": 3}, "no prompt count"),
    ({"total_input_tokens": None, "total_thought_tokens": 5}, "no prompt count"),
    ({"billed_units": {"output_tokens": 5}}, "no prompt count"),
    ({"prompt_tokens": None, "completion_tokens": None, "prompt_tokens_details": None}, "has no count"),
    ({"prompt_tokens": 0, "completion_tokens": 0}, "nothing but zeros"),
]


BESIDE: list[tuple[dict[str, object], Tokens]] = [
    (
        {"prompt_tokens": 3, "completion_tokens": None, "total_tokens": 4, "reasoning": 1},
        Tokens(input=3, output=1),
    ),
    (
        {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "reasoning": 1},
        Tokens(input=3, output=4),
    ),
    (
        {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 8, "reasoning": None},
        Tokens(input=3, output=5),
    ),
]


@pytest.mark.parametrize(("usage", "tokens"), COUNTS, ids=["-".join(usage) for usage, _ in COUNTS])
def test_count(usage: dict[str, object], tokens: Tokens) -> None:
    assert Tokens.from_usage({"usage": usage}) == tokens


@pytest.mark.parametrize(("usage", "says"), REFUSED)
def test_counts_that_are_refused(usage: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=f"response.usage: .*{says}"):
        Tokens.from_usage({"usage": usage})


@pytest.mark.parametrize(("usage", "tokens"), BESIDE)
def test_reasoning_is_added_where_the_total_says_that_it_is_beside_the_completion(
    usage: dict[str, object], tokens: Tokens
) -> None:
    details = {"reasoning_tokens": usage["reasoning"]}
    assert Tokens.from_usage({"usage": {**usage, "completion_tokens_details": details}}) == tokens


def test_what_a_compaction_took_is_added_to_every_count() -> None:
    compaction = {
        "type": "compaction",
        "input_tokens": 5,
        "output_tokens": 2,
        "cache_creation": {"ephemeral_1h_input_tokens": 3},
    }
    usage = {
        "input_tokens": 9,
        "output_tokens": 4,
        "cache_creation": {"ephemeral_1h_input_tokens": 7},
        "iterations": [{"type": "message", "input_tokens": 9}, compaction, compaction],
    }
    counts = read_counts(usage)
    assert counts.output == 8
    assert counts.other == {"cache_write_1h_tokens": 13, "cache_write_tokens": 13}
    assert "response.usage.iterations[2].input_tokens" in [field.path for field in counts.fields]
    with pytest.raises(ValidationError, match=r"^response\.usage\.iterations\[0\]\.output_tokens: "):
        read_counts({**usage, "iterations": [{**compaction, "output_tokens": -1}]})


@pytest.mark.parametrize("name", ["billed_units", "billedUnits"])
def test_billed_units_win_and_what_is_beside_them_counts_where_they_have_none(name: str) -> None:
    beside = {"input_tokens": 99, "output_tokens": 9}
    assert read_counts({name: {"input_tokens": 5, "output_tokens": 2}, **beside}).input == 5
    counts = read_counts({name: {"extra": None}, **beside})
    assert (counts.input, counts.output) == (99, 9)
    assert [field.path for field in counts.fields] == [
        "response.usage.input_tokens",
        "response.usage.output_tokens",
    ]


@pytest.mark.parametrize("name", ["token_count", "tokenCount", "inputTokens", "input_tokens"])
def test_cached_tokens_are_listed_by_modality(name: str) -> None:
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 4}
    counts = read_counts({**usage, "cacheTokensDetails": [{"modality": "TEXT", name: 2}, {name: 3}]})
    assert counts.cache == 5
    with pytest.raises(ValidationError, match=r"^response\.usage\.cacheTokensDetails\[1\]: "):
        read_counts({**usage, "cacheTokensDetails": [{name: 2}, {name: -3}]})


@pytest.mark.parametrize("name", ["token_count", "tokenCount"])
def test_modalities_that_may_have_a_price_are_noted(name: str) -> None:
    listed = [{"modality": "TEXT", name: 3}, {"modality": "AUDIO", name: 6}]
    counts = read_counts({"promptTokenCount": 9, "candidatesTokenCount": 4, "promptTokensDetails": listed})
    assert counts.other == {"input_audio_tokens": 6}


def test_details_are_read_to_the_end_and_named_by_their_side() -> None:
    counts = read_counts(
        {
            "prompt_tokens": 9,
            "completion_tokens": 4,
            "prompt_tokens_details": {"nothing": None, "reasoning_tokens": 1, "input_audio_count": 2},
            "completion_tokens_details": {"nothing": None, "output_audio_tokens": 3, "image_tokens": 1},
        }
    )
    assert counts.other == {"input_audio": 2, "output_audio_tokens": 3, "output_image_tokens": 1}


def test_a_group_has_its_total_and_its_details() -> None:
    counts = read_counts(
        {"inputTokens": {"total": 10, "cacheRead": 4, "noCache": 6}, "outputTokens": {"total": 3, "audio": 2}}
    )
    assert (counts.input + (counts.cache or 0), counts.output, counts.cache) == (10, 3, 4)
    assert counts.other == {"output_audio": 2}


@pytest.mark.parametrize("unit", ["TOKENS", "token", None, 3])
def test_a_unit_of_tokens_changes_nothing(unit: object) -> None:
    counts = read_counts({"input": 10, "output": 5, "total": 15, "unit": unit})
    assert (counts.input, counts.output) == (10, 5)
