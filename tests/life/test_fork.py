"""Row 20 of the fault matrix: a fork with a live client. Nothing is lost or sent twice, and nobody hangs."""

import gc
import io
import logging
import multiprocessing
import os
import signal as signals
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trustme

from clocknext_core import BatchPolicy, Config, Engine, RandomSource, Signal
from clocknext_core.states import DropReason
from clocknext_transports import ClockNext
from clocknext_transports.asyncio import transport as transport_of_asyncio
from clocknext_transports.client.base import ClientBase
from clocknext_transports.emulator import Hold, emulator, scripted
from clocknext_transports.process import exit as atexit
from clocknext_transports.process import fork as forks
from clocknext_transports.sync import NativeTransport
from clocknext_transports.trio import transport as transport_of_trio
from tests.contract.answers import held, key_of
from tests.life.support import (
    AT_ONCE,
    CHILD_PATIENCE,
    KINDS,
    PATIENT,
    Child,
    Kind,
    check_fork_while_all_locks_are_held,
    close,
    connections_to,
    deliver,
    descriptors,
    held_by_another_thread,
    hold,
    is_connected_to,
    keys,
    lock_of,
    look,
    make_client,
    wait_until,
)
from tests.transports.support import KEY, PATIENCE, Peer, answer, keep_answering, serving, trusting

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here"),
    # Python 3.12 and later warn of what these tests are about.
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]

any_kind = pytest.mark.parametrize("kind", KINDS)


@any_kind
def test_the_child_starts_empty_and_the_parent_goes_on(kind: Kind) -> None:
    with Peer(keep_answering()) as peer:
        client = make_client(kind, peer.url)
        hold(client, "parent-1", "parent-2")

        def work() -> tuple[int, int, int]:
            before = client.pending
            hold(client, "child")
            return before, client.pending, deliver(client)

        assert Child(work).result() == [0, 1, 1]
        assert client.pending == 2
        assert deliver(client) == 2
        assert keys(peer) == {"parent-1": 1, "parent-2": 1, "child": 1}
        close(client)


@any_kind
def test_a_child_of_a_child_starts_empty_too(kind: Kind) -> None:
    with Peer(keep_answering()) as peer:
        client = make_client(kind, peer.url)
        hold(client, "parent")

        def work() -> list[object]:
            hold(client, "child")
            return [Child(work_further).result(), client.pending, deliver(client)]

        def work_further() -> tuple[int, int]:
            before = client.pending
            hold(client, "grandchild")
            return before, deliver(client)

        assert Child(work).result() == [[0, 1], 1, 1]
        assert deliver(client) == 1
        assert keys(peer) == {"parent": 1, "child": 1, "grandchild": 1}
        close(client)


@any_kind
def test_keys_and_jitter_are_fresh_in_each_process(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, float]] = []

    def make_engine(config: Config, *, rng: RandomSource, make_key: Callable[[], str]) -> Engine:
        drawn.append((make_key(), rng.random()))
        return Engine(config, rng=rng, make_key=make_key)

    monkeypatch.setattr(ClientBase, "make_engine", staticmethod(make_engine))
    client = make_client(kind, "http://127.0.0.1:1")
    everyones = [tuple(Child(lambda: drawn[-1]).result()) for _ in range(3)] + drawn
    assert len({key for key, _ in everyones}) == 4
    assert len({jitter for _, jitter in everyones}) == 4
    assert client.pending == 0


@any_kind
def test_a_closed_client_stays_closed_in_the_child(kind: Kind) -> None:
    with Peer(keep_answering()) as peer:
        client = make_client(kind, peer.url)
        hold(client, "one")
        close(client)

        def work() -> tuple[int, int]:
            hold(client, "two")
            return client.pending, deliver(client)

        assert Child(work).result() == [0, 0]
        assert keys(peer) == {"one": 1}


def test_a_fork_while_other_threads_hold_every_lock_does_not_hang_the_child() -> None:
    check_fork_while_all_locks_are_held(os.fork)


