"""What a caller meets who waits while others leave, whose time is over, or into whose call a hook raises."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from clocknext_core import BatchPolicy, Signal, TrackResult
from clocknext_core.states import DropReason
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.client import driver as driver_of_all
from clocknext_transports.client.script import Await, Event
from clocknext_transports.client.serving import Serving
from clocknext_transports.emulator import Hold, scripted
from clocknext_transports.loops import calls as calls_of_loops
from clocknext_transports.spool import SqliteSpool, Stored
from tests.contract.answers import by_key, held, priced, record, record_all, sent_to
from tests.contract.clients import PATIENCE, Client
from tests.contract.tasks import Task
from tests.contract.worlds import World, in_tasks


def serving_of(client: Client) -> Serving:
    """Return what serves a client."""
    return _own(client)._driver._serving  # pyright: ignore[reportPrivateUsage]


def hold(client: Client, key: str) -> None:
    """Record a signal as a finalizer would: without waiting for anything, not even for the lock."""
    _own(client).nowait.signals.wallet(customer_id="cus_1", model="m", idempotency_key=key)


def _own(client: object) -> ClockNext | AsyncClockNext | TrioClockNext:
    # That of threads is wrapped; another world's has the same parts.
    return cast("ClockNext | AsyncClockNext | TrioClockNext", getattr(client, "_client", client))


def _come_late(_: object) -> None:
    """Do nothing in place of `_have_attended`."""


class OwnError(BaseException):
    """Neither an `Exception` nor one that Python knows."""


async def test_after_a_hook_has_raised_into_a_call_the_next_calls_hooks_run(world: World) -> None:
    told: list[str | None] = []

    def on_drop(signal: Signal, reason: DropReason) -> None:
        told.append(signal.idempotency_key)
        if len(told) == 1:
            raise OwnError

    with scripted([priced()]) as server:
        async with world.open(server.url, on_drop=on_drop) as client:
            await client.close()
            with pytest.raises(OwnError):
                await record(client, "a")
            for key in ("b", "c"):
                assert (await record(client, key)).dropped == "closed"
    assert told == ["a", "b", "c"]


@in_tasks
async def test_a_call_that_waits_behind_one_that_leaves_is_let_in_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would be let in when it looks for itself, or when something else happens."""
    monkeypatch.setattr(calls_of_loops.Calls, "look_every", 3600.0)
    first, second = Hold(), Hold()
    policy = BatchPolicy(
        max_size=1, max_queue_size=2, max_queue_bytes=1000, overflow="block", block_timeout=3600.0
    )
    answers = by_key({"a": held(first), "b": held(second)})
    with scripted([answers]) as server:
        async with world.open(server.url, batch=policy) as client, world.tasks() as tasks:
            await record_all(client, ["a", "b"])
            await world.arrived(first)
            await world.arrived(second)

            async def large() -> None:
                await record(client, "large", custom={"text": "x" * 750})

            async def until_another_waits_behind_it() -> None:
                await world.turn()
                behind.append(tasks.start(record(client, "small")))
                await world.turn()
                second.release()  # now there is room for the small one, and the large one is before it
                while client.pending > 1:
                    await world.turn()

            behind: list[Task[TrackResult]] = []
            await world.cancelled(large, when=until_another_waits_behind_it)
            (call,) = behind
            result = await call.result()
            assert (result.queued, result.dropped) == (True, None)
            assert first.arrived == 1
            first.release()
            assert (await client.flush()).pending == 0
        assert sorted(sent_to(server)) == ["a", "b", "small"]


async def test_a_flush_covers_what_was_recorded_while_the_lock_was_held(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such signals wait in an inbox, which whoever comes next hands to the outbox."""
    monkeypatch.setattr(driver_of_all.Driver, "_have_attended", _come_late)
    with scripted([priced()]) as server:
        async with world.open(server.url, batch=BatchPolicy(max_size=1000, max_interval=3600.0)) as client:
            with serving_of(client).lock:
                hold(client, "a")
            assert client.stats().recorded == 0
            report = await client.flush()
            assert (report.delivered, report.pending) == (1, 0)
            with serving_of(client).lock:
                hold(client, "b")
            report = await client.close()
            assert (report.delivered, report.pending) == (1, 0)
        assert sent_to(server) == ["a", "b"]


@in_tasks
async def test_calls_that_never_suspend_do_not_starve_the_task_that_sends(world: World) -> None:
    gate = Hold()
    policy = BatchPolicy(max_size=10, max_interval=3600.0)
    with scripted([held(gate)]) as server:
        async with world.open(server.url, batch=policy) as client:
            await record_all(client, [f"key-{number}" for number in range(5 * policy.max_size)])
            assert client.stats().in_flight == policy.max_concurrency
            gate.release()
            assert (await client.flush()).pending == 0


@in_tasks
async def test_a_call_that_leaves_is_forgotten(world: World) -> None:
    gate = Hold()
    policy = BatchPolicy(max_size=1, max_queue_size=1, overflow="block", block_timeout=3600.0)
    with scripted([held(gate)]) as server:
        async with world.open(server.url, batch=policy) as client:
            await record(client, "a")
            await world.arrived(gate)

            async def call() -> None:
                await record(client, "b")

            await world.cancelled(call, when=world.turn)
            assert serving_of(client)._waiters == {}  # pyright: ignore[reportPrivateUsage]
            gate.release()


class SlowSpool(SqliteSpool):
    """A spool whose disk is stuck until a test lets it go on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.may_store = threading.Event()

    def append(self, signals: Sequence[Stored]) -> None:
        """Store signals, late."""
        assert self.may_store.wait(PATIENCE)
        super().append(signals)


async def test_a_call_whose_time_is_over_looks_again_only_after_a_pause(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the disk, however long that takes, and must not keep a processor busy meanwhile."""
    spool = SlowSpool(tmp_path / "spool")
    limits: list[float | None] = []

    class Noted(Await):
        """A step of a call that waits."""

        def __init__(self, event: Event, until: float | None = None) -> None:
            super().__init__(event, until)
            limits.append(until)
            spool.may_store.set()

    monkeypatch.setattr(driver_of_all, "Await", Noted)
    monkeypatch.setattr(driver_of_all, "GLANCE", 1e9)
    with scripted([priced()]) as server:
        policy = BatchPolicy(max_size=1, block_timeout=0.0)
        async with world.open(server.url, batch=policy, spool=spool) as client:
            assert (await record(client, "a")).dropped is None
            (limit,) = limits
            assert limit is not None
            assert limit > 9e8
            monkeypatch.undo()
        assert sent_to(server) == ["a"]
