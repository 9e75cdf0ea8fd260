"""Customers: create, read, update, delete and list them, and read their balances, plan and revenue.

Known rules: lists are newest first; the bulk call creates 1 to 200 customers, and a bad row stops no other.
Guesses: e-mail addresses need not be unique, except that the bulk call refuses a row whose address is taken.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from clocknext_transports.emulator.api.plans import PLANS
from clocknext_transports.emulator.api.routes import Handled, Route
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.catalogue import Customer
from clocknext_transports.emulator.books.envelopes import Payload, Refusal, timestamp
from clocknext_transports.emulator.books.pricing import sum_of
from clocknext_transports.emulator.books.records import (
    CUSTOMER_FIELDS,
    Account,
    Booked,
    ItemKind,
    Totals,
    UnitEvent,
)
from clocknext_transports.emulator.books.validation import Fields, invalid, query_limit, storable

_RANGE = re.compile(r"([1-9][0-9]{0,3})d", re.ASCII)
_CURSOR = re.compile(r"cur_([0-9]{1,15})", re.ASCII)
_DAY = 86_400
_MAX_BULK = 200
_MAX_BULK_BODY = 1024 * 1024 - 1


def create_customer(books: Books, call: Handled) -> Payload:
    """Create a customer, on the default plan until the first purchase."""
    account = _create(books, _details(call.body, creating=True), now=call.now)
    return Payload({"customer": account.as_json()}, 201)


def create_customers(books: Books, call: Handled) -> Payload:
    """Create many customers. The result has a row for each, with its id or the error."""
    fields = Fields(call.body)
    fields.require("customers")
    rows = fields.listed("customers", longest=_MAX_BULK)
    fields.finish()
    taken = {account.details["email"] for account in books.accounts.values()}
    results = list[dict[str, object]]()
    for row in rows:
        body: Mapping[str, object] = cast("Mapping[str, object]", row) if isinstance(row, dict) else {}
        email = storable(body.get("email"))
        try:
            details = _details(body, creating=True)
            if email in taken:
                raise Refusal(422, f'Another customer has the address "{email}".')
        except Refusal as refusal:
            results.append({"email": email, "error": refusal.message})
        else:
            taken.add(email)
            results.append({"email": email, "id": _create(books, details, now=call.now).id})
    return Payload({"results": results})


def _create(books: Books, details: Mapping[str, object], *, now: float) -> Account:
    plan = books.plans.by_id.get(books.default_plan or "")
    customer = Customer(
        books.fresh_id("cus", books.accounts), plan=plan.id if plan is not None and plan.active else None
    )
    account = books.add_customer(customer, now=now, stand_in=True)
    account.details.update(details)
    return account


def fetch_customer(books: Books, call: Handled) -> Payload:
    """Return one customer."""
    return Payload({"customer": books.account(call.ids[0]).as_json()})


def update_customer(books: Books, call: Handled) -> Payload:
    """Change the fields given: `null` clears one, leaving it out leaves it alone."""
    account = books.account(call.ids[0])
    account.details.update(_details(call.body, creating=False))
    account.updated_at = call.now
    return Payload({"customer": account.as_json()})


def delete_customer(books: Books, call: Handled) -> Payload:
    """Delete a customer. Their signals and events stay recorded in the ledger."""
    books.close_account(books.account(call.ids[0]), now=call.now)
    return Payload({})


def list_customers(books: Books, call: Handled) -> Payload:
    """Return one page, newest first. `q` searches name and e-mail address without case."""
    limit = query_limit(call.query)
    wanted = call.query.get("q", "").casefold()
    before = None
    if "cursor" in call.query:
        cursor = _CURSOR.fullmatch(call.query["cursor"])
        if cursor is None:
            raise invalid("cursor", "is not one this server gave out")
        before = int(cursor[1])
    page = list[Account]()
    following = None
    for account in reversed(books.accounts.values()):
        if (before is None or account.number < before) and _matches(account, wanted):
            if len(page) == limit:
                following = f"cur_{page[-1].number}"
                break
            page.append(account)
    return Payload({"customers": [account.as_json() for account in page], "nextCursor": following})


def show_balances(books: Books, call: Handled) -> Payload:
    """Return a customer's balances, component by component."""
    account = books.account(call.ids[0])
    return Payload(balances(books, account))


