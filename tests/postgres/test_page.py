"""Every Python example of docs/many-machines.md is a complete program that runs against a database."""

import re
from importlib import import_module
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest

from clocknext_transports import ClockNext
from clocknext_transports.emulator import emulator
from clocknext_transports.postgres import Relay, migrate
from tests.docs.test_examples import WITH_DATABASE, Block, blocks_of
from tests.postgres.support import Database, wait_until
from tests.postgres.surfaces import connect_django

CONSUMERS = ("boto3", "confluent_kafka")
"""What the examples of consumers import: `test_consumers.py` runs these."""
EXAMPLES = [
    block
    for block in blocks_of(WITH_DATABASE)
    if block.info == "python"
    and not any(f"import {name}" in block.code or f"from {name}" in block.code for name in CONSUMERS)
]


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


def test_the_lines_for_django_record_in_its_transaction(empty_database: Database) -> None:
    connect_django(empty_database)
    django: Any = import_module("django.db")
    import_module("django.core.management").call_command("migrate", verbosity=0)
    empty_database.execute("CREATE TABLE answers (text text)")

    def create(*, text: str) -> None:
        with django.connection.cursor() as cursor:
            cursor.execute("INSERT INTO answers VALUES (%s)", [text])

    page = WITH_DATABASE.read_text(encoding="utf-8")
    (block,) = re.findall(
        r"(?m)(?:^    .*\n|^\n(?=    ))+", page[page.index("Django. ") : page.index("## What `outbox` does")]
    )
    try:
        exec(dedent(block), {"Answer": SimpleNamespace(objects=SimpleNamespace(create=create))})
    finally:
        django.connection.close()
    assert (empty_database.execute("SELECT text FROM answers"), len(empty_database.keys())) == (
        [("Hello.",)],
        1,
    )
