"""One native transport in two clients: each key goes to its own server, and one client outlives the other."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from itertools import permutations
from typing import TypeAlias

import pytest
import trio
import trustme

from clocknext_core import BatchPolicy
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.asyncio import NativeTransport as AsyncioTransport
from clocknext_transports.sync import NativeTransport
from clocknext_transports.trio import NativeTransport as TrioTransport
from tests.transports.support import NATIVE, Native, Peer, answer, keep_answering, serving, trusting

CUSTOMER = answer(b'{"ok": true, "customer": {"id": "cus_1"}}')
AT_ONCE = BatchPolicy(max_size=1)

each_native = pytest.mark.parametrize("kind", NATIVE)

Use: TypeAlias = Callable[[str], Awaitable[None]]
"""Makes a client of a name use the service, or closes it."""


def bearer(name: str) -> str:
    return f"Bearer cnk_{name}"


def play(
    kind: Native,
    urls: dict[str, str],
    story: Callable[[Use, Use], Coroutine[object, object, None]],
    *,
    tls: ssl.SSLContext,
) -> None:
    """Make a client for each name, all over one transport, and tell a story of their calls and closings."""

    async def main() -> None:
        made = AsyncioTransport(ssl_context=tls) if kind == "asyncio" else TrioTransport(ssl_context=tls)
        client_of = AsyncClockNext if kind == "asyncio" else TrioClockNext
        clients = {
            name: client_of(f"cnk_{name}", base_url=url, transport=made, batch=AT_ONCE)
            for name, url in urls.items()
        }

        async def use(name: str) -> None:
            await clients[name].customers.get("cus_1")
            await clients[name].signals.wallet(customer_id="cus_1", model="m", wait=True)

        async def close(name: str) -> None:
            await clients[name].close()

        await story(use, close)
        for client in clients.values():
            await client.close()
        await made.aclose()
        assert not made.is_open

    def main_with_threads() -> None:
        made = NativeTransport(ssl_context=tls)
        clients = {
            name: ClockNext(f"cnk_{name}", base_url=url, transport=made, batch=AT_ONCE)
            for name, url in urls.items()
        }

        async def use(name: str) -> None:
            clients[name].customers.get("cus_1")
            clients[name].signals.wallet(customer_id="cus_1", model="m", wait=True)

        async def close(name: str) -> None:
            clients[name].close()

        asyncio.run(story(use, close))  # it awaits nothing else
        for client in clients.values():
            client.close()
        made.close()
        assert not made.is_open

    if kind == "sync":
        main_with_threads()
    elif kind == "asyncio":
        asyncio.run(main())
    else:
        trio.run(main)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@each_native
@pytest.mark.parametrize("order", [*permutations("abc")])
def test_each_key_goes_to_its_own_origin_alone(
    kind: Native, order: tuple[str, ...], authority: trustme.CA
) -> None:
    async def story(use: Use, _: Use) -> None:
        for _round in range(3):
            for name in order:
                await use(name)

    with (
        Peer(keep_answering(CUSTOMER)) as a,
        Peer(keep_answering(CUSTOMER)) as b,
        Peer(keep_answering(CUSTOMER), tls=serving(authority, "127.0.0.1")) as c,
    ):
        peers = {"a": a, "b": b, "c": c}
        play(kind, {name: peers[name].url for name in order}, story, tls=trusting(authority))
    for name, peer in peers.items():
        assert [seen.headers["authorization"] for seen in peer.requests] == [bearer(name)] * 6
        assert peer.connections == 1, "and connections are still reused"


@each_native
def test_two_keys_of_one_origin_share_its_connections(kind: Native, authority: trustme.CA) -> None:
    async def story(use: Use, _: Use) -> None:
        for name in "abab":
            await use(name)

    with Peer(keep_answering(CUSTOMER)) as peer:
        play(kind, {"a": peer.url, "b": peer.url}, story, tls=trusting(authority))
    keys = [seen.headers["authorization"] for seen in peer.requests]
    assert keys == [bearer(name) for name in "aabbaabb"]
    assert peer.connections == 1


@each_native
@pytest.mark.parametrize(("first", "second"), ["ab", "ba"])
def test_a_client_goes_on_when_another_one_of_the_same_transport_was_closed(
    kind: Native, first: str, second: str, authority: trustme.CA
) -> None:
    async def story(use: Use, close: Use) -> None:
        await use(first)
        await use(second)
        await close(first)
        await use(second)

    with Peer(keep_answering(CUSTOMER)) as a, Peer(keep_answering(CUSTOMER)) as b:
        peers = {"a": a, "b": b}
        play(kind, {name: peer.url for name, peer in peers.items()}, story, tls=trusting(authority))
    assert len(peers[first].requests) == 2
    assert len(peers[second].requests) == 4
