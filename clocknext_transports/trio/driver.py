"""Tasks that drive the machines, in a nursery.

One task polls the outbox, wakes waiters, runs hooks and sleeps until the next timer; each attempt is a task
of its own, in a nursery of the first. That one lives in the nursery of the client's `async with` block. When
it is cancelled, attempts are taken back and the signals stay held.
"""

import math
import time
from collections.abc import Callable
from contextvars import Context
from typing import assert_never

import trio

from clocknext_core import (
    Answer,
    Closed,
    EncodedSignal,
    Engine,
    FlushReport,
    Request,
    Ticket,
    TrackResult,
    Transmit,
    Wait,
)
from clocknext_transports.loops import driver as coroutines
from clocknext_transports.process import exit as atexit


class Driver(coroutines.Driver):
    """Drives calls in the caller's task, and the outbox in tasks of a nursery."""

    def _begin(self, engine: Engine) -> None:
        super()._begin(engine)
        self._token: trio.lowlevel.TrioToken | None = None
        """The run it was used in last."""
        self._scope: trio.CancelScope | None = None
        """What the tasks live in; `None` outside the client's `async with` block."""
        self._alarm: trio.Event | None = None
        self._sleeping_until: float | None = None
        self._clock: trio.abc.Clock | None = None
        """The run's, when the time was last read."""
        self._shift = 0.0
        """Seconds by which the driver's time is ahead of that clock."""

    async def record(self, encoded: EncodedSignal) -> TrackResult:
        """Buffer a signal, inside the block; after closing, have it dropped."""
        if self._scope is None and not self._outbox.is_closing:
            raise _outside_block()
        await trio.lowlevel.checkpoint_if_cancelled()
        result = await super().record(encoded)
        await trio.lowlevel.cancel_shielded_checkpoint()  # it was recorded: too late to be cancelled
        return result

    async def halt(self) -> None:
        """End all tasks and connections. What is held stays held."""
        if self._scope is not None:
            self._scope.cancel()
            self._scope = None
        if not self._outbox.held:
            atexit.unregister(self)
        await self._transport.aclose()

    def enter(self, nursery: trio.Nursery) -> None:
        """Begin to drive the outbox, in a task of a nursery."""
        atexit.register(self)
        self._token = trio.lowlevel.current_trio_token()
        scope = self._scope = trio.CancelScope()
        # In a context of its own: it serves everybody, not the one who opened the block.
        Context().run(lambda: nursery.start_soon(self._work, scope, name="clocknext"))

    async def _report(self, begin: Callable[..., Ticket], timeout: float | None) -> FlushReport:
        if self._scope is None and self._outbox.held:
            raise _outside_block()
        return await super()._report(begin, timeout)

    def _now(self) -> float:
        clock = trio.lowlevel.current_clock()
        if clock is not self._clock:
            if self._clock is not None:
                # Each run counts from a zero of its own, drawn at random: time goes on as if it did not.
                self._shift = time.monotonic() + self._ahead - clock.current_time()
            self._clock = clock
        now = clock.current_time() + self._shift
        self._ahead = now - time.monotonic()
        return now

    async def _sleep_until(self, at: float) -> None:
        await trio.sleep_until(at - self._shift)

    async def _exchange(self, request: Request, deadline_at: float) -> Answer:
        return await super()._exchange(request, deadline_at - self._shift)

    def _make_event(self) -> trio.Event:
        return trio.Event()

    def _nudge(self) -> None:
        if self._scope is None:
            output = self._serve()
            if isinstance(output, Transmit):  # its tasks are ending: it goes out in the next block
                self._outbox.abandon(output.ticket, now=self._now())
        elif self._alarm is not None and self._outbox.wakes_before(self._sleeping_until):
            self._alarm.set()

    def _in_loop(self, call: Callable[[], object]) -> bool:
        if self._scope is None or self._token is None:
            return False
        try:
            self._token.run_sync_soon(call)
        except trio.RunFinishedError:
            return False
        return True

    def _threadsafe(self) -> Callable[[Callable[[], object]], object]:
        return trio.lowlevel.current_trio_token().run_sync_soon

    def _is_working(self) -> bool:
        return self._scope is not None

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
            with trio.move_on_at(math.inf if until is None else until - self._shift):
                await self._alarm.wait()
        finally:
            self._alarm = None


def _outside_block() -> RuntimeError:
    return RuntimeError("Signals are buffered and sent inside the client's `async with` block.")
