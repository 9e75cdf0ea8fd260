"""What the scenarios of tests/contract leave out: faults in bulk, TLS, deadlines, and Twisted's own ways."""

import os
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
import trustme
from twisted.internet.defer import CancelledError, Deferred, DeferredList

from clocknext_core import BatchPolicy, ClockNextError, NetworkError, RetryPolicy, Signal, ValidationError
from clocknext_transports.emulator import Fault, FaultKind, Faults, Hold, Ledger, emulator, scripted
from clocknext_transports.http11 import TRUSTED_FOR
from docs.examples.twisted_driver import Driver, TwistedClockNext
from tests.contract.answers import by_key, found, held, key_of, priced, record, record_all
from tests.contract.clients import Client
from tests.contract.worlds import GIVING_UP, KEY, PATIENT_BATCH
from tests.transports.support import SOON, Peer, Wire, answer, answer_and_hold, keep_answering, serving
from tests.twisted.worlds import Twisted

STUBBORN = RetryPolicy(max_attempts=20, base_delay=0.001, max_delay=0.01)
ONCE = RetryPolicy(max_attempts=1)


async def test_a_thousand_signals_are_billed_once_each_whatever_happens_to_their_answers(
    world: Twisted,
) -> None:
    faults = Faults(Random(11))
    faults.chance(0.1, Fault("lost"))
    faults.chance(0.1, Fault("status"))
    faults.chance(0.02, Fault("reset"))
    keys = [f"k{number}" for number in range(1000)]
    with emulator(Ledger(), faults) as server:
        batch = BatchPolicy(max_size=50, max_concurrency=8)
        async with world.open(server.url, batch=batch, retry=STUBBORN) as client:
            await record_all(client, keys)
            report = await client.flush()
            assert (list(report.failed), report.pending) == ([], 0)
        assert {key for key in keys if server.ledger.billed(key) != 1} == set()
        assert len(server.ledger.signals) == 1000
    assert len(world.hooks.of("on_retry")) > 100
    assert world.hooks.of("on_error", "on_drop") == []


@pytest.mark.parametrize(
    "kind",
    ["status", "lost", "reset", "html", "empty", "array", "truncated", "surplus", "stale", "gzip", "huge"],
)
async def test_every_fault_is_survived(world: Twisted, kind: FaultKind) -> None:
    keys = ["a", "b", "c", "d"]
    with emulator() as server:
        server.faults.script(None, Fault(kind), None, Fault(kind))
        batch = BatchPolicy(max_size=1, max_concurrency=1)
        async with world.open(server.url, batch=batch, retry=STUBBORN) as client:
            await record_all(client, keys)
            report = await client.flush()
            assert (report.delivered, list(report.failed), report.pending) == (4, [], 0)
        assert [server.ledger.billed(key) for key in keys] == [1] * 4


async def test_an_answer_nobody_asked_for_is_not_taken_for_the_next_one(world: Twisted) -> None:
    with Peer(answer_and_hold(answer() + answer())) as peer:
        batch = BatchPolicy(max_size=1, max_concurrency=1)
        async with world.open(f"http://127.0.0.1:{peer.port}", batch=batch, retry=ONCE) as client:
            await record_all(client, ["a", "b", "c"])
            assert (await client.flush()).delivered == 3
        assert [seen.connection for seen in peer.requests] == [1, 2, 3]


async def test_one_deadline_covers_the_whole_exchange(world: Twisted) -> None:
    with emulator() as server:
        server.faults.script(Fault("drip", bytes_per_second=20.0), times=2)
        async with world.open(server.url, timeout=0.2, retry=ONCE, batch=GIVING_UP) as client:
            with pytest.raises(NetworkError, match="Timed out waiting for the answer"):
                await client.customers.get("cus_123")
            await record(client, "a")
            report = await client.flush()
            assert [str(each.error) for each in report.failed] == ["Timed out waiting for the answer."]


