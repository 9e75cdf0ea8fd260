"""The gate, in the smallest cases; the outbox's suites have it among everything else."""

import pytest

from clocknext_core import (
    BatchPolicy,
    Engine,
    Failure,
    RateLimitError,
    RetryPolicy,
    Settled,
    Transmit,
    Wait,
    WaitReason,
)
from clocknext_core.config import Outage
from clocknext_core.delivery import signal_operation
from clocknext_core.envelope import open_answer
from clocknext_core.errors import ClockNextError
from clocknext_core.gate import OUTAGE_AFTER, Gate
from clocknext_core.messages import Answer
from clocknext_core.verdicts import Verdict, judge
from tests.core.support import Dice, answer, config, encoded, refusal, success

LEAST = Dice(0.0)


def gate(outage: Outage = "hold") -> Gate:
    batch = BatchPolicy(max_concurrency=4, outage=outage)
    return Gate(config(batch, RetryPolicy(base_delay=1.0, max_delay=8.0)))


def fail(subject: Gate, times: int, *, now: float, verdict: Verdict = Verdict.DOWN) -> None:
    for _ in range(times):
        subject.observe(verdict, LEAST, sent_at=now, now=now)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (success(), Verdict.WORKS),
        (success({}, 202), Verdict.WORKS),
        (refusal(200), Verdict.WORKS),
        *((refusal(status), Verdict.WORKS) for status in (400, 401, 403, 404, 409, 413, 415, 422)),
        (refusal(302), Verdict.WORKS),
        (refusal(429), Verdict.BUSY),
        *((refusal(status), Verdict.DOWN) for status in (408, 502, 503, 504)),
        (Failure("reset"), Verdict.DOWN),
        (Failure("refused", processed=False), Verdict.DOWN),
        *((refusal(status), Verdict.UNCLEAR) for status in (500, 501, 505, 507, 599)),
        (answer(200, "<html>"), Verdict.DOWN),
        (answer(200, []), Verdict.DOWN),
        (answer(200, {}), Verdict.DOWN),
        *((answer(status, "<html>"), Verdict.DOWN) for status in (203, 299, 408)),
        (answer(429, "<html>"), Verdict.BUSY),
        *((answer(status, "<html>"), Verdict.MISDIRECTED) for status in (302, 404, 500, 502, 503, 504)),
        (refusal(404, result={"errorReason": "NOT_FOUND"}), Verdict.MISDIRECTED),
        (refusal(404, result={"errorReason": "NO_SUCH_CUSTOMER"}), Verdict.WORKS),
    ],
    ids=str,
)
def test_what_an_answer_says_of_the_service(given: Answer, verdict: Verdict) -> None:
    settings = config()
    request = signal_operation(encoded("a")).request(settings)
    outcome = open_answer(given, request=request, config=settings)
    assert judge(outcome if isinstance(outcome, ClockNextError) else None) is verdict


def test_a_gate_is_open_at_first() -> None:
    subject = gate()
    assert (subject.width, subject.state(0.0), subject.is_outage) == (4, "open", False)
    assert subject.opens_at == subject.paused_until == float("-inf")


def test_jitter_only_adds_to_a_pause_and_an_eighth_of_it_or_the_longest_back_off_at_most() -> None:
    for luck, seconds, opens_at in ((0.0, 16.0, 116.0), (0.5, 16.0, 117.0), (0.5, 800.0, 904.0)):
        subject = gate()
        subject.pause(seconds, Dice(luck), now=100.0)
        assert (subject.opens_at, subject.paused_until) == (opens_at, 100.0 + seconds)
        assert (subject.state(opens_at - 0.001), subject.state(opens_at)) == ("paused", "probing")


def test_a_retry_after_of_nothing_pauses_nothing() -> None:
    subject = gate()
    subject.pause(0.0, LEAST, now=1.0)
    assert (subject.width, subject.opens_at) == (4, float("-inf"))


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    subject = gate()
    subject.pause(30.0, LEAST, now=0.0)
    subject.pause(1.0, LEAST, now=1.0)
    assert (subject.opens_at, subject.paused_until) == (30.0, 30.0)


@pytest.mark.parametrize("verdict", [Verdict.DOWN, Verdict.BUSY, Verdict.UNCLEAR])
def test_failures_in_a_row_are_an_outage(verdict: Verdict) -> None:
    subject = gate()
    fail(subject, OUTAGE_AFTER - 1, now=1.0, verdict=verdict)
    assert (subject.is_outage, subject.state(1.0), subject.width) == (False, "open", 4)
    fail(subject, 1, now=1.0, verdict=verdict)
    assert (subject.is_outage, subject.state(1.0), subject.width) == (True, "paused", 1)
    assert subject.opens_at == 1.5
    assert subject.state(1.5) == "probing"


def test_a_gate_for_one_at_a_time_is_open_or_probing_at_the_same_width() -> None:
    subject = Gate(config(BatchPolicy(max_concurrency=1), RetryPolicy(base_delay=1.0)))
    assert (subject.width, subject.state(0.0)) == (1, "open")
    fail(subject, OUTAGE_AFTER, now=0.0)
    assert (subject.width, subject.state(subject.opens_at)) == (1, "probing")
    subject.observe(Verdict.WORKS, LEAST, sent_at=1.0, now=1.0)
    assert (subject.width, subject.state(1.0)) == (1, "open")


