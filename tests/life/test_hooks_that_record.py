"""Hooks that record again what was dropped: delivery goes on, and what an interrupt left is run."""

import asyncio
import threading
from pathlib import Path

import pytest
import trio

from clocknext_core import BatchPolicy, FlushReport, Signal
from clocknext_core.states import DropReason
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from tests.life.support import KINDS, AnyClient, Kind, keys
from tests.transports.support import KEY, PATIENCE, SOON, Peer, keep_answering

COUNT = 12
FULL = BatchPolicy(max_size=100, max_interval=0.01, max_queue_size=2)


@pytest.mark.parametrize("has_spool", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_that_records_again_starves_nothing(kind: Kind, has_spool: bool, tmp_path: Path) -> None:
    clients: list[AnyClient] = []

    def on_drop(signal: Signal, reason: DropReason) -> None:
        if reason == "queue_full":
            clients[0].nowait.signals.wallet(
                customer_id=signal.customer_id, model="m", custom={"again": True}
            )

    async def use(client: AsyncClockNext | TrioClockNext) -> FlushReport:
        for number in range(COUNT):
            await client.signals.wallet(customer_id="cus_1", model="m", idempotency_key=f"key-{number}")
        for _ in range(COUNT):
            await client.flush(timeout=SOON)
        return await client.flush(timeout=SOON)

    async def in_block(client: TrioClockNext) -> FlushReport:
        async with client:
            return await use(client)

    spool = tmp_path / "spool" if has_spool else None
    make = {"threads": ClockNext, "asyncio": AsyncClockNext, "trio": TrioClockNext}[kind]
    with Peer(keep_answering()) as peer:
        client = make(KEY, base_url=peer.url, batch=FULL, on_drop=on_drop, spool=spool)
        clients.append(client)
        if isinstance(client, ClockNext):
            for number in range(COUNT):
                client.signals.wallet(customer_id="cus_1", model="m", idempotency_key=f"key-{number}")
            for _ in range(COUNT):
                client.flush(timeout=SOON)
            report = client.close(timeout=SOON)
        elif isinstance(client, TrioClockNext):
            report = trio.run(in_block, client)
        else:

            async def main() -> FlushReport:
                async with client:
                    return await use(client)

            report = asyncio.run(main())
        assert report.pending == 0
        assert client.stats().delivered == len(peer.requests) == COUNT
        assert all(count == 1 for count in keys(peer).values())


def test_hooks_that_an_interrupt_left_run_in_the_background() -> None:
    seen: list[str] = []
    is_over = threading.Event()

    def on_drop(signal: Signal, _: DropReason) -> None:
        seen.append(signal.idempotency_key or "")
        if len(seen) == 1:
            client.signals.wallet(customer_id="cus_1", model="m", idempotency_key="second")
            raise KeyboardInterrupt
        is_over.set()

    client = ClockNext(KEY, base_url="http://127.0.0.1:1", on_drop=on_drop)
    client.close()
    with pytest.raises(KeyboardInterrupt):
        client.signals.wallet(customer_id="cus_1", model="m", idempotency_key="first")
    assert is_over.wait(PATIENCE)
    assert seen == ["first", "second"]
    client.close()  # what the thread that ran the hooks has left to the interpreter's exit
