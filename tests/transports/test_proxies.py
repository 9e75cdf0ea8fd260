"""Proxies named by the environment are used, by every client, and are never gone around."""

import asyncio
import importlib
import inspect
import os
import select
import socket
import ssl
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from clocknext_core import NetworkError, Operation, RetryPolicy, WalletSignal
from clocknext_core.envelope import Payload
from clocknext_transports import AsyncClockNext, ClockNext, sync
from clocknext_transports import httpx as httpx_transport
from clocknext_transports.httpx import AsyncHttpxTransport, HttpxTransport
from tests.transports.support import (
    KEY,
    NATIVE,
    PATIENCE,
    Native,
    Peer,
    Wire,
    answer,
    client,
    closed_port,
    keep_answering,
    serving,
    trusting,
)

each_native = pytest.mark.parametrize("kind", NATIVE)

ONCE = RetryPolicy(max_attempts=1)


def as_is(payload: Payload) -> Payload:
    return payload


ME = Operation("GET", "/api/v1/me", as_is)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.lower().endswith("_proxy") or name == "REQUEST_METHOD":
            monkeypatch.delenv(name)


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Make a server's context for a name that only a proxy can reach, trusted by way of the environment."""
    authority = trustme.CA()
    store = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(os.fspath(store))
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(store))
    return serving(authority, "billing.test")


