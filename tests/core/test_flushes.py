"""Flushes that overlap: each waits for what it covers, and gives up in its own time."""

from clocknext_core import FlushReport, Settled, Wait, WaitReason
from tests.core.bench import report_of, spool_bench
from tests.core.support import encoded, success


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
