"""What the machines tell their driver: values that `poll` returns, one at a time.

Each names a duty. `Call` and `Outbox` speak the same grammar, so a driver reads both in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from clocknext_core.errors import ClockNextError
from clocknext_core.messages import Request
from clocknext_core.models import DropReason, TrackResult
from clocknext_core.signals import EncodedSignal, Signal

T = TypeVar("T")

Ticket: TypeAlias = int
"""Names one attempt, or one waiter, for as long as the machine lives."""


@dataclass(slots=True)
class Transmit:
    """Start this exchange, and report its answer or failure under the same ticket."""

    ticket: Ticket
    request: Request
    deadline_at: float
    """When the exchange must have ended, on the clock that `now` is read from."""


@dataclass(slots=True)
class Settled(Generic[T]):
    """Wake whoever waits for this ticket, with this outcome."""

    ticket: Ticket
    outcome: T | ClockNextError

    def unwrap(self) -> T:
        """Return the value, or raise the error."""
        if isinstance(self.outcome, ClockNextError):
            raise self.outcome
        return self.outcome


class _OfSignal:
    """What an event about a signal shows of it."""

    __slots__ = ()

    encoded: EncodedSignal

    @property
    def signal(self) -> Signal:
        """The signal concerned."""
        return self.encoded.signal


@dataclass(slots=True)
class Delivered(_OfSignal):
    """The server acknowledged a signal."""

    encoded: EncodedSignal
    result: TrackResult


@dataclass(slots=True)
class Rejected(_OfSignal):
    """A buffered signal was refused, or given up after its last attempt. Run `on_error`.

    Also where the server took a signal only to have it mended by a person: delivered, but not billed yet.
    """

    encoded: EncodedSignal
    error: ClockNextError


@dataclass(slots=True)
class Retrying:
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


@dataclass(slots=True)
class Dropped(_OfSignal):
    """A signal will not be sent. Run `on_drop`."""

    encoded: EncodedSignal
    reason: DropReason


@dataclass(slots=True)
class Flushed:
    """The buffer has been emptied. Run `on_flush`."""

    count: int
    """Signals delivered since it was last empty."""


@dataclass(slots=True)
class Store:
    """Put a signal into the spool; when it is durable, report with `handle_stored` under the same ticket."""

    ticket: Ticket
    signal: EncodedSignal


@dataclass(slots=True)
class Erase:
    """A signal has ended: take it out of the spool. Need not be durable, nor is there anything to report."""

    idempotency_key: str


@dataclass(slots=True)
class Quarantine:
    """Set a stored signal aside for a person to look at: it is too old to be sent."""

    idempotency_key: str
    reason: str


@dataclass(slots=True)
class Adopt:
    """Take over signals that dead processes left in the spool; report them with `handle_adopted`."""

    limit: int
    """Most signals to take over."""


@dataclass(slots=True)
class Wait:
    """Drained: sleep until `until` (`None`: for ever), or until the next input."""

    until: float | None


@dataclass(slots=True)
class Closed:
    """Nothing more will come. Stop."""


SpoolDuty: TypeAlias = Store | Erase | Quarantine | Adopt
HookEvent: TypeAlias = Delivered | Rejected | Retrying | Dropped | Flushed


@dataclass(frozen=True, slots=True)
class FailedSignal(_OfSignal):
    """A signal that was not delivered, and why."""

    encoded: EncodedSignal
    error: ClockNextError


@dataclass(frozen=True, slots=True)
class FlushReport:
    """What became of the signals recorded before a flush and not told of by an earlier one."""

    delivered: int
    """Signals the server acknowledged."""
    failed: Sequence[FailedSignal] = field(default_factory=list[FailedSignal])
    """Signals refused, given up or dropped, each with its error. The latest `max_queue_size` of them, if
    there was no flush for so long that there were more."""
    pending: int = 0
    """Signals that had not ended when the flush ran out of time; they are still held, or after a close with a
    spool still in it."""
