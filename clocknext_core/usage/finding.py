"""Finding the usage in a response, and with it the model, the id, the provider and the tier."""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from clocknext_core.checks import MAX_INT
from clocknext_core.usage.counts import COUNTED, is_number
from clocknext_core.usage.lookup import (
    fields_of,
    first,
    get,
    is_holder,
    items_of,
    known,
    may_have,
    names_of,
    opened,
    plain_name,
    text_of,
)
from clocknext_core.usage.roles import role_of

_USAGES: Final = (
    "totalUsage",  # the AI SDK's; `usage` is that of the last step alone
    "usage",
    "Usage",
    "usage_metadata",
    "usageMetadata",
    "token_usage",
    "tokenUsage",
    "usage_object",  # LiteLLM's logging object
    "usage_info",
    "usageInfo",
    "models_usage",  # AutoGen
    "accumulated_usage",  # Strands
    "accumulatedUsage",
    "last_token_usage",  # Codex; the total beside it is that of the session
    "token_count",
    "usage_details",  # Langfuse
    "usageDetails",
    "meta",  # Cohere's; Haystack's has the usage in it
    "metrics",  # Replicate
    "amazon-bedrock-invocationMetrics",
    "inference_status",  # DeepInfra
    "nativeUsage",  # Spring AI's: what the provider said
)
"""What usage is called."""

_ENVELOPES: Final = (
    "response",  # OpenAI's and Cohere's (v1) last stream events, and lines of batches
    "Response",
    "body",  # a line of OpenAI's batches
    "result",  # a line of Anthropic's batches
    "message",  # Anthropic's message_stop, as its helpers emit it
    "data",  # Mistral's stream events
    "delta",  # Cohere's (v2) message-end
    "metadata",  # Bedrock's last stream event
    "x_groq",  # Groq's last chunk
    "interaction",  # Gemini's interaction.completed event
    "raw",  # LlamaIndex
    "_raw_response",  # Instructor
    "raw_response",
    "response_metadata",  # LangChain
    "llm_output",
    "llmOutput",
    "meta_info",  # SGLang
    "stats",  # LM Studio
    "orchestration_result",  # SAP
    "final_result",
    "modelOutput",  # a line of Bedrock's batches
    "chat_response",  # OCI
    "chatResponse",
    "tokenMetadata",
    "payload",
    "info",
    "modelInvocationOutput",  # the trace of a Bedrock agent
    "additional_kwargs",  # LlamaIndex
    "details",  # LoRAX
    "ResponseMetadata",  # boto3
    "HTTPHeaders",
    "headers",
)
"""Where an event, a line of a batch or a framework's message keeps the response or its usage."""

_DEPTH: Final = 4
"""Three envelopes, and the usage in the last."""

_STARTS: Final = frozenset({"prompt", "output", "total", "billed", "native"})
"""Roles that show that a thing is a usage, whatever it is called."""
_NAMED: Final = frozenset({"unit", *COUNTED})
"""Roles that show it of a thing that is called one."""
_SHOWING: Final = _STARTS | _NAMED | {"tokens"}


class Found(NamedTuple):
    """A usage, and what it is in."""

    usage: object
    path: str
    holders: tuple[object, ...]
    """The response first, then each envelope; the last one holds the usage, or is the usage."""


class _Node(NamedTuple):
    value: object
    path: str
    above: tuple[object, ...]


def usages_in(response: object) -> Iterator[Found]:
    """Yield what counts tokens in a response, the nearest first."""
    level = [_Node(opened(response), "response", ())]
    for _ in range(_DEPTH):
        below: list[_Node] = []
        for node in level:
            holders = (*node.above, node.value)
            named = [
                _Node(value, f"{node.path}.{name}", holders) for name, value in known(node.value, _USAGES)
            ]
            for child in named:
                if has_counts(child.value, is_named=True):
                    yield Found(child.value, child.path, holders)
            if has_counts(node.value):
                yield Found(node.value, node.path, holders)
            below += named
            below += _enveloped(node, holders)
        level = below


def _enveloped(node: _Node, holders: tuple[object, ...]) -> Iterator[_Node]:
    for name, value in known(node.value, _ENVELOPES):
        yield _Node(value, f"{node.path}.{name}", holders)
    # Kimi's last chunk has the usage in its choice; watsonx has one result, Haystack one `meta` a reply.
    for name in ("choices", "results", "meta"):
        for inner in items_of(get(node.value, name))[:1]:
            if is_holder(inner):
                yield _Node(opened(inner), f"{node.path}.{name}[0]", holders)


