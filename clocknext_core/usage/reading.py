"""Reading a response: who answered, what it cost in tokens, and how the counts were found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from clocknext_core.errors import ValidationError, invalid
from clocknext_core.tokens import Tokens
from clocknext_core.usage.counts import IN_ANOTHER_UNIT, Counts, Field, Placement, read_counts
from clocknext_core.usage.finality import why_unfinished
from clocknext_core.usage.finding import (
    Found,
    model_of,
    provider_of,
    response_id_of,
    tier_of,
    unknown_usage,
    usages_in,
)
from clocknext_core.usage.lookup import describe, fields_of, first, get, is_holder, is_list, items_of
from clocknext_core.usage.parts import parts_of
from clocknext_core.usage.roles import role_of

NOTHING_ELSE: Final[Mapping[str, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a response of one request says."""

    tokens: Tokens
    """The counts to bill."""
    model: str | None = None
    """The model as the response names it, often dated; `None` where it names none (Cohere, Bedrock)."""
    response_id: str | None = None
    """The provider's id of the response; `None` where it has none."""
    provider: str | None = None
    """Who answered, where the response or its names tell, such as `openai` or `bedrock`."""
    is_final: bool = True
    """Whether the counts are final. `False` only for a stream that was broken off."""
    tier: str | None = None
    """The service tier as the response names it, such as `priority`; `batch` for a line of a batch."""
    other: Mapping[str, int] = field(default_factory=lambda: NOTHING_ELSE)
    """What has no count of its own in the API, or another price than its count: `cache_write_tokens`,
    `input_audio_tokens`, `web_search_requests` and so on."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a response is read."""

    reading: Reading | None
    """`None` where it can't be read."""
    error: str | None
    """Why it can't be read; `None` where it can."""
    fields: tuple[Field, ...]
    """The counts that were read: their places, their values and their roles."""
    reasons: tuple[str, ...]
    """Why the counts are what they are, a sentence each."""


def read(response: object) -> Reading:
    """Read what the response of one request says it used.

    Takes what a provider's SDK or API returned, as an object or a mapping; the last chunk of a stream; a
    line of a batch; the usage in any of these. No provider's package is imported.

    Raises:
        ValidationError: It has no usage, or usage that can't be billed: it is not final, counts another unit
        than
            tokens, has no prompt count, or has a field whose meaning the numbers do not tell. The message
            names the field and what to do, and shows no contents.
    """
    return _read(response)[0]


def read_so_far(response: object) -> Reading:
    """Read a response that need not be final, such as a chunk of a stream that goes on.

    Raises:
        ValidationError: As `read`, but for a response that is not final.
    """
    return _read(response, must_be_final=False)[0]


def explain(response: object) -> Explanation:
    """Read a response and say from which fields, and why."""
    try:
        reading, counts = _read(response)
    except ValidationError as error:
        return Explanation(None, error.message, (), ())
    return Explanation(reading, None, counts.fields, tuple(_reasons(reading, counts)))


def _read(response: object, *, must_be_final: bool = True) -> tuple[Reading, Counts]:
    if must_be_final:
        _check_one_request(response)
    found, counts = _counted(response)
    if found is None or counts is None:
        parts = [part for part, _ in parts_of(response)]
        if len(parts) == 1 and parts[0] is not response:
            return _read(parts[0], must_be_final=must_be_final)
        if parts:
            raise invalid("response", f"is the result of {len(parts)} requests: {_ALL}")
        raise _without_usage(response)
    unfinished = why_unfinished(found.holders)
    if must_be_final and unfinished is not None:
        raise _not_final(unfinished)
    if counts.total_alone and not _is_embedding(found):
        raise invalid(
            found.path,
            "has a total and no other count, as a count of tokens before a call has (count_tokens): "
            "give the response of the call itself",
        )
    if found.usage is response and not counts.total_alone and _is_bare_prompt(found, counts):
        raise invalid(
            "response",
            "has a prompt count and nothing else, as a count of tokens before a call has (count_tokens): "
            "give the response of the call itself",
        )
    response_id = response_id_of(found)
    reading = Reading(
        tokens=Tokens(input=counts.input, output=counts.output, cache=counts.cache),
        model=model_of(found),
        response_id=response_id,
        provider=provider_of(found, response_id),
        is_final=unfinished is None,
        tier=tier_of(found),
        other=counts.other or NOTHING_ELSE,
    )
    return reading, counts


def _counted(response: object) -> tuple[Found, Counts] | tuple[None, None]:
    """Find the nearest usage and read it; the provider's replaces a framework's where that says less."""
    usages = usages_in(response)
    found = next(usages, None)
    if found is None:
        return None, None
    counts = read_counts(found.usage, found.path)
    if counts.cache is None and not found.path.endswith(".usage"):
        # LangChain over Mistral and LiteLLM's logging object drop the cache from one usage and keep it in
        # another.
        for other in usages:
            try:
                more = read_counts(other.usage, other.path)
            except ValidationError:
                continue
            if more.cache is not None and _is_same(counts, more):
                return other._replace(holders=found.holders), more
    return found, counts


def _is_same(counts: Counts, more: Counts) -> bool:
    return (counts.input, counts.output) == (more.input + (more.cache or 0), more.output)


