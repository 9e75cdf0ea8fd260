"""Which role a name in a usage plays, for every provider."""

from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias

from clocknext_core.usage.lookup import plain_name

Role: TypeAlias = Literal[
    "prompt", "output", "total", "cached", "written", "reasoning", "tools",  # token counts
    "prompt_details", "output_details", "billed", "tokens", "native",  # groups of counts
    "uncached",  # the prompt without its cached part
    "unit", "search", "unmeasured", "requests", "flagged", "other",  # what is no token count
]  # fmt: skip


class Name(NamedTuple):
    """What a name says about the count under it."""

    role: Role
    part: bool = False
    """Whether it counts one part of the role, such as one modality or one time to live: parts add up."""
    beside: bool = False
    """Whether its provider counts it beside the prompt (the output, for reasoning) and not inside."""
    never_in_total: bool = False
    """Whether its provider's total leaves it out, so that the total does not tell where it is."""
    short: bool = False
    """Whether it says its role only inside a usage: `input` may be a text anywhere else."""
    only_beside: str | None = None
    """A name without which it is no count."""
    never_beside: str | None = None
    """A name beside which it is no count."""


_PROMPT: Final = frozenset(
    {
        *("prompt_tokens", "input_tokens", "prompt_token_count", "input_token_count", "total_input_tokens"),
        *("total_prompt_tokens", "input_text_token_count", "input_text_tokens", "prompt_eval_count"),
        *("prompt_llm_token_count", "token_count_prompt", "tokens_prompt", "tokens_evaluated"),
        *("prompt_tokens_count", "request_tokens", "tokens_in", "tokens_input", "num_input_tokens"),
        *("num_prompt_tokens", "num_tokens_prompt_total", "input_token_len", "input_length"),
        *("input", "prompt", "input_count"),
    }
)
_OUTPUT: Final = frozenset(
    {
        *("completion_tokens", "output_tokens", "output_token_count", "completion_token_count"),
        *("candidates_token_count", "response_token_count", "generation_token_count"),
        *("generated_token_count", "generated_tokens", "generation_tokens", "eval_count"),
        *("total_output_tokens", "predicted_tokens_count", "tokens_generated", "generate_token_len"),
        *("total_completion_tokens", "output_text_tokens", "total_output_text_token_count"),
        *("completion_llm_token_count", "token_count_completion", "tokens_completion", "tokens_predicted"),
        *("response_tokens", "tokens_out", "num_output_tokens", "num_completion_tokens"),
        *("num_generated_tokens", "num_tokens_generated", "output", "completion", "output_count"),
        "candidates",
    }
)
_TOTAL: Final = frozenset(
    {
        *("total_tokens", "total_token_count", "total_llm_token_count", "token_count_total", "total"),
        "total_tokens_count",
    }
)
_UNCACHED: Final = frozenset(
    {
        *("uncached_input_tokens", "uncached_prompt_tokens", "prompt_cache_miss_tokens"),
        *("non_cached_input_tokens", "non_cached_prompt_tokens"),
    }
)
"""Anthropic's reports of usage, DeepSeek's, and Datadog's."""
_SHORT: Final = frozenset(
    {
        *("input", "prompt", "output", "completion", "total"),
        *("input_count", "output_count"),  # Coze's
        *("candidates", "tool"),  # the Gemini CLI's
        "input_length",  # of the server TGI
    }
)
_TOOLS: Final = frozenset({"tool_use_prompt_token_count", "total_tool_use_tokens", "connector_tokens"})
_PROMPT_DETAILS: Final = frozenset(
    {
        *("prompt_tokens_details", "prompt_token_details", "input_tokens_details", "input_token_details"),
        *("prompt_details", "input_details", "token_count_prompt_details"),
        "details",  # Pydantic AI's: what else the provider gave
    }
)
_OUTPUT_DETAILS: Final = frozenset(
    {
        *("completion_tokens_details", "completion_token_details", "output_tokens_details"),
        *("output_token_details", "completion_details", "output_details", "candidates_tokens_details"),
        *("response_tokens_details", "token_count_completion_details"),
    }
)
_OWN: Final = frozenset(
    {
        *("cache_read_input_tokens", "cache_creation_input_tokens", "cache_write_input_tokens"),
        *("cache_creation", "cache_details"),
    }
)
"""Anthropic's and Bedrock's names for the cache, which they count beside the input tokens."""
_NEVER_IN_TOTAL: Final = frozenset(
    {
        *(
            "cache_read_input_token_count",
            "cache_write_input_token_count",
            "cache_creation_input_token_count",
        ),
        "precached_prompt_tokens",  # GigaChat's, which counts and bills them beside the prompt
    }
)
_PARTS: Final = frozenset(
    {
        *("text", "audio", "image", "video", "document", "priority", "flex", "ephemeral", "5m", "1h"),
        *("5min", "1hr"),
    }
)
_IDLE: Final = frozenset(
    {
        *("cost", "costs", "price", "prices", "usd", "savings", "saved", "discount", "per", "rate", "ratio"),
        *("percent", "max", "limit", "budget", "duration", "latency", "ttl", "hash", "id", "key", "enabled"),
        *("hint", "time", "miss", "uncached", "bytes", "ms", "window", "context", "no", "non"),
    }
)
"""Words of names that are no count of tokens, whatever else they say."""
_READ: Final = frozenset({"read", "reads", "hit", "hits"})
_WRITE: Final = frozenset({"write", "writes", "written", "creation", "created", "storage", "stored"})
_REASONING: Final = frozenset({"reasoning", "thought", "thoughts", "thinking"})
_UNITS: Final = frozenset(
    {
        *("second", "seconds", "minute", "minutes", "page", "pages", "images", "character", "characters"),
        *("pixels", "megapixels", "classifications"),
    }
)
_FLAGGED: Final = frozenset({"cache", "caches", "audio", "image", "video", *_REASONING})


