"""`clocknext usage`: what a customer used, and what it cost."""

import click

from clocknext_transports.cli.connection import Connection, with_connection
from clocknext_transports.cli.tables import Justify, Table, cell, fields_table, json_option, print_json, show

_COLUMNS: dict[str, Justify] = {
    "Time": "left",
    "Type": "left",
    "Model": "left",
    "Key": "left",
    "Input": "right",
    "Output": "right",
    "Cache": "right",
    "Credits": "right",
    "Cost (USD)": "right",
    "Status": "left",
}


@click.command(short_help="What a customer used, and what it cost.")
@click.argument("customer_id", metavar="ID")
@click.option("--limit", type=click.IntRange(1), help="Most signals to show. Default: the service's.")
@with_connection()
@json_option
def usage(connection: Connection, *, customer_id: str, limit: int | None, as_json: bool) -> None:
    """Show the totals over all that the customer used, and the latest signals with their cost."""
    with connection.opened() as client:
        used = client.customers.usage(customer_id, limit=limit)
    if as_json:
        print_json(used.raw)
        return
    rows = [
        [
            cell(one)
            for one in (
                log.created_at,
                log.type,
                log.model,
                log.raw.get("agentKey", log.raw.get("key")),
                log.input_tokens,
                log.output_tokens,
                log.cache_tokens,
                log.credits_used,
                log.customer_cost,
                log.status,
            )
        ]
        for log in used.logs
    ]
    totals = {} if used.totals is None else used.totals.raw
    show(fields_table(totals, "Totals"), Table(_COLUMNS, rows, "Latest signals"))
