"""A world more for the scenarios of tests/contract: Twisted, whose reactor runs in a thread of its own."""

import gc
import threading
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast, final

from twisted.internet.base import DelayedCall
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.tcp import Connection
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher

from docs.examples.twisted_driver import Driver, TwistedClockNext, reactor
from tests.contract.clients import PATIENCE, Client, Options
from tests.contract.tasks import Task, Tasks
from tests.contract.worlds import LIMIT, Scenario, World

T = TypeVar("T")


class ReactorThread:
    """Runs the reactor, which starts once in a process and never again."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="reactor", daemon=True)
        started = threading.Event()
        reactor.callWhenRunning(started.set)
        self._thread.start()
        assert started.wait(PATIENCE)

    def run(self, scenario: Scenario) -> None:
        """Run a scenario in the reactor's thread, and wait for its end."""
        future: Future[None] = Future()

        async def carry_out() -> None:
            try:
                await scenario()
                future.set_result(None)
            except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
                future.set_exception(error)

        reactor.callFromThread(Deferred.fromCoroutine, carry_out())
        try:
            future.result(LIMIT)
        except TimeoutError:
            if future.done():
                raise
            raise AssertionError("The scenario hangs.") from None

    def stop(self) -> None:
        """End the reactor."""
        reactor.callFromThread(reactor.stop)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        reactor.run(installSignalHandlers=False)


@final
class Twisted(World):
    """`TwistedClockNext`.

    Args:
        thread: Where the reactor runs.
    """

    def __init__(self, thread: ReactorThread) -> None:
        super().__init__()
        self._thread = thread

    def tasks(self) -> AbstractAsyncContextManager[Tasks]:
        return _Tasks()

    async def blocking(self, function: Callable[[], T]) -> T:
        return await deferToThread(function)

    def from_hook(self, coroutine: Coroutine[Any, Any, object]) -> None:
        task = _Task(coroutine)

        async def ended() -> None:
            await task.result()

        self._closers.append(ended)

    async def cancelled(self, scenario: Scenario, *, when: Callable[[], Awaitable[None]]) -> None:
        running = Deferred.fromCoroutine(scenario())
        await when()
        running.cancel()
        try:
            await running
        except CancelledError:
            return
        raise AssertionError("The scenario was not cancelled.")

    async def cancelled_after(self, turns: int, scenario: Scenario) -> bool:
        running = Deferred.fromCoroutine(scenario())
        for _ in range(turns):
            await _turn()
        if running.called:
            await running
            return True
        running.cancel()
        with suppress(CancelledError):
            await running
        return False

    async def forever(self) -> None:
        await Deferred[None]()

    async def turn(self) -> None:
        for _ in range(5):
            await _turn()

    def check_no_task_runs(self) -> None:
        # There are no tasks; what a client has going on ends in a timer or at a connection.
        assert [each for each in reactor.getDelayedCalls() if _is_clients(each)] == []

    def _run(self, scenario: Scenario) -> None:
        async def checked() -> None:
            await scenario()
            await self.turn()
            check_nothing_is_left()

        with nothing_is_logged():
            self._thread.run(checked)

    def _create(self, url: str, options: Options) -> Client:
        return TwistedClockNext(base_url=url, **options)


def _is_clients(call: DelayedCall) -> bool:
    return isinstance(getattr(call.func, "__self__", None), Driver)


def check_nothing_is_left() -> None:
    """Require that no timer runs and no connection is open."""
    assert reactor.getDelayedCalls() == []
    left = [each for each in (*reactor.getReaders(), *reactor.getWriters()) if isinstance(each, Connection)]
    assert left == []


@contextmanager
def nothing_is_logged() -> Generator[None, None, None]:
    """Require that Twisted has no error to log, such as one that no Deferred has handed to anybody."""
    logged: list[str] = []

    def observe(event: LogEvent) -> None:
        if (failure := event.get("log_failure")) is not None:
            logged.append("".join(traceback.format_exception(failure.value)))

    observer = cast(ILogObserver, observe)
    globalLogPublisher.addObserver(observer)
    try:
        yield
        gc.collect()  # a Deferred logs its error when it goes
    finally:
        globalLogPublisher.removeObserver(observer)
    assert logged == []


def _turn() -> Deferred[None]:
    return deferLater(cast(IReactorTime, reactor), 0)


class _Task(Generic[T]):
    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self.ended: Deferred[None] = Deferred()
        self._future: Future[T] = Future()
        Deferred.fromCoroutine(self._run(coroutine))

    async def _run(self, coroutine: Coroutine[Any, Any, T]) -> None:
        try:
            self._future.set_result(await coroutine)
        except Exception as error:  # noqa: BLE001 - raised where the result is asked for
            self._future.set_exception(error)
        self.ended.callback(None)

    async def result(self) -> T:
        if not self._future.done():
            ended: Deferred[None] = Deferred()
            self.ended.addCallback(ended.callback)
            await ended
        return self._future.result(0)


class _Tasks:
    def __init__(self) -> None:
        self._tasks: list[_Task[Any]] = []

    def start(self, coroutine: Coroutine[Any, Any, T], /) -> Task[T]:
        task = _Task(coroutine)
        self._tasks.append(task)
        return task

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await DeferredList([cast("Deferred[Any]", task.ended) for task in self._tasks])
