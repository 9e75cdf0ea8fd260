"""What an emulated organisation remembers: signals, events, accounts, purchases and what is owed.

Data and how the API shows it. What happens to it is the business of `books`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, TypeAlias

from clocknext_transports.emulator.books.catalogue import Plan
from clocknext_transports.emulator.books.envelopes import Issue, timestamp
from clocknext_transports.emulator.books.pricing import ZERO, add

SignalType: TypeAlias = Literal["wallet", "credit", "outcome"]
ItemKind: TypeAlias = Literal["credit", "outcome", "unit"]
"""What is held in a number of pieces, as opposed to money."""

CUSTOMER_FIELDS: tuple[str, ...] = (
    "name", "email", "description", "website", "phone", "legalName", "addressLine1", "addressLine2", "city",
    "state", "country", "pincode", "taxId", "notes", "logoUrl", "currencyCode",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Booked:
    """One signal as recorded: priced, debited, never changed again. Costs are exact."""

    id: str
    customer_id: str
    type: SignalType
    model: str
    """The id in the catalogue, whatever case the request used."""
    key: str | None
    """Credit key or step key; `None` for wallet signals."""
    input_tokens: int
    output_tokens: int
    cache_tokens: int
    provided_cost: Decimal
    """USD: what the tokens cost the organisation."""
    credits_used: Decimal
    customer_cost: Decimal
    """USD charged to the customer."""
    status: str
    created_at: float
    """Wall clock, seconds since 1970."""
    idempotency_key: str | None = None
    member: str | None = None
    custom: Mapping[str, object] | None = None
    run_id: str | None = None
    complete: bool | None = None
    outcome: str | None = None
    """Key of the outcome the step belongs to."""
    component: str | None = None
    """Id of the credit or outcome whose balance it is about."""
    bills_outcome: bool = False
    """Whether this is the signal that billed its outcome."""
    extra: Mapping[str, object] = field(default_factory=dict[str, object])
    """Properties the API has no field for: metrics."""

    def as_log(self) -> dict[str, object]:
        """Return the usage log the API shows for this signal."""
        log: dict[str, object] = {
            "id": self.id,
            "customerId": self.customer_id,
            "type": self.type,
            "model": self.model,
            "agentKey": self.key,
            "inputTokens": self.input_tokens,
            "outputTokens": self.output_tokens,
            "cacheTokens": self.cache_tokens,
            "creditsUsed": float(self.credits_used),
            "providedCost": float(self.provided_cost),
            "customerCost": float(self.customer_cost),
            "status": self.status,
            "member": self.member,
            "custom": self.custom,
            "idempotencyKey": self.idempotency_key,
            "createdAt": timestamp(self.created_at),
        }
        if self.type == "outcome":
            log["outcomeKey"] = self.outcome
            log["runId"] = self.run_id
            log["complete"] = self.complete
        if self.extra:
            log["metrics"] = self.extra
        return log


@dataclass(slots=True)
class Totals:
    """Running sums over recorded signals. Costs are exact."""

    signals: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_tokens: int = 0
    provided_cost: Decimal = ZERO
    credits_used: Decimal = ZERO
    customer_cost: Decimal = ZERO

    def count(self, signal: Booked) -> None:
        """Add one signal."""
        self.signals += 1
        self.input_tokens += signal.input_tokens
        self.output_tokens += signal.output_tokens
        self.cache_tokens += signal.cache_tokens
        self.provided_cost = add(self.provided_cost, signal.provided_cost)
        self.credits_used = add(self.credits_used, signal.credits_used)
        self.customer_cost = add(self.customer_cost, signal.customer_cost)

    @classmethod
    def of(cls, signals: Iterable[Booked]) -> "Totals":
        """Sum signals up."""
        totals = cls()
        for signal in signals:
            totals.count(signal)
        return totals

    def as_json(self) -> dict[str, object]:
        """Return the sums under their wire names."""
        return {
            "signals": self.signals,
            "inputTokens": self.input_tokens,
            "outputTokens": self.output_tokens,
            "cacheTokens": self.cache_tokens,
            "providedCost": float(self.provided_cost),
            "creditsUsed": float(self.credits_used),
            "customerCost": float(self.customer_cost),
        }


@dataclass(slots=True)
class Counters:
    """How often what happened: what a test asserts to show that it was not vacuous."""

    requests: int = 0
    """Seen, faults included."""
    refused: int = 0
    """Answered 4xx by the ledger itself."""
    repeats: int = 0
    """Signals whose key was recorded already: answered with the first result."""
    dry_runs: int = 0


@dataclass(frozen=True, slots=True)
class UnitEvent:
    """One event of a unit as recorded. Its cost is exact."""

    id: str
    customer_id: str
    unit_id: str
    key: str
    member: str | None
    customer_cost: Decimal
    """USD charged: what this event adds to the price of all so far. Under `VOLUME` it may be negative."""
    created_at: float
    """Wall clock, seconds since 1970."""

    def as_json(self) -> dict[str, object]:
        """Return the event as the API shows it."""
        return {
            "id": self.id,
            "customerId": self.customer_id,
            "unitId": self.unit_id,
            "agentKey": self.key,
            "member": self.member,
            "customerCost": float(self.customer_cost),
            "createdAt": timestamp(self.created_at),
        }


@dataclass(frozen=True, slots=True)
class Held:
    """A signal that was taken with 202 and could not be billed: it waits for a person to mend it."""

    signal_id: str
    body: Mapping[str, object]
    status: int
    """What it would have been answered otherwise."""
    message: str
    issues: tuple[Issue, ...]
    received_at: float
    """Wall clock, seconds since 1970."""

    def as_json(self) -> dict[str, object]:
        """Return it as the read-back over HTTP shows it."""
        return {
            "signalId": self.signal_id,
            "body": self.body,
            "status": self.status,
            "message": self.message,
            "issues": [issue.as_json() for issue in self.issues],
            "receivedAt": timestamp(self.received_at),
        }


@dataclass(frozen=True, slots=True)
class WalletEntry:
    """One entry in a wallet, other than a signal's debit."""

    id: str
    type: str
    amount: Decimal
    """USD; negative takes away."""
    created_at: float

    def as_json(self) -> dict[str, object]:
        """Return the entry as the API shows it."""
        return {
            "id": self.id,
            "type": self.type,
            "amount": float(self.amount),
            "createdAt": timestamp(self.created_at),
        }


