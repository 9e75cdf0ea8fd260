"""The thread that writes to a spool.

A commit waits for the disk, so it is never made by the thread that records a signal. All duties go into one
queue; whatever was queued while a commit ran goes into the next one, so the slower the disk, the larger the
groups and the fewer its waits. There is no timer: a duty that finds the thread idle is carried out at once.

Within a group, what is to be stored comes first, then what is to be erased: no erasure can come before its
signal, and an erasure, which needs no wait for the disk, never delays an append by one.
"""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeAlias, TypeVar, assert_never

from clocknext_core import Adopt, Erase, GiveBack, Quarantine, SpoolDuty, SpoolError, Store
from clocknext_transports.process.log import logger
from clocknext_transports.spool.protocol import CountingSpool, Problem, SharedSpool, Spool, Stored

GATHERING = 0.05
"""Seconds that erasures of a shared spool wait for others."""

P = ParamSpec("P")
T = TypeVar("T")

OnStored: TypeAlias = Callable[[Store, SpoolError | None], object]
"""Called when a signal is durable (`None`), or can't be stored."""
OnAdopted: TypeAlias = Callable[[Sequence[Stored] | SpoolError, int], object]
"""Called with the signals taken over, none if there are no more, and the number known to be left; or with the
reason why none could be."""


