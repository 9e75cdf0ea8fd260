"""The driver for asyncio: its clock, its events, and how it reaches the background."""

import asyncio
import time
from collections.abc import Callable

from clocknext_core import Engine
from clocknext_transports.asyncio.tasks import Event, Tasks, running_loop
from clocknext_transports.client.serving import Serving
from clocknext_transports.loops.calls import Calls
from clocknext_transports.process import exit as process_exit


class Driver(Calls[Tasks]):
    """Carries calls out in the caller's task, and has tasks of its own serve the outbox."""

    cancellations = (asyncio.CancelledError,)

    def _begin(self, engine: Engine) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop it was used in last."""
        super()._begin(engine)

    async def halt(self) -> None:
        """End all tasks and connections. Held signals stay held."""
        await self._background.cancel()
        self._serving.run_hooks_if_alone()
        await self.transport.aclose()

    def _now(self) -> float:
        loop = running_loop()
        if loop is None:
            return time.monotonic() + self._ahead
        self._loop = loop
        return self._note_time(loop.time())

    def _make_event(self) -> Event:
        return Event()

    def _make_background(self, serving: Serving) -> Tasks:
        return Tasks(
            serving,
            self._exchange,
            on_start=lambda: process_exit.register(self),
            on_end=self._end,
        )

    async def _sleep_until(self, at: float) -> None:
        await asyncio.sleep(at - self._now())

    def _reach(self, call: Callable[[], object]) -> bool:
        loop = self._background.loop or self._loop
        if loop is None or not loop.is_running():
            return False
        try:
            loop.call_soon_threadsafe(call)
        except RuntimeError:  # it has just been closed
            return False
        return True

    async def _end(self, was_cancelled: bool) -> None:
        """End with the serving task: everything, or what its loop can't take along."""
        if was_cancelled:
            await self.transport.aclose()
            if self._serving.outbox.held:
                return
        elif not self._serving.is_orphaned:
            return
        else:
            if self._keeper is not None:
                self._keeper.close()
            if self.owns_transport:
                await self.transport.aclose()
        process_exit.unregister(self)
