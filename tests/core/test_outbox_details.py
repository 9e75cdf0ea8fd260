"""The outbox's smaller print: what its errors say, what it gives back, what it still waits for."""

import sys
from collections import Counter

import pytest

from clocknext_core import (
    BatchPolicy,
    Closed,
    FailedSignal,
    FlushReport,
    Mending,
    Quarantine,
    QueueFullError,
    RetryPolicy,
    Settled,
    SpoolError,
)
from clocknext_core import states as states_module
from clocknext_core.budget import CAPACITY, PRICES
from clocknext_core.states import TRANSITIONS, State, Trigger
from clocknext_core.verdicts import Verdict
from tests.core.bench import Bench, only, report_of, spool_bench
from tests.core.support import encoded, refusal, success

# What its errors say


def only_failure(bench: Bench, now: float = 0.0) -> FailedSignal:
    """Flush, and take the one failure of the report."""
    bench.outbox.flush(now=now)
    (failed,) = report_of(bench.drain(now)).failed
    return failed


def test_a_drop_is_an_error_that_says_why_and_that_sending_again_may_help() -> None:
    full = Bench(BatchPolicy(max_queue_size=1))
    full.record("a", "dropped")
    full.outbox.flush(now=0.0)
    full.sent()
    full.answer("a", success())
    (refused,) = report_of(full.drain()).failed

    oldest = Bench(BatchPolicy(max_queue_size=1, overflow="drop_oldest"))
    oldest.record("dropped", "b")
    oldest.outbox.flush(now=0.0)
    oldest.sent()
    oldest.answer("b", success())
    (displaced,) = report_of(oldest.drain()).failed

    closed = Bench()
    closed.outbox.close(now=0.0)
    closed.drain()
    closed.record("dropped")
    late = only_failure(closed)

    for failed, reason in ((refused, "queue_full"), (displaced, "queue_full"), (late, "closed")):
        assert failed.signal.idempotency_key == "dropped"
        assert failed.error.message == f"The signal was dropped: {reason}."
        assert (failed.error.retryable, failed.error.idempotency_key) == (True, "dropped")
        assert failed.error.status is None


def test_a_signal_put_aside_for_its_age_says_so_to_the_spool_and_to_a_flush() -> None:
    bench = spool_bench(window=100.0)
    bench.store("old")
    bench.drain()
    bench.outbox.flush(now=100.0)
    outputs = bench.drain(100.0)
    bench.adopt(is_last=True, now=100.0)
    outputs += bench.drain(100.0)
    assert only(Quarantine, outputs) == Quarantine("old", "too old to be sent")
    (failed,) = report_of(outputs).failed
    assert failed.error.message == "The signal was dropped: expired."


def test_a_full_queue_that_raises_says_how_full_it_is() -> None:
    bench = Bench(BatchPolicy(max_queue_size=2, overflow="raise"))
    bench.record("a", "b")
    with pytest.raises(QueueFullError) as caught:
        bench.record("c")
    assert caught.value.message == (
        f"2 signals of {2 * len(encoded('a').body)} bytes are held, and max_queue_size or max_queue_bytes "
        "allows no more; this one was not recorded."
    )


def test_a_signal_to_be_mended_says_who_has_it_now() -> None:
    bench = Bench(BatchPolicy(max_size=1))
    bench.record("a")
    bench.sent()
    bench.answer("a", success({"status": "PENDING", "signalId": "sig_1", "receivedAt": "now"}, 202))
    error = only(Mending, bench.drain()).error
    assert error.message == (
        "The server took the signal but could not bill it: it is PENDING, until a person corrects it."
    )
    assert (error.status, error.signal_id, error.received_at) == (202, "sig_1", "now")


def test_a_signal_to_be_mended_may_come_without_an_id_that_is_text() -> None:
    bench = Bench(BatchPolicy(max_size=1))
    bench.record("a")
    bench.sent()
    bench.answer("a", success({"status": "PENDING", "signalId": 7, "receivedAt": []}, 202))
    error = only(Mending, bench.drain()).error
    assert (error.signal_id, error.received_at) == (None, None)


# What it waits for


def test_there_is_work_for_as_long_as_a_signal_is_held() -> None:
    bench = Bench(BatchPolicy(max_size=1), RetryPolicy(base_delay=2.0))
    had_work = [bench.outbox.has_work]
    bench.record("a")
    had_work.append(bench.outbox.has_work)
    assert bench.sent() == ["a"]
    had_work.append(bench.outbox.has_work)
    bench.answer("a", refusal(500))
    bench.drain()
    had_work.append(bench.outbox.has_work)
    assert bench.sent(1.0) == ["a"]
    bench.answer("a", success(), 1.0)
    had_work.append(bench.outbox.has_work)
    assert had_work == [False, True, True, True, False]


