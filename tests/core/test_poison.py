"""A signal that fails while others are delivered: when chance explains it, and when it does not."""

from collections.abc import Callable
from random import Random

import pytest

from clocknext_core import (
    Answer,
    BatchPolicy,
    Dropped,
    Erase,
    Failure,
    FlushReport,
    GivenUp,
    Quarantine,
    RetryPolicy,
    Settled,
    Transmit,
    Wait,
    WaitReason,
)
from clocknext_core.poison import CHANCE, Evidence, Suspect
from tests.core.bench import Bench, SpoolBench, spool_bench
from tests.core.support import answer, refusal, success

POISONS: dict[str, Answer] = {
    "reset": Failure("connection reset"),
    "time-out": Failure("timed out"),
    "firewall's page": answer(403, "<html>Request blocked</html>"),
    "proxy's page": answer(502, "<html>Bad gateway</html>"),
    "page under a 200": answer(200, "<html>Welcome</html>"),
    **{f"{status}": refusal(status) for status in (408, 429, 500, 502, 503, 504)},
}


def failed_with(evidence: Evidence, good: int, times: int = 5, *, failing: int = 0) -> Suspect:
    """Have a signal fail some times, and others be served and fail in between."""
    suspect = evidence.fail(None, outages=0, attempts=1)
    for _ in range(1, times):
        for _ in range(good):
            evidence.serve(attempts=1)
        for _ in range(failing):
            evidence.fail(None, outages=0, attempts=1)
        suspect = evidence.fail(suspect, outages=0, attempts=2)
    return suspect


@pytest.mark.parametrize(
    ("good", "is_conclusive"), [(0, False), (1, False), (9, False), (10, True), (99, True)]
)
def test_five_failures_prove_something_if_forty_others_were_served(good: int, *, is_conclusive: bool) -> None:
    evidence = Evidence()
    suspect = failed_with(evidence, good)
    assert suspect.count == (5 if good else 1)
    assert evidence.is_conclusive(suspect) is is_conclusive


@pytest.mark.parametrize("attempts", [1, 2])
def test_the_likelihood_is_that_of_fishers_test(attempts: int) -> None:
    # 5 of 5 against 0 of 38: 5! · 38! / 43! is more than one in a million, and 0 of 39 is less.
    # The signal's own failures are none of the others', whether those were served at once or later.
    for others, is_conclusive in ((38, False), (39, True)):
        evidence = Evidence()
        suspect = evidence.fail(None, outages=0, attempts=1)
        for number in range(others):
            evidence.serve(attempts=attempts)
            if number % 8 == 0 and suspect.count < 5:
                suspect = evidence.fail(suspect, outages=0, attempts=2)
        assert suspect.count == 5
        assert evidence.is_conclusive(suspect) is is_conclusive
    assert CHANCE == 1e-6


def test_one_in_a_million_is_chance_still_and_one_in_a_million_and_one_is_not() -> None:
    evidence = Evidence()
    suspect = evidence.fail(None, outages=0, attempts=1)
    for _ in range(999_999):
        evidence.serve(attempts=1)
    assert not evidence.is_conclusive(suspect)
    evidence.serve(attempts=1)
    assert evidence.is_conclusive(suspect)


def test_a_failure_counts_if_another_signal_was_served_since_the_last_one() -> None:
    evidence = Evidence()
    suspect = evidence.fail(None, outages=0, attempts=1)
    evidence.serve(attempts=1)
    counts: list[int] = []
    for _ in range(3):
        suspect = evidence.fail(suspect, outages=0, attempts=2)
        counts.append(suspect.count)
    evidence.serve(attempts=1)
    suspect = evidence.fail(suspect, outages=0, attempts=2)
    assert [*counts, suspect.count] == [2, 2, 2, 3]


def test_failures_of_others_make_it_likelier_to_be_chance() -> None:
    evidence = Evidence()
    suspect = failed_with(evidence, 20, failing=20)
    assert not evidence.is_conclusive(suspect)
    suspect = failed_with(evidence, 20, times=30, failing=20)
    assert evidence.is_conclusive(suspect)


