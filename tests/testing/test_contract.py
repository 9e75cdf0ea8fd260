"""The contract that ships for authors, over our own transports and clients."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any

import httpx
import pytest
import trio

from clocknext_core import Answer, Request, Response
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.asyncio import NativeTransport as AsyncioTransport
from clocknext_transports.emulator import emulator
from clocknext_transports.httpx import HttpxTransport
from clocknext_transports.sync import NativeTransport
from clocknext_transports.testing.contract import ClientContract, Exchange, RunClient, TransportContract
from tests.contract.clients import AwaitedClient
from tests.contract.tasks import driven


class TestNative(TransportContract):
    @pytest.fixture
    def exchange(self) -> Generator[Exchange, None, None]:
        transport = NativeTransport()

        def exchange(request: Request, seconds: float, /) -> Answer:
            return transport.exchange(request, deadline_at=time.monotonic() + seconds)

        yield exchange
        transport.close()


class TestHttpx(TransportContract):
    @pytest.fixture
    def exchange(self) -> Generator[Exchange, None, None]:
        with httpx.Client(trust_env=False) as client:
            transport = HttpxTransport(client)

            def exchange(request: Request, seconds: float, /) -> Answer:
                return transport.exchange(request, deadline_at=time.monotonic() + seconds)

            yield exchange
            transport.close()


class TestAsyncio(TransportContract):
    @pytest.fixture
    def exchange(self) -> Generator[Exchange, None, None]:
        transport = AsyncioTransport()
        with asyncio.Runner() as runner:

            async def once(request: Request, seconds: float) -> Answer:
                deadline_at = asyncio.get_running_loop().time() + seconds
                return await transport.exchange(request, deadline_at=deadline_at)

            def exchange(request: Request, seconds: float, /) -> Answer:
                return runner.run(once(request, seconds))

            yield exchange
            runner.run(transport.aclose())


class TestClientOfAsyncio(ClientContract):
    @pytest.fixture
    def run(self) -> RunClient:
        def run(url: str, scenario: Callable[[Any], Awaitable[None]], /, **options: Any) -> None:
            async def main() -> None:
                async with AsyncClockNext(base_url=url, **options) as client:
                    await scenario(client)

            asyncio.run(main())

        return run


class TestClientOfTrio(ClientContract):
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


def test_the_contract_finds_a_transport_that_makes_its_answers_up() -> None:
    def made_up(request: Request, seconds: float, /) -> Answer:
        del request, seconds
        return Response(200, (("content-type", "application/json"),), b"Emulated organisation", 1.0)

    contract = TransportContract()
    with emulator() as server:
        for test in (
            partial(contract.test_an_error_of_the_api_is_an_answer, made_up, server),
            partial(contract.test_a_redirect_is_not_followed, made_up),
            partial(contract.test_a_connection_that_is_refused_is_a_failure, made_up),
            partial(contract.test_an_answer_that_breaks_off_is_a_failure, made_up, server, "lost"),
            partial(contract.test_what_is_not_http_is_a_failure, made_up),
            partial(contract.test_the_deadline_is_kept, made_up, server),
            partial(contract.test_an_answer_without_end_is_a_failure, made_up, server),
        ):
            with pytest.raises(AssertionError):
                test()


def test_the_contract_finds_a_client_that_sends_nothing() -> None:
    def run(url: str, scenario: Callable[[Any], Awaitable[None]], /, **options: Any) -> None:
        async def main() -> None:
            async with AsyncClockNext(base_url=url, disabled=True, **options) as client:
                await scenario(client)

        asyncio.run(main())

    contract = ClientContract()
    with emulator() as server:
        for test in (
            contract.test_the_end_of_the_block_delivers,
            contract.test_faults_cost_no_signal_and_bill_none_twice,
            contract.test_a_hook_that_raises_stops_nothing,
            contract.test_never_more_attempts_at_once_than_allowed,
            contract.test_a_flush_ends_in_time,
        ):
            with pytest.raises(AssertionError):
                test(run, server)
