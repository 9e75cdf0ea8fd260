"""Threads that drive the machines.

All threads do the same: poll the outbox, wake waiters and run hooks until there is a request to transmit,
carry it, and poll again. One at a time polls: it *leads*. A thread that finds nothing to do sleeps until the
next timer if nobody else does, or rests until it is needed. So no work is handed over from thread to thread,
and there is never more than one thread more than attempts in flight. The first buffered signal starts the
first thread; closing ends them all. The lock is held over no I/O and no hook.

The threads know the driver and not the client: one that is dropped without being closed can be collected, and
the threads deliver what it held, then end.
"""

import _thread
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar, assert_never

from clocknext_core import (
    Adopt,
    Call,
    Closed,
    Delivered,
    Dropped,
    EncodedSignal,
    Engine,
    Erase,
    Flushed,
    FlushReport,
    HookEvent,
    Quarantine,
    Rejected,
    Request,
    Retrying,
    Settled,
    Stats,
    Store,
    Ticket,
    TrackResult,
    Transmit,
    Wait,
)
from clocknext_core.messages import Answer
from clocknext_transports.client.base import broken_transport
from clocknext_transports.client.hooks import Hooks
from clocknext_transports.process import exit as atexit
from clocknext_transports.process.exit import GRACE
from clocknext_transports.process.log import logger
from clocknext_transports.sync.clock import Clock
from clocknext_transports.sync.transport import Transport

if TYPE_CHECKING:
    from clocknext_transports.spool.keeper import Keeper

T = TypeVar("T")

