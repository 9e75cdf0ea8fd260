"""The outbox in PostgreSQL, on an embedded server: recording, claiming, relaying, and the table's size."""

import asyncio
import json
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from typing import Any, Literal, TypeAlias, cast

import psycopg
import sqlalchemy

from clocknext_core import Answer, BatchPolicy, Request, Response
from clocknext_transports import ClockNext
from clocknext_transports.client import environment
from clocknext_transports.postgres import ClaimingSpool, Relay, migrate, outbox
from clocknext_transports.postgres.embedded import EmbeddedServer
from clocknext_transports.postgres.recording import AsyncConnection
from tests.benchmarks import ours
from tests.benchmarks.delivering import CONCURRENCY
from tests.benchmarks.rounds import Claim, Contestant, Figure, Result, Stopwatch, alternate, single
from tests.benchmarks.setting import Setting
from tests.benchmarks.typical import API_KEY, arguments, body, holding

BATCH = 500
BATCHES_WITH_SNAPSHOT = 200
FAR_AWAY = 0.02
"""Seconds that a service takes which is not near."""
BACKLOG = 5000

SUCCESS = b'{"statusCode":200,"statusDetail":{"status":"SUCCESS","message":"ok"},"result":{}}'

_FILL = (
    "INSERT INTO clocknext_outbox (key, body) "
    "SELECT md5(random()::text || n), %s FROM generate_series(1, %s) AS n"
)


class Distant:
    """A transport to a service that answers everything after a while."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Answer."""
        del request, deadline_at
        time.sleep(self._seconds)
        return Response(200, [("content-type", "application/json")], SUCCESS)

    def close(self) -> None:
        """Close nothing."""


@contextmanager
def _database() -> Generator[str, None, None]:
    with EmbeddedServer() as server:
        migrate(server.url)
        yield server.url


def _write(connection: "psycopg.Connection[Any]", count: int) -> None:
    """Commit signals that a relay can read."""
    box = outbox(connection)
    for number in range(count):
        box.signals.credit(**arguments(number))
    connection.commit()


def _fill(connection: "psycopg.Connection[Any]", count: int) -> None:
    """Commit rows of the usual size that no relay reads."""
    connection.execute(_FILL.encode(), (body(0), count))
    connection.commit()


# Recording


def measure_recording(setting: Setting) -> Result:
    """Measure a signal in a transaction beside an insert of the same row by the same driver.

    The plain insert has a random key, and a body that is there already; the one by hand makes its body of a
    dictionary, as a program would that records without the library.
    """
    count = setting.pieces(1500)
    contestants: list[Contestant] = []
    claims: list[Claim] = []
    with _database() as url, ExitStack() as stack:
        for driver, open_surface in _SURFACES.items():
            run = stack.enter_context(open_surface(url))
            plain, by_hand, ours = f"INSERT, {driver}", f"INSERT by hand, {driver}", f"outbox, {driver}"
            contestants += [
                single(plain, partial(run, count, "plain")),
                single(by_hand, partial(run, count, "by hand")),
                single(ours, partial(run, count, "outbox")),
            ]
            claims += [Claim(ours, (plain,), most=1.25), Claim(ours, (by_hand,))]
        figures = alternate(contestants, setting.rounds)
    return Result("Recording in a transaction", "µs", figures, claims)


_Way: TypeAlias = Literal["plain", "by hand", "outbox"]
_Run: TypeAlias = Callable[[int, _Way], Figure]


def _row(way: _Way, ready: bytes) -> tuple[str, bytes]:
    key = environment.new_key()
    if way == "plain":
        return key, ready
    given = arguments(0)
    made = {
        "customerId": given["customer_id"],
        "type": "credit",
        "model": given["model"],
        "inputTokens": given["tokens"]["input"],
        "outputTokens": given["tokens"]["output"],
        "cacheTokens": given["tokens"]["cache"],
        "key": given["key"],
        "member": given["member"],
        "custom": given["custom"],
        "idempotencyKey": key,
    }
    return key, json.dumps(made, separators=(",", ":"), ensure_ascii=False).encode()


