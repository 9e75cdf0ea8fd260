"""The request that carries one signal, and the result that its answer makes."""

from clocknext_core.config import Config
from clocknext_core.envelope import Payload, clean_text, without_ok
from clocknext_core.errors import ClockNextError
from clocknext_core.messages import Request
from clocknext_core.models import TrackResult
from clocknext_core.operations import USAGE_PATH, Operation
from clocknext_core.signals import EncodedSignal


def signal_operation(encoded: EncodedSignal) -> Operation[TrackResult]:
    """Make the operation that sends one signal and waits: `POST /api/v1/usage`, safe to repeat by its key."""

    def read(payload: Payload) -> TrackResult:
        return track_result(payload, encoded)

    return Operation("POST", USAGE_PATH, read, encoded.body, replay_safe=True, encoded=encoded)


def signal_request(encoded: EncodedSignal, config: Config) -> Request:
    """Make the request that sends one signal; every attempt sends the same."""
    target = config.path_prefix + USAGE_PATH
    return Request("POST", target, config.origin, config.json_headers, encoded.body, replay_safe=True)


def track_result(payload: Payload, encoded: EncodedSignal) -> TrackResult:
    """Read what the server answered to a signal."""
    return TrackResult(without_ok(payload), idempotency_key=encoded.idempotency_key)


def mending_error(encoded: EncodedSignal, result: TrackResult, config: Config) -> ClockNextError:
    """Build the error for a signal that the server took as `PENDING`: delivered, but not billed yet."""
    return ClockNextError(
        "The server took the signal but could not bill it: it is PENDING, until a person corrects it.",
        status=202,
        idempotency_key=encoded.idempotency_key,
        signal_id=clean_text(result.signal_id, config),
        received_at=clean_text(result.received_at, config),
    )
