"""Flushes: what each of them covers, what it reports, and when it gives up."""

import math

import pytest

from clocknext_core import ClockNextError, FailedSignal, FlushReport, Settled, Wait, WaitReason
from clocknext_core.flushes import Flush, Flushes
from clocknext_core.states import Entry
from tests.core.bench import report_of, spool_bench
from tests.core.support import encoded, success

PATIENCE = 100.0


class Held:
    """Flushes, and the signals that are held."""

    def __init__(self) -> None:
        self.flushes = Flushes(PATIENCE, memory=3)
        self.entries: dict[str, Entry] = {}
        self.recorded = 0
        self.tickets = 0

    def hold(self, *keys: str, is_adopted: bool = False) -> None:
        for key in keys:
            self.recorded += 1
            self.entries[key] = Entry(self.recorded, encoded(key), 0.0, is_adopted=is_adopted)
            self.flushes.hold(self.entries[key])

    def end(self, *keys: str, error: ClockNextError | None = None) -> None:
        for key in keys:
            failed = None if error is None else FailedSignal(encoded(key), error)
            self.flushes.end(self.entries.pop(key), failed)

    def flush(
        self, *, look: int | None = None, deadline_at: float | None = None, closes: bool = False
    ) -> Flush:
        self.tickets += 1
        adopted = sum(entry.is_adopted for entry in self.entries.values())
        self.flushes.begin(
            self.tickets,
            closes=closes,
            last_sequence=self.recorded,
            own=len(self.entries) - adopted,
            adopted=adopted,
            look=look,
            now=10.0,
            deadline_at=deadline_at,
        )
        return self.flushes.waiting[-1]

    def settle(self, flush: Flush) -> FlushReport:
        return self.flushes.settle(flush, 0)


def test_a_flush_covers_what_earlier_ones_cover_that_have_not_reported_yet() -> None:
    held = Held()
    held.hold("a", "b", "c")
    held.hold("left", "left too", "left behind", is_adopted=True)
    held.end("a", "left")  # before any flush: the next one reports it
    first = held.flush()
    held.hold("not covered", is_adopted=True)
    held.end("left too", "not covered")
    second = held.flush()
    held.end("b", error=ClockNextError("no"))
    third = held.flush()
    assert [held.flushes.first_finished(is_storing=False)] == [None]
    held.end("c", "left behind")
    for flush, adopted in ((first, 3), (second, 4), (third, 4)):
        report = held.settle(flush)
        assert (report.delivered, report.adopted, report.pending) == (adopted + 2, adopted, 0)
        assert [failed.encoded for failed in report.failed] == [encoded("b")]
    held.hold("d")
    held.end("d")
    assert held.settle(held.flush()) == FlushReport(1)


def test_failures_are_kept_up_to_a_limit_the_latest_ones() -> None:
    held = Held()
    held.hold(*"abcdef")
    held.end(*"ab", error=ClockNextError("no"))
    first = held.flush()
    held.end(*"cd", error=ClockNextError("no"))
    second = held.flush()
    held.end("e", error=ClockNextError("no"))
    for flush in (first, second):
        report = held.settle(flush)
        assert [failed.encoded for failed in report.failed] == [encoded(key) for key in "cde"]
        assert report.pending == 1


@pytest.mark.parametrize(("deadline_at", "until"), [(None, 10.0 + PATIENCE), (15.0, 15.0), (500.0, 500.0)])
def test_a_flush_waits_for_adopted_signals_until_its_deadline_or_for_the_patience(
    deadline_at: float | None, until: float
) -> None:
    held = Held()
    flush = held.flush(look=1, deadline_at=deadline_at)
    served_at = 1e6 if deadline_at is None else -math.inf  # a deadline holds whatever the service does
    assert held.flushes.wakes_at(served_at) == until
    assert held.flushes.first_overdue(served_at, math.nextafter(until, 0.0)) is None
    is_waiting = flush.waits_for_adoption
    assert is_waiting
    overdue = held.flushes.first_overdue(served_at, until)
    if deadline_at is None:
        assert overdue is None
        assert not flush.waits_for_adoption
        assert held.flushes.first_finished(is_storing=False) is flush
    else:
        assert overdue is flush


