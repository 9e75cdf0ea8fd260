"""Signals that must not be sent before a person has looked at them: past the window, damaged, refused.

One file for all processes of a spool. It is rarely used, so it is opened for each use and has a rollback
journal, which many processes can share.
"""

import os
import secrets
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from clocknext_core.text import printable
from clocknext_transports.spool.files.database import (
    DamagedError,
    check_schema,
    checksum,
    connect,
    failures,
    make_file,
    schema_of,
    sync_directory,
)
from clocknext_transports.spool.files.trust import UntrustedError
from clocknext_transports.spool.protocol import Stored

NAME = "quarantine.sqlite"

_SCHEMA = """
CREATE TABLE quarantined (
    number INTEGER PRIMARY KEY,
    idempotency_key BLOB NOT NULL,
    body BLOB NOT NULL,
    recorded_at REAL NOT NULL,
    reason TEXT NOT NULL,
    set_aside_at REAL NOT NULL,
    checksum INTEGER NOT NULL,
    UNIQUE (idempotency_key, body)
)
"""
_DELETE_EARLIER = """DELETE FROM quarantined WHERE number = (
        SELECT number FROM quarantined WHERE idempotency_key = ? AND body = ?
    ) AND +idempotency_key = ? AND +body = ?"""
"""The row itself is asked too: a flipped bit in the index could name another signal's row."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A signal in quarantine."""

    number: int
    """Its row's number."""
    signal: Stored
    reason: str
    set_aside_at: float
    """Seconds since 1970."""
    is_sound: bool = True
    """Whether it is as it was written. If not, the signal is the remains of it and must not be sent."""


class Quarantine:
    """The quarantine of a spool.

    Every method raises `SpoolError` if the disk is full or the like, and `DamagedError` if the file is
    damaged or is not this user's own; then `set_aside` makes room for a new one.

    Args:
        directory: The spool's directory.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._checked: tuple[int, int] | None = None
        """Device and number of the file that was read in whole, once: a later change is noticed by chance."""

    def add(self, signals: Sequence[Stored], reason: str, *, now: float) -> None:
        """Put signals in quarantine, durably. A signal that is there already is not added again."""
        with self._transaction() as connection:
            for values in (_values(one, reason, now) for one in signals):
                # Not OR REPLACE: where the index is damaged, that would remove another signal.
                connection.execute(_DELETE_EARLIER, values[:2] * 2)
                connection.execute(
                    "INSERT INTO quarantined"
                    " (idempotency_key, body, recorded_at, reason, set_aside_at, checksum)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    values,
                )

    def entries(self) -> list[Quarantined]:
        """Return the signals in quarantine, in the order they came."""
        if not os.path.lexists(self._path):
            return []
        self._checked = None
        with self._transaction() as connection:
            return [
                _entry(one)
                for one in connection.execute(
                    "SELECT number, idempotency_key, body, recorded_at, reason, set_aside_at, checksum"
                    " FROM quarantined ORDER BY number"
                )
            ]

    def remove(self, entries: Sequence[Quarantined]) -> None:
        """Remove entries that were released, or are of no use any more."""
        with self._transaction() as connection:
            connection.executemany(
                "DELETE FROM quarantined WHERE number = ?", [(one.number,) for one in entries]
            )

    def set_aside(self) -> Path:
        """Give the file another name, and return that.

        Raises:
            SpoolError: It can't be renamed.
        """
        aside = self._path.with_name(f"quarantine-{secrets.token_hex(8)}.damaged")
        with failures(self._path), suppress(FileNotFoundError):  # another process did it
            self._path.rename(aside)
        return aside

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        with failures(self._path):
            with suppress(FileExistsError):
                make_file(self._path)
                sync_directory(self._path.parent)
            try:
                opened = connect(self._path)
            except UntrustedError as error:
                raise DamagedError(error.message) from None
            with closing(opened) as connection, self._read_only_is_damage():
                # EXTRA, because with a rollback journal a commit is the removal of a file.
                connection.execute("PRAGMA synchronous = EXTRA")
                connection.execute("BEGIN IMMEDIATE")
                self._check(connection)
                yield connection
                connection.execute("COMMIT")

    @contextmanager
    def _read_only_is_damage(self) -> Generator[None, None, None]:
        """Take a file for damaged that SQLite alone will not write to: a bit of its header has flipped."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_READONLY and os.access(self._path, os.W_OK):
                raise DamagedError("its header is not as it was written") from None
            raise

    def _check(self, connection: sqlite3.Connection) -> None:
        """Require that the file is as it was written; a new one gets its table."""
        status = self._path.stat()
        if status.st_size == 0:
            connection.execute(_SCHEMA)
        check_schema(connection, _EXPECTED)
        if self._checked != (status.st_dev, status.st_ino):
            found = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != (b"ok",):
                raise DamagedError(printable(found[0].decode("utf-8", "replace")))
            self._checked = (status.st_dev, status.st_ino)


def _values(signal: Stored, reason: str, now: float) -> tuple[bytes, bytes, float, str, float, int]:
    key, body, recorded_at = signal.idempotency_key.encode(), signal.body, signal.recorded_at
    return key, body, recorded_at, reason, now, checksum(key, body, recorded_at)


def _entry(row: tuple[object, object, object, object, object, object, object]) -> Quarantined:
    number, key, body, recorded_at, reason, set_aside_at, found = row
    assert isinstance(number, int)  # the row's own number is an integer whatever its columns are
    if (
        isinstance(key, bytes)
        and isinstance(body, bytes)
        and isinstance(recorded_at, float)
        and isinstance(reason, bytes)
        and isinstance(set_aside_at, float)
        and found == checksum(key, body, recorded_at)
    ):
        signal = Stored(key.decode("utf-8", "replace"), body, recorded_at)
        return Quarantined(number, signal, reason.decode("utf-8", "replace"), set_aside_at)
    left = [one.decode("utf-8", "replace") if isinstance(one, bytes) else repr(one) for one in (key, body)]
    remains = Stored(left[0], left[1].encode(), 0.0)
    return Quarantined(number, remains, "damaged in quarantine", 0.0, is_sound=False)


_EXPECTED = schema_of(_SCHEMA)
