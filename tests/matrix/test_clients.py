"""Rows of what the caller does, or the surroundings do to it: too much at once, and breaking off."""

from typing import get_args

import pytest

from clocknext_core import BatchPolicy, QueueFullError
from clocknext_core.config import Overflow
from clocknext_transports.emulator import Fault, Hold, Ledger, emulator, scripted
from tests.contract.answers import record, record_all
from tests.contract.clients import Client
from tests.contract.test_cancellation import billed_but_held
from tests.contract.worlds import World, in_tasks
from tests.matrix.support import AT_ONCE, KEYS, PERSISTENT, attempts_by_key, check_billed_once, deliver

ROOM = 3
ACCEPTED: dict[Overflow, list[str]] = {
    "drop_newest": KEYS[:ROOM],
    "drop_oldest": [KEYS[0], *KEYS[-ROOM + 1 :]],  # the first has been attempted, so it keeps its place
    "block": KEYS[:ROOM],
    "raise": KEYS[:ROOM],
}


@pytest.mark.parametrize("overflow", get_args(Overflow))
async def test_row_22_queue_full(world: World, overflow: Overflow) -> None:
    """The service hangs and the queue is full: the policy does what it says, and each loss is told."""
    ledger, gate = Ledger(), Hold()
    batch = BatchPolicy(
        max_size=1, max_concurrency=1, max_queue_size=ROOM, overflow=overflow, block_timeout=0.01
    )
    accepted, refused = ACCEPTED[overflow], [key for key in KEYS if key not in ACCEPTED[overflow]]
    raised: list[str | None] = []
    with scripted([billed_but_held(ledger, gate)]) as server:
        async with world.open(server.url, batch=batch) as client:
            await record(client, KEYS[0])
            await world.arrived(gate)
            for key in KEYS[1:]:
                try:
                    await record(client, key)
                except QueueFullError as error:
                    raised.append(error.idempotency_key)
            assert client.pending == ROOM
            gate.release()
            report = await client.flush()
            assert (report.delivered, report.pending) == (ROOM, 0)
            told = [each.signal.idempotency_key for each in report.failed]
            assert (raised, told) == ((refused, []) if overflow == "raise" else ([], refused))
            await deliver(client, ["afterwards"])
        assert attempts_by_key([request.body for request in server.requests]).total() == ROOM + 1
    check_billed_once(ledger, [*accepted, "afterwards"])
    assert [key for _, reason, key in world.hooks.of("on_drop") if reason == "queue_full"] == told
    assert len(world.hooks.of("on_drop")) == len(told)


@in_tasks
async def test_row_24_cancel_mid_attempt(world: World) -> None:
    """Attempts that were billed and not answered are cancelled: held, and repeated under their keys."""
    ledger, gate = Ledger(), Hold()
    with scripted([billed_but_held(ledger, gate)]) as server:
        client = world.create(server.url, batch=AT_ONCE)

        async def block() -> None:
            async with client:
                await record_all(client, KEYS)
                await client.flush()

        await world.cancelled(block, when=lambda: world.arrived(gate, AT_ONCE.most_concurrency))
        world.check_no_task_runs()
        assert client.pending == len(KEYS)
        gate.release()
        async with client:
            report = await client.flush()
            assert (report.delivered, list(report.failed), report.pending) == (len(KEYS), [], 0)
        attempts = attempts_by_key([request.body for request in server.requests])
    assert attempts.total() == len(KEYS) + AT_ONCE.most_concurrency
    assert ledger.counters.repeats == AT_ONCE.most_concurrency
    check_billed_once(ledger)
    assert world.hooks.of("on_retry", "on_error", "on_drop") == []


class Block:
    """Records a few signals and flushes them.

    Args:
        client: What it records with.
        name: What its keys begin with.
    """

    def __init__(self, client: Client, name: int) -> None:
        self._client = client
        self._keys = [f"{name}.{number}" for number in range(3)]
        self.begun: list[str] = []
        self.recorded: list[str] = []

    async def run(self) -> None:
        async with self._client as client:
            for key in self._keys:
                self.begun.append(key)
                await record(client, key)
                self.recorded.append(key)
            await client.flush()


@in_tasks
async def test_row_24_cancel_at_every_checkpoint(world: World) -> None:
    """Cancel after each number of turns, while answers get lost: whatever was recorded is billed once."""
    recorded: set[str] = set()
    begun: set[str] = set()
    cut_short = 0
    with emulator() as server:
        server.faults.chance(0.3, Fault("lost"))
        for turns in range(0, 40, 4 if world.uses_httpx else 1):
            client = world.create(server.url, batch=AT_ONCE, retry=PERSISTENT)
            block = Block(client, turns)
            cut_short += not await world.cancelled_after(turns, block.run)
            world.check_no_task_runs()
            recorded.update(block.recorded)
            begun.update(block.begun)
            async with client:
                report = await client.flush()
                assert (list(report.failed), report.pending, client.pending) == ([], 0, 0)
        billed = {str(signal.idempotency_key) for signal in server.ledger.signals}
        check_billed_once(server.ledger, sorted(billed))
        assert recorded <= billed <= begun
        assert server.faults.counts["lost"] > 0
    assert cut_short > 3
    assert world.hooks.of("on_error", "on_drop") == []


async def test_row_24_close_mid_attempt(world: World) -> None:
    """A close that can't wait says what it leaves; sent again by another client, that is billed once."""
    ledger, gate = Ledger(), Hold()
    with scripted([billed_but_held(ledger, gate)]) as server:
        async with world.open(server.url, batch=AT_ONCE, timeout=3600.0) as client:
            await record_all(client, KEYS)
            await world.arrived(gate, AT_ONCE.most_concurrency)
            report = await client.close(timeout=0.05)
            assert (report.delivered, list(report.failed), report.pending) == (0, [], len(KEYS))
        assert world.hooks.seen == [("on_drop", "closed", key) for key in KEYS]
        assert len(ledger.signals) == AT_ONCE.most_concurrency
        gate.release()
        async with world.open(server.url, batch=AT_ONCE) as another:
            await deliver(another)
        attempts = attempts_by_key([request.body for request in server.requests])
    assert attempts.total() == len(KEYS) + AT_ONCE.most_concurrency
    assert ledger.counters.repeats == AT_ONCE.most_concurrency
    check_billed_once(ledger)
