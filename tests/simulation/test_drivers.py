"""The three drivers against the core alone: the same scenario, the same core trace, the same bill."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache, partial
from itertools import chain, count, islice
from random import Random

import pytest

from tests.simulation.players import Player, TiedError, play_asyncio, play_core, play_threads, play_trio
from tests.simulation.scenario import Scenario, Stage
from tests.simulation.thread_clock import DeadlockError, Event, Lock, Scheduler, Thread

DRIVERS: dict[str, Player] = {"threads": play_threads, "asyncio": play_asyncio, "trio": play_trio}
SCENARIOS = 40
FOUND = (1290, 1404)
"""Scenarios that a driver once played otherwise: in these, a sleeping thread left a free slot empty."""

SCHEDULES = 150


def _untied() -> Iterator[tuple[Scenario, Stage]]:
    for seed in chain(FOUND, count()):
        scenario = Scenario.of(seed)
        try:
            stage = play_core(scenario)
        except TiedError:
            continue
        yield scenario, stage


@cache
def references() -> Sequence[tuple[Scenario, Stage]]:
    """Play scenarios on the core alone; those with two things at the same time are left out."""
    return list(islice(_untied(), SCENARIOS))


@pytest.mark.parametrize("name", DRIVERS)
def test_a_driver_gives_the_same_core_trace_as_the_core_alone(name: str) -> None:
    for scenario, reference in references():
        stage = DRIVERS[name](scenario)
        assert stage.core_trace() == reference.core_trace(), f"Scenario.of({scenario.seed})"
        assert stage.ledger.as_json() == reference.ledger.as_json()


def test_the_scenarios_meet_every_trouble() -> None:
    seen: Counter[str] = Counter()
    for scenario, stage in references():
        seen[scenario.config.batch.overflow] += 1
        seen[f"{scenario.config.batch.max_concurrency} at once"] += 1
        seen["repeat"] += stage.ledger.counters.repeats
        trace = stage.core_trace()
        seen["call"] += len(trace) - 1
        for line in map(json.loads, trace["outbox"]):
            seen[line["input"]] += 1
            seen["draw"] += "draws" in line
            seen[line.get("raised", "")] += 1
            if line["input"] == "poll":
                seen[next(iter(line["output"]))] += 1
    for trouble in (
        *("drop_newest", "drop_oldest", "block", "raise", "1 at once", "2 at once", "4 at once", "repeat"),
        *("record", "flush", "close", "handle_answer", "draw", "QueueFullError", "call"),
        *("transmit", "delivered", "rejected", "retrying", "dropped", "emptied", "settled"),
    ):
        assert seen[trouble] >= 5, trouble


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest", "block", "raise"])
def test_the_thread_driver_loses_nothing_under_any_schedule(overflow: str) -> None:
    """Whichever thread goes first at every lock, all calls return, and each signal is billed as reported."""
    chosen = [each for each in references() if each[0].config.batch.overflow == overflow]
    for schedule in range(SCHEDULES // 4):
        scenario, _ = chosen[schedule % len(chosen)]
        stage = play_threads(scenario, Random(f"{overflow} {schedule}"))
        outbox = stage.engine.outbox
        counts = outbox.stats(now=0.0)
        assert outbox.held == 0, f"{scenario.seed} under schedule {overflow} {schedule}"
        assert counts.recorded == counts.delivered + counts.rejected + sum(counts.dropped.values())
        delivered = [
            line["output"]["delivered"]
            for line in map(json.loads, stage.core_trace()["outbox"])
            if line["input"] == "poll" and "delivered" in line["output"]
        ]
        assert len(delivered) == counts.delivered
        assert all(stage.ledger.billed(key) == 1 for key in delivered)


def test_a_deadlock_ends_the_run() -> None:
    scheduler = Scheduler()
    first, second = Lock(scheduler), Lock(scheduler)

    def take(one: Lock, other: Lock) -> None:
        with one:
            scheduler.block(1.0)
            with other:
                pass

    thread = Thread(scheduler, lambda: take(second, first))
    thread.start()
    with pytest.raises(DeadlockError):
        take(first, second)


def test_what_a_thread_raises_ends_the_run() -> None:
    scheduler = Scheduler()
    Thread(scheduler, lambda: 1 // 0).start()
    with pytest.raises(ZeroDivisionError):
        Event(scheduler).wait()


def test_virtual_time_jumps_to_the_next_timer() -> None:
    scheduler = Scheduler()
    woken: list[tuple[str, float]] = []

    def sleep(name: str, until: float) -> None:
        assert scheduler.block(until) is False
        woken.append((name, scheduler.now))

    threads = [Thread(scheduler, partial(sleep, f"at {at}", at)) for at in (3.0, 1.0, 86_400.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert woken == [("at 1.0", 1.0), ("at 3.0", 3.0), ("at 86400.0", 86_400.0)]
