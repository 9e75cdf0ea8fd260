"""The state of an emulated organisation: what it sells, its customers, their balances and all records.

State changes here and nowhere else. Nothing here parses or wraps; the one refusal is of unknown customers.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
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
    Listed,
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
"""Makes a new id from its prefix, such as `log`."""

_ITEMS: Mapping[ComponentType, ItemKind] = {"CREDIT": "credit", "OUTCOME": "outcome", "UNIT": "unit"}


def counting_ids() -> IdFactory:
    """Return a factory that counts per prefix: `log_1`, `log_2`, `cus_1`, …; the same in every run."""
    counters: dict[str, count[int]] = {}

    def make(prefix: str) -> str:
        return f"{prefix}_{next(counters.setdefault(prefix, count(1)))}"

    return make


class Shelf(Generic[D]):
    """Definitions of one kind, found by id and by agent key.

    Args:
        keys: Returns the agent keys of a definition.
        definitions: The definitions to start with.
    """

    def __init__(self, keys: Callable[[D], Iterable[str]], definitions: Iterable[D] = ()) -> None:
        self.keys = keys
        self.by_id: dict[str, D] = {}
        self.by_key: dict[str, D] = {}
        for definition in definitions:
            self.put(definition)

    def put(self, definition: D) -> None:
        """Add a definition, or replace the one with its id."""
        if definition.id in self.by_id:
            # Taken out by its keys alone, so that it keeps its place in lists.
            self._forget_keys(self.by_id[definition.id])
        self.by_id[definition.id] = definition
        self.by_key.update(dict.fromkeys(self.keys(definition), definition))

    def remove(self, definition_id: str) -> None:
        """Remove a definition and its keys."""
        self._forget_keys(self.by_id.pop(definition_id))

    def _forget_keys(self, definition: D) -> None:
        self.by_key = {key: other for key, other in self.by_key.items() if other is not definition}

    def name_of(self, definition_id: str) -> str:
        """Return the name of a definition, or the id if it was removed."""
        found = self.by_id.get(definition_id)
        return found.name if found is not None else definition_id


class Books:
    """The state behind a ledger.

    Args:
        catalogue: The state to start with.
        ids: Makes the ids of logs, customers, tokens and everything else.
    """

    def __init__(self, catalogue: Catalogue, ids: IdFactory) -> None:
        self.organisation: str = catalogue.organisation
        self.new_id = ids
        self.counters: Counters = Counters()
        self.signals: list[Booked] = []
        self.unit_events: list[UnitEvent] = []
        self.held: list[Held] = []
        self.models: dict[str, tuple[Model, Rates]] = {}
        self.listed: dict[tuple[str, str], Listed] = {}
        """Models that can be enabled, by provider and id in lower case."""
        self.credits: Shelf[Credit] = Shelf[Credit](lambda credit: (credit.key,), catalogue.credits)
        self.outcomes: Shelf[Outcome] = Shelf[Outcome](
            lambda o: (step.key for step in o.all_steps), catalogue.outcomes
        )
        self.units: Shelf[Unit] = Shelf[Unit](lambda unit: (unit.key,), catalogue.units)
        self.plans: Shelf[Plan] = Shelf[Plan](lambda _: (), catalogue.plans)
        self.items: Mapping[ItemKind, Shelf[Credit] | Shelf[Outcome] | Shelf[Unit]] = {
            "credit": self.credits,
            "outcome": self.outcomes,
            "unit": self.units,
        }
        self.default_plan: str | None = catalogue.default_plan
        self.accounts: dict[str, Account] = {}
        self.purchases: dict[str, Purchase] = {}
        self.invoices: dict[str, Invoice] = {}
        self.payments: dict[str, Payment] = {}
        self.webhooks: dict[str, dict[str, object]] = {}
        """By kind of event, as the API shows them."""
        self._up_since: float | None = None
        self._scheduled: list[Purchase] = []
        self._by_idempotency_key: dict[str, list[Booked]] = {}
        self._billed_runs: set[str] = set()
        self._numbers = count(1)
        for listed in catalogue.listed:
            self.listed[listed.provider.casefold(), listed.id.casefold()] = listed
        for model in catalogue.models:
            self.add_model(model)
        for customer in catalogue.customers:
            self.add_customer(customer, now=0.0)

    def add_model(self, model: Model) -> None:
        """Add or replace a model."""
        rates = Rates(exact(model.input), exact(model.output), exact(model.cache))
        self.models[model.id.casefold()] = (model, rates)
        if model.provider is not None:
            listed = Listed(model.provider, model.id, model.input, model.output, model.cache)
            self.listed[model.provider.casefold(), model.id.casefold()] = listed

    def fresh_id(self, prefix: str, taken: Mapping[str, object]) -> str:
        """Make an id that is not taken yet."""
        while (fresh := self.new_id(prefix)) in taken:
            pass
        return fresh

    def holder_of(self, key: str, *, but: object) -> tuple[ItemKind, Item] | None:
        """Return the definition that has an agent key, of all credits, outcomes and units.

        Args:
            key: The agent key.
            but: The id of a definition of the same kind that may have it.
        """
        for noun, shelf in self.items.items():
            found = shelf.by_key.get(key)
            if found is not None and (noun, found.id) != but:
                return noun, found
        return None

    def uptime(self, *, now: float) -> float:
        """Return the seconds since this was first asked."""
        self._up_since = now if self._up_since is None else self._up_since
        return round(now - self._up_since, 3)

    def advance(self, *, now: float) -> None:
        """Activate the purchases whose billing date has come."""
        for purchase in [each for each in self._scheduled if each.starts_at <= now]:
            self._activate(purchase, now=now)

    # Customers

    def add_customer(self, customer: Customer, *, now: float, stand_in: bool = False) -> Account:
        """Open an account with the components of the plan, and the customer's own in their place.

        Args:
            customer: The customer, their plan and their own quantities.
            now: Wall clock, seconds since 1970.
            stand_in: Whether the first purchase ends the plan.

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
            purchase = Purchase(
                f"pur_{account.id}", account.id, plan, created_at=now, stand_in=stand_in, activated=True
            )
            self.purchases[purchase.id] = account.purchase = purchase
        self._grant(account, _held_by(customer, plan), now=now)
        return account

    def account(self, customer_id: str) -> Account:
        """Return the account of a customer.

        Raises:
            Refusal: 404, no such customer.
        """
        account = self.accounts.get(customer_id)
        if account is None:
            raise Refusal(404, f'No customer with id "{customer_id}".')
        return account

    def close_account(self, account: Account, *, now: float) -> None:
        """Remove a customer and cancel their purchases. Their signals and events stay recorded."""
        for purchase in self._purchases_of(account):
            self.cancel(purchase, now=now)
        del self.accounts[account.id]

    # Balances

    def book(self, account: Account, kind: str, amount: Decimal, *, now: float) -> WalletEntry:
        """Enter an amount in a wallet, and open the wallet if there is none. A negative amount is debited."""
        wallet = self._wallet_of(account)
        wallet.left = add(wallet.left, amount)
        # Not from the id factory: a customer's entries have the same ids whatever else happens.
        entry = WalletEntry(f"txn_{account.id}_{len(account.entries) + 1}", kind, amount, now)
        account.entries.append(entry)
        return entry

    def is_funded(self, account: Account, balance: Balance) -> bool:
        """Return whether usage of a component is debited from the wallet, at the customer's price."""
        plan = None if account.purchase is None else account.purchase.plan
        return balance.arrear and plan is not None and plan.wallet_funded_arrear

    def _wallet_of(self, account: Account) -> Balance:
        if account.wallet is None:
            account.wallet = Balance(ZERO)
        return account.wallet

    def _grant(self, account: Account, components: Iterable[Component], *, now: float) -> None:
        for component in components:
            amount = exact(component.amount or 0)
            if component.type == "WALLET":
                self.book(account, "GRANT", amount, now=now)
                self._wallet_of(account).arrear = component.arrear
            elif component.type != "FLAT" and component.item is not None:
                held = account.held[_ITEMS[component.type]]
                held[component.item] = Balance(amount, component.arrear)

    # Purchases

    def sell(self, purchase: Purchase, *, now: float) -> None:
        """Record a purchase, and activate it unless its billing date is still to come."""
        self.purchases[purchase.id] = purchase
        self._scheduled.append(purchase)
        self.advance(now=now)

    def _activate(self, purchase: Purchase, *, now: float) -> None:
        """Cancel the customer's earlier purchases, grant what the plan includes, and invoice what is due.

        Allowances become what the plan includes. Money in the wallet stays, and the plan's is added to it.
        """
        account = self.account(purchase.customer_id)
        for earlier in self._purchases_of(account):
            if earlier is purchase:
                break
            self.cancel(earlier, now=now)
        self._scheduled.remove(purchase)
        purchase.activated = True
        account.purchase = purchase
        self._grant(account, purchase.plan.all_components, now=now)
        if purchase.due:
            invoice_id = self.fresh_id("inv", self.invoices)
            self.invoices[invoice_id] = Invoice(
                invoice_id, purchase, tuple(purchase.lines), purchase.due, now
            )
            self.collect(purchase, now=now)

    def collect(self, purchase: Purchase, *, now: float) -> None:
        """Pay the open invoices of a purchase, if it has automatic payment."""
        if purchase.auto_payment:
            for invoice in self._open_invoices(purchase):
                invoice.status, invoice.paid_at = "PAID", now
                payment_id = self.fresh_id("pay", self.payments)
                self.payments[payment_id] = Payment(payment_id, invoice, now)

    def cancel(self, purchase: Purchase, *, now: float) -> None:
        """End a purchase: void its open invoices and remove its allowances. Money in the wallet stays."""
        purchase.cancelled_at = now
        if purchase in self._scheduled:
            self._scheduled.remove(purchase)
            return
        for invoice in self._open_invoices(purchase):
            invoice.status = "VOID"
        account = self.accounts[purchase.customer_id]
        account.purchase = None
        account.held = {"credit": {}, "outcome": {}, "unit": {}}
        if account.wallet is not None:
            account.wallet.arrear = False
            if purchase.stand_in and account.wallet.left > 0:
                # The default plan's money was not paid for. A top-up is spent last, and stays.
                given = sum_of(exact(c.amount or 0) for c in _wallets(purchase.plan))
                self.book(account, "GRANT", -min(given, account.wallet.left), now=now)

    def _purchases_of(self, account: Account) -> Iterator[Purchase]:
        """Return a customer's purchases that are active or scheduled, oldest first."""
        active = () if account.purchase is None else (account.purchase,)
        scheduled = [each for each in self._scheduled if each.customer_id == account.id]
        return iter((*active, *scheduled))

    def _open_invoices(self, purchase: Purchase) -> list[Invoice]:
        found = (invoice for invoice in self.invoices.values() if invoice.purchase is purchase)
        return [invoice for invoice in found if invoice.status == "OPEN"]

    # Signals and unit events

    def first_result(self, idempotency_key: str) -> Booked | None:
        """Return the first signal recorded under a key, if there is one."""
        recorded = self._by_idempotency_key.get(idempotency_key)
        return recorded[0] if recorded else None

    def times_recorded(self, idempotency_key: str) -> int:
        """Return the number of signals recorded under a key."""
        return len(self._by_idempotency_key.get(idempotency_key, ()))

    def run_is_billed(self, run_id: str) -> bool:
        """Return whether a run has billed its outcome. A run id is unique in the organisation."""
        return run_id in self._billed_runs

    def commit(self, account: Account, signal: Booked) -> None:
        """Record a signal and debit its cost. The caller has checked that the balance bears it."""
        match signal.type:
            case "wallet":
                pass
            case "credit":
                balance = account.held["credit"][signal.component or ""]
                balance.left = subtract(balance.left, signal.credits_used)
            case "outcome":
                if signal.bills_outcome and signal.component is not None:
                    balance = account.held["outcome"][signal.component]
                    balance.left = subtract(balance.left, ONE)
                    if signal.run_id is not None:
                        self._billed_runs.add(signal.run_id)
        self._debit(account, signal.wallet_debit)
        self.signals.append(signal)
        account.signals.append(signal)
        account.totals.count(signal)
        if signal.idempotency_key is not None:
            self._by_idempotency_key.setdefault(signal.idempotency_key, []).append(signal)

    def commit_event(self, account: Account, event: UnitEvent) -> None:
        """Record an event of a unit. The caller has checked that the balance bears it."""
        balance = account.held["unit"][event.unit_id]
        balance.left = subtract(balance.left, ONE)
        balance.events += 1
        self._debit(account, event.wallet_debit)
        self.unit_events.append(event)
        account.events.append(event)

    def _debit(self, account: Account, amount: Decimal) -> None:
        if amount:
            wallet = self._wallet_of(account)
            wallet.left = subtract(wallet.left, amount)


def _held_by(customer: Customer, plan: Plan | None) -> Iterable[Component]:
    """Return the components of a plan, with the customer's own in the place of some."""
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
