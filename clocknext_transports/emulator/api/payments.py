"""Payments of invoices, which purchases with automatic payment make."""

from clocknext_transports.emulator.api.listings import find, listing
from clocknext_transports.emulator.api.plans import PLANS
from clocknext_transports.emulator.api.routes import Handled, Route
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.envelopes import Payload


def list_payments(books: Books, call: Handled) -> Payload:
    """Return payments, newest first."""
    return listing(call, "payments", books.payments)


def fetch_payment(books: Books, call: Handled) -> Payload:
    """Return one payment, with its plan on the terms of the purchase."""
    payment = find(books.payments, "payment", call.ids[0])
    return Payload({"payment": payment.as_json(), "plan": PLANS.full(payment.invoice.purchase.plan)})


ROUTES = (
    Route("GET", "/api/v1/payments", list_payments),
    Route("GET", "/api/v1/payments/{}", fetch_payment),
)
