"""Look into a spool's directory without taking part: nothing is adopted, and nothing is written."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from clocknext_core import SpoolError
from clocknext_transports.spool.files.claim import LOCK, SIGNALS, names
from clocknext_transports.spool.files.database import DamagedError, Owner, SignalFile, failures
from clocknext_transports.spool.files.lease import Lease
from clocknext_transports.spool.protocol import Stored


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A file of signals, as it was found."""

    name: str
    is_alive: bool
    """Whether its process lives; if not, the next process adopts it."""
    owner: Owner | None
    """Which process made it; `None` where that can't be read."""
    count: int
    oldest_at: float | None
    """When its oldest signal was recorded, in seconds since 1970; `None` if it has none."""
    damage: str = ""
    """What is wrong with it, if it can't be read; there may be more in it then."""


def survey(directory: Path) -> list[Surveyed]:
    """Tell which files there are.

    Raises:
        SpoolError: The directory or a file can't be read.
    """
    return [_look_at(directory, name) for name in names(directory) if (directory / (name + SIGNALS)).exists()]


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
    """Go through the signals of a file, in the order recorded. Damaged ones are left out.

    Raises:
        SpoolError: The file can't be read.
        DamagedError: It is damaged, from here on.
    """
    with _opened(directory, name) as file:
        for row in file.walk():
            if row.is_sound:
                yield row.signal


def set_aside(directory: Path) -> list[str]:
    """Return the names of damaged files that were set aside."""
    return sorted(path.name for path in directory.glob("*.damaged"))


def _look_at(directory: Path, name: str) -> Surveyed:
    with failures(directory / name):
        lease = Lease.take(directory / (name + LOCK), create=False)
        if lease is not None:
            lease.release()
    try:
        with _opened(directory, name) as file:
            if file.is_blank:
                return Surveyed(name, lease is None, None, 0, None)
            count, oldest_at = file.summary
            return Surveyed(name, lease is None, file.owner, count, oldest_at)
    except DamagedError as error:
        return Surveyed(name, lease is None, None, 0, None, str(error))


@contextmanager
def _opened(directory: Path, name: str) -> Generator[SignalFile, None, None]:
    with closing(SignalFile(directory / (name + SIGNALS), read_only=True)) as file:
        yield file
