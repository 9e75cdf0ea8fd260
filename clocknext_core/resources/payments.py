"""Payments: what customers paid."""

from clocknext_core.models import Items, Payment, PaymentDetails
from clocknext_core.operations import Operation, path_id, path_of
from clocknext_core.resources.binding import Resource, S, endpoint
from clocknext_core.resources.listings import list_path
from clocknext_core.resources.payloads import many


class Payments(Resource[S]):
    """Read payments."""

    @endpoint
    def list(self, *, customer_id: str | None = None, limit: int | None = None) -> Operation[Items[Payment]]:
        """Read payments: `GET /api/v1/payments`.

        Args:
            customer_id: Only this customer's. Default: all customers'.
            limit: The most to return. Default: the server's.

        Raises:
            ValidationError: A bad argument.
        """
        path = list_path("payments", customer_id=customer_id, limit=limit)
        return Operation("GET", path, many(Payment, "payments"))

    @endpoint
    def get(self, payment_id: str, /) -> Operation[PaymentDetails]:
        """Read a payment and the plan it was for: `GET /api/v1/payments/{id}`.

        Raises:
            NotFoundError: There is no such payment.
        """
        return Operation("GET", path_of("payments", path_id("payment_id", payment_id)), PaymentDetails)
