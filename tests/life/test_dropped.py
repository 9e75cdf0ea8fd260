"""Clients that are dropped without being closed: said so, and their signals are sent all the same."""

import asyncio
import gc
import threading
import warnings
import weakref
from collections.abc import Callable, Generator

import pytest

from clocknext_core import Answer, BatchPolicy, Request, Response
from clocknext_transports import AsyncClockNext, ClockNext
from clocknext_transports.emulator import emulator
from clocknext_transports.process import exit as atexit
from clocknext_transports.process import fork as forks
from tests.life.support import (
    AT_ONCE,
    CHILD_PATIENCE,
    KINDS,
    PATIENT,
    Kind,
    close,
    descriptors,
    hold,
    keys,
    look,
    make_client,
    run,
    wait_until,
    workers,
)
from tests.transports.support import KEY, Peer, answer, keep_answering

any_kind = pytest.mark.parametrize("kind", KINDS)


def drop(make: Callable[[], ClockNext]) -> None:
    """Make a client, and let the collector find it."""
    client = weakref.ref(make())
    gc.collect()
    assert client() is None


def test_what_a_dropped_client_held_is_sent_and_its_threads_end() -> None:
    def make() -> ClockNext:
        client = ClockNext(KEY, base_url=peer.url, batch=BatchPolicy(max_interval=0.05))
        hold(client, "one", "two")
        return client

    with Peer(keep_answering()) as peer:
        with pytest.warns(ResourceWarning, match=r"unclosed <.*ClockNext http://127.* pending=2>"):
            drop(make)
        assert wait_until(lambda: not workers())
        assert keys(peer) == {"one": 1, "two": 1}
        assert peer.wait_ended(peer.connections)
    assert atexit.registered() == 0


def test_an_idle_client_that_is_dropped_leaves_no_thread_and_no_connection() -> None:
    def make() -> ClockNext:
        client = ClockNext(KEY, base_url=peer.url, batch=AT_ONCE)
        hold(client, "one")
        client.flush()
        assert workers()
        return client

    with Peer(keep_answering()) as peer:
        with pytest.warns(ResourceWarning, match="unclosed <.* pending=0>"):
            drop(make)
        assert wait_until(lambda: not workers())
        assert peer.wait_ended(1)


def test_a_client_with_a_connection_alone_is_unclosed_too() -> None:
    def make() -> ClockNext:
        client = ClockNext(KEY, base_url=peer.url)
        look(client)
        return client

    with Peer(keep_answering(answer(b'{"ok": true, "customer": {"id": "cus_1"}}'))) as peer:
        with pytest.warns(ResourceWarning, match="unclosed <.* pending=0>"):
            drop(make)
        assert peer.wait_ended(1)


@any_kind
def test_a_client_that_holds_nothing_is_dropped_in_silence(kind: Kind) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client = weakref.ref(make_client(kind, "http://127.0.0.1:1"))
        gc.collect()
        assert client() is None


@any_kind
def test_a_closed_client_is_dropped_in_silence(kind: Kind) -> None:
    with Peer(keep_answering()) as peer, warnings.catch_warnings():
        warnings.simplefilter("error")
        client = make_client(kind, peer.url)
        hold(client, "one")
        close(client)
        found = weakref.ref(client)
        del client
        gc.collect()
        assert found() is None
        assert keys(peer) == {"one": 1}


def test_a_client_that_could_not_be_made_is_dropped_in_silence() -> None:
    with pytest.raises(ValueError, match="batch"):
        ClockNext(KEY, batch=3)  # type: ignore[arg-type]
    gc.collect()


