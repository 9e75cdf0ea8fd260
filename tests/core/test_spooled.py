"""The outbox with a spool beneath it, promise by promise, in the smallest cases."""

from collections.abc import Callable

import pytest

from clocknext_core import (
    Adopt,
    Adopted,
    BatchPolicy,
    Closed,
    Delivered,
    Dropped,
    Erase,
    Failure,
    FlushReport,
    GivenUp,
    KeyRefused,
    Quarantine,
    Rejected,
    Retrying,
    Settled,
    SpooledOutbox,
    SpoolError,
    Store,
    Transmit,
    Wait,
    WaitReason,
)
from clocknext_core.adoption import LOOK_INTERVAL, LOOKS
from tests.core.bench import SpoolBench, failed_keys, only, report_of, settlement, spool_bench
from tests.core.support import encoded, refusal, success

NEXT_LOOK = Wait(LOOK_INTERVAL)
"""What a machine says that has looked at 0.0, and has nothing else to do."""

# Storing


def test_a_signal_is_held_once_it_is_in_the_spool_and_its_call_waits_for_that() -> None:
    bench = spool_bench()
    receipt = bench.outbox.record(encoded("a"), now=0.0)
    assert receipt.ticket is not None
    assert bench.drain() == [Store(receipt.ticket, encoded("a")), NEXT_LOOK]
    stats = bench.outbox.stats(now=0.0)
    assert (stats.recorded, stats.held, stats.storing) == (0, 0, 1)
    assert bench.outbox.has_work
    bench.outbox.handle_stored(receipt.ticket, None, now=1.0)
    assert bench.drain(1.0) == [Settled(receipt.ticket, receipt.result), Wait(3.0)]
    stats = bench.outbox.stats(now=1.0)
    assert (stats.recorded, stats.held, stats.storing) == (1, 1, 0)
    assert bench.sent(3.0) == ["a"]
    bench.answer("a", success(), 4.0)
    assert bench.drain(4.0)[0] == Erase("a")
    assert bench.outbox.has_work  # there is the next look
    bench.outbox.close(now=4.0)
    only(Adopt, bench.drain(4.0))
    bench.adopt(is_last=True, now=4.0)
    assert bench.drain(4.0)[-1] == Closed()
    assert not bench.outbox.has_work


def test_what_could_not_be_stored_is_not_recorded_and_its_call_fails() -> None:
    bench = spool_bench()
    ticket = bench.outbox.record(encoded("a"), now=0.0).ticket
    assert ticket is not None
    error = SpoolError("The disk is full.")
    bench.outbox.handle_stored(ticket, error, now=0.0)
    *_, settled, wait = bench.drain()
    assert (settled, wait) == (Settled(ticket, error), NEXT_LOOK)
    assert bench.outbox.stats(now=0.0).recorded == 0
    bench.outbox.handle_stored(ticket, None, now=0.0)  # late: a no-op
    assert bench.drain() == [NEXT_LOOK]


def test_what_no_call_waits_for_and_could_not_be_stored_is_reported_as_given_up() -> None:
    bench = spool_bench()
    error = SpoolError("The disk is full.")
    for key in "ab":
        ticket = bench.outbox.record(encoded(key), now=0.0, may_wait=False).ticket
        assert ticket is not None
        bench.outbox.handle_stored(ticket, error, now=0.0)
        assert GivenUp(encoded(key), error) in bench.drain()
    bench.outbox.flush(now=0.0)
    bench.drain()
    bench.adopt(is_last=True, now=0.0)
    report = report_of(bench.drain())
    assert failed_keys(report) == ["a", "b"]
    assert [each.error for each in report.failed] == [error] * 2
    stats = bench.outbox.stats(now=0.0)
    assert (stats.recorded, stats.held, stats.dropped["send_failed"]) == (2, 0, 2)


def test_what_no_call_waits_for_is_dropped_by_a_full_queue() -> None:
    bench = spool_bench(BatchPolicy(max_queue_size=1, overflow="raise"))
    bench.outbox.record(encoded("a"), now=0.0, may_wait=False)
    receipt = bench.outbox.record(encoded("b"), now=0.0, may_wait=False)
    assert (receipt.ticket, receipt.result.dropped) == (None, "queue_full")
    assert Dropped(encoded("b"), "queue_full") in bench.drain()


