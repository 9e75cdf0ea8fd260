"""What an emulated organisation knows: customers, what they hold, and every signal recorded.

The one place where state changes. Nothing here parses, wraps or refuses more than an unknown customer.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from typing import Literal, TypeAlias

from clocknext_transports.emulator.catalogue import Catalogue, Credit, Customer, Model, Outcome, Plan
from clocknext_transports.emulator.envelopes import Refusal, timestamp
from clocknext_transports.emulator.pricing import ZERO, Rates, add, exact, subtract

SignalType: TypeAlias = Literal["wallet", "credit", "outcome"]
IdFactory: TypeAlias = Callable[[str], str]
"""Makes a fresh id from its prefix, such as `log`."""

CUSTOMER_FIELDS: tuple[str, ...] = (
    "name", "email", "description", "website", "phone", "legalName", "addressLine1", "addressLine2", "city",
    "state", "country", "pincode", "taxId", "notes", "logoUrl", "currencyCode",
)  # fmt: skip


def counting_ids() -> IdFactory:
    """Return a factory that counts per prefix: `log_1`, `log_2`, `cus_1`, …: the same in every run."""
    counters: dict[str, count[int]] = {}

    def make(prefix: str) -> str:
        return f"{prefix}_{next(counters.setdefault(prefix, count(1)))}"

    return make


@dataclass(frozen=True, slots=True)
class Signal:
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

    def count(self, signal: Signal) -> None:
        """Add one signal."""
        self.signals += 1
        self.input_tokens += signal.input_tokens
        self.output_tokens += signal.output_tokens
        self.cache_tokens += signal.cache_tokens
        self.provided_cost = add(self.provided_cost, signal.provided_cost)
        self.credits_used = add(self.credits_used, signal.credits_used)
        self.customer_cost = add(self.customer_cost, signal.customer_cost)

    @classmethod
    def of(cls, signals: Iterable[Signal]) -> "Totals":
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
    plan: Plan | None
    wallet: Decimal | None
    """USD; `None`: no wallet component."""
    credits: dict[str, Decimal]
    """By credit key; a key that is absent is a component the plan lacks."""
    outcomes: dict[str, Decimal]
    """By outcome key; the same."""
    signals: list[Signal] = field(default_factory=list[Signal])
    totals: Totals = field(default_factory=Totals)

    @property
    def in_arrear(self) -> bool:
        """Whether balances may go below zero."""
        return self.plan is not None and self.plan.arrear

    def as_json(self) -> dict[str, object]:
        """Return the customer as the API shows it."""
        return {
            "id": self.id,
            **self.details,
            "createdAt": timestamp(self.created_at),
            "updatedAt": timestamp(self.updated_at),
        }


class Books:
    """The state behind a ledger: a catalogue brought to life.

    Args:
        catalogue: What to start with.
        ids: Where ids of logs, customers and tokens come from.
    """

    def __init__(self, catalogue: Catalogue, ids: IdFactory) -> None:
        self.organisation = catalogue.organisation
        self.new_id = ids
        self.counters = Counters()
        self.signals: list[Signal] = []
        self.models: dict[str, tuple[Model, Rates]] = {}
        self.credits: dict[str, Credit] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.outcome_by_step: dict[str, Outcome] = {}
        self.plans = {plan.id: plan for plan in catalogue.plans}
        self.default_plan = catalogue.default_plan
        self.accounts: dict[str, Account] = {}
        self._by_idempotency_key: dict[str, list[Signal]] = {}
        self._billed_runs: set[tuple[str, str, str]] = set()
        self._numbers = count(1)
        for model in catalogue.models:
            self.add_model(model)
        for credit in catalogue.credits:
            self.credits[credit.key] = credit
        for outcome in catalogue.outcomes:
            self.add_outcome(outcome)
        for customer in catalogue.customers:
            self.add_customer(customer, now=0.0)

    def add_model(self, model: Model) -> None:
        """Add or replace a model."""
        rates = Rates(exact(model.input), exact(model.output), exact(model.cache))
        self.models[model.id.casefold()] = (model, rates)

    def add_outcome(self, outcome: Outcome) -> None:
        """Add or replace an outcome and its steps."""
        self.outcomes[outcome.key] = outcome
        self.outcome_by_step.update(dict.fromkeys(outcome.steps, outcome))

    def add_customer(self, customer: Customer, *, now: float) -> Account:
        """Open an account: the plan's components, then what the customer holds instead.

        Raises:
            ValueError: The catalogue has no such plan.
        """
        if customer.plan is not None and customer.plan not in self.plans:
            raise ValueError(f"Customer {customer.id!r} is on a plan the catalogue lacks: {customer.plan!r}.")
        plan = self.plans.get(customer.plan or "")
        wallet = customer.wallet if plan is None or customer.wallet is not None else plan.wallet
        details: dict[str, object] = {
            **dict.fromkeys(CUSTOMER_FIELDS),
            "name": customer.name,
            "email": customer.email,
            "currencyCode": "USD",
        }
        account = Account(
            id=customer.id,
            number=next(self._numbers),
            details=details,
            created_at=now,
            updated_at=now,
            plan=plan,
            wallet=None if wallet is None else exact(wallet),
            credits={k: exact(v) for k, v in {**(plan.credits if plan else {}), **customer.credits}.items()},
            outcomes={
                k: exact(v) for k, v in {**(plan.outcomes if plan else {}), **customer.outcomes}.items()
            },
        )
        self.accounts[account.id] = account
        return account

    def new_customer_id(self) -> str:
        """Make an id no customer has yet."""
        while (fresh := self.new_id("cus")) in self.accounts:
            pass
        return fresh

    def account(self, customer_id: str) -> Account:
        """Return a customer's account.

        Raises:
            Refusal: 404, no such customer.
        """
        account = self.accounts.get(customer_id)
        if account is None:
            raise Refusal(404, f'No customer with id "{customer_id}".')
        return account

    def first_result(self, idempotency_key: str) -> Signal | None:
        """Return the signal recorded under a key, if there is one."""
        recorded = self._by_idempotency_key.get(idempotency_key)
        return recorded[0] if recorded else None

    def times_recorded(self, idempotency_key: str) -> int:
        """Count the signals recorded under a key."""
        return len(self._by_idempotency_key.get(idempotency_key, ()))

    def run_is_billed(self, customer_id: str, outcome: str, run_id: str) -> bool:
        """Tell whether a run has billed its outcome."""
        return (customer_id, outcome, run_id) in self._billed_runs

    def commit(self, account: Account, signal: Signal) -> None:
        """Record a signal and debit what it costs. The caller has checked that the balance will bear it."""
        match signal.type:
            case "wallet":
                if account.wallet is not None:
                    account.wallet = subtract(account.wallet, signal.customer_cost)
            case "credit":
                key = signal.key or ""
                account.credits[key] = subtract(account.credits[key], signal.credits_used)
            case "outcome":
                if signal.bills_outcome and signal.outcome is not None:
                    account.outcomes[signal.outcome] -= 1
                    if signal.run_id is not None:
                        self._billed_runs.add((account.id, signal.outcome, signal.run_id))
        self.signals.append(signal)
        account.signals.append(signal)
        account.totals.count(signal)
        if signal.idempotency_key is not None:
            self._by_idempotency_key.setdefault(signal.idempotency_key, []).append(signal)
