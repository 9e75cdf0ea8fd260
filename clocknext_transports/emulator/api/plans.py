"""Plans: what customers can be sold."""

from typing import cast

from clocknext_transports.emulator.api.definitions import Common, Resource
from clocknext_transports.emulator.api.listings import find
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.catalogue import BillingCycle, Component, ComponentType, Plan
from clocknext_transports.emulator.books.envelopes import Refusal
from clocknext_transports.emulator.books.pricing import exact
from clocknext_transports.emulator.books.records import ItemKind
from clocknext_transports.emulator.books.validation import Fields

_CYCLES = ("MONTHLY", "QUARTERLY", "SEMI_ANNUAL", "YEARLY", "EVERY_5_MIN", "FREE")
_TYPES = ("WALLET", "FLAT", "CREDIT", "OUTCOME", "UNIT")
_MODES = ("ADVANCE", "ARREAR")


def _read(books: Books, fields: Fields, common: Common) -> Plan:
    fields.require("billingCycle")
    cycle = cast("BillingCycle", fields.choice("billingCycle", _CYCLES) or "MONTHLY")
    currency = fields.currency("currencyCode") or "USD"
    components = [_component(row) for row in fields.rows("components", required=True)]
    fields.finish()
    sold = set[tuple[str, str | None]]()
    for component in components:
        if component.item is not None:
            _check_item(books, component.type, component.item)
        if (component.type, component.item) in sold:
            raise Refusal(422, "A plan has each component once.")
        sold.add((component.type, component.item))
        if cycle == "FREE" and (component.arrear or component.type == "FLAT"):
            raise Refusal(422, "A FREE plan has components in ADVANCE only, and none of type FLAT.")
    return Plan(
        common.id,
        billing_cycle=cycle,
        currency=currency,
        components=components,
        name=common.name,
        description=common.description,
        active=common.active,
    )


def _component(row: Fields) -> Component:
    row.require("type", "billingMode")
    kind = cast("ComponentType", row.choice("type", _TYPES) or "FLAT")
    arrear = row.choice("billingMode", _MODES) == "ARREAR"
    if kind in {"WALLET", "FLAT"}:
        return Component(kind, row.amount("amount", required=True), arrear=arrear)
    item = row.required_text(f"{kind.lower()}Id")
    quantity = row.amount("quantity", above=True, required=not arrear)
    return Component(kind, quantity, item, arrear)


def _check_item(books: Books, kind: ComponentType, item: str) -> None:
    noun = cast("ItemKind", kind.lower())
    found = find(books.items[noun].by_id, noun, item)
    if not found.active:
        raise Refusal(422, f'The {noun} "{found.name}" is not active.')


def _show(plan: Plan) -> dict[str, object]:
    return {
        "billingCycle": plan.billing_cycle,
        "currencyCode": plan.currency,
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
