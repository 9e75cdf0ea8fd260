"""Purchases: plans sold to customers."""

from typing import Annotated, TypedDict, Unpack

from clocknext_core.checks import check_bool, check_text
from clocknext_core.models import Items, Purchase, PurchaseChange
from clocknext_core.operations import Operation, json_body, path_id, path_of
from clocknext_core.resources.binding import Resource, S, endpoint
from clocknext_core.resources.listings import list_path
from clocknext_core.resources.payloads import many, one
from clocknext_core.resources.writes import checked


class PurchaseDetails(TypedDict, total=False):
    """Optional fields of a purchase."""

    billing_date: Annotated[str | None, "The first day of billing, `YYYY-MM-DD`. `None`, as left out: today."]
    notes: Annotated[str | None, "Your notes. `None`, as left out: none."]
    auto_payment: Annotated[bool, "Whether its invoices are paid automatically. Left out: they are not."]
    void_after_minutes: Annotated[
        int, "Whole minutes until the purchase is void if it is not paid. Left out: it stays valid."
    ]


class AutoPaymentDetails(TypedDict, total=False):
    """Optional fields of a change of automatic payment."""

    pause_reason: Annotated[
        str | None, "Why automatic payment is paused. `None` clears it, leaving it out leaves it alone."
    ]


class Purchases(Resource[S]):
    """Sell plans to customers; read and cancel purchases."""

    @endpoint
    def list(
        self, *, customer_id: str | None = None, status: str | None = None, limit: int | None = None
    ) -> Operation[Items[Purchase]]:
        """Read purchases: `GET /api/v1/purchases`.

        Args:
            customer_id: Only this customer's. Default: all customers'.
            status: Only those in this state, such as `ACTIVE`. Default: all.
            limit: The most to return. Default: the server's.

        Raises:
            ValidationError: A bad argument.
        """
        path = list_path("purchases", customer_id=customer_id, status=status, limit=limit)
        return Operation("GET", path, many(Purchase, "purchases"))

    @endpoint
    def create(
        self, /, *, customer_id: str, plan_id: str, **details: Unpack[PurchaseDetails]
    ) -> Operation[Purchase]:
        """Sell a plan to a customer: `POST /api/v1/purchases`. Sent once: a repeat could sell it twice.

        A field that is not listed is sent as well, in camelCase: the server may know it.

        Args:
            customer_id: Who buys.
            plan_id: The plan that is bought.
            details: The fields of `PurchaseDetails`.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
            NotFoundError: There is no such customer or plan.
        """
        fields = {
            "customer_id": check_text("customer_id", customer_id),
            "plan_id": check_text("plan_id", plan_id),
            **checked(PurchaseDetails, details),
        }
        return Operation("POST", path_of("purchases"), one(Purchase, "purchase"), json_body(fields))

    @endpoint
    def get(self, purchase_id: str, /) -> Operation[Purchase]:
        """Read a purchase: `GET /api/v1/purchases/{id}`.

        Raises:
            NotFoundError: There is no such purchase.
        """
        return Operation("GET", _path(purchase_id), one(Purchase, "purchase"))

    @endpoint
    def set_auto_payment(
        self, purchase_id: str, /, *, auto_payment: bool, **details: Unpack[AutoPaymentDetails]
    ) -> Operation[PurchaseChange]:
        """Switch automatic payment on or off: `PATCH /api/v1/purchases/{id}`. Sent once.

        Args:
            purchase_id: The purchase's id.
            auto_payment: Whether its invoices are paid automatically.
            details: The fields of `AutoPaymentDetails`.

        Raises:
            ValidationError: A bad argument, or the server refused it.
            NotFoundError: There is no such purchase.
        """
        fields = {
            "auto_payment": check_bool("auto_payment", auto_payment),
            **checked(AutoPaymentDetails, details, closed=True),
        }
        return Operation("PATCH", _path(purchase_id), PurchaseChange, json_body(fields))

    @endpoint
    def cancel(self, purchase_id: str, /) -> Operation[PurchaseChange]:
        """Cancel a purchase: `POST /api/v1/purchases/{id}/cancel`, without a body. Sent once.

        Raises:
            NotFoundError: There is no such purchase.
        """
        return Operation("POST", _path(purchase_id, "cancel"), PurchaseChange)


def _path(purchase_id: object, *rest: str) -> str:
    return path_of("purchases", path_id("purchase_id", purchase_id), *rest)
