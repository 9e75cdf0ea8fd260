"""`clocknext outbox`: the tables of an outbox in PostgreSQL, its relays, what is in it."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from clocknext_core import SpoolError, ValidationError
from clocknext_transports.cli.decorator import Decorator
from clocknext_transports.cli.errors import CannotStartError
from clocknext_transports.cli.outbox_demo import demo
from clocknext_transports.cli.outbox_relay import relay
from clocknext_transports.cli.quarantine import Choice, quarantine_options
from clocknext_transports.cli.tables import Table, cell, print_json, say
from clocknext_transports.cli.tables import show as show_tables
from clocknext_transports.postgres import schema, survey
from clocknext_transports.postgres.database import connected

url_argument: Decorator = click.argument("url", metavar="URL", envvar="CLOCKNEXT_OUTBOX_URL")
json_option: Decorator = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@contextmanager
def _reported() -> Generator[None, None, None]:
    try:
        yield
    except (SpoolError, ValidationError) as error:
        raise CannotStartError(error.message) from None


@click.group(short_help="Signals in the tables of a PostgreSQL, and the relays that deliver them.")
def outbox() -> None:
    """Make the tables of an outbox in PostgreSQL, relay what was committed to it, and look into it.

    URL is where the database is: postgresql://user@host/database. The environment's CLOCKNEXT_OUTBOX_URL
    takes its place; a password is better kept there, or in ~/.pgpass, since process lists show arguments.
    """


@outbox.command(short_help="Make the tables, or bring them up to date.")
@click.argument("url", metavar="URL", envvar="CLOCKNEXT_OUTBOX_URL", required=False)
@click.option("--sql", is_flag=True, help="Print the SQL instead of running it.")
@click.option("--writer", metavar="ROLE", help="Let this role record signals, and nothing else.")
@click.option("--relay", "relay_role", metavar="ROLE", help="Let this role relay signals.")
def migrate(url: str | None, *, sql: bool, writer: str | None, relay_role: str | None) -> None:
    """Make the tables of an outbox in the database at URL, or bring them up to this version.

    It can be run again at any time. The tables are made in the first schema of the search_path.
    """
    with _reported():
        rights = [schema.writer_rights(writer)] if writer else []
        rights += [schema.relay_rights(relay_role)] if relay_role else []
    if sql:
        click.echo(schema.statements().strip())
        for each in rights:
            click.echo(each)
        return
    if url is None:
        raise click.UsageError("Give the URL of the database, or --sql.")
    with _reported():
        is_new = schema.migrate(url)
        with connected(url) as connection:
            for each in rights:
                connection.execute(each.encode())
    say(f"The tables are of version {schema.VERSION}{'' if is_new else ' already'}.")


@outbox.command(short_help="How many signals wait, and which relays live.")
@url_argument
@json_option
def status(url: str, *, as_json: bool) -> None:
    """Show what is in the outbox at URL: signals that wait, the oldest, relays that live, the quarantine."""
    with _reported():
        found = survey.status(url)
    if as_json:
        print_json(
            {
                "depth": found.depth,
                "leased": found.leased,
                "oldestSeconds": found.oldest,
                "perSecond": found.rate,
                "quarantined": found.quarantined,
                "relays": [
                    {"name": each.name, "aliveForSeconds": each.alive_for, "perSecond": each.rate}
                    for each in found.relays
                ],
            }
        )
        return
    more = " or more" if found.depth >= survey.MOST_COUNTED else ""
    age = "" if found.oldest is None else f", the oldest for {found.oldest:,.0f} s"
    say(f"Signals that wait: {found.depth:,}{more}{age}; relays hold {found.leased:,} of them.")
    say(f"{found.rate:,.1f} signals delivered in a second. In quarantine: {found.quarantined:,}.")
    rows = [
        [cell(each.name), f"{each.rate:,.1f}", f"{each.leased_for:,.0f} s", f"{each.alive_for:,.0f} s"]
        for each in found.relays
    ]
    show_tables(
        Table({"Relay": "left", "Per second": "right", "Lease for": "right", "Over in": "right"}, rows)
    )


@outbox.command(short_help="List, release or delete what is in quarantine.")
@url_argument
@quarantine_options(release="Put it back into the outbox, to be sent.")
def quarantine(url: str, *, choice: Choice) -> None:
    """List what is in the quarantine of the outbox at URL, and why; or decide on it.

    A signal is put there when the service refused it, when it was older than the window, when it failed each
    time while others were delivered, or when it can't be read. A released signal is sent after all, under its
    own key: its age counts from now.
    """
    with _reported():
        entries = survey.quarantine(url, choice.keys or None)
        if choice.release:
            survey.release(url, entries)
        elif choice.delete:
            survey.delete(url, entries)
    choice.show([_line(one) for one in entries])


outbox.add_command(relay)
outbox.add_command(demo)


def _line(entry: survey.Quarantined) -> dict[str, object]:
    try:
        body: object = json.loads(entry.body)
    except (ValueError, RecursionError):
        body = entry.body.decode("utf-8", "backslashreplace")
    return {
        "idempotencyKey": entry.key,
        "recordedAt": _time(entry.recorded_at),
        "reason": entry.reason,
        "signal": body,
    }


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