def test_one_working_answer_begins_the_count_anew() -> None:
    subject = gate()
    fail(subject, OUTAGE_AFTER - 1, now=1.0)
    subject.observe(Verdict.WORKS, LEAST, sent_at=0.0, now=2.0)
    fail(subject, OUTAGE_AFTER - 1, now=3.0)
    assert not subject.is_outage
    assert subject.worked == 1


def test_each_failed_probe_makes_the_next_pause_longer_up_to_the_policys_longest() -> None:
    subject = gate()
    fail(subject, OUTAGE_AFTER, now=0.0)
    pauses: list[float] = []
    for _ in range(5):
        now = subject.opens_at
        fail(subject, 1, now=now)
        pauses.append(subject.opens_at - now)
    assert pauses == [1.0, 2.0, 4.0, 4.0, 4.0]


def test_what_was_sent_before_the_gate_closed_and_fails_after_it_is_no_news() -> None:
    subject = gate()
    fail(subject, OUTAGE_AFTER, now=2.0)
    for _ in range(10):
        subject.observe(Verdict.DOWN, LEAST, sent_at=1.0, now=2.1)
    assert subject.opens_at == 2.5
    fail(subject, 1, now=2.5)
    assert subject.opens_at == 3.5


def test_a_late_success_ends_the_outage_but_is_no_probe() -> None:
    subject = gate()
    fail(subject, OUTAGE_AFTER, now=2.0)
    subject.observe(Verdict.WORKS, LEAST, sent_at=1.0, now=2.1)
    assert (subject.is_outage, subject.width, subject.opens_at) == (False, 1, 2.5)


def test_a_gate_opens_by_one_for_each_working_answer_and_no_further_than_it_was() -> None:
    subject = gate()
    subject.pause(1.0, LEAST, now=0.0)
    widths: list[tuple[int, str]] = []
    for _ in range(5):
        subject.observe(Verdict.WORKS, LEAST, sent_at=1.0, now=2.0)
        widths.append((subject.width, subject.state(2.0)))
    assert widths == [(2, "ramping"), (3, "ramping"), (4, "open"), (4, "open"), (4, "open")]


def test_where_outages_drop_signals_only_a_retry_after_pauses() -> None:
    subject = gate("drop")
    fail(subject, 50, now=1.0)
    assert (subject.width, subject.opens_at) == (4, float("-inf"))
    subject.pause(1.0, LEAST, now=1.0)
    assert (subject.width, subject.opens_at) == (1, 2.0)


# Awaited calls


def test_a_call_waits_for_a_pause_that_another_was_told_of() -> None:
    engine = Engine(config(), rng=Dice(0.0), make_key=lambda: "key")
    first, second = (engine.call(signal_operation(encoded(key))) for key in "ab")
    transmit = first.poll(now=0.0)
    assert isinstance(transmit, Transmit)
    first.handle_answer(transmit.ticket, refusal(429, retry_after="20"), now=1.0)
    waiting = second.poll(now=1.0)
    assert isinstance(waiting, Wait)
    assert (waiting.until, waiting.reason) == (21.0, WaitReason.GATE)
    assert isinstance(second.poll(now=21.0), Transmit)
    engine.outbox.record(encoded("c"), now=2.0)
    engine.outbox.flush(now=2.0)
    assert engine.outbox.poll(now=2.0) == Wait(21.0)


def test_a_call_that_would_wait_longer_than_its_patience_fails_at_once_with_the_wait() -> None:
    settings = config()
    engine = Engine(settings, rng=Dice(0.0), make_key=lambda: "key")
    engine.outbox.gate.pause(settings.patience + 1.0, LEAST, now=10.0)
    call = engine.call(signal_operation(encoded("a")))
    settled = call.poll(now=10.0)
    assert isinstance(settled, Settled)
    assert isinstance(settled.outcome, RateLimitError)
    error = settled.outcome
    assert (error.retry_after, error.retryable, error.status) == (settings.patience + 1.0, True, None)
    assert (error.idempotency_key, str(error.request)) == ("a", "POST /api/v1/usage")
    assert "another 101 seconds" in error.message
    waiting = engine.call(signal_operation(encoded("b")))
    assert waiting.poll(now=11.0) == Wait(10.0 + settings.patience + 1.0)


def test_a_call_that_is_sent_away_between_two_attempts_does_not_claim_that_none_was_sent() -> None:
    settings = config()
    engine = Engine(settings, rng=Dice(0.0), make_key=lambda: "key")
    call = engine.call(signal_operation(encoded("a")))
    transmit = call.poll(now=0.0)
    assert isinstance(transmit, Transmit)
    call.handle_answer(transmit.ticket, refusal(500), now=1.0)
    call.poll(now=1.0)
    engine.outbox.gate.pause(900.0, LEAST, now=1.0)
    settled = call.poll(now=1.0)
    assert isinstance(settled, Settled)
    assert isinstance(settled.outcome, RateLimitError)
    assert settled.outcome.message.endswith("another 900 seconds; 1 had been sent before.")
