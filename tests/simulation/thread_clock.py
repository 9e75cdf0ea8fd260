"""Threads in virtual time: one runs at a time, and the clock jumps to the next timer when none can.

They are real threads, but each waits for the baton. It changes hands where a thread blocks, so that a run is
the same every time; given a generator, it also changes hands wherever a lock is asked for, and whose turn it
is is drawn: each seed is another schedule, and each failing one can be had again.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from heapq import heappop, heappush
from itertools import count
from random import Random
from types import TracebackType
from typing import cast
from unittest.mock import patch

from clocknext_transports.client import driver as driver_of_all
from clocknext_transports.client import serving
from clocknext_transports.sync import threads
from clocknext_transports.sync.clock import Clock


class DeadlockError(Exception):
    """Every thread waits for another."""


class Thread:
    """Stands in for `threading.Thread`."""

    def __init__(
        self, scheduler: "Scheduler", target: Callable[[], object], name: str = "main", daemon: bool = True
    ) -> None:
        self.name = name
        self.baton = threading.Semaphore(0)
        self.blocked = 0
        """How often it has blocked: tells whether a timer is still meant for it."""
        self.is_blocked = False
        self.was_woken = False
        self.is_done = False
        self.joiners: list[Thread] = []
        self._scheduler = scheduler
        self._target = target
        self._thread = threading.Thread(target=self._run, name=name, daemon=daemon)

    def start(self) -> None:
        """Let it run, in its turn."""
        self._thread.start()
        self._scheduler.started(self)

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        scheduler = self._scheduler
        until = None if timeout is None else scheduler.now + timeout
        while not self.is_done and (until is None or scheduler.now < until):
            self.joiners.append(scheduler.current)
            scheduler.block(until)

    def _run(self) -> None:
        self.baton.acquire()
        try:
            self._target()
        except BaseException as error:  # noqa: BLE001 - raised where the scheduler runs
            self._scheduler.fail(error)
        finally:
            self.is_done = True
            self._scheduler.ended(self)


class Scheduler:
    """Hands the baton on.

    Args:
        rng: Draws whose turn it is; `None`: first come, first served.
    """

    def __init__(self, rng: Random | None = None) -> None:
        self.now = 0.0
        self.main = Thread(self, lambda: None)
        self.current = self.main
        self._rng = rng
        self._ready: deque[Thread] = deque()
        self._timers: list[tuple[float, int, Thread, int]] = []
        self._numbers = count()
        self._failure: BaseException | None = None

    def block(self, until: float | None = None) -> bool:
        """Let others run until this thread is woken, or until then; tell whether it was woken."""
        me = self.current
        me.blocked += 1
        me.is_blocked = True
        if until is not None:
            heappush(self._timers, (until, next(self._numbers), me, me.blocked))
        self._pass_on()
        me.baton.acquire()
        if me is self.main and self._failure is not None:
            raise self._failure
        return me.was_woken

    def wake(self, thread: Thread) -> None:
        """Make a blocked thread run, in its turn."""
        if thread.is_blocked:
            thread.is_blocked = False
            thread.was_woken = True
            self._ready.append(thread)

    def yield_by_chance(self) -> None:
        """Let another thread run first, or not."""
        if self._rng is not None and self._ready and self._rng.random() < 0.5:
            self._ready.append(self.current)
            me = self.current
            self._pass_on()
            me.baton.acquire()

    def started(self, thread: Thread) -> None:
        """Let a new thread run, in its turn."""
        self._ready.append(thread)

    def ended(self, thread: Thread) -> None:
        """Wake who waits for a thread's end, and let others run."""
        for joiner in thread.joiners:
            self.wake(joiner)
        self._pass_on()

    def fail(self, error: BaseException) -> None:
        """Have the main thread raise an error next."""
        self._failure = error
        self._ready.clear()
        self._timers.clear()
        self.main.is_blocked = True
        self.wake(self.main)

    def _pass_on(self) -> None:
        self.current = self._next()
        self.current.baton.release()

    def _next(self) -> Thread:
        if self._ready:
            if self._rng is not None:
                self._ready.rotate(self._rng.randrange(len(self._ready)))
            return self._ready.popleft()
        while self._timers:
            at, _, thread, blocked = heappop(self._timers)
            if thread.is_blocked and thread.blocked == blocked:
                self.now = max(self.now, at)
                thread.is_blocked = thread.was_woken = False
                return thread
        self._failure = DeadlockError(f"at {self.now}: every thread waits for another")
        return self.main


