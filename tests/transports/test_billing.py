"""Scopes: who is billed for a call is captured once, when it starts."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest
import trio

from clocknext_core import Unbilled, ValidationError
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.emulator import DEFAULT_API_KEY, EmulatorServer, emulator


def answer(number: int) -> dict[str, object]:
    usage = {"prompt_tokens": 3, "completion_tokens": number, "total_tokens": 3 + number}
    return {"id": f"chatcmpl-77aa88bb{number}", "model": "gpt-4o", "usage": usage}


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with emulator() as running:
        yield running


@pytest.fixture
def reports() -> list[Unbilled]:
    return []


@pytest.fixture
def cnk(server: EmulatorServer, reports: list[Unbilled]) -> Iterator[ClockNext]:
    with ClockNext(DEFAULT_API_KEY, base_url=server.url, on_unbilled=reports.append) as client:
        yield client


def called(cnk: Any, number: int) -> None:
    """Call a model, as an integration does."""
    cnk.start_call().answered(answer(number))


def billed(cnk: ClockNext, server: EmulatorServer) -> list[tuple[str, str | None]]:
    cnk.flush()
    logs = sorted(server.ledger.signals, key=lambda each: each.output_tokens)
    return [(each.customer_id, each.member) for each in logs]


def test_calls_in_a_block_are_billed_to_its_customer(
    cnk: ClockNext, server: EmulatorServer, reports: list[Unbilled]
) -> None:
    with cnk.billing(customer_id="cus_123", key="chat_credit", member="a@b.c", custom={"trace": "t"}):
        called(cnk, 1)
        with cnk.billing(customer_id="cus_123", type="wallet"):
            called(cnk, 2)
        called(cnk, 3)
    called(cnk, 4)
    assert billed(cnk, server) == [("cus_123", "a@b.c"), ("cus_123", None), ("cus_123", "a@b.c")]
    assert sorted(each.type for each in server.ledger.signals) == ["credit", "credit", "wallet"]
    assert [each.reason for each in reports] == ["unattributed"]


def test_a_call_that_started_in_the_block_is_billed_after_its_end(
    cnk: ClockNext, server: EmulatorServer
) -> None:
    with cnk.billing(customer_id="cus_123", key="chat_credit"):
        call = cnk.start_call()
    call.answered(answer(1))
    assert len(billed(cnk, server)) == 1


def test_a_pool_whose_worker_keeps_the_context_of_an_ended_block_bills_no_one(
    cnk: ClockNext, server: EmulatorServer, reports: list[Unbilled]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with cnk.billing(customer_id="cus_123", key="chat_credit"):
            stale = copy_context()
            pool.submit(stale.run, called, cnk, 1).result()
        pool.submit(stale.run, called, cnk, 2).result()
        pool.submit(called, cnk, 3).result()
    assert len(billed(cnk, server)) == 1
    assert [(each.reason, each.customer_id) for each in reports] == [
        ("scope_ended", "cus_123"),
        ("unattributed", None),
    ]


def test_another_clients_block_is_not_this_ones(
    cnk: ClockNext, server: EmulatorServer, reports: list[Unbilled]
) -> None:
    with ClockNext(DEFAULT_API_KEY, base_url=server.url) as other:
        inner = other.billing(customer_id="cus_456", key="chat_credit")
        with cnk.billing(customer_id="cus_123", key="chat_credit"), inner:
            called(cnk, 1)
        with other.billing(customer_id="cus_456", key="chat_credit"):
            called(cnk, 2)
    assert billed(cnk, server) == [("cus_123", None)]
    assert [each.reason for each in reports] == ["unattributed"]


def test_a_block_is_opened_once(cnk: ClockNext) -> None:
    block = cnk.billing(customer_id="cus_123", key="chat_credit")
    with block, pytest.raises(RuntimeError, match="opened once"):
        block.__enter__()
    with pytest.raises(RuntimeError, match="opened once"):
        block.__enter__()


def test_a_block_may_end_in_another_context(cnk: ClockNext, reports: list[Unbilled]) -> None:
    block = cnk.billing(customer_id="cus_123", key="chat_credit")
    copy_context().run(block.__enter__)
    block.__exit__(None, None, None)
    called(cnk, 1)
    assert [each.reason for each in reports] == ["unattributed"]


def test_a_run_makes_the_calls_steps_of_it(cnk: ClockNext, server: EmulatorServer) -> None:
    with cnk.runs.start(customer_id="cus_123", model="gpt-4o") as run:
        given: tuple[Any, ...] = (run, "run_2")
        for number, each in enumerate(given):
            with cnk.billing(customer_id="cus_123", key="resolved_ticket.answer", run=each):
                called(cnk, number)
    cnk.flush()
    steps = {(each.type, each.run_id) for each in server.ledger.signals}
    assert steps == {("outcome", run.run_id), ("outcome", "run_2")}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"customer_id": "", "key": "k"}, "customer_id"),
        ({"customer_id": "cus_1", "key": "k", "type": "gift"}, "type"),
        ({"customer_id": "cus_1", "key": "k", "type": "wallet"}, "key"),
        ({"customer_id": "cus_1", "key": "k", "run": ""}, "run_id"),
        (
            {"customer_id": "cus_1"},
            '^key: is required: the key of the credit; for the wallet give type="wallet"$',
        ),
        ({"customer_id": "cus_1", "run": "run_1"}, "^key: is required: the key of the outcome; "),
    ],
)
def test_a_bad_argument_is_an_error_at_the_call(
    cnk: ClockNext, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValidationError, match=named):
        cnk.billing(**arguments)
    with pytest.raises(ValidationError, match="on_abort"):
        cnk.start_call(on_abort="never")  # type: ignore[arg-type]


async def in_tasks(cnk: AsyncClockNext | TrioClockNext) -> None:
    async with cnk.billing(customer_id="cus_123", key="chat_credit", member="first"):
        called(cnk, 1)
    with cnk.billing(customer_id="cus_123", key="chat_credit", member="second"):
        called(cnk, 2)
    called(cnk, 3)


def test_blocks_of_tasks_are_apart(server: EmulatorServer, reports: list[Unbilled]) -> None:
    async def one(cnk: AsyncClockNext, number: int, barrier: asyncio.Barrier) -> None:
        async with cnk.billing(customer_id="cus_123", key="chat_credit", member=str(number)):
            await barrier.wait()  # all are open at once
            called(cnk, number)

    async def main() -> None:
        async with AsyncClockNext(DEFAULT_API_KEY, base_url=server.url, on_unbilled=reports.append) as cnk:
            barrier = asyncio.Barrier(5)
            await asyncio.gather(*(one(cnk, number, barrier) for number in range(5)))
            await in_tasks(cnk)

    asyncio.run(main())
    members = [each.member for each in server.ledger.signals]
    assert sorted(map(str, members)) == ["0", "1", "2", "3", "4"]
    assert [each.reason for each in reports] == ["seen_already", "seen_already", "unattributed"]


def test_blocks_under_trio(server: EmulatorServer, reports: list[Unbilled]) -> None:
    async def main() -> None:
        async with TrioClockNext(DEFAULT_API_KEY, base_url=server.url, on_unbilled=reports.append) as cnk:
            await in_tasks(cnk)

    trio.run(main)
    assert {each.member for each in server.ledger.signals} == {"first", "second"}
    assert [each.reason for each in reports] == ["unattributed"]
