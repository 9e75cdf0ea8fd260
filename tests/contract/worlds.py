"""Worlds: a driver and a transport, in which a scenario runs that knows neither.

A scenario is a coroutine function over a `World`, and all clients look alike to it: every method is awaited.
Under threads the awaited call is made there and then, so a scenario never suspends and needs no event loop.
"""

import asyncio
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import cache
from ssl import SSLContext, create_default_context
from typing import Any, TypeAlias, TypeVar, Unpack, final

import pytest
import trio
import trio.testing

from clocknext_core import BatchPolicy, RetryPolicy
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.emulator import DEFAULT_API_KEY, Hold
from clocknext_transports.httpx import AsyncHttpxTransport, HttpxTransport
from tests.contract.clients import PATIENCE, AwaitedClient, Client, Hooks, Options, Seen
from tests.contract.tasks import AsyncioTasks, Tasks, ThreadTask, ThreadTasks, driven, show_stacks, trio_tasks

T = TypeVar("T")

KEY = DEFAULT_API_KEY
LIMIT = 50.0
"""Longest a scenario may take, seconds: beyond it something hangs."""
QUICK = RetryPolicy(max_attempts=5, base_delay=0.001, max_delay=0.004)
PATIENT_BATCH = BatchPolicy(max_size=1000, max_interval=3600.0)
GIVING_UP = BatchPolicy(max_size=1000, max_interval=3600.0, outage="drop")
"""Sends on flush and close only."""

