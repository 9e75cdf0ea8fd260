"""The outbox, promise by promise, in the smallest cases; `test_outbox_properties` has all of them at once."""

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import FrameType
from typing import Any, TypeVar, get_args

import pytest

from clocknext_core import (
    AllowanceError,
    BatchPolicy,
    Closed,
    Delivered,
    Dropped,
    Emptied,
    Failure,
    FlushReport,
    GivenUp,
    Mending,
    QueueFullError,
    Rejected,
    Retrying,
    RetryPolicy,
    ServerError,
    Settled,
    TrackResult,
    Transmit,
    Wait,
    WaitReason,
)
from clocknext_core.config import REDACTED, Overflow
from clocknext_core.envelope import MAX_MESSAGE_LENGTH
from clocknext_core.states import TRANSITIONS, State, Trigger
from tests.core.bench import Bench, failed_keys, only, report_of, settlement
from tests.core.support import KEY, credit, encoded, refusal, success

T = TypeVar("T")

# When sending starts


def test_nothing_is_sent_before_the_batch_is_full_or_its_time_is_up() -> None:
    bench = Bench(BatchPolicy(max_size=3, max_interval=2.0))
    assert bench.drain(0.0) == [Wait(None)]
    bench.record("a", now=1.0)
    bench.record("b", now=2.5)
    assert bench.drain(2.5) == [Wait(3.0)]
    assert bench.sent(2.999) == []
    assert bench.sent(3.0) == ["a", "b"]


def test_a_full_batch_is_sent_at_once_and_then_sending_goes_on_until_nothing_is_left() -> None:
    bench = Bench(BatchPolicy(max_size=2, max_interval=9.0, max_concurrency=1))
    bench.record("a", "b")
    assert bench.sent() == ["a"]
    bench.record("c")
    for key, after in (("a", ["b"]), ("b", ["c"]), ("c", [])):
        bench.answer(key, success())
        assert bench.sent() == after
    bench.record("d", now=5.0)
    assert bench.drain(5.0) == [Wait(14.0)]


def test_a_flush_sends_what_is_there_at_once() -> None:
    bench = Bench()
    bench.record("a", "b")
    assert bench.sent() == []
    bench.outbox.flush(now=0.0)
    assert bench.sent() == ["a", "b"]


def test_an_interval_of_nothing_sends_at_once() -> None:
    bench = Bench(BatchPolicy(max_interval=0.0))
    bench.record("a")
    assert bench.sent() == ["a"]


def test_a_deadline_is_the_attempts_and_the_request_the_recorded_bytes() -> None:
    bench = Bench(BatchPolicy(max_size=1))
    signal = encoded("a")
    bench.outbox.record(signal, now=0.0)
    transmit = only(Transmit, bench.drain(4.0))
    assert transmit.deadline_at == 14.0
    assert transmit.request.body == signal.body
    assert (transmit.request.method, transmit.request.target) == ("POST", "/api/v1/usage")


# Slots, back-off, the gate


def test_a_signal_that_waits_for_its_back_off_holds_no_slot() -> None:
    bench = Bench(BatchPolicy(max_size=1, max_concurrency=1), RetryPolicy(base_delay=4.0))
    bench.record("slow", "b", "c")
    assert bench.sent() == ["slow"]
    bench.answer("slow", refusal(500))
    assert bench.sent() == ["b"]
    bench.answer("b", success(), 1.0)
    assert bench.sent(1.0) == ["c"]
    bench.answer("c", success(), 1.0)
    assert bench.drain(1.0)[-1] == Wait(2.0)
    assert bench.sent(1.999) == []
    assert bench.sent(2.0) == ["slow"]


def test_one_whose_back_off_is_over_goes_before_fresh_ones_and_waits_for_no_batch() -> None:
    bench = Bench(BatchPolicy(max_size=2, max_concurrency=1, max_interval=60.0), RetryPolicy(base_delay=2.0))
    bench.record("a", "b")
    assert bench.sent() == ["a"]
    bench.answer("a", refusal(500))
    assert bench.sent() == ["b"]
    bench.record("c", "d", now=1.0)
    bench.answer("b", success(), 1.0)
    assert bench.sent(1.0) == ["a"]


@pytest.mark.parametrize("status", [429, 503, 400])
def test_while_a_retry_after_lasts_nothing_at_all_is_sent(status: int) -> None:
    bench = Bench(BatchPolicy(max_size=1, max_concurrency=2))
    bench.record("a", "b", "c")
    assert bench.sent() == ["a", "b"]
    bench.answer("a", refusal(status, retry_after="30"), 1.0)
    bench.answer("b", refusal(500), 1.0)
    assert bench.drain(1.0)[-1] == Wait(31.0)
    bench.outbox.flush(now=20.0)
    bench.record("d", now=20.0)
    assert bench.sent(30.999) == []
    assert bench.sent(31.0) == ["b"]


def test_after_a_pause_one_is_sent_as_a_probe_and_then_one_more_for_each_answer() -> None:
    bench = Bench(BatchPolicy(max_size=1, max_concurrency=3))
    bench.record(*"abcdefghij")
    assert bench.sent() == ["a", "b", "c"]
    for key in "abc":
        bench.answer(key, refusal(503, retry_after="30"))
    assert bench.outbox.stats(now=0.0).gate == "paused"
    assert bench.outbox.stats(now=10.0).opens_in == 20.0
    assert bench.sent(30.0) == ["a"]
    assert bench.outbox.stats(now=30.0).gate == "probing"
    bench.answer("a", success(), 31.0)
    assert bench.sent(31.0) == ["b", "c"]
    assert bench.outbox.stats(now=31.0).gate == "ramping"
    bench.answer("b", success(), 31.0)
    assert bench.sent(31.0) == ["d", "e"]
    assert bench.outbox.stats(now=31.0).gate == "open"


