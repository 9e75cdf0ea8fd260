"""The contract suites find mistakes that are planted in transports and drivers."""

import asyncio
import gc
import inspect
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from clocknext_core import (
    Answer,
    Dropped,
    Emptied,
    FlushReport,
    HookEvent,
    HookOutput,
    Rejected,
    Request,
    Response,
    Retrying,
    Transmit,
)
from clocknext_transports.asyncio.driver import Driver
from clocknext_transports.client.hooks import Hooks
from clocknext_transports.emulator import emulator
from clocknext_transports.loops.client import LoopClient
from clocknext_transports.loops.tasks import Tasks
from clocknext_transports.process import exit as process_exit
from clocknext_transports.testing.contract import (
    PATIENCE,
    ClientContract,
    TransportContract,
)
from tests.testing.homemade import MISTAKES, Homemade
from tests.testing.test_contract import cancel_in_asyncio, in_threads, run_asyncio


def found_by(contract: type[object], **fixtures: Any) -> list[str]:
    """Run tests of a contract until one fails. Return its name, and nothing where none does."""
    for name, test in inspect.getmembers(contract(), inspect.ismethod):
        if not name.startswith("test_"):
            continue
        wanted = inspect.signature(test).parameters
        marks: Sequence[Any] = getattr(test, "pytestmark", ())
        cases: list[dict[str, Any]] = [{mark.args[0]: value} for mark in marks for value in mark.args[1]] or [
            {}
        ]
        for case in cases:
            with ExitStack() as stack:
                given = {**fixtures, **case}
                if "server" in wanted:
                    given["server"] = stack.enter_context(emulator())
                try:
                    test(**{each: given[each] for each in wanted})
                except pytest.skip.Exception:
                    pass
                except BaseException:  # noqa: BLE001 - however it shows
                    return [name]
    return []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_contract_finds_a_mistake_in_a_transport(mistake: str) -> None:
    transport = Homemade(mistake)

    def exchange(request: Request, seconds: float, /) -> Answer:
        return transport.exchange(request, deadline_at=time.monotonic() + seconds)

    assert found_by(TransportContract, exchange=exchange, together=in_threads(exchange))
    transport.close()


def test_the_contract_finds_a_transport_that_makes_its_answers_up() -> None:
    def made_up(request: Request, seconds: float, /) -> Answer:
        del request, seconds
        return Response(200, (("content-type", "application/json"),), b"Emulated organisation", 1.0)

    assert found_by(TransportContract, exchange=made_up, together=in_threads(made_up))


def test_the_contract_finds_a_client_that_sends_nothing() -> None:
    def run(url: str, scenario: Callable[[Any], Awaitable[None]], /, **options: Any) -> None:
        run_asyncio(url, scenario, **{**options, "disabled": True})

    assert found_by(ClientContract, run=run, cancel=cancel_in_asyncio)


def _sends_one_by_one(patch: pytest.MonkeyPatch) -> None:
    send = Tasks.send
    alone: dict[Tasks, asyncio.Lock] = {}

    async def send_alone(self: Tasks, transmit: Transmit) -> None:
        async with alone.setdefault(self, asyncio.Lock()):
            await send(self, transmit)

    patch.setattr(Tasks, "send", send_alone)


def _knows_no_deadline(patch: pytest.MonkeyPatch) -> None:
    exchange = Driver._exchange  # pyright: ignore[reportPrivateUsage]

    async def exchange_for_long(self: Driver, request: Request, deadline_at: float) -> Answer:
        return await exchange(self, request, deadline_at + 600)

    patch.setattr(Driver, "_exchange", exchange_for_long)


def _flushes_for_ever(patch: pytest.MonkeyPatch) -> None:
    flush = Driver.flush

    async def flush_for_long(self: Driver, timeout: float | None) -> FlushReport:
        return await flush(self, None if timeout is None else timeout + 2 * PATIENCE)

    patch.setattr(Driver, "flush", flush_for_long)


def _does_not_deliver_at_the_end(patch: pytest.MonkeyPatch) -> None:
    close = Driver.close

    async def close_at_once(self: Driver, timeout: float | None) -> FlushReport:
        return await close(self, 0.0)

    patch.setattr(Driver, "close", close_at_once)


def _is_unknown_to_the_exit(patch: pytest.MonkeyPatch) -> None:
    def forget(*_: object) -> None:
        pass

    patch.setattr(process_exit, "register", forget)


def _swallows_exceptions(patch: pytest.MonkeyPatch) -> None:
    clients: Any = LoopClient
    leave = clients.__aexit__

    async def leave_quietly(self: Any, *details: Any) -> bool:
        await leave(self, *details)
        return True

    patch.setattr(LoopClient, "__aexit__", leave_quietly)


