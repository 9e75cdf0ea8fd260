"""The driver for trio: its clock, its events and its background."""

from collections.abc import Callable

import trio

from clocknext_core import Engine
from clocknext_transports.client.serving import Serving
from clocknext_transports.loops.calls import Calls
from clocknext_transports.process.clock import monotonic
from clocknext_transports.trio.tasks import Event, Tasks


class Driver(Calls[Tasks]):
    """Carries calls out in the caller's task, and has tasks in a nursery serve the outbox."""

    lasting: tuple[type[BaseException], ...] = (trio.Cancelled,)

    def _begin(self, engine: Engine) -> None:
        self._clock: trio.abc.Clock | None = None
        """What read the time last."""
        super()._begin(engine)

    # The clock

    def _now(self) -> float:
        if not trio.lowlevel.in_trio_run():
            return monotonic() + self._ahead
        clock = trio.lowlevel.current_clock()
        if self._clock not in (None, clock):  # each run counts from a random zero; this time goes on
            self._shift = self._behind(clock.current_time())
        self._clock = clock
        if not self.background.is_working:
            self.background.token = trio.lowlevel.current_trio_token()
        return self._note_time(clock.current_time())

    async def _sleep_until(self, at: float) -> None:
        await trio.sleep_until(at - self._shift)

    # The background

    def _make_event(self) -> Event:
        return Event(self._shift)

    def _make_background(self, serving: Serving) -> Tasks:
        return Tasks(serving, self._exchange, self._make_event, self._has_started, self._end)

    def _reach(self, call: Callable[[], object]) -> bool:
        return self.background.is_working and self.background.call_soon(call)

    def _spool_has_worked(self) -> None:
        self.background.call_soon(self._bring)  # also outside the block: a flush or close waits for it there
