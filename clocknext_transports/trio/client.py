"""The client for trio."""

import math
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self, TypeVar, cast, final

import trio

from clocknext_core import EncodedSignal, Engine, FlushReport, Operation, TrackResult
from clocknext_transports.loops.calls import Transport
from clocknext_transports.loops.client import LoopClient
from clocknext_transports.trio.driver import Driver
from clocknext_transports.trio.transport import NativeTransport

T = TypeVar("T")

_uninterrupted = trio.lowlevel.enable_ki_protection
"""Has trio raise `KeyboardInterrupt` where a method waits, and not in the midst of a step of the machine."""


@final
class TrioClockNext(LoopClient[Driver]):
    """A client of ClockNext for trio: every method is awaited, in any task.

    Signals are buffered and sent inside `async with`: the block's nursery holds the background tasks, and
    none outlives it. Leaving the block delivers what is held. A block that is cancelled ends at once: signals
    stay held (see `pending`), and are sent in the next `async with` of the same client. Awaited calls need
    no block.

    A Ctrl-C that strikes a background task ends the block, which raises a plain `KeyboardInterrupt`.
    `__init__` has the arguments.
    """

    def _make_driver(self, engine: Engine, transport: Transport) -> Driver:
        return Driver(engine, transport, self._hooks)

    _block: AbstractAsyncContextManager[trio.Nursery, bool | None] | None = None
    """The nursery of the block, while it is open."""

    def _check_world(self) -> None:
        if not trio.lowlevel.in_trio_run():
            raise RuntimeError(
                "TrioClockNext runs under trio, and trio does not run this coroutine: under asyncio use "
                "AsyncClockNext."
            )

    @_uninterrupted
    async def __aenter__(self) -> Self:
        self._check_world()
        driver = self._driver
        if self._block is not None:
            raise RuntimeError("The client's `async with` block is open already.")
        block = self._block = trio.open_nursery()
        driver.background.start(await block.__aenter__())
        return self

    @_uninterrupted
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        block, self._block = self._block, None
        assert block is not None  # it was entered
        try:
            try:
                if trio.current_effective_deadline() > -math.inf:  # else the block has been cancelled
                    await self.close(self._block_timeout(error))
            finally:
                await self._driver.halt()  # a transport may raise, or be cancelled
        finally:
            # The nursery is not given the block's own error: it would wrap it in a group.
            try:
                await block.__aexit__(None, None, None)
            except BaseExceptionGroup as group:  # a Ctrl-C that struck a background task
                raise _single(group) from None

    @_uninterrupted
    async def run(self, operation: Operation[T], /) -> T:
        """Carry out an operation, one of the resources' or your own, and return its result.

        Raises:
            ClockNextError: It failed; which class tells why.
        """
        return await super().run(operation)

    @_uninterrupted
    async def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> TrackResult:
        """Buffer a signal, or send it and wait, as `signals.track` does.

        Raises:
            RuntimeError: The signal is to be buffered, outside the client's block.
        """
        self._check_world()
        engine = self._driver.engine
        if not (engine.is_awaited(wait) or engine.outbox.is_closing or self.config.disabled):
            self._check_is_inside_block()
        await trio.lowlevel.checkpoint_if_cancelled()
        result = await super().record(encoded, wait)
        await trio.lowlevel.cancel_shielded_checkpoint()  # it was recorded: too late to be cancelled
        return result

    @_uninterrupted
    async def flush(self, timeout: float | None = None) -> FlushReport:
        """Send everything held, wait for it, and report how it ended; see `AsyncClockNext.flush`.

        Raises:
            RuntimeError: Signals are held, and this is outside the client's block.
        """
        self._check_world()
        self._check_may_send()
        return await super().flush(timeout)

    @_uninterrupted
    async def close(self, timeout: float | None = None) -> FlushReport:
        """Refuse new signals, send everything held, wait for it, and end everything in the background.

        Raises:
            RuntimeError: Signals are held, and this is outside the client's block.
        """
        self._check_world()
        self._check_may_send()
        return await super().close(timeout)

    def _restart(self) -> None:
        self._block = None  # the parent's
        super()._restart()

    def _check_may_send(self) -> None:
        if self.pending:
            self._check_is_inside_block()

    def _check_is_inside_block(self) -> None:
        if not self._driver.background.is_working:
            raise RuntimeError("Signals are buffered and sent inside the client's `async with` block.")

    def _native_transport(self) -> Transport:
        return NativeTransport(max_idle=self.config.batch.most_concurrency)


def _single(error: BaseException) -> BaseException:
    """Return what a group holds where it is one exception, as `except KeyboardInterrupt` expects it.

    The nurseries of the client are no concern of its user, nor are their groups. Beside another exception a
    `trio.Cancelled` says nothing: the other one ends the cancelled scope as well.
    """
    while isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        group = group.split(trio.Cancelled)[1] or group
        if len(group.exceptions) != 1:
            return group
        error = group.exceptions[0]
    return error
