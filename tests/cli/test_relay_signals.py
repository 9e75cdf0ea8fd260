"""A relay's signals: whenever one comes, the relay stops."""

import subprocess
import sys

from tests.cli.support import TIMEOUT, environment

STRIKES = """
import os, signal, sys
from clocknext_transports.cli.outbox_relay import stopped_by_signals

def strike(frame, event, argument):
    global calls
    calls += event in ("call", "c_call")
    if calls == place:
        os.kill(os.getpid(), signal.SIGTERM)  # its handler runs before the next line, or in it

place, calls = 0, 0
while calls >= place:
    place, calls = place + 1, 0
    with stopped_by_signals() as stop:
        sys.setprofile(strike)
        stopped = stop.wait(0.001)
        sys.setprofile(None)
        assert stopped or calls < place or stop.wait(0.0), place
print(place)
"""


def test_a_signal_that_comes_anywhere_in_the_wait_is_seen() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STRIKES],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 3
