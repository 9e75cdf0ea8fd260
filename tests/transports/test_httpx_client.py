"""Your own client of httpx or httpx2: used as it is made, without what it would add to our requests."""

import asyncio
import inspect
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, TypedDict

import pytest

from clocknext_core import Answer, Failure, Request, Response, ValidationError
from clocknext_transports import AsyncClockNext, ClockNext
from clocknext_transports.httpx import AsyncHttpxTransport, HttpxTransport
from tests.transports.support import (
    JSON,
    KEY,
    PATIENCE,
    SOON,
    Peer,
    answer,
    answer_once,
    keep_answering,
    request,
)

OURS = {"host", "authorization", "accept", "accept-encoding", "user-agent", "content-type", "content-length"}


class Loud(TypedDict):
    """What a client may have been made with."""

    headers: dict[str, str]
    cookies: dict[str, str]
    auth: tuple[str, str]
    params: dict[str, str]
    follow_redirects: bool
    base_url: str
    trust_env: bool


LOUD: Loud = {
    "headers": {
        "X-Mine": "1",
        "Authorization": "Basic bWluZQ==",
        "User-Agent": "mine",
        "Accept-Encoding": "gzip",
    },
    "cookies": {"session": "mine"},
    "auth": ("me", "secret"),
    "params": {"mine": "1"},
    "follow_redirects": True,
    "base_url": "https://elsewhere.example/mine",
    "trust_env": False,
}


@pytest.fixture(params=["httpx", "httpx2"])
def package(request: pytest.FixtureRequest) -> Any:
    """Each package whose clients can be used, if it is installed."""
    return pytest.importorskip(request.param)


def carry_blocking(package: Any, sent: Request, times: int = 1) -> tuple[list[Answer], bool]:
    """Send over a loud client of the blocking kind; also tell whether it is open in the end."""
    with package.Client(**LOUD) as client:
        transport = HttpxTransport(client)
        answers = [transport.exchange(sent, deadline_at=time.monotonic() + SOON) for _ in range(times)]
        transport.close()
        return answers, not client.is_closed


def carry_asyncio(package: Any, sent: Request, times: int = 1) -> tuple[list[Answer], bool]:
    """Send over a loud client of the async kind."""

    async def main() -> tuple[list[Answer], bool]:
        async with package.AsyncClient(**LOUD) as client:
            transport = AsyncHttpxTransport(client)
            deadline_at = asyncio.get_running_loop().time() + SOON
            answers = [await transport.exchange(sent, deadline_at=deadline_at) for _ in range(times)]
            await transport.aclose()
            return answers, not client.is_closed

    return asyncio.run(main())


each_world = pytest.mark.parametrize("carry", [carry_blocking, carry_asyncio])
Carrying = Callable[..., tuple[list[Answer], bool]]


@each_world
def test_the_clients_defaults_are_left_aside(package: Any, carry: Carrying) -> None:
    with Peer(keep_answering(answer(JSON, "Set-Cookie: theirs=1; Path=/"))) as peer:
        answers, is_open = carry(package, request(peer.url), 2)
    assert [type(each) for each in answers] == [Response, Response]
    assert is_open
    for seen in peer.requests:
        assert seen.line == "POST /api/v1/usage HTTP/1.1"
        assert {*seen.headers} - {"connection"} == OURS
        assert seen.headers["authorization"] == f"Bearer {KEY}"
        assert seen.headers["accept-encoding"] == "identity"
        assert seen.headers["user-agent"].startswith("clocknext-sdk-python/")


@each_world
def test_redirects_stay_off_though_the_client_follows_them(package: Any, carry: Carrying) -> None:
    with Peer(keep_answering()) as elsewhere:
        moved = answer(b"", f"Location: {elsewhere.url}/", status="307 Temporary Redirect")
        with Peer(keep_answering(moved)) as peer:
            (outcome,), _ = carry(package, request(peer.url))
    assert isinstance(outcome, Response)
    assert (outcome.status, elsewhere.connections) == (307, 0)


def test_a_client_of_the_transports_own_is_closed_with_it(package: Any) -> None:
    client = package.Client()
    HttpxTransport(client, owns_client=True).close()
    assert client.is_closed

    async def main() -> bool:
        client = package.AsyncClient()
        await AsyncHttpxTransport(client, owns_client=True).aclose()
        return bool(client.is_closed)

    assert asyncio.run(main())


