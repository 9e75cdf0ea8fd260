"""Tasks that drive the machines, in a nursery.

One task polls the outbox, wakes waiters, runs hooks and sleeps until the next timer; each attempt is a task
of its own, in a nursery of the first. That one lives in the nursery of the client's `async with` block. When
it is cancelled, attempts are taken back and the signals stay held.
"""

import math
from typing import TypeVar, assert_never

import trio

from clocknext_core import (
    Call,
    Closed,
    Delivered,
    Dropped,
    EncodedSignal,
    Engine,
    Flushed,
    FlushReport,
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
from clocknext_transports.hooks import Hooks
from clocknext_transports.trio.transport import Transport

T = TypeVar("T")


class Waiter:
    """A task that waits for a ticket to settle."""

    def __init__(self) -> None:
        self._event = trio.Event()
        self._settled: Settled[FlushReport] | Settled[TrackResult] | None = None

    def settle(self, settled: Settled[FlushReport] | Settled[TrackResult]) -> None:
        """Wake the task with an outcome."""
        self._settled = settled
        self._event.set()

    async def wait(self) -> FlushReport | TrackResult:
        """Block until the outcome is there."""
        await self._event.wait()
        assert self._settled is not None  # set before the event
        return self._settled.unwrap()


class Driver:
    """Drives calls in the caller's task, and the outbox in tasks of a nursery."""

    def __init__(self, engine: Engine, transport: Transport, hooks: Hooks) -> None:
        self._engine = engine
        self._outbox = engine.outbox
        self._transport = transport
        self._hooks = hooks
        self._scope: trio.CancelScope | None = None
        """What the tasks live in; `None` outside the client's `async with` block."""
        self._waiters: dict[Ticket, Waiter] = {}
        self._alarm: trio.Event | None = None
        self._sleeping_until: float | None = None

    # Calls

    async def perform(self, call: Call[T]) -> T:
        """Carry a call out, in this task."""
        while True:
            output = call.poll(now=trio.current_time())
            match output:
                case Transmit():
                    answer = await self._exchange(output.request, output.deadline_at)
                    call.handle_answer(output.ticket, answer, now=trio.current_time())
                case Retrying():
                    self._hooks.fire(output)
                case Wait():
                    assert output.until is not None  # nothing is in flight while this task polls
                    await trio.sleep_until(output.until)
                case Settled():
                    return output.unwrap()
                case Closed():
                    raise AssertionError("a call settles before it closes")
                case _:
                    assert_never(output)

    async def _exchange(self, request: Request, deadline_at: float) -> Answer:
        try:
            return await self._transport.exchange(request, deadline_at=deadline_at)
        except Exception as error:  # noqa: BLE001 - a transport's bug must not lose a signal
            return broken_transport(error, self._engine.config)

    # The outbox

    async def record(self, encoded: EncodedSignal) -> TrackResult:
        """Buffer a signal."""
        if self._scope is None and not self._outbox.is_closing:
            raise _outside_block()
        await trio.lowlevel.checkpoint()
        receipt = self._outbox.record(encoded, now=trio.current_time())
        if receipt.ticket is None:
            self._nudge()
            return receipt.result
        try:
            result = await self._settled(receipt.ticket)
        except BaseException:
            self._outbox.withdraw(receipt.ticket, now=trio.current_time())
            raise
        assert isinstance(result, TrackResult)  # the ticket is a record's
        return result

    async def flush(self, timeout: float | None) -> FlushReport:
        """Send everything held and wait for it."""
        self._check_running()
        now = trio.current_time()
        return await self._report(
            self._outbox.flush(now=now, deadline_at=None if timeout is None else now + timeout)
        )

    async def close(self, timeout: float | None) -> FlushReport:
        """Refuse new signals, send everything held, wait for it, and end all tasks."""
        self._check_running()
        now = trio.current_time()
        report = await self._report(
            self._outbox.close(now=now, deadline_at=None if timeout is None else now + timeout)
        )
        await self.halt()
        return report

    async def halt(self) -> None:
        """End all tasks and connections. What is held stays held."""
        if self._scope is not None:
            self._scope.cancel()
            self._scope = None
        await self._transport.aclose()

    def enter(self, nursery: trio.Nursery) -> None:
        """Begin to drive the outbox, in a task of a nursery."""
        self._scope = trio.CancelScope()
        nursery.start_soon(self._work, self._scope, name="clocknext")

    def _check_running(self) -> None:
        """Require running tasks if there is anything to send: there are none outside `async with`."""
        if self._scope is None and self._outbox.held:
            raise _outside_block()

    async def _report(self, ticket: Ticket) -> FlushReport:
        report = await self._settled(ticket)
        assert isinstance(report, FlushReport)  # the ticket is a flush's
        return report

    async def _settled(self, ticket: Ticket) -> FlushReport | TrackResult:
        waiter = self._waiters[ticket] = Waiter()
        self._nudge()
        try:
            return await waiter.wait()
        finally:
            self._waiters.pop(ticket, None)

    def _nudge(self) -> None:
        """See to it, after an input, that somebody polls."""
        if self._scope is None:
            output = self._serve()
            if isinstance(output, Transmit):  # its tasks are ending: it goes out in the next block
                self._outbox.abandon(output.ticket, now=trio.current_time())
        elif self._alarm is not None and self._outbox.wakes_before(self._sleeping_until):
            self._alarm.set()

    async def _work(self, scope: trio.CancelScope) -> None:
        """Poll and obey, until the outbox has closed."""
        with scope:
            async with trio.open_nursery() as attempts:
                try:
                    while True:
                        output = self._serve()
                        match output:
                            case Transmit():
                                attempts.start_soon(self._carry, output, name="clocknext attempt")
                            case Wait():
                                await self._sleep(output.until)
                            case Closed():
                                attempts.cancel_scope.cancel()
                                return
                            case _:
                                assert_never(output)
                finally:
                    # Nobody polls from here on, though attempts may still be on their way out.
                    if self._scope is scope:
                        self._scope = None

    def _serve(self) -> Transmit | Wait | Closed:
        """Poll, waking waiters and running hooks, until there is something else to do."""
        while True:
            output = self._outbox.poll(now=trio.current_time())
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

    async def _sleep(self, until: float | None) -> None:
        self._alarm = trio.Event()
        self._sleeping_until = until
        try:
            with trio.move_on_at(math.inf if until is None else until):
                await self._alarm.wait()
        finally:
            self._alarm = None

    async def _carry(self, transmit: Transmit) -> None:
        try:
            answer = await self._exchange(transmit.request, transmit.deadline_at)
            self._outbox.handle_answer(transmit.ticket, answer, now=trio.current_time())
            self._nudge()
        finally:
            # A no-op, unless the attempt was cancelled.
            self._outbox.abandon(transmit.ticket, now=trio.current_time())


def _outside_block() -> RuntimeError:
    return RuntimeError("Signals are buffered and sent inside the client's `async with` block.")
