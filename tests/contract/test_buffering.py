"""The buffer: when signals are sent, what a flush reports, and what closing does."""

import threading
import time

import pytest

from clocknext_core import AllowanceError, BatchPolicy, ClockNextError, NetworkError, ServerError
from clocknext_transports.emulator import Hold, scripted
from tests.contract.answers import (
    Answer,
    by_key,
    counted,
    found,
    held,
    in_turn,
    key_of,
    priced,
    record,
    record_all,
    refused,
    sent_to,
)
from tests.contract.worlds import GIVING_UP, PATIENT_BATCH, QUICK, World, in_threads, without_block
from tests.life.support import wait_until

SOON = 5.0
"""Seconds that what ends by itself takes at most, on a busy machine."""


async def test_a_buffered_signal_is_queued_and_sent_on_flush(world: World) -> None:
    with scripted([priced()]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH) as client:
            result = await record(client, "k1", wait=False)
            assert (result.queued, result.idempotency_key, result.dropped) == (True, "k1", None)
            assert (result.usage_log, result.raw) == (None, {})
            assert client.pending == 1
            assert sent_to(server) == []
            report = await client.flush()
            assert (report.delivered, list(report.failed), report.pending) == (1, [], 0)
            assert client.pending == 0
        assert sent_to(server) == ["k1"]
    assert world.hooks.seen == [("on_flush", 1, None)]


async def test_a_key_is_made_for_a_signal_without_one(world: World) -> None:
    with scripted([refused(503), priced()]) as server:
        async with world.open(server.url) as client:
            result = await client.signals.wallet(customer_id="cus_123", model="gpt-4o")
            await client.flush()
        first, second = server.requests
        assert first.body == second.body
        assert key_of(first) == result.idempotency_key != ""


async def test_a_full_batch_is_sent_by_itself(world: World) -> None:
    gate = Hold()
    with scripted([by_key({"": found()}, counted(gate))]) as server:
        batch = BatchPolicy(max_size=3, max_interval=3600.0)
        async with world.open(server.url, batch=batch) as client:
            await record_all(client, ["a", "b"])
            await client.customers.get("cus_1")
            assert [request.method for request in server.requests] == ["GET"]
            await record(client, "c")
            await world.arrived(gate, 3)
            await world.hooked(bool)
    assert world.hooks.seen == [("on_flush", 3, None)]


async def test_a_batch_is_sent_after_its_interval(world: World) -> None:
    gate = Hold()
    with scripted([counted(gate)]) as server:
        batch = BatchPolicy(max_size=100, max_interval=0.03)
        async with world.open(server.url, batch=batch) as client:
            began_at = time.monotonic()
            await record_all(client, ["a", "b"])
            await world.arrived(gate, 2)
            assert 0.03 <= time.monotonic() - began_at < SOON
            await world.hooked(lambda seen: ("on_flush", 2, None) in seen)
            await record(client, "c")  # and the timer starts anew
            await world.arrived(gate, 3)


async def test_first_attempts_go_out_in_the_order_recorded(world: World) -> None:
    keys = [f"k{number}" for number in range(30)]
    with scripted([priced()]) as server:
        batch = BatchPolicy(max_size=1000, max_interval=3600.0, max_concurrency=1)
        async with world.open(server.url, batch=batch) as client:
            await record_all(client, keys)
            await client.flush()
        assert sent_to(server) == keys
        assert server.max_in_service == 1
        if not world.uses_httpx:  # which keeps no connection: it can't tell surplus bytes from an answer
            assert server.connections == 1


