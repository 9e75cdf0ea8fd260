"""Threads that drive the machines.

All threads do the same: poll the outbox, wake waiters and run hooks until there is a request to transmit,
carry it, and poll again. One at a time polls: it *leads*. A thread that finds nothing to do sleeps until the
next timer if nobody else does, or rests until it is needed. So no work is handed over from thread to thread,
and there is never more than one thread more than attempts in flight. The first buffered signal starts the
first thread; closing ends them all. The lock is held over no I/O and no hook.
"""

import atexit
import threading
from typing import TypeVar, assert_never

from clocknext_core import (
    Call,
    Closed,
    Delivered,
    Dropped,
    EncodedSignal,
    Engine,
    Flushed,
    FlushReport,
    HookEvent,
    Rejected,
    Request,
    Retrying,
    Settled,
    Ticket,
    TrackResult,
    Transmit,
    Wait,
)
from clocknext_core.messages import Answer
from clocknext_transports.base import broken_transport
from clocknext_transports.hooks import Hooks, logger
from clocknext_transports.sync.clock import Clock
from clocknext_transports.sync.transport import Transport

T = TypeVar("T")

EXIT_TIMEOUT = 5.0
"""Seconds the interpreter's exit waits for signals still held."""

JOIN_TIMEOUT = 1.0
"""Seconds that closing waits for a thread whose sockets were closed: only a name look-up outlasts that."""


