"""A thread kept ready for name look-ups at the interpreter's exit, where Python 3.12 starts no threads.

A look-up can't be broken off: without another thread, a resolver that hangs would hold the exit up.
"""

import ipaddress
import queue
import sys
import threading
from collections.abc import Callable
from typing import TypeAlias

from clocknext_transports.process import fork as forks

Jobs: TypeAlias = "queue.SimpleQueue[Callable[[], object] | None]"

IS_NEEDED: bool = sys.version_info[:2] == (3, 12)
"""Whether this Python starts no threads while its exit handlers run."""

_ready: dict[str, Jobs] = {}
"""What the thread takes its work from, if there is one. A dict, since its methods need no lock."""
forks.register_global(_ready.clear)


def stand_by(host: str) -> None:
    """Keep a thread ready where one will be needed to look this host up.

    Args:
        host: Its name, or an address, which needs none.
    """
    if not IS_NEEDED or host.lower() == "localhost" or _is_address(host):
        return
    jobs: Jobs = queue.SimpleQueue()
    if _ready.setdefault("jobs", jobs) is not jobs:
        return
    try:
        threading.Thread(target=_work, args=(jobs,), name="clocknext look-up", daemon=True).start()
    except RuntimeError:  # none can be started, as in a subinterpreter
        _ready.clear()
    except BaseException:  # a signal handler's, and it may not have been started
        _ready.clear()
        raise


def stand_down() -> None:
    """End the thread, if there is one."""
    if (jobs := _ready.pop("jobs", None)) is not None:
        jobs.put(None)


def hand_over(look_up: Callable[[], object]) -> bool:
    """Have the thread call a function when it has done what it was given before; it must not raise.

    Returns:
        Whether there is a thread.
    """
    jobs = _ready.get("jobs")
    if jobs is None:
        return False
    jobs.put(look_up)
    return True


def _work(jobs: Jobs) -> None:
    while (look_up := jobs.get()) is not None:
        look_up()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
