"""Calls that are awaited, and what is done at the interpreter's exit for a loop that may have ended."""

import threading
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, assert_never, cast

from clocknext_core import Answer, Call, CheckReport, EncodedSignal, Engine, FlushReport, Request, TrackResult
from clocknext_core.errors import invalid
from clocknext_transports.client import driver
from clocknext_transports.client.checking import checking, config_to_connect_by
from clocknext_transports.client.failures import broken_transport
from clocknext_transports.client.script import Await, Exchange, Halt, Sleep, Step, carry_out_async
from clocknext_transports.client.serving import Waiter
from clocknext_transports.loops.tasks import Event, Tasks
from clocknext_transports.process import exit as process_exit
from clocknext_transports.process.clock import monotonic
from clocknext_transports.process.interrupts import let_pass
from clocknext_transports.process.log import logger

if TYPE_CHECKING:
    from clocknext_transports.spool.keeper import Keeper

T = TypeVar("T")
B = TypeVar("B", bound=Tasks)


class Transport(Protocol):
    """Carries requests. Used by several coroutines of one event loop at a time."""

    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Send a request and return its answer, or the failure to get one, before the deadline.

        Args:
            request: What to send; redirects are not followed, and nothing is repeated.
            deadline_at: When to give up, on the event loop's clock.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...


