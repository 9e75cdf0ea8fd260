"""Units: the catalogue of single events with a price, and the events themselves.

A guess: the cost of an event is the amount it adds to the price of all the customer's events of the unit
since it was granted. So the costs add up to the price of them all under every kind of tiers; where `VOLUME`
makes all of them cheaper, the event that reaches the tier has a negative cost.
"""

from typing import cast

from clocknext_transports.emulator.api.customers import balance_rows
from clocknext_transports.emulator.api.definitions import Common, Resource
from clocknext_transports.emulator.api.listings import query_customer
from clocknext_transports.emulator.api.routes import Handled, Route
from clocknext_transports.emulator.api.signals import lacking, unknown_key
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.catalogue import Unit
from clocknext_transports.emulator.books.envelopes import Payload, Refusal
from clocknext_transports.emulator.books.pricing import ONE, ZERO, Tier, UnitPricing, exact, subtract
from clocknext_transports.emulator.books.records import UnitEvent
from clocknext_transports.emulator.books.validation import Fields, query_limit

_MAX_TIERS = 50
_PRICINGS = ("FLAT", "SLAB", "VOLUME")


def record_event(books: Books, call: Handled) -> Payload:
    """Record one event. Without an idempotency key every request is another event."""
    fields = Fields(call.body)
    customer_id = fields.required_text("customerId")
    key = fields.required_text("agentKey")
    member = fields.text("member")
    fields.finish()
    account = books.account(customer_id)
    unit = books.units.by_key.get(key)
    if unit is None:
        raise unknown_key("unit", key)
    balance = account.held["unit"].get(unit.id)
    if balance is None:
        raise lacking(account, f'unit "{key}"')
    if not balance.bears(ONE):
        raise Refusal(422, f"Insufficient unit balance: no {key} left.")
    cost = subtract(unit.cost_of(exact(balance.events + 1)), unit.cost_of(exact(balance.events)))
    debit = cost if books.is_funded(account, balance) else ZERO
    event = UnitEvent(books.new_id("evt"), account.id, unit.id, key, member, cost, call.now, debit)
    books.commit_event(account, event)
    return Payload({"event": event.as_json(), "remaining": float(balance.left)})


def list_events(books: Books, call: Handled) -> Payload:
    """Return a customer's events, newest first, and the balance of each unit."""
    account = query_customer(books, call)
    limit = query_limit(call.query)
    return Payload(
        {
            "balances": balance_rows(books, account, "unit"),
            "events": [event.as_json() for event in reversed(account.events[-limit:])],
        }
    )


def _read(books: Books, fields: Fields, common: Common) -> Unit:  # noqa: ARG001 - as all resources read
    key = fields.required_agent_key()
    fields.require("pricingType")
    pricing = cast("UnitPricing", fields.choice("pricingType", _PRICINGS) or "FLAT")
    flat_price = fields.amount("flatPrice") or ZERO
    tiers = _tiers(fields) if pricing != "FLAT" else ()
    fields.finish()
    return Unit(
        key,
        pricing,
        flat_price if pricing == "FLAT" else ZERO,
        tiers,
        id=common.id,
        name=common.name,
        description=common.description,
        active=common.active,
    )


def _tiers(fields: Fields) -> tuple[Tier, ...]:
    rows = fields.rows("tiers", required=True)
    if len(rows) > _MAX_TIERS:
        fields.reject("tiers", f"must be at most {_MAX_TIERS}")
    tiers = list[Tier]()
    below = ZERO
    for row in rows:
        price = row.amount("price", required=True)
        bound = None
        if row.is_null("upTo"):
            if row is not rows[-1]:
                row.reject("upTo", "must be a number, except in the last tier")
        else:
            bound = row.amount("upTo", above=True, required=True)
            if bound is not None and bound <= below:
                row.reject("upTo", "must be above that of the tier before")
            below = bound or below
        tiers.append(Tier(bound, price or ZERO))
    return tuple(tiers)


def _show(unit: Unit) -> dict[str, object]:
    return {
        "agentKey": unit.key,
        "pricingType": unit.pricing,
        "flatPrice": float(exact(unit.flat_price)) if unit.pricing == "FLAT" else None,
        "tiers": [
            {
                "upTo": None if tier.up_to is None else float(exact(tier.up_to)),
                "price": float(exact(tier.price)),
            }
            for tier in unit.tiers
        ],
    }


UNITS = Resource("unit", "/api/v1/units-catalog", "unt", lambda books: books.units, _read, _show)
ROUTES = (
    *UNITS.routes,
    Route("POST", "/api/v1/units", record_event),
    Route("GET", "/api/v1/units", list_events),
)
