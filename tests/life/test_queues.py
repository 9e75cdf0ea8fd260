"""Real task queues, where they are installed: what their tasks recorded is billed once when they stop."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from clocknext_transports.emulator import emulator
from tests.life.test_hosts import COUNT, PATIENCE, Host, environment, needs

PYTHON = [sys.executable, "-m"]
CELERY = [*PYTHON, "celery", "-A", "tasked", "worker", "-c2", "--loglevel=error", "--without-gossip"]
QUEUES = {
    "celery prefork": ("celery", "work.delay(key)", [*CELERY, "-Pprefork", "--without-mingle"]),
    "celery threads": ("celery", "work.delay(key)", [*CELERY, "-Pthreads", "--without-mingle"]),
    "celery solo": ("celery", "work.delay(key)", [*CELERY, "-Psolo", "--without-mingle"]),
    "huey threads": ("huey", "work(key)", [*PYTHON, "huey.bin.huey_consumer", "tasked.huey", "-w2"]),
    "huey processes": (
        "huey",
        "work(key)",
        [*PYTHON, "huey.bin.huey_consumer", "tasked.huey", "-w2", "-kprocess"],
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs(module)) for name, (module, _, _) in QUEUES.items()]
)
def test_a_queue_delivers_what_its_tasks_recorded_when_it_stops(name: str, tmp_path: Path) -> None:
    module, enqueue, command = QUEUES[name]
    keys = [f"key-{number}" for number in range(COUNT)]
    folder = tmp_path / "queue"
    folder.mkdir()
    more = {"QUEUE": module, "FOLDER": str(folder), "INTERVAL": "0.5"}
    with emulator() as server:
        program = f"from tasked import work\nfor key in {keys!r}: {enqueue}"
        subprocess.run(
            [sys.executable, "-c", program], env=environment(server, **more), check=True, timeout=PATIENCE
        )
        host = Host(command, server, tmp_path, **more)
        try:
            give_up_at = time.monotonic() + PATIENCE
            # As nothing shows when the last task has begun, its client sends every half second.
            while len(server.ledger.signals) < COUNT and time.monotonic() < give_up_at:
                threading.Event().wait(0.05)
        finally:
            host.stop()
        billed = [server.ledger.billed(key) for key in keys]
        assert (billed, server.ledger.counters.repeats) == ([1] * COUNT, 0), host.log


DRAMATIQ = """
import os, sys
import dramatiq
from dramatiq.brokers.stub import StubBroker
from hosted import client

class Deliver(dramatiq.Middleware):
    def after_worker_shutdown(self, broker, worker):
        client.close(5.0)

broker = StubBroker()
broker.add_middleware(Deliver())
dramatiq.set_broker(broker)

@dramatiq.actor
def work(key):
    client.signals.wallet(customer_id="cus_123", model="gpt-4o", idempotency_key=key)

worker = dramatiq.Worker(broker, worker_threads=4)
worker.start()
for key in sys.argv[1:]:
    work.send(key)
broker.join(work.queue_name)
worker.stop()
os._exit(0)  # without exit handlers: what delivers is the middleware
"""


@needs("dramatiq")
def test_dramatiq_delivers_when_its_worker_has_shut_down() -> None:
    """In the threads of a real worker; its broker is one in memory."""
    keys = [f"key-{number}" for number in range(COUNT)]
    with emulator() as server:
        command = [sys.executable, "-c", DRAMATIQ, *keys]
        ended = subprocess.run(
            command, env=environment(server), capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        billed = [server.ledger.billed(key) for key in keys]
        assert (ended.returncode, billed) == (0, [1] * COUNT), ended.stderr
