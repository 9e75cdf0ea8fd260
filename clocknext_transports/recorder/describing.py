"""What crosses the core's border, as plain JSON: one function for each type."""

from functools import singledispatch

from clocknext_core import (
    Adopt,
    Adopted,
    ClockNextError,
    Closed,
    Delivered,
    Dropped,
    Emptied,
    Erase,
    Failure,
    FallingBehind,
    FlushReport,
    GiveBack,
    GivenUp,
    KeyRefused,
    Mending,
    Misdirected,
    Operation,
    Quarantine,
    Receipt,
    Rejected,
    Response,
    Retrying,
    Settled,
    Store,
    TrackResult,
    Transmit,
    Wait,
)

RESPONSE_HEADERS = frozenset({"content-type", "date", "retry-after", "retry-after-ms"})
"""What is kept of a response's headers; others may hold cookies."""


@singledispatch
def describe(value: object) -> object:
    """Return a value as JSON, in which values of other types may still be nested.

    Raises:
        TypeError: A value of this type has no place in a trace.
    """
    raise TypeError(f"a {type(value).__name__} has no place in a trace")


@describe.register
def _(value: Transmit) -> object:
    request = value.request
    return {
        "transmit": value.ticket,
        "method": request.method,
        "url": request.url,
        "body": request.body,
        "replay_safe": request.replay_safe,
        "deadline_at": value.deadline_at,
    }


@describe.register(Settled)
def _(value: Settled[object]) -> object:
    return {"settled": value.ticket, "outcome": value.outcome}


@describe.register
def _(value: Delivered) -> object:
    return {"delivered": value.encoded.idempotency_key, "result": value.result}


@describe.register
def _(value: Rejected) -> object:
    return {"rejected": value.encoded.idempotency_key, "error": value.error}


@describe.register
def _(value: Retrying) -> object:
    key = None if value.encoded is None else value.encoded.idempotency_key
    return {"retrying": value.attempt, "signal": key, "delay": value.delay, "error": value.error}


@describe.register
def _(value: Dropped) -> object:
    return {"dropped": value.encoded.idempotency_key, "reason": value.reason}


@describe.register
def _(value: GivenUp) -> object:
    return {"given_up": value.encoded.idempotency_key, "error": value.error}


@describe.register
def _(value: Mending) -> object:
    return {"mending": value.encoded.idempotency_key, "error": value.error}


@describe.register
def _(value: Misdirected) -> object:
    return {"misdirected": value.encoded.idempotency_key, "error": value.error}


@describe.register
def _(value: KeyRefused) -> object:
    return {"key_refused": value.encoded.idempotency_key, "error": value.error}


@describe.register
def _(value: Emptied) -> object:
    return {"emptied": value.count}


@describe.register
def _(value: FallingBehind) -> object:
    return {"falling_behind": value.held, "recorded": value.recorded, "delivered": value.delivered}


@describe.register
def _(value: Store) -> object:
    return {"store": value.ticket, "key": value.signal.idempotency_key}


@describe.register
def _(value: Erase) -> object:
    return {"erase": value.idempotency_key}


@describe.register
def _(value: Quarantine) -> object:
    return {"quarantine": value.idempotency_key, "reason": value.reason}


@describe.register
def _(value: GiveBack) -> object:
    return {"give_back": value.idempotency_key}


@describe.register
def _(value: Adopt) -> object:
    return {"adopt": value.limit}


@describe.register
def _(value: Wait) -> object:
    return {"wait": value.until, "reason": value.reason}


@describe.register(Closed)
def _(_: Closed) -> object:
    return {"closed": True}


@describe.register
def _(value: Receipt) -> object:
    return {"result": value.result, "ticket": value.ticket}


@describe.register
def _(value: TrackResult) -> object:
    return {
        "key": value.idempotency_key,
        "queued": value.queued,
        "dropped": value.dropped,
        "raw": value.raw,
    }


@describe.register
def _(value: FlushReport) -> object:
    failed = [[each.encoded.idempotency_key, each.error] for each in value.failed]
    return {
        "delivered": value.delivered,
        "failed": failed,
        "pending": value.pending,
        "adopted": value.adopted,
        "left_behind": value.left_behind,
    }


@describe.register
def _(value: ClockNextError) -> object:
    return {
        "error": type(value).__name__,
        "message": value.message,
        "status": value.status,
        "retryable": value.retryable,
        "key": value.idempotency_key,
        "reason": value.reason,
        "issues": [[issue.field, issue.message] for issue in value.issues],
        "request": None if value.request is None else str(value.request),
        "retry_after": value.retry_after,
    }


@describe.register
def _(value: Response) -> object:
    headers = [[name, text] for name, text in value.headers if name.lower() in RESPONSE_HEADERS]
    return {
        "status": value.status,
        "headers": headers,
        "body": value.body,
        "received_at": value.received_at,
    }


@describe.register
def _(value: Adopted) -> object:
    return [value.signal.idempotency_key, value.signal.body, value.age]


@describe.register
def _(value: Failure) -> object:
    return {"failure": value.message, "processed": value.processed}


@describe.register(Operation)
def _(value: Operation[object]) -> object:
    return {
        "method": value.method,
        "path": value.path,
        "body": value.body,
        "replay_safe": value.replay_safe,
        "key": value.idempotency_key,
    }
