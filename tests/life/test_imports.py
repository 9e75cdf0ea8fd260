"""Row 20 of the fault matrix, another way: what is being imported at a fork can't be imported in the child.

The lock of a module that a thread is importing stays locked in a child that is forked meanwhile: whoever
imports it there waits for ever. So no thread of ours ever imports anything, and whatever does is found here.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import trustme

from clocknext_transports.emulator import scripted
from tests.contract.answers import in_turn, priced, refused
from tests.transports.support import KEY, PATIENCE, serving

WATCH = """
import json, os, sys, threading
KEY, URL = os.environ["KEY"], os.environ["URL"]

class Watch:
    found = []

    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is not threading.main_thread():
            self.found.append(name)

sys.meta_path.insert(0, Watch())
"""
TELL = """
print(json.dumps([sorted({*Watch.found}), told]))
"""
THREADS = """
from clocknext_core import BatchPolicy, RetryPolicy
from clocknext_transports import ClockNext
told, kept = [], {"spool": os.environ["SPOOL"]} if "SPOOL" in os.environ else {}
client = ClockNext(
    KEY, base_url=URL, batch=BatchPolicy(max_size=1, max_concurrency=2), retry=RetryPolicy(base_delay=0.0),
    on_error=lambda error, signal: told.append(["refused", error.status, signal.model]),
    on_retry=lambda event: told.append(["again", event.error.status, event.signal.model]),
    **kept,
)
for model in ("again", "refused"):
    client.signals.wallet(customer_id="cus_1", model=model)
    told.append(client.flush().delivered)
client.close()
"""
LOOPS = """
import asyncio
from clocknext_transports import AsyncClockNext
told = []

async def main():
    async with AsyncClockNext(KEY, base_url=URL) as client:
        await client.signals.wallet(customer_id="cus_1", model="m")
        told.append((await client.flush()).delivered)

asyncio.run(main())
"""
AGAIN = (
    refused(503, headers={"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT", "content-type": "text/html"}),
    priced(),
    refused(400, "INVALID_BODY", headers={"connection": "close"}),  # which is no plain answer
)
TOLD = [["again", 503, "again"], 1, ["refused", 400, "refused"], 0]


def imported(program: str, url: str, **environment: str) -> tuple[Sequence[str], object]:
    """Run a program that knows nothing yet; return what its other threads imported, and what it tells."""
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-c", WATCH + program + TELL],
        env=clean | {"KEY": KEY, "URL": url} | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, told = json.loads(done.stdout)
    return found, told


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_driver_of_threads_imports_nothing_in_them(host: str) -> None:
    with scripted([in_turn(*AGAIN)]) as server:
        url = server.url.replace("127.0.0.1", host)
        assert imported(THREADS, url) == ([], TOLD)


def test_nor_does_it_with_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    with scripted([in_turn(*AGAIN)], ssl_context=serving(authority, "127.0.0.1")) as server:
        trust = {"SSL_CERT_FILE": str(tmp_path / "authority.pem")}
        assert imported(THREADS, server.url, **trust) == ([], TOLD)


def test_nor_does_it_with_a_spool(tmp_path: Path) -> None:
    with scripted([in_turn(*AGAIN)]) as server:
        assert imported(THREADS, server.url, SPOOL=str(tmp_path / "spool")) == ([], TOLD)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_nor_do_the_threads_in_which_an_event_loop_looks_names_up(host: str) -> None:
    with scripted([priced()]) as server:
        assert imported(LOOPS, server.url.replace("127.0.0.1", host)) == ([], [1])


def test_what_is_imported_in_another_thread_would_be_found() -> None:
    program = """
told = []
thread = threading.Thread(target=lambda: [__import__("colorsys"), told.append("used")])
thread.start()
thread.join()
"""
    assert imported(program, "unused") == (["colorsys"], ["used"])
