"""`outbox(conn)`: signals recorded in the user's own transaction. They commit or roll back with it."""

from collections.abc import Awaitable, Callable
from functools import cached_property
from importlib import import_module
from typing import Any, Generic, Protocol, final, overload

from clocknext_core import ClockNextError, EncodedSignal, Operation, TrackResult
from clocknext_core.checks import check_bool
from clocknext_core.errors import invalid
from clocknext_core.outputs import queued
from clocknext_core.resources.binding import Async, Blocking, S
from clocknext_core.resources.runs import Runs
from clocknext_core.resources.signals import Signals
from clocknext_core.usage.catalogue import ModelNames
from clocknext_core.usage.exchange import Seen
from clocknext_core.usage.meter import Meter
from clocknext_transports.client import environment
from clocknext_transports.postgres.connections import DJANGO, Insert, kind_of
from clocknext_transports.process.interrupts import let_pass


class SyncConnection(Protocol):
    """What a connection for threads has, of whichever driver."""

    def close(self) -> None:
        """Close it."""
        ...


class AsyncConnection(Protocol):
    """What a connection for an event loop has, of whichever driver."""

    def close(self) -> Awaitable[object]:
        """Close it."""
        ...


class _Writer:
    """The runner of the resources: it records a signal by inserting its row; without `insert` it drops it."""

    cancellations: tuple[type[BaseException], ...] = ()

    def __init__(self, insert: Insert | None, *, is_async: bool) -> None:
        self.is_async = is_async
        self._insert = insert
        self.make_key: Callable[[], str] = environment.new_key

    def __repr__(self) -> str:
        return "an outbox"

    def run(self, operation: Operation[Any], /) -> Any:
        """Refuse a call to the service."""
        raise ClockNextError(
            f"{operation.method} {operation.path} is a call to the service, and no transaction should wait "
            "for one: an outbox records signals only. Use a client, such as ClockNext."
        )

    def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> Any:
        """Insert a signal; a coroutine where the connection is asynchronous."""
        if wait is not None and check_bool("wait", wait):
            raise invalid(
                "wait",
                "can't be True in a transaction: the signal is sent by a relay after the commit, so there is "
                "no answer to wait for before it",
            )
        key = encoded.idempotency_key
        if "\0" in key:
            raise invalid("idempotency_key", "must not hold the character NUL, which PostgreSQL can't store")
        if self.is_async:
            return self._record_async(encoded)
        if self._insert is None:
            return queued(encoded, dropped="disabled")
        try:
            self._insert(key, encoded.body)
        except Exception as error:
            _explain(error)
            raise
        return queued(encoded)

    async def _record_async(self, encoded: EncodedSignal) -> TrackResult:
        if self._insert is None:
            return queued(encoded, dropped="disabled")
        try:
            await self._insert(encoded.idempotency_key, encoded.body)
        except Exception as error:
            _explain(error)
            raise
        return queued(encoded)

    def hold(self, encoded: EncodedSignal, /) -> None:
        """Drop a step whose insert was broken off: its transaction is rolled back, and the step with it."""


def _explain(error: Exception) -> None:
    """Add to an error of the database what it means for the outbox. The error itself stays the driver's."""
    if note := _NOTES.get(_sqlstate(error) or ""):
        error.add_note(note)


_NOTES = {
    "40001": "clocknext: another transaction recorded a signal under the same key, and the isolation level "
    "doesn't allow to go on: run the whole transaction again.",
    "40P01": "clocknext: two transactions recorded the same keys in another order. Run the whole transaction "
    "again.",
    "42P01": "clocknext: the database has no outbox. Run `clocknext outbox migrate`, or set the search_path.",
    "42501": "clocknext: the role needs the right INSERT on clocknext_outbox.",
}
"""What to do, by SQLSTATE."""


