"""The model server: every provider's answer, in one piece and streamed, says the usage it was given."""

import base64
import json
import socket
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from clocknext_core import Tokens
from clocknext_transports.emulator import (
    Completion,
    ModelServer,
    ModelService,
    Received,
    ToolCall,
    model_server,
)
from tests.emulator.support import NOW, read_to_end

CACHED = Completion(
    "Hello there, world.", input_tokens=1200, cached_tokens=1000, output_tokens=340, reasoning_tokens=40
)
TOKENS = Tokens(input=200, output=340, cache=1000)
TOOLS = Completion(
    tool_calls=[ToolCall("weather", {"city": "Ulm"}), ToolCall("time")], input_tokens=7, output_tokens=3
)
CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
GEMINI = "/v1beta/models/gemini-2.5-flash:generateContent"
GEMINI_STREAM = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
TIMEOUT = 10.0

Event = dict[str, Any]


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with model_server() as running:
        yield running


def post(models: ModelServer, path: str, body: Mapping[str, object], status: int = 200) -> httpx.Response:
    answer = httpx.post(models.url + path, json=dict(body), timeout=TIMEOUT, trust_env=False)
    assert answer.status_code == status, answer.text
    return answer


def ask(models: ModelServer, path: str, completion: Completion | None = None, **body: object) -> Any:
    if completion is not None:
        models.script(completion)
    return post(models, path, {"model": "gpt-4o", **body}).json()


def stream(models: ModelServer, path: str, completion: Completion, **body: object) -> list[Event]:
    models.script(completion)
    answer = post(models, path, {"model": "gpt-4o", "stream": True, **body})
    assert answer.headers["content-type"] == "text/event-stream"
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    if path == CHAT:
        assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


# OpenAI


def test_a_chat_completion(models: ModelServer) -> None:
    answer = ask(models, CHAT, CACHED)
    assert (answer["model"], answer["object"]) == ("gpt-4o-2024-08-06", "chat.completion")
    (choice,) = answer["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello there, world.", "stop")
    assert answer["usage"]["total_tokens"] == 1540
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 40
    assert Tokens.from_usage(answer) == TOKENS


@pytest.mark.parametrize("path", ["/openai/deployments/mine/chat/completions", "/openai/v1/chat/completions"])
def test_a_chat_completion_of_azure(models: ModelServer, path: str) -> None:
    answer = ask(models, f"{path}?api-version=2024-10-21", CACHED)
    assert answer["model"] == "gpt-4o-2024-08-06"
    assert Tokens.from_usage(answer) == TOKENS
    assert [request.api for request in models.requests] == ["chat"]


def test_a_chat_stream_reports_usage_in_a_last_chunk_if_asked(models: ModelServer) -> None:
    chunks = stream(models, CHAT, CACHED, stream_options={"include_usage": True})
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks[:-1])
    assert text == "Hello there, world."
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert Tokens.from_usage(chunks[-1]) == TOKENS
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_a_chat_stream_reports_none_unless_asked(models: ModelServer) -> None:
    chunks = stream(models, CHAT, CACHED)
    assert all("usage" not in chunk and len(chunk["choices"]) == 1 for chunk in chunks)
    without = Completion(has_usage=False)
    silent = stream(models, CHAT, without, stream_options={"include_usage": True})
    assert all(chunk["usage"] is None for chunk in silent)


def test_a_chat_stream_may_begin_with_a_chunk_without_choices(models: ModelServer) -> None:
    chunks = stream(models, CHAT, Completion(has_empty_chunk=True))
    assert [len(chunk["choices"]) for chunk in chunks][:2] == [0, 1]


def test_tools_in_a_chat(models: ModelServer) -> None:
    (choice,) = ask(models, CHAT, TOOLS)["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert [call["function"] for call in choice["message"]["tool_calls"]] == [
        {"name": "weather", "arguments": '{"city":"Ulm"}'},
        {"name": "time", "arguments": "{}"},
    ]
    chunks = stream(models, CHAT, TOOLS)
    deltas = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert [delta["index"] for delta in deltas] == [0, 0, 1, 1]
    assert "".join(delta["function"]["arguments"] for delta in deltas[:2]) == '{"city":"Ulm"}'


