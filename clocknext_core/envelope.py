"""The two envelopes: how the payload, or the error, is taken out of an answer.

New: `{statusCode, statusDetail: {status, message}, result}`. Legacy: `{ok, …payload}`, or
`{ok: false, error}`.
Either endpoint may use either; an answer is new-style when it is an object that has `statusDetail`.
"""

import json
from typing import TypeAlias, cast

from clocknext_core.backoff import retry_after
from clocknext_core.config import Config
from clocknext_core.errors import ClockNextError, Issue, NetworkError, RequestLine, classify
from clocknext_core.messages import Answer, Failure, Request, Response

Payload: TypeAlias = dict[str, object]

MAX_MESSAGE_LENGTH = 300
"""Characters of a raw body (a proxy's HTML page, say) that make it into an error message."""


def open_answer(
    answer: Answer, *, request: Request, config: Config, idempotency_key: str | None = None
) -> Payload | ClockNextError:
    """Take the payload out of an answer, or say as an error value what is wrong with it.

    A 2xx that is not the API's JSON object (HTML, an array, nothing) is a failure, and retryable: taking it
    for a delivery would lose a bill, and a repeat under the same key is harmless. A 204, or an empty
    body in answer to a DELETE, is a success without payload.
    """
    if isinstance(answer, Failure):
        return NetworkError(
            config.redact(answer.message),
            retryable=True,
            idempotency_key=idempotency_key,
            request=request_line(request, config),
        )
    if answer.status == 204 or (request.method == "DELETE" and _is_2xx(answer) and not answer.body.strip()):
        return {}
    document = _parse(answer.body)
    if _is_2xx(answer) and document is not None:
        payload = _success(document)
        if payload is not None:
            return payload
    return _error(answer, document, request_line(request, config), config, idempotency_key)


def request_line(request: Request, config: Config) -> RequestLine:
    """Name a request for an error: the query may hold more than an error should show."""
    return RequestLine(request.method, config.redact(request.target.partition("?")[0]))


def _is_2xx(response: Response) -> bool:
    return 200 <= response.status <= 299


def _parse(body: bytes) -> Payload | None:
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return None
    return as_object(cast(object, document)) if isinstance(document, dict) else None


def _success(document: Payload) -> Payload | None:
    if "statusDetail" in document:
        if as_object(document["statusDetail"]).get("status") != "SUCCESS":
            return None
        return as_object(document.get("result"))
    return None if document.get("ok") is False else document


def _error(
    response: Response,
    document: Payload | None,
    line: RequestLine,
    config: Config,
    idempotency_key: str | None,
) -> ClockNextError:
    fields = document or {}
    result = as_object(fields.get("result"))
    message = _message(response, fields, config)
    if _is_2xx(response) and document is None:
        kind, retryable = ClockNextError, True
    else:
        kind, retryable = classify(response.status, message)
    reason, signal_id = result.get("errorReason"), result.get("signalId")
    return kind(
        message,
        status=response.status,
        retryable=retryable,
        idempotency_key=idempotency_key,
        reason=config.redact(reason) if isinstance(reason, str) else None,
        issues=_issues(result.get("issues"), config),
        request=line,
        retry_after=retry_after(response),
        signal_id=config.redact(signal_id) if isinstance(signal_id, str) else None,
    )


def _message(response: Response, fields: Payload, config: Config) -> str:
    for text in (as_object(fields.get("statusDetail")).get("message"), fields.get("error")):
        if isinstance(text, str) and text.strip():
            return config.redact(text)
    raw = config.redact(response.body.decode("utf-8", "replace").strip())  # before a cut could halve the key
    if len(raw) > MAX_MESSAGE_LENGTH:
        raw = raw[: MAX_MESSAGE_LENGTH - 1] + "…"
    return raw or f"Request failed with status {response.status}."


def _issues(value: object, config: Config) -> tuple[Issue, ...]:
    entries = (as_object(entry) for entry in as_list(value))
    return tuple(
        Issue(config.redact(str(entry.get("field") or "")), config.redact(str(entry["message"])))
        for entry in entries
        if entry.get("message")
    )


def without_ok(payload: Payload) -> Payload:
    """Return the payload without `ok`, which is the legacy envelope's and not part of the object."""
    return {name: value for name, value in payload.items() if name != "ok"}


def as_object(value: object) -> Payload:
    """Take a JSON value for an object; anything else is an empty one."""
    return cast("Payload", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    """Take a JSON value for a list; anything else is an empty one."""
    return cast("list[object]", value) if isinstance(value, list) else []