def _runs_no_hook_for(kind: type[HookOutput]) -> Callable[[pytest.MonkeyPatch], None]:
    def mistake(patch: pytest.MonkeyPatch) -> None:
        fire = Hooks.fire

        def fire_others(self: Hooks, event: HookEvent, *, in_background: bool = False) -> None:
            if not isinstance(event, kind):
                fire(self, event, in_background=in_background)

        patch.setattr(Hooks, "fire", fire_others)

    mistake.__name__ = f"runs_no_hook_for_{kind.__name__}"
    return mistake


def _leaves_a_thread(patch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    close = Driver.close

    async def close_and_leave(self: Driver, timeout: float | None) -> FlushReport:
        threading.Thread(target=end.wait, args=(PATIENCE,), name="clocknext left", daemon=True).start()
        return await close(self, timeout)

    patch.setattr(Driver, "close", close_and_leave)


@pytest.mark.parametrize(
    "mistake",
    [
        _sends_one_by_one,
        _knows_no_deadline,
        _flushes_for_ever,
        _does_not_deliver_at_the_end,
        _is_unknown_to_the_exit,
        _swallows_exceptions,
        _leaves_a_thread,
        *map(_runs_no_hook_for, (Retrying, Emptied, Rejected, Dropped)),
    ],
    ids=lambda mistake: mistake.__name__.strip("_"),
)
def test_the_contract_finds_a_mistake_in_a_driver(
    mistake: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    mistake(monkeypatch)
    fixtures = {"run": run_asyncio, "cancel": cancel_in_asyncio, "caplog": caplog, "tmp_path": tmp_path}
    assert found_by(ClientContract, **fixtures)


def test_the_contract_finds_a_client_that_ignores_its_spool(tmp_path: Path) -> None:
    def run(url: str, scenario: Callable[[Any], Awaitable[None]], /, **options: Any) -> None:
        run_asyncio(url, scenario, **{name: value for name, value in options.items() if name != "spool"})

    with emulator() as server, pytest.raises(AssertionError):
        ClientContract().test_a_spool_keeps_what_was_not_delivered(run=run, server=server, tmp_path=tmp_path)


class _Hanging:
    """Something that never comes, until the test is over."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.threads: list[threading.Thread] = []

    def wait(self) -> None:
        self.threads.append(threading.current_thread())
        self.over.wait()

    def end(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(PATIENCE)


@pytest.fixture
def hanging() -> Generator[_Hanging, None, None]:
    hanging = _Hanging()
    yield hanging
    hanging.end()


def test_a_driver_that_never_wakes_up_fails_in_time(hanging: _Hanging) -> None:
    def run(url: str, scenario: Callable[[Any], Awaitable[None]], /, **options: Any) -> None:
        del url, scenario, options
        hanging.wait()

    contract = ClientContract()
    contract.limit = 0.01
    with emulator() as server, pytest.raises(pytest.fail.Exception, match=r"not over after 0\.01 s.*`limit`"):
        contract.test_the_end_of_the_block_delivers(run=run, server=server)


def test_a_transport_that_never_returns_fails_in_time(hanging: _Hanging) -> None:
    def exchange(request: Request, seconds: float, /) -> Answer:
        del request, seconds
        hanging.wait()
        raise AssertionError

    contract = TransportContract()
    contract.limit = 0.01
    with emulator() as server, pytest.raises(pytest.fail.Exception, match="each attempt end by its deadline"):
        contract.test_the_deadline_is_kept(exchange=exchange, server=server)


@pytest.mark.parametrize("limit", [60.0, None])
def test_a_test_of_a_contract_shows_what_was_raised_in_it(limit: float | None) -> None:
    threads: list[threading.Thread] = []

    def run(url: str, scenario: Callable[[Any], Awaitable[None]], /, **options: Any) -> None:
        del url, scenario, options
        threads.append(threading.current_thread())
        raise ZeroDivisionError

    contract = ClientContract()
    contract.limit = limit
    with emulator() as server, pytest.raises(ZeroDivisionError):
        contract.test_the_end_of_the_block_delivers(run=run, server=server)
    assert (threads == [threading.main_thread()]) is (limit is None)


def test_what_a_failed_test_of_a_contract_held_is_let_go() -> None:
    held: list[weakref.ref[ClientContract]] = []

    def run(url: str, scenario: Callable[[Any], Awaitable[None]], /, **options: Any) -> None:
        del url, scenario, options
        client = ClientContract()
        held.append(weakref.ref(client))
        raise ZeroDivisionError

    gc.disable()
    try:
        with emulator() as server, pytest.raises(ZeroDivisionError):
            ClientContract().test_the_end_of_the_block_delivers(run=run, server=server)
        assert held[0]() is None
    finally:
        gc.enable()
