"""What each answer does to a buffered signal: every status, with every kind of body.

Only the API's word about the signal ends it. Whatever else comes back (a proxy's page, a router's refusal, a
framework's error) is the service's failure: the signal stays held.
"""

from collections.abc import Callable

import pytest

from clocknext_core import (
    Dropped,
    Engine,
    Erase,
    GivenUp,
    KeyRefused,
    Misdirected,
    Rejected,
    Response,
    Retrying,
    Settled,
    SpooledOutput,
    Transmit,
    Wait,
)
from clocknext_core.config import BatchPolicy, RetryPolicy
from clocknext_core.delivery import signal_operation
from clocknext_core.errors import ClockNextError, classify
from tests.core.bench import Bench, SpoolBench, only, spool_bench
from tests.core.support import Dice, answer, config, encoded, refusal, success

STATUSES = (
    *(200, 201, 202, 203, 300, 301, 302, 303, 304, 307, 308),
    *(
        400,
        401,
        402,
        403,
        404,
        405,
        406,
        407,
        408,
        409,
        410,
        411,
        413,
        414,
        415,
        421,
        422,
        425,
        426,
        428,
        429,
    ),
    *(431, 444, 451, 499, 500, 501, 502, 503, 504, 505, 507, 511, 520, 522, 530, 599),
)

PAGES: dict[str, Callable[[int], Response]] = {
    "no body": lambda status: answer(status, b""),
    "text": lambda status: answer(status, "default backend"),
    "HTML": lambda status: answer(status, "<html><h1>Not here</h1></html>"),
    "foreign JSON": lambda status: answer(status, {"error": {"code": status, "status": "UNKNOWN"}}),
    "framework's JSON": lambda status: answer(
        status, {"statusCode": status, "error": "Some Error", "message": "Route POST:/api/v1/usage not found"}
    ),
    "empty object": lambda status: answer(status, {}),
    "array": lambda status: answer(status, []),
    "router's envelope": lambda status: refusal(status, result={"errorReason": "NOT_FOUND"}),
    "router's other envelope": lambda status: refusal(status, result={"errorReason": "METHOD_NOT_ALLOWED"}),
}
"""Answers that are not the API's word about a signal."""

ENVELOPES: dict[str, Callable[[int], Response]] = {
    "envelope": refusal,
    "envelope with a reason": lambda status: refusal(status, result={"errorReason": "BODY_TOO_LARGE"}),
    "legacy envelope": lambda status: answer(status, {"ok": False, "error": "No."}),
}

PASSING = (408, 409, 429)
"""Refusals that are repeated, whoever speaks; so is every 5xx."""


def met(bench: Bench | SpoolBench, given: Response, now: float = 0.0) -> list[SpooledOutput]:
    """Have the next attempt answered, and return what that leads to."""
    transmit = only(Transmit, bench.drain(now))
    bench.outbox.handle_answer(transmit.ticket, given, now=now)
    return bench.drain(now)


def ends(outputs: list[SpooledOutput]) -> list[str]:
    return [type(each).__name__ for each in outputs if isinstance(each, Rejected | GivenUp | Dropped | Erase)]


@pytest.mark.parametrize("kind", PAGES)
@pytest.mark.parametrize("status", STATUSES)
def test_an_answer_that_is_not_the_apis_ends_no_signal(status: int, kind: str) -> None:
    given = PAGES[kind](status)
    for bench in (Bench(BatchPolicy(max_size=1)), spool_bench(BatchPolicy(max_size=1))):
        if isinstance(bench, SpoolBench):
            bench.store("a")
        else:
            bench.record("a")
        told, now = 0, 0.0
        for _ in range(3 * bench.config.retry.max_attempts):
            outputs = met(bench, given, now)
            assert ends(outputs) == []
            assert only(Retrying, outputs).error.status == status
            told += sum(isinstance(each, Misdirected) for each in outputs)
            wait = outputs[-1]
            assert isinstance(wait, Wait)
            assert wait.until is not None
            now = wait.until
        stats = bench.outbox.stats(now=now)
        is_told = status >= 300 and status not in (408, 429)  # those speak for themselves
        assert (told, stats.misdirected) == (int(is_told), int(is_told))
        assert (stats.held, stats.rejected, stats.gate) == (1, 0, "probing")
        assert ends(met(bench, success(), now)) in ([], ["Erase"])
        assert bench.outbox.stats(now=now).delivered == 1