async def test_a_flush_reports_what_was_delivered_and_what_was_not(world: World) -> None:
    answers: dict[str, Answer] = {
        "poor": refused(422, "Insufficient balance."),
        "unlucky": refused(503, "Down."),
    }
    with scripted([by_key(answers)]) as server:
        async with world.open(server.url, batch=GIVING_UP) as client:
            await record_all(client, ["a", "poor", "b", "unlucky", "c"])
            report = await client.flush()
            assert (report.delivered, report.pending) == (3, 0)
            failed = {each.signal.idempotency_key: each.error for each in report.failed}
            assert set(failed) == {"poor", "unlucky"}
            poor, unlucky = failed["poor"], failed["unlucky"]
            assert type(poor) is AllowanceError
            assert (str(poor), poor.status, poor.retryable) == ("Insufficient balance.", 422, False)
            assert poor.idempotency_key == "poor"
            assert type(unlucky) is ServerError
            assert (str(unlucky), unlucky.status, unlucky.retryable) == ("Down.", 503, True)
            assert [signal.customer_id for signal in (each.signal for each in report.failed)] == [
                "cus_123"
            ] * 2
            again = await client.flush()
            assert (again.delivered, list(again.failed), again.pending) == (0, [], 0)
        assert len(server.requests) == 4 + QUICK.max_attempts


async def test_a_flush_that_runs_out_of_time_says_what_is_pending(world: World) -> None:
    gate = Hold()
    with scripted([by_key({"slow": held(gate), "slower": held(gate)})]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH) as client:
            await record_all(client, ["slow", "quick", "slower"])
            async with world.tasks() as tasks:
                whole = tasks.start(client.flush())
                # What no time-out can hurry is over before the one that is tried here begins.
                assert await world.blocking(lambda: wait_until(lambda: client.pending == 2))
                report = await client.flush(timeout=0.05)
                assert (report.delivered, list(report.failed), report.pending) == (1, [], 2)
                assert client.pending == 2
                again = await client.flush(timeout=0)
                assert again.pending == 2
                gate.release()
                report = await whole.result()
                assert (report.delivered, list(report.failed), report.pending) == (3, [], 0)
            nothing_more = await client.flush(timeout=0)
            assert (nothing_more.delivered, nothing_more.pending) == (0, 0)
        assert len(server.requests) == 3


async def test_later_signals_do_not_delay_a_flush(world: World) -> None:
    gate = Hold()
    with scripted([by_key({"early": held(gate)})]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH) as client, world.tasks() as tasks:
            await record(client, "early")
            flush = tasks.start(client.flush())
            await world.arrived(gate)  # so the flush has begun
            await record(client, "late")
            gate.release()
            report = await flush.result()
            assert (report.delivered, list(report.failed), report.pending) == (1, [], 0)
            assert client.pending == 1
            assert (await client.flush()).delivered == 1
        assert sent_to(server) == ["early", "late"]


async def test_a_flush_does_not_count_later_signals(world: World) -> None:
    gate = Hold()
    with scripted([by_key({"early": held(gate), "late": refused(400)})]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH) as client, world.tasks() as tasks:
            await record(client, "early")
            flush = tasks.start(client.flush())
            await world.arrived(gate)  # so the flush has begun
            await record(client, "late")
            await client.flush(timeout=0)  # sends the second signal
            await world.hooked(lambda seen: ("on_drop", "send_failed", "late") in seen)
            gate.release()
            report = await flush.result()
            assert (report.delivered, list(report.failed), report.pending) == (1, [], 0)


async def test_two_flushes_at_the_same_time_both_tell(world: World) -> None:
    gate = Hold()
    with scripted([held(gate)]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH) as client, world.tasks() as tasks:
            await record_all(client, ["a", "b"])
            flushes = [tasks.start(client.flush()) for _ in range(2)]
            await world.arrived(gate, 2)
            gate.release()
            reports = [await flush.result() for flush in flushes]
    assert max(report.delivered for report in reports) == 2
    assert all(report.pending == 0 and not report.failed for report in reports)


async def test_a_flush_of_nothing_returns_at_once(world: World) -> None:
    with scripted([priced()]) as server:
        async with world.open(server.url) as client:
            report = await client.flush()
            assert (report.delivered, list(report.failed), report.pending) == (0, [], 0)
        assert server.connections == 0
    assert world.hooks.seen == []


