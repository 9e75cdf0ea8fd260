"""The client for threads."""

import _thread
from types import TracebackType
from typing import Self, TypeVar, final

from clocknext_core import CheckReport, EncodedSignal, Engine, FlushReport, Operation, Stats, TrackResult
from clocknext_core.delivery import signal_operation
from clocknext_core.resources.binding import Blocking
from clocknext_transports.client.base import ClientBase, checked_timeout
from clocknext_transports.process import fork
from clocknext_transports.sync.calls import Transport
from clocknext_transports.sync.clock import Clock
from clocknext_transports.sync.driver import Driver

T = TypeVar("T")


@final
class ClockNext(ClientBase[Blocking, Transport, Driver]):
    """A client of ClockNext for threads: every method blocks, and any thread may call any method.

    Foreground calls run in the caller's thread. The first buffered signal starts the background threads;
    `close`, or leaving a `with` block, delivers what is held and ends them. `__init__` has the arguments.
    """

    is_async = False
    _start_thread: object = None
    """What started threads when this client began."""

    @property
    def _driver(self) -> Driver:
        """What serves this client in this process.

        Raises:
            RuntimeError: Python's threads were replaced while the client had some at work, or held signals.
        """
        driver = super()._driver
        if self._start_thread is not _thread.start_new_thread:
            self._adapt(driver)
        return driver

    def run(self, operation: Operation[T], /) -> T:
        """Carry out an operation, one of the resources' or your own, and return its result.

        Raises:
            ClockNextError: It failed; which class tells why.
        """
        driver = self._driver
        return driver.perform(driver.engine.call(operation))

    def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> TrackResult:
        """Buffer a signal, or send it and wait, as `signals.track` does."""
        # What `_driver` asks, without two calls of functions: most calls of a client are this one.
        if fork.flag[0] and self._start_thread is _thread.start_new_thread:
            driver = self._own_driver
        else:
            driver = self._driver
        if driver.engine.is_awaited(wait):
            return driver.perform(driver.engine.call(signal_operation(encoded)))
        return driver.record(encoded)

    def connect(self) -> bool:
        """Open a connection (name look-up, TCP, TLS) ahead of the first call, and send nothing.

        Returns:
            Whether one is open; not where the service was not reached within `config.timeout` seconds, the
            transport can't connect ahead (httpx), or the client is disabled.

        Raises:
            ClockNextError: The client is closed.
        """
        return self._driver.connect()

    def check(self) -> CheckReport:
        """Find out what is wrong with key, address and clock, by one request; never retried, bills nothing.

        Returns:
            The organisation, sandbox or live, and every problem with what to do about it. A failure to reach
            the service is a problem in the report, not an exception.

        Raises:
            ClockNextError: The client is closed.
        """
        return self._driver.check()

    def stats(self) -> Stats:
        """Count the buffered signals by state, and say how the service does."""
        return self._with_unbilled(self._driver.stats())

    def flush(self, timeout: float | None = None) -> FlushReport:
        """Send everything held, wait for it, and report how it ended.

        Args:
            timeout: Seconds to wait at most. Then the report says how many signals are pending; they stay
                held and are delivered in the background. Default: as long as the service works, and
                through an outage of up to `config.patience` seconds.

        Raises:
            RuntimeError: Called from a hook.
        """
        return self._driver.flush(checked_timeout(timeout))

    def close(self, timeout: float | None = None) -> FlushReport:
        """Refuse new signals, send everything held, wait for it, and end the threads and connections.

        Args:
            timeout: Seconds to wait at most. What is then still held is counted as pending in the report, and
                dropped as `closed`, each signal reported to `on_drop`. Default: as for `flush`.

        Raises:
            RuntimeError: Called from a hook.
        """
        return self._driver.close(checked_timeout(timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(self._block_timeout(error))

    def _adapt(self, driver: Driver) -> None:
        """Begin anew with the threads and locks that gevent or eventlet has put in the place of Python's."""
        if driver.has_begun:
            raise RuntimeError(
                "gevent or eventlet has replaced Python's threads after this client had begun to work. "
                "Patch before the client's first signal, or make another client."
            )
        driver.suspend()
        self._restart()

    def _restart(self) -> None:
        super()._restart()
        self._start_thread = _thread.start_new_thread

    def _make_driver(self, engine: Engine, transport: Transport) -> Driver:
        self._start_thread = _thread.start_new_thread
        return Driver(engine, transport, self._hooks, Clock())

    def _native_transport(self) -> Transport:
        from clocknext_transports.sync.transport import NativeTransport

        return NativeTransport(max_idle=self.config.batch.most_concurrency)

    def _proxied_transport(self, proxy: str) -> Transport:
        from clocknext_transports.httpx import proxied

        return proxied(proxy)
