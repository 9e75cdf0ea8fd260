"""Matrix row 18: disk full, I/O error, no file handles. Not accepted, said so, and usable afterwards."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clocknext_core import SpoolError
from clocknext_transports.spool.files import database
from tests.spool.support import adopted, left_behind, limit_pages, opened, several, stored

ROOT = Path(__file__).parents[2]

FILLED = """
import json, os, resource, sys
from pathlib import Path
from clocknext_core import SpoolError
from tests.spool.support import adopted, keys, opened, stored

path = Path(sys.argv[1])
spool = opened(path)
def fill(lift):
    acknowledged, refused = [], []
    for number in range(400):
        group = [stored(f"{number}-{one}", size=2000) for one in range(3)]
        try:
            spool.append(group)
        except SpoolError as error:
            refused.append((str(error), error.retryable, keys(group)))
            if len(refused) == 3:
                break
        else:
            acknowledged += keys(group)
    lift()
    spool.append([stored("after")])
    spool.close()
    found = keys(adopted(opened(path))[0])
    print(json.dumps({"acknowledged": acknowledged, "refused": refused, "found": found}))
"""

LIMITED = (
    FILLED
    + """
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
fill(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)))
"""
)
SMALL = (
    FILLED
    + """
ballast = path.parent / "ballast"
ballast.write_bytes(bytes(400_000))
fill(ballast.unlink)
"""
)
NO_HANDLES = """
import json, os, resource, sys
from pathlib import Path
from clocknext_core import SpoolError
from tests.spool.support import adopted, keys, opened, stored

path = Path(sys.argv[1])
spool = opened(path)
spool.append([stored(1)])
taken, errors = [], []
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
while True:
    try:
        taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        break
spool.append([stored(2)])       # its files are open
spool.suspend()
spool.resume()
while True:                     # what it closed is taken by others
    try:
        taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        break
for attempt in (lambda: spool.append([stored(3)]), lambda: spool.adopt(1), lambda: opened(path)):
    try:
        attempt()
    except SpoolError as error:
        errors.append(str(error))
for descriptor in taken:
    os.close(descriptor)
spool.append([stored(4)])
spool.close()
print(json.dumps({"errors": errors, "found": keys(adopted(opened(path))[0])}))
"""


def said(program: str, path: Path, *, before: tuple[str, ...] = ()) -> dict[str, Any]:
    done = subprocess.run(
        [*before, sys.executable, "-W", "error", "-c", program, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def check_filled(result: dict[str, Any], words: str) -> None:
    assert len(result["acknowledged"]) > 10
    assert len(result["refused"]) == 3
    for message, retryable, _ in result["refused"]:
        assert words in message
        assert retryable
    assert result["found"] == [*result["acknowledged"], "key-after"], "what was refused is not there either"


def test_a_file_that_may_not_grow_refuses_signals_and_takes_them_again(tmp_path: Path) -> None:
    check_filled(said(LIMITED, tmp_path / "spool"), "can't be read or written (SQLITE_IOERR_WRITE)")


def test_a_full_disk_refuses_signals_and_takes_them_again(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("no unshare")
    script = 'mount -t tmpfs -o size=800k tmpfs "$0" && exec "$@"'
    inside = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(tmp_path))
    if subprocess.run([*inside, "true"], capture_output=True, check=False, timeout=60).returncode:
        pytest.skip("no small file system can be mounted")
    check_filled(said(SMALL, tmp_path / "spool", before=inside), "the disk is full (SQLITE_FULL)")


def test_without_file_handles_it_says_so_and_goes_on_when_there_are(tmp_path: Path) -> None:
    result = said(NO_HANDLES, tmp_path / "spool")
    assert ["no file handle is left" in one or "Too many open files" in one for one in result["errors"]] == [
        True,
        True,
        True,
    ], result["errors"]
    assert result["found"] == ["key-1", "key-2", "key-4"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def test_a_group_that_does_not_fit_is_refused_as_a_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = opened(path)
    with monkeypatch.context() as patch:
        limit_pages(patch, 40)
        spool.append(several([1]))
        with pytest.raises(SpoolError, match="full"):
            spool.append([stored(number, size=4000) for number in range(2, 90)])
        spool.append(several([90]))  # there is room for this one
    spool.append(several([91]))
    spool.close()
    assert left_behind(path) == several([1, 90, 91])


def test_adoption_on_a_full_disk_leaves_the_signals_where_they_are(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, live = opened(path), opened(path)
    large = [stored(number, size=4000) for number in range(60)]
    dead.append(large)
    dead.close()
    live.append(several(["own"]))
    live.suspend()
    with monkeypatch.context() as patch:
        limit_pages(patch, 20)
        with pytest.raises(SpoolError, match="full"):
            live.adopt(60)
    assert adopted(live) == (large, [])


def test_an_append_that_failed_but_reached_the_disk_does_not_come_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened(path)
    spool.append(several([1]))
    with monkeypatch.context() as patch:
        real_insert = database.SignalFile.insert

        def insert(file: database.SignalFile, signals: Any) -> None:
            real_insert(file, signals)
            raise SpoolError("The disk could not be synced.")  # and nobody knows what reached it

        patch.setattr(database.SignalFile, "insert", insert)
        with pytest.raises(SpoolError, match="synced"):
            spool.append(several([2]))
    spool.append(several([3]))
    spool.close()
    assert left_behind(path) == several([1, 3])


def test_a_file_that_can_not_be_made_leaves_nothing_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened(path)

    def no_sync(_: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(database, "sync_directory", no_sync)
        with pytest.raises(SpoolError, match="Input/output error"):
            spool.append(several([1]))
    assert [file.suffix for file in path.iterdir()] == [".lock"]
    spool.append(several([2]))
    spool.close()
    assert left_behind(path) == several([2])


def test_a_file_that_can_not_be_read_is_adopted_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = opened(path)
    dead.append(several(range(3)))
    dead.close()
    spool = opened(path)

    def no_handle(*_: object) -> None:
        raise SpoolError("No file handle is left.")

    with monkeypatch.context() as patch:
        patch.setattr(database.SignalFile, "check", no_handle)
        with pytest.raises(SpoolError, match="handle"):
            spool.adopt(10)
    assert spool.adopt(1) == several([0])
    with monkeypatch.context() as patch:
        patch.setattr(database.SignalFile, "between", no_handle)
        with pytest.raises(SpoolError):
            spool.adopt(1)
    assert adopted(spool) == (several([1, 2]), [])


def test_what_was_taken_over_is_given_out_even_if_it_can_not_be_removed_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = opened(path)
    live.append(several(["own"]))
    dead = opened(path)
    dead.append(several(range(3)))
    dead.close()

    def full(*_: object) -> None:
        raise SpoolError("The disk is full.")

    monkeypatch.setattr(database.SignalFile, "delete", full)
    assert adopted(live) == (several(range(3)), [])
    live.close()
    assert left_behind(path) == several(["own", *range(3)])


def test_a_disk_that_fails_at_the_end_leaves_the_signals(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = opened(path)
    spool.append(several([1]))
    spool.suspend()

    def fail(*_: object, **__: object) -> sqlite3.Connection:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(database, "connect", fail)
        spool.close()
    assert left_behind(path) == several([1])
