"""Lists of purchases, invoices and payments, filtered by customer and status, newest first."""

from collections.abc import Mapping
from itertools import islice
from typing import Protocol, TypeVar

from clocknext_transports.emulator.api.routes import Handled
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.envelopes import Payload, Refusal
from clocknext_transports.emulator.books.records import Account
from clocknext_transports.emulator.books.validation import invalid, query_limit

R = TypeVar("R")


class Row(Protocol):
    """One row of a list."""

    @property
    def customer_id(self) -> str:
        """The id of its customer."""
        ...

    @property
    def status(self) -> str:
        """Its state."""
        ...

    def as_json(self) -> dict[str, object]:
        """Return the row as the API shows it."""
        ...


def listing(call: Handled, name: str, rows: Mapping[str, Row]) -> Payload:
    """Return the rows that `customerId`, `status` and `limit` ask for, under their payload key."""
    limit = query_limit(call.query)
    customer_id, status = call.query.get("customerId"), call.query.get("status")
    found = (
        row.as_json()
        for row in reversed(list(rows.values()))
        if customer_id in {None, row.customer_id} and status in {None, row.status}
    )
    return Payload({name: list(islice(found, limit))})


def find(rows: Mapping[str, R], noun: str, row_id: str) -> R:
    """Return the row with an id.

    Raises:
        Refusal: 404, no such row.
    """
    found = rows.get(row_id)
    if found is None:
        raise Refusal(404, f'No {noun} with id "{row_id}".')
    return found


def query_customer(books: Books, call: Handled) -> Account:
    """Return the account that the path or `customerId` names.

    Raises:
        Refusal: 400, neither names one; 404, no such customer.
    """
    customer_id = call.ids[0] if call.ids else call.query.get("customerId", "")
    if not customer_id.strip():
        raise invalid("customerId", "is required")
    return books.account(customer_id)