def test_a_response(models: ModelServer) -> None:
    answer = ask(models, RESPONSES, CACHED)
    assert answer["output"][0]["content"][0]["text"] == "Hello there, world."
    assert Tokens.from_usage(answer) == TOKENS
    assert ask(models, RESPONSES, TOOLS)["output"][1]["name"] == "time"


def test_a_response_stream(models: ModelServer) -> None:
    for completion, delta in ((CACHED, "output_text"), (TOOLS, "function_call_arguments")):
        events = stream(models, RESPONSES, completion)
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.completed")
        assert events[0]["response"]["usage"] is None
        assert any(event["type"] == f"response.{delta}.delta" for event in events)
        whole = events[-1]["response"]
        assert whole["status"] == "completed"
        assert whole["usage"]["total_tokens"] == completion.input_tokens + completion.output_tokens


def test_a_response_in_the_background_is_read_later(models: ModelServer) -> None:
    queued = ask(models, RESPONSES, CACHED, background=True)
    assert (queued["status"], queued["usage"]) == ("queued", None)
    for _ in range(2):
        stored = httpx.get(f"{models.url}{RESPONSES}/{queued['id']}", trust_env=False).json()
        assert (stored["status"], Tokens.from_usage(stored)) == ("completed", TOKENS)
    assert httpx.get(f"{models.url}{RESPONSES}/resp_none", trust_env=False).status_code == 404
    assert len(models.requests) == 1


def test_embeddings(models: ModelServer) -> None:
    answer = ask(models, "/v1/embeddings", CACHED, input=["a", "b"])
    assert [row["index"] for row in answer["data"]] == [0, 1]
    assert answer["usage"] == {"prompt_tokens": 1200, "total_tokens": 1200}
    packed = ask(models, "/v1/embeddings", input="a", encoding_format="base64")["data"][0]["embedding"]
    values = struct.unpack("<8f", base64.b64decode(packed))
    assert list(values) == answer["data"][0]["embedding"]
    assert len(ask(models, "/v1/embeddings", input=[1, 2, 3])["data"]) == 1


# Anthropic and Gemini


def test_a_message_counts_cached_tokens_beside_the_input(models: ModelServer) -> None:
    completion = Completion(
        input_tokens=100, cached_tokens=60, cache_write_tokens=30, output_tokens=9, model="claude-x"
    )
    answer = ask(models, MESSAGES, completion)
    assert (answer["model"], answer["stop_reason"]) == ("claude-x", "end_turn")
    usage = answer["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (10, 60)
    assert (usage["cache_creation_input_tokens"], usage["output_tokens"]) == (30, 9)
    tools = ask(models, MESSAGES, TOOLS)
    assert [block["input"] for block in tools["content"]] == [{"city": "Ulm"}, {}]


def test_a_message_stream(models: ModelServer) -> None:
    events = stream(models, MESSAGES, CACHED)
    assert [event["type"] for event in events][:3] == ["message_start", "ping", "content_block_start"]
    text = "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")
    assert text == "Hello there, world."
    begun, ended = events[0]["message"]["usage"], events[-2]["usage"]
    assert Tokens.from_usage({**begun, **ended}) == TOKENS
    assert events[-1]["type"] == "message_stop"
    tools = stream(models, MESSAGES, TOOLS)
    deltas = [event["delta"] for event in tools if event["type"] == "content_block_delta"]
    assert [delta["partial_json"] for delta in deltas] == ['{"city":"Ulm"}', "{}"]


