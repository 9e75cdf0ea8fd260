import os
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from clocknext_core import SpoolError
from clocknext_transports.spool import SqliteSpool, Stored
from clocknext_transports.spool.files import database
from tests.spool.support import (
    HOUR,
    NOW,
    adopted,
    files,
    keys,
    left_behind,
    opened,
    quarantined,
    several,
    stored,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def test_what_was_appended_is_left_behind_in_the_order_recorded(path: Path) -> None:
    spool = opened(path)
    spool.append(several([3, 1]))
    spool.append(several([2]))
    spool.close()
    assert left_behind(path) == several([3, 1, 2])


def test_bytes_and_times_come_back_as_they_were(path: Path) -> None:
    signals = [
        Stored("ключ", '{"n":"é\u2028😀"}'.encode(), 0.1),
        Stored("a" * 255, b"x" * 65_536, NOW),
        Stored("empty", b"", 1.0),
    ]
    spool = opened(path, window=1e12)
    spool.append(signals)
    spool.close()
    assert adopted(opened(path, window=1e12)) == (signals, [])


def test_what_has_ended_does_not_come_back(path: Path) -> None:
    spool = opened(path)
    spool.append(several(range(5)))
    spool.erase(["key-1", "key-3", "key-unknown"])
    spool.close()
    assert left_behind(path) == several([0, 2, 4])


def test_a_key_that_was_appended_twice_is_erased_twice_the_oldest_first(path: Path) -> None:
    older, newer = Stored("same", b"older", NOW), Stored("same", b"newer", NOW)
    spool = opened(path)
    spool.append([older])
    spool.append([newer])
    spool.erase(["same"])
    spool.close()
    again = opened(path)
    assert again.adopt(10) == [newer]
    again.erase(["same", "same"])
    again.close()
    assert left_behind(path) == []


def test_nothing_is_left_of_a_spool_in_which_all_has_ended(path: Path) -> None:
    spool = opened(path)
    assert files(path) == ["lock"]
    spool.append(several([1]))
    assert files(path) == ["db", "db-shm", "db-wal", "lock"]
    spool.erase(["key-1"])
    spool.close()
    assert [*path.iterdir()] == []


def test_a_spool_that_was_never_used_leaves_nothing(path: Path) -> None:
    spool = opened(path)
    spool.erase(["key-1"])
    spool.quarantine(["key-1"], "never stored")
    spool.close()
    assert [*path.iterdir()] == []


def test_only_the_user_may_read_it(path: Path) -> None:
    spool = opened(path)
    spool.append(several([1]))
    spool.quarantine(["key-1"], "to have that file too")
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()}
    assert (len([*path.iterdir()]), modes) == (5, {0o600})


# Adoption


def test_what_a_live_spool_has_is_not_adopted_even_in_the_same_process(path: Path) -> None:
    one, two = opened(path), opened(path)
    one.append(several([1]))
    two.append(several([2]))
    assert (one.adopt(10), two.adopt(10)) == ((), ())
    one.close()
    assert two.adopt(10) == several([1])
    two.close()
    assert left_behind(path) == several([2, 1])


def test_closing_one_of_two_spools_gives_up_only_its_own_lease(path: Path) -> None:
    one, two = opened(path), opened(path)
    two.append(several([2]))
    one.close()
    three = opened(path)
    assert three.adopt(10) == ()
    two.close()
    assert three.adopt(10) == several([2])


def test_adoption_gives_at_most_the_limit_and_goes_on(path: Path) -> None:
    spool = opened(path)
    spool.append(several(range(7)))
    spool.close()
    next_ = opened(path)
    parts = [next_.adopt(3) for _ in range(4)]
    assert [keys(part) for part in parts] == [
        ["key-0", "key-1", "key-2"],
        ["key-3", "key-4", "key-5"],
        ["key-6"],
        [],
    ]


def test_what_is_still_to_be_adopted_is_counted(path: Path) -> None:
    for numbers in (range(5), range(5, 8)):
        spool = opened(path)
        spool.append(several(numbers))
        spool.close()
    alive = opened(path)
    alive.append([stored("alive")])
    heir = opened(path)
    assert heir.left_behind() == 0
    left = 8
    while found := heir.adopt(2):
        left -= len(found)
        assert heir.left_behind() == left
    assert left == 0
    heir.erase([f"key-{number}" for number in range(8)])
    heir.close()
    later = opened(path)
    alive.close()
    assert len(later.adopt(10)) == 1
    assert later.left_behind() == 0
    later.erase(["key-alive"])


