"""Tasks that drive the machines.

One task polls the outbox, wakes waiters, runs hooks and sleeps until the next timer; each attempt is a task
of its own. The first buffered signal starts it, in whatever event loop is running then. If that loop ends,
its attempts are taken back, the signals stay held, and the next use begins anew.
"""

import asyncio
from functools import partial
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
from clocknext_transports.asyncio.transport import Transport
from clocknext_transports.base import broken_transport
from clocknext_transports.hooks import Hooks

T = TypeVar("T")


class Waiter:
    """A task that waits for a ticket to settle."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
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
    """Drives calls in the caller's task, and the outbox in tasks of its own."""

    def __init__(self, engine: Engine, transport: Transport, hooks: Hooks) -> None:
        self._engine = engine
        self._outbox = engine.outbox
        self._transport = transport
        self._hooks = hooks
        self._worker: asyncio.Task[None] | None = None
        self._attempts: dict[Ticket, asyncio.Task[None]] = {}
        self._waiters: dict[Ticket, Waiter] = {}
        self._alarm: asyncio.Future[None] | None = None
        self._sleeping_until: float | None = None

    # Calls

    async def perform(self, call: Call[T]) -> T:
        """Carry a call out, in this task."""
        loop = asyncio.get_running_loop()
        while True:
            output = call.poll(now=loop.time())
            match output:
                case Transmit():
                    answer = await self._exchange(output.request, output.deadline_at)
                    call.handle_answer(output.ticket, answer, now=loop.time())
                case Retrying():
                    self._hooks.fire(output)
                case Wait():
                    assert output.until is not None  # nothing is in flight while this task polls
                    await asyncio.sleep(output.until - loop.time())
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
        receipt = self._outbox.record(encoded, now=self._now())
        if receipt.ticket is None:
            self._nudge()
            if self._outbox.held % self._engine.config.batch.max_size == 0:
                # A loop of calls that never suspend would starve the tasks that send.
                await asyncio.sleep(0)
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
        now = self._now()
        return await self._report(
            self._outbox.flush(now=now, deadline_at=None if timeout is None else now + timeout)
        )

    async def close(self, timeout: float | None) -> FlushReport:
        """Refuse new signals, send everything held, wait for it, and end all tasks."""
        now = self._now()
        report = await self._report(
            self._outbox.close(now=now, deadline_at=None if timeout is None else now + timeout)
        )
        await self.halt()
        return report

    async def halt(self) -> None:
        """End all tasks and connections. What is held stays held."""
        loop = asyncio.get_running_loop()
        candidates = [*self._attempts.values(), self._worker]
        tasks = [task for task in candidates if task is not None and task.get_loop() is loop]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._transport.aclose()

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

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _nudge(self) -> None:
        """See to it, after an input, that somebody polls."""
        loop = asyncio.get_running_loop()
        if self._worker is not None and not self._worker.done() and self._worker.get_loop() is loop:
            if self._alarm is not None and self._outbox.wakes_before(self._sleeping_until):
                _ring(self._alarm)
        elif self._outbox.held:
            self._start_worker(loop)
        else:
            self._serve()

    def _start_worker(self, loop: asyncio.AbstractEventLoop) -> None:
        # What another loop left behind will not go on.
        for ticket in [ticket for ticket, task in self._attempts.items() if task.get_loop() is not loop]:
            del self._attempts[ticket]
            self._outbox.abandon(ticket, now=loop.time())
        self._worker = loop.create_task(self._work(loop), name="clocknext")

    async def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Poll and obey, until the outbox has closed."""
        try:
            while True:
                output = self._serve()
                match output:
                    case Transmit():
                        attempt = loop.create_task(self._carry(output), name="clocknext attempt")
                        self._attempts[output.ticket] = attempt
                        # Not in the task itself: one that is cancelled before its first step never runs.
                        attempt.add_done_callback(partial(self._end_attempt, output.ticket))
                    case Wait():
                        await self._sleep(output.until)
                    case Closed():
                        return
                    case _:
                        assert_never(output)
        except asyncio.CancelledError:
            await self._transport.aclose()
            raise

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

    async def _sleep(self, until: float | None) -> None:
        loop = asyncio.get_running_loop()
        alarm = self._alarm = loop.create_future()
        self._sleeping_until = until
        timer = None if until is None else loop.call_at(until, _ring, alarm)
        try:
            await alarm
        finally:
            self._alarm = None
            if timer is not None:
                timer.cancel()

    async def _carry(self, transmit: Transmit) -> None:
        answer = await self._exchange(transmit.request, transmit.deadline_at)
        self._outbox.handle_answer(transmit.ticket, answer, now=self._now())
        self._nudge()

    def _end_attempt(self, ticket: Ticket, attempt: asyncio.Task[None]) -> None:
        self._attempts.pop(ticket, None)
        # A no-op, unless the attempt was cancelled.
        self._outbox.abandon(ticket, now=attempt.get_loop().time())
        if self._alarm is not None and attempt.cancelled():
            _ring(self._alarm)


def _ring(alarm: asyncio.Future[None]) -> None:
    if not alarm.done():
        alarm.set_result(None)
