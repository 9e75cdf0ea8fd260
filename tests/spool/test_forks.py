"""Forks: the child never touches the parent's signals, however it ends."""

import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from clocknext_transports.spool import SqliteSpool
from tests.spool.support import files, keys, left_behind, opened, several

# Other tests may have left a thread that waits; these children use none of the parent's.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def forked(child: Callable[[], object]) -> int:
    """Run something in a forked child and return how it ended: its exit status, or minus its signal."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.mark.parametrize("is_announced", [True, False])
@pytest.mark.parametrize("dies", [True, False])
def test_a_child_does_not_touch_its_parents_signals(path: Path, is_announced: bool, dies: bool) -> None:
    spool = opened(path)
    spool.append(several(range(50)))

    def child() -> None:
        spool.restart()
        assert spool.adopt(10) == (), "the parent is alive"
        spool.erase(["key-1"])
        spool.append(several(["child"]))
        spool.erase(["key-child"])
        if dies:
            die()
        spool.close()

    if is_announced:
        spool.suspend()
    ended = forked(child)
    if is_announced:
        spool.resume()
    assert ended == (-signal.SIGKILL if dies else 0)
    spool.append(several([50]))
    spool.close()
    assert left_behind(path) == several(range(51))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="nothing shows what is open here")
def test_a_child_does_not_close_what_its_parent_had_open(path: Path) -> None:
    """Where Python did not know of the fork, SQLite may have been in use, and closing would hang."""
    spool = opened(path)
    spool.append(several(range(3)))
    (file,) = path.glob("*.db")

    def descriptors() -> int:
        return sum(os.path.samefile(each, file) for each in Path("/proc/self/fd").iterdir() if each.exists())

    def child() -> None:
        before = descriptors()
        spool.restart()
        gc.collect()
        assert descriptors() == before > 0

    assert forked(child) == 0
    spool.close()


def test_a_child_that_does_nothing_does_no_harm(path: Path) -> None:
    spool = opened(path)
    for round_ in range(5):
        spool.append(several([round_]))
        spool.suspend()
        assert forked(spool.restart) == 0
        spool.resume()
    assert files(path) == ["db", "lock"]
    spool.close()
    assert left_behind(path) == several(range(5))


def test_nothing_of_sqlite_crosses_a_fork(path: Path) -> None:
    spool = opened(path)
    spool.append(several([1]))
    other = opened(path)
    other.append(several([2]))
    other.close()
    spool.adopt(0)
    spool.suspend()
    links = [os.readlink(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd") if _is_open(one)]
    ours = [link for link in links if link.startswith(str(path))]
    assert {Path(link).suffix for link in ours} == {".lock"}
    spool.resume()
    spool.close()


def _is_open(descriptor: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{descriptor}")


def test_the_parents_lease_lasts_while_it_forks(path: Path) -> None:
    spool = opened(path)
    spool.append(several([1]))
    spool.suspend()

    def somebody_else() -> None:
        spool.restart()
        assert SqliteSpool(path).adopt(10) == ()

    assert forked(somebody_else) == 0
    spool.resume()
    spool.close()
    assert left_behind(path) == several([1])


def test_a_child_adopts_its_parents_signals_when_that_is_dead(path: Path) -> None:
    """The parent's lease must not seem to be the child's own."""

    def parent() -> None:
        spool = opened(path)
        spool.append(several(range(3)))
        heard, said = os.pipe()
        spool.suspend()
        if os.fork() == 0:
            os.close(said)
            os.read(heard, 1)  # until the parent is gone
            spool.restart()
            found = keys(spool.adopt(10))
            spool.append(several(["child of " + " ".join(found)]))
            die()
        die()

    heard, said = os.pipe()
    try:
        assert forked(parent) == -signal.SIGKILL
        os.close(said)
        os.read(heard, 1)  # until the grandchild is gone too
    finally:
        os.close(heard)
    assert keys(left_behind(path)) == ["key-0", "key-1", "key-2", "key-child of key-0 key-1 key-2"]
