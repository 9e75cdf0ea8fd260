"""Invoices: what customers owe for what they bought, made by purchases."""

from clocknext_transports.emulator.api.listings import find, listing
from clocknext_transports.emulator.api.plans import PLANS
from clocknext_transports.emulator.api.routes import Handled, Route
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.envelopes import Payload, Refusal
from clocknext_transports.emulator.books.records import Invoice

_PAGE = "https://pay.emulator.invalid"
"""Leads nowhere: the name is reserved for that."""


def list_invoices(books: Books, call: Handled) -> Payload:
    """Return invoices, newest first."""
    return listing(call, "invoices", books.invoices)


def fetch_invoice(books: Books, call: Handled) -> Payload:
    """Return one invoice and the plan it is for, as it was sold."""
    invoice = _find(books, call)
    return Payload({"invoice": invoice.as_json(), "plan": PLANS.full(invoice.purchase.plan)})


def make_pay_link(books: Books, call: Handled) -> Payload:
    """Return a link by which an open invoice could be paid."""
    invoice = _find(books, call)
    if invoice.status != "OPEN":
        raise Refusal(422, f'The invoice "{invoice.id}" is not open but {invoice.status}.')
    return Payload({"invoiceId": invoice.id, "url": f"{_PAGE}/{invoice.id}"})


def _find(books: Books, call: Handled) -> Invoice:
    return find(books.invoices, "invoice", call.ids[0])


ROUTES = (
    Route("GET", "/api/v1/invoices", list_invoices),
    Route("GET", "/api/v1/invoices/{}", fetch_invoice),
    Route("GET", "/api/v1/invoices/{}/pay-link", make_pay_link),
)
