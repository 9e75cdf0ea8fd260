"""Files and directories that somebody else may have put into a spool: refused or reported, never opened."""

import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from clocknext_core import SpoolError
from clocknext_transports import ClockNext
from clocknext_transports.spool import Problem, SqliteSpool, Stored
from clocknext_transports.spool.files import database, trust
from clocknext_transports.spool.files.lease import Lease
from clocknext_transports.spool.files.quarantine import Quarantine
from clocknext_transports.spool.files.trust import UntrustedError
from clocknext_transports.spool.survey import Surveyed, survey
from tests.spool.support import adopted, keys, opened, quarantined, several


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def left(path: Path, *names: str) -> Path:
    """Leave a file behind with a signal for each name, and return it."""
    there = {*path.glob("*.db")}
    spool = SqliteSpool(path, clock=lambda: 1_800_000_000.0)
    spool.append(several(names))
    spool.close()
    (file,) = {*path.glob("*.db")} - there
    return file


@pytest.fixture
def elsewhere(tmp_path: Path) -> Generator[Path, None, None]:
    """A file outside, which must stay as it is."""
    target = tmp_path / "elsewhere"
    target.write_bytes(b"precious")
    yield target
    assert target.read_bytes() == b"precious"
    assert {one.name for one in tmp_path.iterdir()} <= {"elsewhere", "spool", "link"}


# The directory


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722, 0o702, 0o1777])
def test_a_directory_that_others_may_write_to_is_refused(path: Path, mode: int) -> None:
    path.mkdir()
    path.chmod(mode)
    for use in (lambda: SqliteSpool(path), lambda: survey(path), lambda: ClockNext("cnk_x", spool=path)):
        with pytest.raises(UntrustedError, match=r"spool.*is writable for other users.*0700"):
            use()
    assert [*path.iterdir()] == []


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o500])
def test_a_directory_that_others_may_only_read_is_taken(path: Path, mode: int) -> None:
    path.mkdir()
    path.chmod(mode)
    trust.check_directory(path)


def test_another_users_directory_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left(path, "victim")
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    for use in (lambda: SqliteSpool(path), lambda: survey(path)):
        with pytest.raises(UntrustedError, match="belongs to another user"):
            use()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_files_of_two_users_are_kept_apart(path: Path) -> None:
    theirs, ours = left(path, "theirs"), left(path, "ours")
    os.chown(theirs, 65534, 65534)
    signals, problems = adopted(opened(path))
    assert keys(signals) == ["key-ours"]
    assert ["belongs to another user" in problem.message for problem in problems] == [True]
    assert theirs.exists()
    assert ours.exists()


def test_a_link_to_a_directory_is_refused(path: Path, tmp_path: Path) -> None:
    left(path, "a")
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(UntrustedError, match="symbolic link, not a directory"):
        SqliteSpool(tmp_path / "link")
    assert len([*path.glob("*.db")]) == 1


# Files


def as_link(file: Path, elsewhere: Path) -> None:
    file.symlink_to(elsewhere)


def as_dangling_link(file: Path, _: Path) -> None:
    file.symlink_to(file.with_name("nowhere"))


def as_directory(file: Path, _: Path) -> None:
    file.mkdir()


def as_fifo(file: Path, _: Path) -> None:
    os.mkfifo(file)


