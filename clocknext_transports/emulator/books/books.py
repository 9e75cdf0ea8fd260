"""What an emulated organisation knows: what it sells, customers, what they hold, and all that was recorded.

The one place where state changes. Nothing here parses, wraps or refuses more than an unknown customer.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import count
from typing import Generic, TypeAlias, TypeVar

from clocknext_transports.emulator.books.catalogue import (
    Catalogue,
    Component,
    ComponentType,
    Credit,
    Customer,
    Item,
    Model,
    Outcome,
    Plan,
    Unit,
    pieces,
)
from clocknext_transports.emulator.books.envelopes import Refusal
from clocknext_transports.emulator.books.pricing import ONE, ZERO, Amount, Rates, add, exact, subtract, sum_of
from clocknext_transports.emulator.books.records import (
    CUSTOMER_FIELDS,
    Account,
    Balance,
    Booked,
    Counters,
    Held,
    Invoice,
    ItemKind,
    Payment,
    Purchase,
    UnitEvent,
    WalletEntry,
)

D = TypeVar("D", bound=Plan | Item)

IdFactory: TypeAlias = Callable[[str], str]
"""Makes a fresh id from its prefix, such as `log`."""

_ITEMS: Mapping[ComponentType, ItemKind] = {"CREDIT": "credit", "OUTCOME": "outcome", "UNIT": "unit"}


def counting_ids() -> IdFactory:
    """Return a factory that counts per prefix: `log_1`, `log_2`, `cus_1`, …: the same in every run."""
    counters: dict[str, count[int]] = {}

    def make(prefix: str) -> str:
        return f"{prefix}_{next(counters.setdefault(prefix, count(1)))}"

    return make


class Shelf(Generic[D]):
    """Definitions of one kind, found by id and by the keys signals name them by.

    Args:
        keys: Tells those keys.
        definitions: What to start with.
    """

    def __init__(self, keys: Callable[[D], Iterable[str]], definitions: Iterable[D] = ()) -> None:
        self._keys = keys
        self.by_id: dict[str, D] = {}
        self.by_key: dict[str, D] = {}
        for definition in definitions:
            self.put(definition)

    def put(self, definition: D) -> None:
        """Add a definition, or replace the one of its id."""
        if definition.id in self.by_id:
            self.remove(definition.id)
        self.by_id[definition.id] = definition
        self.by_key.update(dict.fromkeys(self._keys(definition), definition))

    def remove(self, definition_id: str) -> None:
        """Forget a definition and its keys."""
        definition = self.by_id.pop(definition_id)
        self.by_key = {key: other for key, other in self.by_key.items() if other is not definition}

    def taken_key(self, definition: D) -> str | None:
        """Return a key of the definition that another one has, if there is one."""
        for key in self._keys(definition):
            if key in self.by_key and self.by_key[key].id != definition.id:
                return key
        return None

    def name_of(self, definition_id: str) -> str:
        """Return a definition's name; the id where there is none any more."""
        found = self.by_id.get(definition_id)
        return found.name if found is not None else definition_id


