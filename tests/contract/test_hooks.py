"""Hooks: which runs when, and that nothing they do stops delivery."""

import pytest

from clocknext_core import (
    AllowanceError,
    BatchPolicy,
    ClockNextError,
    RateLimitError,
    Retrying,
    RetryPolicy,
    ServerError,
    Signal,
)
from clocknext_transports.emulator import Hold, Reply, scripted
from tests.contract.answers import (
    Answer,
    by_key,
    found,
    held,
    in_turn,
    priced,
    record,
    record_all,
    refused,
    sent_to,
)
from tests.contract.clients import Client
from tests.contract.tasks import driven
from tests.contract.worlds import (
    GIVING_UP,
    KEY,
    PATIENT_BATCH,
    LogKeeper,
    Threads,
    World,
    in_tasks,
    in_threads,
)

ONE_BY_ONE = BatchPolicy(max_size=1000, max_interval=3600.0, max_concurrency=1)


async def test_hooks_run_in_order(world: World) -> None:
    answers: dict[str, Answer] = {
        "busy": in_turn(refused(409), refused(500), priced()),
        "poor": refused(422, "Insufficient balance."),
        "down": refused(503),
    }
    retry = RetryPolicy(max_attempts=3, base_delay=0.001, max_delay=0.001)
    with scripted([by_key(answers)]) as server:
        async with world.open(server.url, batch=GIVING_UP, retry=retry) as client:
            for key in ("busy", "poor", "down"):
                await record(client, key)
                await client.flush()
    assert world.hooks.seen == [
        ("on_retry", 1, "busy"),
        ("on_retry", 2, "busy"),
        ("on_flush", 1, None),
        ("on_error", "AllowanceError", "poor"),
        ("on_drop", "send_failed", "poor"),
        ("on_flush", 0, None),
        ("on_retry", 1, "down"),
        ("on_retry", 2, "down"),
        ("on_error", "ServerError", "down"),
        ("on_drop", "send_failed", "down"),
        ("on_flush", 0, None),
    ]


async def test_a_retry_is_told_with_its_attempt_delay_error_and_signal(world: World) -> None:
    events: list[Retrying] = []
    slow_down = refused(429, "Slow down.", {"retry-after-ms": "30"})
    with scripted([in_turn(slow_down, refused(500, "Down."), priced())]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH, on_retry=events.append) as client:
            await record(client, "a")
            await client.flush()
    first, second = events
    assert (first.attempt, type(first.error), first.delay) == (1, RateLimitError, 0.03)
    assert (second.attempt, type(second.error)) == (2, ServerError)
    assert 0.001 <= second.delay <= 0.002
    for event in events:
        assert event.signal is not None
        assert event.signal.idempotency_key == event.error.idempotency_key == "a"


async def test_a_refusal_is_told_with_its_error_and_signal(world: World) -> None:
    seen: list[tuple[ClockNextError, Signal]] = []
    with scripted([refused(422, "Insufficient balance.")]) as server:
        async with world.open(
            server.url, batch=PATIENT_BATCH, on_error=lambda error, signal: seen.append((error, signal))
        ) as client:
            await client.signals.wallet(customer_id="cus_9", model="gpt-4o", idempotency_key="a")
            await client.flush()
    ((error, signal),) = seen
    assert type(error) is AllowanceError
    assert (error.status, error.idempotency_key, str(error.request)) == (422, "a", "POST /api/v1/usage")
    assert (signal.customer_id, signal.idempotency_key) == ("cus_9", "a")


async def test_awaited_calls_raise_and_tell_only_of_retries(world: World) -> None:
    answers: dict[str, Answer] = {
        "poor": refused(422, "Insufficient balance."),
        "": in_turn(refused(500), found()),
    }
    with scripted([by_key(answers, refused(503, "Down."))]) as server:
        async with world.open(server.url, retry=RetryPolicy(3, 0.001, 0.001)) as client:
            with pytest.raises(ServerError, match="Down"):
                await record(client, "down", wait=True)
            with pytest.raises(AllowanceError) as caught:
                await record(client, "poor", wait=True)
            assert caught.value.idempotency_key == "poor"
            await client.customers.get("cus_1")
    assert world.hooks.seen == [("on_retry", 1, "down"), ("on_retry", 2, "down"), ("on_retry", 1, None)]


async def test_a_client_needs_no_hooks(world: World) -> None:
    answers: dict[str, Answer] = {"poor": refused(422), "busy": in_turn(refused(500), priced())}
    with scripted([by_key(answers)]) as server:
        async with world.open(
            server.url, batch=PATIENT_BATCH, on_error=None, on_drop=None, on_retry=None, on_flush=None
        ) as client:
            await record_all(client, ["poor", "busy"])
            report = await client.flush()
            assert (report.delivered, len(report.failed)) == (1, 1)


async def test_hooks_that_raise_are_logged_and_stop_nothing(world: World, log: LogKeeper) -> None:
    def broken(*_: object) -> None:
        raise LookupError("This hook is broken.")

    answers: dict[str, Answer] = {"poor": refused(422), "busy": in_turn(refused(500), priced())}
    with scripted([by_key(answers)]) as server:
        async with world.open(
            server.url, batch=ONE_BY_ONE, on_error=broken, on_drop=broken, on_retry=broken, on_flush=broken
        ) as client:
            await record_all(client, ["poor", "busy", "a"])
            report = await client.flush()
            assert (report.delivered, len(report.failed), report.pending) == (2, 1, 0)
            await record(client, "b")
            assert (await client.flush()).delivered == 1
        assert sent_to(server).count("busy") == 2
    lines = log.take()
    assert [line.partition(";")[0] for line in lines] == [
        f"A hook raised on {event}" for event in ("Rejected", "Rejected", "Retrying", "Emptied", "Emptied")
    ]
    assert all("LookupError: This hook is broken." in line for line in lines)
    assert not any(KEY in line for line in lines)