@pytest.mark.parametrize("kind", ENVELOPES)
@pytest.mark.parametrize("status", STATUSES)
def test_a_refusal_by_the_api_ends_a_signal_unless_it_may_pass(status: int, kind: str) -> None:
    may_pass = status in PASSING or status >= 500
    bench = Bench(BatchPolicy(max_size=1))
    bench.record("a")
    outputs = met(bench, ENVELOPES[kind](status))
    assert ends(outputs) == ([] if may_pass else ["Rejected"])
    assert bench.outbox.stats(now=0.0).misdirected == 0

    spooled = spool_bench(BatchPolicy(max_size=1))
    spooled.store("a")
    outputs = met(spooled, ENVELOPES[kind](status))
    if status in (401, 403):
        assert ends(outputs) == []
        assert only(KeyRefused, outputs).error.status == status
    else:
        assert ends(outputs) == ([] if may_pass else ["Erase", "Rejected"])


@pytest.mark.parametrize("kind", [*PAGES, *ENVELOPES])
@pytest.mark.parametrize("status", STATUSES)
def test_an_awaited_call_raises_at_once_and_says_whether_the_api_spoke(status: int, kind: str) -> None:
    given = {**PAGES, **ENVELOPES}[kind](status)
    settings = config(retry=RetryPolicy(max_attempts=1))
    call = Engine(settings, rng=Dice(0.0), make_key=lambda: "key").call(signal_operation(encoded("a")))
    transmit = call.poll(now=0.0)
    assert isinstance(transmit, Transmit)
    call.handle_answer(transmit.ticket, given, now=0.0)
    settled = call.poll(now=0.0)
    assert isinstance(settled, Settled)
    error = settled.outcome
    assert isinstance(error, ClockNextError)
    is_no_delivery = status < 300 and kind in PAGES and "envelope" not in kind
    kind_of_error, retryable = (ClockNextError, True) if is_no_delivery else classify(status, error.message)
    assert (type(error), error.status, error.retryable) == (kind_of_error, status, retryable)
    if kind in ENVELOPES:
        assert error.hint is None
    else:
        assert error.hint is not None
        assert f"{settings.base_url}/api/v1/usage" in error.hint


@pytest.mark.parametrize("kind", [*PAGES, *ENVELOPES])
def test_a_204_is_a_delivery_whatever_is_behind_its_head(kind: str) -> None:
    """By the API's own rule it is a success, and has no body, so none can say whose word it is."""
    given = {**PAGES, **ENVELOPES}[kind](204)
    for bench in (Bench(BatchPolicy(max_size=1)), spool_bench(BatchPolicy(max_size=1))):
        if isinstance(bench, SpoolBench):
            bench.store("a")
        else:
            bench.record("a")
        assert ends(met(bench, given)) in ([], ["Erase"])
        stats = bench.outbox.stats(now=0.0)
        assert (stats.delivered, stats.held, stats.misdirected) == (1, 0, 0)


def test_a_refused_signal_that_was_misdirected_before_is_rejected_all_the_same() -> None:
    bench = Bench(BatchPolicy(max_size=1))
    bench.record("a")
    wait = met(bench, answer(404, "<html>"))[-1]
    assert isinstance(wait, Wait)
    assert wait.until is not None
    outputs = met(bench, refusal(404), wait.until)
    assert ends(outputs) == ["Rejected"]
    assert not any(isinstance(each, Misdirected) for each in outputs)


def test_where_an_outage_drops_a_misdirected_signal_is_given_up_after_its_attempts() -> None:
    bench = Bench(BatchPolicy(max_size=1, outage="drop"), RetryPolicy(max_attempts=2, base_delay=2.0))
    bench.record("a")
    assert ends(met(bench, answer(404, "<html>"))) == []
    assert ends(met(bench, answer(404, "<html>"), 1.0)) == ["GivenUp"]
    assert bench.outbox.stats(now=1.0).dropped["send_failed"] == 1
