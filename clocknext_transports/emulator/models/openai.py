"""OpenAI's answers: chat completions, responses and embeddings."""

import base64
import struct
from collections.abc import Mapping
from typing import Final, cast

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

DATED: Final[Mapping[str, str]] = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
}
"""Names of which OpenAI answers with the dated one."""
_DONE: Final = b"data: [DONE]\n\n"
_DIMENSIONS: Final = 8


def chat(asked: Asked, completion: Completion) -> Answered:
    """Answer `POST /v1/chat/completions`."""
    head: Document = {
        "id": completion.response_id or f"chatcmpl-{asked.answer_id}",
        "created": asked.created,
        "model": _model(asked, completion),
        "service_tier": "default",
        "system_fingerprint": "fp_emulator",
    }
    if asked.body.get("stream") is True:
        return _chat_stream(asked, completion, {**head, "object": "chat.completion.chunk"})
    calls = [
        {
            "id": call_id("call_", asked, number),
            "type": "function",
            "function": {"name": name, "arguments": text},
        }
        for number, (name, text) in enumerate(arguments_of(completion))
    ]
    message: Document = {
        "role": "assistant",
        "content": None if calls else completion.text,
        "refusal": None,
        "annotations": [],
        **({"tool_calls": calls} if calls else {}),
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(completion)}
    content = {**head, "object": "chat.completion", "choices": [choice]}
    if completion.has_usage:
        content["usage"] = _chat_usage(completion)
    return Answered(content)


def _chat_stream(asked: Asked, completion: Completion, head: Document) -> Answered:
    options = asked.body.get("stream_options")
    reports = isinstance(options, dict) and cast("Document", options).get("include_usage") is True
    usage: Document = {"usage": None} if reports else {}

    def chunk(delta: Document, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**head, "choices": [choice], **usage})

    events = list[bytes]()
    if completion.has_empty_chunk:
        events.append(event({**head, "id": "", "choices": [], "prompt_filter_results": [], **usage}))
    calls = arguments_of(completion)
    events.append(chunk({"role": "assistant", "content": None if calls else "", "refusal": None}))
    for number, (name, text) in enumerate(calls):
        first = {"index": number, "id": call_id("call_", asked, number), "type": "function"}
        events.append(chunk({"tool_calls": [{**first, "function": {"name": name, "arguments": ""}}]}))
        events.append(chunk({"tool_calls": [{"index": number, "function": {"arguments": text}}]}))
    if not calls:
        events += [chunk({"content": piece}) for piece in completion.pieces]
    events.append(chunk({}, _finish(completion)))
    if reports and completion.has_usage:
        events.append(event({**head, "choices": [], "usage": _chat_usage(completion)}))
    return streamed([*events, _DONE])


def responses(asked: Asked, completion: Completion) -> Answered:
    """Answer `POST /v1/responses`."""
    whole = response_of(asked, completion, status="completed")
    if asked.body.get("stream") is not True:
        if asked.body.get("background") is True:
            return Answered({**whole, "status": "queued", "output": [], "usage": None})
        return Answered(whole)
    begun: Document = {**whole, "status": "in_progress", "output": [], "usage": None}
    named: list[tuple[str, Document]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
    ]
    for index, item in enumerate(cast("list[Document]", whole["output"])):
        named += _item_events(index, item, completion)
    named.append(("response.completed", {"response": whole}))
    return streamed(
        [
            event({"type": name, "sequence_number": number, **data}, name)
            for number, (name, data) in enumerate(named)
        ]
    )


def response_of(asked: Asked, completion: Completion, *, status: str) -> Document:
    """Return a response as it is stored."""
    output = list[Document]()
    for number, (name, text) in enumerate(arguments_of(completion)):
        output.append(
            {
                "type": "function_call",
                "id": call_id("fc_", asked, number),
                "call_id": call_id("call_", asked, number),
                "name": name,
                "arguments": text,
                "status": "completed",
            }
        )
    if not output:
        part: Document = {"type": "output_text", "text": completion.text, "annotations": [], "logprobs": []}
        message = {"type": "message", "id": f"msg_{asked.answer_id}", "status": "completed"}
        output.append({**message, "role": "assistant", "content": [part]})
    return {
        "id": completion.response_id or f"resp_{asked.answer_id}",
        "object": "response",
        "created_at": asked.created,
        "status": status,
        "background": asked.body.get("background") is True,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": _model(asked, completion),
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": _responses_usage(completion) if completion.has_usage else None,
        "user": None,
    }


def _item_events(index: int, item: Document, completion: Completion) -> list[tuple[str, Document]]:
    at: Document = {"output_index": index}
    within: Document = {**at, "item_id": item["id"]}
    done = ("response.output_item.done", {**at, "item": item})
    if item["type"] == "function_call":
        begun = {**item, "arguments": "", "status": "in_progress"}
        return [
            ("response.output_item.added", {**at, "item": begun}),
            ("response.function_call_arguments.delta", {**within, "delta": item["arguments"]}),
            ("response.function_call_arguments.done", {**within, "arguments": item["arguments"]}),
            done,
        ]
    (part,) = cast("list[Document]", item["content"])
    within["content_index"] = 0
    text: Document = {**within, "logprobs": []}
    return [
        ("response.output_item.added", {**at, "item": {**item, "status": "in_progress", "content": []}}),
        ("response.content_part.added", {**within, "part": {**part, "text": ""}}),
        *(("response.output_text.delta", {**text, "delta": piece}) for piece in completion.pieces),
        ("response.output_text.done", {**text, "text": completion.text}),
        ("response.content_part.done", {**within, "part": part}),
        done,
    ]


def embeddings(asked: Asked, completion: Completion) -> Answered:
    """Answer `POST /v1/embeddings`."""
    given = asked.body.get("input", "")
    count = 1
    if isinstance(given, list):
        items = cast("list[object]", given)
        count = 1 if items and isinstance(items[0], int) else len(items)
    vector = [1.0, *[0.0] * (_DIMENSIONS - 1)]
    shown: object = vector
    if asked.body.get("encoding_format") == "base64":
        shown = base64.b64encode(struct.pack(f"<{_DIMENSIONS}f", *vector)).decode()
    rows = [{"object": "embedding", "index": index, "embedding": shown} for index in range(count)]
    content: Document = {"object": "list", "data": rows, "model": _model(asked, completion)}
    if completion.has_usage:
        content["usage"] = {
            "prompt_tokens": completion.input_tokens,
            "total_tokens": completion.input_tokens,
        }
    return Answered(content)


def error(status: int, message: str) -> Document:
    """Return the body of an error."""
    kinds = {400: "invalid_request_error", 401: "invalid_request_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _model(asked: Asked, completion: Completion) -> str:
    return completion.model or DATED.get(asked.model, asked.model)


def _finish(completion: Completion) -> str:
    return "tool_calls" if completion.tool_calls else "stop"


def _chat_usage(completion: Completion) -> Document:
    return {
        "prompt_tokens": completion.input_tokens,
        "completion_tokens": completion.output_tokens,
        "total_tokens": completion.input_tokens + completion.output_tokens,
        "prompt_tokens_details": {"cached_tokens": completion.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": completion.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _responses_usage(completion: Completion) -> Document:
    return {
        "input_tokens": completion.input_tokens,
        "input_tokens_details": {"cached_tokens": completion.cached_tokens},
        "output_tokens": completion.output_tokens,
        "output_tokens_details": {"reasoning_tokens": completion.reasoning_tokens},
        "total_tokens": completion.input_tokens + completion.output_tokens,
    }
