"""A ledger beside a plain book: who holds how much, what was recorded for whom, and what is refused.

The book is kept in fractions and lists, and knows the rules in their plainest form. It predicts every answer;
ids, which are the ledger's to choose, it learns where it first sees them. After every step the balances, the
counters and the number of bills a key are compared; `audit` reads everything back over the API.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import TypeAlias

from clocknext_transports.emulator import AcceptOnly, Fault, Ledger
from tests.emulator.ledger_tables import (
    ADJUSTMENTS,
    CATALOGUE,
    CREDITS,
    FUNDED,
    PLANS,
    PRICES,
    RATES,
    STEPS,
    UNITS,
    price_of,
    rounded,
    unit_price,
)
from tests.emulator.ledger_wire import USAGE, Document, Refused, Wire

Item: TypeAlias = tuple[str, str]
"""Kind and id of what is held in pieces."""

CUSTOMERS = "/api/v1/customers"
PURCHASES = "/api/v1/purchases"
TOKENS = ("inputTokens", "outputTokens", "cacheTokens")
NULLABLE = (
    *("description", "website", "phone", "legalName", "addressLine1", "addressLine2", "city", "state"),
    *("country", "pincode", "taxId", "notes", "logoUrl"),
)


@dataclass(eq=False)
class Holding:
    """What is left of one thing."""

    left: Fraction = Fraction(0)
    put: Fraction = Fraction(0)
    """All that was put in, less what was taken out by hand."""
    arrear: bool = False
    events: int = 0

    def bears(self, amount: Fraction) -> bool:
        return self.arrear or amount <= self.left

    def book(self, amount: Fraction) -> None:
        self.left += amount
        self.put += amount


@dataclass(eq=False)
class Line:
    """One signal as recorded: the row the API shows, and the exact figures behind it."""

    row: Document
    holding: Holding
    at: float
    provided: Fraction
    used: Fraction = Fraction(0)
    charged: Fraction = Fraction(0)
    debit: Fraction = Fraction(0)
    """What its holding loses."""
    funding: Fraction = Fraction(0)
    """What it takes from the wallet besides, where that funds what is used in arrear."""
    run: str | None = None
    """The run whose outcome it bills."""


@dataclass(eq=False)
class Purchase:
    """A plan as sold: the row the API shows."""

    row: Document
    stand_in: bool = False


@dataclass(eq=False)
class Account:
    """One customer: the row the API shows, and what belongs to them."""

    row: Document
    wallet: Holding | None = None
    held: dict[Item, Holding] = field(default_factory=dict[Item, Holding])
    purchase: Purchase | None = None
    members: dict[str, Document] = field(default_factory=dict[str, Document])
    entries: list[tuple[str, Fraction, float]] = field(default_factory=list[tuple[str, Fraction, float]])
    lines: list[Line] = field(default_factory=list[Line])
    events: list[tuple[Document, Fraction, float]] = field(
        default_factory=list[tuple[Document, Fraction, float]]
    )
    funded_events: list[tuple[Fraction, float]] = field(default_factory=list[tuple[Fraction, float]])

    def funds(self, holding: Holding) -> bool:
        return holding.arrear and self.purchase is not None and self.purchase.row["planId"] == FUNDED

    def matches(self, q: str) -> bool:
        return any(q.lower() in self.row[name].lower() for name in ("name", "email"))


@dataclass(eq=False)
class Paging:
    """A walk through the list of customers, page by page, while the world goes on."""

    limit: int
    q: str
    due: set[str]
    """Customers that were there when it began, have matched ever since, and must turn up."""
    cursor: str = ""
    seen: list[str] = field(default_factory=list[str])


def when(at: float) -> str:
    """Write a time as the API does."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=round(at * 1000))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def total(amounts: Sequence[Fraction]) -> Fraction:
    """Add amounts up exactly."""
    return sum(amounts, Fraction(0))


