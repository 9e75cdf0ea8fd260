"""The engine hands out machines that share its configuration, randomness, keys and gate."""

import pytest

from clocknext_core import (
    Adopt,
    BatchPolicy,
    ClockNextError,
    Config,
    Engine,
    Operation,
    RateLimitError,
    Retrying,
    RetryPolicy,
    Settled,
    SpooledOutbox,
    Transmit,
    ValidationError,
    Wait,
)
from clocknext_core.resources.payloads import nothing
from tests.core.support import KEY, Dice, config, counting_keys, encoded, refusal

LISTING: Operation[None] = Operation("GET", "/api/v1/plans", nothing)


def engine(settings: Config, luck: float = 0.0) -> Engine:
    return Engine(settings, rng=Dice(luck), make_key=counting_keys())


@pytest.mark.parametrize(
    ("mode", "wait", "is_awaited"),
    [("async", None, False), ("async", True, True), ("sync", None, True), ("sync", False, False)],
)
def test_the_mode_says_whether_a_signal_is_awaited_where_the_call_does_not(
    mode: str, wait: bool | None, is_awaited: bool
) -> None:
    settings = Config(KEY, mode="sync" if mode == "sync" else "async")
    assert engine(settings).is_awaited(wait) is is_awaited


def test_a_wait_that_is_no_bool_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match=r"^wait: must be True or False, not int$"):
        engine(config()).is_awaited(1)  # type: ignore[arg-type]


def test_the_jitter_of_buffered_signals_is_the_engines() -> None:
    settings = config(BatchPolicy(max_size=1), RetryPolicy(base_delay=2.0))
    delays: list[float] = []
    for luck in (0.0, 0.5):
        outbox = engine(settings, luck).outbox
        outbox.record(encoded("a"), now=0.0)
        sent = outbox.poll(now=0.0)
        assert isinstance(sent, Transmit)
        outbox.handle_answer(sent.ticket, refusal(500), now=0.0)
        retrying = outbox.poll(now=0.0)
        assert isinstance(retrying, Retrying)
        delays.append(retrying.delay)
    assert delays == [1.0, 1.5]


def test_with_a_spool_a_failed_look_is_repeated_by_the_engines_jitter() -> None:
    looks_at: list[float | None] = []
    for luck in (0.0, 0.5):
        outbox = engine(Config(KEY, spool_window=60.0), luck).outbox
        assert isinstance(outbox, SpooledOutbox)
        assert isinstance(outbox.poll(now=0.0), Adopt)
        outbox.handle_adoption_failed(now=0.0)
        waiting = outbox.poll(now=0.0)
        assert isinstance(waiting, Wait)
        looks_at.append(waiting.until)
    assert looks_at == [0.1, pytest.approx(0.15)]


def test_a_closed_client_says_so() -> None:
    closed = engine(config())
    closed.outbox.close(now=0.0)
    with pytest.raises(ClockNextError) as caught:
        closed.call(LISTING)
    assert str(caught.value) == "The client is closed: make another one."


def test_a_call_that_the_gate_holds_back_for_too_long_says_for_how_long_and_what_it_sent() -> None:
    shared = engine(config())
    first = shared.call(LISTING)
    sent = first.poll(now=0.0)
    assert isinstance(sent, Transmit)
    first.handle_answer(sent.ticket, refusal(503, retry_after="50"), now=0.0)
    assert isinstance(first.poll(now=0.0), Retrying)
    shared.outbox.gate.pause(200.0, Dice(0.0), now=0.0)
    for call, told in ((first, "1 had been sent before."), (shared.call(LISTING), "none was sent.")):
        settled = call.poll(now=0.0)
        assert isinstance(settled, Settled)
        assert isinstance(settled.outcome, RateLimitError)
        assert str(settled.outcome) == f"The service asked for no requests for another 200 seconds; {told}"
        assert settled.outcome.retry_after == 200.0