@dataclass(slots=True)
class Balance:
    """What is left of one component."""

    left: Decimal
    arrear: bool = False
    """Whether it may go below zero."""
    events: int = 0
    """For a unit: how many events were recorded since it was granted. Tiers go by that."""

    def bears(self, amount: Decimal) -> bool:
        """Tell whether so much can be taken off."""
        return self.arrear or amount <= self.left


@dataclass(slots=True)
class Purchase:
    """A plan sold to a customer, on the terms it had then."""

    id: str
    customer_id: str
    plan: Plan
    created_at: float
    auto_payment: bool = False
    pause_reason: str | None = None
    details: Mapping[str, object] = field(default_factory=dict[str, object])
    """What was said of it and means nothing here: billing date, notes."""
    stand_in: bool = False
    """Whether it is the default plan of a customer created over the API: theirs only until they buy one."""
    cancelled_at: float | None = None

    @property
    def active(self) -> bool:
        """Whether it has not been cancelled."""
        return self.cancelled_at is None

    @property
    def status(self) -> str:
        """`ACTIVE` or `CANCELLED`."""
        return "ACTIVE" if self.active else "CANCELLED"

    def as_json(self) -> dict[str, object]:
        """Return the purchase as the API shows it."""
        return {
            "id": self.id,
            "customerId": self.customer_id,
            "planId": self.plan.id,
            "status": self.status,
            "autoPayment": self.auto_payment,
            "pauseReason": self.pause_reason,
            **self.details,
            "createdAt": timestamp(self.created_at),
            "cancelledAt": _when(self.cancelled_at),
        }


@dataclass(slots=True)
class Invoice:
    """What a customer owes for a purchase."""

    id: str
    purchase: Purchase
    lines: tuple[Mapping[str, object], ...]
    amount: Decimal
    """USD."""
    created_at: float
    status: Literal["OPEN", "PAID", "VOID"] = "OPEN"
    paid_at: float | None = None

    @property
    def customer_id(self) -> str:
        """Who owes it."""
        return self.purchase.customer_id

    def as_json(self) -> dict[str, object]:
        """Return the invoice as the API shows it."""
        return {
            "id": self.id,
            "customerId": self.customer_id,
            "purchaseId": self.purchase.id,
            "planId": self.purchase.plan.id,
            "status": self.status,
            "amount": float(self.amount),
            "currencyCode": self.purchase.plan.currency,
            "lines": self.lines,
            "createdAt": timestamp(self.created_at),
            "paidAt": _when(self.paid_at),
        }


@dataclass(frozen=True, slots=True)
class Payment:
    """What a customer paid for an invoice."""

    id: str
    invoice: Invoice
    created_at: float

    @property
    def customer_id(self) -> str:
        """Who paid."""
        return self.invoice.customer_id

    @property
    def status(self) -> str:
        """Always `SUCCEEDED`."""
        return "SUCCEEDED"

    def as_json(self) -> dict[str, object]:
        """Return the payment as the API shows it."""
        return {
            "id": self.id,
            "customerId": self.customer_id,
            "invoiceId": self.invoice.id,
            "purchaseId": self.invoice.purchase.id,
            "status": self.status,
            "amount": float(self.invoice.amount),
            "currencyCode": self.invoice.purchase.plan.currency,
            "createdAt": timestamp(self.created_at),
        }


@dataclass(slots=True)
class Account:
    """One customer and what is left to them."""

    id: str
    number: int
    """Position in the order of creation: what list cursors count by."""
    details: dict[str, object]
    """The customer's own fields under their wire names, every one present."""
    created_at: float
    updated_at: float
    purchase: Purchase | None = None
    """What put them on the plan they are on."""
    wallet: Balance | None = None
    """USD; `None`: no wallet component."""
    held: dict[ItemKind, dict[str, Balance]] = field(
        default_factory=lambda: {"credit": {}, "outcome": {}, "unit": {}}
    )
    """By kind and id; an id that is absent is a component the plan lacks."""
    signals: list[Booked] = field(default_factory=list[Booked])
    events: list[UnitEvent] = field(default_factory=list[UnitEvent])
    entries: list[WalletEntry] = field(default_factory=list[WalletEntry])
    members: dict[str, dict[str, object]] = field(default_factory=dict[str, dict[str, object]])
    """By id, as the API shows them."""
    totals: Totals = field(default_factory=Totals)

    def as_json(self) -> dict[str, object]:
        """Return the customer as the API shows it."""
        return {
            "id": self.id,
            **self.details,
            "createdAt": timestamp(self.created_at),
            "updatedAt": timestamp(self.updated_at),
        }


def _when(at: float | None) -> str | None:
    return None if at is None else timestamp(at)
