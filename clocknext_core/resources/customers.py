"""Customers: who is billed; their usage, balances, plan and revenue."""

from collections.abc import Mapping, Sequence
from typing import Annotated, TypedDict, TypeVar, Unpack

from clocknext_core.checks import check_number, check_text
from clocknext_core.envelope import Payload, as_list, as_object
from clocknext_core.errors import invalid
from clocknext_core.models import (
    Adjustment,
    Balances,
    CreditBalance,
    Customer,
    CustomerPage,
    CustomerPlan,
    Items,
    Member,
    Model,
    OutcomeBalance,
    Revenue,
    UnitBalance,
    Usage,
    Wallet,
    WalletEntry,
)
from clocknext_core.operations import (
    Operation,
    Pages,
    QueryValue,
    json_body,
    optional_limit,
    optional_text,
    path_id,
    path_of,
)
from clocknext_core.resources.binding import Resource, S, endpoint, paged
from clocknext_core.resources.payloads import many, nothing, one, picked
from clocknext_core.resources.signals import usage_operation
from clocknext_core.resources.writes import Email, checked
from clocknext_core.wire import camel_case

M = TypeVar("M", bound=Model)


class CustomerDetails(TypedDict, total=False):
    """Optional fields of a customer. `None` clears one; leaving it out leaves it alone."""

    description: Annotated[str | None, "Description for people. `None`: none."]
    website: Annotated[str | None, "Address of its website. `None`: none."]
    phone: Annotated[str | None, "Phone number, as written. `None`: none."]
    legal_name: Annotated[str | None, "Registered name. `None`: none."]
    address_line1: Annotated[str | None, "First line of the postal address. `None`: none."]
    address_line2: Annotated[str | None, "Second line of the postal address. `None`: none."]
    city: Annotated[str | None, "Part of the postal address. `None`: none."]
    state: Annotated[str | None, "Part of the postal address. `None`: none."]
    country: Annotated[str | None, "Part of the postal address. `None`: none."]
    pincode: Annotated[str | None, "Postal code. `None`: none."]
    tax_id: Annotated[str | None, "Tax number. `None`: none."]
    notes: Annotated[str | None, "Your notes. `None`: none."]
    logo_url: Annotated[str | None, "Address of its logo. `None`: none."]
    currency_code: Annotated[str | None, "ISO 4217. `None`: the server's choice."]


class CustomerChanges(CustomerDetails, total=False):
    """Fields of a customer that can be changed: name and e-mail can't be cleared."""

    name: Annotated[str, "Not blank."]
    email: Annotated[str, "Not blank."]


class MemberDetails(TypedDict, total=False):
    """Optional fields of a member. The protocol names none."""


class MemberChanges(MemberDetails, total=False):
    """Fields of a member that can be changed: name and e-mail can't be cleared."""

    name: Annotated[str, "Not blank."]
    email: Annotated[Email, "The address by which signals can name the member."]


