"""Rows of connections that break: each signal goes again under its key, and is billed once."""

import threading
from collections.abc import Callable

import pytest

from clocknext_core import BatchPolicy
from clocknext_transports.emulator import Fault, Faults, emulator
from tests.contract.worlds import World
from tests.matrix.support import (
    AT_ONCE,
    KEYS,
    PERSISTENT,
    Billing,
    attempts_by_key,
    bodies_at,
    check_billed_once,
    deliver,
)
from tests.transports.support import SOON, Peer, Wire, answer
from tests.transports.test_wire import reset_mid_answer, reset_mid_request

ONE_BY_ONE = BatchPolicy(max_size=1, max_concurrency=1)


def reset_unanswered(wire: Wire) -> None:
    """Reset the connection once the whole request is there."""
    wire.read()
    wire.reset()


async def test_row_02_reset_mid_request(world: World) -> None:
    """A reset in the request, before the answer or in it: the same bytes go again, under the same key."""
    billing = Billing(*[reset_mid_request, reset_unanswered, reset_mid_answer] * 2)
    with Peer(billing) as peer:
        async with world.open(peer.url, batch=AT_ONCE, retry=PERSISTENT) as client:
            await deliver(client)
        attempts = attempts_by_key(bodies_at(peer))
        assert attempts.total() == len(KEYS) + 4  # two requests more were cut off in their head
    check_billed_once(billing.ledger)
    assert len(world.hooks.of("on_retry")) == 6
    assert world.hooks.of("on_error", "on_drop") == []


async def test_row_03_committed_answer_lost(world: World) -> None:
    """The server bills and its answer is lost: the repeat under the same key bills nothing more."""
    faults = Faults()
    faults.script(Fault("lost"), times=len(KEYS))
    with emulator(faults=faults) as server:
        async with world.open(server.url, batch=AT_ONCE, retry=PERSISTENT) as client:
            await deliver(client)
        assert attempts_by_key([each.raw_body for each in server.ledger.requests]).total() == 2 * len(KEYS)
        assert server.ledger.counters.repeats == faults.counts["lost"] == len(KEYS)
        check_billed_once(server.ledger)
    assert len(world.hooks.of("on_retry")) == len(KEYS)
    assert world.hooks.of("on_error", "on_drop") == []


@pytest.mark.parametrize("end", [Wire.close, Wire.reset])
async def test_row_04_stale_keep_alive(world: World, end: Callable[[Wire], None]) -> None:
    """The peer ends a connection as its second request comes: that goes again at once, on a fresh one."""
    billing = Billing()

    def script(wire: Wire) -> None:
        wire.send(billing.bill(wire.read()))
        wire.read()
        end(wire)

    with Peer(script) as peer:
        async with world.open(peer.url, batch=ONE_BY_ONE) as client:
            await deliver(client)
        attempts = attempts_by_key(bodies_at(peer))
        connections = [seen.connection for seen in peer.requests]
    # The first is answered at once; of all others the first try finds a stale connection. Only httpx, which
    # keeps no connection, has none.
    retried = 0 if world.uses_httpx else len(KEYS) - 1
    assert attempts.total() == len(KEYS) + retried
    assert set(attempts.values()) <= {1, 2}
    assert connections == sorted([*range(1, len(KEYS) + 1), *range(1, retried + 1)])
    check_billed_once(billing.ledger)
    assert world.hooks.of("on_retry", "on_error", "on_drop") == []


async def test_row_15_surplus_bytes_after_the_answer(world: World) -> None:
    """The bytes after an answer are another success: no signal may be taken for delivered by them."""
    billing = Billing()
    ended = threading.Semaphore(0)

    def script(wire: Wire) -> None:
        real = billing.bill(wire.read())
        wire.send(real + answer(b'{"ok": true, "poisoned": true}'))
        wire.wait_for_end()
        ended.release()

    with Peer(script) as peer:
        async with world.open(peer.url, batch=ONE_BY_ONE) as client:
            await deliver(client)
        assert all(ended.acquire(timeout=SOON) for _ in KEYS)  # the client closed each of them
        assert [seen.connection for seen in peer.requests] == list(range(1, len(KEYS) + 1))
        assert set(attempts_by_key(bodies_at(peer)).values()) == {1}
    check_billed_once(billing.ledger)
    assert world.hooks.of("on_retry", "on_error", "on_drop") == []
