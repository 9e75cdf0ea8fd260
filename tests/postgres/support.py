"""What the tests of the outbox share: a database, what is in it, and signals."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypedDict, cast
from urllib.parse import quote, urlencode

import psycopg
import pytest

from clocknext_transports.postgres import ClaimingSpool, outbox
from clocknext_transports.postgres.embedded import EmbeddedServer
from tests.transports.support import PATIENCE

OF_A_PROCESS = 6 * PATIENCE
"""Seconds for a process that starts, imports and ends, on a machine with other things to do."""


class Credit(TypedDict):
    customer_id: str
    model: str
    key: str
    tokens: dict[str, int]


SIGNAL: Credit = {
    "customer_id": "cus_123",
    "model": "gpt-4o",
    "key": "api_credit",
    "tokens": {"input": 200, "output": 50},
}


class Database:
    """A database, looked into from outside."""

    def __init__(self, parts: dict[str, Any], embedded: EmbeddedServer | None) -> None:
        self.parts = parts
        self._embedded = embedded

    @property
    def url(self) -> str:
        return self.url_of()

    def url_of(self, scheme: str = "postgresql", *, user: str | None = None) -> str:
        """The URL, as the given driver wants it."""
        parts = dict(self.parts)
        host, name = str(parts.pop("host", "")), str(parts.pop("dbname"))
        user = user or str(parts.pop("user", "postgres"))
        parts.pop("user", None)
        password = parts.pop("password", None)
        login = quote(user) + (f":{quote(str(password))}" if password else "")
        query = {each: str(value) for each, value in parts.items()}
        return f"{scheme}://{login}@/{name}?{urlencode({'host': host, **query})}"

    def execute(self, sql: str, *arguments: object) -> list[Any]:
        """Run a statement as a transaction of its own, and return its rows."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql.encode(), arguments)
            return cursor.fetchall() if cursor.description else []

    def clear(self) -> None:
        self.execute(
            "TRUNCATE clocknext_outbox, clocknext_outbox_relays, clocknext_outbox_quarantine, answers"
        )

    def write(self, *keys: str, signal: Credit = SIGNAL) -> None:
        """Commit signals with these keys."""
        with psycopg.connect(self.url) as connection:
            box = outbox(connection)
            for key in keys:
                box.signals.credit(**signal, idempotency_key=key)

    def keys(self) -> list[str]:
        """The keys of what is in the outbox, in order."""
        return [key for (key,) in self.execute("SELECT key FROM clocknext_outbox ORDER BY id")]

    def quarantined(self) -> dict[str, str]:
        """What is in quarantine, and why."""
        return dict(self.execute("SELECT key, reason FROM clocknext_outbox_quarantine"))

    def end_leases(self) -> None:
        """Let time pass on the server, as far as leases go: none is alive any more."""
        self.execute("UPDATE clocknext_outbox_relays SET alive_until = clock_timestamp() - interval '1 s'")

    def let_age(self, hours: float) -> None:
        """Let time pass on the server, as far as the age of signals goes."""
        self.execute("UPDATE clocknext_outbox SET recorded_at = recorded_at - %s * interval '1 hour'", hours)

    def kill_backends(self) -> None:
        """End every other connection to this database."""
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    def restart(self) -> None:
        """Crash the server and start it again."""
        if self._embedded is None:
            pytest.skip("a server that is lent is not restarted")
        self._embedded.restart()

    @contextmanager
    def stopped(self) -> Generator[None, None, None]:
        """Have no server for the length of the block."""
        if self._embedded is None:
            pytest.skip("a server that is lent is not stopped")
        server = cast(Any, self._embedded)
        options = (server._server.pgdata / "postmaster.opts").read_text().partition(" ")[2].strip()
        server._control("stop", "-m", "immediate")
        try:
            yield
        finally:
            server._control("start", "-o", options)


def adopted(spool: ClaimingSpool, limit: int = 500) -> list[str]:
    """The keys of what a claim finds."""
    return [stored.idempotency_key for stored in spool.adopt(limit)]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that other threads or processes do."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.02)
