"""Purchases: plans sold to customers.

What the public record leaves open is decided here:
- A purchase takes the place of the one before it, which is cancelled with its open invoices. It is active at
  once, whatever its billing date and whether or not its invoice is paid.
- Balances become what the plan includes. Money in the wallet stays, and is added to.
- What is billed in advance is invoiced at once: wallet and flat fee by their amount, the rest by quantity
  and price. Nothing due, no invoice. With automatic payment the invoice is paid at once too; switching it on
  later pays what is open.
- What is billed in arrear is not invoiced: an emulator has no end of a cycle.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import cast

from clocknext_transports.emulator.api.listings import find, listing
from clocknext_transports.emulator.api.plans import show_component
from clocknext_transports.emulator.api.routes import Handled, Route
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.catalogue import Component, Plan
from clocknext_transports.emulator.books.envelopes import Payload, Refusal
from clocknext_transports.emulator.books.pricing import ZERO, add, exact
from clocknext_transports.emulator.books.records import ItemKind, Purchase
from clocknext_transports.emulator.books.validation import Fields

_PATH = "/api/v1/purchases"
_MAX_MINUTES = 10**9


def list_purchases(books: Books, call: Handled) -> Payload:
    """Return purchases, newest first."""
    return listing(call, "purchases", books.purchases)


def create_purchase(books: Books, call: Handled) -> Payload:
    """Sell a plan to a customer."""
    fields = Fields(call.body)
    customer_id = fields.required_text("customerId")
    plan_id = fields.required_text("planId")
    auto_payment = fields.flag("autoPayment") or False
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
    lines, amount = _due(books, plan)
    purchase = Purchase(
        books.fresh_id("pur", books.purchases), account.id, plan, call.now, auto_payment, details=details
    )
    books.sell(purchase, lines, amount, now=call.now)
    return Payload({"purchase": purchase.as_json()}, 201)


def fetch_purchase(books: Books, call: Handled) -> Payload:
    """Return one purchase."""
    return Payload({"purchase": _find(books, call).as_json()})


def change_purchase(books: Books, call: Handled) -> Payload:
    """Switch automatic payment on or off; `pauseReason` says why not, and `null` clears it."""
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
    """End a purchase: what it included is gone, what the customer paid into the wallet is not."""
    purchase = _find(books, call)
    if not purchase.active:
        raise Refusal(422, f'The purchase "{purchase.id}" is cancelled already.')
    books.cancel(purchase, now=call.now)
    return Payload({"purchase": purchase.as_json()})


def _find(books: Books, call: Handled) -> Purchase:
    return find(books.purchases, "purchase", call.ids[0])


def _due(books: Books, plan: Plan) -> tuple[list[Mapping[str, object]], Decimal]:
    """Work out what is due when a plan is bought: the invoice's lines and their sum."""
    lines = list[Mapping[str, object]]()
    total = ZERO
    for component in plan.all_components:
        if not component.arrear:
            amount = _price(books, component)
            lines.append({**show_component(component), "price": float(amount)})
            total = add(total, amount)
    return lines, total


def _price(books: Books, component: Component) -> Decimal:
    amount = exact(component.amount or 0)
    if component.item is None:
        return amount
    noun = cast("ItemKind", component.type.lower())
    return find(books.items[noun].by_id, noun, component.item).cost_of(amount)


ROUTES = (
    Route("GET", _PATH, list_purchases),
    Route("POST", _PATH, create_purchase),
    Route("GET", f"{_PATH}/{{}}", fetch_purchase),
    Route("PATCH", f"{_PATH}/{{}}", change_purchase),
    Route("POST", f"{_PATH}/{{}}/cancel", cancel_purchase, bodiless=True),
)
