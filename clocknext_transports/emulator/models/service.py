"""The model server's responder: which provider's call a request is, and the scripted answer to it. Pure."""

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from secrets import token_hex
from threading import RLock
from typing import Literal, TypeAlias, cast
from urllib.parse import unquote

from clocknext_core.messages import Header, Response
from clocknext_transports.emulator.api.exchange import Received, Reply
from clocknext_transports.emulator.books.checks import check_members
from clocknext_transports.emulator.books.envelopes import phrase, plain_response
from clocknext_transports.emulator.books.validation import parse_json
from clocknext_transports.emulator.models import anthropic, bedrock, gemini, openai
from clocknext_transports.emulator.models.completion import Completion
from clocknext_transports.emulator.models.shapes import Answered, Asked, Document, encoded

Api: TypeAlias = Literal["chat", "responses", "embeddings", "messages", "gemini", "bedrock", "other"]
"""The kind of call: OpenAI's three, Anthropic's messages, Gemini's, Bedrock's, or one that uses no model."""
_Handler: TypeAlias = Callable[[Asked, Completion], Answered]
_Error: TypeAlias = Callable[[int, str], Document]

_AZURE = re.compile(r"^/openai(?:/v1)?(?:/deployments/[^/]+)?(?=/)")
_GEMINI = re.compile(r"/v1(?:beta|alpha)?/models/([^/:]+):(\w+)")
_BEDROCK = re.compile(r"/model/(.+)/([a-z-]+)")
_STORED = re.compile(r"/v1/responses/([^/]+)")
_POSTS: Mapping[str, tuple[Api, _Handler, _Error]] = {
    "/v1/chat/completions": ("chat", openai.chat, openai.error),
    "/v1/responses": ("responses", openai.responses, openai.error),
    "/v1/embeddings": ("embeddings", openai.embeddings, openai.error),
    "/v1/messages": ("messages", anthropic.messages, anthropic.error),
    "/v1/messages/count_tokens": ("other", anthropic.count_tokens, anthropic.error),
}
_OF_GEMINI: Mapping[str, tuple[Api, _Handler]] = {
    "generateContent": ("gemini", gemini.content),
    "streamGenerateContent": ("gemini", gemini.array),
    "countTokens": ("other", gemini.count_tokens),
    "batchEmbedContents": ("embeddings", gemini.embeddings),
    "embedContent": ("embeddings", gemini.embeddings),
}
_OF_BEDROCK: Mapping[str, _Handler] = {
    "converse": bedrock.converse,
    "converse-stream": bedrock.converse_stream,
    "invoke": bedrock.invoke,
    "invoke-with-response-stream": bedrock.invoke_stream,
}
_MAX_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One request to the model server."""

    api: Api
    model: str
    """The model as the request names it; empty without one."""
    body: Mapping[str, object] = field(repr=False)
    streamed: bool
    answer: Completion
    status: int
    """The status of the answer."""


class ModelService:
    """Answer the requests of the providers' SDKs, each with the next scripted answer.

    Any API key is let in. Requests that use no model, such as for a stored response, take no scripted answer.
    """

    def __init__(self) -> None:
        self._guard = RLock()
        self._script: deque[Completion] = deque()
        self._requests: deque[ModelRequest] = deque(maxlen=_MAX_KEPT)
        self._stored: dict[str, Document] = {}

    def script(self, *completions: Completion, times: int = 1) -> None:
        """Give the next requests these answers, in order; later ones get `Completion()`.

        Args:
            completions: The answers.
            times: The number of times to go through them.

        Raises:
            ValueError: One is no `Completion`.
        """
        check_members("The answers of a model server", completions, Completion)
        with self._guard:
            self._script.extend(completions * times)

    @property
    def requests(self) -> tuple[ModelRequest, ...]:
        """The latest 10,000 requests that use a model, oldest first."""
        with self._guard:
            return tuple(self._requests)

    @property
    def pending(self) -> int:
        """The number of scripted answers still to come."""
        with self._guard:
            return len(self._script)

    def respond(self, request: Received, *, now: float) -> Reply:
        """Answer a request that arrived at `now` (wall clock, seconds since 1970)."""
        with self._guard:
            return self._respond(request, now=now)

    def _respond(self, request: Received, *, now: float) -> Reply:
        path = _AZURE.sub("/v1", unquote(request.path), count=1)
        if request.method == "GET":
            return self._read(path, now=now)
        found = _find(path, request.target)
        if request.method != "POST" or found is None:
            return _plain(404, openai.error(404, f"Unknown request: {request.method} {path}"), now=now)
        api, handler, error, named = found
        try:
            body = parse_json(request.body.decode())
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return _plain(400, error(400, "The body must be a JSON object."), now=now)
        fields = cast("Document", body)
        model = named or str(fields.get("model", ""))
        if not model:
            return _plain(400, error(400, "model is required."), now=now)
        asked = Asked(model, fields, token_hex(6), now)
        if api == "other":
            return _reply(handler(asked, Completion()), Completion(), now=now)
        completion = self._script.popleft() if self._script else Completion()
        if completion.status is not None:
            self._note(api, asked, completion, completion.status, streamed=False)
            return _failure(completion, error, now=now)
        answered = handler(asked, completion)
        if api == "responses":
            self._store(openai.response_of(asked, completion, status="completed"))
        self._note(api, asked, completion, 200, streamed=bool(answered.events))
        return _reply(answered, completion, now=now)

    def _note(self, api: Api, asked: Asked, completion: Completion, status: int, *, streamed: bool) -> None:
        self._requests.append(ModelRequest(api, asked.model, asked.body, streamed, completion, status))

    def _store(self, response: Document) -> None:
        self._stored[str(response["id"])] = response
        if len(self._stored) > _MAX_KEPT:
            del self._stored[next(iter(self._stored))]

    def _read(self, path: str, *, now: float) -> Reply:
        if path == "/v1/models":
            rows = [
                {"id": name, "object": "model", "created": 0, "owned_by": "emulator"} for name in openai.DATED
            ]
            return _plain(200, {"object": "list", "data": rows}, now=now)
        found = _STORED.fullmatch(path)
        stored = None if found is None else self._stored.get(found[1])
        if stored is None:
            return _plain(404, openai.error(404, f"There is no {path}."), now=now)
        return _plain(200, stored, now=now)


def _find(path: str, target: str) -> tuple[Api, _Handler, _Error, str] | None:
    if path in _POSTS:
        return (*_POSTS[path], "")
    named = _BEDROCK.fullmatch(path)
    if named is not None and named[2] in _OF_BEDROCK:
        return "bedrock", _OF_BEDROCK[named[2]], bedrock.error, named[1]
    named = _GEMINI.fullmatch(path)
    if named is None or named[2] not in _OF_GEMINI:
        return None
    api, handler = _OF_GEMINI[named[2]]
    if handler is gemini.array and "alt=sse" in target.partition("?")[2]:
        handler = gemini.stream
    return api, handler, gemini.error, named[1]


def _plain(status: int, content: Document, *, now: float, headers: tuple[Header, ...] = ()) -> Reply:
    body = encoded(content).encode()
    return Reply(plain_response(status, "application/json", body, now=now, headers=headers))


def _failure(completion: Completion, error: _Error, *, now: float) -> Reply:
    status = completion.status or 500
    headers = () if completion.retry_after is None else (("retry-after", completion.retry_after),)
    failed = _plain(status, error(status, phrase(status)), now=now, headers=headers)
    return Reply(failed.response, delay=completion.delay)


def _reply(answered: Answered, completion: Completion, *, now: float) -> Reply:
    rate = completion.bytes_per_second
    is_cut = completion.cut_after is not None
    headers = () if answered.request_id is None else (("x-amzn-requestid", answered.request_id),)
    if answered.content is not None:
        body = encoded(answered.content).encode()
        response = plain_response(200, answered.content_type, body, now=now, headers=headers)
        return Reply(
            response,
            delay=completion.delay,
            bytes_per_second=rate,
            cut=is_cut,
            ending="close" if is_cut else "keep",
        )
    head = plain_response(200, answered.content_type, b"", now=now, headers=headers)
    events = list(answered.events)[: completion.cut_after]
    raw = _head(head) + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in events)
    return Reply(
        raw=raw if is_cut else raw + b"0\r\n\r\n",
        delay=completion.delay,
        bytes_per_second=rate,
        ending="close" if is_cut else "keep",
    )


def _head(response: Response) -> bytes:
    """Return the head of a stream: its body is chunked, an event a chunk."""
    lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in response.headers)]
    return "\r\n".join([*lines, "transfer-encoding: chunked", "", ""]).encode()
