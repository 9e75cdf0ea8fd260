"""What the task queues of tests/life/test_queues.py work on: each task records one signal."""

# None of them is typed, or among our packages:
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false

import os

from hosted import client

queue = os.environ["QUEUE"]
folder = os.environ["FOLDER"]


def record(key):
    """Record one signal."""
    client.signals.wallet(customer_id="cus_123", model="gpt-4o", idempotency_key=key)


if queue == "huey":
    from huey import SqliteHuey

    huey = SqliteHuey(filename=f"{folder}/huey.db")
    work = huey.task()(record)

elif queue == "celery":
    from celery import Celery
    from celery.signals import worker_process_shutdown

    app = Celery("tasked", broker="filesystem://")
    app.conf.broker_transport_options = {
        "data_folder_in": folder,
        "data_folder_out": folder,
        "control_folder": folder,
    }
    app.conf.broker_connection_retry_on_startup = True
    work = app.task(record, name="record")

    @worker_process_shutdown.connect
    def close(**_):
        """Deliver what this process holds: it ends without the interpreter's exit handlers."""
        client.close(5.0)