def _check_one_request(response: object) -> None:
    if is_list(response):
        raise invalid("response", f"is a list, not a response: {_ALL}")
    if get(response, "object") == "response.input_tokens":
        raise invalid("response", "is a count of tokens before a call: give the response of the call itself")
    history = items_of(
        first(response, "automatic_function_calling_history", "automaticFunctionCallingHistory")
    )
    if any(_has_call(content) for content in history):
        raise invalid(
            "response",
            "is the last of several requests that google-genai made (automatic function calling), and "
            "their usage is "
            "not in it: switch that off "
            "(automatic_function_calling=AutomaticFunctionCallingConfig(disable=True)) and "
            "record each response, or stream and record each",
        )
    called = items_of(get(response, "tool_calls"))
    if get(response, "current_agent_name") is not None and any(get(call, "tool_output") for call in called):
        raise invalid(
            "response",
            "is the last of several requests of a LlamaIndex agent, and their usage is not in it: record "
            "the raw response of each AgentOutput event of the run",
        )
    steps = [step for step in items_of(get(response, "steps")) if get(step, "usage") is not None]
    if len(steps) > 1 and first(response, "totalUsage", "token_usage") is None:
        raise invalid("response", f"is the result of {len(steps)} requests: {_ALL}")
    ended = get(get(response, "result"), "type")
    if get(response, "custom_id") is not None and isinstance(ended, str) and ended != "succeeded":
        raise invalid("response", "is a line of a batch that did not succeed, which costs nothing")
    if (
        get(response, "type") in ("response.failed", "error")
        and get(get(response, "response"), "usage") is None
    ):
        raise invalid("response", "is a failure without usage, which costs nothing")


def _has_call(content: object) -> bool:
    parts = items_of(get(content, "parts"))
    return any(first(part, "function_call", "functionCall") is not None for part in parts)


_ALL: Final = "give it to readings() or signals.from_result(), which record each request"


def _not_final(reason: str) -> ValidationError:
    return invalid(
        "response",
        f"is not final, {reason}; give the last chunk or the final message (Anthropic: get_final_message()), "
        "or meter the stream with signals.from_stream()",
    )


def _without_usage(response: object) -> ValidationError:
    unfinished = why_unfinished([response, *(get(response, name) for name in ("response", "message"))])
    if unfinished is not None:
        return _not_final(unfinished)
    unknown = unknown_usage(response)
    if unknown is not None:
        return invalid("response", f"has token usage of an unknown shape: {describe(unknown.usage)}")
    for holder in (response, get(response, "metadata")):
        for name in fields_of(holder) if is_holder(holder) else ():
            if role_of(name).role == "unit":
                return invalid(f"response.{name}", IN_ANOTHER_UNIT)
    names = fields_of(response) if is_holder(response) else {}
    if "stream" in names:
        hint = "It is a stream: meter it with signals.from_stream()"
    elif callable(get(response, "parse")):
        hint = "It is a raw response: give what its parse() returns"
    elif callable(get(response, "usage")):
        hint = f"It is a run: {_ALL}"
    else:
        hint = (
            "Of a stream, give the last chunk; OpenAI has to be asked for usage there, "
            'with stream_options={"include_usage": True}'
        )
    return invalid("response", f"has no token usage that is known: {describe(response)}. {hint}")


def _is_embedding(found: Found) -> bool:
    names = ("data", "embeddings", "embedding", "results")
    return any(get(holder, name) is not None for holder in found.holders for name in names)


def _is_bare_prompt(found: Found, counts: Counts) -> bool:
    named = {role_of(name).role for name in fields_of(found.usage)}
    return (
        {each.role for each in counts.fields} == {"prompt"}
        and "output" not in named
        and not _is_embedding(found)
    )


_INSIDE: Final = {
    "cached": ("the cached tokens are beside the prompt", "the cached tokens are inside the prompt"),
    "written": ("cache writes are beside the prompt", "cache writes are inside the prompt"),
    "reasoning": ("the reasoning tokens are beside the output", "the reasoning tokens are inside the output"),
    "tools": ("the tools' tokens are beside the prompt", "the tools' tokens are inside the prompt"),
}
_BECAUSE: Final = {
    "total": "the total adds up only so",
    "size": "they are more than the count they would be in",
    "names": "that is what the provider's names mean",
}


def _reasons(reading: Reading, counts: Counts) -> list[str]:
    placement: Placement = counts.placement
    roles = {each.role for each in counts.fields if each.value}
    said = [
        f"{beside if getattr(placement, role) else inside}: {_BECAUSE[placement.by]}"
        for role, (beside, inside) in _INSIDE.items()
        if role in roles
    ]
    if placement.unexplained:
        said.append(
            f"the total has {placement.unexplained} more than all counts: reasoning, added to the output"
        )
    if counts.total_alone:
        said.append("there is a total and no other count: of embeddings, it is the prompt")
    if counts.other.get("cache_write_tokens"):
        said.append("tokens written to the cache are billed as input; the premium on them is not billed")
    if reading.tokens.cache is None:
        said.append("no cached tokens: the response says nothing about a cache")
    return said