def test_an_answer_to_what_was_sent_before_the_pause_is_no_answer_to_the_probe() -> None:
    bench = Bench(BatchPolicy(max_size=1, max_concurrency=3))
    bench.record(*"abcdef")
    bench.sent()
    bench.answer("a", refusal(429, retry_after="5"), 1.0)
    bench.answer("b", success(), 1.0)
    assert bench.sent(6.0) == []  # c still is in flight
    bench.answer("c", success(), 6.0)
    assert bench.sent(6.0) == ["a"]


def test_five_failures_of_the_service_in_a_row_are_an_outage_and_only_probes_go_out() -> None:
    bench = Bench(
        BatchPolicy(max_size=1, max_concurrency=5), RetryPolicy(max_attempts=1, base_delay=2.0, max_delay=8.0)
    )
    bench.record(*(f"{number:02}" for number in range(40)))
    now, sent = 0.0, bench.sent()
    assert len(sent) == 5
    for key in sent:
        bench.answer(key, Failure("refused"))
    for pause in (1.0, 2.0, 4.0, 4.0):
        assert bench.drain(now)[-1] == Wait(now + pause)
        now += pause
        sent = bench.sent(now)
        assert len(sent) == 1
        bench.answer(sent[0], Failure("refused"), now)
    stats = bench.outbox.stats(now=now)
    assert (stats.held, stats.retries, stats.gate) == (40, 9, "paused")


def test_four_failures_of_the_service_in_a_row_are_no_outage() -> None:
    bench = Bench(BatchPolicy(max_size=1, max_concurrency=4))
    bench.record(*(f"{number:02}" for number in range(40)))
    for _ in range(3):
        sent = bench.sent()
        assert len(sent) == 4
        for key in sent[:3]:
            bench.answer(key, refusal(503))
        bench.answer(sent[3], success())
    assert bench.outbox.stats(now=0.0).gate == "open"


def test_a_signal_that_the_service_chokes_on_holds_up_no_other_and_is_given_up() -> None:
    bench = Bench(
        BatchPolicy(max_size=1, max_concurrency=1, max_interval=0.0),
        RetryPolicy(max_attempts=3, base_delay=1.0),
    )
    poison = [f"poison {number}" for number in range(6)]
    bench.record(*poison)
    now, ended = 0.0, set[str | None]()
    for step in range(400):
        if step >= 60 and step % 4 == 0:
            bench.record(f"good {step}", now=now)
        match output := bench.poll(now):
            case Transmit():
                key = bench.names[output.ticket]
                bench.answer(key, refusal(500) if key in poison else success(), now)
            case Wait(until=float(until)):
                now = until
            case GivenUp():
                ended.add(output.signal.idempotency_key)
            case _:
                pass
        if step == 59:
            assert bench.outbox.held == 6, "alone, they say nothing of themselves"
    assert ended == set(poison)
    stats = bench.outbox.stats(now=now)
    assert (stats.delivered, stats.held) == (stats.recorded - 6, 0)


def test_the_last_failure_counts_only_if_the_service_has_worked_since_the_one_before() -> None:
    bench = Bench(BatchPolicy(max_size=1), RetryPolicy(max_attempts=1, base_delay=2.0))
    bench.record("a")
    bench.sent()
    bench.record("b", now=1.0)
    bench.sent(1.0)
    bench.answer("b", success(), 1.0)
    bench.answer("a", refusal(500), 2.0)
    assert only(GivenUp, bench.drain(2.0)).encoded == encoded("a")
    assert bench.outbox.stats(now=2.0).dropped["send_failed"] == 1


def test_a_flush_without_a_deadline_sits_out_an_outage_of_up_to_the_patience() -> None:
    bench = Bench(BatchPolicy(max_concurrency=1))
    bench.record("a", "b")
    bench.outbox.flush(now=0.0)
    bench.sent()
    bench.answer("a", success(), 50.0)
    bench.sent(50.0)
    bench.answer("b", refusal(503, retry_after="900"), 60.0)
    assert bench.drain(60.0)[-1] == Wait(150.0)
    assert report_of(bench.drain(150.0)) == FlushReport(1, [], 1)
    assert bench.outbox.held == 1
    bench.outbox.close(now=200.0)
    assert bench.drain(200.0) == [Wait(300.0)]
    outputs = bench.drain(300.0)
    assert report_of(outputs) == FlushReport(0, [], 1)
    assert Dropped(encoded("b"), "closed") in outputs
    assert outputs[-1] == Closed()


def test_a_shorter_retry_after_does_not_end_a_longer_one() -> None:
    bench = Bench(BatchPolicy(max_size=1, max_concurrency=2), RetryPolicy(max_attempts=1))
    bench.record("a", "b", "c")
    bench.sent()
    bench.answer("a", refusal(429, retry_after="30"))
    bench.answer("b", refusal(429, retry_after="1"))
    assert bench.drain()[-1] == Wait(30.0)


def test_the_gate_outlives_the_signal_that_brought_it() -> None:
    bench = Bench(BatchPolicy(max_size=1), RetryPolicy(max_attempts=1))
    bench.record("a")
    bench.sent()
    bench.answer("a", refusal(503, retry_after="5"))
    bench.drain()
    bench.record("b", now=1.0)
    assert bench.drain(1.0) == [Wait(5.0)]


# How a signal ends


def test_a_delivered_signal_is_told_with_the_servers_answer() -> None:
    bench = Bench(BatchPolicy(max_size=1))
    bench.record("a")
    bench.sent()
    bench.answer("a", success({"usageLog": {"id": "log_1"}}))
    delivered, flushed, wait = bench.drain()
    assert isinstance(delivered, Delivered)
    assert delivered.signal == credit("a")
    assert delivered.result == TrackResult({"usageLog": {"id": "log_1"}}, idempotency_key="a")
    assert (flushed, wait) == (Emptied(1), Wait(None))