@dataclass
class World:
    """A ledger, the wire to it, and the book."""

    accept_only: AcceptOnly | None = None
    seen: Counter[str] = field(default_factory=Counter[str])
    """What did happen, to tell a run that proves something from one that does not."""

    def __post_init__(self) -> None:
        self.ledger = Ledger(CATALOGUE, accept_only=self.accept_only)
        self.wire = Wire(self.ledger, self.seen)
        self.was_set_back = False
        self.accounts: dict[str, Account] = {}
        self.gone: list[str] = []
        self.purchases: list[Purchase] = []
        self.invoices: list[Document] = []
        self.paid: list[tuple[Document, Document]] = []
        """Each payment and its invoice."""
        self.lines: list[Line] = []
        self.first: dict[str, Line] = {}
        """By idempotency key."""
        self.billed: Counter[str] = Counter()
        self.runs: set[str] = set()
        self.events: list[Fraction] = []
        self.waiting: list[tuple[int, Document]] = []
        """Signals taken with 202 and not billed: the status they would have got, and the body."""
        self.repeats = 0
        self.dry_runs = 0
        self.keys: set[str] = set()
        self.ids: set[str] = set()
        self.paging: Paging | None = None
        for customer in CATALOGUE.customers:
            account = self._open_account(customer.id, {"name": "Acme", "email": "ops@acme.com"}, at=0.0)
            if customer.plan is not None:
                self._grant(account, customer.plan, f"pur_{customer.id}", at=0.0)
            if customer.wallet is not None:
                self._book(account, "GRANT", Fraction(customer.wallet), at=0.0)
            own = {"credit": customer.credits, "outcome": customer.outcomes, "unit": customer.units}
            for kind, amounts in own.items():
                for item, amount in amounts.items():
                    account.held[kind, item] = Holding(Fraction(amount), Fraction(amount))
        self.check()

    @property
    def now(self) -> float:
        return self.wire.now

    # Signals and events

    def signal(self, body: Document, fault: Fault | None = None) -> None:
        """Send a valid signal; a fault may keep it from the ledger, or its answer from us."""
        key = body.get("idempotencyKey")
        self.keys |= {key} if key is not None else set()
        if self.wire.loses("POST", USAGE, body, fault):
            self.check()
            return
        verdict = self._judge(body)
        is_dry = body.get("dryRun") is True and self.accept_only != "thin"
        is_invalid = isinstance(verdict, Refused) and verdict.status == 400
        is_taken = self.accept_only in {"thin", "thick-queued"} or (
            self.accept_only == "thick" and not is_invalid
        )
        refused = verdict if isinstance(verdict, Refused) and not is_taken else None
        shown = self.wire.send("POST", USAGE, body, fault, refused=refused, status=202 if is_taken else 200)
        if isinstance(verdict, Refused):
            self.waiting += [(verdict.status, body)] if is_taken else []
        elif is_dry:
            self.dry_runs += 1
            self.seen["dry run"] += 1
        elif verdict in self.lines:
            self.repeats += 1
            self.seen["repeat"] += 1
            same = ("customerId", "type", "inputTokens")
            self.seen["repeat, other body"] += any(verdict.row[name] != body[name] for name in same)
        else:
            self._record(verdict, key)
        if shown is not None and is_taken:
            self._check_taken(shown, is_pending=is_invalid and self.accept_only == "thick-queued")
        elif shown is not None and isinstance(verdict, Line):
            assert set(shown) == ({"usageLog", "dryRun"} if is_dry else {"usageLog"})
            if is_dry:
                assert shown["usageLog"] == verdict.row
            else:
                self._same(verdict.row, shown["usageLog"])
        self.check()

    def spoilt_signal(self, body: Document, refused: Refused, **how: str | None) -> None:
        """Send what is no signal: it is refused, or queued for a person."""
        before = self.wire.snapshot()
        response = self.wire.respond("POST", USAGE, body, None, **how)
        assert response is not None
        is_taken = self.accept_only == "thick-queued" and refused.status != 401
        shown, _ = self.wire.opened("POST", USAGE, response, 202 if is_taken else refused.status)
        if is_taken:
            self._check_taken(shown, is_pending=True)
            self.waiting.append((refused.status, body))
        else:
            if refused.reason == "INVALID_BODY":
                assert refused.says in {issue["field"] for issue in shown["issues"]}
            self.wire.refusals += 1
            assert shown["errorReason"] == refused.reason
            assert self.wire.snapshot() == before, "a refusal left a trace"
        self.seen["invalid"] += 1
        self.check()

    def unit_event(self, customer_id: str, unit: str, fault: Fault | None = None) -> None:
        body: Document = {"customerId": customer_id, "agentKey": unit}
        if self.wire.loses("POST", "/api/v1/units", body, fault):
            self.check()
            return
        account, refused = self._find(customer_id)
        holding = account.held.get(("unit", unit))
        if refused is None and unit not in UNITS:
            refused = Refused(422, f'No unit with agent key "{unit}" in this workspace.')
        elif refused is None and holding is None:
            refused = Refused(422, "has no unit")
        elif holding is not None and not holding.bears(Fraction(1)):
            refused = Refused(422, "Insufficient")
        shown = self.wire.send("POST", "/api/v1/units", body, fault, refused=refused)
        if refused is None and holding is not None:
            cost = unit_price(unit, holding.events + 1) - unit_price(unit, holding.events)
            holding.events += 1
            holding.left -= 1
            row = {**body, "id": None, "unitId": unit, "member": None}
            row |= {"customerCost": float(cost), "createdAt": when(self.now)}
            account.events.append((row, cost, self.now))
            if account.funds(holding):
                self._fund(account, cost)
                account.funded_events.append((cost, self.now))
            self.events.append(cost)
            self.seen["unit event"] += 1
            self.seen["unit event in arrear"] += holding.left < 0
            if shown is not None:
                assert shown["remaining"] == float(holding.left)
                self._same(row, shown["event"])
        self.check()

    # Customers and their members

    def create_customer(self, details: Document) -> None:
        refused = self._bad_details(details, creating=True)
        shown = self.wire.send("POST", CUSTOMERS, details, refused=refused, status=201)
        if refused is None and shown is not None:
            new_id = shown["customer"]["id"]
            self._learn(new_id)
            account = self._open_account(new_id, details, at=self.now)
            self._grant(account, "starter", f"pur_{new_id}", at=self.now, stand_in=True)
            assert shown == {"customer": account.row}
            self.seen["customer created"] += 1
        self.check()

    def update_customer(self, customer_id: str, changes: Document) -> None:
        account, refused = self._find(customer_id)
        refused = refused or self._bad_details(changes, creating=False)
        shown = self.wire.send("PATCH", f"{CUSTOMERS}/{customer_id}", changes, refused=refused)
        if refused is None:
            account.row.update(changes, updatedAt=when(self.now))
            assert shown == {"customer": account.row}
            if self.paging is not None and not account.matches(self.paging.q):
                self.paging.due.discard(customer_id)
            self.seen["customer updated"] += 1
        self.check()

    def delete_customer(self, customer_id: str) -> None:
        account, refused = self._find(customer_id)
        shown = self.wire.send("DELETE", f"{CUSTOMERS}/{customer_id}", refused=refused)
        if refused is None:
            assert shown == {}
            if account.purchase is not None:
                self._cancel(account, account.purchase)
            del self.accounts[customer_id]
            self.gone.append(customer_id)
            if self.paging is not None:
                self.paging.due.discard(customer_id)
            self.seen["customer deleted"] += 1
        self.check()

    def next_page(self, limit: int, q: str) -> None:
        """Fetch the next page, or begin: each row as it stands, none twice; all that stay turn up."""
        if self.paging is None:
            due = {name for name, account in self.accounts.items() if account.matches(q)}
            self.paging = Paging(limit, q, due)
        paging = self.paging
        shown = self.wire.get(f"{CUSTOMERS}?limit={paging.limit}&q={paging.q}&cursor={paging.cursor}")
        rows: list[Document] = shown["customers"]
        for row in rows:
            assert row == self.accounts[row["id"]].row
            assert self.accounts[row["id"]].matches(paging.q)
            assert row["id"] not in paging.seen, "a row turned up twice"
            paging.seen.append(row["id"])
        if shown["nextCursor"] is None:
            assert len(rows) <= paging.limit
            assert paging.due <= set(paging.seen), "a row was left out"
            self.paging = None
            self.seen["paged through"] += 1
        else:
            assert len(rows) == paging.limit
            paging.cursor = shown["nextCursor"]
            self.seen["page"] += 1

    def add_member(self, customer_id: str, email: str) -> None:
        account, refused = self._find(customer_id)
        refused = refused or self._taken(account, email)
        body = {"name": "Ann", "email": email, "role": "dev"}
        path = f"{CUSTOMERS}/{customer_id}/members"
        shown = self.wire.send("POST", path, body, refused=refused, status=201)
        if refused is None and shown is not None:
            member_id = shown["member"]["id"]
            self._learn(f"{customer_id}/{member_id}")
            own = {"id": member_id, "customerId": customer_id, "createdAt": when(self.now)}
            account.members[member_id] = body | own
            assert shown == {"member": body | own}
            self.seen["member added"] += 1
        self.check()

    def change_member(self, customer_id: str, member_id: str, email: str) -> None:
        account, refused = self._find(customer_id, member_id)
        refused = refused or self._taken(account, email, but=member_id)
        path = f"{CUSTOMERS}/{customer_id}/members/{member_id}"
        shown = self.wire.send("PATCH", path, {"email": email}, refused=refused)
        if refused is None:
            account.members[member_id]["email"] = email
            assert shown == {"member": account.members[member_id]}
        self.check()

    def remove_member(self, customer_id: str, member_id: str) -> None:
        account, refused = self._find(customer_id, member_id)
        path = f"{CUSTOMERS}/{customer_id}/members/{member_id}"
        shown = self.wire.send("DELETE", path, refused=refused)
        if refused is None:
            assert shown == {}
            del account.members[member_id]
            self.seen["member removed"] += 1
        self.check()

    # Money, allowances and purchases

    def wallet_entry(self, customer_id: str, kind: str, amount: float) -> None:
        account, refused = self._find(customer_id)
        change = Fraction(str(amount)) * (-1 if kind == "DEBIT" else 1)
        if refused is None and amount <= 0:
            refused = Refused(400, "amount")
        elif refused is None and change < 0 and not (account.wallet or Holding()).bears(-change):
            refused = Refused(422, "Insufficient")
        body: Document = {"type": kind, "amount": amount}
        shown = self.wire.send("POST", f"{CUSTOMERS}/{customer_id}/wallet", body, refused=refused)
        if refused is None and shown is not None:
            wallet = self._book(account, kind, change, at=self.now)
            row = {"id": None, "type": kind, "amount": float(change), "createdAt": when(self.now)}
            self._same(row, shown["transaction"])
            assert shown["balance"] == float(wallet.left)
            self.seen["wallet entry"] += 1
        self.check()

    def adjust(self, customer_id: str, item: Item, amount: float) -> None:
        account, refused = self._find(customer_id)
        kind, name = item
        change = Fraction(str(amount))
        holding = account.held.get(item) or Holding()
        if refused is None and name not in {"credit": CREDITS, "outcome": PRICES, "unit": UNITS}[kind]:
            refused = Refused(404, f'No {kind} with id "{name}".')
        elif refused is None and change < 0 and not holding.bears(-change):
            refused = Refused(422, "Insufficient")
        body = {f"{kind}Id": name, "amount": amount}
        path = f"{CUSTOMERS}/{customer_id}/{kind}s/adjust"
        shown = self.wire.send("POST", path, body, refused=refused)
        if refused is None:
            holding.book(change)
            account.held[item] = holding
            assert shown == ({} if kind == "credit" else {"remaining": float(holding.left)})
            self.seen["adjusted"] += 1
        self.check()

    def buy(self, customer_id: str, plan: str, *, auto: bool) -> None:
        account, refused = self._find(customer_id)
        if refused is None and plan == "retired":
            refused = Refused(422, "is not active")
        elif refused is None and plan not in PLANS:
            refused = Refused(404, f'No plan with id "{plan}".')
        body: Document = {"customerId": customer_id, "planId": plan, "autoPayment": auto}
        shown = self.wire.send("POST", PURCHASES, body, refused=refused, status=201)
        if refused is None and shown is not None:
            if account.purchase is not None:
                self._cancel(account, account.purchase)
            new_id = shown["purchase"]["id"]
            self._learn(new_id)
            purchase = self._grant(account, plan, new_id, at=self.now)
            purchase.row.update(autoPayment=auto, billingDate=None, notes=None, voidAfterMinutes=None)
            assert shown == {"purchase": purchase.row}
            self._invoice(purchase)
            self._collect(purchase)
            self.seen["bought"] += 1
        self.check()

    def pay_automatically(self, purchase: Purchase, *, auto: bool) -> None:
        body: Document = {"autoPayment": auto, "pauseReason": None if auto else "no money"}
        shown = self.wire.send("PATCH", f"{PURCHASES}/{purchase.row['id']}", body)
        purchase.row.update(body)
        self._collect(purchase)
        assert shown == {"purchase": purchase.row}
        self.check()

    def cancel(self, purchase: Purchase) -> None:
        is_over = purchase.row["status"] == "CANCELLED"
        refused = Refused(422, "is cancelled already") if is_over else None
        shown = self.wire.send("POST", f"{PURCHASES}/{purchase.row['id']}/cancel", refused=refused)
        if refused is None:
            self._cancel(self.accounts[purchase.row["customerId"]], purchase)
            assert shown == {"purchase": purchase.row}
            self.seen["cancelled"] += 1
        self.check()

    def jump(self, seconds: float) -> None:
        self.wire.now += seconds
        self.was_set_back = self.was_set_back or seconds < 0

    # Checks

    def check(self) -> None:
        """Compare what is cheap: balances to the last digit, counters, and bills a key."""
        counters = self.ledger.counters
        assert (counters.requests, counters.refused) == (self.wire.requests, self.wire.refusals)
        assert (counters.repeats, counters.dry_runs) == (self.repeats, self.dry_runs)
        assert len(self.ledger.signals) == len(self.lines)
        assert len(self.ledger.unit_events) == len(self.events)
        assert [(held.status, held.body) for held in self.ledger.held] == self.waiting
        for key in self.keys:
            assert self.ledger.billed(key) == self.billed[key] <= (1 if self.accept_only is None else 1000)
        for name, account in self.accounts.items():
            if account.wallet is not None:
                assert Fraction(self.ledger.balance(name)) == account.wallet.left
            for (_, item), holding in account.held.items():
                assert Fraction(self.ledger.balance(name, item)) == holding.left

    def audit(self, limit: int = 3) -> None:
        """Read everything back: each row once, in order, as the book has it; and the sums."""
        for account in self.accounts.values():
            self._audit_account(account, limit)
            self._audit_usage(account, limit)
            self._audit_wallet(account, limit)
            self._audit_revenue(account)
        for name in self.gone:
            self.wire.send("GET", f"{CUSTOMERS}/{name}", refused=self._find(name)[1])
        self._audit_sums()
        listed: list[Document] = []
        cursor: str | None = ""
        while cursor is not None:
            shown = self.wire.get(f"{CUSTOMERS}?limit={limit}&cursor={cursor}")
            listed += shown["customers"]
            cursor = shown["nextCursor"]
        assert listed == [account.row for account in reversed(self.accounts.values())]
        self._audit_listing("purchases", [purchase.row for purchase in self.purchases], limit)
        self._audit_listing("invoices", self.invoices, limit)
        for payment, invoice in self.paid:
            payment["invoiceId"] = invoice["id"]  # known by now
        self._audit_listing("payments", [payment for payment, _ in self.paid], limit)
        self.check()

    def _audit_account(self, account: Account, limit: int) -> None:
        path = f"{CUSTOMERS}/{account.row['id']}"
        assert self.wire.get(path) == {"customer": account.row}
        assert self.wire.get(f"{path}/members") == {"members": list(account.members.values())}
        bought = None if account.purchase is None else account.purchase.row
        plan = self.wire.get(f"{path}/plan")
        assert plan["purchase"] == bought
        assert (None if plan["plan"] is None else plan["plan"]["id"]) == (bought and bought["planId"])
        balances = self.wire.get(f"{path}/balances")
        wallet = account.wallet
        assert balances["wallet"] == (wallet and {"balance": float(wallet.left), "currencyCode": "USD"})
        shown = {
            (kind, row[f"{kind}Id"]): row["remaining"]
            for kind in ("credit", "outcome", "unit")
            for row in balances[f"{kind}s"]
        }
        assert shown == {item: float(holding.left) for item, holding in account.held.items()}
        events = self.wire.get(f"/api/v1/units?customerId={account.row['id']}&limit=1000")
        assert events["balances"] == balances["units"]
        for (event, _, _), row in zip(reversed(account.events), events["events"], strict=True):
            self._same(event, row)
        few = self.wire.get(f"/api/v1/units?customerId={account.row['id']}&limit={limit}")
        assert few["events"] == events["events"][:limit]

    def _audit_usage(self, account: Account, limit: int) -> None:
        name = account.row["id"]
        usage = self.wire.get(f"{USAGE}?customerId={name}&limit=1000000")
        assert usage == self.wire.get(f"{CUSTOMERS}/{name}/usage?limit=1000")
        assert usage["customer"] == account.row
        for line, row in zip(reversed(account.lines), usage["logs"], strict=True):
            self._same(line.row, row)
        assert usage["totals"] == {
            "signals": len(account.lines),
            **{tokens: sum(line.row[tokens] for line in account.lines) for tokens in TOKENS},
            "providedCost": float(total([line.provided for line in account.lines])),
            "creditsUsed": float(total([line.used for line in account.lines])),
            "customerCost": float(total([line.charged for line in account.lines])),
        }
        few = self.wire.get(f"{USAGE}?customerId={name}&limit={limit}")
        assert (few["logs"], few["totals"]) == (usage["logs"][:limit], usage["totals"])

    def _audit_wallet(self, account: Account, limit: int) -> None:
        path = f"{CUSTOMERS}/{account.row['id']}/wallet"
        shown = self.wire.get(f"{path}?limit=1000")
        left = (account.wallet or Holding()).left
        assert shown["balance"] == float(left)
        usage = [(line.charged, line.at) for line in account.lines if line.row["type"] == "wallet"]
        usage += [(line.funding, line.at) for line in account.lines if line.funding]
        usage += [(cost, at) for cost, at in account.funded_events if cost]
        due = Counter((kind, float(amount), when(at)) for kind, amount, at in account.entries)
        due.update(("USAGE", float(-debit), when(at)) for debit, at in usage)
        entries = [(row["type"], row["amount"], row["createdAt"]) for row in shown["transactions"]]
        assert Counter(entries) == due
        assert len({row["id"] for row in shown["transactions"]}) == len(entries)
        booked = total([amount for _, amount, _ in account.entries])
        assert booked - total([debit for debit, _ in usage]) == left
        assert self.wire.get(f"{path}?limit={limit}")["transactions"] == shown["transactions"][:limit]
        if not self.was_set_back:
            times = [at for _, _, at in entries]
            assert times == sorted(times, reverse=True)

    def _audit_revenue(self, account: Account) -> None:
        shown = self.wire.get(f"{CUSTOMERS}/{account.row['id']}/revenue?range=1d")
        start = self.now - 86_400
        lines = [line for line in account.lines if start <= line.at <= self.now]
        charged = [line.charged for line in lines]
        charged += [cost for _, cost, at in account.events if start <= at <= self.now]
        assert shown["signals"] == len(lines) == sum(day["signals"] for day in shown["series"])
        assert shown["revenue"] == float(total(charged))
        assert shown["cost"] == float(total([line.provided for line in lines]))
        days = [day["date"] for day in shown["series"]]
        assert days == sorted(set(days))

    def _audit_sums(self) -> None:
        """What the rows say was charged is what the balances lost, and no key has two rows."""
        lost: dict[Holding, Fraction] = {}
        for line, signal in zip(self.lines, self.ledger.signals, strict=True):
            assert Fraction(signal.customer_cost) == line.charged
            assert Fraction(signal.credits_used) == line.used
            in_wallet = line.charged if signal.type == "wallet" else line.funding
            assert Fraction(signal.wallet_debit) == in_wallet
            figures = {"wallet": signal.customer_cost, "credit": signal.credits_used}
            debit = Fraction(figures.get(signal.type, int(signal.bills_outcome)))
            lost[line.holding] = lost.get(line.holding, Fraction(0)) + debit
        for account in self.accounts.values():
            for holding in account.held.values():
                assert holding.put - holding.left == lost.get(holding, 0) + holding.events
            if account.wallet is not None:
                spent = total([line.funding for line in account.lines])
                spent += total([cost for cost, _ in account.funded_events])
                assert account.wallet.put - account.wallet.left == lost.get(account.wallet, 0) + spent
        bill = self.ledger.bill()
        assert bill.signals == len(self.lines)
        assert Fraction(bill.customer_cost) == total([line.charged for line in self.lines]) + total(
            self.events
        )
        keys = [signal.idempotency_key for signal in self.ledger.signals]
        most = 1 if self.accept_only is None else len(keys)
        assert all(keys.count(key) <= most for key in keys if key is not None), "billed twice"

    def _audit_listing(self, name: str, rows: Sequence[Document], limit: int) -> None:
        path = f"/api/v1/{name}"
        shown: list[Document] = self.wire.get(f"{path}?limit=1000")[name]
        for row, actual in zip(reversed(rows), shown, strict=True):
            if "lines" in row:
                lines = [line["price"] for line in actual["lines"]]
                self._same(row, {**actual, "lines": lines})
            else:
                self._same(row, actual)
        assert self.wire.get(f"{path}?limit={limit}")[name] == shown[:limit]
        for by in ("customerId", "status"):
            for value in {row[by] for row in shown}:
                found = self.wire.get(f"{path}?limit=1000&{by}={value}")[name]
                assert found == [row for row in shown if row[by] == value]

    def _check_taken(self, shown: Document, *, is_pending: bool) -> None:
        self._learn(shown["signalId"])
        assert shown["receivedAt"] == when(self.now)
        assert (shown.get("accepted"), shown.get("status")) == (
            (None, "PENDING") if is_pending else (True, None)
        )

    def _same(self, row: Document, shown: Document) -> None:
        """Compare a row with what is shown of it; the first time, learn its id."""
        if row["id"] is None:
            self._learn(shown["id"])
            row["id"] = shown["id"]
        assert row == shown

    def _learn(self, new_id: str) -> None:
        assert new_id not in self.ids, "an id was given twice"
        self.ids.add(new_id)

    # The book's rules

    def _judge(self, body: Document) -> Refused | Line:
        """Tell what a valid signal comes to: the line it makes or repeats, or why it is refused."""
        kind, customer_id, run = body["type"], body["customerId"], body.get("runId")
        if self.accept_only and kind == "outcome" and run is None:
            return Refused(400, "runId")
        key = body.get("idempotencyKey")
        if key in self.first and body.get("dryRun") is not True and self.accept_only is None:
            return self.first[key]
        account, refused = self._find(customer_id)
        if refused is not None:
            return refused
        model = str(body["model"]).lower()
        if model not in RATES:
            return Refused(422, "is not active" if model == "off" else "is not a valid model.")
        counts = [body.get(tokens, 0) for tokens in TOKENS]
        rates = [Fraction(rate) for rate in RATES[model]]
        cost = total([number * rate for number, rate in zip(counts, rates, strict=True)]) / 1_000_000
        agent_key = None if kind == "wallet" else str(body.get("agentKey", body.get("key")))
        row: Document = {
            "id": None,
            "customerId": customer_id,
            "type": kind,
            "model": model,
            "agentKey": agent_key,
            **dict(zip(TOKENS, counts, strict=True)),
            **{name: body.get(name) for name in ("member", "custom", "idempotencyKey")},
            "status": "SUCCESS" if self.accept_only else body.get("status", "SUCCESS"),
            "createdAt": when(self.now),
        }
        if kind != "wallet" and "seats" in body:
            row["metrics"] = {"seats": body["seats"]}
        line = Line(row, Holding(), self.now, rounded(cost))
        refused = self._price(line, account, cost, body)
        if refused is not None:
            return refused
        if (line.debit or kind != "outcome") and not line.holding.bears(line.debit):
            return Refused(422, "Insufficient")
        row["creditsUsed"], row["customerCost"] = float(line.used), float(line.charged)
        row["providedCost"] = float(line.provided)
        return line

    def _price(self, line: Line, account: Account, cost: Fraction, body: Document) -> Refused | None:
        key = line.row["agentKey"]
        match line.row["type"]:
            case "wallet":
                if account.wallet is None:
                    return Refused(422, "has no wallet")
                line.holding = account.wallet
                line.charged = line.debit = rounded(cost)
            case "credit":
                if key not in CREDITS:
                    return Refused(422, "No credit with agent key")
                if ("credit", key) not in account.held:
                    return Refused(422, "has no credit")
                base, margin = (Fraction(figure) for figure in CREDITS[key])
                line.holding = account.held["credit", key]
                line.used = line.debit = rounded(cost / base)
                line.charged = rounded(cost * (1 + margin / 100))
            case _:
                if key not in STEPS:
                    return Refused(422, "No outcome step")
                outcome = STEPS[key]
                if ("outcome", outcome) not in account.held:
                    return Refused(422, "has no outcome")
                line.holding = account.held["outcome", outcome]
                run, complete = body.get("runId"), body.get("complete")
                line.run = run
                if complete is True and line.run not in self.runs:
                    line.charged, line.debit = Fraction(PRICES[outcome]), Fraction(1)
                line.row.update(outcomeKey=outcome, runId=run, complete=complete)
        if account.funds(line.holding):
            line.funding = line.charged
        return None

    def _record(self, line: Line, key: str | None) -> None:
        line.holding.left -= line.debit
        assert line.holding.arrear or line.holding.left >= 0 or not line.debit
        self.lines.append(line)
        self.accounts[line.row["customerId"]].lines.append(line)
        if key is not None:
            self.billed[key] += 1
            self.first.setdefault(key, line)
        if line.funding:
            self._fund(self.accounts[line.row["customerId"]], line.funding)
            self.seen["funded by the wallet"] += 1
        if line.run is not None and line.debit:
            self.runs.add(line.run)
        self.seen[f"{line.row['type']} recorded"] += 1
        self.seen["in arrear"] += line.holding.left < 0
        if line.row.get("complete") is True:
            self.seen["outcome billed" if line.debit else "run billed before"] += 1

    def _open_account(self, customer_id: str, details: Document, *, at: float) -> Account:
        blank: Document = dict.fromkeys(NULLABLE)
        row = {"id": customer_id, **blank, "currencyCode": "USD", **details}
        account = Account({**row, "createdAt": when(at), "updatedAt": when(at)})
        self.accounts[customer_id] = account
        return account

    def _book(self, account: Account, kind: str, amount: Fraction, *, at: float) -> Holding:
        account.wallet = account.wallet or Holding()
        account.wallet.book(amount)
        account.entries.append((kind, amount, at))
        return account.wallet

    def _fund(self, account: Account, amount: Fraction) -> None:
        assert account.wallet is not None
        account.wallet.left -= amount
        self.seen["wallet overdrawn"] += account.wallet.left < 0

    def _grant(
        self, account: Account, plan: str, new_id: str, *, at: float, stand_in: bool = False
    ) -> Purchase:
        row: Document = {
            "id": new_id,
            "customerId": account.row["id"],
            "planId": plan,
            "status": "ACTIVE",
            "autoPayment": False,
            "pauseReason": None,
            "createdAt": when(at),
            "cancelledAt": None,
        }
        purchase = account.purchase = Purchase(row, stand_in)
        self.purchases.append(purchase)
        for kind, item, amount, arrear in PLANS[plan]:
            if kind == "WALLET":
                self._book(account, "GRANT", Fraction(amount), at=at).arrear = arrear
            elif item is not None:
                account.held[kind.lower(), item] = Holding(Fraction(amount), Fraction(amount), arrear)
        return purchase

    def _cancel(self, account: Account, purchase: Purchase) -> None:
        purchase.row.update(status="CANCELLED", cancelledAt=when(self.now))
        for invoice in self._open_invoices(purchase):
            invoice["status"] = "VOID"
            self.seen["invoice void"] += 1
        account.purchase, account.held = None, {}
        if account.wallet is not None:
            account.wallet.arrear = False
            if purchase.stand_in and account.wallet.left > 0:
                parts = PLANS[purchase.row["planId"]]
                given = total([Fraction(amount) for kind, _, amount, _ in parts if kind == "WALLET"])
                self._book(account, "GRANT", -min(given, account.wallet.left), at=self.now)
                self.seen["starter money taken back"] += 1

    def _invoice(self, purchase: Purchase) -> None:
        plan = purchase.row["planId"]
        prices = [price_of(part) for part in PLANS[plan] if not part[3]]
        prices += [Fraction(ADJUSTMENTS[plan])] if plan in ADJUSTMENTS else []
        if total(prices):
            copied = {name: purchase.row[name] for name in ("customerId", "planId", "createdAt")}
            copied |= {"id": None, "purchaseId": purchase.row["id"], "status": "OPEN", "paidAt": None}
            copied |= {"amount": float(total(prices)), "lines": [float(price) for price in prices]}
            self.invoices.append(copied | {"currencyCode": "USD"})

    def _collect(self, purchase: Purchase) -> None:
        if not purchase.row["autoPayment"]:
            return
        for invoice in self._open_invoices(purchase):
            invoice.update(status="PAID", paidAt=when(self.now))
            names = ("customerId", "purchaseId", "amount", "currencyCode")
            payment: Document = {name: invoice[name] for name in names}
            payment |= {"id": None, "status": "SUCCEEDED", "createdAt": when(self.now)}
            self.paid.append((payment, invoice))
            self.seen["paid"] += 1

    def _open_invoices(self, purchase: Purchase) -> list[Document]:
        own = (invoice for invoice in self.invoices if invoice["purchaseId"] == purchase.row["id"])
        return [invoice for invoice in own if invoice["status"] == "OPEN"]

    def _find(self, customer_id: str, member_id: str | None = None) -> tuple[Account, Refused | None]:
        """Find an account, and with it perhaps a member; else an empty one, and the refusal."""
        account = self.accounts.get(customer_id)
        if account is None:
            return Account({}), Refused(404, f'No customer with id "{customer_id}".')
        if member_id is not None and member_id not in account.members:
            return account, Refused(404, f'No member with id "{member_id}".')
        return account, None

    def _taken(self, account: Account, email: str, but: str = "") -> Refused | None:
        taken = any(email == row["email"] for found, row in account.members.items() if found != but)
        return Refused(422, "Another member") if taken else None

    def _bad_details(self, details: Mapping[str, str], *, creating: bool) -> Refused | None:
        for name in ("name", "email"):
            if (creating and name not in details) or not details.get(name, "there"):
                return Refused(400, f"{name}:")
        return Refused(400, "email:") if "@" not in details.get("email", "@") else None
