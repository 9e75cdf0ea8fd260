"""Gemini's answers: content, in one piece or as a stream, and embeddings."""

from typing import cast

from clocknext_transports.emulator.models.completion import Completion
from clocknext_transports.emulator.models.shapes import Answered, Asked, Document, encoded, event, streamed

_DIMENSIONS = 8
_NAMES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}


def content(asked: Asked, completion: Completion) -> Answered:
    """Answer `:generateContent`."""
    parts = _calls(completion) or [{"text": completion.text}]
    return Answered(_chunk(asked, completion, parts, is_last=True))


def stream(asked: Asked, completion: Completion) -> Answered:
    """Answer `:streamGenerateContent?alt=sse`."""
    return streamed([event(chunk) for chunk in _chunks(asked, completion)])


def array(asked: Asked, completion: Completion) -> Answered:
    """Answer `:streamGenerateContent` without `alt=sse`: one array, an element at a time."""
    chunks = [encoded(chunk) for chunk in _chunks(asked, completion)]
    events = [f"{'[' if number == 0 else ','}{chunk}\n".encode() for number, chunk in enumerate(chunks)]
    return Answered(events=[*events, b"]"])


def count_tokens(asked: Asked, completion: Completion) -> Answered:  # noqa: ARG001 - as all answer
    """Answer `:countTokens`."""
    return Answered({"totalTokens": completion.input_tokens})


def embeddings(asked: Asked, completion: Completion) -> Answered:  # noqa: ARG001 - as all answer
    """Answer `:batchEmbedContents`."""
    requests = asked.body.get("requests")
    count = len(cast("list[object]", requests)) if isinstance(requests, list) else 1
    return Answered({"embeddings": [{"values": [1.0, *[0.0] * (_DIMENSIONS - 1)]} for _ in range(count)]})


def error(status: int, message: str) -> Document:
    """Return the body of an error."""
    name = _NAMES.get(status, "UNAVAILABLE" if status == 503 else "INTERNAL")
    return {"error": {"code": status, "message": message, "status": name}}


def _chunks(asked: Asked, completion: Completion) -> list[Document]:
    calls = _calls(completion)
    texts: list[list[Document]] = [[{"text": piece}] for piece in completion.pieces or [""]]
    groups = [calls] if calls else texts
    last = len(groups) - 1
    return [_chunk(asked, completion, parts, is_last=number == last) for number, parts in enumerate(groups)]


def _calls(completion: Completion) -> list[Document]:
    return [
        {"functionCall": {"name": call.name, "args": dict(call.arguments)}} for call in completion.tool_calls
    ]


def _chunk(asked: Asked, completion: Completion, parts: list[Document], *, is_last: bool) -> Document:
    candidate: Document = {"content": {"role": "model", "parts": parts}, "index": 0}
    if is_last:
        candidate["finishReason"] = "STOP"
    made: Document = {
        "candidates": [candidate],
        "modelVersion": completion.model or asked.model,
        "responseId": completion.response_id or asked.answer_id,
    }
    if completion.has_usage:
        made["usageMetadata"] = _usage(completion, is_last=is_last)
    return made


def _usage(completion: Completion, *, is_last: bool) -> Document:
    usage: Document = {"promptTokenCount": completion.input_tokens}
    total = completion.input_tokens
    if is_last:
        usage["candidatesTokenCount"] = completion.output_tokens - completion.reasoning_tokens
        total += completion.output_tokens
        if completion.reasoning_tokens:
            usage["thoughtsTokenCount"] = completion.reasoning_tokens
    if completion.cached_tokens:
        usage["cachedContentTokenCount"] = completion.cached_tokens
    return {**usage, "totalTokenCount": total}
