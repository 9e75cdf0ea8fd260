"""The client for trio."""

import math
from types import TracebackType
from typing import Self, TypeVar, final

import trio

from clocknext_core import Call, FlushReport, Operation, Recording, TrackResult
from clocknext_core.binding import Async
from clocknext_transports.base import ClientBase, checked_timeout
from clocknext_transports.trio.driver import Driver
from clocknext_transports.trio.transport import NativeTransport, Transport

T = TypeVar("T")


@final
class ClockNext(ClientBase[Async, Transport]):
    """A client of ClockNext for trio: every method is awaited, in any task.

    Signals are buffered and sent inside `async with`: the block's nursery holds the background tasks, and
    none outlives it. Leaving the block delivers what is held. A block that is cancelled ends at once: signals
    stay held (see `pending`), and are sent in the next `async with` of the same client. Awaited calls need
    no block.
    """

    is_async = True

    def _start(self) -> None:
        self._driver = Driver(self._engine, self._transport, self._hooks)

    async def run(self, operation: Operation[T], /) -> T:
        """Carry out an operation, one of the resources' or your own, and return its result.

        Raises:
            ClockNextError: It failed; which class tells why.
        """
        return await self._driver.perform(self._engine.call(operation))

    async def record(self, recording: Recording, /) -> TrackResult:
        """Buffer a signal, or send it and wait, as `signals.track` does."""
        begun = self._engine.begin(recording)
        return await (self._driver.perform(begun) if isinstance(begun, Call) else self._driver.record(begun))

    async def flush(self, timeout: float | None = None) -> FlushReport:
        """Send everything held, wait for it, and report what became of it.

        Args:
            timeout: Seconds to wait at most. Then the report says how many signals are pending; they stay
                held and are delivered in the background. Default: wait as long as it takes.
        """
        return await self._driver.flush(checked_timeout(timeout))

    async def close(self, timeout: float | None = None) -> FlushReport:
        """Refuse new signals, send everything held, wait for it, and end the tasks and connections.

        Args:
            timeout: Seconds to wait at most. What is then still held is counted as pending in the report, and
                dropped as `closed`, each signal reported to `on_drop`. Default: as long as it takes.
        """
        return await self._driver.close(checked_timeout(timeout))

    async def __aenter__(self) -> Self:
        self._nursery = trio.open_nursery()
        self._driver.enter(await self._nursery.__aenter__())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if trio.current_effective_deadline() > -math.inf:  # else the block has been cancelled
                await self.close()
        finally:
            await self._driver.halt()
            # The block's own error goes on by itself: the nursery would wrap it in a group.
            await self._nursery.__aexit__(None, None, None)

    def _native_transport(self) -> Transport:
        return NativeTransport(max_idle=self.config.batch.max_concurrency)

    def _proxied_transport(self, proxy: str) -> Transport:
        from clocknext_transports.httpx import async_proxied

        return async_proxied(proxy)