async def test_a_coroutine_that_a_hook_returns_is_told_and_closed(world: World, log: LogKeeper) -> None:
    async def told(*_: object) -> None:
        raise AssertionError("Nothing awaits a hook.")

    answers: dict[str, Answer] = {"poor": refused(422), "busy": in_turn(refused(500), priced())}
    with scripted([by_key(answers)]) as server:
        async with world.open(
            server.url,
            batch=ONE_BY_ONE,
            on_error=lambda error, signal: told(error, signal),  # noqa: PLW0108 - a coroutine function is refused
            on_drop=lambda signal, reason: told(signal, reason),  # noqa: PLW0108
            on_retry=lambda event: told(event),  # noqa: PLW0108
            on_flush=lambda count: told(count),  # noqa: PLW0108
        ) as client:
            await record_all(client, ["poor", "busy", "a"])
            report = await client.flush()
            assert (report.delivered, len(report.failed), report.pending) == (2, 1, 0)
    lines = log.take()
    assert [line.partition(";")[0] for line in lines] == [
        f"A hook raised on {event}" for event in ("Rejected", "Rejected", "Retrying", "Emptied")
    ]
    assert all("TypeError: The hook returned a coroutine" in line for line in lines)


async def test_a_hook_that_raises_does_not_reach_an_awaited_call(world: World, log: LogKeeper) -> None:
    def broken(_: object) -> None:
        raise LookupError("This hook is broken.")

    with scripted([in_turn(refused(500), found(name="Acme"))]) as server:
        async with world.open(server.url, on_retry=broken) as client:
            assert (await client.customers.get("cus_1")).name == "Acme"
    assert len(log.take()) == 1


async def test_a_hook_may_record_another_signal(world: World) -> None:
    clients: list[Client] = []

    def on_error(error: ClockNextError, signal: Signal) -> None:
        world.hooks.on_error(error, signal)
        world.from_hook(record(clients[0], f"after {signal.idempotency_key}"))

    gate = Hold()
    with scripted(
        [by_key({"a": refused(400), "after a": refused(400), "after after a": held(gate)})]
    ) as server:
        async with world.open(server.url, batch=BatchPolicy(max_size=1), on_error=on_error) as client:
            clients.append(client)
            await record(client, "a")
            await world.arrived(gate)
            gate.release()
        assert sent_to(server) == ["a", "after a", "after after a"]
    assert [key for _, _, key in world.hooks.of("on_error")] == ["a", "after a"]


@in_threads
async def test_a_hook_must_not_wait_for_the_buffer(world: World, log: LogKeeper) -> None:
    clients: list[Client] = []

    def waits(error: ClockNextError, signal: Signal) -> None:
        driven(clients[0].flush())

    def closes(count: int) -> None:
        driven(clients[0].close())

    with scripted([by_key({"a": refused(400)})]) as server:
        async with world.open(server.url, batch=ONE_BY_ONE, on_error=waits, on_flush=closes) as client:
            clients.append(client)
            await record_all(client, ["a", "b"])
            report = await client.flush()
            assert (report.delivered, len(report.failed), report.pending) == (1, 1, 0)
            assert (await record(client, "c")).dropped is None
    lines = log.take()
    assert len(lines) == 3
    assert all("RuntimeError: A hook must not wait" in line for line in lines)


@in_tasks
async def test_a_hook_may_start_a_flush(world: World) -> None:
    clients: list[Client] = []

    def on_error(error: ClockNextError, signal: Signal) -> None:
        world.from_hook(clients[0].flush())

    with scripted([by_key({"a": refused(400)})]) as server:
        async with world.open(server.url, batch=ONE_BY_ONE, on_error=on_error) as client:
            clients.append(client)
            await record_all(client, ["a", "b"])
            assert (await client.flush()).pending == 0
        assert len(server.requests) == 2


async def test_a_hook_of_an_awaited_call_runs_before_it_returns(world: World) -> None:
    assert world.hooks.seen == []
    with scripted([in_turn(refused(500), found())]) as server:
        async with world.open(server.url) as client:
            await client.customers.get("cus_1")
            assert world.hooks.seen == [("on_retry", 1, None)]
            assert isinstance(world, Threads) or client.pending == 0


RESPONSE = {
    "id": "chatcmpl-9Xk2mPq7Lw",
    "model": "gpt-4o",
    "usage": {"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306},
}


@pytest.mark.parametrize(
    ("first", "lost"),
    [
        ([refused(422, "Insufficient balance.")], 1),
        ([refused(400)], 1),
        ([refused(500)] * 3, 1),
        ([], 0),
    ],
    ids=["refused", "bad", "given up", "billed"],
)
async def test_a_response_whose_signal_was_lost_can_be_recorded_again(
    world: World, first: list[Reply], lost: int
) -> None:
    """Under the key that it had, so that what was billed after all is billed once."""
    retry = RetryPolicy(max_attempts=3, base_delay=0.001, max_delay=0.001)
    with scripted([in_turn(*first, priced())]) as server:
        async with world.open(server.url, batch=GIVING_UP, retry=retry) as client:
            for again in (False, True):
                await client.signals.from_response(RESPONSE, customer_id="cus_123", key="chat_credit")
                report = await client.flush()
                assert len(report.failed) == (0 if again else lost)
                assert report.delivered == (1 if again == bool(lost) else 0)
            assert client.stats().unbilled["seen_already"] == 1 - lost
