"""Purchases: plans sold to customers.

Known rules:
- A new purchase cancels the customer's earlier one when it activates: on its billing date, at once by
  default. Allowances become what the plan includes; money in the wallet stays, and the plan's is added.
- The price due is that of the components in advance and the plan's price adjustment. FREE plans and plans
  that are all in arrear are not invoiced.

Guesses, where the public record says nothing:
- A purchase activates whether or not its invoice is paid, and the invoice is made when it activates. With
  automatic payment the invoice is paid at once; switching it on later pays what is open.
- Usage in arrear is not invoiced: an emulator has no end of a cycle.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal

from clocknext_transports.emulator.api.listings import find, listing
from clocknext_transports.emulator.api.plans import price_in_advance, price_of, show_component
from clocknext_transports.emulator.api.routes import Handled, Route
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.catalogue import Plan
from clocknext_transports.emulator.books.envelopes import Payload, Refusal
from clocknext_transports.emulator.books.pricing import ZERO, exact
from clocknext_transports.emulator.books.records import Purchase
from clocknext_transports.emulator.books.validation import Fields

_PATH = "/api/v1/purchases"
_MAX_MINUTES = 10**9
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def list_purchases(books: Books, call: Handled) -> Payload:
    """Return purchases, newest first."""
    return listing(call, "purchases", books.purchases)


def create_purchase(books: Books, call: Handled) -> Payload:
    """Sell a plan to a customer."""
    fields = Fields(call.body)
    customer_id = fields.required_text("customerId")
    plan_id = fields.required_text("planId")
    auto_payment = fields.flag("autoPayment") or False
    starts_at = _billing_date(fields, now=call.now)
    details: dict[str, object] = {
        "billingDate": fields.nullable_text("billingDate"),
        "notes": fields.nullable_text("notes"),
        "voidAfterMinutes": fields.integer("voidAfterMinutes", minimum=1, maximum=_MAX_MINUTES),
    }
    fields.finish()
    account = books.account(customer_id)
    plan = find(books.plans.by_id, "plan", plan_id)
    if not plan.active:
        raise Refusal(422, f'The plan "{plan.name}" is not active.')
    lines, due = _invoice(books, plan)
    purchase = Purchase(
        books.fresh_id("pur", books.purchases),
        account.id,
        plan,
        call.now,
        auto_payment,
        details=details,
        lines=lines,
        due=due,
        starts_at=starts_at,
    )
    books.sell(purchase, now=call.now)
    return Payload({"purchase": purchase.as_json()}, 201)


def fetch_purchase(books: Books, call: Handled) -> Payload:
    """Return one purchase."""
    return Payload({"purchase": _find(books, call).as_json()})


def change_purchase(books: Books, call: Handled) -> Payload:
    """Switch automatic payment on or off. `null` clears `pauseReason`; leaving it out leaves it alone."""
    purchase = _find(books, call)
    fields = Fields(call.body)
    fields.require("autoPayment")
    auto_payment = fields.flag("autoPayment") or False
    reason = fields.nullable_text("pauseReason") if "pauseReason" in fields else purchase.pause_reason
    fields.finish()
    purchase.auto_payment, purchase.pause_reason = auto_payment, reason
    books.collect(purchase, now=call.now)
    return Payload({"purchase": purchase.as_json()})


def cancel_purchase(books: Books, call: Handled) -> Payload:
    """End a purchase: its allowances are removed, money in the wallet stays."""
    purchase = _find(books, call)
    if purchase.cancelled_at is not None:
        raise Refusal(422, f'The purchase "{purchase.id}" is cancelled already.')
    books.cancel(purchase, now=call.now)
    return Payload({"purchase": purchase.as_json()})


def _find(books: Books, call: Handled) -> Purchase:
    return find(books.purchases, "purchase", call.ids[0])


def _billing_date(fields: Fields, *, now: float) -> float:
    """Return when a purchase activates: 0 at once, else the start of its billing date, UTC."""
    text = fields.nullable_text("billingDate")
    if text is None:
        return 0.0
    day = _parsed(text)
    if day is None:
        fields.reject("billingDate", "must be a date, YYYY-MM-DD")
        return 0.0
    today = datetime.fromtimestamp(now, UTC).date()
    if day < today:
        fields.reject("billingDate", "must not be in the past")
    return 0.0 if day <= today else datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _parsed(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        return None


def _invoice(books: Books, plan: Plan) -> tuple[list[Mapping[str, object]], Decimal]:
    """Return the lines of a plan's invoice and their sum; nothing where it is not invoiced."""
    if not plan.raises_invoices:
        return [], ZERO
    lines = [
        {**show_component(component), "price": float(price_of(books, component))}
        for component in plan.all_components
        if not component.arrear
    ]
    adjustment = exact(plan.price_adjustment)
    if adjustment:
        lines.append({"type": "ADJUSTMENT", "price": float(adjustment)})
    # Prices may have changed since the plan was checked: an invoice is never for less than nothing.
    return list(lines), max(price_in_advance(books, plan), ZERO)


ROUTES = (
    Route("GET", _PATH, list_purchases),
    Route("POST", _PATH, create_purchase),
    Route("GET", f"{_PATH}/{{}}", fetch_purchase),
    Route("PATCH", f"{_PATH}/{{}}", change_purchase),
    Route("POST", f"{_PATH}/{{}}/cancel", cancel_purchase, bodiless=True),
)
