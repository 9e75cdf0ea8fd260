"""A poison signal of each kind in an hour of traffic, in each driver, in virtual time."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias, cast

import pytest
import trio
import trio.testing

from clocknext_core import (
    Answer,
    Config,
    Engine,
    Failure,
    FlushReport,
    Request,
    Response,
    WalletSignal,
)
from clocknext_core.signals import EncodedSignal, encode
from clocknext_transports.asyncio.driver import Driver as AsyncioDriver
from clocknext_transports.client.hooks import Hooks
from clocknext_transports.emulator import DEFAULT_API_KEY
from clocknext_transports.sync import driver as sync_driver
from clocknext_transports.trio.driver import Driver as TrioDriver
from tests.matrix.support import check_billed_once
from tests.matrix.virtual import Bills
from tests.simulation.asyncio_clock import VirtualLoop
from tests.simulation.players import AsyncioWire, SyncWire, TrioWire, asyncio_sleep_until
from tests.simulation.scenario import Stage
from tests.simulation.thread_clock import Scheduler, Thread, VirtualClock, virtual_threads

HOUR = 3600.0
RECORDED_AT = 1000.5
"""When the poison signal is recorded, and a flush begun."""
POISON = "poison"
CONFIG = Config(DEFAULT_API_KEY)
_HOOKS = Hooks(on_error=None, on_flush=None, on_retry=None, on_drop=None)

POISONS: dict[str, Answer | None] = {
    "502": Response(502, [], b"<html>Bad gateway</html>"),
    "503": Response(503, [], b'{"ok": false, "error": "No."}'),
    "504": Response(504, [], b""),
    "reset": Failure("connection reset"),
    "time-out": None,
    "firewall's page": Response(200, [("Content-Type", "text/html")], b"<html>Request blocked</html>"),
    "403 page": Response(403, [("Content-Type", "text/html")], b"<html>Forbidden</html>"),
}
"""What each attempt of the poison signal meets; `None`: nothing, until its time-out."""


@dataclass
class Flight:
    """A request under way."""

    answer: Answer
    ends_at: float


@dataclass
class Hour:
    """An hour of traffic.

    Args:
        kind: Of the poison.
        rate: Good signals a second.
    """

    kind: str
    rate: float
    bills: Bills = field(default_factory=Bills)
    poison_at: list[float] = field(default_factory=list[float])
    """When an attempt of the poison signal ended."""
    flushed_at: float = 0.0
    report: FlushReport | None = None

    def __post_init__(self) -> None:
        self.engine = Engine(CONFIG, rng=Random(self.kind), make_key=lambda: "unused")

    @property
    def steps(self) -> list[tuple[float, str]]:
        """What is recorded when."""
        good = [(number / self.rate, f"good {number}") for number in range(int(HOUR * self.rate))]
        return sorted([*good, (RECORDED_AT, POISON)])

    def encoded(self, key: str) -> EncodedSignal:
        """Make a signal."""
        signal = WalletSignal(customer_id="cus_wallet", model="gpt-4o", idempotency_key=key)
        return encode(signal, lambda: "unused")

    # As `Stage`, for its wires.

    def send(self, request: Request, *, now: float) -> Flight:
        """Return the answer to a request, and when it comes."""
        if f'"{POISON}"'.encode() not in (request.body or b""):
            good, latency = self.bills(request, now)
            return Flight(good, now + latency)
        answer = POISONS[self.kind]
        ends_at = now + (CONFIG.timeout if answer is None else 0.05)
        self.poison_at.append(ends_at)
        return Flight(Failure("Timed out waiting for the answer.") if answer is None else answer, ends_at)

    def finish(self, flight: Flight, *, now: float) -> Answer:
        """Answer."""
        assert now == flight.ends_at
        return flight.answer

    def flushed(self, report: FlushReport, now: float) -> None:
        """Take note of the end of the flush."""
        self.report, self.flushed_at = report, now

    def check(self) -> None:
        """Require that poison, and nothing else, has ended in time."""
        stats = self.engine.outbox.stats(now=HOUR)
        good = [key for _, key in self.steps if key != POISON]
        assert (stats.delivered, stats.held) == (len(good), 0)
        assert {reason: number for reason, number in stats.dropped.items() if number} == {"send_failed": 1}
        assert stats.rejected == 0
        check_billed_once(self.bills.ledger, good)
        assert CONFIG.retry.max_attempts <= len(self.poison_at) <= 2 * CONFIG.retry.max_attempts
        assert self.poison_at[-1] <= RECORDED_AT + 60.0
        assert self.report is not None
        assert self.report.pending == 0
        assert [each.encoded.idempotency_key for each in self.report.failed] == [POISON]
        assert self.flushed_at == self.poison_at[-1]


def play_threads(hour: Hour) -> None:
    """Live through an hour in threads."""
    scheduler = Scheduler()
    clock = VirtualClock(scheduler)
    with virtual_threads(scheduler):
        driver = sync_driver.Driver(hour.engine, SyncWire(cast("Stage", hour), clock), _HOOKS, clock)

        def flush() -> None:
            hour.flushed(driver.flush(None), clock.now())

        flushing = Thread(scheduler, flush, "user")
        for at, key in hour.steps:
            clock.sleep_until(at)
            driver.record(hour.encoded(key))
            if key == POISON:
                flushing.start()
        driver.close(None)
        flushing.join()


def play_asyncio(hour: Hour) -> None:
    """Live through an hour in asyncio."""

    async def main() -> None:
        driver = AsyncioDriver(hour.engine, AsyncioWire(cast("Stage", hour)), _HOOKS)

        async def flush() -> None:
            hour.flushed(await driver.flush(None), asyncio.get_running_loop().time())

        async with asyncio.TaskGroup() as users:
            for at, key in hour.steps:
                await asyncio_sleep_until(at)
                await driver.record(hour.encoded(key))
                if key == POISON:
                    users.create_task(flush())
            await driver.close(None)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


def play_trio(hour: Hour) -> None:
    """Live through an hour in trio."""

    async def main() -> None:
        driver = TrioDriver(hour.engine, TrioWire(cast("Stage", hour)), _HOOKS)

        async def flush() -> None:
            hour.flushed(await driver.flush(None), trio.current_time())

        async with trio.open_nursery() as nursery:
            driver.background.start(nursery)
            for at, key in hour.steps:
                await trio.sleep_until(at)
                await driver.record(hour.encoded(key))
                if key == POISON:
                    nursery.start_soon(flush)
            await driver.close(None)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


Player: TypeAlias = Callable[[Hour], None]


@pytest.mark.parametrize("kind", POISONS)
@pytest.mark.parametrize("play", [play_threads, play_asyncio, play_trio])
def test_poison_ends_within_a_minute_and_nothing_else_is_lost(play: Player, kind: str) -> None:
    """One good signal a second: few to compare it with, and in batches, so that it takes more attempts."""
    hour = Hour(kind, rate=1.0)
    play(hour)
    hour.check()
