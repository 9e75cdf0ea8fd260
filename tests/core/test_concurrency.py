"""The limit of attempts at once, and the warning about one that is too low."""

import math
from collections import deque
from itertools import pairwise
from random import Random
from typing import Literal

import pytest

from clocknext_core import BatchPolicy, FallingBehind, RetryPolicy, Transmit, ValidationError
from clocknext_core.backlog import LOOK_EVERY, OVER, Backlog
from clocknext_core.concurrency import (
    CHANCE,
    LATEST,
    MEMORY,
    MOST,
    PERIOD,
    REFUSED,
    REFUSED_AGAIN,
    SETTLING,
    SOON,
    START,
    STEP,
    UNHEEDED,
    WINDOW,
    Concurrency,
)
from clocknext_core.gate import OUTAGE_AFTER, Gate
from clocknext_core.verdicts import Verdict
from tests.core.bench import Bench as OutboxBench
from tests.core.concurrency_model import Model
from tests.core.support import Dice, config, success

NEVER = -math.inf


class Bench:
    """A limit, and a clock."""

    def __init__(self) -> None:
        self.subject = Concurrency()
        self.now = 0.0

    def answer(self, latency: float, times: int = 1, *, is_used: bool = True) -> None:
        for _ in range(times):
            self.now += 0.005
            self.subject.handle_answer(sent_at=self.now - latency, now=self.now, is_used=is_used)

    def refuse(self, *, is_rate: bool = True, opened_at: float = NEVER) -> float:
        self.subject.handle_refusal(sent_at=self.now, now=self.now, opened_at=opened_at, is_rate=is_rate)
        return self.subject.limit


def grown(limit: float = 20.0) -> Bench:
    bench = Bench()
    bench.answer(0.1, UNHEEDED)
    while bench.subject.limit < limit:
        bench.answer(0.1)
    return bench


def test_it_begins_with_as_many_as_the_default() -> None:
    assert Concurrency().width == START == BatchPolicy().max_concurrency


def test_it_grows_to_the_most_while_nothing_queues_and_no_further() -> None:
    bench = grown(MOST)
    bench.answer(0.1, 200)
    assert (bench.subject.limit, bench.subject.width) == (MOST, MOST)


def test_it_does_not_grow_while_it_is_not_used() -> None:
    bench = Bench()
    bench.answer(0.1, 500, is_used=False)
    assert bench.subject.limit == START


def test_it_grows_when_one_attempt_of_a_window_has_met_the_limit() -> None:
    bench = Bench()
    bench.answer(0.1, UNHEEDED)
    bench.now += 1.0
    bench.answer(0.1)
    bench.answer(0.1, WINDOW - 1, is_used=False)  # a loop handles them before it polls again
    assert bench.subject.limit == START + STEP
    bench.answer(0.1, 5 * WINDOW, is_used=False)
    assert bench.subject.limit == START + STEP


def test_the_first_answers_are_not_heeded() -> None:
    bench = Bench()
    bench.answer(0.001, UNHEEDED)
    bench.answer(0.1, 10 * WINDOW)
    assert bench.subject.limit > START


def test_growing_latency_takes_it_down_to_the_default_step_by_step() -> None:
    bench = grown(MOST)
    limits = [bench.subject.limit]
    while bench.subject.limit > START and len(limits) < 500:
        bench.answer(0.2)
        limits.append(bench.subject.limit)
    assert limits[-1] <= START
    assert all(after >= before / 8 for before, after in pairwise(limits))  # cut by half, and looking
    bench.answer(0.2, 500)
    assert bench.subject.limit >= START


def test_latency_that_varies_is_judged_when_it_is_certain() -> None:
    bench = grown()
    before = bench.subject.limit
    for _ in range(WINDOW):
        bench.answer(0.08)
        bench.answer(0.2)  # the mean is longer, by chance as far as is known
    assert bench.subject.limit == before
    for _ in range(20 * WINDOW):
        bench.answer(0.08)
        bench.answer(0.2)
    assert bench.subject.limit < before


