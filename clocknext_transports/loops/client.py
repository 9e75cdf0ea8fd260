"""What the clients of all event loops share: their methods are coroutine functions."""

from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar

from clocknext_core import CheckReport, EncodedSignal, FlushReport, Operation, Stats, TrackResult
from clocknext_core.delivery import signal_operation
from clocknext_core.resources.binding import Async
from clocknext_transports.client.base import ClientBase, checked_timeout
from clocknext_transports.loops.calls import Calls, Transport
from clocknext_transports.process import fork

T = TypeVar("T")
D = TypeVar("D", bound=Calls[Any])


class LoopClient(ClientBase[Async, Transport, D], Generic[D]):
    """A client whose methods are coroutine functions."""

    is_async = True

    @property
    def cancellations(self) -> tuple[type[BaseException], ...]:
        """Which exceptions end a coroutine from outside, besides those that are no `Exception`."""
        return self._driver.cancellations

    async def run(self, operation: Operation[T], /) -> T:
        """Carry out an operation, one of the resources' or your own, and return its result.

        Raises:
            ClockNextError: It failed; which class tells why.
        """
        self._check_world()
        driver = self._driver
        return await driver.perform(driver.engine.call(operation))

    async def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> TrackResult:
        """Buffer a signal, or send it and wait, as `signals.track` does."""
        self._check_world()
        driver = self._own_driver if fork.flag[0] else self._driver
        if driver.engine.is_awaited(wait):
            return await driver.perform(driver.engine.call(signal_operation(encoded)))
        return await driver.record(encoded)

    async def connect(self) -> bool:
        """Open a connection (name look-up, TCP, TLS) ahead of the first call, and send nothing.

        Returns:
            Whether one is open; not where the service was not reached within `config.timeout` seconds, the
            transport can't connect ahead (httpx), or the client is disabled.

        Raises:
            ClockNextError: The client is closed.
        """
        self._check_world()
        return await self._driver.connect()

    async def check(self) -> CheckReport:
        """Find out what is wrong with key, address and clock, by one request; never retried, bills nothing.

        Returns:
            The organisation, sandbox or live, and every problem with what to do about it. A failure to reach
            the service is a problem in the report, not an exception.

        Raises:
            ClockNextError: The client is closed.
        """
        self._check_world()
        return await self._driver.check()

    def stats(self) -> Stats:
        """Count the buffered signals by state, and say how the service does."""
        return self._with_unbilled(self._driver.stats())

    async def flush(self, timeout: float | None = None) -> FlushReport:
        """Send everything held, wait for it, and report how it ended.

        Args:
            timeout: Seconds to wait at most. Then the report says how many signals are pending; they stay
                held and are delivered in the background. Default: as long as the service works, and
                through an outage of up to `config.patience` seconds.
        """
        self._check_world()
        return await self._driver.flush(checked_timeout(timeout))

    async def close(self, timeout: float | None = None) -> FlushReport:
        """Refuse new signals, send everything held, wait for it, and end everything in the background.

        Args:
            timeout: Seconds to wait at most. What is then still held is counted as pending in the report, and
                dropped as `closed`, each signal reported to `on_drop`. Default: as for `flush`.
        """
        self._check_world()
        return await self._driver.close(checked_timeout(timeout))

    async def __aenter__(self) -> Self:
        self._check_world()
        return self

    def _check_world(self) -> None:
        """Raise a `RuntimeError` that names the right client, where another loop runs this coroutine."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not isinstance(error, self._driver.cancellations):
                await self.close(self._block_timeout(error))
        finally:
            await self._driver.halt()

    if not TYPE_CHECKING:  # a type checker refuses `with`; this is for those who use none

        def __enter__(self) -> NoReturn:
            raise TypeError(f"{type(self).__name__} is used with `async with`, not with `with`.")

        def __exit__(self, *details: object) -> None:
            """Exist, so that `with` gets as far as the message of `__enter__`."""

    def _proxied_transport(self, proxy: str) -> Transport:
        from clocknext_transports.httpx import async_proxied

        return async_proxied(proxy)