class Books:
    """The state behind a ledger: a catalogue brought to life.

    Args:
        catalogue: What to start with.
        ids: Where ids of logs, customers, tokens and all else come from.
        accept_only: Whether signals are taken with 202 before they are priced.
    """

    def __init__(self, catalogue: Catalogue, ids: IdFactory, *, accept_only: bool = False) -> None:
        self.organisation = catalogue.organisation
        self.accept_only = accept_only
        self.new_id = ids
        self.counters = Counters()
        self.signals: list[Booked] = []
        self.unit_events: list[UnitEvent] = []
        self.held: list[Held] = []
        self.models: dict[str, tuple[Model, Rates]] = {}
        self.credits = Shelf[Credit](lambda credit: (credit.key,), catalogue.credits)
        self.outcomes = Shelf[Outcome](lambda o: (step.key for step in o.all_steps), catalogue.outcomes)
        self.units = Shelf[Unit](lambda unit: (unit.key,), catalogue.units)
        self.plans = Shelf[Plan](lambda _: (), catalogue.plans)
        self.items: Mapping[ItemKind, Shelf[Credit] | Shelf[Outcome] | Shelf[Unit]] = {
            "credit": self.credits,
            "outcome": self.outcomes,
            "unit": self.units,
        }
        self.default_plan = catalogue.default_plan
        self.accounts: dict[str, Account] = {}
        self.purchases: dict[str, Purchase] = {}
        self.invoices: dict[str, Invoice] = {}
        self.payments: dict[str, Payment] = {}
        self.webhooks: dict[str, dict[str, object]] = {}
        """By kind of event, as the API shows them."""
        self._by_idempotency_key: dict[str, list[Booked]] = {}
        self._billed_runs: set[tuple[str, str, str]] = set()
        self._numbers = count(1)
        for model in catalogue.models:
            self.add_model(model)
        for customer in catalogue.customers:
            self.add_customer(customer, now=0.0)

    def add_model(self, model: Model) -> None:
        """Add or replace a model."""
        rates = Rates(exact(model.input), exact(model.output), exact(model.cache))
        self.models[model.id.casefold()] = (model, rates)

    def fresh_id(self, prefix: str, taken: Mapping[str, object]) -> str:
        """Make an id that is not taken yet."""
        while (fresh := self.new_id(prefix)) in taken:
            pass
        return fresh

    # Customers

    def add_customer(self, customer: Customer, *, now: float, stand_in: bool = False) -> Account:
        """Open an account: the plan's components, then what the customer holds instead.

        Args:
            customer: Who, and what they hold.
            now: Wall clock, seconds since 1970.
            stand_in: Whether the plan is theirs only until they buy one.

        Raises:
            ValueError: The catalogue has no such plan.
        """
        if customer.plan is not None and customer.plan not in self.plans.by_id:
            raise ValueError(f"Customer {customer.id!r} is on a plan the catalogue lacks: {customer.plan!r}.")
        details: dict[str, object] = {
            **dict.fromkeys(CUSTOMER_FIELDS),
            "name": customer.name,
            "email": customer.email,
            "currencyCode": "USD",
        }
        if customer.id in self.accounts:
            self.close_account(self.accounts[customer.id], now=now)
        account = Account(customer.id, next(self._numbers), details, created_at=now, updated_at=now)
        self.accounts[account.id] = account
        plan = None if customer.plan is None else self.plans.by_id[customer.plan]
        if plan is not None:
            purchase = Purchase(f"pur_{account.id}", account.id, plan, created_at=now, stand_in=stand_in)
            self.purchases[purchase.id] = account.purchase = purchase
        self._grant(account, _held_by(customer, plan), now=now)
        return account

    def account(self, customer_id: str) -> Account:
        """Return a customer's account.

        Raises:
            Refusal: 404, no such customer.
        """
        account = self.accounts.get(customer_id)
        if account is None:
            raise Refusal(404, f'No customer with id "{customer_id}".')
        return account

    def close_account(self, account: Account, *, now: float) -> None:
        """Forget a customer and end what they bought. What was recorded stays."""
        if account.purchase is not None:
            self.cancel(account.purchase, now=now)
        del self.accounts[account.id]

    # What customers hold

    def book(self, account: Account, kind: str, amount: Decimal, *, now: float) -> WalletEntry:
        """Enter an amount in a wallet, and open it if there is none. Negative takes away."""
        if account.wallet is None:
            account.wallet = Balance(ZERO)
        account.wallet.left = add(account.wallet.left, amount)
        # Not from the id factory: the same customer has the same entries, whatever else happens.
        entry = WalletEntry(f"txn_{account.id}_{len(account.entries) + 1}", kind, amount, now)
        account.entries.append(entry)
        return entry

    def _grant(self, account: Account, components: Iterable[Component], *, now: float) -> None:
        for component in components:
            amount = exact(component.amount or 0)
            if component.type == "WALLET":
                self.book(account, "GRANT", amount, now=now)
                if account.wallet is not None:
                    account.wallet.arrear = component.arrear
            elif component.type != "FLAT" and component.item is not None:
                held = account.held[_ITEMS[component.type]]
                held[component.item] = Balance(amount, component.arrear)

    # Purchases

    def sell(
        self, purchase: Purchase, lines: Sequence[Mapping[str, object]], amount: Decimal, *, now: float
    ) -> None:
        """Put a customer on a plan in place of the one they are on, and invoice what is due.

        Allowances become what the new plan includes; money in the wallet stays and is added to.
        """
        account = self.account(purchase.customer_id)
        if account.purchase is not None:
            self.cancel(account.purchase, now=now)
        self.purchases[purchase.id] = account.purchase = purchase
        self._grant(account, purchase.plan.all_components, now=now)
        if amount:
            invoice_id = self.fresh_id("inv", self.invoices)
            self.invoices[invoice_id] = Invoice(invoice_id, purchase, tuple(lines), amount, now)
            self.collect(purchase, now=now)

    def collect(self, purchase: Purchase, *, now: float) -> None:
        """Pay a purchase's open invoices, if it is to be paid automatically."""
        if purchase.auto_payment:
            for invoice in self._open_invoices(purchase):
                invoice.status, invoice.paid_at = "PAID", now
                payment_id = self.fresh_id("pay", self.payments)
                self.payments[payment_id] = Payment(payment_id, invoice, now)

    def cancel(self, purchase: Purchase, *, now: float) -> None:
        """End a purchase: its open invoices are void, its allowances gone. Money in the wallet stays."""
        purchase.cancelled_at = now
        for invoice in self._open_invoices(purchase):
            invoice.status = "VOID"
        account = self.accounts[purchase.customer_id]
        account.purchase = None
        account.held = {"credit": {}, "outcome": {}, "unit": {}}
        if account.wallet is not None:
            account.wallet.arrear = False
            if purchase.stand_in and account.wallet.left > 0:
                # Nobody paid for this money. What was topped up is spent last, and is theirs to keep.
                given = sum_of(exact(c.amount or 0) for c in _wallets(purchase.plan))
                self.book(account, "GRANT", -min(given, account.wallet.left), now=now)

    def _open_invoices(self, purchase: Purchase) -> list[Invoice]:
        found = (invoice for invoice in self.invoices.values() if invoice.purchase is purchase)
        return [invoice for invoice in found if invoice.status == "OPEN"]

    # Signals and unit events

    def first_result(self, idempotency_key: str) -> Booked | None:
        """Return the signal recorded under a key, if there is one."""
        recorded = self._by_idempotency_key.get(idempotency_key)
        return recorded[0] if recorded else None

    def times_recorded(self, idempotency_key: str) -> int:
        """Count the signals recorded under a key."""
        return len(self._by_idempotency_key.get(idempotency_key, ()))

    def run_is_billed(self, customer_id: str, outcome_id: str, run_id: str) -> bool:
        """Tell whether a run has billed its outcome."""
        return (customer_id, outcome_id, run_id) in self._billed_runs

    def commit(self, account: Account, signal: Booked) -> None:
        """Record a signal and debit what it costs. The caller has checked that the balance will bear it."""
        match signal.type:
            case "wallet":
                if account.wallet is not None:
                    account.wallet.left = subtract(account.wallet.left, signal.customer_cost)
            case "credit":
                balance = account.held["credit"][signal.component or ""]
                balance.left = subtract(balance.left, signal.credits_used)
            case "outcome":
                if signal.bills_outcome and signal.component is not None:
                    balance = account.held["outcome"][signal.component]
                    balance.left = subtract(balance.left, ONE)
                    if signal.run_id is not None:
                        self._billed_runs.add((account.id, signal.component, signal.run_id))
        self.signals.append(signal)
        account.signals.append(signal)
        account.totals.count(signal)
        if signal.idempotency_key is not None:
            self._by_idempotency_key.setdefault(signal.idempotency_key, []).append(signal)

    def commit_event(self, account: Account, event: UnitEvent) -> None:
        """Record an event of a unit. The caller has checked that the balance will bear it."""
        balance = account.held["unit"][event.unit_id]
        balance.left = subtract(balance.left, ONE)
        balance.events += 1
        self.unit_events.append(event)
        account.events.append(event)


def _held_by(customer: Customer, plan: Plan | None) -> Iterable[Component]:
    """List what a customer holds: the plan's components, those named by the customer in their place."""
    components = {(c.type, c.item): c for c in (plan.all_components if plan is not None else ())}

    def instead(kind: ComponentType, item: str | None, amount: Amount) -> None:
        former = components.get((kind, item))
        arrear = plan is not None and (plan.arrear if former is None else former.arrear)
        components[kind, item] = Component(kind, amount, item, arrear)

    if customer.wallet is not None:
        instead("WALLET", None, customer.wallet)
    for component in pieces(customer.credits, customer.outcomes, customer.units):
        instead(component.type, component.item, component.amount or 0)
    return components.values()


def _wallets(plan: Plan) -> Iterable[Component]:
    return (component for component in plan.all_components if component.type == "WALLET")