def has_counts(value: object, *, is_named: bool = False) -> bool:
    """Return whether something has counts of tokens by its names; `is_named`: it is called a usage."""
    for name in names_of(value):
        meaning = role_of(name)
        role = meaning.role
        if role not in _SHOWING:
            continue
        inner = get(value, name)
        if meaning.short:
            shows = is_named and (is_number(inner) or is_holder(inner))
            shows = shows or (is_holder(inner) and first(inner, *_OF_LOG) is not None)
        elif role == "tokens":
            # Opencode's and the Gemini CLI's have short names in it.
            shows = has_counts(inner, is_named=True) if is_holder(inner) else is_named and inner is not None
        elif role in _STARTS:
            shows = is_named or not isinstance(inner, list)
        else:
            shows = is_named and inner is not None
        if shows:
            return True
    return False


_OF_LOG: Final = ("inputTokenCount", "outputTokenCount")
"""What Bedrock's log has in its `input` and `output`."""


def has_own_usage(response: object) -> bool:
    """Return whether the nearest usage is the response's own, and not that of something in it."""
    found = next(usages_in(response), None)
    return found is not None and len(found.holders) == 1


def has_usage(response: object) -> bool:
    """Return whether a response has a count that is not 0, or a usage that is not known."""
    found = next(usages_in(response), None)
    if found is None:
        return unknown_usage(response) is not None
    return any(value and role_of(name).role in COUNTED for name, value in fields_of(found.usage).items())


def is_reported(whole: object, chunks: Iterable[object]) -> bool:
    """Return whether each count of prompt and output in a whole is one that a chunk of its stream has."""
    found = next(usages_in(whole), None)
    usages = [usage for chunk in chunks if (usage := get(chunk, "usage")) is not None]
    return found is None or all(
        any(get(usage, name) == value for usage in usages)
        for name, value in fields_of(found.usage).items()
        if value is not None and role_of(name).role in {"prompt", "output"}
    )


def has_prompt_details(whole: object) -> bool:
    """Return whether a usage says what its prompt consists of, as a provider's does and an estimate's not."""
    found = next(usages_in(whole), None)
    return found is not None and any(
        value is not None and role_of(name).role == "prompt_details"
        for name, value in fields_of(found.usage).items()
    )


def unknown_usage(response: object) -> Found | None:
    """Find what is called a usage and has nothing in it that is known."""
    for name in _USAGES[1:13]:
        value = get(response, name)
        if value is not None and not callable(value):
            return Found(value, f"response.{name}", (response,))
    return None


MODEL_NAMES: Final = (
    # Pydantic AI has what was asked for as the id, and what answered as the name. watsonx and OCI have the
    # version of the model beside its id; Gemini's version is the name.
    *("model", "model_name", "modelName", "model_id", "modelId", "model_version", "modelVersion"),
    *("gen_ai.response.model", "gen_ai.request.model", "llm.model_name"),
)
"""What a field that names the model is called, the best first."""
_IDS: Final = (
    *("id", "response_id", "responseId", "provider_response_id", "gen_ai.response.id", "generation_id"),
    *("message_id", "request_id", "requestId", "RequestId"),
)


def nearest_first(found: Found) -> tuple[object, ...]:
    """List what may say who answered: the envelopes of a usage, and the responses beside them."""
    holders = tuple(reversed(found.holders))
    if not any(may_have(holder, _BESIDE) for holder in holders):
        return holders
    return tuple(_with_what_is_beside(found))


_BESIDE: Final = frozenset({"response_metadata", "response", "ResponseMetadata"})


def _with_what_is_beside(found: Found) -> Iterator[object]:
    for holder in reversed(found.holders):
        yield holder
        for name in ("response_metadata", "response", "ResponseMetadata"):
            beside = opened(get(holder, name))
            if is_holder(beside) and not any(beside is each for each in found.holders):
                yield beside


def model_of(found: Found, nearest: Iterable[object]) -> str | None:
    """Return which model answered, as the nearest envelope names it; `None` where none does."""
    for holder in nearest:
        model = text_of(holder, *MODEL_NAMES)
        if model is not None:
            return model
    router = get(get(found.holders[0], "trace"), "promptRouter")
    invoked = text_of(router, "invokedModelId")
    return None if invoked is None else invoked.rpartition("/")[2]


