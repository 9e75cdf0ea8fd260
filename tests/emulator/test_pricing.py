from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from clocknext_transports.emulator.books.pricing import (
    Rates,
    add,
    exact,
    price_credit,
    price_outcome,
    price_wallet,
    subtract,
    with_margin,
)

RATES = Rates(Decimal(3), Decimal(15), Decimal("1.5"))


def test_the_protocols_example_comes_out_to_the_digit() -> None:
    price = price_credit(
        RATES, 1500, 750, 250, base_price=Decimal("0.645"), price_per_credit=Decimal("0.8385")
    )
    assert price.provided_cost == Decimal("0.016125")
    assert price.credits_used == Decimal("0.025")
    assert price.customer_cost == Decimal("0.0209625")


def test_a_credit_costs_its_base_price_and_the_margin() -> None:
    assert with_margin(Decimal("0.645"), Decimal(30)) == Decimal("0.8385")


def test_a_wallet_pays_the_cost_without_margin() -> None:
    price = price_wallet(RATES, 1500, 750, 250)
    assert price.customer_cost == price.provided_cost == Decimal("0.016125")
    assert price.credits_used == 0


def test_an_outcome_step_costs_nothing_unless_it_bills() -> None:
    step = price_outcome(RATES, 1500, 750, 250, price=Decimal("0.99"), bills=False)
    last = price_outcome(RATES, 1500, 750, 250, price=Decimal("0.99"), bills=True)
    assert (step.customer_cost, last.customer_cost) == (Decimal(0), Decimal("0.99"))
    assert step.provided_cost == last.provided_cost == Decimal("0.016125")


def test_a_float_counts_as_what_it_prints() -> None:
    assert exact(0.1) == Decimal("0.1")
    assert exact("0.1") == Decimal("0.1")
    assert exact(3) == 3


@given(
    st.decimals(0, 10**9, places=12),
    st.lists(st.decimals(0, 10**6, places=12), max_size=20),
)
def test_balances_never_round(start: Decimal, amounts: list[Decimal]) -> None:
    balance, spent = start, Decimal(0)
    for amount in amounts:
        balance, spent = subtract(balance, amount), add(spent, amount)
    assert add(balance, spent) == start


@given(*[st.integers(0, 2**53 - 1)] * 3)
def test_the_largest_counts_are_priced_exactly(given_in: int, given_out: int, cached: int) -> None:
    price = price_wallet(RATES, given_in, given_out, cached)
    assert price.provided_cost * 2_000_000 == given_in * 6 + given_out * 30 + cached * 3
