"""The two envelopes: take the payload, or the error, out of an answer.

New: `{statusCode, statusDetail: {status, message}, result}`. Legacy: `{ok, …payload}`, or
`{ok: false, error}`.
Either endpoint may use either; an answer is new-style when it is an object that has `statusDetail`.

An answer without an envelope is not the API's: it comes from a proxy or a router on the way, or the address
is wrong. Nor is an envelope in which the API's own router says that there is no such path or method.
"""

import json
from typing import TypeAlias, cast

from clocknext_core.backoff import retry_after
from clocknext_core.config import Config
from clocknext_core.errors import ClockNextError, Issue, NetworkError, RequestLine, classify
from clocknext_core.messages import Answer, Failure, Request, Response
from clocknext_core.text import printable, shortened

Payload: TypeAlias = dict[str, object]

MAX_MESSAGE_LENGTH = 300
"""Most characters of a message, reason or issue in an error. Errors are kept until they are reported, and a
hostile server, or a proxy's HTML page, could make each as long as an answer."""
MAX_ISSUES_LENGTH = 3000
"""Most characters that the issues of one error have together; the others are left out."""


ROUTERS_REASONS = ("NOT_FOUND", "METHOD_NOT_ALLOWED")
"""Reasons that the API's router gives, not the API: there is no such path, or not by this method."""


def open_answer(
    answer: Answer, *, request: Request, config: Config, idempotency_key: str | None = None
) -> Payload | ClockNextError:
    """Return the payload of an answer, or an error that says what is wrong with it.

    A 2xx that is not the API's JSON object (HTML, an array, nothing) is a failure, and retryable: counted as
    a delivery it would lose a bill, and a repeat under the same key is harmless. A signal is delivered by an
    envelope alone: there an object without one is a failure too. A 204, or an empty body in answer to a
    DELETE, is a success without payload.

    An answer that is not the API's word gives an error with a `hint`. All texts of the error are without the
    API key, printable, and short, whatever the server sent.
    """
    if isinstance(answer, Failure):
        return NetworkError(
            _clean(answer.message, config),
            retryable=True,
            idempotency_key=idempotency_key,
            request=request_line(request, config),
        )
    if answer.status == 204 or (request.method == "DELETE" and _is_2xx(answer) and not answer.body.strip()):
        return {}
    document = _parse(answer.body)
    if _is_2xx(answer) and document is not None and not (_is_signal(request) and not _is_enveloped(document)):
        payload = _success(document)
        if payload is not None:
            return payload
    return _error(answer, document, request, config, idempotency_key)


def request_line(request: Request, config: Config) -> RequestLine:
    """Return a request's line for an error, without the query, which may hold what no error should show."""
    return RequestLine(request.method, config.redact(request.target.partition("?")[0]))


def _is_signal(request: Request) -> bool:
    return request.method == "POST" and request.target.partition("?")[0].endswith("/api/v1/usage")


def _is_enveloped(document: Payload) -> bool:
    return "statusDetail" in document or "ok" in document


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
    request: Request,
    config: Config,
    idempotency_key: str | None,
) -> ClockNextError:
    fields = document or {}
    is_enveloped = _is_enveloped(fields)
    result = as_object(fields.get("result"))
    said = _said(response, fields, is_enveloped=is_enveloped)
    message = _clean(said, config) or f"Request failed with status {response.status}."
    if _is_2xx(response) and not is_enveloped:
        kind, retryable = ClockNextError, True
    else:
        kind, retryable = classify(response.status, said)
    reason = clean_text(result.get("errorReason"), config)
    is_api = is_enveloped and reason not in ROUTERS_REASONS
    return kind(
        message,
        status=response.status,
        retryable=retryable,
        idempotency_key=idempotency_key,
        reason=reason,
        issues=_issues(result.get("issues"), config),
        request=request_line(request, config),
        retry_after=retry_after(response),
        signal_id=clean_text(result.get("signalId"), config),
        received_at=clean_text(result.get("receivedAt"), config),
        hint=None if is_api else _hint(request, config),
    )


def _hint(request: Request, config: Config) -> str:
    url = config.redact(request.url.partition("?")[0])
    base_url = "base_url (without /api/v1)" if "/api/v1" in config.path_prefix else "base_url"
    return (
        f"The answer did not come from the ClockNext API at {url}: check {base_url}, and the proxies, "
        "firewalls and load balancers on the way."
    )


def clean_text(value: object, config: Config) -> str | None:
    """Return a text from an answer without the API key, printable and short; `None` if it is no text."""
    return _clean(value, config) if isinstance(value, str) else None


def _said(response: Response, fields: Payload, *, is_enveloped: bool) -> str:
    """Return the server's message, or the body of an answer that has none."""
    # A framework's own error, `{statusCode, error, message}`, has its sentence in `message`.
    sentence = None if is_enveloped else fields.get("message")
    for text in (as_object(fields.get("statusDetail")).get("message"), sentence, fields.get("error")):
        if isinstance(text, str) and text.strip():
            return text
    return response.body.decode("utf-8", "replace").strip()


def _issues(value: object, config: Config) -> tuple[Issue, ...]:
    issues: list[Issue] = []
    left = MAX_ISSUES_LENGTH
    for entry in map(as_object, as_list(value)):
        if not entry.get("message"):
            continue
        issue = Issue(_text_of(entry.get("field"), config), _text_of(entry["message"], config))
        left -= len(issue.field) + len(issue.message)
        if left < 0:
            break
        issues.append(issue)
    return tuple(issues)


def _text_of(value: object, config: Config) -> str:
    """Return a text or number as an error shows it; of anything else only the type."""
    if not value:
        return ""
    if isinstance(value, int | float):
        return str(value)
    return _clean(value if isinstance(value, str) else f"an object of type {type(value).__name__}", config)


def _clean(text: str, config: Config) -> str:
    """Return a text from outside without the API key, printable, and short."""
    # First redacted: a cut could halve the key.
    redacted = config.redact(text, limit=MAX_MESSAGE_LENGTH)
    return shortened(printable(redacted), MAX_MESSAGE_LENGTH)


def without_ok(payload: Payload) -> Payload:
    """Return the payload without `ok`, which is the legacy envelope's and not part of the object."""
    return {name: value for name, value in payload.items() if name != "ok"}


def as_object(value: object) -> Payload:
    """Return a JSON object as it is, and anything else as an empty one."""
    return cast("Payload", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    """Return a JSON list as it is, and anything else as an empty one."""
    return cast("list[object]", value) if isinstance(value, list) else []
