"""The driver for threads: its clock, its events, and how it reaches the background."""

import _thread
import threading
from collections.abc import Callable
from contextlib import suppress

from clocknext_core import Engine
from clocknext_transports.client import script
from clocknext_transports.client.hooks import Hooks
from clocknext_transports.client.serving import Serving
from clocknext_transports.process import exit as process_exit
from clocknext_transports.process.exit import GRACE
from clocknext_transports.sync.calls import Calls
from clocknext_transports.sync.clock import Clock
from clocknext_transports.sync.threads import Threads
from clocknext_transports.sync.transport import Transport

JOIN_TIMEOUT = 1.0
"""Seconds that closing waits for threads whose sockets were closed. A look-up or a hook may outlast it."""


class Event:
    """Wakes one thread; any thread may set it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._event = threading.Event()

    def set(self) -> None:
        """Wake it."""
        self._event.set()

    def is_set(self) -> bool:
        """Return whether the event was set."""
        return self._event.is_set()

    def wait(self, until: float | None = None) -> None:
        """Wait until the event is set, but at most until then."""
        self._event.wait(None if until is None else max(0.0, until - self._clock.now()))


class Driver(Calls):
    """Carries calls out in the caller's thread, and has threads of its own serve the outbox."""

    def __init__(self, engine: Engine, transport: Transport, hooks: Hooks, clock: Clock) -> None:
        self._clock = clock
        super().__init__(engine, transport, hooks)

    def halt(self) -> None:
        """End all threads and connections. Held signals stay held."""
        if self.owns_transport or not self._serving.is_orphaned:
            self.transport.close()
        if self._keeper is not None:
            self._keeper.close()
            self._keeper.join()
        self._background.join(min(self._now() + JOIN_TIMEOUT, self._exit_at + GRACE))

    def _now(self) -> float:
        return self._clock.now()

    def _make_event(self) -> Event:
        return Event(self._clock)

    def _make_background(self, serving: Serving) -> Threads:
        return Threads(
            serving,
            self._exchange,
            self._clock,
            on_start=lambda: process_exit.register(self),
            on_end=self._end_orphaned,
        )

    def _sleep_until(self, at: float) -> None:
        self._clock.sleep_until(at)

    def _wait(self, event: script.Event, until: float | None) -> None:
        assert isinstance(event, Event)  # made by this driver
        with self._serving.lock:
            if not self._background.is_working:
                # No thread can be started any more, or none was worth it: this one does the work.
                self._background.work_until(
                    lambda: event.is_set() or (until is not None and self._now() >= until)
                )
        event.wait(until)

    def _reach(self, call: Callable[[], object]) -> bool:
        if not self._background.is_working:
            return False
        # In a thread apart: the caller may hold the lock. Not of `threading`, whose locks it may hold too.
        with suppress(RuntimeError):  # the interpreter is shutting down, and delivers as it exits
            _thread.start_new_thread(call, ())
        return True

    def _resume(self) -> None:
        with self._serving.lock:
            self._background.call_all()

    def _spool_has_worked(self) -> None:
        self._bring()

    def _look_for_what_was_left(self) -> None:
        with self._serving.lock:
            self._serving.nudge()

    def _check_may_wait(self) -> None:
        if self._serving.hook_runner is threading.current_thread():
            raise RuntimeError("A hook must not wait for the buffer, which waits for the hook.")

    def _end_orphaned(self) -> None:
        self.halt()
        process_exit.unregister(self)

    def _abort(self) -> None:
        if self.owns_transport:
            self.transport.close()
