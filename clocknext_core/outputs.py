"""The outputs of the machines: values that `poll` returns, one at a time.

Each asks the driver to do something. `Call` and `Outbox` share this grammar, so a driver reads both alike.
The last section is for a `SpooledOutbox` alone: a driver without a spool never meets it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar, final

from clocknext_core.errors import ClockNextError
from clocknext_core.messages import Request
from clocknext_core.models import TrackResult
from clocknext_core.signals import EncodedSignal, Signal
from clocknext_core.states import DropReason
from clocknext_core.values import MutableValue, Value

T = TypeVar("T")

Ticket: TypeAlias = int
"""Names one attempt, or one waiter, for as long as the machine lives."""


@final
@dataclass(slots=True, eq=False, repr=False)
class Transmit(MutableValue):
    """Start this exchange, and report its answer or failure under the same ticket."""

    ticket: Ticket
    request: Request
    deadline_at: float
    """When the exchange must have ended, on the clock that `now` is read from."""


@final
@dataclass(slots=True, eq=False, repr=False)
class Settled(MutableValue, Generic[T]):
    """Wake the caller that waits for this ticket, with this outcome."""

    ticket: Ticket
    outcome: T | ClockNextError

    def unwrap(self) -> T:
        """Return the value, or raise the error."""
        if isinstance(self.outcome, ClockNextError):
            raise self.outcome
        return self.outcome


@dataclass(slots=True, eq=False, repr=False)
class Receipt(MutableValue):
    """The result of recording a signal."""

    result: TrackResult
    ticket: Ticket | None = None
    """Where the call has to wait, for room in the queue or for the spool: wait for this to settle."""


class HookOutput(MutableValue):
    """An output that asks for the user's hooks to be run: one of `HookEvent`."""

    __slots__ = ()


class _OfSignal:
    """What an event about a signal shows of it."""

    __slots__ = ()

    encoded: EncodedSignal

    @property
    def signal(self) -> Signal:
        """The signal concerned."""
        return self.encoded.signal


@dataclass(slots=True, eq=False, repr=False)
class _Failed(_OfSignal, HookOutput):
    """What an event about a failed signal shows of it."""

    encoded: EncodedSignal
    error: ClockNextError


@final
@dataclass(slots=True, eq=False, repr=False)
class Delivered(_OfSignal, HookOutput):
    """The server acknowledged a signal."""

    encoded: EncodedSignal
    result: TrackResult


@final
class Rejected(_Failed):
    """The server refused a signal for good. Run `on_error`, then `on_drop` with `send_failed`."""

    __slots__ = ()


@final
class GivenUp(_Failed):
    """A signal's last attempt failed. Run `on_error`, then `on_drop` with `send_failed`."""

    __slots__ = ()


@final
class Mending(_Failed):
    """The server keeps a signal for a person to mend: delivered, but not billed yet. Run `on_error`."""

    __slots__ = ()


@final
class KeyRefused(_Failed):
    """The server refused the API key; the signal stays in the spool until the key is changed. Run `on_error`.

    Once for each signal, at its first attempt.
    """

    __slots__ = ()


@final
class Misdirected(_Failed):
    """A router, proxy or firewall answered a signal in place of the API; it stays held. Run `on_error`.

    Once for each signal, at its first such answer.
    """

    __slots__ = ()


@final
@dataclass(slots=True, eq=False, repr=False)
class Retrying(HookOutput):
    """An attempt failed and will be repeated. Run `on_retry`."""

    attempt: int
    """The number of the attempt that failed, from 1."""
    delay: float
    """Seconds until the next one, at the earliest."""
    error: ClockNextError
    encoded: EncodedSignal | None

    @property
    def signal(self) -> Signal | None:
        """The signal concerned; `None` for any other call."""
        return None if self.encoded is None else self.encoded.signal


@final
@dataclass(slots=True, eq=False, repr=False)
class Dropped(_OfSignal, HookOutput):
    """A signal was dropped for want of room, at the close or for its age. Run `on_drop`."""

    encoded: EncodedSignal
    reason: DropReason


@final
@dataclass(slots=True, eq=False, repr=False)
class Emptied(HookOutput):
    """The last held signal has ended. Run `on_flush`."""

    count: int
    """Signals delivered since it was last empty."""


@final
@dataclass(slots=True, eq=False, repr=False)
class FallingBehind(HookOutput):
    """More is recorded than `max_concurrency` lets through, while the service is well. Log it.

    Once for each client, when the number held has grown for a minute; never with `max_concurrency="auto"`.
    """

    held: int
    """Signals held."""
    seconds: float
    """How long their number has grown."""
    recorded: int
    """Signals recorded in that time."""
    delivered: int
    """Signals delivered in that time."""
    max_concurrency: int
    """Attempts at once that the policy allows: all of them were in flight."""


