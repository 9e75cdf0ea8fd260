"""What an emulated organisation sells and to whom: definitions only, nothing that changes.

The defaults are a small but realistic catalogue. Replace what a test cares about and leave the rest:
`Catalogue(customers=[Customer("cus_1", wallet=5, credits={"api_credit": 100})])`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, TypeAlias

from clocknext_transports.emulator.books.pricing import (
    Amount,
    Tier,
    UnitPricing,
    exact,
    multiply,
    price_per_credit,
    price_units,
)

BillingCycle: TypeAlias = Literal["MONTHLY", "QUARTERLY", "SEMI_ANNUAL", "YEARLY", "EVERY_5_MIN", "FREE"]
ComponentType: TypeAlias = Literal["WALLET", "FLAT", "CREDIT", "OUTCOME", "UNIT"]


@dataclass(frozen=True, slots=True)
class Model:
    """A language model signals may name. Prices in USD per 1,000,000 tokens."""

    id: str
    input: Amount
    output: Amount
    cache: Amount = 0
    active: bool = True
    """Signals for a model that is not active are refused with 422."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What plans, credits, outcomes and units have in common."""

    name: str = ""
    """Shown in balances; the id when empty."""
    description: str | None = None
    active: bool = True
    """Whether it can be sold from now on. What has been sold already goes on working."""


@dataclass(frozen=True, slots=True)
class Item(Definition):
    """What credits, outcomes and units have in common: customers hold a number of them."""

    key: str
    """What signals name it by: lower case, of the characters `a-z0-9._-`."""
    id: str = field(default="", kw_only=True)
    """What plans, balances and paths name it by; its key when empty."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", self.id or self.key)
        object.__setattr__(self, "name", self.name or self.id)

    def cost_of(self, quantity: Decimal) -> Decimal:
        """Return the USD a customer pays for so many, counted from the first."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Credit(Item):
    """A credit customers hold and credit signals use up."""

    base_price: Amount
    """USD of token cost that one credit stands for; above 0."""
    margin_percent: Amount = 0
    tokens_per_credit: Amount = 0
    """Shown, and nothing else."""

    def cost_of(self, quantity: Decimal) -> Decimal:
        """Return the USD a customer pays for so many."""
        price = price_per_credit(exact(self.base_price), exact(self.margin_percent))
        return multiply(quantity, price)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an outcome, named by its key in signals."""

    key: str
    name: str
    base_price: Amount | None = None
    """USD; shown, and nothing else."""


@dataclass(frozen=True, slots=True)
class Outcome(Item):
    """A workflow that is billed when it ends well. Outcome signals name one of its steps, not its own key."""

    steps: Sequence[str | Step]
    """The steps, or just their keys: unique over all outcomes."""
    price: Amount
    """USD per outcome."""

    @property
    def all_steps(self) -> tuple[Step, ...]:
        """The steps, those given by key alone named by it."""
        return tuple(step if isinstance(step, Step) else Step(step, step) for step in self.steps)

    def cost_of(self, quantity: Decimal) -> Decimal:
        """Return the USD a customer pays for so many."""
        return multiply(quantity, exact(self.price))


@dataclass(frozen=True, slots=True)
class Unit(Item):
    """A single event with a price of its own: no tokens, no model."""

    pricing: UnitPricing = "FLAT"
    """`FLAT`: one price; `SLAB`: each band at its own; `VOLUME`: all at that of the tier reached."""
    flat_price: Amount = 0
    """USD per event, for `FLAT`."""
    tiers: Sequence[Tier] = ()
    """For `SLAB` and `VOLUME`, by rising bound; only the last may have none."""

    def cost_of(self, quantity: Decimal) -> Decimal:
        """Return the USD a customer pays for so many, counted from the first."""
        return price_units(quantity, self.pricing, flat_price=exact(self.flat_price), tiers=self.tiers)


@dataclass(frozen=True, slots=True)
class Component:
    """One thing a plan sells."""

    type: ComponentType
    amount: Amount | None = None
    """USD for `WALLET` and `FLAT`, else how many are included. `None`: none, which only arrear allows."""
    item: str | None = None
    """Id of the credit, outcome or unit."""
    arrear: bool = False
    """Billed afterwards: the balance may go below zero and never runs out."""


def pieces(
    credits: Mapping[str, Amount],  # noqa: A002 - the one thing they are called
    outcomes: Mapping[str, Amount],
    units: Mapping[str, Amount],
    *,
    arrear: bool = False,
) -> list[Component]:
    """Write amounts by id as components."""
    held: tuple[tuple[ComponentType, Mapping[str, Amount]], ...] = (
        ("CREDIT", credits),
        ("OUTCOME", outcomes),
        ("UNIT", units),
    )
    return [
        Component(kind, amount, item, arrear) for kind, amounts in held for item, amount in amounts.items()
    ]


@dataclass(frozen=True, slots=True)
class Plan(Definition):
    """A bundle of components with what they include. A component that is left out is not sold."""

    id: str
    wallet: Amount | None = None
    """USD included."""
    credits: Mapping[str, Amount] = field(default_factory=dict[str, Amount])
    """Credits included, by credit id."""
    outcomes: Mapping[str, Amount] = field(default_factory=dict[str, Amount])
    """Outcomes included, by outcome id."""
    units: Mapping[str, Amount] = field(default_factory=dict[str, Amount])
    """Units included, by unit id."""
    arrear: bool = False
    """Whether all these are billed afterwards."""
    billing_cycle: BillingCycle = "MONTHLY"
    currency: str = "USD"
    components: Sequence[Component] = ()
    """What the fields above cannot say: a flat fee, or some components billed in advance, some in arrear."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.id)

    @property
    def all_components(self) -> tuple[Component, ...]:
        """Every component, however it was given."""
        wallet = [] if self.wallet is None else [Component("WALLET", self.wallet, arrear=self.arrear)]
        included = pieces(self.credits, self.outcomes, self.units, arrear=self.arrear)
        return (*wallet, *included, *self.components)


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer with what they hold: their plan's components, then those named here instead."""

    id: str
    name: str = "Acme"
    email: str = "ops@acme.com"
    plan: str | None = None
    """Id of a plan."""
    wallet: Amount | None = None
    """USD."""
    credits: Mapping[str, Amount] = field(default_factory=dict[str, Amount])
    """Credits, by credit id."""
    outcomes: Mapping[str, Amount] = field(default_factory=dict[str, Amount])
    """Outcomes, by outcome id."""
    units: Mapping[str, Amount] = field(default_factory=dict[str, Amount])
    """Units, by unit id."""


