"""One client from everywhere at once: threads, loops, hooks, after a thaw (row 23), and while it closes."""

import asyncio
import copy
import pickle
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from clocknext_core import Answer, BatchPolicy, ClockNextError, FlushReport, Request, Response, RetryPolicy
from clocknext_core.states import DropReason
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.emulator import EmulatorServer, Fault, emulator
from clocknext_transports.http11 import TRUSTED_FOR
from clocknext_transports.process import exit as atexit
from clocknext_transports.sync import NativeTransport
from clocknext_transports.sync.clock import Clock
from tests.life.support import (
    AT_ONCE,
    KINDS,
    PATIENT,
    Kind,
    close,
    deliver,
    hold,
    keys,
    look,
    make_client,
    wait_until,
    workers,
)
from tests.transports.support import KEY, SOON, Peer, Wire, answer, keep_answering

CUSTOMER = answer(b'{"ok": true, "customer": {"id": "cus_1"}}')
WALLET: dict[str, Any] = {"customer_id": "cus_123", "model": "gpt-4o", "tokens": {"input": 8}}


def in_threads(count: int, work: Callable[[int], object]) -> None:
    """Do something in many threads at once; what one raises is raised here."""
    errors: list[BaseException] = []
    start = threading.Barrier(count)

    def carry_out(number: int) -> None:
        try:
            start.wait(SOON)
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=carry_out, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(4 * SOON)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


# Threads and loops


def test_many_threads_record_wait_flush_and_look_at_once() -> None:
    with emulator() as server:
        batch = BatchPolicy(max_size=7, max_interval=0.01)
        with ClockNext(server.api_key, base_url=server.url, batch=batch) as client:

            def work(number: int) -> None:
                for turn in range(20):
                    client.signals.wallet(**WALLET, wait=turn % 10 == number % 10)
                    if turn % 7 == number % 7:
                        client.flush()
                assert client.customers.get("cus_123").id == "cus_123"

            in_threads(12, work)
        assert server.ledger.bill("cus_123").signals == 12 * 20
        assert server.ledger.counters.repeats == 0
    assert not workers()


def test_a_threaded_client_works_beside_a_running_loop_and_within_it() -> None:
    with emulator() as server, ClockNext(server.api_key, base_url=server.url) as client:

        async def main() -> None:
            client.signals.wallet(**WALLET)
            client.signals.wallet(**WALLET, wait=True)
            results = await asyncio.gather(
                *(
                    asyncio.to_thread(client.signals.wallet, **WALLET, wait=turn % 2 == 0)
                    for turn in range(10)
                )
            )
            assert sum(result.queued for result in results) == 5
            assert (await asyncio.to_thread(client.flush)).pending == 0
            assert client.flush().pending == 0

        asyncio.run(main())
        assert server.ledger.bill("cus_123").signals == 12


def test_one_client_of_each_kind_in_one_process() -> None:
    with Peer(keep_answering()) as peer:
        clients = [make_client(kind, peer.url) for kind in KINDS]
        for kind, client in zip(KINDS, clients, strict=True):
            hold(client, kind)
        for client in clients:
            assert deliver(client) == 1
            close(client)
        assert keys(peer) == dict.fromkeys(KINDS, 1)


# Hooks


def test_a_hook_may_record_and_may_wait_for_an_answer() -> None:
    followed: list[object] = []

    def follow(_: int) -> None:
        if not followed:
            followed.append(client.signals.wallet(**WALLET, wait=True).queued)
            followed.append(client.signals.wallet(**WALLET).queued)

    with emulator() as server:
        with ClockNext(server.api_key, base_url=server.url, batch=AT_ONCE, on_flush=follow) as client:
            client.signals.wallet(**WALLET)
            assert wait_until(lambda: server.ledger.bill("cus_123").signals == 3)
        assert followed == [False, True]


@pytest.mark.parametrize("name", ["flush", "close"])
def test_a_hook_that_waits_for_the_buffer_is_told_that_it_must_not(name: str) -> None:
    raised: list[Exception] = []

    def wait(_: int) -> None:
        try:
            getattr(client, name)()
        except RuntimeError as error:
            raised.append(error)

    with Peer(keep_answering()) as peer:
        with ClockNext(KEY, base_url=peer.url, batch=AT_ONCE, on_flush=wait) as client:
            hold(client, "one")
            assert wait_until(lambda: bool(raised))
            hold(client, "two")  # it goes on, open
        assert keys(peer) == {"one": 1, "two": 1}
    assert "A hook must not wait" in str(raised[0])


