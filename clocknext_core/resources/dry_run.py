"""Dry runs: the signal that is to be checked and priced, and what the server's answer to it says."""

from collections.abc import Mapping
from functools import partial
from typing import get_args

from clocknext_core.checks import check_choice, check_instance
from clocknext_core.envelope import Payload, as_object
from clocknext_core.errors import ClockNextError, invalid
from clocknext_core.models import UsageLog
from clocknext_core.operations import USAGE_PATH, Operation
from clocknext_core.signals import Signal, SignalType, encode_dry_run, make_signal


def one_signal(
    signal: Signal | None, signal_type: SignalType | None, arguments: Mapping[str, object]
) -> Signal:
    """Return the signal that was given, or make the one whose arguments were."""
    if signal is not None:
        check_instance("signal", signal, Signal)
        if signal_type is not None or arguments:
            name = "type" if signal_type is not None else next(iter(arguments))
            raise invalid(name, "must not be given together with a signal object")
        return signal
    if signal_type is None and not arguments:
        raise invalid("signal", "is required: give a signal object, or a signal's keywords")
    if signal_type is None and ("key" in arguments or "agent_key" in arguments):
        raise invalid("type", "is required with a key: credit or outcome")
    kind: SignalType = "wallet" if signal_type is None else signal_type
    check_choice("type", kind, get_args(SignalType))
    return make_signal(kind, {"customer_id": None, "model": None, **arguments})


def dry_run(signal: Signal) -> Operation[UsageLog | None]:
    """Make the operation that has the server check and price a signal."""
    return Operation(
        "POST",
        USAGE_PATH,
        partial(verified, idempotency_key=signal.idempotency_key),
        encode_dry_run(signal),
        replay_safe=True,
        read_taken=partial(taken, idempotency_key=signal.idempotency_key),
    )


def verified(payload: Payload, idempotency_key: str | None) -> UsageLog | ClockNextError | None:
    """Read the answer to a dry run. One that names a signal which was taken was given to no dry run."""
    if isinstance(payload.get("usageLog"), dict):
        return UsageLog(as_object(payload["usageLog"]))
    is_signal = isinstance(payload.get("signalId"), str) or payload.get("accepted") is True
    if is_signal or payload.get("status") == "PENDING":
        return taken(payload, idempotency_key)
    return None


def taken(payload: Payload, idempotency_key: str | None) -> ClockNextError:
    """Make the error of a dry run that the server took for a signal: every 202 says so, whatever is in it."""
    signal_id, received_at = payload.get("signalId"), payload.get("receivedAt")
    return ClockNextError(
        "The server could not bill the signal and queued it for a person to correct: this was no dry run."
        if payload.get("status") == "PENDING"
        else "The server took the signal and may bill it: it does not know dry runs.",
        status=202,
        idempotency_key=idempotency_key,
        signal_id=signal_id if isinstance(signal_id, str) else None,
        received_at=received_at if isinstance(received_at, str) else None,
    )
