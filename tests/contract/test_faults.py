"""Thousands of signals, and a service that loses answers, fails and resets: each is billed exactly once."""

import os
from decimal import Decimal
from itertools import count
from random import Random

from clocknext_core import BatchPolicy, RetryPolicy
from clocknext_transports.emulator import Catalogue, Customer, Fault, Faults, Ledger, Model, emulator
from tests.contract.answers import record
from tests.contract.worlds import World
from tests.transports.support import PATIENCE, Peer, Wire, answer

MANY = int(os.environ.get("CLOCKNEXT_TESTS_SIGNALS", "2000"))
FEWER = MANY // 5
"""With httpx, which takes several times as long a request."""

CATALOGUE = Catalogue(
    models=[Model("m", input=1_000_000, output=0)], customers=[Customer("cus_1", wallet=100_000_000)]
)
"""A token costs a dollar, so that the bill counts tokens."""


async def test_each_of_many_signals_is_billed_once(world: World) -> None:
    count = FEWER if world.uses_httpx else MANY
    ledger, faults = Ledger(CATALOGUE), Faults(Random(7))
    faults.chance(0.1, Fault("lost"))
    faults.chance(0.1, Fault("status", status=503))
    faults.chance(0.02, Fault("reset"))
    batch = BatchPolicy(max_size=100, max_concurrency=8, max_queue_size=count)
    retry = RetryPolicy(max_attempts=12, base_delay=0.001, max_delay=0.004)
    with emulator(ledger, faults) as server:
        async with world.open(server.url, batch=batch, retry=retry) as client:
            for number in range(count):
                await client.signals.wallet(
                    customer_id="cus_1", model="m", tokens={"input": number}, idempotency_key=f"k{number}"
                )
            report = await client.flush()
            assert (report.delivered, list(report.failed), report.pending) == (count, [], 0)
        assert server.max_in_service <= batch.most_concurrency
    assert {signal.idempotency_key for signal in ledger.signals} == {f"k{number}" for number in range(count)}
    assert len(ledger.signals) == count
    assert ledger.bill().wallet == Decimal(count * (count - 1) // 2)
    assert world.hooks.of("on_error", "on_drop") == []
    assert (
        sum(delivered for _, delivered, _ in world.hooks.of("on_flush") if isinstance(delivered, int))
        == count
    )
    # Not in vain: things did go wrong, and the server did see signals twice.
    assert faults.counts["lost"] > count // 20
    assert faults.counts["status"] > count // 20
    assert faults.counts["reset"] > count // 100
    assert ledger.counters.repeats > count // 20
    assert len(world.hooks.of("on_retry")) > count // 20


async def test_every_kind_of_broken_answer_is_retried_and_billed_once(world: World) -> None:
    faults = Faults()
    for fault in (
        Fault("html"),
        Fault("empty"),
        Fault("array"),
        Fault("truncated"),
        Fault("gzip"),
        Fault("huge"),
        Fault("lost"),
        Fault("reset"),
        Fault("status", status=408),
        Fault("status", status=409),
        Fault("status", status=429, retry_after_ms="5"),
        Fault("status", status=502),
    ):
        faults.script(fault)
    kinds = faults.pending
    retry = RetryPolicy(max_attempts=20, base_delay=0.001, max_delay=0.002)
    with emulator(faults=faults) as server:
        async with world.open(server.url, batch=BatchPolicy(max_size=1), retry=retry) as client:
            await record(client, "buffered")
            report = await client.flush()
            assert (report.delivered, list(report.failed), report.pending) == (1, [], 0)
        assert (faults.pending, sum(faults.counts.values())) == (0, kinds)
        assert server.ledger.billed("buffered") == 1
        assert server.ledger.counters.repeats >= 4


async def test_surplus_and_stale_connections_cost_no_signal(world: World) -> None:
    faults = Faults()
    faults.script(Fault("surplus"), Fault("stale"), times=5)
    keys = [f"k{number}" for number in range(12)]
    with emulator(faults=faults) as server:
        batch = BatchPolicy(max_size=1, max_concurrency=1)
        async with world.open(server.url, batch=batch) as client:
            for key in keys:
                await record(client, key)
            assert (await client.flush()).delivered == len(keys)
        assert [signal.idempotency_key for signal in server.ledger.signals] == keys
    assert world.hooks.of("on_error", "on_drop", "on_retry") == []


async def test_one_dead_server_of_two_behind_a_balancer_of_connections_costs_no_signal(world: World) -> None:
    numbers = count()

    def every_second_is_dead(wire: Wire) -> None:
        is_dead = next(numbers) % 2 == 0
        while True:
            wire.read()
            wire.send(answer(b"<html>", status="502 Bad Gateway") if is_dead else answer())

    retry = RetryPolicy(max_attempts=3, base_delay=0.001, max_delay=0.002)
    batch = BatchPolicy(max_size=1, max_concurrency=1)
    with Peer(every_second_is_dead) as peer:
        async with world.open(peer.url, batch=batch, retry=retry) as client:
            for number in range(6):
                await record(client, f"k{number}")
            report = await client.flush(timeout=PATIENCE)
            assert (report.delivered, list(report.failed), report.pending) == (6, [], 0)
    assert world.hooks.of("on_drop") == []
