"""Rows of a client with a spool: what it has accepted survives the process, the disk and the outage."""

import asyncio
import gc
import os
import random
import shutil
import signal as signals
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
import trio

from clocknext_core import (
    AuthError,
    BatchPolicy,
    CreditSignal,
    FlushReport,
    Outbox,
    Response,
    Signal,
    SpooledOutbox,
    SpoolError,
    adoption,
)
from clocknext_core.signals import encode
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.client.base import ClientBase
from clocknext_transports.emulator import EXPIRED_API_KEY, Fault, Reply, emulator, scripted
from clocknext_transports.spool import Spool, SqliteSpool, Stored
from tests.contract.answers import key_of, priced, record, record_all
from tests.contract.clients import Client
from tests.contract.worlds import PATIENT_BATCH, LogKeeper, World
from tests.life.support import (
    KINDS,
    PATIENT,
    AnyClient,
    Child,
    Kind,
    close,
    deliver,
    hold,
    run,
    wait_until,
    workers,
)
from tests.life.support import keys as keys_at
from tests.matrix.support import AT_ONCE, KEYS, check_billed_once
from tests.spool import conftest, crashes
from tests.spool.support import limit_pages, quarantined
from tests.transports.support import KEY, PATIENCE, Peer, keep_answering

T = TypeVar("T")

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="a spool needs POSIX"),
    # Python 3.12 and later warn of forks among threads, which is what some of these rows are about.
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]

in_each_driver = pytest.mark.parametrize(
    "world", ["threads-native", "asyncio-native", "trio-native"], indirect=True
)
NOWHERE = "http://127.0.0.9:9"
"""Where nobody listens."""
HOUR = 3600.0
tmp_path = conftest.tmp_path  # in memory, where there is such a thing
BRIEF = BatchPolicy(max_size=1000, max_interval=0.05)

SIGNAL = CreditSignal(customer_id="cus_123", model="gpt-4o", key="api_credit")

NEVER_FULL = BatchPolicy(max_size=1_000_000, max_interval=3600.0, max_queue_size=1_000_000)
"""Nothing goes out before a flush, however quick the machine is."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool"


async def leave_behind(world: World, path: Path, keys: Sequence[str] = KEYS) -> None:
    """Store signals, and close the client while the service can't be reached."""
    async with world.open(NOWHERE, batch=PATIENT_BATCH, spool=path) as client:
        await record_all(client, list(keys))
        report = await client.close(timeout=0.0)
        assert (list(report.failed), report.pending) == ([], len(keys))


async def drained(world: World, client: Client, count: int) -> None:
    """Wait until so many signals have been delivered, those that are adopted included."""
    await client.flush()
    await world.hooked(lambda seen: delivered(seen) == count)


def delivered(seen: Sequence[tuple[str, object, str | None]]) -> int:
    return sum(what for name, what, _ in seen if name == "on_flush" and isinstance(what, int))


def files(path: Path, ending: str) -> list[Path]:
    return sorted(path.glob(f"*{ending}"))


@in_each_driver
async def test_row_08_key_refused(world: World, path: Path) -> None:
    """A refused key is told at once; what is held outlives it, and is billed under the next key."""
    with emulator() as server:
        async with world.open(server.url, api_key=EXPIRED_API_KEY, batch=AT_ONCE, spool=path) as client:
            await record_all(client, KEYS)
            await world.hooked(lambda seen: any(name == "on_error" for name, _, _ in seen))
            assert client.pending == len(KEYS)
            report = await client.close(timeout=0.0)
            assert (list(report.failed), report.pending) == ([], len(KEYS))
        assert {each.status for each in server.ledger.requests} == {401}
        assert {what for _, what, _ in world.hooks.of("on_error")} == {AuthError.__name__}
        async with world.open(server.url, batch=AT_ONCE, spool=path) as client:
            await drained(world, client, len(KEYS))
        check_billed_once(server.ledger)
    assert world.hooks.of("on_drop") == []
    assert [*path.iterdir()] == []


