"""Look into a spool's directory: nothing is adopted, and nothing is written."""

import os
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from clocknext_core import SpoolError
from clocknext_transports.spool.files.claim import LOCK, SIGNALS, names
from clocknext_transports.spool.files.database import DamagedError, Owner, SignalFile, failures
from clocknext_transports.spool.files.lease import Lease
from clocknext_transports.spool.files.trust import check_directory, check_file
from clocknext_transports.spool.protocol import Stored


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A file of signals, as it was found."""

    name: str
    is_alive: bool
    """Whether its process lives; if not, the next process adopts it."""
    owner: Owner | None
    """The process that made it; `None` where that can't be read."""
    count: int
    oldest_at: float | None
    """When its oldest signal was recorded, in seconds since 1970; `None` if it has none."""
    damage: str = ""
    """What is wrong with it, if it can't be read. It may hold signals that are not counted."""


def survey(directory: Path) -> list[Surveyed]:
    """Return the files there are. One that can't be read, or is not this user's own, is among them.

    Raises:
        SpoolError: The directory can't be read, or is not this user's own.
    """
    with failures(directory):
        check_directory(directory)
    return [
        _look_at(directory, name)
        for name in names(directory)
        if os.path.lexists(directory / (name + SIGNALS)) or _is_odd(directory / (name + LOCK))
    ]


def left_behind(directory: Path) -> int:
    """Count the signals in files whose processes are dead. What can't be read is not counted.

    Raises:
        SpoolError: The directory can't be read.
    """
    count = 0
    for name in names(directory):
        with suppress(SpoolError, DamagedError), failures(directory / name):
            lease = Lease.take(directory / (name + LOCK), create=False)
            if lease is None:  # its process lives
                continue
            try:
                with _opened(directory, name) as file:
                    count += 0 if file.is_blank else file.summary[0]
            finally:
                lease.release()
    return count


def signals(directory: Path, name: str) -> Iterator[Stored]:
    """Yield the signals of a file in the order recorded, without damaged ones.

    Raises:
        SpoolError: The file can't be read.
        DamagedError: It is damaged, from here on.
    """
    with _opened(directory, name) as file:
        for row in file.walk():
            if row.is_sound:
                yield row.signal


def set_aside(directory: Path) -> list[str]:
    """Return the names of damaged files that were set aside.

    Raises:
        SpoolError: The directory can't be read.
    """
    return sorted(path.name for path in directory.glob("*.damaged"))


def _is_odd(lock: Path) -> bool:
    """Return whether a lock file is none of ours: an empty lock file alone is what a crash leaves."""
    try:
        check_file(lock)
    except (OSError, SpoolError):
        return True
    return False


def _look_at(directory: Path, name: str) -> Surveyed:
    is_alive = False
    try:
        with failures(directory / name):
            check_file(directory / (name + SIGNALS), directory / (name + LOCK))
            lease = Lease.take(directory / (name + LOCK), create=False)
            if lease is not None:
                lease.release()
        is_alive = lease is None
        with _opened(directory, name) as file:
            if file.is_blank:
                return Surveyed(name, is_alive, None, 0, None)
            count, oldest_at = file.summary
            return Surveyed(name, is_alive, file.owner, count, oldest_at)
    except DamagedError as error:
        return Surveyed(name, is_alive, None, 0, None, str(error))
    except SpoolError as error:
        return Surveyed(name, is_alive, None, 0, None, error.message)


@contextmanager
def _opened(directory: Path, name: str) -> Generator[SignalFile, None, None]:
    with closing(SignalFile(directory / (name + SIGNALS), read_only=True)) as file:
        file.check_schema()
        yield file