def test_poison_signals_do_not_excuse_each_other() -> None:
    evidence = Evidence()
    suspects = [evidence.fail(None, outages=0, attempts=1) for _ in range(10)]
    for _ in range(7):
        for _ in range(12):
            evidence.serve(attempts=1)
        suspects = [evidence.fail(suspect, outages=0, attempts=2) for suspect in suspects]
    assert [evidence.is_conclusive(suspect) for suspect in suspects] == [True] * 10


def test_first_attempts_that_fail_as_often_make_it_likelier_to_be_chance() -> None:
    evidence = Evidence()
    suspect = evidence.fail(None, outages=0, attempts=1)
    for _ in range(12):
        for _ in range(10):
            evidence.serve(attempts=1)
            evidence.fail(None, outages=0, attempts=1)
        suspect = evidence.fail(suspect, outages=0, attempts=2)
    assert not evidence.is_conclusive(suspect)


def test_failures_between_which_no_other_was_served_count_as_one() -> None:
    evidence = Evidence()
    for _ in range(1000):
        evidence.serve(attempts=1)
    suspect = evidence.fail(None, outages=0, attempts=1)
    for _ in range(1000):
        suspect = evidence.fail(suspect, outages=0, attempts=2)
    assert suspect.count == 1
    assert not evidence.is_conclusive(suspect)


def test_an_outage_that_a_probe_confirms_begins_the_count_anew() -> None:
    evidence = Evidence()
    suspect = failed_with(evidence, 100, times=4)
    for _ in range(100):
        evidence.serve(attempts=1)
    again = evidence.fail(suspect, outages=1, attempts=2)
    assert (again.count, evidence.is_conclusive(again)) == (1, False)


# In an outbox


class Stream:
    """An outbox into which good signals flow, and a service.

    Args:
        bench: The outbox.
        serve: Answers an attempt, given the signal's key and the time.
        every: Seconds between two signals.
    """

    def __init__(
        self, bench: Bench | SpoolBench, serve: Callable[[str, float], Answer], every: float = 0.05
    ) -> None:
        self.bench = bench
        self.now = 0.0
        self.attempts: dict[str, int] = {}
        self.given_up: list[str] = []
        self.put_aside: list[str] = []
        self.erased: list[str] = []
        self.reports: list[FlushReport] = []
        self._serve = serve
        self._every = every
        self._recorded = 0
        self._next_at = 0.0

    def record(self, key: str) -> None:
        if isinstance(self.bench, SpoolBench):
            self.bench.store(key, now=self.now)
        else:
            self.bench.record(key, now=self.now)

    def run(self, until: float, *, is_over: Callable[[], bool] = lambda: False) -> None:
        while self.now < until and not is_over():
            if self.now >= self._next_at:
                self.record(f"good {self._recorded}")
                self._recorded += 1
                self._next_at += self._every
            match output := self.bench.poll(self.now):
                case Transmit():
                    key = self.bench.names[output.ticket]
                    self.attempts[key] = self.attempts.get(key, 0) + 1
                    given = self._serve(key, self.now)
                    self.bench.outbox.handle_answer(output.ticket, given, now=self.now)
                case Wait():
                    if output.reason is WaitReason.ADOPTION:
                        self.now = self._next_at
                    else:
                        self.now = min(self._next_at, self._next_at if output.until is None else output.until)
                case GivenUp():
                    self.given_up.append(output.encoded.idempotency_key)
                case Quarantine():
                    assert output.reason == "failed each time while others were delivered"
                    self.put_aside.append(output.idempotency_key)
                case Erase():
                    self.erased.append(output.idempotency_key)
                case Settled():
                    report = output.unwrap()
                    if isinstance(report, FlushReport):
                        self.reports.append(report)
                case Dropped():
                    raise AssertionError(f"dropped: {output}")
                case _:
                    pass


