"""The two envelopes a ClockNext answer comes in, and the refusals they carry.

`POST /api/v1/usage` and what the ingest edge refuses by itself (unknown paths, wrong methods) use the new
one: `{statusCode, statusDetail, result}`. Everything else uses the legacy one: `{ok, …}`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from enum import Enum
from functools import lru_cache
from http import HTTPStatus

from clocknext_core.messages import Response

SUCCESS_MESSAGE = "Request processed successfully."


class Envelope(Enum):
    """Which of the two an answer is wrapped in."""

    NEW = "new"
    LEGACY = "legacy"


@dataclass(frozen=True, slots=True)
class Issue:
    """One body field that is not as it should be."""

    field: str
    message: str

    def as_json(self) -> dict[str, object]:
        """Return the issue as the new envelope shows it."""
        return {"field": self.field, "message": self.message}


class Refusal(Exception):  # noqa: N818 - an answer like any other, not an error of the emulator
    """A request the server refuses.

    Args:
        status: HTTP status, 4xx or 5xx.
        message: Plain English. Left out, it is made of the issues.
        reason: The stable word sent as `errorReason`; only the new envelope carries it.
        issues: The fields at fault; only the new envelope lists them.
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
        self.message = message or "; ".join(f"{issue.field}: {issue.message}" for issue in issues)
        self.reason = reason
        self.issues = tuple(issues)
        super().__init__(self.message)


@dataclass(frozen=True, slots=True)
class Payload:
    """What a resource answers with, before it is wrapped."""

    content: Mapping[str, object]
    status: int = 200
    message: str = SUCCESS_MESSAGE
    """What the new envelope says of it; the legacy one says nothing."""


def envelope_for(method: str, path: str) -> Envelope:
    """Return the envelope the real server uses for a call it knows."""
    return Envelope.NEW if method == "POST" and path == "/api/v1/usage" else Envelope.LEGACY


def timestamp(at: float) -> str:
    """Write a wall-clock time (seconds since 1970) the way the API does: ISO 8601, milliseconds, UTC."""
    whole, milliseconds = divmod(round(at * 1000), 1000)
    return f"{_whole_second(whole)}.{milliseconds:03d}Z"


def succeed(envelope: Envelope, payload: Payload, *, now: float) -> Response:
    """Wrap a payload as a success."""
    content: Mapping[str, object]
    if envelope is Envelope.NEW:
        content = {
            "statusCode": payload.status,
            "statusDetail": {"status": "SUCCESS", "message": payload.message},
            "result": payload.content,
        }
    else:
        content = {"ok": True, **payload.content}
    return json_response(payload.status, content, now=now)


def refuse(envelope: Envelope, refusal: Refusal, *, now: float) -> Response:
    """Wrap a refusal as an error."""
    content: dict[str, object]
    if envelope is Envelope.NEW:
        result: dict[str, object] = {}
        if refusal.reason:
            result["errorReason"] = refusal.reason
        if refusal.issues:
            result["issues"] = [issue.as_json() for issue in refusal.issues]
        content = {
            "statusCode": refusal.status,
            "statusDetail": {"status": "ERROR", "message": refusal.message},
            "result": result,
        }
    else:
        content = {"ok": False, "error": refusal.message}
    return json_response(refusal.status, content, now=now)


def json_response(status: int, content: object, *, now: float) -> Response:
    """Encode any JSON value as a response, in no envelope."""
    return plain_response(status, "application/json", _ENCODER.encode(content).encode(), now=now)


def plain_response(status: int, content_type: str, body: bytes, *, now: float) -> Response:
    """Make a response with the headers every answer has: a type and a date."""
    return Response(status, (("content-type", content_type), ("date", _http_date(int(now)))), body)


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
