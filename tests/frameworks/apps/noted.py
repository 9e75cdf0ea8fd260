"""Notes in a file which signals were recorded, so that each can be looked for in the ledger."""

import os

from clocknext_core import BatchPolicy

# So long an interval that what is held at the end is sent at the end, or not at all.
BATCH = BatchPolicy(max_size=50, max_interval=600.0)
_file = os.open(os.environ["RECORDED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(key: str) -> None:
    """Note that a signal with this key was recorded."""
    os.write(_file, f"{key}\n".encode())
