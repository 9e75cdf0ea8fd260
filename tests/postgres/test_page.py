"""Every Python example of docs/many-machines.md is a complete program that runs against a database."""

import pytest

from clocknext_transports import ClockNext
from clocknext_transports.emulator import emulator
from clocknext_transports.postgres import Relay, migrate
from tests.docs.test_examples import WITH_DATABASE, Block, blocks_of
from tests.postgres.support import Database, wait_until

EXAMPLES = [block for block in blocks_of(WITH_DATABASE) if block.info == "python"]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_an_example_bills_what_it_commits(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch, example: Block
) -> None:
    database = empty_database
    migrate(database.url)
    database.execute("CREATE TABLE answers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text)")
    monkeypatch.setenv("DATABASE_URL", database.url)
    with emulator() as service:
        monkeypatch.setenv("CLOCKNEXT_API_KEY", service.api_key)
        monkeypatch.setenv("CLOCKNEXT_BASE_URL", service.url)
        example.run()
        ((answers,),) = database.execute("SELECT count(*) FROM answers")
        keys = database.keys()
        assert len(keys) == answers
        with Relay(database.url, ClockNext()):
            wait_until(lambda: database.keys() == [], "what it committed is delivered")
        assert [service.ledger.billed(key) for key in keys] == [1] * answers
        assert ("outbox(" in example.code) == bool(answers)


def test_the_page_has_an_example_for_each_driver() -> None:
    text = "".join(example.code for example in EXAMPLES)
    names = (
        "psycopg.connect",
        "asyncpg.connect",
        "create_engine",
        "create_async_engine",
        "Relay(",
        "decode(",
    )
    assert [name for name in names if name not in text] == []
