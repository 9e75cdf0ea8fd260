"""Streams whose chunks a meter watches: the same chunks, and a record when the stream ends."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar, cast

from clocknext_core.usage.streams import Ending, Gathered, Gatherer

T = TypeVar("T")


class _Metered(Generic[T]):
    """What both kinds of stream have in common: the gatherer, and the end, which comes once."""

    def __init__(
        self,
        stream: object,
        gatherer: Gatherer,
        record: Callable[[Gathered], None],
        clock: Callable[[], float],
    ) -> None:
        self._stream = stream
        self._gatherer = gatherer
        self._record = record
        self._clock = clock
        self._is_reading = False
        """Whether a chunk is being read, so that what closes the stream is the stream itself."""

    def __getattr__(self, name: str) -> object:
        """Look up whatever else the stream has, such as `response`."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._stream, name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {type(self._stream).__name__}>"

    def __del__(self) -> None:
        self._end("collected")

    def _end(self, how: Ending) -> None:
        self._record(self._gatherer.finish(how))

    def _end_drained(self, how: Ending, error: BaseException) -> bool:
        """End with the exception in which draining ended; return whether it goes no further."""
        is_over = isinstance(error, (StopIteration, StopAsyncIteration))
        self._end("completed" if is_over else how if isinstance(error, Exception) else "cancelled")
        self._gatherer.let_pass(error)
        return isinstance(error, Exception)

    def _end_with(self, error: BaseException) -> None:
        self._end("failed" if isinstance(error, Exception) else "cancelled")


class MeteredStream(_Metered[T]):
    """A stream for a `for` loop. As a context manager, or with `close()`, it ends where the block ends."""

    def __init__(
        self,
        stream: Iterable[T],
        gatherer: Gatherer,
        record: Callable[[Gathered], None],
        clock: Callable[[], float],
    ) -> None:
        super().__init__(stream, gatherer, record, clock)
        self._chunks: Iterator[T] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        while True:
            try:
                chunk = self._next()
            except StopIteration:
                self._end("completed")
                raise
            except BaseException as error:
                self._end_with(error)
                raise
            if not (self._gatherer.feed(chunk) and self._gatherer.hides(chunk)):
                return chunk

    def close(self) -> None:
        """Close the stream: what was seen of it is recorded or reported, as the policy for aborts says."""
        self._abort("closed")

    def __enter__(self) -> Self:
        enter = getattr(self._stream, "__enter__", None)
        if enter is not None:
            entered = enter()
            self._stream = self._stream if entered is None else entered
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._abort("break" if error is None or isinstance(error, Exception) else "cancelled")

    def end_early(self) -> None:
        """End where what the stream reads from is closed, unless the stream itself closes it.

        With a policy that drains, the rest is read first. The stream itself is not closed.
        """
        if not self._is_reading:
            self._drain("closed")

    def _next(self) -> T:
        self._is_reading = True
        try:
            if self._chunks is None:
                self._chunks = iter(cast("Iterable[T]", self._stream))
            return next(self._chunks)
        finally:
            self._is_reading = False

    def _abort(self, how: Ending) -> None:
        try:
            self._drain(how)
        finally:
            close = getattr(self._stream, "close", None)
            if close is not None:
                close()

    def _drain(self, how: Ending) -> None:
        """Read on within the policy's bounds, and end; the stream has completed if that reached its end."""
        begun = self._clock()
        try:
            while how != "cancelled" and self._gatherer.wants_more(elapsed=self._clock() - begun):
                self._gatherer.feed(self._next())
        except BaseException as error:
            if not self._end_drained(how, error):
                raise
        else:
            self._end(how)


class AsyncMeteredStream(_Metered[T]):
    """A stream for an `async for` loop. In an `async with` block, or with `aclose()`, it ends there."""

    def __init__(
        self,
        stream: AsyncIterable[T],
        gatherer: Gatherer,
        record: Callable[[Gathered], None],
        clock: Callable[[], float],
    ) -> None:
        super().__init__(stream, gatherer, record, clock)
        self._chunks: AsyncIterator[T] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while True:
            try:
                chunk = await self._next()
            except StopAsyncIteration:
                self._end("completed")
                raise
            except BaseException as error:
                self._end_with(error)
                raise
            if not (self._gatherer.feed(chunk) and self._gatherer.hides(chunk)):
                return chunk

    async def aclose(self) -> None:
        """Close the stream: what was seen of it is recorded or reported, as the policy for aborts says."""
        await self._abort("closed")

    async def close(self) -> None:
        """Close the stream, as `aclose` does: SDKs have either name."""
        await self._abort("closed")

    async def __aenter__(self) -> Self:
        enter = getattr(self._stream, "__aenter__", None)
        if enter is not None:
            entered = await enter()
            self._stream = self._stream if entered is None else entered
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._abort("break" if error is None or isinstance(error, Exception) else "cancelled")

    async def end_early(self) -> None:
        """End where what the stream reads from is closed; see `MeteredStream.end_early`."""
        if not self._is_reading:
            await self._drain("closed")

    async def _next(self) -> T:
        self._is_reading = True
        try:
            if self._chunks is None:
                self._chunks = aiter(cast("AsyncIterable[T]", self._stream))
            return await anext(self._chunks)
        finally:
            self._is_reading = False

    async def _abort(self, how: Ending) -> None:
        try:
            await self._drain(how)
        finally:
            close = getattr(self._stream, "aclose", None) or getattr(self._stream, "close", None)
            if close is not None:
                await close()

    async def _drain(self, how: Ending) -> None:
        begun = self._clock()
        try:
            while how != "cancelled" and self._gatherer.wants_more(elapsed=self._clock() - begun):
                self._gatherer.feed(await self._next())
        except BaseException as error:
            if not self._end_drained(how, error):
                raise
        else:
            self._end(how)
