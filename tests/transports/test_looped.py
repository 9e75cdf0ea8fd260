"""A call of the client for threads that blocks an event loop says so, once."""

import asyncio
import sys
from collections.abc import Callable, Generator

import pytest
import trio

from clocknext_transports import ClockNext
from clocknext_transports.emulator import EmulatorServer, emulator
from clocknext_transports.sync import looped


@pytest.fixture
def cnk(server: EmulatorServer, monkeypatch: pytest.MonkeyPatch) -> Generator[ClockNext, None, None]:
    monkeypatch.setattr(looped, "_warned", list[str]())
    monkeypatch.delattr(sys, "ps1", raising=False)
    with ClockNext(server.api_key, base_url=server.url) as client:
        yield client


@pytest.fixture(scope="module")
def server() -> Generator[EmulatorServer, None, None]:
    with emulator() as running:
        yield running


def awaited(cnk: ClockNext) -> None:
    cnk.signals.wallet(customer_id="cus_123", model="gpt-4o", wait=True)


def read(cnk: ClockNext) -> None:
    cnk.customers.get("cus_123")


def buffered(cnk: ClockNext) -> None:
    cnk.signals.wallet(customer_id="cus_123", model="gpt-4o")


def in_asyncio(call: Callable[[], None]) -> None:
    async def main() -> None:
        call()

    asyncio.run(main())


def in_trio(call: Callable[[], None]) -> None:
    async def main() -> None:
        call()

    trio.run(main)


@pytest.mark.parametrize("call", [awaited, read])
@pytest.mark.parametrize(("run", "client"), [(in_asyncio, "AsyncClockNext"), (in_trio, "TrioClockNext")])
def test_a_call_that_blocks_a_loop_is_warned_about_once(
    cnk: ClockNext,
    call: Callable[[ClockNext], None],
    run: Callable[[Callable[[], None]], None],
    client: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(2):
        run(lambda: call(cnk))
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("clocknext", "WARNING")
    assert f"Use {client} there" in record.getMessage()


@pytest.mark.parametrize("run", [in_asyncio, in_trio])
def test_a_call_that_blocks_no_loop_is_not(
    cnk: ClockNext, run: Callable[[Callable[[], None]], None], caplog: pytest.LogCaptureFixture
) -> None:
    awaited(cnk)
    run(lambda: buffered(cnk))

    async def in_a_thread() -> None:
        await asyncio.to_thread(awaited, cnk)

    asyncio.run(in_a_thread())
    assert caplog.records == []


def test_a_notebook_runs_its_cells_in_a_loop(
    cnk: ClockNext, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    in_asyncio(lambda: awaited(cnk))
    assert caplog.records == []
