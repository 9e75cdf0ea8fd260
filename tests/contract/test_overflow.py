"""A full queue: the newest or the oldest signal is dropped, the call waits, or it raises."""

import time

import pytest

from clocknext_core import BatchPolicy, QueueFullError
from clocknext_core.config import Overflow
from clocknext_transports.emulator import Hold, scripted
from tests.contract.answers import by_key, held, priced, record, record_all, sent_to
from tests.contract.worlds import World


def full_at(
    size: int,
    overflow: Overflow,
    *,
    max_size: int = 1000,
    max_concurrency: int = 5,
    block_timeout: float = 10.0,
    max_queue_bytes: int = 1_000_000,
) -> BatchPolicy:
    """Make a policy that starts to send at `max_size`, or when the queue is full."""
    return BatchPolicy(
        max_size=max_size,
        max_interval=3600.0,
        max_concurrency=max_concurrency,
        max_queue_size=size,
        overflow=overflow,
        block_timeout=block_timeout,
        max_queue_bytes=max_queue_bytes,
    )


async def test_the_newest_is_dropped(world: World) -> None:
    gate = Hold()
    with scripted([held(gate)]) as server:
        async with world.open(server.url, batch=full_at(2, "drop_newest")) as client:
            await record_all(client, ["a", "b"])
            third = await record(client, "c")
            assert (third.queued, third.dropped, client.pending) == (True, "queue_full", 2)
            await world.hooked(lambda seen: ("on_drop", "queue_full", "c") in seen)
            gate.release()
            report = await client.flush()
            assert (report.delivered, report.pending) == (2, 0)
            ((failed),) = report.failed
            assert failed.signal.idempotency_key == "c"
            assert (str(failed.error), failed.error.retryable) == (
                "The signal was dropped: queue_full.",
                True,
            )
            assert (await record(client, "d")).dropped is None
        assert sorted(sent_to(server)) == ["a", "b", "d"]
    assert world.hooks.seen == [("on_drop", "queue_full", "c"), ("on_flush", 2, None), ("on_flush", 1, None)]


async def test_the_oldest_makes_room(world: World) -> None:
    gate = Hold()
    with scripted([held(gate)]) as server:
        batch = full_at(3, "drop_oldest", max_size=1, max_concurrency=1)
        async with world.open(server.url, batch=batch) as client:
            await record(client, "first")
            await world.arrived(gate)
            await record_all(client, ["a", "b"])
            third = await record(client, "c")
            assert (third.queued, third.dropped, client.pending) == (True, None, 3)
            gate.release()
            report = await client.flush()
            assert (report.delivered, report.pending) == (3, 0)
            assert [each.signal.idempotency_key for each in report.failed] == ["a"]
        assert sent_to(server) == ["first", "b", "c"]
    assert world.hooks.seen == [("on_drop", "queue_full", "a"), ("on_flush", 3, None)]


async def test_the_oldest_makes_room_only_if_it_was_never_attempted(world: World) -> None:
    gate = Hold()
    with scripted([held(gate)]) as server:
        async with world.open(server.url, batch=full_at(2, "drop_oldest", max_size=1)) as client:
            await record_all(client, ["a", "b"])
            await world.arrived(gate, 2)
            assert (await record(client, "c")).dropped == "queue_full"
            gate.release()
            assert (await client.flush()).delivered == 2
        assert sorted(sent_to(server)) == ["a", "b"]
    assert world.hooks.seen == [("on_drop", "queue_full", "c"), ("on_flush", 2, None)]


async def test_the_call_raises(world: World) -> None:
    gate = Hold()
    with scripted([held(gate)]) as server:
        async with world.open(server.url, batch=full_at(2, "raise")) as client:
            await record_all(client, ["a", "b"])
            with pytest.raises(QueueFullError) as caught:
                await record(client, "c")
            assert (caught.value.retryable, caught.value.idempotency_key) == (True, "c")
            assert client.pending == 2
            gate.release()
            report = await client.flush()
            assert (report.delivered, list(report.failed)) == (2, [])
            await record(client, "c")
        assert sorted(sent_to(server)) == ["a", "b", "c"]
    assert world.hooks.seen == [("on_flush", 2, None), ("on_flush", 1, None)]