# A thaw


class JumpingClock(Clock):
    """Real time, and what a frozen process did not see of it."""

    def __init__(self) -> None:
        self.frozen = 0.0

    def now(self) -> float:
        """Return the time in seconds."""
        return super().now() + self.frozen


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> JumpingClock:
    """The clock of every client of threads that the test makes."""
    made = JumpingClock()
    monkeypatch.setattr("clocknext_transports.sync.client.Clock", lambda: made)
    return made


def test_a_kept_connection_is_not_trusted_after_a_thaw(clock: JumpingClock) -> None:
    """Its peer may have forgotten it: this one says nothing more over it, and does not end it either."""

    def script(wire: Wire) -> None:
        wire.read()
        wire.send(CUSTOMER)
        wire.wait_for_end()

    native = NativeTransport(clock=clock)
    with Peer(script) as peer, ClockNext(KEY, base_url=peer.url, transport=native) as client:
        look(client)
        clock.frozen += TRUSTED_FOR + 1.0
        look(client)
        assert peer.connections == 2


def test_a_connection_that_was_just_used_is_trusted(clock: JumpingClock) -> None:
    native = NativeTransport(clock=clock)
    with (
        Peer(keep_answering(CUSTOMER)) as peer,
        ClockNext(KEY, base_url=peer.url, transport=native) as client,
    ):
        for _ in range(3):
            look(client)
            clock.frozen += TRUSTED_FOR - 10.0
        assert peer.connections == 1


def test_the_schedule_goes_on_after_a_thaw_of_hours(clock: JumpingClock) -> None:
    """What was due meanwhile is sent at once, what failed before is tried again, and nothing is dropped."""
    dropped: list[DropReason] = []
    retried = threading.Event()
    with emulator() as server:
        client = ClockNext(
            server.api_key,
            base_url=server.url,
            transport=NativeTransport(clock=clock),
            batch=BatchPolicy(max_interval=3600.0),
            retry=RetryPolicy(base_delay=1800.0, max_delay=1800.0),
            on_retry=lambda _: retried.set(),
            on_drop=lambda _, reason: dropped.append(reason),
        )
        with client:
            for before in (0, 2, 4):
                client.signals.wallet(**WALLET)
                freeze(client, clock)
                client.signals.wallet(**WALLET)  # the first has been due for hours
                assert wait_until(partial(is_billed, server, before + 1))
            server.faults.script(Fault("status"))
            client.signals.wallet(**WALLET)
            freeze(client, clock)
            client.signals.wallet(**WALLET)
            assert retried.wait(SOON)
            freeze(client, clock)
            client.signals.wallet(**WALLET)  # what failed should have been tried again hours ago
            assert wait_until(partial(is_billed, server, 8))
        assert server.ledger.bill("cus_123").signals == 9
        assert (server.ledger.counters.repeats, dropped) == (0, [])


def freeze(client: ClockNext, clock: JumpingClock) -> None:
    """Let four hours pass unseen, with no attempt under way."""
    assert wait_until(lambda: client.stats().in_flight == 0)
    clock.frozen += 4 * 3600.0


def is_billed(server: EmulatorServer, count: int) -> bool:
    """Whether so many signals are, or more."""
    return server.ledger.bill("cus_123").signals >= count


def test_time_goes_on_from_one_run_of_trio_to_the_next() -> None:
    """Each run counts from a zero of its own, which may be later: a client must not stand still there."""

    async def leave() -> None:
        with trio.CancelScope() as scope:
            async with client:
                await client.signals.wallet(**WALLET)
                scope.cancel()

    async def go_on() -> tuple[int, int]:
        async with client:
            await client.signals.wallet(**WALLET)
            early = await client.flush(timeout=SOON)
            await client.signals.wallet(**WALLET)
            with trio.fail_after(SOON):
                while client.pending:  # until the batch's interval is over
                    await trio.sleep(0.001)
            return early.delivered, early.pending

    with emulator() as server:
        batch = BatchPolicy(max_interval=0.05)
        client = TrioClockNext(server.api_key, base_url=server.url, batch=batch)
        trio.run(leave)
        assert trio.run(go_on, clock=trio.testing.MockClock(rate=1.0)) == (2, 0)
        assert server.ledger.bill().signals == 3


