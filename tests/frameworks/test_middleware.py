"""The middleware of ASGI, driven by hand: lifespans, customers, clients of all worlds."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from clocknext import AsyncClockNext, ClockNext, TrioClockNext, ValidationError
from clocknext_core import BatchPolicy
from clocknext_transports.emulator import EmulatorServer, Fault, emulator
from clocknext_transports.integrations.asgi import ClockNextMiddleware, Message, Receive, Send

WALLET: Any = {"customer_id": "cus_123", "model": "gpt-4o"}
PATIENT = BatchPolicy(max_interval=600.0)
LIVED = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with emulator() as running:
        yield running


async def live(app: ClockNextMiddleware, *requests: Message) -> list[str]:
    """Be a server: start an application, send it requests, stop it; return what it said of its lifespan."""
    received = iter(["lifespan.startup", "lifespan.shutdown"])
    sent: list[str] = []

    async def receive() -> Message:
        name = next(received)
        if name == "lifespan.shutdown":
            for request in requests:
                await app(request, receive, send)
        return {"type": name}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    return sent


def application(cnk: Any, lifespan: str = "none") -> Any:
    """Make an application that records a signal for each request, and lives as said."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            recorded = cnk.signals.wallet(**WALLET)
            if cnk.is_async:
                await recorded
        elif lifespan == "raises":
            raise ValueError("lifespan is not supported")
        elif lifespan == "fails":
            await receive()
            raise RuntimeError("no database")
        elif lifespan == "lives":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            recorded = cnk.signals.wallet(**WALLET)
            if cnk.is_async:
                await recorded
            await send({"type": "lifespan.shutdown.complete"})

    return app


HTTP: Message = {"type": "http"}


@pytest.mark.parametrize(("lifespan", "billed"), [("none", 2), ("raises", 2), ("lives", 3)])
@pytest.mark.parametrize("kind", [ClockNext, AsyncClockNext])
def test_what_is_held_is_delivered_before_the_end_is_reported(
    server: EmulatorServer, kind: Any, lifespan: str, billed: int
) -> None:
    cnk = kind(server.api_key, base_url=server.url, batch=PATIENT)

    async def main() -> None:
        app = ClockNextMiddleware(application(cnk, lifespan), cnk)
        assert await live(app, HTTP, HTTP) == LIVED
        assert len(server.ledger.signals) == billed
        assert await live(app, HTTP, HTTP) == LIVED  # as a test client starts it for each test
        assert len(server.ledger.signals) == 2 * billed
        closed = cnk.close()
        if cnk.is_async:
            await closed

    asyncio.run(main())


@pytest.mark.parametrize("kind", [ClockNext, TrioClockNext])
def test_it_works_under_trio(server: EmulatorServer, kind: Any) -> None:
    cnk = kind(server.api_key, base_url=server.url, batch=PATIENT)
    app = ClockNextMiddleware(application(cnk), cnk)
    assert trio.run(live, app, HTTP, HTTP) == LIVED
    assert len(server.ledger.signals) == 2
    if kind is ClockNext:
        cnk.close()


def test_a_start_that_fails_is_the_servers_to_report(server: EmulatorServer) -> None:
    with ClockNext(server.api_key, base_url=server.url) as cnk:
        app = ClockNextMiddleware(application(cnk, "fails"), cnk)
        with pytest.raises(RuntimeError, match="no database"):
            asyncio.run(live(app))


def test_what_could_not_be_delivered_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with emulator() as server:
        cnk = ClockNext(server.api_key, base_url=server.url, batch=PATIENT, close_timeout=0.2)
        server.faults.chance(1.0, Fault("status", 503))
        app = ClockNextMiddleware(application(cnk), cnk)
        asyncio.run(live(app, HTTP))
        cnk.close(0.0)
    assert "ClockNext signals not delivered when the server stopped: 1. They stay held" in caplog.text


def by_query(scope: Message) -> Any:
    """Return who is billed as the tests say; an application would look into its session."""
    return scope.get("who")


async def by_query_later(scope: Message) -> Any:
    return by_query(scope)


@pytest.mark.parametrize("customer", [by_query, by_query_later])
def test_each_request_is_billed_to_its_customer(server: EmulatorServer, customer: Any) -> None:
    usage = {"prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13}
    answer = {"object": "chat.completion", "model": "gpt-4o", "usage": usage}

    async def main() -> None:
        async with AsyncClockNext(server.api_key, base_url=server.url) as cnk:

            async def app(scope: Message, receive: Receive, send: Send) -> None:
                cnk.start_call().answered(answer)

            wrapped: Any = ClockNextMiddleware(app, cnk, customer=customer, key="chat_credit")
            for who in ("cus_123", {"customer_id": "cus_456", "type": "wallet", "key": None}, None, ""):
                await wrapped({"type": "http", "who": who}, None, None)
            stats = cnk.stats()
            assert (stats.unbilled["unattributed"], stats.unbilled["scope_ended"]) == (2, 0)

    asyncio.run(main())
    assert sorted((each.customer_id, each.key) for each in server.ledger.signals) == [
        ("cus_123", "chat_credit"),
        ("cus_456", None),
    ]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("cnk", {"cnk": 7}), ("customer", {"customer": "cus_1"}), ("customer", {"key": "chat_credit"})],
)
def test_a_wrong_argument_is_an_error_at_once(name: str, arguments: Any) -> None:
    cnk = ClockNext("cnk_test")
    made: Any = {"cnk": cnk, **arguments}
    with pytest.raises(ValidationError, match=f"^{name}: "):
        ClockNextMiddleware(application(cnk), **made)
