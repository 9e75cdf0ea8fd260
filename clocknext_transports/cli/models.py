"""`clocknext models`: the models signals can name, and their prices."""

import click

from clocknext_transports.cli.connection import Connection, with_connection
from clocknext_transports.cli.tables import Table, cell, json_option, print_json, show


@click.command(short_help="The models signals can name, with their prices.")
@click.option("--active/--all", default=True, show_default=True, help="Only active ones, or all.")
@with_connection()
@json_option
def models(connection: Connection, *, active: bool, as_json: bool) -> None:
    """Show the models signals can name, with their prices in USD per 1,000,000 tokens.

    With --json: one array.
    """
    with connection.opened() as client:
        found = client.workspace.models(active=True if active else None)
    if as_json:
        print_json(found.raw)
        return
    rows = [
        [
            cell(one)
            for one in (
                model.model_id,
                model.input_price,
                model.output_price,
                model.cache_price,
                model.is_active,
            )
        ]
        for model in found
    ]
    show(
        Table(
            {"Model": "left", "Input": "right", "Output": "right", "Cache": "right", "Active": "left"},
            rows,
            "USD per 1,000,000 tokens",
        )
    )
