"""`clocknext balances`: what a customer has left."""

import click

from clocknext_transports.cli.connection import Connection, with_connection
from clocknext_transports.cli.tables import Table, cell, json_option, print_json, show


@click.command(short_help="What a customer has left.")
@click.argument("customer_id", metavar="ID")
@with_connection()
@json_option
def balances(connection: Connection, *, customer_id: str, as_json: bool) -> None:
    """Show what the customer has left: in the wallet in USD, of credits, outcomes and units in number."""
    with connection.opened() as client:
        left = client.customers.balances(customer_id)
    if as_json:
        print_json(left.raw)
        return
    rows: list[tuple[object, ...]] = []
    if left.wallet is not None:
        rows.append(("wallet", None, "USD", left.wallet.balance))
    rows += [("credit", one.credit_id, one.credit_name, one.remaining) for one in left.credits]
    rows += [("outcome", one.outcome_id, one.outcome_name, one.remaining) for one in left.outcomes]
    rows += [("unit", one.unit_id, one.unit_name, one.remaining) for one in left.units]
    show(
        Table(
            {"Balance": "left", "ID": "left", "Name": "left", "Remaining": "right"},
            [[*map(cell, row)] for row in rows],
        )
    )
