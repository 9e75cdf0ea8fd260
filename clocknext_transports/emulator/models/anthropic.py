"""Anthropic's answers: messages."""

from clocknext_transports.emulator.models.completion import Completion
from clocknext_transports.emulator.models.shapes import (
    Answered,
    Asked,
    Document,
    arguments_of,
    call_id,
    event,
    streamed,
)


def messages(asked: Asked, completion: Completion) -> Answered:
    """Answer `POST /v1/messages`."""
    stop = "tool_use" if completion.tool_calls else "end_turn"
    head: Document = {
        "id": completion.response_id or f"msg_{asked.answer_id}",
        "type": "message",
        "role": "assistant",
        "model": completion.model or asked.model,
    }
    blocks: list[Document] = [
        {
            "type": "tool_use",
            "id": call_id("toolu_", asked, number),
            "name": call.name,
            "input": dict(call.arguments),
        }
        for number, call in enumerate(completion.tool_calls)
    ] or [{"type": "text", "text": completion.text}]
    if asked.body.get("stream") is not True:
        content = {**head, "content": blocks, "stop_reason": stop, "stop_sequence": None}
        if completion.has_usage:
            content["usage"] = _usage(completion, completion.output_tokens)
        return Answered(content)
    begun: Document = {**head, "content": [], "stop_reason": None, "stop_sequence": None}
    ended: Document = {"delta": {"stop_reason": stop, "stop_sequence": None}}
    if completion.has_usage:
        begun["usage"] = _usage(completion, 1)
        ended["usage"] = {"output_tokens": completion.output_tokens}
    named: list[tuple[str, Document]] = [("message_start", {"message": begun}), ("ping", {})]
    for index, block in enumerate(blocks):
        named += _block_events(index, block, completion)
    named += [("message_delta", ended), ("message_stop", {})]
    return streamed([event({"type": name, **data}, name) for name, data in named])


def count_tokens(asked: Asked, completion: Completion) -> Answered:  # noqa: ARG001 - as all answer
    """Answer `POST /v1/messages/count_tokens`."""
    return Answered({"input_tokens": completion.input_tokens})


def error(status: int, message: str) -> Document:
    """Return the body of an error."""
    kinds = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}
    kinds |= {429: "rate_limit_error", 529: "overloaded_error"}
    kind = kinds.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def _block_events(index: int, block: Document, completion: Completion) -> list[tuple[str, Document]]:
    at: Document = {"index": index}
    if block["type"] == "tool_use":
        begun: Document = {**block, "input": {}}
        text = arguments_of(completion)[index][1]
        deltas: list[Document] = [{"type": "input_json_delta", "partial_json": text}]
    else:
        begun = {**block, "text": ""}
        deltas = [{"type": "text_delta", "text": piece} for piece in completion.pieces]
    return [
        ("content_block_start", {**at, "content_block": begun}),
        *(("content_block_delta", {**at, "delta": delta}) for delta in deltas),
        ("content_block_stop", at),
    ]


def _usage(completion: Completion, output_tokens: int) -> Document:
    return {
        "input_tokens": completion.input_tokens - completion.cached_tokens - completion.cache_write_tokens,
        "cache_creation_input_tokens": completion.cache_write_tokens,
        "cache_read_input_tokens": completion.cached_tokens,
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }
