"""The spool: recording that waits for the disk, beside bare writes, and adopting what was left behind."""

import asyncio
import os
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from clocknext_transports import AsyncClockNext, ClockNext
from clocknext_transports.spool import SqliteSpool, Stored
from tests.benchmarks.ours import NOWHERE
from tests.benchmarks.rounds import Claim, Figure, Result, Stopwatch, alternate, single
from tests.benchmarks.setting import Setting
from tests.benchmarks.typical import API_KEY, arguments, body, holding

TASKS = 64
LEFT_BEHIND = 100_000
BATCH = 500
"""Signals that are adopted at once, as the outbox asks for them."""


def measure_recording(setting: Setting) -> Result:
    """Measure durable signals beside a loop of writes that are synchronised alike: the floor of this disk."""
    alone, together = setting.pieces(400), TASKS * max(1, setting.pieces(6400) // TASKS)
    contestants: Mapping[str, Callable[[], Figure]] = {
        "durable, one thread": partial(_record_in_threads, alone),
        "write and fsync": partial(_write, alone, 1),
        f"durable, {TASKS} tasks": partial(_record_in_asyncio, together),
        f"{TASKS} writes and an fsync": partial(_write, together, TASKS),
    }
    figures = alternate([single(name, run) for name, run in contestants.items()], setting.rounds)
    claims = [
        Claim("durable, one thread", ("write and fsync",), most=1.3),
        Claim(f"durable, {TASKS} tasks", (f"{TASKS} writes and an fsync",)),
    ]
    return Result("Recording with a spool", "µs", figures, claims)


def measure_adopting(setting: Setting) -> Result:
    """Measure how long it takes to adopt signals of an ended process, and to erase them as delivered."""
    count = setting.pieces(LEFT_BEHIND)
    name = f"adopting {count:,} signals"
    figures = alternate([single(name, partial(adopt, count))], min(setting.rounds, 3), warm_up=False)
    return Result("Adopting what was left behind", "s", figures, [Claim(name, most=10)])


@contextmanager
def _folder() -> Generator[Path, None, None]:
    with TemporaryDirectory() as made:
        yield Path(made) / "spool"


def _record_in_threads(count: int) -> Figure:
    with _folder() as path:
        client = ClockNext(API_KEY, base_url=NOWHERE, batch=holding(), spool=path)
        client.signals.credit(**arguments(0))
        watch = Stopwatch()
        for number in range(count):
            client.signals.credit(**arguments(number))
        figure = watch.per(count)
        client.close(timeout=0)
    return figure


def _record_in_asyncio(count: int) -> Figure:
    async def record(client: AsyncClockNext) -> None:
        for number in range(count // TASKS):
            await client.signals.credit(**arguments(number))

    async def run(path: Path) -> Figure:
        client = AsyncClockNext(API_KEY, base_url=NOWHERE, batch=holding(), spool=path)
        await client.signals.credit(**arguments(0))
        watch = Stopwatch()
        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS):
                group.create_task(record(client))
        figure = watch.per(count)
        await client.close(timeout=0)
        return figure

    with _folder() as path:
        return asyncio.run(run(path))


def _write(count: int, at_once: int) -> Figure:
    with TemporaryDirectory() as folder, (Path(folder) / "floor").open("ab", buffering=0) as file:
        watch = Stopwatch()
        for first in range(0, count, at_once):
            file.write(b"".join(body(number) for number in range(first, first + at_once)))
            os.fsync(file.fileno())
        return watch.per(count)


def adopt(count: int) -> Figure:
    """Leave signals behind, and take the time in which all are adopted and erased."""
    with _folder() as path:
        before = SqliteSpool(path)
        for first in range(0, count, BATCH):
            before.append([_stored(number) for number in range(first, min(count, first + BATCH))])
        before.close()
        spool = SqliteSpool(path)
        adopted = 0
        watch = Stopwatch()
        while found := spool.adopt(BATCH):
            spool.erase([each.idempotency_key for each in found])
            adopted += len(found)
        figure = watch.per(1)
        left = spool.adopt(BATCH)
        spool.close()
    if adopted != count or left:
        raise RuntimeError(f"{adopted} of {count} signals were adopted.")
    return figure


def _stored(number: int) -> Stored:
    return Stored(f"{number:032x}", body(number), time.time())
