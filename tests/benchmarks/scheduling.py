"""Scheduling: whether slow or failing signals hold the others up, next to the ideal list schedule.

That is the schedule of somebody who needs no time: whenever a slot is free, it takes what is next.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heapify, heappop, heappush
from uuid import uuid4

from clocknext_core import Retrying
from tests.benchmarks import baselines, ours
from tests.benchmarks.children import QUICK_SECONDS, REFUSING, SLOW, SLOW_SECONDS
from tests.benchmarks.rounds import Claim, Contestant, Figure, Result, alternate
from tests.benchmarks.servers import slow_server
from tests.benchmarks.setting import Setting
from tests.benchmarks.typical import MODEL, arguments, body, holding

IDEAL = "ideal list schedule"
CONCURRENCY = 5
EVERY = 50
"""One signal in so many is out of the ordinary: 2 %."""


@dataclass(frozen=True)
class Job:
    """The attempts of one signal: how long each takes, and the back-offs between them."""

    attempts: Sequence[float]
    delays: Sequence[float] = ()


def ideal(jobs: Sequence[Job], slots: int) -> float:
    """Return when the last attempt ends: slots take jobs in order, and first those whose back-off is over."""
    free = [0.0] * slots
    heapify(free)
    fresh = deque(range(len(jobs)))
    backing_off: list[tuple[float, int, int]] = []
    ended_at = 0.0
    while fresh or backing_off:
        at = heappop(free)
        if fresh and not (backing_off and backing_off[0][0] <= at):
            job, attempt = fresh.popleft(), 0
        else:
            may_start_at, job, attempt = heappop(backing_off)
            at = max(at, may_start_at)
        end = at + jobs[job].attempts[attempt]
        ended_at = max(ended_at, end)
        if attempt + 1 < len(jobs[job].attempts):
            heappush(backing_off, (end + jobs[job].delays[attempt], job, attempt + 1))
        heappush(free, end)
    return ended_at


def measure(setting: Setting) -> Result:
    """Measure both kinds of signals that could hold others up."""
    count = setting.pieces(1000)
    cases = [(world, model) for model in (SLOW, REFUSING) for world in ours.DRAINS]
    with slow_server() as server:
        contestants: list[Contestant] = [
            *(_driver(world, server.url, count, model) for world, model in cases),
            partial(_bare, server.port, count),
        ]
        figures = alternate(contestants, setting.rounds, warm_up=False)
    claims = [
        *(
            Claim(_name(world, model), (_ideal_name(world, model),), most=1.15, theirs_is=IDEAL)
            for world, model in cases
        ),
        Claim("bare h11, asyncio, 2 % slow", (_ideal_name("asyncio", SLOW),), theirs_is=IDEAL),
    ]
    note = f"The server: {server.name}. {QUICK_SECONDS:g} s an answer, {SLOW_SECONDS:g} s where it is slow."
    return Result(f"{count} signals, {CONCURRENCY} at once, 2 % of them bad", "s", figures, claims, [note])


def _name(world: str, model: str) -> str:
    return f"{world} driver, 2 % {model}"


def _ideal_name(world: str, model: str) -> str:
    return f"{IDEAL}, {_name(world, model)}"


def _model(number: int, model: str) -> str:
    return model if number % EVERY == EVERY // 2 else MODEL


def _driver(world: str, url: str, count: int, model: str) -> Contestant:
    def run() -> dict[str, Figure]:
        delays: defaultdict[str | None, list[float]] = defaultdict(list)

        def note(event: Retrying) -> None:
            assert event.signal is not None  # no call is awaited here
            delays[event.signal.idempotency_key].append(event.delay)

        keys = [uuid4().hex for _ in range(count)]
        signals = [arguments(number, model=_model(number, model)) for number in range(count)]
        took = ours.DRAINS[world](url, signals, holding(CONCURRENCY), keys, note)
        schedule = ideal([_job(signals[i]["model"], delays[keys[i]]) for i in range(count)], CONCURRENCY)
        return {
            _name(world, model): Figure(took.value * count, took.cpu * count),
            _ideal_name(world, model): Figure(schedule),
        }

    return run


def _job(model: str, delays: Sequence[float]) -> Job:
    if model == SLOW:
        return Job([SLOW_SECONDS])
    return Job([QUICK_SECONDS] * (len(delays) + 1), delays)


def _bare(port: int, count: int) -> dict[str, Figure]:
    bodies = [body(number, model=_model(number, SLOW)) for number in range(count)]
    took = baselines.drain_in_asyncio(port, bodies, CONCURRENCY)
    return {"bare h11, asyncio, 2 % slow": Figure(took.value * count, took.cpu * count)}
