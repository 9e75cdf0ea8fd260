"""What an emulated organisation sells and to whom: definitions only, no state.

The defaults are a small but realistic catalogue. Replace what a test is about and leave the rest:
`Catalogue(customers=[Customer("cus_1", wallet=5, credits={"api_credit": 100})])`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, TypeAlias, get_args

from clocknext_transports.emulator.books.checks import (
    check_amount,
    check_amounts,
    check_choice,
    check_differ,
    check_members,
    check_text,
    some_of,
)
from clocknext_transports.emulator.books.pricing import (
    Amount,
    Tier,
    UnitPricing,
    exact,
    multiply,
    price_units,
    with_margin,
)

BillingCycle: TypeAlias = Literal["MONTHLY", "QUARTERLY", "SEMI_ANNUAL", "YEARLY", "EVERY_5_MIN", "FREE"]
ComponentType: TypeAlias = Literal["WALLET", "FLAT", "CREDIT", "OUTCOME", "UNIT"]


@dataclass(frozen=True, slots=True)
class Model:
    """A language model that signals can name. Prices in USD per 1,000,000 tokens."""

    id: str
    input: Amount
    output: Amount
    cache: Amount = 0
    active: bool = True
    """Signals that name an inactive model are refused with 422."""
    provider: str | None = None
    """Slug of the provider, such as `openai`."""

    def __post_init__(self) -> None:
        check_text("The id of a model", self.id)
        if self.provider is not None:
            check_text("The provider of a model", self.provider)
        _check_prices(f"the model {self.id!r}", self.input, self.output, self.cache)


@dataclass(frozen=True, slots=True)
class Listed:
    """A model in the service's price list: `POST /api/v1/models` enables it. USD per 1,000,000 tokens."""

    provider: str
    """Slug, such as `openai`."""
    id: str
    input: Amount = 0
    output: Amount = 0
    cache: Amount = 0

    def __post_init__(self) -> None:
        check_text("The provider of a listed model", self.provider)
        check_text("The id of a listed model", self.id)
        _check_prices(f"the listed model {self.id!r}", self.input, self.output, self.cache)