class Calls(driver.Driver[B], Generic[B]):
    """Carries calls out in the caller's coroutine."""

    transport: Transport
    cancellations: tuple[type[BaseException], ...] = ()
    """What ends a coroutine from outside, where that is an `Exception`, or what a cancelled block raises."""
    look_every: float = 1.0  # the serving task may be in another loop, which ends, or there may be none

    def _begin(self, engine: Engine) -> None:
        self._ahead = 0.0
        """Seconds by which the driver's time was ahead of `time.monotonic`, when it was read last."""
        self._shift = 0.0
        """Seconds by which the driver's time is ahead of the loop's clock."""
        self._departure: _Departure | None = None
        """At the interpreter's exit: the end of a loop that still runs in another thread."""
        self._takeover: process_exit.Driver | None = None
        """At the interpreter's exit: the driver that took over from a loop that has ended."""
        super()._begin(engine)

    async def perform(self, call: Call[T]) -> T:
        """Carry out an awaited operation."""
        return await carry_out_async(self._performing(call), self._take)

    async def check(self) -> CheckReport:
        """Find out what is wrong with key, address and clock."""
        return await carry_out_async(checking(self.engine, self._now()), self._take)

    async def connect(self) -> bool:
        """Open a connection, if the transport is one that can."""
        config = config_to_connect_by(self.engine)
        connect = getattr(self.transport, "connect", None)
        if config is None or connect is None:
            return False
        try:
            deadline_at = self._now() + config.timeout
            await connect(config.origin, deadline_at=deadline_at - self._shift)
        except OSError as error:
            let_pass(error)
            return False
        return True

    async def record(self, encoded: EncodedSignal) -> TrackResult:
        """Buffer a signal. Where this is cancelled before there is room for it, nothing was recorded."""
        engine = self._serving.engine
        if (engine.outbox.held + 1) % engine.config.batch.max_size == 0:
            # A loop of calls that never suspend would starve the task that sends.
            await self._sleep_until(self._now())
        admitted = self._admit(encoded)
        return admitted if isinstance(admitted, TrackResult) else await carry_out_async(admitted, self._take)

    async def flush(self, timeout: float | None) -> FlushReport:
        """Send everything held and wait for it."""
        return await carry_out_async(self._flushing(timeout), self._take)

    async def close(self, timeout: float | None) -> FlushReport:
        """Refuse new signals, send everything held, wait for it, and end everything."""
        return await carry_out_async(self._closing(timeout), self._take)

    # What a world adds

    @abstractmethod
    async def _sleep_until(self, at: float) -> None:
        """Wait until then; if that is past, for one turn of the loop."""

    @abstractmethod
    def _make_event(self) -> Event: ...

    async def halt(self) -> None:
        """End all tasks and connections. Held signals stay held."""
        await self.background.cancel()
        self._serving.run_hooks_if_alone()
        await self.transport.aclose()

    def _reach(self, call: Callable[[], object]) -> bool:  # noqa: ARG002 - of a loop that can't be reached
        return False

    # Steps

    async def _take(self, step: Step) -> Answer | None:
        match step:
            case Exchange():
                return await self._exchange(step.request, step.deadline_at)
            case Sleep():
                await self._sleep_until(step.until)
            case Await():
                await cast(Event, step.event).wait(step.until)
            case Halt():
                await self.halt()
            case _:
                assert_never(step)
        return None

    async def _exchange(self, request: Request, deadline_at: float) -> Answer:
        try:
            return await self.transport.exchange(request, deadline_at=deadline_at - self._shift)
        except self.cancellations:
            raise
        except Exception as error:  # noqa: BLE001 - a transport's bug must not lose a signal
            return broken_transport(error, self._serving.engine.config)

    def keep(self, keeper: "Keeper") -> None:
        """Store every signal before it is accepted, and take over what dead processes left.

        Raises:
            ValidationError: The spool's thread can't reach the loop.
        """
        if type(self)._reach is Calls[Any]._reach:  # noqa: SLF001 - its own
            keeper.close()
            raise invalid("spool", f"can't be used with {type(self).__name__}, which has no `_reach`")
        super().keep(keeper)

    def _spool_has_worked(self) -> None:
        # To a loop that has ended nothing is brought: the next one looks for it.
        self._reach(self._bring)

    def _note_time(self, clock: float) -> float:
        """Return the driver's time by the loop's clock, and remember it for when there is no loop."""
        now = clock + self._shift
        self._ahead = now - monotonic()
        return now

    def _behind(self, clock: float) -> float:
        """Return by how many seconds the clock of another loop is behind the driver's time."""
        return monotonic() + self._ahead - clock

    async def _end(self, was_cancelled: bool) -> None:
        """End with the serving task: everything, or what its loop can't take along."""
        if was_cancelled:
            await self.transport.aclose()
            if self._serving.outbox.held or self.background.is_working:  # in another loop, by now
                return
        elif not self._serving.is_orphaned:
            return
        else:
            if self._keeper is not None:
                self._keeper.close()
            if self.owns_transport:
                await self.transport.aclose()
        self._has_ended()

    # Exit

    def begin_exit(self, timeout: float) -> None:
        """Refuse new signals and begin to deliver those held, as the interpreter exits."""
        serving = self._serving
        if self._keeper is not None:
            with serving.lock:
                if serving.inbox:
                    serving.serve_here()  # into the spool with it
                serving.outbox.close()
            self._keeper.close()  # what is held is in the spool, for the next process
            return
        with serving.lock:
            serving.take_in()
        held = serving.outbox.held
        departure = _Departure()
        if not held or self._reach(partial(self._begin_close, departure, timeout)):
            self._departure = departure if held else None
            return
        with serving.lock:
            self.background.take_back()
        if self.owns_transport:
            from clocknext_transports.loops.takeover import take_over

            logger.warning(
                "ClockNext signals held when their event loop ended: %d. Threads send them now, as the "
                "process exits. Close the client before its loop ends.",
                held,
            )
            self._takeover = take_over(serving.engine, self._hooks, self.transport, ahead=self._ahead)
            self._takeover.begin_exit(timeout)
            return
        logger.warning(
            "ClockNext signals held when their event loop ended: %d. They are dropped, for a transport of "
            "your own can't be used without its loop. Close the client before its loop ends.",
            held,
        )
        self._departure = departure
        self._begin_close(departure, 0.0)

    def end_exit(self) -> int:
        """Wait until the time is up; return the number of signals that were not delivered."""
        if self._keeper is not None:
            self._keeper.join()
            return 0
        if self._takeover is not None:
            return self._takeover.end_exit()
        if self._departure is not None:
            report = self._departure.wait_in_thread(process_exit.EXIT_TIMEOUT + process_exit.GRACE)
            if report is not None:
                return len(report.failed) + report.pending
        return self._serving.outbox.held

    def _begin_close(self, departure: "_Departure", timeout: float) -> None:
        serving = self._serving
        with serving.lock:
            now = self._now()
            serving.take_in()
            ticket = serving.outbox.close(now=now, deadline_at=now + timeout)
            departure.waiter = serving.expect(ticket, departure.is_over)
        serving.run_hooks_if_alone()


class _Departure:
    """Lets the thread that exits wait for a loop that still runs in another one."""

    def __init__(self) -> None:
        self.is_over = threading.Event()
        self.waiter: Waiter | None = None

    def wait_in_thread(self, timeout: float) -> FlushReport | None:
        """Wait; return the report, unless the time is up first."""
        if not self.is_over.wait(timeout):
            return None
        assert self.waiter is not None  # its event was set
        return self.waiter.report()
