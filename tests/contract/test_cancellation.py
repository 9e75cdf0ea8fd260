"""Cancellation: whatever is cut short, signals stay held under their keys and are billed once."""

import asyncio
import time
from dataclasses import replace
from typing import Protocol

import pytest

from clocknext_core import BatchPolicy, RetryPolicy
from clocknext_transports import AsyncClockNext
from clocknext_transports.emulator import Hold, Ledger, OnHold, Received, Reply, emulator, scripted
from tests.contract.answers import by_key, held, in_turn, priced, record, record_all, refused, sent_to
from tests.contract.clients import Client
from tests.contract.worlds import KEY, PATIENT_BATCH, QUICK, Trio, World, in_tasks

AT_ONCE = BatchPolicy(max_size=1, max_interval=3600.0, max_concurrency=3, max_queue_size=3, overflow="block")
KEYS = ["a", "b", "c"]


class Answerer(Protocol):
    """A function that answers requests."""

    def __call__(self, request: Received, /) -> OnHold: ...


def billed_but_held(ledger: Ledger, gate: Hold) -> Answerer:
    """Bill a signal at once, and hold its answer back."""

    def answer(request: Received) -> OnHold:
        return held(gate, Reply(ledger.handle(request, now=time.time())))

    return answer


@in_tasks
async def test_a_cancelled_flush_leaves_the_signals_in_flight(world: World) -> None:
    gate = Hold()
    with scripted([held(gate)]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH) as client:
            await record_all(client, ["a", "b"])

            async def flush() -> None:
                await client.flush()

            await world.cancelled(flush, when=lambda: world.arrived(gate, 2))
            assert client.pending == 2
            gate.release()
            report = await client.flush()
            assert (report.delivered, list(report.failed), report.pending) == (2, [], 0)
        assert sorted(sent_to(server)) == ["a", "b"]


@in_tasks
async def test_a_cancelled_call_ends_at_once_and_can_be_repeated_under_its_key(world: World) -> None:
    ledger, gate = Ledger(), Hold()
    with scripted([billed_but_held(ledger, gate)]) as server:
        async with world.open(server.url) as client:

            async def call() -> None:
                await record(client, "a", wait=True)

            await world.cancelled(call, when=lambda: world.arrived(gate))
            assert client.pending == 0
            gate.release()
            assert (await record(client, "a", wait=True)).usage_log is not None
        first, second = server.requests
        assert first.body == second.body
    assert ledger.billed("a") == 1
    assert world.hooks.seen == []


@in_tasks
async def test_a_cancelled_block_leaves_its_signals_held_and_the_next_delivers_them(world: World) -> None:
    ledger, gate = Ledger(), Hold()
    with scripted([billed_but_held(ledger, gate)]) as server:
        client = world.create(server.url, batch=AT_ONCE)

        async def block() -> None:
            async with client:
                await record_all(client, KEYS)
                await world.forever()

        await world.cancelled(block, when=lambda: world.arrived(gate, 3))
        assert client.pending == 3
        assert world.hooks.seen == []
        gate.release()
        async with client:
            report = await client.flush()
            assert (report.delivered, list(report.failed), report.pending) == (3, [], 0)
        bodies = [request.body for request in server.requests]
        assert len(bodies) == 6
        assert sorted(bodies[:3]) == sorted(bodies[3:])
    assert [ledger.billed(key) for key in KEYS] == [1, 1, 1]


@in_tasks
async def test_an_attempt_that_was_cancelled_is_not_counted(world: World) -> None:
    gate = Hold()
    with scripted([by_key({"a": in_turn(held(gate), refused(503), priced())})]) as server:
        retry = RetryPolicy(max_attempts=2, base_delay=0.001, max_delay=0.001)
        client = world.create(server.url, batch=AT_ONCE, retry=retry)

        async def block() -> None:
            async with client:
                await record(client, "a")
                await world.forever()

        await world.cancelled(block, when=lambda: world.arrived(gate))
        async with client:
            report = await client.flush()
            assert (report.delivered, list(report.failed)) == (1, [])
        assert sent_to(server) == ["a", "a", "a"]
        assert len({request.body for request in server.requests}) == 1
    assert world.hooks.seen == [("on_retry", 1, "a"), ("on_flush", 1, None)]


