"""What the names in usages say, of every provider: the whole vocabulary, name by name."""

import pytest

from clocknext_core.usage.roles import Name, role_of

VOCABULARY: dict[Name, str] = {
    Name("prompt"): (
        "input input_text_token_count input_text_tokens input_token_count input_tokens "
        "num_input_tokens num_prompt_tokens num_tokens_prompt_total prompt prompt_eval_count "
        "prompt_llm_token_count prompt_token_count prompt_tokens request_tokens token_count_prompt "
        "tokens_evaluated tokens_in tokens_prompt total_input_tokens total_prompt_tokens "
        "promptTokens x-amzn-bedrock-input-token-count"
    ),
    Name("output"): (
        "candidates_token_count completion completion_llm_token_count completion_token_count "
        "completion_tokens eval_count generated_token_count generated_tokens "
        "generation_token_count generation_tokens num_completion_tokens num_generated_tokens "
        "num_output_tokens num_tokens_generated output output_text_tokens output_token_count "
        "output_tokens response_token_count response_tokens token_count_completion "
        "tokens_completion tokens_out tokens_predicted total_completion_tokens "
        "total_output_text_token_count total_output_tokens llm.usage.completion_tokens"
    ),
    Name("total"): "token_count_total total total_llm_token_count total_token_count total_tokens",
    Name("tools", beside=True): "connector_tokens tool_use_prompt_token_count total_tool_use_tokens",
    Name("prompt_details"): (
        "details input_details input_token_details input_tokens_details prompt_details "
        "prompt_token_details prompt_tokens_details token_count_prompt_details"
    ),
    Name("output_details"): (
        "candidates_tokens_details completion_details completion_token_details "
        "completion_tokens_details output_details output_token_details output_tokens_details "
        "response_tokens_details token_count_completion_details"
    ),
    Name(
        "written", beside=True
    ): "cache_creation cache_creation_input_tokens cache_details cache_write_input_tokens",
    Name("cached", beside=True): "cache_read_input_tokens",
    Name("written", never_in_total=True): "cache_creation_input_token_count cache_write_input_token_count",
    Name("cached", never_in_total=True): "cache_read_input_token_count precached_prompt_tokens",
    Name("billed"): "billed_units",
    Name("tokens"): "tokens",
    Name("requests"): "requests",
    Name("search"): (
        "server_tool_use server_side_tool_usage_details search_units web_search_requests searches "
        "num_queries fetch_requests citation_tokens num_sources_used"
    ),
    Name("other"): (
        "tool_use_prompt_tokens_details reasoning_budget reasoning_bytes reasoning_context "
        "reasoning_cost reasoning_costs reasoning_discount reasoning_duration reasoning_enabled "
        "reasoning_hash reasoning_hint reasoning_id reasoning_key reasoning_latency "
        "reasoning_limit reasoning_max reasoning_miss reasoning_ms reasoning_no reasoning_per "
        "reasoning_percent reasoning_price reasoning_prices reasoning_rate reasoning_ratio "
        "reasoning_saved reasoning_savings reasoning_time reasoning_ttl reasoning_uncached "
        "reasoning_usd reasoning_window nativetokens text_tokens tool_tokens "
        "written_tokens storage_tokens creation_tokens"
    ),
    Name("cached", part=True): (
        "cache_tokens_details cached_1h_tokens cached_1hr_tokens cached_5m_tokens "
        "cached_5min_tokens cached_audio_tokens cached_document_tokens cached_flex_tokens "
        "cached_image_tokens cached_priority_tokens cached_text_tokens cached_video_tokens"
    ),
    Name("cached"): (
        "prompt_cache_hit_tokens cache_hit_tokens cache_hits_tokens cache_read_tokens "
        "cache_reads_tokens cached_tokens precached_tokens cache_details_tokens "
        "gen_ai.usage.cache_read_input_tokens gen_ai.usage.details.cache_read_tokens"
    ),
    Name(
        "reasoning", beside=True
    ): "total_thought_tokens thought_tokens thoughts_tokens thoughts_token_count",
    Name(
        "written", part=True
    ): "cache_write_1h cached_ephemeral_tokens ephemeral_1h_input_tokens ephemeral_tokens",
    Name("written"): (
        "cache_created_tokens cache_creation_tokens cache_storage_tokens cache_stored_tokens "
        "cache_write_tokens cache_writes_tokens cache_written_tokens cached_created_tokens "
        "cached_creation_tokens cached_storage_tokens cached_stored_tokens cached_write_tokens "
        "cached_writes_tokens cached_written_tokens gen_ai.usage.cache_creation_input_tokens"
    ),
    Name("native"): "native_tokens_prompt native_tokens_cached",
    Name("unit"): (
        "audio_character audio_characters audio_classifications audio_images audio_megapixels "
        "audio_minute audio_minutes audio_page audio_pages audio_pixels audio_second audio_seconds "
        "image_count"
    ),
    Name("reasoning"): "reasoning_tokens thinking_tokens",
    Name("reasoning", part=True): "reasoning_priority_tokens reasoning_flex_tokens",
    Name("flagged"): (
        "reasoning_text_tokens reasoning_audio_tokens reasoning_details audio_tokens cache_tokens "
        "caches_tokens image_tokens video_tokens"
    ),
    Name("unmeasured"): "unmeasured_tokens unreported_tokens running_tokens pending_tokens",
}

SHORT = "input prompt output completion total"
"""Names that say their role only inside a usage."""


@pytest.mark.parametrize(
    ("name", "expected"), [(name, said) for said, names in VOCABULARY.items() for name in names.split()]
)
def test_a_name_says_its_role(name: str, expected: Name) -> None:
    assert role_of(name) == expected._replace(short=name in SHORT.split())
