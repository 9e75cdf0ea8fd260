"""Clients that have nothing in the background: what happens at an input is seen at once all the same."""

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import trio

from clocknext_core import BatchPolicy, FlushReport, Signal
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.spool.keeper import Keeper
from tests.life.support import keys, run
from tests.transports.support import Peer, keep_answering

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


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 has brought what has no daemon threads")
def test_in_a_subinterpreter_flushing_and_closing_deliver() -> None:
    within = f"""
import sys
sys.path[:0] = {sys.path!r}
from clocknext_transports import ClockNext
client = ClockNext(KEY, base_url=URL)
client.signals.wallet(customer_id="cus_1", model="m", idempotency_key=f"key-{{NUMBER}}-flushed")
delivered = client.flush(timeout=10).delivered
client.signals.wallet(customer_id="cus_1", model="m", idempotency_key=f"key-{{NUMBER}}-closed")
print(delivered, client.close(timeout=10).pending, flush=True)
"""
    program = f"""
import importlib
name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
interpreters = importlib.import_module(name)
for number in range(2):
    made = interpreters.create()
    interpreters.run_string(made, f"KEY, URL, NUMBER = {{KEY!r}}, {{URL!r}}, {{number}}" + {within!r})
    interpreters.destroy(made)
"""
    with Peer(keep_answering()) as peer:
        ended = run(program, peer.url)
        assert (ended.code, ended.output) == (0, "1 0\n1 0\n"), ended.errors
        expected = {f"key-{number}-{how}": 1 for number in range(2) for how in ("flushed", "closed")}
        assert keys(peer) == expected


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
    for close in runs:
        joined.clear()
        close()
        assert joined == [True]
