"""Leases: which files belong to a process that lives.

A file of signals belongs to a process for as long as the process holds the lock of the file's lock file. The
system releases the lock when the process ends, however it ends, so no process id has to be interpreted, which
another container or a later process may have too. `lockf` and not `flock`, because that is shared with forked
children.

Such locks belong to the process and not to the descriptor, which has two consequences. A process can lock a
file that it has locked already; and closing any descriptor of the lock file releases the lock. So the locks
that this process holds are registered here, and their files are never opened a second time.
"""

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from clocknext_transports.process import fork as forks

if sys.platform != "win32":
    import fcntl

Identity: TypeAlias = tuple[int, int]
"""A file's device and number, which is what the system goes by."""


class Lease:
    """The lock of one lock file, held."""

    def __init__(self, path: Path, descriptor: int, identity: Identity) -> None:
        self._path = path
        self._descriptor = descriptor
        self._identity = identity

    @classmethod
    def take(cls, path: Path, *, create: bool = True) -> "Lease | None":
        """Take the lease; `None` if a live process has it, this one included.

        Args:
            path: The lock file.
            create: Whether to make it if there is none; else that is `None` too.

        Raises:
            OSError: It can't be opened, or its file system knows no locks.
        """
        assert sys.platform != "win32"  # there, no spool is opened: see `is_supported`
        with _registry.lock:
            if _identity(path) in _registry.held:
                return None
            # Neither a symbolic link nor a FIFO, which would be followed, or block.
            flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_CREAT if create else 0)
            try:
                descriptor = os.open(path, flags, 0o600)
            except FileNotFoundError:
                if create:
                    raise  # the directory is gone
                return None
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                status = os.fstat(descriptor)
                identity = (status.st_dev, status.st_ino)
                # The process that had it may have removed the file meanwhile: then this locks an unlinked
                # file.
                if identity == _identity(path):
                    _registry.held.add(identity)
                    return cls(path, descriptor, identity)
            except (BlockingIOError, PermissionError):
                pass  # EAGAIN or EACCES: POSIX allows either for a lock that another process has
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
            return None

    @property
    def is_marked(self) -> bool:
        """Whether the file was made whole, by this process or an earlier one."""
        return os.fstat(self._descriptor).st_size > 0

    def mark(self) -> None:
        """Note in the lock file that the file is made: it can't be empty from now on."""
        with suppress(OSError):  # then it is not known
            os.pwrite(self._descriptor, b"\n", 0)

    @property
    def is_lost(self) -> bool:
        """Whether the lock file was removed: the lease keeps no other process off any more."""
        return not self._path.exists()

    def remove_file(self) -> None:
        """Remove the lock file while the lease is held, so that no other process can hold it.

        Raises:
            OSError: It can't be removed.
        """
        self._path.unlink(missing_ok=True)

    def release(self) -> None:
        """Release the lease: its file is left to others. In a forked child, the parent's stays held."""
        with _registry.lock:
            _registry.held.discard(self._identity)
            os.close(self._descriptor)


class _Registry:
    """What this process holds."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Hold nothing."""
        self.lock = threading.Lock()
        self.held: set[Identity] = set()


_registry = _Registry()

# A child holds none of its parent's locks, and no thread lives in it that could open the registry's own.
forks.register_global(_registry.clear)


def is_supported() -> bool:
    """Whether this platform has locks of this kind: Windows has not."""
    return sys.platform != "win32"


def _identity(path: Path) -> Identity | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return (status.st_dev, status.st_ino)
