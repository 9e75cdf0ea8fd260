"""What stands between a client's outbox and its spool: duties go to the writer's thread, results come back.

The outbox decides, the writer waits for the disk. Results come in the writer's thread and wait here until the
driver collects them, where it gives the outbox everything else: under its lock, or in its event loop.
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
    GiveBack,
    Outbox,
    OutboxOutput,
    Quarantine,
    SpoolDuty,
    SpooledOutbox,
    SpoolError,
    Store,
    ValidationError,
)
from clocknext_core.signals import decode
from clocknext_transports.process import fork as forks
from clocknext_transports.process.log import logger
from clocknext_transports.spool.protocol import Problem, Spool, Stored, is_shared
from clocknext_transports.spool.writer import SpoolWriter

Later: TypeAlias = Callable[[], object]
"""Has the driver collect results soon. Called in any thread."""
Result: TypeAlias = Callable[[SpooledOutbox, float], None]
"""Tells the outbox the result of a duty, given the time."""

CLOSE_TIMEOUT = 5.0
"""Seconds that closing waits for the disk."""

_DUTIES = (Store, Erase, Quarantine, GiveBack, Adopt)
"""The classes of `SpoolDuty`. As a tuple: a union would be built at each `isinstance`."""


class Keeper:
    """Carries out an outbox's duties to its spool, so that its driver need not know of them.

    Args:
        spool: The spool; from now on only this keeper uses it.
        outbox: The client's.
        wall: The wall clock, seconds since 1970: what the age of a stored signal is measured by.
    """

    def __init__(
        self, spool: Spool, outbox: Outbox | SpooledOutbox, wall: Callable[[], float] = time.time
    ) -> None:
        self._outbox = _spooled(outbox)
        self._is_shared = is_shared(spool)
        self._wall = wall
        self._writer = SpoolWriter(
            spool, on_stored=self._stored, on_adopted=self._adopted, on_problem=self._note, wall=wall
        )
        self._results: deque[Result] = deque()
        self._warnings: list[str] = []
        self._last_failure: str | None = None
        """Why signals could not be taken over, the last time, if they could not."""
        self._later: Later = _wake_no_driver
        _keepers.add(self)

    def report_to(self, later: Later) -> None:
        """Call this from now on, in the writer's thread, when there is something to `bring`."""
        self._later = later

    def poll(self, *, now: float) -> OutboxOutput:
        """Poll the outbox in place of its own `poll`: duties to the spool are carried out here."""
        while True:
            self.bring(now=now)
            output = self._outbox.poll(now=now)
            if not isinstance(output, _DUTIES):
                return output
            self._begin(output)

    def bring(self, *, now: float) -> None:
        """Give the results there are to the outbox."""
        while self._results:
            self._results.popleft()(self._outbox, now)

    def take_warnings(self) -> list[str]:
        """Return what is to be logged, and forget it: no log handler runs under the driver's lock."""
        taken, self._warnings = self._warnings, []
        return taken

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

    def restart(self, outbox: Outbox | SpooledOutbox) -> None:
        """Begin anew after a fork, in the child, with an outbox of its own."""
        self._outbox = _spooled(outbox)
        self._results = deque()
        self._writer.restart()

    def _begin(self, duty: SpoolDuty) -> None:
        try:
            self._writer.put(duty)
        except SpoolError as error:
            # No wake-up: the caller collects results next.
            match duty:
                case Store():
                    self._results.append(partial(_tell_stored, duty, error))
                case Adopt():
                    # That there is no thread may pass; a writer that is closed stays so.
                    self._results.append(partial(_fail_adoption, not error.retryable))
                case Erase() | Quarantine() | GiveBack():
                    self._warnings.append(
                        f"The spool is closed; a signal that has ended stays in it: {error}"
                    )
                case _:
                    assert_never(duty)

    # In the writer's thread

    def _stored(self, duty: Store, error: SpoolError | None) -> None:
        self._put(partial(_tell_stored, duty, error))

    def _adopted(self, found: Sequence[Stored] | SpoolError, left_behind: int) -> None:
        if isinstance(found, SpoolError):
            # A shared spool is looked into every second, where the same failure is worth one warning.
            if not self._is_shared or found.message != self._last_failure:
                self._last_failure = found.message
                logger.warning("Signals of dead processes could not be taken over, for now: %s", found)
            self._put(partial(_fail_adoption, False))  # noqa: FBT003
            return
        self._last_failure = None
        adopted: list[Adopted] = []
        unreadable = 0
        for stored in found:
            try:
                signal = decode(stored.body)
                if signal.idempotency_key != stored.idempotency_key:
                    raise ValidationError("It was stored under another key than the one in its body.")
            except ValidationError as error:
                unreadable += 1
                self._put_aside(stored, str(error))
            else:
                adopted.append(Adopted(signal, max(0.0, self._wall() - stored.recorded_at)))
        if unreadable:
            logger.warning(
                "Signals of dead processes that this version can't read: %d. They were put in quarantine.",
                unreadable,
            )
        self._put(partial(_tell_adopted, adopted, not found, left_behind))

    def _put_aside(self, stored: Stored, reason: str) -> None:
        try:
            self._writer.put(Quarantine(stored.idempotency_key, reason))
        except SpoolError:
            return  # it is closing: the next process comes across it

    def _note(self, problem: Problem) -> None:
        logger.warning("%s", problem.message)
        if problem.signal is not None:
            try:
                expired = decode(problem.signal.body)
            except ValidationError:
                return
            self._put(lambda outbox, now: outbox.handle_expired(expired, now=now))

    def _put(self, result: Result) -> None:
        self._results.append(result)
        self._later()


def _tell_stored(duty: Store, error: SpoolError | None, outbox: SpooledOutbox, now: float) -> None:
    outbox.handle_stored(duty.ticket, error, now=now)


def _tell_adopted(
    signals: Sequence[Adopted], is_last: bool, left_behind: int, outbox: SpooledOutbox, now: float
) -> None:
    outbox.handle_adopted(signals, is_last=is_last, left_behind=left_behind, now=now)


def _fail_adoption(is_final: bool, outbox: SpooledOutbox, now: float) -> None:
    outbox.handle_adoption_failed(is_final=is_final, now=now)


def _spooled(outbox: Outbox | SpooledOutbox) -> SpooledOutbox:
    assert isinstance(outbox, SpooledOutbox)  # the configuration names a window
    return outbox


def _wake_no_driver() -> None:
    """Do nothing until the first duty: no driver has asked for results yet."""


_keepers: WeakSet[Keeper] = WeakSet()


def _suspend_all() -> None:
    for keeper in list(_keepers):
        keeper.suspend()


def _resume_all() -> None:
    for keeper in list(_keepers):
        keeper.resume()


forks.around(_suspend_all, _resume_all)
