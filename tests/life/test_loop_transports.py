"""The native transports of event loops, in a forked child, after a thaw, and at the interpreter's exit."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable

import pytest
import trio
import trustme

from clocknext_core import Response
from clocknext_transports import AsyncClockNext, TrioClockNext
from clocknext_transports.asyncio import NativeTransport
from clocknext_transports.http11 import TRUSTED_FOR
from clocknext_transports.trio import NativeTransport as TrioTransport
from tests.life.support import Child, connections_to, is_connected_to, keys, run
from tests.transports.support import KEY, SOON, Peer, answer, keep_answering, request, serving, trusting

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
        monkeypatch.setattr("clocknext_transports.http11.pool.TRUSTED_FOR", -1.0)  # as if it had passed
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


async def exchange(peer: Peer, transport: NativeTransport) -> None:
    deadline_at = asyncio.get_running_loop().time() + SOON
    assert isinstance(await transport.exchange(request(peer.url), deadline_at=deadline_at), Response)
    assert transport.is_open


@pytest.mark.parametrize("tls", [False, True])
def test_connections_are_closed_with_their_loop(tls: bool) -> None:
    authority = trustme.CA()
    with Peer(keep_answering(), tls=serving(authority, "127.0.0.1") if tls else None) as peer:
        transport = NativeTransport(ssl_context=trusting(authority))
        for _ in range(3):
            asyncio.run(exchange(peer, transport))
            assert not transport.is_open
        gc.collect()  # a ResourceWarning would be an error
        assert peer.connections == 3


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.filterwarnings("ignore:unclosed transport <.* closing:ResourceWarning")
def test_connections_of_a_loop_that_was_just_closed_are_closed_with_the_client(tls: bool) -> None:
    authority = trustme.CA()
    with Peer(keep_answering(), tls=serving(authority, "127.0.0.1") if tls else None) as peer:
        transport = NativeTransport(ssl_context=trusting(authority))
        loop = asyncio.new_event_loop()
        loop.run_until_complete(exchange(peer, transport))
        loop.close()
        states = [transport.is_open]
        asyncio.run(transport.aclose())
        assert [*states, transport.is_open] == [True, False]
        gc.collect()


STUCK = """
import gc, logging
logging.getLogger("asyncio").setLevel(logging.CRITICAL)
sys.unraisablehook = lambda _: None
silent = socket.create_server(("127.0.0.1", 0), backlog=0)
fillers = [socket.socket() for _ in range(4)]
for filler in fillers:
    filler.setblocking(False)
    filler.connect_ex(silent.getsockname())
config = Config("cnk_x", base_url=f"http://{HOST}:{silent.getsockname()[1]}")
request = Request("POST", "/x", config.origin, config.headers, b"{}", True)
transport = NativeTransport()
tasks = {}
async def carry():
    await transport.exchange(request, deadline_at=asyncio.get_running_loop().time() + 5)
async def job():
    for key in [key for key, task in tasks.items() if task.get_loop() is not asyncio.get_running_loop()]:
        del tasks[key]
    for _ in range(5):
        tasks[object()] = asyncio.get_running_loop().create_task(carry())
    await asyncio.sleep(0)
for number in range(100):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(job())
    loop.close()
    if number % 7 == 0:
        gc.collect()
print("survived")
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loops_that_end_while_a_connection_is_opened_do_not_crash_the_interpreter(host: str) -> None:
    program = f"import socket, sys\nfrom clocknext_core import Config, Request\nHOST = {host!r}\n"
    program += "from clocknext_transports.asyncio import NativeTransport\n" + STUCK
    ended = run(program, "")
    assert (ended.code, ended.output.strip()) == (0, "survived"), ended.errors


def test_the_exit_delivers_through_the_proxy_that_was_named_when_the_client_was_made() -> None:
    program = """
os.environ["HTTP_PROXY"] = URL
client = AsyncClockNext(KEY, base_url="http://billing.test", allow_insecure_http=True)
async def main():
    await client.signals.wallet(**WALLET, idempotency_key="key-0")
asyncio.run(main())
del os.environ["HTTP_PROXY"]
"""
    with Peer(keep_answering()) as proxy:
        ended = run(program, proxy.url)
        assert keys(proxy) == {"key-0": 1}, ended.errors
        assert {seen.headers["host"] for seen in proxy.requests} == {"billing.test"}
    assert ended.code == 0


@pytest.mark.parametrize("kind", [NativeTransport, TrioTransport])
def test_the_transport_that_takes_over_trusts_the_same_certificates(
    kind: type[NativeTransport] | type[TrioTransport],
) -> None:
    authority = trustme.CA()
    with Peer(keep_answering(), tls=serving(authority, "127.0.0.1")) as peer:
        over = kind(ssl_context=trusting(authority)).for_threads()
        assert isinstance(over.exchange(request(peer.url), deadline_at=time.monotonic() + SOON), Response)
        over.close()
