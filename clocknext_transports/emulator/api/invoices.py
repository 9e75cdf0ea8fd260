"""Invoices, which purchases make."""

from clocknext_transports.emulator.api.listings import find, listing
from clocknext_transports.emulator.api.plans import PLANS
from clocknext_transports.emulator.api.routes import Handled, Route
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.envelopes import Payload, Refusal
from clocknext_transports.emulator.books.records import Invoice

_PAGE = "https://pay.emulator.invalid"
"""A name that is reserved for addresses that lead nowhere."""


def list_invoices(books: Books, call: Handled) -> Payload:
    """Return invoices, newest first."""
    return listing(call, "invoices", books.invoices)


def fetch_invoice(books: Books, call: Handled) -> Payload:
    """Return one invoice, with its plan on the terms of the purchase."""
    invoice = _find(books, call)
    return Payload({"invoice": invoice.as_json(), "plan": PLANS.full(invoice.purchase.plan)})


def make_pay_link(books: Books, call: Handled) -> Payload:
    """Return a link to pay an open invoice. A paid or void one is refused with 409."""
    invoice = _find(books, call)
    if invoice.status != "OPEN":
        raise Refusal(409, f'The invoice "{invoice.id}" is not open but {invoice.status}.')
    return Payload({"invoiceId": invoice.id, "url": f"{_PAGE}/{invoice.id}"})


def _find(books: Books, call: Handled) -> Invoice:
    return find(books.invoices, "invoice", call.ids[0])


ROUTES = (
    Route("GET", "/api/v1/invoices", list_invoices),
    Route("GET", "/api/v1/invoices/{}", fetch_invoice),
    Route("GET", "/api/v1/invoices/{}/pay-link", make_pay_link),
)