def test_answers_to_what_was_sent_before_a_cut_are_not_heeded() -> None:
    bench = grown()
    before = bench.refuse()
    for _ in range(500):
        bench.subject.handle_answer(sent_at=bench.now - 1.0, now=bench.now + 9.0, is_used=True)
    assert bench.subject.limit == before


def test_a_base_that_was_not_seen_for_long_is_looked_for_with_a_quarter_of_the_limit() -> None:
    bench = grown()
    widths: list[float] = []
    for _ in range(10_000):
        bench.answer(0.112)  # neither the base nor a queue
        widths.append(bench.subject.limit)
    assert sum(after == before / 4 for before, after in pairwise(widths)) >= 3
    assert bench.now > MEMORY
    assert max(widths[-100:]) >= 20.0


def test_a_quicker_answer_while_it_looks_is_the_base_from_then_on() -> None:
    bench = grown()
    while bench.subject.limit >= 20.0 and bench.now < 10 * MEMORY:
        bench.answer(0.112)
    bench.answer(0.05, 2 * WINDOW)
    before = bench.subject.limit
    bench.answer(0.112, 2 * MOST)
    assert bench.subject.limit < before


def test_a_refusal_cuts_a_tenth_and_another_one_soon_a_third() -> None:
    bench = grown()
    limit = bench.subject.limit
    assert bench.refuse() == limit * REFUSED
    bench.now += SETTLING - 0.1
    assert bench.refuse() == limit * REFUSED
    bench.now += 0.2
    assert bench.refuse() == limit * REFUSED * REFUSED_AGAIN
    bench.now += SOON + 0.1
    assert bench.refuse() == pytest.approx(limit * REFUSED * REFUSED_AGAIN * REFUSED)
    bench.now += 60.0
    assert bench.refuse(opened_at=bench.now - 1.0) == pytest.approx(
        limit * REFUSED * REFUSED_AGAIN * REFUSED * REFUSED_AGAIN
    )
    for _ in range(50):
        bench.now += SETTLING
        bench.refuse()
    assert (bench.subject.limit, bench.subject.width) == (1.0, 1)


def test_after_a_refusal_it_is_back_after_a_while_and_then_goes_beyond() -> None:
    bench = grown()
    before = bench.subject.limit
    cut_at = bench.now
    after = bench.refuse()
    limits: dict[float, float] = {}
    while bench.now < cut_at + 4 * PERIOD:
        bench.answer(0.1)
        limits[bench.now - cut_at] = bench.subject.limit
    at_half = next(limit for at, limit in limits.items() if at > PERIOD / 2)
    at_period = max(limit for at, limit in limits.items() if at <= PERIOD)
    assert after < at_half < at_period <= before
    assert at_period == pytest.approx(before, rel=0.01)
    assert bench.subject.limit > before + 1.0


def test_a_few_failures_are_chance_and_many_are_not() -> None:
    bench = grown()
    before = bench.subject.limit
    for _ in range(int(LATEST * CHANCE)):
        assert bench.refuse(is_rate=False) == before
    for _ in range(3):
        bench.refuse(is_rate=False)
    assert bench.subject.limit == before * REFUSED
    bench.answer(0.1, 3 * LATEST)
    before = bench.subject.limit
    assert bench.refuse(is_rate=False) == before


def test_the_width_keeps_a_fraction_on_average() -> None:
    bench = Bench()
    bench.refuse()
    widths: list[int] = []
    for _ in range(100):
        bench.answer(0.1, is_used=False)
        widths.append(bench.subject.width)
    assert {*widths} == {4, 5}
    assert sum(widths) / 100 == pytest.approx(START * REFUSED, abs=0.02)


