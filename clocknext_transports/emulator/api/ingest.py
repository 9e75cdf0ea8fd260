"""The newer ingest service, which takes signals with 202 and prices none, in the states it is known in.

- `thin`, the newest: a body needs `customerId`, `inputTokens` and `outputTokens`, and is not judged further;
  any bearer token is let in; `dryRun` is not known.
- `thick`, the one before: the whole body is judged, and the key checked.
- `thick-queued`, the same with a queue: a refusal is answered with 202 `PENDING`, except that of a key.

It is a service of its own, `POST /api/v1/signal` and `GET /health`. The emulator answers signals at
`/api/v1/usage` like this too, so that a client can be tested against it, and leaves the other calls to the
payments application. Idempotency keys are not looked at: a repeat is a new signal, and is billed.

The signals taken are settled at once, unseen: billed, or held if they cannot be. Guesses: a dry run that
`thick` takes bills nothing; a `status` is ignored when a signal is settled.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args
from urllib.parse import unquote

from clocknext_core.messages import Header, Response
from clocknext_transports.emulator.api.exchange import Received
from clocknext_transports.emulator.api.signals import ORGANISATION_ID, SIGNAL_TYPES, Sent, book, extra_of
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.envelopes import (
    Issue,
    Refusal,
    json_response,
    new_envelope,
    plain_response,
    timestamp,
)
from clocknext_transports.emulator.books.records import Held, SignalType
from clocknext_transports.emulator.books.validation import (
    MAX_BODY,
    MAX_TOKENS,
    Fields,
    check_custom,
    parse_json,
    storable,
)

AcceptOnly: TypeAlias = Literal["thin", "thick", "thick-queued"]
STATES: tuple[str, ...] = get_args(AcceptOnly)
KEEP_ALIVE = 72
"""Seconds an idle connection is kept open, as the service announces."""
SIGNAL = "/api/v1/signal"
USAGE = "/api/v1/usage"
_HEALTH = frozenset({"/health", "/health/"})
_ACCEPTED = "Signal accepted for processing."
_QUEUED = "Processing in the queue."
_NO_KEY = "Missing API key. Send `Authorization: Bearer <your cnk_… key>`."
_BEARER = re.compile(r"bearer\s+(\S.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"\Ahttps?://.*?(?=/)", re.IGNORECASE)
_ESCAPES = re.compile(r"%(?![0-9a-fA-F]{2})")
_NAME = r"[\w!#$%&'*+.^`|~-]+"
_MEDIA_TYPE = re.compile(rf"\s*({_NAME}/{_NAME})\s*(;.*)?", re.ASCII | re.DOTALL)
_WITH_BODY = frozenset({"DELETE", "OPTIONS", "PATCH", "POST", "PUT", "QUERY"})
_MAX_UNROUTED = 1024 * 1024
"""The most bytes of a body that no route takes."""
_SPACES = "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x200B))
)
"""What JavaScript counts as white space."""
_METHODS = frozenset(
    [
        "ACL",
        "BIND",
        "CHECKOUT",
        "CONNECT",
        "COPY",
        "DELETE",
        "GET",
        "HEAD",
        "LINK",
        "LOCK",
        "M-SEARCH",
        "MERGE",
        "MKACTIVITY",
        "MKCALENDAR",
        "MKCOL",
        "MOVE",
        "NOTIFY",
        "OPTIONS",
        "PATCH",
        "POST",
        "PROPFIND",
        "PROPPATCH",
        "PURGE",
        "PUT",
        "QUERY",
        "REBIND",
        "REPORT",
        "SEARCH",
        "SOURCE",
        "SUBSCRIBE",
        "TRACE",
        "UNBIND",
        "UNLINK",
        "UNLOCK",
        "UNSUBSCRIBE",
    ]
)
_CLIENT_ERROR: Mapping[str, object] = {"error": "Bad Request", "message": "Client Error", "statusCode": 400}


@dataclass(frozen=True, slots=True)
class Keys:
    """The API keys that the service knows."""

    known: frozenset[str]
    expired: frozenset[str]


class _Unprocessed(Exception):  # noqa: N818 - an answer like any other
    """A refusal after which the service closes the connection: it did not make sense of the body."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


def answers(method: str, path: str) -> bool:
    """Return whether the ingest answers a call of the API itself."""
    return _path_of(path) == SIGNAL or (method == "POST" and path == USAGE)


