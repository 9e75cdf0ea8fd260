"""The room for held signals: the limits of the queue, and the calls that wait until there is room."""

from collections import deque
from dataclasses import dataclass

from clocknext_core.config import BatchPolicy
from clocknext_core.errors import QueueFullError
from clocknext_core.outputs import Ticket
from clocknext_core.signals import EncodedSignal


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Blocked:
    """A call that waits for room."""

    ticket: Ticket
    encoded: EncodedSignal
    deadline_at: float
    """When its signal is dropped after all."""


class Room:
    """How many signals and bytes are held or on their way into the spool, and the calls that wait.

    Args:
        batch: `max_queue_size` and `max_queue_bytes` are the limits.
    """

    def __init__(self, batch: BatchPolicy) -> None:
        self._most = batch.max_queue_size
        self._most_bytes = batch.max_queue_bytes
        self.count: int = 0
        """Signals that take up room."""
        self.size: int = 0
        """Bytes of their bodies."""
        self.blocked: deque[Blocked] = deque()
        """The calls that wait, in the order they came."""

    def take(self, size: int) -> None:
        """Take up room for one signal of `size` bytes."""
        self.count += 1
        self.size += size

    def give_back(self, size: int) -> None:
        """Give back the room of one signal of `size` bytes."""
        self.count -= 1
        self.size -= size

    @property
    def is_full(self) -> bool:
        """Whether there is no room: for even an empty signal, or for the call that has waited longest."""
        if self.blocked:
            return not self.fits(len(self.blocked[0].encoded.body))
        return self.count >= self._most or self.size >= self._most_bytes

    @property
    def is_half_full(self) -> bool:
        """Whether at least half of the places are taken."""
        return 2 * self.count >= self._most

    def fits(self, size: int, *, without: int = 0, without_bytes: int = 0) -> bool:
        """Return whether a signal fits.

        Args:
            size: Bytes of its body.
            without: Signals that would make room for it.
            without_bytes: Bytes of their bodies.
        """
        return self.count - without < self._most and self.size - without_bytes + size <= self._most_bytes

    def never_fits(self, size: int) -> bool:
        """Return whether a signal of `size` bytes is too large even for an empty queue."""
        return size > self._most_bytes

    def error(self, encoded: EncodedSignal) -> QueueFullError:
        """Make the error of a call whose signal has no room."""
        size = len(encoded.body)
        never_fits = self.never_fits(size)
        if never_fits:
            message = (
                f"The signal has {size} bytes, and max_queue_bytes is {self._most_bytes}: it would never "
                "fit. It was not recorded; raise max_queue_bytes, or send it with wait=True."
            )
        else:
            message = (
                f"{self.count} signals of {self.size} bytes are held, and max_queue_size or max_queue_bytes "
                "allows no more; this one was not recorded."
            )
        return QueueFullError(message, retryable=not never_fits, idempotency_key=encoded.idempotency_key)

    # Calls that wait

    def block(self, blocked: Blocked) -> None:
        """Have a call wait for room, behind those that wait already."""
        self.blocked.append(blocked)

    def withdraw(self, ticket: Ticket) -> None:
        """Forget a call that waits no longer; a no-op if it does not wait."""
        self.blocked = deque(blocked for blocked in self.blocked if blocked.ticket != ticket)

    def next_admitted(self, *, however_full: bool = False) -> Blocked | None:
        """Take the call that has waited longest, if its signal fits; `however_full`: also if it does not."""
        if self.blocked and (however_full or self.fits(len(self.blocked[0].encoded.body))):
            return self.blocked.popleft()
        return None

    def next_overdue(self, now: float) -> Blocked | None:
        """Take a call that has waited for too long."""
        return self.blocked.popleft() if self.blocked and self.blocked[0].deadline_at <= now else None