def test_a_new_process_takes_a_file_as_its_own_and_moves_others_into_it(path: Path) -> None:
    spools = [opened(path, now=NOW + number) for number in range(3)]
    for number, spool in enumerate(spools):
        spool.append([stored(number)])
    for spool in spools:
        spool.close()
    assert files(path).count("db") == 3
    next_ = opened(path)
    assert next_.adopt(2) == several([0])
    assert next_.adopt(2) == several([1])
    assert next_.adopt(2) == several([2])
    assert next_.adopt(2) == ()
    assert files(path) == ["db", "db-shm", "db-wal", "lock"]
    next_.append(several([3]))
    assert next_.adopt(2) == (), "its own signals are not adopted"
    next_.close()
    assert left_behind(path) == several([0, 1, 2, 3])


def test_a_file_half_adopted_is_adopted_by_the_next(path: Path) -> None:
    first, second = opened(path), opened(path)
    first.append(several(range(4)))
    second.append(several([9]))  # so it has a file of its own, and moves
    first.close()
    assert second.adopt(2) == several([0, 1])
    second.close()
    assert Counter(keys(left_behind(path))) == Counter(keys(several([0, 1, 2, 3, 9])))


def test_what_a_process_left_that_died_at_birth_is_tidied_up(path: Path) -> None:
    path.mkdir()
    (path / "20270115T080000Z-0000000000000001.lock").touch()
    (path / "20270115T080000Z-0000000000000002.lock").touch()
    (path / "20270115T080000Z-0000000000000002.db").touch()
    (path / "20270115T080000Z-0000000000000003.db").touch()
    spool = opened(path)
    assert adopted(spool) == ([], [])
    spool.close()
    assert [*path.iterdir()] == []


# Window and quarantine


def test_what_is_older_than_the_window_is_not_sent_but_put_in_quarantine_and_told_of(path: Path) -> None:
    spool = opened(path)
    spool.append([stored("old", age=25 * HOUR), stored("new", age=23 * HOUR)])
    spool.close()
    next_ = opened(path, window=24 * HOUR)
    signals, problems = adopted(next_)
    assert signals == [stored("new", age=23 * HOUR)]
    assert [problem.signal for problem in problems] == [stored("old", age=25 * HOUR)]
    assert "24 h" in problems[0].message
    assert quarantined(path) == [stored("old", age=25 * HOUR)]
    next_.erase(["key-new"])
    next_.close()
    assert left_behind(path) == [], "it is in quarantine only"


def test_at_its_edge_the_window_loses_no_signal(path: Path) -> None:
    spool = opened(path)
    ages = {0: 24 * HOUR - 1.0, 1: 24 * HOUR, 2: 24 * HOUR + 1.0}
    spool.append([stored(number, age=age) for number, age in ages.items()])
    spool.close()
    next_ = opened(path)
    assert keys(next_.adopt(1)) == ["key-0"]
    assert next_.left_behind() == 2
    assert keys(next_.adopt(2)) == ["key-1"]
    assert next_.left_behind() == 0
    assert len(next_.take_problems()) == 1
    assert keys(quarantined(path)) == ["key-2"]


def test_the_window_holds_for_files_that_are_moved_too(path: Path) -> None:
    dead, live = opened(path), opened(path)
    dead.append([stored(number, age=30 * HOUR) for number in range(5)])
    live.append(several(["own"]))
    dead.close()
    signals, problems = adopted(live, limit=2)
    assert (signals, len(problems)) == ([], 5)
    assert len(quarantined(path)) == 5
    live.close()
    assert left_behind(path) == several(["own"])


@pytest.mark.parametrize("by", [-24 * HOUR, 23 * HOUR])
def test_a_wall_clock_that_steps_within_the_window_changes_nothing(path: Path, by: float) -> None:
    spool = opened(path)
    spool.append(several([1]))
    spool.close()
    assert adopted(opened(path, now=NOW + by)) == (several([1]), [])


