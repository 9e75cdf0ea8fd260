"""What clients do when their process forks: the child's begin anew, empty; the parent's go on as before.

One hook serves all clients of a process, and knows them weakly.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from clocknext_transports.process.log import logger

T = TypeVar("T")


_restarts: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()


def register(owner: T, restart: Callable[[T], None]) -> None:
    """Call a function with an object in every forked child, for as long as the object lives.

    It runs in the child's only thread. A lock may be held by a thread that the child does not have, or by one
    that was interrupted before it could take note, so that it is never released: replace every lock.
    """
    _restarts[owner] = restart


def registered() -> int:
    """Count the objects that a fork would concern."""
    return len(_restarts)


def _restart_all() -> None:
    for owner, restart in list(_restarts.items()):
        try:
            restart(owner)
        except Exception:  # noqa: BLE001 - the others must not suffer by it
            logger.exception("A client could not begin anew after a fork.")


def around(before: Callable[[], None], after_in_parent: Callable[[], None]) -> None:
    """Call one function before each fork, in the parent, and the other one after it."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=before, after_in_parent=after_in_parent)


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_restart_all)


def forsake(descriptor: int) -> None:
    """Detach an inherited connection in a forked child, without sending anything to the peer.

    The descriptor stays valid, so that its owner can close it; it refers to the null device from now on.
    """
    with open(os.devnull, "rb") as nowhere:
        os.dup2(nowhere.fileno(), descriptor, inheritable=False)