class Lock:
    """Stands in for `threading.Lock`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._owner: Thread | None = None
        self._waiters: deque[Thread] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it, waiting for it, at most for `timeout` seconds; return whether it was taken."""
        assert blocking
        until = None if timeout < 0 else self._scheduler.now + timeout
        self._scheduler.yield_by_chance()
        while self._owner is not None:
            if until is not None and self._scheduler.now >= until:
                return False
            self._waiters.append(self._scheduler.current)
            if not self._scheduler.block(until):
                self._waiters.remove(self._scheduler.current)
        self._owner = self._scheduler.current
        return True

    def release(self) -> None:
        """Give it back. As with a real one, any thread may."""
        if self._owner is None:
            raise RuntimeError("release unlocked lock")
        self._owner = None
        if self._waiters:
            self._scheduler.wake(self._waiters.popleft())

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Condition:
    """Stands in for `threading.Condition`."""

    def __init__(self, scheduler: Scheduler, lock: Lock) -> None:
        self._scheduler = scheduler
        self._lock = lock
        self._waiters: deque[Thread] = deque()

    def wait(self) -> None:
        """Wait to be notified."""
        self.wait_until(None)

    def wait_until(self, at: float | None) -> None:
        """Wait to be notified, at most until then."""
        me = self._scheduler.current
        self._waiters.append(me)
        self._lock.release()
        if not self._scheduler.block(at):
            self._waiters.remove(me)
        self._lock.acquire()

    def notify(self) -> None:
        """Wake one."""
        if self._waiters:
            self._scheduler.wake(self._waiters.popleft())

    def notify_all(self) -> None:
        """Wake all."""
        while self._waiters:
            self.notify()


class Event:
    """Stands in for `threading.Event`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._is_set = False
        self._waiters: list[Thread] = []

    def set(self) -> None:
        """Wake all who wait."""
        self._is_set = True
        for waiter in self._waiters:
            self._scheduler.wake(waiter)

    def is_set(self) -> bool:
        """Tell whether it is set."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or the time is up; tell whether it is set."""
        until = None if timeout is None else self._scheduler.now + timeout
        while not self._is_set and (until is None or self._scheduler.now < until):
            self._waiters.append(self._scheduler.current)
            self._scheduler.block(until)
        return self._is_set


class NoExit:
    """Stands in for `process.exit`: a virtual thread can't be waited for when the interpreter exits."""

    def register(self, driver: object, host: str) -> None:
        """Take no note of a driver."""

    def unregister(self, driver: object) -> None:
        """Forget nothing."""


class VirtualThreading:
    """Stands in for the module `threading`, as far as the driver needs it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.Lock = partial(Lock, scheduler)
        self.Condition = partial(Condition, scheduler)
        self.Event = partial(Event, scheduler)
        self.Thread = partial(Thread, scheduler)

    def current_thread(self) -> Thread:
        """Return the one that runs."""
        return self._scheduler.current


class VirtualClock(Clock):
    """The driver's clock, in virtual time."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def now(self) -> float:
        """Return the virtual time."""
        return self._scheduler.now

    def sleep_until(self, at: float) -> None:
        """Block the calling thread until then."""
        while self._scheduler.now < at:
            self._scheduler.block(at)

    def wait_until(self, condition: threading.Condition, at: float | None) -> None:
        """Wait to be notified, at most until then."""
        cast(Condition, condition).wait_until(at)


@contextmanager
def virtual_threads(scheduler: Scheduler) -> Generator[None, None, None]:
    """Have clients that are made and used in the block run in virtual threads."""
    virtual = VirtualThreading(scheduler)
    with (
        patch.object(serving, "threading", virtual),
        patch.object(threads, "threading", virtual),
        patch.object(driver_of_all, "process_exit", NoExit()),
    ):
        yield
