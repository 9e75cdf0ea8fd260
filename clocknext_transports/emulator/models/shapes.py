"""What the answers of all providers are made of: a request, a reply, and the events of a stream."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from clocknext_transports.emulator.models.completion import Completion

Document: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to a model, parsed."""

    model: str
    body: Mapping[str, object]
    answer_id: str
    """A new id, without a prefix."""
    now: float
    """Wall clock, seconds since 1970."""

    @property
    def created(self) -> int:
        """The time, whole seconds since 1970."""
        return int(self.now)


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a request: a document, or the events of a stream."""

    content: Document | None = None
    events: Sequence[bytes] = ()
    content_type: str = "application/json"
    request_id: str | None = None
    """The id of the request, which is all that Bedrock has: sent as a header."""


def event(data: object, name: str | None = None) -> bytes:
    """Encode one server-sent event."""
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {encoded(data)}\n\n".encode()


def encoded(data: object) -> str:
    """Encode a value as compact JSON."""
    return json.dumps(data, separators=(",", ":"))


def streamed(events: Sequence[bytes]) -> Answered:
    """Return the answer that consists of server-sent events."""
    return Answered(events=events, content_type="text/event-stream")


def call_id(prefix: str, asked: Asked, number: int) -> str:
    """Return the id of a tool call."""
    return f"{prefix}{asked.answer_id}{number}"


def arguments_of(completion: Completion) -> list[tuple[str, str]]:
    """Return the tool calls of an answer as names and encoded arguments."""
    return [(call.name, encoded(dict(call.arguments))) for call in completion.tool_calls]