def test_a_signal_that_the_server_refuses_is_rejected_and_not_sent_again() -> None:
    bench = Bench(BatchPolicy(max_size=1))
    bench.record("a")
    bench.sent()
    bench.answer("a", refusal(422, "Insufficient balance."))
    rejected, emptied, wait = bench.drain()
    assert isinstance(rejected, Rejected)
    assert isinstance(rejected.error, AllowanceError)
    assert rejected.error.idempotency_key == "a"
    assert (emptied, wait) == (Emptied(0), Wait(None))
    assert bench.outbox.stats(now=0.0).rejected == 1


def test_a_signal_taken_only_to_be_mended_is_delivered_and_told_of_as_an_error() -> None:
    bench = Bench(BatchPolicy(max_size=1))
    bench.record("a")
    bench.sent()
    bench.answer("a", success({"status": "PENDING"}, 202))
    delivered, mending, emptied, _ = bench.drain()
    assert isinstance(delivered, Delivered)
    assert delivered.result.mending
    assert isinstance(mending, Mending)
    assert (mending.error.status, mending.error.retryable, mending.error.idempotency_key) == (
        202,
        False,
        "a",
    )
    assert emptied == Emptied(1)
    assert (bench.outbox.stats(now=0.0).delivered, bench.outbox.stats(now=0.0).rejected) == (1, 0)


def test_what_a_server_calls_a_pending_signal_shows_no_key_and_is_short() -> None:
    bench = Bench(BatchPolicy(max_size=1))
    bench.record("a")
    bench.sent()
    said = {"status": "PENDING", "signalId": f"{KEY}\x1b[2J", "receivedAt": f"{KEY}{'x' * 100_000}"}
    bench.answer("a", success(said, 202))
    mending = next(output for output in bench.drain() if isinstance(output, Mending))
    assert mending.error.signal_id is not None
    assert mending.error.signal_id.startswith(REDACTED)
    assert "\x1b" not in mending.error.signal_id
    assert mending.error.received_at is not None
    assert mending.error.received_at.startswith(REDACTED)
    assert len(mending.error.received_at) <= MAX_MESSAGE_LENGTH


def test_a_signal_is_given_up_after_its_last_attempt_with_its_last_error() -> None:
    bench = Bench(BatchPolicy(max_size=1, outage="drop"), RetryPolicy(max_attempts=2, base_delay=2.0))
    bench.record("a")
    bench.sent()
    bench.answer("a", Failure("refused"))
    retrying, wait = bench.drain()
    assert isinstance(retrying, Retrying)
    assert (retrying.attempt, retrying.delay, retrying.signal) == (1, 1.0, credit("a"))
    assert wait == Wait(1.0)
    assert bench.sent(1.0) == ["a"]
    bench.answer("a", refusal(503, "down"), 1.0)
    given_up = bench.drain(1.0)[0]
    assert isinstance(given_up, GivenUp)
    assert isinstance(given_up.error, ServerError)
    assert given_up.encoded == encoded("a")
    assert bench.outbox.stats(now=0.0).dropped == {
        "queue_full": 0,
        "send_failed": 1,
        "closed": 0,
        "expired": 0,
        "disabled": 0,
    }


def test_a_broken_off_attempt_is_not_counted_and_goes_out_again_first() -> None:
    bench = Bench(BatchPolicy(max_size=1, max_concurrency=1), RetryPolicy(max_attempts=2, base_delay=2.0))
    bench.record("a", "b")
    assert bench.sent() == ["a"]
    ticket = bench.ticket("a")
    bench.outbox.abandon(ticket, now=1.0)
    assert bench.outbox.held == 2
    bench.outbox.abandon(ticket, now=1.0)
    bench.outbox.handle_answer(ticket, success(), now=1.0)
    assert bench.sent(1.0) == ["a"]
    bench.answer("a", refusal(500), 1.0)
    retrying, transmit, _ = bench.drain(1.0)
    assert isinstance(retrying, Retrying)
    assert (retrying.attempt, retrying.delay) == (1, 1.0)
    assert isinstance(transmit, Transmit)
    assert bench.names[transmit.ticket] == "b"


def test_every_move_a_signal_can_make_is_in_the_table_and_the_last_states_are_final() -> None:
    assert set(TRANSITIONS) == set(State)
    final = {State.DELIVERED, State.REJECTED, State.DROPPED, State.PARKED}
    assert {state for state, moves in TRANSITIONS.items() if not moves} == final
    assert {trigger for moves in TRANSITIONS.values() for trigger in moves} == set(Trigger)
    for state in set(State) - final:
        assert TRANSITIONS[state][Trigger.DISCARD] == State.DROPPED


# Overflow


def test_the_newest_is_dropped_by_default_and_the_call_is_told() -> None:
    bench = Bench(BatchPolicy(max_queue_size=2))
    bench.record("a", "b")
    receipt = bench.outbox.record(encoded("c"), now=0.0)
    assert (receipt.result.dropped, receipt.result.queued, receipt.ticket) == ("queue_full", True, None)
    dropped, *sent, _ = bench.drain()
    assert dropped == Dropped(encoded("c"), "queue_full")
    assert len(sent) == 2


def test_what_is_in_flight_or_backing_off_counts_as_held() -> None:
    bench = Bench(BatchPolicy(max_size=1, max_queue_size=2))
    bench.record("a", "b")
    bench.sent()
    bench.answer("a", refusal(500))
    assert bench.outbox.record(encoded("c"), now=0.0).result.dropped == "queue_full"
    bench.answer("b", success())
    assert bench.outbox.record(encoded("d"), now=0.0).result.dropped is None