@pytest.mark.parametrize("seed", range(24))
def test_it_is_what_the_documentation_says(seed: int) -> None:
    rng, subject, model, now = Random(seed), Concurrency(), Model(), 100.0
    is_calm, opened_at, base = True, NEVER, 0.1
    for step in range(1500):
        if step % 100 == 0:
            is_calm, base = rng.random() < 0.7, rng.choice((0.05, 0.1, 0.1, 0.112, 0.12, 0.2, 0.4))
        spread = 0.001 if is_calm else rng.choice((0.001, 0.1, 0.5))
        now += rng.choice((0.004, 0.01, 0.01, 0.05))
        sent_at = now - base * math.exp(spread * rng.gauss(0.0, 1.0))
        if rng.random() < (0.002 if seed % 3 else 0.02):
            opened_at, is_rate = rng.choice((opened_at, now - 1.0)), rng.random() < 0.5
            subject.handle_refusal(sent_at=sent_at, now=now, opened_at=opened_at, is_rate=is_rate)
            model.refused(sent_at, now, opened_at=opened_at, is_rate=is_rate)
            now += rng.choice((0.0, 0.5, 1.5, 3.0, 30.0))
        else:
            is_used = rng.random() < (0.2 if seed % 2 else 0.9)
            subject.handle_answer(sent_at=sent_at, now=now, is_used=is_used)
            model.answered(sent_at, now, met=is_used)
        assert subject.limit == pytest.approx(model.limit, rel=1e-9), step
        assert subject.width == model.width, step


# In the gate


def gate() -> Gate:
    return Gate(config(BatchPolicy(max_concurrency="auto"), RetryPolicy(base_delay=1.0)))


def observe(subject: Gate, verdict: Verdict, times: int = 1, *, now: float) -> None:
    for _ in range(times):
        subject.observe(verdict, Dice(0.0), sent_at=now, now=now, others=MOST)


def test_an_outage_is_probed_and_ramped_up_to_the_limit() -> None:
    subject = gate()
    assert (subject.width, subject.state(0.0)) == (START, "open")
    observe(subject, Verdict.DOWN, OUTAGE_AFTER, now=1.0)
    assert (subject.width, subject.state(1.0)) == (1, "paused")
    widths: list[tuple[int, str]] = []
    for _ in range(START):
        observe(subject, Verdict.WORKS, now=9.0)
        widths.append((subject.width, subject.state(9.0)))
    assert widths == [(2, "ramping"), (3, "ramping"), (4, "ramping"), (5, "open"), (5, "open")]


def test_a_429_lowers_the_width_and_other_errors_do_not() -> None:
    subject = gate()
    observe(subject, Verdict.UNCLEAR, now=1.0)
    observe(subject, Verdict.MISDIRECTED, now=1.0)
    assert subject.width == START
    observe(subject, Verdict.BUSY, now=1.0)
    assert subject.width == START - 1


@pytest.mark.parametrize("verdict", [Verdict.BUSY, Verdict.DOWN, Verdict.WORKS, Verdict.UNCLEAR])
def test_the_gate_tells_the_limit_what_an_answer_showed(verdict: Verdict) -> None:
    policy = RetryPolicy(base_delay=1.0)
    gated, alone = Gate(config(BatchPolicy(max_concurrency="auto", outage="drop"), policy)), Concurrency()
    for number in range(300):
        sent_at, now = 1.0 + number, 1.1 + number
        others = gated.width - 1 - number % 2
        gated.observe(verdict, Dice(0.0), sent_at=sent_at, now=now, others=others)
        match verdict:
            case Verdict.WORKS:
                alone.handle_answer(sent_at=sent_at, now=now, is_used=number % 2 == 0)
            case Verdict.BUSY | Verdict.DOWN:
                is_rate = verdict is Verdict.BUSY
                alone.handle_refusal(sent_at=sent_at, now=now, opened_at=NEVER, is_rate=is_rate)
            case _:
                pass
        assert gated.width == alone.width


