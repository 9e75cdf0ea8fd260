"""A file of lines that were not billed: each is written when that shows, so that none is lost or held."""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from clocknext_core import ClockNextError
from clocknext_transports.cli.lines import Line
from clocknext_transports.cli.tally import describe


class RefusedFile:
    """JSON Lines of `{"line": number, "reason": …, "original": …}`, with `signalId` where there is one.

    They go to a new file beside `path`, which replaces an earlier one when the run is over. If the run was
    stopped, an earlier file stays, since it may name more lines, and the new one stays beside it. Without
    refused lines, no new file is left, and an earlier one is removed if the run was not stopped.

    The file is this user's alone (0600): lines name customers. A symbolic link is replaced, never followed.

    Args:
        path: The file.

    Raises:
        OSError: The file can't be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._part.unlink(missing_ok=True)  # of a run that was killed
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        self._file = os.fdopen(os.open(self._part, flags, 0o600), "w", encoding="utf-8")
        self._is_empty = True
        self._is_complete = False
        self.written: Path | None = None
        """Where the refused lines are; `None` before the run is over, and if there are none."""

    def __enter__(self) -> Self:
        return self

    def complete(self) -> None:
        """Note that the run came to the end of its input."""
        self._is_complete = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._is_empty:
            self._part.unlink(missing_ok=True)
            if self._is_complete:
                self._path.unlink(missing_ok=True)
        elif self._is_complete or not os.path.lexists(self._path):
            self._part.replace(self._path)
            self.written = self._path
        else:
            self.written = self._part

    def add(self, line: Line, error: ClockNextError) -> None:
        """Write one line, through to the operating system.

        Raises:
            OSError: The disk is full, for example.
        """
        entry: dict[str, object] = {"line": line.number, "reason": describe(error), "original": line.text}
        if error.signal_id is not None:
            entry["signalId"] = error.signal_id
        # A lone surrogate in a reason could not be encoded; as an escape it can.
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        self._is_empty = False