def as_socket(file: Path, _: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(file.parent)  # a socket's path may not be long
        made.bind(file.name)


def as_writable(file: Path, _: Path) -> None:
    file.touch()
    file.chmod(0o666)


KINDS = {
    "a symbolic link": as_link,
    "a symbolic link ": as_dangling_link,
    "a directory": as_directory,
    "a FIFO": as_fifo,
    "a socket": as_socket,
    "writable for other users": as_writable,
}


@pytest.mark.parametrize("ending", [".db", ".lock", ".db-wal", ".db-shm", ".db-journal"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_file_is_reported_and_neither_opened_nor_removed(
    path: Path, elsewhere: Path, ending: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    victim = left(path, "planted")
    left(path, "own")
    planted = victim.with_name(victim.stem + ending)
    planted.unlink(missing_ok=True)
    KINDS[kind](planted, elsewhere)
    before = planted.lstat()
    results: list[tuple[list[Stored], list[Problem], bool, list[Surveyed]]] = []

    def use() -> None:
        spool = opened(path)
        signals, problems = adopted(spool)
        results.append((signals, problems, adopted(spool) == ([], []), survey(path)))
        spool.append(several(["new"]))  # recording goes on
        spool.close()

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(20.0)
    assert not thread.is_alive(), "it hangs"
    ((signals, problems, is_told_once, found),) = results
    assert "key-own" in keys(signals)
    assert "key-planted" not in keys(signals)
    messages = [problem.message for problem in problems]
    assert [kind.strip() in message and planted.name in message for message in messages] == [True]
    assert is_told_once
    assert [one.name for one in found if kind.strip() in one.damage] == [victim.stem]
    after = planted.lstat()
    assert (before.st_ino, before.st_mode, before.st_size) == (after.st_ino, after.st_mode, after.st_size)


def test_a_lock_file_is_not_followed_even_if_it_was_not_looked_at(path: Path, elsewhere: Path) -> None:
    path.mkdir()
    (path / "x.lock").symlink_to(elsewhere)
    with pytest.raises(OSError, match=r"symbolic|loop|links"):
        Lease.take(path / "x.lock")


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_quarantine_is_put_aside(
    path: Path, elsewhere: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    spool = opened(path)
    spool.append(several([1]))
    KINDS[kind](path / "quarantine.sqlite", elsewhere)
    with pytest.raises(database.DamagedError, match=kind.strip()):
        Quarantine(path).entries()
    spool.quarantine(["key-1"], "refused")
    assert ["The spool's quarantine is damaged" in one.message for one in spool.take_problems()] == [True]
    assert quarantined(path) == several([1])
    assert len([*path.glob("quarantine-*.damaged")]) == 1


# What is in a file


def executed(*statements: str) -> Callable[[Path], None]:
    def plant(file: Path) -> None:
        connection = sqlite3.connect(file, isolation_level=None)
        for statement in statements:
            connection.execute(statement)
        connection.close()

    return plant


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
PLANTED = {
    "a trigger": executed(
        "CREATE TRIGGER t AFTER DELETE ON signals BEGIN INSERT INTO owner VALUES (1, 2, 3); END"
    ),
    "an endless trigger": executed(
        f"CREATE TRIGGER t AFTER INSERT ON signals BEGIN DELETE FROM owner WHERE pid IN ({ENDLESS}); END"
    ),
    "another table": executed("CREATE TABLE other (x)"),
    "another index": executed("CREATE INDEX other ON signals (body)"),
    "an endless view": executed(
        "ALTER TABLE signals RENAME TO hidden",
        f"CREATE VIEW signals AS SELECT i AS number, 'k' AS idempotency_key, 'b' AS body, 1.0 AS recorded_at,"
        f" 1 AS checksum FROM ({ENDLESS})",
    ),
    "a column more": executed("ALTER TABLE signals ADD COLUMN more"),
    "no index": executed("DROP INDEX signals_by_key"),
    "no tables": executed("DROP TABLE signals", "DROP TABLE owner"),
    "a generated column": executed("ALTER TABLE owner ADD COLUMN twice AS (pid * 2)"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_file_with_other_tables_is_not_used_and_its_signals_are_saved(path: Path, what: str) -> None:
    file = left(path, "a", "b")
    PLANTED[what](file)
    (found,) = survey(path)
    spool = opened(path)
    signals, problems = adopted(spool)
    assert found.damage == ("" if what == "no tables" else "its tables are not as they were made")
    if what != "no tables":  # SQLite may have overwritten them with zeros then
        assert {*keys(signals)} == {"key-a", "key-b"}
    assert len(problems) == 1
    assert len([*path.glob("*.damaged")]) == 1
    spool.erase(keys(signals))
    spool.close()


def test_a_key_that_is_not_text_goes_into_quarantine(path: Path) -> None:
    file = left(path, "a")
    key, body, at = b"\xff\xfe", b"{}", 1_800_000_000.0
    executed(
        "INSERT INTO signals (idempotency_key, body, recorded_at, checksum) VALUES"
        f" (x'{key.hex()}', x'{body.hex()}', {at}, {database.checksum(key, body, at)})"
    )(file)
    signals, problems = adopted(opened(path))
    assert keys(signals) == ["key-a"]
    assert [problem.message.endswith(": 1. They were put in quarantine.") for problem in problems] == [True]


def test_a_query_that_has_no_end_is_interrupted(path: Path) -> None:
    file = database.SignalFile(left(path, "a"))
    with pytest.raises(database.DamagedError, match="interrupted"):
        file._query(  # pyright: ignore[reportPrivateUsage]
            f"SELECT count(*), sum(i) FROM ({ENDLESS})"
        )
    assert file.last == 1, "the next one is not"
    file.close()


def test_a_file_that_can_not_be_read_keeps_no_other_from_adoption(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked, _ = left(path, "locked"), left(path, "free")
    connection = sqlite3.connect(locked, isolation_level=None)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.01)
    spool = opened(path)
    signals, problems = adopted(spool)
    assert keys(signals) == ["key-free"]
    assert ["another process has it locked" in problem.message for problem in problems] == [True]
    connection.close()
    assert keys(adopted(spool)[0]) == ["key-locked"], "and it is tried again"


def test_a_file_with_an_odd_name_is_reported_without_its_control_characters(path: Path) -> None:
    left(path, "a")
    (path / "\x1b[31mred\n\u202e.db").mkdir()
    _, problems = adopted(opened(path))
    assert [problem.message.isprintable() for problem in problems] == [True]
    assert "\\x1b[31mred\\n\\u202e.db is a directory" in problems[0].message


def test_errors_of_a_spool_name_its_path_without_control_characters(tmp_path: Path) -> None:
    odd = tmp_path / "\x1b[31m\n"
    odd.touch()
    with pytest.raises(SpoolError) as caught:
        SqliteSpool(odd)
    assert caught.value.message.isprintable()
    with pytest.raises(SpoolError) as caught:
        SqliteSpool(odd / "below" / "it")
    assert caught.value.message.isprintable()