def respond(books: Books, request: Received, state: AcceptOnly, keys: Keys, *, now: float) -> Response:
    """Answer a request as the ingest does: a signal, a question for its health, or a path it does not know.

    Args:
        books: Where the signal is settled.
        request: The request.
        state: The state of the service.
        keys: The API keys.
        now: Wall clock, seconds since 1970.
    """
    if request.method not in _METHODS:
        return json_response(400, _CLIENT_ERROR, now=now, headers=_headers(request, closes=True))
    path = _path_of(request.target)
    if path is None:
        return _bad_url(request, now=now)
    if request.method == "OPTIONS":
        return _preflight(request, now=now)
    if request.method in {"GET", "HEAD"} and path in _HEALTH:
        health = {"status": "ok", "uptime": books.uptime(now=now)}
        return _response(request, 200, health, now=now)
    receipt = {"signalId": books.new_id("sig"), "receivedAt": timestamp(now)}
    is_signal = request.method == "POST" and path in {SIGNAL, USAGE}
    closes = False
    try:
        if not is_signal:
            _skip_body(request)
            message = f"Route {request.method} {request.target} not found."
            raise Refusal(404, message, reason="NOT_FOUND")
        accepted = _take(books, request, state, keys, receipt, now=now)
        content = new_envelope(202, _ACCEPTED, accepted)
    except (Refusal, _Unprocessed) as error:
        closes = isinstance(error, _Unprocessed)
        refusal = error.refusal if isinstance(error, _Unprocessed) else error
        is_queued = state == "thick-queued" and is_signal and refusal.status != 401
        if is_queued:
            _hold(books, receipt, request.body, refusal, now=now)
            content = new_envelope(202, _QUEUED, {**receipt, "status": "PENDING"})
        else:
            books.counters.refused += 1
            content = new_envelope(refusal.status, refusal.message, {**refusal.result, **receipt})
    return _response(request, cast("int", content["statusCode"]), content, now=now, closes=closes)


def _take(
    books: Books,
    request: Received,
    state: AcceptOnly,
    keys: Keys,
    receipt: Mapping[str, str],
    *,
    now: float,
) -> dict[str, object]:
    """Check a signal, settle it, and return the result that says it was taken.

    Raises:
        Refusal, _Unprocessed: It was not taken.
    """
    token = _token(request)
    if token is None:
        raise Refusal(401, _NO_KEY, reason="API_KEY_MISSING")
    body = _parse(request)
    result: dict[str, object] = {**receipt, "accepted": True}
    if state == "thin":
        _refuse_if_any(list(_thin_issues(body)))
    else:
        if isinstance(body, dict):
            body = _normalised(cast("Mapping[str, object]", body))
        _refuse_if_any(list(_thick_issues(body)))
        check_custom(cast("Mapping[str, object]", body).get("custom"), body_size=len(request.body))
        if token not in keys.known:
            expired = token in keys.expired
            message = "This API key has expired." if expired else "Invalid API key."
            raise Refusal(401, message, reason="API_KEY_REJECTED")
        result |= {"organizationId": ORGANISATION_ID, "apiKeyId": "key_emulator", "cached": False}
    fields = cast("Mapping[str, object]", body)
    try:
        book(books, _settled(fields, may_be_dry=state != "thin"), now=now)
    except Refusal as refusal:
        _hold(books, receipt, request.body, refusal, now=now)
    return result


# What comes before a body is judged


def _token(request: Received) -> str | None:
    """Return the bearer token of a request, `None` without one. The scheme is read without case."""
    found = _BEARER.fullmatch(request.headers.get("authorization", ""))
    return None if found is None else found[1].strip(_SPACES)


def _parse(request: Received) -> object:
    """Parse a body as the service's JSON parser does; `None` for a request without a body or a type.

    Raises:
        Refusal: 415.
        _Unprocessed: 400 or 413.
    """
    content_type = request.headers.get("content-type")
    if content_type is None and not request.body:
        return None
    found = _MEDIA_TYPE.fullmatch(content_type or "")
    if found is None or found[1].lower() != "application/json":
        raise _unsupported()
    return _parse_json(request.body, limit=MAX_BODY)


def _skip_body(request: Received) -> None:
    """Judge a body that no route takes, as the service's framework does before it misses the path.

    Raises:
        Refusal: 400 or 415.
        _Unprocessed: 400 or 413.
    """
    content_type = request.headers.get("content-type")
    if request.method == "QUERY" and content_type is None:
        raise Refusal(400, "Method 'QUERY' must provide a 'Content-Type' header.", reason="BAD_REQUEST")
    if request.method not in _WITH_BODY or content_type is None:
        return
    found = _MEDIA_TYPE.fullmatch(content_type)
    if found is None:
        raise _unsupported()
    media_type = found[1].lower()
    if media_type == "application/json":
        _parse_json(request.body, limit=_MAX_UNROUTED)
    elif media_type == "text/plain" and len(request.body) > _MAX_UNROUTED:
        raise _too_large()