def test_signals_on_their_way_into_the_spool_fill_the_queue() -> None:
    bench = spool_bench(BatchPolicy(max_queue_size=2))
    for key in "ab":
        assert bench.outbox.record(encoded(key), now=0.0).result.dropped is None
    assert bench.outbox.record(encoded("c"), now=0.0).result.dropped == "queue_full"
    size = len(encoded("a").body)
    bench = spool_bench(BatchPolicy(max_queue_bytes=2 * size))
    for key in "ab":
        assert bench.outbox.record(encoded(key), now=0.0).result.dropped is None
    assert bench.outbox.record(encoded("c"), now=0.0).result.dropped == "queue_full"


def test_a_signal_on_its_way_into_the_spool_is_not_sent_in_place_of_the_one_it_drove_out() -> None:
    bench = spool_bench(BatchPolicy(max_size=1, max_queue_size=1, overflow="drop_oldest"))
    bench.store("a")
    ticket = bench.outbox.record(encoded("b"), now=0.0).ticket
    assert ticket is not None
    outputs = bench.drain()
    assert [output for output in outputs if isinstance(output, Transmit)] == []
    assert Erase("a") in outputs
    assert Dropped(encoded("a"), "queue_full") in outputs
    bench.outbox.handle_stored(ticket, None, now=0.0)
    assert bench.sent() == ["b"]


def test_a_call_that_gave_up_while_its_signal_was_being_stored_has_recorded_nothing() -> None:
    bench = spool_bench()
    ticket = bench.outbox.record(encoded("a"), now=0.0).ticket
    assert ticket is not None
    bench.outbox.withdraw(ticket, now=0.0)
    bench.outbox.handle_stored(ticket, None, now=0.0)
    assert bench.drain()[1:] == [Erase("a"), NEXT_LOOK]
    assert bench.outbox.stats(now=0.0).recorded == 0


def test_a_call_that_waits_for_room_waits_under_the_same_ticket_for_the_spool() -> None:
    bench = spool_bench(BatchPolicy(max_queue_size=1, overflow="block"))
    first = bench.outbox.record(encoded("a"), now=0.0).ticket
    blocked = [bench.outbox.record(encoded(key), now=0.0).ticket for key in "bcd"]
    assert first is not None
    assert blocked[0] is not None
    bench.drain()
    bench.outbox.withdraw(blocked[0], now=0.0)
    bench.outbox.withdraw(999, now=0.0)  # unknown: a no-op
    bench.outbox.handle_stored(first, SpoolError("The disk is full."), now=0.0)
    store = only(Store, bench.drain())
    assert (store.ticket, store.signal) == (blocked[1], encoded("c"))
    bench.outbox.withdraw(store.ticket, now=0.0)
    bench.outbox.handle_stored(store.ticket, None, now=0.0)
    store = only(Store, bench.drain())
    assert (store.ticket, store.signal) == (blocked[2], encoded("d"))


@pytest.mark.parametrize("closes", [False, True])
def test_no_flush_waits_for_ever_for_a_signal_that_is_always_being_processed(closes: bool) -> None:
    bench = spool_bench(BatchPolicy(max_size=1))
    bench.store("a")
    begin = bench.outbox.close if closes else bench.outbox.flush
    begin(now=0.0)
    now = 0.0
    reports: list[FlushReport] = []
    while now <= bench.config.patience:
        for output in bench.drain(now):
            match output:
                case Transmit():
                    bench.answer("a", refusal(409), now)
                case Adopt():
                    bench.adopt(is_last=True, now=now)
                case Settled(outcome=FlushReport() as report):
                    reports.append(report)
                case _:
                    pass
        now += 1.0
    (report,) = reports
    assert (report.delivered, report.pending) == (0, 1)


def test_what_is_stored_is_sent_at_once_while_a_call_waits_for_room() -> None:
    size = len(encoded("a").body)
    batch = BatchPolicy(max_size=1000, max_interval=50.0, overflow="block", max_queue_bytes=2 * size - 1)
    bench = spool_bench(batch)
    first = bench.outbox.record(encoded("a"), now=0.0).ticket
    assert first is not None
    bench.record("b")  # while the first one is not stored yet
    bench.drain()
    bench.outbox.handle_stored(first, None, now=1.0)
    assert bench.sent(1.0) == ["a"]