async def test_each_time_the_buffer_is_empty_the_deliveries_since_are_told(world: World) -> None:
    with scripted([by_key({"bad": refused(400, "Bad.")})]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH) as client:
            for keys in (["a", "b"], ["c"], ["bad"]):
                await record_all(client, keys)
                await client.flush()
    assert [what for _, what, _ in world.hooks.of("on_flush")] == [2, 1, 0]


async def test_what_is_sent_is_fixed_when_it_is_recorded(world: World) -> None:
    with scripted([refused(503), priced()]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH) as client:
            custom = {"feature": {"name": "summarize"}}
            await client.signals.wallet(customer_id="cus_123", model="gpt-4o", custom=custom)
            custom["feature"]["name"] = "changed"
            await client.flush()
        first, second = server.requests
        assert first.body == second.body
        assert b"summarize" in first.body


async def test_leaving_the_block_delivers_what_is_held(world: World) -> None:
    with scripted([priced()]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH) as client:
            await record_all(client, ["a", "b", "c"])
        assert client.pending == 0
        assert sorted(sent_to(server)) == ["a", "b", "c"]


async def test_an_error_in_the_block_goes_on_after_what_is_held_was_delivered(world: World) -> None:
    with scripted([priced()]) as server:
        client = world.create(server.url, batch=PATIENT_BATCH)

        async def block() -> None:
            async with client:
                await record_all(client, ["a", "b"])
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await block()
        assert client.pending == 0
        assert sorted(sent_to(server)) == ["a", "b"]


@without_block
async def test_a_client_works_without_a_block(world: World) -> None:
    with scripted([by_key({"": found(name="Acme")})]) as server:
        client = world.create(server.url, batch=PATIENT_BATCH)
        assert (await client.customers.get("cus_1")).name == "Acme"
        await record_all(client, ["a", "b"])
        report = await client.close()
        assert (report.delivered, list(report.failed), report.pending) == (2, [], 0)
        assert len(server.requests) == 3


async def test_awaited_calls_need_no_block(world: World) -> None:
    with scripted([by_key({"": found(name="Acme")}, priced(customerCost=0.5))]) as server:
        client = world.create(server.url)
        assert (await client.customers.get("cus_1")).name == "Acme"
        log = (await record(client, "a", wait=True)).usage_log
        assert log is not None
        assert log.customer_cost == 0.5
        await client.close()


async def test_closing_refuses_what_comes_after(world: World) -> None:
    with scripted([priced()]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH) as client:
            await record(client, "a")
            assert (await client.close()).delivered == 1
            late = await record(client, "late")
            assert (late.queued, late.dropped) == (True, "closed")
            assert client.pending == 0
            for call in (record(client, "later", wait=True), client.customers.get("cus_1")):
                with pytest.raises(ClockNextError, match="closed"):
                    await call
            report = await client.flush()
            assert (report.delivered, report.pending) == (0, 0)
            assert [each.signal.idempotency_key for each in report.failed] == ["late"]
            again = await client.close()
            assert (again.delivered, list(again.failed), again.pending) == (0, [], 0)
        assert len(server.requests) == 1
    assert world.hooks.seen == [("on_flush", 1, None), ("on_drop", "closed", "late")]


async def test_closing_with_a_hanging_server_ends_in_time(world: World) -> None:
    gate = Hold()
    with scripted([held(gate)]) as server:
        batch = BatchPolicy(max_size=1000, max_interval=3600.0, max_concurrency=2)
        async with world.open(server.url, batch=batch, timeout=3600.0) as client, world.tasks() as tasks:
            await record_all(client, ["a", "b", "c"])
            flush = tasks.start(client.flush())
            await world.arrived(gate, 2)
            began_at = time.monotonic()
            report = await client.close(timeout=0.05)
            assert 0.05 <= time.monotonic() - began_at < SOON
            assert (report.delivered, list(report.failed), report.pending) == (0, [], 3)
            assert client.pending == 0
            flushed = await flush.result()
            assert (flushed.delivered, len(flushed.failed), flushed.pending) == (0, 3, 0)
            assert {str(each.error) for each in flushed.failed} == {"The signal was dropped: closed."}
        assert len(server.requests) == 2
    assert world.hooks.seen == [("on_drop", "closed", key) for key in ("a", "b", "c")]


