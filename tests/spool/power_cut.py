"""A disk that forgets: SQLite over a file system that keeps, at a power cut, only what was synced.

Of what was not, each sector survives by chance, in any order: writes are lost, torn and overtaken by later
ones. So are truncations, removals and the names of new files. The store runs on it through apsw, which lets
Python be the file system; what it leaves is then read with the SQLite that Python itself has.

    python -m tests.spool.power_cut --seeds 200
"""

import argparse
import os
import random
import sqlite3
import tempfile
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import apsw

from clocknext_transports.spool import Stored
from clocknext_transports.spool.files import database, quarantine
from tests.spool.support import adopted, opened, quarantined, stored

Level: TypeAlias = Literal["FULL", "NORMAL", "OFF"]

SECTOR = 512
CHECKPOINT_PAGES = 12
"""Few, so that checkpoints are among what is cut."""


@dataclass
class Tracked:
    """A file: what of it is sure, and what has been done to it since."""

    synced: bytes = b""
    pending: list[tuple[int, bytes] | int] = field(default_factory=list[tuple[int, bytes] | int])
    """Writes (offset and data) and truncations (length), in order."""
    is_named: bool = False
    """Whether the directory's entry is sure."""

    def after_sync(self) -> bytes:
        content = bytearray(self.synced)
        for change in self.pending:
            _apply(content, change)
        return bytes(content)

    def after_cut(self, rng: random.Random) -> bytes:
        content = bytearray(self.synced)
        for change in self.pending:
            if isinstance(change, int):
                if rng.random() < 0.5:
                    _apply(content, change)
                continue
            offset, data = change
            at = 0
            while at < len(data):
                end = min(len(data), at + SECTOR - (offset + at) % SECTOR)
                if rng.random() < 0.5:
                    _apply(content, (offset + at, data[at:end]))
                at = end
        return bytes(content)


def _apply(content: bytearray, change: tuple[int, bytes] | int) -> None:
    if isinstance(change, int):
        del content[change:]
        content.extend(bytes(change - len(content)))
        return
    offset, data = change
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


Image: TypeAlias = dict[str, bytes]
"""What is found after a power cut: contents by name."""


class Disk:
    """All files of one directory, and what a power cut would leave of them."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._files: dict[str, Tracked] = {}
        self._removed: dict[str, Tracked] = {}
        self.before_each: Callable[[], None] = lambda: None
        """Called before each change and each sync."""

    def make(self, name: str) -> None:
        self.before_each()
        self._removed.pop(name, None)
        self._files.setdefault(name, Tracked())

    def change(self, name: str, change: tuple[int, bytes] | int) -> None:
        self.before_each()
        self._files[name].pending.append(change)

    def sync(self, name: str) -> None:
        self.before_each()
        file = self._files[name]
        file.synced = file.after_sync()
        file.pending.clear()
        if not file.is_named and name.endswith(("-wal", "-journal")):
            self.sync_names()  # as SQLite does with the first sync of each of these

    def sync_names(self) -> None:
        self._removed.clear()
        for file in self._files.values():
            file.is_named = True

    def remove(self, name: str) -> None:
        self.before_each()
        file = self._files.pop(name, None)
        if file is not None and file.is_named:
            self._removed[name] = file

    def cut(self) -> Image:
        found = {
            name: file.after_cut(self._rng)
            for name, file in self._files.items()
            if file.is_named or self._rng.random() < 0.5
        }
        back = {name: file for name, file in self._removed.items() if self._rng.random() < 0.5}
        return found | {name: file.after_cut(self._rng) for name, file in back.items()}


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        assert path is not None  # no temporary files are made
        self._disk = disk
        self._name = os.path.basename(path)
        disk.make(self._name)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        self._disk.change(self._name, (offset, bytes(data)))
        cast(Any, super()).xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._disk.change(self._name, newsize)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.sync(self._name)


class _FileSystem(apsw.VFS):
    def __init__(self, name: str, disk: Disk) -> None:
        super().__init__(name, "")
        self._disk = disk

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _File(self._disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self._disk.remove(os.path.basename(filename))
        if syncdir:
            self._disk.sync_names()
        super().xDelete(filename, syncdir)


class _Connection:
    """An apsw connection that speaks like `sqlite3`'s, as far as the store asks it to."""

    def __init__(self, path: Path, file_system: str, level: Level) -> None:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        self._level = level
        self._inner: Any  # apsw's types name one that few type checkers know
        with _as_sqlite3():
            self._inner = apsw.Connection(str(path), vfs=file_system, flags=flags)
            self._inner.row_trace = _with_bytes
            self._inner.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")

    def execute(self, statement: str, values: Iterable[object] = ()) -> object:
        if self._level != "FULL" and statement.startswith("PRAGMA synchronous"):
            statement = f"PRAGMA synchronous = {self._level}"
        with _as_sqlite3():
            return self._inner.execute(statement, tuple(values))

    def executemany(self, statement: str, values: Iterable[object]) -> None:
        with _as_sqlite3():
            self._inner.executemany(statement, values)

    def executescript(self, script: str) -> None:
        self.execute(script)

    def set_progress_handler(self, handler: object, steps: int) -> None:
        """Interrupt nothing: no query of these files is endless."""

    def close(self) -> None:
        with _as_sqlite3():
            self._inner.close()