Scenario: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class World(ABC):
    """A driver and a transport.

    Args:
        httpx: The package whose client carries the requests, `httpx` or `httpx2`. Default: the native
            transport does.
    """

    def __init__(self, *, httpx: str | None = None) -> None:
        self.httpx: Any = None if httpx is None else pytest.importorskip(httpx)
        self.uses_httpx = httpx is not None
        self.hooks = Hooks()
        """What every client that is given no hooks of its own reports to."""
        self._closers: list[Callable[[], Awaitable[None]]] = []

    def run(self, scenario: Scenario) -> None:
        """Run a scenario to its end; nothing of a client may be left then."""

        async def cared_for() -> None:
            try:
                await scenario()
            finally:
                while self._closers:
                    await self._closers.pop()()
            self.check_no_task_runs()

        self._run(cared_for)

    @asynccontextmanager
    async def open(self, url: str, **options: Unpack[Options]) -> AsyncGenerator[Client, None]:
        """Make a client for the length of a block of its own."""
        client = self.create(url, **options)
        async with client:
            yield client

    def create(self, url: str, **options: Unpack[Options]) -> Client:
        """Make a client, which the scenario has to close."""
        hooks = self.hooks
        defaults: Options = {
            "api_key": KEY,
            "retry": QUICK,
            "on_error": hooks.on_error,
            "on_flush": hooks.on_flush,
            "on_retry": hooks.on_retry,
            "on_drop": hooks.on_drop,
        }
        return self._create(url, {**defaults, **options})

    async def arrived(self, gate: Hold, count: int = 1) -> None:
        """Wait until so many requests have come to a gate."""
        assert await self.blocking(lambda: gate.wait_arrived(PATIENCE, count=count)), (
            f"{gate.arrived} requests have come, not {count}"
        )

    async def hooked(self, is_there: Callable[[Sequence[Seen]], bool]) -> None:
        """Wait until the hooks have been called as they should be."""
        assert await self.blocking(lambda: self.hooks.wait_for(is_there)), self.hooks.seen

    @abstractmethod
    def tasks(self) -> AbstractAsyncContextManager[Tasks]:
        """Open a block that tasks may be started in, and that ends when they have."""

    @abstractmethod
    async def blocking(self, function: Callable[[], T]) -> T:
        """Wait for a function that blocks a thread, while everything else goes on."""

    @abstractmethod
    def from_hook(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Do something from a hook, in whatever way hooks of this world can."""

    async def cancelled(self, scenario: Scenario, *, when: Callable[[], Awaitable[None]]) -> None:
        """Run a scenario, wait until `when` has come, and cancel it before it has ended."""
        raise NotImplementedError("Threads are not cancelled.")

    async def cancelled_after(self, turns: int, scenario: Scenario) -> bool:
        """Run a scenario, cancel it after so many turns of the event loop; whether it had ended by then."""
        raise NotImplementedError("Threads are not cancelled.")

    async def forever(self) -> None:
        """Wait to be cancelled."""
        raise NotImplementedError("Threads are not cancelled.")

    async def turn(self) -> None:
        """Let every task that can go on do so, a few times."""
        raise NotImplementedError("Threads take no turns.")

    @abstractmethod
    def check_no_task_runs(self) -> None:
        """Require that no client has a task, or a thread, of its own."""

    @abstractmethod
    def _run(self, scenario: Scenario) -> None: ...

    @abstractmethod
    def _create(self, url: str, options: Options) -> Client: ...


@final
class Threads(World):
    """`ClockNext`."""

    def tasks(self) -> AbstractAsyncContextManager[Tasks]:
        return ThreadTasks()

    async def blocking(self, function: Callable[[], T]) -> T:
        return function()

    def from_hook(self, coroutine: Coroutine[Any, Any, object]) -> None:
        driven(coroutine)

    def check_no_task_runs(self) -> None:
        # An exchange of httpx that was given up may outlast its client, but not the server.
        deadline_at = time.monotonic() + PATIENCE
        for thread in threading.enumerate():
            if thread.name == "clocknext httpx":
                thread.join(max(0.0, deadline_at - time.monotonic()))
        left = [thread.name for thread in threading.enumerate() if thread.name.startswith("clocknext")]
        if left:
            show_stacks()
        assert left == [], left

    def _run(self, scenario: Scenario) -> None:
        task = ThreadTask(scenario(), name="scenario")
        try:
            task.future.result(LIMIT)
        except TimeoutError:
            if task.future.done():
                raise
            show_stacks()
            raise AssertionError("The scenario hangs.") from None
        finally:
            task.thread.join(PATIENCE)

    def _create(self, url: str, options: Options) -> Client:
        if not self.uses_httpx:
            return AwaitedClient(ClockNext(base_url=url, **options))
        client = self.httpx.Client(verify=_ssl_context(), trust_env=False)

        async def close() -> None:
            client.close()

        self._closers.append(close)
        return AwaitedClient(ClockNext(base_url=url, transport=HttpxTransport(client), **options))


class _AsyncWorld(World):
    def _httpx_transport(self) -> AsyncHttpxTransport | None:
        if not self.uses_httpx:
            return None
        client = self.httpx.AsyncClient(verify=_ssl_context(), trust_env=False)
        self._closers.append(client.aclose)
        return AsyncHttpxTransport(client)


@final
class Asyncio(_AsyncWorld):
    """`AsyncClockNext`."""

    def tasks(self) -> AbstractAsyncContextManager[Tasks]:
        return AsyncioTasks()

    async def blocking(self, function: Callable[[], T]) -> T:
        return await asyncio.to_thread(function)

    def from_hook(self, coroutine: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)

        async def end() -> None:
            await asyncio.wait_for(task, PATIENCE)

        self._closers.append(end)

    async def cancelled(self, scenario: Scenario, *, when: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.create_task(scenario())
        await when()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def cancelled_after(self, turns: int, scenario: Scenario) -> bool:
        task = asyncio.create_task(scenario())
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.done():
            await task
            return True
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return False

    async def forever(self) -> None:
        await asyncio.Event().wait()

    async def turn(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    def check_no_task_runs(self) -> None:
        left = {task.get_name() for task in asyncio.all_tasks()}
        assert not any(name.startswith("clocknext") for name in left), left

    def _run(self, scenario: Scenario) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(LIMIT):
                await scenario()

        asyncio.run(bounded())

    def _create(self, url: str, options: Options) -> Client:
        return AsyncClockNext(base_url=url, transport=self._httpx_transport(), **options)


@final
class Trio(_AsyncWorld):
    """`TrioClockNext`."""

    def tasks(self) -> AbstractAsyncContextManager[Tasks]:
        return trio_tasks()

    async def blocking(self, function: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(function, abandon_on_cancel=True)

    def from_hook(self, coroutine: Coroutine[Any, Any, object]) -> None:
        async def carry_out() -> None:
            await coroutine

        trio.lowlevel.spawn_system_task(carry_out)

    async def cancelled(self, scenario: Scenario, *, when: Callable[[], Awaitable[None]]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scenario)
            await when()
            nursery.cancel_scope.cancel()
        assert nursery.cancel_scope.cancelled_caught

    async def cancelled_after(self, turns: int, scenario: Scenario) -> bool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scenario)
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            has_ended = not nursery.child_tasks
            nursery.cancel_scope.cancel()
        return has_ended

    async def forever(self) -> None:
        await trio.sleep_forever()

    async def turn(self) -> None:
        await trio.testing.wait_all_tasks_blocked()

    def check_no_task_runs(self) -> None:
        tasks = [trio.lowlevel.current_root_task()]
        names = list[str]()
        while tasks:
            task = tasks.pop()
            if task is not None:
                names.append(task.name)
                tasks += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        assert not any(name.startswith("clocknext") for name in names), names

    def _run(self, scenario: Scenario) -> None:
        async def bounded() -> None:
            with trio.fail_after(LIMIT):
                await scenario()

        trio.run(bounded)

    def _create(self, url: str, options: Options) -> Client:
        return TrioClockNext(base_url=url, transport=self._httpx_transport(), **options)


WORLDS: dict[str, Callable[[], World]] = {
    "threads-native": Threads,
    "threads-httpx": lambda: Threads(httpx="httpx"),
    "threads-httpx2": lambda: Threads(httpx="httpx2"),
    "asyncio-native": Asyncio,
    "asyncio-httpx": lambda: Asyncio(httpx="httpx"),
    "asyncio-httpx2": lambda: Asyncio(httpx="httpx2"),
    "trio-native": Trio,
    "trio-httpx": lambda: Trio(httpx="httpx"),
    "trio-httpx2": lambda: Trio(httpx="httpx2"),
}

in_threads = pytest.mark.parametrize(
    "world", [name for name in WORLDS if name.startswith("threads")], indirect=True
)
"""Only for threads."""
in_tasks = pytest.mark.parametrize(
    "world", [name for name in WORLDS if not name.startswith("threads")], indirect=True
)
"""Only where there is cancellation."""
in_asyncio = pytest.mark.parametrize(
    "world", [name for name in WORLDS if name.startswith("asyncio")], indirect=True
)
"""Only for asyncio."""
without_block = pytest.mark.parametrize(
    "world", [name for name in WORLDS if not name.startswith("trio")], indirect=True
)
"""Only where signals can be buffered outside `async with`."""


class LogKeeper(logging.Handler):
    """Keeps what the clients and asyncio log, but for the log of events, for the scenario to look at."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record as it would be printed, with its traceback."""
        if not hasattr(record, "event_name"):  # else it is an event, and hooks tell the same
            self._lines.append(self.format(record))

    def take(self) -> list[str]:
        """Return what was logged since the last time."""
        lines, self._lines = self._lines, []
        return lines


@cache
def _ssl_context() -> SSLContext:
    # httpx would load the system's trust store anew for every client.
    return create_default_context()
