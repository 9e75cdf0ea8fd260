"""Matrix row 19: a corrupt spool. Quarantined, reported, and the rest goes on."""

import os
import random
import signal
import sqlite3
from pathlib import Path

import pytest

from clocknext_core import SpoolError
from clocknext_transports.spool.files import database, records, wal
from clocknext_transports.spool.files.quarantine import Quarantine
from tests.spool.support import NOW, adopted, files, keys, left_behind, opened, quarantined, several, stored

# Other tests may have left a thread that waits; these children use none of the parent's.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

COUNT = 200


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def spool_of(path: Path, *, count: int = COUNT) -> Path:
    """A file of signals that was left behind, its log emptied into it."""
    spool = opened(path)
    spool.append([stored(number, size=100) for number in range(count)])
    spool.close()
    (file,) = path.glob("*.db")
    return file


def flip(file: Path, bits: list[int]) -> None:
    content = bytearray(file.read_bytes())
    for bit in bits:
        content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


@pytest.mark.parametrize("seed", range(25))
def test_flipped_bits_never_change_a_signal_and_are_told_of_where_they_cost_one(
    path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    file = spool_of(path)
    size = file.stat().st_size * 8
    flip(file, [rng.randrange(size) for _ in range(rng.choice((1, 1, 3, 50)))])
    spool = opened(path)
    signals, problems = adopted(spool)
    original = {stored(number, size=100) for number in range(COUNT)}
    assert {*signals} <= original, "a changed signal would bill somebody something else"
    assert {*signals} == original or problems
    spool.append(several(["new"]))
    spool.close()
    assert "key-new" in {one.idempotency_key for one in adopted(opened(path))[0]}


def test_a_flipped_bit_in_a_body_puts_that_one_signal_in_quarantine(path: Path) -> None:
    file = spool_of(path)
    content = file.read_bytes()
    flip(file, [8 * content.index(b'{"n":"77"') + 8 * 7])
    signals, problems = adopted(opened(path))
    assert len(signals) == COUNT - 1
    assert [problem.signal for problem in problems] == [None]
    assert problems[0].message.startswith(f"Damaged signals in {file}: 1.")
    (damaged,) = quarantined(path)
    assert damaged.idempotency_key == "key-77"


def test_a_torn_page_costs_what_was_on_it_and_the_rest_is_salvaged(path: Path) -> None:
    file = spool_of(path, count=2000)
    content = bytearray(file.read_bytes())
    page = content.index(b'{"n":"1000"') // 4096
    content[page * 4096 : (page + 1) * 4096] = bytes(4096)
    file.write_bytes(content)
    spool = opened(path)
    signals, problems = adopted(spool)
    assert 1950 < len(signals) < 2000
    assert len(problems) == 1
    assert f"Signals that could be read, and are sent: {len(signals)}." in problems[0].message
    assert "damaged" in files(path)
    spool.close()
    assert adopted(opened(path))[0] == signals, "they are safe in a new file"


@pytest.mark.parametrize(
    "content", [b"not a database at all" * 1000, bytes(8192), b"SQLite format 3\x00" + b"\xff" * 5000]
)
def test_a_file_that_is_no_database_is_kept_under_another_name(path: Path, content: bytes) -> None:
    file = spool_of(path)
    file.write_bytes(content)
    spool = opened(path)
    signals, problems = adopted(spool)
    assert signals == []
    assert ["damaged" in problem.message for problem in problems] == [True]
    (aside,) = path.glob("*.damaged")
    assert aside.read_bytes() == content
    assert adopted(spool) == ([], []), "it is told of once"
    spool.close()
    assert [*path.iterdir()] == [aside]


def test_pages_that_go_round_in_a_circle_come_to_an_end(path: Path) -> None:
    file = spool_of(path, count=2000)
    connection = sqlite3.connect(file)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'signals'").fetchone()
    connection.close()
    content = bytearray(file.read_bytes())
    start = (root - 1) * 4096
    assert content[start] == 5  # an interior page: each cell begins with the number of a page below
    first = int.from_bytes(content[start + 12 : start + 14])
    content[start + first : start + first + 4] = root.to_bytes(4)
    file.write_bytes(content)
    signals, problems = adopted(opened(path))
    assert len(problems) == 1
    assert len(signals) == len({*signals}) > 1000


def test_ones_own_file_that_turns_out_to_be_damaged_is_left_for_salvage_and_a_new_one_begun(
    path: Path,
) -> None:
    spool = opened(path)
    spool.append(several(range(3)))
    spool.suspend()
    (file,) = path.glob("*.db")
    file.write_bytes(b"overwritten" * 1000)
    spool.append(several([3]))
    (problem,) = spool.take_problems()
    assert "A new one was begun" in problem.message
    assert adopted(spool)[0] == []  # the old one is looked over, and set aside
    spool.close()
    assert left_behind(path) == several([3])


def test_a_damaged_quarantine_is_kept_and_a_new_one_begun(path: Path) -> None:
    spool = opened(path)
    (path / "quarantine.sqlite").write_bytes(b"no database" * 1000)
    spool.append(several([1]))
    spool.quarantine(["key-1"], "refused")
    assert ["quarantine is damaged" in problem.message for problem in spool.take_problems()] == [True]
    assert quarantined(path) == several([1])
    assert len([*path.glob("quarantine-*.damaged")]) == 1


def test_a_disk_that_can_not_read_a_part_is_a_damaged_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = spool_of(path)
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
    with pytest.raises(database.DamagedError), database.failures(file):
        raise error


def test_salvage_that_is_cut_short_by_a_full_disk_is_done_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = spool_of(path, count=2000)
    content = bytearray(file.read_bytes())
    page = content.index(b'{"n":"1000"') // 4096
    content[page * 4096 : (page + 1) * 4096] = bytes(4096)
    file.write_bytes(content)
    spool = opened(path)
    with monkeypatch.context() as patch:

        def insert(*_: object) -> None:
            raise SpoolError("The disk is full.")

        patch.setattr(database.SignalFile, "insert", insert)
        with pytest.raises(SpoolError, match="full"):
            spool.adopt(10)
    assert file.read_bytes() == bytes(content)
    assert len(adopted(spool)[0]) > 1950


def test_damage_that_shows_in_the_midst_of_an_adoption_is_salvaged(path: Path) -> None:
    file = spool_of(path, count=2000)
    spool = opened(path)
    first = spool.adopt(10)
    spool.suspend()
    content = bytearray(file.read_bytes())
    page = content.index(b'{"n":"1000"') // 4096
    content[page * 4096 : (page + 1) * 4096] = b"\xff" * 4096
    file.write_bytes(content)
    spool.resume()
    signals, problems = adopted(spool)
    assert len(problems) == 1
    assert {*first} <= {*signals}, "it is not known which were delivered: they are given out again"
    assert len(signals) > 1950
    spool.append(several(["new"]))
    spool.close()
    assert len(left_behind(path)) == len(signals) + 1


def test_damage_in_a_file_that_is_moved_from_is_salvaged(path: Path) -> None:
    live = opened(path)
    live.append(several(["own"]))
    file = next(iter({*path.glob("*.db")}))
    dead = opened(path)
    dead.append([stored(number, size=100) for number in range(2000)])
    dead.close()
    (theirs,) = {*path.glob("*.db")} - {file}
    assert len(live.adopt(10)) == 10
    live.suspend()
    content = bytearray(theirs.read_bytes())
    page = content.index(b'{"n":"1000"') // 4096
    content[page * 4096 : (page + 1) * 4096] = b"\xff" * 4096
    theirs.write_bytes(content)
    signals, problems = adopted(live)
    assert len(problems) == 1
    assert len(signals) > 1900
    live.close()
    assert len({*left_behind(path)}) == len({*signals}) + 11


def test_a_directory_in_which_every_new_file_is_damaged_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened(path)

    def insert(*_: object) -> None:
        raise database.DamagedError("it never works")

    with monkeypatch.context() as patch:
        patch.setattr(database.SignalFile, "insert", insert)
        with pytest.raises(SpoolError, match="damaged at once"):
            spool.append(several([1]))
    assert len(spool.take_problems()) == 2
    spool.append(several([2]))
    assert [*keys(adopted(spool)[0])] == []
    spool.close()
    assert left_behind(path) == several([2])


def log_of(path: Path, count: int) -> Path:
    """A file that was left behind by SIGKILL, with all that was appended in its log, one commit a signal."""
    child = os.fork()
    if child == 0:
        try:
            spool = opened(path)
            for number in range(count):
                spool.append([stored(number)])
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    (log,) = path.glob("*.db-wal")
    return log


@pytest.mark.parametrize("seed", range(20))
def test_flipped_bits_in_the_log_cost_what_is_there_and_not_what_follows(path: Path, seed: int) -> None:
    log = log_of(path, 60)
    flip(log, [random.Random(seed).randrange(log.stat().st_size * 8)])
    signals, problems = adopted(opened(path))
    original = {stored(number) for number in range(60)}
    assert {*signals} <= original
    assert len(signals) == len({*signals})
    assert len(original - {*signals}) <= 1, "at most the one that was written by the damaged frame alone"
    assert problems or len(signals) == 60


def test_flipped_bits_in_the_log_would_cost_all_that_follows_if_it_were_not_read_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_of(path, 60)
    flip(log, [log.stat().st_size * 4])

    def nothing(_: Path) -> tuple[list[wal.Frame], bool]:
        return [], False

    monkeypatch.setattr(wal, "unread", nothing)
    signals, problems = adopted(opened(path))
    assert len(signals) < 40
    assert problems == []


def test_a_log_whose_header_is_damaged_is_read_nevertheless(path: Path) -> None:
    log = log_of(path, 30)
    flip(log, [8 * 17])
    (base,) = path.glob("*.db")
    assert base.stat().st_size == 4096, "all there is is in the log"
    spool = opened(path)
    signals, problems = adopted(spool)
    assert ["its log breaks off" in problem.message for problem in problems] == [True]
    assert {*signals} == {stored(number) for number in range(30)}
    spool.close()
    assert {*left_behind(path)} == {*signals}
    assert files(path) == ["damaged", "damaged-wal"], "they are kept as they were found"


@pytest.mark.parametrize("ending", ["-wal", "-shm", "", ".lock"])
def test_a_log_that_is_removed_while_in_use_is_told(path: Path, ending: str) -> None:
    spool = opened(path)
    spool.append(several([1]))
    (file,) = path.glob("*.db")
    (file.with_suffix(ending) if ending == ".lock" else file.with_name(file.name + ending)).unlink()
    spool.append(several([2]))
    (problem,) = spool.take_problems()
    assert "was removed while it was in use" in problem.message
    assert len([*path.glob("*.db")]) == (1 if ending == "" else 2)
    spool.restart()  # as if its process had died
    given = {*keys(adopted(opened(path))[0])}
    assert "key-2" in given, "what was stored afterwards is on disk"
    assert "key-1" in given or ending == "", "SQLite has copied the log to the file as that was closed"


def test_a_log_that_is_whole_is_left_to_sqlite(path: Path) -> None:
    log = log_of(path, 30)
    assert wal.unread(log) == ([], False)
    with log.open("ab") as file:
        file.write(bytes(100))  # a frame that was cut short
    assert wal.unread(log) == ([], False)
    assert adopted(opened(path)) == (several(range(30)), [])


@pytest.mark.parametrize("content", [b"", b"short", bytes(40), b"\xff" * 9000, bytes(9000)])
def test_what_is_no_log_has_nothing_in_it(tmp_path: Path, content: bytes) -> None:
    log = tmp_path / "log"
    assert wal.unread(log) == ([], False)
    log.write_bytes(content)
    frames, has_holes = wal.unread(log)
    assert [row for frame in frames for row in records.find(frame.page, lambda _: b"")] == []
    assert has_holes == (len(content) > 4096), "what was there may have been whole frames"


def test_a_flipped_bit_in_the_quarantine_releases_no_changed_signal(path: Path) -> None:
    spool = opened(path)
    spool.append(several([1]))
    spool.quarantine(["key-1"], "refused")
    file = path / "quarantine.sqlite"
    content = file.read_bytes()
    flip(file, [8 * (content.index(b'{"n":"1"') + 6)])
    (entry,) = Quarantine(path).entries()
    assert not entry.is_sound
    assert entry.signal.idempotency_key == "key-1"
    assert entry.reason == "damaged in quarantine"


@pytest.mark.parametrize("statement", range(1, 12))
def test_a_kill_while_a_file_is_made_is_no_damage(
    path: Path, statement: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = database.SignalFile._query  # pyright: ignore[reportPrivateUsage]
    asked = 0

    def killed(file: database.SignalFile, statement_text: str, *values: int) -> list[tuple[object, ...]]:
        nonlocal asked
        found = query(file, statement_text, *values)
        asked += 1
        if asked == statement:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(database.SignalFile, "_query", killed)
        opened(path).append([stored(1)])
        os._exit(0)
    os.waitpid(child, 0)
    spool = opened(path)
    assert adopted(spool)[1] == []
    spool.close()
    assert [*path.glob("*.damaged")] == []


@pytest.mark.parametrize("size", [50, 1000])
def test_a_commit_that_a_kill_cuts_short_is_no_damage(tmp_path: Path, size: int) -> None:
    rng = random.Random(size)
    path, torn_path = tmp_path / "whole.db", tmp_path / "torn.db"
    file = database.SignalFile.create(path, now=0.0)
    connection = file._connection  # pyright: ignore[reportPrivateUsage]
    connection.execute("PRAGMA wal_autocheckpoint = 9")  # so that the log is begun anew all the time
    log, cut, begun_anew = path.with_name("whole.db-wal"), 0, 0
    held: list[str] = []
    for number in range(100):
        before, content = log.read_bytes(), path.read_bytes()
        if number % 2:
            ended = rng.randrange(len(held) + 1)
            file.erase(held[:ended], beside=(0, 0))
            held = held[ended:]
        else:
            new = [stored(f"{number}-{one}", size=rng.randrange(size)) for one in range(rng.randrange(1, 9))]
            file.insert(new)
            held += keys(new)
        after = log.read_bytes()
        begun_anew += before[16:24] != after[16:24]
        for header_at in range(32, len(after) - 24, 24 + 4096):
            page_at = header_at + 24
            if after[header_at:page_at] != before[header_at:page_at]:
                # Killed when the frame's header was written, and its page not yet.
                torn_path.write_bytes(content)
                torn_path.with_name("torn.db-wal").write_bytes(after[:page_at] + before[page_at:])
                assert not database.has_unread(torn_path)
                cut += 1
    file.close()
    assert cut > 150
    assert begun_anew > 10


def rebind(file: Path, key: str, number: int) -> None:
    """Have an index say that the row of a key is another one, as a flipped bit can."""
    content = bytearray(file.read_bytes())
    page = content.rindex(b"key-0") // 4096  # the index is behind the table
    at = content.index(key.encode(), page * 4096) + len(key)
    content[at] = number
    file.write_bytes(content)


def test_an_index_that_is_damaged_is_noticed_before_adoption(path: Path) -> None:
    rebind(spool_of(path, count=3), "key-2", 1)
    spool = opened(path)
    signals, problems = adopted(spool)
    assert len(signals) == 3
    assert ["is damaged" in problem.message for problem in problems] == [True]
    spool.erase(["key-2"])
    spool.restart()  # as if its process had died
    assert {*keys(adopted(opened(path))[0])} == {"key-0", "key-1"}


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("how", ["erase", "quarantine"])
def test_an_index_that_is_damaged_later_costs_no_other_signal(path: Path, how: str, number: int) -> None:
    spool = opened(path)
    spool.append(several(range(3)))
    spool.suspend()
    (file,) = path.glob("*.db")
    rebind(file, "key-2", number)
    if how == "erase":
        spool.erase(["key-2"])
    else:
        spool.quarantine(["key-2"], "refused")
    spool.restart()  # as if its process had died
    assert {*keys(adopted(opened(path))[0])} >= {"key-0", "key-1"}


def test_the_damaged_index_of_a_quarantine_costs_no_other_signal(path: Path) -> None:
    spool = opened(path)
    spool.append(several(range(3)))
    spool.quarantine(["key-0", "key-1", "key-2"], "refused")
    rebind(path / "quarantine.sqlite", 'key-2{"n":"2"}', 1)
    spool.append([stored(2)])
    spool.quarantine(["key-2"], "refused again")
    (aside,) = path.glob("quarantine-*.damaged")
    assert ["quarantine is damaged" in problem.message for problem in spool.take_problems()] == [True]
    assert keys(quarantined(path)) == ["key-2"]
    aside.rename(path / "quarantine.sqlite")
    assert {*keys(quarantined(path))} >= {"key-0", "key-1"}


@pytest.mark.parametrize(
    "bit",
    [
        pytest.param(8 * 18 + 3, id="read-only"),
        pytest.param(8 * 104 + 1, id="no tables"),
        pytest.param(8 * (4096 + 4) + 1, id="fewer rows"),
    ],
)
def test_a_flipped_bit_in_the_quarantine_hides_no_signal(path: Path, bit: int) -> None:
    spool = opened(path)
    spool.append(several(range(4)))
    spool.quarantine(["key-0", "key-1", "key-2"], "refused")
    file = path / "quarantine.sqlite"
    flip(file, [bit])
    damaged = file.read_bytes()
    if bit < 8 * 100:
        assert len(quarantined(path)) == 3, "it can still be read"
    else:
        with pytest.raises(database.DamagedError):
            Quarantine(path).entries()
    spool.close()
    spool = opened(path)
    assert len(adopted(spool)[0]) == 1
    spool.quarantine(["key-3"], "refused")
    assert ["quarantine is damaged" in problem.message for problem in spool.take_problems()] == [True]
    (aside,) = path.glob("quarantine-*.damaged")
    assert aside.read_bytes() == damaged
    assert keys(quarantined(path)) == ["key-3"]


def test_signals_that_came_back_as_duplicates_are_in_quarantine_once(path: Path) -> None:
    spool = opened(path)
    spool.append([stored(1), stored(1), stored(2)])
    spool.close()
    spool = opened(path, window=0.0, now=NOW + 1)
    assert adopted(spool)[0] == []
    assert keys(quarantined(path)) == ["key-1", "key-2"]