async def test_a_server_that_cannot_be_reached_is_a_network_error(world: World) -> None:
    with scripted([priced()]) as server:
        url = server.url
    async with world.open(url, batch=GIVING_UP) as client:
        with pytest.raises(NetworkError) as caught:
            await client.customers.get("cus_1")
        assert (caught.value.status, caught.value.retryable) == (None, True)
        assert str(caught.value.request) == "GET /api/v1/customers/cus_1"
        await record(client, "a")
        report = await client.flush()
        assert [type(each.error) for each in report.failed] == [NetworkError]
    retries = [("on_retry", attempt, None) for attempt in range(1, QUICK.max_attempts)]
    assert world.hooks.seen[: len(retries)] == retries


async def test_an_answer_that_does_not_come_in_time_is_a_network_error(world: World) -> None:
    gate = Hold()
    with scripted([by_key({"a": in_turn(held(gate), priced())}, held(gate))]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH, timeout=0.1) as client:
            await record(client, "a")
            assert (await client.flush()).delivered == 1
            with pytest.raises(NetworkError, match="Timed out"):
                await client.customers.create(name="Acme", email="ops@acme.com")
        assert len(server.requests) == 3
    assert world.hooks.seen == [("on_retry", 1, "a"), ("on_flush", 1, None)]


async def test_in_sync_mode_every_signal_waits(world: World) -> None:
    answers: dict[str, Answer] = {
        "poor": refused(422, "Insufficient balance."),
        "busy": in_turn(refused(503), priced()),
    }
    with scripted([by_key(answers, priced(customerCost=2))]) as server:
        async with world.open(server.url, mode="sync", batch=PATIENT_BATCH) as client:
            result = await record(client, "a")
            assert (result.queued, result.idempotency_key) == (False, "a")
            assert result.usage_log is not None
            assert result.usage_log.customer_cost == 2
            assert result.raw == {"usageLog": {"id": "log_1", "customerCost": 2}}
            with pytest.raises(AllowanceError):
                await record(client, "poor")
            await record(client, "busy")
            assert client.pending == 0
            queued = await record(client, "later", wait=False)
            assert (queued.queued, client.pending) == (True, 1)
        assert sent_to(server) == ["a", "poor", "busy", "busy", "later"]
    assert world.hooks.seen == [("on_retry", 1, "busy"), ("on_flush", 1, None)]


async def test_one_signal_can_be_awaited_past_the_buffer(world: World) -> None:
    with scripted([priced(customerCost=2)]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH) as client:
            await record(client, "buffered")
            result = await record(client, "awaited", wait=True)
            assert result.usage_log is not None
            assert (result.queued, client.pending) == (False, 1)
            assert sent_to(server) == ["awaited"]
    assert world.hooks.seen == [("on_flush", 1, None)]


@in_threads
async def test_threads_are_started_only_for_buffered_signals(world: World) -> None:
    def running() -> int:
        return sum(thread.name == "clocknext" for thread in threading.enumerate())

    gate = Hold()
    with scripted([by_key({"": found()}, held(gate))]) as server:
        batch = BatchPolicy(max_size=1, max_concurrency=3)
        async with world.open(server.url, batch=batch) as client:
            await client.customers.get("cus_1")
            await client.flush()
            assert running() == 0
            await record_all(client, [f"k{number}" for number in range(10)])
            await world.arrived(gate, 3)
            assert 1 <= running() <= 4
            gate.release()
        assert running() == 0
        assert server.max_in_service == 3