# Closing


@pytest.mark.parametrize("kind", KINDS)
def test_closing_again_and_using_it_after_that_hang_nobody(kind: Kind) -> None:
    with Peer(keep_answering()) as peer:
        client = make_client(kind, peer.url)
        hold(client, "one")
        close(client)
        close(client)
        assert deliver(client) == 0
        hold(client, "late")
        assert client.pending == 0
        with pytest.raises(ClockNextError, match="closed"):
            look(client)
        close(client)
        assert keys(peer) == {"one": 1}


def test_a_block_after_closing_drops_and_says_so() -> None:
    dropped: list[DropReason] = []
    with Peer(keep_answering()) as peer:
        client = ClockNext(KEY, base_url=peer.url, on_drop=lambda _, reason: dropped.append(reason))
        with client:
            hold(client, "one")
        with client:
            hold(client, "two")
        assert keys(peer) == {"one": 1}
    assert dropped == ["closed"]
    assert not workers()


def test_many_threads_may_close_while_others_record() -> None:
    dropped: list[DropReason] = []
    with Peer(keep_answering()) as peer:
        client = ClockNext(KEY, base_url=peer.url, batch=AT_ONCE, on_drop=lambda _, why: dropped.append(why))

        def work(number: int) -> None:
            if number < 3:
                client.close()
            else:
                hold(client, *(f"{number}-{turn}" for turn in range(20)))

        in_threads(8, work)
        client.close()
        assert client.pending == 0
        assert sum(keys(peer).values()) + len(dropped) == 100
        assert set(dropped) <= {"closed"}
        assert set(keys(peer).values()) <= {1}
    assert not workers()


class Slow:
    """A transport for event loops whose closing takes as long as a test says."""

    def __init__(self) -> None:
        self.is_closing, self.may_close = threading.Event(), threading.Event()

    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        await asyncio.sleep(0)
        return Response(200, [], b'{"ok": true}')

    async def aclose(self) -> None:
        self.is_closing.set()
        await asyncio.to_thread(self.may_close.wait, SOON)


def test_a_loop_that_is_ending_in_another_thread_is_not_relied_on() -> None:
    transport = Slow()
    client = AsyncClockNext(KEY, transport=transport, batch=PATIENT)
    other = threading.Thread(target=hold, args=(client, "one"))
    other.start()
    assert transport.is_closing.wait(SOON)

    async def main() -> FlushReport:
        await client.signals.wallet(**WALLET)
        report = await client.flush(timeout=SOON)
        transport.may_close.set()
        await client.close()
        return report

    assert asyncio.run(main()) == FlushReport(2)
    other.join(SOON)


def test_several_loops_in_several_threads_may_use_one_client_at_once() -> None:
    async def job(number: int) -> FlushReport:
        for _ in range(3):
            await client.signals.wallet(customer_id="cus_1", model="m", tokens={"input": number})
        return await client.flush(timeout=SOON)

    def work(number: int) -> None:
        for _ in range(25):
            assert asyncio.run(job(number)).pending == 0

    transport = Slow()
    transport.may_close.set()
    client = AsyncClockNext(KEY, transport=transport, batch=BatchPolicy(max_size=5, max_interval=3600.0))
    in_threads(4, work)
    assert client.stats().delivered == 300
    close(client)


def test_a_task_factory_is_not_called_with_the_lock_held() -> None:
    locked: list[bool] = []

    def make(loop: asyncio.AbstractEventLoop, steps: Any, **options: Any) -> "asyncio.Task[Any]":
        locked.append(client._driver._serving.lock.locked())  # pyright: ignore[reportPrivateUsage]
        return asyncio.Task(steps, loop=loop, **options)

    async def main() -> FlushReport:
        asyncio.get_running_loop().set_task_factory(make)
        await client.signals.wallet(customer_id="cus_1", model="m")
        return await client.close()

    with Peer(keep_answering()) as peer:
        client = AsyncClockNext(KEY, base_url=peer.url, batch=PATIENT)
        assert asyncio.run(main()) == FlushReport(1)
    assert locked
    assert not any(locked)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 has brought eager tasks")