def test_content_of_gemini_counts_reasoning_beside_the_output(models: ModelServer) -> None:
    answer = ask(models, GEMINI, CACHED)
    usage = answer["usageMetadata"]
    assert (usage["candidatesTokenCount"], usage["thoughtsTokenCount"]) == (300, 40)
    assert (usage["promptTokenCount"], usage["totalTokenCount"]) == (1200, 1540)
    assert answer["modelVersion"] == "gemini-2.5-flash"
    assert Tokens.from_usage(answer) == TOKENS
    parts = ask(models, GEMINI, TOOLS)["candidates"][0]["content"]["parts"]
    assert parts[0] == {"functionCall": {"name": "weather", "args": {"city": "Ulm"}}}


def test_a_stream_of_gemini(models: ModelServer) -> None:
    chunks = stream(models, GEMINI_STREAM, CACHED)
    texts = [chunk["candidates"][0]["content"]["parts"][0]["text"] for chunk in chunks]
    assert "".join(texts) == "Hello there, world."
    assert "candidatesTokenCount" not in chunks[0]["usageMetadata"]
    assert Tokens.from_usage(chunks[-1]) == TOKENS
    models.script(CACHED)
    array = post(models, GEMINI_STREAM.partition("?")[0], {}).json()
    assert [chunk["candidates"] for chunk in array] == [chunk["candidates"] for chunk in chunks]


@pytest.mark.parametrize(
    ("path", "counted"),
    [
        ("/v1/messages/count_tokens", {"input_tokens": 10}),
        ("/v1beta/models/g:countTokens", {"totalTokens": 10}),
    ],
)
def test_counting_uses_no_model(models: ModelServer, path: str, counted: object) -> None:
    models.script(CACHED)
    assert ask(models, path) == counted
    assert (models.requests, models.pending) == ((), 1)


# Scripts and faults


def test_answers_come_in_order_and_then_the_default(models: ModelServer) -> None:
    models.script(Completion("one"), Completion("two"), times=2)
    texts = [ask(models, CHAT)["choices"][0]["message"]["content"] for _ in range(5)]
    assert texts == ["one", "two", "one", "two", "Hello."]
    first = models.requests[0]
    assert (first.api, first.model, first.streamed, first.status) == ("chat", "gpt-4o", False, 200)
    assert (first.answer.text, first.body["model"]) == ("one", "gpt-4o")


def test_names_and_ids_can_be_given(models: ModelServer) -> None:
    answers = [ask(models, CHAT, Completion(model="mine", response_id="same")) for _ in range(2)]
    assert [(answer["model"], answer["id"]) for answer in answers] == [("mine", "same")] * 2
    assert ask(models, CHAT)["id"] != ask(models, CHAT)["id"]


@pytest.mark.parametrize("path", [CHAT, RESPONSES, "/v1/embeddings", MESSAGES, GEMINI])
def test_an_error_has_the_providers_form(models: ModelServer, path: str) -> None:
    models.script(Completion(status=429, retry_after="7"))
    answer = post(models, path, {"model": "m"}, 429)
    assert answer.headers["retry-after"] == "7"
    error = answer.json()["error"]
    assert error["message"] == "Too Many Requests."
    assert error.get("type") == (None if path == GEMINI else "rate_limit_error")
    assert models.requests[0].status == 429
    assert post(models, path, {"model": "m"}).status_code == 200


@pytest.mark.parametrize("path", [CHAT, RESPONSES, "/v1/embeddings", MESSAGES, GEMINI])
def test_usage_can_be_left_out(models: ModelServer, path: str) -> None:
    answer = ask(models, path, Completion(has_usage=False))
    assert answer.get("usage") is None
    assert "usageMetadata" not in answer


