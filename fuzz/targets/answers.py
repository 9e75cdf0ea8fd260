"""Response parsing: `open_answer` (both envelopes, errors), then every model and every operation's reader.

Invariant: whatever status and body a peer answers with,

- the outcome is a value, a payload or an error, and nothing is raised;
- it is a payload exactly when the answer is a success by the letter of the protocol: a 204; an empty 2xx to
  a DELETE; or a 2xx whose body is a JSON object with `statusDetail.status` "SUCCESS" or, without
  `statusDetail`, with an `ok` that is not `false`. Taking anything else for a delivery would lose a bill;
- an error has the class of its status, says something, is retryable exactly where the protocol says so, keeps
  the Retry-After, survives pickling, and shows the API key nowhere, even when the peer echoed it;
- every model and every operation's reader takes any payload: it keeps it as `raw`, unchanged, every attribute
  can be read, and it can be shown and compared.

Allowed exceptions:

- `ClockNextError` when a page is followed by a cursor that came before: going on would never end;
- `RecursionError` when a payload is shown that is nested so deeply that it could only just be parsed. Whether
  that is so depends on how deep in calls the reader is, so of such bodies only the first point is held.
"""

import json
import pickle
from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import Parameter, signature
from pkgutil import iter_modules
from typing import Any, cast

from clocknext_core import (
    ClockNextError,
    Config,
    EncodedSignal,
    Model,
    Operation,
    Request,
    Response,
    WalletSignal,
    resources,
)
from clocknext_core import errors as kinds
from clocknext_core.config import REDACTED
from clocknext_core.delivery import signal_operation
from clocknext_core.envelope import Payload, open_answer
from clocknext_core.models import Field, Items, Many
from clocknext_core.operations import Pages
from clocknext_core.resources.binding import Resource, endpoint, paged
from clocknext_core.signals import encode
from fuzz.decoding import KEY, Decoder, built_object, built_value, holds_key, with_key

MAX_BYTES = 4096

DEEP = 500
"""Brackets from which on a body may be nested too deeply to be shown."""

CONFIG = Config(KEY)
IDEMPOTENCY_KEY = "key-1"
RETRY_AFTER = 3.0

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
STATUSES = (
    *(200, 201, 202, 204, 299, 100, 199, 300, 301, 304, 307, 400, 401, 403, 404, 405, 408, 409, 413, 415),
    *(418, 422, 429, 499, 500, 502, 503, 504, 599, 600, 999),
)
ERRORS: Mapping[int, type[ClockNextError]] = {
    400: kinds.ValidationError,
    401: kinds.AuthError,
    404: kinds.NotFoundError,
    409: kinds.ConflictError,
    429: kinds.RateLimitError,
}
RETRYABLE = (408, 409, 429)

SIGNAL = WalletSignal(customer_id="cus_1", model="m", idempotency_key=IDEMPOTENCY_KEY)
ARGUMENTS: Mapping[str, object] = {"email": "a@b.c", "amount": 1, "signal": SIGNAL}
"""Arguments of endpoints that are not a text or a flag, by name."""
CHOSEN: Mapping[str, Mapping[str, object]] = {
    "credit_balance": {"credit_name": "API"},
    "outcome_balance": {"outcome_name": "API"},
    "unit_balance": {"unit_name": "API"},
    "verify": {"customer_id": "cus_1", "model": "m"},
}
"""Arguments that an endpoint asks for one of, by its name."""


class _Client:
    """A client that carries nothing out: what is built is looked at instead."""

    is_async = False
    cancellations: tuple[type[BaseException], ...] = ()

    def run(self, operation: Operation[Any], /) -> Any:
        """Refuse."""
        raise AssertionError(f"{operation} was to be built, not run")

    def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> Any:
        """Refuse."""
        raise AssertionError(f"{encoded} was to be built, not recorded")

    def hold(self, encoded: EncodedSignal, /) -> None:
        """Refuse."""
        raise AssertionError(f"{encoded} was to be built, not held")

    def make_key(self) -> str:
        """Refuse."""
        raise AssertionError("no key is needed to build an operation")


