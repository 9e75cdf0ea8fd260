"""Runs against a server that bills: an agent that crashes and resumes bills its outcome once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from clocknext_core import BatchPolicy
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.emulator import EmulatorServer, Hold, emulator, scripted
from tests.contract.answers import held, priced, record, sent_to
from tests.contract.worlds import PATIENT_BATCH, World, in_tasks

RUN: Any = {"customer_id": "cus_123", "run_id": "run_1", "key_prefix": "resolved_ticket", "model": "gpt-4o"}
"""What every start of the run is given."""


class CrashError(Exception):
    """The agent's own trouble."""


def threads(server: EmulatorServer) -> None:
    with ClockNext(server.api_key, base_url=server.url) as client:
        with pytest.raises(CrashError), client.runs.start(**RUN) as run:  # noqa: PT012 - the block is the test
            run.step("triage", tokens={"input": 10})
            run.step("answer")
            raise CrashError
        client.flush()
        check_nothing_is_billed(server)
        for _ in range(2):  # and once more, by one that does not know that it had succeeded
            with client.runs.start(**RUN) as run:
                run.step("triage", tokens={"input": 10})
                run.step("answer")
                run.step("confirm")


async def event_loop(client: AsyncClockNext | TrioClockNext, server: EmulatorServer) -> None:
    async with client:
        with pytest.raises(CrashError):  # noqa: PT012 - the block is the test
            async with client.runs.start(**RUN) as run:
                await run.step("triage", tokens={"input": 10})
                await run.step("answer")
                raise CrashError
        await client.flush()
        check_nothing_is_billed(server)
        for _ in range(2):
            async with client.runs.start(**RUN) as run:
                await run.step("triage", tokens={"input": 10})
                await run.step("answer")
                await run.step("confirm")


def under_asyncio(server: EmulatorServer) -> None:
    asyncio.run(event_loop(AsyncClockNext(server.api_key, base_url=server.url), server))


def under_trio(server: EmulatorServer) -> None:
    async def main() -> None:
        await event_loop(TrioClockNext(server.api_key, base_url=server.url), server)

    trio.run(main)


def check_nothing_is_billed(server: EmulatorServer) -> None:
    assert len(server.ledger.signals) == 2
    assert server.ledger.bill("cus_123").outcomes == {}


@pytest.mark.parametrize("under", [threads, under_asyncio, under_trio])
def test_a_run_that_breaks_off_and_is_resumed_is_billed_once(
    under: Callable[[EmulatorServer], Awaitable[None] | None],
) -> None:
    with emulator() as server:
        under(server)
        assert server.ledger.bill("cus_123").outcomes == {"resolved_ticket": 1}
        keys = sorted(str(each.idempotency_key) for each in server.ledger.signals)
        assert keys == [
            "run_1/resolved_ticket.answer/1",
            "run_1/resolved_ticket.confirm/1/complete",
            "run_1/resolved_ticket.triage/1",
        ]


# Cancellation: a step that returned is recorded, whatever is cancelled afterwards


RUN_OF_A: Any = {"customer_id": "cus_123", "run_id": "r", "model": "gpt-4o"}


@in_tasks
@pytest.mark.parametrize("wait", [None, True])
async def test_the_steps_of_a_cancelled_block_are_held(world: World, wait: bool | None) -> None:
    taken: list[str] = []
    with scripted([priced()]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH) as client:

            async def block() -> None:
                async with client.runs.start(**RUN_OF_A, wait=wait) as run:
                    await run.step("a")
                    taken.append("a")
                    await world.forever()

            async def stepped() -> None:
                while not taken:
                    await world.turn()

            await world.cancelled(block, when=stepped)
            assert client.pending == 1
            assert (await client.flush()).delivered == 1
        assert sent_to(server) == ["r/a/1"]


@in_tasks
async def test_a_step_whose_awaited_recording_is_cancelled_is_held(world: World) -> None:
    gate = Hold()
    with scripted([held(gate)]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH) as client:

            async def block() -> None:
                async with client.runs.start(**RUN_OF_A, wait=True) as run:
                    await run.step("a")
                    await run.step("b")  # sends a, and waits

            await world.cancelled(block, when=lambda: world.arrived(gate))
            assert client.pending == 2
            gate.release()
            assert (await client.flush()).delivered == 2
        assert sorted(sent_to(server)) == ["r/a/1", "r/a/1", "r/b/1"]


@in_tasks
@pytest.mark.parametrize("turns", range(12))
async def test_every_step_that_returned_is_recorded_whenever_the_block_is_cancelled(
    world: World, turns: int
) -> None:
    returned: list[str] = []
    with scripted([priced()]) as server:
        batch = BatchPolicy(max_size=2, max_interval=3600.0)
        async with world.open(server.url, batch=batch) as client:

            async def block() -> None:
                async with client.runs.start(**RUN_OF_A) as run:
                    for key in "abcdef":
                        await run.step(key)
                        returned.append(f"r/{key}/1")
                    await world.forever()

            assert not await world.cancelled_after(turns, block)
            report = await client.flush()
            assert (list(report.failed), report.pending, client.pending) == ([], 0, 0)
        sent = sent_to(server)
        assert {*returned} <= {*sent}
        assert len(sent) == len({*sent}), "none was recorded twice"


@in_tasks
@pytest.mark.parametrize("turns", range(8))
async def test_a_signal_is_recorded_if_its_call_returned_and_only_then(world: World, turns: int) -> None:
    returned: list[str] = []
    with scripted([priced()]) as server:
        batch = BatchPolicy(max_size=2, max_interval=3600.0)
        async with world.open(server.url, batch=batch) as client:

            async def block() -> None:
                for key in "abcdef":
                    await record(client, key)
                    returned.append(key)
                await world.forever()

            assert not await world.cancelled_after(turns, block)
            assert (await client.flush()).pending == 0
        assert sorted(sent_to(server)) == returned
