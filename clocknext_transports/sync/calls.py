"""Calls that block their thread, and what threads do when the interpreter exits."""

import math
import threading
from abc import abstractmethod
from typing import Protocol, TypeVar, assert_never, cast

from clocknext_core import Answer, Call, CheckReport, EncodedSignal, Engine, FlushReport, Request, TrackResult
from clocknext_transports.client import driver
from clocknext_transports.client.checking import checking, config_to_connect_by
from clocknext_transports.client.failures import broken_transport
from clocknext_transports.client.script import Await, Exchange, Halt, Sleep, Step, carry_out
from clocknext_transports.client.serving import Waiter
from clocknext_transports.process.exit import GRACE
from clocknext_transports.process.interrupts import let_pass
from clocknext_transports.sync.looped import warn_in_loop
from clocknext_transports.sync.threads import Event, Threads

T = TypeVar("T")

JOIN_TIMEOUT = 1.0
"""Seconds that closing waits for threads whose sockets were closed. A look-up or a hook may outlast it."""


class Transport(Protocol):
    """Carries requests. Used by several threads at a time.

    A `restart()`, if there is one, is called first in a forked child: it starts without the parent's sockets.
    """

    def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Send a request and return its answer, or the failure to get one, before the deadline.

        Args:
            request: The request; redirects are not followed, and nothing is repeated.
            deadline_at: When to give up, in seconds on the clock of `time.monotonic`.
        """
        ...

    def close(self) -> None:
        """Close every connection, also those in use: their exchanges fail."""
        ...


class Calls(driver.Driver[Threads]):
    """Carries calls out in the caller's thread."""

    transport: Transport

    def _begin(self, engine: Engine) -> None:
        self._exit_at = math.inf
        """When the interpreter's exit waits no longer."""
        self._exit_waiter: Waiter | None = None
        super()._begin(engine)

    def perform(self, call: Call[T]) -> T:
        """Carry out an awaited operation."""
        warn_in_loop()
        return carry_out(self._performing(call), self._take)

    def check(self) -> CheckReport:
        """Find out what is wrong with key, address and clock."""
        return carry_out(checking(self.engine, self._now()), self._take)

    def connect(self) -> bool:
        """Open a connection, if the transport is one that can."""
        config = config_to_connect_by(self.engine)
        connect = getattr(self.transport, "connect", None)
        if config is None or connect is None:
            return False
        try:
            connect(config.origin, deadline_at=self._now() + config.timeout)
        except OSError as error:
            let_pass(error)
            return False
        return True

    def record(self, encoded: EncodedSignal) -> TrackResult:
        """Buffer a signal."""
        admitted = self._admit(encoded)
        return admitted if isinstance(admitted, TrackResult) else carry_out(admitted, self._take)

    def flush(self, timeout: float | None) -> FlushReport:
        """Send everything held and wait for it."""
        return carry_out(self._flushing(timeout), self._take)

    def close(self, timeout: float | None) -> FlushReport:
        """Refuse new signals, send everything held, wait for it, and end everything."""
        return carry_out(self._closing(timeout), self._take)

    # What a world adds

    @abstractmethod
    def _sleep_until(self, at: float) -> None:
        """Wait until then."""

    def halt(self) -> None:
        """End all connections and threads. Held signals stay held."""
        if self.owns_transport or not self._serving.is_orphaned:
            self.transport.close()
        if self._keeper is not None:
            self._keeper.close()
            self._keeper.join()
        self.background.join(min(self._now() + JOIN_TIMEOUT, self._exit_at + GRACE))

    # Steps

    def _take(self, step: Step) -> Answer | None:
        match step:
            case Exchange():
                return self._exchange(step.request, step.deadline_at)
            case Sleep():
                self._sleep_until(step.until)
            case Await():
                self.background.wait(cast(Event, step.event), step.until)
            case Halt():
                self.halt()
            case _:
                assert_never(step)
        return None

    def _exchange(self, request: Request, deadline_at: float) -> Answer:
        try:
            return self.transport.exchange(request, deadline_at=min(deadline_at, self._exit_at))
        except Exception as error:  # noqa: BLE001 - a transport's bug must not lose a signal
            return broken_transport(error, self._serving.engine.config)

    def _check_may_wait(self) -> None:
        if self._serving.hook_runner is threading.current_thread():
            raise RuntimeError(
                "A hook must not wait for room, the spool, flush or close: it would deadlock. See nowait."
            )

    # The spool

    def _spool_has_worked(self) -> None:
        self._bring()

    def _look_for_what_was_left(self) -> None:
        with self._serving.lock:
            self._serving.nudge()

    # Dropped clients, and the exit

    def _resume(self) -> None:
        with self._serving.lock:
            self.background.call_all()

    def _end(self) -> None:
        """End with the last thread of a client that was dropped."""
        self.halt()
        self._has_ended()

    def _abort(self) -> None:
        if self.owns_transport:
            self.transport.close()

    def begin_exit(self, timeout: float) -> None:
        """Refuse new signals and begin to deliver those held, as the interpreter exits."""
        with self._serving.lock:
            now = self._now()
            self._exit_at = self.background.exit_at = now + timeout
            self._serving.take_in()
            ticket = self._serving.outbox.close(now=now, deadline_at=self._exit_at)
            self._exit_waiter = self._serving.expect(ticket, self._make_event())

    def end_exit(self) -> int:
        """Work in this thread until the time is up; return the number of signals not delivered."""
        waiter = self._exit_waiter
        assert waiter is not None  # it has begun
        given_up_at = self._exit_at + GRACE
        with self._serving.lock:
            self.background.work_until(lambda: waiter.settled is not None or self._now() >= given_up_at)
            held = self._serving.outbox.held
        self._serving.run_hooks(in_background=True)
        self.halt()
        self._has_ended()  # threads that it started have registered it once more
        if waiter.settled is None:
            return held
        report = waiter.report()
        kept = 0 if self._keeper is None else report.pending  # in the spool, for the next process
        return len(report.failed) + report.pending - kept