def test_the_oldest_that_was_never_attempted_makes_room() -> None:
    bench = Bench(BatchPolicy(max_size=3, max_queue_size=3, max_concurrency=1, overflow="drop_oldest"))
    bench.record("a", "b", "c")
    assert bench.sent() == ["a"]
    bench.record("d")
    assert bench.drain() == [Dropped(encoded("b"), "queue_full"), Wait(None)]
    bench.answer("a", success())
    assert bench.sent() == ["c"]


def test_dropping_the_oldest_of_one_does_not_empty_the_buffer() -> None:
    bench = Bench(BatchPolicy(max_queue_size=1, overflow="drop_oldest"))
    bench.record("a", "b")
    dropped, transmit, _ = bench.drain()
    assert dropped == Dropped(encoded("a"), "queue_full")
    assert isinstance(transmit, Transmit)


# A failure that counts


def test_an_ambiguous_failure_counts_only_after_another_signal_has_succeeded_though_the_clock_stands() -> (
    None
):
    bench = Bench(BatchPolicy(max_size=1), RetryPolicy(max_attempts=1, base_delay=0.0))
    bench.record("a")
    bench.sent()
    bench.answer("a", success())
    bench.record("b")  # after "a" was delivered, by a clock that has not moved
    for _ in range(2):
        assert bench.sent() == ["b"]
        bench.answer("b", refusal(500))
    assert only(Retrying, bench.drain()).encoded == encoded("b")
    bench.record("c")
    bench.sent()
    bench.answer("c", success())
    bench.answer("b", refusal(500))
    assert only(GivenUp, bench.drain()).encoded == encoded("b")


def test_an_own_answer_that_shows_the_service_working_makes_no_500_count() -> None:
    bench = Bench(BatchPolicy(max_size=1), RetryPolicy(max_attempts=2, base_delay=1.0))
    bench.record("a")
    bench.sent()
    bench.answer("a", refusal(409))
    assert bench.sent(1.0) == ["a"]
    bench.answer("a", refusal(500), 1.0)
    assert only(Retrying, bench.drain(1.0)).attempt == 2


# A full queue


@pytest.mark.parametrize("overflow", get_args(Overflow))
@pytest.mark.parametrize("limit", ["count", "bytes"])
def test_a_queue_that_is_full_is_sent_at_once(overflow: Overflow, limit: str) -> None:
    size = len(encoded("a").body)
    batch = BatchPolicy(max_size=1000, max_interval=60.0, overflow=overflow, block_timeout=60.0)
    if limit == "count":
        bench = Bench(replace(batch, max_queue_size=3))
    else:
        bench = Bench(replace(batch, max_queue_bytes=3 * size))
    bench.record("a", "b")
    assert bench.sent() == []
    bench.record("c")
    assert bench.sent() == ["a", "b", "c"]
    bench.answer("a", success())
    bench.drain()
    bench.record("d")
    assert bench.sent() == ["d"]


@pytest.mark.parametrize("overflow", get_args(Overflow))
def test_a_queue_that_has_no_room_for_one_more_is_sent_at_once(overflow: Overflow) -> None:
    size = len(encoded("a").body)
    bench = Bench(BatchPolicy(max_interval=60.0, overflow=overflow, max_queue_bytes=3 * size - 1))
    bench.record("a", "b")
    assert bench.sent() == []
    with suppress(QueueFullError):
        bench.record("c")
    assert bench.sent() == (["b", "c"] if overflow == "drop_oldest" else ["a", "b"])


def test_an_outage_that_may_drop_is_none_and_repeats_that_are_due_go_first() -> None:
    bench = Bench(
        BatchPolicy(max_size=1, max_concurrency=1, outage="drop"),
        RetryPolicy(max_attempts=9, base_delay=2.0, max_delay=2.0),
    )
    for number in range(5):
        bench.record(f"{number}")
        assert bench.sent() == [f"{number}"]
        bench.answer(f"{number}", refusal(503))
        bench.drain()
    assert not bench.outbox.gate.is_outage
    assert bench.outbox.stats(now=0.0).gate == "open"
    bench.record("fresh", now=1.0)
    assert bench.sent(1.0) == ["0"]


# What a wait is for


def test_a_wait_says_what_it_is_for() -> None:
    bench = Bench(
        BatchPolicy(max_size=2, max_queue_size=2, overflow="block", block_timeout=1.0),
        RetryPolicy(base_delay=60.0, max_delay=60.0),
    )
    reasons: list[tuple[float | None, WaitReason | None]] = []

    def wait(now: float) -> None:
        output = bench.drain(now)[-1]
        assert isinstance(output, Wait)
        reasons.append((output.until, output.reason))

    wait(0.0)
    bench.record("a")
    wait(0.0)
    bench.record("b")
    bench.record("c")
    wait(0.0)
    bench.answer("a", refusal(500))
    bench.answer("b", refusal(503, retry_after="900"))
    wait(1.0)
    bench.outbox.flush(now=2.0, deadline_at=3.0)
    wait(2.0)
    patient = Bench(BatchPolicy(max_size=1), RetryPolicy(base_delay=60.0, max_delay=60.0))
    patient.record("a")
    patient.sent()
    patient.answer("a", refusal(500))
    output = patient.drain()[-1]
    assert isinstance(output, Wait)
    assert (output.until, output.reason) == (30.0, WaitReason.BACK_OFF)
    assert reasons == [
        (None, None),
        (2.0, WaitReason.INTERVAL),
        (1.0, WaitReason.BLOCK_DEADLINE),
        (900.0, WaitReason.GATE),
        (3.0, WaitReason.FLUSH_DEADLINE),
    ]


