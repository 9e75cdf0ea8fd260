"""What becomes of held signals when a program ends without closing its client."""

import json
import os
import subprocess
import sys
import time

import pytest

from tests.transports.support import KEY, PATIENCE, Peer, Wire, answer, closed_port, keep_answering

BOUND = 5.0
"""Seconds that the interpreter's exit may wait for signals."""
LOST = "clocknext WARNING ClockNext signals not delivered before the interpreter's exit: 3."

PROGRAM = """
import logging, os, sys
logging.basicConfig(format="%(name)s %(levelname)s %(message)s")
from clocknext_transports import ClockNext
client = ClockNext(os.environ["KEY"], base_url=os.environ["URL"])
for number in range(int(os.environ["COUNT"])):
    client.signals.wallet(customer_id="cus_1", model="m", idempotency_key=f"key-{number}")
"""


def run(url: str, count: int, epilogue: str = "") -> tuple[subprocess.CompletedProcess[str], float]:
    """Run the program to its end, and say how long that took."""
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM + epilogue],
        env=clean | {"KEY": KEY, "URL": url, "COUNT": str(count)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert KEY not in done.stderr + done.stdout
    return done, time.monotonic() - began


def keys(peer: Peer) -> list[str]:
    return sorted(json.loads(seen.body)["idempotencyKey"] for seen in peer.requests)


@pytest.mark.parametrize("count", [1, 50])
def test_what_is_held_is_delivered_at_exit(count: int) -> None:
    with Peer(keep_answering()) as peer:
        done, _ = run(peer.url, count)
        assert (done.returncode, done.stderr) == (0, "")
        assert keys(peer) == sorted(f"key-{number}" for number in range(count))


def test_an_error_in_the_program_is_no_reason_to_lose_signals() -> None:
    with Peer(keep_answering()) as peer:
        done, _ = run(peer.url, 3, "raise LookupError('mine')")
        assert (done.returncode, len(keys(peer))) == (1, 3)
        assert "LookupError: mine" in done.stderr


def test_a_dead_server_holds_the_exit_up_for_a_bounded_time_and_that_is_said() -> None:
    with closed_port() as url:
        done, elapsed = run(url, 3)
    assert elapsed < BOUND + 5.0
    assert done.returncode == 0
    assert LOST in done.stderr


def test_a_silent_server_holds_the_exit_up_for_a_bounded_time_and_that_is_said() -> None:
    def silent(wire: Wire) -> None:
        wire.read()
        wire.wait_for_end()

    with Peer(silent) as peer:
        done, elapsed = run(peer.url, 3)
        assert 1 <= len(keys(peer)) <= 3  # from Python 3.12 on no thread can be started at the exit
    assert elapsed < BOUND + 5.0
    assert done.returncode == 0
    assert LOST in done.stderr


def test_a_closed_client_has_nothing_left_to_do_at_exit() -> None:
    with Peer(keep_answering(answer())) as peer:
        done, elapsed = run(peer.url, 3, "print(client.close().delivered)")
    assert (done.stdout, done.stderr) == ("3\n", "")
    assert elapsed < BOUND


def test_a_program_that_records_nothing_ends_at_once() -> None:
    with closed_port() as url:
        done, elapsed = run(url, 0)
    assert (done.returncode, done.stderr) == (0, "")
    assert elapsed < BOUND


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit(3)"])
def test_what_breaks_the_exits_delivery_off_is_logged_with_what_is_lost(error: str) -> None:
    breaks = f"""
class Broken:
    def exchange(self, request, *, deadline_at):
        if threading.current_thread() is threading.main_thread():
            raise {error}
        threading.Event().wait()
    def close(self):
        pass
import threading
broken = ClockNext(os.environ["KEY"], transport=Broken())
for _ in range(3):
    broken.signals.wallet(customer_id="cus_1", model="m")
threading.Thread.start = lambda thread: (_ for _ in ()).throw(RuntimeError("no more threads"))
broken._driver.background._threads.clear()
"""
    with Peer(keep_answering()) as peer:
        done, _ = run(peer.url, 2, breaks)
        assert done.returncode == 0
        assert LOST in done.stderr
        assert "Exception ignored" not in done.stderr
        assert len(keys(peer)) == 2
