"""What the API returns, as objects: snake_case attributes over the payload as received.

A model only looks into its `raw`: nothing is copied, checked or converted, so that no field the server adds
or drops can break a client. An attribute is `None` when its field is absent.
"""

from collections.abc import Mapping
from typing import ClassVar, Generic, Self, TypeVar, cast, overload

from clocknext_core.envelope import Payload, as_list, as_object
from clocknext_core.states import DropReason
from clocknext_core.wire import camel_case

T = TypeVar("T")
M = TypeVar("M", bound="Model")


class _Declared(Generic[T]):
    """A part of a payload, under the attribute's name in camelCase.

    An attribute ends in an underscore where its name is a word of Python, as `from_`.
    """

    wire_name: str

    def __init__(self, kind: type[T]) -> None:
        self.kind = kind

    def __set_name__(self, owner: type[object], name: str) -> None:
        self.wire_name = camel_case(name.removesuffix("_"))


class Field(_Declared[T]):
    """A field of the payload; `None` when absent.

    Args:
        kind: The type that the server documents. It is not enforced: the value is as received.
    """

    @overload
    def __get__(self, instance: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(self, instance: "Model", owner: type[object]) -> T | None: ...
    def __get__(self, instance: "Model | None", owner: type[object]) -> Self | T | None:
        return self if instance is None else cast("T | None", instance.raw.get(self.wire_name))


class One(Field[M]):
    """A nested object, as a model; `None` when absent."""

    @overload
    def __get__(self, instance: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(self, instance: "Model", owner: type[object]) -> M | None: ...
    def __get__(self, instance: "Model | None", owner: type[object]) -> Self | M | None:
        if instance is None:
            return self
        value = instance.raw.get(self.wire_name)
        return self.kind(as_object(cast(object, value))) if isinstance(value, dict) else None


class Many(_Declared[M]):
    """A list of nested objects, as models; empty when absent."""

    @overload
    def __get__(self, instance: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(self, instance: "Model", owner: type[object]) -> "Items[M]": ...
    def __get__(self, instance: "Model | None", owner: type[object]) -> "Self | Items[M]":
        return self if instance is None else Items[M].read(self.kind, instance.raw.get(self.wire_name))


class Model:
    """An object of the API.

    Args:
        raw: The unwrapped payload, unknown fields included.
    """

    __slots__ = ("raw",)

    raw: Payload

    def __init__(self, raw: Mapping[str, object]) -> None:
        self.raw = dict(raw)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.raw == self.raw

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # compares by a mutable payload

    def __repr__(self) -> str:
        shown = [
            f"{name}={getattr(self, name)!r}"
            for name, declared in vars(type(self)).items()
            if isinstance(declared, _Declared) and getattr(self, name) not in (None, [])
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


class Items(list[M]):
    """A list of models that also has `raw`: the list as received."""

    raw: list[object]

    @classmethod
    def read(cls, kind: type[M], value: object) -> "Items[M]":
        """Make models of a payload's list.

        Anything but a list is read as an empty one, anything but an object in it as an empty model.
        """
        items = cls(kind(as_object(entry)) for entry in as_list(value))
        items.raw = as_list(value)
        return items


class UsageLog(Model):
    """One priced signal, as the server recorded it."""

    id: Field[str] = Field(str)
    customer_id: Field[str] = Field(str)
    type: Field[str] = Field(str)
    model: Field[str] = Field(str)
    input_tokens: Field[int] = Field(int)
    output_tokens: Field[int] = Field(int)
    cache_tokens: Field[int] = Field(int)
    credits_used: Field[float] = Field(float)
    """Credits: provided cost divided by the credit's base price."""
    provided_cost: Field[float] = Field(float)
    """What the model cost, USD."""
    customer_cost: Field[float] = Field(float)
    """What the customer is charged, USD."""
    status: Field[str] = Field(str)
    created_at: Field[str] = Field(str)
    """ISO 8601, UTC."""


class TrackResult(Model):
    """The result of recording a signal: what is known when the call returns.

    `raw` is the payload the server answered with; empty where the call did not wait for it.
    """

    __slots__ = ("dropped", "idempotency_key", "queued")

    queued: bool
    """Whether the call did not wait for the server, also where the signal was `dropped` or recorded before.
    The hooks and `flush` report how a signal ended."""
    idempotency_key: str
    """The key the signal is billed under, once."""
    dropped: DropReason | None
    """Why the signal was not buffered; `None` where it was buffered or sent."""

    def __init__(
        self,
        raw: Mapping[str, object],
        *,
        idempotency_key: str,
        queued: bool = False,
        dropped: DropReason | None = None,
    ) -> None:
        self.raw: Payload = dict(raw)
        self.idempotency_key = idempotency_key
        self.queued = queued
        self.dropped = dropped

    usage_log: One[UsageLog] = One(UsageLog)
    """The priced log; `None` when the server took the signal without pricing it yet (202), or the call did
    not wait."""
    accepted: Field[bool] = Field(bool)
    """`True` on a 202: taken, to be priced later."""
    signal_id: Field[str] = Field(str)
    received_at: Field[str] = Field(str)

    @property
    def mending(self) -> bool:
        """Whether the server refused the body but keeps it for a person to correct (202, `PENDING`)."""
        return self.raw.get("status") == "PENDING"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrackResult) and (
            other.raw,
            other.queued,
            other.idempotency_key,
            other.dropped,
        ) == (self.raw, self.queued, self.idempotency_key, self.dropped)

    __hash__ = None

    def __repr__(self) -> str:
        shown = f"queued={self.queued!r}, idempotency_key={self.idempotency_key!r}"
        if self.dropped:
            shown += f", dropped={self.dropped!r}"
        return f"TrackResult({shown}, usage_log={self.usage_log!r})"


class Customer(Model):
    """A customer of your organisation."""

    id: Field[str] = Field(str)
    name: Field[str] = Field(str)
    email: Field[str] = Field(str)
    description: Field[str] = Field(str)
    website: Field[str] = Field(str)
    phone: Field[str] = Field(str)
    legal_name: Field[str] = Field(str)
    address_line1: Field[str] = Field(str)
    address_line2: Field[str] = Field(str)
    city: Field[str] = Field(str)
    state: Field[str] = Field(str)
    country: Field[str] = Field(str)
    pincode: Field[str] = Field(str)
    tax_id: Field[str] = Field(str)
    notes: Field[str] = Field(str)
    logo_url: Field[str] = Field(str)
    currency_code: Field[str] = Field(str)
    """ISO 4217."""
    created_at: Field[str] = Field(str)
    """ISO 8601, UTC."""


class CustomerPage(Model):
    """One page of customers."""

    customers: Many[Customer] = Many(Customer)
    next_cursor: Field[str] = Field(str)
    """The cursor of the next page; `None` or empty on the last."""


class UsageTotals(Model):
    """Totals of a customer's usage, over all logs.

    The service documents `signals` alone. The others are those that the emulator sends; `None` where the
    server does not.
    """

    signals: Field[int] = Field(int)
    """Number of signals."""
    input_tokens: Field[int] = Field(int)
    output_tokens: Field[int] = Field(int)
    cache_tokens: Field[int] = Field(int)
    credits_used: Field[float] = Field(float)
    """Credits."""
    provided_cost: Field[float] = Field(float)
    """What the models cost, USD."""
    customer_cost: Field[float] = Field(float)
    """What the customer is charged, USD."""


class Usage(Model):
    """A customer's usage: the customer, totals, and the latest logs."""

    customer: One[Customer] = One(Customer)
    totals: One[UsageTotals] = One(UsageTotals)
    logs: Many[UsageLog] = Many(UsageLog)


class WalletBalance(Model):
    """What is left in a customer's wallet."""

    balance: Field[float] = Field(float)
    """USD."""


class CreditBalance(Model):
    """What is left of one credit."""

    credit_id: Field[str] = Field(str)
    credit_name: Field[str] = Field(str)
    remaining: Field[float] = Field(float)


class OutcomeBalance(Model):
    """What is left of one outcome."""

    outcome_id: Field[str] = Field(str)
    outcome_name: Field[str] = Field(str)
    remaining: Field[float] = Field(float)


class UnitBalance(Model):
    """What is left of one unit."""

    unit_id: Field[str] = Field(str)
    unit_name: Field[str] = Field(str)
    remaining: Field[float] = Field(float)


class Balances(Model):
    """What a customer has left."""

    wallet: One[WalletBalance] = One(WalletBalance)
    """`None` when the plan has no wallet."""
    credits: Many[CreditBalance] = Many(CreditBalance)
    outcomes: Many[OutcomeBalance] = Many(OutcomeBalance)
    units: Many[UnitBalance] = Many(UnitBalance)


class PlanComponent(Model):
    """One thing that a plan grants or charges. Its other fields depend on its type; see `raw`."""

    type: Field[str] = Field(str)
    """`WALLET`, `FLAT`, `CREDIT`, `OUTCOME` or `UNIT`."""
    billing_mode: Field[str] = Field(str)
    """`ADVANCE` or `ARREAR`."""
    amount: Field[float] = Field(float)
    """USD, of a wallet or a flat fee."""
    credit_id: Field[str] = Field(str)
    outcome_id: Field[str] = Field(str)
    unit_id: Field[str] = Field(str)
    quantity: Field[float] = Field(float)
    """Number of them that is granted."""


class Plan(Model):
    """A plan that customers can buy."""

    id: Field[str] = Field(str)
    name: Field[str] = Field(str)
    billing_cycle: Field[str] = Field(str)
    """`MONTHLY`, `QUARTERLY`, `SEMI_ANNUAL`, `YEARLY`, `EVERY_5_MIN` or `FREE`."""
    components: Many[PlanComponent] = Many(PlanComponent)
    description: Field[str] = Field(str)
    currency_code: Field[str] = Field(str)
    """ISO 4217."""
    wallet_funded_arrear: Field[bool] = Field(bool)
    """Whether what is used in arrear is paid from the wallet at once, instead of being invoiced later."""
    price_adjustment: Field[float] = Field(float)
    """Amount added to the price that is due in advance, USD."""
    carry_forward: Field[bool] = Field(bool)
    """Whether what is left at the end of a cycle goes into the next."""
    is_active: Field[bool] = Field(bool)


class Purchase(Model):
    """A purchase: a plan sold to a customer."""

    id: Field[str] = Field(str)
    customer_id: Field[str] = Field(str)
    plan_id: Field[str] = Field(str)
    status: Field[str] = Field(str)
    auto_payment: Field[bool] = Field(bool)
    """Whether its invoices are paid automatically."""
    pause_reason: Field[str] = Field(str)
    """Why automatic payment is paused."""
    billing_date: Field[str] = Field(str)
    """The first day of billing, `YYYY-MM-DD`."""
    notes: Field[str] = Field(str)
    void_after_minutes: Field[int] = Field(int)
    """Minutes until the purchase is void if it is not paid."""


class CustomerPlan(Model):
    """The plan a customer is on and the purchase that put it there; both `None` without a plan."""

    plan: One[Plan] = One(Plan)
    purchase: One[Purchase] = One(Purchase)


class RevenueDay(Model):
    """What a customer brought in on one day."""

    date: Field[str] = Field(str)
    """The day, `YYYY-MM-DD`, UTC."""
    signals: Field[int] = Field(int)
    """Number of signals."""
    revenue: Field[float] = Field(float)
    """What the customer is charged, USD."""
    cost: Field[float] = Field(float)
    """What the models cost, USD."""


class Revenue(Model):
    """What a customer brought in over a range.

    The service documents no field of it. These are those that the emulator sends; `None` where the server
    does not, and all that it does send is in `raw`.
    """

    customer_id: Field[str] = Field(str)
    range: Field[str] = Field(str)
    """How far back, such as `30d`."""
    currency: Field[str] = Field(str)
    """ISO 4217."""
    from_: Field[str] = Field(str)
    """ISO 8601, UTC."""
    to: Field[str] = Field(str)
    """ISO 8601, UTC."""
    signals: Field[int] = Field(int)
    """Number of signals."""
    revenue: Field[float] = Field(float)
    """What the customer is charged, USD."""
    cost: Field[float] = Field(float)
    """What the models cost, USD."""
    series: Many[RevenueDay] = Many(RevenueDay)
    """The days on which anything was recorded, the first one first."""


class PortalToken(Model):
    """A short-lived token for the customer portal, safe to hand to a browser. Not shown in its repr."""

    token: Field[str] = Field(str)
    expires_at: Field[str] = Field(str)
    """ISO 8601, UTC."""
    expires_in: Field[int] = Field(int)
    """Seconds."""

    def __repr__(self) -> str:
        return f"PortalToken(expires_at={self.expires_at!r})"


class Credit(Model):
    """A credit: the unit in which tokens are sold."""

    id: Field[str] = Field(str)
    name: Field[str] = Field(str)
    agent_key: Field[str] = Field(str)
    """The key by which signals name it."""
    base_price: Field[float] = Field(float)
    """Cost of one credit, USD."""
    margin_percent: Field[float] = Field(float)
    """Per cent added to the base price."""
    price_per_credit: Field[float] = Field(float)
    """Price that a customer pays for one, USD."""
    tokens_per_credit: Field[float] = Field(float)
    """Number of tokens in one credit."""
    description: Field[str] = Field(str)
    is_active: Field[bool] = Field(bool)


class OutcomeStep(Model):
    """One step of an outcome."""

    id: Field[str] = Field(str)
    name: Field[str] = Field(str)
    agent_key: Field[str] = Field(str)
    """The key by which signals name it."""
    base_price: Field[float] = Field(float)
    """Cost of the step's tokens, USD."""


class Outcome(Model):
    """An outcome: a workflow that is billed when it is complete."""

    id: Field[str] = Field(str)
    name: Field[str] = Field(str)
    agent_key: Field[str] = Field(str)
    """The outcome's key. Signals name its steps instead."""
    base_price: Field[float] = Field(float)
    """Cost of the tokens of one outcome, all steps together, USD."""
    margin_percent: Field[float] = Field(float)
    """Per cent added to the base price."""
    price_per_outcome: Field[float] = Field(float)
    """Price that a customer pays for one, USD."""
    steps: Many[OutcomeStep] = Many(OutcomeStep)
    description: Field[str] = Field(str)
    is_active: Field[bool] = Field(bool)


class UnitTier(Model):
    """One tier of a unit's price."""

    up_to: Field[float] = Field(float)
    """The last event it covers; `None` in the last tier: no end."""
    price: Field[float] = Field(float)
    """Price of one event in this tier, USD."""


class Unit(Model):
    """A unit: single events, each with a price."""

    id: Field[str] = Field(str)
    name: Field[str] = Field(str)
    agent_key: Field[str] = Field(str)
    """The key by which events name it."""
    pricing_type: Field[str] = Field(str)
    """`FLAT`, `SLAB` (each band at its own rate) or `VOLUME` (all at the tier reached)."""
    flat_price: Field[float] = Field(float)
    """Price of one event, USD; `None` where the unit has tiers."""
    tiers: Many[UnitTier] = Many(UnitTier)
    description: Field[str] = Field(str)
    is_active: Field[bool] = Field(bool)


class UnitEvent(Model):
    """One recorded event of a unit."""

    id: Field[str] = Field(str)
    customer_id: Field[str] = Field(str)
    agent_key: Field[str] = Field(str)
    member: Field[str] = Field(str)
    """The member who caused it, as recorded."""


class UnitRecord(Model):
    """The answer to an event of a unit; its fields are in `raw`, the server documents none."""


class UnitUsage(Model):
    """A customer's events of units, and what is left of each."""

    balances: Many[UnitBalance] = Many(UnitBalance)
    events: Many[UnitEvent] = Many(UnitEvent)


class Member(Model):
    """A member of a customer: a person who causes usage."""

    id: Field[str] = Field(str)
    name: Field[str] = Field(str)
    email: Field[str] = Field(str)


class WalletTransaction(Model):
    """One entry in a customer's wallet."""

    id: Field[str] = Field(str)
    type: Field[str] = Field(str)
    """What kind of entry, such as `TOPUP`."""
    amount: Field[float] = Field(float)
    """USD."""


class Wallet(Model):
    """A customer's wallet and its latest transactions."""

    balance: Field[float] = Field(float)
    """USD."""
    transactions: Many[WalletTransaction] = Many(WalletTransaction)


class WalletEntry(Model):
    """The answer to an entry that was booked in a wallet."""

    transaction: One[WalletTransaction] = One(WalletTransaction)


class Adjustment(Model):
    """What remains of an outcome or a unit after an adjustment."""

    remaining: Field[float] = Field(float)


class PurchaseChange(Model):
    """A purchase after it was changed or cancelled."""

    purchase: One[Purchase] = One(Purchase)


class Invoice(Model):
    """An invoice: what a customer owes."""

    id: Field[str] = Field(str)
    customer_id: Field[str] = Field(str)
    status: Field[str] = Field(str)
    """Such as `OPEN`."""


class InvoiceDetails(Model):
    """An invoice, and the plan it is for."""

    invoice: One[Invoice] = One(Invoice)
    plan: One[Plan] = One(Plan)


class PayLink(Model):
    """A link to pay an invoice; its fields are in `raw`, the server documents none."""


class Payment(Model):
    """A payment: what a customer paid."""

    id: Field[str] = Field(str)
    customer_id: Field[str] = Field(str)


class PaymentDetails(Model):
    """A payment, and the plan it was for."""

    payment: One[Payment] = One(Payment)
    plan: One[Plan] = One(Plan)


class Webhook(Model):
    """A webhook: the address that receives one kind of event."""

    kind: Field[str] = Field(str)
    """Such as `WALLET_LOW`."""
    url: Field[str] = Field(str)
    threshold: Field[float] = Field(float)
    """The value below which the event is sent, such as a balance in USD."""


class Identity(Model):
    """The organisation an API key belongs to, sandbox or live; its fields are in `raw`."""


class CatalogueModel(Model):
    """A model that signals can name. Prices are USD per 1,000,000 tokens."""

    model_id: Field[str] = Field(str)
    input_price: Field[float] = Field(float)
    output_price: Field[float] = Field(float)
    cache_price: Field[float] = Field(float)
    is_active: Field[bool] = Field(bool)