def test_an_attempt_can_be_abandoned_and_an_outbox_closed_where_there_is_no_clock() -> None:
    bench = Bench(BatchPolicy(max_size=1))
    bench.record("a", now=5.0)
    assert bench.sent(5.0) == ["a"]
    bench.outbox.abandon(bench.ticket("a"))
    assert bench.sent(5.0) == ["a"]
    bench.answer("a", success(), 5.0)
    bench.outbox.close()
    assert bench.drain(5.0)[-1] == Closed()


def test_attempted_signals_are_not_dropped_for_new_ones() -> None:
    bench = Bench(BatchPolicy(max_size=1, max_queue_size=1, overflow="drop_oldest"))
    bench.record("a")
    bench.sent()
    bench.record("b")
    assert only(Dropped, bench.drain()) == Dropped(encoded("b"), "queue_full")


def test_a_queue_is_full_of_bytes_too() -> None:
    size = len(encoded("a").body)
    bench = Bench(BatchPolicy(max_queue_bytes=2 * size + 1, overflow="raise"))
    bench.record("a", "b")
    assert bench.outbox.held_bytes == 2 * size
    with pytest.raises(QueueFullError, match=f"2 signals of {2 * size} bytes are held"):
        bench.record("c")
    bench.outbox.flush(now=0.0)
    bench.sent()
    bench.answer("a", success())
    bench.record("c")
    assert bench.outbox.held_bytes == 2 * size


def test_the_oldest_make_room_for_a_large_one_but_not_for_one_that_will_never_fit() -> None:
    size = len(encoded("a").body)
    bench = Bench(BatchPolicy(max_queue_bytes=4 * size, overflow="drop_oldest"))
    bench.record(*"abcd")
    large = encoded(replace(credit("large"), custom={"text": "x" * size}))
    huge = encoded(replace(credit("huge"), custom={"text": "x" * 4 * size}))
    assert bench.outbox.record(large, now=0.0).result.dropped is None
    assert bench.outbox.record(huge, now=0.0).result.dropped == "queue_full"
    dropped = [output.signal.idempotency_key for output in bench.drain() if isinstance(output, Dropped)]
    assert dropped == ["a", "b", "c", "huge"]


@pytest.mark.parametrize("overflow", ["block", "raise"])
def test_a_full_queue_drops_the_newest_where_the_call_can_neither_wait_nor_fail(overflow: Overflow) -> None:
    bench = Bench(BatchPolicy(max_queue_size=1, overflow=overflow))
    bench.outbox.record(encoded("a"), now=0.0, may_wait=False)
    receipt = bench.outbox.record(encoded("b"), now=0.0, may_wait=False)
    assert (receipt.ticket, receipt.result.dropped) == (None, "queue_full")
    assert Dropped(encoded("b"), "queue_full") in bench.drain()
    assert bench.outbox.stats(now=0.0).recorded == 2


def test_a_call_that_can_not_wait_makes_room_by_dropping_the_oldest_as_others_do() -> None:
    bench = Bench(BatchPolicy(max_queue_size=1, overflow="drop_oldest"))
    bench.outbox.record(encoded("a"), now=0.0, may_wait=False)
    assert bench.outbox.record(encoded("b"), now=0.0, may_wait=False).result.dropped is None
    assert Dropped(encoded("a"), "queue_full") in bench.drain()


def test_a_full_queue_may_raise_and_then_nothing_was_recorded() -> None:
    bench = Bench(BatchPolicy(max_queue_size=1, overflow="raise"))
    bench.record("a")
    with pytest.raises(QueueFullError) as caught:
        bench.record("b")
    assert (caught.value.idempotency_key, caught.value.retryable) == ("b", True)
    assert bench.outbox.stats(now=0.0).recorded == 1
    assert bench.sent() == ["a"]


@pytest.mark.parametrize("overflow", ["block", "raise"])
def test_a_signal_larger_than_the_whole_queue_raises_at_once_and_holds_up_no_other(
    overflow: Overflow,
) -> None:
    size = len(encoded("a").body)
    bench = Bench(BatchPolicy(max_queue_bytes=2 * size, overflow=overflow))
    room = 2 * size - len(encoded(replace(credit("exact"), custom={"text": ""})).body)
    exact = encoded(replace(credit("exact"), custom={"text": "x" * room}))
    huge = encoded(replace(credit("huge"), custom={"text": "x" * (room + 2)}))
    assert (len(exact.body), len(huge.body)) == (2 * size, 2 * size + 1)
    with pytest.raises(QueueFullError) as caught:
        bench.outbox.record(huge, now=0.0)
    assert (caught.value.idempotency_key, caught.value.retryable) == ("huge", False)
    assert caught.value.message == (
        f"The signal has {len(huge.body)} bytes, and max_queue_bytes is {2 * size}: it would never fit. "
        "It was not recorded; raise max_queue_bytes, or send it with wait=True."
    )
    assert bench.outbox.stats(now=0.0).recorded == 0
    assert bench.outbox.record(exact, now=0.0).ticket is None
    assert bench.sent() == ["exact"]


def test_what_is_let_in_is_sent_at_once_while_another_call_waits_for_room() -> None:
    size = len(encoded("a").body)
    batch = BatchPolicy(max_size=1000, max_interval=60.0, overflow="block", max_queue_bytes=3 * size - 1)
    bench = Bench(batch)
    bench.record("a", "b", "c", "d")
    assert bench.sent() == ["a", "b"]
    bench.answer("a", success(), 1.0)
    assert bench.sent(1.0) == ["c"]
    bench.answer("b", success(), 2.0)
    assert bench.sent(2.0) == []  # nothing waits for room any more
    assert bench.poll(2.0) == Wait(62.0)