BAD: list[tuple[str, Callable[[Client], Awaitable[object]]]] = [
    ("customer_id", lambda client: client.signals.wallet(customer_id=" ", model="gpt-4o")),
    ("model", lambda client: client.signals.wallet(customer_id="cus_123", model="")),
    ("key", lambda client: client.signals.credit(customer_id="cus_123", model="gpt-4o")),
    (
        "tokens",
        lambda client: client.signals.wallet(customer_id="cus_123", model="m", tokens={"input": -1}),
    ),
    (
        "custom",
        lambda client: client.signals.wallet(customer_id="c", model="m", custom={"x": float("nan")}),
    ),
    ("customer_id", lambda client: client.customers.get("..")),
    ("timeout", lambda client: client.flush(timeout=-1)),
    ("timeout", lambda client: client.close(timeout=float("nan"))),
]


@pytest.mark.parametrize(("argument", "call"), BAD)
async def test_a_bad_argument_raises_at_the_call_and_harms_nothing(
    world: Twisted, argument: str, call: Callable[[Client], Awaitable[object]]
) -> None:
    with scripted([priced()]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH) as client:
            await record(client, "a")
            with pytest.raises(ValidationError, match=argument):
                await call(client)
            assert client.pending == 1
            assert (await client.flush()).delivered == 1
        assert [key_of(each) for each in server.requests] == ["a"]
    assert world.hooks.seen == [("on_flush", 1, None)]


async def test_a_cancelled_call_closes_its_connection(world: Twisted) -> None:
    has_come = threading.Event()

    def script(wire: Wire) -> None:
        wire.read()
        has_come.set()
        wire.wait_for_end()

    with Peer(script) as peer:
        async with world.open(f"http://127.0.0.1:{peer.port}", timeout=3600.0) as client:
            call = Deferred.fromCoroutine(client.customers.get("cus_1"))
            assert await world.blocking(lambda: has_come.wait(SOON))
            call.cancel()
            with pytest.raises(CancelledError):
                await call
            assert await world.blocking(lambda: peer.wait_ended(1))


async def test_a_call_cancelled_while_it_connects_or_backs_off_is_cancelled(world: Twisted) -> None:
    with scripted([by_key({}, priced())]) as server:
        async with world.open(server.url) as client:
            connecting = Deferred.fromCoroutine(client.customers.get("cus_1"))
            connecting.cancel()
            with pytest.raises(CancelledError):
                await connecting
        assert server.requests == ()
    async with world.open(server.url, retry=RetryPolicy(2, 3600.0, 3600.0)) as client:
        backing_off = Deferred.fromCoroutine(client.customers.get("cus_1"))
        await world.hooked(lambda seen: ("on_retry", 1, None) in seen)
        backing_off.cancel()
        with pytest.raises(CancelledError):
            await backing_off


async def test_calls_are_deferreds_for_those_who_want_them(world: Twisted) -> None:
    seen: list[str | None] = []
    with scripted([found(name="Acme")]) as server:
        async with world.open(server.url) as client:
            calls = [Deferred.fromCoroutine(client.customers.get("cus_1")) for _ in range(3)]
            for call in calls:
                call.addCallback(lambda customer: seen.append(customer.name))
            await DeferredList(calls)
    assert seen == ["Acme"] * 3


async def test_what_a_flush_wakes_may_go_on_using_the_client(world: Twisted) -> None:
    with scripted([priced()]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH) as client:
            for number in range(50):
                await record(client, f"k{number}")
                assert (await client.flush()).delivered == 1
        assert len(server.requests) == 50
        assert server.connections == 1


async def test_hooks_that_cause_hooks_do_not_nest(world: Twisted) -> None:
    dropped: list[str] = []
    clients: list[Client] = []

    def on_drop(signal: Signal, reason: str) -> None:
        dropped.append(reason)
        if len(dropped) < 1000:  # deeper than the interpreter's stack, were each within the one before
            world.from_hook(record(clients[0], f"k{len(dropped)}"))

    with scripted([priced()]) as server:
        client = world.create(server.url, on_drop=on_drop)
        clients.append(client)
        await client.close()
        await record(client, "k0")
    assert dropped == ["closed"] * 1000


