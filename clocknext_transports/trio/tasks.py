"""The background of trio: one task serves, and each attempt is a task in a nursery of the first.

It lives in the nursery of the client's `async with` block. When it is cancelled, its attempts are taken back,
and signals stay held.
"""

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context

import trio

from clocknext_core import Answer, Closed, Request, Transmit
from clocknext_transports.client.serving import Serving
from clocknext_transports.loops import tasks


class Event:
    """Wakes one task of the run that it is made in; any thread may set it.

    Args:
        shift: Seconds by which the driver's time is ahead of the run's clock.
    """

    def __init__(self, shift: float) -> None:
        self._shift = shift
        self._token = trio.lowlevel.current_trio_token()
        self._event = trio.Event()

    def set(self) -> None:
        """Wake it."""
        if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token:
            self._event.set()
        else:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._event.set)

    async def wait(self, until: float | None = None) -> None:
        """Wait until the event is set, but at most until then."""
        with trio.move_on_at(math.inf if until is None else until - self._shift):
            await self._event.wait()


class Tasks(tasks.Tasks):
    """The tasks of one client.

    Args:
        serving: What they serve.
        exchange: Sends a request before a deadline.
        make_event: Makes an event for the run.
        on_start: Called when the serving task is started.
        on_end: Awaited with `True` when the tasks were cancelled.
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
        self.token: trio.lowlevel.TrioToken | None = None
        """The run that the tasks live in; outside the client's block, the one that used the client last."""
        self._scope: trio.CancelScope | None = None
        """What the tasks live in; `None` outside the client's `async with` block."""

    @property
    def is_working(self) -> bool:
        """Whether there is a serving task."""
        return self._scope is not None

    def call_soon(self, call: Callable[[], object]) -> bool:
        """Have a function called soon in the run; return whether it will be. Any thread may ask."""
        if self.token is None:
            return False
        try:
            self.token.run_sync_soon(call)
        except trio.RunFinishedError:  # it has just ended
            return False
        return True

    def start(self, nursery: trio.Nursery) -> None:
        """Start the serving task in a nursery."""
        self._on_start()
        self.token = trio.lowlevel.current_trio_token()
        scope = self._scope = trio.CancelScope()
        # In a context of its own: it serves all callers, not only the one that opened the block.
        Context().run(lambda: nursery.start_soon(self._work, scope, name="clocknext"))

    async def cancel(self) -> None:
        """Cancel all tasks. The nursery of the block waits for them."""
        if self._scope is not None:
            self._scope.cancel()
            self._scope = None
        await self._on_end(True)  # noqa: FBT003 - cancelled

    @trio.lowlevel.enable_ki_protection  # the machine does not survive an exception in the midst of a step
    async def send(self, transmit: Transmit) -> None:
        """Carry an attempt out; cancelled, take it back. A Ctrl-C goes to the main task."""
        await super().send(transmit)

    @trio.lowlevel.enable_ki_protection
    async def _work(self, scope: trio.CancelScope) -> None:
        """Serve, until the outbox has closed."""
        with scope:
            async with trio.open_nursery() as nursery:

                def start(transmit: Transmit) -> None:
                    nursery.start_soon(self.send, transmit, name="clocknext attempt")

                try:
                    while not isinstance(output := self.serve_all(start), Closed):
                        await self.sleep(output.until)
                    nursery.cancel_scope.cancel()
                finally:
                    # Nothing serves from here on, though attempts may still be on their way out.
                    if self._scope is scope:
                        self._scope = None
