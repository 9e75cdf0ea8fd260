"""One SQLite file of signals.

A signal is durable when `insert` returns: the write-ahead log is synced at each commit. Removals are not
synced; they are durable with the next insert at the latest. A signal that comes back after a power cut is a
duplicate under its key. Each row has a checksum of its own, since SQLite has none outside its log: a signal
with a flipped bit would bill something else.

There are two kinds of failure: `SpoolError`, which may pass (the disk is full), and `DamagedError`: the
file's content is not what was written. After either, close the file.

A file is trusted only after its header and its schema were compared with what this module writes. A planted
trigger or view, or a flipped bit in a table's definition, would make SQLite return something else.
"""

import os
import socket
import sqlite3
import struct
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import TypeAlias, cast

from clocknext_core import SpoolError
from clocknext_core.text import printable
from clocknext_transports.spool.files import wal
from clocknext_transports.spool.files.records import PAGE_SIZE, ReadPage, cells, find
from clocknext_transports.spool.files.trust import check_file
from clocknext_transports.spool.protocol import Stored

_IOERR_DATA = 8202  # SQLITE_IOERR_DATA, which Python has no name for: the disk's own checksum is wrong

_PASSING = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk can't be read or written",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened: no file handle is left, or it may not be",
    sqlite3.SQLITE_READONLY: "it can't be written to",
    sqlite3.SQLITE_PERM: "it may not be opened",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
    sqlite3.SQLITE_BUSY: "another process has it locked",
    sqlite3.SQLITE_LOCKED: "it is locked",
    sqlite3.SQLITE_PROTOCOL: "its locks don't work",
    sqlite3.SQLITE_NOLFS: "it is too large for the file system",
}
"""Result codes of SQLite that say nothing against the file's content, and their meaning. All others do."""
_UNREADABLE = frozenset(
    {
        sqlite3.SQLITE_IOERR_READ,
        sqlite3.SQLITE_IOERR_SHORT_READ,
        sqlite3.SQLITE_IOERR_CORRUPTFS,
        _IOERR_DATA,
    }
)
"""Result codes of a disk that can't read a part of the file, and will not be able to later."""

_SCHEMA = """
CREATE TABLE owner (host TEXT NOT NULL, pid INTEGER NOT NULL, started_at REAL NOT NULL);
CREATE TABLE signals (
    number INTEGER PRIMARY KEY,
    idempotency_key BLOB NOT NULL,
    body BLOB NOT NULL,
    recorded_at REAL NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE INDEX signals_by_key ON signals (idempotency_key);
"""
_INSERT = "INSERT INTO signals (idempotency_key, body, recorded_at, checksum) VALUES (?, ?, ?, ?)"
_IS_OLDEST_OF_KEY = """number = (
        SELECT min(number) FROM signals WHERE idempotency_key = ? AND NOT (number > ? AND number <= ?)
    ) AND +idempotency_key = ?"""
"""The row itself is asked for its key too: a flipped bit in the index could name another signal's row."""

_MAGIC = b"SQLite format 3\0"
_CONSTANTS = (
    (0, _MAGIC),
    (16, PAGE_SIZE.to_bytes(2)),
    (18, b"\2\2"),  # written and read by way of a write-ahead log
    (20, bytes((0, 64, 32, 32))),
)
"""Parts of a file's header that never change, and where they are. A flipped bit in one can make the file
read-only, for example."""
_CONSTANTS_OF_TABLES = (
    (44, (4).to_bytes(4)),  # the schema's format
    (56, (1).to_bytes(4)),  # UTF-8
    (64, (1).to_bytes(4)),  # incremental vacuum
    (68, bytes(24)),
)
"""More of them, which are in the log until that is copied to the file for the first time."""
_MAX_VALUE = 64 * 1024 * 1024
"""Most bytes of a value that SQLite reads: a planted one may have no end."""
_STEPS = 100_000
_BYTES_PER_STEPS = 50_000
"""A query may take `_STEPS` of SQLite's instructions for each of these bytes of the file, and ten times that
in any case. Pages that refer to each other in a planted file could make it endless."""
BUSY_TIMEOUT = 10.0
"""Seconds to wait for a file that another process has locked."""
_MAX_FREE_PAGES = 4096
"""Pages of 4 KiB that a file keeps for later; what an outage made it grow beyond goes back to the system."""
_PAGES_AT_ONCE = 1024
_CHUNK = 1000
"""Rows read at once."""
_FIRST_OF_SIGNALS = 4
"""The first page that signals may be on: before it are the schema, SQLite's map of pages, and the owner."""
_MAX_NUMBER = 2**62
"""More than there will ever be."""


