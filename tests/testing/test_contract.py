"""The contract that ships for authors: our own transports and clients keep to it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import trio

from clocknext_core import (
    Answer,
    Request,
)
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.asyncio import NativeTransport as AsyncioTransport
from clocknext_transports.httpx import HttpxTransport
from clocknext_transports.sync import NativeTransport
from clocknext_transports.testing.contract import (
    Cancel,
    ClientContract,
    Exchange,
    RunClient,
    Together,
    TransportContract,
)
from tests.contract.clients import AwaitedClient
from tests.contract.tasks import driven
from tests.testing.homemade import Homemade


def in_threads(exchange: Exchange) -> Together:
    """Send requests at once, each in a thread."""

    def together(requests: Sequence[Request], seconds: float, /) -> Sequence[Answer]:
        with ThreadPoolExecutor(len(requests)) as pool:
            return [*pool.map(exchange, requests, [seconds] * len(requests))]

    return together


class TestNative(TransportContract):
    @pytest.fixture
    def exchange(self) -> Generator[Exchange, None, None]:
        transport = NativeTransport()

        def exchange(request: Request, seconds: float, /) -> Answer:
            return transport.exchange(request, deadline_at=time.monotonic() + seconds)

        yield exchange
        transport.close()

    @pytest.fixture
    def together(self, exchange: Exchange) -> Together:
        return in_threads(exchange)


class TestHttpx(TransportContract):
    @pytest.fixture
    def exchange(self) -> Generator[Exchange, None, None]:
        with httpx.Client(trust_env=False) as client:
            transport = HttpxTransport(client)

            def exchange(request: Request, seconds: float, /) -> Answer:
                return transport.exchange(request, deadline_at=time.monotonic() + seconds)

            yield exchange
            transport.close()

    @pytest.fixture
    def together(self, exchange: Exchange) -> Together:
        return in_threads(exchange)


class TestAsyncio(TransportContract):
    @pytest.fixture
    def together(self) -> Generator[Together, None, None]:
        transport = AsyncioTransport()
        with asyncio.Runner() as runner:

            async def all_of(requests: Sequence[Request], seconds: float) -> Sequence[Answer]:
                deadline_at = asyncio.get_running_loop().time() + seconds
                return await asyncio.gather(
                    *(transport.exchange(request, deadline_at=deadline_at) for request in requests)
                )

            def together(requests: Sequence[Request], seconds: float, /) -> Sequence[Answer]:
                return runner.run(all_of(requests, seconds))

            yield together
            runner.run(transport.aclose())

    @pytest.fixture
    def exchange(self, together: Together) -> Exchange:
        def exchange(request: Request, seconds: float, /) -> Answer:
            (answer,) = together([request], seconds)
            return answer

        return exchange


class TestHomemade(TransportContract):
    @pytest.fixture
    def exchange(self) -> Exchange:
        transport = Homemade()

        def exchange(request: Request, seconds: float, /) -> Answer:
            return transport.exchange(request, deadline_at=time.monotonic() + seconds)

        return exchange

    @pytest.fixture
    def together(self, exchange: Exchange) -> Together:
        return in_threads(exchange)


async def cancel_in_asyncio(scenario: Callable[[], Awaitable[None]], when: Callable[[], bool], /) -> None:
    task = asyncio.ensure_future(scenario())
    while not when():
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def cancel_in_trio(scenario: Callable[[], Awaitable[None]], when: Callable[[], bool], /) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scenario)
        while not when():
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()


def run_asyncio(url: str, scenario: Callable[[Any], Awaitable[None]], /, **options: Any) -> None:
    async def main() -> None:
        async with AsyncClockNext(base_url=url, **options) as client:
            await scenario(client)

    asyncio.run(main())


class TestClientOfAsyncio(ClientContract):
    @pytest.fixture
    def run(self) -> RunClient:
        return run_asyncio

    @pytest.fixture
    def cancel(self) -> Cancel:
        return cancel_in_asyncio


class TestClientOfTrio(ClientContract):
    @pytest.fixture
    def cancel(self) -> Cancel:
        return cancel_in_trio

    @pytest.fixture
    def run(self) -> RunClient:
        def run(url: str, scenario: Callable[[Any], Awaitable[None]], /, **options: Any) -> None:
            async def main() -> None:
                async with TrioClockNext(base_url=url, **options) as client:
                    await scenario(client)

            trio.run(main)

        return run


class TestClientOfThreads(ClientContract):
    @pytest.fixture
    def run(self) -> RunClient:
        def run(url: str, scenario: Callable[[Any], Awaitable[None]], /, **options: Any) -> None:
            async def main() -> None:
                async with AwaitedClient(ClockNext(base_url=url, **options)) as client:
                    await scenario(client)

            driven(main())

        return run


# Mistakes of others