@contextmanager
def _psycopg(url: str) -> Generator[_Run, None, None]:
    with psycopg.connect(url) as connection:

        def run(count: int, way: _Way) -> Figure:
            ready = body(0)
            watch = Stopwatch()
            if way == "outbox":
                for _ in range(count):
                    outbox(connection).signals.credit(**arguments(0))
            else:
                for _ in range(count):
                    connection.execute(_PLAIN, _row(way, ready))
            figure = watch.per(count)
            connection.rollback()
            return figure

        yield run


_PLAIN = "INSERT INTO clocknext_outbox (key, body) VALUES (%s, %s)"


@contextmanager
def _sqlalchemy(url: str) -> Generator[_Run, None, None]:
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    statement = sqlalchemy.text("INSERT INTO clocknext_outbox (key, body) VALUES (:key, :body)")
    with engine.connect() as connection:

        def run(count: int, way: _Way) -> Figure:
            ready = body(0)
            watch = Stopwatch()
            if way == "outbox":
                for _ in range(count):
                    outbox(connection).signals.credit(**arguments(0))
            else:
                for _ in range(count):
                    key, made = _row(way, ready)
                    connection.execute(statement, {"key": key, "body": made})
            figure = watch.per(count)
            connection.rollback()
            return figure

        yield run
    engine.dispose()


@contextmanager
def _asyncpg(url: str) -> Generator[_Run, None, None]:
    async def record(count: int, way: _Way) -> Figure:
        ready = body(0)
        transaction = connection.transaction()
        await transaction.start()
        watch = Stopwatch()
        if way == "outbox":
            for _ in range(count):
                await outbox(cast(AsyncConnection, connection)).signals.credit(**arguments(0))
        else:
            for _ in range(count):
                await connection.execute(
                    "INSERT INTO clocknext_outbox (key, body) VALUES ($1, $2)", *_row(way, ready)
                )
        figure = watch.per(count)
        await transaction.rollback()
        return figure

    with asyncio.Runner() as runner:
        asyncpg: Any = import_module("asyncpg")  # without types of its own
        connection: Any = runner.run(asyncpg.connect(url))
        yield lambda count, way: runner.run(record(count, way))
        runner.run(connection.close())


_SURFACES = {"psycopg": _psycopg, "SQLAlchemy": _sqlalchemy, "asyncpg": _asyncpg}


# Claiming while an old snapshot is held


