"""Bedrock's answers: Converse and InvokeModel, in one piece or as an event stream."""

import base64
import json
import struct
import zlib
from typing import cast

from clocknext_transports.emulator.models import anthropic
from clocknext_transports.emulator.models.completion import Completion
from clocknext_transports.emulator.models.shapes import (
    Answered,
    Asked,
    Document,
    arguments_of,
    call_id,
    encoded,
)

_EVENT_STREAM = "application/vnd.amazon.eventstream"
_STRING = 7
_NAMES = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}


def converse(asked: Asked, completion: Completion) -> Answered:
    """Answer `/model/{id}/converse`."""
    calls = [
        {
            "toolUse": {
                "toolUseId": call_id("tooluse_", asked, number),
                "name": call.name,
                "input": dict(call.arguments),
            }
        }
        for number, call in enumerate(completion.tool_calls)
    ]
    content: Document = {
        "output": {"message": {"role": "assistant", "content": calls or [{"text": completion.text}]}},
        "stopReason": _stop(completion),
        "metrics": {"latencyMs": 1},
    }
    if completion.has_usage:
        content["usage"] = _usage(completion)
    return Answered(content, request_id=_request_id(asked, completion))


def converse_stream(asked: Asked, completion: Completion) -> Answered:
    """Answer `/model/{id}/converse-stream`."""
    events: list[tuple[str, Document]] = [("messageStart", {"role": "assistant"})]
    for index, (name, text) in enumerate(arguments_of(completion)):
        at: Document = {"contentBlockIndex": index}
        begun = {"toolUseId": call_id("tooluse_", asked, index), "name": name}
        events += [
            ("contentBlockStart", {**at, "start": {"toolUse": begun}}),
            ("contentBlockDelta", {**at, "delta": {"toolUse": {"input": text}}}),
            ("contentBlockStop", at),
        ]
    if not completion.tool_calls:
        at = {"contentBlockIndex": 0}
        events += [("contentBlockDelta", {**at, "delta": {"text": piece}}) for piece in completion.pieces]
        events.append(("contentBlockStop", at))
    events.append(("messageStop", {"stopReason": _stop(completion)}))
    ended: Document = {"metrics": {"latencyMs": 1}}
    if completion.has_usage:
        ended["usage"] = _usage(completion)
    events.append(("metadata", ended))
    return _stream(asked, completion, events)


def invoke(asked: Asked, completion: Completion) -> Answered:
    """Answer `/model/{id}/invoke` as Anthropic's models do."""
    answered = anthropic.messages(asked, completion)
    return Answered(answered.content, request_id=_request_id(asked, completion))


def invoke_stream(asked: Asked, completion: Completion) -> Answered:
    """Answer `/model/{id}/invoke-with-response-stream` as Anthropic's models do."""
    streaming = Asked(asked.model, {**asked.body, "stream": True}, asked.answer_id, asked.now)
    chunks = list[Document]()
    for sent in anthropic.messages(streaming, completion).events:
        data = cast("Document", json.loads(sent.partition(b"data: ")[2]))
        if data["type"] == "message_stop" and completion.has_usage:
            data["amazon-bedrock-invocationMetrics"] = {
                "inputTokenCount": completion.input_tokens - completion.cached_tokens,
                "outputTokenCount": completion.output_tokens,
                "cacheReadInputTokenCount": completion.cached_tokens,
            }
        chunks.append({"bytes": base64.b64encode(encoded(data).encode()).decode()})
    return _stream(asked, completion, [("chunk", chunk) for chunk in chunks])


def error(status: int, message: str) -> Document:
    """Return the body of an error."""
    return {"code": _NAMES.get(status, "InternalServerException"), "message": message}


def _stream(asked: Asked, completion: Completion, events: list[tuple[str, Document]]) -> Answered:
    sent = [_message(name, data) for name, data in events]
    return Answered(events=sent, content_type=_EVENT_STREAM, request_id=_request_id(asked, completion))


def _message(name: str, data: Document) -> bytes:
    """Encode an event: lengths, headers, payload, and a checksum of each."""
    named = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        struct.pack(f">B{len(key)}sBH", len(key), key.encode(), _STRING, len(value)) + value.encode()
        for key, value in named.items()
    )
    payload = encoded(data).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    framed = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return framed + struct.pack(">I", zlib.crc32(framed))


def _stop(completion: Completion) -> str:
    return "tool_use" if completion.tool_calls else "end_turn"


def _request_id(asked: Asked, completion: Completion) -> str:
    return completion.response_id or f"5b3f1c8a-0000-4000-8000-{asked.answer_id:0>12}"


def _usage(completion: Completion) -> Document:
    beside = completion.cached_tokens + completion.cache_write_tokens
    return {
        "inputTokens": completion.input_tokens - beside,
        "outputTokens": completion.output_tokens,
        "totalTokens": completion.input_tokens + completion.output_tokens,
        "cacheReadInputTokens": completion.cached_tokens,
        "cacheWriteInputTokens": completion.cache_write_tokens,
    }
