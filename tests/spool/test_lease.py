import os
import subprocess
import sys
from pathlib import Path

import pytest

from clocknext_transports.spool.files.lease import Lease

# Other tests may have left a thread that waits; these children use none of the parent's.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

ASK = """
import sys
from pathlib import Path
from clocknext_transports.spool.files.lease import Lease
print(Lease.take(Path(sys.argv[1])) is not None)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "one.lock"


def taken_by_another_process(path: Path) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout == "True\n"


def take(path: Path) -> Lease:
    lease = Lease.take(path)
    assert lease is not None
    return lease


def test_a_lease_that_is_held_is_had_by_nobody_else(path: Path) -> None:
    lease = take(path)
    assert Lease.take(path) is None
    assert not taken_by_another_process(path), "asking again in the holder's process must not let go of it"
    lease.release()
    assert taken_by_another_process(path)


def test_a_lease_that_was_released_can_be_taken_again(path: Path) -> None:
    take(path).release()
    take(path).release()


def test_a_hard_link_is_the_same_lease(path: Path, tmp_path: Path) -> None:
    lease = take(path)
    (tmp_path / "other.lock").hardlink_to(path)
    assert Lease.take(tmp_path / "other.lock") is None
    lease.release()


def test_a_lock_file_that_is_not_there_is_made_or_not(path: Path) -> None:
    assert Lease.take(path, create=False) is None
    assert not path.exists()
    take(path).release()
    assert path.exists()


def test_who_comes_while_a_file_is_removed_gets_the_lock_of_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = os.open
    lease = take(path)

    def open_late(file: str | Path, flags: int, mode: int = 0o777) -> int:
        descriptor = real_open(file, flags, mode)
        path.unlink()  # the holder ends, after the file was opened and before it is locked
        return descriptor

    lease.release()
    monkeypatch.setattr(os, "open", open_late)
    assert Lease.take(path) is None
    monkeypatch.undo()
    take(path).release()


def test_a_forked_child_has_none_of_its_parents_leases(path: Path) -> None:
    lease = take(path)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if Lease.take(path) is None else 2
            lease.release()  # of the child's own: the parent's stays
            status = status or (0 if Lease.take(path) is None else 3)
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert not taken_by_another_process(path)
    lease.release()