DEFAULT_MODELS = (
    Model("llama-3.3-70b-versatile", input=0.59, output=0.79, cache=0.295),
    Model("openai/gpt-oss-120b", input=0.15, output=0.6, cache=0.075),
    Model("gpt-4o", input=2.5, output=10, cache=1.25),
    Model("gpt-4o-mini", input=0.15, output=0.6, cache=0.075),
    Model("claude-sonnet-4", input=3, output=15, cache=0.3),
    Model("gpt-4", input=30, output=60, active=False),
)
DEFAULT_CREDITS = (
    Credit("api_credit", base_price=0.01, margin_percent=30, name="API credit"),
    Credit("chat_credit", base_price=0.005, margin_percent=50, name="Chat credit"),
)
DEFAULT_OUTCOMES = (
    Outcome(
        "resolved_ticket",
        steps=("resolved_ticket.triage", "resolved_ticket.answer", "resolved_ticket.confirm"),
        price=0.99,
        name="Resolved ticket",
    ),
    Outcome(
        "qualified_lead",
        steps=("qualified_lead.research", "qualified_lead.score"),
        price=2.5,
        name="Qualified lead",
    ),
)
DEFAULT_UNITS = (
    Unit("report", flat_price=0.5, name="Report"),
    Unit("export", pricing="SLAB", tiers=(Tier(100, 0.1), Tier(None, 0.05)), name="Export"),
    Unit("seat", pricing="VOLUME", tiers=(Tier(10, 12), Tier(50, 10), Tier(None, 8)), name="Seat"),
)
DEFAULT_PLANS = (
    Plan(
        "plan_scale",
        name="Scale",
        wallet=1_000_000,
        credits={"api_credit": 100_000_000, "chat_credit": 100_000_000},
        outcomes={"resolved_ticket": 1_000_000, "qualified_lead": 1_000_000},
        units={"report": 1_000_000, "export": 1_000_000, "seat": 1_000_000},
    ),
    Plan("plan_wallet", name="Wallet only", wallet=100),
)
DEFAULT_CUSTOMERS = (
    Customer("cus_123", name="Acme", email="ops@acme.com", plan="plan_scale"),
    Customer("cus_456", name="Globex", email="billing@globex.example", plan="plan_scale"),
    Customer("cus_789", name="Initech", email="accounts@initech.example", plan="plan_scale"),
    Customer("cus_wallet", name="Umbrella", email="it@umbrella.example", plan="plan_wallet"),
    Customer(
        "cus_low",
        name="Hooli",
        email="ap@hooli.example",
        plan="plan_scale",
        wallet=0.005,
        credits={"api_credit": 0.25, "chat_credit": 0.5},
        outcomes={"resolved_ticket": 1, "qualified_lead": 1},
        units={"report": 1, "export": 1, "seat": 1},
    ),
)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything a ledger starts with."""

    models: Sequence[Model] = DEFAULT_MODELS
    credits: Sequence[Credit] = DEFAULT_CREDITS
    outcomes: Sequence[Outcome] = DEFAULT_OUTCOMES
    units: Sequence[Unit] = DEFAULT_UNITS
    plans: Sequence[Plan] = DEFAULT_PLANS
    customers: Sequence[Customer] = DEFAULT_CUSTOMERS
    default_plan: str | None = "plan_scale"
    """Id of the plan that customers created over the API are on until they buy one; `None`: on none, and
    every signal of theirs is refused with 422."""
    organisation: str = "Emulated organisation"
