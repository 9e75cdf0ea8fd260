"""What the tests of the spool share: signals, and what is left of them on disk."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clocknext_transports.spool import Problem, SqliteSpool, Stored
from clocknext_transports.spool.files import claim, database
from clocknext_transports.spool.files.quarantine import Quarantine

if TYPE_CHECKING:  # the programs that import this do without
    import pytest

NOW = 1_800_000_000.0
HOUR = 3600.0


def stored(number: int | str, *, age: float = 0.0, size: int = 0) -> Stored:
    """A signal whose body says which one it is."""
    body = f'{{"n":"{number}"{" " * size}}}'.encode()
    return Stored(f"key-{number}", body, NOW - age)


def several(numbers: Iterable[int | str]) -> list[Stored]:
    return [stored(number) for number in numbers]


_opened: list[SqliteSpool] = []


def opened(path: Path, *, window: float = 24 * HOUR, now: float = NOW) -> SqliteSpool:
    """A spool whose clock stands still. It is closed when the test ends, if not before."""
    _opened.append(SqliteSpool(path, window=window, clock=lambda: now))
    return _opened[-1]


def close_all() -> None:
    """Close every spool that a test has opened, and the files that a `restart` has left to a parent."""
    while _opened:
        _opened.pop().close()
    while claim._of_parents:  # pyright: ignore[reportPrivateUsage]
        claim._of_parents.pop().close()  # pyright: ignore[reportPrivateUsage]


def adopted(spool: SqliteSpool, *, limit: int = 1000) -> tuple[list[Stored], list[Problem]]:
    """All that can be adopted, and what was told of it."""
    signals: list[Stored] = []
    problems: list[Problem] = []
    while True:
        some = spool.adopt(limit)
        told = spool.take_problems()
        if not some and not told:
            return signals, problems
        signals += some
        problems += told


def left_behind(path: Path) -> list[Stored]:
    """What a process that comes next gets. It is adopted by that: ask once."""
    spool = opened(path)
    signals, problems = adopted(spool)
    assert problems == []
    spool.erase([one.idempotency_key for one in signals])
    spool.close()
    return signals


def keys(signals: Iterable[Stored]) -> list[str]:
    return [one.idempotency_key for one in signals]


def bag(signals: Sequence[Stored]) -> Counter[Stored]:
    return Counter(signals)


def quarantined(path: Path) -> list[Stored]:
    return [entry.signal for entry in Quarantine(path).entries()]


def files(path: Path) -> list[str]:
    """The endings of the files in a spool's directory, the quarantine aside."""
    return sorted(file.name.partition(".")[2] for file in path.iterdir() if file.stem != "quarantine")


def limit_pages(patch: "pytest.MonkeyPatch", pages: int) -> None:
    """Have SQLite find the disk full once a file has so many pages."""
    real_connect = database.connect

    def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
        connection = real_connect(path, read_only=read_only)
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    patch.setattr(database, "connect", connect)
