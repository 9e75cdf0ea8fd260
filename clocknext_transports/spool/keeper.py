"""What stands between a client's outbox and its spool: carries duties to the writer's thread, results back.

The outbox decides, the writer waits for the disk. Results come in the writer's thread and wait here until the
driver brings them to the outbox, where it brings everything else: under its lock, or in its event loop.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias, assert_never
from weakref import WeakSet

from clocknext_core import (
    Adopt,
    Adopted,
    Erase,
    Outbox,
    Quarantine,
    SpoolDuty,
    SpoolError,
    Store,
    Ticket,
    ValidationError,
)
from clocknext_core.signals import decode
from clocknext_transports.process import fork as forks
from clocknext_transports.process.log import logger
from clocknext_transports.spool.protocol import Problem, Spool, Stored
from clocknext_transports.spool.writer import SpoolWriter

Later: TypeAlias = Callable[[], object]
"""Has the driver bring results soon. Called in any thread."""

CLOSE_TIMEOUT = 5.0
"""Seconds that closing waits for the disk."""


class Keeper:
    """Carries out an outbox's duties to its spool.

    Args:
        spool: The spool, from now on this keeper's alone.
        wall: The wall clock, seconds since 1970: what the age of a stored signal is measured by.
    """

    def __init__(self, spool: Spool, wall: Callable[[], float] = time.time) -> None:
        self._writer = SpoolWriter(spool, self._note)
        self._wall = wall
        self._results: deque[Callable[[Outbox, float], None]] = deque()
        self._later: Later = _nobody
        _keepers.add(self)

    def report_to(self, later: Later) -> None:
        """Call this from now on, in the writer's thread, when there is something to `bring`."""
        self._later = later

    def obey(self, duty: SpoolDuty) -> None:
        """Begin a duty. What comes of it is there to `bring` later, or at once if it can't be begun."""
        try:
            match duty:
                case Store():
                    encoded = duty.signal
                    stored = Stored(encoded.idempotency_key, encoded.body, self._wall())
                    self._writer.append(stored, partial(self._stored, duty.ticket))
                case Erase():
                    self._writer.erase(duty.idempotency_key)
                case Quarantine():
                    self._writer.quarantine(duty.idempotency_key, duty.reason)
                case Adopt():
                    self._writer.adopt(duty.limit, self._adopted)
                case _:
                    assert_never(duty)
        except SpoolError as error:
            self._refused(duty, error)

    def bring(self, outbox: Outbox, *, now: float) -> None:
        """Bring the results there are to the outbox."""
        while self._results:
            self._results.popleft()(outbox, now)

    def close(self, done: Callable[[], object] | None = None) -> None:
        """Have everything carried out and the spool closed; `done` is called last, in any thread."""
        self._writer.close(done)

    def join(self) -> None:
        """Wait for the end after `close`, for `CLOSE_TIMEOUT` at most."""
        if not self._writer.join(CLOSE_TIMEOUT):
            logger.warning("The spool could not be closed in time; what is in it is safe.")

    def suspend(self) -> None:
        """Make ready for a fork."""
        self._writer.suspend()

    def resume(self) -> None:
        """Go on after a fork, in the parent."""
        self._writer.resume()

    def restart(self) -> None:
        """Begin anew after a fork, in the child."""
        self._results = deque()
        self._writer.restart()

    def _refused(self, duty: SpoolDuty, error: SpoolError) -> None:
        match duty:
            case Store():
                # Nobody is told: whoever gave the order is here, under its lock, and brings this next.
                self._results.append(lambda outbox, now: outbox.handle_stored(duty.ticket, error, now=now))
            case Adopt():
                self._results.append(lambda outbox, now: outbox.handle_adopted((), now=now))
            case Erase() | Quarantine():
                logger.warning("The spool is closed; a signal that has ended stays in it: %s", error)
            case _:
                assert_never(duty)

    # In the writer's thread

    def _stored(self, ticket: Ticket, error: SpoolError | None) -> None:
        self._put(lambda outbox, now: outbox.handle_stored(ticket, error, now=now))

    def _adopted(self, found: Sequence[Stored] | SpoolError) -> None:
        if isinstance(found, SpoolError):
            logger.warning("Signals of dead processes could not be taken over: %s", found)
            found = ()
        adopted: list[Adopted] = []
        for stored in found:
            try:
                signal = decode(stored.body)
            except ValidationError as error:
                self._writer.quarantine(stored.idempotency_key, str(error))
            else:
                adopted.append(Adopted(signal, max(0.0, self._wall() - stored.recorded_at)))
        self._put(lambda outbox, now: outbox.handle_adopted(adopted, now=now))

    def _note(self, problem: Problem) -> None:
        logger.warning("%s", problem.message)
        if problem.signal is not None:
            try:
                expired = decode(problem.signal.body)
            except ValidationError:
                return
            self._put(lambda outbox, now: outbox.handle_expired(expired, now=now))

    def _put(self, result: Callable[[Outbox, float], None]) -> None:
        self._results.append(result)
        self._later()


def _nobody() -> None:
    """Stand in until the first duty: nobody has asked for anything."""


_keepers: WeakSet[Keeper] = WeakSet()


def _suspend_all() -> None:
    for keeper in list(_keepers):
        keeper.suspend()


def _resume_all() -> None:
    for keeper in list(_keepers):
        keeper.resume()


forks.around(_suspend_all, _resume_all)