@pytest.mark.parametrize("way", ["its time is up", "it is withdrawn"])
def test_a_call_that_waits_no_longer_makes_way_for_the_next(way: str) -> None:
    size, large = len(encoded("a").body), encoded("c" * 200)
    batch = BatchPolicy(max_size=1, overflow="block", block_timeout=3.0, max_queue_bytes=3 * size - 1)
    bench = Bench(batch)
    bench.record("a", "b")
    blocked = bench.outbox.record(large, now=0.0).ticket
    assert blocked is not None
    bench.record("d", now=1.0)
    assert bench.sent(1.0) == ["a", "b"]
    bench.answer("a", success(), 2.0)
    assert bench.sent(2.0) == []  # there is room for "d", but it is not its turn
    if way == "it is withdrawn":
        bench.outbox.withdraw(blocked, now=2.5)
        assert bench.sent(2.5) == ["d"]
    else:
        assert bench.sent(3.0) == ["d"]


def blocking_bench() -> Bench:
    return Bench(BatchPolicy(max_size=1, max_queue_size=1, overflow="block", block_timeout=3.0))


def test_a_call_may_wait_for_room_and_is_let_in_in_turn() -> None:
    bench = blocking_bench()
    bench.record("a")
    assert bench.sent() == ["a"]
    tickets = [bench.outbox.record(encoded(key), now=0.0).ticket for key in ("b", "c")]
    assert None not in tickets
    assert bench.drain() == [Wait(3.0)]
    assert bench.outbox.stats(now=0.0).recorded == 1
    bench.answer("a", success(), 1.0)
    settled = settlement(bench.drain(1.0))
    assert settled.ticket == tickets[0]
    assert settled.unwrap() == TrackResult({}, idempotency_key="b", queued=True)
    bench.answer("b", success(), 2.0)
    assert settlement(bench.drain(2.0)).ticket == tickets[1]


def test_a_call_that_waits_for_room_too_long_is_told_that_its_signal_is_dropped() -> None:
    bench = blocking_bench()
    bench.record("a")
    bench.sent()
    ticket = bench.outbox.record(encoded("b"), now=1.0).ticket
    dropped, settled, wait = bench.drain(4.0)
    assert dropped == Dropped(encoded("b"), "queue_full")
    assert isinstance(settled, Settled)
    assert settled.ticket == ticket
    assert settled.unwrap() == TrackResult({}, idempotency_key="b", queued=True, dropped="queue_full")
    assert wait == Wait(None)


def test_a_call_that_gave_up_waiting_is_forgotten_unless_it_was_let_in() -> None:
    bench = blocking_bench()
    bench.record("a")
    bench.sent()
    first, second = (bench.outbox.record(encoded(key), now=0.0).ticket for key in ("b", "c"))
    assert first is not None
    assert second is not None
    bench.outbox.withdraw(first, now=0.0)
    bench.answer("a", success())
    assert settlement(bench.drain()).ticket == second
    bench.outbox.withdraw(second, now=0.0)
    assert (bench.outbox.held, bench.outbox.stats(now=0.0).recorded) == (1, 2)


def test_close_lets_in_the_calls_that_wait() -> None:
    bench = blocking_bench()
    bench.record("a")
    bench.sent()
    bench.outbox.record(encoded("b"), now=0.0)
    bench.outbox.close(now=0.0)
    assert isinstance(settlement(bench.drain()).unwrap(), TrackResult)
    bench.answer("a", success())
    bench.drain()
    bench.answer("b", success())
    assert report_of(bench.drain()).delivered == 2


# Flush


def test_a_flush_of_nothing_settles_at_once() -> None:
    bench = Bench()
    ticket = bench.outbox.flush(now=0.0)
    assert bench.drain() == [Settled(ticket, FlushReport(0, [], 0)), Wait(None)]


def test_a_flush_counts_what_became_of_everything_before_it() -> None:
    bench = Bench(BatchPolicy(outage="drop"), RetryPolicy(max_attempts=1))
    bench.record("a", "b", "c")
    bench.outbox.flush(now=0.0)
    bench.sent()
    bench.answer("c", refusal(500))
    bench.answer("b", refusal(400))
    assert not any(isinstance(output, Settled) for output in bench.drain())
    bench.answer("a", success())
    report = report_of(bench.drain())
    assert (report.delivered, failed_keys(report), report.pending) == (1, ["c", "b"], 0)
    assert [type(failed.error).__name__ for failed in report.failed] == ["ServerError", "ValidationError"]


def test_later_signals_do_not_delay_a_flush_nor_count_in_it() -> None:
    bench = Bench(BatchPolicy(max_size=1))
    bench.record("a")
    bench.outbox.flush(now=0.0)
    bench.record("b")
    assert bench.sent() == ["a", "b"]
    bench.answer("a", success())
    report = report_of(bench.drain())
    assert (report.delivered, report.pending) == (1, 0)
    bench.answer("b", success())
    bench.drain()
    bench.outbox.flush(now=0.0)
    assert report_of(bench.drain()).delivered == 1


def test_a_flush_tells_of_what_ended_before_it_once() -> None:
    bench = Bench(BatchPolicy(max_size=1, max_queue_size=2))
    bench.record("a", "b", "c")
    bench.sent()
    bench.answer("a", success())
    bench.answer("b", refusal(400))
    bench.drain()
    for delivered, failed in ((1, ["c", "b"]), (0, [])):
        bench.outbox.flush(now=0.0)
        report = report_of(bench.drain())
        assert (report.delivered, failed_keys(report), report.pending) == (delivered, failed, 0)


