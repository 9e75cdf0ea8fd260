"""The native transports of event loops, in a forked child, after a thaw, and at the interpreter's exit."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import trio

from clocknext_transports import AsyncClockNext, TrioClockNext
from clocknext_transports.http11 import TRUSTED_FOR
from tests.life.support import Child, connections_to, is_connected_to, keys, run
from tests.transports.support import KEY, Peer, answer, keep_answering

CUSTOMER = answer(b'{"ok": true, "customer": {"id": "cus_1"}}')


def in_loop(kind: str, client: AsyncClockNext | TrioClockNext, use: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine in a loop of that kind, and close the client at its end."""

    async def used() -> None:
        async with client:
            await use()

    if kind == "asyncio":
        asyncio.run(used())
    else:
        trio.run(used)


def make(kind: str, url: str) -> AsyncClockNext | TrioClockNext:
    return AsyncClockNext(KEY, base_url=url) if kind == "asyncio" else TrioClockNext(KEY, base_url=url)


any_loop = pytest.mark.parametrize("kind", ["asyncio", "trio"])


@any_loop
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_the_child_lets_go_of_inherited_connections_and_the_parents_live_on(kind: str) -> None:
    def work() -> list[bool]:
        left = [is_connected_to(descriptor, peer.port) for descriptor in connections]

        async def look() -> None:
            await client.customers.get("cus_1")

        in_loop(kind, client, look)
        return left

    async def main() -> None:
        await client.customers.get("cus_1")
        connections.extend(connections_to(peer.port))
        child = Child(work)
        # Blocks the loop, which must not have a word to say meanwhile.
        results.append(child.result())
        assert peer.connections == 2
        await client.customers.get("cus_1")
        assert peer.connections == 2

    connections: list[int] = []
    results: list[object] = []
    with Peer(keep_answering(CUSTOMER)) as peer:
        client = make(kind, peer.url)
        in_loop(kind, client, main)
        assert len(connections) == 1  # or this proves nothing
        assert results == [[False]]


@any_loop
def test_a_connection_that_was_idle_for_long_is_not_trusted(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        await client.customers.get("cus_1")
        await client.customers.get("cus_1")
        assert peer.connections == 1
        monkeypatch.setattr(f"clocknext_transports.{kind}.transport.TRUSTED_FOR", -1.0)  # as if it had passed
        await client.customers.get("cus_1")
        assert peer.connections == 2

    assert TRUSTED_FOR == 60.0
    with Peer(keep_answering(CUSTOMER)) as peer:
        client = make(kind, peer.url)
        in_loop(kind, client, main)


def test_a_loop_in_another_thread_is_asked_to_deliver_at_the_exit() -> None:
    program = """
recorded = threading.Event()
async def main():
    global client
    client = AsyncClockNext(KEY, base_url=URL)
    for number in range(3):
        await client.signals.wallet(**WALLET, idempotency_key=f"key-{number}")
    recorded.set()
    await asyncio.Event().wait()
threading.Thread(target=asyncio.run, args=(main(),), daemon=True).start()
recorded.wait()
"""
    with Peer(keep_answering()) as peer:
        ended = run(program, peer.url)
        assert keys(peer) == {"key-0": 1, "key-1": 1, "key-2": 1}
    assert (ended.code, ended.errors) == (0, "")
