"""Notes which signals were recorded, in a file, and prints which were dropped: each can be looked for."""

import os

from clocknext_core import BatchPolicy, Signal
from clocknext_transports.process import exit as process_exit

_file = os.open(os.environ["RECORDED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
process_exit.EXIT_TIMEOUT = float(os.environ.get("EXIT_TIMEOUT", process_exit.EXIT_TIMEOUT))


def note(key: str) -> None:
    """Note that a signal with this key was recorded."""
    os.write(_file, f"{key}\n".encode())


def note_dropped(signal: Signal, reason: str) -> None:
    """Print that a signal was dropped."""
    print(f"dropped {signal.idempotency_key} {reason}", flush=True)


HELD = {
    "batch": BatchPolicy(max_size=50, max_interval=600.0),
    "close_timeout": float(os.environ.get("CLOSE_TIMEOUT", "10")),
    "on_drop": note_dropped,
}
"""Arguments of a client that holds signals so long that the end sends them, or nothing does."""
