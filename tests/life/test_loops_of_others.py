"""Event loops that others make: uvloop, loops within loops by nest_asyncio, one that ends meanwhile."""

import asyncio
import importlib.util
import threading

import pytest

from clocknext_core import FlushReport
from clocknext_transports import AsyncClockNext
from clocknext_transports.emulator import Hold, scripted
from tests.contract.answers import held, key_of, priced
from tests.life.support import AT_ONCE, keys, run
from tests.transports.support import KEY, PATIENCE, Peer, keep_answering

PROGRAMS = {
    "uvloop": """
import uvloop
async def main():
    async with AsyncClockNext(KEY, base_url=URL) as client:
        await client.signals.wallet(**WALLET, idempotency_key="one")
        await client.signals.wallet(**WALLET, idempotency_key="two", wait=True)
        print((await client.flush(timeout=10)).delivered)
uvloop.run(main())
""",
    "nest_asyncio": """
import nest_asyncio
nest_asyncio.apply()
client = AsyncClockNext(KEY, base_url=URL)
async def within():
    await client.signals.wallet(**WALLET, idempotency_key="one")
async def main():
    asyncio.run(within())  # as in a cell of a notebook
    await client.signals.wallet(**WALLET, idempotency_key="two", wait=True)
    print((await client.close(timeout=10)).delivered)
asyncio.run(main())
""",
}


@pytest.mark.parametrize(
    "library",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(not importlib.util.find_spec(name), reason=f"{name} is not installed"),
        )
        for name in PROGRAMS
    ],
)
def test_a_client_works_in_another_loop(library: str) -> None:
    with Peer(keep_answering()) as peer:
        ended = run(PROGRAMS[library], peer.url)
    assert (ended.code, ended.output) == (0, "1\n"), ended.errors
    assert "was destroyed" not in ended.errors
    assert keys(peer) == {"one": 1, "two": 1}


def test_a_flush_notices_that_the_loop_with_the_attempts_has_ended() -> None:
    """It waits in another loop, sends again under the same key, and does not wait for its time-out."""
    gate = Hold()
    other = asyncio.new_event_loop()

    def work() -> None:
        other.run_until_complete(client.signals.wallet(customer_id="cus_1", model="m", idempotency_key="one"))
        other.run_forever()

    async def flush() -> FlushReport:
        flushing = asyncio.ensure_future(client.flush(timeout=PATIENCE))
        await asyncio.sleep(0)
        other.call_soon_threadsafe(other.stop)
        thread.join(PATIENCE)
        report = await flushing
        await client.close()
        return report

    with scripted([held(gate), priced()]) as server:
        client = AsyncClockNext(KEY, base_url=server.url, batch=AT_ONCE)
        thread = threading.Thread(target=work)
        thread.start()
        assert gate.wait_arrived(PATIENCE)
        report = asyncio.run(flush())
        gate.release()
        assert (report.delivered, report.pending) == (1, 0)
        assert [key_of(request) for request in server.requests] == ["one", "one"]
    left = asyncio.all_tasks(other)
    for task in left:
        task.cancel()
    other.run_until_complete(asyncio.wait(left))
    other.close()