def test_the_clients_own_transport_is_used(package: Any) -> None:
    """Whatever the client was made for carries the request: here, a function."""

    def handle(seen: Any) -> Any:
        assert seen.read() == b"{}"
        return package.Response(202, json={"url": str(seen.url)})

    with package.Client(transport=package.MockTransport(handle)) as client:
        outcome = HttpxTransport(client).exchange(
            request("https://api.example/v"), deadline_at=time.monotonic() + SOON
        )
    assert isinstance(outcome, Response)
    assert outcome.status == 202
    assert b"https://api.example/v/api/v1/usage" in outcome.body


def test_a_hook_of_the_client_may_read_the_answer(package: Any) -> None:
    def read(seen: Any) -> None:
        seen.read()

    with (
        Peer(keep_answering()) as peer,
        package.Client(event_hooks={"response": [read]}, trust_env=False) as client,
    ):
        outcome = HttpxTransport(client).exchange(request(peer.url), deadline_at=time.monotonic() + SOON)
    assert isinstance(outcome, Response)
    assert outcome.body == JSON


@pytest.mark.parametrize(
    ("error", "processed"),
    [
        ("ReadError", True),
        ("ReadTimeout", True),
        ("RemoteProtocolError", True),
        ("ConnectError", False),
        ("ConnectTimeout", False),
        ("PoolTimeout", False),
    ],
)
def test_only_what_is_certain_is_called_unprocessed(package: Any, error: str, processed: bool) -> None:
    """A transport of the client's own may not trace what it does: then only the error tells."""

    def handle(_: Any) -> Any:
        raise getattr(package, error)("why")

    with package.Client(transport=package.MockTransport(handle)) as client:
        outcome = HttpxTransport(client).exchange(
            request("https://api.example"), deadline_at=time.monotonic() + SOON
        )
    assert isinstance(outcome, Failure)
    assert outcome.processed is processed


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_hook_of_the_client_that_raises_for_the_status_does_not_hide_the_answer(
    package: Any, is_async: bool, reads: bool
) -> None:
    """Its body is the API's word: it is there if the hook has read it, as it must to leave it to others."""

    def raise_for_status(seen: Any) -> None:
        if reads:
            seen.read()
        seen.raise_for_status()

    async def raise_for_status_async(seen: Any) -> None:
        if reads:
            await seen.aread()
        seen.raise_for_status()

    async def exchange(url: str) -> Answer:
        hooks = {"response": [raise_for_status_async]}
        async with package.AsyncClient(event_hooks=hooks, trust_env=False) as client:
            deadline_at = asyncio.get_running_loop().time() + SOON
            return await AsyncHttpxTransport(client).exchange(request(url), deadline_at=deadline_at)

    body = b'{"ok": false, "error": "no"}'
    with Peer(keep_answering(answer(body, status="422 Unprocessable"))) as peer:
        if is_async:
            outcome = asyncio.run(exchange(peer.url))
        else:
            with package.Client(event_hooks={"response": [raise_for_status]}, trust_env=False) as client:
                deadline_at = time.monotonic() + SOON
                outcome = HttpxTransport(client).exchange(request(peer.url), deadline_at=deadline_at)
    assert isinstance(outcome, Response)
    assert (outcome.status, outcome.body) == (422, body if reads else b"")


def test_a_hook_that_raises_lets_no_answer_through_that_is_refused(package: Any) -> None:
    def raise_for_status(seen: Any) -> None:
        seen.read()
        seen.raise_for_status()

    with (
        Peer(keep_answering(answer(b"x" * 2000, status="422 Unprocessable"))) as peer,
        package.Client(event_hooks={"response": [raise_for_status]}, trust_env=False) as client,
    ):
        transport = HttpxTransport(client, max_answer_bytes=1000)
        outcome = transport.exchange(request(peer.url), deadline_at=time.monotonic() + SOON)
    assert outcome == Failure("The answer is longer than 1000 bytes.")


@each_world
@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"", "The connection was closed before an answer came."),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
            "The connection was closed in the middle of the answer.",
        ),
        (b"SSH-2.0-cnk_secret\r\n\r\n", "The connection broke: no answer in HTTP"),
    ],
)
def test_a_broken_answer_is_told_as_by_the_native_transport(
    package: Any, carry: Carrying, sent: bytes, expected: str
) -> None:
    with Peer(answer_once(sent)) as peer:
        (outcome,), _ = carry(package, request(peer.url))
    assert outcome == Failure(expected)


