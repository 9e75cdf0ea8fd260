"""What commands that read a file of signals share: its opening, a delivery that heeds Ctrl-C, its end."""

import io
import os
import signal
import stat
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, cast

import click
import trio

from clocknext_core import ClockNextError
from clocknext_transports import TrioClockNext
from clocknext_transports.cli.decorator import Decorator
from clocknext_transports.cli.delivery import GRACE, Delivery, Read
from clocknext_transports.cli.errors import CannotStartError, what_to_do
from clocknext_transports.cli.lines import NotSignalsError
from clocknext_transports.cli.tables import say
from clocknext_transports.cli.tally import describe

T = TypeVar("T")

CHUNK = 256 * 1024
"""Bytes asked for in one read."""

EXIT_REFUSED, EXIT_STOPPED, EXIT_INTERRUPTED = 1, 2, 130

file_argument: Decorator = click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, allow_dash=True)
)
concurrency_option: Decorator = click.option(
    "--concurrency",
    type=click.IntRange(1, 256),
    default=8,
    show_default=True,
    help="Most signals in flight; 1 keeps their order.",
)
source_option: Decorator = click.option(
    "--source",
    metavar="NAME",
    default="",
    help="Part of derived keys: set it for files that may have the same line at the same number.",
)


@contextmanager
def opened(file: str) -> Generator[tuple[Read, int | None], None, None]:
    """Open the input, unbuffered: lines that trickle in are sent as they come. Yields its size, if known."""
    if file == "-":
        # Below the buffer, whose lock a thread that is left waiting for input would hold at exit.
        yield _reader(cast("io.RawIOBase", getattr(sys.stdin.buffer, "raw", sys.stdin.buffer))), None
        return
    try:
        opened = Path(file).open("rb", buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        raise CannotStartError(f"{file} can't be read: {error.strerror}.") from None
    with opened:
        status = os.fstat(opened.fileno())
        yield _reader(opened), status.st_size if stat.S_ISREG(status.st_mode) else None


def run(client: TrioClockNext, delivery: Delivery[T], say: Callable[[str], object]) -> None:
    """Deliver until the end of the input, Ctrl-C or an error that stops the delivery; then close the client.

    Args:
        client: What the delivery sends with.
        delivery: Not run yet.
        say: Called with a sentence, after Ctrl-C.
    """
    trio.run(_deliver, client, delivery, say)


def conclude(delivery: Delivery[T], *, refused: bool, stopped: str) -> int:
    """Return the exit status; if the delivery was stopped, say why on stderr.

    Args:
        delivery: One that has been run.
        refused: Whether there were refused lines.
        stopped: What to say in the end if it was stopped.
    """
    if not delivery.is_stopped:
        return EXIT_REFUSED if refused else 0
    match delivery.error:
        case None:
            status, why = EXIT_INTERRUPTED, "Interrupted."
        case NotSignalsError() as error:
            status, why, stopped = EXIT_STOPPED, error.message, ""
        case ClockNextError() as error:
            status, why = EXIT_STOPPED, f"Stopped: {describe(error)} {what_to_do(error)}".rstrip()
        case error:
            status, why = EXIT_STOPPED, f"Stopped: {error}."
    say(f"{why} {stopped}".rstrip(), err=True)
    return status


async def _deliver(client: TrioClockNext, delivery: Delivery[T], say: Callable[[str], object]) -> None:
    async with client, trio.open_nursery() as nursery:
        await nursery.start(_heed_interrupts, delivery, say)
        await delivery.run()
        nursery.cancel_scope.cancel()


async def _heed_interrupts(
    delivery: Delivery[T], say: Callable[[str], object], *, task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            if not delivery.is_stopped:
                say(
                    f"Stopping: waiting up to {GRACE:.0f} s for what is in flight ({delivery.in_flight}). "
                    "Ctrl-C again: at once."
                )
            delivery.stop()


def _reader(file: io.RawIOBase) -> Read:
    def read() -> bytes:
        data = file.read(CHUNK)
        if data is None:
            raise BlockingIOError("The input is set not to block.")
        return data

    return read
