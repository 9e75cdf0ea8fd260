"""The thread that writes to a spool.

A commit waits for the disk, so it is never made by the thread that records a signal. All jobs go into one
queue; whatever was queued while a commit ran goes into the next one, so the slower the disk, the larger the
groups and the fewer its waits. There is no timer: a job that finds the thread idle is done at once.

Within a group, what is to be stored comes first, then what is to be erased: no erasure can come before its
signal, and an erasure, which needs no wait for the disk, never delays an append by one.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeAlias, TypeVar, assert_never

from clocknext_core import SpoolError
from clocknext_transports.process.log import logger
from clocknext_transports.spool.protocol import Problem, Spool, Stored

P = ParamSpec("P")
T = TypeVar("T")

AppendDone: TypeAlias = Callable[[SpoolError | None], object]
"""Told that a signal is durable (`None`), or why it is not stored."""
AdoptDone: TypeAlias = Callable[[Sequence[Stored] | SpoolError], object]
"""Told which signals were taken over, or why none."""


@dataclass(frozen=True, slots=True)
class _Append:
    stored: Stored
    done: AppendDone


@dataclass(frozen=True, slots=True)
class _Erase:
    key: str


@dataclass(frozen=True, slots=True)
class _Quarantine:
    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Adopt:
    limit: int
    done: AdoptDone


_Job: TypeAlias = _Append | _Erase | _Quarantine | _Adopt


class SpoolWriter:
    """Carry out jobs on a spool in a thread of its own, in groups. Any thread may call its methods.

    Callbacks run in that thread: they must be quick and must not wait for the writer; what they raise is
    logged. No method but `suspend` and `join` waits for the disk. The first job starts the thread. It is a
    daemon, so it never holds up the interpreter's exit: to have everything carried out, `close` and `join`.

    Args:
        spool: The spool; from now on only the writer calls it.
        on_problem: Told of what no other callback tells: what the spool did by itself, and erasures and
            quarantines that failed.
    """

    def __init__(self, spool: Spool, on_problem: Callable[[Problem], object]) -> None:
        self._spool = spool
        self._on_problem = on_problem
        self._is_closing = False
        self._is_closed = False
        self._begin()

    def _begin(self) -> None:
        # Reentrant, because the garbage collector may close a client that was dropped, anywhere, even here.
        self._wake = threading.Condition(threading.RLock())
        self._jobs: list[_Job] = []
        self._unerased: list[str] = []
        """Keys whose erasure has failed: it is tried again with the next group."""
        self._thread: threading.Thread | None = None
        self._is_suspended = False
        self._on_closed: list[Callable[[], object]] = []

    # Jobs

    def append(self, stored: Stored, done: AppendDone) -> None:
        """Store a signal; `done(None)` is called when it is durable, else `done(error)`.

        Raises:
            SpoolError: The writer is closed, or no thread can be started any more; `done` is not called.
        """
        self._put(_Append(stored, done))

    def adopt(self, limit: int, done: AdoptDone) -> None:
        """Take over at most `limit` signals of dead processes; `done` gets them, or the error.

        Raises:
            SpoolError: As for `append`.
        """
        self._put(_Adopt(limit, done))

    def erase(self, key: str) -> None:
        """Forget a signal that has ended. After a crash it may come back, as a duplicate request.

        Raises:
            SpoolError: As for `append`.
        """
        self._put(_Erase(key))

    def quarantine(self, key: str, reason: str) -> None:
        """Set a stored signal aside for a person to look at.

        Raises:
            SpoolError: As for `append`.
        """
        self._put(_Quarantine(key, reason))

    def _put(self, job: _Job) -> None:
        with self._wake:
            if self._is_closing:
                raise SpoolError("The spool is closed.")
            if not self._is_suspended and not self._call_thread():
                raise SpoolError("The spool can't write: no thread can be started any more.", retryable=True)
            self._jobs.append(job)

    def _call_thread(self) -> bool:
        """Wake the thread, or start it. The lock is held, so it finds what is queued after this."""
        if self._thread is not None:
            self._wake.notify()
            return True
        thread = threading.Thread(target=self._work, name="clocknext-spool", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False  # the interpreter is shutting down, or the system has no thread left
        self._thread = thread
        return True

    # End

    def close(self, done: Callable[[], object] | None = None) -> None:
        """Have what is queued carried out, the spool closed and the thread ended; `done` is called last.

        Returns at once: `join` waits for it. Jobs are refused from now on.
        """
        with self._wake:
            is_told = not self._is_closed
            if done is not None and is_told:
                self._on_closed.append(done)
            has_begun, self._is_closing = self._is_closing, True
            is_carried_on = has_begun or self._is_suspended or self._call_thread()
        if not is_carried_on:
            self._work()
        if done is not None and not is_told:
            self._tell(done)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end after `close`, at most so many seconds; tell whether it has come."""
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
            if self._jobs or (self._is_closing and not self._is_closed):
                self._call_thread()

    def restart(self) -> None:
        """Begin anew after a fork, in the child: nothing is queued, and nothing of the parent's is touched.

        Works without a `suspend` too, for processes that were forked behind Python's back.
        """
        self._begin()
        if not self._is_closed:
            self._attempt(self._spool.restart)

    # The thread

    def _work(self) -> None:
        while jobs := self._next_group():
            self._carry_out(jobs)
        if not self._is_suspended:
            self._end()

    def _next_group(self) -> list[_Job]:
        """Wait for jobs and take all there are; none when it is time to stop."""
        with self._wake:
            while not (self._jobs or self._is_closing or self._is_suspended):
                self._wake.wait()
            if self._is_suspended:
                return []
            jobs, self._jobs = self._jobs, []
            return jobs

    def _carry_out(self, jobs: Sequence[_Job]) -> None:
        self._append([job for job in jobs if isinstance(job, _Append)])
        self._erase([job.key for job in jobs if isinstance(job, _Erase)])
        for job in jobs:
            match job:
                case _Quarantine():
                    self._report(self._attempt(self._spool.quarantine, [job.key], job.reason))
                case _Adopt():
                    self._adopt(job)
                case _Append() | _Erase():
                    pass
                case _:
                    assert_never(job)
        self._tell_problems()

    def _append(self, jobs: Sequence[_Append]) -> None:
        if jobs:
            failed = self._attempt(self._spool.append, [job.stored for job in jobs])
            for job in jobs:
                self._tell(job.done, failed)

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

    def _adopt(self, job: _Adopt) -> None:
        self._tell_problems()
        found = self._attempt(self._spool.adopt, job.limit)
        # All that was looked at may have gone into quarantine: there may be more.
        while self._tell_problems() and not isinstance(found, SpoolError) and not found:
            found = self._attempt(self._spool.adopt, job.limit)
        self._tell(job.done, found)

    def _end(self) -> None:
        self._report(self._attempt(self._spool.close))
        self._tell_problems()
        with self._wake:
            self._is_closed = True
            on_closed, self._on_closed = self._on_closed, []
        for done in on_closed:
            self._tell(done)

    def _attempt(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | SpoolError:
        """Call the spool. Whatever it raises becomes an error that can be told: a waiter must not hang."""
        try:
            return method(*args, **kwargs)
        except SpoolError as error:
            return error
        except Exception as error:  # noqa: BLE001 - a waiter must not hang
            logger.exception("The spool raised what it should not.")
            return SpoolError(f"The spool failed: {type(error).__name__}.", retryable=True)

    def _report(self, failed: SpoolError | None) -> None:
        if failed is not None:
            self._tell(self._on_problem, Problem(failed.message))

    def _tell_problems(self) -> bool:
        """Tell what the spool did by itself, and whether that was anything."""
        problems = self._attempt(self._spool.take_problems)
        if isinstance(problems, SpoolError):
            self._report(problems)
            return False
        for problem in problems:
            self._tell(self._on_problem, problem)
        return bool(problems)

    def _tell(self, callback: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception:  # noqa: BLE001 - as a hook
            logger.exception("A callback of the spool's writer raised; writing goes on.")
