"""Customers: create, read, update, delete, list, and what is known of them."""

import re
from typing import cast

from clocknext_transports.emulator.books import CUSTOMER_FIELDS, Account, Books, Totals
from clocknext_transports.emulator.catalogue import Customer, Plan
from clocknext_transports.emulator.envelopes import Payload, timestamp
from clocknext_transports.emulator.pricing import exact
from clocknext_transports.emulator.routes import Call, Route
from clocknext_transports.emulator.validation import Fields, invalid, query_limit

_CURRENCY = re.compile(r"[A-Z]{3}")
_RANGE = re.compile(r"([1-9][0-9]{0,3})d", re.ASCII)
_CURSOR = re.compile(r"cur_([0-9]{1,15})", re.ASCII)
_DAY = 86_400


def create_customer(books: Books, call: Call) -> Payload:
    """Open an account on the default plan. E-mail addresses need not be unique."""
    details = _details(call, creating=True)
    plan = books.default_plan if books.default_plan in books.plans else None
    account = books.add_customer(Customer(books.new_customer_id(), plan=plan), now=call.now)
    account.details.update(details)
    return Payload({"customer": account.as_json()}, 201)


def fetch_customer(books: Books, call: Call) -> Payload:
    """Return one customer."""
    return Payload({"customer": books.account(call.ids[0]).as_json()})


def update_customer(books: Books, call: Call) -> Payload:
    """Change the fields given: `null` clears one, leaving it out leaves it alone."""
    account = books.account(call.ids[0])
    account.details.update(_details(call, creating=False))
    account.updated_at = call.now
    return Payload({"customer": account.as_json()})


def delete_customer(books: Books, call: Call) -> Payload:
    """Forget a customer. What was recorded for them stays in the ledger."""
    del books.accounts[books.account(call.ids[0]).id]
    return Payload({})


def list_customers(books: Books, call: Call) -> Payload:
    """Return one page, in order of creation; `q` searches name and e-mail without regard to case."""
    limit = query_limit(call.query, default=50, maximum=1000)
    wanted = call.query.get("q", "").casefold()
    after = 0
    if "cursor" in call.query:
        cursor = _CURSOR.fullmatch(call.query["cursor"])
        if cursor is None:
            raise invalid("cursor", "is not one this server gave out")
        after = int(cursor[1])
    page = list[Account]()
    following = None
    for account in books.accounts.values():
        if account.number > after and _matches(account, wanted):
            if len(page) == limit:
                following = f"cur_{page[-1].number}"
                break
            page.append(account)
    return Payload({"customers": [account.as_json() for account in page], "nextCursor": following})


def show_balances(books: Books, call: Call) -> Payload:
    """Return what is left to a customer, component by component."""
    account = books.account(call.ids[0])
    return Payload(balances(books, account))


def show_plan(books: Books, call: Call) -> Payload:
    """Return the plan a customer is on and the purchase that put them there; `null` for both without one."""
    account = books.account(call.ids[0])
    if account.plan is None:
        return Payload({"plan": None, "purchase": None})
    purchase = {
        "id": f"pur_{account.id}",
        "customerId": account.id,
        "planId": account.plan.id,
        "status": "ACTIVE",
        "createdAt": timestamp(account.created_at),
    }
    return Payload({"plan": _plan(account.plan), "purchase": purchase})


def show_revenue(books: Books, call: Call) -> Payload:
    """Return what a customer was charged in the last days, in all and day by day."""
    account = books.account(call.ids[0])
    text = call.query.get("range", "30d")
    days = _RANGE.fullmatch(text)
    if days is None:
        raise invalid("range", "must be a number of days such as 30d")
    start = call.now - int(days[1]) * _DAY
    recent = [signal for signal in account.signals if start <= signal.created_at <= call.now]
    by_day = dict[str, list[int]]()
    for position, signal in enumerate(recent):
        by_day.setdefault(timestamp(signal.created_at)[:10], []).append(position)
    return Payload(
        {
            "customerId": account.id,
            "range": text,
            "currency": "USD",
            "from": timestamp(start),
            "to": timestamp(call.now),
            **_revenue(Totals.of(recent)),
            "series": [
                {"date": date, **_revenue(Totals.of(recent[position] for position in positions))}
                for date, positions in sorted(by_day.items())
            ],
        }
    )


def balances(books: Books, account: Account) -> dict[str, object]:
    """Return what is left to a customer, in the shape the API shows it."""
    return {
        "wallet": None
        if account.wallet is None
        else {"balance": float(account.wallet), "currencyCode": "USD"},
        "credits": [
            {
                "creditId": key,
                "creditName": (key in books.credits and books.credits[key].name) or key,
                "remaining": float(left),
            }
            for key, left in account.credits.items()
        ],
        "outcomes": [
            {
                "outcomeId": key,
                "outcomeName": (key in books.outcomes and books.outcomes[key].name) or key,
                "remaining": float(left),
            }
            for key, left in account.outcomes.items()
        ],
        "units": list[object](),
    }


def _details(call: Call, *, creating: bool) -> dict[str, object]:
    fields = Fields(call.body)
    details = dict[str, object]()
    for name in ("name", "email"):
        if creating and name not in fields:
            fields.reject(name, "is required")
        elif name in fields:
            details[name] = fields.email(name) if name == "email" else fields.text(name)
    for name in CUSTOMER_FIELDS[2:]:
        if name in fields:
            details[name] = fields.nullable_text(name)
    currency = details.get("currencyCode")
    if currency is not None and _CURRENCY.fullmatch(cast("str", currency)) is None:
        fields.reject("currencyCode", "must be an ISO 4217 code such as USD")
    fields.finish()
    return details


def _matches(account: Account, wanted: str) -> bool:
    return any(wanted in str(account.details[name]).casefold() for name in ("name", "email"))


def _plan(plan: Plan) -> dict[str, object]:
    billing = "ARREAR" if plan.arrear else "ADVANCE"
    components: list[dict[str, object]] = []
    if plan.wallet is not None:
        components.append({"type": "WALLET", "billing": billing, "included": float(exact(plan.wallet))})
    for kind, name, held in (("CREDIT", "creditId", plan.credits), ("OUTCOME", "outcomeId", plan.outcomes)):
        for key, amount in held.items():
            included = float(exact(amount))
            components.append({"type": kind, "billing": billing, name: key, "included": included})
    return {
        "id": plan.id,
        "name": plan.name or plan.id,
        "billingCycle": plan.billing_cycle,
        "isActive": True,
        "components": components,
    }


def _revenue(totals: Totals) -> dict[str, object]:
    return {
        "signals": totals.signals,
        "revenue": float(totals.customer_cost),
        "cost": float(totals.provided_cost),
    }


ROUTES = (
    Route("POST", "/api/v1/customers", create_customer),
    Route("GET", "/api/v1/customers", list_customers),
    Route("GET", "/api/v1/customers/{}", fetch_customer),
    Route("PATCH", "/api/v1/customers/{}", update_customer),
    Route("DELETE", "/api/v1/customers/{}", delete_customer),
    Route("GET", "/api/v1/customers/{}/balances", show_balances),
    Route("GET", "/api/v1/customers/{}/plan", show_plan),
    Route("GET", "/api/v1/customers/{}/revenue", show_revenue),
)
