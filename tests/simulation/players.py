"""A scenario, played by the core alone and by each of the three drivers, all in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, TypeAlias

import trio
import trio.testing

from clocknext_core import (
    Answer,
    Call,
    ClockNextError,
    Closed,
    Outbox,
    Request,
    Settled,
    SpooledOutbox,
    Transmit,
    Wait,
)
from clocknext_core.delivery import signal_operation
from clocknext_core.signals import encode
from clocknext_transports.asyncio.driver import Driver as AsyncioDriver
from clocknext_transports.client.hooks import Hooks
from clocknext_transports.sync import driver as sync_driver
from clocknext_transports.trio.driver import Driver as TrioDriver
from tests.simulation.asyncio_clock import VirtualLoop
from tests.simulation.scenario import END, Scenario, Stage, Step
from tests.simulation.thread_clock import Scheduler, Thread, VirtualClock, virtual_threads

Machine: TypeAlias = Outbox | SpooledOutbox | Call[Any]
Player: TypeAlias = Callable[[Scenario], Stage]

_NEVER = float("inf")
_HOOKS = Hooks(on_error=None, on_flush=None, on_retry=None, on_drop=None)


class TiedError(Exception):
    """Two things happen at the same time, so that a scenario has more than one right course."""


# The core alone


class CorePlayer:
    """The least a driver can be."""

    def __init__(self, scenario: Scenario) -> None:
        self.stage = Stage(scenario)
        self._outbox = self.stage.engine.outbox
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._wake_at = _NEVER
        for step in scenario.steps:
            self._at(step.at, partial(self._take, step))
        self._at(END, self._close)

    def play(self) -> None:
        """Play it.

        Raises:
            TiedError: Two things happen at the same time.
        """
        while (at := min(self._next_event_at, self._wake_at)) < _NEVER:
            if self._next_event_at == self._wake_at:
                raise TiedError
            self._now = at
            if at == self._next_event_at:
                _, _, action = heappop(self._events)
                if at == self._next_event_at:
                    raise TiedError
                action()
            self._serve()

    @property
    def _next_event_at(self) -> float:
        return self._events[0][0] if self._events else _NEVER

    def _at(self, time: float, action: Callable[[], None]) -> None:
        heappush(self._events, (time, next(self._numbers), action))

    def _take(self, step: Step) -> None:
        match step.kind:
            case "flush":
                deadline_at = None if step.timeout is None else self._now + step.timeout
                self._outbox.flush(now=self._now, deadline_at=deadline_at)
            case "read":
                self._drive(self.stage.engine.call(step.operation))
            case "record" | "track":
                assert step.signal is not None
                engine = self.stage.engine
                encoded = encode(step.signal, engine.make_key)
                if step.kind == "track":
                    self._drive(engine.call(signal_operation(encoded)))
                else:
                    with suppress(ClockNextError):
                        self._outbox.record(encoded, now=self._now)

    def _close(self) -> None:
        self._outbox.close(now=self._now)

    def _serve(self) -> None:
        while not isinstance(output := self._outbox.poll(now=self._now), Wait | Closed):
            if isinstance(output, Transmit):
                self._transmit(self._outbox, output, lambda: None)
        self._wake_at = _NEVER if isinstance(output, Closed) or output.until is None else output.until

    def _drive(self, call: Call[Any]) -> None:
        while not isinstance(output := call.poll(now=self._now), Settled):
            match output:
                case Transmit():
                    self._transmit(call, output, lambda: self._drive(call))
                    return
                case Wait():
                    assert output.until is not None  # nothing is in flight
                    self._at(output.until, lambda: self._drive(call))
                    return
                case _:
                    pass

    def _transmit(self, machine: Machine, output: Transmit, go_on: Callable[[], None]) -> None:
        flight = self.stage.send(output.request, now=self._now)

        def answer() -> None:
            machine.handle_answer(output.ticket, self.stage.finish(flight, now=self._now), now=self._now)
            go_on()

        self._at(flight.ends_at, answer)


def play_core(scenario: Scenario) -> Stage:
    """Play a scenario on the core alone.

    Raises:
        TiedError: Two things happen at the same time.
    """
    player = CorePlayer(scenario)
    player.play()
    return player.stage


# The drivers


class SyncWire:
    """The thread driver's transport."""

    def __init__(self, stage: Stage, clock: VirtualClock) -> None:
        self._stage = stage
        self._clock = clock

    def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Carry a request."""
        flight = self._stage.send(request, now=self._clock.now())
        assert flight.ends_at <= deadline_at
        self._clock.sleep_until(flight.ends_at)
        return self._stage.finish(flight, now=self._clock.now())

    def close(self) -> None:
        """Close nothing."""


def play_threads(scenario: Scenario, schedule: Random | None = None) -> Stage:
    """Play a scenario with the thread driver.

    Args:
        scenario: What is played.
        schedule: Draws whose turn it is; `None`: first come, first served.
    """
    scheduler = Scheduler(schedule)
    clock = VirtualClock(scheduler)
    stage = Stage(scenario)
    with virtual_threads(scheduler):
        driver = sync_driver.Driver(stage.engine, SyncWire(stage, clock), _HOOKS, clock)

        def take(step: Step) -> None:
            clock.sleep_until(step.at)
            with suppress(ClockNextError):
                match step.kind:
                    case "flush":
                        driver.flush(step.timeout)
                    case "read":
                        driver.perform(stage.engine.call(step.operation))
                    case "record" | "track":
                        assert step.signal is not None
                        encoded = encode(step.signal, stage.engine.make_key)
                        if step.kind == "track":
                            driver.perform(stage.engine.call(signal_operation(encoded)))
                        else:
                            driver.record(encoded)

        users = [Thread(scheduler, partial(take, step), "user") for step in scenario.steps]
        for user in users:
            user.start()
        clock.sleep_until(END)
        driver.close(None)
        for user in users:
            user.join()
    return stage


class AsyncioWire:
    """The asyncio driver's transport."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Carry a request."""
        loop = asyncio.get_running_loop()
        flight = self._stage.send(request, now=loop.time())
        assert flight.ends_at <= deadline_at
        await asyncio_sleep_until(flight.ends_at)
        return self._stage.finish(flight, now=loop.time())

    async def aclose(self) -> None:
        """Close nothing."""


