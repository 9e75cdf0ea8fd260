"""The retry budget."""

import pytest

from clocknext_core import BatchPolicy, Outbox, RetryPolicy, Transmit, Wait
from clocknext_core.budget import CAPACITY, FIRST_ATTEMPT, PRICES, Budget
from clocknext_core.verdicts import Verdict
from tests.core.support import Dice, config, encoded, refusal


def test_the_figures() -> None:
    assert (CAPACITY, FIRST_ATTEMPT) == (500, 1)
    assert {verdict: PRICES[verdict] for verdict in Verdict} == {
        Verdict.WORKS: 14,
        Verdict.BUSY: 5,
        Verdict.DOWN: 14,
        Verdict.MISDIRECTED: 14,
        Verdict.UNCLEAR: 14,
    }


def test_repeats_are_paid_until_the_bucket_is_empty_and_then_one_at_a_time_goes_on_loan() -> None:
    budget = Budget()
    assert [budget.take(14) for _ in range(35)] == [True] * 35
    assert budget.tokens == 10
    assert budget.allows(14)
    assert budget.take(14) is False
    assert (budget.allows(14), budget.allows(10), budget.tokens) == (False, True, 10)
    budget.end_loan()
    assert budget.allows(14)


def test_what_just_suffices_is_paid() -> None:
    budget = Budget()
    assert budget.take(CAPACITY) is True
    assert budget.tokens == 0
    assert budget.allows(0)


@pytest.mark.parametrize(("given", "tokens"), [(1, 487), (14, 500), (1000, 500)])
def test_a_bucket_takes_back_no_more_than_it_holds(given: int, tokens: int) -> None:
    budget = Budget()
    budget.take(14)
    budget.give(given)
    assert budget.tokens == tokens


def transmits(outbox: Outbox, now: float) -> list[int]:
    """Poll until there is nothing more: the tickets of what is to be sent."""
    tickets: list[int] = []
    while not isinstance(output := outbox.poll(now=now), Wait):
        if isinstance(output, Transmit):
            tickets.append(output.ticket)
    return tickets


def test_an_attempt_on_loan_that_was_broken_off_gives_nothing_back() -> None:
    batch = BatchPolicy(max_size=2, max_concurrency=2, outage="drop")
    outbox = Outbox(config(batch, RetryPolicy(max_attempts=100)), Dice(0.0))
    for key in ("a", "b"):
        outbox.record(encoded(key), now=0.0)
    now, attempts = 0.0, 0
    while len(tickets := transmits(outbox, now)) == 2:
        for ticket in tickets:
            outbox.handle_answer(ticket, refusal(500), now=now)
        now, attempts = now + 10.0, attempts + 2
    assert attempts == 2 + CAPACITY // PRICES[Verdict.UNCLEAR] + 1  # the last but one was paid, the last lent
    for _ in range(3):
        (lent,) = tickets
        outbox.abandon(lent, now=now)
        tickets = transmits(outbox, now)
    assert len(tickets) == 1