class SlowStream(io.StringIO):
    """What the first record is written to for as long as it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.writing, self.may_end = threading.Event(), threading.Event()

    def write(self, text: str, /) -> int:
        if not self.writing.is_set():
            self.writing.set()
            assert self.may_end.wait(PATIENCE)
        return len(text)


def test_a_fork_while_the_driver_logs_leaves_the_child_its_log() -> None:
    stream = SlowStream()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("clocknext")

    def work() -> str:
        logger.warning("The child can log.")  # by the handler whose lock a thread of the parent has
        return "logged"

    with (
        Peer(keep_answering()) as peer,
        ClockNext(KEY, base_url=peer.url, batch=AT_ONCE) as client,
    ):
        logger.addHandler(handler)
        try:
            hold(client, "one")
            assert stream.writing.wait(PATIENCE)  # "delivered", by a thread of the driver
            assert Child(work).result() == "logged"
        finally:
            stream.may_end.set()
            logger.removeHandler(handler)


def test_a_fork_in_the_middle_of_exchanges_leaves_them_to_the_parent() -> None:
    gate = Hold()
    with scripted([held(gate)] * 5) as server, ClockNext(KEY, base_url=server.url, batch=AT_ONCE) as client:
        hold(client, *(f"parent-{number}" for number in range(5)))
        assert gate.wait_arrived(PATIENCE, count=5)

        def work() -> tuple[int, int]:
            before = client.pending
            hold(client, "child")
            return before, client.pending

        assert Child(work).result() == [0, 1]
        gate.release()
        assert client.flush().delivered == 5
        sent = [key_of(request) for request in server.requests]
    assert sorted(key for key in sent if key != "child") == [f"parent-{number}" for number in range(5)]


def test_the_child_lets_go_of_inherited_connections_and_the_parents_live_on() -> None:
    with Peer(keep_answering(answer(b'{"ok": true, "customer": {"id": "cus_1"}}'))) as peer:
        client = ClockNext(KEY, base_url=peer.url)
        look(client)
        inherited = connections_to(peer.port)
        assert len(inherited) == 1  # or what follows proves nothing
        waiting, ending = os.pipe()

        def work() -> list[bool]:
            left = [is_connected_to(descriptor, peer.port) for descriptor in inherited]
            os.close(ending)
            os.read(waiting, 1)  # until the parent has closed its connection
            return left

        child = Child(work)
        os.close(waiting)
        look(client)  # over the same connection, which is the parent's alone
        assert peer.connections == 1
        client.close()
        assert peer.wait_ended(1)  # nobody else holds it open
        os.close(ending)
        assert child.result() == [False]


def test_a_tls_connection_survives_the_child_that_inherited_it() -> None:
    authority = trustme.CA()
    script = keep_answering(answer(b'{"ok": true, "customer": {"id": "cus_1"}}'))
    with Peer(script, tls=serving(authority, "127.0.0.1")) as peer:
        native = NativeTransport(ssl_context=trusting(authority))
        with ClockNext(KEY, base_url=peer.url, transport=native) as client:

            def work() -> int:
                look(client)
                return client.close().pending

            look(client)
            assert Child(work).result() == 0
            assert peer.connections == 2
            look(client)
            assert peer.connections == 2
    assert peer.handshake_errors == []


@pytest.mark.parametrize(
    "make", [NativeTransport, transport_of_asyncio.NativeTransport, transport_of_trio.NativeTransport]
)
def test_the_child_makes_a_tls_context_of_its_own_unless_one_was_given(make: Any) -> None:
    given = ssl.create_default_context()
    for context, expected in ((given, given), (None, None)):
        transport = make(ssl_context=context)
        transport._context.made = transport._context.made or ssl.create_default_context()  # it has connected
        transport.restart()
        assert transport._context.made is expected


def has_ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def test_the_child_of_a_hook_must_not_return_and_does_no_harm_if_it_does() -> None:
    children: list[int] = []

    def fork(_: int) -> None:
        if not children and (child := os.fork()):
            children.append(child)

    with Peer(keep_answering()) as peer:
        with ClockNext(KEY, base_url=peer.url, batch=AT_ONCE, on_flush=fork) as client:
            hold(client, "one")
            assert wait_until(lambda: bool(children))
            assert wait_until(lambda: has_ended(children[0]))  # it had no thread but the driver's
            hold(client, "two")
        os.waitpid(children[0], 0)
        assert keys(peer) == {"one": 1, "two": 1}


def test_the_child_of_a_hook_in_the_callers_thread_is_told_that_it_must_not_return() -> None:
    """Also where another thread holds the client's lock at the fork, which nothing in the child releases."""
    told, telling = os.pipe()
    drops: list[DropReason] = []

    def fork(_: Signal, reason: DropReason) -> None:
        with held_by_another_thread(lock_of(client)):
            child = os.fork()
            if child == 0:
                signals.alarm(int(PATIENCE))  # which ends a child that hangs
                return
            os.waitpid(child, 0)
            drops.append(reason)

    client = ClockNext(KEY, base_url="http://127.0.0.1:1", on_drop=fork)
    client.close()
    try:
        result = client.signals.wallet(customer_id="cus_1", model="m")
    except BaseException as error:  # noqa: BLE001 - this is the child, which must not go on with our tests
        os.write(telling, str(error).encode())
        os._exit(0)
    os.close(telling)
    assert (result.dropped, drops) == ("closed", ["closed"])
    assert os.read(told, 100) == b"A hook has forked: the child must not return from it."
    os.close(told)


def _work_in_multiprocessing(client: ClockNext) -> None:
    hold(client, "child-1", "child-2")


def test_a_process_of_multiprocessing_delivers_what_it_holds_when_it_ends() -> None:
    with Peer(keep_answering()) as peer, ClockNext(KEY, base_url=peer.url, batch=PATIENT) as client:
        hold(client, "parent")
        child = multiprocessing.get_context("fork").Process(target=_work_in_multiprocessing, args=(client,))
        child.start()
        child.join(PATIENCE)
        assert child.exitcode == 0
        assert keys(peer) == {"child-1": 1, "child-2": 1}
        assert client.flush().delivered == 1


def test_many_children_at_once_are_billed_once_each() -> None:
    with emulator() as server:
        batch = BatchPolicy(max_size=5, max_interval=0.01)
        # On a busy machine an attempt may take longer than the usual time-out, and would be repeated.
        with ClockNext(server.api_key, base_url=server.url, batch=batch, timeout=CHILD_PATIENCE) as client:

            def work() -> int:
                for _ in range(20):
                    client.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 8})
                return client.close().pending

            children: list[Child] = []
            for _ in range(8):
                client.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 8})
                children.append(Child(work))
            assert [child.result() for child in children] == [0] * 8
        assert server.ledger.bill("cus_123").signals == 8 * 20 + 8
        assert server.ledger.counters.repeats == 0


def test_one_hook_knows_all_clients_and_keeps_none_alive() -> None:
    gc.collect()
    before = forks.registered(), atexit.registered(), descriptors()
    clients = [make_client(kind, "http://127.0.0.1:1") for kind in KINDS for _ in range(10)]
    assert forks.registered() == before[0] + 30
    clients.clear()
    gc.collect()
    assert (forks.registered(), atexit.registered(), descriptors()) == before