async def asyncio_sleep_until(at: float) -> None:
    """Sleep until a time of the loop's clock, exactly."""
    loop = asyncio.get_running_loop()
    alarm = loop.create_future()
    loop.call_at(at, alarm.set_result, None)
    await alarm


def play_asyncio(scenario: Scenario) -> Stage:
    """Play a scenario with the asyncio driver."""
    stage = Stage(scenario)

    async def main() -> None:
        driver = AsyncioDriver(stage.engine, AsyncioWire(stage), _HOOKS)
        async with asyncio.TaskGroup() as users:
            for step in scenario.steps:
                users.create_task(_take_async(step, stage, driver, asyncio_sleep_until))
            await asyncio_sleep_until(END)
            await driver.close(None)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    return stage


class TrioWire:
    """The trio driver's transport."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Carry a request."""
        flight = self._stage.send(request, now=trio.current_time())
        assert flight.ends_at <= deadline_at
        await trio.sleep_until(flight.ends_at)
        return self._stage.finish(flight, now=trio.current_time())

    async def aclose(self) -> None:
        """Close nothing."""


def play_trio(scenario: Scenario) -> Stage:
    """Play a scenario with the trio driver."""
    stage = Stage(scenario)

    async def main() -> None:
        driver = TrioDriver(stage.engine, TrioWire(stage), _HOOKS)
        async with trio.open_nursery() as nursery:
            driver.background.start(nursery)
            for step in scenario.steps:
                nursery.start_soon(_take_async, step, stage, driver, trio.sleep_until)
            await trio.sleep_until(END)
            await driver.close(None)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return stage


async def _take_async(
    step: Step,
    stage: Stage,
    driver: AsyncioDriver | TrioDriver,
    sleep_until: Callable[[float], Coroutine[Any, Any, None]],
) -> None:
    await sleep_until(step.at)
    with suppress(ClockNextError):
        match step.kind:
            case "flush":
                await driver.flush(step.timeout)
            case "read":
                await driver.perform(stage.engine.call(step.operation))
            case "record" | "track":
                assert step.signal is not None
                encoded = encode(step.signal, stage.engine.make_key)
                if step.kind == "track":
                    await driver.perform(stage.engine.call(signal_operation(encoded)))
                else:
                    await driver.record(encoded)