@lru_cache(maxsize=2048)
def role_of(name: str) -> Name:
    """Return what a name says, of the usage itself or of the details in it."""
    plain = plain_name(name)
    words = set(plain.split("_"))
    # OpenTelemetry says that its input tokens include the cached ones, under Anthropic's names.
    own = plain in _OWN and not name.startswith("gen_ai")
    exact = _EXACT.get(plain)
    if exact is not None:
        return exact._replace(short=True) if plain in _SHORT else exact
    if plain.startswith("native_tokens_"):  # OpenRouter's: what the provider billed, beside its own count
        return Name("native")
    if words & _IDLE:
        return Name("other")
    part = bool(words & _PARTS)
    about_cache = bool(words & {"cache", "cached"})
    if (about_cache and words & _WRITE) or "ephemeral" in words or plain == "cache_details":
        return Name("written", part, own, plain in _NEVER_IN_TOTAL)
    if {"cached", "precached"} & words or ("cache" in words and words & (_READ | {"details"})):
        return Name("cached", part, own, plain in _NEVER_IN_TOTAL)
    if words & _UNITS or plain == "image_count":
        return Name("unit")
    if words & _REASONING and not words & {"text", "audio", "details"}:
        # Gemini's thoughts are beside the candidates; providers that say reasoning count it in the output.
        return Name("reasoning", bool(words & {"priority", "flex"}), bool(words & {"thoughts", "thought"}))
    if words & {"search", "searches", "queries", "fetch"} or plain in {"citation_tokens", "num_sources_used"}:
        return Name("search")
    if words & {"unmeasured", "unreported", "running", "pending"}:
        return Name("unmeasured")
    return Name("flagged" if words & _FLAGGED else "other")


_EXACT: Final[dict[str, Name]] = {
    **dict.fromkeys(_PROMPT, Name("prompt")),
    **dict.fromkeys(_OUTPUT, Name("output")),
    **dict.fromkeys(_TOTAL, Name("total")),
    **dict.fromkeys(_TOOLS, Name("tools", beside=True)),
    # The Gemini CLI's. Codex has the first for a running total.
    "tool_token_count": Name("tools", beside=True, only_beside="cached_content_token_count"),
    "tool": Name("tools", beside=True, only_beside="thoughts"),
    # llama.cpp's cache holds the whole context, the answer included.
    "tokens_cached": Name("cached", never_beside="tokens_evaluated"),
    **dict.fromkeys(_UNCACHED, Name("uncached")),
    **dict.fromkeys(_PROMPT_DETAILS, Name("prompt_details")),
    **dict.fromkeys(_OUTPUT_DETAILS, Name("output_details")),
    "billed_units": Name("billed"),
    "tokens": Name("tokens"),
    "requests": Name("requests"),
    "server_tool_use": Name("search"),
    "server_side_tool_usage_details": Name("search"),
    "cache_tokens_details": Name("cached", part=True),
}
