"""Cores without drivers, in virtual time: hours of an outage, and fleets, in a moment."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from random import Random
from typing import TypeAlias

from clocknext_core import (
    Answer,
    Closed,
    Config,
    Engine,
    Request,
    Transmit,
    Wait,
    WalletSignal,
)
from clocknext_core.signals import encode
from clocknext_transports.emulator import Ledger, Received

SIGNAL = WalletSignal(customer_id="cus_wallet", model="gpt-4o")

Serve: TypeAlias = Callable[[Request, float], tuple[Answer, float]]
"""Takes a request and the time; returns the answer, and how long it takes, seconds."""


class Core:
    """An engine, and what is between it and a server.

    Args:
        config: What it is told.
        serve: The server.
        name: What its keys begin with; also seeds its randomness.
    """

    def __init__(self, config: Config, serve: Serve, name: str = "k") -> None:
        numbers = count()
        self.engine = Engine(config, rng=Random(name), make_key=lambda: f"{name}{next(numbers)}")
        self.outbox = self.engine.outbox
        self.sent_at: list[float] = []
        """When each request went out."""
        self.seen: Counter[str] = Counter()
        """How often each kind of output came."""
        self._serve = serve
        self._flying: list[tuple[float, int, Answer]] = []
        self._width = config.batch.most_concurrency
        self._until: float | None = None

    @property
    def wakes_at(self) -> float:
        """When it next has something to do."""
        answered_at = self._flying[0][0] if self._flying else inf
        return min(answered_at, inf if self._until is None else self._until)

    def record(self, now: float) -> None:
        """Record a signal."""
        signal = WalletSignal(customer_id="cus_wallet", model="gpt-4o")
        self.outbox.record(encode(signal, self.engine.make_key), now=now)
        self.step(now)

    def step(self, now: float) -> None:
        """Take the answers that have come, and do what the engine says until it waits."""
        while self._flying and self._flying[0][0] <= now:
            _, ticket, answer = heappop(self._flying)
            self.outbox.handle_answer(ticket, answer, now=now)
        while True:
            output = self.outbox.poll(now=now)
            self.seen[type(output).__name__] += 1
            if isinstance(output, Transmit):
                self.sent_at.append(now)
                answer, latency = self._serve(output.request, now)
                heappush(self._flying, (now + latency, output.ticket, answer))
            elif isinstance(output, Wait | Closed):
                self._until = output.until if isinstance(output, Wait) else None
                break
        assert len(self._flying) <= self._width
        assert self.outbox.held == 0 or self.wakes_at < inf

    def check_nothing_is_lost(self, count: int, *, rejected: int = 0) -> None:
        """Require that of so many signals recorded, all have been delivered, but for those rejected."""
        stats = self.outbox.stats(now=inf)
        assert (stats.recorded, stats.held, stats.in_flight) == (count, 0, 0)
        assert (stats.delivered, stats.rejected, sum(stats.dropped.values())) == (
            count - rejected,
            rejected,
            0,
        )


def play(cores: Sequence[Core], records: Iterable[tuple[float, int]], until: float) -> None:
    """Let time pass, from one thing that is to happen to the next.

    Args:
        cores: Who records and is awakened in time.
        records: When a signal is recorded, and by which of the cores, by number; in order.
        until: When it ends.
    """
    left = [*records][::-1]
    alarms = [(core.wakes_at, number) for number, core in enumerate(cores)]
    heapify(alarms)
    while True:
        at, number = alarms[0] if alarms else (inf, 0)
        if left and left[-1][0] <= at:
            at, number = left.pop()
            cores[number].record(at)
        elif at <= until:
            heappop(alarms)
            if cores[number].wakes_at > at:
                continue  # an alarm set before there was something else to do
            cores[number].step(at)
        else:
            return
        if cores[number].wakes_at < inf:
            heappush(alarms, (cores[number].wakes_at, number))


class Bills:
    """A server that bills, over a ledger.

    Args:
        latency: Seconds until the answer is there.
    """

    def __init__(self, latency: float = 0.05) -> None:
        self.ledger = Ledger()
        self._latency = latency

    def __call__(self, request: Request, now: float) -> tuple[Answer, float]:
        headers = {name.lower(): value for name, value in request.headers}
        received = Received(request.method, request.target, headers, request.body or b"")
        return self.ledger.handle(received, now=now), self._latency