def show_plan(books: Books, call: Handled) -> Payload:
    """Return a customer's plan and the active purchase; `null` for both without one."""
    purchase = books.account(call.ids[0]).purchase
    if purchase is None:
        return Payload({"plan": None, "purchase": None})
    return Payload({"plan": PLANS.full(purchase.plan), "purchase": purchase.as_json()})


def show_revenue(books: Books, call: Handled) -> Payload:
    """Return the amounts charged to a customer in the last days, in all and day by day."""
    account = books.account(call.ids[0])
    text = call.query.get("range", "30d")
    days = _RANGE.fullmatch(text)
    if days is None:
        raise invalid("range", "must be a number of days such as 30d")
    start = call.now - int(days[1]) * _DAY
    signals = [signal for signal in account.signals if start <= signal.created_at <= call.now]
    events = [event for event in account.events if start <= event.created_at <= call.now]
    by_day = dict[str, tuple[list[Booked], list[UnitEvent]]]()
    for signal in signals:
        by_day.setdefault(_day(signal), ([], []))[0].append(signal)
    for event in events:
        by_day.setdefault(_day(event), ([], []))[1].append(event)
    return Payload(
        {
            "customerId": account.id,
            "range": text,
            "currency": "USD",
            "from": timestamp(start),
            "to": timestamp(call.now),
            **_revenue(signals, events),
            "series": [{"date": date, **_revenue(*entries)} for date, entries in sorted(by_day.items())],
        }
    )


def balances(books: Books, account: Account) -> dict[str, object]:
    """Return a customer's balances as the API shows them."""
    wallet = account.wallet
    return {
        "wallet": None if wallet is None else {"balance": float(wallet.left), "currencyCode": "USD"},
        **{f"{noun}s": balance_rows(books, account, noun) for noun in books.items},
    }


def balance_rows(books: Books, account: Account, noun: ItemKind) -> list[object]:
    """Return a customer's balances of one kind as the API shows them."""
    return [
        {
            f"{noun}Id": item,
            f"{noun}Name": books.items[noun].name_of(item),
            "remaining": float(balance.left),
        }
        for item, balance in account.held[noun].items()
    ]


def _details(body: Mapping[str, object], *, creating: bool) -> dict[str, object]:
    fields = Fields(body)
    details = dict[str, object]()
    for name in ("name", "email"):
        if creating and name not in fields:
            fields.reject(name, "is required")
        elif name in fields:
            details[name] = fields.email(name) if name == "email" else fields.text(name)
    for name in CUSTOMER_FIELDS[2:]:
        if name in fields:
            details[name] = fields.currency(name) if name == "currencyCode" else fields.nullable_text(name)
    fields.finish()
    return details


def _day(recorded: Booked | UnitEvent) -> str:
    return timestamp(recorded.created_at)[:10]


def _matches(account: Account, wanted: str) -> bool:
    return any(wanted in str(account.details[name]).casefold() for name in ("name", "email"))


def _revenue(signals: Sequence[Booked], events: Iterable[UnitEvent]) -> dict[str, object]:
    totals = Totals.of(signals)
    revenue = sum_of((event.customer_cost for event in events), totals.customer_cost)
    return {"signals": totals.signals, "revenue": float(revenue), "cost": float(totals.provided_cost)}


ROUTES = (
    Route("POST", "/api/v1/customers", create_customer),
    Route("GET", "/api/v1/customers", list_customers),
    Route("POST", "/api/v1/customers/bulk", create_customers, max_body=_MAX_BULK_BODY),
    Route("GET", "/api/v1/customers/{}", fetch_customer),
    Route("PATCH", "/api/v1/customers/{}", update_customer),
    Route("DELETE", "/api/v1/customers/{}", delete_customer),
    Route("GET", "/api/v1/customers/{}/balances", show_balances),
    Route("GET", "/api/v1/customers/{}/plan", show_plan),
    Route("GET", "/api/v1/customers/{}/revenue", show_revenue),
)
