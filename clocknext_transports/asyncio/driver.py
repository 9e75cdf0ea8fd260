"""Tasks that drive the machines.

One task polls the outbox, wakes waiters, runs hooks and sleeps until the next timer; each attempt is a task
of its own. The first buffered signal starts it, in whatever event loop is running then. If that loop ends,
its attempts are taken back, the signals stay held, and the next use begins anew.
"""

import asyncio
from functools import partial
from typing import assert_never

from clocknext_core import Closed, Engine, Ticket, Transmit, Wait
from clocknext_transports import coroutines
from clocknext_transports.hooks import Hooks


class Driver(coroutines.Driver):
    """Drives calls in the caller's task, and the outbox in tasks of its own."""

    cancellations = (asyncio.CancelledError,)

    def __init__(self, engine: Engine, transport: coroutines.Transport, hooks: Hooks) -> None:
        super().__init__(engine, transport, hooks)
        self._worker: asyncio.Task[None] | None = None
        self._attempts: dict[Ticket, asyncio.Task[None]] = {}
        self._alarm: asyncio.Future[None] | None = None
        self._sleeping_until: float | None = None

    async def halt(self) -> None:
        """End all tasks and connections. What is held stays held."""
        loop = asyncio.get_running_loop()
        candidates = [*self._attempts.values(), self._worker]
        tasks = [task for task in candidates if task is not None and task.get_loop() is loop]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._transport.aclose()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _sleep_until(self, at: float) -> None:
        await asyncio.sleep(at - self._now())

    def _make_event(self) -> asyncio.Event:
        return asyncio.Event()

    def _nudge(self) -> None:
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
                        self._start_attempt(output, loop)
                    case Wait():
                        await self._sleep(output.until, loop)
                    case Closed():
                        return
                    case _:
                        assert_never(output)
        except asyncio.CancelledError:
            await self._transport.aclose()
            raise

    def _start_attempt(self, transmit: Transmit, loop: asyncio.AbstractEventLoop) -> None:
        attempt = loop.create_task(self._carry(transmit), name="clocknext attempt")
        self._attempts[transmit.ticket] = attempt
        attempt.add_done_callback(partial(self._end_attempt, transmit.ticket))

    def _end_attempt(self, ticket: Ticket, attempt: asyncio.Task[None]) -> None:
        self._attempts.pop(ticket, None)
        if attempt.cancelled():
            # Also here, not only in the task: one that is cancelled before its first step never runs.
            self._outbox.abandon(ticket, now=attempt.get_loop().time())
            if self._alarm is not None:
                _ring(self._alarm)

    async def _sleep(self, until: float | None, loop: asyncio.AbstractEventLoop) -> None:
        alarm = self._alarm = loop.create_future()
        self._sleeping_until = until
        timer = None if until is None else loop.call_at(until, _ring, alarm)
        try:
            await alarm
        finally:
            self._alarm = None
            if timer is not None:
                timer.cancel()


def _ring(alarm: asyncio.Future[None]) -> None:
    if not alarm.done():
        alarm.set_result(None)