@in_tasks
async def test_a_block_cancelled_in_its_flush_leaves_its_signals_held(world: World) -> None:
    ledger, gate = Ledger(), Hold()
    with scripted([billed_but_held(ledger, gate)]) as server:
        client = world.create(server.url, batch=PATIENT_BATCH)

        async def block() -> None:
            async with client:
                await record_all(client, KEYS)
                await client.flush()

        await world.cancelled(block, when=lambda: world.arrived(gate, 3))
        assert client.pending == 3
        gate.release()
        async with client:
            assert (await client.flush()).pending == 0
    assert [ledger.billed(key) for key in KEYS] == [1, 1, 1]


@in_tasks
async def test_a_block_cancelled_while_it_closes_leaves_its_signals_held_and_no_task(world: World) -> None:
    ledger, gate = Ledger(), Hold()
    with scripted([billed_but_held(ledger, gate)]) as server:
        client = world.create(server.url, batch=PATIENT_BATCH)

        async def block() -> None:
            async with client:
                await record_all(client, KEYS)

        await world.cancelled(block, when=lambda: world.arrived(gate, 3))
        world.check_no_task_runs()
        assert client.pending == 3
        gate.release()
        async with client:
            assert (await client.flush()).pending == 0
    assert [ledger.billed(key) for key in KEYS] == [1, 1, 1]


@in_tasks
async def test_after_a_cancelled_close_the_block_can_be_left(world: World) -> None:
    gate = Hold()
    with scripted([held(gate)]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH) as client:
            await record(client, "a")

            async def close() -> None:
                await client.close()

            await world.cancelled(close, when=lambda: world.arrived(gate))
            assert client.pending == 1
            gate.release()
            await world.hooked(lambda seen: ("on_flush", 1, None) in seen)
            assert (await record(client, "b")).dropped == "closed"
        assert sent_to(server) == ["a"]


@in_tasks
async def test_a_cancelled_wait_for_room_records_nothing(world: World) -> None:
    gate = Hold()
    with scripted([held(gate)]) as server:
        async with world.open(server.url, batch=AT_ONCE) as client:
            await record_all(client, KEYS)
            await world.arrived(gate, 3)

            async def call() -> None:
                await record(client, "d")

            await world.cancelled(call, when=world.turn)
            gate.release()
            report = await client.flush()
            assert (report.delivered, list(report.failed)) == (3, [])
        assert sorted(sent_to(server)) == KEYS
    assert world.hooks.of("on_drop") == []


@in_tasks
async def test_a_call_that_is_cancelled_as_its_room_comes_returns_under_trio(world: World) -> None:
    """Cancel after each number of turns of the event loop, until most calls have ended by themselves."""
    returned: set[int] = set()
    ended = 0
    with emulator() as server:
        async with world.open(server.url, batch=replace(AT_ONCE, max_queue_size=1)) as client:
            for turns in range(2000):

                async def calls(turns: int = turns) -> None:
                    await record(client, f"first {turns}")
                    await record(client, f"second {turns}")
                    returned.add(turns)

                ended += await world.cancelled_after(turns, calls)
                await client.flush()
                if ended == 20:
                    break
    billed = {turns for turns in range(2000) if server.ledger.billed(f"second {turns}")}
    assert len(returned) >= 20
    assert returned == billed if isinstance(world, Trio) else returned <= billed


