"""The outbox as a whole: what was committed is billed once and nothing else, whatever is killed meanwhile.

Four writers over three surfaces, a third of whose transactions is rolled back; three relays, one of which is
killed with SIGKILL every other second and replaced; a PostgreSQL that crashes and is restarted twice; and a
service that fails in every way. In the end the emulator's ledger is compared with the answers in the table.

    python -m tests.postgres.acceptance [--signals N] [--seed N]
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from importlib import import_module
from random import Random
from typing import Any, Final

import psycopg
import sqlalchemy
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from clocknext_transports.emulator import EmulatorServer, Fault, Ledger, emulator
from clocknext_transports.postgres import migrate, outbox, survey
from clocknext_transports.postgres.embedded import EmbeddedServer
from tests.postgres.support import SIGNAL
from tests.postgres.surfaces import async_outbox

WRITERS: Final = ("psycopg", "sqlalchemy", "asyncpg", "psycopg")
RELAYS: Final = 3
IN_TRANSACTION: Final = 4
"""Signals of one transaction, each with its answer."""
LEASE: Final = 2
KILL_EVERY: Final = 2.0
"""Seconds between two kills of a relay."""
MOST_SECONDS: Final = 900.0
"""How long all of it may take."""
FAULTS: Final = (
    (Fault("lost"), 0.02),
    (Fault("reset"), 0.02),
    (Fault("status", status=503), 0.02),
    (Fault("status", status=429, retry_after="0"), 0.01),
    (Fault("html"), 0.01),
    (Fault("truncated"), 0.01),
)
_FAILURES: Final = (OSError, psycopg.Error, DBAPIError)
_RELAY: Final = "from clocknext_transports.cli import main; main()"


# A writer, as a process of its own


class _RolledBackError(Exception):
    """Rolls a transaction back."""


def _keys(writer: int, number: int) -> list[str]:
    kind = "undone" if number % 3 == 0 else "done"
    return [f"{kind}-{writer}-{number}-{each}" for each in range(IN_TRANSACTION)]


def _write_all(writer: int, count: int, write: Callable[[list[str], bool], None]) -> None:
    """Carry out transactions. One that a crash breaks off may have been committed: the table says so."""
    for number in range(count):
        try:
            write(_keys(writer, number), number % 3 == 0)
        except _RolledBackError:
            pass
        except _FAILURES:
            time.sleep(0.1)


def _with_psycopg(url: str, writer: int, count: int) -> None:
    connection: psycopg.Connection[Any] | None = None

    def write(keys: list[str], undone: bool) -> None:
        nonlocal connection
        if connection is None or connection.broken:
            connection = None
            connection = psycopg.connect(url)
        with connection.transaction(force_rollback=undone):
            box = outbox(connection)
            for key in keys:
                connection.execute("INSERT INTO answers VALUES (%s)", (key,))
                box.signals.credit(**SIGNAL, idempotency_key=key)

    _write_all(writer, count, write)
    if connection is not None:
        connection.close()


def _with_sqlalchemy(url: str, writer: int, count: int) -> None:
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    statement = sqlalchemy.text("INSERT INTO answers VALUES (:key)")

    def write(keys: list[str], undone: bool) -> None:
        with Session(engine) as session, session.begin():
            for key in keys:
                session.execute(statement, {"key": key})
                outbox(session).signals.credit(**SIGNAL, idempotency_key=key)
            if undone:
                raise _RolledBackError

    _write_all(writer, count, write)
    engine.dispose()


def _with_asyncpg(url: str, writer: int, count: int) -> None:
    asyncpg: Any = import_module("asyncpg")
    failures: tuple[type[Exception], ...] = (
        OSError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        TimeoutError,
    )
    connection: Any = None

    async def write(keys: list[str], undone: bool) -> None:
        nonlocal connection
        if connection is None or connection.is_closed():
            connection = await asyncpg.connect(url)
        async with connection.transaction():
            for key in keys:
                await connection.execute("INSERT INTO answers VALUES ($1)", key)
                await async_outbox(connection).signals.credit(**SIGNAL, idempotency_key=key)
            if undone:
                raise _RolledBackError

    def run(written: Coroutine[Any, Any, None]) -> None:
        try:
            runner.run(written)
        except failures as error:
            raise ConnectionError from error

    with asyncio.Runner() as runner:
        _write_all(writer, count, lambda keys, undone: run(write(keys, undone)))
        if connection is not None:
            with suppress(*failures):
                runner.run(connection.close())


_SURFACES: Final = {"psycopg": _with_psycopg, "sqlalchemy": _with_sqlalchemy, "asyncpg": _with_asyncpg}


# The run


class Run:
    """One run.

    Args:
        signals: How many are recorded, by all writers together.
        rng: Chooses which relay is killed.
    """

    def __init__(self, signals: int, rng: Random) -> None:
        self._transactions = signals // IN_TRANSACTION // len(WRITERS)
        self._rng = rng
        self._relays: list[subprocess.Popen[bytes]] = []
        self._killed = 0
        self._until = time.monotonic() + MOST_SECONDS

    def __call__(self) -> bool:
        """Run; return whether the bill is right."""
        with EmbeddedServer() as database, emulator() as service, ExitStack() as stack:
            migrate(database.url)
            with psycopg.connect(database.url) as connection:
                connection.execute("CREATE TABLE answers (key text PRIMARY KEY)")
            for fault, chance in FAULTS:
                service.faults.chance(chance, fault, path="/api/v1/usage")
            stack.callback(self._stop_relays)
            self._relays = [self._start_relay(database.url, service) for _ in range(RELAYS)]
            writers = [
                stack.enter_context(_process("write", database.url, surface, number, self._transactions))
                for number, surface in enumerate(WRITERS)
            ]
            self._disturb(database, service, writers)
            self._wait_for(lambda: survey.is_empty(database.url))
            with psycopg.connect(database.url) as connection:
                committed = {key for (key,) in connection.execute("SELECT key FROM answers").fetchall()}
                row = connection.execute("SELECT count(*) FROM clocknext_outbox_quarantine").fetchone()
            assert row is not None
            return self._is_right(committed, service.ledger, quarantined=row[0])

    def _disturb(
        self, database: EmbeddedServer, service: EmulatorServer, writers: list["subprocess.Popen[bytes]"]
    ) -> None:
        """Kill relays until the writers have ended, and crash the server at a third and at two thirds."""
        transactions = self._transactions * len(WRITERS)
        crashes = [transactions * IN_TRANSACTION * 2 // 9, transactions * IN_TRANSACTION * 4 // 9]
        kill_at = time.monotonic() + KILL_EVERY
        while any(writer.poll() is None for writer in writers):
            assert time.monotonic() < self._until, "the writers did not end"
            time.sleep(0.1)
            if crashes and _count(database.url) >= crashes[0]:
                del crashes[0]
                database.restart()
            if time.monotonic() >= kill_at:
                kill_at = time.monotonic() + KILL_EVERY
                self._kill_one(database.url, service)
        assert [writer.returncode for writer in writers] == [0] * len(writers), "a writer failed"
        assert not crashes, "the writers ended too early"
        for _ in range(RELAYS):  # each of them has to be taken over from
            self._kill_one(database.url, service)

    def _kill_one(self, url: str, service: EmulatorServer) -> None:
        number = self._rng.randrange(RELAYS)
        self._relays[number].kill()
        self._relays[number].wait()
        self._killed += 1
        self._relays[number] = self._start_relay(url, service)

    def _start_relay(self, url: str, service: EmulatorServer) -> "subprocess.Popen[bytes]":
        arguments = [sys.executable, "-c", _RELAY, "outbox", "relay", url, "--lease", str(LEASE)]
        environment = {
            **os.environ,
            "CLOCKNEXT_API_KEY": service.api_key,
            "CLOCKNEXT_BASE_URL": service.url,
        }
        return subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL)

    def _stop_relays(self) -> None:
        for relay in self._relays:
            relay.terminate()
        for relay in self._relays:
            relay.wait(30)

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert time.monotonic() < self._until, "the relays did not empty the outbox"
            time.sleep(0.2)
            for number, relay in enumerate(self._relays):
                assert relay.poll() is None, f"relay {number} ended with {relay.returncode}"

    def _is_right(self, committed: set[str], ledger: Ledger, *, quarantined: int) -> bool:
        recorded = {
            key
            for writer in range(len(WRITERS))
            for number in range(self._transactions)
            for key in _keys(writer, number)
        }
        times = {key: ledger.billed(key) for key in recorded}
        once = sum(times[key] == 1 for key in committed)
        undone = sum(times[key] for key in recorded - committed)
        print(
            f"{len(recorded):,} recorded, {len(committed):,} committed, {once:,} of these billed once, "
            f"{len(recorded - committed):,} rolled back, {undone:,} of these billed; "
            f"{quarantined:,} in quarantine, {self._killed} relays killed.",
            flush=True,
        )
        rolled_back = {key for key in recorded if key.startswith("undone")}
        is_billed = 0 < once == len(committed) == len(ledger.signals)
        return is_billed and not undone and not quarantined and not rolled_back & committed


def _count(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM answers").fetchone()
    assert row is not None
    return int(row[0])


def _process(*arguments: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.postgres.acceptance", *map(str, arguments)]
    return subprocess.Popen(command)


def main() -> int:
    """Run as a program."""
    if sys.argv[1:2] == ["write"]:
        url, surface, writer, count = sys.argv[2:]
        _SURFACES[surface](url, int(writer), int(count))
        return 0
    parser = argparse.ArgumentParser(prog="python -m tests.postgres.acceptance")
    parser.add_argument("--signals", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    return 0 if Run(given.signals, Random(given.seed))() else 1


if __name__ == "__main__":
    sys.exit(main())