def _operations() -> dict[str, Operation[Any]]:
    """Build every operation there is, each from the least arguments it takes."""
    modules = [
        import_module(f"{resources.__name__}.{each.name}") for each in iter_modules(resources.__path__)
    ]
    owners: list[type[Resource[Any]]] = [
        owner
        for module in modules
        for owner in vars(module).values()
        if isinstance(owner, type) and issubclass(owner, Resource) and owner.__module__ == module.__name__
        # What several have in common is no resource of its own.
        if not any(
            each.__module__.startswith(resources.__name__)
            for each in cast("list[type[object]]", owner.__subclasses__())
        )
    ]
    return {
        f"{owner.__name__}.{name}": _operation(owner(_Client()), cast("endpoint[..., Any]", descriptor))
        for owner in owners
        for kind in owner.__mro__
        for name, descriptor in vars(kind).items()
        if isinstance(descriptor, endpoint | paged)
    }


def _operation(resource: Resource[Any], descriptor: endpoint[..., Any]) -> Operation[Any]:
    build = descriptor.build
    named = dict(CHOSEN.get(build.__name__, {}))
    positional: list[object] = [resource]
    for name, parameter in list(signature(build).parameters.items())[1:]:
        if parameter.default is not Parameter.empty:
            continue
        value = ARGUMENTS.get(name, True if parameter.annotation is bool else "x")
        if parameter.kind is Parameter.POSITIONAL_ONLY:
            positional.append(value)
        else:
            named[name] = value
    built: Operation[Any] | Pages[Any] = build(*positional, **named)
    operation = built.next() if isinstance(built, Pages) else built
    assert operation is not None
    return operation


def _models() -> list[type[Model]]:
    return [kind for kind in Model.__subclasses__() if kind.__module__ == Model.__module__]


OPERATIONS = {**_operations(), "Signals.track": signal_operation(encode(SIGNAL, str))}
READERS = frozenset(operation.read for operation in OPERATIONS.values())
MODELS: Mapping[str, Callable[[Payload], Model]] = {
    kind.__name__: cast("Callable[[Payload], Model]", kind)
    for kind in _models()
    if kind.__name__ != "TrackResult"
}

WORDS = (
    *(
        "statusDetail",
        "status",
        "SUCCESS",
        "ERROR",
        "message",
        "result",
        "statusCode",
        "ok",
        "error",
        "issues",
    ),
    *("errorReason", "field", "Insufficient", "PENDING", "API", "", " ", "\ud800", "\0", "\1", "\2", "é"),
    *sorted(
        {
            declared.wire_name
            for model in _models()
            for declared in vars(model).values()
            if isinstance(declared, Field | Many)
        }
    ),
)
"""Every name in an answer, and some texts; the one that stands for the API key, too."""
TOKENS = (
    *(json.dumps(word).encode() for word in WORDS if word.isalpha()),
    *(b"true", b"false", b"null", b"NaN", b"\x01", b"\x02", b"\xef\xbb\xbf", b"<html>", b'{"ok":true,'),
    b'{"statusDetail":{"status":"SUCCESS"},"result":{',
)


def check(data: bytes) -> None:
    """Read an answer: bytes for the method, the status and the kind of body, which the rest is or builds."""
    decoder = Decoder(data)
    method, status = decoder.pick(METHODS), decoder.pick(STATUSES)
    body = with_key(_body(decoder))
    request = Request(method, "/api/v1/usage?limit=1", CONFIG.origin, CONFIG.headers)
    response = Response(status, [("Retry-After", f"{RETRY_AFTER}")], body)
    outcome = open_answer(response, request=request, config=CONFIG, idempotency_key=IDEMPOTENCY_KEY)
    if body.count(b"[") + body.count(b"{") > DEEP:
        return
    document = _document(body)
    expected = _payload(method, status, body, document)
    if expected is None:
        assert isinstance(outcome, ClockNextError)
        is_bare = document is not None and method == "POST" and not {"ok", "statusDetail"} & document.keys()
        _check_error(outcome, method, status, is_object=document is not None and not is_bare)
        if REDACTED in repr(vars(outcome)) + outcome.message:
            assert holds_key(body.decode("utf-8", "replace")) or REDACTED.encode() in body
    else:
        assert not isinstance(outcome, ClockNextError)
        # Not by ==, for which a NaN differs from itself.
        assert repr(outcome) == repr(expected)
        _check_readers(outcome)


