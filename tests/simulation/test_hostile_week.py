"""A server that answers hostile things for a week, in virtual time, to each driver.

It can hold the client's signals up: no more. What the client keeps does not grow with the days, it does not
ask more often than its back-offs allow, it does not spin, and when the server is well again, every signal is
billed once.
"""

import asyncio
import gc
import json
import logging
import tracemalloc
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any, cast
from unittest.mock import patch

import pytest
import trio
import trio.testing

from clocknext_core import (
    Answer,
    BatchPolicy,
    ClockNextError,
    Config,
    Engine,
    Failure,
    Operation,
    Outbox,
    Request,
    Response,
    RetryPolicy,
    WalletSignal,
)
from clocknext_core.signals import encode
from clocknext_transports.asyncio.driver import Driver as AsyncioDriver
from clocknext_transports.client.hooks import Hooks
from clocknext_transports.emulator import DEFAULT_API_KEY, Ledger, Received
from clocknext_transports.sync import driver as sync_driver
from clocknext_transports.trio.driver import Driver as TrioDriver
from tests.simulation.asyncio_clock import VirtualLoop
from tests.simulation.players import AsyncioWire, SyncWire, TrioWire, asyncio_sleep_until
from tests.simulation.scenario import Stage
from tests.simulation.thread_clock import Scheduler, VirtualClock, virtual_threads

HOUR = 3600.0
DAY = 24 * HOUR
WEEK = 7 * DAY
WELL_AT = WEEK + HOUR
"""When the server is itself again; the longest pause it can ask for is a day."""

EVERY = 30 * 60.0
"""Seconds between two signals: the queue is full before the first day is over."""
HELD = 40
MAX_DELAY = 1800.0

NOTHING: Hooks = Hooks(on_error=None, on_flush=None, on_retry=None, on_drop=None)

LONG = "é\x1b[2J" * 100_000


def _envelope(status: int, message: object, **result: object) -> Response:
    document = {
        "statusCode": status,
        "statusDetail": {"status": "ERROR", "message": message},
        "result": result,
    }
    return Response(status, [("content-type", "application/json")], json.dumps(document).encode())


def _page(status: int, *headers: tuple[str, str]) -> Response:
    return Response(status, headers, b"<html>" + b"x" * 5000)


_ISSUES = [{"field": "f" * 500, "message": "m" * 500} for _ in range(20)]
_LARGE = _envelope(500, LONG, errorReason="R" * 100_000, issues=_ISSUES, signalId="s" * 100_000)
_DEEP = Response(500, [], b'{"statusDetail":' + b"[" * 10_000)

EAGER: tuple[Answer, ...] = (
    *(_page(status) for status in (200, 301, 401, 403, 404, 407, 413, 500, 502, 503, 599)),
    *(
        _page(status, ("retry-after", value))
        for status in (429, 503, 404)
        for value in ("0", "-1", "NaN", "\xff")
    ),
    *(_page(429, ("retry-after-ms", value)) for value in ("0", "0.0001", "-0", "1e-300")),
    *(_envelope(status, "No.", signalId="s" * 5000) for status in (408, 500, 502, 503, 504)),
    *(
        Response(200, [], body)
        for body in (b"", b"[]", b"null", b'{"result":{}}', b"{" * 5000, b"\xff" * 5000)
    ),
    _envelope(404, "No.", errorReason="NOT_FOUND"),
    _envelope(500, None, issues="x"),
    _envelope(500, {"a": ["b"]}, issues=_ISSUES),
    Failure("x" * 10_000),
    Failure("reset", processed=False),
    _DEEP,
)
"""Answers that end no signal, and want to be asked again at once."""

PAUSING: tuple[Answer, ...] = (
    *(_page(429, ("retry-after", value)) for value in ("3600", "1e308", "Fri, 31 Dec 9999 23:59:59 GMT")),
    *(_page(503, ("retry-after-ms", value)) for value in ("3600000", "1e300")),
    *EAGER[:4],
)
"""Answers that want to be left alone for ever."""

ENDING: tuple[Answer, ...] = (
    *EAGER,
    _envelope(409, "No."),  # it works, so that others' failures are their own
    *(_envelope(422, LONG[:5000], errorReason=f"R{number}", issues=_ISSUES) for number in range(20)),
    Response(200, [], json.dumps({"ok": True, "usageLog": {"id": "x" * 10_000}}).encode()),
    Response(202, [], json.dumps({"ok": True, "status": "PENDING", "signalId": LONG[:5000]}).encode()),
)
"""Answers that end signals too, each with a reason of its own."""

MOODS = {"eager": EAGER, "pausing": PAUSING, "ending": ENDING}


@dataclass
class Arrival:
    """One request under way."""

    request: Request
    ends_at: float


@dataclass
class Figures:
    """What is measured at the end of a day."""

    day: int
    memory: int
    """Bytes that are allocated."""
    requests: int
    polls: int


