"""The two envelopes of ClockNext's answers, and the refusals they carry.

Signals, and paths and methods that do not exist, are answered in the new one: `{statusCode, statusDetail,
result}`. All other calls are answered in the legacy one: `{ok, …}`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from enum import Enum
from functools import lru_cache
from http import HTTPStatus

from clocknext_core.messages import Header, Response

SUCCESS_MESSAGE = "Request processed successfully."


class Envelope(Enum):
    """The envelope an answer is wrapped in."""

    NEW = "new"
    LEGACY = "legacy"


@dataclass(frozen=True, slots=True)
class Issue:
    """One invalid field of a body."""

    field: str
    message: str

    def as_json(self) -> dict[str, object]:
        """Return the issue as the new envelope shows it."""
        return {"field": self.field, "message": self.message}


class Refusal(Exception):  # noqa: N818 - an answer like any other, not an error of the emulator
    """A request that the server refuses.

    Args:
        status: HTTP status, 4xx or 5xx.
        message: Plain English. Default: the issues, one after the other.
        reason: The stable word sent as `errorReason`; only the new envelope carries it.
        issues: The invalid fields; only the new envelope lists them.
    """

    def __init__(
        self,
        status: int,
        message: str | None = None,
        *,
        reason: str | None = None,
        issues: Sequence[Issue] = (),
    ) -> None:
        self.status = status
        self.message: str = message or "; ".join(f"{issue.field}: {issue.message}" for issue in issues)
        self.reason = reason
        self.issues: tuple[Issue, ...] = tuple(issues)
        super().__init__(self.message)

    @property
    def result(self) -> dict[str, object]:
        """The `result` of the new envelope: the reason and the issues, where there are any."""
        result: dict[str, object] = {}
        if self.reason:
            result["errorReason"] = self.reason
        if self.issues:
            result["issues"] = [issue.as_json() for issue in self.issues]
        return result


@dataclass(frozen=True, slots=True)
class Payload:
    """The content of a resource's answer, before it is wrapped."""

    content: Mapping[str, object]
    status: int = 200
    message: str = SUCCESS_MESSAGE
    """Sent in the new envelope only."""


def envelope_for(method: str, path: str) -> Envelope:
    """Return the envelope that the real server uses for a call it knows."""
    return Envelope.NEW if method == "POST" and path == "/api/v1/usage" else Envelope.LEGACY


def timestamp(at: float) -> str:
    """Format a wall-clock time (seconds since 1970) as the API does: ISO 8601, milliseconds, UTC."""
    whole, milliseconds = divmod(round(at * 1000), 1000)
    return f"{_whole_second(whole)}.{milliseconds:03d}Z"


def succeed(envelope: Envelope, payload: Payload, *, now: float) -> Response:
    """Wrap a payload as a success."""
    content: Mapping[str, object]
    if envelope is Envelope.NEW:
        content = new_envelope(payload.status, payload.message, payload.content)
    else:
        content = {"ok": True, **payload.content}
    return json_response(payload.status, content, now=now)


def refuse(envelope: Envelope, refusal: Refusal, *, now: float) -> Response:
    """Wrap a refusal as an error."""
    content: Mapping[str, object]
    if envelope is Envelope.NEW:
        content = new_envelope(refusal.status, refusal.message, refusal.result)
    else:
        content = {"ok": False, "error": refusal.message}
    return json_response(refusal.status, content, now=now)


def unknown_endpoint(method: str, path: str) -> Refusal:
    """Return what a router says of a path that it does not know; it goes into the new envelope."""
    return Refusal(404, f"No such endpoint: {method} {path}", reason="NOT_FOUND")


def new_envelope(status: int, message: str, result: Mapping[str, object]) -> dict[str, object]:
    """Wrap a result in the new envelope."""
    detail = {"status": "SUCCESS" if status < 400 else "ERROR", "message": message}
    return {"statusCode": status, "statusDetail": detail, "result": result}


def json_response(
    status: int,
    content: object,
    *,
    now: float,
    content_type: str = "application/json",
    headers: Sequence[Header] = (),
) -> Response:
    """Encode a JSON value as a response."""
    return plain_response(status, content_type, _ENCODER.encode(content).encode(), now=now, headers=headers)


def plain_response(
    status: int, content_type: str, body: bytes, *, now: float, headers: Sequence[Header] = ()
) -> Response:
    """Make a response with a type, a date, and the headers given."""
    own = (("content-type", content_type), ("date", _http_date(int(now))))
    return Response(status, (*own, *headers), body)


def phrase(status: int) -> str:
    """Return the standard English phrase of a status, as a sentence."""
    try:
        return f"{HTTPStatus(status).phrase}."
    except ValueError:
        return f"Status {status}."


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


# At thousands of answers a second nearly all share their second.
@lru_cache(maxsize=4)
def _whole_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=4)
def _http_date(second: int) -> str:
    return formatdate(second, usegmt=True)
