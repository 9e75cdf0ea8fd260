"""The client for asyncio."""

import asyncio
from types import TracebackType
from typing import Self, TypeVar, final

from clocknext_core import Call, FlushReport, Operation, Recording, TrackResult
from clocknext_core.binding import Async
from clocknext_transports.asyncio.driver import Driver
from clocknext_transports.asyncio.transport import NativeTransport, Transport
from clocknext_transports.base import ClientBase, checked_timeout

T = TypeVar("T")


@final
class ClockNext(ClientBase[Async, Transport]):
    """A client of ClockNext for asyncio: every method is awaited, in tasks of one event loop at a time.

    It works with and without `async with`. The first buffered signal starts a background task; `close`, or
    leaving the block, delivers what is held and ends it. A block that is cancelled ends at once: signals stay
    held (see `pending`), and are sent when the client is used again.
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
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not isinstance(error, asyncio.CancelledError):
                await self.close()
        finally:
            await self._driver.halt()

    def _native_transport(self) -> Transport:
        return NativeTransport(max_idle=self.config.batch.max_concurrency)

    def _proxied_transport(self, proxy: str) -> Transport:
        from clocknext_transports.httpx import async_proxied

        return async_proxied(proxy)