class Customers(Resource[S]):
    """Create, read, change and delete customers; read their usage, balances, plan and revenue."""

    @endpoint
    def create(self, *, name: str, email: str, **details: Unpack[CustomerDetails]) -> Operation[Customer]:
        """Create a customer: `POST /api/v1/customers`. Sent once: a repeat could create it twice.

        Args:
            name: Required, not blank.
            email: Required, not blank.
            details: The fields of `CustomerDetails`.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
        """
        body = _customer_body({"name": name, "email": email, **details})
        return Operation("POST", path_of("customers"), _CUSTOMER, body)

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

        `None` clears a field, leaving it out leaves it alone.

        Args:
            customer_id: The customer's id.
            changes: The fields of `CustomerChanges`.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
            NotFoundError: There is no such customer.
        """
        return Operation("PATCH", _path(customer_id), _CUSTOMER, _customer_body(changes))

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
            limit: Customers per page. Default: the server's.
            q: Search text.
            cursor: `next_cursor` of the page before.
        """
        return Operation("GET", _list_path(limit, q, cursor), picked(CustomerPage))

    @paged
    def iterate(self, *, limit: int | None = None, q: str | None = None) -> Pages[Customer]:
        """Go through every customer, page by page.

        Args:
            limit: Customers per page, not in total. Default: the server's.
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
        """Read a customer's balances: `GET /api/v1/customers/{id}/balances`."""
        return Operation("GET", _path(customer_id, "balances"), Balances)

    @endpoint
    def plan(self, customer_id: str, /) -> Operation[CustomerPlan]:
        """Read a customer's plan: `GET /api/v1/customers/{id}/plan`."""
        return Operation("GET", _path(customer_id, "plan"), CustomerPlan)

    @endpoint
    def revenue(self, customer_id: str, /, *, range: str | None = None) -> Operation[Revenue]:  # noqa: A002
        """Read a customer's revenue: `GET /api/v1/customers/{id}/revenue`.

        Args:
            customer_id: The customer's id.
            range: How far back, such as `30d`. Default: the server's.
        """
        path = _path(customer_id, "revenue", query={"range": optional_text("range", range)})
        return Operation("GET", path, Revenue)

    @endpoint
    def list_members(self, customer_id: str, /) -> Operation[Items[Member]]:
        """Read a customer's members: `GET /api/v1/customers/{id}/members`.

        Raises:
            NotFoundError: There is no such customer.
        """
        return Operation("GET", _path(customer_id, "members"), many(Member, "members"))

    @endpoint
    def add_member(
        self, customer_id: str, /, *, name: str, email: str, **details: Unpack[MemberDetails]
    ) -> Operation[Member]:
        """Add a member to a customer: `POST /api/v1/customers/{id}/members`. Sent once.

        A field that is not listed is sent as well, in camelCase: the server may know it.

        Args:
            customer_id: The customer's id.
            name: Required, not blank.
            email: The address by which signals can name the member.
            details: The fields of `MemberDetails`.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
            NotFoundError: There is no such customer.
        """
        body = _member_body({"name": name, "email": email, **details})
        return Operation("POST", _path(customer_id, "members"), _MEMBER, body)

    @endpoint
    def update_member(
        self, customer_id: str, member_id: str, /, **changes: Unpack[MemberChanges]
    ) -> Operation[Member]:
        """Change a member: `PATCH /api/v1/customers/{id}/members/{memberId}`. Sent once.

        What is left out stays as it is. A field that is not listed is sent as well, in camelCase.

        Args:
            customer_id: The customer's id.
            member_id: The member's id.
            changes: The fields of `MemberChanges`.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
            NotFoundError: There is no such member.
        """
        return Operation("PATCH", _member_path(customer_id, member_id), _MEMBER, _member_body(changes))

    @endpoint
    def remove_member(self, customer_id: str, member_id: str, /) -> Operation[None]:
        """Remove a member: `DELETE /api/v1/customers/{id}/members/{memberId}`.

        Raises:
            NotFoundError: There is no such member; also when a retry finds the first attempt did it.
        """
        return Operation("DELETE", _member_path(customer_id, member_id), nothing)

    @endpoint
    def wallet(self, customer_id: str, /, *, limit: int | None = None) -> Operation[Wallet]:
        """Read a customer's wallet: `GET /api/v1/customers/{id}/wallet`.

        Args:
            customer_id: The customer's id.
            limit: How many transactions, the latest first. Default: the server's.

        Raises:
            NotFoundError: There is no such customer.
        """
        return Operation("GET", _path(customer_id, "wallet", query={"limit": optional_limit(limit)}), Wallet)

    @endpoint
    def add_wallet_entry(self, customer_id: str, /, *, type: str, amount: float) -> Operation[WalletEntry]:  # noqa: A002
        """Book an entry in a customer's wallet: `POST /api/v1/customers/{id}/wallet`.

        Sent once: a repeat could book it twice.

        Args:
            customer_id: The customer's id.
            type: Kind of entry, such as `TOPUP`.
            amount: USD.

        Raises:
            ValidationError: A bad argument, or the server refused it.
            NotFoundError: There is no such customer.
        """
        fields = {"type": check_text("type", type), "amount": check_number("amount", amount)}
        return Operation("POST", _path(customer_id, "wallet"), WalletEntry, json_body(fields))

    @endpoint
    def adjust_credit(self, customer_id: str, /, *, credit_id: str, amount: float) -> Operation[None]:
        """Adjust the balance of a credit: `POST /api/v1/customers/{id}/credits/adjust`.

        Sent once: a repeat could add it twice.

        Args:
            customer_id: The customer's id.
            credit_id: The credit's id.
            amount: Credits to add; a negative number removes them.

        Raises:
            ValidationError: A bad argument, or the server refused it.
            NotFoundError: There is no such customer or credit.
        """
        path, body = _adjustment(customer_id, "credit", credit_id, amount)
        return Operation("POST", path, nothing, body)

    @endpoint
    def adjust_outcome(self, customer_id: str, /, *, outcome_id: str, amount: float) -> Operation[Adjustment]:
        """Adjust the balance of an outcome: `POST /api/v1/customers/{id}/outcomes/adjust`.

        As `adjust_credit`, for `outcome_id`; returns the new balance.
        """
        path, body = _adjustment(customer_id, "outcome", outcome_id, amount)
        return Operation("POST", path, picked(Adjustment), body)

    @endpoint
    def adjust_unit(self, customer_id: str, /, *, unit_id: str, amount: float) -> Operation[Adjustment]:
        """Adjust the balance of a unit: `POST /api/v1/customers/{id}/units/adjust`.

        As `adjust_credit`, for `unit_id`; returns the new balance.
        """
        path, body = _adjustment(customer_id, "unit", unit_id, amount)
        return Operation("POST", path, picked(Adjustment), body)

    @endpoint
    def credit_balance(
        self, customer_id: str, /, *, credit_id: str | None = None, credit_name: str | None = None
    ) -> Operation[CreditBalance | None]:
        """Read the balance of one credit: a row of `GET /api/v1/customers/{id}/balances`.

        Args:
            customer_id: The customer's id.
            credit_id: The credit's id. Give this or `credit_name`.
            credit_name: The same, by its name, exactly.

        Returns:
            The row, or `None` when the customer has no such credit.

        Raises:
            ValidationError: Neither or both are given.
            NotFoundError: There is no such customer.
        """
        return _balance(CreditBalance, "credits", customer_id, credit_id=credit_id, credit_name=credit_name)

    @endpoint
    def outcome_balance(
        self, customer_id: str, /, *, outcome_id: str | None = None, outcome_name: str | None = None
    ) -> Operation[OutcomeBalance | None]:
        """Read the balance of one outcome: a row of `GET /api/v1/customers/{id}/balances`.

        As `credit_balance`, by `outcome_id` or `outcome_name`.
        """
        return _balance(
            OutcomeBalance, "outcomes", customer_id, outcome_id=outcome_id, outcome_name=outcome_name
        )

    @endpoint
    def unit_balance(
        self, customer_id: str, /, *, unit_id: str | None = None, unit_name: str | None = None
    ) -> Operation[UnitBalance | None]:
        """Read the balance of one unit: a row of `GET /api/v1/customers/{id}/balances`.

        As `credit_balance`, by `unit_id` or `unit_name`.
        """
        return _balance(UnitBalance, "units", customer_id, unit_id=unit_id, unit_name=unit_name)


