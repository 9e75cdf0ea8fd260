"""One script of inputs and answers for every driver, such that nothing is left to chance.

Two things could come in either order: what happens at the same time, and what depends on who is asked first.
So all times lie on a grid on which floats add up exactly, no two events of a scenario share one, and the fate
of a request depends on nothing but which attempt of what it is.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import Literal

from clocknext_core import (
    Answer,
    BatchPolicy,
    Config,
    CreditSignal,
    Operation,
    OutcomeSignal,
    Request,
    RetryPolicy,
    Signal,
    WalletSignal,
)
from clocknext_core.envelope import Payload
from clocknext_transports.emulator.api.ledger import DEFAULT_API_KEY, Ledger
from clocknext_transports.recorder import RecordingEngine
from tests.simulation.network import CALM_LATENCY, NO_ANSWER, Flight, Network, Weather
from tests.simulation.weather import draw_fate
from tests.simulation.world import OVERFLOWS

GRID = 2.0**16
"""Points a second. Finer than that, a wall clock would have to round."""

HORIZON = 20.0
"""When the weather turns calm."""

END = 40.0
"""When the client is closed."""


@dataclass(frozen=True)
class Step:
    """Something the client's user does, in a task or thread of its own."""

    at: float
    kind: Literal["record", "flush", "track", "read"]
    signal: Signal | None = None
    timeout: float | None = None

    @property
    def operation(self) -> Operation[Payload]:
        """What a `read` asks for."""
        return Operation("GET", f"/api/v1/usage?customerId=cus_123&limit={int(self.at) + 1}", _identity)


@dataclass(frozen=True)
class Scenario:
    """A configuration, and what happens to a client that has it."""

    seed: int
    config: Config
    steps: Sequence[Step]

    @classmethod
    def of(cls, seed: int) -> "Scenario":
        """Draw a scenario."""
        rng = Random(f"scenario {seed}")
        batch = BatchPolicy(
            max_size=rng.choice((1, 2, 5)),
            max_interval=rng.choice((0.5, 2.0)),
            max_concurrency=rng.choice((1, 2, 4)),
            max_queue_size=rng.choice((2, 4, 100)),
            overflow=rng.choice(OVERFLOWS),
            block_timeout=rng.choice((0.5, 5.0)),
            outage=rng.choice(("hold", "hold", "drop")),
        )
        retry = RetryPolicy(
            max_attempts=rng.choice((2, 5)), base_delay=0.25, max_delay=rng.choice((1.0, 8.0))
        )
        config = Config(DEFAULT_API_KEY, timeout=2.0, batch=batch, retry=retry)
        steps = [_draw_step(rng) for _ in range(rng.randint(8, 30))]
        return cls(seed, config, sorted(steps, key=lambda step: step.at))


class Stage:
    """Where a scenario is played: an engine that is recorded, a server, and what lies between.

    Args:
        scenario: What is played.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.lines: list[str] = []
        keys = count(1)
        self.engine = RecordingEngine(
            scenario.config,
            rng=GridRandom(Random(scenario.seed)),
            make_key=lambda: f"key-{next(keys)}",
            write=self.lines.append,
        )
        self.ledger = Ledger()
        self._scenario = scenario
        self._network = Network(self.ledger)
        self._attempts: Counter[str] = Counter()

    def send(self, request: Request, *, now: float) -> Flight:
        """Send a request to its fate."""
        name = _name_of(request)
        self._attempts[name] += 1
        rng = Random(f"{self._scenario.seed} {name} {self._attempts[name]}")
        weather: Weather = "storm" if now < HORIZON else "calm"
        timeout = self._scenario.config.timeout
        fate = draw_fate(rng, weather, now=now, timeout=timeout)
        # Nothing arrives in the instant it is sent.
        there, back = _on_grid(fate.there + CALM_LATENCY), _on_grid(fate.back + CALM_LATENCY)
        fate = replace(fate, there=there, back=back)
        return self._network.send(request, fate, now=now, timeout=timeout)

    def finish(self, flight: Flight, *, now: float) -> Answer:
        """Return what the client gets of a flight that ends now."""
        assert now == flight.ends_at
        return self._network.finish(flight, now=now)

    def core_trace(self) -> dict[str, list[str]]:
        """Return what went into each machine, and what came of it.

        How often a driver polls, and that it takes back each attempt once it is over, are its own affair.
        """
        trace: dict[str, list[str]] = {}
        for text in self.lines[1:]:
            line = json.loads(text)
            output = line.get("output")
            is_idle = isinstance(output, dict) and ("wait" in output or "closed" in output)
            if line["input"] != "abandon" and not is_idle:
                trace.setdefault(line["machine"], []).append(text)
        return trace


class GridRandom:
    """Randomness on the grid."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def random(self) -> float:
        """Draw a number."""
        return _on_grid(self._rng.random())


def _draw_step(rng: Random) -> Step:
    at = _on_grid(rng.random() * HORIZON)
    kind: Literal["record", "flush", "track", "read"] = rng.choices(
        ("record", "flush", "track", "read"), (70, 12, 12, 6)
    )[0]
    timeout = _on_grid(rng.random() * 4) if rng.random() < 0.5 else None
    return Step(at, kind, _draw_signal(rng), timeout)


def _draw_signal(rng: Random) -> Signal:
    customer = rng.choice(("cus_123", "cus_123", "cus_123", "nobody"))
    tokens = {"input": rng.randrange(1000)}
    match rng.randrange(3):
        case 0:
            return CreditSignal(customer_id=customer, model="gpt-4o", key="api_credit", tokens=tokens)
        case 1:
            return WalletSignal(customer_id=customer, model="gpt-4o", tokens=tokens, custom={"é": [1, None]})
        case _:
            return OutcomeSignal(customer_id=customer, model="gpt-4o", key="resolved_ticket.triage")


def _name_of(request: Request) -> str:
    return request.target if request.body is None else str(json.loads(request.body)["idempotencyKey"])


def _on_grid(seconds: float) -> float:
    return seconds if seconds == NO_ANSWER else round(seconds * GRID) / GRID


def _identity(payload: Payload) -> Payload:
    return payload