def raw(models: ModelServer, path: str, body: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", models.port), timeout=TIMEOUT) as wire:
        head = f"POST {path} HTTP/1.1\r\nhost: h\r\ncontent-length: {len(body)}\r\n\r\n"
        wire.sendall(head.encode() + body)
        return read_to_end(wire)


def test_a_stream_that_is_cut_ends_after_so_many_events(models: ModelServer) -> None:
    models.script(Completion("a b c d", cut_after=2))
    answer = raw(models, CHAT, b'{"model": "m", "stream": true}')
    assert answer.count(b"data: ") == 2
    assert not answer.endswith(b"0\r\n\r\n")
    models.script(Completion("a b c d", cut_after=0))
    assert raw(models, CHAT, b'{"model": "m", "stream": true}').endswith(b"\r\n\r\n")


def test_an_answer_in_one_piece_is_cut_in_its_middle(models: ModelServer) -> None:
    models.script(Completion(cut_after=1))
    head, _, body = raw(models, CHAT, b'{"model": "m"}').partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
    assert 0 < len(body) < length


def test_a_slow_stream_comes_whole(models: ModelServer) -> None:
    chunks = stream(models, CHAT, Completion("a b", bytes_per_second=50_000, delay=0.01))
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("path", [CHAT, MESSAGES, GEMINI])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 50_000])
def test_what_is_no_request_is_refused_in_the_providers_form(path: str, body: bytes) -> None:
    response = ModelService().respond(Received("POST", path, {}, body), now=NOW).response
    assert response is not None
    assert response.status == 400
    assert json.loads(response.body)["error"]["message"] == "The body must be a JSON object."


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/nothing", 404),
        ("GET", CHAT, 404),
        ("DELETE", RESPONSES, 404),
        ("POST", "/v1beta/models/m:train", 404),
        ("POST", CHAT, 400),
        ("GET", "/v1/models", 200),
    ],
)
def test_other_requests(method: str, path: str, status: int) -> None:
    response = ModelService().respond(Received(method, path, {}, b"{}"), now=NOW).response
    assert response is not None
    assert response.status == status


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_tokens": -1},
        {"cached_tokens": 11},
        {"cached_tokens": 6, "cache_write_tokens": 5},
        {"reasoning_tokens": 6},
        {"status": 200},
        {"retry_after": "1\r\nx: y"},
        {"delay": float("nan")},
        {"delay": -1},
        {"bytes_per_second": 0},
        {"cut_after": -1},
    ],
)
def test_mistakes_raise_where_they_are_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Completion(**wrong)


@pytest.mark.parametrize("text", ["", " ", "a", " a  b ", "a\nb c"])
def test_the_pieces_of_a_text_are_the_text(text: str) -> None:
    pieces = Completion(text).pieces
    assert "".join(pieces) == text
    assert "" not in pieces


def test_bedrock_converses_with_cached_tokens_beside_the_input(models: ModelServer) -> None:
    models.script(Completion(input_tokens=12, cached_tokens=5, output_tokens=7), times=1)
    path = "/model/anthropic.claude-sonnet-4-20250514-v1%3A0/converse"
    answer = post(models, path, {"messages": []}).json()
    assert answer["usage"]["inputTokens"] == 7
    assert Tokens.from_usage(answer) == Tokens(input=7, output=7, cache=5)
    assert [(each.api, each.model) for each in models.requests] == [
        ("bedrock", "anthropic.claude-sonnet-4-20250514-v1:0")
    ]


def test_an_event_of_bedrock_has_its_lengths_and_checksums(models: ModelServer) -> None:
    models.script(Completion("Hello.", output_tokens=7))
    raw = httpx.post(f"{models.url}/model/m/converse-stream", json={}).content
    names, payload = list[str](), dict[str, Any]()
    while raw:
        total, headers = struct.unpack(">II", raw[:8])
        assert struct.unpack(">I", raw[8:12])[0] == zlib.crc32(raw[:8])
        assert struct.unpack(">I", raw[total - 4 : total])[0] == zlib.crc32(raw[: total - 4])
        payload = json.loads(raw[12 + headers : total - 4])
        names.append(raw[12 : 12 + headers].split(b":content-type")[0].partition(b"\x07")[2][2:-1].decode())
        raw = raw[total:]
    assert names == ["messageStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"]
    assert payload["usage"]["outputTokens"] == 7
