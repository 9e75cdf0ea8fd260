"""Stopping by signal: whenever one comes, and to whichever thread, the wait for it ends."""

import subprocess
import sys

from tests.cli.support import TIMEOUT, environment

STRIKES = """
import os, signal, sys
from clocknext_transports.cli.stop import stopped_by_signals

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

TO_ANOTHER_THREAD = """
import signal, sys, threading
from clocknext_transports.cli.stop import stopped_by_signals

sys.setswitchinterval(100)  # another thread runs when this one gives up the interpreter's lock to wait
waits = threading.Lock()

def strike():
    with waits:
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

with stopped_by_signals() as stop, waits:
    thread = threading.Thread(target=strike)
    thread.start()
    waits.release()
    print(stop.wait(10.0))
    waits.acquire()
thread.join()
"""

OTHERS = """
import os, signal
from clocknext_transports.cli.stop import stopped_by_signals

signal.signal(signal.SIGUSR1, lambda number, frame: None)
before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
with stopped_by_signals() as stop:
    os.kill(os.getpid(), signal.SIGUSR1)
    print(stop.wait(0.001))
    os.kill(os.getpid(), signal.SIGTERM)
    print(stop.wait(), stop.wait())
print(before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)])
print(signal.set_wakeup_fd(-1))
"""


def output(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_a_signal_that_comes_anywhere_in_the_wait_is_seen() -> None:
    (places,) = output(STRIKES)
    assert int(places) > 3


def test_a_signal_that_comes_to_another_thread_ends_the_wait() -> None:
    assert output(TO_ANOTHER_THREAD) == ["True"]


def test_other_signals_stop_nothing_and_all_is_as_it_was_afterwards() -> None:
    assert output(OTHERS) == ["False", "True", "True", "True", "-1"]
