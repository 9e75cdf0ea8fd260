"""A connection that is opened ahead of the first call."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trustme

from clocknext_core import BatchPolicy, ClockNextError, Response
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.asyncio.transport import NativeTransport as AsyncioTransport
from clocknext_transports.sync.transport import NativeTransport as SyncTransport
from clocknext_transports.trio.transport import NativeTransport as TrioTransport
from tests.transports.support import (
    KEY,
    NATIVE,
    PATIENCE,
    Native,
    Peer,
    Wire,
    keep_answering,
    serving,
    trusting,
)

each_native = pytest.mark.parametrize("kind", NATIVE)
TRANSPORTS: dict[Native, Callable[..., Any]] = {
    "sync": SyncTransport,
    "asyncio": AsyncioTransport,
    "trio": TrioTransport,
}


def use(kind: Native, steps: Callable[[Any], Any], **options: Any) -> list[Any]:
    """Carry out steps on a client: a generator that yields what a client's method returned."""
    results: list[Any] = []
    options = {"timeout": PATIENCE, **options}
    if kind == "sync":
        with ClockNext(KEY, **options) as cnk:
            results.extend(steps(cnk))
        return results

    async def main() -> None:
        make = AsyncClockNext if kind == "asyncio" else TrioClockNext
        async with make(KEY, **options) as cnk:
            results.extend([await step for step in steps(cnk)])

    if kind == "asyncio":
        asyncio.run(main())
    else:
        trio.run(main)
    return results


def waiting(kind: Native, event: threading.Event) -> Any:
    """Wait for an event, in a thread where a loop has to go on."""
    if kind == "sync":
        return event.wait(PATIENCE)
    if kind == "asyncio":
        return asyncio.to_thread(event.wait, PATIENCE)
    return trio.to_thread.run_sync(event.wait, PATIENCE)


def connect_and_check(cnk: Any) -> Any:
    yield cnk.connect()
    yield cnk.check()


@each_native
@pytest.mark.parametrize("is_secure", [False, True])
def test_the_first_call_takes_the_connection(
    kind: Native, is_secure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clocknext_transports.trio.transport.TICKETS_WITHIN", 1.0)
    has_begun = threading.Event()  # then the server has sent its tickets

    def script(wire: Wire) -> None:
        has_begun.set()
        keep_answering()(wire)

    authority = trustme.CA()
    tls = serving(authority, "localhost") if is_secure else None
    transport = TRANSPORTS[kind](ssl_context=trusting(authority) if is_secure else None)
    with Peer(script, tls=tls) as peer:
        url = f"{'https' if is_secure else 'http'}://localhost:{peer.port}"

        def steps(cnk: Any) -> Any:
            yield cnk.connect()
            yield waiting(kind, has_begun)
            assert peer.requests == []
            yield cnk.check()

        is_open, has_waited, _ = use(kind, steps, base_url=url, transport=transport)
    assert is_open is True
    assert has_waited is True
    assert (peer.connections, len(peer.requests)) == (1, 1)


@each_native
def test_a_connection_that_the_server_has_closed_meanwhile_is_replaced(kind: Native) -> None:
    has_closed = threading.Event()

    def script(wire: Wire) -> None:
        if wire.number == 1:
            wire.sock.shutdown(socket.SHUT_WR)
            has_closed.set()
            wire.wait_for_end()
        keep_answering()(wire)

    def steps(cnk: Any) -> Any:
        yield cnk.connect()
        assert has_closed.wait(PATIENCE)
        yield cnk.check()

    with Peer(script) as peer:
        is_open, _ = use(kind, steps, base_url=peer.url)
    assert is_open is True
    assert [seen.connection for seen in peer.requests] == [2]


@each_native
def test_what_can_not_be_reached_is_no_error(kind: Native) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    is_open, _ = use(kind, connect_and_check, base_url=f"http://127.0.0.1:{port}")
    assert is_open is False


@each_native
def test_an_untrusted_server_is_not_connected_to(kind: Native) -> None:
    with Peer(keep_answering(), tls=serving(trustme.CA(), "localhost")) as peer:
        transport = TRANSPORTS[kind](ssl_context=ssl.create_default_context())
        options = {"base_url": f"https://localhost:{peer.port}", "transport": transport}
        is_open, _ = use(kind, connect_and_check, **options)
    assert is_open is False
    assert peer.requests == []


@each_native
def test_a_disabled_client_opens_nothing(kind: Native) -> None:
    with Peer(keep_answering()) as peer:
        (is_open,) = use(kind, lambda cnk: [cnk.connect()], base_url=peer.url, disabled=True)
    assert is_open is False
    assert peer.connections == 0


@each_native
def test_a_transport_that_can_not_connect_ahead_is_left_alone(kind: Native) -> None:
    class Blocking:
        def exchange(self, request: Any, *, deadline_at: float) -> Response:
            raise AssertionError((request, deadline_at))

        def close(self) -> None:
            pass

    class Awaited:
        async def exchange(self, request: Any, *, deadline_at: float) -> Response:
            raise AssertionError((request, deadline_at))

        async def aclose(self) -> None:
            pass

    transport = Blocking() if kind == "sync" else Awaited()
    assert use(kind, lambda cnk: [cnk.connect()], transport=transport) == [False]


@each_native
def test_a_closed_client_refuses(kind: Native) -> None:
    def steps(cnk: Any) -> Any:
        yield cnk.close()
        yield cnk.connect()

    with pytest.raises(ClockNextError, match="closed"):
        use(kind, steps, batch=BatchPolicy(max_interval=0))


@each_native
def test_the_deadline_holds(kind: Native) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:  # accepts nothing, so that TLS gets no answer
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        transport = TRANSPORTS[kind](ssl_context=ssl.create_default_context())
        options = {"base_url": url, "transport": transport, "timeout": 0.1}
        assert use(kind, lambda cnk: [cnk.connect()], **options) == [False]
