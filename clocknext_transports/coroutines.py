"""What the clients of all event loops share: coroutines that know of no task, no timer and no socket.

A world adds its clock, what wakes a waiter, and who polls. Whatever runs coroutines will do.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Generic, Protocol, Self, TypeVar, assert_never

from clocknext_core import (
    Answer,
    Call,
    Closed,
    Delivered,
    Dropped,
    EncodedSignal,
    Engine,
    Flushed,
    FlushReport,
    Operation,
    Recording,
    Rejected,
    Request,
    Retrying,
    Settled,
    Ticket,
    TrackResult,
    Transmit,
    Wait,
)
from clocknext_core.binding import Async
from clocknext_transports.base import ClientBase, broken_transport, checked_timeout
from clocknext_transports.hooks import Hooks

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
        assert self._settled is not None  # set before the event
        return self._settled.unwrap()


class Driver(ABC):
    """Drives calls in the caller's coroutine, and the outbox wherever the world polls it."""

    cancellations: ClassVar[tuple[type[BaseException], ...]] = ()
    """What ends a coroutine from outside, where that is an `Exception`, or what a cancelled block raises."""

    def __init__(self, engine: Engine, transport: Transport, hooks: Hooks) -> None:
        self._engine = engine
        self._outbox = engine.outbox
        self._transport = transport
        self._hooks = hooks
        self._waiters: dict[Ticket, Waiter] = {}

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

    async def _exchange(self, request: Request, deadline_at: float) -> Answer:
        try:
            return await self._transport.exchange(request, deadline_at=deadline_at)
        except self.cancellations:
            raise
        except Exception as error:  # noqa: BLE001 - a transport's bug must not lose a signal
            return broken_transport(error, self._engine.config)

    # The outbox

    async def record(self, encoded: EncodedSignal) -> TrackResult:
        """Buffer a signal."""
        receipt = self._outbox.record(encoded, now=self._now())
        if receipt.ticket is None:
            self._nudge()
            if self._outbox.held % self._engine.config.batch.max_size == 0:
                # A loop of calls that never suspend would starve whatever sends.
                await self._sleep_until(self._now())
            return receipt.result
        try:
            result = await self._settled(receipt.ticket)
        except BaseException:
            self._outbox.withdraw(receipt.ticket, now=self._now())
            raise
        assert isinstance(result, TrackResult)  # the ticket is a record's
        return result

    async def flush(self, timeout: float | None) -> FlushReport:
        """Send everything held and wait for it."""
        return await self._report(self._outbox.flush, timeout)

    async def close(self, timeout: float | None) -> FlushReport:
        """Refuse new signals, send everything held, wait for it, and end everything."""
        report = await self._report(self._outbox.close, timeout)
        await self.halt()
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
        while True:
            output = self._outbox.poll(now=self._now())
            match output:
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
        try:
            answer = await self._exchange(transmit.request, transmit.deadline_at)
            self._outbox.handle_answer(transmit.ticket, answer, now=self._now())
            self._nudge()
        finally:
            self._outbox.abandon(transmit.ticket, now=self._now())  # a no-op, unless cancelled


D = TypeVar("D", bound=Driver)


class Client(ClientBase[Async, Transport], Generic[D]):
    """A client whose methods are coroutine functions."""

    is_async = True
    _driver: D

    async def run(self, operation: Operation[T], /) -> T:
        """Carry out an operation, one of the resources' or your own, and return its result.

        Raises:
            ClockNextError: It failed; which class tells why.
        """
        return await self._driver.perform(self._engine.call(operation))

    async def record(self, recording: Recording, /) -> TrackResult:
        """Buffer a signal, or send it and wait, as `signals.track` does."""
        begun = self._engine.begin(recording)
        return await (self._driver.perform(begun) if isinstance(begun, Call) else self._driver.record(begun))

    async def flush(self, timeout: float | None = None) -> FlushReport:
        """Send everything held, wait for it, and report what became of it.

        Args:
            timeout: Seconds to wait at most. Then the report says how many signals are pending; they stay
                held and are delivered in the background. Default: wait as long as it takes.
        """
        return await self._driver.flush(checked_timeout(timeout))

    async def close(self, timeout: float | None = None) -> FlushReport:
        """Refuse new signals, send everything held, wait for it, and end everything in the background.

        Args:
            timeout: Seconds to wait at most. What is then still held is counted as pending in the report, and
                dropped as `closed`, each signal reported to `on_drop`. Default: as long as it takes.
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

    def _proxied_transport(self, proxy: str) -> Transport:
        from clocknext_transports.httpx import async_proxied

        return async_proxied(proxy)