def _parse_json(body: bytes, *, limit: int) -> object:
    if len(body) > limit:
        raise _too_large()
    if not body:
        message = "Body cannot be empty when content-type is set to 'application/json'"
        raise _unprocessed(400, message, "EMPTY_BODY")
    try:
        parsed = parse_json(body.decode(errors="replace").removeprefix("\ufeff"))
        if _is_poisoned(parsed):
            raise ValueError("a name that JavaScript objects inherit")
    except ValueError:
        message = "Body is not valid JSON but content-type is set to 'application/json'"
        raise _unprocessed(400, message, "MALFORMED_JSON") from None
    return parsed


def _unsupported() -> Refusal:
    return Refusal(415, "Unsupported Media Type", reason="UNSUPPORTED_MEDIA_TYPE")


def _too_large() -> _Unprocessed:
    return _unprocessed(413, "Request body is too large", "BODY_TOO_LARGE")


def _unprocessed(status: int, message: str, reason: str) -> _Unprocessed:
    return _Unprocessed(Refusal(status, message, reason=reason))


def _is_poisoned(value: object) -> bool:
    """Return whether a value has a `__proto__`, or a `constructor` with a `prototype`, at any depth."""
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        constructor = members.get("constructor")
        if "__proto__" in members or (isinstance(constructor, dict) and "prototype" in constructor):
            return True
        return any(map(_is_poisoned, members.values()))
    return isinstance(value, list) and any(map(_is_poisoned, cast("list[object]", value)))


def _normalised(body: Mapping[str, object]) -> dict[str, object]:
    """Read a body as `thick` does: the type without case, `key` where there is no agent key."""
    normalised = dict(body)
    kind, key = body.get("type"), body.get("key")
    if isinstance(kind, str):
        normalised["type"] = kind.strip(_SPACES).lower()
    agent_key = body.get("agentKey")
    if (agent_key is None or agent_key == "") and isinstance(key, str) and key.strip(_SPACES):
        normalised["agentKey"] = key
    return normalised


# What is judged of a body. The texts and their order are those of the service's schema validator.


def _refuse_if_any(issues: list[Issue]) -> None:
    if issues:
        first = issues[0]
        message = f"{first.field}: {first.message}" if first.field else first.message
        raise Refusal(400, message, reason="INVALID_BODY", issues=issues)


def _thin_issues(body: object) -> Iterator[Issue]:
    if not isinstance(body, dict):
        yield Issue("", "must be object")
        return
    fields = cast("Mapping[str, object]", body)
    yield from _missing(fields, "customerId", "inputTokens", "outputTokens")
    yield from _text(fields, "customerId")
    yield from _count(fields, "inputTokens")
    yield from _count(fields, "outputTokens")


def _thick_issues(body: object) -> Iterator[Issue]:
    if not isinstance(body, dict):
        yield Issue("", "must be object")
        return
    fields = cast("Mapping[str, object]", body)
    if "type" in fields:
        yield from _missing(fields, "model")
    if fields.get("type") == "credit":
        yield from _missing(fields, "agentKey")
    if fields.get("type") == "outcome":
        yield from _missing(fields, "agentKey", "runId")
    yield from _missing(fields, "customerId", "inputTokens", "outputTokens")
    yield from _text(fields, "customerId")
    yield from _of_type(fields, "type", str, "string")
    if "type" in fields and fields["type"] not in SIGNAL_TYPES:
        yield Issue("type", "must be equal to one of the allowed values")
    yield from _text(fields, "model")
    yield from _of_type(fields, "member", str, "string")
    for name in ("inputTokens", "outputTokens", "cacheTokens"):
        yield from _count(fields, name)
    yield from _text(fields, "agentKey")
    yield from _text(fields, "key")
    yield from _text(fields, "runId", longest=255)
    yield from _of_type(fields, "complete", bool, "boolean")
    yield from _of_type(fields, "custom", dict, "object")
    yield from _text(fields, "idempotencyKey", longest=255)
    yield from _of_type(fields, "dryRun", bool, "boolean")


def _missing(fields: Mapping[str, object], *names: str) -> Iterator[Issue]:
    for name in names:
        if name not in fields:
            yield Issue(name, f"must have required property '{name}'")


def _of_type(fields: Mapping[str, object], name: str, kind: type[object], called: str) -> Iterator[Issue]:
    if name in fields and not isinstance(fields[name], kind):
        yield Issue(name, f"must be {called}")


def _text(fields: Mapping[str, object], name: str, *, longest: int | None = None) -> Iterator[Issue]:
    value = fields.get(name)
    if not isinstance(value, str):
        yield from _of_type(fields, name, str, "string")
        return
    if longest is not None and len(value) > longest:
        yield Issue(name, f"must NOT have more than {longest} characters")
    if not value:
        yield Issue(name, "must NOT have fewer than 1 characters")
    if not value.strip(_SPACES):
        yield Issue(name, 'must match pattern "\\S"')


