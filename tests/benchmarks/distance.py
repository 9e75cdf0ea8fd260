"""Delivering to a service that is not near: over TLS, 50 ms away, and more than five at once can follow."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal, TypeAlias

from tests.benchmarks import ours
from tests.benchmarks.delivering import CONCURRENCY, WORLDS
from tests.benchmarks.rounds import Claim, Figure, Result, alternate, single
from tests.benchmarks.servers import constant_server, fallback_server, trusted_certificate
from tests.benchmarks.setting import Setting
from tests.benchmarks.typical import arguments, holding
from tests.simulation.capacity import Field, Service

AWAY = 0.05
"""Seconds that an answer takes to come."""
HELD = 10_000
MOST = 64
ROUNDS = 2
"""At most: a round of the distant server takes a minute."""
RATE, MINUTES = 150.0, 10
"""What the producer records: signals a second, and for how long."""

_Concurrency: TypeAlias = int | Literal["auto"]


def measure_tls(setting: Setting) -> Result:
    """Measure how fast a full buffer empties over TLS, beside plain HTTP."""
    count = setting.pieces(2000)
    with trusted_certificate() as certificate, constant_server(certificate) as server:
        contestants = [
            single(_name(world, CONCURRENCY, kind), _drain(world, url, count, CONCURRENCY))
            for world in WORLDS
            for kind, url in (("TLS", server.url), ("plain", setting.server.url))
        ]
        figures = alternate(contestants, setting.rounds)
    claims = [
        Claim(_name(world, CONCURRENCY, "TLS"), (_name(world, CONCURRENCY, "plain"),), least=0.6)
        for world in WORLDS
    ]
    return Result("Draining the buffer over TLS, for each signal", "µs", figures, claims)


def measure_distant(setting: Setting) -> Result:
    """Measure how fast a full buffer empties where each answer takes 50 ms."""
    count = setting.pieces(HELD)
    with fallback_server(AWAY) as server:
        contestants = [
            single(_name(world, concurrency), _drain(world, server.url, count, concurrency))
            for world in WORLDS
            for concurrency in ("auto", MOST)
        ]
        # Five at once take 50 ms for five signals, however many there are.
        contestants.append(
            single(
                _name("threads", CONCURRENCY),
                _drain("threads", server.url, max(2, count // 20), CONCURRENCY),
            )
        )
        figures = alternate(contestants, min(setting.rounds, ROUNDS), warm_up=False)
    claims = [
        *(Claim(_name(world, "auto"), (_name(world, MOST),), most=1.25) for world in WORLDS),
        Claim(_name("threads", "auto"), (_name("threads", CONCURRENCY),)),
    ]
    notes = [f"{count:,} signals held, {AWAY * 1000:g} ms an answer: the server is {server.name}"]
    return Result("Draining the buffer to a distant service, for each signal", "µs", figures, claims, notes)


def measure_producer(setting: Setting) -> Result:
    """Count what a producer loses that records 150 signals a second for ten minutes, in virtual time."""
    until = MINUTES * 60.0 / (10 if setting.is_quick else 1)
    names: Sequence[tuple[_Concurrency, str]] = [
        ("auto", 'dropped, "auto"'),
        (CONCURRENCY, f"dropped, {CONCURRENCY}"),
    ]

    def run() -> Mapping[str, Figure]:
        return {name: Figure(float(_dropped(concurrency, until))) for concurrency, name in names}

    claims = [Claim(names[0][1], most=0), Claim(names[1][1])]
    note = f"{RATE:g} signals a second for {until:g} virtual seconds, {AWAY * 1000:g} ms an answer"
    return Result("A producer", "signals", alternate([run], 1, warm_up=False), claims, [note])


def _dropped(concurrency: _Concurrency, until: float) -> int:
    field = Field(Service(away=AWAY))
    client = field.add(concurrency)
    client.produce(RATE, until=until)
    field.run(until)
    return client.seen.dropped


def _name(world: str, concurrency: _Concurrency, kind: str = "") -> str:
    shown = '"auto"' if concurrency == "auto" else f"{concurrency} at once"
    return f"{world} driver, {shown}" + (f", {kind}" if kind else "")


def _drain(world: str, url: str, count: int, concurrency: _Concurrency) -> "partial[Figure]":
    signals = [arguments(number) for number in range(count)]
    keys = [f"{number:032x}" for number in range(count)]
    return partial(ours.DRAINS[world], url, signals, holding(concurrency), keys, None)
