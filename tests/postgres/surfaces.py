"""Every kind of connection that `outbox` takes: each runs the same work in a transaction of its own.

The work is a generator: it yields what may have to be awaited, and gets its value.
"""

import asyncio
from collections.abc import Callable, Generator
from importlib import import_module
from typing import Any, TypeAlias, cast

import psycopg
import sqlalchemy
from psycopg import Rollback
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from clocknext_transports.postgres import AsyncOutbox, outbox
from clocknext_transports.postgres.recording import AsyncConnection
from tests.postgres.support import Database

asyncpg: Any = import_module("asyncpg")  # without types of its own, as Django

Box: TypeAlias = Any
Execute: TypeAlias = Callable[[str], Any]
Steps: TypeAlias = Generator[Any, Any, None]
Work: TypeAlias = Callable[[Box, Execute], Steps]
Surface: TypeAlias = Callable[[Database, Work, bool], None]
"""Runs the work in a transaction, which then commits or is rolled back."""


def drive(steps: Steps) -> None:
    value: Any = None
    while True:
        try:
            value = steps.send(value)
        except StopIteration:
            return


async def drive_async(steps: Steps) -> None:
    value: Any = None
    error: Exception | None = None
    while True:
        try:
            pending = steps.send(value) if error is None else steps.throw(error)
        except StopIteration:
            return
        value = error = None
        try:
            value = await pending
        except Exception as raised:  # noqa: BLE001 - for the work to expect
            error = raised


def async_outbox(connection: Any, *, autocommit: bool = False) -> AsyncOutbox:
    """The outbox of a connection without types."""
    return outbox(cast(AsyncConnection, connection), autocommit=autocommit)


# psycopg


def psycopg_sync(database: Database, work: Work, commit: bool) -> None:
    with psycopg.connect(database.url) as connection, connection.transaction(force_rollback=not commit):
        drive(work(outbox(connection), lambda sql: connection.execute(sql.encode())))


def psycopg_raw_cursor(database: Database, work: Work, commit: bool) -> None:
    """A connection whose cursors have other placeholders."""
    with psycopg.connect(database.url, cursor_factory=psycopg.RawCursor) as connection:
        drive(work(outbox(connection), lambda sql: connection.execute(sql.encode())))
        connection.commit() if commit else connection.rollback()


def psycopg_pipeline(database: Database, work: Work, commit: bool) -> None:
    with psycopg.connect(database.url) as connection, connection.pipeline(), connection.transaction():
        drive(work(outbox(connection), lambda sql: connection.execute(sql.encode())))
        if not commit:
            raise Rollback


def psycopg_async(database: Database, work: Work, commit: bool) -> None:
    async def main() -> None:
        connection = await psycopg.AsyncConnection.connect(database.url)
        async with connection, connection.transaction(force_rollback=not commit):
            await drive_async(work(outbox(connection), lambda sql: connection.execute(sql.encode())))

    asyncio.run(main())


# asyncpg


def asyncpg_connection(database: Database, work: Work, commit: bool) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(database.url)
        try:
            transaction = connection.transaction()
            await transaction.start()
            await drive_async(work(async_outbox(connection), connection.execute))
            await (transaction.commit() if commit else transaction.rollback())
        finally:
            await connection.close()

    asyncio.run(main())


def asyncpg_pool(database: Database, work: Work, commit: bool) -> None:
    async def main() -> None:
        async with (
            asyncpg.create_pool(database.url, min_size=1, max_size=1) as pool,
            pool.acquire() as connection,
        ):
            transaction = connection.transaction()
            await transaction.start()
            await drive_async(work(async_outbox(connection), connection.execute))
            await (transaction.commit() if commit else transaction.rollback())

    asyncio.run(main())


# SQLAlchemy


def sqlalchemy_connection(driver: str) -> Surface:
    def run(database: Database, work: Work, commit: bool) -> None:
        engine = sqlalchemy.create_engine(database.url_of(f"postgresql+{driver}"))
        with engine.connect() as connection:
            drive(work(outbox(connection), lambda sql: connection.execute(sqlalchemy.text(sql))))
            connection.commit() if commit else connection.rollback()
        engine.dispose()

    return run


def sqlalchemy_session(database: Database, work: Work, commit: bool) -> None:
    engine = sqlalchemy.create_engine(database.url_of("postgresql+psycopg"))
    with Session(engine) as session:
        drive(work(outbox(session), lambda sql: session.execute(sqlalchemy.text(sql))))
        session.commit() if commit else session.rollback()
    engine.dispose()


def sqlalchemy_async_connection(driver: str) -> Surface:
    def run(database: Database, work: Work, commit: bool) -> None:
        async def main() -> None:
            engine = create_async_engine(database.url_of(f"postgresql+{driver}"))
            async with engine.connect() as connection:
                await drive_async(
                    work(outbox(connection), lambda sql: connection.execute(sqlalchemy.text(sql)))
                )
                await (connection.commit() if commit else connection.rollback())
            await engine.dispose()

        asyncio.run(main())

    return run


def sqlalchemy_async_session(database: Database, work: Work, commit: bool) -> None:
    async def main() -> None:
        engine = create_async_engine(database.url_of("postgresql+asyncpg"))
        async with AsyncSession(engine) as session:
            await drive_async(work(outbox(session), lambda sql: session.execute(sqlalchemy.text(sql))))
            await (session.commit() if commit else session.rollback())
        await engine.dispose()

    asyncio.run(main())


# Django


def connect_django(database: Database) -> None:
    """Have Django's `default` be this database; it can be configured once in a process."""
    parts = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": database.parts["dbname"],
        "USER": database.parts.get("user", "postgres"),
        "PASSWORD": database.parts.get("password", ""),
        "HOST": database.parts.get("host", ""),
        "PORT": database.parts.get("port", ""),
    }
    settings = import_module("django.conf").settings
    if not settings.configured:
        settings.configure(
            DATABASES={
                "default": parts,
                "other": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
            },
            INSTALLED_APPS=["clocknext_transports.postgres.django"],
            USE_TZ=True,
        )
        import_module("django").setup()
    connections = import_module("django.db").connections
    connections["default"].close()
    connections["default"].settings_dict.update(parts)


def django_atomic(database: Database, work: Work, commit: bool) -> None:
    connect_django(database)
    database_module: Any = import_module("django.db")
    connection, transaction = database_module.connection, database_module.transaction

    def execute(sql: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql)

    with transaction.atomic():
        drive(work(outbox(using="default"), execute))
        transaction.set_rollback(not commit)
    connection.close()


SURFACES: dict[str, Surface] = {
    "psycopg": psycopg_sync,
    "psycopg-raw": psycopg_raw_cursor,
    "psycopg-pipeline": psycopg_pipeline,
    "psycopg-async": psycopg_async,
    "asyncpg": asyncpg_connection,
    "asyncpg-pool": asyncpg_pool,
    "sqlalchemy-psycopg": sqlalchemy_connection("psycopg"),
    "sqlalchemy-psycopg2": sqlalchemy_connection("psycopg2"),
    "sqlalchemy-session": sqlalchemy_session,
    "sqlalchemy-async-psycopg": sqlalchemy_async_connection("psycopg_async"),
    "sqlalchemy-async-asyncpg": sqlalchemy_async_connection("asyncpg"),
    "sqlalchemy-async-session": sqlalchemy_async_session,
    "django": django_atomic,
}
