"""Signals recorded in the user's transaction, on every surface."""

from typing import Any

import pytest

from clocknext_core import ClockNextError, ValidationError
from clocknext_core.signals import decode
from tests.postgres.support import SIGNAL, Database
from tests.postgres.surfaces import SURFACES, Box, Execute, Steps, Surface

RESPONSE: dict[str, Any] = {
    "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
    "object": "chat.completion",
    "model": "gpt-4o-2024-08-06",
    "usage": {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29},
}

pytestmark = pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES.keys())


@pytest.mark.parametrize("commit", [True, False])
def test_signals_commit_or_roll_back_with_the_users_row(
    surface: Surface, database: Database, commit: bool
) -> None:
    def work(box: Box, execute: Execute) -> Steps:
        yield execute("INSERT INTO answers VALUES ('answer')")
        result = yield box.signals.credit(**SIGNAL, idempotency_key="one")
        assert (result.queued, result.idempotency_key, result.dropped) == (True, "one", None)
        yield box.signals.wallet(customer_id="cus_1", model="gpt-4o")

    surface(database, work, commit)
    assert len(database.execute("SELECT key FROM answers")) == commit
    rows = database.execute("SELECT key, body, lease, attempts FROM clocknext_outbox ORDER BY id")
    assert len(rows) == 2 * commit
    for key, body, lease, attempts in rows:
        assert decode(body).idempotency_key == key
        assert (lease, attempts) == (None, 0)


def test_a_savepoint_takes_back_its_signals_alone(surface: Surface, database: Database) -> None:
    def work(box: Box, execute: Execute) -> Steps:
        yield box.signals.credit(**SIGNAL, idempotency_key="before")
        yield execute("SAVEPOINT here")
        yield box.signals.credit(**SIGNAL, idempotency_key="within")
        yield box.signals.from_response(RESPONSE, customer_id="cus_1", key="chat")
        yield execute("ROLLBACK TO here")
        yield box.signals.credit(**SIGNAL, idempotency_key="after")
        yield box.signals.from_response(
            RESPONSE, customer_id="cus_1", key="chat"
        )  # not remembered as recorded

    surface(database, work, True)
    before, after, response = database.keys()
    assert (before, after) == ("before", "after")
    assert len(response) >= 32


def test_a_key_that_is_there_stays_one_row_and_the_transaction_goes_on(
    surface: Surface, database: Database
) -> None:
    database.write("twice")
    (first,) = database.execute("SELECT id FROM clocknext_outbox")

    def work(box: Box, execute: Execute) -> Steps:
        for _ in range(2):
            result = yield box.signals.credit(**SIGNAL, idempotency_key="twice")
            assert result.idempotency_key == "twice"
        yield execute("INSERT INTO answers VALUES ('answer')")

    surface(database, work, True)
    assert database.execute("SELECT id FROM clocknext_outbox") == [first]
    assert database.execute("SELECT key FROM answers") == [("answer",)]


def test_a_bad_argument_leaves_the_transaction_as_it_is(surface: Surface, database: Database) -> None:
    def work(box: Box, execute: Execute) -> Steps:
        yield execute("INSERT INTO answers VALUES ('answer')")
        for arguments, message in (
            ({"customer_id": ""}, "customer_id"),
            ({"tokens": {"input": -1}}, "tokens"),
            ({"custom": {"n": float("nan")}}, "custom"),
            ({"idempotency_key": "a\0b"}, "NUL"),
            ({"wait": True}, "a relay after the commit"),
        ):
            with pytest.raises(ValidationError, match=message):
                yield box.signals.credit(**{**SIGNAL, **arguments})
        with pytest.raises(ValidationError, match="from_response"):
            box.signals.from_stream([], customer_id="cus_1", key="chat")
        with pytest.raises(ClockNextError, match="is a call to the service"):
            yield box.signals.list(customer_id="cus_1")
        yield box.signals.credit(**SIGNAL, idempotency_key="good", wait=False)

    surface(database, work, True)
    assert database.keys() == ["good"]
    assert database.execute("SELECT key FROM answers") == [("answer",)]


def test_responses_and_results_are_read_as_a_client_reads_them(surface: Surface, database: Database) -> None:
    def work(box: Box, _: Execute) -> Steps:
        yield box.signals.from_response(RESPONSE, customer_id="cus_1", key="chat")
        yield box.signals.from_response(RESPONSE, customer_id="cus_1", key="chat")
        yield box.signals.from_result([RESPONSE], customer_id="cus_2", key="chat")

    surface(database, work, True)
    signals = [decode(body).signal for (body,) in database.execute("SELECT body FROM clocknext_outbox")]
    assert [each.customer_id for each in signals] == ["cus_1", "cus_2"]
    assert {each.model for each in signals} == {"gpt-4o"}
    assert [each.tokens.input for each in signals if each.tokens] == [19, 19]


def test_a_run_completes_with_its_last_step(surface: Surface, database: Database) -> None:
    def work(box: Box, _: Execute) -> Steps:
        run = box.runs.start(customer_id="cus_1", run_id="run", key_prefix="ticket", model="gpt-4o")
        if hasattr(run, "__aenter__"):
            yield run.__aenter__()
            yield run.step("triage")
            yield run.step("answer")
            yield run.__aexit__(None, None, None)
        else:
            with run:
                run.step("triage")
                run.step("answer")

    surface(database, work, True)
    assert database.keys() == ["run/ticket.triage/1", "run/ticket.answer/1/complete"]


def test_switched_off_it_checks_the_arguments_and_writes_nothing(
    surface: Surface, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOCKNEXT_DISABLED", "1")

    def work(box: Box, execute: Execute) -> Steps:
        yield execute("INSERT INTO answers VALUES ('answer')")
        result = yield box.signals.credit(**SIGNAL, idempotency_key="one")
        assert (result.queued, result.idempotency_key, result.dropped) == (True, "one", "disabled")
        for _ in range(2):  # it is not remembered as recorded
            result = yield box.signals.from_response(RESPONSE, customer_id="cus_1", key="chat")
            assert result.dropped == "disabled"
        run = box.runs.start(customer_id="cus_1", run_id="run", model="gpt-4o")
        if hasattr(run, "__aenter__"):
            yield run.__aenter__()
            yield run.step("triage")
            yield run.__aexit__(None, None, None)
        else:
            with run:
                run.step("triage")
        for arguments, message in (
            ({"customer_id": ""}, "customer_id"),
            ({"idempotency_key": "a\0b"}, "NUL"),
            ({"wait": True}, "a relay after the commit"),
        ):
            with pytest.raises(ValidationError, match=message):
                yield box.signals.credit(**{**SIGNAL, **arguments})

    surface(database, work, True)
    assert database.keys() == []
    assert database.execute("SELECT key FROM answers") == [("answer",)]
