"""Threads that serve the outbox.

All threads do the same: serve until there is a request to send, send it, and serve again. A thread that finds
nothing to do sleeps until the next timer if no other thread does, or rests until it is called. So no work is
handed from thread to thread, and there is never more than one thread more than attempts in flight. The first
buffered signal starts the first thread; closing ends them all.
"""

import _thread
import math
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from clocknext_core import Answer, Closed, Request, Transmit, Wait
from clocknext_transports.client.serving import Background, Serving
from clocknext_transports.process.exit import GRACE
from clocknext_transports.process.interrupts import let_pass, take
from clocknext_transports.sync.clock import Clock, capped


class Event:
    """Wakes one thread; any thread may set it.

    Args:
        clock: The driver's.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._is_set = False
        # Not a `threading.Event`: an interrupt of who waits may leave that locked, and `set` would hang.
        self._shut = threading.Lock()
        self._shut.acquire()

    def set(self) -> None:
        """Wake it."""
        self._is_set = True
        with suppress(RuntimeError):  # it is open already
            self._shut.release()

    def is_set(self) -> bool:
        """Return whether the event was set."""
        return self._is_set

    def wait(self, until: float | None = None) -> None:
        """Wait until the event is set, but at most until then."""
        if not self._is_set:
            self._shut.acquire(timeout=-1 if until is None else capped(until - self._clock.now()))


class Threads(Background):
    """The threads of one client.

    Args:
        serving: What they serve.
        exchange: Sends a request before a deadline; it raises nothing.
        clock: The driver's.
        on_start: Called when the first thread is about to start, with the lock held.
        on_end: Called in the last thread of a client that was dropped, when nothing is left to do.
    """

    def __init__(
        self,
        serving: Serving,
        exchange: Callable[[Request, float], Answer],
        clock: Clock,
        on_start: Callable[[], object],
        on_end: Callable[[], object],
    ) -> None:
        self._serving = serving
        self._exchange = exchange
        self._clock = clock
        self._on_start = on_start
        self._on_end = on_end
        self._timer = threading.Condition(serving.lock)
        """One thread sleeps here until the outbox's next timer."""
        self._is_sleeping = False
        self._rest = threading.Condition(serving.lock)
        """The other idle threads rest here."""
        self._resting = 0
        self._busy = 0
        """Threads that send, or run hooks."""
        self._makes_threads = _thread.start_new_thread
        self._threads: set[threading.Thread] = set()
        self._leaving: set[threading.Thread] = set()
        """Threads that have done their work, and may not have ended yet."""
        self.exit_at: float = math.inf
        """When the interpreter's exit waits no longer."""

    @property
    def is_working(self) -> bool:
        """Whether there is a thread."""
        return bool(self._threads)

    @property
    def is_sleeping(self) -> bool:
        """Whether a thread sleeps until the next timer."""
        return self._is_sleeping

    def wake(self) -> None:
        """Wake the thread that sleeps."""
        self._timer.notify()

    def call_running(self) -> bool:
        """Have a thread serve: one that is about to, that rests or that sleeps; return whether one will."""
        if len(self._threads) > self._busy + self._resting + self._is_sleeping:
            return True  # it serves before it sleeps, rests or sends
        if self._resting:
            self._rest.notify()
        elif self._is_sleeping:
            self._timer.notify()
        else:  # all are busy, and no more are started than can be: the first that is done serves
            return len(self._threads) > self._serving.engine.config.batch.most_concurrency
        return True

    def call(self) -> bool:
        """Have a thread serve: one that there is, or a new one."""
        if not self.call_running():
            self._start_thread()
        return self.is_working

    def call_all(self) -> None:
        """Have every thread serve that sleeps or rests."""
        self._timer.notify_all()
        self._rest.notify_all()

    def join(self, until: float) -> None:
        """Wait for the end of all threads, but at most until then. The lock is not held."""
        with self._serving.lock:  # threads are started under it
            self.call_all()  # an interrupt may have kept the end from those that rest
            threads = (self._threads | self._leaving) - {threading.current_thread()}
        for thread in threads:
            thread.join(max(0.0, until - self._clock.now()))

    def wait(self, event: Event, until: float | None) -> None:
        """Wait in this thread, which does the work where there is no other. The lock is not held."""
        with self._serving.lock:
            if not self.is_working:  # none can be started any more, or none was worth it
                self.work_until(lambda: event.is_set() or (until is not None and self._clock.now() >= until))
        event.wait(until)

    def work_until(self, is_over: Callable[[], bool]) -> None:
        """Serve, send, run hooks, sleep or rest in this thread, until it is over or the outbox has closed."""
        try:
            while not is_over():
                output = self._serving.serve()
                if isinstance(output, Transmit):
                    self._send(output)
                elif self._serving.queue and self._serving.hook_runner is None:
                    self._step_aside(is_last=isinstance(output, Closed))
                elif isinstance(output, Wait):
                    if not is_over():  # it may be since it served
                        self._sleep(output.until)
                else:
                    assert isinstance(output, Closed)  # the only other output
                    return
        finally:
            # A thread that sleeps or rests takes over, or finds that the outbox has closed.
            self.call_all()

    def _start_thread(self) -> None:
        if _thread.start_new_thread is not self._makes_threads:
            return  # a greenlet of gevent's would wait for the lock in the thread that holds it
        if not self._threads:
            self._on_start()
        if sys.is_finalizing():
            return  # it would never run
        try:
            thread = threading.Thread(target=self._work, name="clocknext", daemon=True)
            thread.start()
        except RuntimeError as error:
            let_pass(error.__context__ or error)  # it may have struck the wait for the thread to begin
            return  # the interpreter exits, or has none to give: the threads there are must do
        self._threads.add(thread)

    def _work(self) -> None:
        me = threading.current_thread()
        with self._serving.lock:
            self._threads.add(me)  # an interrupt may have ended `_start_thread` before it could
            try:
                self.work_until(lambda: False)
            finally:
                self._threads.discard(me)
                self._leaving.add(me)
                was_last = not self._threads
        if was_last and self._serving.is_orphaned:
            self._on_end()

    def _send(self, transmit: Transmit) -> None:
        """Carry an attempt out; interrupted, take it back. The lock is held, but not meanwhile."""
        serving = self._serving
        answer: Answer | None = None
        self._busy += 1
        try:
            serving.nudge()  # another thread serves, at once if there is more to send
            try:
                serving.lock.release()
                answer = self._exchange(transmit.request, transmit.deadline_at)
            finally:
                take(serving.lock)
        finally:
            self._busy -= 1
            if answer is None:
                serving.outbox.abandon(transmit.ticket, now=serving.now())
            else:
                serving.outbox.handle_answer(transmit.ticket, answer, now=serving.now())

    def _step_aside(self, *, is_last: bool) -> None:
        """Run hooks in this thread, while another one serves, unless the outbox has closed.

        The lock is held, but not meanwhile.
        """
        serving = self._serving
        self._busy += 1
        try:
            if is_last:
                pass  # nothing is left to serve, and closing waits for the threads there are
            elif not self._is_sleeping:
                self.call()
            elif serving.outbox.wakes_before(self.sleeping_until):
                self.wake()
            try:
                serving.lock.release()
                serving.run_hooks(in_background=True)
            finally:
                take(serving.lock, is_free=serving.is_abandoned)  # its holder may not exist in a forked child
        finally:
            self._busy -= 1

    def _sleep(self, until: float | None) -> None:
        """Sleep until the next timer, or have the thread that does wake in time, and rest."""
        if self._is_sleeping:
            # Too late would be wrong, and with nothing left to wake up for, it should not wake.
            if until != self.sleeping_until and (
                until is None or self.sleeping_until is None or until < self.sleeping_until
            ):
                self._timer.notify()
            self._take_rest()
            return
        self._is_sleeping = True
        self.sleeping_until = until
        try:
            self._clock.wait_until(self._timer, until)
        finally:
            self._is_sleeping = False

    def _take_rest(self) -> None:
        self._resting += 1
        try:
            self._clock.wait_until(self._rest, None if self.exit_at == math.inf else self.exit_at + GRACE)
        finally:
            self._resting -= 1
