"""Tasks and threads that may outlast their loop: nothing waits for them, and asyncio reports nothing.

What they have in hand is taken back and goes on in the next loop, so there is nothing to report.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from types import TracebackType
from typing import Any, NoReturn, TypeVar, cast

T = TypeVar("T")
AnyTask = TypeVar("AnyTask", bound="asyncio.Task[Any]")


class Unstarted(Coroutine[Any, Any, T]):
    """A coroutine that is made when its first step is taken.

    Python warns of a coroutine that is collected before its first step, as where its loop is closed then.

    Args:
        make: Makes it.
    """

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._make = make
        self._made: Coroutine[Any, Any, T] | None = None

    def send(self, value: Any, /) -> Any:
        """Take a step."""
        if self._made is None:
            self._made = self._make()
        return self._made.send(value)

    def throw(
        self,
        kind: BaseException | type[BaseException],
        value: BaseException | object = None,
        trace: TracebackType | None = None,
        /,
    ) -> Any:
        """Raise an exception where it waits, or here if it has not begun."""
        error = kind if isinstance(kind, BaseException) else value or kind()
        assert isinstance(error, BaseException)  # what a task throws
        if self._made is None:
            raise error.with_traceback(trace)
        return self._made.throw(error)

    def close(self) -> None:
        """End it where it waits."""
        if self._made is not None:
            self._made.close()

    def __await__(self) -> Generator[Any, None, NoReturn]:
        raise RuntimeError("It is the coroutine of a task, and is not awaited.")


def unattended(task: AnyTask) -> AnyTask:
    """Return a task that asyncio does not report where it is collected with its loop.

    asyncio sets the same attribute on tasks of its own.
    """
    setattr(task, "_log_destroy_pending", False)  # noqa: B010 - no type says that it exists
    return task


def wake(future: "asyncio.Future[None]") -> None:
    """End a wait, unless it has ended.

    A Ctrl-C may cancel the task that waits between any two steps, so the future is not asked first.
    """
    with suppress(asyncio.InvalidStateError):
        future.set_result(None)


def in_thread(function: Callable[[], T], *, name: str) -> "asyncio.Future[T]":
    """Call a function in a thread that the end of the loop and of the process does not wait for.

    The threads of the loop's own executor are waited for by both, and a name look-up may hang for minutes.

    Args:
        function: What to call.
        name: Of the thread.

    Raises:
        RuntimeError: No thread can be started: the interpreter is shutting down.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        with suppress(asyncio.InvalidStateError):  # cancelled
            if error is None:
                future.set_result(cast(T, result))
            else:
                future.set_exception(error)
                future.exception()  # asyncio would report it where the caller has gone

    def work() -> None:
        result, failed = None, None
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - raised where the future is awaited
            failed = error
        with suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future
