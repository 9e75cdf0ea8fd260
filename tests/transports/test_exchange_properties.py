"""Exchanges over one pool, under steps in any order, answers of every shape, and bytes in any pieces."""

from collections import Counter
from random import Random

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

from clocknext_core import Failure
from clocknext_transports.http11.answers import MAX_HEAD_BYTES
from tests.transports.exchange_model import ERRORS, INTERIM, NAMES, Book, World, wire

SURPLUS = (b"x", b"\r\n", b"\0", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


def move(world: World, book: Book, count: int) -> None:
    """Let an exchange go on as it would: start, connect, send, or receive so many bytes."""
    match book.stage:
        case "new":
            world.start(book)
        case "connecting":
            world.connect(book)
        case "sending":
            world.send(book)
        case _ if book.fed < len(book.wire.data):
            world.feed(book, count)
        case _:
            world.end(book)


class ExchangeMachine(RuleBasedStateMachine):
    """Several exchanges at a time, each a step at a time."""

    world: World

    @initialize(limit=st.integers(0, 3))
    def start(self, limit: int) -> None:
        self.world = World(limit)

    def pick(self, which: int, *stages: str) -> Book | None:
        books = [book for book in self.world.live if not stages or book.stage in stages]
        return books[which % len(books)] if books else None

    @precondition(lambda self: len(self.world.live) < 4)
    @rule(name=st.sampled_from(NAMES), safe=st.booleans(), steps=st.integers(0, 3))
    def open(self, name: str, safe: bool, steps: int) -> None:
        book = self.world.open(name, safe=safe)
        for _ in range(steps):
            if book.stage != "receiving":
                move(self.world, book, 0)

    @precondition(lambda self: self.world.live)
    @rule(which=st.integers(0), counts=st.lists(st.sampled_from([1, 2, 7, 40, 400]), min_size=1, max_size=4))
    def go_on(self, which: int, counts: list[int]) -> None:
        book = self.pick(which)
        for count in counts:
            if book is not None and book.stage != "ended":
                move(self.world, book, count)

    @rule(safe=st.booleans())
    def exchange(self, safe: bool) -> None:
        """Have one whole exchange, so that there are connections to reuse."""
        book = self.world.open("plain", safe=safe)
        while book.stage != "ended":
            move(self.world, book, 1000)

    @rule(which=st.integers(0), surplus=st.sampled_from([b"", *SURPLUS]))
    def receive_all(self, which: int, surplus: bytes) -> None:
        if book := self.pick(which, "receiving"):
            self.world.feed(book, len(book.wire.data), surplus)

    @rule(which=st.integers(0))
    def end(self, which: int) -> None:
        if book := self.pick(which, "receiving"):
            self.world.end(book)

    @rule(which=st.integers(0), error=st.sampled_from(sorted(ERRORS)))
    def fail(self, which: int, error: str) -> None:
        if book := self.pick(which, "connecting", "sending", "receiving"):
            self.world.fail(book, ERRORS[error])

    @rule(which=st.integers(0), by_error=st.booleans())
    def expire(self, which: int, by_error: bool) -> None:
        if book := self.pick(which, "connecting", "sending", "receiving"):
            self.world.expire(book, by_error=by_error)

    @rule(which=st.integers(0))
    def close(self, which: int) -> None:
        if book := self.pick(which):
            self.world.close(book)

    @precondition(lambda self: self.world.idle)
    @rule(which=st.integers(0))
    def trouble(self, which: int) -> None:
        self.world.trouble(self.world.idle[which % len(self.world.idle)])

    @rule(unlikely=st.integers(0, 7))
    def clear(self, unlikely: int) -> None:
        if unlikely == 0:
            self.world.clear()

    def teardown(self) -> None:
        self.world.finish()


def test_any_steps_in_any_order_keep_every_promise() -> None:
    run_state_machine_as_test(
        ExchangeMachine,
        settings=settings(
            max_examples=100,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def wander(rng: Random, steps: int) -> World:
    """Take a seeded walk through the same steps."""
    world = World(rng.randint(0, 3))
    for _ in range(steps):
        if not world.live or (len(world.live) < 4 and rng.random() < 0.1):
            name = rng.choice(NAMES) if rng.random() < 0.6 else "plain"
            world.open(name, safe=rng.random() < 0.8)
        book = rng.choice(world.live)
        match rng.randrange(24):
            case 0 if book.stage == "receiving":
                world.end(book)
            case 1 | 2 if book.stage not in ("new", "ended"):
                world.fail(book, ERRORS[rng.choice(sorted(ERRORS))])
            case 3 if book.stage != "new" and rng.random() < 0.5:
                world.expire(book, by_error=rng.random() < 0.5)
            case 4 if rng.random() < 0.5:
                world.close(book)
            case 5 if world.idle:
                world.trouble(rng.choice(world.idle))
            case 6 if rng.random() < 0.05:
                world.clear()
            case 7 | 8 | 9 if book.stage == "receiving":
                world.feed(book, 1000, rng.choice(SURPLUS) if rng.random() < 0.3 else b"")
            case _:
                move(world, book, rng.choice([1, 5, 30, 1000]))
    world.finish()
    return world


def test_a_seeded_run_keeps_every_promise_and_meets_every_trouble() -> None:
    rng = Random(1)
    seen: Counter[str] = Counter()
    for _ in range(50):
        seen += wander(rng, 300).seen
    happened = {
        *("answered", "kept", "pool full", "reused", "until close", "surplus", "invalid", "cut short"),
        *("broken", "refused", "unprocessed", "timed out", "broken off", "stale retry"),
        *("stale and seen to be", "kept from a kept connection", "outlived a clear"),
    }
    assert {name for name in happened if seen[name] < 10} == set()


def test_interim_answers_come_to_an_end() -> None:
    """No matter how they are cut, and although each is complete."""
    for size in (100, 70_000):
        world = World(1)
        book = world.open("only interim")
        for _ in range(3):
            move(world, book, 0)
        step: object = None
        endless = INTERIM * (2 * MAX_HEAD_BYTES // len(INTERIM))
        for start in range(0, len(endless), size):
            step = book.exchange.resume(endless[start : start + size])
            if isinstance(step, Failure):
                break
        assert isinstance(step, Failure)
        assert book.held.aborted == 1


def kept(world: World) -> None:
    """Have one exchange, whose connection is idle then."""
    book = world.open("plain")
    for _ in range(4):
        move(world, book, 1000)
    assert world.idle


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_reset", [False, True], ids=["end", "reset"])
def test_wherever_an_answer_is_cut_there_is_none(name: str, is_reset: bool) -> None:
    """At every byte (a reset: at every third), over a fresh connection, in two pieces."""
    length = len(wire(name, 1).data)
    for cut in range(0, length + 1, 3 if is_reset else 1):
        world = World(1)
        book = world.open(name)
        for _ in range(3):
            move(world, book, 0)
        for count in (cut * 7 // 11, cut):
            if book.stage == "receiving" and book.fed < cut:
                world.feed(book, min(count, cut - book.fed))
        if book.stage == "receiving":
            if is_reset:
                world.fail(book, ERRORS["reset"])
            else:
                world.end(book)
        assert book.outcome is not None
        world.finish()


@pytest.mark.parametrize("name", NAMES)
def test_a_kept_connection_is_replaced_until_the_first_byte_and_never_after(name: str) -> None:
    for count in (0, 1):
        world = World(1)
        kept(world)
        book = world.open(name)
        for _ in range(2):
            move(world, book, 0)
        world.feed(book, count)
        if book.stage == "receiving":  # the first byte may be enough to be no HTTP
            world.end(book)
        assert world.seen["stale retry"] == (count == 0)
        if count == 0:
            assert book.stage == "connecting"
            world.fail(book, ERRORS["no route"])
        assert book.outcome is not None
        world.finish()