def test_a_flush_out_of_time_reports_what_is_pending_and_drops_nothing() -> None:
    bench = Bench(retry=RetryPolicy(base_delay=60.0, max_delay=60.0))
    bench.record("a", "b")
    bench.outbox.flush(now=0.0, deadline_at=5.0)
    bench.sent()
    bench.answer("a", success())
    bench.answer("b", refusal(500))
    assert bench.drain()[-1] == Wait(5.0)
    report = report_of(bench.drain(5.0))
    assert (report.delivered, failed_keys(report), report.pending) == (1, [], 1)
    assert bench.outbox.held == 1
    assert bench.sent(30.0) == ["b"]
    bench.answer("b", success(), 30.0)
    bench.drain(30.0)
    bench.outbox.flush(now=30.0)
    assert report_of(bench.drain(30.0)).delivered == 1


def test_flushes_at_the_same_time_each_get_a_full_report() -> None:
    bench = Bench()
    bench.record("a")
    first = bench.outbox.flush(now=0.0)
    bench.record("b")
    second = bench.outbox.flush(now=0.0)
    bench.sent()
    bench.answer("b", success())
    bench.answer("a", success())
    settled = [output for output in bench.drain() if isinstance(output, Settled)]
    assert settled == [Settled(first, FlushReport(1, [], 0)), Settled(second, FlushReport(2, [], 0))]


def test_failures_that_nobody_asked_for_are_kept_up_to_the_queues_size_the_latest_of_them() -> None:
    bench = Bench(BatchPolicy(max_size=1, max_queue_size=2, max_concurrency=2))
    for key in "abcde":
        bench.record(key)
        bench.sent()
        bench.answer(key, refusal(400))
        bench.drain()
    bench.outbox.flush(now=0.0)
    assert failed_keys(report_of(bench.drain())) == ["d", "e"]


def test_the_latest_failures_are_kept_when_one_flush_takes_over_from_another() -> None:
    bench = Bench(BatchPolicy(max_size=1, max_queue_size=2))
    bench.record("a", "b")
    bench.sent()
    bench.answer("a", refusal(400))
    bench.drain()
    bench.outbox.flush(now=0.0)  # waits for b, has a to tell
    bench.record("c")
    bench.sent()
    bench.answer("c", refusal(400))
    bench.record("d")
    bench.sent()
    bench.answer("d", refusal(400))
    bench.drain()
    second = bench.outbox.flush(now=0.0)
    bench.answer("b", success())
    settled = {output.ticket: output.unwrap() for output in bench.drain() if isinstance(output, Settled)}
    report = settled[second]
    assert isinstance(report, FlushReport)
    assert (report.delivered, failed_keys(report)) == (1, ["c", "d"])


def test_the_buffer_is_told_empty_each_time_with_what_was_delivered_since() -> None:
    bench = Bench(BatchPolicy(max_size=1), RetryPolicy(max_attempts=1))
    counts: list[int] = []
    for keys, bad in (("ab", ""), ("cde", "d"), ("f", "f")):
        bench.record(*keys)
        bench.sent()
        for key in keys:
            bench.answer(key, refusal(400) if key in bad else success())
        counts += [output.count for output in bench.drain() if isinstance(output, Emptied)]
    assert counts == [2, 2, 0]


# Close


def test_close_flushes_then_refuses_and_reports_what_comes_after() -> None:
    bench = Bench()
    bench.record("a")
    ticket = bench.outbox.close(now=0.0)
    assert bench.outbox.is_closing
    late = bench.outbox.record(encoded("b"), now=0.0)
    assert late.result.dropped == "closed"
    assert only(Dropped, bench.drain()) == Dropped(encoded("b"), "closed")
    bench.answer("a", success())
    delivered, flushed, settled, closed = bench.drain()
    assert isinstance(delivered, Delivered)
    assert flushed == Emptied(1)
    assert settled == Settled(ticket, FlushReport(1, [], 0))
    assert closed == Closed()
    bench.record("c")
    assert bench.drain() == [Dropped(encoded("c"), "closed"), Closed()]


def test_close_out_of_time_reports_what_is_pending_then_drops_it() -> None:
    bench = Bench(BatchPolicy(max_concurrency=1), RetryPolicy(base_delay=60.0, max_delay=60.0))
    bench.record("a", "b", "c")
    bench.outbox.close(now=0.0, deadline_at=5.0)
    assert bench.sent() == ["a"]
    bench.answer("a", refusal(500))
    assert bench.sent() == ["b"]
    outputs = bench.drain(5.0)
    assert report_of(outputs) == FlushReport(0, [], 3)
    dropped = [output.signal.idempotency_key for output in outputs if isinstance(output, Dropped)]
    assert dropped == ["a", "b", "c"]
    assert outputs[-1] == Closed()
    bench.answer("b", success(), 6.0)
    assert bench.drain(6.0) == [Closed()]
    counts = bench.outbox.stats(now=0.0)
    assert (counts.held, counts.delivered, counts.dropped["closed"]) == (0, 0, 3)


@pytest.mark.parametrize("second", ["flush", "close"])
def test_a_close_and_another_wait_may_run_out_of_time_together(second: str) -> None:
    bench = Bench()
    bench.record("a")
    first = bench.outbox.close(now=0.0, deadline_at=5.0)
    other = getattr(bench.outbox, second)(now=0.0, deadline_at=5.0)
    bench.sent()
    outputs = bench.drain(6.0)
    assert sorted(output.ticket for output in outputs if isinstance(output, Settled)) == [first, other]
    assert [output for output in outputs if isinstance(output, Dropped)] == [Dropped(encoded("a"), "closed")]
    assert outputs[-1] == Closed()


def test_closing_again_or_flushing_after_the_end_settles_at_once() -> None:
    bench = Bench()
    bench.outbox.close(now=0.0)
    bench.drain()
    for again in (bench.outbox.close, bench.outbox.flush):
        ticket = again(now=0.0)
        assert bench.drain() == [Settled(ticket, FlushReport(0, [], 0)), Closed()]


