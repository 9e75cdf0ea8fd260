"""`clocknext customers`: list, show and create customers."""

from collections.abc import Callable
from itertools import islice
from typing import TypeVar, cast

import click

from clocknext_core import Customer, NetworkError, ServerError
from clocknext_core.resources.customers import CustomerDetails
from clocknext_transports.cli.connection import Connection, with_connection
from clocknext_transports.cli.errors import CallFailedError
from clocknext_transports.cli.tables import (
    Table,
    cell,
    fields_table,
    json_option,
    print_json,
    print_json_line,
    show,
)

F = TypeVar("F", bound=Callable[..., object])

_SMALL_PAGE = 50
_HELP = {"currency_code": "ISO 4217, such as USD.", "logo_url": "Address of a picture."}


def _detail_options(command: F) -> F:
    """Add an option for each optional field of a customer."""
    for name in reversed(CustomerDetails.__annotations__):
        command = click.option(f"--{name.replace('_', '-')}", metavar="TEXT", help=_HELP.get(name))(command)
    return command


@click.group(short_help="List, show and create customers.")
def customers() -> None:
    """List, show and create customers."""


@customers.command("list", short_help="Customers, in the service's order.")
@click.option(
    "--q", metavar="TEXT", help="Search text: which fields it is looked for in, the service decides."
)
@click.option("--limit", type=click.IntRange(1), help="Most customers to list. Default: all.")
@with_connection()
@json_option
def list_customers(connection: Connection, *, q: str | None, limit: int | None, as_json: bool) -> None:
    """List customers, page by page until there are no more.

    With --json: JSON Lines, one customer a line, each page printed as it comes.
    """
    # The most a page may hold is not documented: beyond a small one, its size is left to the service.
    page = limit if limit is not None and limit <= _SMALL_PAGE else None
    with connection.opened() as client:
        found = islice(client.customers.iterate(limit=page, q=q), limit)
        if as_json:
            for customer in found:
                print_json_line(customer.raw)
            return
        rows = [
            [cell(one) for one in (customer.id, customer.name, customer.email, customer.created_at)]
            for customer in found
        ]
    show(Table({"ID": "left", "Name": "left", "Email": "left", "Created": "left"}, rows))


@customers.command("show", short_help="One customer.")
@click.argument("customer_id", metavar="ID")
@with_connection()
@json_option
def show_customer(connection: Connection, *, customer_id: str, as_json: bool) -> None:
    """Show the fields of a customer that are set."""
    with connection.opened() as client:
        customer = client.customers.get(customer_id)
    _print_customer(customer, as_json=as_json)


@customers.command("create", short_help="Create a customer.")
@click.option("--name", metavar="TEXT", required=True)
@click.option("--email", metavar="TEXT", required=True)
@_detail_options
@with_connection()
@json_option
def create_customer(
    connection: Connection, *, name: str, email: str, as_json: bool, **details: str | None
) -> None:
    """Create a customer and show it, with the id the service gave it.

    The request is sent once: a repeat could create the customer twice.
    """
    given = {field: value for field, value in details.items() if value is not None}
    with connection.opened() as client:
        try:
            customer = client.customers.create(name=name, email=email, **cast("CustomerDetails", given))
        except (NetworkError, ServerError) as error:
            hint = "It may have been created nevertheless: look with `clocknext customers list --q`."
            raise CallFailedError(error, hint) from None
    _print_customer(customer, as_json=as_json)


def _print_customer(customer: Customer, *, as_json: bool) -> None:
    if as_json:
        print_json(customer.raw)
    else:
        show(fields_table(customer.raw))