@pytest.mark.parametrize("kind", POISONS)
@pytest.mark.parametrize("make", [Bench, spool_bench], ids=["in memory", "with a spool"])
def test_a_poison_signal_among_good_ones_ends_within_its_attempts_and_a_minute(
    kind: str, make: Callable[[BatchPolicy], Bench | SpoolBench]
) -> None:
    stream = Stream(
        make(BatchPolicy(max_size=1)),
        lambda key, _: POISONS[kind] if key == "poison" else success(),
        every=0.2,
    )
    stream.record("poison")
    stream.bench.outbox.flush(now=0.0)
    stream.run(60.0, is_over=lambda: bool(stream.given_up))
    assert stream.given_up == ["poison"]
    assert stream.attempts["poison"] == stream.bench.config.retry.max_attempts
    assert max(count for key, count in stream.attempts.items() if key != "poison") == 1
    assert stream.bench.outbox.stats(now=stream.now).dropped["send_failed"] == 1
    if isinstance(stream.bench, SpoolBench):
        stream.run(stream.now + 1.0)
        assert stream.put_aside == ["poison"]
        assert "poison" not in stream.erased


def test_a_poison_signal_has_all_its_attempts_however_much_others_have_shown() -> None:
    stream = Stream(
        Bench(BatchPolicy(max_size=1), RetryPolicy(max_attempts=12, base_delay=0.2, max_delay=1.0)),
        lambda key, _: refusal(502) if key == "poison" else success(),
        every=0.01,
    )
    stream.record("poison")
    stream.run(60.0, is_over=lambda: bool(stream.given_up))
    assert (stream.given_up, stream.attempts["poison"]) == (["poison"], 12)


@pytest.mark.parametrize(("good", "shortest", "longest"), [(9, 10.0, 10.0), (14, 0.0, 3.0)])
def test_the_last_attempt_waits_longer_unless_others_have_shown_enough(
    good: int, shortest: float, longest: float
) -> None:
    bench = Bench(BatchPolicy(max_size=1))
    bench.record("poison")
    now = 0.0
    waits: list[float] = []
    for _ in range(5):
        while not (sent := bench.sent(now)):
            output = bench.poll(now)
            assert isinstance(output, Wait)
            assert output.until is not None
            waits.append(output.until - now)
            now = output.until
        assert sent == ["poison"]
        bench.answer("poison", POISONS["502"], now)
        for number in range(good):
            key = f"good {now} {number}"
            bench.record(key, now=now)
            assert bench.sent(now) == [key]
            bench.answer(key, success(), now)
    assert shortest <= waits[-1] <= longest


def test_a_flush_ends_when_the_poison_has() -> None:
    stream = Stream(
        Bench(BatchPolicy(max_interval=0.1), RetryPolicy(max_attempts=3, base_delay=0.05, max_delay=0.1)),
        lambda key, _: refusal(502) if key == "poison" else success(),
    )
    stream.record("poison")
    stream.bench.outbox.flush(now=0.0)
    stream.run(20.0, is_over=lambda: bool(stream.reports))
    (report,) = stream.reports
    assert (report.pending, [each.encoded.idempotency_key for each in report.failed]) == (0, ["poison"])
    assert stream.attempts["poison"] < 20


@pytest.mark.parametrize("make", [Bench, spool_bench], ids=["in memory", "with a spool"])
def test_many_poison_signals_end_as_well(make: Callable[[BatchPolicy], Bench | SpoolBench]) -> None:
    poison = [f"poison {number}" for number in range(10)]
    stream = Stream(
        make(BatchPolicy(max_size=1)), lambda key, _: refusal(502) if key in poison else success()
    )
    for key in poison:
        stream.record(key)
    stream.run(120.0, is_over=lambda: len(stream.given_up) == len(poison))
    assert sorted(stream.given_up) == poison


