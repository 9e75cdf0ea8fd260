"""The outbox's promises, under operations in any order, times that jump, and every overflow policy."""

from collections import Counter
from random import Random
from typing import get_args

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from clocknext_core import BatchPolicy, Closed, RetryPolicy, Wait
from clocknext_core.config import Outage, Overflow
from tests.core.outbox_model import REPLIES, World

POLICIES: tuple[Overflow, ...] = get_args(Overflow)
OUTAGES: tuple[Outage, ...] = get_args(Outage)
DOWN = ["500", "503", "reset", "refused connection", "html"]
SECONDS = st.one_of(
    st.sampled_from([0.0, 0.05, 0.2, 1.0, 2.0, 3.0, 30.0, 900.0]),
    st.floats(0, 20, allow_nan=False, allow_infinity=False),
)


class OutboxMachine(RuleBasedStateMachine):
    """Any inputs, in any order, before and between polls."""

    world: World

    @initialize(
        batch=st.builds(
            BatchPolicy,
            max_size=st.integers(1, 4),
            max_interval=st.sampled_from([0.0, 0.5, 2.0]),
            max_concurrency=st.integers(1, 3),
            max_queue_size=st.integers(1, 5),
            overflow=st.sampled_from(POLICIES),
            block_timeout=st.sampled_from([0.0, 1.0, 10.0]),
            max_queue_bytes=st.sampled_from([300, 900, 10**6]),
            outage=st.sampled_from(["hold", "hold", "drop"]),
        ),
        retry=st.builds(
            RetryPolicy,
            max_attempts=st.integers(1, 3),
            base_delay=st.sampled_from([0.0, 0.2]),
            max_delay=st.sampled_from([0.3, 10.0]),
        ),
        seed=st.integers(0, 3),
        spool_window=st.sampled_from([None, None, 5.0, 86400.0]),
    )
    def start(self, batch: BatchPolicy, retry: RetryPolicy, seed: int, spool_window: float | None) -> None:
        self.world = World(batch, retry, seed, spool_window)

    @rule(times=st.integers(1, 4))
    def record(self, times: int) -> None:
        for _ in range(times):
            self.world.record()

    @rule(times=st.integers(1, 4))
    def poll(self, times: int) -> None:
        for _ in range(times):
            self.world.poll()

    @rule(name=st.none() | st.sampled_from(sorted(REPLIES)))
    def drain(self, name: str | None) -> None:
        output = self.world.poll()
        for _ in range(40):
            if isinstance(output, Wait | Closed):
                break
            for ticket in list(self.world.flying) if name is not None else []:
                self.world.answer(ticket, name or "")
            output = self.world.poll()

    @precondition(lambda self: self.world.flying)
    @rule(which=st.integers(0), name=st.sampled_from(sorted(REPLIES)))
    def answer(self, which: int, name: str) -> None:
        tickets = list(self.world.flying)
        self.world.answer(tickets[which % len(tickets)], name)

    @precondition(lambda self: self.world.spent)
    @rule(which=st.integers(0), name=st.sampled_from(["ok", "429", "400"]))
    def answer_late(self, which: int, name: str) -> None:
        self.world.answer(self.world.spent[which % len(self.world.spent)], name)

    @rule(ticket=st.integers(-1, 60))
    def answer_any_ticket(self, ticket: int) -> None:
        self.world.answer(ticket, "ok")

    @rule(ticket=st.integers(0, 60))
    def abandon_any_ticket(self, ticket: int) -> None:
        self.world.abandon(ticket)

    @precondition(lambda self: self.world.flying)
    @rule(which=st.integers(0))
    def abandon(self, which: int) -> None:
        tickets = list(self.world.flying)
        self.world.abandon(tickets[which % len(tickets)])

    @precondition(lambda self: self.world.storing)
    @rule(which=st.integers(0), fails=st.booleans())
    def store(self, which: int, fails: bool) -> None:
        tickets = list(self.world.storing)
        self.world.store(tickets[which % len(tickets)], fails=fails)

    @precondition(lambda self: self.world.is_durable)
    @rule(ticket=st.integers(0, 60))
    def store_any_ticket(self, ticket: int) -> None:
        self.world.store(ticket)

    @precondition(lambda self: self.world.adopting is not None)
    @rule(ages=st.lists(st.sampled_from([0.0, 1.0, 4.0, 90000.0]), max_size=3), is_last=st.booleans())
    def adopt(self, ages: list[float], is_last: bool) -> None:
        self.world.adopt(min(len(ages), self.world.adopting or 0), ages, is_last=is_last)

    @precondition(lambda self: self.world.adopting is not None)
    @rule()
    def fail_to_adopt(self) -> None:
        self.world.fail_to_adopt()

    @precondition(lambda self: self.world.adopting is not None)
    @rule()
    def find_one_too_old(self) -> None:
        self.world.expire()

    @rule(ticket=st.integers(0, 60))
    def withdraw_any_ticket(self, ticket: int) -> None:
        self.world.withdraw(ticket)

    @precondition(lambda self: self.world.blocked)
    @rule(which=st.integers(0))
    def withdraw(self, which: int) -> None:
        blocked = self.world.blocked
        self.world.withdraw(blocked[which % len(blocked)].ticket)

    @rule(patience=st.none() | SECONDS)
    def flush(self, patience: float | None) -> None:
        self.world.flush(patience)

    @rule(patience=st.none() | SECONDS, unlikely=st.integers(0, 5))
    def close(self, patience: float | None, unlikely: int) -> None:
        if unlikely == 0:
            self.world.flush(patience, closes=True)

    @rule(seconds=SECONDS)
    def let_time_pass(self, seconds: float) -> None:
        self.world.jump(seconds)

    @rule(seconds=st.floats(-100, -0.1))
    def set_the_clock_back(self, seconds: float) -> None:
        self.world.jump(seconds)

    @precondition(lambda self: self.world.last_wait is not None and self.world.last_wait.until is not None)
    @rule()
    def sleep(self) -> None:
        wait = self.world.last_wait
        assert wait is not None
        assert wait.until is not None
        self.world.clock = wait.until

    def teardown(self) -> None:
        self.world.recover()


