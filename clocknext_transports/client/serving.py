"""Serving an outbox: poll it, wake callers, and queue the events that have hooks.

All worlds serve in the same way. What differs is who does it (`Background`): threads, or a task of an event
loop.

User code (hooks, log handlers, an operation's `read`, a transport) never runs under the lock. `serve` queues
the events that have a hook; one runner at a time takes them from the queue, in order. A flush is released
after the hooks of what it reports, or when its time-out is over, if a hook takes longer.
"""

import math
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

from clocknext_core import (
    Closed,
    EncodedSignal,
    Engine,
    FlushReport,
    HookEvent,
    HookOutput,
    Outbox,
    OutboxOutput,
    Settled,
    SpooledOutbox,
    Ticket,
    TrackResult,
    Transmit,
    Wait,
)
from clocknext_transports.client.hooks import Hooks
from clocknext_transports.client.script import Event
from clocknext_transports.process.log import logger

if TYPE_CHECKING:
    from clocknext_transports.spool.keeper import Keeper


class Waiter:
    """A caller that waits for a ticket to settle.

    Args:
        event: Wakes the caller.
    """

    __slots__ = ("event", "settled")

    def __init__(self, event: Event) -> None:
        self.event: Event = event
        self.settled: Settled[FlushReport] | Settled[TrackResult] | None = None

    @property
    def is_flush(self) -> bool:
        """Whether it waits for a report, which comes after the hooks of what is reported."""
        return self.settled is not None and isinstance(self.settled.outcome, FlushReport)

    def report(self) -> FlushReport:
        """Return the report that a flush or close has settled with."""
        assert self.settled is not None  # the caller has waited for it
        report = self.settled.unwrap()
        assert isinstance(report, FlushReport)  # the ticket is a flush's
        return report


class Background(ABC):
    """What serves an outbox in the background: threads, or a task. The lock is held for all its methods."""

    sleeping_until: float | None = None
    """When the background wakes up, if it sleeps; `None`: not before it is woken."""

    @property
    @abstractmethod
    def is_working(self) -> bool:
        """Whether there is a thread or task that serves."""

    @property
    @abstractmethod
    def is_sleeping(self) -> bool:
        """Whether it sleeps, until `sleeping_until`."""

    @abstractmethod
    def wake(self) -> None:
        """Wake what sleeps."""

    @abstractmethod
    def call_running(self) -> bool:
        """Have it serve once more, and start nothing; return whether it will."""

    @abstractmethod
    def call(self) -> bool:
        """Have it serve once more, and start it if there is none.

        Returns:
            Whether it will serve: `False` where there is none and none can be started.
        """


