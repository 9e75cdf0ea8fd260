"""Relays with real clients: what was committed is billed once, whatever dies."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from clocknext_core import BatchPolicy, ClockNextError, RetryPolicy, Signal, ValidationError
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.client.hooks import OnError
from clocknext_transports.emulator import EmulatorServer, Fault, emulator
from clocknext_transports.postgres import Relay
from tests.cli.support import environment
from tests.postgres.support import OF_A_PROCESS, SIGNAL, Database, wait_until
from tests.transports.support import PATIENCE

RETRY = RetryPolicy(base_delay=0.02, max_delay=0.2)


@pytest.fixture
def service() -> Iterator[EmulatorServer]:
    with emulator() as running:
        yield running


def client(service: EmulatorServer, on_error: OnError | None = None) -> ClockNext:
    batch = BatchPolicy(max_queue_size=100)
    return ClockNext(service.api_key, base_url=service.url, retry=RETRY, batch=batch, on_error=on_error)


def assert_billed_once(service: EmulatorServer, keys: list[str]) -> None:
    assert {key: service.ledger.billed(key) for key in keys} == dict.fromkeys(keys, 1)
    assert len(service.ledger.signals) == len(keys)


def test_what_was_committed_is_delivered_and_leaves_the_table(
    database: Database, service: EmulatorServer
) -> None:
    keys = [f"k{each}" for each in range(250)]
    database.write(*keys)
    with Relay(database.url, client(service)) as relay:
        wait_until(lambda: database.keys() == [], "all leave the table")
        database.write("later")
        wait_until(lambda: database.keys() == [], "also what comes later")
        stats = relay.client.stats()
        assert (stats.recorded, stats.delivered, stats.held) == (251, 251, 0)
    assert_billed_once(service, [*keys, "later"])
    assert database.execute("SELECT lease FROM clocknext_outbox_relays") == []


def test_the_client_may_be_asyncios(database: Database, service: EmulatorServer) -> None:
    database.write("a", "b")

    async def main() -> None:
        client = AsyncClockNext(service.api_key, base_url=service.url)
        async with asyncio.timeout(PATIENCE), Relay(database.url, client):
            while database.keys():
                await asyncio.sleep(0.01)

    asyncio.run(main())
    assert_billed_once(service, ["a", "b"])


def test_the_client_may_be_trios(database: Database, service: EmulatorServer) -> None:
    database.write("a", "b")

    async def main() -> None:
        with trio.fail_after(PATIENCE):
            async with Relay(database.url, TrioClockNext(service.api_key, base_url=service.url)):
                while database.keys():
                    await trio.sleep(0.01)

    trio.run(main)
    assert_billed_once(service, ["a", "b"])


def test_what_the_client_records_itself_goes_through_the_table(
    database: Database, service: EmulatorServer
) -> None:
    with Relay(database.url, client(service)) as relay:
        key = relay.client.signals.credit(**SIGNAL).idempotency_key
        assert relay.client.flush(timeout=PATIENCE).delivered == 1
        wait_until(lambda: database.keys() == [], "it leaves the table")
    assert_billed_once(service, [key])


def test_what_the_service_refuses_is_put_in_quarantine(database: Database, service: EmulatorServer) -> None:
    database.write("bad", signal={**SIGNAL, "customer_id": "nobody"})
    database.write("good")
    reported: list[str | None] = []

    def on_error(error: ClockNextError, signal: Signal) -> None:
        reported.append(signal.idempotency_key)

    with Relay(database.url, client(service, on_error=on_error)):
        wait_until(lambda: database.keys() == [], "both leave the table")
    assert reported == ["bad"]
    (reason,) = database.quarantined().values()
    assert "nobody" in reason
    assert_billed_once(service, ["good"])


def test_what_can_not_be_read_is_put_in_quarantine(database: Database, service: EmulatorServer) -> None:
    database.write("good")
    database.execute("INSERT INTO clocknext_outbox (key, body) VALUES ('none', 'no JSON')")
    database.execute(
        "INSERT INTO clocknext_outbox (key, body) "
        "SELECT 'other', body FROM clocknext_outbox WHERE key = 'good'"
    )
    with Relay(database.url, client(service)):
        wait_until(lambda: database.keys() == [], "all leave the table")
    reasons = database.quarantined()
    assert set(reasons) == {"none", "other"}
    assert "another key" in reasons["other"]
    assert_billed_once(service, ["good"])


def test_killed_backends_and_a_crash_of_the_server_lose_nothing(
    database: Database, service: EmulatorServer
) -> None:
    keys = [f"k{each}" for each in range(120)]
    service.faults.script(*[Fault("lost")] * 20, path="/api/v1/usage")
    database.write(*keys[:40])
    with Relay(database.url, client(service), lease=1.0):
        wait_until(lambda: bool(service.ledger.signals), "it begins")
        database.kill_backends()
        database.write(*keys[40:80])
        database.restart()
        wait_until(lambda: _written(database, *keys[80:]), "the server is back")
        wait_until(lambda: database.keys() == [], "all leave the table")
    assert_billed_once(service, keys)


def _written(database: Database, *keys: str) -> bool:
    import psycopg

    try:
        database.write(*keys)
    except psycopg.Error:
        return False
    return True


def test_a_client_that_has_a_spool_or_was_used_is_refused(
    database: Database, service: EmulatorServer
) -> None:
    used = client(service)
    used.signals.credit(**SIGNAL)
    with pytest.raises(ClockNextError, match="used already"):
        Relay(database.url, used)
    used.close(timeout=PATIENCE)
    untyped: Any = Relay
    for arguments, name in (
        ((1, used), "url"),
        ((database.url, object()), "client"),
    ):
        with pytest.raises(ValidationError, match=name):
            untyped(*arguments)
    with pytest.raises(ValidationError, match="lease"):
        Relay(database.url, used, lease=0.5)


@pytest.mark.parametrize("kind", [ClockNext, AsyncClockNext, TrioClockNext])
def test_a_client_that_is_disabled_is_refused(
    kind: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValidationError, match=r"^client: must not be disabled .* a relay has to send$"):
        Relay(database.url, kind(disabled=True))
    monkeypatch.setenv("CLOCKNEXT_DISABLED", "1")
    with pytest.raises(ValidationError, match="CLOCKNEXT_DISABLED is set"):
        Relay(database.url, kind())


# kill -9

POINTS = (
    "Register-before",
    "Register-after",
    "Claim-before",
    "Claim-after",
    "Settle-before",
    "Settle-after",
    "Renew-before",
    "Renew-after",
    "SetAside-before",
    "SetAside-after",
    "Release-before",
    "Release-after",
)

RELAY = """
import os, signal, sys, time
from clocknext_core import BatchPolicy
from clocknext_transports import ClockNext
from clocknext_transports.postgres import ClaimingSpool, Relay