_CUSTOMER = one(Customer, "customer")
_MEMBER = one(Member, "member")


def _path(customer_id: object, *rest: str, query: Mapping[str, QueryValue] | None = None) -> str:
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


def _customer_body(fields: Mapping[str, object]) -> bytes:
    return json_body(checked(CustomerChanges, fields, closed=True))


def _read_items(payload: Payload) -> tuple[Sequence[Customer], str | None]:
    page = CustomerPage(payload)
    cursor = page.next_cursor
    # Opaque: it is sent back as text, whatever type it came as.
    return page.customers, None if cursor is None else str(cursor)


def _member_path(customer_id: object, member_id: object) -> str:
    return _path(customer_id, "members", path_id("member_id", member_id))


def _member_body(fields: Mapping[str, object]) -> bytes:
    return json_body(checked(MemberChanges, fields))


def _adjustment(customer_id: object, noun: str, adjusted_id: object, amount: object) -> tuple[str, bytes]:
    """Make the path and body that adjust the balance of one credit, outcome or unit."""
    argument = f"{noun}_id"
    fields = {argument: check_text(argument, adjusted_id), "amount": check_number("amount", amount)}
    return _path(customer_id, f"{noun}s", "adjust"), json_body(fields)


def _balance(kind: type[M], rows: str, customer_id: object, **by: object) -> Operation[M | None]:
    """Make the operation that reads one row of the balances, by whichever of two arguments is given."""
    given = {name: value for name, value in by.items() if value is not None}
    if len(given) != 1:
        raise invalid(next(iter(by)), f"give exactly one of {' and '.join(by)}")
    ((name, value),) = given.items()
    wanted = check_text(name, value)

    def read(payload: Payload) -> M | None:
        found = (as_object(row) for row in as_list(payload.get(rows)))
        return next((kind(row) for row in found if row.get(camel_case(name)) == wanted), None)

    return Operation("GET", _path(customer_id, "balances"), read)
