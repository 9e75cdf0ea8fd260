"""`clocknext whoami`: what the API key gives access to."""

import click

from clocknext_core.envelope import without_ok
from clocknext_transports.cli.connection import Connection, with_connection
from clocknext_transports.cli.tables import fields_table, json_option, print_json, show


@click.command(short_help="The organisation the key belongs to, sandbox or live.")
@with_connection()
@json_option
def whoami(connection: Connection, *, as_json: bool) -> None:
    """Show the organisation the API key belongs to, and whether it is a sandbox or live."""
    with connection.opened() as client:
        me = client.workspace.me()
    if as_json:
        print_json(me.raw)
    else:
        show(fields_table(without_ok(me.raw)))