@pytest.mark.parametrize("kind", crashes.KINDS)
def test_row_16_sigkill_anywhere(kind: crashes.Kind, tmp_path: Path) -> None:
    """What was acknowledged before any of the kills is billed once: it was at the server or in the spool."""
    with emulator() as server:
        books = crashes.campaign(tmp_path, server, kind=kind, times=8, signals=400)
        crashes.check_billed_once(books, server)
        assert min(server.faults.counts[kind] for kind in ("lost", "reset", "status")) > 0
        assert server.ledger.counters.repeats > 0
    assert len(books.acknowledged) == 400
    assert books.kills == 8
    assert books.kills_while_recording > 0
    assert books.adopted > 0


def test_row_16_without_a_spool_what_is_lost_is_what_was_held(tmp_path: Path) -> None:
    with emulator() as server:
        books = crashes.campaign(tmp_path, server, times=4, signals=1200, is_spooled=False)
    losses = crashes.check_losses(books, server)
    assert losses.lost > 0
    assert losses.billed > 0


@in_each_driver
async def test_row_18_disk_full(world: World, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call whose signal finds no room raises, and it is not recorded; with room again, all goes on."""
    accepted: list[str] = []
    refused: list[str] = []
    with emulator() as server, monkeypatch.context() as patch:
        limit_pages(patch, 40)
        async with world.open(server.url, batch=PATIENT_BATCH, spool=path) as client:
            for key in (f"k{number}" for number in range(60)):
                (accepted if await has_room(client, key) else refused).append(key)
            assert client.pending == len(accepted)
            patch.undo()
            await record(client, "afterwards")
            report = await client.flush()
            assert (report.delivered, list(report.failed)) == (len(accepted) + 1, [])
        check_billed_once(server.ledger, [*accepted, "afterwards"])
    assert len(accepted) > 5
    assert len(refused) > 5
    assert world.hooks.of("on_error", "on_drop") == []
    assert [*path.iterdir()] == []


async def has_room(client: Client, key: str) -> bool:
    """Record a large signal, and tell whether it found room."""
    told: SpoolError | None = None
    try:
        await client.signals.credit(
            customer_id="cus_123",
            model="gpt-4o",
            key="api_credit",
            custom={"text": "x" * 6000},
            idempotency_key=key,
        )
    except SpoolError as error:
        told = error
    assert told is None or (told.retryable and "the disk is full" in told.message)
    return told is None


@in_each_driver
async def test_row_19_flipped_bit(world: World, path: Path, log: LogKeeper) -> None:
    """One bit of one signal: that one is in quarantine and told of; the others and new ones are billed."""
    await leave_behind(world, path)
    (file,) = files(path, ".db")
    content = bytearray(file.read_bytes())
    content[content.index(f'"{KEYS[2]}"'.encode()) + 1] ^= 1 << random.Random(19).randrange(4)
    file.write_bytes(content)
    left = [key for key in KEYS if key != KEYS[2]]
    with emulator() as server:
        async with world.open(server.url, batch=AT_ONCE, spool=path) as client:
            await drained(world, client, len(left))
            await record(client, "new")
        check_billed_once(server.ledger, [*left, "new"])
    assert [line for line in log.take() if "Damaged signals in" in line and ": 1." in line] != []
    assert [one.idempotency_key for one in quarantined(path)] == [KEYS[2]]


@in_each_driver
async def test_row_19_no_spool_file_any_more(world: World, path: Path, log: LogKeeper) -> None:
    """A file of which nothing can be read is kept and told of, and the client goes on with a new one."""
    await leave_behind(world, path)
    (file,) = files(path, ".db")
    content = random.Random(19).randbytes(file.stat().st_size)
    file.write_bytes(content)
    with emulator() as server:
        async with world.open(server.url, batch=AT_ONCE, spool=path) as client:
            await record_all(client, ["new 1", "new 2"])
            await drained(world, client, 2)
            assert await world.blocking(lambda: wait_until(lambda: files(path, ".damaged") != []))
        check_billed_once(server.ledger, ["new 1", "new 2"])
    (aside,) = files(path, ".damaged")
    assert aside.read_bytes() == content
    assert [line for line in log.take() if aside.name in line] != []


@in_each_driver
async def test_row_19_damaged_while_in_use(world: World, path: Path, log: LogKeeper) -> None:
    """The file goes bad, then the whole directory goes, under a live client: nothing it holds is lost."""
    with emulator() as server:
        async with world.open(server.url, batch=PATIENT_BATCH, spool=path) as client:
            await record_all(client, KEYS[:2])
            Child(gc.collect).result()  # a fork closes the file: else SQLite trusts what it remembers
            (file,) = files(path, ".db")
            file.write_bytes(random.Random(19).randbytes(8192))
            await record_all(client, KEYS[2:4])
            shutil.rmtree(path)
            await record_all(client, KEYS[4:])
            assert client.pending == len(KEYS)
            report = await client.flush()
            assert (report.delivered, list(report.failed)) == (len(KEYS), [])
        check_billed_once(server.ledger)
    told = " ".join(log.take())
    assert "is damaged" in told
    assert "was removed while it was in use" in told


def spooled(kind: Kind, url: str, spool: Path | Spool, batch: BatchPolicy = PATIENT) -> AnyClient:
    """Make a client of any kind with a spool."""
    makers: dict[Kind, type[AnyClient]] = {
        "threads": ClockNext,
        "asyncio": AsyncClockNext,
        "trio": TrioClockNext,
    }
    return makers[kind](KEY, base_url=url, batch=batch, spool=spool)


def crash(path: Path, *works: Sequence[str]) -> None:
    """Have processes store signals, each some, and kill them all when all have."""
    heard, said = os.pipe()

    def work(keys: Sequence[str]) -> None:
        client = spooled("threads", NOWHERE, path)
        hold(client, *keys)
        os.write(said, b".")
        threading.Event().wait()

    children = [Child(partial(work, keys)) for keys in works]
    for _ in children:
        assert os.read(heard, 1) == b"."
    for child in children:
        os.kill(child.pid, signals.SIGKILL)
        with pytest.raises(AssertionError, match="told nothing"):
            child.result()
    os.close(heard)
    os.close(said)


@pytest.mark.parametrize("kind", KINDS)
def test_row_20_fork(kind: Kind, path: Path) -> None:
    """The child has none of the parent's signals, and its own survive it; the parent goes on."""
    with Peer(keep_answering()) as peer:
        client = spooled(kind, peer.url, path)
        hold(client, "parent 1", "parent 2")

        def work() -> list[int]:
            before = client.pending
            hold(client, "child 1", "child 2")
            return [before, client.pending]

        assert Child(work).result() == [0, 2]  # and it ends without a word to anybody
        assert client.pending == 2
        assert keys_at(peer) == {}
        assert len(files(path, ".db")) == 2
        hold(client, "parent 3")
        assert deliver(client) == 5  # what the dead child left is the parent's now
        close(client)
        everything = {"parent 1": 1, "parent 2": 1, "parent 3": 1, "child 1": 1, "child 2": 1}
        assert keys_at(peer) == everything
    assert [*path.iterdir()] == []


def test_row_20_fork_while_signals_are_being_stored(path: Path) -> None:
    """Threads record, and the process forks all the time: nobody hangs, and nothing is lost or sent twice."""
    recorded: list[str] = []
    has_forked = threading.Event()

    def work(name: int) -> None:
        while not has_forked.is_set():
            hold(client, key := f"{name}.{len(recorded)}")
            recorded.append(key)

    with Peer(keep_answering()) as peer:
        with ClockNext(KEY, base_url=peer.url, batch=NEVER_FULL, spool=path) as client:
            threads = [threading.Thread(target=work, args=[name]) for name in range(3)]
            for thread in threads:
                thread.start()
            try:
                for number in range(6):
                    assert wait_until(partial(has_grown, recorded, 3 * number))
                    Child(partial(hold, client, f"child {number}")).result()
            finally:
                has_forked.set()
            for thread in threads:
                thread.join(PATIENCE)
                assert not thread.is_alive()
            assert client.pending == len(recorded)
            report = client.flush()
        sent = keys_at(peer)
        assert {key: count for key, count in sent.items() if "child" not in key} == Counter(recorded)
        assert {key for key in sent if "child" in key} == {f"child {number}" for number in range(6)}
        # How many of the children's are left is not certain: each takes over, and sends, what an earlier one
        # left, and may die before it has removed it.
        assert report.delivered - report.adopted == len(recorded)
    assert [*path.iterdir()] == []


def has_grown(what: list[str], size: int) -> bool:
    return len(what) > size


@in_each_driver
async def test_row_21_a_worker_dies_and_others_adopt(world: World, path: Path) -> None:
    """Two clients race for what three killed processes left: it is sent once. A live one's stays its own."""
    works = [[f"{worker}.{number}" for number in range(4)] for worker in range(3)]
    dead = [key for keys in works for key in keys]
    with scripted([priced()]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH, spool=path) as live:
            await record_all(live, ["live 1", "live 2"])
            crash(path, *works)
            assert len(files(path, ".db")) == 1 + len(works)
            async with (
                world.open(server.url, spool=path) as first,
                world.open(server.url, spool=path) as second,
            ):
                await first.flush()
                await second.flush()
                await world.hooked(lambda seen: delivered(seen) == len(dead))
            assert Counter(map(key_of, server.requests)) == Counter(dead)
            assert live.pending == 2
        assert Counter(map(key_of, server.requests)) == Counter([*dead, "live 1", "live 2"])
    assert [*path.iterdir()] == []


def leave_old(path: Path, ages: dict[str, float]) -> None:
    """Leave signals behind that were recorded so many seconds ago."""
    spool = SqliteSpool(path)
    for key, age in ages.items():
        signal = CreditSignal(customer_id="cus_123", model="gpt-4o", key="api_credit", idempotency_key=key)
        spool.append([Stored(key, encode(signal, str).body, time.time() - age)])
    spool.close()


@in_each_driver
async def test_row_26_replay_past_the_window(world: World, path: Path, log: LogKeeper) -> None:
    """What was left behind for longer than the window is never sent: in quarantine, and told of."""
    leave_old(path, {"old 1": 25 * HOUR, "young": 23 * HOUR, "old 2": 24.1 * HOUR})
    with emulator() as server:
        async with world.open(server.url, batch=AT_ONCE, spool=path) as client:
            await drained(world, client, 1)
            await world.hooked(lambda seen: sum(name == "on_drop" for name, _, _ in seen) == 2)
        check_billed_once(server.ledger, ["young"])
        assert len(server.ledger.requests) == 1
    assert world.hooks.of("on_drop") == [("on_drop", "expired", "old 1"), ("on_drop", "expired", "old 2")]
    assert [one.idempotency_key for one in quarantined(path)] == ["old 1", "old 2"]
    assert ["older than 24 h" in line for line in log.take()] == [True, True]


@in_each_driver
async def test_row_26_held_past_the_window(world: World, path: Path) -> None:
    """What this process has held for longer than the window is not sent either, when the service is back."""
    spool = SqliteSpool(path, window=0.2)
    with emulator() as server:
        server.faults.chance(1.0, Fault("status", status=503))
        async with world.open(server.url, batch=AT_ONCE, spool=spool) as client:
            await record_all(client, KEYS)
            await world.hooked(lambda seen: sum(name == "on_drop" for name, _, _ in seen) == len(KEYS))
            assert client.pending == 0
            server.faults.clear()
            await record(client, "new")
            report = await client.flush()
            assert report.delivered == 1
        check_billed_once(server.ledger, ["new"])
        assert server.faults.counts["status"] > 0
    assert {(name, what) for name, what, _ in world.hooks.of("on_drop")} == {("on_drop", "expired")}
    assert sorted(one.idempotency_key for one in quarantined(path)) == sorted(KEYS)


@in_each_driver
@pytest.mark.parametrize("status", [302, 401, 403, 404, 405, 413, 500])
async def test_row_29_a_wrong_address_costs_no_stored_signal(world: World, path: Path, status: int) -> None:
    """The address is somebody else's web server: what it says ends nothing, and the next process delivers."""
    page = Reply(Response(status, (("content-type", "text/html"),), b"<html>This is another site.</html>"))
    with scripted([page]) as server:
        async with world.open(server.url, batch=AT_ONCE, spool=path) as client:
            await record_all(client, KEYS)
            await world.hooked(lambda seen: any(name == "on_error" for name, _, _ in seen))
            report = await client.close(timeout=0.1)
            assert (list(report.failed), report.pending) == ([], len(KEYS))
    told = [key for _, _, key in world.hooks.of("on_error")]
    assert len(told) == len(set(told))
    assert world.hooks.of("on_drop") == []
    with emulator() as server:
        async with world.open(server.url, batch=AT_ONCE, spool=path) as client:
            assert (await client.flush(timeout=10.0)).adopted == len(KEYS)
        check_billed_once(server.ledger)


@in_each_driver
@pytest.mark.parametrize("how", ["flush", "close", "block"])
async def test_row_34_signals_left_by_dead_processes(world: World, path: Path, how: str) -> None:
    """A process that opens a spool, flushes or closes, and ends delivers what was left there."""
    await world.blocking(lambda: crash(path, KEYS[:2], KEYS[2:]))
    with scripted([priced()]) as server:
        async with world.open(server.url, batch=NEVER_FULL, spool=path) as client:
            if how == "flush":
                report = await client.flush(timeout=10.0)
            elif how == "close":
                report = await client.close(timeout=10.0)
            else:
                report = None
        assert Counter(map(key_of, server.requests)) == Counter(KEYS)
    if report is not None:
        assert report == FlushReport(len(KEYS), [], 0, adopted=len(KEYS), left_behind=0)
    assert [*path.iterdir()] == []


@in_each_driver
async def test_row_34_what_is_not_delivered_in_time_is_reported(world: World, path: Path) -> None:
    """Own signals go first, what was left is reported as pending, and it is still there afterwards."""
    await world.blocking(lambda: crash(path, KEYS[1:]))
    async with world.open(NOWHERE, batch=NEVER_FULL, spool=path) as client:
        await record(client, KEYS[0])
        report = await client.flush(timeout=0.5)
        assert (report.delivered, report.adopted, report.pending) == (0, 0, len(KEYS))
        report = await client.close(timeout=0.0)
        assert (list(report.failed), report.pending) == ([], len(KEYS))
    with scripted([priced()]) as server:
        async with world.open(server.url, batch=NEVER_FULL, spool=path) as client:
            assert (await client.flush(timeout=10.0)).adopted == len(KEYS)
        assert Counter(map(key_of, server.requests)) == Counter(KEYS)


@in_each_driver
async def test_row_34_a_process_that_lives_on_looks_again(
    world: World, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption, "LOOK_INTERVAL", 0.05)
    with scripted([priced()]) as server:
        async with world.open(server.url, batch=NEVER_FULL, spool=path) as client:
            assert (await client.flush()).adopted == 0
            await world.blocking(lambda: crash(path, KEYS))
            await world.hooked(lambda seen: delivered(seen) == len(KEYS))
        assert Counter(map(key_of, server.requests)) == Counter(KEYS)


class Stubborn(SqliteSpool):
    """A spool that can't be looked into at first."""

    failures = 2

    def adopt(self, limit: int) -> Sequence[Stored]:
        if self.failures:
            self.failures -= 1
            raise SpoolError("No file handle is left.", retryable=True)
        return super().adopt(limit)


@in_each_driver
async def test_row_34_a_look_that_fails_is_repeated(world: World, path: Path, log: LogKeeper) -> None:
    await leave_behind(world, path)
    with emulator() as server:
        async with world.open(server.url, batch=NEVER_FULL, spool=Stubborn(path)) as client:
            assert (await client.flush(timeout=10.0)).adopted == len(KEYS)
        check_billed_once(server.ledger)
    assert len([line for line in log.take() if "could not be taken over, for now" in line]) == 2


@in_each_driver
async def test_row_34_signals_that_this_version_can_not_read_hold_up_no_others(
    world: World, path: Path, log: LogKeeper
) -> None:
    """Another version of the SDK has left signals of an unknown kind, more of them than one look takes."""
    unknown = [Stored(f"new {number}", b'{"type": "barter"}', time.time()) for number in range(600)]
    spool = SqliteSpool(path)
    spool.append(unknown)
    spool.close()
    await leave_behind(world, path)
    with emulator() as server:
        async with world.open(server.url, batch=NEVER_FULL, spool=path) as client:
            assert (await client.flush(timeout=10.0)).adopted == len(KEYS)
        check_billed_once(server.ledger)
    assert len(quarantined(path)) == len(unknown)
    assert any("that this version can't read: " in line for line in log.take())


@in_each_driver
@pytest.mark.parametrize("limit", ["max_queue_size", "max_queue_bytes"])
async def test_row_35_queue_full_with_an_idle_service(world: World, path: Path, limit: str) -> None:
    """Limits below `max_size` and a long interval: a full queue starts to send, with a spool too."""
    size = len(encode(SIGNAL.with_idempotency_key(KEYS[0]), str).body)
    batch = BatchPolicy(max_size=1000, max_interval=3600.0, overflow="block", block_timeout=PATIENCE)
    if limit == "max_queue_size":
        batch = replace(batch, max_queue_size=3)
    else:
        batch = replace(batch, max_queue_bytes=3 * size + size // 2)
    for spool in (None, path):
        with emulator() as server:
            async with world.open(server.url, batch=batch, spool=spool) as client:
                for key in KEYS:
                    result = await client.signals.track(SIGNAL.with_idempotency_key(key))
                    assert result.dropped is None
            check_billed_once(server.ledger)
    assert world.hooks.of("on_drop", "on_error") == []


# How the calls behave


class Slow(SqliteSpool):
    """A spool whose disk takes its time: nothing is stored until it is let."""

    def __init__(self, path: Path) -> None:
        self.is_storing = threading.Event()
        self.may_store = threading.Event()
        super().__init__(path)

    def append(self, signals: Sequence[Stored]) -> None:
        self.is_storing.set()
        assert self.may_store.wait(PATIENCE)
        super().append(signals)


@in_each_driver
async def test_a_record_waits_for_the_disk_and_nothing_else_does(world: World, path: Path) -> None:
    spool = Slow(path)
    with emulator() as server:
        async with world.open(server.url, batch=AT_ONCE, spool=spool) as client, world.tasks() as tasks:
            recording = tasks.start(record(client, "a"))
            assert await world.blocking(lambda: spool.is_storing.wait(PATIENCE))
            await record(client, "sent at once", wait=True)
            report = await client.flush(timeout=0.1)  # which would look for what dead processes left
            assert (report.delivered, client.pending) == (0, 0)  # it is not recorded yet
            assert [each.idempotency_key for each in server.ledger.signals] == ["sent at once"]
            spool.may_store.set()
            assert (await recording.result()).queued
        check_billed_once(server.ledger, ["sent at once", "a"])


@in_each_driver
async def test_close_waits_for_what_is_being_stored(world: World, path: Path) -> None:
    spool = Slow(path)
    with emulator() as server:
        client = world.create(server.url, batch=PATIENT_BATCH, spool=spool)
        async with client, world.tasks() as tasks:
            recordings = [tasks.start(record(client, key)) for key in KEYS]
            assert await world.blocking(lambda: spool.is_storing.wait(PATIENCE))
            assert await world.blocking(lambda: wait_until(lambda: storing(client) == len(KEYS)))
            closing = tasks.start(client.close())
            assert await world.blocking(lambda: wait_until(lambda: is_closing(client)))
            spool.may_store.set()
            for recording in recordings:
                result = await recording.result()
                assert (result.queued, result.dropped) == (True, None)
            report = await closing.result()
            assert (report.delivered, list(report.failed), report.pending) == (len(KEYS), [], 0)
        check_billed_once(server.ledger)
    assert [*path.iterdir()] == []


def outbox_of(client: Client) -> Outbox | SpooledOutbox:
    inner: Any = getattr(client, "_client", client)
    assert isinstance(inner, ClientBase)
    outbox: Any = cast("Any", inner)._driver.engine.outbox
    assert isinstance(outbox, Outbox | SpooledOutbox)
    return outbox


def storing(client: Client) -> int:
    return outbox_of(client).stats(now=0.0).storing


def is_closing(client: Client) -> bool:
    return outbox_of(client).is_closing


@pytest.mark.parametrize("world", ["asyncio-native", "trio-native"], indirect=True)
async def test_a_cancelled_record_is_not_recorded(world: World, path: Path) -> None:
    """Cancelled while it waits for the disk: it was not accepted, and is neither billed nor left behind."""
    spool = Slow(path)
    with emulator() as server:
        async with world.open(server.url, batch=AT_ONCE, spool=spool) as client:

            async def call() -> None:
                await record(client, "cancelled")

            async def stored() -> None:
                assert await world.blocking(lambda: spool.is_storing.wait(PATIENCE))

            await world.cancelled(call, when=stored)
            spool.may_store.set()
            await record(client, "a")
            report = await client.flush()
            assert (report.delivered, client.pending) == (1, 0)
        check_billed_once(server.ledger, ["a"])
    assert [*path.iterdir()] == []


@pytest.mark.parametrize("world", ["asyncio-native"], indirect=True)
async def test_a_record_cut_short_by_the_end_of_its_loop_holds_up_nobody(world: World, path: Path) -> None:
    """Its result comes when its loop is gone; the next loop hears of it all the same."""
    spool = Slow(path)
    with emulator() as server:
        client = world.create(server.url, batch=PATIENT_BATCH, spool=spool)

        async def cut_short() -> None:
            recording = asyncio.create_task(record(client, "cut short"))
            assert await asyncio.to_thread(spool.is_storing.wait, PATIENCE)
            recording.cancel()

        await asyncio.to_thread(lambda: asyncio.run(cut_short()))
        spool.may_store.set()
        await record(client, "a")
        report = await client.close()
        assert report.delivered == 1
        check_billed_once(server.ledger, ["a"])
    assert [*path.iterdir()] == []


def test_a_hook_of_threads_must_not_record_because_the_spool_waits_for_it(path: Path) -> None:
    """It is told so in the call, and nothing is left of the signal."""
    raised: list[Exception] = []

    def on_flush(count: int) -> None:
        with pytest.raises(RuntimeError, match="must not wait") as told:
            hold(client, "from the hook")
        raised.append(told.value)

    with Peer(keep_answering()) as peer:
        with ClockNext(KEY, base_url=peer.url, batch=PATIENT, spool=path, on_flush=on_flush) as client:
            hold(client, "a")
            assert client.flush().delivered == 1
            assert wait_until(lambda: raised != [])
            hold(client, "b")
        assert keys_at(peer) == {"a": 1, "b": 1}
    assert [*path.iterdir()] == []


@pytest.mark.parametrize("do", ["record", "exit"])
def test_a_hook_told_of_an_old_signal_may_do_what_hooks_may(do: str, path: Path, log: LogKeeper) -> None:
    """It runs where all hooks run: not in the thread that writes, which must go on."""
    leave_old(path, {"old": 25 * HOUR})
    ran: list[str] = []
    is_made = threading.Event()

    def on_drop(signal: Signal, reason: str) -> None:
        assert is_made.wait(PATIENCE)  # it may run before the client has a name here
        ran.append(reason)
        if do == "exit":
            sys.exit()
        hold(client, "from the hook")

    with Peer(keep_answering()) as peer:
        client = ClockNext(KEY, base_url=peer.url, batch=PATIENT, spool=path, on_drop=on_drop)
        is_made.set()
        assert wait_until(lambda: ran == ["expired"])
        hold(client, "a")
        report = client.close()
        assert report.delivered == 1
        assert client.stats().dropped["expired"] == 1
        assert keys_at(peer) == {"a": 1}
    told = " ".join(log.take())
    assert ("SystemExit" if do == "exit" else "A hook must not wait") in told


@in_each_driver
async def test_many_clients_share_a_directory(world: World, path: Path) -> None:
    """Each has a file of its own, and leaves nothing behind, neither a file nor a thread."""
    with emulator() as server:
        clients = [world.create(server.url, batch=PATIENT_BATCH, spool=path) for _ in range(8)]
        async with AsyncExitStack() as stack:
            for number, client in enumerate(clients):
                await stack.enter_async_context(client)
                await record(client, f"k{number}")
            assert len(files(path, ".db")) == 8
        check_billed_once(server.ledger, [f"k{number}" for number in range(8)])
        assert {each.status for each in server.ledger.requests} == {200}
    assert [*path.iterdir()] == []
    assert [thread.name for thread in workers()] == []


def drop(clients: list[T]) -> None:
    clients.clear()
    gc.collect()


def test_a_client_of_threads_that_is_dropped_delivers_and_lets_go_of_its_spool(path: Path) -> None:
    with Peer(keep_answering()) as peer:
        clients = [ClockNext(KEY, base_url=peer.url, batch=BRIEF, spool=path)]
        hold(clients[0], "a")
        with pytest.warns(ResourceWarning, match="unclosed"):
            drop(clients)
        assert wait_until(lambda: workers() == [])
        assert keys_at(peer) == {"a": 1}
    assert [*path.iterdir()] == []


def test_a_client_of_asyncio_that_is_dropped_delivers_and_lets_go_of_its_spool(path: Path) -> None:
    async def main() -> None:
        clients = [AsyncClockNext(KEY, base_url=peer.url, batch=BRIEF, spool=path)]
        await clients[0].signals.wallet(customer_id="cus_1", model="m", idempotency_key="a")
        with pytest.warns(ResourceWarning, match="unclosed"):
            drop(clients)
        assert await asyncio.to_thread(wait_until, lambda: workers() == [])

    with Peer(keep_answering()) as peer:
        asyncio.run(main())
        assert keys_at(peer) == {"a": 1}
    assert [*path.iterdir()] == []


@pytest.mark.parametrize("kind", ["asyncio", "trio"])
def test_a_client_dropped_after_its_loop_leaves_its_signals_to_the_next(kind: str, path: Path) -> None:
    async def record() -> None:  # no frame below asyncio.run knows the client, or it might keep it
        await clients[0].signals.wallet(customer_id="cus_1", model="m", idempotency_key="a")

    async def block() -> None:
        with trio.CancelScope() as scope:
            async with clients[0]:
                await record()
                scope.cancel()

    make = AsyncClockNext if kind == "asyncio" else TrioClockNext
    clients = [make(KEY, base_url=NOWHERE, spool=path)]
    if kind == "asyncio":
        asyncio.run(record())
    else:
        trio.run(block)
    with pytest.warns(ResourceWarning, match="unclosed"):
        drop(clients)
    assert wait_until(lambda: workers() == [])
    with Peer(keep_answering()) as peer, ClockNext(KEY, base_url=peer.url, spool=path) as heir:
        assert wait_until(lambda: heir.stats().delivered == 1)
        assert keys_at(peer) == {"a": 1}


EXITS: dict[Kind, str] = {
    "threads": """
client = ClockNext(KEY, base_url=URL, spool=os.environ["SPOOL"])
client.signals.wallet(**WALLET, idempotency_key="held")
""",
    "asyncio": """
client = AsyncClockNext(KEY, base_url=URL, spool=os.environ["SPOOL"])
asyncio.run(client.signals.wallet(**WALLET, idempotency_key="held"))
""",
    "trio": """
client = TrioClockNext(KEY, base_url=URL, spool=os.environ["SPOOL"])
async def main():
    with trio.CancelScope() as scope:
        async with client:
            await client.signals.wallet(**WALLET, idempotency_key="held")
            scope.cancel()
trio.run(main)
""",
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_exit_with_signals_held_leaves_them_in_the_spool(kind: Kind, path: Path) -> None:
    """The service is down: the exit takes no longer than it may, only warns of that, and nothing is lost."""
    ended = run(EXITS[kind], NOWHERE, SPOOL=str(path), EXIT_TIMEOUT="0.3")
    assert (ended.code, ended.output) == (0, "")
    assert all(line.startswith("clocknext WARNING ") for line in ended.errors.splitlines()), ended.errors
    assert len(files(path, ".db")) == 1
    with Peer(keep_answering()) as peer, ClockNext(KEY, base_url=peer.url, spool=path) as heir:
        assert wait_until(lambda: heir.stats().delivered == 1)
        assert keys_at(peer) == {"held": 1}
