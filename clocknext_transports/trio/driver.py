"""The driver for trio: its clock, its events, and how it reaches the background."""

import time
from collections.abc import Callable

import trio

from clocknext_core import Answer, EncodedSignal, Engine, FlushReport, Request, TrackResult
from clocknext_transports.client import script
from clocknext_transports.client.serving import Serving
from clocknext_transports.loops.calls import Calls
from clocknext_transports.process import exit as process_exit
from clocknext_transports.trio.tasks import Event, Tasks


class Driver(Calls[Tasks]):
    """Carries calls out in the caller's task, and has tasks in a nursery serve the outbox."""

    def _begin(self, engine: Engine) -> None:
        self._clock: trio.abc.Clock | None = None
        """The run's, when the time was last read."""
        self._shift = 0.0
        """Seconds by which the driver's time is ahead of that clock."""
        super()._begin(engine)

    async def halt(self) -> None:
        """End all tasks and connections. Held signals stay held."""
        self._background.cancel()
        self._serving.run_hooks_if_alone()
        if not self._serving.outbox.held:
            process_exit.unregister(self)
        await self.transport.aclose()

    def enter(self, nursery: trio.Nursery) -> None:
        """Begin to serve the outbox, in a task of a nursery."""
        process_exit.register(self)
        self._background.start(nursery)

    def _now(self) -> float:
        if not trio.lowlevel.in_trio_run():
            return time.monotonic() + self._ahead
        clock = trio.lowlevel.current_clock()
        if clock is not self._clock:
            if self._clock is not None:
                # Each run counts from a zero of its own, drawn at random: time goes on as if it did not.
                self._shift = time.monotonic() + self._ahead - clock.current_time()
            self._clock = clock
        return self._note_time(clock.current_time() + self._shift)

    def _make_event(self) -> Event:
        return Event(self._shift)

    def _make_background(self, serving: Serving) -> Tasks:
        return Tasks(serving, self._exchange, self._make_event)

    async def _sleep_until(self, at: float) -> None:
        await trio.sleep_until(at - self._shift)

    def _reach(self, call: Callable[[], object]) -> bool:
        token = self._background.token
        if token is None or not self._background.is_working:
            return False
        try:
            token.run_sync_soon(call)
        except trio.RunFinishedError:  # it has just ended
            return False
        return True

    # Calls

    async def record(self, encoded: EncodedSignal) -> TrackResult:
        """Buffer a signal, inside the block; after closing, have it dropped."""
        if not self._background.is_working and not self._serving.outbox.is_closing:
            raise _outside_block()
        await trio.lowlevel.checkpoint_if_cancelled()
        result = await super().record(encoded)
        await trio.lowlevel.cancel_shielded_checkpoint()  # it was recorded: too late to be cancelled
        return result

    def _flushing(self, timeout: float | None, *, closes: bool = False) -> script.Script[FlushReport]:
        if not self._background.is_working and self._serving.outbox.held:
            raise _outside_block()
        return super()._flushing(timeout, closes=closes)

    async def _exchange(self, request: Request, deadline_at: float) -> Answer:
        return await super()._exchange(request, deadline_at - self._shift)


def _outside_block() -> RuntimeError:
    return RuntimeError("Signals are buffered and sent inside the client's `async with` block.")
