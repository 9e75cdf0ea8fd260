"""The client for asyncio."""

from typing import final

from clocknext_core import Engine
from clocknext_transports.asyncio.driver import Driver
from clocknext_transports.asyncio.tasks import running_loop
from clocknext_transports.asyncio.transport import NativeTransport
from clocknext_transports.loops.calls import Transport
from clocknext_transports.loops.client import LoopClient


@final
class AsyncClockNext(LoopClient[Driver]):
    """A client of ClockNext for asyncio: every method is awaited, in tasks of one event loop at a time.

    It works with and without `async with`. The first buffered signal starts a background task; `close`, or
    leaving the block, delivers what is held and ends it. A block that is cancelled ends at once: signals stay
    held (see `pending`), and are sent when the client is used again. `__init__` has the arguments.
    """

    def _check_world(self) -> None:
        if running_loop() is None:
            raise RuntimeError(
                "AsyncClockNext runs under asyncio, and asyncio does not run this coroutine: under trio use "
                "TrioClockNext."
            )

    def _make_driver(self, engine: Engine, transport: Transport) -> Driver:
        return Driver(engine, transport, self._hooks)

    def _native_transport(self) -> Transport:
        return NativeTransport(max_idle=self.config.batch.most_concurrency)
