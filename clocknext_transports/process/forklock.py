"""What no fork falls into the middle of: what threads of ours import, and what they log.

A forked child has no other thread than the one that forked, but inherits the locks of all. That of a module
which is being imported, or that of a file which is being written, nobody ever gives back there: whoever
imports the same or logs to the same file waits for ever. So forks wait for threads of ours that do either.
"""

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress

FORK_PATIENCE = 1.0
"""Seconds a fork waits at most: longer only for what waits for the thread that forks."""

_lock = threading.RLock()  # a log handler may fork


@contextmanager
def undisturbed() -> Generator[None, None, None]:
    """Have forks wait meanwhile."""
    with _lock:
        yield


def _before() -> None:
    _lock.acquire(timeout=FORK_PATIENCE)


def _after_in_parent() -> None:
    with suppress(RuntimeError):  # its patience was over
        _lock.release()


def _after_in_child() -> None:
    global _lock  # noqa: PLW0603 - its owner may not be there
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
