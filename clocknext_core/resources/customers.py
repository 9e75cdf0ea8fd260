"""Customers: who is billed, and what they used, have left, are on and brought in."""

from collections.abc import Sequence
from typing import TypedDict, Unpack

from clocknext_core.binding import Resource, S, endpoint, paged
from clocknext_core.envelope import Payload
from clocknext_core.models import Balances, Customer, CustomerPage, CustomerPlan, Revenue, Usage
from clocknext_core.operations import (
    Operation,
    Pages,
    json_body,
    optional_limit,
    optional_text,
    path_id,
    path_of,
)
from clocknext_core.resources.payloads import nothing, one, picked
from clocknext_core.resources.signals import usage_operation
from clocknext_core.resources.writes import checked_texts


class CustomerDetails(TypedDict, total=False):
    """Optional fields of a customer. `None` clears one; leaving it out leaves it alone."""

    description: str | None
    website: str | None
    phone: str | None
    legal_name: str | None
    address_line1: str | None
    address_line2: str | None
    city: str | None
    state: str | None
    country: str | None
    pincode: str | None
    tax_id: str | None
    notes: str | None
    logo_url: str | None
    currency_code: str | None
    """ISO 4217."""


class CustomerChanges(CustomerDetails, total=False):
    """Fields of a customer that can be changed: name and e-mail can't be cleared."""

    name: str
    email: str


class Customers(Resource[S]):
    """Create, read, change and delete customers; read what concerns one of them."""

    @endpoint
    def create(self, *, name: str, email: str, **details: Unpack[CustomerDetails]) -> Operation[Customer]:
        """Create a customer: `POST /api/v1/customers`. Sent once: a repeat could create it twice.

        Args:
            name: Required, not blank.
            email: Required, not blank.
            details: `description`, `website`, `phone`, `legal_name`, `address_line1`, `address_line2`,
                `city`, `state`, `country`, `pincode`, `tax_id`, `notes`, `logo_url`, `currency_code`
                (ISO 4217). `None` is sent as `null`.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
        """
        fields = {"name": name, "email": email, **details}
        return Operation("POST", path_of("customers"), _CUSTOMER, _write(fields))

    @endpoint
    def get(self, customer_id: str, /) -> Operation[Customer]:
        """Read a customer: `GET /api/v1/customers/{id}`.

        Raises:
            NotFoundError: There is no such customer.
        """
        return Operation("GET", _path(customer_id), _CUSTOMER)

    @endpoint
    def update(self, customer_id: str, /, **changes: Unpack[CustomerChanges]) -> Operation[Customer]:
        """Change a customer: `PATCH /api/v1/customers/{id}`. Sent once.

        Args:
            customer_id: Which one.
            changes: The fields of `create`. `None` clears a field, leaving it out leaves it alone.

        Raises:
            NotFoundError: There is no such customer.
        """
        return Operation("PATCH", _path(customer_id), _CUSTOMER, _write({**changes}))

    @endpoint
    def delete(self, customer_id: str, /) -> Operation[None]:
        """Delete a customer: `DELETE /api/v1/customers/{id}`.

        Raises:
            NotFoundError: There is no such customer; also when a retry finds the first attempt did it.
        """
        return Operation("DELETE", _path(customer_id), nothing)

    @endpoint
    def list(
        self, *, limit: int | None = None, q: str | None = None, cursor: str | None = None
    ) -> Operation[CustomerPage]:
        """Read one page of customers: `GET /api/v1/customers`.

        Args:
            limit: Customers a page. Default: the server's.
            q: Search text.
            cursor: `next_cursor` of the page before.
        """
        return Operation("GET", _list_path(limit, q, cursor), picked(CustomerPage))

    @paged
    def iterate(self, *, limit: int | None = None, q: str | None = None) -> Pages[Customer]:
        """Go through every customer, page by page.

        Args:
            limit: Customers a page, not in all. Default: the server's.
            q: Search text.
        """
        _list_path(limit, q, None)  # a bad argument is an error now, not at the first item

        def fetch(cursor: str | None) -> Operation[tuple[Sequence[Customer], str | None]]:
            return Operation("GET", _list_path(limit, q, cursor), _read_items)

        return Pages(fetch)

    @endpoint
    def usage(self, customer_id: str, /, *, limit: int | None = None) -> Operation[Usage]:
        """Read a customer's usage: `GET /api/v1/usage`. The latest `limit` logs; default: the server's."""
        return usage_operation(customer_id, limit)

    @endpoint
    def balances(self, customer_id: str, /) -> Operation[Balances]:
        """Read what a customer has left: `GET /api/v1/customers/{id}/balances`."""
        return Operation("GET", _path(customer_id, "balances"), Balances)

    @endpoint
    def plan(self, customer_id: str, /) -> Operation[CustomerPlan]:
        """Read the plan a customer is on: `GET /api/v1/customers/{id}/plan`."""
        return Operation("GET", _path(customer_id, "plan"), CustomerPlan)

    @endpoint
    def revenue(self, customer_id: str, /, *, range: str | None = None) -> Operation[Revenue]:  # noqa: A002
        """Read what a customer brought in: `GET /api/v1/customers/{id}/revenue`.

        Args:
            customer_id: Which one.
            range: How far back, such as `30d`. Default: the server's.
        """
        path = _path(customer_id, "revenue", query={"range": optional_text("range", range)})
        return Operation("GET", path, Revenue)


_CUSTOMER = one(Customer, "customer")


def _path(customer_id: object, *rest: str, query: dict[str, str | None] | None = None) -> str:
    return path_of("customers", path_id("customer_id", customer_id), *rest, query=query)


def _list_path(limit: object, q: object, cursor: object) -> str:
    return path_of(
        "customers",
        query={
            "limit": optional_limit(limit),
            "q": optional_text("q", q),
            "cursor": optional_text("cursor", cursor),
        },
    )


def _write(fields: dict[str, object]) -> bytes:
    known = CustomerChanges.__annotations__
    return json_body(checked_texts(known, fields, required=("name", "email")))


def _read_items(payload: Payload) -> tuple[Sequence[Customer], str | None]:
    page = CustomerPage(payload)
    return page.customers, page.next_cursor