@pytest.mark.parametrize("error", [SpoolError("The disk is full."), None], ids=["not stored", "withdrawn"])
def test_a_close_is_over_when_the_last_one_does_not_come_out_of_the_spool(error: SpoolError | None) -> None:
    bench = spool_bench()
    ticket = bench.outbox.record(encoded("a"), now=0.0).ticket
    assert ticket is not None
    close = bench.outbox.close(now=0.0)
    bench.outbox.withdraw(ticket, now=0.0)
    bench.drain()
    bench.adopt(is_last=True)
    bench.outbox.handle_stored(ticket, error, now=1.0)
    outputs = bench.drain(1.0)
    assert Settled(close, FlushReport(0, [], 0)) in outputs
    assert outputs[-1] == Closed()


def test_however_many_wait_for_the_close_each_is_told_of_it() -> None:
    bench = Bench()
    bench.record("a")
    waiting = [bench.outbox.close(now=0.0, deadline_at=5.0) for _ in range(sys.getrecursionlimit())]
    settled = [output for output in bench.drain(5.0) if isinstance(output, Settled)]
    assert [each.ticket for each in settled] == waiting


# What it gives back


def test_an_attempt_that_was_broken_off_gives_back_what_it_took_from_the_budget() -> None:
    bench = Bench(BatchPolicy(max_size=2, max_concurrency=2, outage="drop"), RetryPolicy(base_delay=0.0))
    bench.record("a", "b")
    assert bench.sent() == ["a", "b"]
    for key in "ab":
        bench.answer(key, refusal(500))
    for _ in range(CAPACITY // PRICES[Verdict.UNCLEAR]):
        assert bench.sent() == ["a", "b"], "nothing of the budget is used up"
        for key in "ab":
            bench.outbox.abandon(bench.ticket(key), now=0.0)


# The diagram


def test_states_and_triggers_are_named_as_the_diagram_shows_them() -> None:
    assert [*State] == [
        *("fresh", "in flight", "backing off"),
        *("delivered", "rejected", "dropped", "parked"),
    ]
    assert [*Trigger] == [
        *("transmit", "acknowledged", "failed, to be repeated", "refused", "failed, last attempt"),
        *("attempt abandoned", "queue full, closed, or too old", "closed, with a spool"),
    ]


class Row(dict[Trigger, State]):
    """The moves out of a state; those that are made are counted."""

    def __init__(self, state: State, made: Counter[tuple[State, Trigger]]) -> None:
        super().__init__(TRANSITIONS[state])
        self.state = state
        self.made = made

    def __getitem__(self, trigger: Trigger) -> State:
        self.made[self.state, trigger] += 1
        return super().__getitem__(trigger)


def test_signals_make_every_move_of_the_diagram_and_end_where_they_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Counter[tuple[State, Trigger]]()
    monkeypatch.setattr(states_module, "TRANSITIONS", {state: Row(state, made) for state in State})

    bench = Bench(
        BatchPolicy(max_size=1, max_queue_size=6, overflow="drop_oldest", outage="drop"),
        RetryPolicy(max_attempts=2, base_delay=2.0),
    )
    bench.record(*"abcdef")
    assert bench.sent() == [*"abcde"]
    bench.record("g")  # in place of f
    bench.answer("a", success())
    bench.answer("b", refusal(400))
    bench.answer("c", refusal(500))
    bench.outbox.abandon(bench.ticket("d"), now=0.0)
    assert bench.sent() == ["d", "g"]
    bench.answer("d", refusal(500), 0.5)
    assert bench.sent(1.0) == ["c"]
    bench.answer("c", refusal(500), 1.0)
    bench.record("h", now=1.0)
    bench.outbox.close(now=1.0, deadline_at=1.0)
    assert bench.drain(1.0)[-1] == Closed()

    spooled = spool_bench(BatchPolicy(max_size=1, max_concurrency=2))
    spooled.store(*"abc")
    assert spooled.sent() == ["a", "b"]
    spooled.answer("a", refusal(500))
    spooled.outbox.close(now=0.0, deadline_at=0.0)
    assert spooled.drain()[-1] == Closed()

    assert set(made) == {(state, trigger) for state, moves in TRANSITIONS.items() for trigger in moves}
    ended = Counter(TRANSITIONS[state][trigger] for state, trigger in made.elements())
    stats, stored_stats = bench.outbox.stats(now=1.0), spooled.outbox.stats(now=0.0)
    assert (ended[State.DELIVERED], ended[State.REJECTED]) == (stats.delivered, stats.rejected) == (1, 1)
    assert ended[State.DROPPED] == sum(stats.dropped.values()) == 6
    assert ended[State.PARKED] == stored_stats.parked == 3
