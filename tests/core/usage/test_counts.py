"""Counts that are there alone, under each of their names: what is absent is 0, and changes nothing else."""

import pytest

from clocknext_core import Tokens

COUNTS: list[tuple[dict[str, object], Tokens]] = [
    ({"inputTokens": 5}, Tokens(input=5)),
    ({"inputTokens": None, "outputTokens": 5}, Tokens(output=5)),
    ({"inputTokens": None, "cacheWriteInputTokens": 5}, Tokens(input=5)),
    ({"inputTokens": None, "cacheReadInputTokens": 5}, Tokens(cache=5)),
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
    ({"prompt_token_count": None, "candidates_token_count": 3}, Tokens(output=3)),
    (
        {"promptTokenCount": 1, "toolUsePromptTokenCount": 2, "cachedContentTokenCount": 0},
        Tokens(input=3, cache=0),
    ),
    ({"total_input_tokens": 5}, Tokens(input=5)),
    ({"total_input_tokens": None, "total_tool_use_tokens": 5}, Tokens(input=5)),
    ({"total_input_tokens": None, "total_output_tokens": 5}, Tokens(output=5)),
    ({"total_input_tokens": None, "total_thought_tokens": 5}, Tokens(output=5)),
    ({"billed_units": {"input_tokens": 5}}, Tokens(input=5)),
    ({"billed_units": {"output_tokens": 5}}, Tokens(output=5)),
    ({"billed_units": {}, "tokens": {"output_tokens": 5}}, Tokens(output=5)),
    ({"prompt_tokens": 5}, Tokens(input=5)),
    ({"prompt_tokens": None, "completion_tokens": 5}, Tokens(output=5)),
    ({"prompt_tokens": None, "connector_tokens": 5}, Tokens(input=5)),
    ({"input_tokens": 5, "input_tokens_details": {}}, Tokens(input=5)),
    ({"output_tokens": 5, "input_tokens_details": {}}, Tokens(output=5)),
    ({"input_tokens": 5, "input_token_details": {}}, Tokens(input=5)),
    ({"output_tokens": 5, "input_token_details": {}}, Tokens(output=5)),
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
]
BESIDE: list[tuple[dict[str, object], Tokens]] = [
    (
        {"prompt_tokens": 3, "completion_tokens": None, "total_tokens": 4, "reasoning": 1},
        Tokens(input=3, output=1),
    ),
    ({"prompt_tokens": None, "completion_tokens": 3, "total_tokens": 4, "reasoning": 1}, Tokens(output=4)),
    (
        {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "reasoning": 1},
        Tokens(input=3, output=4),
    ),
    (
        {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 8, "reasoning": None},
        Tokens(input=3, output=4),
    ),
]


@pytest.mark.parametrize(("usage", "tokens"), COUNTS, ids=["-".join(usage) for usage, _ in COUNTS])
def test_count(usage: dict[str, object], tokens: Tokens) -> None:
    assert Tokens.from_usage({"usage": usage}) == tokens


@pytest.mark.parametrize(("usage", "tokens"), BESIDE)
def test_reasoning_is_added_where_the_total_says_that_it_is_beside_the_completion(
    usage: dict[str, object], tokens: Tokens
) -> None:
    details = {"reasoning_tokens": usage["reasoning"]}
    assert Tokens.from_usage({"usage": {**usage, "completion_tokens_details": details}}) == tokens
