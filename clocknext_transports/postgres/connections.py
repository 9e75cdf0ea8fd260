"""The user's connections: which kind one is, if it is in a transaction, and how it inserts a row.

A connection is known by the module of its class. So nothing is imported here that the user has not imported.
"""

from collections.abc import Callable, Hashable
from functools import cache
from importlib import import_module
from typing import Any, Final, LiteralString, NamedTuple, TypeAlias, cast

from clocknext_core.errors import invalid

PERCENT: Final[LiteralString] = (
    "INSERT INTO clocknext_outbox (key, body) VALUES (%s, %s) ON CONFLICT DO NOTHING"
)
DOLLAR: Final[LiteralString] = (
    "INSERT INTO clocknext_outbox (key, body) VALUES ($1, $2) ON CONFLICT DO NOTHING"
)
"""Insert a signal, or do nothing where its key is there: once for each style of placeholders.

Without a target for the conflict, INSERT is all the right that it needs.
"""

Insert: TypeAlias = Callable[[str, bytes], Any]
"""Inserts a signal by its key and body; where the connection is asynchronous, it returns an awaitable."""


class Kind(NamedTuple):
    """A kind of connection."""

    insert: Callable[[Any, bool], Insert]
    """Makes what inserts with a connection. The second argument says whether it may commit at once; where it
    may not, it raises `ValidationError` if a statement would be a transaction of its own, before it is sent.
    """
    is_async: bool = False


def kind_of(connection: object) -> Kind:
    """Return the kind of a connection.

    Raises:
        ValidationError: It is none that can be used.
    """
    kind = _kind_of_class(cast("Hashable", type(connection)))
    if kind is None:
        raise invalid(
            "conn",
            "must be a connection of psycopg 3 or asyncpg, or a Connection, Session, AsyncConnection or "
            "AsyncSession of SQLAlchemy; for Django give using='default'. "
            f"It is of the class {type(connection).__module__}.{type(connection).__qualname__}",
        )
    return kind


@cache
def _kind_of_class(cls: Hashable) -> Kind | None:
    for base in cast("type", cls).__mro__:
        kind = _KINDS.get((base.__module__.partition(".")[0], base.__name__))
        if kind is not None:
            return kind
    return None


def _check_may_commit(may_commit: bool) -> None:
    """Refuse a statement that would be a transaction of its own, unless that is meant."""
    if not may_commit:
        raise invalid(
            "conn",
            "is in no transaction, so the signal would not commit or roll back with anything: begin one, or "
            "say autocommit=True if that is meant",
        )


# psycopg 3


def _psycopg(connection: Any, may_commit: bool) -> Insert:
    # Not `connection.execute`: its cursor may be of a class that has other placeholders.
    cursor = _cursor_class(isinstance(connection, _psycopg_package().AsyncConnection))

    def insert(key: str, body: bytes) -> Any:
        if connection.autocommit and connection.pgconn.transaction_status == _IDLE:
            _check_may_commit(may_commit)
        return cursor(connection).execute(PERCENT, (key, body))

    return insert


@cache
def _psycopg_package() -> Any:
    return import_module("psycopg")


@cache
def _cursor_class(is_async: bool) -> Any:
    package = _psycopg_package()
    return package.AsyncCursor if is_async else package.Cursor


_IDLE = 0
"""libpq's PQTRANS_IDLE: no transaction has begun."""


# asyncpg


def _asyncpg(connection: Any, may_commit: bool) -> Insert:
    def insert(key: str, body: bytes) -> Any:
        if not connection.is_in_transaction():
            _check_may_commit(may_commit)
        return connection.execute(DOLLAR, key, body)

    return insert


# SQLAlchemy


def _sqlalchemy(connection: Any, may_commit: bool) -> Insert:
    dialect = connection.dialect
    if dialect.name != "postgresql":
        raise invalid("conn", f"must be connected to PostgreSQL, not to {dialect.name}")
    # The driver's own statement, as SQLAlchemy would make it of its own: there is nothing to compile.
    statement = DOLLAR if dialect.paramstyle == "numeric_dollar" else PERCENT

    def insert(key: str, body: bytes) -> Any:
        sync: Any = getattr(connection, "sync_connection", None) or connection
        if getattr(sync.connection.dbapi_connection, "autocommit", False):
            _check_may_commit(may_commit)
        return connection.exec_driver_sql(statement, (key, body))

    return insert


def _session(session: Any, may_commit: bool) -> Insert:
    # By its connection, since the session itself would flush first.
    def insert(key: str, body: bytes) -> Any:
        return _sqlalchemy(session.connection(), may_commit)(key, body)

    return insert


def _async_session(session: Any, may_commit: bool) -> Insert:
    async def insert(key: str, body: bytes) -> None:
        await _sqlalchemy(await session.connection(), may_commit)(key, body)

    return insert


# Django


def _django(connection: Any, may_commit: bool) -> Insert:
    def insert(key: str, body: bytes) -> None:
        if connection.vendor != "postgresql":
            raise invalid("using", f"must name a database of PostgreSQL, not of {connection.vendor}")
        if not connection.in_atomic_block and connection.get_autocommit():
            _check_may_commit(may_commit)
        with connection.cursor() as cursor:
            cursor.execute(PERCENT, (key, body))

    return insert


DJANGO: Final = Kind(_django)
"""Django's connections, which are asked for by their alias."""

_KINDS: Final[dict[tuple[str, str], Kind]] = {
    ("psycopg", "Connection"): Kind(_psycopg),
    ("psycopg", "AsyncConnection"): Kind(_psycopg, is_async=True),
    ("asyncpg", "Connection"): Kind(_asyncpg, is_async=True),
    ("asyncpg", "PoolConnectionProxy"): Kind(_asyncpg, is_async=True),
    ("sqlalchemy", "Connection"): Kind(_sqlalchemy),
    ("sqlalchemy", "AsyncConnection"): Kind(_sqlalchemy, is_async=True),
    ("sqlalchemy", "Session"): Kind(_session),
    ("sqlalchemy", "scoped_session"): Kind(_session),
    ("sqlalchemy", "AsyncSession"): Kind(_async_session, is_async=True),
    ("sqlalchemy", "async_scoped_session"): Kind(_async_session, is_async=True),
}
"""The kinds of connections, by package and class; a subclass is of its base's kind."""