def response_id_of(nearest: Iterable[object]) -> str | None:
    """Return the id of the response, as the nearest envelope names it; `None` where none does."""
    made_up: str | None = None
    for holder in nearest:
        text = text_of(holder, *_IDS)
        # LangChain makes ids of its own for messages; the provider's is in the metadata.
        if text is not None and not text.startswith(("run-", "lc_")):
            return text
        made_up = made_up or text
    return made_up


def created_at_of(nearest: Iterable[object]) -> int | None:
    """Return when the response was made, as the nearest envelope says in seconds; `None` where none does."""
    for holder in nearest:
        created = get(holder, "created") or get(holder, "created_at")
        if isinstance(created, (int, float)) and 0 < created < MAX_INT:
            return int(created)
    return None


_PROVIDERS: Final = (
    *("provider_name", "model_provider", "custom_llm_provider", "provider"),
    *("gen_ai.provider.name", "gen_ai.system"),
)
_PROVIDER: Final = frozenset(_PROVIDERS)
_FAMILIES: Final = {
    "billed_units": "cohere",
    "prompt_eval_count": "ollama",
    "cache_read_input_tokens": "anthropic",
    "cache_creation_input_tokens": "anthropic",
    "candidates_token_count": "google",
    "thoughts_token_count": "google",
    "total_token_count": "google",
    "input_token_count": "bedrock",
    "input_text_token_count": "bedrock",
    "generation_token_count": "bedrock",
}
"""Names in a usage that one provider alone gives, or who speaks like it."""
_ID_PREFIXES: Final = {"chatcmpl-": "openai", "resp_": "openai", "msg_": "anthropic", "gen-": "openrouter"}


def provider_of(found: Found, nearest: Iterable[object], response_id: str | None) -> str | None:
    """Return who answered, where the response says so or its names do; `None` where neither tells."""
    for holder in nearest:
        provider = text_of(holder, *_PROVIDERS) if may_have(holder, _PROVIDER) else None
        if provider is not None:
            return provider
    if get(found.holders[-1], "stopReason") is not None:
        return "bedrock"
    if get(found.holders[-1], "type") == "message":
        return "anthropic"
    if get(found.usage, "predict_time") is not None:
        return "replicate"
    for name in names_of(found.usage):
        family = _FAMILIES.get(plain_name(name))
        if family is not None:
            return family
    return provider_of_id(response_id)


def provider_of_id(response_id: str | None) -> str | None:
    """Return whose ids begin like this one; `None` where that tells nothing."""
    if response_id is not None:
        for prefix, provider in _ID_PREFIXES.items():
            if response_id.startswith(prefix):
                return provider
    return None


_NOTHING: Final[dict[str, object]] = {}


def used_by_tools(nearest: Iterable[object]) -> dict[str, int]:
    """List what the tools of a response used, of models of their own: OpenAI's image tool, for one."""
    found: dict[str, int] = {}
    for holder in nearest:
        tools = get(holder, "tool_usage")
        if tools is None or not is_holder(tools):
            continue
        for tool, used in fields_of(tools).items():
            for name, count in (fields_of(used) if is_holder(used) else _NOTHING).items():
                if type(count) is int and count > 0 and role_of(name).role != "total":
                    found[f"{plain_name(tool)}_{plain_name(name)}"] = count
    return found


_LINE: Final = frozenset({"custom_id", "recordId", "key", "processed_time", "metadata"})
"""What a line of a batch has."""


def tier_of(found: Found, nearest: Iterable[object]) -> str | None:
    """Return the service tier, as the response names it; `batch` for a line of a batch."""
    root = found.holders[0]
    is_line = may_have(root, _LINE) and (
        first(root, "custom_id", "recordId") is not None
        or (
            get(root, "response") is not None  # Gemini's and Vertex's
            and (first(root, "key", "processed_time") or get(get(root, "metadata"), "key")) is not None
        )
    )
    if is_line or get(root, "object") == "batch":
        return "batch"
    if get(found.usage, "speed") == "fast":
        return "fast"
    for holder in (found.usage, *nearest):
        tier = first(holder, "service_tier", "serviceTier", "traffic_type", "trafficType")
        name = tier if tier is None or isinstance(tier, str) else text_of(tier, "type", "value")
        if name:
            return str(name)
    return None