def test_a_close_ends_when_what_was_on_its_way_could_not_be_stored() -> None:
    bench = spool_bench()
    ticket = bench.outbox.record(encoded("a"), now=0.0).ticket
    assert ticket is not None
    close = bench.outbox.close(now=0.0)
    bench.drain()
    bench.adopt(is_last=True)
    bench.outbox.handle_stored(ticket, SpoolError("The disk is full."), now=0.0)
    outputs = bench.drain()
    assert Settled(close, FlushReport(0)) in outputs
    assert outputs[-1] == Closed()


def test_there_is_work_until_what_is_on_its_way_into_the_spool_is_there() -> None:
    bench = spool_bench()
    ticket = bench.outbox.record(encoded("a"), now=0.0).ticket
    assert ticket is not None
    bench.outbox.close(now=0.0, deadline_at=1.0)
    assert bench.drain(1.0)[-1] == Closed()
    assert bench.outbox.has_work
    bench.outbox.handle_stored(ticket, None, now=1.0)
    assert not bench.outbox.has_work


INPUTS: dict[str, Callable[[SpooledOutbox, float], object]] = {
    "record": lambda outbox, now: outbox.record(encoded("z"), now=now),
    "handle_stored": lambda outbox, now: outbox.handle_stored(999, None, now=now),
    "handle_adopted": lambda outbox, now: outbox.handle_adopted([], is_last=True, now=now),
    "handle_adoption_failed": lambda outbox, now: outbox.handle_adoption_failed(now=now),
    "handle_expired": lambda outbox, now: outbox.handle_expired(encoded("z"), now=now),
    "handle_answer": lambda outbox, now: outbox.handle_answer(999, success(), now=now),
    "abandon": lambda outbox, now: outbox.abandon(999, now=now),
    "withdraw": lambda outbox, now: outbox.withdraw(999, now=now),
    "flush": lambda outbox, now: outbox.flush(now=now),
    "close": lambda outbox, now: outbox.close(now=now),
    "poll": lambda outbox, now: outbox.poll(now=now),
}


@pytest.mark.parametrize("name", INPUTS)
def test_the_clock_of_every_input_holds_and_never_goes_back(name: str) -> None:
    bench = spool_bench(BatchPolicy(max_size=1))
    bench.store("a")
    bench.sent()
    bench.answer("a", refusal(503, retry_after="100"))
    assert bench.outbox.gate.opens_at == 100.0
    INPUTS[name](bench.outbox, 40.0)
    assert bench.outbox.stats(now=30.0).opens_in == 60.0


def test_what_is_in_the_spool_is_given_up_for_no_failure() -> None:
    bench = spool_bench(BatchPolicy(max_size=1, outage="drop"))
    bench.store("a")
    now = 0.0
    for _ in range(20):
        outputs = bench.drain(now)
        assert not any(isinstance(output, Dropped | GivenUp | Rejected) for output in outputs)
        wait = outputs[-1]
        assert isinstance(wait, Wait)
        if wait.reason is WaitReason.BACK_OFF:
            now = wait.until or 0.0
        else:
            bench.answer("a", refusal(500), now)
    assert bench.outbox.held == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_told_once_and_the_signal_waits_for_another(status: int) -> None:
    bench = spool_bench(BatchPolicy(max_size=1))
    bench.store("a")
    assert bench.sent() == ["a"]
    bench.answer("a", refusal(status))
    refused, retrying, wait = bench.drain()
    assert isinstance(refused, KeyRefused)
    assert refused.error.status == status
    assert isinstance(retrying, Retrying)
    assert isinstance(wait, Wait)
    assert wait.until is not None
    assert bench.sent(wait.until) == ["a"]
    bench.answer("a", refusal(status), wait.until)
    assert not any(isinstance(output, KeyRefused) for output in bench.drain(wait.until))
    assert bench.outbox.held == 1