def test_any_inputs_in_any_order_keep_every_promise() -> None:
    run_state_machine_as_test(
        OutboxMachine,
        settings=settings(
            max_examples=120,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def wander(rng: Random, overflow: Overflow, steps: int, spool_window: float | None = None) -> World:
    """Take a seeded walk through the same operations."""
    batch = BatchPolicy(
        max_size=rng.randint(1, 4),
        max_interval=rng.choice([0.0, 0.5, 2.0]),
        max_concurrency=rng.randint(1, 3),
        max_queue_size=rng.randint(1, 6),
        overflow=overflow,
        block_timeout=rng.choice([0.5, 5.0]),
        max_queue_bytes=rng.choice([300, 900, 10**6]),
        outage=rng.choice(("hold", "hold", "hold", *OUTAGES)),
    )
    world = World(batch, RetryPolicy(max_attempts=rng.randint(1, 3)), rng.randint(0, 99), spool_window)
    # With a spool, a refused key is another matter than any other refusal.
    names = [*sorted(REPLIES), *(["401", "403 with a wait"] if spool_window is not None else [])]
    for step in range(steps):
        # A service that is down for a while fails every signal alike.
        troubles = DOWN if step % 100 < 30 and rng.random() < 0.9 else names
        match rng.randrange(20):
            case 0 | 1 | 2 | 3 | 4:
                world.record()
            case 5 | 6 | 7 | 8 if world.flying:
                world.answer(rng.choice(list(world.flying)), rng.choice(troubles))
            case 9 if world.spent:
                world.answer(rng.choice(world.spent), rng.choice(names))
            case 10 if world.flying:
                world.abandon(rng.choice(list(world.flying)))
            case 8 | 16 | 17 if world.storing:
                world.store(rng.choice(list(world.storing)), fails=rng.random() < 0.2)
            case 18 | 19 if world.adopting is not None and rng.random() < 0.2:
                world.expire()
            case 18 | 19 if world.adopting is not None and rng.random() < 0.3:
                world.fail_to_adopt()
            case 18 | 19 if world.adopting is not None:
                ages = [rng.choice([0.0, 3.0, 99.0]), 0.0]
                world.adopt(rng.randint(0, min(2, world.adopting)), ages, is_last=rng.random() < 0.4)
            case 18 if world.storing and rng.random() < 0.2:
                world.withdraw(rng.choice(list(world.storing)))
            case 11 if world.blocked and rng.random() < 0.5:
                world.withdraw(rng.choice(world.blocked).ticket)
            case 12:
                world.flush(rng.choice([None, 0.0, 0.5, 5.0]), closes=rng.random() < 0.02)
            case 13:
                world.jump(rng.choice([0.1, 1.0, 10.0]))
            case 14 if world.last_wait is not None and world.last_wait.until is not None:
                world.clock = world.last_wait.until
                world.seen["wait"] += 1
            case 15:
                world.jump(-rng.random())
            case _:
                world.poll()
    if rng.random() < 0.5:
        world.flush(rng.choice([None, 0.1]), closes=True)
        world.record()
    world.recover()
    return world


@pytest.mark.parametrize("overflow", POLICIES)
def test_a_seeded_run_keeps_every_promise_and_meets_every_trouble(overflow: Overflow) -> None:
    rng = Random(f"{overflow}/1")
    seen: Counter[str] = Counter()
    for _ in range(100):
        seen += wander(rng, overflow, 200).seen
    happened = {
        *(
            "wait",
            "retry",
            "repeat",
            "gate paused",
            "gate probing",
            "gate ramping",
            "outage",
            "outage over",
            "probe",
            "held beyond its attempts",
            "too many bytes",
            "late answer",
            "abandoned",
            "backwards",
            "refused",
            "send_failed",
            "turn of a fresh one",
        ),
        *("closed", "flush during an outage", "flush out of time", "out of patience", "to be mended"),
    }
    if overflow == "drop_oldest":
        happened.add("dropped several")
    if overflow == "raise":
        happened.add("raised")
    elif overflow == "block":
        happened |= {"blocked", "admitted", "withdrawn", "block timed out"}
    else:
        happened.add("queue_full")
    assert {name for name in happened if seen[name] < 10} == set()


@pytest.mark.parametrize("overflow", POLICIES)
def test_with_a_spool_too(overflow: Overflow) -> None:
    rng = Random(f"{overflow}/spool")
    seen: Counter[str] = Counter()
    for _ in range(100):
        seen += wander(rng, overflow, 200, spool_window=rng.choice([5.0, 60.0])).seen
    happened = {
        "stored",
        "not stored",
        "adopted",
        "expired",
        "parked",
        "key refused",
        "withdrawn while it is stored",
        "look failed",
        "full",
    }
    assert {name for name in happened if seen[name] < 5} == set()
    assert seen["waits for its own alone"] > 0
    assert not seen["closed"] or not seen["send_failed"]


def test_where_half_of_all_attempts_fail_the_budget_bounds_the_repeats_and_parks_the_rest() -> None:
    world = World(BatchPolicy(max_size=1, max_concurrency=4), RetryPolicy(max_attempts=4))
    rng = Random(7)
    for _ in range(100):
        world.record()
    for _ in range(4000):
        match world.poll():
            case Wait(until=None) if not world.flying:
                break
            case Wait(until=until):
                if world.flying:
                    world.jump(0.01)
                    world.answer(min(world.flying), rng.choice(["ok", "reset", "reset", "429 at once"]))
                else:
                    assert until is not None
                    world.clock = max(world.clock, until)
            case _:
                pass
    assert world.held == 0
    assert world.seen["repeat on loan"] > 20
    assert {book.place for book in world.recorded} == {"delivered"}


def test_the_same_seed_and_inputs_give_the_same_trace() -> None:
    first, second = (wander(Random("trace"), "drop_oldest", 400).log for _ in range(2))
    assert first == second
    assert len(first) > 100
