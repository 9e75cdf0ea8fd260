"""The prices of signals and units: exact decimal arithmetic, no state.

Every amount is rounded once, to twelve places, when it is computed. The amount in the log is the amount that
is debited, so that logs and balances agree to the last digit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import reduce
from typing import Literal, TypeAlias

Amount: TypeAlias = Decimal | int | float | str
"""A number as a test author writes it. A float counts as the decimal it prints: `0.1` is one tenth."""
UnitPricing: TypeAlias = Literal["FLAT", "SLAB", "VOLUME"]

ZERO = Decimal(0)
ONE = Decimal(1)
_EXACT = Context(prec=80, rounding=ROUND_HALF_EVEN)
_PLACES = Decimal("1e-12")
_MILLION = Decimal(1_000_000)
_HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class Rates:
    """A model's prices: USD per 1,000,000 tokens."""

    input: Decimal
    output: Decimal
    cache: Decimal


@dataclass(frozen=True, slots=True)
class Tier:
    """A price per unit up to a number of units."""

    up_to: Amount | None
    """The last unit that has this price, counted from 1; `None`: no last one."""
    price: Amount
    """USD per unit."""


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one signal."""

    provided_cost: Decimal
    """USD: the cost of the tokens to the organisation."""
    credits_used: Decimal = ZERO
    """Credits; 0 for wallet and outcome signals."""
    customer_cost: Decimal = ZERO
    """USD charged to the customer."""


def exact(amount: Amount) -> Decimal:
    """Return an amount as the decimal that it prints."""
    return Decimal(str(amount)) if isinstance(amount, float) else Decimal(amount)


def plain(amount: Decimal) -> str:
    """Format an amount with all its digits and without an exponent."""
    return f"{amount.normalize():f}"


def with_margin(base_price: Decimal, margin_percent: Decimal) -> Decimal:
    """Return a base price with the margin added, USD."""
    return _EXACT.multiply(base_price, _EXACT.add(1, _EXACT.divide(margin_percent, _HUNDRED)))


def price_wallet(rates: Rates, input_tokens: int, output_tokens: int, cache_tokens: int) -> Price:
    """Return the price of a wallet signal: the cost of its tokens, without margin."""
    cost = _rounded(_token_cost(rates, input_tokens, output_tokens, cache_tokens))
    return Price(cost, customer_cost=cost)


def price_credit(
    rates: Rates,
    input_tokens: int,
    output_tokens: int,
    cache_tokens: int,
    *,
    base_price: Decimal,
    price_per_credit: Decimal,
) -> Price:
    """Return the price of a credit signal: credits by the cost of its tokens, charged at the price of one."""
    cost = _token_cost(rates, input_tokens, output_tokens, cache_tokens)
    credits_used = _EXACT.divide(cost, base_price)
    charged = _EXACT.multiply(credits_used, price_per_credit)
    return Price(_rounded(cost), _rounded(credits_used), _rounded(charged))


def price_outcome(
    rates: Rates,
    input_tokens: int,
    output_tokens: int,
    cache_tokens: int,
    *,
    price: Decimal,
    bills: bool,
) -> Price:
    """Return the price of an outcome step: 0 to the customer, unless this step bills the outcome."""
    cost = _rounded(_token_cost(rates, input_tokens, output_tokens, cache_tokens))
    return Price(cost, customer_cost=price if bills else ZERO)


def price_units(
    quantity: Decimal, pricing: UnitPricing, *, flat_price: Decimal, tiers: Sequence[Tier]
) -> Decimal:
    """Return the price of a quantity counted from the first unit.

    `SLAB` prices each band at its own rate, `VOLUME` all units at the tier reached. The price of a last tier
    that has a bound applies beyond it too.
    """
    if pricing == "FLAT":
        return _EXACT.multiply(quantity, flat_price)
    cost = below = ZERO
    for position, tier in enumerate(tiers, 1):
        price = exact(tier.price)
        reached = tier.up_to is None or position == len(tiers) or quantity <= exact(tier.up_to)
        if pricing == "VOLUME":
            cost = _EXACT.multiply(quantity, price)
        else:
            upper = quantity if reached or tier.up_to is None else exact(tier.up_to)
            cost = _EXACT.fma(_EXACT.subtract(upper, below), price, cost)
            below = upper
        if reached:
            break
    return cost


def _token_cost(rates: Rates, input_tokens: int, output_tokens: int, cache_tokens: int) -> Decimal:
    cost = _EXACT.multiply(input_tokens, rates.input)
    cost = _EXACT.fma(output_tokens, rates.output, cost)
    cost = _EXACT.fma(cache_tokens, rates.cache, cost)
    return _EXACT.divide(cost, _MILLION)


def _rounded(amount: Decimal) -> Decimal:
    return _EXACT.quantize(amount, _PLACES)


def subtract(balance: Decimal, amount: Decimal) -> Decimal:
    """Subtract without rounding."""
    return _EXACT.subtract(balance, amount)


def add(total: Decimal, amount: Decimal) -> Decimal:
    """Add without rounding."""
    return _EXACT.add(total, amount)


def multiply(quantity: Decimal, price: Decimal) -> Decimal:
    """Multiply without rounding."""
    return _EXACT.multiply(quantity, price)


def sum_of(amounts: Iterable[Decimal], start: Decimal = ZERO) -> Decimal:
    """Return the sum of amounts without rounding."""
    return reduce(add, amounts, start)
