"""What all drivers have in common: calls as scripts, and what a process does to a client.

A driver is a client without its resources. It carries calls out, and has a background that serves the outbox
(`serving`). A world adds its clock, its events, how a step is taken, and its background: see `driver.py` in
`sync/`, `asyncio/` and `trio/`.
"""

import _thread
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, assert_never

from clocknext_core import (
    Call,
    Closed,
    EncodedSignal,
    Engine,
    FlushReport,
    Retrying,
    Settled,
    Stats,
    Ticket,
    TrackResult,
    Transmit,
    Wait,
)
from clocknext_core.outputs import queued
from clocknext_transports.client.hooks import Hooks
from clocknext_transports.client.script import Await, Event, Exchange, Halt, Script, Sleep
from clocknext_transports.client.serving import Background, Serving, Waiter
from clocknext_transports.process import exit as process_exit
from clocknext_transports.process.interrupts import NOT_BLOCKING
from clocknext_transports.process.log import logger

if TYPE_CHECKING:
    from clocknext_transports.spool.keeper import Keeper

T = TypeVar("T")
B = TypeVar("B", bound=Background)

GLANCE = 0.05
"""Seconds between two looks of a call whose time is over and whose ticket has not settled yet."""


class Driver(ABC, Generic[B]):
    """Carries calls out, and has an outbox served in the background.

    Args:
        engine: The pure half of the client.
        transport: Carries the requests.
        hooks: The user's functions.
    """

    look_every: float = math.inf
    """Seconds after which a caller that waits looks for itself: whatever serves may have ended meanwhile."""
    lasting: tuple[type[BaseException], ...] = ()
    """Cancellations that strike again at the next wait: a call that has ended meanwhile may return."""

    def __init__(self, engine: Engine, transport: Any, hooks: Hooks) -> None:
        self.transport = transport
        """What carries the requests. A client may wrap it (`wrap_transport`)."""
        self.owns_transport = False
        """Whether the transport was made for this driver alone."""
        self._hooks = hooks
        self._keeper: Keeper | None = None
        self._begin(engine)

    def _begin(self, engine: Engine) -> None:
        """Start from nothing: in a new driver, or in a forked child."""
        self.engine = engine
        self._is_asked = False  # whether a thread that will attend is about to begin
        self._serving = Serving(engine, self._hooks, self._now, self._keeper)
        self.background = self._make_background(self._serving)
        self._serving.background = self.background

    # What a world adds

    @abstractmethod
    def _now(self) -> float:
        """Return the time in seconds, on the clock that the world's steps and its transport use."""

    @abstractmethod
    def _make_event(self) -> Event:
        """Make an event for a caller of this world."""

    @abstractmethod
    def _make_background(self, serving: Serving) -> B:
        """Make what serves the outbox. Nothing is started before there is work."""

    @abstractmethod
    def _reach(self, call: Callable[[], object]) -> bool:
        """Have a function called soon where the background works. Any thread may ask, with any lock held.

        Returns:
            Whether it will be called: `False` where there is no background.
        """

    def _call_apart(self, call: Callable[[], object]) -> None:
        """Have a function called soon, where no background works. Any thread may ask, with any lock held."""
        # In a thread, but not of `threading`, whose locks the caller may hold too. One takes in all.
        try:
            if not self._is_asked:
                self._is_asked = True
                _thread.start_new_thread(call, ())
        except BaseException as error:
            self._is_asked = False
            # No thread can be started as the interpreter exits, which delivers, or where there are too many.
            if not isinstance(error, RuntimeError):
                raise

    # Calls

    def _performing(self, call: Call[T]) -> Script[T]:
        """Carry out one awaited operation."""
        lock = self._serving.lock
        while True:
            with lock:  # a call shares the gate with the outbox
                if isinstance(output := call.poll(now=self._now()), Retrying):
                    self._hooks.admit(output)
            match output:
                case Transmit():
                    answer = yield Exchange(output.request, output.deadline_at)
                    assert answer is not None  # an exchange's result
                    with lock:
                        call.handle_answer(output.ticket, answer, now=self._now())
                case Retrying():
                    self._hooks.fire(output)
                case Wait():
                    assert output.until is not None  # nothing is in flight while the script runs
                    yield Sleep(output.until)
                case Settled():
                    return call.result(output)
                case Closed():
                    raise AssertionError("a call settles before it closes")
                case _:
                    assert_never(output)

    def _admit(self, encoded: EncodedSignal) -> TrackResult | Script[TrackResult]:
        """Hand a signal to the outbox; return the result, or the script of a call that has to wait."""
        serving = self._serving
        with serving.lock:
            try:
                receipt = serving.outbox.record(encoded, now=self._now())
                waiter = None
                if receipt.ticket is not None:
                    waiter = serving.wait_for(receipt.ticket, self._make_event())
            finally:
                serving.nudge()  # also where a signal handler has raised: the signal may be held
        if serving.queue:
            serving.run_hooks_if_alone()
        if receipt.ticket is None or waiter is None:
            return receipt.result
        return self._waiting(receipt.ticket, waiter)

    def hold(self, encoded: EncodedSignal) -> TrackResult:
        """Buffer a signal without waiting for anything, not even for the lock; see `ClientBase.hold`.

        The lock may be held further down in this very thread, and so may the locks of `threading` and of the
        event loop. So nothing is started here, and no hook runs.
        """
        serving = self._serving
        has_lock, result, is_attended = False, None, False
        try:
            (has_lock,) = map(serving.lock.acquire, NOT_BLOCKING)
            if has_lock:
                serving.take_in()
                result = serving.outbox.record(encoded, now=self._now(), may_wait=False).result
                is_attended = serving.nudge_running()
            else:
                serving.inbox.append(encoded)
        finally:
            if has_lock:
                serving.lock.release()
        if not is_attended:
            self._have_attended()
        return queued(encoded) if result is None else result

    def _have_attended(self) -> None:
        """Have `_attend` called soon, where no lock is held. Any thread may ask, with any lock held."""
        if self._reach(self._attend):
            return
        if not self._serving.outbox.is_closing:
            self._has_started()  # where no loop runs, the signal is held until the next use, or the exit
        self._call_apart(self._attend)

    def _attend(self) -> None:
        """Take in what was recorded, and serve it. Called where nothing catches what it raises."""
        self._is_asked = False
        serving = self._serving
        with serving.lock:
            serving.take_in()
            serving.nudge()
        if not self.background.is_working:
            serving.run_hooks(in_background=True)

    def _waiting(self, ticket: Ticket, waiter: Waiter) -> Script[TrackResult]:
        """Wait for room in the queue or for the spool; if that is broken off before, nothing was recorded."""
        serving = self._serving
        try:
            self._check_may_wait()
            block_timeout = serving.engine.config.batch.block_timeout
            while waiter.settled is None:
                yield from self._until_settled(waiter, self._now() + block_timeout)
        except BaseException as error:
            with serving.lock:
                serving.serve_here()  # it may have been let in
                serving.forget(ticket)
                serving.outbox.withdraw(ticket, now=self._now())
                serving.nudge()  # those behind it may fit now
            if waiter.settled is None or not isinstance(error, self.lasting):
                raise
        result = waiter.settled.unwrap()
        assert isinstance(result, TrackResult)  # the ticket is a record's
        return result

    def _flushing(self, timeout: float | None, *, closes: bool = False) -> Script[FlushReport]:
        """Flush, or close the outbox, and wait for the report."""
        self._check_may_wait()
        serving = self._serving
        with serving.lock:
            serving.take_in()
            now = self._now()
            deadline_at = None if timeout is None else now + timeout
            begin = serving.outbox.close if closes else serving.outbox.flush
            ticket = begin(now=now, deadline_at=deadline_at)
            waiter = serving.expect(ticket, self._make_event())
        serving.run_hooks_if_alone()
        try:
            is_settled = False
            while not is_settled:  # once at least: it may have settled already, and its hooks not have run
                yield from self._until_settled(waiter, deadline_at)
                is_settled = waiter.settled is not None
        finally:
            serving.forget(ticket)
        return waiter.report()

    def _until_settled(self, waiter: Waiter, deadline_at: float | None) -> Script[None]:
        """Wait until a ticket has settled and its hooks have run, or until its time is over."""
        serving = self._serving
        until = self._now() + min(serving.engine.config.patience, self.look_every)
        if deadline_at is not None:
            until = max(min(until, deadline_at), self._now() + GLANCE)
        yield Await(waiter.event, until)
        if waiter.settled is None:
            # Its time is over, and every thread may be busy: the outbox settles it now.
            with serving.lock:
                if not self.background.is_working:
                    self.background.call()  # it has ended with its loop, and so have its attempts
                serving.serve_here()
            serving.run_hooks_if_alone()

    def _closing(self, timeout: float | None) -> Script[FlushReport]:
        """Flush, refuse what comes later, and end everything."""
        report = yield from self._flushing(timeout, closes=True)
        if self._keeper is not None:
            closed = self._make_event()
            self._keeper.close(closed.set)
            yield Await(closed)
            self._keeper.join()
        try:
            yield Halt()  # the transport may raise
            # Of what was dropped at the end, and flushes that wait for them.
            self._serving.run_hooks(in_background=False)
        finally:
            self._has_ended()
            self._hooks.log.finish(kept=0 if self._keeper is None else report.pending)
        return report

    def _check_may_wait(self) -> None:
        """Raise `RuntimeError` in a hook, which would wait for itself."""

    def stats(self) -> Stats:
        """Count the buffered signals, and say how the service does."""
        with self._serving.lock:
            return self._serving.outbox.stats(now=self._now())

    # Spool

    def keep(self, keeper: "Keeper") -> None:
        """Store every signal before it is accepted, and take over what dead processes left."""
        self._keeper = self._serving.keeper = keeper
        keeper.report_to(self._spool_has_worked)
        self._look_for_what_was_left()

    @abstractmethod
    def _spool_has_worked(self) -> None:
        """Bring the spool's results to the outbox. Called in the spool's thread."""

    def _look_for_what_was_left(self) -> None:
        """Begin to take over what dead processes left, where that needs no loop."""

    def _bring(self) -> None:
        """Have the spool's results brought to the outbox."""
        serving = self._serving
        with serving.lock:
            if self.background.is_working:
                self.background.call()
            else:
                serving.serve_here()
        serving.run_hooks_if_alone()

    # Fork, exit, dropped clients

    def _has_started(self) -> None:
        """Take part in the interpreter's exit, from when the background starts."""
        process_exit.register(self, self.engine.config.origin.host)

    def _has_ended(self) -> None:
        """Take no part in it any more."""
        process_exit.unregister(self)

    @property
    def has_begun(self) -> bool:
        """Whether there is anything that `restart` would lose."""
        return bool(self._serving.outbox.held) or self.background.is_working

    def suspend(self) -> None:
        """End the spool's thread, before `restart` in the process that started it."""
        if self._keeper is not None:
            self._keeper.suspend()

    def restart(self, engine: Engine) -> None:
        """Begin anew in a forked child, with nothing of the parent's."""
        self._serving.is_abandoned = True
        if self._keeper is not None:
            self._keeper.restart(engine.outbox)
        self._begin(engine)

    @property
    def is_unclosed(self) -> bool:
        """Whether there is anything that closing would end or deliver."""
        outbox = self._serving.outbox
        return not outbox.is_closing and bool(
            outbox.held
            or self._serving.inbox
            or self.background.is_working
            or getattr(self.transport, "is_open", False)
        )

    @property
    def is_used(self) -> bool:
        """Whether anything was ever recorded, or is closed."""
        outbox = self._serving.outbox
        return outbox.is_closing or self.background.is_working or outbox.stats(now=0.0).recorded > 0

    def orphan(self) -> None:
        """Go on without the client: deliver what is held, then end.

        The garbage collector calls this at any time and in any thread, which may hold any lock.
        """
        self._serving.is_orphaned = True
        if self._reach(self._resume):
            return
        if self._keeper is not None:
            self._keeper.close()  # what is held is in the spool, for the next process
        elif held := self._serving.outbox.held:
            logger.warning(
                "ClockNext signals held by a client that was dropped, and whose event loop has ended: %d. "
                "They are sent when the interpreter exits.",
                held,
            )
            return
        self._abort()
        self._has_ended()

    def _resume(self) -> None:
        """Have the background find out that it is orphaned."""
        with self._serving.lock:
            self.background.call()

    def _abort(self) -> None:
        """Close the connections that nothing else will close."""

    @property
    def held(self) -> int:
        """Signals recorded and not yet ended."""
        return self._serving.outbox.held

    @abstractmethod
    def begin_exit(self, timeout: float) -> None:
        """Refuse new signals and begin to deliver those held, as the interpreter exits."""

    @abstractmethod
    def end_exit(self) -> int:
        """Wait until the time is up; return the number of signals that were not delivered."""