def reachable(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a peer's URL by a name that leads to it, since a loopback address never has a proxy."""
    real = socket.getaddrinfo

    def look_up(host: str | bytes, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if host in ("billing.test", b"billing.test") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return f"http://billing.test:{peer.port}"


def lead(near: socket.socket, far: socket.socket) -> None:
    """Pass bytes on, both ways, until a side has no more. In one thread: two may not use one TLS socket."""
    others = {near: far, far: near}
    with suppress(OSError):
        while True:
            has_read_ahead = isinstance(near, ssl.SSLSocket) and near.pending()
            ready = [near] if has_read_ahead else select.select([near, far], [], [], PATIENCE)[0]
            for source in ready:
                data = source.recv(65536)
                if not data:
                    return
                others[source].sendall(data)
            if not ready:
                return


def tunnel_to(port: int) -> Peer:
    """Make a proxy that leads every CONNECT to one local port."""

    def script(wire: Wire) -> None:
        assert wire.read().line.startswith("CONNECT ")
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as onward:
            wire.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            lead(wire.sock, onward)

    return Peer(script)


@each_native
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_plain_requests_go_to_the_proxy_in_absolute_form(
    kind: Native, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Peer(keep_answering()) as proxy:
        monkeypatch.setenv(name, proxy.url)
        with client(kind, "http://billing.test/v", allow_insecure_http=True) as made:
            made.run(ME)
            made.record(WalletSignal(customer_id="cus_1", model="m"), wait=True)
    assert [seen.line for seen in proxy.requests] == [
        "GET http://billing.test/v/api/v1/me HTTP/1.1",
        "POST http://billing.test/v/api/v1/usage HTTP/1.1",
    ]
    assert {seen.headers["host"] for seen in proxy.requests} == {"billing.test"}
    assert {seen.headers["authorization"] for seen in proxy.requests} == {f"Bearer {KEY}"}


@each_native
def test_https_goes_through_a_tunnel_and_the_proxy_never_sees_the_key(
    kind: Native, certified: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Peer(keep_answering(), tls=certified) as peer, tunnel_to(peer.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with client(kind, "https://billing.test") as made:
            made.run(ME)
    assert [seen.line for seen in peer.requests] == ["GET /api/v1/me HTTP/1.1"]
    assert {seen.line for seen in proxy.requests} == {"CONNECT billing.test:443 HTTP/1.1"}
    for seen in proxy.requests:
        assert "authorization" not in seen.headers
        assert KEY not in str(seen.headers)


@each_native
def test_a_tunnel_is_verified_like_any_connection(kind: Native, monkeypatch: pytest.MonkeyPatch) -> None:
    context = serving(trustme.CA(), "billing.test")
    with Peer(keep_answering(), tls=context) as peer, tunnel_to(peer.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with client(kind, "https://billing.test", retry=ONCE) as made, pytest.raises(NetworkError):
            made.run(ME)
        assert proxy.requests
    assert not peer.requests


@each_native
def test_what_the_environment_exempts_is_reached_directly(
    kind: Native, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Peer(keep_answering()) as peer, Peer(keep_answering()) as proxy:
        url = reachable(peer, monkeypatch)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "localhost,billing.test")
        with client(kind, url, allow_insecure_http=True) as made:
            made.run(ME)
    assert (proxy.connections, len(peer.requests)) == (0, 1)


@each_native
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_plain_http_to_this_machine_does_not_go_through_a_proxy(
    kind: Native, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Peer(keep_answering()) as peer, Peer(keep_answering()) as proxy:
        monkeypatch.setenv(name, proxy.url)
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
            url = peer.url.replace("127.0.0.1", host)
            with client(kind, url) as made:
                made.run(ME)
    assert (proxy.connections, len(peer.requests)) == (0, 3)


@each_native
def test_a_dead_proxy_is_not_gone_around(kind: Native, monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(keep_answering()) as peer, closed_port() as proxy:
        url = reachable(peer, monkeypatch)
        monkeypatch.setenv("HTTP_PROXY", proxy)
        with (
            client(kind, url, retry=ONCE, allow_insecure_http=True) as made,
            pytest.raises(NetworkError),
        ):
            made.run(ME)
    assert peer.connections == 0


@each_native
@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "502 Bad Gateway"])
def test_a_proxy_that_refuses_the_tunnel_is_a_network_error(
    kind: Native, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Peer(keep_answering(answer(b"", status=status))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//user:s3cret@"))
        with client(kind, "https://billing.test", retry=ONCE) as made, pytest.raises(NetworkError) as caught:
            made.run(ME)
    assert "s3cret" not in str(caught.value)


@each_native
def test_the_credentials_of_the_proxy_are_sent_to_it(kind: Native, monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(keep_answering()) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("//", "//user:pass@"))
        with client(kind, "http://billing.test", allow_insecure_http=True) as made:
            made.run(ME)
    (seen,) = proxy.requests
    assert seen.headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"
    assert seen.headers["authorization"] == f"Bearer {KEY}"


def test_an_explicit_transport_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(keep_answering()) as peer, Peer(keep_answering()) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        with ClockNext(KEY, base_url=peer.url, transport=sync.NativeTransport()) as made:
            made.run(ME)
    assert (proxy.connections, len(peer.requests)) == (0, 1)


# Two clients behind one proxy

KEYS = {"one.test": "cnk_one_5ecret", "two.test": "cnk_two_5ecret"}
SCHEMES = ("http", "https")


@pytest.fixture(params=["httpx", "httpx2"])
def package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the package that carries what goes through a proxy; the other one counts as not installed."""
    name: str = request.param
    pytest.importorskip(name)
    monkeypatch.setattr(httpx_transport, "PACKAGES", (name,))
    return name


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """Make an authority that is trusted by way of the environment."""
    made = trustme.CA()
    store = tmp_path / "authority.pem"
    made.cert_pem.write_to_path(os.fspath(store))
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(store))
    return made


def proxying(ports: dict[str, int], tls: ssl.SSLContext | None) -> Peer:
    """Make a proxy, itself with TLS or without, that leads each CONNECT to its host's port, and answers the
    rest.
    """

    def script(wire: Wire) -> None:
        while True:
            line = wire.read().line
            if line.startswith("CONNECT "):
                break
            wire.send(answer())
        host = line.split(" ")[1].partition(":")[0]
        with socket.create_connection(("127.0.0.1", ports[host]), timeout=PATIENCE) as onward:
            wire.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            lead(wire.sock, onward)

    return Peer(script, tls=tls)


def use_all(kind: Native, urls: dict[str, str]) -> None:
    """Have a client for each host call and record, in turn, with its own key."""
    with ExitStack() as stack:
        clients = [
            stack.enter_context(client(kind, url, api_key=KEYS[host], retry=ONCE, allow_insecure_http=True))
            for host, url in urls.items()
        ]
        for _ in range(2):
            for each in clients:
                each.run(ME)
                each.record(WalletSignal(customer_id="cus_1", model="m"), wait=True)


@each_native
@pytest.mark.parametrize("scheme", SCHEMES)
def test_behind_one_proxy_each_key_goes_through_a_tunnel_to_its_own_origin_alone(
    kind: Native, scheme: str, package: str, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = serving(authority, "127.0.0.1") if scheme == "https" else None
    with ExitStack() as stack:
        peers = {
            host: stack.enter_context(Peer(keep_answering(), tls=serving(authority, host))) for host in KEYS
        }
        ports = {host: peer.port for host, peer in peers.items()}
        proxy = stack.enter_context(proxying(ports, tls))
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://user:pass@127.0.0.1:{proxy.port}")
        use_all(kind, {host: f"https://{host}" for host in KEYS})
    for host, peer in peers.items():
        assert [seen.headers["authorization"] for seen in peer.requests] == [f"Bearer {KEYS[host]}"] * 4
        assert {seen.headers["host"] for seen in peer.requests} == {host}
        assert not any("proxy-authorization" in seen.headers for seen in peer.requests)
    assert {seen.line for seen in proxy.requests} == {f"CONNECT {host}:443 HTTP/1.1" for host in KEYS}
    for seen in proxy.requests:
        assert "authorization" not in seen.headers
        assert "5ecret" not in f"{seen.line}{seen.headers}{seen.body!r}"


@each_native
@pytest.mark.parametrize("scheme", SCHEMES)
def test_behind_one_proxy_plain_requests_carry_the_key_of_their_own_origin(
    kind: Native, scheme: str, package: str, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = serving(authority, "127.0.0.1") if scheme == "https" else None
    with proxying({}, tls) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"{scheme}://127.0.0.1:{proxy.port}")
        use_all(kind, {host: f"http://{host}" for host in KEYS})
    assert len(proxy.requests) == 8
    for seen in proxy.requests:
        host = seen.headers["host"]
        assert seen.line.split(" ")[1].startswith(f"http://{host}/api/v1/")
        assert seen.headers["authorization"] == f"Bearer {KEYS[host]}"


@each_native
@pytest.mark.parametrize("scheme", SCHEMES)
def test_beside_a_client_behind_a_proxy_one_for_this_machine_goes_without(
    kind: Native, scheme: str, package: str, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = serving(authority, "127.0.0.1") if scheme == "https" else None
    with ExitStack() as stack:
        far = stack.enter_context(Peer(keep_answering(), tls=serving(authority, "one.test")))
        here = stack.enter_context(Peer(keep_answering()))
        proxy = stack.enter_context(proxying({"one.test": far.port}, tls))
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"{scheme}://127.0.0.1:{proxy.port}")
        use_all(kind, {"two.test": here.url, "one.test": "https://one.test"})
    assert [seen.headers["authorization"] for seen in here.requests] == [f"Bearer {KEYS['two.test']}"] * 4
    assert [seen.headers["authorization"] for seen in far.requests] == [f"Bearer {KEYS['one.test']}"] * 4
    assert {seen.line for seen in proxy.requests} == {"CONNECT one.test:443 HTTP/1.1"}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", ["sync", "asyncio"])
def test_over_one_httpx_client_with_a_proxy_each_key_goes_to_its_own_origin_alone(
    kind: str, scheme: str, package: str, authority: trustme.CA
) -> None:
    trusted = trusting(authority)
    module: Any = importlib.import_module(package)

    async def main(port: int) -> None:
        proxy = module.Proxy(
            f"{scheme}://127.0.0.1:{port}", ssl_context=trusted if scheme == "https" else None
        )
        client_of = module.Client if kind == "sync" else module.AsyncClient
        shared = client_of(proxy=proxy, verify=trusted, trust_env=False)
        wrapped: Any = HttpxTransport(shared) if kind == "sync" else AsyncHttpxTransport(shared)
        made: Any = ClockNext if kind == "sync" else AsyncClockNext
        clients = [
            made(key, base_url=f"https://{host}", transport=wrapped, retry=ONCE) for host, key in KEYS.items()
        ]
        for _ in range(2):
            for each in clients:
                await awaited(each.run(ME))
        for each in clients:
            await awaited(each.close())
        await awaited(shared.close() if kind == "sync" else shared.aclose())

    tls = serving(authority, "127.0.0.1") if scheme == "https" else None
    with ExitStack() as stack:
        peers = {
            host: stack.enter_context(Peer(keep_answering(), tls=serving(authority, host))) for host in KEYS
        }
        proxy = stack.enter_context(proxying({host: peer.port for host, peer in peers.items()}, tls))
        asyncio.run(main(proxy.port))
    for host, peer in peers.items():
        assert [seen.headers["authorization"] for seen in peer.requests] == [f"Bearer {KEYS[host]}"] * 2
    for seen in proxy.requests:
        assert "5ecret" not in f"{seen.line}{seen.headers}{seen.body!r}"


async def awaited(result: Any) -> None:
    """Await what may have to be awaited."""
    if inspect.isawaitable(result):
        await result
