"""Your own httpx client: used as it is made, without what it would add to our requests."""

import asyncio
import time
from collections.abc import Callable
from typing import TypedDict

import httpx
import pytest

from clocknext_core import Answer, Failure, Request, Response
from clocknext_transports.httpx import AsyncHttpxTransport, HttpxTransport
from tests.transports.support import JSON, KEY, SOON, Peer, answer, keep_answering, request

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


def carry_blocking(sent: Request, times: int = 1) -> tuple[list[Answer], bool]:
    """Send over a loud client of the blocking kind; also tell whether it is open in the end."""
    with httpx.Client(**LOUD) as client:
        transport = HttpxTransport(client)
        answers = [transport.exchange(sent, deadline_at=time.monotonic() + SOON) for _ in range(times)]
        transport.close()
        return answers, not client.is_closed


def carry_asyncio(sent: Request, times: int = 1) -> tuple[list[Answer], bool]:
    """Send over a loud client of the async kind."""

    async def main() -> tuple[list[Answer], bool]:
        async with httpx.AsyncClient(**LOUD) as client:
            transport = AsyncHttpxTransport(client)
            deadline_at = asyncio.get_running_loop().time() + SOON
            answers = [await transport.exchange(sent, deadline_at=deadline_at) for _ in range(times)]
            await transport.aclose()
            return answers, not client.is_closed

    return asyncio.run(main())


each_world = pytest.mark.parametrize("carry", [carry_blocking, carry_asyncio])
Carrying = Callable[..., tuple[list[Answer], bool]]


@each_world
def test_the_clients_defaults_are_left_aside(carry: Carrying) -> None:
    with Peer(keep_answering(answer(JSON, "Set-Cookie: theirs=1; Path=/"))) as peer:
        answers, is_open = carry(request(peer.url), 2)
    assert [type(each) for each in answers] == [Response, Response]
    assert is_open
    for seen in peer.requests:
        assert seen.line == "POST /api/v1/usage HTTP/1.1"
        assert {*seen.headers} - {"connection"} == OURS
        assert seen.headers["authorization"] == f"Bearer {KEY}"
        assert seen.headers["accept-encoding"] == "identity"
        assert seen.headers["user-agent"].startswith("clocknext-sdk-python/")


@each_world
def test_redirects_stay_off_though_the_client_follows_them(carry: Carrying) -> None:
    with Peer(keep_answering()) as elsewhere:
        moved = answer(b"", f"Location: {elsewhere.url}/", status="307 Temporary Redirect")
        with Peer(keep_answering(moved)) as peer:
            (outcome,), _ = carry(request(peer.url))
    assert isinstance(outcome, Response)
    assert (outcome.status, elsewhere.connections) == (307, 0)


def test_a_client_of_the_transports_own_is_closed_with_it() -> None:
    client = httpx.Client()
    HttpxTransport(client, owns_client=True).close()
    assert client.is_closed

    async def main() -> bool:
        client = httpx.AsyncClient()
        await AsyncHttpxTransport(client, owns_client=True).aclose()
        return client.is_closed

    assert asyncio.run(main())


def test_the_clients_own_transport_is_used() -> None:
    """Whatever the client was made for carries the request: here, a function."""

    def handle(seen: httpx.Request) -> httpx.Response:
        assert seen.read() == b"{}"
        return httpx.Response(202, json={"url": str(seen.url)})

    with httpx.Client(transport=httpx.MockTransport(handle)) as client:
        outcome = HttpxTransport(client).exchange(
            request("https://api.example/v"), deadline_at=time.monotonic() + SOON
        )
    assert isinstance(outcome, Response)
    assert outcome.status == 202
    assert b"https://api.example/v/api/v1/usage" in outcome.body


def test_a_hook_of_the_client_may_read_the_answer() -> None:
    def read(seen: httpx.Response) -> None:
        seen.read()

    with (
        Peer(keep_answering()) as peer,
        httpx.Client(event_hooks={"response": [read]}, trust_env=False) as client,
    ):
        outcome = HttpxTransport(client).exchange(request(peer.url), deadline_at=time.monotonic() + SOON)
    assert isinstance(outcome, Response)
    assert outcome.body == JSON


@pytest.mark.parametrize(
    ("error", "processed"),
    [
        (httpx.ReadError("broke"), True),
        (httpx.ReadTimeout("late"), True),
        (httpx.RemoteProtocolError("odd"), True),
        (httpx.ConnectError("refused"), False),
        (httpx.ConnectTimeout("late"), False),
        (httpx.PoolTimeout("late"), False),
    ],
)
def test_only_what_is_certain_is_called_unprocessed(error: httpx.HTTPError, processed: bool) -> None:
    """A transport of the client's own may not trace what it does: then only the error tells."""

    def handle(_: httpx.Request) -> httpx.Response:
        raise error

    with httpx.Client(transport=httpx.MockTransport(handle)) as client:
        outcome = HttpxTransport(client).exchange(
            request("https://api.example"), deadline_at=time.monotonic() + SOON
        )
    assert isinstance(outcome, Failure)
    assert outcome.processed is processed


def test_a_hook_of_the_client_that_raises_for_the_status_does_not_hide_the_answer() -> None:
    def raise_for_status(seen: httpx.Response) -> None:
        seen.raise_for_status()

    refusal = answer(b'{"ok": false, "error": "no"}', status="422 Unprocessable")
    with (
        Peer(keep_answering(refusal)) as peer,
        httpx.Client(event_hooks={"response": [raise_for_status]}, trust_env=False) as client,
    ):
        outcome = HttpxTransport(client).exchange(request(peer.url), deadline_at=time.monotonic() + SOON)
    assert isinstance(outcome, Response)
    assert outcome.status == 422
