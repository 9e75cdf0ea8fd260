"""The promises of an awaited call, under answers of every shape, in any order, and times that jump."""

from collections import Counter
from random import Random

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from clocknext_core import RetryPolicy, Wait
from tests.core.call_model import KINDS, NAMES, Book, Kind, World

SECONDS = st.one_of(
    st.sampled_from([0.05, 0.2, 1.0, 3.0, 30.0, 900.0]),
    st.floats(0, 20, allow_nan=False, allow_infinity=False),
)


class CallMachine(RuleBasedStateMachine):
    """Several calls at a time, driven and answered in any order."""

    world: World

    @initialize(
        retry=st.builds(
            RetryPolicy,
            max_attempts=st.integers(1, 4),
            base_delay=st.sampled_from([0.0, 0.2]),
            max_delay=st.sampled_from([0.3, 10.0]),
        ),
        timeout=st.sampled_from([0.5, 10.0]),
        seed=st.integers(0, 3),
    )
    def start(self, retry: RetryPolicy, timeout: float, seed: int) -> None:
        self.world = World(retry, timeout, seed)

    def pick(self, which: int, books: list[Book]) -> Book | None:
        return books[which % len(books)] if books else None

    @precondition(lambda self: len(self.world.live) < 4)
    @rule(kind=st.sampled_from(KINDS))
    def begin(self, kind: Kind) -> None:
        self.world.poll(self.world.begin(kind))

    @precondition(lambda self: self.world.begun)
    @rule(which=st.integers(0), times=st.integers(1, 3))
    def poll(self, which: int, times: int) -> None:
        for _ in range(times):
            if book := self.pick(which, self.world.begun):
                self.world.poll(book)

    @rule(which=st.integers(0), name=st.sampled_from(NAMES))
    def answer(self, which: int, name: str) -> None:
        if book := self.pick(which, [book for book in self.world.live if book.is_flying]):
            self.world.answer(book, name)

    @rule(which=st.integers(0), names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4))
    def drive(self, which: int, names: list[str]) -> None:
        """Drive one call on as a driver would, sleeping as it says."""
        if book := self.pick(which, self.world.live):
            for name in names:
                if book.is_flying:
                    self.world.answer(book, name)
                while book in self.world.live and not book.is_flying:
                    if isinstance(self.world.poll(book), Wait):
                        self.world.sleep(book)

    @rule(which=st.integers(0), ticket=st.integers(-1, 6), name=st.sampled_from(NAMES))
    def answer_late(self, which: int, ticket: int, name: str) -> None:
        if book := self.pick(which, self.world.begun):
            self.world.answer_late(book, ticket, name)

    @rule(which=st.integers(0), unlikely=st.integers(0, 3))
    def give_up(self, which: int, unlikely: int) -> None:
        if unlikely == 0 and (book := self.pick(which, self.world.live)):
            self.world.give_up(book)

    @rule(seconds=SECONDS)
    def let_time_pass(self, seconds: float) -> None:
        self.world.jump(seconds)

    @rule(seconds=st.floats(-100, -0.1))
    def set_the_clock_back(self, seconds: float) -> None:
        self.world.jump(seconds)

    @rule()
    def outlast_the_pause(self) -> None:
        self.world.outlast()

    @rule(which=st.integers(0))
    def sleep(self, which: int) -> None:
        if book := self.pick(which, self.world.live):
            self.world.sleep(book)

    def teardown(self) -> None:
        self.world.recover()


def test_any_inputs_in_any_order_keep_every_promise() -> None:
    run_state_machine_as_test(
        CallMachine,
        settings=settings(
            max_examples=100,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def wander(rng: Random, steps: int) -> World:
    """Take a seeded walk through the same operations."""
    retry = RetryPolicy(rng.randint(1, 4), rng.choice([0.0, 0.2]), rng.choice([0.3, 10.0]))
    world = World(retry, rng.choice([0.5, 10.0]), rng.randint(0, 99))
    for _ in range(steps):
        if not world.live or (len(world.live) < 4 and rng.random() < 0.1):
            world.begin(rng.choice(KINDS))
        book = rng.choice(world.live)
        match rng.randrange(20):
            case 0:
                past = rng.choice(world.begun)
                world.answer_late(past, rng.randint(max(past.attempts - 1, 0), past.attempts + 1), "ok")
            case 1:
                world.answer_late(rng.choice(world.begun), rng.randint(-1, 6), rng.choice(NAMES))
            case 2 if rng.random() < 0.3:
                world.give_up(book)
            case 3:
                world.jump(rng.choice([0.1, 1.0, 10.0]))
            case 4:
                world.jump(-rng.random())
            case 5:
                world.poll(rng.choice(world.begun))
                if rng.random() < 0.5:
                    world.outlast()
            case 6 | 7 | 8 | 9:
                world.sleep(book)
            case _ if book.is_flying:
                world.answer(book, rng.choice([*NAMES, *["refused connection", "429 to the limit"] * 3]))
            case _:
                world.poll(book)
    world.recover()
    return world


def test_a_seeded_run_keeps_every_promise_and_meets_every_trouble() -> None:
    rng = Random(1)
    seen: Counter[str] = Counter()
    for _ in range(150):
        seen += wander(rng, 150).seen
    happened = {
        *("wait", "retry", "repeat", "pause", "gave up at once", "used up", "refused", "succeeded"),
        *("not repeated: may have been processed", "repeated: certainly unprocessed"),
        *("held up by another's pause", "sent away by another's pause"),
        *("late answer", "duplicate answer", "unknown ticket", "closed", "backwards"),
        *("given up", "given up in flight"),
    }
    assert {name for name in happened if seen[name] < 10} == set()


def test_the_same_seed_and_inputs_give_the_same_trace() -> None:
    first, second = (wander(Random("trace"), 400).log for _ in range(2))
    assert first == second
    assert len(first) > 100
