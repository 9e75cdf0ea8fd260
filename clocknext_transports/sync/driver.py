"""The driver for threads: its clock, its events and its background."""

from collections.abc import Callable

from clocknext_core import Engine
from clocknext_transports.client.hooks import Hooks
from clocknext_transports.client.serving import Serving
from clocknext_transports.sync.calls import Calls, Transport
from clocknext_transports.sync.clock import Clock
from clocknext_transports.sync.threads import Event, Threads


class Driver(Calls):
    """Carries calls out in the caller's thread, and has threads of its own serve the outbox."""

    def __init__(self, engine: Engine, transport: Transport, hooks: Hooks, clock: Clock) -> None:
        self._clock = clock
        """What reads the time."""
        super().__init__(engine, transport, hooks)

    # The clock

    def _now(self) -> float:
        return self._clock.now()

    def _sleep_until(self, at: float) -> None:
        self._clock.sleep_until(at)

    # The background

    def _make_event(self) -> Event:
        return Event(self._clock)

    def _make_background(self, serving: Serving) -> Threads:
        return Threads(serving, self._exchange, self._clock, self._has_started, self._end)

    def _reach(self, call: Callable[[], object]) -> bool:
        if not self.background.is_working:
            return False
        self._call_apart(call)
        return True