def _sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE of an error of any driver, also within SQLAlchemy's or Django's."""
    for each in (error, getattr(error, "orig", None), error.__cause__):
        for name in ("sqlstate", "pgcode"):
            state = getattr(each, name, None)
            if isinstance(state, str):
                return state
    return None


class _Never(Seen):
    """Remembers no exchange: what was recorded may be rolled back, and the table knows the keys."""

    def add(self, key: str) -> bool:
        """Return that it is new."""
        del key
        return True


def _meter(models: ModelNames) -> Meter:
    meter = Meter(models=models, let_pass=let_pass)
    if meter.wants_catalogue:
        raise invalid("models", 'can\'t be "workspace" in a transaction: that asks the service')
    meter.seen = _Never()
    return meter


_UNDATED = _meter("undated")
"""The meter of all outboxes that name no policy: an outbox is made for each use, and this takes longest."""


class OutboxSignals(Signals[S]):
    """The `signals` of an outbox: the methods of a client's that record without waiting."""

    _unlisted = frozenset({"from_stream", "list", "runner", "start_call", "unit", "unit_usage", "verify"})

    def _check_may_stream(self) -> None:
        raise invalid(
            "stream",
            "can't be recorded in a transaction, which may have ended when the stream ends: give the last "
            "chunk to from_response",
        )


class _OutboxBase(Generic[S]):
    """What both kinds of outbox have in common."""

    def __init__(self, writer: _Writer, models: ModelNames) -> None:
        self._writer = writer
        self._meter = _UNDATED if models == "undated" else _meter(models)
        self.signals: OutboxSignals[S] = OutboxSignals(writer, self._meter)
        """`credit`, `wallet`, `outcome`, `track`, `from_response` and `from_result`, as a client has them."""

    @cached_property
    def runs(self) -> Runs[S]:
        """`start`, as a client has it."""
        return Runs(self._writer, self._meter)


@final
class Outbox(_OutboxBase[Blocking]):
    """Records signals in the transaction of a connection for threads. Made by `outbox`."""


@final
class AsyncOutbox(_OutboxBase[Async]):
    """Records signals in the transaction of a connection for an event loop. Made by `outbox`."""


@overload
def outbox(*, using: str, models: ModelNames = "undated", autocommit: bool = False) -> Outbox: ...
@overload
def outbox(
    conn: SyncConnection, /, *, models: ModelNames = "undated", autocommit: bool = False
) -> Outbox: ...
@overload
def outbox(
    conn: AsyncConnection, /, *, models: ModelNames = "undated", autocommit: bool = False
) -> AsyncOutbox: ...
def outbox(
    conn: object = None,
    /,
    *,
    using: str | None = None,
    models: ModelNames = "undated",
    autocommit: bool = False,
) -> Outbox | AsyncOutbox:
    """Return what records signals in a connection's transaction: they commit or roll back with it.

    Each call inserts one row, and does no more than that: a relay sends the signal after the commit. Its
    arguments are checked and encoded first, so that a bad one leaves the transaction as it is. A key that is
    recorded already, in whichever transaction, stays one row; where that one has not ended yet, the insert
    waits for its end, and under `REPEATABLE READ` or `SERIALIZABLE` it may fail with SQLSTATE 40001: run the
    whole transaction again.

    Where `CLOCKNEXT_DISABLED` is set, a call checks its arguments, leaves the database alone, and returns a
    result with `dropped="disabled"`.

    Args:
        conn: The connection: psycopg's `Connection` or `AsyncConnection`, asyncpg's `Connection`,
            SQLAlchemy's `Connection`, `Session`, `AsyncConnection` or `AsyncSession`.
        using: The alias of Django's database, in place of a connection. Inside `atomic`.
        models: How names of models in responses become names of the catalogue, as for a client; `"workspace"`
            can't be had here.
        autocommit: Allow a signal to be recorded outside a transaction, where it commits at once.

    Raises:
        ValidationError: A bad argument. Outside a transaction, the call that records raises it.
    """
    check_bool("autocommit", autocommit)
    if (conn is None) == (using is None):
        raise invalid("conn", "must be given, or `using` for Django: exactly one of the two")
    if using is not None:
        django: Any = import_module("django.db")
        kind, conn = DJANGO, django.connections[using]
    else:
        kind = kind_of(conn)
    is_disabled = environment.flag(environment.DISABLED)
    writer = _Writer(None if is_disabled else kind.insert(conn, autocommit), is_async=kind.is_async)
    return AsyncOutbox(writer, models) if kind.is_async else Outbox(writer, models)
