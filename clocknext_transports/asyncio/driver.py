"""The driver for asyncio: its clock, its events and its background."""

import asyncio
from collections.abc import Callable

from clocknext_core import Engine
from clocknext_transports.asyncio.tasks import Event, Tasks, running_loop
from clocknext_transports.client.serving import Serving
from clocknext_transports.loops.calls import Calls
from clocknext_transports.process.clock import monotonic

FROZEN = 1.0
"""Seconds that a loop's clock is behind the one before it, where that was frozen: all others agree."""


class Driver(Calls[Tasks]):
    """Carries calls out in the caller's task, and has tasks of its own serve the outbox."""

    cancellations: tuple[type[BaseException], ...] = (asyncio.CancelledError,)

    def _begin(self, engine: Engine) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        """What read the time last."""
        super()._begin(engine)

    # The clock

    def _now(self) -> float:
        loop = running_loop()
        if loop is None:
            return monotonic() + self._ahead
        if self._loop not in (None, loop):  # a clock that was frozen is far ahead of the others
            behind = self._behind(loop.time())
            self._shift = behind if behind > FROZEN else 0.0
        self._loop = loop
        return self._note_time(loop.time())

    async def _sleep_until(self, at: float) -> None:
        await asyncio.sleep(at - self._now())

    # The background

    def _make_event(self) -> Event:
        return Event(self._shift)

    def _make_background(self, serving: Serving) -> Tasks:
        return Tasks(serving, self._exchange, self._make_event, self._has_started, self._end)

    def _reach(self, call: Callable[[], object]) -> bool:
        loop = self.background.loop or self._loop
        if loop is None or not loop.is_running():
            return False
        try:
            loop.call_soon_threadsafe(call)
        except RuntimeError:  # it has just been closed
            return False
        return True

    def _call_apart(self, call: Callable[[], object]) -> None:
        loop = running_loop()
        if loop is None:
            super()._call_apart(call)
        else:
            loop.call_soon(call)