class SpoolWriter:
    """Carry out duties on a spool in its own thread, in groups. Any thread may call its methods.

    Callbacks run in that thread: they must be quick and must not wait for the writer; what they raise is
    logged. No method but `suspend` and `join` waits for the disk. The first duty starts the thread. It is a
    daemon, so it never holds up the interpreter's exit: to have everything carried out, `close` and `join`.

    Args:
        spool: The spool; from now on only the writer calls it.
        on_stored: Called with the result of each `Store`.
        on_adopted: Called with the result of each `Adopt`.
        on_problem: Called with everything else that went wrong: what the spool had to do unasked, and
            erasures and quarantines that failed.
        wall: The wall clock, seconds since 1970: when a signal was recorded.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        on_stored: OnStored,
        on_adopted: OnAdopted,
        on_problem: Callable[[Problem], object],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._spool = spool
        self._on_stored = on_stored
        self._on_adopted = on_adopted
        self._on_problem = on_problem
        self._wall = wall
        self._is_closing = False
        self._is_closed = False
        self._begin()

    def _begin(self) -> None:
        # Reentrant, because the garbage collector may close a client that was dropped, anywhere, even here.
        self._wake = threading.Condition(threading.RLock())
        self._queue: list[tuple[SpoolDuty, float]] = []
        """Duties, each with the time at which it was queued."""
        self._unerased: list[str] = []
        """Keys whose erasure has failed: it is tried again with the next group."""
        self._thread: threading.Thread | None = None
        self._is_suspended = False
        self._on_closed: list[Callable[[], object]] = []

    # Duties

    def put(self, duty: SpoolDuty) -> None:
        """Queue a duty.

        What is erased may come back after a crash, as a duplicate request.

        Raises:
            SpoolError: The writer is closed, or no thread can be started any more; no callback is called.
        """
        with self._wake:
            if self._is_closing:
                raise SpoolError("The spool is closed.")
            # What is erased can wait for others where the thread has begun to: see `_gather`.
            is_more_of_the_same = isinstance(duty, Erase) and bool(self._queue) and self._thread is not None
            if not self._is_suspended and not is_more_of_the_same and not self._call_thread():
                raise SpoolError("The spool can't write: no thread can be started any more.", retryable=True)
            self._queue.append((duty, self._wall()))

    def _call_thread(self) -> bool:
        """Wake the thread, or start it. The lock is held, so it finds what is queued after this."""
        if self._thread is not None:
            self._wake.notify()
            return True
        if sys.is_finalizing():
            return False  # a new thread would never begin
        try:
            thread = threading.Thread(target=self._run, name="clocknext-spool", daemon=True)
            thread.start()
        except RuntimeError:
            return False  # the interpreter is shutting down, or has no thread left or no daemon threads
        self._thread = thread
        return True

    # End

    def close(self, done: Callable[[], object] | None = None) -> None:
        """Have what is queued carried out, the spool closed and the thread ended; `done` is called last.

        Returns at once: `join` waits for it. Jobs are refused from now on.
        """
        with self._wake:
            is_open = not self._is_closed
            if done is not None and is_open:
                self._on_closed.append(done)
            has_begun, self._is_closing = self._is_closing, True
            is_carried_on = has_begun or self._is_suspended or self._call_thread()
        if not is_carried_on:
            self._work()
        if done is not None and not is_open:
            self._call_back(done)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end after `close`, for at most `timeout` seconds; return whether it has come."""
        if (thread := self._thread) is not None:
            thread.join(timeout)
        return self._is_closed

    # Fork

    def suspend(self) -> None:
        """Make ready for a fork: waits for the commit that runs, then ends the thread and closes the files.

        What is queued after that commit stays queued, for `resume`. Call it with no lock held that a callback
        might want.
        """
        with self._wake:
            self._is_suspended = True
            thread, self._thread = self._thread, None
            self._wake.notify()
        if thread is not None:
            thread.join()
        if not self._is_closed:
            self._attempt(self._spool.suspend)

    def resume(self) -> None:
        """Go on after a fork, in the parent."""
        if not self._is_closed:
            self._attempt(self._spool.resume)
        with self._wake:
            self._is_suspended = False
            if self._queue or (self._is_closing and not self._is_closed):
                self._call_thread()

    def restart(self) -> None:
        """Begin anew after a fork, in the child: nothing is queued, and nothing of the parent's is touched.

        Works without a `suspend` too, for processes that were forked behind Python's back.
        """
        self._begin()
        if not self._is_closed:
            self._attempt(self._spool.restart)

    # The thread

    def _run(self) -> None:
        with self._wake:
            if not self._is_suspended:
                self._thread = threading.current_thread()  # an interrupt may have ended `_call_thread` first
        self._work()

    def _work(self) -> None:
        while (group := self._next_group()) is not None:
            self._carry_out(group)
        if not self._is_suspended:
            self._end()

    def _next_group(self) -> list[tuple[SpoolDuty, float]] | None:
        """Wait for duties and take all there are; none when the spool is to be tended; `None`: stop."""
        seconds = self._attempt(self._spool.tend) if isinstance(self._spool, SharedSpool) else None
        with self._wake:
            is_over = False
            while not (self._queue or self._is_closing or self._is_suspended or is_over):
                is_over = not self._wake.wait(None if isinstance(seconds, SpoolError) else seconds)
            if self._is_suspended or (self._is_closing and not self._queue):
                return None
            self._gather()
            group, self._queue = self._queue, []
            return group

    def _gather(self) -> None:
        """Wait a moment for more, if a shared spool has nothing to do but to erase: relays do little else."""
        if self._is_closing or not isinstance(self._spool, SharedSpool):
            return
        if self._queue and all(isinstance(duty, Erase) for duty, _ in self._queue):
            self._wake.wait(GATHERING)

    def _carry_out(self, group: Sequence[tuple[SpoolDuty, float]]) -> None:
        self._store([(duty, at) for duty, at in group if isinstance(duty, Store)])
        self._erase([duty.idempotency_key for duty, _ in group if isinstance(duty, Erase)])
        self._give_back([duty.idempotency_key for duty, _ in group if isinstance(duty, GiveBack)])
        for duty, _ in group:
            match duty:
                case Quarantine():
                    keys = [duty.idempotency_key]
                    self._report(self._attempt(self._spool.quarantine, keys, duty.reason))
                case Adopt():
                    self._adopt(duty)
                case Store() | Erase() | GiveBack():
                    pass
                case _:
                    assert_never(duty)
        self._report_problems()

    def _store(self, duties: Sequence[tuple[Store, float]]) -> None:
        if duties:
            signals = [Stored(duty.signal.idempotency_key, duty.signal.body, at) for duty, at in duties]
            failed = self._attempt(self._spool.append, signals)
            for duty, _ in duties:
                self._call_back(self._on_stored, duty, failed)

    def _erase(self, keys: Sequence[str]) -> None:
        is_known = bool(self._unerased)
        self._unerased += keys
        if not self._unerased:
            return
        failed = self._attempt(self._spool.erase, self._unerased)
        if failed is None:
            self._unerased = []
        elif not is_known:
            self._report(failed)

    def _give_back(self, keys: Sequence[str]) -> None:
        if keys and isinstance(self._spool, SharedSpool):
            self._report(self._attempt(self._spool.give_back, keys))

    def _adopt(self, duty: Adopt) -> None:
        self._report_problems()
        found = self._attempt(self._spool.adopt, duty.limit)
        # All that was looked at may have gone into quarantine: there may be more.
        while self._report_problems() and not isinstance(found, SpoolError) and not found:
            found = self._attempt(self._spool.adopt, duty.limit)
        left = self._attempt(self._spool.left_behind) if isinstance(self._spool, CountingSpool) else 0
        self._call_back(self._on_adopted, found, 0 if isinstance(left, SpoolError) else left)

    def _end(self) -> None:
        self._report(self._attempt(self._spool.close))
        self._report_problems()
        with self._wake:
            self._is_closed = True
            on_closed, self._on_closed = self._on_closed, []
        for done in on_closed:
            self._call_back(done)

    def _attempt(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | SpoolError:
        """Call the spool. Return what it raises as an error to report, so that no waiter hangs."""
        try:
            return method(*args, **kwargs)
        except SpoolError as error:
            return error
        except Exception as error:  # noqa: BLE001 - a waiter must not hang
            logger.exception("The spool raised what it should not.")
            return SpoolError(f"The spool failed: {type(error).__name__}.", retryable=True)

    def _report(self, failed: SpoolError | None) -> None:
        if failed is not None:
            self._call_back(self._on_problem, Problem(failed.message))

    def _report_problems(self) -> bool:
        """Report what the spool did unasked; return whether there was anything to report."""
        problems = self._attempt(self._spool.take_problems)
        if isinstance(problems, SpoolError):
            self._report(problems)
            return False
        for problem in problems:
            self._call_back(self._on_problem, problem)
        return bool(problems)

    def _call_back(self, callback: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception:  # noqa: BLE001 - as a hook
            logger.exception("A callback of the spool's writer raised; writing goes on.")
