"""Recording from any thread, callback or finalizer, on all three clients, without waiting for anything."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias, cast

import pytest
import trio

from clocknext_core import (
    BatchPolicy,
    ClockNextError,
    EncodedSignal,
    Operation,
    Signal,
    SpoolError,
    TrackResult,
    ValidationError,
)
from clocknext_core.usage.meter import Meter
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.client import driver
from clocknext_transports.client.nowait import NoWait
from clocknext_transports.emulator import DEFAULT_API_KEY, EmulatorServer, emulator
from clocknext_transports.spool import SqliteSpool, Stored

AnyClient: TypeAlias = ClockNext | AsyncClockNext | TrioClockNext
WALLET: Any = {"customer_id": "cus_123", "model": "gpt-4o", "tokens": {"input": 1}}
LIMIT = 20.0
"""Longest that anything may take, seconds."""


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with emulator() as running:
        yield running


def settings(server: EmulatorServer, more: dict[str, Any]) -> dict[str, Any]:
    return {"api_key": DEFAULT_API_KEY, "base_url": server.url, **more}


def with_threads(server: EmulatorServer, use: Callable[[AnyClient], object], more: dict[str, Any]) -> None:
    with ClockNext(**settings(server, more)) as cnk:
        use(cnk)
        cnk.flush(LIMIT)
        use(cnk)


def with_asyncio(server: EmulatorServer, use: Callable[[AnyClient], object], more: dict[str, Any]) -> None:
    async def main() -> None:
        async with AsyncClockNext(**settings(server, more)) as cnk:
            use(cnk)
            await cnk.flush(LIMIT)
            await asyncio.to_thread(use, cnk)

    asyncio.run(main())


def with_trio(server: EmulatorServer, use: Callable[[AnyClient], object], more: dict[str, Any]) -> None:
    async def main() -> None:
        async with TrioClockNext(**settings(server, more)) as cnk:
            use(cnk)
            await cnk.flush(LIMIT)
            await trio.to_thread.run_sync(use, cnk)

    trio.run(main)


WORLDS = pytest.mark.parametrize("world", [with_threads, with_asyncio, with_trio])
World: TypeAlias = Callable[[EmulatorServer, Callable[[AnyClient], object], dict[str, Any]], None]


@WORLDS
@pytest.mark.parametrize("mode", ["async", "sync"])
def test_it_records_in_a_task_and_in_a_thread_and_never_waits(
    world: World, mode: str, server: EmulatorServer
) -> None:
    def use(cnk: AnyClient) -> None:
        result = cnk.nowait.signals.wallet(**WALLET)
        assert (result.queued, result.dropped) == (True, None)

    world(server, use, {"mode": mode})
    assert len(server.ledger.signals) == 2


@WORLDS
def test_it_is_sent_without_anything_else_being_called(world: World, server: EmulatorServer) -> None:
    arrived = threading.Event()

    def use(cnk: AnyClient) -> None:
        cnk.nowait.signals.wallet(**WALLET)
        if isinstance(cnk, ClockNext):
            assert arrived.wait(LIMIT)

    def on_flush(_: int) -> None:
        arrived.set()

    policy = BatchPolicy(max_size=1, max_interval=3600.0)
    world(server, use, {"batch": policy, "on_flush": on_flush})
    assert arrived.is_set()


@WORLDS
def test_it_takes_no_lock_that_the_thread_may_hold(world: World, server: EmulatorServer) -> None:
    def use(cnk: AnyClient) -> None:
        with cnk._driver._serving.lock:  # pyright: ignore[reportPrivateUsage] # as where a finalizer runs in the midst of our own code
            assert cnk.nowait.signals.wallet(**WALLET).queued
        with threading._active_limbo_lock:  # type: ignore[attr-defined]  # ... or of threading's
            assert cnk.nowait.signals.wallet(**WALLET).queued

    world(server, use, {})
    assert len(server.ledger.signals) == 4


@WORLDS
@pytest.mark.parametrize("overflow", ["block", "raise", "drop_newest"])
def test_a_full_queue_drops_it_and_the_loss_is_reported(
    world: World, overflow: str, server: EmulatorServer
) -> None:
    dropped: list[str] = []

    def use(cnk: AnyClient) -> None:
        assert cnk.nowait.signals.wallet(**WALLET).dropped == "queue_full"

    def on_drop(_: Signal | None, reason: str) -> None:
        dropped.append(reason)

    policy = BatchPolicy(max_queue_bytes=10, overflow=overflow)  # type: ignore[arg-type]
    world(server, use, {"batch": policy, "on_drop": on_drop})
    assert dropped == ["queue_full"] * 2
    assert len(server.ledger.signals) == 0


class FullDisk(SqliteSpool):
    """A spool that stores nothing."""

    def append(self, signals: Sequence[Stored]) -> None:
        raise SpoolError("The disk is full.")


@WORLDS
def test_the_spools_thread_stores_it(world: World, server: EmulatorServer, tmp_path: Path) -> None:
    def use(cnk: AnyClient) -> None:
        assert cnk.nowait.signals.wallet(**WALLET).queued

    world(server, use, {"spool": tmp_path / "spool"})
    assert len(server.ledger.signals) == 2


@WORLDS
def test_what_the_spool_does_not_take_is_reported(
    world: World, server: EmulatorServer, tmp_path: Path
) -> None:
    told: list[object] = []

    def use(cnk: AnyClient) -> None:
        cnk.nowait.signals.wallet(**WALLET)

    def on_error(error: ClockNextError, _: Signal | None) -> None:
        told.append(type(error))

    def on_drop(_: Signal | None, reason: str) -> None:
        told.append(reason)

    world(
        server,
        use,
        {
            "spool": FullDisk(tmp_path / "spool"),
            "on_error": on_error,
            "on_drop": on_drop,
        },
    )
    assert told == [SpoolError, "send_failed"] * 2


class Starts:
    """Threads that are to be started, and begin when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []
        self.failure: BaseException | None = None

    def start_new_thread(self, call: Callable[[], object], _: tuple[()]) -> None:
        if self.failure is not None:
            raise self.failure
        self.waiting.append(call)