# Time and tickets


def test_a_clock_set_back_stands_still() -> None:
    bench = Bench(BatchPolicy(max_interval=2.0))
    bench.record("a", now=100.0)
    bench.record("b", now=-50.0)
    assert bench.drain(0.0) == [Wait(102.0)]
    assert bench.sent(102.0) == ["a", "b"]
    bench.record("c", now=0.0)
    assert bench.drain(50.0) == [Wait(104.0)]


def test_a_late_or_unknown_ticket_changes_nothing() -> None:
    bench = Bench(BatchPolicy(max_size=1), RetryPolicy(base_delay=2.0))
    bench.record("a")
    bench.sent()
    first = bench.ticket("a")
    bench.answer("a", refusal(500))
    for ticket in (first, -1, 999):
        bench.outbox.handle_answer(ticket, refusal(429, retry_after="900"), now=0.0)
        bench.outbox.abandon(ticket, now=0.0)
        bench.outbox.withdraw(ticket, now=0.0)
    assert bench.drain()[-1] == Wait(1.0)
    assert bench.sent(1.0) == ["a"]
    bench.outbox.handle_answer(first, success(), now=1.0)
    assert bench.outbox.held == 1


def test_a_driver_is_told_when_an_input_makes_its_sleep_too_long() -> None:
    bench = Bench(BatchPolicy(max_size=2, max_interval=2.0))
    outbox = bench.outbox
    assert bench.drain() == [Wait(None)]
    assert not outbox.wakes_before(None)
    bench.record("a")
    assert outbox.wakes_before(None)
    assert bench.drain() == [Wait(2.0)]
    assert not outbox.wakes_before(2.0)
    bench.record("b")
    assert outbox.wakes_before(2.0)
    assert bench.sent() == ["a", "b"]
    assert not outbox.wakes_before(None)
    bench.answer("a", refusal(400))
    assert outbox.wakes_before(None)
    bench.drain()
    outbox.flush(now=0.0, deadline_at=9.0)
    assert outbox.wakes_before(None)
    assert not outbox.wakes_before(9.0)
    outbox.close(now=0.0)
    bench.answer("b", success())
    assert bench.drain()[-1] == Closed()
    assert outbox.wakes_before(1.0)


def test_a_driver_is_told_that_it_has_overslept() -> None:
    outbox = Bench(BatchPolicy(max_size=2, max_interval=9.0)).outbox
    outbox.record(encoded("a"), now=4.0)
    assert not outbox.wakes_before(4.0)
    assert outbox.wakes_before(3.5)


# Work per signal


def steps_of(work: Callable[[], object]) -> int:
    """Count the bytecode instructions run: a measure of work that no busy machine can change."""
    count = 0

    def note(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return note

    before = sys.gettrace()
    try:
        # Python 3.12 traces opcodes only after some frame has asked for it, so one asks before it counts.
        for each in (lambda: None, work):
            count = 0
            sys.settrace(note)
            each()
    finally:
        sys.settrace(before)
    return count


def steps_with(held: int, *, attempted: bool) -> dict[str, int]:
    """Measure each operation on an outbox that holds so many signals, fresh ones or such that back off."""
    batch = BatchPolicy(
        max_size=held * 2, max_queue_size=held + 3, max_concurrency=held + 3, overflow="drop_oldest"
    )
    bench = Bench(batch, RetryPolicy(base_delay=60.0, max_delay=60.0))
    outbox, signal = bench.outbox, encoded("held")
    for _ in range(held):
        outbox.record(signal, now=0.0)
    if attempted:
        outbox.flush(now=0.0)
        for _ in range(held):
            transmit = outbox.poll(now=0.0)
            assert isinstance(transmit, Transmit)
            outbox.abandon(transmit.ticket, now=1.0)
    assert outbox.held == held
    steps: dict[str, int] = {}

    def measure(name: str, work: Callable[[], T]) -> T:
        results: list[T] = []
        steps[name] = steps_of(lambda: results.append(work()))
        return results[0]

    def transmitted() -> int:
        output = outbox.poll(now=1.0)
        assert isinstance(output, Transmit)
        return output.ticket

    measure("record", lambda: outbox.record(signal, now=1.0))
    measure("flush", lambda: outbox.flush(now=1.0, deadline_at=9.0))
    tickets = [measure("transmit", transmitted) for _ in range(3)]
    measure("delivery", lambda: outbox.handle_answer(tickets[0], success(), now=1.0))
    measure("retry", lambda: outbox.handle_answer(tickets[1], refusal(429, retry_after="2"), now=1.0))
    measure("refusal", lambda: outbox.handle_answer(tickets[2], refusal(400), now=1.0))
    measure("polls", lambda: bench.drain(1.0))
    measure("wakes", lambda: outbox.wakes_before(2.0))
    measure("counts", lambda: outbox.stats(now=0.0))
    while outbox.held < batch.max_queue_size:
        outbox.record(signal, now=1.0)
    measure("overflow", lambda: outbox.record(signal, now=1.0))
    return steps


@pytest.mark.parametrize("attempted", [False, True], ids=["fresh", "backing off"])
def test_the_work_for_one_signal_does_not_grow_with_how_many_are_held(*, attempted: bool) -> None:
    few, many = (steps_with(held, attempted=attempted) for held in (100, 100_000))
    assert few.keys() == many.keys()
    assert all(few.values())
    grown = {name: (few[name], many[name]) for name in few if many[name] > few[name] * 1.2 + 50}
    assert grown == {}


def test_the_measure_of_work_would_notice_a_scan() -> None:
    def scan(size: int) -> int:
        return steps_of(lambda: [each for each in range(size) if each < 0])

    assert scan(1000) > scan(100) * 5