@dataclass
class Hostile:
    """The client's engine, and the server.

    Args:
        mood: What it answers, drawn by chance.
    """

    mood: tuple[Answer, ...]
    requests: int = 0
    polls: int = 0
    figures: list[Figures] = field(default_factory=list[Figures])

    def __post_init__(self) -> None:
        numbers = count()
        batch = BatchPolicy(max_size=1, max_queue_size=HELD)
        retry = RetryPolicy(max_attempts=5, max_delay=MAX_DELAY)
        config = Config(DEFAULT_API_KEY, batch=batch, retry=retry)
        self.engine = Engine(config, rng=Random("week"), make_key=lambda: f"k{next(numbers)}")
        self.ledger = Ledger()
        self.recorded = 0
        self._rng = Random("hostile")

    def send(self, request: Request, *, now: float) -> Arrival:
        """Take a request."""
        self.requests += 1
        return Arrival(request, now + 0.25)

    def finish(self, arrival: Arrival, *, now: float) -> Answer:
        """Answer it."""
        if now < WELL_AT:
            if self.requests % 100 == 0:
                return _LARGE  # as large as an answer may be; that is slow to read
            return self._rng.choice(self.mood)
        request = arrival.request
        headers = {name.lower(): value for name, value in request.headers}
        return self.ledger.handle(
            Received(request.method, request.target, headers, request.body or b""), now=now
        )

    @contextmanager
    def counting(self) -> Generator[None, None, None]:
        """Count how often the outbox is polled, and what is allocated."""
        real = Outbox.poll

        def poll(outbox: Outbox, *, now: float) -> Any:
            self.polls += 1
            return real(outbox, now=now)

        tracemalloc.start(1)
        try:
            with patch.object(Outbox, "poll", poll):
                yield
        finally:
            tracemalloc.stop()

    def measure(self, day: int) -> None:
        """Take the figures of a day that is over."""
        gc.collect()
        self.figures.append(Figures(day, tracemalloc.get_traced_memory()[0], self.requests, self.polls))

    async def use(self, driver: Any, sleep_until: Callable[[float], Awaitable[object]]) -> None:
        """Do what a program does, for a week and then some days.

        Args:
            driver: The driver, whose calls are awaited.
            sleep_until: Sleeps.
        """
        at = 0.0
        for day in range(1, 8):
            while at < day * DAY:
                at += EVERY
                await sleep_until(at)
                with suppress(ClockNextError):
                    await driver.record(
                        encode(WalletSignal(customer_id="cus_wallet", model="gpt-4o"), self.engine.make_key)
                    )
                self.recorded += 1
            with suppress(ClockNextError):
                await driver.flush(60.0)
            with suppress(ClockNextError):
                await driver.perform(self.engine.call(Operation("GET", "/api/v1/me", dict)))
            self.measure(day)
        await sleep_until(WELL_AT + 2 * DAY)
        await driver.close(None)


def _play_threads(stage: Hostile) -> None:
    scheduler = Scheduler()
    clock = VirtualClock(scheduler)

    class Blocking:
        """The driver for threads, as if it had to be awaited."""

        def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, object]]:
            async def call(*arguments: object) -> object:
                return getattr(driver, name)(*arguments)

            return call

    async def sleep_until(at: float) -> None:
        clock.sleep_until(at)

    with virtual_threads(scheduler):
        driver = sync_driver.Driver(stage.engine, SyncWire(cast("Stage", stage), clock), NOTHING, clock)
        with suppress(StopIteration):
            stage.use(Blocking(), sleep_until).send(None)


def _play_asyncio(stage: Hostile) -> None:
    async def main() -> None:
        driver = AsyncioDriver(stage.engine, AsyncioWire(cast("Stage", stage)), NOTHING)
        await stage.use(driver, asyncio_sleep_until)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


def _play_trio(stage: Hostile) -> None:
    async def main() -> None:
        driver = TrioDriver(stage.engine, TrioWire(cast("Stage", stage)), NOTHING)
        async with trio.open_nursery() as nursery:
            driver.background.start(nursery)
            await stage.use(driver, trio.sleep_until)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


PLAYERS = {"threads": _play_threads, "asyncio": _play_asyncio, "trio": _play_trio}


@pytest.mark.parametrize("mood", MOODS)
@pytest.mark.parametrize("world", PLAYERS)
def test_a_hostile_week_costs_a_client_nothing_but_time(
    world: str, mood: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "clocknext")  # records that are kept would count
    stage = Hostile(MOODS[mood])
    with stage.counting():
        PLAYERS[world](stage)
    stats = stage.engine.outbox.stats(now=WELL_AT + 3 * DAY)

    assert stats.held == 0
    assert stats.recorded == stage.recorded == WEEK / EVERY
    assert stats.recorded == stats.delivered + stats.rejected + sum(stats.dropped.values())
    billed = sum(stage.ledger.billed(f"k{number}") for number in range(stage.recorded))
    assert max(stage.ledger.billed(f"k{number}") for number in range(stage.recorded)) <= 1
    if mood == "ending":
        assert billed <= stats.delivered
        assert stats.rejected > 100
    else:
        assert billed == stats.delivered == HELD, "what was held, and nothing else, since no answer ended any"
        assert stats.dropped["queue_full"] == stage.recorded - HELD

    first, *_, last = stage.figures
    days = last.day - first.day
    assert last.memory - first.memory < 200_000, stage.figures
    # A probe and the attempts behind it, no more often than the shorter half of the longest back-off.
    asked = (last.requests - first.requests) / days
    assert asked <= 2 * DAY / (MAX_DELAY / 2), stage.figures
    assert last.polls <= 20 * (last.requests + stage.recorded), stage.figures
    if mood == "eager":
        assert asked > DAY / MAX_DELAY / 2, "not in vain: it was asked all along"
