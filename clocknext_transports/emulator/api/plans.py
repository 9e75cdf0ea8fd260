"""Plans: what customers can be sold.

Known rules: a FREE plan has no FLAT component and nothing in arrear; `walletFundedArrear` needs a credit,
outcome or unit in arrear and a wallet in advance; `carryForward` is accepted and ignored. A guess: a price
adjustment that would take the price below zero is refused with 422.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import cast

from clocknext_transports.emulator.api.definitions import Common, Resource
from clocknext_transports.emulator.api.listings import find
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.catalogue import BillingCycle, Component, ComponentType, Plan
from clocknext_transports.emulator.books.envelopes import Refusal
from clocknext_transports.emulator.books.pricing import ZERO, add, exact
from clocknext_transports.emulator.books.records import ItemKind
from clocknext_transports.emulator.books.validation import Fields

_CYCLES = ("MONTHLY", "QUARTERLY", "SEMI_ANNUAL", "YEARLY", "EVERY_5_MIN", "FREE")
_TYPES = ("WALLET", "FLAT", "CREDIT", "OUTCOME", "UNIT")
_MODES = ("ADVANCE", "ARREAR")
_ITEMS = ("CREDIT", "OUTCOME", "UNIT")


def _read(books: Books, fields: Fields, common: Common) -> Plan:
    fields.require("billingCycle")
    cycle = cast("BillingCycle", fields.choice("billingCycle", _CYCLES) or "MONTHLY")
    currency = fields.currency("currencyCode") or "USD"
    is_funded = fields.flag("walletFundedArrear") or False
    adjustment = fields.amount("priceAdjustment", minimum=None) or ZERO
    fields.flag("carryForward")
    rows = fields.rows("components", required=True)
    components = [_component(row) for row in rows]
    fields.finish()
    for row, component in zip(rows, components, strict=True):
        _check_quantity(row, component)
    _check_components(books, components, cycle)
    if is_funded:
        _check_funding(components)
    plan = Plan(
        common.id,
        billing_cycle=cycle,
        currency=currency,
        components=components,
        wallet_funded_arrear=is_funded,
        price_adjustment=adjustment,
        name=common.name,
        description=common.description,
        active=common.active,
    )
    if plan.raises_invoices and price_in_advance(books, plan) < 0:
        raise Refusal(422, "priceAdjustment must not take the price due at purchase below zero.")
    return plan


def _component(row: Fields) -> Component:
    row.require("type", "billingMode")
    kind = cast("ComponentType", row.choice("type", _TYPES) or "FLAT")
    arrear = row.choice("billingMode", _MODES) == "ARREAR"
    if kind in {"WALLET", "FLAT"}:
        return Component(kind, row.amount("amount"), arrear=arrear)
    item = row.required_text(f"{kind.lower()}Id")
    return Component(kind, row.amount("quantity", above=True), item, arrear)


def _check_quantity(row: Fields, component: Component) -> None:
    name = "amount" if component.item is None else "quantity"
    if component.amount is None and (component.item is None or not component.arrear):
        raise Refusal(422, f"{row.path_of(name)}: is required")


def _check_components(books: Books, components: Sequence[Component], cycle: BillingCycle) -> None:
    sold = set[tuple[str, str | None]]()
    for component in components:
        if component.item is not None:
            _check_item(books, component.type, component.item)
        if (component.type, component.item) in sold:
            raise Refusal(422, "A plan has each component once.")
        sold.add((component.type, component.item))
        if cycle == "FREE" and (component.arrear or component.type == "FLAT"):
            raise Refusal(422, "A FREE plan has components in ADVANCE only, and none of type FLAT.")


def _check_item(books: Books, kind: ComponentType, item: str) -> None:
    noun = cast("ItemKind", kind.lower())
    found = find(books.items[noun].by_id, noun, item)
    if not found.active:
        raise Refusal(422, f'The {noun} "{found.name}" is not active.')


def _check_funding(components: Sequence[Component]) -> None:
    if not any(component.arrear and component.type in _ITEMS for component in components):
        raise Refusal(422, "walletFundedArrear needs a credit, outcome or unit in ARREAR.")
    if not any(component.type == "WALLET" and not component.arrear for component in components):
        raise Refusal(422, "walletFundedArrear needs a WALLET component in ADVANCE.")


def price_in_advance(books: Books, plan: Plan) -> Decimal:
    """Return the price of a plan's components in advance, with the adjustment, USD."""
    prices = (price_of(books, component) for component in plan.all_components if not component.arrear)
    total = exact(plan.price_adjustment)
    for price in prices:
        total = add(total, price)
    return total


def price_of(books: Books, component: Component) -> Decimal:
    """Return the price of one component, USD."""
    amount = exact(component.amount or 0)
    if component.item is None:
        return amount
    noun = cast("ItemKind", component.type.lower())
    return find(books.items[noun].by_id, noun, component.item).cost_of(amount)


def _show(plan: Plan) -> dict[str, object]:
    adjustment = exact(plan.price_adjustment) if plan.raises_invoices else ZERO
    return {
        "billingCycle": plan.billing_cycle,
        "currencyCode": plan.currency,
        "walletFundedArrear": plan.wallet_funded_arrear,
        "priceAdjustment": float(adjustment),
        "components": [show_component(component) for component in plan.all_components],
    }


def show_component(component: Component) -> dict[str, object]:
    """Return a plan's component as the API shows it."""
    shown: dict[str, object] = {
        "type": component.type,
        "billingMode": "ARREAR" if component.arrear else "ADVANCE",
    }
    amount = None if component.amount is None else float(exact(component.amount))
    if component.item is None:
        return {**shown, "amount": amount}
    return {**shown, f"{component.type.lower()}Id": component.item, "quantity": amount}


PLANS = Resource("plan", "/api/v1/plans", "plan", lambda books: books.plans, _read, _show)
ROUTES = PLANS.routes
