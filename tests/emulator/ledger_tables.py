"""What the ledger under test sells, written as plain figures, and what these come to."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Literal, TypeAlias

from clocknext_transports.emulator import (
    Catalogue,
    Component,
    Credit,
    Customer,
    Model,
    Outcome,
    Plan,
    Tier,
    Unit,
)

RATES: Mapping[str, tuple[str, str, str]] = {"a": ("0.59", "0.79", "0.07"), "b": ("3", "15", "1.5")}
CREDITS: Mapping[str, tuple[str, str]] = {"x": ("0.7", "33"), "y": ("0.003", "0")}
"""By key: base price and margin."""
STEPS: Mapping[str, str] = {"o.1": "o", "o.2": "o", "p.1": "p"}
PRICES: Mapping[str, str] = {"o": "0.99", "p": "2.5"}
UNITS: Mapping[str, tuple[str, Sequence[tuple[int | None, str]]]] = {
    "flat": ("FLAT", [(None, "0.5")]),
    "slab": ("SLAB", [(2, "0.1"), (None, "0.05")]),
    "volume": ("VOLUME", [(2, "12"), (4, "10"), (None, "8")]),
}

Part: TypeAlias = tuple[Literal["WALLET", "FLAT", "CREDIT", "OUTCOME", "UNIT"], str | None, str, bool]
"""One component of a plan: its type, its item, how much of it, whether it is billed in arrear."""
PLANS: Mapping[str, tuple[Part, ...]] = {
    "starter": (("WALLET", None, "2", False), ("CREDIT", "y", "100", False)),
    "full": (
        ("WALLET", None, "1", False),
        ("FLAT", None, "3", False),
        ("CREDIT", "x", "1", False),
        ("CREDIT", "y", "0", True),
        ("OUTCOME", "o", "2", False),
        ("UNIT", "slab", "3", False),
        ("UNIT", "volume", "5", False),
    ),
    "arrears": (
        ("WALLET", None, "0", True),
        ("CREDIT", "x", "0", True),
        ("OUTCOME", "o", "1", True),
        ("OUTCOME", "p", "1", False),
        ("UNIT", "flat", "0", True),
    ),
    "funded": (
        ("WALLET", None, "0.75", False),
        ("CREDIT", "x", "0", True),
        ("CREDIT", "y", "50", False),
        ("OUTCOME", "p", "0", True),
        ("UNIT", "volume", "0", True),
    ),
}
"""`starter` is the plan of customers created over the API; `retired`, besides these, is not sold."""
FUNDED = "funded"
"""The plan whose usage in arrear is debited from the wallet."""
ADJUSTMENTS: Mapping[str, str] = {"funded": "-0.5", "arrears": "7"}
"""What is added to the price of a plan; of one that is not invoiced, nothing is."""

CATALOGUE = Catalogue(
    models=[
        *(Model(name, *prices) for name, prices in RATES.items()),
        Model("off", 1, 1, active=False),
    ],
    credits=[Credit(key, base, margin) for key, (base, margin) in CREDITS.items()],
    outcomes=[
        Outcome(key, [step for step, of in STEPS.items() if of == key], price)
        for key, price in PRICES.items()
    ],
    units=[
        Unit("flat", flat_price="0.5"),
        Unit("slab", "SLAB", tiers=[Tier(2, "0.1"), Tier(None, "0.05")]),
        Unit("volume", "VOLUME", tiers=[Tier(2, 12), Tier(4, 10), Tier(None, 8)]),
    ],
    plans=[
        *(
            Plan(
                name,
                components=[Component(kind, amount, item, late) for kind, item, amount, late in parts],
                wallet_funded_arrear=name == FUNDED,
                price_adjustment=ADJUSTMENTS.get(name, 0),
            )
            for name, parts in PLANS.items()
        ),
        Plan("retired", wallet=1, active=False),
    ],
    customers=[
        Customer("full", plan="full"),
        Customer("late", plan="arrears"),
        Customer("prepaid", plan="funded"),
        Customer("poor", wallet="0.01", credits={"x": "0.5"}, outcomes={"o": 1}, units={"flat": 1}),
        Customer("bare"),
    ],
    default_plan="starter",
)


def rounded(amount: Fraction) -> Fraction:
    """Round to twelve places, halves to even."""
    return Fraction(round(amount * 10**12), 10**12)


def unit_price(unit: str, quantity: int) -> Fraction:
    """Return the price of the first events."""
    kind, tiers = UNITS[unit]
    in_force = [
        next(Fraction(p) for end, p in tiers if end is None or n <= end) for n in range(1, quantity + 1)
    ]
    if kind == "VOLUME":
        in_force = in_force[-1:] * quantity
    return sum(in_force, Fraction(0))


def price_of(part: Part) -> Fraction:
    """Price one component in full."""
    kind, item, amount, _ = part
    quantity = Fraction(amount)
    match kind:
        case "CREDIT":
            base, margin = CREDITS[str(item)]
            return quantity * Fraction(base) * (1 + Fraction(margin) / 100)
        case "OUTCOME":
            return quantity * Fraction(PRICES[str(item)])
        case "UNIT":
            return unit_price(str(item), int(quantity))
        case _:
            return quantity