class WaitReason(StrEnum):
    """What happens at the time that a `Wait` names."""

    INTERVAL = "interval"
    """The batch's interval is over."""
    BACK_OFF = "back-off"
    """A failed attempt is repeated."""
    GATE = "gate"
    """The host's gate opens: a Retry-After is over, or a probe is due."""
    FLUSH_DEADLINE = "flush deadline"
    """A flush or close gives up."""
    BLOCK_DEADLINE = "block deadline"
    """A call has waited for room for too long."""
    ADOPTION = "adoption"
    """It is time to look for what dead processes left in the spool."""


@final
@dataclass(slots=True, eq=False, repr=False)
class Wait(MutableValue):
    """There is nothing to do: sleep until `until` (`None`: for ever), or until the next input."""

    until: float | None
    reason: WaitReason | None = field(default=None, compare=False)
    """What happens then; `None` with `until`. Two waits until the same time are equal."""


@final
@dataclass(slots=True, eq=False, repr=False)
class Closed(MutableValue):
    """Nothing more will come. Stop."""


HookEvent: TypeAlias = (
    Delivered
    | Rejected
    | GivenUp
    | Mending
    | KeyRefused
    | Misdirected
    | Retrying
    | Dropped
    | Emptied
    | FallingBehind
)
"""The outputs for which hooks are run. Each is a `HookOutput`, so that a driver needs one case for all."""


def key_to_forget(event: HookEvent, *, has_spool: bool = False, is_spool_shared: bool = False) -> str | None:
    """Return the key of a signal that was lost, so that it may be recorded once more; else `None`.

    One that lies in a quarantine is not lost: it may be released from there, and billed then.

    Args:
        event: The event in which the signal ended.
        has_spool: Whether the client has a spool, which keeps what is given up.
        is_spool_shared: Whether that is one of many machines, which keeps what is refused, too.
    """
    match event:
        case Dropped():
            is_lost = event.reason != "expired"
        case GivenUp():
            is_lost = not has_spool
        case Rejected():
            is_lost = not is_spool_shared
        case _:
            return None
    return event.encoded.idempotency_key if is_lost else None


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FailedSignal(Value, _OfSignal):
    """A signal that was not delivered, and why."""

    encoded: EncodedSignal
    error: ClockNextError


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FlushReport(Value):
    """How the signals ended that were recorded before a flush and that no earlier report covered."""

    delivered: int
    """Signals the server acknowledged, those adopted from dead processes included."""
    failed: Sequence[FailedSignal] = field(default_factory=list[FailedSignal])
    """Signals rejected, given up or dropped, each with its error: the latest `max_queue_size` of them."""
    pending: int = 0
    """Signals that had not ended when the flush ran out of time. They are still held, or after a close with a
    spool still in it."""
    adopted: int = 0
    """Of those delivered, how many a dead process had left in the spool."""
    left_behind: int = 0
    """Signals of dead processes that were still in the spool and not taken over, as far as is known."""


# With a spool


@final
@dataclass(slots=True, eq=False, repr=False)
class Store(MutableValue):
    """Put a signal into the spool; when it is durable, report with `handle_stored` under the same ticket."""

    ticket: Ticket
    signal: EncodedSignal


@final
@dataclass(slots=True, eq=False, repr=False)
class Erase(MutableValue):
    """Take a signal that has ended out of the spool. Need not be durable; there is nothing to report."""

    idempotency_key: str


@final
@dataclass(slots=True, eq=False, repr=False)
class Quarantine(MutableValue):
    """Set a stored signal aside for a person to look at: it is not sent any more."""

    idempotency_key: str
    reason: str


@final
@dataclass(slots=True, eq=False, repr=False)
class GiveBack(MutableValue):
    """Leave a signal in a shared spool to other processes; it is not this one's any more."""

    idempotency_key: str


@final
@dataclass(slots=True, eq=False, repr=False)
class Adopt(MutableValue):
    """Take over signals that dead processes left in the spool.

    Report with `handle_adopted`, or with `handle_adoption_failed` where that failed.
    """

    limit: int
    """Most signals to take over."""


SpoolDuty: TypeAlias = Store | Erase | Quarantine | GiveBack | Adopt


def queued(encoded: EncodedSignal, *, dropped: DropReason | None = None) -> TrackResult:
    """Make the result of a call whose signal was buffered, or dropped instead."""
    # Every recorded signal has one, and a class that is called with names takes three times as long.
    result = TrackResult.__new__(TrackResult)
    result.raw = {}
    result.idempotency_key = encoded.idempotency_key
    result.queued = True
    result.dropped = dropped
    return result


def dropped(encoded: EncodedSignal, reason: DropReason) -> FailedSignal:
    """Make what a report says of a signal that was dropped without a failure of its own."""
    error = ClockNextError(
        f"The signal was dropped: {reason}.", retryable=True, idempotency_key=encoded.idempotency_key
    )
    return FailedSignal(encoded, error)
