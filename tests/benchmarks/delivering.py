"""Delivering: signals per second out of the buffer, and the time of one that is awaited."""

import asyncio
from collections.abc import Sequence
from functools import partial

import trio

from tests.benchmarks import baselines, ours, peers
from tests.benchmarks.rounds import Claim, Contestant, Figure, Result, Stopwatch, alternate, single
from tests.benchmarks.setting import Setting
from tests.benchmarks.typical import arguments, body, holding

WORLDS = ("asyncio", "trio", "threads")
CONCURRENCY = 5
CONCURRENCIES = (1, 2, 4, 8, 16, 32, 64)

_BARE = {
    "asyncio": baselines.drain_in_asyncio,
    "trio": baselines.drain_in_trio,
    "threads": baselines.drain_in_threads,
}


def measure_draining(setting: Setting) -> Result:
    """Measure how fast a full buffer empties, with as many attempts at once as there are by default."""
    count = setting.pieces(2000)
    threads = [_bare("threads", setting, count, width) for width in (1, 2, CONCURRENCY)]
    httpx = partial(peers.drain_with_httpx, setting.server.url, _bodies(count), CONCURRENCY)
    contestants = [
        *(_driver(world, setting, count, CONCURRENCY) for world in WORLDS),
        *(_bare(world, setting, count, CONCURRENCY) for world in WORLDS if world != "threads"),
        *threads,
        single("httpx AsyncClient", httpx),
    ]
    if setting.official is not None:
        run = partial(peers.drain_with_official, setting.official, setting.server.url, count, CONCURRENCY)
        contestants.append(single("official client, Node", run))
    best = tuple(_bare_name("threads", width) for width in (1, 2, CONCURRENCY))
    claims = [
        *(
            Claim(_driver_name(world, CONCURRENCY), (_bare_name(world, CONCURRENCY),), least=0.85)
            for world in WORLDS
            if world != "threads"
        ),
        Claim(_driver_name("threads", CONCURRENCY), best, least=0.85, theirs_is="best of bare h11, threads"),
        *(Claim(_driver_name(world, CONCURRENCY), ("httpx AsyncClient",), least=3) for world in WORLDS),
        *(Claim(_driver_name(world, CONCURRENCY), ("official client, Node",)) for world in WORLDS),
    ]
    figures = alternate(contestants, setting.rounds)
    return Result("Draining the buffer, for each signal", "µs", figures, claims)


def measure_concurrency(setting: Setting) -> Result:
    """Measure the same against the number of attempts at once."""
    count = setting.pieces(1000)
    contestants = [
        make(world, setting, count, width)
        for width in (CONCURRENCIES[:2] if setting.is_quick else CONCURRENCIES)
        for world in WORLDS
        for make in (_driver, _bare)
    ]
    return Result(
        "Draining the buffer, for each signal, by attempts at once",
        "µs",
        alternate(contestants, setting.rounds, warm_up=False),
    )


def concurrency_series() -> dict[str, dict[int, str]]:
    """Return which figures make which curve: by attempts at once."""
    return {
        f"{kind}, {world}": {width: name(world, width) for width in CONCURRENCIES}
        for world in WORLDS
        for kind, name in (("ClockNext", _driver_name), ("bare h11", _bare_name))
    }


def measure_awaited(setting: Setting) -> Result:
    """Measure a signal that is sent at once and awaited, over a warm connection."""
    count = setting.pieces(1500)
    url, port = setting.server.url, setting.server.port
    contestants = {
        "wait=True, threads": partial(ours.await_in_threads, url, count),
        "wait=True, asyncio": partial(ours.await_in_asyncio, url, count),
        "wait=True, trio": partial(ours.await_in_trio, url, count),
        "bare h11, threads": partial(_post_in_threads, port, count),
        "bare h11, asyncio": partial(_post_in_asyncio, port, count),
        "bare h11, trio": partial(_post_in_trio, port, count),
        "httpx Client": partial(peers.post_with_httpx, url, count),
    }
    figures = alternate([single(name, run) for name, run in contestants.items()], setting.rounds)
    claims = [
        *(Claim(f"wait=True, {world}", (f"bare h11, {world}",), most=1.3) for world in WORLDS),
        Claim("wait=True, threads", ("httpx Client",)),
    ]
    return Result("One awaited signal", "µs", figures, claims)


def _driver_name(world: str, width: int) -> str:
    return f"{world} driver, {width} at once"


def _bare_name(world: str, width: int) -> str:
    return f"bare h11, {world}, {width} at once"


def _driver(world: str, setting: Setting, count: int, width: int) -> Contestant:
    signals = [arguments(number) for number in range(count)]
    keys = [f"{number:032x}" for number in range(count)]
    run = partial(ours.DRAINS[world], setting.server.url, signals, holding(width), keys, None)
    return single(_driver_name(world, width), run)


def _bare(world: str, setting: Setting, count: int, width: int) -> Contestant:
    run = partial(_BARE[world], setting.server.port, _bodies(count), width)
    return single(_bare_name(world, width), run)


def _bodies(count: int) -> Sequence[bytes]:
    return [body(number) for number in range(count)]


def _post_in_threads(port: int, count: int) -> Figure:
    connection = baselines.BlockingConnection(port)
    connection.post(body(0))
    watch = Stopwatch()
    for number in range(count):
        connection.post(body(number))
    figure = watch.per(count)
    connection.close()
    return figure


async def _post(connection: baselines.AsyncioConnection | baselines.TrioConnection, count: int) -> Figure:
    await connection.post(body(0))
    watch = Stopwatch()
    for number in range(count):
        await connection.post(body(number))
    figure = watch.per(count)
    await connection.close()
    return figure


def _post_in_asyncio(port: int, count: int) -> Figure:
    async def run() -> Figure:
        return await _post(await baselines.AsyncioConnection.open(port), count)

    return asyncio.run(run())


def _post_in_trio(port: int, count: int) -> Figure:
    async def run() -> Figure:
        return await _post(await baselines.TrioConnection.open(port), count)

    return trio.run(run)
