"""Which files of a spool are trusted: those of this user alone.

A user who can write to a spool's directory can have signals billed under this process's API key, and one who
can replace a file by a FIFO or a symbolic link can stop a process or have it write elsewhere. The checks go
by name before a file is opened. That is enough, because no other user can change a directory that was
checked.
"""

import os
import stat
from pathlib import Path

from clocknext_core import SpoolError
from clocknext_core.text import printable

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


class UntrustedError(SpoolError):
    """A file or directory of the spool that another user may have put there or changed."""


def check_directory(path: Path) -> None:
    """Require that a spool's directory is this user's, and that no other user may write to it.

    Raises:
        UntrustedError: It is not, or it is a symbolic link.
        OSError: It can't be looked at.
    """
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise UntrustedError(
            f"The spool's path {printable(str(path))} is {_kind(status.st_mode)}, not a directory. Give the "
            "directory's own path."
        )
    if problem := _problem(status):
        raise UntrustedError(
            f"The spool's directory {printable(str(path))} {problem}: signals in it could be anybody's. Give "
            "a directory of this user alone (0700); one that is not there is made."
        )


def check_file(path: Path, *companions: Path) -> None:
    """Require that a file of a spool, and the files beside it, are regular files of this user alone.

    A file that is not there is right too.

    Raises:
        UntrustedError: One of them is something else. It was not opened.
        OSError: One can't be looked at.
    """
    for each in (path, *companions):
        try:
            status = each.lstat()
        except FileNotFoundError:
            continue
        problem = None if stat.S_ISREG(status.st_mode) else f"is {_kind(status.st_mode)}"
        if problem := problem or _problem(status):
            raise UntrustedError(f"The spool's file {printable(str(each))} {problem}: it was not opened.")


def _kind(mode: int) -> str:
    return next((name for matches, name in _KINDS if matches(mode)), "a file")


def _problem(status: os.stat_result) -> str | None:
    if status.st_uid != os.geteuid():
        return "belongs to another user"
    if status.st_mode & _OTHERS_MAY_WRITE:
        return "is writable for other users"
    return None
