"""Tasks that drive the machines.

One task polls the outbox, wakes waiters, runs hooks and sleeps until the next timer; each attempt is a task
of its own. The first buffered signal starts it, in whatever event loop is running then. If that loop ends,
its attempts are taken back, the signals stay held, and the next use begins anew.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import assert_never

from clocknext_core import Closed, Engine, Ticket, Transmit, Wait
from clocknext_transports.loops import driver as coroutines
from clocknext_transports.process import exit as atexit


class Driver(coroutines.Driver):
    """Drives calls in the caller's task, and the outbox in tasks of its own."""

    cancellations = (asyncio.CancelledError,)

    def _begin(self, engine: Engine) -> None:
        super()._begin(engine)
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop it was used in last."""
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
        self._loop = asyncio.get_running_loop()
        return self._loop.time()

    async def _sleep_until(self, at: float) -> None:
        await asyncio.sleep(at - self._now())

    def _make_event(self) -> asyncio.Event:
        return asyncio.Event()

    def _nudge(self) -> None:
        loop = asyncio.get_running_loop()
        if self._worker is not None and not self._worker.done() and self._worker.get_loop() is loop:
            if self._alarm is not None and self._outbox.wakes_before(self._sleeping_until):
                _ring(self._alarm)
        elif self._outbox.has_work:
            self._start_worker(loop)
        else:
            self._serve()

    def _start_worker(self, loop: asyncio.AbstractEventLoop) -> None:
        self._take_back(loop)
        atexit.register(self)
        # In a context of its own: it serves everybody, not the caller who happened to be the first.
        self._worker = loop.create_task(self._work(loop), name="clocknext", context=Context())

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
                        break
                    case _:
                        assert_never(output)
            if self._is_orphaned:
                if self._keeper is not None:
                    self._keeper.close()
                if self.owns_transport:
                    await self._transport.aclose()
                atexit.unregister(self)
        except asyncio.CancelledError:
            await self._transport.aclose()
            if not self._outbox.held:
                atexit.unregister(self)
            raise
        finally:
            # A task that was cancelled keeps what was on its stack, and so the client, from being collected.
            if self._worker is asyncio.current_task():
                self._worker = None

    def _take_back(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        # What another loop left behind will not go on.
        for ticket in [ticket for ticket, task in self._attempts.items() if task.get_loop() is not loop]:
            del self._attempts[ticket]
            self._outbox.abandon(ticket)

    def _in_loop(self, call: Callable[[], object]) -> bool:
        if self._loop is None or not self._loop.is_running():
            return False
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # it has just been closed
            return False
        return True

    def _threadsafe(self) -> Callable[[Callable[[], object]], object]:
        return asyncio.get_running_loop().call_soon_threadsafe

    def _resume(self) -> None:
        if self._alarm is not None:
            _ring(self._alarm)
        if not self._is_working():
            self._start_worker(asyncio.get_running_loop())

    def _is_working(self) -> bool:
        return self._worker is not None and not self._worker.done()

    def _start_attempt(self, transmit: Transmit, loop: asyncio.AbstractEventLoop) -> None:
        attempt = loop.create_task(self._carry(transmit), name="clocknext attempt")
        self._attempts[transmit.ticket] = attempt
        attempt.add_done_callback(partial(self._end_attempt, transmit.ticket))

    def _end_attempt(self, ticket: Ticket, attempt: asyncio.Task[None]) -> None:
        if self._attempts.get(ticket) is not attempt:
            return  # it was taken back before, or is the parent's in a forked child
        del self._attempts[ticket]
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
