"""What runs beside a scenario: a thread or a task, started and waited for in the same way in every world."""

import asyncio
import faulthandler
import threading
from collections.abc import AsyncGenerator, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, Self, TypeVar

import trio

from tests.contract.clients import PATIENCE

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_STDERR = 2


class Task(Protocol[T_co]):
    """Something under way beside the scenario."""

    async def result(self) -> T_co:
        """Wait for its end, and return or raise what it came to."""
        ...


class Tasks(Protocol):
    """Starts what is to run beside the scenario."""

    def start(self, coroutine: Coroutine[Any, Any, T], /) -> Task[T]:
        """Start a coroutine."""
        ...


def driven(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise AssertionError("A scenario suspended where there is no event loop.")


class ThreadTask(Generic[T]):
    def __init__(self, coroutine: Coroutine[Any, Any, T], *, name: str = "task") -> None:
        self._coroutine = coroutine
        self.future: Future[T] = Future()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.future.set_result(driven(self._coroutine))
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            self.future.set_exception(error)

    async def result(self) -> T:
        return self.future.result(PATIENCE)


class ThreadTasks:
    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def start(self, coroutine: Coroutine[Any, Any, T], /) -> Task[T]:
        task = ThreadTask(coroutine)
        self._threads.append(task.thread)
        return task

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(PATIENCE)
            if thread.is_alive():
                show_stacks()
                raise AssertionError("A task hangs.")


class _AsyncioTask(Generic[T]):
    def __init__(self, task: asyncio.Task[T]) -> None:
        self._task = task

    async def result(self) -> T:
        return await asyncio.wait_for(self._task, PATIENCE)


class AsyncioTasks:
    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def start(self, coroutine: Coroutine[Any, Any, T], /) -> Task[T]:
        task = asyncio.create_task(coroutine)
        self._tasks.append(task)
        return _AsyncioTask(task)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.wait_for(asyncio.gather(*self._tasks, return_exceptions=True), PATIENCE)


class _TrioTask(Generic[T]):
    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self._ended = trio.Event()
        self._future: Future[T] = Future()

    async def run(self) -> None:
        try:
            self._future.set_result(await self._coroutine)
        except Exception as error:  # noqa: BLE001 - raised where the result is asked for
            self._future.set_exception(error)
        finally:
            self._ended.set()

    async def result(self) -> T:
        with trio.fail_after(PATIENCE):
            await self._ended.wait()
        return self._future.result(0)


class _TrioTasks:
    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def start(self, coroutine: Coroutine[Any, Any, T], /) -> Task[T]:
        task = _TrioTask(coroutine)
        self._nursery.start_soon(task.run)
        return task


@asynccontextmanager
async def trio_tasks() -> AsyncGenerator[Tasks, None]:
    async with trio.open_nursery() as nursery:
        yield _TrioTasks(nursery)


def show_stacks() -> None:
    faulthandler.dump_traceback(_STDERR)
