"""What a spool is: a place on disk for signals that have been taken but not yet delivered."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Stored:
    """A signal as it lies in a spool: what every attempt sends, so that a replay can't be billed twice."""

    idempotency_key: str
    body: bytes = field(repr=False)
    """The JSON body, UTF-8."""
    recorded_at: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a spool had to do unasked, and that is to be reported."""

    message: str
    """What happened, a sentence. It holds nothing of a signal but its idempotency key."""
    signal: Stored | None = None
    """The signal that was put in quarantine, and is not given out; `None`: it is not about one signal."""


class Spool(Protocol):
    """A spool. One thread at a time calls its methods, not always the same; it needs no lock of its own.

    A bag, not a set: what is appended twice under one key has to be erased twice. Every method may raise
    `SpoolError`, and can be called again after it: what was wrong may have passed.
    """

    @property
    def window(self) -> float:
        """Seconds after which a stored signal is not sent: the service may have forgotten its key."""
        ...

    def append(self, signals: Sequence[Stored]) -> None:
        """Store signals: all are durable when it returns.

        Raises:
            SpoolError: None of them is stored; the message names what is wrong.
        """
        ...

    def erase(self, keys: Sequence[str]) -> None:
        """Forget signals that have ended, for each key the oldest one; an unknown key is a no-op.

        Need not be durable when it returns: one that comes back is a duplicate request under its key, which
        is never billed twice.

        Raises:
            SpoolError: None of them is forgotten.
        """
        ...

    def adopt(self, limit: int) -> Sequence[Stored]:
        """Take over signals that dead processes left behind: at most `limit`, none when there are none left.

        From then on they are signals of this spool, as if appended, and are erased in the same way. Those
        past the spool's window are put in quarantine instead of returned, and `take_problems` reports them:
        where there are problems but no signals, there may be more to adopt.

        Raises:
            SpoolError: Nothing was taken over.
        """
        ...

    def quarantine(self, keys: Sequence[str], reason: str) -> None:
        """Set signals aside, durably, for a person to look at: for each key the oldest one of this spool.

        Raises:
            SpoolError: They are still in the spool.
        """
        ...

    def take_problems(self) -> Sequence[Problem]:
        """Return what went wrong since the last time it was asked, oldest first."""
        ...

    def suspend(self) -> None:
        """Make ready for a fork: what must not cross it is closed; signals stay this process's."""
        ...

    def resume(self) -> None:
        """Go on after a fork, in the parent."""
        ...

    def restart(self) -> None:
        """Begin anew after a fork, in the child. The parent's signals are not touched."""
        ...

    def close(self) -> None:
        """End. Signals still stored are left behind from then on, for the next process to adopt."""
        ...


@runtime_checkable
class SharedSpool(Protocol):
    """A spool from which other processes take signals at the same time, such as a table that relays share.

    It is a `Spool` with two methods more. For a client with such a spool `Config.is_spool_shared` is set.
    """

    def give_back(self, keys: Sequence[str]) -> None:
        """Leave signals to other processes: they are not signals of this spool any more.

        Raises:
            SpoolError: They are still this spool's.
        """
        ...

    def tend(self) -> float | None:
        """Do what is due by time alone, such as the renewal of a lease. Raises nothing.

        It is called after each of the other methods, and when the time that it returned is over.

        Returns:
            Seconds until it is to be called again; `None`: not before another method is called.
        """
        ...


@runtime_checkable
class CountingSpool(Protocol):
    """A spool that can also count what it has not adopted yet. It need not be able to."""

    def left_behind(self) -> int:
        """Count the signals of dead processes that are still to be adopted, as far as is known.

        It is called after each `adopt`, and must be quick.

        Raises:
            SpoolError: They can't be counted now.
        """
        ...


def is_shared(spool: object) -> bool:
    """Return whether several processes use a spool at the same time: it is a `SharedSpool`."""
    return hasattr(spool, "give_back")