def test_what_an_answer_waits_in_the_process_for_others_is_not_the_service_s_latency() -> None:
    bench = OutboxBench(BatchPolicy(max_size=1, max_concurrency="auto", max_queue_size=10_000))
    bench.record(*map(str, range(4000)))
    now, limits = 0.0, [0]
    for _ in range(50):
        sent = [each for each in bench.drain(now) if isinstance(each, Transmit)]
        limits.append(bench.outbox.gate.width)
        for number, transmit in enumerate(sent):
            bench.outbox.handle_answer(transmit.ticket, success(), now=now + 0.05 + 0.001 * number)
        now += 0.05 + 0.001 * len(sent)
    assert limits[-1] == MOST
    for _ in range(50):  # what it waits for the service is
        sent = [each for each in bench.drain(now) if isinstance(each, Transmit)]
        now += 0.3
        for transmit in sent:
            bench.outbox.handle_answer(transmit.ticket, success(), now=now)
    assert bench.outbox.gate.width <= START


@pytest.mark.parametrize("wrong", ["Auto", "", "5", 0, 2.0, True, None])
def test_a_concurrency_is_a_number_or_auto(wrong: object) -> None:
    with pytest.raises(ValidationError, match="max_concurrency: must be"):
        BatchPolicy(max_concurrency=wrong)  # type: ignore[arg-type]


def test_the_most_is_a_number() -> None:
    assert (BatchPolicy().most_concurrency, BatchPolicy(max_concurrency="auto").most_concurrency) == (5, MOST)


# The warning


def looks(subject: Backlog, held: list[int], *, is_well: bool = True) -> list[FallingBehind | None]:
    return [
        subject.observe(
            held=count,
            recorded=9000 + count + 50 * number,
            delivered=9000 + 50 * number,
            is_well=is_well,
            now=1000 + LOOK_EVERY * number,
        )
        for number, count in enumerate(held)
        if 1000 + LOOK_EVERY * number >= subject.looks_at
    ]


def test_a_minute_of_growing_is_reported_once() -> None:
    subject = Backlog(5)
    events = looks(subject, [*range(100, 1000, 100)])
    assert [event for event in events if event is not None] == [FallingBehind(700, OVER, 900, 300, 5)]
    assert subject.looks_at == math.inf


def test_the_first_signal_held_is_growth_and_looks_are_ten_seconds_apart() -> None:
    subject = Backlog(5)
    assert looks(subject, [1]) == [None]
    assert subject.looks_at == 1000 + LOOK_EVERY
    assert len([each for each in looks(Backlog(5), [*range(1, 8)]) if each is not None]) == 1


def test_what_shrinks_or_meets_a_bad_service_is_not_reported() -> None:
    assert not any(looks(Backlog(5), [100, 200, 300, 400, 400, 500, 600, 700, 800]))
    assert not any(looks(Backlog(5), [*range(100, 2000, 100)], is_well=False))


@pytest.mark.parametrize("concurrency", [1, "auto"])
def test_the_outbox_reports_that_it_falls_behind_a_number(concurrency: Literal["auto"] | int) -> None:
    bench = OutboxBench(BatchPolicy(max_size=1, max_concurrency=concurrency, max_queue_size=1000))
    outputs: list[object] = []
    in_flight: deque[Transmit] = deque()
    for number in range(20):
        now = LOOK_EVERY * number
        bench.record(*(f"{number}-{each}" for each in range(3)), now=now)
        new = bench.drain(now)
        in_flight += [each for each in new if isinstance(each, Transmit)]
        bench.outbox.handle_answer(in_flight.popleft().ticket, success(), now=now)
        outputs += [*new, *(more := bench.drain(now))]
        in_flight += [each for each in more if isinstance(each, Transmit)]
    events = [each for each in outputs if isinstance(each, FallingBehind)]
    if concurrency == "auto":
        assert events == []
    else:
        (event,) = events
        assert (event.max_concurrency, event.seconds >= OVER, event.delivered < event.recorded) == (
            1,
            True,
            True,
        )
