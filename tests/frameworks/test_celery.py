"""Celery's real workers: tasks are billed to their customer, once, and nothing is lost on SIGTERM."""

import sys
from collections import Counter
from pathlib import Path

import pytest

from clocknext_transports.emulator import emulator
from tests.frameworks.support import START, keys_recorded, needs, start
from tests.life.support import wait_until

PYTHON = [sys.executable, "-m"]
WORKER = [*PYTHON, "celery", "-A", "app_celery", "worker", "--loglevel=error"]
QUIET = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
TASKS = 2000
"""More than a worker performs before it is stopped."""
POOLS = {
    "prefork": (["-Pprefork", "-c2"], ()),
    "threads": (["-Pthreads", "-c4"], ()),
    "solo": (["-Psolo"], ()),
    "gevent": (["-P", "gevent", "-c10"], ("gevent",)),
}


@pytest.mark.parametrize(
    "pool",
    [pytest.param(name, marks=needs("celery", *more)) for name, (_, more) in POOLS.items()],
)
def test_tasks_are_billed_once_to_whom_they_were_sent_for(pool: str, tmp_path: Path) -> None:
    folder = tmp_path / "queue"
    folder.mkdir()
    surroundings = {"FOLDER": str(folder), "TASKS": str(TASKS)}
    with emulator() as server:
        send = [sys.executable, "-c", "import app_celery, sys; getattr(app_celery, sys.argv[1])()"]
        sender = start([*send, "send"], server, tmp_path, **surroundings)
        assert sender.process.wait(60) == 0, sender.log
        worker = start([*WORKER, *QUIET, *POOLS[pool][0]], server, tmp_path, **surroundings)

        def has_retried() -> bool:
            noted = keys_recorded(tmp_path)
            return "done-retried-fails" in noted and noted.count("done-twice") == 2

        def keys() -> list[str]:
            return [key for key in keys_recorded(tmp_path) if key.startswith("key-")]

        # A task that is retried goes to the end of the queue: the load comes after it.
        try:
            assert wait_until(has_retried, START), (worker.log, keys_recorded(tmp_path))
            sender = start([*send, "send_many"], server, tmp_path, **surroundings)
            assert wait_until(lambda: len(keys()) > 40, START), (worker.log, sender.log)
        finally:
            worker.stop()
            sender.stop()
        noted = keys()
        assert 40 < len(noted) < TASKS, "the worker was not stopped under load"
        signals = server.ledger.signals
        billed = Counter(each.idempotency_key for each in signals if each.type == "wallet")
        assert billed == Counter(noted), worker.log
        others = Counter((each.customer_id, each.output_tokens) for each in signals if each.type == "credit")
        # Two calls of each customer; the task that failed once: a signal and a call; the one sent twice.
        assert others == {("cus_123", 5): 4, ("cus_456", 5): 2, ("cus_123", 7): 1}, worker.log