JOIN_TIMEOUT = 1.0
"""Seconds that closing waits for threads whose sockets were closed: only a name look-up outlasts that."""


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
        self._transport = transport
        self._hooks = hooks
        self._clock = clock
        self._keeper: Keeper | None = None
        self.owns_transport = False
        """Whether nobody else uses the transport."""
        self._begin(engine)

    def _begin(self, engine: Engine) -> None:
        self._engine = engine
        self._outbox = engine.outbox
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
        self._is_orphaned = False
        """Whether the client was dropped: nobody is there to close it."""
        self._exit_at = math.inf
        """When the interpreter's exit waits no longer."""
        self._exit_waiter: Waiter | None = None

    # Calls

    def perform(self, call: Call[T]) -> T:
        """Carry a call out, in this thread."""
        while True:
            with self._lock:  # a call shares the host's gate with the outbox
                output = call.poll(now=self._clock.now())
            match output:
                case Transmit():
                    answer = self._exchange(output.request, output.deadline_at)
                    with self._lock:
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

    def stats(self) -> Stats:
        """Tell what became of the buffered signals, and how the service does."""
        with self._lock:
            return self._outbox.stats(now=self._clock.now())

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
            waiter = self._await(receipt.ticket)
        try:
            self._check_may_wait()
            self._work_if_alone(waiter)
            waiter.wait()
        except BaseException:
            with self._lock:
                self._waiters.pop(receipt.ticket, None)
                self._outbox.withdraw(receipt.ticket, now=self._clock.now())
            raise
        result = waiter.outcome
        assert isinstance(result, TrackResult)  # the ticket is a record's
        return result

    def hold(self, encoded: EncodedSignal) -> None:
        """Buffer a signal without waiting for anything."""
        with self._lock:
            self._outbox.record(encoded, now=self._clock.now())
            self._nudge()

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
        self._end()
        return report

    def _end(self) -> None:
        if self.owns_transport or not self._is_orphaned:
            self._transport.close()
        if self._keeper is not None:
            self._keeper.close()
            self._keeper.join()
        joined_by = min(self._clock.now() + JOIN_TIMEOUT, self._exit_at + GRACE)
        for thread in list(self._threads):
            thread.join(max(0.0, joined_by - self._clock.now()))
        atexit.unregister(self)

    def _check_may_wait(self) -> None:
        if self._leader is threading.current_thread():
            raise RuntimeError("A hook must not wait for the buffer, which waits for the hook.")

    def _await(self, ticket: Ticket) -> Waiter:
        """Make a waiter, and see to it that somebody polls."""
        waiter = self._waiters[ticket] = Waiter()
        self._nudge()
        return waiter

    def _work_if_alone(self, waiter: Waiter) -> None:
        """Do the work in this thread where no other can be started any more, or none was worth it."""
        with self._lock:
            if not self._threads:
                self._carry_until(lambda: waiter.is_settled)

    def _report(self, waiter: Waiter, timeout: float | None) -> FlushReport:
        self._work_if_alone(waiter)
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
        elif self._outbox.has_work:
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
            atexit.register(self)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:
            # The interpreter is shutting down: the threads there are must do.
            self._threads.discard(thread)

    def _work(self) -> None:
        """Do as every background thread does, until the outbox has closed."""
        me = threading.current_thread()
        with self._lock:
            try:
                self._carry_until(lambda: False)
            finally:
                self._threads.discard(me)
                was_last = not self._threads
        if was_last and self._is_orphaned:
            self._end()

    def _carry_until(self, is_over: Callable[[], bool]) -> None:
        """Poll, carry, sleep or rest, until that is over or the outbox has closed."""
        try:
            while not is_over():
                if self._is_orphaned and not self._outbox.held and not self._outbox.is_closing:
                    self._outbox.close(now=self._clock.now())
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
                        if not is_over():  # it may be since the poll
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
            # Too late would be wrong; and with nothing left to wake up for, nobody should.
            if until != self._sleeping_until and (
                until is None or self._sleeping_until is None or until < self._sleeping_until
            ):
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
            if self._exit_at < math.inf:
                self._clock.wait_until(self._rest, self._exit_at + GRACE)
            else:
                self._rest.wait()
        finally:
            self._resting -= 1

    def _serve(self) -> Transmit | Wait | Closed:
        """Poll, waking waiters and running hooks, until there is something else to do."""
        while True:
            if self._keeper is not None:
                self._keeper.bring(self._outbox, now=self._clock.now())
            output = self._outbox.poll(now=self._clock.now())
            match output:
                case Store() | Erase() | Quarantine() | Adopt():
                    assert self._keeper is not None  # the outbox has such duties with a spool only
                    self._keeper.obey(output)
                case Settled():
                    if (waiter := self._waiters.pop(output.ticket, None)) is not None:
                        waiter.settle(output)
                case Delivered() | Rejected() | Retrying() | Dropped() | Flushed():
                    self._fire(output)
                case Transmit() | Wait() | Closed():
                    return output
                case _:
                    assert_never(output)

    def keep(self, keeper: "Keeper") -> None:
        """Store every signal before it is accepted, and begin with what dead processes left behind."""
        self._keeper = keeper
        keeper.report_to(self._bring)
        with self._lock:
            self._nudge()

    def _bring(self) -> None:
        """Bring what the spool's thread has done to the outbox; in that thread."""
        keeper = self._keeper
        assert keeper is not None  # it calls this
        with self._lock:
            keeper.bring(self._outbox, now=self._clock.now())
            self._nudge()

    def _fire(self, event: HookEvent) -> None:
        lock = self._lock
        lock.release()
        try:
            self._hooks.fire(event)
        except BaseException:
            # sys.exit() means nothing in a background thread, and must not end delivery.
            if threading.current_thread() not in self._threads:
                raise
            logger.exception("A hook tried to end a background thread; delivery goes on.")
        finally:
            if self._lock is lock:
                lock.acquire()
            else:
                lock.acquire(blocking=False)  # as whoever called this expects
                raise RuntimeError("A hook has forked: the child must not return from it.")

    def _carry(self, transmit: Transmit) -> None:
        self._nudge()  # somebody must poll meanwhile, at once if there is more to send
        self._lock.release()
        try:
            answer = self._exchange(transmit.request, min(transmit.deadline_at, self._exit_at))
        finally:
            self._lock.acquire()
        self._outbox.handle_answer(transmit.ticket, answer, now=self._clock.now())

    # Where nobody closes

    @property
    def is_unclosed(self) -> bool:
        """Whether there is something that closing would end or deliver."""
        return not self._outbox.is_closing and bool(
            self._outbox.held or self._threads or getattr(self._transport, "is_open", False)
        )

    def orphan(self) -> None:
        """Go on without the client: deliver what is held, then end.

        The garbage collector calls this, at any time and in any thread: one that has the lock, or is about to
        fall asleep. So it is a thread apart that wakes them, and not of `threading`, which has locks too.
        """
        self._is_orphaned = True
        if self._threads:
            with suppress(RuntimeError):  # the interpreter is shutting down, and delivers as it exits
                _thread.start_new_thread(self._rouse, ())
        elif self.owns_transport:
            self._transport.close()

    def _rouse(self) -> None:
        with self._lock:
            self._timer.notify_all()
            self._rest.notify_all()

    def restart(self, engine: Engine) -> None:
        """Begin anew after a fork, in the child, with nothing of the parent's."""
        if self._keeper is not None:
            self._keeper.restart()
        self._begin(engine)

    def begin_exit(self, timeout: float) -> None:
        """Refuse new signals and begin to deliver those held, as the interpreter exits."""
        with self._lock:
            now = self._clock.now()
            self._exit_at = now + timeout
            ticket = self._outbox.close(now=now, deadline_at=self._exit_at)
            self._exit_waiter = self._waiters[ticket] = Waiter()
            self._nudge()

    def end_exit(self) -> int:
        """Carry on in this thread until the time is up; return how many signals were not delivered."""
        waiter = self._exit_waiter
        assert waiter is not None  # it has begun
        given_up_at = self._exit_at + GRACE
        with self._lock:
            self._carry_until(lambda: waiter.is_settled or self._clock.now() >= given_up_at)
            held = self._outbox.held
        self._end()
        if not waiter.is_settled:  # a hook that does not return
            return held
        report = waiter.outcome
        assert isinstance(report, FlushReport)  # the ticket is a flush's
        kept = 0 if self._keeper is None else report.pending  # in the spool, for the next process
        return len(report.failed) + report.pending - kept
