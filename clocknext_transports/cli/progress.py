"""The progress of a delivery, on stderr: a bar on a terminal, a plain line every few seconds elsewhere."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from clocknext_core import Retrying
from clocknext_core.text import printable
from clocknext_transports.cli.tally import describe

INTERVAL = 5.0
"""Seconds between plain lines, at least."""


class Reporter(Protocol):
    """Shows the progress of a delivery."""

    def update(self, sums: object, end: int) -> None:
        """Show sums as their `str`; `end`: bytes of the input that are done."""
        ...

    def retrying(self, event: Retrying) -> None:
        """Show that an attempt failed and will be repeated."""
        ...

    def say(self, text: str) -> None:
        """Print a line."""
        ...


class BarReporter:
    """A progress bar."""

    def __init__(self, progress: Progress, size: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=size, note="")

    def update(self, sums: object, end: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, description=str(sums), completed=end, note="")

    def retrying(self, event: Retrying) -> None:
        """Show it beside the bar, until the next success."""
        self._progress.update(self._task, note=retry_note(event))

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(Text(printable(text)), soft_wrap=True)


class PlainReporter:
    """A line every `INTERVAL` seconds.

    Args:
        console: Where to print it.
        clock: Returns seconds; only differences mean anything.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._next_at = clock() + INTERVAL

    def update(self, sums: object, end: int) -> None:
        """Print the sums, if a line is due."""
        del end
        self._say_if_due(str(sums))

    def retrying(self, event: Retrying) -> None:
        """Print the failure, if a line is due."""
        self._say_if_due(retry_note(event))

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(Text(printable(text)), soft_wrap=True)

    def _say_if_due(self, text: str) -> None:
        if self._clock() >= self._next_at:
            self._next_at = self._clock() + INTERVAL
            self.say(text)


@contextmanager
def reporter(console: Console, size: int | None) -> Generator[Reporter, None, None]:
    """Report on a console for as long as the `with` block lasts.

    Args:
        console: The console, which knows whether it is a terminal.
        size: Bytes of the input; `None` if not known.
    """
    if not console.is_terminal:
        yield PlainReporter(console)
        return
    columns = (
        SpinnerColumn(),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False, style="yellow"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield BarReporter(progress, size)


def retry_note(event: Retrying) -> str:
    """Return in two sentences why an attempt failed and when the next one is made."""
    return f"{describe(event.error)} Trying again in {event.delay:.1f} s."
