"""What the check of tests/life/__main__.py has Celery work on."""

# Celery is not typed, and not among our packages:
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false

import os

from celery import Celery
from celery.signals import worker_process_shutdown
from served import client, record

folder = os.environ["FOLDER"]
app = Celery("worked", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": folder,
    "data_folder_out": folder,
    "control_folder": folder,
}
app.conf.broker_connection_retry_on_startup = True


@app.task
def work(key):
    """Record one signal, and note that it is."""
    record(key)
    with open(os.environ["DONE"], "a") as done:
        done.write(f"{key} {os.getpid()}\n")


if "RECIPE" in os.environ:

    @worker_process_shutdown.connect
    def close(**_):
        """Deliver what this process holds: it ends without the interpreter's exit handlers."""
        client.close(5.0)
