"""What surrounds a relay: a pooler between, a disk that is full, a clock that is wrong, what starts it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clocknext_core import BatchPolicy, RetryPolicy
from clocknext_transports import ClockNext
from clocknext_transports.emulator import EmulatorServer, emulator
from clocknext_transports.postgres import ClaimingSpool, Relay, migrate, outbox
from tests.postgres.support import OF_A_PROCESS, SIGNAL, Database, adopted, wait_until
from tests.transports.support import PATIENCE

yaml: Any = pytest.importorskip("yaml", reason="the manifest is read with PyYAML")
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture
def service() -> Iterator[EmulatorServer]:
    with emulator() as running:
        yield running


def client(service: EmulatorServer) -> ClockNext:
    batch, retry = BatchPolicy(max_queue_size=40), RetryPolicy(base_delay=0.02, max_delay=0.2)
    return ClockNext(service.api_key, base_url=service.url, batch=batch, retry=retry)


# PgBouncer

POOLER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def pooler(database: Database) -> Generator[str, None, None]:
    """Run PgBouncer in transaction mode with two connections to a database; give the URL."""
    assert POOLER is not None
    folder = Path(tempfile.mkdtemp(prefix="clocknext-pooler-", dir="/tmp"))  # a socket's path has to be short
    parts = database.parts
    login = f"user={parts.get('user', 'postgres')} host={parts.get('host', '127.0.0.1')}"
    extra = "".join(f" {name}={parts[name]}" for name in ("port", "password") if name in parts)
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\napp = {login}{extra} dbname={parts['dbname']}\n"
        f"[pgbouncer]\npool_mode = transaction\ndefault_pool_size = 2\nauth_type = any\n"
        f"unix_socket_dir = {folder}\nlisten_port = 6432\nignore_startup_parameters = extra_float_digits\n"
    )
    command = [POOLER, "-q", str(folder / "pgbouncer.ini")]
    if os.geteuid() == 0:  # which it refuses to run as
        socket = Path(str(parts.get("host", "")))
        user = socket.owner() if socket.is_absolute() else "nobody"  # its folder may be closed to others
        folder.chmod(0o777)
        command[1:1] = ["-u", user]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until((folder / ".s.PGSQL.6432").exists, "the pooler runs")
        yield f"postgresql://app@/app?host={folder}&port=6432"
    finally:
        process.terminate()
        process.wait(PATIENCE)
        shutil.rmtree(folder)


@pytest.mark.skipif(POOLER is None, reason="PgBouncer is not installed")
def test_pgbouncer_in_transaction_mode_may_be_between(
    empty_database: Database, service: EmulatorServer
) -> None:
    keys = [f"k{number}" for number in range(120)]
    with pooler(empty_database) as url:
        assert migrate(url)
        with Relay(url, client(service), lease=2.0), Relay(url, client(service), lease=2.0):
            for number in range(0, len(keys), 20):
                some = keys[number : number + 20]
                # The pooler may hand out a connection that was killed, until it has read of its end.
                wait_until(partial(_is_written, url, some), "they are committed")
                empty_database.kill_backends()
            wait_until(lambda: empty_database.keys() == [], "all leave the table")
    assert [service.ledger.billed(key) for key in keys] == [1] * len(keys)
    assert empty_database.execute("SELECT lease FROM clocknext_outbox_relays") == []


def _is_written(url: str, keys: list[str]) -> bool:
    try:
        with psycopg.connect(url, prepare_threshold=None) as connection:
            for key in keys:
                outbox(connection).signals.credit(**SIGNAL, idempotency_key=key)
    except (psycopg.OperationalError, psycopg.InternalError):  # or told with an answer
        return False
    return True


# A disk that is full

FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE OR DELETE ON clocknext_outbox EXECUTE FUNCTION full_disk();
CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE OR DELETE ON clocknext_outbox_relays
    EXECUTE FUNCTION full_disk()
"""
ROOM = "DROP FUNCTION full_disk CASCADE"


def test_a_full_disk_holds_up_relays_and_loses_nothing(
    empty_database: Database, service: EmulatorServer
) -> None:
    database = empty_database
    migrate(database.url)
    keys = [f"k{number}" for number in range(100)]
    database.write(*keys)
    with Relay(database.url, client(service), lease=1.0):
        wait_until(lambda: bool(service.ledger.signals), "it begins")
        database.execute(FULL)
        with pytest.raises(psycopg.errors.DiskFull):
            database.write("refused")
        wait_until(
            lambda: len(service.ledger.signals) == len(keys) - len(_free(database)), "it delivers what it has"
        )
        database.execute(ROOM)
        wait_until(lambda: database.keys() == [], "all leave the table")
    assert [service.ledger.billed(key) for key in keys] == [1] * len(keys)
    assert (service.ledger.billed("refused"), database.quarantined()) == (0, {})


def _free(database: Database) -> list[str]:
    """What no relay had claimed before the disk was full."""
    return [key for (key,) in database.execute("SELECT key FROM clocknext_outbox WHERE lease IS NULL")]


# A clock that is wrong


def test_clocks_of_a_relays_machine_that_are_set_back_change_nothing(database: Database) -> None:
    monotonic, wall = 1000.0, 5e9
    spool = ClaimingSpool(database.url, clock=lambda: monotonic, wall=lambda: wall)
    database.write("a", "b")
    assert adopted(spool, 1) == ["a"]
    wall -= 30 * 86_400
    monotonic -= 500
    (found,) = spool.adopt(10)
    assert (found.idempotency_key, wall - found.recorded_at < PATIENCE) == ("b", True)
    spool.erase(["a", "b"])
    monotonic += 501
    spool.tend()
    assert (database.keys(), database.quarantined()) == ([], {})
    wall += 60 * 86_400
    database.write("c")
    assert adopted(spool) == ["c"]
    spool.close()
    assert (database.keys(), database.quarantined()) == (["c"], {})


# What starts it


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = (EXAMPLES / "clocknext-relay.service").read_text(encoding="utf-8")
    program = "/opt/clocknext/bin/clocknext"
    assert program in unit
    written = tmp_path / "clocknext-relay.service"
    written.write_text(unit.replace(program, "/bin/true"), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", str(written)],
        capture_output=True,
        text=True,
        timeout=OF_A_PROCESS,
        check=False,
    )
    assert (done.returncode, "Unknown" in done.stderr) == (0, False), done.stderr


def test_the_manifest_is_a_deployment_of_relays() -> None:
    (manifest,) = yaml.safe_load_all((EXAMPLES / "relay.yaml").read_text(encoding="utf-8"))
    assert (manifest["apiVersion"], manifest["kind"]) == ("apps/v1", "Deployment")
    pod = manifest["spec"]["template"]
    assert manifest["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (container,) = pod["spec"]["containers"]
    arguments = container["args"]
    assert arguments[:3] == ["clocknext", "outbox", "relay"]
    assert pod["spec"]["terminationGracePeriodSeconds"] > int(
        arguments[arguments.index("--close-timeout") + 1]
    )
    port = int(arguments[arguments.index("--health") + 1])
    assert {container[probe]["httpGet"]["port"] for probe in ("readinessProbe", "livenessProbe")} == {port}
