"""The body of `POST /api/v1/usage`: made of a signal's arguments, checked and named as on the wire.

One function for each kind of signal. Every recorded signal passes here, so they take their arguments by
position, which is quicker.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

from clocknext_core.checks import (
    check_bool,
    check_choice,
    check_email,
    check_id,
    check_mapping,
    check_text,
)
from clocknext_core.encoding import encode_json
from clocknext_core.errors import ValidationError, invalid
from clocknext_core.tokens import Tokens, TokensLike, put_counts

Body: TypeAlias = dict[str, object]
"""What is sent of a signal, not encoded yet."""

SignalType: TypeAlias = Literal["credit", "wallet", "outcome"]
SignalStatus: TypeAlias = Literal["SUCCESS", "FAILURE", "PENDING"]

MAX_CUSTOM_BYTES = 32 * 1024
MAX_BODY_BYTES = 64 * 1024

BODY_FIELDS = frozenset(
    {
        *("customerId", "type", "model", "key", "agentKey", "inputTokens", "outputTokens", "cacheTokens"),
        *("member", "status", "custom", "idempotencyKey", "runId", "complete", "dryRun"),
        *("organizationId", "signalId", "receivedAt"),
    }
)
"""Names a metric's ref must not take: the body's own, and those the server reserves for itself."""

ARGUMENTS = {
    "customerId": "customer_id",
    "model": "model",
    "key": "key",
    "agentKey": "agent_key",
    "member": "member",
    "custom": "custom",
    "idempotencyKey": "idempotency_key",
    "runId": "run_id",
    "status": "status",
    "complete": "complete",
}
"""Which argument a field of the body is made of."""

_STATUSES = get_args(SignalStatus)
_NO_TOKENS = Tokens()


def wallet_body(  # noqa: PLR0917
    customer_id: str,
    model: str,
    tokens: TokensLike | None,
    member: str | None,
    status: SignalStatus | None,
    custom: Mapping[str, object] | None,
    metric: Mapping[str, object] | None,
    idempotency_key: str | None,
) -> Body:
    """Make the body of a wallet signal. `metric` is checked, and not sent: the server ignores it there.

    Raises:
        ValidationError: An argument is missing, of the wrong type or out of range; it names the argument.
    """
    body = _begun("wallet", customer_id, model, tokens)
    if metric is not None:
        _check_metric(metric)
    return _finished(body, member, status, custom, idempotency_key)


def credit_body(  # noqa: PLR0917
    customer_id: str,
    model: str,
    key: str | None,
    agent_key: str | None,
    tokens: TokensLike | None,
    member: str | None,
    status: SignalStatus | None,
    custom: Mapping[str, object] | None,
    metric: Mapping[str, object] | None,
    idempotency_key: str | None,
) -> Body:
    """Make the body of a credit signal.

    Raises:
        ValidationError: An argument is missing, of the wrong type or out of range; it names the argument.
    """
    body = _begun("credit", customer_id, model, tokens)
    _put_key(body, key, agent_key)
    if metric is not None:
        _put_metric(body, metric)
    return _finished(body, member, status, custom, idempotency_key)


def outcome_body(  # noqa: PLR0917
    customer_id: str,
    model: str,
    key: str | None,
    agent_key: str | None,
    run_id: str | None,
    complete: bool | None,
    tokens: TokensLike | None,
    member: str | None,
    status: SignalStatus | None,
    custom: Mapping[str, object] | None,
    metric: Mapping[str, object] | None,
    idempotency_key: str | None,
) -> Body:
    """Make the body of an outcome signal.

    Raises:
        ValidationError: An argument is missing, of the wrong type or out of range; it names the argument.
    """
    body = _begun("outcome", customer_id, model, tokens)
    _put_key(body, key, agent_key)
    if run_id is not None:
        body["runId"] = check_id("run_id", run_id)
    if complete is not None:
        body["complete"] = check_bool("complete", complete)
    if metric is not None:
        _put_metric(body, metric)
    return _finished(body, member, status, custom, idempotency_key)


def _begun(kind: SignalType, customer_id: str, model: str, tokens: TokensLike | None) -> Body:
    body: Body = {
        "customerId": check_text("customer_id", customer_id),
        "type": kind,
        "model": check_text("model", model),
    }
    put_counts(body, _NO_TOKENS if tokens is None else tokens)
    return body


def _finished(
    body: Body,
    member: str | None,
    status: SignalStatus | None,
    custom: Mapping[str, object] | None,
    idempotency_key: str | None,
) -> Body:
    if member is not None and member != "":
        body["member"] = check_email("member", member)
    if status is not None:
        check_choice("status", status, _STATUSES)
        body["status"] = status
    if custom is not None:
        check_mapping("custom", custom)
        body["custom"] = dict(custom)
    if idempotency_key is not None:
        body["idempotencyKey"] = check_id("idempotency_key", idempotency_key)
    return body


def _put_key(body: Body, key: str | None, agent_key: str | None) -> None:
    if key is None:
        if agent_key is None:
            raise invalid("key", "is required: give key or agent_key")
        body["agentKey"] = check_text("agent_key", agent_key)
    elif agent_key is None:
        body["key"] = check_text("key", key)
    else:
        raise invalid("key", "must not be given together with agent_key: give exactly one")


def _put_metric(body: Body, metric: Mapping[str, object]) -> None:
    ref = _check_metric(metric)
    body[ref] = metric["value"]


def _check_metric(metric: Mapping[str, object]) -> str:
    check_mapping("metric", metric)
    if set(metric) != {"ref", "value"}:
        raise invalid("metric", "must have exactly the keys ref and value")
    ref = check_text("metric.ref", metric["ref"])
    if ref in BODY_FIELDS:
        raise invalid("metric.ref", f"must not be {ref!r}, a field of the signal itself")
    return ref


def encode_body(body: Body) -> bytes:
    """Encode a body.

    Raises:
        ValidationError: Something can't be encoded as JSON (NaN, a cycle, a lone surrogate, an object of
            some class), `custom` is larger than 32 KiB or the whole body larger than 64 KiB.
    """
    try:
        encoded = encode_json(body)
    except ValueError as error:
        raise _first_culprit(body, error) from None
    # Only a body larger than the lesser limit can break either.
    if len(encoded) > MAX_CUSTOM_BYTES:
        if "custom" in body and len(encode_json(body["custom"])) > MAX_CUSTOM_BYTES:
            raise invalid("custom", f"must be at most {MAX_CUSTOM_BYTES} bytes once encoded")
        if len(encoded) > MAX_BODY_BYTES:
            raise invalid("signal", f"must be at most {MAX_BODY_BYTES} bytes once encoded")
    return encoded


def _first_culprit(body: Body, error: ValueError) -> ValidationError:
    """Find which argument can't be encoded, to name it."""
    culprit = "signal"  # stays so where another thread has changed the culprit since
    for name, value in body.items():
        try:
            encode_json({name: value})
        except ValueError as found:
            culprit, error = ARGUMENTS.get(name, "metric"), found
            break
    return invalid(culprit, f"can't be encoded as JSON: {error}")
