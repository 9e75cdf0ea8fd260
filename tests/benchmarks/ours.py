"""The library's three clients as contestants."""

import asyncio
from collections.abc import Sequence
from functools import partial

import trio

from clocknext_core import BatchPolicy, FlushReport
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.client.hooks import OnRetry
from tests.benchmarks.rounds import Figure, Stopwatch
from tests.benchmarks.typical import API_KEY, MODEL, Arguments, arguments, holding

NOWHERE = "http://127.0.0.1:9"
"""Where signals would go that are dropped before they are sent."""


def record_in_threads(count: int) -> Figure:
    """Buffer so many signals."""
    client = ClockNext(API_KEY, base_url=NOWHERE, batch=holding())
    credit = client.signals.credit
    watch = Stopwatch()
    for _ in range(count):
        credit(
            customer_id="cus_123",
            model=MODEL,
            key="api_credit",
            member="alice@acme.example",
            tokens={"input": 1200, "output": 340, "cache": 0},
            custom={"feature": "summarize"},
        )
    figure = watch.per(count)
    client.close(timeout=0)
    return figure


async def _record(client: AsyncClockNext | TrioClockNext, count: int) -> Figure:
    credit = client.signals.credit
    watch = Stopwatch()
    for _ in range(count):
        await credit(
            customer_id="cus_123",
            model=MODEL,
            key="api_credit",
            member="alice@acme.example",
            tokens={"input": 1200, "output": 340, "cache": 0},
            custom={"feature": "summarize"},
        )
    figure = watch.per(count)
    await client.close(timeout=0)
    return figure


def record_in_asyncio(count: int) -> Figure:
    """Buffer so many signals."""

    async def run() -> Figure:
        return await _record(AsyncClockNext(API_KEY, base_url=NOWHERE, batch=holding()), count)

    return asyncio.run(run())


def record_in_trio(count: int) -> Figure:
    """Buffer so many signals."""

    async def run() -> Figure:
        async with TrioClockNext(API_KEY, base_url=NOWHERE, batch=holding()) as client:
            return await _record(client, count)

    return trio.run(run)


def drain_in_threads(
    url: str, signals: Sequence[Arguments], batch: BatchPolicy, keys: Sequence[str], on_retry: OnRetry | None
) -> Figure:
    """Flush signals that are held, over warm connections."""
    with ClockNext(API_KEY, base_url=url, batch=batch, on_retry=on_retry) as client:
        for number in range(batch.most_concurrency):
            client.signals.credit(**arguments(number))
        client.flush()
        for signal, key in zip(signals, keys, strict=True):
            client.signals.credit(**signal, idempotency_key=key)
        watch = Stopwatch()
        report = client.flush()
        figure = watch.per(len(signals))
    _check(report, len(signals))
    return figure


async def _drain(
    client: AsyncClockNext | TrioClockNext,
    signals: Sequence[Arguments],
    batch: BatchPolicy,
    keys: Sequence[str],
) -> Figure:
    for number in range(batch.most_concurrency):
        await client.signals.credit(**arguments(number))
    await client.flush()
    for signal, key in zip(signals, keys, strict=True):
        await client.signals.credit(**signal, idempotency_key=key)
    watch = Stopwatch()
    report = await client.flush()
    figure = watch.per(len(signals))
    _check(report, len(signals))
    return figure


def drain_in_asyncio(
    url: str, signals: Sequence[Arguments], batch: BatchPolicy, keys: Sequence[str], on_retry: OnRetry | None
) -> Figure:
    """Flush signals that are held, over warm connections."""

    async def run() -> Figure:
        async with AsyncClockNext(API_KEY, base_url=url, batch=batch, on_retry=on_retry) as client:
            return await _drain(client, signals, batch, keys)

    return asyncio.run(run())


def drain_in_trio(
    url: str, signals: Sequence[Arguments], batch: BatchPolicy, keys: Sequence[str], on_retry: OnRetry | None
) -> Figure:
    """Flush signals that are held, over warm connections."""

    async def run() -> Figure:
        async with TrioClockNext(API_KEY, base_url=url, batch=batch, on_retry=on_retry) as client:
            return await _drain(client, signals, batch, keys)

    return trio.run(run)


DRAINS = {"threads": drain_in_threads, "asyncio": drain_in_asyncio, "trio": drain_in_trio}


def await_in_threads(url: str, count: int) -> Figure:
    """Send so many signals, one after the other, waiting for each answer."""
    with ClockNext(API_KEY, base_url=url) as client:
        credit = partial(client.signals.credit, wait=True)
        credit(**arguments(0))
        watch = Stopwatch()
        for number in range(count):
            credit(**arguments(number))
        return watch.per(count)


async def _await(client: AsyncClockNext | TrioClockNext, count: int) -> Figure:
    credit = partial(client.signals.credit, wait=True)
    await credit(**arguments(0))
    watch = Stopwatch()
    for number in range(count):
        await credit(**arguments(number))
    return watch.per(count)


def await_in_asyncio(url: str, count: int) -> Figure:
    """Send so many signals, one after the other, waiting for each answer."""

    async def run() -> Figure:
        async with AsyncClockNext(API_KEY, base_url=url) as client:
            return await _await(client, count)

    return asyncio.run(run())


def await_in_trio(url: str, count: int) -> Figure:
    """Send so many signals, one after the other, waiting for each answer."""

    async def run() -> Figure:
        async with TrioClockNext(API_KEY, base_url=url) as client:
            return await _await(client, count)

    return trio.run(run)


def _check(report: FlushReport, count: int) -> None:
    if report.delivered != count:
        raise RuntimeError(f"{report.delivered} of {count} signals were delivered.")
