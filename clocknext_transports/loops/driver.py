"""What the clients of all event loops share: coroutines that know of no task, no timer and no socket.

A world adds its clock, what wakes a waiter, and who polls. Whatever runs coroutines will do.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, Self, TypeVar, assert_never

from clocknext_core import (
    Adopt,
    Answer,
    Call,
    Closed,
    Delivered,
    Dropped,
    EncodedSignal,
    Engine,
    Erase,
    Flushed,
    FlushReport,
    Operation,
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
from clocknext_core.operations import signal_operation
from clocknext_core.resources.binding import Async
from clocknext_transports.client.base import ClientBase, broken_transport, checked_timeout
from clocknext_transports.client.hooks import Hooks
from clocknext_transports.process import exit as atexit
from clocknext_transports.process.log import logger

if TYPE_CHECKING:
    from clocknext_transports.spool.keeper import Keeper, Later

T = TypeVar("T")


class Transport(Protocol):
    """Carries requests. Used by several coroutines of one event loop at a time."""

    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Send a request and return its answer, or the failure to get one, before the deadline.

        Args:
            request: What to send; redirects are not followed, and nothing is repeated.
            deadline_at: When to give up, on the event loop's clock.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...


class Event(Protocol):
    """What one coroutine waits for and another one sets, as `asyncio.Event` and `trio.Event`."""

    def set(self) -> None:
        """Wake who waits."""
        ...

    async def wait(self) -> object:
        """Wait until it is set."""
        ...


class Waiter:
    """A coroutine that waits for a ticket to settle."""

    def __init__(self, event: Event) -> None:
        self._event = event
        self._settled: Settled[FlushReport] | Settled[TrackResult] | None = None

    def settle(self, settled: Settled[FlushReport] | Settled[TrackResult]) -> None:
        """Wake it with an outcome."""
        self._settled = settled
        self._event.set()

    async def wait(self) -> FlushReport | TrackResult:
        """Wait until the outcome is there."""
        await self._event.wait()
        return self.outcome

    @property
    def outcome(self) -> FlushReport | TrackResult:
        """The outcome, once it is there."""
        assert self._settled is not None  # set before the event
        return self._settled.unwrap()


class _Departure(Event):
    """What the thread that ends the interpreter waits for, while the loop still runs in another one."""

    def __init__(self) -> None:
        self.waiter = Waiter(self)
        self._is_over = threading.Event()

    def set(self) -> None:
        self._is_over.set()

    async def wait(self) -> None:
        raise AssertionError("no coroutine waits for this")

    def wait_in_thread(self, timeout: float) -> FlushReport | None:
        """Wait; the outcome, unless the time is up first."""
        if not self._is_over.wait(timeout):
            return None
        report = self.waiter.outcome
        assert isinstance(report, FlushReport)  # the ticket is a flush's
        return report


class Driver(ABC):
    """Drives calls in the caller's coroutine, and the outbox wherever the world polls it."""

    cancellations: ClassVar[tuple[type[BaseException], ...]] = ()
    """What ends a coroutine from outside, where that is an `Exception`, or what a cancelled block raises."""

    def __init__(self, engine: Engine, transport: Transport, hooks: Hooks) -> None:
        self._transport = transport
        self._hooks = hooks
        self._keeper: Keeper | None = None
        self.owns_transport = False
        """Whether nobody else uses the transport."""
        self._begin(engine)

    def _begin(self, engine: Engine) -> None:
        self._engine = engine
        self._outbox = engine.outbox
        self._waiters: dict[Ticket, Waiter] = {}
        self._is_orphaned = False
        """Whether the client was dropped: nobody is there to close it."""
        self._ahead = 0.0
        """Seconds by which the loop's clock is ahead of `time.monotonic`."""
        self._departure: _Departure | None = None
        """At the interpreter's exit: the end of a loop that still runs in another thread."""
        self._stand_in: atexit.Driver | None = None
        """At the interpreter's exit: what took over from a loop that has ended."""

    # What a world adds

    @abstractmethod
    def _now(self) -> float:
        """Return the time in seconds, on the clock that `_sleep_until` and the transport read too."""

    @abstractmethod
    async def _sleep_until(self, at: float) -> None:
        """Wait until then; where that is over, for one turn of the loop."""

    @abstractmethod
    def _make_event(self) -> Event:
        """Make an event."""

    @abstractmethod
    def _nudge(self) -> None:
        """See to it, after an input, that `_serve` is called, and what it returns is done."""

    @abstractmethod
    async def halt(self) -> None:
        """End all attempts, timers and connections. What is held stays held."""

    def _in_loop(self, call: Callable[[], object]) -> bool:
        """Have something done soon by the loop that drives the outbox, from any thread.

        Returns:
            Whether that loop still runs.
        """
        del call
        return False

    def _threadsafe(self) -> Callable[[Callable[[], object]], object]:
        """Return what has something done soon by the loop that runs now, from any thread.

        It raises a `RuntimeError` once that loop has ended. Only a client with a spool needs it.
        """
        raise NotImplementedError("this driver has no spool")

    def _is_working(self) -> bool:
        """Whether anything runs in the background."""
        return False

    def _resume(self) -> None:
        """Go on without the client: what is held goes out, and after it everything ends."""
        self._nudge()

    def _take_back(self) -> None:  # noqa: B027 - most loops tell every task of their end
        """Take back attempts that ended with their loop, without a word."""

    # Calls

    async def perform(self, call: Call[T]) -> T:
        """Carry a call out, in this coroutine."""
        while True:
            output = call.poll(now=self._now())
            match output:
                case Transmit():
                    answer = await self._exchange(output.request, output.deadline_at)
                    call.handle_answer(output.ticket, answer, now=self._now())
                case Retrying():
                    self._hooks.fire(output)
                case Wait():
                    assert output.until is not None  # nothing is in flight while this coroutine polls
                    await self._sleep_until(output.until)
                case Settled():
                    return output.unwrap()
                case Closed():
                    raise AssertionError("a call settles before it closes")
                case _:
                    assert_never(output)

    def stats(self) -> Stats:
        """Tell what became of the buffered signals, and how the service does."""
        return self._outbox.stats(now=self._now())

    async def _exchange(self, request: Request, deadline_at: float) -> Answer:
        try:
            return await self._transport.exchange(request, deadline_at=deadline_at)
        except self.cancellations:
            raise
        except Exception as error:  # noqa: BLE001 - a transport's bug must not lose a signal
            return broken_transport(error, self._engine.config)

    # The outbox

    async def record(self, encoded: EncodedSignal) -> TrackResult:
        """Buffer a signal. Where this is cancelled, nothing was recorded."""
        if (self._outbox.held + 1) % self._engine.config.batch.max_size == 0:
            # A loop of calls that never suspend would starve whatever sends.
            await self._sleep_until(self._now())
        receipt = self._outbox.record(encoded, now=self._now())
        if receipt.ticket is None:
            self._nudge()
            return receipt.result
        try:
            result = await self._settled(receipt.ticket)
        except BaseException:
            self._outbox.withdraw(receipt.ticket, now=self._now())
            raise
        assert isinstance(result, TrackResult)  # the ticket is a record's
        return result

    def hold(self, encoded: EncodedSignal) -> None:
        """Buffer a signal without waiting for anything."""
        self._outbox.record(encoded, now=self._now())
        self._nudge()

    async def flush(self, timeout: float | None) -> FlushReport:
        """Send everything held and wait for it."""
        return await self._report(self._outbox.flush, timeout)

    async def close(self, timeout: float | None) -> FlushReport:
        """Refuse new signals, send everything held, wait for it, and end everything."""
        report = await self._report(self._outbox.close, timeout)
        if self._keeper is not None:
            closed = self._make_event()
            self._keeper.close(partial(self._threadsafe(), closed.set))
            await closed.wait()
            self._keeper.join()  # its thread does nothing more: it only has to end
        await self.halt()
        atexit.unregister(self)
        return report

    async def _report(self, begin: Callable[..., Ticket], timeout: float | None) -> FlushReport:
        now = self._now()
        report = await self._settled(begin(now=now, deadline_at=None if timeout is None else now + timeout))
        assert isinstance(report, FlushReport)  # the ticket is a flush's
        return report

    async def _settled(self, ticket: Ticket) -> FlushReport | TrackResult:
        waiter = self._waiters[ticket] = Waiter(self._make_event())
        self._nudge()
        try:
            return await waiter.wait()
        finally:
            self._waiters.pop(ticket, None)

    def _serve(self) -> Transmit | Wait | Closed:
        """Poll, waking waiters and running hooks, until there is something else to do."""
        self._ahead = self._now() - time.monotonic()
        if self._is_orphaned and not self._outbox.held and not self._outbox.is_closing:
            self._outbox.close(now=self._now())
        if self._keeper is not None:
            self._keeper.report_to(self._later())  # this loop may be another one than the last time
        while True:
            if self._keeper is not None:
                self._keeper.bring(self._outbox, now=self._now())
            output = self._outbox.poll(now=self._now())
            match output:
                case Store() | Erase() | Quarantine() | Adopt():
                    assert self._keeper is not None  # the outbox has such duties with a spool only
                    self._keeper.obey(output)
                case Settled():
                    if (waiter := self._waiters.pop(output.ticket, None)) is not None:
                        waiter.settle(output)
                case Delivered() | Rejected() | Retrying() | Dropped() | Flushed():
                    self._hooks.fire(output)
                case Transmit() | Wait() | Closed():
                    return output
                case _:
                    assert_never(output)

    async def _carry(self, transmit: Transmit) -> None:
        """Carry an attempt out; cancelled, take it back."""
        outbox = self._outbox  # a forked child has another, with other tickets
        try:
            answer = await self._exchange(transmit.request, transmit.deadline_at)
            outbox.handle_answer(transmit.ticket, answer, now=self._now())
            self._nudge()
        finally:
            outbox.abandon(transmit.ticket, now=self._now())  # a no-op, unless cancelled

    # Where nobody closes

    @property
    def is_unclosed(self) -> bool:
        """Whether there is something that closing would end or deliver."""
        return not self._outbox.is_closing and bool(
            self._outbox.held or self._is_working() or getattr(self._transport, "is_open", False)
        )

    def orphan(self) -> None:
        """Go on without the client: deliver what is held while the loop runs, then end.

        The garbage collector calls this, at any time, in any thread.
        """
        self._is_orphaned = True
        if self._in_loop(self._resume):
            return
        if self._keeper is not None:
            self._keeper.close()  # what is held is in it, for the next process
            atexit.unregister(self)
        elif held := self._outbox.held:
            logger.warning(
                "%d signals are held by a client that was dropped, and its event loop has ended. "
                "They are sent when the interpreter exits.",
                held,
            )
        else:
            atexit.unregister(self)

    def keep(self, keeper: "Keeper") -> None:
        """Store every signal before it is accepted."""
        self._keeper = keeper

    def _later(self) -> "Later":
        """Have the loop that runs now bring what the spool's thread has done, from that thread."""
        call_soon = self._threadsafe()

        def later() -> None:
            # A loop that has ended is told nothing: what there is waits for the next one.
            with suppress(RuntimeError):
                call_soon(self._bring)

        return later

    def _bring(self) -> None:
        if self._keeper is None:
            return
        self._keeper.bring(self._outbox, now=self._now())
        if self._is_working():
            self._nudge()
        elif isinstance(output := self._serve(), Transmit):  # start nothing from here: the loop may be ending
            self._outbox.abandon(output.ticket, now=self._now())

    def restart(self, engine: Engine) -> None:
        """Begin anew after a fork, in the child, with nothing of the parent's."""
        if self._keeper is not None:
            self._keeper.restart()
        self._begin(engine)

    def begin_exit(self, timeout: float) -> None:
        """Refuse new signals and begin to deliver those held, as the interpreter exits."""
        if self._keeper is not None:
            self._outbox.close(now=0.0)
            self._keeper.close()  # what is held is in it, for the next process
            return
        held = self._outbox.held
        departure = _Departure()
        if not held or self._in_loop(partial(self._begin_close, departure, timeout)):
            self._departure = departure if held else None
            return
        logger.warning("%d signals were held when their event loop ended: nobody closed the client.", held)
        self._take_back()
        if self.owns_transport:  # another one can't be used outside its loop
            from clocknext_transports.loops.takeover import stand_in

            self._stand_in = stand_in(self._engine, self._hooks, ahead=self._ahead)
            self._stand_in.begin_exit(timeout)

    def end_exit(self) -> int:
        """Wait until the time is up; return how many signals were not delivered."""
        if self._keeper is not None:
            self._keeper.join()
            return 0
        if self._stand_in is not None:
            return self._stand_in.end_exit()
        if self._departure is not None:
            report = self._departure.wait_in_thread(atexit.EXIT_TIMEOUT + atexit.GRACE)
            if report is not None:
                return len(report.failed) + report.pending
        return self._outbox.held

    def _begin_close(self, departure: _Departure, timeout: float) -> None:
        now = self._now()
        ticket = self._outbox.close(now=now, deadline_at=now + timeout)
        self._waiters[ticket] = departure.waiter
        self._nudge()


