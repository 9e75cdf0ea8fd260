"""Whether a response is final: counts of one that is not are too low, and look right."""

from collections.abc import Iterable
from typing import Final

from clocknext_core.usage.lookup import (
    fields_of,
    first,
    get,
    is_holder,
    items_of,
    may_have,
    names_of,
    opened,
    present,
)

_RUNNING: Final = frozenset(
    {
        *("in_progress", "queued", "running", "requires_action", "pending", "validating", "finalizing"),
        *("processing", "starting"),
    }
)
_FLAGS: Final = ("done", "stop", "is_end", "is_finished")
"""Flags of Ollama, llama.cpp, ERNIE and Cohere that are false while an answer goes on."""
_ENDS: Final = frozenset(
    {
        *("partial", "output", "message_id", "stop_reason", "completionReason", "delta", "finish_reason"),
        *("results", "alternatives", *_FLAGS),
    }
)
"""Names that say, besides choices, whether a response goes on."""
_CHOICES: Final = ("choices", "candidates", "Choices")
_ENDED: Final = frozenset({"native_finish_reason", "messages"})
"""Names of a choice that has ended although it gives no finish reason: OpenRouter sends the usage once, after
the chunk that stops, and Snowflake's function has none."""
_ANSWERING: Final = frozenset({"cached_tokens", "generated_tokens"})
"""What SGLang's `meta_info` and LoRAX's `details` have beside the reason why they ended."""
_UNFINISHED: Final = ("", "null", 0, "FINISH_REASON_UNSPECIFIED")


def is_running(response: object) -> bool:
    """Return whether a response has been taken on and not been worked on yet, as in the background."""
    return get(response, "status") in {"queued", "in_progress"}


def is_from_cache(response: object) -> bool:
    """Return whether a framework answered from its own cache: LangChain marks that with a cost of 0."""
    return get(get(response, "usage_metadata"), "total_cost") == 0


def why_unfinished(holders: Iterable[object]) -> str | None:
    """Return why a response is not final, or `None` if nothing says so.

    Args:
        holders: The response and the envelopes around its usage.
    """
    for holder in holders:
        reason = _of_one(holder)
        if reason is not None:
            return reason
    return None


def _of_one(holder: object) -> str | None:
    kind, status = get(holder, "type"), get(holder, "status")
    if kind == "message_start":
        return "it is the first event of a stream, whose output count has only begun"
    if isinstance(status, str) and status in _RUNNING:
        return f"its status is {status}"
    for name in present(holder, _CHOICES):
        for choice in items_of(get(holder, name)):
            if is_holder(choice) and _is_open(opened(choice)):
                return f"{name} has one without a finish reason"
    if not may_have(holder, _ENDS):
        return None
    for name in present(holder, _FLAGS):
        if get(holder, name) is False:
            return f"{name} is false"
    if any(get(each, "stop_reason") == "not_finished" for each in items_of(get(holder, "results"))):
        return "results has one that is not finished"  # watsonx
    if any("PARTIAL" in str(get(each, "status")) for each in items_of(get(holder, "alternatives"))):
        return "alternatives has one that is partial"  # Yandex
    if get(holder, "partial") is True:
        return "partial is true"
    output = get(holder, "output")  # DashScope's answer
    if get(output, "finish_reason") == "null" or any(map(_is_open, items_of(get(output, "choices")))):
        return "its output has no finish reason"
    names = fields_of(holder)
    if names.get("finish_reason", "") is None and not _ANSWERING.isdisjoint(names):
        return "finish_reason is null"
    if "content" in names and "message_id" in names and "usage" in names:
        return "it is a step of the Claude Agent SDK, whose counts are placeholders: give the ResultMessage"
    for reason, beside in (
        ("stop_reason", ("content", "generation")),
        ("completionReason", ("outputText",)),
    ):
        if reason in names and names[reason] is None and any(name in names for name in beside):
            return f"{reason} is null"
    if kind == "message_delta" and "stop_reason" in fields_of(delta := names.get("delta")):
        return "stop_reason is null" if get(delta, "stop_reason") is None else None
    return None


def _is_open(choice: object) -> bool:
    reason = first(choice, "finish_reason", "finishReason", "FinishReason")
    if reason is None:
        return not is_holder(choice) or _ENDED.isdisjoint(names_of(choice))
    return isinstance(reason, (str, int)) and reason in _UNFINISHED