@pytest.mark.parametrize("asks", ["ClockNext", "AsyncClockNext"])
def test_a_transport_that_owns_its_client_serves_one_client_alone(package: Any, asks: str) -> None:
    def make(transport: object) -> object:
        kinds: dict[str, Callable[..., object]] = {"ClockNext": ClockNext, "AsyncClockNext": AsyncClockNext}
        client_of = kinds[asks]
        return client_of(KEY, base_url="http://127.0.0.1:9", transport=transport)

    async def main() -> None:
        is_async = asks != "ClockNext"
        kind: Callable[..., Any] = AsyncHttpxTransport if is_async else HttpxTransport
        theirs = (package.AsyncClient if is_async else package.Client)(trust_env=False)
        shared = kind(theirs)
        assert make(shared) is not make(shared), "this one is closed by who made it"
        owned = kind(theirs, owns_client=True)
        first: Any = make(owned)
        with pytest.raises(ValidationError, match="owns_client"):
            make(owned)
        if is_async:
            await first.close()
        else:
            first.close()
        assert theirs.is_closed
        del first
        with pytest.raises(ValidationError, match="owns_client"):
            make(owned)

    asyncio.run(main())


def test_each_package_is_used_without_the_other(package: Any) -> None:
    """The class of the client says which one it is: the other need not be there."""
    name = package.__name__
    other = {"httpx": "httpx2", "httpx2": "httpx"}[name]
    program = f"""
import sys
sys.modules[{other!r}] = None
import {name}
from clocknext_transports import ClockNext
from clocknext_transports.httpx import HttpxTransport
handle = lambda request: {name}.Response(200, json={{"ok": True, "customer": {{"id": "cus_1"}}}})
with {name}.Client(transport={name}.MockTransport(handle)) as client:
    with ClockNext("cnk_x", transport=HttpxTransport(client)) as cnk:
        print(cnk.customers.get("cus_1").id)
import os
os.environ["HTTPS_PROXY"] = "http://127.0.0.1:9"
cnk = ClockNext("cnk_x")
print(type(cnk._driver.transport._client).__module__.partition(".")[0])
cnk.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=3 * PATIENCE, check=False
    )
    assert (done.stdout.split(), done.stderr) == (["cus_1", name], "")


def test_a_subclass_and_an_alias_of_httpx2_are_clients_too() -> None:
    pytest.importorskip("httpx2")
    program = """
import httpx2
httpx2.alias_httpx()
import httpx
from clocknext_transports.httpx import AsyncHttpxTransport, HttpxTransport
class Mine(httpx.Client): pass
HttpxTransport(Mine()).close()
try:
    AsyncHttpxTransport(Mine())
except ValueError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=3 * PATIENCE, check=False
    )
    assert (done.stdout, done.stderr) == (
        "client: must be an AsyncClient of httpx or httpx2, not __main__.Mine\n",
        "",
    )


@pytest.mark.parametrize("asks", ["ClockNext", "AsyncClockNext"])
def test_over_a_shared_transport_each_key_goes_to_its_own_origin(package: Any, asks: str) -> None:
    async def main(urls: list[str]) -> None:
        is_async = asks != "ClockNext"
        theirs = (package.AsyncClient if is_async else package.Client)(trust_env=False)
        shared: Any = AsyncHttpxTransport(theirs) if is_async else HttpxTransport(theirs)
        client_of: Callable[..., Any] = AsyncClockNext if is_async else ClockNext
        clients = [client_of(f"cnk_{n}", base_url=url, transport=shared) for n, url in enumerate(urls)]
        for _round in range(2):
            for client in clients:
                await _awaited(client.customers.get("cus_1"))
        await _awaited(clients[0].close())
        await _awaited(clients[1].customers.get("cus_1"))  # one that is closed ends none of the other's
        await _awaited(clients[1].close())
        await _awaited(theirs.aclose() if is_async else theirs.close())

    customer = answer(b'{"ok": true, "customer": {"id": "cus_1"}}')
    with Peer(keep_answering(customer)) as one, Peer(keep_answering(customer)) as other:
        asyncio.run(main([one.url, other.url]))
    assert {seen.headers["authorization"] for seen in one.requests} == {"Bearer cnk_0"}
    assert {seen.headers["authorization"] for seen in other.requests} == {"Bearer cnk_1"}
    assert (len(one.requests), len(other.requests)) == (2, 3)


async def _awaited(result: Any) -> None:
    if inspect.isawaitable(result):
        await result


def test_a_client_in_place_of_a_transport_is_told_how_to_wrap_it(package: Any) -> None:
    mine = type("Mine", (package.Client,), {})
    for client in (package.Client(), package.AsyncClient(), mine()):
        for kind, wrapper in ((ClockNext, "HttpxTransport"), (AsyncClockNext, "AsyncHttpxTransport")):
            make: Callable[..., object] = kind
            with pytest.raises(ValidationError, match=f"transport={wrapper}") as caught:
                make(KEY, transport=client)
            assert f"Wrap an {package.__name__}." in str(caught.value)