class Waiter:
    """A thread that waits for a ticket to settle."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._settled: Settled[FlushReport] | Settled[TrackResult] | None = None

    def settle(self, settled: Settled[FlushReport] | Settled[TrackResult]) -> None:
        """Wake the thread with an outcome."""
        self._settled = settled
        self._event.set()

    @property
    def is_settled(self) -> bool:
        """Whether the outcome is there."""
        return self._settled is not None

    def wait(self, timeout: float | None = None) -> None:
        """Block until the outcome is there, or the time is up."""
        self._event.wait(timeout)

    @property
    def outcome(self) -> FlushReport | TrackResult:
        """The outcome, once it is there."""
        assert self._settled is not None  # the caller has waited for it
        return self._settled.unwrap()


class Driver:
    """Drives calls in the caller's thread, and the outbox in threads of its own."""

    def __init__(self, engine: Engine, transport: Transport, hooks: Hooks, clock: Clock) -> None:
        self._engine = engine
        self._outbox = engine.outbox
        self._transport = transport
        self._hooks = hooks
        self._clock = clock
        self._lock = threading.Lock()
        self._timer = threading.Condition(self._lock)
        """One thread sleeps here until the outbox's next timer."""
        self._rest = threading.Condition(self._lock)
        """The other idle threads rest here."""
        self._leader: threading.Thread | None = None
        """The thread that polls, or runs a hook between two polls."""
        self._is_sleeping = False
        """Whether a thread sleeps at the timer."""
        self._sleeping_until: float | None = None
        self._resting = 0
        self._threads: set[threading.Thread] = set()
        self._waiters: dict[Ticket, Waiter] = {}

    # Calls

    def perform(self, call: Call[T]) -> T:
        """Carry a call out, in this thread."""
        while True:
            output = call.poll(now=self._clock.now())
            match output:
                case Transmit():
                    answer = self._exchange(output.request, output.deadline_at)
                    call.handle_answer(output.ticket, answer, now=self._clock.now())
                case Retrying():
                    self._hooks.fire(output)
                case Wait():
                    assert output.until is not None  # nothing is in flight while this thread polls
                    self._clock.sleep_until(output.until)
                case Settled():
                    return output.unwrap()
                case Closed():
                    raise AssertionError("a call settles before it closes")
                case _:
                    assert_never(output)

    def _exchange(self, request: Request, deadline_at: float) -> Answer:
        try:
            return self._transport.exchange(request, deadline_at=deadline_at)
        except Exception as error:  # noqa: BLE001 - a transport's bug must not lose a signal
            return broken_transport(error, self._engine.config)

    # The outbox

    def record(self, encoded: EncodedSignal) -> TrackResult:
        """Buffer a signal."""
        with self._lock:
            receipt = self._outbox.record(encoded, now=self._clock.now())
            if receipt.ticket is None:
                self._nudge()
                return receipt.result
            waiter = self._waiters[receipt.ticket] = Waiter()
            self._nudge()
        try:
            self._check_may_wait()
            waiter.wait()
        except BaseException:
            with self._lock:
                self._waiters.pop(receipt.ticket, None)
                self._outbox.withdraw(receipt.ticket, now=self._clock.now())
            raise
        result = waiter.outcome
        assert isinstance(result, TrackResult)  # the ticket is a record's
        return result

    def flush(self, timeout: float | None) -> FlushReport:
        """Send everything held and wait for it."""
        self._check_may_wait()
        with self._lock:
            now = self._clock.now()
            ticket = self._outbox.flush(now=now, deadline_at=None if timeout is None else now + timeout)
            waiter = self._await(ticket)
        return self._report(waiter, timeout)

    def close(self, timeout: float | None) -> FlushReport:
        """Refuse new signals, send everything held, wait for it, and end all threads."""
        self._check_may_wait()
        with self._lock:
            now = self._clock.now()
            ticket = self._outbox.close(now=now, deadline_at=None if timeout is None else now + timeout)
            waiter = self._await(ticket)
        report = self._report(waiter, timeout)
        self._transport.close()
        for thread in list(self._threads):
            thread.join(JOIN_TIMEOUT)
        atexit.unregister(self._drain_at_exit)
        return report

    def _check_may_wait(self) -> None:
        if self._leader is threading.current_thread():
            raise RuntimeError("A hook must not wait for the buffer, which waits for the hook.")

    def _await(self, ticket: Ticket) -> Waiter:
        """Make a waiter, and see to it that somebody serves it."""
        waiter = self._waiters[ticket] = Waiter()
        self._nudge()
        if not self._threads:
            # No thread can be started any more, or none was worth it: then this one does the work.
            self._carry_until(waiter)
        return waiter

    def _report(self, waiter: Waiter, timeout: float | None) -> FlushReport:
        waiter.wait(timeout)
        while not waiter.is_settled:
            # The time is up, and every thread may be busy: at the interpreter's exit no more can be had.
            with self._lock:
                if self._leader is None:
                    self._serve_here()
            waiter.wait(0.05)
        report = waiter.outcome
        assert isinstance(report, FlushReport)  # the ticket is a flush's
        return report

    def _nudge(self) -> None:
        """See to it, after an input, that somebody polls."""
        if self._leader is not None:
            return  # it polls again before it does anything else
        if self._is_sleeping:
            if self._outbox.wakes_before(self._sleeping_until):
                self._timer.notify()
        elif self._outbox.held:
            self._call_thread()
        else:
            # Nothing to send, so no thread is worth starting: there are only waiters and hooks to serve.
            self._serve_here()

    def _serve_here(self) -> None:
        """Wake waiters and run hooks in this thread, and leave what there is to send to others."""
        output = self._serve()
        if isinstance(output, Transmit):
            self._outbox.abandon(output.ticket, now=self._clock.now())
            self._call_thread()

    def _call_thread(self) -> None:
        """Have a thread poll: one that rests, or a new one."""
        if self._resting:
            self._rest.notify()
        elif len(self._threads) <= self._engine.config.batch.max_concurrency:
            self._start_thread()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name="clocknext", daemon=True)
        if not self._threads:
            atexit.register(self._drain_at_exit)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:
            # The interpreter is shutting down: the threads there are must do.
            self._threads.discard(thread)

    def _drain_at_exit(self) -> None:
        """Deliver what is still held when the interpreter exits, if nobody closed the client."""
        report = self.close(EXIT_TIMEOUT)
        if lost := len(report.failed) + report.pending:
            logger.warning("%d signals were not delivered before the interpreter's exit.", lost)

    def _work(self) -> None:
        """Do as every background thread does, until the outbox has closed."""
        with self._lock:
            try:
                self._carry_until(None)
            finally:
                self._threads.discard(threading.current_thread())

    def _carry_until(self, waiter: Waiter | None) -> None:
        """Poll, carry, sleep or rest, until a waiter has settled or the outbox has closed."""
        try:
            while waiter is None or not waiter.is_settled:
                if self._leader is not None:
                    self._take_rest()
                    continue
                output = self._lead()
                match output:
                    case Transmit():
                        self._carry(output)
                    case Closed():
                        return
                    case Wait():
                        self._sleep(output.until)
                    case _:
                        assert_never(output)
        finally:
            # Whoever sleeps or rests takes over, or finds that the outbox has closed.
            self._rest.notify_all()
            self._timer.notify_all()

    def _lead(self) -> Transmit | Wait | Closed:
        self._leader = threading.current_thread()
        try:
            return self._serve()
        finally:
            self._leader = None

    def _sleep(self, until: float | None) -> None:
        """Sleep at the timer, or see to it that the thread there wakes in time, and rest."""
        if self._is_sleeping:
            if until is not None and (self._sleeping_until is None or until < self._sleeping_until):
                self._timer.notify()
            self._take_rest()
            return
        self._is_sleeping = True
        self._sleeping_until = until
        try:
            self._clock.wait_until(self._timer, until)
        finally:
            self._is_sleeping = False

    def _take_rest(self) -> None:
        self._resting += 1
        try:
            self._rest.wait()
        finally:
            self._resting -= 1

    def _serve(self) -> Transmit | Wait | Closed:
        """Poll, waking waiters and running hooks, until there is something else to do."""
        while True:
            output = self._outbox.poll(now=self._clock.now())
            match output:
                case Settled():
                    if (waiter := self._waiters.pop(output.ticket, None)) is not None:
                        waiter.settle(output)
                case Delivered() | Rejected() | Retrying() | Dropped() | Flushed():
                    self._fire(output)
                case Transmit() | Wait() | Closed():
                    return output
                case _:
                    assert_never(output)

    def _fire(self, event: HookEvent) -> None:
        self._lock.release()
        try:
            self._hooks.fire(event)
        except BaseException:
            # sys.exit() means nothing in a background thread, and must not end delivery.
            if threading.current_thread() not in self._threads:
                raise
            logger.exception("A hook tried to end a background thread; delivery goes on.")
        finally:
            self._lock.acquire()

    def _carry(self, transmit: Transmit) -> None:
        self._nudge()  # somebody must poll meanwhile, at once if there is more to send
        self._lock.release()
        try:
            answer = self._exchange(transmit.request, transmit.deadline_at)
        finally:
            self._lock.acquire()
        self._outbox.handle_answer(transmit.ticket, answer, now=self._clock.now())
