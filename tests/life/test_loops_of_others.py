"""Event loops that others make: uvloop, and loops within loops by nest_asyncio."""

import importlib.util

import pytest

from tests.life.support import keys, run
from tests.transports.support import Peer, keep_answering

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
