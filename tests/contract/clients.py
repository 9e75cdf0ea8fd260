"""Clients as scenarios see them, alike in every world, every method awaited; and hooks that note calls."""

import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, TypedDict, TypeVar, cast

from clocknext_core import (
    BatchPolicy,
    CheckReport,
    ClockNextError,
    FlushReport,
    Retrying,
    RetryPolicy,
    Signal,
    Stats,
)
from clocknext_core.config import Mode
from clocknext_core.resources.binding import Async
from clocknext_core.resources.customers import Customers
from clocknext_core.resources.portal import Portal
from clocknext_core.resources.runs import Runs
from clocknext_core.resources.signals import Signals
from clocknext_core.states import DropReason
from clocknext_transports import ClockNext
from clocknext_transports.client.hooks import OnDrop, OnError, OnFlush, OnRetry
from clocknext_transports.spool import Spool

T = TypeVar("T")

PATIENCE = 10.0
"""Longest wait for an event that is bound to come, seconds."""


class Client(Protocol):
    """A client as scenarios see it."""

    signals: Signals[Async]

    @property
    def customers(self) -> Customers[Async]: ...

    @property
    def portal(self) -> Portal[Async]: ...

    @property
    def runs(self) -> Runs[Async]: ...

    @property
    def pending(self) -> int: ...

    async def check(self) -> CheckReport: ...

    def stats(self) -> Stats: ...

    async def flush(self, timeout: float | None = None) -> FlushReport: ...

    async def close(self, timeout: float | None = None) -> FlushReport: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Options(TypedDict, total=False):
    """What a scenario may tell a client."""

    api_key: str | None
    mode: Mode
    timeout: float
    batch: BatchPolicy
    spool: "str | os.PathLike[str] | Spool | None"
    retry: RetryPolicy
    on_error: OnError | None
    on_flush: OnFlush | None
    on_retry: OnRetry | None
    on_drop: OnDrop | None
    disabled: bool


Seen: TypeAlias = tuple[str, object, str | None]


class Hooks:
    """Hooks that note their calls: name, what it was about, and the key of the signal concerned."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._seen: list[Seen] = []

    @property
    def seen(self) -> list[Seen]:
        """Every call so far, in order."""
        with self._changed:
            return list(self._seen)

    def of(self, *names: str) -> list[Seen]:
        """Every call of some hooks so far."""
        return [each for each in self.seen if each[0] in names]

    def wait_for(self, is_there: Callable[[Sequence[Seen]], bool]) -> bool:
        """Block the calling thread until the calls are as they should be; `False` if that never comes."""
        with self._changed:
            return self._changed.wait_for(lambda: is_there(self._seen), PATIENCE)

    def note(self, name: str, what: object, key: str | None) -> None:
        """Note a call."""
        with self._changed:
            self._seen.append((name, what, key))
            self._changed.notify_all()

    def on_error(self, error: ClockNextError, signal: Signal) -> None:
        """Note the class of the error."""
        self.note("on_error", type(error).__name__, signal.idempotency_key)

    def on_flush(self, count: int) -> None:
        """Note the count."""
        self.note("on_flush", count, None)

    def on_retry(self, event: Retrying) -> None:
        """Note the number of the failed attempt."""
        key = None if event.signal is None else event.signal.idempotency_key
        self.note("on_retry", event.attempt, key)

    def on_drop(self, signal: Signal, reason: DropReason) -> None:
        """Note the reason."""
        self.note("on_drop", reason, signal.idempotency_key)


class AwaitedClient:
    """A blocking client whose methods are awaited."""

    def __init__(self, client: ClockNext) -> None:
        self._client = client
        self.signals = cast("Signals[Async]", _AwaitedResource(client.signals))
        self.customers = cast("Customers[Async]", _AwaitedResource(client.customers))
        self.portal = cast("Portal[Async]", _AwaitedResource(client.portal))
        self.runs = cast("Runs[Async]", _AwaitedResource(client.runs))
        self.nowait = client.nowait

    def __getattr__(self, name: str) -> object:
        return _AwaitedResource(getattr(self._client, name))

    def __repr__(self) -> str:
        return repr(self._client)

    @property
    def pending(self) -> int:
        """Signals held."""
        return self._client.pending

    async def check(self) -> CheckReport:
        """Check."""
        return self._client.check()

    def stats(self) -> Stats:
        """Count."""
        return self._client.stats()

    async def flush(self, timeout: float | None = None) -> FlushReport:
        """Flush."""
        return self._client.flush(timeout)

    async def close(self, timeout: float | None = None) -> FlushReport:
        """Close."""
        return self._client.close(timeout)

    async def __aenter__(self) -> Self:
        self._client.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.__exit__(kind, error, trace)


class _AwaitedResource:
    def __init__(self, resource: object) -> None:
        self._resource = resource

    def __getattr__(self, name: str) -> Callable[..., object]:
        method: Callable[..., Any] = getattr(self._resource, name)

        async def call(*args: object, **kwargs: object) -> object:
            return method(*args, **kwargs)

        def iterate(*args: object, **kwargs: object) -> AsyncIterator[object]:
            return _awaited_items(method(*args, **kwargs))

        return iterate if name == "iterate" else call


async def _awaited_items(items: Iterator[T]) -> AsyncIterator[T]:
    for each in items:
        yield each
