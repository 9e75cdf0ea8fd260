"""Clients that have nothing in the background: what happens at an input is seen at once all the same."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import trio

from clocknext_core import BatchPolicy, FlushReport, Signal
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.spool.keeper import Keeper

KEY = "cnk_test"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the interpreter refuse to start threads."""

    def refuse(self: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.mark.usefixtures("no_threads")
def test_a_client_whose_threads_can_not_be_started_reports_a_drop() -> None:
    dropped: list[str] = []

    def on_drop(_: Signal, reason: str) -> None:
        dropped.append(reason)

    client = ClockNext(KEY, base_url=NOWHERE, batch=BatchPolicy(max_queue_size=1), on_drop=on_drop)
    client.signals.credit(customer_id="cus_1", model="m", key="k")
    client.signals.credit(customer_id="cus_1", model="m", key="k")
    assert dropped == ["queue_full"]
    client.close(timeout=0)
    assert dropped == ["queue_full", "closed"]


def test_a_client_for_trio_with_a_spool_flushes_and_closes_outside_its_block(tmp_path: Path) -> None:
    async def run() -> list[FlushReport]:
        client = TrioClockNext(KEY, base_url=NOWHERE, spool=tmp_path)
        with trio.fail_after(10):  # its patience is 30 seconds
            return [await client.flush(), await client.close()]

    assert trio.run(run) == [FlushReport(0), FlushReport(0)]


def test_a_client_for_asyncio_with_a_spool_begins_to_look_in_a_loop_and_ends_in_another(
    tmp_path: Path,
) -> None:
    async def flush() -> FlushReport:
        return await client.flush()

    async def close() -> FlushReport:
        return await client.close()

    client = AsyncClockNext(KEY, base_url=NOWHERE, spool=tmp_path)
    assert [asyncio.run(flush()), asyncio.run(close())] == [FlushReport(0), FlushReport(0)]


def test_closing_waits_for_the_end_of_the_spools_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only for its report: a directory that is removed after closing must not be in use."""
    joined: list[bool] = []
    join = Keeper.join

    def noted(self: Keeper) -> None:
        join(self)
        joined.append(not any(thread.name == "clocknext-spool" for thread in threading.enumerate()))

    monkeypatch.setattr(Keeper, "join", noted)

    async def in_asyncio() -> None:
        client = AsyncClockNext(KEY, base_url=NOWHERE, spool=tmp_path / "asyncio")
        await client.flush(timeout=0)
        await client.close(timeout=0)

    async def in_trio() -> None:
        client = TrioClockNext(KEY, base_url=NOWHERE, spool=tmp_path / "trio")
        await client.flush(timeout=0)
        await client.close(timeout=0)

    runs: list[Callable[[], object]] = [lambda: asyncio.run(in_asyncio()), lambda: trio.run(in_trio)]
    for run in runs:
        joined.clear()
        run()
        assert joined == [True]
