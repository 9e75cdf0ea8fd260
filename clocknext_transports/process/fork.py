"""What clients do when their process forks: the child's begin anew, empty; the parent's go on as before.

Python calls hooks after `os.fork`. It calls none where C code forks, as uWSGI does by default; then the child
notices at its next use of a client (`notice`), before it takes any lock.
"""

import mmap
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from clocknext_transports.process.log import logger

T = TypeVar("T")


class _Flag(Protocol):
    """A number that tells a process from a forked child of it."""

    def __getitem__(self, index: int, /) -> int:
        """Return, at 0, 1 in the process that has set the flag and 0 in a child of it."""
        ...


class _Mark(Protocol):
    """Tells a process from a forked child of it."""

    @property
    def flag(self) -> _Flag:
        """What to read where a call of a function would take too long."""
        ...

    def set(self) -> None:
        """Set it in this process, and in no child."""
        ...


class _Page:
    """A page of memory that the kernel wipes in every child. To read it takes a tenth of what `getpid` does.

    Raises:
        OSError: This kernel can't do that (Linux before 4.14).
    """

    _WIPE_ON_FORK = 18  # MADV_WIPEONFORK, which Python has no name for

    def __init__(self) -> None:
        assert sys.platform == "linux"
        self.flag = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.flag.madvise(self._WIPE_ON_FORK)

    def set(self) -> None:
        self.flag[0] = 1


class _Pid:
    """The process's number."""

    def __init__(self) -> None:
        self._pid = 0
        self.flag = self

    def __getitem__(self, index: int, /) -> int:
        return int(self._pid == os.getpid())

    def set(self) -> None:
        self._pid = os.getpid()


def _new_mark() -> _Mark:
    if sys.platform == "linux":
        try:
            return _Page()
        except OSError:
            pass
    return _Pid()


_mark = _new_mark()
_mark.set()
flag: _Flag = _mark.flag
"""`flag[0]` is 0 in a forked child where nothing has begun anew: `notice` has to be called."""
_globals: list[Callable[[], object]] = []
_restarts: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()
_turns: dict[int, threading.RLock] = {}
"""For each process, what the threads that notice its fork take turns by. Never one that a parent may hold."""
_begun_in = 0
"""The process in which the clients have begun anew, or are about to."""


def register(owner: T, restart: Callable[[T], None]) -> None:
    """Call a function with an object in every forked child, for as long as the object lives.

    It runs in the child's only thread, or in the first that uses a client. A lock may be held by a thread
    that the child does not have, or by one that was interrupted before it could take note, so that it is
    never released: replace every lock.
    """
    _restarts[owner] = restart


def register_global(restart: Callable[[], object]) -> None:
    """Call a function in every forked child, before those of all objects. It must not raise."""
    _globals.append(restart)


def owners() -> list[object]:
    """Return the objects that a fork would concern, which live."""
    return list(_restarts)


def registered() -> int:
    """Count the registered objects."""
    return len(_restarts)


def notice() -> None:
    """Have everything begin anew, where this is a child and nothing has yet. Call it before taking a lock."""
    if not flag[0]:
        _begin_anew()


def _begin_anew() -> None:
    global _begun_in  # noqa: PLW0603 - there is one process
    with _turns.setdefault(os.getpid(), threading.RLock()):
        if _begun_in == os.getpid():
            return  # a restart uses a client, or another thread was faster
        _begun_in = os.getpid()
        try:
            _restart_all()
            _mark.set()
        except BaseException:
            _begun_in = 0  # interrupted: the next use begins once more
            raise


def _restart_all() -> None:
    for restart_global in _globals:
        restart_global()
    for owner, restart in list(_restarts.items()):
        try:
            restart(owner)
        except Exception:  # noqa: BLE001 - the others must not suffer by it
            logger.exception("A client could not begin anew after a fork.")


def around(before: Callable[[], None], after_in_parent: Callable[[], None]) -> None:
    """Call one function before each fork that Python knows of, in the parent, and the other one after it."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=before, after_in_parent=after_in_parent)


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=notice)


def forsake(descriptor: int) -> None:
    """Detach an inherited connection in a forked child, without sending anything to the peer.

    The descriptor stays valid, so that its owner can close it; it refers to the null device from now on.
    """
    with open(os.devnull, "rb") as nowhere:
        os.dup2(nowhere.fileno(), descriptor, inheritable=False)
