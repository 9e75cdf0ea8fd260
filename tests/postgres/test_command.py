"""`clocknext outbox` as a user runs it."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.request import urlopen

import pytest

from clocknext_core import Stats
from clocknext_transports.cli.outbox_relay import health_of
from clocknext_transports.emulator import EmulatorServer, emulator
from tests.cli.support import clocknext, connected, environment, started
from tests.postgres.support import OF_A_PROCESS, SIGNAL, Database, wait_until
from tests.transports.support import PATIENCE


@pytest.fixture
def service() -> Iterator[EmulatorServer]:
    with emulator() as running:
        yield running


def test_the_tables_are_made_with_rights_and_the_sql_is_shown(empty_database: Database) -> None:
    role = f"role_{empty_database.parts['dbname']}"
    empty_database.execute(f"CREATE ROLE {role}")
    try:
        for line in ("The tables are of version 1.\n", "The tables are of version 1 already.\n"):
            done = clocknext(
                *("outbox", "migrate", empty_database.url, "--writer", role, "--relay", role),
                env=environment(),
            )
            assert (done.returncode, done.stdout, done.stderr) == (0, line, "")
        granted = empty_database.execute(
            "SELECT DISTINCT privilege_type FROM information_schema.role_table_grants "
            "WHERE grantee = %s AND table_name = 'clocknext_outbox'",
            role,
        )
        assert {right for (right,) in granted} == {"INSERT", "SELECT", "UPDATE", "DELETE"}
    finally:
        empty_database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    done = clocknext("outbox", "migrate", "--sql", "--writer", "app", env=environment())
    assert done.stdout.startswith("CREATE TABLE")
    assert done.stdout.endswith('GRANT INSERT ON clocknext_outbox TO "app";\n')
    done = clocknext("outbox", "migrate", env=environment())
    assert done.returncode == 2
    assert "--sql" in done.stderr


def test_a_drain_delivers_all_and_ends(database: Database, service: EmulatorServer) -> None:
    keys = [f"k{each}" for each in range(30)]
    database.write(*keys)
    done = clocknext("outbox", "relay", database.url, "--drain", env=connected(service.url))
    assert done.returncode == 0, done.stderr
    assert "30 delivered, 0 refused" in done.stderr
    assert database.keys() == []
    assert all(service.ledger.billed(key) == 1 for key in keys)


def test_sigterm_ends_a_relay_which_gives_back_what_it_holds(database: Database) -> None:
    with emulator() as service:
        url = service.url
    database.write("a", "b")  # nobody answers at this address any more
    with started(
        *("outbox", "relay", database.url, "--close-timeout", "0", "--max-attempts", "1"), env=connected(url)
    ) as process:
        wait_until(
            lambda: database.execute("SELECT count(*) FROM clocknext_outbox WHERE lease > 0") == [(2,)],
            "it claims",
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert database.keys() == ["a", "b"]
    assert database.execute("SELECT lease FROM clocknext_outbox_relays") == []


def test_health_checks_say_how_it_does(database: Database, service: EmulatorServer) -> None:
    database.write("a")
    with started(*("outbox", "relay", database.url, "--health", "0"), env=connected(service.url)) as process:
        assert process.stderr is not None
        port = process.stderr.readline().split()[-1].rstrip(".")
        wait_until(lambda: database.keys() == [], "it delivers")
        with urlopen(f"http://127.0.0.1:{port}/") as answer:
            told = json.load(answer)
        assert (told["status"], told["delivered"], told["gate"]) == ("ok", 1, "open")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_relay_is_unhealthy_when_the_database_has_been_silent_for_a_lease() -> None:
    stats = Stats(1, 0, 0, 0, 1, 0, {}, 0, 0, 0, "paused", 3.0)
    assert health_of(stats, 59.0, 60.0)[0] == 200
    assert health_of(stats, 61.0, 60.0)[0] == 503
    assert health_of(stats, float("inf"), 60.0)[1]["secondsSinceDatabase"] is None


def test_a_relay_that_can_not_begin_says_why(empty_database: Database, service: EmulatorServer) -> None:
    for url, message in (
        (empty_database.url, "clocknext outbox migrate"),
        ("postgresql://nobody:secret@127.0.0.1:1/none", "can't be reached"),
        ("mysql://x", "is not a URL of PostgreSQL"),
    ):
        done = clocknext("outbox", "relay", url, "--start-timeout", "0", env=connected(service.url))
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert "secret" not in done.stderr
        assert "Trying again" not in done.stderr


def test_a_relay_waits_for_a_database_that_is_being_started(
    database: Database, service: EmulatorServer
) -> None:
    database.write("a")
    arguments = ["outbox", "relay", database.url, "--drain", "--start-timeout", str(PATIENCE)]
    with ExitStack() as starting:
        starting.enter_context(database.stopped())
        with started(*arguments, env=connected(service.url)) as relay:
            assert relay.stderr is not None
            line = relay.stderr.readline()
            assert "can't be reached" in line
            assert "Trying again for" in line
            starting.close()
            assert relay.wait(OF_A_PROCESS) == 0
    assert service.ledger.billed("a") == 1


def test_the_status_counts_what_waits_and_who_relays(database: Database) -> None:
    database.write("a", "b", "c")
    database.let_age(2)
    database.execute(
        "INSERT INTO clocknext_outbox_relays (lease, alive_until, name, rate) "
        "VALUES (7, clock_timestamp() + interval '30 s', 'host:1', 12.5), (8, clock_timestamp(), 'dead', 9)"
    )
    database.execute("UPDATE clocknext_outbox SET lease = 7 WHERE key <> 'a'")
    done = clocknext("outbox", "status", database.url, env=environment())
    assert done.returncode == 0, done.stderr
    first, second, *table = done.stdout.splitlines()
    assert first.startswith("Signals that wait: 3, the oldest for 7,2")
    assert first.endswith("relays hold 2 of them.")
    assert second == "12.5 signals delivered in a second. In quarantine: 0."
    assert [line.split()[0] for line in table] == ["Relay", "host:1"]
    done = clocknext("outbox", "status", database.url, "--json", env=environment())
    told = json.loads(done.stdout)
    assert (told["depth"], told["leased"], told["perSecond"]) == (3, 2, 12.5)
    assert [relay["name"] for relay in told["relays"]] == ["host:1"]


def test_the_quarantine_is_listed_released_and_deleted(database: Database, service: EmulatorServer) -> None:
    for key in "abc":
        database.write(key, signal={**SIGNAL, "customer_id": "nobody"})
    assert clocknext("outbox", "relay", database.url, "--drain", env=connected(service.url)).returncode == 0
    done = clocknext("outbox", "quarantine", database.url, env=environment())
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["Key", "a", "b", "c"]
    assert "nobody" in done.stdout

    def decide(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return clocknext("outbox", "quarantine", database.url, *arguments, env=environment())

    assert decide("--delete", "--key", "a").stdout == "1 deleted.\n"
    assert decide("--release", "--key", "b").stdout == "1 released.\n"
    assert database.keys() == ["b"]
    (line,) = decide("--json").stdout.splitlines()
    assert json.loads(line)["idempotencyKey"] == "c"
    assert json.loads(line)["signal"]["customerId"] == "nobody"
    assert decide("--release").returncode == decide("--release", "--delete", "--all").returncode == 2
    assert decide("--delete", "--all").stdout == "1 deleted.\n"


def test_the_url_may_stand_in_the_environment(database: Database) -> None:
    done = clocknext("outbox", "status", env=environment(CLOCKNEXT_OUTBOX_URL=database.url))
    assert done.stdout.startswith("Signals that wait: 0; relays hold 0 of them.")