def test_without_a_deadline_a_flush_gives_up_when_the_patience_is_over_since_the_service_worked() -> None:
    held = Held()
    held.hold("a")
    flush = held.flush()
    for served_at, until in ((-math.inf, 110.0), (9.0, 110.0), (30.0, 130.0)):
        assert held.flushes.wakes_at(served_at) == until
        assert held.flushes.first_overdue(served_at, math.nextafter(until, 0.0)) is None
        assert held.flushes.first_overdue(served_at, until) is flush
    held.settle(flush)
    assert held.flushes.wakes_at(0.0) == math.inf
    assert not held.flushes.waiting


def test_a_look_gives_a_flush_what_was_adopted_by_its_end_and_no_more() -> None:
    held = Held()
    early = held.flush(look=1)
    late = held.flush(look=2)
    is_waiting = held.flushes.wait_for_looks
    assert is_waiting
    held.hold("own")
    held.hold("left", is_adopted=True)
    assert (early.adopted, early.own, late.adopted, late.own) == (1, 0, 1, 0)
    held.flushes.end_looks(1, held.recorded)
    assert [flush.look for flush in held.flushes.waiting] == [None, 2]
    held.hold("later", is_adopted=True)
    assert (early.adopted, late.adopted) == (1, 2)
    held.flushes.end_looks(2, held.recorded)
    assert not held.flushes.wait_for_looks
    held.flushes.end_looks(3, held.recorded + 9)  # for others: it moves nothing
    held.hold("last", is_adopted=True)
    assert (early.adopted, late.adopted) == (1, 2)
    held.end("left")
    assert held.flushes.first_finished(is_storing=False) is early
    assert held.settle(early) == FlushReport(1, adopted=1)
    assert held.flushes.first_finished(is_storing=False) is None
    held.end("later")
    assert held.flushes.first_finished(is_storing=True) is late
    assert held.settle(late) == FlushReport(2, adopted=2)


def test_a_close_covers_what_comes_out_of_the_spool_while_it_waits_and_a_flush_does_not() -> None:
    held = Held()
    before = held.flush(look=1)
    close = held.flush(look=1, closes=True)
    after = held.flush(look=1)
    held.hold("a")
    assert [flush.own for flush in (before, close, after)] == [0, 1, 1]
    held.flushes.end_looks(1, held.recorded)
    held.end("a")
    assert [held.flushes.first_finished(is_storing=True)] == [before]
    assert held.settle(before) == FlushReport(0)
    assert held.flushes.first_finished(is_storing=True) is after
    assert held.settle(after) == FlushReport(1)
    assert held.flushes.first_finished(is_storing=True) is None
    assert held.flushes.first_finished(is_storing=False) is close


def test_a_flush_that_waits_for_no_look_covers_nothing_that_is_adopted_later() -> None:
    held = Held()
    held.hold("left", is_adopted=True)
    flush = held.flush()
    held.hold("later", is_adopted=True)
    assert flush.adopted == 1
    held.end("left")
    held.end("later")
    assert held.settle(flush) == FlushReport(1, adopted=1)


def test_a_flush_that_follows_a_close_waits_for_what_is_on_its_way_into_the_spool() -> None:
    bench = spool_bench()
    bench.store("a")
    ticket = bench.outbox.record(encoded("b"), now=0.0).ticket
    assert ticket is not None
    bench.outbox.close(now=0.0)
    later = bench.outbox.flush(now=0.0)
    assert bench.sent() == ["a"]
    bench.adopt(is_last=True, now=0.0)
    bench.outbox.handle_stored(ticket, None, now=0.0)
    assert bench.sent() == ["b"]
    bench.answer("a", success())
    assert not any(isinstance(output, Settled) for output in bench.drain())
    bench.answer("b", success())
    settled = [output for output in bench.drain() if isinstance(output, Settled)]
    assert [(each.ticket, each.outcome) for each in settled][-1] == (later, FlushReport(2))


def test_a_flush_without_a_deadline_wakes_up_to_give_up_on_what_is_adopted() -> None:
    bench = spool_bench()
    bench.store("a")
    bench.outbox.flush(now=0.0)
    bench.drain()
    bench.answer("a", success(), 5.0)  # the service works: the flush would wait longer for own signals
    patience = bench.config.patience
    wait = bench.drain(5.0)[-1]
    assert isinstance(wait, Wait)
    assert (wait.until, wait.reason) == (patience, WaitReason.FLUSH_DEADLINE)
    assert report_of(bench.drain(patience)) == FlushReport(1)
