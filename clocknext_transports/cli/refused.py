"""The file of refused lines: written as they are refused, so that none is lost and none is held."""

import json
from pathlib import Path
from types import TracebackType
from typing import Self

from clocknext_core import ClockNextError
from clocknext_transports.cli.lines import Line
from clocknext_transports.cli.tally import describe


class RefusedFile:
    """JSON Lines of `{"line": number, "reason": …, "original": …}`.

    Args:
        path: Where to. An earlier file is replaced; none is left if nothing was refused.

    Raises:
        OSError: The file can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w", encoding="utf-8")
        self._is_empty = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._is_empty:
            self.path.unlink(missing_ok=True)

    def add(self, line: Line, error: ClockNextError) -> None:
        """Write one line down, through to the operating system.

        Raises:
            OSError: The disk is full, for example.
        """
        entry = {"line": line.number, "reason": describe(error), "original": line.text}
        # A lone surrogate in a reason could not be encoded; as an escape it can.
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        self._is_empty = False