url, base_url, key, point = sys.argv[1:]
kind, when = point.split("-")
real = ClaimingSpool._execute

def execute(self, connection, statement):
    hit = type(statement).__name__ == kind
    if hit and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, connection, statement)
    if hit:
        os.kill(os.getpid(), signal.SIGKILL)

ClaimingSpool._execute = execute
client = ClockNext(key, base_url=base_url, batch=BatchPolicy(max_queue_size=20))
with Relay(url, client, lease=1.0) as relay:
    deadline = time.monotonic() + 60
    while relay.client.stats().recorded < 16 or relay.client.pending:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    if kind == "Renew":
        time.sleep(60)
"""


@pytest.mark.parametrize("point", POINTS)
def test_a_relay_that_is_killed_at_any_statement_leaves_all_to_the_next(
    database: Database, service: EmulatorServer, point: str
) -> None:
    keys = [f"k{each}" for each in range(15)]
    database.write(*keys)
    database.write("bad", signal={**SIGNAL, "customer_id": "nobody"})
    done = subprocess.run(
        [sys.executable, "-c", RELAY, database.url, service.url, service.api_key, point],
        env=environment(),
        timeout=OF_A_PROCESS,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    database.end_leases()
    with Relay(database.url, client(service), lease=1.0):
        wait_until(lambda: database.keys() == [], "the next one delivers the rest")
    assert set(database.quarantined()) == {"bad"}
    assert_billed_once(service, keys)


WRITER = """
import os, signal, sys
import psycopg
from clocknext_transports.postgres import outbox

url, point = sys.argv[1:]

def at(here):
    if here == point:
        os.kill(os.getpid(), signal.SIGKILL)

with psycopg.connect(url) as connection:
    connection.execute("INSERT INTO answers VALUES ('a')")
    at("row")
    outbox(connection).signals.credit(
        customer_id="cus_123", model="gpt-4o", key="api_credit", idempotency_key="a"
    )
    at("signal")
    connection.commit()
    at("commit")
"""


@pytest.mark.parametrize("point", ["row", "signal", "commit"])
def test_a_writer_that_is_killed_at_any_statement_is_billed_if_it_committed(
    database: Database, service: EmulatorServer, point: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WRITER), database.url, point],
        env=environment(),
        timeout=OF_A_PROCESS,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    committed = [key for (key,) in database.execute("SELECT key FROM answers")]
    assert committed == (["a"] if point == "commit" else [])
    with Relay(database.url, client(service)) as relay:
        database.write("after")
        wait_until(lambda: relay.client.stats().delivered == 1 + len(committed), "all is delivered")
    assert_billed_once(service, [*committed, "after"])


def test_a_forked_child_does_not_touch_its_parents_claims(
    database: Database, service: EmulatorServer
) -> None:
    database.write("a")
    with Relay(database.url, client(service)) as relay:
        wait_until(lambda: database.keys() == [], "the parent delivers")
        pid = os.fork()
        if pid == 0:
            try:
                relay.client.close(timeout=5)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        database.write("b")
        wait_until(lambda: database.keys() == [], "the parent still does")
    assert_billed_once(service, ["a", "b"])