def _with_bytes(_: object, row: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(one.encode() if isinstance(one, str) else one for one in row)


@contextmanager
def _as_sqlite3() -> Generator[None, None, None]:
    try:
        yield
    except apsw.Error as error:
        raised = sqlite3.DatabaseError(str(error))
        raised.sqlite_errorcode = getattr(error, "extendedresult", sqlite3.SQLITE_ERROR)
        raise raised from error


@contextmanager
def forgetful(disk: Disk, level: Level) -> Generator[None, None, None]:
    """Have the store write to a disk that forgets, for as long as the block lasts."""
    name = f"forgetful-{id(disk)}"
    file_system = _FileSystem(name, disk)

    def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
        del read_only  # who only reads sees the same disk
        return cast(sqlite3.Connection, _Connection(path, name, level))

    def make_file(path: Path) -> None:
        disk.make(path.name)
        real_make_file(path)

    def sync_directory(path: Path) -> None:
        disk.before_each()
        disk.sync_names()

    def remove(path: Path) -> None:
        for each in (path.name, f"{path.name}-wal"):
            disk.remove(each)
        real_remove(path)

    real_make_file, real_remove = database.make_file, database.remove
    modules = (database, quarantine)
    replaced = {
        "connect": connect,
        "make_file": make_file,
        "sync_directory": sync_directory,
        "remove": remove,
    }
    kept = {
        (module, one): getattr(module, one) for module in modules for one in replaced if hasattr(module, one)
    }
    for module, one in kept:
        setattr(module, one, replaced[one])
    try:
        yield
    finally:
        for (module, one), real in kept.items():
            setattr(module, one, real)
        file_system.unregister()


@dataclass
class Ledger:
    """What the store has acknowledged, and what it is in the midst of."""

    stored: dict[str, Stored] = field(default_factory=dict[str, Stored])
    """Acknowledged, and to be found again."""
    attempted: set[Stored] = field(default_factory=set[Stored])


@dataclass
class Cut:
    """What is left of a spool after a power cut, and what must be in it."""

    image: Image
    stored: dict[str, Stored]
    attempted: set[Stored]


def run(seed: int, path: Path, *, level: Level = "FULL", steps: int = 60, cuts: float = 0.02) -> list[Cut]:
    """Use two spools in a directory for a while, and cut the power now and then.

    Args:
        seed: Decides everything.
        path: The directory.
        level: How SQLite syncs.
        steps: How many operations there are.
        cuts: How likely a cut is before any one change of the disk.
    """
    rng = random.Random(seed)
    disk = Disk(rng)
    ledger = Ledger()
    found: list[Cut] = []

    def cut() -> None:
        if rng.random() < cuts:
            found.append(Cut(disk.cut(), dict(ledger.stored), set(ledger.attempted)))

    disk.before_each = cut
    with forgetful(disk, level):
        spools = [opened(path), opened(path)]
        number = 0
        for _ in range(steps):
            spool = rng.choice(spools)
            match rng.choices(("append", "erase", "quarantine", "reopen", "adopt"), (10, 5, 0.5, 1, 2))[0]:
                case "append":
                    count = rng.randrange(1, 9)
                    signals = [stored(number + one, size=rng.choice((0, 300, 6000))) for one in range(count)]
                    number += count
                    ledger.attempted.update(signals)
                    spool.append(signals)
                    ledger.stored |= {one.idempotency_key: one for one in signals}
                case "erase":
                    keys = rng.sample(sorted(ledger.stored), min(len(ledger.stored), rng.randrange(1, 12)))
                    for key in keys:
                        del ledger.stored[key]
                    for each in spools:  # one of them has it
                        each.erase(keys)
                case "quarantine":
                    spool.quarantine(rng.sample(sorted(ledger.stored), min(len(ledger.stored), 3)), "chance")
                case "reopen":
                    spool.suspend()
                    spool.resume()
                case _:
                    # A spool that ends leaves what it has to the other one, and one that begins.
                    spools.remove(spool)
                    spool.close()
                    spools.append(opened(path))
                    for each in spools:
                        each.adopt(rng.randrange(1, 50))
        for spool in spools:
            spool.close()
        found.append(Cut(disk.cut(), dict(ledger.stored), set(ledger.attempted)))
    return found


def lost(cut: Cut, path: Path) -> set[str]:
    """The keys that were acknowledged and are not found again, once the power is back."""
    path.mkdir(mode=0o700)
    for name, content in cut.image.items():
        (path / name).write_bytes(content)
    spool = opened(path)
    try:
        signals, _ = adopted(spool)
    finally:
        spool.close()
    there = {*signals}
    with suppress(database.DamagedError):  # it is, where commits were not synced
        there |= {*quarantined(path)}
    assert there <= cut.attempted, "something came back that nobody wrote"
    return {key for key, signal in cut.stored.items() if signal not in there}


def main() -> None:
    """Cut the power many times and tell what was lost."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--level", choices=("FULL", "NORMAL", "OFF"), default="FULL")
    options = parser.parse_args()
    cuts = acknowledged = missing = 0
    for seed in range(options.first, options.first + options.seeds):
        with tempfile.TemporaryDirectory() as directory:
            for number, cut in enumerate(run(seed, Path(directory, "spool"), level=options.level)):
                gone = lost(cut, Path(directory, f"cut-{number}"))
                cuts += 1
                acknowledged += len(cut.stored)
                missing += len(gone)
                if gone and options.level == "FULL":
                    print(f"seed {seed}, cut {number}: lost {sorted(gone)}")
    print(f"{options.level}: {cuts} cuts, {missing} of {acknowledged} acknowledged signals lost")


if __name__ == "__main__":
    main()