async def test_a_stale_connection_is_replaced_at_once(world: Twisted) -> None:
    def script(wire: Wire) -> None:
        wire.read()
        wire.send(answer())

    with Peer(script) as peer:
        async with world.open(f"http://127.0.0.1:{peer.port}", retry=ONCE) as client:
            for _ in range(5):
                await client.customers.get("cus_1")
        assert peer.connections == 5
    assert world.hooks.seen == []


async def test_closing_while_attempts_hang_leaves_nothing(world: Twisted) -> None:
    gate = Hold()
    with scripted([held(gate)]) as server:
        client = world.create(server.url, timeout=3600.0, batch=BatchPolicy(max_size=1, max_concurrency=4))
        await record_all(client, [f"k{number}" for number in range(9)])
        await world.arrived(gate, 4)
        report = await client.close(timeout=0)
        assert (report.delivered, report.pending, client.pending) == (0, 9, 0)
    assert len(world.hooks.of("on_drop")) == 9


async def test_a_proxy_is_not_bypassed(world: Twisted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    with pytest.raises(ClockNextError, match="proxy"):
        TwistedClockNext(KEY)


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def only_trust(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the environment say that the system's trust store holds the authority."""
    store = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(os.fspath(store))
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(store))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.usefixtures("only_trust")
async def test_tls_trusts_as_the_system_does(world: Twisted, authority: trustme.CA, host: str) -> None:
    with Peer(keep_answering(), tls=serving(authority, "localhost", "127.0.0.1")) as peer:
        async with world.open(f"https://{host}:{peer.port}", batch=PATIENT_BATCH, retry=ONCE) as client:
            for _ in range(3):
                await client.customers.get("cus_1")
            await record(client, "a")
            assert (await client.flush()).delivered == 1
        assert (len(peer.requests), peer.connections) == (4, 1)


@pytest.mark.parametrize("trusts", [True, False], ids=["another name", "unknown authority"])
async def test_tls_fails_closed(
    world: Twisted, authority: trustme.CA, request: pytest.FixtureRequest, trusts: bool
) -> None:
    if trusts:
        request.getfixturevalue("only_trust")
    with Peer(keep_answering(), tls=serving(authority, "elsewhere.test")) as peer:
        async with world.open(f"https://localhost:{peer.port}", retry=ONCE) as client:
            with pytest.raises(NetworkError) as caught:
                await client.customers.get("cus_1")
            assert KEY not in repr(caught.value)
        assert peer.requests == []


@pytest.mark.usefixtures("only_trust")
async def test_a_surplus_record_retires_a_tls_connection(world: Twisted, authority: trustme.CA) -> None:
    def script(wire: Wire) -> None:
        wire.read()
        wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)  # both records in one segment
        wire.send(answer(), answer())
        wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        wire.wait_for_end()

    with Peer(script, tls=serving(authority, "localhost")) as peer:
        async with world.open(f"https://localhost:{peer.port}", retry=ONCE) as client:
            for _ in range(3):
                await client.customers.get("cus_1")
        assert [seen.connection for seen in peer.requests] == [1, 2, 3]


async def test_a_spool_reports_through_the_reactor(world: Twisted, tmp_path: Path) -> None:
    with emulator() as server:
        async with world.open(server.url, spool=tmp_path / "spool") as client:
            await record_all(client, ["a", "b"])
            assert (await client.flush()).delivered == 2
        assert [server.ledger.billed(key) for key in ("a", "b")] == [1, 1]


def test_a_driver_that_no_thread_can_reach_refuses_a_spool_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Driver, "_reach")
    with pytest.raises(ValidationError, match=r"^spool: can't be used with Driver, which has no `_reach`"):
        TwistedClockNext(KEY, spool=tmp_path / "spool")


async def test_a_connection_that_was_idle_for_a_minute_is_not_used_again(world: Twisted) -> None:
    with emulator() as server:
        async with world.open(server.url) as client:
            for idle in (0.0, TRUSTED_FOR - 1, TRUSTED_FOR + 1):
                for streams in cast("Any", client)._own_driver.transport._pool._idle.values():
                    for stream in streams:
                        stream.age.used_at -= idle
                await client.customers.get("cus_123")
        first, second, third = [each.connection for each in server.ledger.requests]
    assert first == second != third