@pytest.mark.parametrize("status", [400, 404, 422])
def test_any_other_refusal_ends_a_stored_signal_too(status: int) -> None:
    bench = spool_bench(BatchPolicy(max_size=1))
    bench.store("a")
    bench.sent()
    bench.answer("a", refusal(status))
    outputs = bench.drain()
    assert outputs[0] == Erase("a")
    assert only(Rejected, outputs).error.status == status


def test_what_is_left_at_the_close_stays_in_the_spool() -> None:
    bench = spool_bench(BatchPolicy(max_size=1, max_concurrency=1))
    bench.store("a", "b", "c")
    assert bench.sent() == ["a"]
    bench.answer("a", Failure("refused"))
    late = bench.outbox.record(encoded("d"), now=0.0).ticket
    assert late is not None
    bench.drain()
    bench.outbox.close(now=0.0, deadline_at=5.0)
    first = bench.outbox.flush(now=0.0)
    outputs = bench.drain(5.0)
    assert not any(isinstance(output, Dropped | Erase) for output in outputs)
    reports = [output.unwrap() for output in outputs if isinstance(output, Settled)]
    assert [report.pending for report in reports if isinstance(report, FlushReport)] == [3, 3]
    assert first in [output.ticket for output in outputs if isinstance(output, Settled)]
    bench.outbox.handle_stored(late, None, now=6.0)
    settled, closed = bench.drain(6.0)
    assert isinstance(settled, Settled)
    assert closed == Closed()
    stats = bench.outbox.stats(now=6.0)
    assert (stats.recorded, stats.parked, stats.held, stats.held_bytes) == (4, 4, 0, 0)
    bench.adopt("e", now=6.0)
    assert bench.outbox.stats(now=6.0).parked == 5


def test_a_close_waits_for_what_is_on_its_way_into_the_spool() -> None:
    bench = spool_bench()
    ticket = bench.outbox.record(encoded("a"), now=0.0).ticket
    assert ticket is not None
    close = bench.outbox.close(now=0.0)
    assert not any(isinstance(output, Settled) for output in bench.drain())
    bench.adopt(is_last=True)
    assert not any(isinstance(output, Settled) for output in bench.drain())
    bench.outbox.handle_stored(ticket, None, now=0.0)
    assert bench.sent() == ["a"]
    bench.answer("a", success())
    outputs = bench.drain()
    assert Settled(close, FlushReport(1, [], 0)) in outputs
    assert outputs[-1] == Closed()


def test_a_signal_past_the_window_is_put_aside_and_not_sent() -> None:
    bench = spool_bench(BatchPolicy(max_size=1, max_concurrency=1), window=100.0)
    bench.store("old", "young")
    assert bench.sent() == ["old"]
    bench.answer("old", refusal(503, retry_after="99.5"))
    bench.drain(60.0)
    bench.adopt("older", age=60.0 + 60.0 - 0.5, now=60.0)
    assert bench.sent(99.5) == ["old"]
    bench.answer("old", refusal(503), 99.75)
    outputs = bench.drain(100.0)
    put_aside = [output.idempotency_key for output in outputs if isinstance(output, Quarantine)]
    dropped = [output for output in outputs if isinstance(output, Dropped)]
    assert put_aside == ["young", "old", "older"] or sorted(put_aside) == ["old", "older", "young"]
    assert {output.reason for output in dropped} == {"expired"}
    assert not any(isinstance(output, Transmit | Erase) for output in outputs)
    assert bench.outbox.stats(now=100.0).dropped["expired"] == 3


def test_what_is_adopted_is_sent_at_once_and_the_batch_goes_on_filling() -> None:
    bench = SpoolBench(BatchPolicy(max_size=2, max_interval=60.0))
    assert bench.poll() == Adopt(500)
    bench.store("a")
    bench.adopt()
    assert bench.sent() == []
    bench.adopt("b", age=1.0)
    assert bench.sent() == ["b"]


def test_the_process_own_signals_go_before_those_adopted() -> None:
    bench = SpoolBench(BatchPolicy(max_size=1, max_concurrency=1))
    bench.poll()
    bench.adopt("b", "c", age=60.0)
    bench.store("a")
    assert bench.sent() == ["a"]
    for key, after in (("a", ["b"]), ("b", ["c"])):
        bench.answer(key, success())
        assert bench.sent() == after