def _check_prices(owner: str, *prices: Amount) -> None:
    for name, price in zip(("input", "output", "cache"), prices, strict=True):
        check_amount(f"The {name} of {owner}", price, least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What plans, credits, outcomes and units have in common."""

    name: str = ""
    """Shown in balances. Default: the id."""
    description: str | None = None
    active: bool = True
    """Whether it can be sold. Customers who have bought it keep it either way."""


@dataclass(frozen=True, slots=True)
class Item(Definition):
    """What credits, outcomes and units have in common: customers hold a number of them."""

    key: str
    """The agent key: lower case, of the characters `a-z0-9._-`."""
    id: str = field(default="", kw_only=True)
    """The id in plans, balances and paths. Default: the key."""

    def __post_init__(self) -> None:
        check_text(f"The key of {_a(self)}", self.key)
        object.__setattr__(self, "id", self.id or self.key)
        object.__setattr__(self, "name", self.name or self.id)

    def cost_of(self, quantity: Decimal) -> Decimal:
        """Return the price of a quantity, USD; tiers are counted from the first."""
        raise NotImplementedError


def _a(definition: Definition) -> str:
    noun = type(definition).__name__.lower()
    return f"an {noun}" if noun == "outcome" else f"a {noun}"


@dataclass(frozen=True, slots=True)
class Credit(Item):
    """A credit: customers hold a number of them, and credit signals use them up."""

    base_price: Amount
    """USD of token cost that one credit stands for; above 0."""
    margin_percent: Amount = 0
    tokens_per_credit: Amount = 0
    """Shown only."""
    price: Amount | None = None
    """USD per credit. Default: the base price with the margin added."""

    def __post_init__(self) -> None:
        Item.__post_init__(self)  # `super()` without arguments fails in a class with slots
        owner = f"the credit {self.key!r}"
        # A signal's credits are its cost divided by the base price.
        check_amount(f"The base_price of {owner}", self.base_price, least=0, above=True)
        check_amount(f"The margin_percent of {owner}", self.margin_percent)
        check_amount(f"The tokens_per_credit of {owner}", self.tokens_per_credit)
        if self.price is not None:
            check_amount(f"The price of {owner}", self.price, least=0)

    @property
    def price_per_credit(self) -> Decimal:
        """The price of one credit, USD."""
        if self.price is not None:
            return exact(self.price)
        return with_margin(exact(self.base_price), exact(self.margin_percent))

    def cost_of(self, quantity: Decimal) -> Decimal:
        """Return the price of a quantity, USD."""
        return multiply(quantity, self.price_per_credit)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an outcome. Signals name it by its key."""

    key: str
    name: str
    base_price: Amount | None = None
    """USD; shown only."""


@dataclass(frozen=True, slots=True)
class Outcome(Item):
    """A workflow that is billed when it is complete. Outcome signals name its steps, not the outcome."""

    steps: Sequence[str | Step]
    """The steps, or just their keys, which are unique in the organisation."""
    price: Amount
    """USD per outcome."""
    base_price: Amount | None = None
    """USD: the cost of the tokens of one outcome; shown only."""
    margin_percent: Amount = 0
    """Shown only: the price is stored as given."""

    def __post_init__(self) -> None:
        Item.__post_init__(self)
        owner = f"the outcome {self.key!r}"
        check_members(f"The steps of {owner}", self.steps, str, Step)
        check_amount(f"The price of {owner}", self.price, least=0)

    @property
    def all_steps(self) -> tuple[Step, ...]:
        """The steps. One given by its key alone has the key for a name."""
        return tuple(step if isinstance(step, Step) else Step(step, step) for step in self.steps)

    def cost_of(self, quantity: Decimal) -> Decimal:
        """Return the price of a quantity, USD."""
        return multiply(quantity, exact(self.price))


@dataclass(frozen=True, slots=True)
class Unit(Item):
    """A single event with a price: no tokens, no model."""

    pricing: UnitPricing = "FLAT"
    """`FLAT`: one price; `SLAB`: each band at its own rate; `VOLUME`: all units at the tier reached."""
    flat_price: Amount = 0
    """USD per event, for `FLAT`."""
    tiers: Sequence[Tier] = ()
    """For `SLAB` and `VOLUME`, by rising bound; only the last may have none."""

    def __post_init__(self) -> None:
        Item.__post_init__(self)
        owner = f"the unit {self.key!r}"
        check_choice(f"The pricing of {owner}", self.pricing, get_args(UnitPricing))
        check_amount(f"The flat_price of {owner}", self.flat_price, least=0)
        check_members(f"The tiers of {owner}", self.tiers, Tier)

    def cost_of(self, quantity: Decimal) -> Decimal:
        """Return the price of a quantity, USD, counted from the first."""
        return price_units(quantity, self.pricing, flat_price=exact(self.flat_price), tiers=self.tiers)


@dataclass(frozen=True, slots=True)
class Component:
    """One thing that a plan sells."""

    type: ComponentType
    amount: Amount | None = None
    """USD of `WALLET` and `FLAT`, else the quantity included. `None`: none, which only arrear allows."""
    item: str | None = None
    """Id of the credit, outcome or unit."""
    arrear: bool = False
    """Whether it is billed afterwards: its balance may fall below zero."""


def pieces(
    credits: Mapping[str, Amount],  # noqa: A002 - the one thing they are called
    outcomes: Mapping[str, Amount],
    units: Mapping[str, Amount],
    *,
    arrear: bool = False,
) -> list[Component]:
    """Return quantities by id as components."""
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
    """A bundle of components and the quantities they include. A component that is left out is not sold."""

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
    """Whether all of these are billed afterwards."""
    billing_cycle: BillingCycle = "MONTHLY"
    currency: str = "USD"
    components: Sequence[Component] = ()
    """More components: a flat fee, or some billed in advance and some in arrear."""
    wallet_funded_arrear: bool = False
    """Whether usage in arrear is debited from the wallet as it comes. The wallet may then fall below zero."""
    price_adjustment: Amount = 0
    """USD added to the price due at purchase; negative: taken off."""

    def __post_init__(self) -> None:
        check_text("The id of a plan", self.id)
        _check_quantities(f"the plan {self.id!r}", self)
        check_members(f"The components of the plan {self.id!r}", self.components, Component)
        object.__setattr__(self, "name", self.name or self.id)

    @property
    def all_components(self) -> tuple[Component, ...]:
        """Every component, whichever field it was given in."""
        wallet = [] if self.wallet is None else [Component("WALLET", self.wallet, arrear=self.arrear)]
        included = pieces(self.credits, self.outcomes, self.units, arrear=self.arrear)
        return (*wallet, *included, *self.components)

    @property
    def raises_invoices(self) -> bool:
        """Whether a purchase is invoiced: not of a FREE plan, nor of one that is all in arrear."""
        in_advance = any(not component.arrear for component in self.all_components)
        return self.billing_cycle != "FREE" and in_advance


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer. Quantities given here take the place of those that the plan includes."""

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

    def __post_init__(self) -> None:
        check_text("The id of a customer", self.id)
        _check_quantities(f"the customer {self.id!r}", self)


def _check_quantities(owner: str, holder: Plan | Customer) -> None:
    if holder.wallet is not None:
        check_amount(f"The wallet of {owner}", holder.wallet)
    check_amounts(f"The credits of {owner}", holder.credits)
    check_amounts(f"The outcomes of {owner}", holder.outcomes)
    check_amounts(f"The units of {owner}", holder.units)


DEFAULT_MODELS = (
    Model("llama-3.3-70b-versatile", input=0.59, output=0.79, cache=0.295, provider="groq"),
    Model("openai/gpt-oss-120b", input=0.15, output=0.6, cache=0.075, provider="groq"),
    Model("gpt-4o", input=2.5, output=10, cache=1.25, provider="openai"),
    Model("gpt-4o-mini", input=0.15, output=0.6, cache=0.075, provider="openai"),
    Model("claude-sonnet-4", input=3, output=15, cache=0.3, provider="anthropic"),
    Model("gpt-4", input=30, output=60, active=False, provider="openai"),
)
DEFAULT_LISTED = (
    Listed("openai", "gpt-4.1", input=2, output=8, cache=0.5),
    Listed("openai", "gpt-4.1-mini", input=0.4, output=1.6, cache=0.1),
    Listed("openai", "text-embedding-3-small", input=0.02),
    Listed("anthropic", "claude-haiku-4-5", input=1, output=5, cache=0.1),
    Listed("anthropic", "claude-sonnet-4-6", input=3, output=15, cache=0.3),
    Listed("google", "gemini-2.5-flash", input=0.3, output=2.5, cache=0.03),
    Listed("meta", "llama-preview"),
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
    """Everything a ledger starts with.

    Raises:
        ValueError: A member is of another kind than its list, two have one id, or a customer has a credit, an
            outcome or a unit that is not here. The members themselves raise it for what they can't have.
    """

    models: Sequence[Model] = DEFAULT_MODELS
    """The models that the organisation has enabled."""
    listed: Sequence[Listed] = DEFAULT_LISTED
    """The models that it can enable besides these."""
    credits: Sequence[Credit] = DEFAULT_CREDITS
    outcomes: Sequence[Outcome] = DEFAULT_OUTCOMES
    units: Sequence[Unit] = DEFAULT_UNITS
    plans: Sequence[Plan] = DEFAULT_PLANS
    customers: Sequence[Customer] = DEFAULT_CUSTOMERS
    default_plan: str | None = "plan_scale"
    """Id of the plan of a customer who was created over the API and has bought none. `None`: no plan, and
    every signal of such a customer is refused with 422."""
    organisation: str = "Emulated organisation"

    def __post_init__(self) -> None:
        for name, kind in _MEMBERS.items():
            check_members(f"The {name} of a catalogue", getattr(self, name), kind)
        if self.default_plan is not None:
            check_text("The default_plan of a catalogue", self.default_plan)
        # Signals may write the name of a model in capitals or not.
        check_differ("The models of a catalogue", (model.id.casefold() for model in self.models))
        for name in ("credits", "outcomes", "units", "plans", "customers"):
            check_differ(f"The {name} of a catalogue", (member.id for member in getattr(self, name)))
        for customer in self.customers:
            # The default ones hold the default items, and stay where a test gives only items of its own.
            if customer not in DEFAULT_CUSTOMERS:
                self._check_held(customer)

    def _check_held(self, customer: Customer) -> None:
        held: tuple[tuple[str, Mapping[str, Amount], Sequence[Item]], ...] = (
            ("credits", customer.credits, self.credits),
            ("outcomes", customer.outcomes, self.outcomes),
            ("units", customer.units, self.units),
        )
        for name, quantities, items in held:
            known = [item.id for item in items]
            lacking = [item for item in quantities if item not in known]
            if lacking:
                raise ValueError(
                    f"The customer {customer.id!r} has {name} that the catalogue lacks: {some_of(lacking)}. "
                    f"It has {some_of(known)}."
                )


_MEMBERS: Mapping[str, type] = {
    "models": Model,
    "listed": Listed,
    "credits": Credit,
    "outcomes": Outcome,
    "units": Unit,
    "plans": Plan,
    "customers": Customer,
}
