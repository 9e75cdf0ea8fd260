"""Every recorded exchange in every world, by its public name: the same on the wire and for the caller."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager
from typing import cast

import pytest

from clocknext_core import ClockNextError, TrackResult
from clocknext_transports.emulator import Answer, ScriptedServer, scripted
from tests.contract.clients import Client
from tests.contract.worlds import KEY, World
from tests.recordings import Exchange, HookLog, SeenRequest, bound_call, load_exchanges

EXCHANGES = load_exchanges()
CALLS = [each for each in EXCHANGES if not each.buffered]
BUFFERED = [each for each in EXCHANGES if each.buffered]


def script(exchange: Exchange) -> list[Answer]:
    return [(each.status, each.headers, each.body.encode()) for each in exchange.answers]


def seen_by(server: ScriptedServer) -> list[SeenRequest]:
    return [SeenRequest(each.method, each.target, each.headers, each.body) for each in server.requests]


async def outcome_of(client: Client, exchange: Exchange) -> object:
    """Make the recorded call: what it returned (all items of an iterator), or the error it raised."""
    method, positional, arguments = bound_call(client, exchange)
    try:
        called: object = method(*positional, **arguments)
        if isinstance(called, AsyncIterator):
            return [each async for each in cast("AsyncIterator[object]", called)]
        return await cast("Awaitable[object]", called)
    except ClockNextError as error:
        return error


def opened(
    world: World, server: ScriptedServer, exchange: Exchange, seen: HookLog
) -> AbstractAsyncContextManager[Client]:
    """Open a client as the recorded one was made."""
    return world.open(
        server.url,
        batch=exchange.batch,
        retry=exchange.retry,
        on_error=seen.on_error,
        on_drop=seen.on_drop,
        on_retry=seen.on_retry,
        on_flush=seen.on_flush,
    )


@pytest.mark.parametrize("exchange", CALLS, ids=str)
async def test_a_recorded_call(world: World, exchange: Exchange) -> None:
    seen = HookLog()
    with scripted(script(exchange)) as server:
        async with opened(world, server, exchange, seen) as client:
            outcome = await outcome_of(client, exchange)
        exchange.check_outcome(outcome)
        exchange.check_requests(seen_by(server), KEY)
    assert seen.seen == exchange.hooks
    assert len({each.body for each in server.requests if each.method == "POST"}) <= 1
    if isinstance(outcome, TrackResult):
        assert outcome.raw.get("usageLog") == exchange.outcome["value"]["usage_log"]


@pytest.mark.parametrize("exchange", BUFFERED, ids=str)
async def test_recorded_buffered_signals(world: World, exchange: Exchange) -> None:
    seen = HookLog()
    with scripted(script(exchange)) as server:
        async with opened(world, server, exchange, seen) as client:
            method, _, _ = bound_call(client, exchange)
            for arguments in exchange.buffered:
                result = await method(**arguments)
                assert isinstance(result, TrackResult)
                assert (result.queued, result.usage_log) == (True, None)
            exchange.check_report(await client.flush())
        exchange.check_requests(seen_by(server), KEY, in_order=exchange.batch.max_concurrency == 1)
        assert 1 <= server.max_in_service <= exchange.max_in_flight
    assert seen.seen == exchange.hooks


@pytest.mark.parametrize("prefix", ["/billing", "/a%20b/c/"])
async def test_a_base_url_with_a_path_is_put_before_every_target(world: World, prefix: str) -> None:
    exchange = next(each for each in CALLS if each.method == "customers.get")
    with scripted(script(exchange)) as server:
        async with world.open(server.url + prefix) as client:
            exchange.check_outcome(await outcome_of(client, exchange))
        assert [each.target for each in server.requests] == [
            prefix.rstrip("/") + each.target for each in exchange.requests
        ]
