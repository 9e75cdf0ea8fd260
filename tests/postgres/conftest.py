import os
import secrets
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

from clocknext_core import ClockNextError
from clocknext_transports.postgres import migrate
from clocknext_transports.postgres.embedded import EmbeddedServer
from tests.postgres.support import Database

psycopg = pytest.importorskip("psycopg", reason="relays need psycopg: pip install 'clocknext[postgres]'")

VARIABLE = "CLOCKNEXT_TEST_POSTGRES"


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer | str]:
    """A server for the session: the one that the environment names, or one of our own."""
    if url := os.environ.get(VARIABLE):
        yield url
        return
    try:
        embedded = EmbeddedServer()
    except ClockNextError as error:
        pytest.skip(f"{error.message} Or set {VARIABLE}.")
    with embedded:
        yield embedded


@contextmanager
def new_database(server: EmbeddedServer | str) -> Generator[Database, None, None]:
    """A database of its own, so that nothing of whoever lends the server is touched."""
    url = server if isinstance(server, str) else server.url
    name = f"clocknext_test_{secrets.token_hex(4)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    parts = psycopg.conninfo.conninfo_to_dict(url)
    try:
        yield Database({**parts, "dbname": name}, None if isinstance(server, str) else server)
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_database(server: EmbeddedServer | str) -> Iterator[Database]:
    """A database without the tables."""
    with new_database(server) as database:
        yield database


@pytest.fixture(scope="session")
def shared_database(server: EmbeddedServer | str) -> Iterator[Database]:
    with new_database(server) as database:
        migrate(database.url)
        database.execute("CREATE TABLE answers (key text PRIMARY KEY)")
        yield database


@pytest.fixture
def database(shared_database: Database) -> Database:
    """The database of the session, its tables empty."""
    shared_database.clear()
    return shared_database
