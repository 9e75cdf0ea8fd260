"""What holds a signal up and what does not: concurrency, slow signals, back-off, Retry-After."""

from itertools import pairwise

import pytest

from clocknext_core import BatchPolicy, RateLimitError, RetryPolicy
from clocknext_transports.emulator import Hold, scripted
from tests.contract.answers import (
    Timed,
    by_key,
    counted,
    found,
    held,
    in_turn,
    priced,
    record,
    record_all,
    refused,
    sent_to,
)
from tests.contract.worlds import GIVING_UP, PATIENT_BATCH, QUICK, World

PAUSE = 0.08
"""A server's Retry-After, seconds."""


async def test_no_more_are_in_flight_than_allowed(world: World) -> None:
    gate = Hold()
    with scripted([held(gate)]) as server:
        batch = BatchPolicy(max_size=1, max_concurrency=3)
        async with world.open(server.url, batch=batch) as client:
            await record_all(client, [f"k{number}" for number in range(20)])
            await world.arrived(gate, 3)
            assert (server.in_service, client.pending) == (3, 20)
            gate.release()
            report = await client.flush()
            assert (report.delivered, report.pending) == (20, 0)
        assert server.max_in_service == 3
        # An answer and the next request may cross each other, but no connection is wasted.
        if not world.uses_httpx:
            assert server.connections == 3


async def test_a_slow_signal_does_not_hold_up_the_others(world: World) -> None:
    slow, others = Hold(), Hold()
    keys = [f"k{number}" for number in range(30)]
    with scripted([by_key({"slow": held(slow)}, counted(others))]) as server:
        batch = BatchPolicy(max_size=1, max_concurrency=2)
        async with world.open(server.url, batch=batch) as client:
            await record(client, "slow")
            await world.arrived(slow)
            await record_all(client, keys)
            await world.arrived(others, len(keys))
            assert client.pending >= 1
            slow.release()
            assert (await client.flush()).pending == 0
        assert sent_to(server) == ["slow", *keys]


async def test_a_failing_signal_does_not_hold_up_the_others(world: World) -> None:
    others = [f"k{number}" for number in range(5)]
    timed = Timed(by_key({"bad": in_turn(refused(503), priced())}))
    with scripted([timed]) as server:
        batch = BatchPolicy(max_size=1000, max_interval=3600.0, max_concurrency=1)
        # So long that five exchanges take less, also on a machine under load.
        retry = RetryPolicy(max_attempts=3, base_delay=1.0, max_delay=1.0)
        async with world.open(server.url, batch=batch, retry=retry) as client:
            await record_all(client, ["bad", *others])
            assert (await client.flush()).delivered == 6
        assert sent_to(server) == ["bad", *others, "bad"]
    (_, first_at), *_, (_, again_at) = timed.times
    assert again_at - first_at >= 0.5


@pytest.mark.parametrize("status", [429, 503])
async def test_while_the_server_asks_for_a_pause_nothing_else_is_sent(world: World, status: int) -> None:
    pause = refused(status, "Slow down.", {"retry-after-ms": str(int(PAUSE * 1000))})
    timed = Timed(by_key({"a": in_turn(pause, priced())}))
    with scripted([timed]) as server:
        batch = BatchPolicy(max_size=1, max_concurrency=4)
        async with world.open(server.url, batch=batch) as client:
            await record(client, "a")
            await world.hooked(lambda seen: ("on_retry", 1, "a") in seen)
            await record_all(client, ["b", "c", "d"])
            report = await client.flush()
            assert (report.delivered, list(report.failed)) == (4, [])
        (first, first_at), *later = timed.times
        assert first == "a"
        assert sorted(key for key, _ in later) == ["a", "b", "c", "d"]
        assert all(at - first_at >= PAUSE for _, at in later)


async def test_a_pause_asked_for_with_a_final_refusal_counts_too(world: World) -> None:
    refusal = refused(422, "No.", {"retry-after-ms": str(int(PAUSE * 1000))})
    timed = Timed(by_key({"a": refusal}))
    with scripted([timed]) as server:
        batch = BatchPolicy(max_size=1000, max_interval=3600.0, max_concurrency=1)
        async with world.open(server.url, batch=batch) as client:
            await record_all(client, ["a", "b"])
            report = await client.flush()
            assert (report.delivered, len(report.failed)) == (1, 1)
        (_, first_at), (_, second_at) = timed.times
        assert second_at - first_at >= PAUSE


async def test_an_awaited_call_waits_as_long_as_the_server_says(world: World) -> None:
    pause = refused(429, "Slow down.", {"retry-after": str(PAUSE)})
    timed = Timed(in_turn(pause, found(name="Acme")))
    with scripted([timed]) as server:
        async with world.open(server.url) as client:
            assert (await client.customers.get("cus_1")).name == "Acme"
        (_, first_at), (_, second_at) = timed.times
        assert second_at - first_at >= PAUSE


async def test_an_awaited_call_does_not_sit_through_an_endless_pause(world: World) -> None:
    with scripted([refused(429, "Slow down.", {"retry-after": "3600"})]) as server:
        async with world.open(server.url) as client:
            with pytest.raises(RateLimitError, match="Slow down") as caught:
                await record(client, "a", wait=True)
            assert (caught.value.retry_after, caught.value.retryable) == (3600.0, True)
        assert len(server.requests) == 1
    assert world.hooks.seen == []


async def test_closing_does_not_wait_for_a_pause_longer_than_its_time(world: World) -> None:
    with scripted([refused(429, "Slow down.", {"retry-after": "3600"})]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH) as client:
            await record(client, "a")
            assert (await client.flush(timeout=0.1)).pending == 1
            await record(client, "b")
            report = await client.close(timeout=0.05)
            assert (report.delivered, list(report.failed), report.pending) == (0, [], 2)
        assert len(server.requests) == 1
    assert world.hooks.seen == [("on_retry", 1, "a"), ("on_drop", "closed", "a"), ("on_drop", "closed", "b")]


async def test_attempts_follow_the_back_off(world: World) -> None:
    timed = Timed(by_key({}, refused(500)))
    with scripted([timed]) as server:
        retry = RetryPolicy(max_attempts=4, base_delay=0.02, max_delay=0.05)
        async with world.open(server.url, batch=GIVING_UP, retry=retry) as client:
            await record(client, "a")
            await client.flush()
        at = [when for _, when in timed.times]
    waits = [later - earlier for earlier, later in pairwise(at)]
    assert len(waits) == 3
    assert all(wait >= least for wait, least in zip(waits, (0.01, 0.02, 0.025), strict=True))
    assert len({request.body for request in server.requests}) == 1


async def test_what_cannot_be_repeated_is_sent_once(world: World) -> None:
    with scripted([refused(503)]) as server:
        async with world.open(server.url) as client:
            for call in (
                client.customers.create(name="Acme", email="ops@acme.com"),
                client.customers.update("cus_1", notes="VIP"),
                client.portal.create_token(customer_id="cus_1"),
            ):
                with pytest.raises(Exception, match="No"):
                    await call
        assert [each.method for each in server.requests] == ["POST", "PATCH", "POST"]
    assert world.hooks.seen == []


async def test_what_can_be_repeated_is_retried(world: World) -> None:
    with scripted([refused(503)]) as server:
        async with world.open(server.url) as client:
            for call in (client.customers.delete("cus_1"), client.customers.balances("cus_1")):
                with pytest.raises(Exception, match="No"):
                    await call
        assert [each.method for each in server.requests] == [
            method for method in ("DELETE", "GET") for _ in range(QUICK.max_attempts)
        ]
