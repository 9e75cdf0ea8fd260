"""Clocks that tests freeze, and wall clocks that jump: delivery and time-outs go by real time."""

import importlib.util

import pytest

from tests.life.support import keys, run
from tests.transports.support import Peer, keep_answering

PROGRAM = """
import time
FREEZE = {freeze}
client = ClockNext(KEY, base_url=URL, batch=BatchPolicy(max_interval=0.1))
down = ClockNext(KEY, base_url="http://127.0.0.1:1")
client.signals.wallet(**WALLET)
with FREEZE("2030-01-01"):
    client.signals.wallet(**WALLET)
    print(client.flush(timeout=10).delivered)
    client.signals.wallet(**WALLET)
    while client.pending:
        threading.Event().wait(0.01)
    down.signals.wallet(**WALLET)
    print(down.flush(timeout=0.2).pending)
client.signals.wallet(**WALLET)
print(client.flush(timeout=10).delivered, client.close(timeout=10).pending, down.close(timeout=0).pending)
"""
FREEZES = {
    "freezegun": "__import__('freezegun').freeze_time",
    "time_machine": "lambda to: __import__('time_machine').travel(to, tick=False)",
}


any_library = pytest.mark.parametrize(
    "library",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(not importlib.util.find_spec(name), reason=f"{name} is not installed"),
        )
        for name in FREEZES
    ],
)


@any_library
def test_frozen_time_stops_neither_delivery_nor_time_outs(library: str) -> None:
    with Peer(keep_answering()) as peer:
        ended = run(PROGRAM.format(freeze=FREEZES[library]), peer.url)
    assert (ended.code, ended.output) == (0, "2\n1\n2 0 1\n"), ended.errors
    assert sum(keys(peer).values()) == 4


LOOP_PROGRAM = """
FREEZE = {freeze}
async def main():
    async with {client}(KEY, base_url=URL, batch=BatchPolicy(max_interval=0.1)) as client:
        await client.signals.wallet(**WALLET)
        with FREEZE("2030-01-01"):
            await client.signals.wallet(**WALLET)
            print((await client.flush(timeout=10)).delivered)
            await client.signals.wallet(**WALLET)
            while client.pending:
                await {loop}.sleep(0.01)
        await client.signals.wallet(**WALLET)
        print((await client.flush(timeout=10)).delivered)
{run}
"""
LOOPS = {
    "asyncio": {"client": "AsyncClockNext", "loop": "asyncio", "run": "asyncio.run(main())"},
    "trio": {"client": "TrioClockNext", "loop": "trio", "run": "trio.run(main)"},
}
SPARED = {"asyncio": "real_asyncio=True", "trio": "ignore=['trio']"}
"""What tells freezegun to leave a loop its clock."""


@any_library
@pytest.mark.parametrize("loop", LOOPS)
def test_frozen_time_stops_no_client_of_a_loop_that_keeps_its_clock(library: str, loop: str) -> None:
    freeze = FREEZES[library]
    if library == "freezegun":
        freeze = f"lambda to: {freeze}(to, {SPARED[loop]})"
    with Peer(keep_answering()) as peer:
        ended = run(LOOP_PROGRAM.format(freeze=freeze, **LOOPS[loop]), peer.url)
    assert (ended.code, ended.output) == (0, "2\n2\n"), ended.errors
    assert sum(keys(peer).values()) == 4


SUSPEND = {
    "asyncio": """
class Loop(asyncio.SelectorEventLoop):
    ahead = 0.0
    def time(self):
        return super().time() + self.ahead
def suspend(seconds):
    Loop.ahead += seconds
client = AsyncClockNext(KEY, base_url=URL, batch=BatchPolicy(max_interval=3600.0), on_drop=print)
def carry_out(main):
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())
async def turn():
    await asyncio.sleep(0)
""",
    "trio": """
from trio.testing import MockClock
clock = MockClock(rate=1.0)
suspend = clock.jump
client = TrioClockNext(KEY, base_url=URL, batch=BatchPolicy(max_interval=3600.0), on_drop=print)
def carry_out(main):
    trio.run(main, clock=clock)
async def turn():
    await trio.sleep(0)
""",
}
"""A loop whose clock goes on while the machine sleeps."""
SUSPENDED = """
async def main():
    async with client:
        await client.signals.wallet(**WALLET, idempotency_key="one")
        await turn()  # the client waits for the hour to be over
        suspend(4 * 3600.0)
        while client.pending:
            await turn()
        await client.signals.wallet(**WALLET, idempotency_key="two")
        await turn()
        suspend(4 * 3600.0)
        await client.signals.wallet(**WALLET, idempotency_key="three")
        while client.pending:
            await turn()
        print(client.stats().delivered, client.stats().retries)
carry_out(main)
"""


@pytest.mark.parametrize("loop", SUSPEND)
def test_a_client_of_a_loop_sends_at_once_after_a_sleep_of_hours(loop: str) -> None:
    with Peer(keep_answering()) as peer:
        ended = run(SUSPEND[loop] + SUSPENDED, peer.url)
    assert (ended.code, ended.output) == (0, "3 0\n"), ended.errors
    assert keys(peer) == {"one": 1, "two": 1, "three": 1}


def test_a_program_that_replaces_the_monotonic_clock_is_not_followed() -> None:
    program = """
import time
client = ClockNext(KEY, base_url=URL, batch=BatchPolicy(max_interval=0.1))
time.monotonic = lambda: 5.0
client.signals.wallet(**WALLET)
print(client.flush(timeout=10).delivered, client.close(timeout=10).pending)
"""
    with Peer(keep_answering()) as peer:
        ended = run(program, peer.url)
    assert (ended.code, ended.output) == (0, "1 0\n"), ended.errors


AFTER = """
client = AsyncClockNext(KEY, base_url=URL, batch=BatchPolicy(max_interval=0.1), on_drop=print)
class Frozen(asyncio.SelectorEventLoop):
    def time(self):
        return 4e9
async def first():
    await client.signals.wallet(**WALLET)
async def then():
    print(await client.connect(), (await client.flush(timeout=10)).delivered)
    await client.signals.wallet(**WALLET)
    while client.pending:  # sent by its interval
        await asyncio.sleep(0.01)
    await client.signals.wallet(**WALLET)
    print((await client.close(timeout=10)).pending)
with asyncio.Runner(loop_factory=Frozen) as runner:
    runner.run(first())
asyncio.run(then())
"""


def test_a_client_of_a_loop_whose_clock_was_frozen_goes_on_in_the_next_one() -> None:
    with Peer(keep_answering()) as peer:
        ended = run(AFTER, peer.url)
    assert (ended.code, ended.output) == (0, "True 1\n0\n"), ended.errors
    assert sum(keys(peer).values()) == 3