def _body(decoder: Decoder) -> bytes:
    match decoder.below(4):
        case 1:
            document = built_object(decoder, WORDS)
        case 2:
            document = {"ok": True, **built_object(decoder, WORDS)}
        case 3:
            detail = {"status": decoder.pick(("SUCCESS", "ERROR")), "message": decoder.pick(WORDS)}
            document = {"statusDetail": detail, "result": built_value(decoder, WORDS)}
        case _:
            return decoder.rest()
    return json.dumps(document).replace("\\u0001", "\1").replace("\\u0002", "\2").encode()


def _document(body: bytes) -> Payload | None:
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return cast("Payload", document) if isinstance(document, dict) else None


def _payload(method: str, status: int, body: bytes, document: Payload | None) -> Payload | None:
    """Read a success by the letter of the protocol; `None` where it is none."""
    if status == 204:
        return {}
    if not 200 <= status < 300:
        return None
    if method == "DELETE" and not body.strip():
        return {}
    if document is None:
        return None
    if "statusDetail" not in document:
        if document.get("ok") is False:
            return None
        if method == "POST" and "ok" not in document:
            return None  # to a signal, a bare object says nothing
        return document
    detail, result = document["statusDetail"], document.get("result")
    if not isinstance(detail, dict) or cast("Payload", detail).get("status") != "SUCCESS":
        return None
    # In branches, which the fuzzer sees.
    if isinstance(result, dict):
        return cast("Payload", result)
    if result is None:
        return {}
    return dict[str, object]()


def _check_error(error: ClockNextError, method: str, status: int, *, is_object: bool) -> None:
    is_2xx = 200 <= status < 300
    if is_2xx and not is_object:
        assert (type(error), error.retryable) == (ClockNextError, True)
    elif status == 422:
        insufficient = "insufficient" in error.message.lower()
        # The word may stand where the message is cut.
        assert type(error) is kinds.AllowanceError or (type(error) is kinds.PlanError and not insufficient)
        assert type(error) is kinds.PlanError or insufficient or error.message.endswith("…")
        assert not error.retryable
    else:
        is_5xx = 500 <= status < 600
        assert type(error) is ERRORS.get(status, kinds.ServerError if is_5xx else ClockNextError)
        assert error.retryable == (status in RETRYABLE or is_5xx)
    assert error.message.strip()
    assert error.status == status
    assert error.idempotency_key == IDEMPOTENCY_KEY
    assert error.retry_after == RETRY_AFTER
    assert str(error.request) == f"{method} /api/v1/usage"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.args, vars(copy)) == (type(error), error.args, vars(error))
    for shown in (str(error), repr(error), repr(vars(error))):
        assert not holds_key(shown)


def _check_readers(payload: Payload) -> None:
    before = repr(payload)
    for read in (*READERS, *MODELS.values()):
        _check_value(read(payload))
    assert repr(payload) == before


def _check_value(value: object) -> None:
    if isinstance(value, Model):
        assert repr(value).startswith(type(value).__name__)
        assert value == value  # noqa: PLR0124 - its own comparison is what is looked at
        for name, declared in vars(type(value)).items():
            if isinstance(declared, Field | Many):
                attribute = getattr(value, name)
                if isinstance(attribute, Model | Items):
                    _check_value(cast(object, attribute))
                else:
                    assert attribute is None or attribute is value.raw[declared.wire_name]
    elif isinstance(value, Items):
        items = cast("Items[Model]", value)
        assert len(items) == len(items.raw)
        for item, raw in zip(items, items.raw, strict=True):
            assert item.raw == raw or not isinstance(raw, dict)
            _check_value(item)
    elif isinstance(value, tuple):
        _check_page(cast("tuple[Items[Model], str | None]", value))
    elif isinstance(value, ClockNextError):  # a dry run that the server took for a signal
        assert (value.status, value.retryable) == (202, False)
    else:
        assert value is None


def _check_page(page: tuple[Items[Model], str | None]) -> None:
    items, cursor = page
    _check_value(items)
    fetched = Pages[Model](lambda _: Operation("GET", "/", lambda _: page))
    assert fetched.items(page) == items
    assert (fetched.next() is None) == (not cursor)
    if cursor:
        try:
            fetched.items(page)
        except ClockNextError:
            return
        raise AssertionError("the same cursor was followed twice")
