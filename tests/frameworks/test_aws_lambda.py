"""A function of AWS Lambda: what is recorded is delivered before it is frozen, and billed once."""

from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from clocknext import AsyncClockNext, BatchPolicy, ClockNext, ValidationError
from clocknext_transports.emulator import EmulatorServer, Fault, emulator
from clocknext_transports.integrations.aws_lambda import delivers, records


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with emulator() as running:
        yield running


@pytest.fixture
def cnk(server: EmulatorServer) -> Iterator[ClockNext]:
    batch = BatchPolicy(max_interval=600.0)
    with ClockNext(server.api_key, base_url=server.url, batch=batch, close_timeout=1.0) as client:
        yield client


def context(request_id: str = "req-1", left: float = 3.0) -> Any:
    return SimpleNamespace(aws_request_id=request_id, get_remaining_time_in_millis=lambda: int(left * 1000))


def credit(cnk: ClockNext) -> None:
    cnk.signals.credit(customer_id="cus_123", model="gpt-4o", key="chat_credit", tokens={"output": 5})


def test_an_invocation_delivers_before_it_returns_and_a_repeated_one_is_billed_once(
    server: EmulatorServer, cnk: ClockNext
) -> None:
    @delivers(cnk)
    def handler(event: Any, context: Any) -> str:
        """Answer."""
        credit(cnk)
        return str(event)

    assert (handler("a", context()), len(server.ledger.signals)) == ("a", 1)
    handler("a", context())
    assert (len(server.ledger.signals), server.ledger.counters.repeats) == (1, 1)
    handler("a", context("req-2"))
    assert len(server.ledger.signals) == 2
    assert handler.__doc__ == "Answer."


def test_an_invocation_that_fails_delivers_too(server: EmulatorServer, cnk: ClockNext) -> None:
    @delivers(cnk)
    def handler(event: Any, context: Any) -> None:
        credit(cnk)
        raise LookupError("no such page")

    with pytest.raises(LookupError):
        handler({}, context())
    assert len(server.ledger.signals) == 1


def test_a_delivery_takes_no_more_than_the_time_left_and_says_what_it_left(
    server: EmulatorServer, cnk: ClockNext, caplog: pytest.LogCaptureFixture
) -> None:
    @delivers(cnk)
    def handler(event: Any, context: Any) -> None:
        credit(cnk)

    server.faults.chance(1.0, Fault("status", 503))
    handler({}, context(left=0.6))
    assert "ClockNext signals not delivered before the invocation ended: 1. They stay held" in caplog.text
    server.faults.clear()
    assert cnk.flush(20.0).pending == 0
    assert len(server.ledger.signals) == 1


def test_a_message_that_comes_again_in_another_batch_is_billed_once(
    server: EmulatorServer, cnk: ClockNext
) -> None:
    @delivers(cnk)
    def handler(event: Any, context: Any) -> None:
        for record in records(event):
            with cnk.billing(customer_id=record["body"], key="chat_credit"):
                usage = {"prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13}
                cnk.start_call().answered({"object": "chat.completion", "model": "gpt-4o", "usage": usage})

    one, two = {"messageId": "m-1", "body": "cus_123"}, {"messageId": "m-2", "body": "cus_456"}
    handler({"Records": [one, two]}, context("req-1"))
    handler({"Records": [two]}, context("req-2"))
    assert sorted(each.customer_id for each in server.ledger.signals) == ["cus_123", "cus_456"]


@pytest.mark.parametrize(
    "context",
    [
        None,
        SimpleNamespace(),
        SimpleNamespace(aws_request_id=None, get_remaining_time_in_millis=None),
        MagicMock(),
    ],
)
def test_a_context_that_is_not_lambdas_is_no_error(
    server: EmulatorServer, cnk: ClockNext, context: Any
) -> None:
    @delivers(cnk)
    def handler(event: Any, context: Any) -> None:
        credit(cnk)

    for _ in range(2):
        handler({}, context)
    assert len(server.ledger.signals) == 2, "no id, so that none of the two repeats the other"


@pytest.mark.parametrize("left", [0.4, 0.0, -5.0])
def test_without_time_an_invocation_leaves_its_signals_to_the_next(
    server: EmulatorServer, cnk: ClockNext, caplog: pytest.LogCaptureFixture, left: float
) -> None:
    @delivers(cnk)
    def handler(event: Any, context: Any) -> None:
        credit(cnk)

    server.faults.chance(1.0, Fault("status", 503))
    handler({}, context("req-1", left))
    assert "the next one in this environment sends them. If there is none, they are lost." in caplog.text
    server.faults.clear()
    handler({}, context("req-2"))
    assert cnk.flush(20.0).pending == 0
    assert len(server.ledger.signals) == 2


async def in_coroutine(event: Any, context: Any) -> None:
    """Be a handler that Lambda does not call so."""


def in_parts(event: Any, context: Any) -> Iterator[int]:
    yield 1


async def in_awaited_parts(event: Any, context: Any) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("handler", [in_coroutine, in_parts, in_awaited_parts, None])
def test_a_handler_that_is_no_plain_function_is_refused(handler: Any) -> None:
    with pytest.raises(ValidationError, match=r"^handler: must be a (plain )?function"):
        delivers(ClockNext("cnk_test"))(handler)


def test_a_client_of_a_loop_is_refused() -> None:
    cnk: Any = AsyncClockNext("cnk_test")
    with pytest.raises(ValidationError, match=r"^cnk: must be a ClockNext, not .* AsyncClockNext"):
        delivers(cnk)


@pytest.mark.parametrize(
    ("event", "place"),
    [
        (None, "event: must be what SQS sends"),
        ({}, "event: must be what SQS sends"),
        ({"Records": None}, "event: must be what SQS sends"),
        ({"Records": [{"messageId": "m"}, {}]}, r"event.Records\[1\]: must have a messageId"),
        ({"Records": ["m"]}, r"event.Records\[0\]: must have a messageId"),
    ],
)
def test_what_is_no_event_of_sqs_is_refused(event: object, place: str) -> None:
    with pytest.raises(ValidationError, match=f"^{place}"):
        list(records(event))
