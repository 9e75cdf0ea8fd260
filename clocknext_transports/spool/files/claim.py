"""A file of signals that is this process's alone: the file and its lease, together from first to last."""

import secrets
import time
from pathlib import Path

from clocknext_transports.spool.files import database
from clocknext_transports.spool.files.database import SignalFile, Span, failures
from clocknext_transports.spool.files.lease import Lease
from clocknext_transports.spool.files.trust import check_file

SIGNALS, LOCK = ".db", ".lock"
"""How the names of files of signals and of their lock files end."""

_of_parents: list[SignalFile] = []
"""In a forked child: what the parent had open."""


def names(directory: Path) -> list[str]:
    """Return the names of the files of signals, without their endings, in the order they were made.

    Raises:
        SpoolError: The directory can't be read.
    """
    with failures(directory):
        found = [path for path in directory.iterdir() if path.suffix in (SIGNALS, LOCK)]
    return sorted({path.stem for path in found})


class Claim:
    """A file of signals and its lease, held. The file itself is opened, and made, when it is needed.

    Methods that touch the disk raise `SpoolError`, those that read what is there also `DamagedError`.
    """

    def __init__(self, path: Path, lease: Lease) -> None:
        self.path = path
        self._lease = lease
        self._file: SignalFile | None = None
        self._was_made = False
        self.position = 0
        """Rows up to this one have been given out, or must not be."""
        self.last = 0
        """Rows after this one are this process's own."""

    @classmethod
    def new(cls, directory: Path, *, now: float) -> "Claim":
        """Claim a file that is not there yet.

        Raises:
            SpoolError: The directory can't be written to, no file handle is left, or the like.
        """
        while True:
            # The name is random: containers that share a volume may have the same process ids and host names.
            # The time is for people, and for the order of adoption.
            made_at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
            claim = cls.take(directory, f"{made_at}-{secrets.token_hex(8)}")
            if claim is not None:  # otherwise the lock file was removed before the lease was held
                return claim

    @classmethod
    def take(cls, directory: Path, name: str) -> "Claim | None":
        """Claim a file that was left behind; `None` if a live process has it.

        Raises:
            UntrustedError: It, or its lock file, is not a regular file of this user alone.
            SpoolError: Whether a process has it can't be found out.
        """
        path, lock = directory / (name + SIGNALS), directory / (name + LOCK)
        with failures(lock):
            check_file(path, lock)
            lease = Lease.take(lock)
        return None if lease is None else cls(path, lease)

    @property
    def is_made(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()

    @property
    def was_whole(self) -> bool:
        """Whether the file once had its tables, so that it is damaged if it has none."""
        return self._lease.is_marked

    @property
    def unread(self) -> Span:
        """The rows that have yet to be given out."""
        return self.position, self.last

    @property
    def is_lost(self) -> bool:
        """Whether the file was removed, or its log, or its lock file, which keeps others from adopting it."""
        if self._lease.is_lost or (self._was_made and not self.is_made):
            return True
        return self._file is not None and self._file.has_lost_its_log

    def file(self, *, now: float) -> SignalFile:
        """Return the file, open; it is made if it is not there."""
        if self._file is None:
            if self.is_made:
                self._file = SignalFile(self.path)
            else:
                self._file = SignalFile.create(self.path, now=now)
                self._lease.mark()
            self._was_made = True
        return self._file

    def shut(self) -> None:
        """Close the file and keep the lease."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def leave(self) -> None:
        """Close the file and release the lease: the next process that takes it has the signals."""
        self.shut()
        self._lease.release()

    def leave_to_parent(self) -> None:
        """Release, in a forked child, what it inherited: the file and the lease stay the parent's.

        An open file is not closed: where Python did not know of the fork, a thread of the parent may have
        been within SQLite, and its lock there is held for ever. Nor is it collected, which would close it.
        """
        if self._file is not None:
            _of_parents.append(self._file)
            self._file = None
        self._lease.release()

    def remove(self) -> None:
        """Remove the file. A crash in between leaves an empty lock file at most, which is removed later."""
        self.shut()
        try:
            with failures(self.path):
                database.remove(self.path)
                self._lease.remove_file()
        finally:
            self._lease.release()

    def set_aside(self) -> Path:
        """Keep a damaged file under another name, release the lease, and return that name."""
        self.shut()
        try:
            with failures(self.path):
                aside = database.set_aside(self.path)
                self._lease.remove_file()
        finally:
            self._lease.release()
        return aside
