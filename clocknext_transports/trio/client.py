"""The client for trio."""

import math
from types import TracebackType
from typing import Self, final

import trio

from clocknext_transports.loops.calls import Transport
from clocknext_transports.loops.client import LoopClient
from clocknext_transports.trio.driver import Driver
from clocknext_transports.trio.transport import NativeTransport


@final
class TrioClockNext(LoopClient[Driver]):
    """A client of ClockNext for trio: every method is awaited, in any task.

    Signals are buffered and sent inside `async with`: the block's nursery holds the background tasks, and
    none outlives it. Leaving the block delivers what is held. A block that is cancelled ends at once: signals
    stay held (see `pending`), and are sent in the next `async with` of the same client. Awaited calls need
    no block.
    """

    def _make_driver(self, transport: Transport) -> Driver:
        return Driver(self._engine, transport, self._hooks)

    async def __aenter__(self) -> Self:
        self._nursery = trio.open_nursery()
        self._driver.enter(await self._nursery.__aenter__())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if trio.current_effective_deadline() > -math.inf:  # else the block has been cancelled
                await self.close(self._block_timeout(error))
        finally:
            await self._driver.halt()
            # The block's own error goes on by itself: the nursery would wrap it in a group.
            await self._nursery.__aexit__(None, None, None)

    def _native_transport(self) -> Transport:
        return NativeTransport(max_idle=self.config.batch.max_concurrency)
