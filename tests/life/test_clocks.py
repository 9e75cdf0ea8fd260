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


@pytest.mark.parametrize(
    "library",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(not importlib.util.find_spec(name), reason=f"{name} is not installed"),
        )
        for name in FREEZES
    ],
)
def test_frozen_time_stops_neither_delivery_nor_time_outs(library: str) -> None:
    with Peer(keep_answering()) as peer:
        ended = run(PROGRAM.format(freeze=FREEZES[library]), peer.url)
    assert (ended.code, ended.output) == (0, "2\n1\n2 0 1\n"), ended.errors
    assert sum(keys(peer).values()) == 4


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