def test_the_oldest_that_makes_room_is_an_adopted_one() -> None:
    bench = SpoolBench(BatchPolicy(max_queue_size=2, overflow="drop_oldest"))
    bench.poll()
    bench.store("a")
    bench.adopt("b", age=60.0)
    bench.record("c")
    outputs = bench.drain()
    assert only(Dropped, outputs) == Dropped(encoded("b"), "queue_full")
    assert Erase("b") in outputs


def test_a_stored_signal_that_was_too_old_to_be_taken_over_is_told_and_counted() -> None:
    bench = spool_bench()
    bench.outbox.handle_expired(encoded("old"), now=1.0)
    assert bench.drain(1.0) == [Dropped(encoded("old"), "expired"), NEXT_LOOK]
    stats = bench.outbox.stats(now=1.0)
    assert (stats.recorded, stats.dropped["expired"], stats.held) == (1, 1, 0)
    bench.outbox.flush(now=1.0)
    bench.drain(1.0)
    bench.adopt(is_last=True, now=1.0)
    assert failed_keys(report_of(bench.drain(1.0))) == ["old"]


def test_the_signals_of_dead_processes_are_taken_over_while_there_is_room() -> None:
    bench = SpoolBench(BatchPolicy(max_queue_size=4, max_concurrency=1))
    assert bench.outbox.has_work
    assert bench.outbox.wakes_before(None)
    assert bench.poll() == Adopt(3)
    assert not bench.outbox.wakes_before(None)
    bench.adopt("a", "b", "c", age=1.0)
    assert bench.sent() == ["a"]
    bench.answer("a", success())
    assert bench.sent() == ["b"]
    bench.answer("b", success())
    outputs = bench.drain()
    assert [type(output) for output in outputs] == [Erase, Adopt, Delivered, Transmit, Wait]


# When to look for what dead processes left


def test_a_look_that_found_something_is_followed_by_another_until_nothing_is_left() -> None:
    bench = SpoolBench(BatchPolicy(max_concurrency=9))
    assert bench.poll() == Adopt(500)
    bench.adopt("a")
    assert isinstance(bench.poll(), Adopt)
    bench.adopt()  # all that was found can't be read: there may be more
    assert isinstance(bench.poll(), Adopt)
    bench.adopt(is_last=True)
    assert bench.sent() == ["a"]


def test_a_process_that_lives_on_looks_again() -> None:
    bench = spool_bench()
    for minute in (1, 2, 3):
        at = 60.0 * minute
        assert bench.drain(at - 1.0) == [Wait(at)]
        assert bench.outbox.wakes_before(None)
        assert not bench.outbox.wakes_before(at)
        bench.look_in_vain(at)