def test_tasks_may_be_eager() -> None:
    async def main() -> FlushReport:
        asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009
        async with AsyncClockNext(KEY, base_url=peer.url, batch=BatchPolicy(max_size=2)) as client:
            for _ in range(5):
                await client.signals.wallet(customer_id="cus_1", model="m")
            return await client.flush(timeout=SOON)

    with Peer(keep_answering()) as peer:
        report = asyncio.run(main())
        assert (report.pending, report.failed, len(peer.requests)) == (0, [], 5)


class Reluctant(Slow):
    """A transport whose closing fails, or is cancelled where the block is."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__()
        self.error = error

    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        await trio.lowlevel.checkpoint()
        return Response(200, [], b'{"ok": true}')

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("error", [None, ValueError("mine")])
def test_a_block_of_trio_ends_whatever_closing_the_transport_raises(error: Exception | None) -> None:
    async def main() -> None:
        client = TrioClockNext(KEY, transport=Reluctant(error), batch=PATIENT)
        with trio.CancelScope() as scope, suppress(ValueError):
            async with client:
                await client.signals.wallet(customer_id="cus_1", model="m")
                scope.cancel()
        assert client.pending == 1
        with suppress(ValueError):
            async with client:
                pass
        assert (client.pending, client.stats().delivered) == (0, 1)

    registered = atexit.registered()
    trio.run(main)
    assert atexit.registered() == registered


def test_a_block_of_trio_is_opened_once_at_a_time() -> None:
    async def main() -> None:
        async with TrioClockNext(KEY, transport=Reluctant(None), batch=PATIENT) as client:
            with pytest.raises(RuntimeError, match="open already"):
                async with client:
                    raise AssertionError("the second block is not entered")
            await client.signals.wallet(customer_id="cus_1", model="m")
            assert await client.flush(timeout=SOON) == FlushReport(1)

    trio.run(main)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_client_can_not_be_copied(kind: Kind, make_copy: Callable[[object], object]) -> None:
    client = make_client(kind, "http://127.0.0.1:1")
    with pytest.raises(TypeError, match="ClockNext can't be copied or pickled"):
        make_copy(client)
    close(client)


@pytest.mark.parametrize("seconds", [1e10, float(sys.maxsize), 1e308])
def test_any_number_of_seconds_can_be_waited(seconds: float) -> None:
    with Peer(keep_answering()) as peer:
        batch = BatchPolicy(max_interval=seconds, max_queue_size=2, overflow="block", block_timeout=seconds)
        client = ClockNext(KEY, base_url=peer.url, batch=batch, timeout=seconds)
        hold(client, "one", "two", "three")
        assert client.flush(timeout=seconds).pending == 0
        assert client.close(timeout=seconds).pending == 0
        assert len(peer.requests) == 3
    assert not workers()


def test_closing_in_another_thread_ends_a_wait_for_the_buffer() -> None:
    with Peer(keep_answering()) as peer:
        client = ClockNext(KEY, base_url=peer.url, batch=PATIENT)
        hold(client, "one")
        reports: list[int] = []
        in_threads(4, lambda number: reports.append((client.flush if number else client.close)().delivered))
        assert max(reports) == 1
        assert keys(peer) == {"one": 1}


def test_a_loops_client_closed_in_one_task_refuses_in_the_others() -> None:
    async def main() -> list[str]:
        dropped: list[str] = []
        client = AsyncClockNext(KEY, base_url=peer.url, on_drop=lambda _, reason: dropped.append(reason))
        await client.signals.wallet(customer_id="cus_1", model="m", idempotency_key="one")
        closing = [asyncio.create_task(client.close()) for _ in range(3)]
        await asyncio.gather(*closing)
        await client.signals.wallet(customer_id="cus_1", model="m", idempotency_key="two")
        async with client:
            assert client.pending == 0
        return dropped

    with Peer(keep_answering()) as peer:
        assert asyncio.run(main()) == ["closed"]
        assert keys(peer) == {"one": 1}
