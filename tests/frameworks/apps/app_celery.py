"""Celery: tasks that record, that call a model, that are retried."""

# The frameworks are not among our packages:
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false

import os

from celery import Celery
from noted import HELD, note

from clocknext import ClockNext
from clocknext_transports.integrations.celery import bill_tasks

cnk = ClockNext(**HELD)
folder = os.environ["FOLDER"]
app = Celery("app_celery", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": folder,
    "data_folder_out": folder,
    "control_folder": folder,
}
app.conf.broker_connection_retry_on_startup = True
bill_tasks(cnk)


@app.task
def record(key):
    """Record a signal."""
    cnk.signals.wallet(customer_id="cus_123", model="gpt-4o", idempotency_key=key)
    note(key)


@app.task
def call(name):
    """Call a model whose answers have no id."""
    usage = {"prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13}
    cnk.start_call().answered({"object": "chat.completion", "model": "gpt-4o", "usage": usage})
    note(f"done-{name}")


@app.task(bind=True, default_retry_delay=0)
def fail_once(self, name):
    """Record, fail, and record once more."""
    cnk.signals.credit(customer_id="cus_123", model="gpt-4o", key="chat_credit", tokens={"output": 7})
    call(name)
    if self.request.retries == 0:
        raise self.retry()
    note(f"done-retried-{name}")


def send():
    """Send tasks: of two customers and of none, one that is retried, and one twice."""
    for number in range(4):
        customer = ["cus_123", "cus_456"][number % 2]
        with cnk.billing(customer_id=customer, key="chat_credit"):
            call.delay(f"{customer}-{number}")
    call.delay("none")
    with cnk.billing(customer_id="cus_123", key="chat_credit", type="credit"):
        fail_once.delay("fails")
        for _ in range(2):
            call.apply_async(("twice",), task_id="one-task")


def send_many():
    """Send `TASKS` tasks, while a worker performs them."""
    for number in range(int(os.environ["TASKS"])):
        record.delay(f"key-{number}")