class Shared:
    """A transport of the user's own."""

    def __init__(self) -> None:
        self.is_closed = False

    def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Answer."""
        return Response(200, [], b'{"ok": true}')

    def close(self) -> None:
        """Note it."""
        self.is_closed = True


def test_a_transport_of_the_users_own_is_left_alone() -> None:
    transport = Shared()

    def make() -> ClockNext:
        client = ClockNext(KEY, transport=transport, batch=AT_ONCE)
        hold(client, "one")
        return client

    with pytest.warns(ResourceWarning, match="unclosed"):
        drop(make)
    assert wait_until(lambda: not workers())
    assert not transport.is_closed


def test_the_collector_may_run_in_a_background_thread_of_the_client_itself() -> None:
    """There it finds the lock taken, by its own thread: it must not wait for it."""
    collected = threading.Event()
    found: list[weakref.ref[ClockNext]] = []

    class Collecting(Shared):
        def exchange(self, request: Request, *, deadline_at: float) -> Answer:
            assert dropped.wait(5.0)
            gc.collect()
            if found[0]() is None:
                collected.set()
            return super().exchange(request, deadline_at=deadline_at)

    dropped = threading.Event()
    client = ClockNext(KEY, transport=Collecting(), batch=AT_ONCE)
    found.append(weakref.ref(client))
    gc.disable()
    try:
        with warnings.catch_warnings(record=True) as warned:  # it is the other thread that warns
            warnings.simplefilter("always")
            hold(client, "one")
            del client
            dropped.set()
            assert wait_until(lambda: not workers())
        assert [type(warning.message) for warning in warned] == [ResourceWarning]
    finally:
        gc.enable()
    assert collected.is_set()


def test_under_asyncio_it_is_sent_as_long_as_the_loop_runs() -> None:
    async def main() -> None:
        client = AsyncClockNext(KEY, base_url=peer.url, batch=BatchPolicy(max_interval=0.05))
        for key in ("one", "two"):
            await client.signals.wallet(customer_id="cus_1", model="m", idempotency_key=key)
        del client
        with pytest.warns(ResourceWarning, match=r"unclosed <.*ClockNext http://127.* pending=2>"):
            gc.collect()
        assert await asyncio.to_thread(wait_until, lambda: sum(keys(peer).values()) == 2)
        while len(asyncio.all_tasks()) > 1:
            await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()}, timeout=5.0)
        assert atexit.registered() == 0

    with Peer(keep_answering()) as peer:
        asyncio.run(main())
        assert keys(peer) == {"one": 1, "two": 1}
        assert peer.wait_ended(peer.connections)


def test_an_idle_asyncio_client_that_is_dropped_leaves_no_task() -> None:
    async def main() -> None:
        client = AsyncClockNext(KEY, base_url=peer.url, batch=AT_ONCE)
        await client.signals.wallet(customer_id="cus_1", model="m")
        await client.flush()
        del client
        with pytest.warns(ResourceWarning, match="unclosed <.* pending=0>"):
            gc.collect()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(left, timeout=5.0)
        assert len(asyncio.all_tasks()) == 1
        assert await asyncio.to_thread(peer.wait_ended, 1)

    with Peer(keep_answering()) as peer:
        asyncio.run(main())


@pytest.mark.parametrize("kind", ["asyncio", "trio"])
def test_where_the_loop_has_ended_that_is_said_and_it_is_sent_at_the_exit(kind: Kind) -> None:
    program = {
        "asyncio": """
async def leave():
    client = AsyncClockNext(KEY, base_url=URL)
    await client.signals.wallet(**WALLET, idempotency_key="one")
asyncio.run(leave())
""",
        "trio": """
async def leave():
    client = TrioClockNext(KEY, base_url=URL)
    with trio.CancelScope() as scope:
        async with client:
            await client.signals.wallet(**WALLET, idempotency_key="one")
            scope.cancel()
trio.run(leave)
""",
    }[kind]
    with Peer(keep_answering()) as peer:
        # The collector might find it while its loop is still there.
        ended = run(f"gc.disable()\n{program}gc.collect()\nprint('collected')\n", peer.url)
        assert keys(peer) == {"one": 1}
    assert (ended.code, ended.output) == (0, "collected\n")
    assert "ResourceWarning: unclosed <" in ended.errors
    assert (
        "ClockNext signals held by a client that was dropped, and whose event loop has ended: 1."
        in ended.errors
    )
    assert "Traceback" not in ended.errors


# Many


def test_a_thousand_clients_leave_nothing_behind() -> None:
    gc.collect()
    before = [forks.registered(), atexit.registered(), threading.active_count(), descriptors()]

    def make() -> None:
        with ClockNext(KEY, transport=Shared(), batch=PATIENT) as client:
            hold(client, "one")
            assert client.flush().delivered == 1

    for _ in range(1000):
        make()
    gc.collect()
    after = [forks.registered(), atexit.registered(), threading.active_count(), descriptors()]
    # There may be less than before: what an earlier test has ended may have needed its time.
    assert all(left <= there for left, there in zip(after, before, strict=True)), (before, after)


@pytest.fixture
def restless_collector() -> Generator[None, None, None]:
    """Have the collector run all the time, in whatever thread and wherever that is."""
    usual = gc.get_threshold()
    gc.set_threshold(50, 2, 2)
    yield
    gc.set_threshold(*usual)


@pytest.mark.usefixtures("restless_collector")
def test_two_hundred_dropped_clients_lose_nothing_and_leave_nothing_behind() -> None:
    with emulator() as server:
        gc.collect()
        before = forks.registered(), atexit.registered(), threading.active_count(), descriptors()

        def make() -> None:
            # An attempt that timed out would be repeated: two hundred threads at once may take their time.
            client = ClockNext(server.api_key, base_url=server.url, batch=AT_ONCE, timeout=CHILD_PATIENCE)
            client.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 8})

        def make_all() -> None:
            for _ in range(200):
                make()
            gc.collect()

        with pytest.warns(ResourceWarning, match="unclosed"):
            make_all()
        assert wait_until(lambda: not workers(), CHILD_PATIENCE)
        assert server.ledger.bill("cus_123").signals == 200
        assert server.ledger.counters.repeats == 0

        def now() -> tuple[int, ...]:
            return forks.registered(), atexit.registered(), threading.active_count(), descriptors()

        def is_all_gone() -> bool:
            # There may be less than before: what an earlier test has ended may have needed its time.
            return all(left <= there for left, there in zip(now(), before, strict=True))

        assert wait_until(is_all_gone), (before, now())