def measure_claims(setting: Setting) -> Result:
    """Measure claims of a batch while a snapshot is held all the time: the first and the last tenth."""
    batches = max(20, BATCHES_WITH_SNAPSHOT // (10 if setting.is_quick else 1))

    def run() -> Mapping[str, Figure]:
        with _database() as url:
            return _claim_all(url, batches)

    figures = alternate([run], min(setting.rounds, 2), warm_up=False)
    claim = Claim("claim, last tenth", ("claim, first tenth",), most=1.5)
    notes = [f"Batches of {BATCH}, {batches * BATCH:,} signals, one snapshot held."]
    return Result("Claiming and settling a batch", "ms", figures, [claim], notes)


def _claim_all(url: str, batches: int) -> Mapping[str, Figure]:
    with psycopg.connect(url) as connection, psycopg.connect(url) as reader:
        _fill(connection, batches * BATCH)
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT count(*) FROM clocknext_outbox")
        spool = ClaimingSpool(url)
        spool.adopt(1)
        claims, settlements = [0.0] * batches, [0.0] * batches
        for number in range(batches):
            began_at = time.perf_counter()
            found = spool.adopt(BATCH)
            claimed_at = time.perf_counter()
            spool.erase([each.idempotency_key for each in found])
            spool.tend()
            claims[number] = claimed_at - began_at
            settlements[number] = time.perf_counter() - claimed_at
        spool.close()
    tenth = batches // 10
    return {
        name: Figure(sorted(part)[len(part) // 2])
        for name, part in {
            "claim, first tenth": claims[:tenth],
            "claim, last tenth": claims[-tenth:],
            "settle, first tenth": settlements[:tenth],
            "settle, last tenth": settlements[-tenth:],
        }.items()
    }


# Relaying


def measure_draining(setting: Setting) -> Result:
    """Measure a relay that empties a table beside a client that empties its buffer, with the same server."""
    count = setting.pieces(2000)
    with _database() as url, psycopg.connect(url) as connection:
        relay = partial(_drain, url, connection, setting.server.url, count)
        signals = [arguments(number) for number in range(count)]
        keys = [f"{number:032x}" for number in range(count)]
        memory = partial(ours.drain_in_threads, setting.server.url, signals, holding(CONCURRENCY), keys, None)
        figures = alternate(
            [single("relay, threads", relay), single("the same from memory", memory)], setting.rounds
        )
    claim = Claim("relay, threads", ("the same from memory",), least=0.7, is_by_cpu=True)
    return Result("Draining a table, for each signal", "µs", figures, [claim])


def _drain(url: str, connection: "psycopg.Connection[Any]", service: str, count: int) -> Figure:
    _write(connection, count)
    batch = BatchPolicy(max_concurrency=CONCURRENCY, max_queue_size=1000)
    watch = Stopwatch()
    with Relay(url, ClockNext(API_KEY, base_url=service, batch=batch)) as relay:
        _wait_for(relay, count=count)
        return watch.per(count)


def measure_relays(setting: Setting) -> Result:
    """Measure one relay and four, with a service that is not near."""
    count = setting.pieces(1000)
    with _database() as url, psycopg.connect(url) as connection:
        contestants = [
            single(f"{number} relays, 20 ms away", partial(_relay, url, connection, number, count))
            for number in (1, 4)
        ]
        figures = alternate(contestants, min(setting.rounds, 3), warm_up=False)
    claim = Claim("4 relays, 20 ms away", ("1 relays, 20 ms away",), least=3)
    return Result("Relays beside each other, for each signal", "µs", figures, [claim])


def _relay(url: str, connection: "psycopg.Connection[Any]", number: int, count: int) -> Figure:
    _write(connection, count)
    # Small claims, or the first relay would claim all there is.
    batch = BatchPolicy(max_concurrency=CONCURRENCY, max_queue_size=40)
    watch = Stopwatch()
    with ExitStack() as stack:
        relays = [
            stack.enter_context(Relay(url, ClockNext(API_KEY, transport=Distant(FAR_AWAY), batch=batch)))
            for _ in range(number)
        ]
        _wait_for(*relays, count=count)
        return watch.per(count)


def _wait_for(*relays: Relay[ClockNext], count: int) -> None:
    until = time.monotonic() + 120
    while sum(relay.client.stats().delivered for relay in relays) < count:
        if time.monotonic() > until:
            raise TimeoutError("the relays did not deliver")
        time.sleep(0.005)


# The size of the table


def measure_size(setting: Setting) -> Result:
    """Measure how large the table is after many signals, with a constant backlog."""
    most = setting.pieces(1_000_000)
    names = {most // 10: "after a tenth of the signals", most: "after all of them"}
    with _database() as url, psycopg.connect(url, autocommit=True) as connection:
        # Signals come faster here than they ever do, so the vacuum looks more often too.
        connection.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
        connection.execute("SELECT pg_reload_conf()")
        _fill(connection, BACKLOG)
        spool = ClaimingSpool(url)
        figures: dict[str, list[Figure]] = {}
        for done in range(BATCH, most + 1, BATCH):
            _fill(connection, BATCH)
            spool.erase([each.idempotency_key for each in spool.adopt(BATCH)])
            spool.tend()
            if done in names:
                row = connection.execute("SELECT pg_total_relation_size('clocknext_outbox')").fetchone()
                assert row is not None
                figures[names[done]] = [Figure(row[0] / 1024)]
        spool.close()
    claim = Claim("after all of them", ("after a tenth of the signals",), most=3)
    notes = [f"{most:,} signals, a backlog of {BACKLOG:,}; table and indexes."]
    return Result("Size of the table", "KiB", figures, [claim], notes)