def test_quarantine_takes_a_signal_out_of_the_spool_durably(path: Path) -> None:
    spool = opened(path)
    spool.append(several([1, 2]))
    spool.quarantine(["key-1", "key-unknown"], "refused")
    spool.close()
    assert quarantined(path) == several([1])
    assert left_behind(path) == several([2])


def test_a_signal_quarantined_twice_is_there_once(path: Path) -> None:
    spool = opened(path)
    for _ in range(2):
        spool.append(several([1]))
        spool.quarantine(["key-1"], "refused")
    assert quarantined(path) == several([1])


# What can't be used


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="file is a file, not a directory"):
        SqliteSpool(tmp_path / "file")


def test_a_path_whose_parent_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="can't be created: No such file or directory"):
        SqliteSpool(tmp_path / "not-mounted" / "spool")
    assert [*tmp_path.iterdir()] == []


def test_a_directory_that_can_not_be_written_to_is_refused() -> None:
    with pytest.raises(SpoolError, match="/proc"):  # where not even root may
        SqliteSpool("/proc/self")


WINDOWS = """
import logging, pathlib, secrets, socket, sqlite3, sys, threading
import clocknext_core
sys.platform = "win32"
sys.modules["fcntl"] = None
from clocknext_transports.spool import SqliteSpool
try:
    SqliteSpool(sys.argv[1])
except clocknext_core.SpoolError as error:
    print(error)
"""


def test_where_there_are_no_posix_locks_it_can_be_imported_but_not_used(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WINDOWS, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert done.stdout == "A spool needs POSIX file locks, which Windows does not have.\n"
    assert not path.exists()


def test_a_path_is_taken_as_text_or_as_a_path_with_any_characters_in_it(tmp_path: Path) -> None:
    for name in ("spool", "100% sure? #1", "ключ"):
        spool = opened(Path(str(tmp_path / name)))
        spool.append(several([1]))
        spool.close()
        assert left_behind(tmp_path / name) == several([1])
    spool = SqliteSpool(str(tmp_path / "spool"))
    assert repr(spool) == f"SqliteSpool('{tmp_path}/spool')"
    spool.close()


# What happens to its files


@pytest.mark.parametrize("is_suspended", [True, False])
@pytest.mark.parametrize("what", ["*", "*.db*", "*.lock"])
def test_files_that_are_removed_while_in_use_are_told_of_and_made_anew(
    path: Path, what: str, is_suspended: bool
) -> None:
    spool = opened(path)
    spool.append(several([1]))
    if is_suspended:
        spool.suspend()
    for file in path.glob(what):
        file.unlink()
    if what == "*":
        path.rmdir()
    spool.append(several([2]))
    (problem,) = spool.take_problems()
    assert "was removed while it was in use" in problem.message
    spool.close()
    assert sorted(keys(left_behind(path))) == (["key-1", "key-2"] if what == "*.lock" else ["key-2"])


def test_a_directory_that_is_removed_before_it_is_used_is_made_anew(path: Path) -> None:
    spool = opened(path)
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    spool.append(several([1]))
    assert len(spool.take_problems()) == 1
    spool.close()
    assert left_behind(path) == several([1])


def test_another_users_file_is_told_of_once_and_passed_by(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        spool = opened(path, now=NOW + number)
        spool.append(several([number]))
        spool.close()
    theirs = min(path.glob("*.lock"))
    real_open = os.open

    def refusing(file: str | Path, flags: int, mode: int = 0o777) -> int:
        if Path(file) == theirs:
            raise PermissionError(13, "Permission denied")
        return real_open(file, flags, mode)

    monkeypatch.setattr(os, "open", refusing)
    next_ = opened(path)
    signals, problems = adopted(next_)
    assert signals == several([1])
    assert [("another user's" in problem.message) for problem in problems] == [True]


def test_a_file_that_an_outage_made_grow_shrinks_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_MAX_FREE_PAGES", 100)
    spool = opened(path)
    count = 60
    spool.append([stored(number, size=40_000) for number in range(count)])
    spool.suspend()  # empties the log into the file
    (file,) = path.glob("*.db")
    grown = file.stat().st_size
    for number in range(count):
        spool.erase([f"key-{number}"])
    spool.suspend()
    assert (grown > 2_400_000, file.stat().st_size < 500_000) == (True, True)
    spool.close()
