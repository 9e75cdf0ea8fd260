"""A spool from which other processes take signals at the same time: what differs from one of our own."""

from dataclasses import replace

import pytest

from clocknext_core import (
    Adopt,
    BatchPolicy,
    Closed,
    Config,
    Emptied,
    Erase,
    Failure,
    FlushReport,
    GiveBack,
    Quarantine,
    Settled,
    SpooledOutbox,
    Transmit,
    ValidationError,
    Wait,
    WaitReason,
)
from clocknext_core.adoption import ADOPTED_AT_ONCE, SHARED_LOOK_INTERVAL, SHARED_LOOKS
from clocknext_core.gate import OUTAGE_AFTER
from tests.core.bench import SpoolBench, only, report_of
from tests.core.support import KEY, Dice, encoded, refusal, success

DOWN = Failure("connection refused")
WINDOW = 3600.0


def bench(batch: BatchPolicy | None = None, jitter: float = 0.0) -> SpoolBench:
    made = SpoolBench(batch)
    made.config = replace(made.config, is_spool_shared=True)
    made.outbox = SpooledOutbox(made.config, Dice(jitter))
    return made


def in_outage(keys: int = 10) -> SpoolBench:
    """A machine that adopted ten signals, of which as many as make an outage have failed."""
    made = bench()
    only(Adopt, made.drain())
    made.adopt(*map(str, range(keys)), is_last=True)
    sent = made.sent()
    assert len(sent) == OUTAGE_AFTER
    for key in sent:
        made.answer(key, DOWN)
    return made


@pytest.mark.parametrize("jitter", [0.0, 0.5])
def test_a_look_that_found_nothing_is_repeated_soon_and_at_random(jitter: float) -> None:
    made = bench(jitter=jitter)
    made.look_in_vain()
    (wait,) = made.drain()
    assert wait == Wait(SHARED_LOOK_INTERVAL * (0.2 + 0.8 * jitter))
    assert isinstance(wait, Wait)
    assert wait.reason is WaitReason.ADOPTION


def test_a_look_that_fails_is_repeated_within_seconds_for_ever() -> None:
    made = bench(jitter=0.99)
    now = 0.0
    for _ in range(30):
        only(Adopt, made.drain(now))
        made.outbox.handle_adoption_failed(now=now)
        (wait,) = made.drain(now)
        assert isinstance(wait, Wait)
        assert wait.until is not None
        assert wait.until - now <= SHARED_LOOKS.max_delay
        now = wait.until


def test_what_the_server_refuses_is_put_in_quarantine_with_its_word() -> None:
    made = bench()
    only(Adopt, made.drain())
    made.adopt("a", "b")
    assert made.sent() == ["a", "b"]
    made.answer("a", refusal(422, "no such plan"))
    made.answer("b", success())
    outputs = made.drain()
    aside = only(Quarantine, outputs)
    assert aside.idempotency_key == "a"
    assert aside.reason.startswith("refused: ")
    assert "no such plan" in aside.reason
    assert Erase("b") in outputs
    assert made.outbox.stats(now=0.0).rejected == 1


def test_in_an_outage_what_was_never_attempted_is_given_back_latest_first() -> None:
    made = in_outage()
    outputs = made.drain()
    assert [each.idempotency_key for each in outputs if isinstance(each, GiveBack)] == [*"98765"]
    assert not any(isinstance(each, Emptied | Adopt) for each in outputs)
    stats = made.outbox.stats(now=0.0)
    assert (stats.recorded, stats.held, stats.parked, stats.left_behind) == (10, 5, 5, 5)
    assert stats.held_bytes > 0


def test_what_was_attempted_stays_and_probes_and_nothing_is_adopted_until_the_outage_is_over() -> None:
    made = in_outage()
    now = 0.0
    for _ in range(20):
        last = made.drain(now)[-1]
        assert isinstance(last, Wait)
        assert last.until is not None
        now = last.until
        outputs = made.drain(now)
        assert not any(isinstance(each, Adopt | GiveBack) for each in outputs)
        for each in outputs:
            if isinstance(each, Transmit):
                made.outbox.handle_answer(each.ticket, DOWN, now=now)
    while not (sent := made.sent(now)):
        last = made.drain(now)[-1]
        assert isinstance(last, Wait)
        assert last.until is not None
        now = last.until
    made.answer(sent[0], success(), now)
    assert only(Adopt, made.drain(now)).limit == ADOPTED_AT_ONCE


def test_where_nothing_is_left_to_probe_with_one_signal_is_adopted() -> None:
    made = in_outage(keys=5)
    made.drain()
    now = WINDOW  # each is too old when its turn comes
    outputs = made.drain(now)
    assert made.outbox.held == 0
    assert only(Adopt, outputs).limit == 1
    made.adopt("x", "y", now=now)
    outputs = made.drain(now)
    assert [each.idempotency_key for each in outputs if isinstance(each, GiveBack)] == ["y"]
    assert made.outbox.held == 1
    assert not any(isinstance(each, Adopt) for each in outputs)


def test_a_flush_waits_no_longer_for_what_was_given_back() -> None:
    made = in_outage(keys=7)
    made.outbox.flush(now=0.0)
    outputs = made.drain()
    assert sum(isinstance(each, GiveBack) for each in outputs) == 2
    now = 0.0
    for _ in range(20):
        sent = [made.names[each.ticket] for each in outputs if isinstance(each, Transmit)]
        for key in sent:
            made.answer(key, success(), now)
        if not sent:
            last = outputs[-1]
            assert isinstance(last, Wait)
            now = last.until or now
        outputs = made.drain(now)
        if any(isinstance(each, Adopt) for each in outputs):
            made.adopt(is_last=True, now=now)
            outputs += made.drain(now)
        if any(isinstance(each, Settled) for each in outputs):
            assert report_of(outputs) == FlushReport(5, [], 0, 5, 0)
            assert made.outbox.stats(now=now).parked == 2
            return
    raise AssertionError("the flush did not end")


def test_what_is_given_back_makes_room_for_a_call_that_waits() -> None:
    made = bench(BatchPolicy(max_queue_size=8, overflow="block"))
    only(Adopt, made.drain())
    made.adopt(*map(str, range(8)))
    sent = made.sent()
    waiting = made.outbox.record(encoded("mine"), now=0.0)
    assert waiting.ticket is not None
    for key in sent:
        made.answer(key, DOWN)
    outputs = made.drain()
    assert sum(isinstance(each, GiveBack) for each in outputs) == 3
    assert made.outbox.stats(now=0.0).storing == 1


def test_a_close_looks_for_no_more_signals_and_gives_up_in_time() -> None:
    made = bench()
    only(Adopt, made.drain())
    made.adopt("a", "b")
    assert made.sent() == ["a", "b"]
    made.outbox.close(now=0.0)
    outputs = made.drain()
    assert not any(isinstance(each, Adopt | Closed) for each in outputs)
    made.answer("a", success())
    made.answer("b", success())
    outputs = made.drain()
    assert report_of(outputs).delivered == 2
    assert outputs[-1] == Closed()


def test_the_configuration_says_so_with_a_bool() -> None:
    with pytest.raises(ValidationError, match="is_spool_shared"):
        Config(KEY, spool_window=1.0, is_spool_shared="yes")  # type: ignore[arg-type]
