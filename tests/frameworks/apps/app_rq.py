"""RQ: a job that records, one that is retried, and one that leaves its process in the midst."""

# The frameworks are not among our packages:
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false

import os

from noted import HELD, note
from redis import Redis
from rq import Queue, Retry

from clocknext import ClockNext
from clocknext_transports.integrations.rq import ClockNextWorker

cnk = ClockNext(**HELD)
queue = Queue(connection=Redis.from_url(os.environ["BROKER"]))


def record(key):
    """Record a signal."""
    cnk.signals.wallet(customer_id="cus_123", model="gpt-4o", idempotency_key=key)
    note(key)


def fail_once(mark):
    """Record without a key, and fail the first time."""
    cnk.signals.credit(customer_id="cus_123", model="gpt-4o", key="chat_credit", tokens={"output": 7})
    if not os.path.exists(mark):
        open(mark, "w").close()
        raise RuntimeError("the first time")
    note("key-retried")


def work():
    """Be a worker."""
    Redis.client_info = lambda self: {"addr": "127.0.0.1:1"}  # the server of the tests does not know
    ClockNextWorker([queue], connection=queue.connection).work()


def send(mark):
    """Enqueue jobs."""
    queue.enqueue(fail_once, mark, retry=Retry(max=1))
    for number in range(30):
        queue.enqueue(record, f"key-{number}")