def test_a_look_that_fails_is_repeated_with_a_back_off() -> None:
    bench = SpoolBench()
    now, delays = 0.0, list[float]()
    for _ in range(12):
        assert isinstance(bench.poll(now), Adopt)
        bench.outbox.handle_adoption_failed(now=now)
        wait = bench.poll(now)
        assert isinstance(wait, Wait)
        assert wait.until is not None
        assert wait.reason is WaitReason.ADOPTION
        delays.append(wait.until - now)
        now = wait.until
    assert delays[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert max(delays) == LOOK_INTERVAL / 2
    assert isinstance(bench.poll(now), Adopt)
    bench.adopt("a", now=now)
    assert isinstance(bench.poll(now), Adopt)
    bench.outbox.handle_adoption_failed(now=now)
    assert bench.sent(now) == ["a"]
    assert bench.outbox.poll(now=now + 0.1) == Adopt(500)


def test_a_spool_that_can_not_be_looked_into_any_more_is_looked_into_no_more() -> None:
    bench = SpoolBench()
    bench.poll()
    bench.outbox.handle_adoption_failed(is_final=True, now=0.0)
    assert bench.drain() == [Wait(None)]
    flush = bench.outbox.flush(now=0.0)
    assert bench.drain() == [Settled(flush, FlushReport(0)), Wait(None)]


def test_what_is_known_to_be_left_is_in_the_stats_and_in_the_report() -> None:
    bench = SpoolBench(BatchPolicy(max_concurrency=9))
    bench.poll()
    bench.outbox.handle_adopted([Adopted(encoded("a"), 1.0)], is_last=False, left_behind=7, now=0.0)
    assert bench.outbox.stats(now=0.0).left_behind == 7
    bench.outbox.flush(now=0.0, deadline_at=5.0)
    assert bench.sent() == ["a"]
    bench.answer("a", success())
    assert report_of(bench.drain(5.0)) == FlushReport(1, [], 0, adopted=1, left_behind=7)


# A flush and what dead processes left


def test_a_flush_waits_for_what_dead_processes_left() -> None:
    bench = SpoolBench(BatchPolicy(max_concurrency=9))
    bench.store("own")
    flush = bench.outbox.flush(now=0.0, deadline_at=10.0)
    assert bench.sent() == ["own"]
    bench.adopt("a", "b")
    bench.answer("own", success(), 1.0)
    assert bench.sent(1.0) == ["a", "b"]
    bench.answer("a", success(), 2.0)
    bench.answer("b", refusal(422), 2.0)
    assert not any(isinstance(output, Settled) for output in bench.drain(2.0))
    bench.adopt(is_last=True, now=3.0)
    outputs = bench.drain(3.0)
    report = report_of(outputs)
    assert settlement(outputs).ticket == flush
    assert (report.delivered, report.adopted, failed_keys(report), report.pending) == (2, 1, ["b"], 0)


def test_a_flush_has_the_spool_looked_into_again_even_if_a_look_is_under_way() -> None:
    bench = SpoolBench(BatchPolicy(max_concurrency=9))
    assert isinstance(bench.poll(), Adopt)
    bench.outbox.flush(now=0.0)
    bench.adopt(is_last=True)
    outputs = bench.drain()
    only(Adopt, outputs)
    assert not any(isinstance(output, Settled) for output in outputs)
    bench.adopt("left meanwhile")
    assert bench.sent() == ["left meanwhile"]
    bench.answer("left meanwhile", success())
    bench.drain()
    bench.adopt(is_last=True)
    assert report_of(bench.drain()) == FlushReport(1, adopted=1)


def test_what_is_adopted_after_a_flush_has_looked_does_not_delay_it() -> None:
    bench = spool_bench(BatchPolicy(max_concurrency=9))
    bench.store("own")
    bench.outbox.flush(now=0.0)
    assert bench.sent() == ["own"]
    bench.adopt(is_last=True)
    assert bench.drain(60.0)[0] == Adopt(500)
    bench.adopt("later", now=60.0)
    bench.answer("own", success(), 60.0)
    report = report_of(bench.drain(60.0))
    assert (report.delivered, report.adopted, report.pending) == (1, 0, 0)


def test_later_signals_that_take_the_room_of_a_look_do_not_delay_the_flush_that_waits_for_it() -> None:
    bench = SpoolBench(BatchPolicy(max_queue_size=2))
    assert isinstance(bench.poll(), Adopt)
    bench.outbox.flush(now=0.0)
    bench.store("later")
    bench.adopt(is_last=True)
    assert bench.sent() == ["later"]
    bench.answer("later", success())
    only(Adopt, bench.drain())
    bench.adopt(is_last=True)
    assert report_of(bench.drain()) == FlushReport(0)


def test_a_flush_ends_at_its_deadline_however_much_was_left() -> None:
    bench = SpoolBench(BatchPolicy(max_concurrency=1, max_queue_size=100))
    bench.outbox.flush(now=0.0, deadline_at=2.0)
    now, number = 0.0, 0
    while True:
        match output := bench.poll(now):
            case Adopt():
                bench.adopt(*(f"{number + each:05}" for each in range(output.limit)), now=now)
                number += output.limit
            case Transmit():
                now += 0.01
                bench.outbox.handle_answer(output.ticket, success(), now=now)
            case Settled():
                break
            case _:
                pass
    assert now == pytest.approx(2.0)
    report = output.unwrap()
    assert isinstance(report, FlushReport)
    assert (report.delivered, report.adopted) == (200, 200)
    assert report.pending == bench.outbox.held > 0


def test_without_a_deadline_a_flush_waits_for_adopted_ones_up_to_the_patience() -> None:
    bench = SpoolBench(BatchPolicy(max_concurrency=2))
    bench.store("own")
    bench.outbox.flush(now=0.0)
    assert bench.sent() == ["own"]
    bench.adopt("left")
    bench.drain()
    bench.outbox.handle_answer(bench.ticket("left"), refusal(503, retry_after="50"), now=50.0)
    assert bench.drain(50.0)[-1] == Wait(100.0)  # max_attempts times the time-out and the longest back-off
    assert not any(isinstance(output, Settled) for output in bench.drain(99.0))
    bench.answer("own", success(), 99.0)
    assert not any(isinstance(output, Settled) for output in bench.drain(99.0))
    report = report_of(bench.drain(100.0))
    assert (report.delivered, report.adopted, report.pending) == (1, 0, 1)


def test_a_flush_goes_on_for_its_own_when_it_waits_for_adopted_ones_no_longer() -> None:
    bench = SpoolBench(BatchPolicy(max_concurrency=1))
    bench.store("a", "b")
    bench.outbox.flush(now=0.0)
    assert bench.sent() == ["a"]
    bench.answer("a", success(), 60.0)
    assert bench.sent(60.0) == ["b"]
    assert bench.drain(100.0)[-1] == Wait(160.0)
    bench.answer("b", success(), 120.0)
    report = report_of(bench.drain(120.0))
    assert (report.delivered, report.pending) == (2, 0)


def test_a_flush_waits_for_a_few_failed_looks_and_not_for_ever() -> None:
    bench = SpoolBench()
    bench.outbox.flush(now=0.0)
    now, looks = 0.0, 0
    while True:
        match output := bench.poll(now):
            case Adopt():
                looks += 1
                bench.outbox.handle_adoption_failed(now=now)
            case Wait(until=float(until)):
                now = until
            case Settled():
                break
            case _:
                pass
    assert output.unwrap() == FlushReport(0)
    assert looks == LOOKS.max_attempts
    assert now < 5.0


def test_a_flush_that_comes_during_the_last_of_many_failed_looks_has_another() -> None:
    bench = SpoolBench()
    now = 0.0
    for _ in range(LOOKS.max_attempts - 1):
        only(Adopt, bench.drain(now))
        bench.outbox.handle_adoption_failed(now=now)
        wait = bench.poll(now)
        assert isinstance(wait, Wait)
        now = wait.until or now
    only(Adopt, bench.drain(now))
    bench.outbox.flush(now=now)
    bench.outbox.handle_adoption_failed(now=now)
    outputs = bench.drain(now)
    only(Adopt, outputs)
    assert not any(isinstance(output, Settled) for output in outputs)
    bench.adopt(is_last=True, now=now)
    assert report_of(bench.drain(now)) == FlushReport(0)


def test_a_close_looks_too_and_leaves_the_rest() -> None:
    bench = spool_bench(BatchPolicy(max_concurrency=1))
    bench.outbox.close(now=0.0, deadline_at=5.0)
    only(Adopt, bench.drain())
    bench.adopt("a", "b")
    assert bench.sent() == ["a"]
    bench.answer("a", success(), 1.0)
    assert bench.sent(1.0) == ["b"]
    outputs = bench.drain(5.0)
    assert report_of(outputs) == FlushReport(1, [], 1, adopted=1)
    assert outputs[-1] == Closed()
    assert bench.outbox.stats(now=5.0).parked == 1
    bench.adopt(is_last=True, now=6.0)
    bench.outbox.handle_adoption_failed(now=6.0)
    assert bench.drain(600.0) == [Closed()]


def test_signals_adopted_by_the_time_a_flush_begins_count_in_it() -> None:
    bench = SpoolBench(BatchPolicy(max_concurrency=1))
    bench.poll()
    bench.adopt("a", "b")
    assert bench.sent() == ["a"]
    bench.adopt(is_last=True)
    bench.answer("a", success())
    bench.outbox.flush(now=0.0)
    assert bench.sent() == ["b"]
    bench.adopt(is_last=True)
    bench.answer("b", success())
    assert report_of(bench.drain()) == FlushReport(2, adopted=2)
