"""The background of asyncio: one task serves, and each attempt is a task.

The first buffered signal starts the task, in the event loop that runs then. If that loop ends, its attempts
are taken back, signals stay held, and the next use starts another task.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import cast

from clocknext_core import Answer, Closed, Request, Ticket, Transmit
from clocknext_transports.asyncio.endings import Unstarted, unattended, wake
from clocknext_transports.client.serving import Serving
from clocknext_transports.loops import tasks


class Event:
    """Wakes one coroutine of the loop that runs when it is made; any thread may set it.

    Args:
        shift: Seconds by which the driver's time is ahead of the loop's clock.
    """

    def __init__(self, shift: float) -> None:
        self._shift = shift
        self._loop = asyncio.get_running_loop()
        self._is_set = False
        self._ring: asyncio.Future[None] | None = None
        """What the coroutine waits for."""

    def set(self) -> None:
        """Wake it."""
        if running_loop() is self._loop:
            self._set()
        else:
            with suppress(RuntimeError):  # the loop has been closed
                self._loop.call_soon_threadsafe(self._set)

    async def wait(self, until: float | None = None) -> None:
        """Wait until the event is set, but at most until then."""
        if self._is_set:
            return
        ring = self._ring = self._loop.create_future()
        timer = None if until is None else self._loop.call_at(until - self._shift, wake, ring)
        try:
            await ring
        finally:
            if timer is not None:
                timer.cancel()

    def _set(self) -> None:
        self._is_set = True
        if self._ring is not None:
            wake(self._ring)


class Tasks(tasks.Tasks):
    """The tasks of one client.

    Args:
        serving: What they serve.
        exchange: Sends a request before a deadline.
        make_event: Makes an event for the loop that runs.
        on_start: Called when a serving task is started, with the lock held.
        on_end: Awaited when the serving task ends, with whether it was cancelled.
    """

    def __init__(
        self,
        serving: Serving,
        exchange: Callable[[Request, float], Awaitable[Answer]],
        make_event: Callable[[], Event],
        on_start: Callable[[], object],
        on_end: Callable[[bool], Awaitable[object]],
    ) -> None:
        super().__init__(serving, exchange, make_event)
        self._on_start = on_start
        self._on_end = on_end
        self._worker: asyncio.Task[None] | None = None
        """The task that serves."""
        self._attempts: dict[Ticket, asyncio.Task[None]] = {}
        self._left: list[asyncio.Task[None]] = []
        """Attempts of closed loops that were taken back, and have yet to be ended."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that the serving task runs in."""
        return self._worker.get_loop() if self._worker is not None and self.is_working else None

    @property
    def is_working(self) -> bool:
        """Whether there is a serving task, in a loop that runs."""
        if self._worker is None or self._worker.done():
            return False
        loop = self._worker.get_loop()
        return loop is running_loop() or loop.is_running()

    def call(self) -> bool:
        """Have the task serve once more, or start one where there is work and a loop."""
        if self.is_working:
            self.wake()
        elif self._serving.outbox.has_work or self._serving.is_orphaned:
            loop = running_loop()
            if loop is not None:
                self._start(loop)
        return self.is_working

    def take_back(self) -> None:
        """Take back the attempts of loops that have ended: they will not go on."""
        for ticket, task in list(self._attempts.items()):
            loop = task.get_loop()
            if not loop.is_running():
                del self._attempts[ticket]
                self._serving.outbox.abandon(ticket)
                if loop.is_closed():
                    self._left.append(task)

    def end_left(self) -> None:
        """End the attempts of closed loops, without the lock: a transport of the user's may be within.

        The collector would end what belongs to one in any order, and a connection before what closes it.
        """
        while self._left:
            task = self._left.pop()  # held: a coroutine that drops its own task while it ends is ended twice
            with suppress(Exception):
                cast("Unstarted[None]", task.get_coro()).close()

    async def cancel(self) -> None:
        """Cancel all tasks of the loop that runs, and wait for them. The lock is not held."""
        loop = asyncio.get_running_loop()
        candidates = [*self._attempts.values(), self._worker]
        mine = [task for task in candidates if task is not None and task.get_loop() is loop]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self.take_back()
        self._on_start()
        # In a context of its own: it serves all callers, not only the first. Not by
        # the loop: a task factory is the user's, and may run the first step at once, with the lock held.
        steps = Unstarted(partial(self._work, loop))
        task = asyncio.Task(steps, loop=loop, name="clocknext", context=Context())
        self._worker = unattended(task)

    async def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve, until the outbox has closed or another loop's task has taken this one's place."""

        def start(transmit: Transmit) -> None:
            steps = Unstarted(partial(self.send, transmit))
            attempt = unattended(loop.create_task(steps, name="clocknext attempt"))
            self._attempts[transmit.ticket] = attempt
            attempt.add_done_callback(lambda attempt: self._end_attempt(transmit.ticket, attempt))

        me = asyncio.current_task()
        try:
            self.end_left()
            while self._is_current(me) and not isinstance(output := self.serve_all(start), Closed):
                await self.sleep(output.until)
            if self._worker is me:
                await self._on_end(False)  # noqa: FBT003 - not cancelled
        except asyncio.CancelledError:
            with self._serving.lock:
                if self._worker is me:  # other loops must not rely on it while it ends
                    self._worker = None
            await self._on_end(True)  # noqa: FBT003 - cancelled
            raise
        finally:
            # A task that was cancelled keeps what was on its stack, and so the client, from being collected.
            if self._worker is me:
                self._worker = None

    def _is_current(self, worker: asyncio.Task[None] | None) -> bool:
        """Return whether a task, whose loop runs, is still the one that serves."""
        with self._serving.lock:
            return self._worker is worker

    def _end_attempt(self, ticket: Ticket, attempt: asyncio.Task[None]) -> None:
        if self._attempts.get(ticket) is not attempt:
            return  # it was taken back before, or is the parent's in a forked child
        del self._attempts[ticket]
        if attempt.cancelled():
            # Also here, not only in the task: one that is cancelled before its first step never runs.
            with self._serving.lock:
                self._serving.outbox.abandon(ticket)
                self.wake()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