class Serving:
    """An outbox, its callers that wait, and the events whose hooks have yet to run.

    It knows neither the client nor the driver, so that a client that is dropped can be collected while the
    background goes on. A forked child makes another one.

    Args:
        engine: The pure half of the client.
        hooks: The user's functions.
        now: The clock, in seconds.
        keeper: What carries out the duties of the spool.
    """

    background: Background
    """Set once, by the driver, before anything else is done."""

    def __init__(
        self, engine: Engine, hooks: Hooks, now: Callable[[], float], keeper: "Keeper | None"
    ) -> None:
        self.engine = engine
        self.outbox: Outbox | SpooledOutbox = engine.outbox
        self.hooks = hooks
        self.now = now
        self.keeper = keeper
        self.lock: threading.Lock = threading.Lock()
        """Held for every call of a pure machine, and over no I/O and no user code."""
        self.inbox: deque[EncodedSignal] = deque()
        """Signals that were recorded while the lock was held, perhaps by the thread that recorded them.

        Adding takes no lock; the thread that holds the lock takes them out.
        """
        self.queue: deque[HookEvent | Waiter | str] = deque()
        """Events whose hooks have yet to run, flushes to release after them, and warnings to log."""
        self.hook_runner: threading.Thread | None = None
        """The thread that runs hooks."""
        self.is_orphaned = False
        """Whether the client was dropped without being closed."""
        self.is_abandoned = False
        """Whether this is the parent's, in a forked child."""
        self._waiters: dict[Ticket, Waiter] = {}

    # With the lock held

    def serve(self) -> Transmit | Wait | Closed:
        """Poll until there is a request to send or a time to wait for."""
        self.take_in()
        if self.is_orphaned and not self.outbox.held and not self.outbox.is_closing:
            self.outbox.close(now=self.now(), deadline_at=self.now())  # no caller is left to adopt for
        while True:
            output = self._poll()
            match output:
                case Settled():
                    self._settle(output)
                case HookOutput():
                    if self.hooks.admit(output):
                        self.queue.append(output)
                case Transmit() | Wait() | Closed():
                    return output
                case _:
                    assert_never(output)

    def _poll(self) -> OutboxOutput:
        if self.keeper is not None:
            output = self.keeper.poll(now=self.now())
            self.queue.extend(self.keeper.take_warnings())
            return output
        assert isinstance(self.outbox, Outbox)  # with a spool there is a keeper
        return self.outbox.poll(now=self.now())

    def serve_here(self) -> None:
        """Serve in the caller, and leave to the background what there is to send."""
        output = self.serve()
        if isinstance(output, Transmit):
            self.outbox.abandon(output.ticket, now=self.now())
            self.background.call()
        elif self.queue and self.background.is_working:
            self.background.call()

    def nudge(self) -> None:
        """Make sure, after an input, that the outbox is polled."""
        background = self.background
        if background.is_sleeping:
            if self.queue or self.outbox.wakes_before(background.sleeping_until):
                background.wake()
        elif not (self.outbox.has_work and background.call()):
            # Nothing serves, or nothing is worth starting: there may be callers to wake, and hooks to run.
            self.serve_here()

    def nudge_running(self) -> bool:
        """Make sure, after an input, that the outbox is polled; return `False` where nothing runs that would.

        It starts no thread and no task, and polls nothing in the caller.
        """
        if not self.background.is_sleeping:
            return self.background.call_running()
        if self.queue or self.outbox.wakes_before(self.background.sleeping_until):
            self.background.wake()
        return True

    def take_in(self) -> None:
        """Hand the inbox to the outbox."""
        while self.inbox:
            self.outbox.record(self.inbox[0], now=self.now(), may_wait=False)
            del self.inbox[0]  # not before: a signal handler may raise, and twice under one key is no harm

    def wait_for(self, ticket: Ticket, event: Event) -> Waiter:
        """Make the waiter of a ticket."""
        waiter = self._waiters[ticket] = Waiter(event)
        return waiter

    def expect(self, ticket: Ticket, event: Event) -> Waiter:
        """Make the waiter of a ticket, and make sure that the outbox is polled."""
        waiter = self.wait_for(ticket, event)
        self.nudge()
        return waiter

    def forget(self, ticket: Ticket) -> None:
        """Forget a waiter, whose caller has gone."""
        self._waiters.pop(ticket, None)

    def _settle(self, settled: Settled[FlushReport] | Settled[TrackResult]) -> None:
        waiter = self._waiters.pop(settled.ticket, None)
        if waiter is None:
            return
        waiter.settled = settled
        if waiter.is_flush and (self.queue or self.hook_runner is not None):
            self.queue.append(waiter)
        else:
            waiter.event.set()

    # Without the lock

    def run_hooks(self, *, in_background: bool, most: float = math.inf) -> None:
        """Run the queued hooks, in order, unless another thread does.

        Args:
            in_background: A thread or task of the driver runs them: nothing that they raise may go on in it.
            most: How many to run. A hook may record what is dropped, so that there is always another one.

        Raises:
            RuntimeError: A hook has forked and returned in the child.
        """
        is_runner = False
        try:
            with self.lock:
                if self.hook_runner is None:
                    self.hook_runner, is_runner = threading.current_thread(), True
            while is_runner and (item := self._next_in_queue(most)) is not None:
                most -= 1
                if isinstance(item, str):
                    logger.warning("%s", item)
                else:
                    self.hooks.fire(item, in_background=in_background)
                if self.is_abandoned:
                    raise RuntimeError("A hook has forked: the child must not return from it.")
        except BaseException:
            if is_runner:
                self._leave_hooks()
            raise

    def run_hooks_if_alone(self) -> None:
        """Run the queued hooks in the caller, where no background does."""
        if self.queue and not self.background.is_working:
            self.run_hooks(in_background=False)

    def _next_in_queue(self, most: float) -> HookEvent | str | None:
        with self.lock:
            while self.queue and most > 0:
                if isinstance(item := self.queue[0], Waiter):
                    item.event.set()  # before it is taken out: a signal handler may raise here
                del self.queue[0]
                if not isinstance(item, Waiter):
                    return item
            self.hook_runner = None
            return None

    def _leave_hooks(self) -> None:
        """Leave the rest of the queue to others, after an interrupt."""
        if not self.is_abandoned:
            with self.lock:
                if self.hook_runner is threading.current_thread():
                    self.hook_runner = None
                self.background.call()