@pytest.mark.parametrize("overflow", ["block", "raise"])
async def test_a_signal_larger_than_the_whole_queue_raises_at_once_and_holds_up_no_other(
    world: World, overflow: Overflow
) -> None:
    policy = full_at(5, overflow, max_size=1, max_queue_bytes=1000, block_timeout=60.0)
    with scripted([priced()]) as server:
        async with world.open(server.url, batch=policy) as client:
            with pytest.raises(QueueFullError, match="max_queue_bytes is 1000") as caught:
                await record(client, "huge", custom={"text": "x" * 1000})
            assert (caught.value.retryable, caught.value.idempotency_key) == (False, "huge")
            await record_all(client, ["a", "b"])
            assert (await client.flush()).delivered == 2
            assert client.stats().recorded == 2
    assert world.hooks.of("on_drop") == []


async def test_the_call_waits_until_there_is_room(world: World) -> None:
    gate = Hold()
    with scripted([held(gate)]) as server:
        async with world.open(server.url, batch=full_at(2, "block", max_size=1)) as client:
            async with world.tasks() as tasks:
                await record_all(client, ["a", "b"])
                await world.arrived(gate, 2)
                calls = [tasks.start(record(client, key)) for key in ("c", "d", "e")]
                assert (client.pending, len(server.requests)) == (2, 2)
                gate.release()
                results = [await call.result() for call in calls]
            assert [(each.queued, each.dropped) for each in results] == [(True, None)] * 3
            assert (await client.flush()).pending == 0
        assert sorted(sent_to(server)) == ["a", "b", "c", "d", "e"]
        assert server.max_in_service == 2
    assert world.hooks.of("on_drop") == []


async def test_the_call_waits_no_longer_than_told(world: World) -> None:
    gate = Hold()
    with scripted([held(gate)]) as server:
        async with world.open(
            server.url, batch=full_at(1, "block", max_size=1, block_timeout=0.05)
        ) as client:
            await record(client, "a")
            await world.arrived(gate)
            began_at = time.monotonic()
            result = await record(client, "b")
            assert time.monotonic() - began_at >= 0.05
            assert (result.queued, result.dropped, client.pending) == (True, "queue_full", 1)
            gate.release()
            report = await client.flush()
            assert (report.delivered, [each.signal.idempotency_key for each in report.failed]) == (1, ["b"])
        assert sent_to(server) == ["a"]
    assert world.hooks.seen == [("on_drop", "queue_full", "b"), ("on_flush", 1, None)]


async def test_awaited_signals_take_no_room(world: World) -> None:
    gate = Hold()
    with scripted([by_key({"a": held(gate)})]) as server:
        async with world.open(server.url, batch=full_at(1, "raise")) as client:
            await record(client, "a")
            await world.arrived(gate)
            assert (await record(client, "b", wait=True)).usage_log is not None
            assert client.pending == 1
            gate.release()
        assert sent_to(server) == ["a", "b"]


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest", "block", "raise"])
async def test_a_full_queue_is_sent_at_once_where_nothing_was_in_flight(
    world: World, overflow: Overflow
) -> None:
    """However large a batch is, and however long its interval: a full queue must not wait for either."""
    with scripted([priced()]) as server:
        async with world.open(server.url, batch=full_at(10, overflow)) as client:
            await record_all(client, [f"k{number}" for number in range(10)])
            await world.hooked(lambda seen: ("on_flush", 10, None) in seen)
            assert client.pending == 0
        assert len(sent_to(server)) == 10
    assert world.hooks.of("on_drop", "on_error") == []
