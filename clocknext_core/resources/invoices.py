"""Invoices: what customers owe."""

from clocknext_core.models import Invoice, InvoiceDetails, Items, PayLink
from clocknext_core.operations import Operation, path_id, path_of
from clocknext_core.resources.binding import Resource, S, endpoint
from clocknext_core.resources.listings import list_path
from clocknext_core.resources.payloads import many


class Invoices(Resource[S]):
    """Read invoices, and get links to pay them."""

    @endpoint
    def list(
        self, *, customer_id: str | None = None, status: str | None = None, limit: int | None = None
    ) -> Operation[Items[Invoice]]:
        """Read invoices: `GET /api/v1/invoices`.

        Args:
            customer_id: Only this customer's. Default: all customers'.
            status: Only those in this state, such as `OPEN`. Default: all.
            limit: The most to return. Default: the server's.

        Raises:
            ValidationError: A bad argument.
        """
        path = list_path("invoices", customer_id=customer_id, status=status, limit=limit)
        return Operation("GET", path, many(Invoice, "invoices"))

    @endpoint
    def get(self, invoice_id: str, /) -> Operation[InvoiceDetails]:
        """Read an invoice and the plan it is for: `GET /api/v1/invoices/{id}`.

        Raises:
            NotFoundError: There is no such invoice.
        """
        return Operation("GET", _path(invoice_id), InvoiceDetails)

    @endpoint
    def pay_link(self, invoice_id: str, /) -> Operation[PayLink]:
        """Get a link by which the customer can pay: `GET /api/v1/invoices/{id}/pay-link`.

        Raises:
            NotFoundError: There is no such invoice.
        """
        return Operation("GET", _path(invoice_id, "pay-link"), PayLink)


def _path(invoice_id: object, *rest: str) -> str:
    return path_of("invoices", path_id("invoice_id", invoice_id), *rest)
