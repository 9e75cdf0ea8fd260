"""The counts of one response, and why a response can't be billed."""

from typing import Final, NamedTuple

from clocknext_core.errors import ValidationError, invalid
from clocknext_core.usage.beside import read_all
from clocknext_core.usage.counts import IN_ANOTHER_UNIT, Counts
from clocknext_core.usage.finality import why_unfinished
from clocknext_core.usage.finding import Found, has_counts, has_own_usage, unknown_usage, usages_in
from clocknext_core.usage.lookup import (
    check_awaited,
    describe,
    fields_of,
    first,
    get,
    is_holder,
    is_http,
    is_list,
    items_of,
    may_have,
    opened,
)
from clocknext_core.usage.parts import parts_of
from clocknext_core.usage.roles import role_of


class Counted(NamedTuple):
    """The usage of one request."""

    found: Found
    """Where it stands."""
    counts: Counts
    is_final: bool
    model: str | None = None
    """The model, where a framework names it beside the usage."""


def count_tokens(response: object, *, must_be_final: bool = True) -> Counted:
    """Find the usage of one request in what a model returned, and read its counts.

    Raises:
        ValidationError: As `reading.read`; where `must_be_final` is false, not for a response that goes on.
    """
    inside = opened(response)
    if must_be_final:
        _check_one_request(inside)
    found, counts = _counted(inside)
    if found is None or counts is None:
        check_awaited("response", response)
        parts = parts_of(response)
        if len(parts) == 1 and parts[0].value is not response:
            counted = count_tokens(parts[0].value, must_be_final=must_be_final)
            return counted if parts[0].model is None else counted._replace(model=parts[0].model)
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
    is_bare = found.usage is inside or found.path.endswith(".details")
    if is_bare and not counts.total_alone and _is_bare_prompt(found, counts):
        raise invalid(
            "response",
            "has a prompt count and nothing else, as a count of tokens before a call has (count_tokens): "
            "give the response of the call itself",
        )
    return Counted(found, counts, unfinished is None)


def _counted(response: object) -> tuple[Found, Counts] | tuple[None, None]:
    """Find the nearest usage and read it."""
    usages = usages_in(response)
    found = next(usages, None)
    if found is None:
        return None, None
    return read_all(found, usages)


def _check_one_request(response: object) -> None:
    if is_list(response):
        raise invalid("response", f"is a list, not a response: {_ALL}")
    if get(response, "object") == "response.input_tokens":
        raise invalid("response", "is a count of tokens before a call: give the response of the call itself")
    if not may_have(response, _TELLING):
        return
    history = items_of(
        first(response, "automatic_function_calling_history", "automaticFunctionCallingHistory")
    )
    if any(_has_call(content) for content in history):
        raise invalid(
            "response",
            "is the last of several requests that google-genai made (automatic function calling), and their "
            "usage is not in it: switch that off "
            "(automatic_function_calling=AutomaticFunctionCallingConfig(disable=True)) and record each "
            "response, or stream and record each",
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
    of_bucket = [each for each in items_of(get(response, "results")) if has_counts(each)]
    # A report of usage, by model or by project.
    if len(of_bucket) > 1 and not has_own_usage(response):
        raise invalid("response", f"is the result of {len(of_bucket)} requests: {_ALL}")
    ended = get(get(response, "result"), "type")
    if get(response, "custom_id") is not None and isinstance(ended, str) and ended != "succeeded":
        raise invalid("response", "is a line of a batch that did not succeed, which costs nothing")
    if (
        get(response, "type") in ("response.failed", "error")
        and get(get(response, "response"), "usage") is None
    ):
        raise invalid("response", "is a failure without usage, which costs nothing")


_TELLING: Final = frozenset(
    {
        *("automatic_function_calling_history", "automaticFunctionCallingHistory", "current_agent_name"),
        *("steps", "results", "custom_id", "type"),
    }
)
"""Names of what may be of several requests, or of none that costs anything."""


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
    for path, holder in (("response", response), ("response.metadata", get(response, "metadata"))):
        for name in fields_of(holder) if is_holder(holder) else ():
            if role_of(name).role == "unit":
                return invalid(f"{path}.{name}", IN_ANOTHER_UNIT)
    names = fields_of(response) if is_holder(response) else {}
    if isinstance(response, (str, bytes, bytearray)):
        hint = "It is text: give what json.loads() makes of it"
    elif is_holder(names.get("error")):
        hint = "It is an error of the provider's, which costs nothing"
    elif callable(get(response, "parse")):
        hint = "It is a raw response: give what its parse() returns"
    elif is_http(response):
        hint = "It is the response of an HTTP client: give what its json() returns"
    elif "stream" in names or hasattr(response, "__next__") or hasattr(response, "__anext__"):
        hint = "It is a stream: meter it with signals.from_stream()"
    elif callable(get(response, "usage")):
        hint = f"It is a run: {_ALL}"
    else:
        hint = (
            "Of a stream, give the last chunk; OpenAI has to be asked for usage there, "
            'with stream_options={"include_usage": True}'
        )
    return invalid("response", f"has no token usage that is known: {describe(response)}. {hint}")


def _is_embedding(found: Found) -> bool:
    holders = [inner for outer in found.holders for inner in (outer, get(outer, "output"))]  # DashScope's
    return any(
        is_list(data := get(holder, "data"))
        or first(data, "embeddings", "embedding") is not None
        or first(holder, "embeddings", "embedding") is not None
        or _are_ranks(get(holder, "results"))
        for holder in holders
    )


def _are_ranks(results: object) -> bool:
    return is_list(results) and all(get(result, "generated_text") is None for result in results)


def _is_bare_prompt(found: Found, counts: Counts) -> bool:
    named = {role_of(name).role for name in fields_of(found.usage)}
    return (
        {each.role for each in counts.fields} == {"prompt"}
        and "output" not in named
        and not _is_embedding(found)
    )