def _count(fields: Mapping[str, object], name: str) -> Iterator[Issue]:
    """Judge a number of tokens: 2.0 and 1e3 are integers, as in every JSON of JavaScript."""
    if name not in fields:
        return
    value = fields[name]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or (isinstance(value, float) and not value.is_integer()):
        yield Issue(name, "must be integer")
    if isinstance(value, int | float) and is_number and abs(value) < float("inf"):
        if value > MAX_TOKENS:
            yield Issue(name, f"must be <= {MAX_TOKENS}")
        if value < 0:
            yield Issue(name, "must be >= 0")


# Settling


def _settled(body: Mapping[str, object], *, may_be_dry: bool) -> Sent:
    """Read the signal in a body as settlement does.

    Raises:
        Refusal: 400, with every issue.
    """
    normalised = _normalised(body)
    fields = Fields(normalised)
    customer_id = fields.required_text("customerId")
    kind = cast("SignalType | None", fields.choice("type", SIGNAL_TYPES))
    fields.require("type")
    model = fields.required_text("model")
    key = fields.required_text("agentKey").lower() if kind in {"credit", "outcome"} else None
    tokens = (
        fields.integer("inputTokens", minimum=0, maximum=MAX_TOKENS) or 0,
        fields.integer("outputTokens", minimum=0, maximum=MAX_TOKENS) or 0,
        fields.integer("cacheTokens", minimum=0, maximum=MAX_TOKENS) or 0,
    )
    member = fields.nullable_text("member")
    custom = fields.mapping("custom")
    idempotency_key = fields.text("idempotencyKey", max_length=255)
    run_id = complete = None
    if kind == "outcome":
        fields.require("runId")
        run_id = fields.text("runId", max_length=255)
        complete = fields.flag("complete")
    dry_run = (fields.flag("dryRun") or False) if may_be_dry else False
    fields.finish()
    if kind is None:
        raise AssertionError("a signal without a type was refused above")
    return Sent(
        customer_id,
        kind,
        model,
        key,
        tokens,
        member or None,
        "SUCCESS",
        None if custom is None else cast("Mapping[str, object]", storable(custom)),
        idempotency_key,
        run_id,
        complete,
        dry_run,
        extra_of(body, kind),
    )


def _hold(books: Books, receipt: Mapping[str, str], raw: bytes, refusal: Refusal, *, now: float) -> None:
    """Remember a signal that was answered with 202 and could not be billed."""
    text = raw.decode(errors="replace")
    body: object
    try:
        body = storable(parse_json(text))
    except ValueError:
        body = text
    books.held.append(Held(receipt["signalId"], body, refusal.status, refusal.message, refusal.issues, now))


# HTTP


def _path_of(target: str) -> str | None:
    """Return the path of a target, percent-decoded, without what else is in it; `None` if it can't be."""
    path = re.split("[?#]", _AUTHORITY.sub("", target))[0]
    try:
        return None if _ESCAPES.search(path) else unquote(path, errors="strict")
    except UnicodeDecodeError:
        return None


def _headers(request: Received, *, closes: bool = False) -> list[Header]:
    headers: list[Header] = []
    if closes or "close" in request.headers.get("connection", "").lower():
        headers.append(("connection", "close"))
    else:
        headers += [("connection", "keep-alive"), ("keep-alive", f"timeout={KEEP_ALIVE}")]
    return headers


def _response(
    request: Received, status: int, content: Mapping[str, object], *, now: float, closes: bool = False
) -> Response:
    headers = [("vary", "Origin"), *_headers(request, closes=closes)]
    if (origin := request.headers.get("origin")) is not None:
        headers.append(("access-control-allow-origin", origin))
    return json_response(
        status, content, now=now, content_type="application/json; charset=utf-8", headers=headers
    )


def _bad_url(request: Received, *, now: float) -> Response:
    content = {
        "error": "Bad Request",
        "code": "FST_ERR_BAD_URL",
        "message": f"'{request.path}' is not a valid url component",
        "statusCode": 400,
    }
    return json_response(400, content, now=now, headers=_headers(request))


def _preflight(request: Received, *, now: float) -> Response:
    """Answer a browser's question whether it may send a signal; no other OPTIONS request is understood."""
    origin = request.headers.get("origin")
    if origin is None or "access-control-request-method" not in request.headers:
        headers = [("vary", "Origin"), *_headers(request)]
        return plain_response(400, "text/plain", b"Invalid Preflight Request", now=now, headers=headers)
    asked = request.headers.get("access-control-request-headers")
    headers = [
        ("vary", "Origin, Access-Control-Request-Headers"),
        ("access-control-allow-origin", origin),
        ("access-control-allow-methods", "GET,HEAD,POST"),
        *([] if asked is None else [("access-control-allow-headers", asked)]),
        ("content-length", "0"),
        *_headers(request),
    ]
    return Response(204, headers, b"")