@in_tasks
@pytest.mark.parametrize("ends", ["forever", "flush", "close", "leave"])
async def test_a_block_may_be_cancelled_anywhere(world: World, ends: str) -> None:
    """Cancel after each number of turns of the event loop, until most blocks have ended by themselves."""
    ended_by_itself = 0
    with emulator() as server:
        for turns in range(0, 40, 2 if world.uses_httpx else 1):  # making a client of httpx takes long
            block = _Block(world, server.url, ends, turns)
            ended_by_itself += await world.cancelled_after(turns, block.run)
            world.check_no_task_runs()
            async with block.client as client:
                report = await client.flush()
                assert (list(report.failed), report.pending, client.pending) == ([], 0, 0)
            assert [server.ledger.billed(key) for key in block.recorded] == [1] * len(block.recorded)
            if ended_by_itself == 3:
                break
        assert len({signal.idempotency_key for signal in server.ledger.signals}) == len(server.ledger.signals)
        assert len(server.ledger.signals) > 3


class _Block:
    """Records a few signals in a block, and leaves it in one of several ways."""

    def __init__(self, world: World, url: str, ends: str, number: int) -> None:
        self.client = world.create(url, batch=BatchPolicy(max_size=2, max_concurrency=2))
        self.recorded: list[str] = []
        self._world = world
        self._ends = ends
        self._number = number

    async def run(self) -> None:
        async with self.client as client:
            for number in range(4):
                key = f"{self._number}.{number}"
                await record(client, key)
                self.recorded.append(key)
            match self._ends:
                case "flush":
                    await client.flush()
                case "close":
                    await client.close()
                case "forever":
                    await self._world.forever()
                case _:
                    pass


def test_a_client_of_asyncio_outlives_its_event_loop() -> None:
    ledger, gate = Ledger(), Hold()
    answer = billed_but_held(ledger, gate)
    with scripted([answer]) as server:
        client = AsyncClockNext(KEY, base_url=server.url, batch=AT_ONCE, retry=QUICK)

        async def first() -> None:
            await record_all(client, KEYS)
            assert await asyncio.to_thread(gate.wait_arrived, 10.0, count=3)

        async def second() -> None:
            assert client.pending == 3
            report = await client.flush()
            assert (report.delivered, list(report.failed), report.pending) == (3, [], 0)
            assert (await record(client, "d", wait=True)).usage_log is not None
            await record(client, "e")

        async def third() -> None:
            assert (await client.close()).pending == 0

        asyncio.run(first())
        gate.release()
        asyncio.run(second())
        asyncio.run(third())
        bodies = [request.body for request in server.requests]
        assert sorted(bodies[:3]) == sorted(bodies[3:6])
    assert [ledger.billed(key) for key in [*KEYS, "d", "e"]] == [1] * 5


def test_a_client_of_asyncio_can_be_closed_in_another_event_loop() -> None:
    with scripted([priced()]) as server:
        client = AsyncClockNext(KEY, base_url=server.url, batch=PATIENT_BATCH)

        async def deliver() -> None:
            await record(client, "a")
            assert (await client.flush()).delivered == 1

        async def close() -> None:
            assert (await client.close()).pending == 0

        asyncio.run(deliver())
        asyncio.run(close())
        assert len(server.requests) == 1


async def test_many_may_use_one_client_at_once(world: World) -> None:
    async def work(client: Client, name: int) -> None:
        for number in range(25):
            key = f"{name}.{number}"
            if number % 10 == 9:
                assert (await record(client, key, wait=True)).idempotency_key == key
            else:
                await record(client, key)
            if number % 12 == 11:
                await client.flush()

    with emulator() as server:
        batch = BatchPolicy(max_size=7, max_interval=0.01, max_concurrency=4)
        async with world.open(server.url, batch=batch) as client:
            async with world.tasks() as tasks:
                works = [tasks.start(work(client, name)) for name in range(8)]
                for each in works:
                    await each.result()
            report = await client.flush()
            assert (list(report.failed), report.pending, client.pending) == ([], 0, 0)
        assert len(server.ledger.signals) == 200
        assert all(server.ledger.billed(f"{name}.{number}") == 1 for name in range(8) for number in range(25))
    assert world.hooks.of("on_error", "on_drop", "on_retry") == []
