"""Runs against a server that bills: an agent that crashes and resumes bills its outcome once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.emulator import EmulatorServer, emulator

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
