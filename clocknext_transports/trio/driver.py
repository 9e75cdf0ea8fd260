"""Tasks that drive the machines, in a nursery.

One task polls the outbox, wakes waiters, runs hooks and sleeps until the next timer; each attempt is a task
of its own, in a nursery of the first. That one lives in the nursery of the client's `async with` block. When
it is cancelled, attempts are taken back and the signals stay held.
"""

import math
from collections.abc import Callable
from typing import assert_never

import trio

from clocknext_core import Closed, EncodedSignal, Engine, FlushReport, Ticket, TrackResult, Transmit, Wait
from clocknext_transports import coroutines
from clocknext_transports.hooks import Hooks


class Driver(coroutines.Driver):
    """Drives calls in the caller's task, and the outbox in tasks of a nursery."""

    def __init__(self, engine: Engine, transport: coroutines.Transport, hooks: Hooks) -> None:
        super().__init__(engine, transport, hooks)
        self._scope: trio.CancelScope | None = None
        """What the tasks live in; `None` outside the client's `async with` block."""
        self._alarm: trio.Event | None = None
        self._sleeping_until: float | None = None

    async def record(self, encoded: EncodedSignal) -> TrackResult:
        """Buffer a signal, inside the block; after closing, have it dropped."""
        if self._scope is None and not self._outbox.is_closing:
            raise _outside_block()
        await trio.lowlevel.checkpoint()
        return await super().record(encoded)

    async def halt(self) -> None:
        """End all tasks and connections. What is held stays held."""
        if self._scope is not None:
            self._scope.cancel()
            self._scope = None
        await self._transport.aclose()

    def enter(self, nursery: trio.Nursery) -> None:
        """Begin to drive the outbox, in a task of a nursery."""
        self._scope = trio.CancelScope()
        nursery.start_soon(self._work, self._scope, name="clocknext")

    async def _report(self, begin: Callable[..., Ticket], timeout: float | None) -> FlushReport:
        if self._scope is None and self._outbox.held:
            raise _outside_block()
        return await super()._report(begin, timeout)

    def _now(self) -> float:
        return trio.current_time()

    async def _sleep_until(self, at: float) -> None:
        await trio.sleep_until(at)

    def _make_event(self) -> trio.Event:
        return trio.Event()

    def _nudge(self) -> None:
        if self._scope is None:
            output = self._serve()
            if isinstance(output, Transmit):  # its tasks are ending: it goes out in the next block
                self._outbox.abandon(output.ticket, now=trio.current_time())
        elif self._alarm is not None and self._outbox.wakes_before(self._sleeping_until):
            self._alarm.set()

    async def _work(self, scope: trio.CancelScope) -> None:
        """Poll and obey, until the outbox has closed."""
        with scope:
            async with trio.open_nursery() as attempts:
                try:
                    while True:
                        output = self._serve()
                        match output:
                            case Transmit():
                                attempts.start_soon(self._carry, output, name="clocknext attempt")
                            case Wait():
                                await self._sleep(output.until)
                            case Closed():
                                attempts.cancel_scope.cancel()
                                return
                            case _:
                                assert_never(output)
                finally:
                    # Nobody polls from here on, though attempts may still be on their way out.
                    if self._scope is scope:
                        self._scope = None

    async def _sleep(self, until: float | None) -> None:
        self._alarm = trio.Event()
        self._sleeping_until = until
        try:
            with trio.move_on_at(math.inf if until is None else until):
                await self._alarm.wait()
        finally:
            self._alarm = None


def _outside_block() -> RuntimeError:
    return RuntimeError("Signals are buffered and sent inside the client's `async with` block.")
