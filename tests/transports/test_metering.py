"""Metering with the three clients, against the emulator: what its ledger billed."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import pytest
import trio

from clocknext_core import Unbilled, ValidationError
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.emulator import DEFAULT_API_KEY, EmulatorServer, emulator
from tests.core.usage.shapes import CHAT_USAGE, chat
from tests.core.usage.test_streams import CHAT

WHO: Any = {"customer_id": "cus_123", "key": "chat_credit"}
RESPONSE = chat(CHAT_USAGE, id="chatcmpl-77aa88bb", model="gpt-4o-mini-2024-07-18")
STREAM = [{**chunk, "id": "chatcmpl-99cc00dd", "model": "gpt-4o-mini-2024-07-18"} for chunk in CHAT]
Metered: TypeAlias = Callable[[EmulatorServer, dict[str, Any]], dict[str, int]]


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with emulator() as running:
        yield running


def settings(server: EmulatorServer, more: dict[str, Any]) -> dict[str, Any]:
    return {"api_key": DEFAULT_API_KEY, "base_url": server.url, **more}


def in_threads(server: EmulatorServer, more: dict[str, Any]) -> dict[str, int]:
    with ClockNext(**settings(server, more)) as cnk:
        for _ in range(2):
            cnk.signals.from_response(RESPONSE, **WHO)
        assert list(cnk.signals.from_stream(iter(STREAM), **WHO)) == STREAM
        with cnk.signals.from_stream(iter(STREAM), **WHO) as stream:
            next(stream)
        return dict(cnk.stats().unbilled)


async def in_a_loop(cnk: AsyncClockNext | TrioClockNext) -> dict[str, int]:
    async def chunks() -> AsyncIterator[dict[str, object]]:
        for chunk in STREAM:
            yield chunk

    for _ in range(2):
        await cnk.signals.from_response(RESPONSE, **WHO)
    assert [chunk async for chunk in cnk.signals.from_stream(chunks(), **WHO)] == STREAM
    async with cnk.signals.from_stream(chunks(), **WHO) as stream:
        await anext(stream)
    return dict(cnk.stats().unbilled)


def under_asyncio(server: EmulatorServer, more: dict[str, Any]) -> dict[str, int]:
    async def main() -> dict[str, int]:
        async with AsyncClockNext(**settings(server, more)) as cnk:
            return await in_a_loop(cnk)

    return asyncio.run(main())


def under_trio(server: EmulatorServer, more: dict[str, Any]) -> dict[str, int]:
    async def main() -> dict[str, int]:
        async with TrioClockNext(**settings(server, more)) as cnk:
            return await in_a_loop(cnk)

    return trio.run(main)


WORLDS = pytest.mark.parametrize("metered", [in_threads, under_asyncio, under_trio])


@WORLDS
def test_each_exchange_is_billed_once_and_the_rest_is_reported(
    metered: Metered, server: EmulatorServer
) -> None:
    reported: list[Unbilled] = []
    unbilled = metered(server, {"on_unbilled": reported.append})
    bills = [signal.model for signal in server.ledger.signals]
    assert bills == ["gpt-4o-mini", "gpt-4o-mini"]
    assert [each.reason for each in reported] == ["seen_already", "partial"]
    assert {reason: count for reason, count in unbilled.items() if count} == {"seen_already": 1, "partial": 1}


def _raising(_: Unbilled) -> None:
    raise RuntimeError("the hook's own")


def _returning_a_coroutine(_: Unbilled) -> object:
    async def told() -> None:
        raise AssertionError("Nothing awaits a hook.")

    return told()


@pytest.mark.parametrize("hook", [_raising, _returning_a_coroutine])
@WORLDS
def test_a_hook_that_raises_is_logged_and_stops_nothing(
    metered: Metered,
    hook: Callable[[Unbilled], object],
    server: EmulatorServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR, "clocknext"):
        metered(server, {"on_unbilled": hook})
    assert len(server.ledger.signals) == 2
    assert [record.getMessage() for record in caplog.records] == [
        "The hook on_unbilled raised on seen_already.",
        "The hook on_unbilled raised on partial.",
    ]


@WORLDS
def test_without_a_hook_the_log_says_what_was_not_billed(
    metered: Metered, server: EmulatorServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "clocknext"):
        metered(server, {})
    (record,) = caplog.records  # what was seen already is billed, and none
    assert record.getMessage() == (
        "ClockNext does not bill a call to a model: partial, the stream was broken off (break). It was left "
        "before its counts were final: see on_abort. on_unbilled has what was seen of it."
    )
    assert (vars(record)["event_name"], vars(record)["reason"]) == ("unbilled", "partial")


@WORLDS
def test_the_workspaces_catalogue_names_the_model(metered: Metered, server: EmulatorServer) -> None:
    metered(server, {"models": "workspace"})
    asked = [
        request.target for request in server.ledger.requests if request.target.startswith("/api/v1/models")
    ]
    assert asked == ["/api/v1/models"]
    assert len(server.ledger.signals) == 2


@pytest.mark.parametrize(("name", "value"), [("on_unbilled", 3), ("models", "catalogue")])
def test_bad_settings(name: str, value: object) -> None:
    wrong: Any = {name: value}
    with pytest.raises(ValidationError, match=f"^{name}: must be"):
        ClockNext("cnk_test", **wrong)


def test_a_hook_that_would_have_to_be_awaited() -> None:
    async def hook(_: Unbilled) -> None: ...

    waiting: Callable[[Unbilled], Awaitable[None]] = hook
    with pytest.raises(ValidationError, match=r"^on_unbilled: must be a plain function"):
        ClockNext("cnk_test", on_unbilled=waiting)