Span: TypeAlias = tuple[int, int]
"""The rows after the first number, up to the second."""


class DamagedError(Exception):
    """The file's content is not what was written."""


def _read_schema(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    # More than there should be is wrong already.
    return connection.execute(
        "SELECT CAST(type AS BLOB), CAST(name AS BLOB), CAST(tbl_name AS BLOB), CAST(sql AS BLOB)"
        " FROM sqlite_schema ORDER BY name LIMIT 100"
    ).fetchall()


def schema_of(statements: str) -> list[tuple[object, ...]]:
    """Return what a file's `sqlite_schema` holds that was made by these statements."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(statements)
        return _read_schema(connection)


def check_schema(connection: sqlite3.Connection, expected: Sequence[tuple[object, ...]]) -> None:
    """Require that a file's tables, indexes, triggers and views are those that were made, and no others.

    Raises:
        DamagedError: They are not.
    """
    if _read_schema(connection) != expected:
        raise DamagedError("its tables are not as they were made")


@dataclass(frozen=True, slots=True)
class Row:
    """A stored signal and its place."""

    number: int
    signal: Stored
    is_sound: bool
    """Whether it is as it was written. If not, the signal is the remains of it."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Which process made a file. For people only: it does not prove that the process lives."""

    host: str
    pid: int
    started_at: float
    """Seconds since 1970."""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open an SQLite file that is there, without Python's automatic transactions.

    Raises:
        UntrustedError: It, or a file that belongs to it, is not this user's own.
    """
    check_file(path, *_companions(path), _journal(path))
    mode = "mode=rw"
    if read_only:
        # Where there is no log, no process writes, and none is made just to look.
        mode = "mode=ro" if path.with_name(path.name + "-wal").exists() else "mode=ro&immutable=1"
    # As a URI, because with a plain path SQLite would make a file that is not there.
    uri = f"{path.absolute().as_uri()}?{mode}"
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT, check_same_thread=False
    )
    connection.text_factory = bytes  # a damaged text must not fail before its checksum can
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def make_file(path: Path) -> None:
    """Make an empty file that only this user may read. There must be none of this name.

    Raises:
        OSError: It can't be made.
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def sync_directory(path: Path) -> None:
    """Make durable which files a directory has.

    Raises:
        OSError: The disk failed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def failures(path: Path) -> Generator[None, None, None]:
    """Turn exceptions of SQLite and the system into one of the two kinds of failure.

    Raises:
        SpoolError: The failure may pass.
        DamagedError: It will not.
    """
    try:
        yield
    except OSError as error:
        raise SpoolError(f"The spool's file {_shown(path)}: {error.strerror}.", retryable=True) from error
    except UnicodeError as error:  # SQLite's message quotes the file
        raise DamagedError("its tables can't be read") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        meaning = _PASSING.get(code & 0xFF)
        if meaning is None or code in _UNREADABLE:
            raise DamagedError(printable(f"{error}")) from error
        name = getattr(error, "sqlite_errorname", "")
        raise SpoolError(f"The spool's file {_shown(path)}: {meaning} ({name}).", retryable=True) from error


class SignalFile:
    """A file of signals, open.

    Args:
        path: The file; it must be there.
        read_only: Whether only to look, which is possible while another process writes.

    Raises:
        SpoolError: It can't be opened, or is not this user's own.
        DamagedError: It is no such file.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._companions = _companions(path)
        self._has_log = False
        self._steps_left = 0
        with failures(path):
            self._connection = connect(path, read_only=read_only)
        self._connection.set_progress_handler(self._is_endless, _STEPS)
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise

    def _set_up(self) -> None:
        # SQLite checks each page before it trusts it.
        self._query("PRAGMA cell_size_check = ON")
        self._query("PRAGMA fullfsync = ON")  # elsewhere than on macOS it has no meaning
        self._query("PRAGMA synchronous = FULL")
        # A log that is started again is cut off behind its first commit. Otherwise the rest of the old one
        # would look like damage where a process was killed in the middle of a commit.
        self._query("PRAGMA journal_size_limit = 0")

    @classmethod
    def create(cls, path: Path, *, now: float) -> "SignalFile":
        """Make a file, durably.

        Args:
            path: The file; there must be none.
            now: Seconds since 1970.

        Raises:
            SpoolError: It can't be made. Nothing of it is left.
        """
        try:
            with failures(path):
                make_file(path)
            file = cls(path)
            try:
                file._lay_out(now)
            except BaseException:
                file.close()
                raise
        except DamagedError as error:
            remove(path)
            raise SpoolError(
                f"The spool's file {_shown(path)} could not be made: {error}.", retryable=True
            ) from error
        except BaseException:
            remove(path)
            raise
        return file

    def _lay_out(self, now: float) -> None:
        self._query("PRAGMA auto_vacuum = INCREMENTAL")
        if self._query("PRAGMA journal_mode = WAL") != [(b"wal",)]:
            raise SpoolError(
                f"The file system of {_shown(self.path)} has no shared memory: is it a network's?"
            )
        with self._transaction():
            for statement in _SCHEMA.split(";"):
                self._connection.execute(statement)
            self._connection.execute("INSERT INTO owner VALUES (?, ?, ?)", _owner(now))
        with failures(self.path):
            sync_directory(self.path.parent)

    # Writing

    def insert(self, signals: Sequence[Stored]) -> None:
        """Add signals: all are durable when it returns, or none is there."""
        with self._transaction():
            self._connection.executemany(_INSERT, map(_values, signals))

    def take_over(self, *, now: float) -> None:
        """Write down that it is this process's from now on."""
        with self._transaction():
            self._connection.execute("UPDATE owner SET host = ?, pid = ?, started_at = ?", _owner(now))

    def erase(self, keys: Sequence[str], *, beside: Span) -> None:
        """Remove the oldest signal of each key, except those of a span. It is not synced."""
        self._remove(_IS_OLDEST_OF_KEY, [(key.encode(), *beside, key.encode()) for key in keys])

    def delete(self, rows: Sequence[Row]) -> None:
        """Remove rows. It is not synced."""
        self._remove("number = ?", [(row.number,) for row in rows])

    def delete_after(self, number: int) -> None:
        """Remove the rows that were added after this one."""
        with self._transaction():
            self._connection.execute("DELETE FROM signals WHERE number > ?", (number,))

    def _remove(self, condition: str, values: Sequence[tuple[bytes | int, ...]]) -> None:
        self._query("PRAGMA synchronous = NORMAL")
        with self._transaction():
            self._connection.executemany(
                f"DELETE FROM signals WHERE {condition}",  # noqa: S608 - one of two, both above
                values,
            )
        if cast(int, self._query("PRAGMA freelist_count")[0][0]) > _MAX_FREE_PAGES:
            with failures(self.path):  # a script, because as a query it stops after one page
                self._connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
        self._query("PRAGMA synchronous = FULL")

    @contextmanager
    def _transaction(self) -> Generator[None, None, None]:
        with failures(self.path):
            self._allow_steps(1000)
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
                self._has_log = True  # and an index of it, as long as it is open
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite may have rolled back already
                    self._connection.execute("ROLLBACK")
                raise

    # Reading

    @property
    def last(self) -> int:
        """The number of the row added last; 0 if there is none."""
        return cast(int, self._query("SELECT ifnull(max(number), 0) FROM signals")[0][0])

    @property
    def owner(self) -> Owner:
        """Which process made it."""
        for host, pid, started_at in self._query("SELECT host, pid, started_at FROM owner"):
            if isinstance(host, bytes) and isinstance(pid, int) and isinstance(started_at, float):
                return Owner(host.decode("utf-8", "replace"), pid, started_at)
        raise DamagedError("the process that made it can't be read")

    @property
    def is_blank(self) -> bool:
        """Whether it has no tables yet: its process is about to make them, or died before it did."""
        return not self._query("SELECT 1 FROM sqlite_schema LIMIT 1")

    @property
    def summary(self) -> tuple[int, float | None]:
        """How many signals it has, and when the oldest was recorded."""
        return cast(
            "tuple[int, float | None]", self._query("SELECT count(*), min(recorded_at) FROM signals")[0]
        )

    def check(self) -> None:
        """Read all of it, after its header and schema.

        Raises:
            SpoolError: It can't be read.
            DamagedError: A part is not as it was written.
        """
        with failures(self.path):
            _check_header(self.path)
        self.check_schema()
        if self.is_blank and cast(int, self._query("PRAGMA page_count")[0][0]) > 1:
            raise DamagedError("its tables are gone")
        found = self._query("PRAGMA integrity_check(1)")  # the index too, unlike quick_check
        if found != [(b"ok",)]:
            raise DamagedError(printable(cast(bytes, found[0][0]).decode("utf-8", "replace")))

    def check_schema(self) -> None:
        """Require that its tables are those that this module makes, or that there are none yet.

        Raises:
            SpoolError: They can't be read.
            DamagedError: They are others.
        """
        if not self.is_blank:
            with failures(self.path):
                check_schema(self._connection, _EXPECTED)

    def between(self, after: int, last: int, limit: int) -> list[Row]:
        """Return at most `limit` rows after `after`, up to `last`, in the order they were added."""
        rows = self._rows("WHERE number > ? AND number <= ? ORDER BY number LIMIT ?", after, last, limit)
        numbers = [after, *(row.number for row in rows)]
        if any(later <= earlier for earlier, later in pairwise(numbers)):
            raise DamagedError("rows are out of order")
        return rows

    def oldest_of(self, key: str, *, beside: Span) -> list[Row]:
        """Return the row of this key that was added first, if there is one, except those of a span."""
        return self._rows(f"WHERE {_IS_OLDEST_OF_KEY}", key.encode(), *beside, key.encode())

    def has(self, signal: Stored) -> bool:
        """Return whether it has this signal."""
        condition = "WHERE idempotency_key = ? AND body = ? LIMIT 1"
        return bool(self._rows(condition, signal.idempotency_key.encode(), signal.body))

    def walk(self) -> Iterator[Row]:
        """Go through all rows, in the order they were added."""
        last = 0
        while rows := self.between(last, _MAX_NUMBER, _CHUNK):
            yield from rows
            last = rows[-1].number

    def salvage(self) -> Iterator[Row]:
        """Yield the sound rows of a damaged file that SQLite can read, from both ends, around other parts."""
        seen: set[int] = set()
        for is_forward in (True, False):
            for row in self._read_around(is_forward=is_forward):
                if row.is_sound and row.number not in seen:
                    seen.add(row.number)
                    yield row

    def _read_around(self, *, is_forward: bool) -> Iterator[Row]:
        position, sign = (0, 1) if is_forward else (_MAX_NUMBER, -1)
        clauses = (
            "WHERE number > ? ORDER BY number" if is_forward else "WHERE number < ? ORDER BY number DESC"
        )
        step = 1
        while step < _MAX_NUMBER:
            try:
                with failures(self.path):
                    self._allow_steps(1000)
                    for one in self._connection.execute(_select(f"NOT INDEXED {clauses}"), (position,)):
                        row = _row(*one)
                        if sign * row.number <= sign * position:
                            raise DamagedError("pages go round in a circle")
                        position, step = row.number, 1
                        yield row
                return
            except DamagedError:
                # The number of rows on an unreadable page is unknown.
                position += sign * step
                step *= 2

    def _rows(self, clauses: str, *values: int | bytes) -> list[Row]:
        return [_row(*one) for one in self._query(_select(clauses), *values)]

    def _query(self, statement: str, *values: int | bytes) -> list[tuple[object, ...]]:
        with failures(self.path):
            self._allow_steps(10)
            return self._connection.execute(statement, values).fetchall()

    def _allow_steps(self, least: int) -> None:
        self._steps_left = least + self.path.stat().st_size // _BYTES_PER_STEPS

    def _is_endless(self) -> bool:
        """Return whether to interrupt a query: it takes more steps than the file has reason for."""
        self._steps_left -= 1
        return self._steps_left < 0

    @property
    def has_lost_its_log(self) -> bool:
        """Whether its log, or the index of that, was removed. SQLite goes on without it."""
        return self._has_log and not all(each.exists() for each in self._companions)

    def close(self) -> None:
        """Close it. Its content stays."""
        with suppress(sqlite3.Error):  # the log could not be emptied: it stays, and is read later
            self._connection.close()


def has_unread(path: Path) -> bool:
    """Return whether a damaged log has signals, or had, in a part that SQLite does not read.

    Ask before the file is opened: SQLite's next write overwrites that part.

    Raises:
        SpoolError: The file can't be read.
        DamagedError: It is damaged, too.
    """
    with failures(path):
        if path.stat().st_size == 0 and wal.frames(_companions(path)[0]):
            return True  # SQLite would remove the log: it takes a log beside an empty file to be another's
        found, is_whole = _in_unread_log(path)
    if not is_whole:
        return True
    if not found:
        return False
    with closing(SignalFile(path, read_only=True)) as file:
        file.check_schema()
        return file.is_blank or not all(map(file.has, found))


def salvage(path: Path) -> Iterator[list[Stored]]:
    """Yield the signals of a damaged file that can be read, some at a time, and leave the file as it is.

    First those that SQLite reads, in their order, then those that only show in the file's bytes or its log:
    in all of the log, if SQLite can't read the file.

    Raises:
        SpoolError: There is no file handle left, or the like.
    """
    with failures(path):
        rest = dict.fromkeys((*_in_bytes(path), *_in_unread_log(path)[0]))
        logged = dict.fromkeys(_in_frames(path, wal.frames(_companions(path)[0])))
    with suppress(DamagedError), closing(_begun(path)) as file:
        file.check_schema()
        if not file.is_blank:
            logged.clear()
        rows = file.salvage()
        while signals := [row.signal for row in islice(rows, _CHUNK)]:
            yield signals
            for signal in signals:
                rest.pop(signal, None)
    rest |= logged
    if rest:
        yield [*rest]


def _begun(path: Path) -> SignalFile:
    """Open a file to read from it, if there is anything in it.

    Raises:
        DamagedError: It is empty, or no file of signals.
    """
    if path.stat().st_size == 0:
        raise DamagedError("it is empty")  # SQLite would remove its log
    return SignalFile(path, read_only=True)


def _in_bytes(path: Path) -> Iterator[Stored]:
    """Find signals in a file's bytes, page by page, without SQLite."""
    check_file(path)
    with path.open("rb") as file:

        def read_page(number: int) -> bytes:
            if number < 1:
                return b""
            file.seek((number - 1) * PAGE_SIZE)
            return file.read(PAGE_SIZE)

        for number in range(1, path.stat().st_size // PAGE_SIZE + 1):
            yield from _sound(read_page(number), read_page)


def _in_unread_log(path: Path) -> tuple[list[Stored], bool]:
    """Find signals in the part of a file's log that SQLite does not read.

    Returns:
        The signals, and whether all rows in that part are among them.
    """
    log = _companions(path)[0]
    check_file(path, log)
    frames, has_holes = wal.unread(log)
    if not frames:
        return [], True
    with _pages(path, frames) as read_page:
        rows = [
            one
            for frame in frames
            if frame.number >= _FIRST_OF_SIGNALS
            for one in cells(frame.page, read_page)
        ]
    is_whole = not has_holes and all(one is not None and _row(0, *one).is_sound for one in rows)
    return _in_frames(path, frames), is_whole


def _in_frames(path: Path, frames: Sequence[wal.Frame]) -> list[Stored]:
    """Find signals in pages of a file's log."""
    with _pages(path, frames) as read_page:
        # A page is written again with each row that comes to it, so there are many of each.
        return [*dict.fromkeys(one for frame in frames for one in _sound(frame.page, read_page))]


@contextmanager
def _pages(path: Path, frames: Sequence[wal.Frame]) -> Generator[ReadPage, None, None]:
    """Open a file to read its pages, as some frames of its log have changed them."""
    latest = {frame.number: frame.page for frame in frames}
    with path.open("rb") as file:

        def read_page(number: int) -> bytes:
            if number < 1 or number in latest:
                return latest.get(number, b"")
            file.seek((number - 1) * PAGE_SIZE)
            return file.read(PAGE_SIZE)

        yield read_page


def _sound(page: bytes, read_page: ReadPage) -> Iterator[Stored]:
    for columns in find(page, read_page):
        row = _row(0, *columns)
        if row.is_sound:
            yield row.signal


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        header = file.read(100)
    # A file that is being made is shorter, or has its first page and no table in it.
    if len(header) < 100 or (header[40:48] == bytes(8) and path.stat().st_size <= PAGE_SIZE):
        return
    has_log = _companions(path)[0].exists()
    constants = _CONSTANTS if has_log else (*_CONSTANTS, *_CONSTANTS_OF_TABLES)
    if any(not header.startswith(part, at) for at, part in constants):
        raise DamagedError("its header is not as it was written")


def remove(path: Path) -> None:
    """Remove a file of signals that is closed, and what belongs to it.

    Raises:
        OSError: It can't be removed.
    """
    # A process that was killed as it made the file has left a rollback journal.
    for each in (path, *_companions(path), _journal(path)):
        each.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Give a damaged file another name, under which no process adopts it, and return that.

    Raises:
        OSError: It can't be renamed.
    """
    aside = path.with_suffix(".damaged")
    log, shared_memory = _companions(path)
    # The log first: if this is interrupted, the rest is adopted as it is, once more.
    for each, to in ((log, _companions(aside)[0]), (path, aside)):
        with suppress(FileNotFoundError):
            each.rename(to)
    shared_memory.unlink(missing_ok=True)
    return aside


def _companions(path: Path) -> list[Path]:
    return [path.with_name(path.name + ending) for ending in ("-wal", "-shm")]


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


def _shown(path: Path) -> str:
    return printable(str(path))


def checksum(key: bytes, body: bytes, recorded_at: float) -> int:
    """Compute the checksum of a stored signal."""
    return zlib.crc32(body, zlib.crc32(key, zlib.crc32(struct.pack("<dI", recorded_at, len(key)))))


def _owner(now: float) -> tuple[str, int, float]:
    return socket.gethostname(), os.getpid(), now


def _select(clauses: str) -> str:
    return f"SELECT number, idempotency_key, body, recorded_at, checksum FROM signals {clauses}"  # noqa: S608 - constants


def _values(signal: Stored) -> tuple[bytes, bytes, float, int]:
    key = signal.idempotency_key.encode()
    return key, signal.body, signal.recorded_at, checksum(key, signal.body, signal.recorded_at)


def _row(number: object, key: object, body: object, recorded_at: object, found: object) -> Row:
    assert isinstance(number, int)  # the row's own number is an integer whatever its columns are
    if isinstance(key, bytes) and isinstance(body, bytes) and isinstance(recorded_at, float):
        # A key that is not UTF-8 was not written here, and could not be erased.
        is_sound = found == checksum(key, body, recorded_at) and _is_utf8(key)
        return Row(number, Stored(key.decode("utf-8", "replace"), body, recorded_at), is_sound)
    left = [one if isinstance(one, bytes) else repr(one).encode() for one in (key, body)]
    return Row(number, Stored(left[0].decode("utf-8", "replace"), left[1], 0.0), is_sound=False)


def _is_utf8(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


_EXPECTED = schema_of(_SCHEMA)