def test_a_poison_signal_alone_is_held_since_it_may_be_an_outage() -> None:
    stream = Stream(Bench(BatchPolicy(max_size=1)), lambda _request, _now: refusal(502), every=1e9)
    stream.record("poison")
    stream.run(3600.0)
    assert stream.given_up == []
    assert stream.attempts["poison"] > 100


def test_a_service_that_answers_every_other_attempt_costs_no_signal() -> None:
    rng = Random(1)
    stream = Stream(
        Bench(BatchPolicy(max_size=1)),
        lambda _request, _now: refusal(502) if rng.random() < 0.5 else success(),
        every=0.2,
    )
    stream.run(3600.0)
    assert stream.given_up == []
    assert stream.bench.outbox.stats(now=stream.now).retries > 15_000


def test_a_service_that_comes_and_goes_costs_no_signal() -> None:
    stream = Stream(
        Bench(BatchPolicy(max_size=1)),
        lambda _, now: refusal(502) if now % 14.0 < 7.0 else success(),
    )
    stream.run(3600.0)
    assert stream.given_up == []


def test_an_outage_of_everything_costs_no_signal() -> None:
    stream = Stream(
        Bench(BatchPolicy(max_size=1, max_queue_size=100_000)),
        lambda _, now: refusal(503) if 60.0 < now < 3660.0 else success(),
        every=0.5,
    )
    stream.run(3800.0)
    assert stream.given_up == []
    assert stream.bench.outbox.held == 0


# Slots: signals that fail time after time leave room for fresh ones


def bench_with_suspects(concurrency: int, *keys: str) -> Bench:
    """Have signals fail twice, another one being delivered in between. Their back-off is over at 5.0."""
    bench = Bench(BatchPolicy(max_size=1, max_concurrency=concurrency), RetryPolicy(base_delay=1.0))
    for now in (0.0, 1.0):
        for key in keys:
            if not now:
                bench.record(key)
            bench.sent(now)
            bench.answer(key, POISONS["time-out"], now)
        bench.record("first")
        bench.sent(now)
        bench.answer("first", success(), now)
    return bench


def test_where_there_is_one_slot_signals_that_fail_again_and_fresh_ones_take_turns() -> None:
    bench = bench_with_suspects(1, "poison 1", "poison 2")
    bench.record("a", "b", "c", now=5.0)
    sent: list[str] = []
    for seconds in range(6):
        now = 5.0 + 10.0 * seconds
        (key,) = bench.sent(now)
        sent.append(key)
        bench.answer(key, POISONS["time-out"] if key.startswith("poison") else success(), now)
    assert sent == ["poison 1", "a", "poison 2", "b", "poison 1", "c"]


@pytest.mark.parametrize(("concurrency", "most"), [(2, 1), (3, 2), (4, 2), (5, 3)])
def test_signals_that_fail_again_hold_no_more_than_half_the_slots_while_fresh_ones_wait(
    concurrency: int, most: int
) -> None:
    poison = [f"poison {number}" for number in range(4)]
    bench = bench_with_suspects(concurrency, *poison)
    good = [f"good {number}" for number in range(20)]
    bench.record(*good, now=5.0)
    in_flight = bench.sent(5.0)
    for key in good:  # they end at once, the others take their time
        assert key in in_flight
        assert len(in_flight) == concurrency
        if key != good[-1]:
            assert sum(name in poison for name in in_flight) == most
        in_flight.remove(key)
        bench.answer(key, success(), 5.0)
        in_flight += bench.sent(5.0)
    assert in_flight == poison[:concurrency]


def test_signals_that_have_failed_once_go_before_fresh_ones() -> None:
    bench = Bench(BatchPolicy(max_size=1, max_concurrency=4), RetryPolicy(base_delay=1.0))
    bench.record("a", "b", "c", "d")
    for key in bench.sent():
        bench.answer(key, POISONS["time-out"])
    bench.record("e", "f", now=5.0)
    assert bench.sent(5.0) == ["a", "b", "c", "d"]