def test_many_signals_before_a_thread_has_begun_are_taken_in_by_it(
    server: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that records, and whose every signal started a thread, took twice as long."""
    starts = Starts()
    monkeypatch.setattr(driver, "_thread", starts)
    with ClockNext(**settings(server, {"batch": BatchPolicy(max_interval=3600)})) as cnk:
        for failure in (RuntimeError("can't start new thread"), KeyboardInterrupt()):
            starts.failure = failure
            with suppress(KeyboardInterrupt):
                cnk.nowait.signals.wallet(**WALLET)
        starts.failure = None
        for _ in range(3):
            cnk.nowait.signals.wallet(**WALLET)
        (attend,) = starts.waiting
        attend()
        cnk.nowait.signals.wallet(**WALLET)
        assert len(starts.waiting) <= 2  # the client's own thread need not sleep yet
        assert cnk.flush(LIMIT).failed == []
    assert len(server.ledger.signals) == 6


def test_without_any_loop_it_is_held_until_the_next_use(server: EmulatorServer) -> None:
    cnk = AsyncClockNext(**settings(server, {}))
    cnk.nowait.signals.wallet(**WALLET)
    assert cnk.pending == 1
    assert asyncio.run(cnk.close()).delivered == 1


def test_without_any_loop_a_spool_stores_it_all_the_same(server: EmulatorServer, tmp_path: Path) -> None:
    stored = threading.Event()

    class Watched(SqliteSpool):
        def append(self, signals: Sequence[Stored]) -> None:
            super().append(signals)
            stored.set()

    cnk = AsyncClockNext(**settings(server, {"spool": Watched(tmp_path / "spool")}))
    cnk.nowait.signals.wallet(**WALLET)
    assert stored.wait(LIMIT)
    assert asyncio.run(cnk.close()).delivered == 1


@WORLDS
def test_a_closed_client_drops_it_and_reports_the_loss(world: World, server: EmulatorServer) -> None:
    dropped = threading.Event()
    clients: list[AnyClient] = []

    def on_drop(*_: object) -> None:
        dropped.set()

    world(server, clients.append, {"on_drop": on_drop})
    assert clients[0].nowait.signals.wallet(**WALLET).dropped == "closed"
    assert dropped.wait(LIMIT)


@WORLDS
@pytest.mark.parametrize("every", [1, 7])
def test_a_finalizer_may_call_it_anywhere_in_our_own_code(
    world: World, every: int, server: EmulatorServer
) -> None:
    """Record from within, at every line (or every seventh) that any thread runs in our code."""
    lines = recorded = 0
    inside = threading.local()
    calls = threading.Lock()
    limit = 400

    def use(cnk: AnyClient) -> None:
        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal lines, recorded
            if "clocknext_" not in frame.f_code.co_filename and "threading" not in frame.f_code.co_filename:
                return None
            if event == "line" and not getattr(inside, "is_busy", False):
                lines += 1
                if lines % every == 0 and recorded < limit and calls.acquire(blocking=False):
                    inside.is_busy = True
                    try:
                        recorded += 1
                        cnk.nowait.signals.wallet(**WALLET)
                    finally:
                        inside.is_busy = False
                        calls.release()
            return trace

        threading.settrace(trace)
        sys.settrace(trace)
        try:
            for _ in range(5):
                cnk.nowait.signals.wallet(**WALLET)
                cnk.stats()
        finally:
            sys.settrace(None)
            threading.settrace(None)

    world(server, use, {"batch": BatchPolicy(max_size=3)})
    assert recorded > 50
    assert len(server.ledger.signals) == recorded + 10


class Held(list[EncodedSignal]):
    """Keeps what it is given."""

    def hold(self, encoded: EncodedSignal) -> TrackResult:
        self.append(encoded)
        return TrackResult({}, idempotency_key=encoded.idempotency_key, queued=True)


def nowait(held: Held, meter: Meter | None = None) -> NoWait:
    return NoWait(held.hold, lambda: "made", Meter() if meter is None else meter)


def test_a_signal_is_held_and_the_call_says_so() -> None:
    held = Held()
    result = nowait(held).signals.wallet(**WALLET, wait=False)
    assert (result.queued, result.idempotency_key) == (True, "made")
    assert [each.idempotency_key for each in held] == ["made"]


def test_nothing_waits() -> None:
    held = Held()
    with pytest.raises(ValidationError, match="wait: must not be True"):
        nowait(held).signals.wallet(**WALLET, wait=True)
    with pytest.raises(ValidationError, match="wait"):
        nowait(held).signals.wallet(**WALLET, wait=cast(Any, "no"))
    with pytest.raises(TypeError, match="GET /api/v1/models has to be awaited"):
        nowait(held).run(Operation("GET", "/api/v1/models", lambda _: None))
    assert held == []


def test_the_catalogue_is_not_asked_for_and_names_lose_their_date() -> None:
    held, meter = Held(), Meter(models="workspace")
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    response = {"id": "chatcmpl-77aa88bb", "model": "gpt-4o-2024-08-06", "usage": usage}
    result = nowait(held, meter).signals.from_response(response, customer_id="cus_1", type="wallet")
    assert result.queued
    assert b'"model":"gpt-4o"' in held[0].body
    assert meter.wants_catalogue  # a call that may wait asks


def test_it_shows_nothing_of_the_client() -> None:
    assert repr(nowait(Held())) == "<NoWait>"
    assert nowait(Held()).cancellations == ()
