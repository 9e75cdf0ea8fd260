"""The records of an emulated organisation: signals, events, accounts, purchases, invoices and payments.

Data, and the form in which the API shows it. `books` changes it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, TypeAlias

from clocknext_transports.emulator.books.catalogue import Plan
from clocknext_transports.emulator.books.envelopes import Issue, timestamp
from clocknext_transports.emulator.books.pricing import ZERO, add

SignalType: TypeAlias = Literal["wallet", "credit", "outcome"]
ItemKind: TypeAlias = Literal["credit", "outcome", "unit"]
"""Items that customers hold a number of, as opposed to money."""

CUSTOMER_FIELDS: tuple[str, ...] = (
    "name", "email", "description", "website", "phone", "legalName", "addressLine1", "addressLine2", "city",
    "state", "country", "pincode", "taxId", "notes", "logoUrl", "currencyCode",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Booked:
    """One recorded signal: priced, debited, never changed again. Costs are exact."""

    id: str
    customer_id: str
    type: SignalType
    model: str
    """The id in the catalogue; the request may have spelt it in another case."""
    key: str | None
    """Credit key or step key; `None` for wallet signals."""
    input_tokens: int
    output_tokens: int
    cache_tokens: int
    provided_cost: Decimal
    """USD: the cost of the tokens to the organisation."""
    credits_used: Decimal
    customer_cost: Decimal
    """USD charged to the customer."""
    wallet_debit: Decimal
    """USD taken from the wallet: by a wallet signal, and by usage in arrear that the wallet funds."""
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
    """Id of the credit or outcome whose balance it uses."""
    bills_outcome: bool = False
    """Whether this signal billed its outcome."""
    extra: Mapping[str, object] = field(default_factory=dict[str, object])
    """Properties that are no field of the API: metrics."""

    def as_log(self) -> dict[str, object]:
        """Return the usage log of the signal, as the API shows it."""
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
        """Return the sums over signals."""
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
    """Counts of requests by their kind. A test asserts them to show that it was not vacuous."""

    requests: int = 0
    """All requests, those that met a fault included."""
    refused: int = 0
    """Refused with 4xx by the ledger itself."""
    repeats: int = 0
    """Signals whose idempotency key was recorded already: answered with the first result."""
    dry_runs: int = 0


@dataclass(frozen=True, slots=True)
class UnitEvent:
    """One recorded event of a unit. Its cost is exact."""

    id: str
    customer_id: str
    unit_id: str
    key: str
    member: str | None
    customer_cost: Decimal
    """USD charged: the amount that this event adds to the price of all so far. It may be negative under
    `VOLUME`."""
    created_at: float
    """Wall clock, seconds since 1970."""
    wallet_debit: Decimal = ZERO
    """USD taken from the wallet, where it funds usage in arrear."""

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
    """A signal that was answered with 202 and could not be billed."""

    signal_id: str
    body: object
    """The body, parsed; the text itself where it is not JSON."""
    status: int
    """The status of the refusal."""
    message: str
    issues: tuple[Issue, ...]
    received_at: float
    """Wall clock, seconds since 1970."""

    def as_json(self) -> dict[str, object]:
        """Return the record as the read-back over HTTP shows it."""
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
    """One entry in a wallet that is not the debit of a signal or event."""

    id: str
    type: str
    amount: Decimal
    """USD; negative for a debit."""
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
    """The balance of one component."""

    left: Decimal
    arrear: bool = False
    """Whether it may fall below zero."""
    events: int = 0
    """For a unit: the number of events recorded since it was granted, which selects the tier."""

    def bears(self, amount: Decimal) -> bool:
        """Return whether an amount can be debited."""
        return self.arrear or amount <= self.left


@dataclass(slots=True, eq=False)
class Purchase:
    """A plan sold to a customer, on the terms of that moment."""

    id: str
    customer_id: str
    plan: Plan
    created_at: float
    auto_payment: bool = False
    pause_reason: str | None = None
    details: Mapping[str, object] = field(default_factory=dict[str, object])
    """Fields that are shown only: billing date, notes, time-out."""
    lines: Sequence[Mapping[str, object]] = ()
    """The lines of its invoice."""
    due: Decimal = ZERO
    """USD, due when it activates."""
    starts_at: float = 0.0
    """When it activates: wall clock, seconds since 1970."""
    stand_in: bool = False
    """Whether it is the default plan of a customer created over the API, which the first purchase ends."""
    activated: bool = False
    cancelled_at: float | None = None

    @property
    def status(self) -> str:
        """`SCHEDULED`, `ACTIVE` or `CANCELLED`."""
        if self.cancelled_at is not None:
            return "CANCELLED"
        return "ACTIVE" if self.activated else "SCHEDULED"

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
    """An invoice for a purchase."""

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
        """Id of the customer who owes it."""
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
    """A payment of an invoice."""

    id: str
    invoice: Invoice
    created_at: float

    @property
    def customer_id(self) -> str:
        """Id of the customer who paid."""
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
    """One customer with all balances and records."""

    id: str
    number: int
    """Position in the order of creation, which the cursors of lists refer to."""
    details: dict[str, object]
    """The customer's own fields under their wire names, every one present."""
    created_at: float
    updated_at: float
    purchase: Purchase | None = None
    """The active purchase."""
    wallet: Balance | None = None
    """USD; `None`: no wallet component."""
    held: dict[ItemKind, dict[str, Balance]] = field(
        default_factory=lambda: {"credit": {}, "outcome": {}, "unit": {}}
    )
    """By kind and id. An absent id is a component that the plan does not have."""
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