D = TypeVar("D", bound=Driver)


class Client(ClientBase[Async, Transport], Generic[D]):
    """A client whose methods are coroutine functions."""

    is_async = True
    _driver: D

    @property
    def cancellations(self) -> tuple[type[BaseException], ...]:
        """Which exceptions end a coroutine from outside, besides those that are no `Exception`."""
        return self._driver.cancellations

    async def run(self, operation: Operation[T], /) -> T:
        """Carry out an operation, one of the resources' or your own, and return its result.

        Raises:
            ClockNextError: It failed; which class tells why.
        """
        return await self._driver.perform(self._engine.call(operation))

    async def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> TrackResult:
        """Buffer a signal, or send it and wait, as `signals.track` does."""
        if self._engine.is_awaited(wait):
            return await self._driver.perform(self._engine.call(signal_operation(encoded)))
        return await self._driver.record(encoded)

    def hold(self, encoded: EncodedSignal, /) -> None:
        """Buffer a signal without waiting, neither for room in the queue nor for the spool.

        Call it where the loop runs. It works in a task that is cancelled.

        Raises:
            QueueFullError: The queue is full and its overflow policy is `raise`.
        """
        self._driver.hold(encoded)

    def stats(self) -> Stats:
        """Count the buffered signals and what became of them, and tell how the service does.

        Needs the event loop's clock: call it where the loop runs.
        """
        return self._driver.stats()

    async def flush(self, timeout: float | None = None) -> FlushReport:
        """Send everything held, wait for it, and report what became of it.

        Args:
            timeout: Seconds to wait at most. Then the report says how many signals are pending; they stay
                held and are delivered in the background. Default: as long as the service works, and
                through an outage of up to `config.patience` seconds.
        """
        return await self._driver.flush(checked_timeout(timeout))

    async def close(self, timeout: float | None = None) -> FlushReport:
        """Refuse new signals, send everything held, wait for it, and end everything in the background.

        Args:
            timeout: Seconds to wait at most. What is then still held is counted as pending in the report, and
                dropped as `closed`, each signal reported to `on_drop`. Default: as for `flush`.
        """
        return await self._driver.close(checked_timeout(timeout))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not isinstance(error, self._driver.cancellations):
                await self.close()
        finally:
            await self._driver.halt()

    @property
    def _driving(self) -> D:
        return self._driver

    def _proxied_transport(self, proxy: str) -> Transport:
        from clocknext_transports.httpx import async_proxied

        return async_proxied(proxy)
