"""What an emulated organisation sells and to whom: definitions only, nothing that changes.

The defaults are a small but realistic catalogue. Replace what a test cares about and leave the rest:
`Catalogue(customers=[Customer("cus_1", wallet=5, credits={"api_credit": 100})])`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from clocknext_transports.emulator.pricing import Amount

BillingCycle: TypeAlias = Literal["MONTHLY", "QUARTERLY", "SEMI_ANNUAL", "YEARLY", "EVERY_5_MIN", "FREE"]


@dataclass(frozen=True, slots=True)
class Model:
    """A language model signals may name. Prices in USD per 1,000,000 tokens."""

    id: str
    input: Amount
    output: Amount
    cache: Amount = 0
    active: bool = True
    """Signals for a model that is not active are refused with 422."""


@dataclass(frozen=True, slots=True)
class Credit:
    """A credit customers hold and credit signals use up, named by its key."""

    key: str
    base_price: Amount
    """USD of token cost that one credit stands for; above 0."""
    margin_percent: Amount = 0
    name: str = ""
    """Shown in balances; the key when empty."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A workflow that is billed when it ends well. Outcome signals name one of its steps."""

    key: str
    steps: Sequence[str]
    """Step keys, unique over all outcomes."""
    price: Amount
    """USD per outcome."""
    name: str = ""
    """Shown in balances; the key when empty."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A bundle of components with what they include. A component that is left out is not sold."""

    id: str
    name: str = ""
    wallet: Amount | None = None
    """USD included."""
    credits: Mapping[str, Amount] = field(default_factory=dict[str, Amount])
    """Credits included, by credit key."""
    outcomes: Mapping[str, Amount] = field(default_factory=dict[str, Amount])
    """Outcomes included, by outcome key."""
    arrear: bool = False
    """Billed afterwards: balances may go below zero and never run out."""
    billing_cycle: BillingCycle = "MONTHLY"


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
    """Credits, by credit key."""
    outcomes: Mapping[str, Amount] = field(default_factory=dict[str, Amount])
    """Outcomes, by outcome key."""


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
DEFAULT_PLANS = (
    Plan(
        "plan_scale",
        name="Scale",
        wallet=1_000_000,
        credits={"api_credit": 100_000_000, "chat_credit": 100_000_000},
        outcomes={"resolved_ticket": 1_000_000, "qualified_lead": 1_000_000},
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
    ),
)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything a ledger starts with."""

    models: Sequence[Model] = DEFAULT_MODELS
    credits: Sequence[Credit] = DEFAULT_CREDITS
    outcomes: Sequence[Outcome] = DEFAULT_OUTCOMES
    plans: Sequence[Plan] = DEFAULT_PLANS
    customers: Sequence[Customer] = DEFAULT_CUSTOMERS
    default_plan: str | None = "plan_scale"
    """Id of the plan that customers created over the API are put on; `None`: on none, and every signal of
    theirs is refused with 422."""
    organisation: str = "Emulated organisation"
