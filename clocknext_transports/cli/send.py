"""`clocknext send`: deliver signals from JSON Lines."""

import io
import os
import signal
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import click
import trio
from rich.console import Console

from clocknext_core import BatchPolicy, ClockNextError, RetryPolicy, Signal, TrackResult
from clocknext_transports import TrioClockNext
from clocknext_transports.cli.delivery import GRACE, Delivery, Read
from clocknext_transports.cli.errors import CannotStartError
from clocknext_transports.cli.lines import Line
from clocknext_transports.cli.progress import Reporter, reporter
from clocknext_transports.cli.refused import RefusedFile
from clocknext_transports.cli.tally import Tally, describe

CHUNK = 256 * 1024
"""Bytes asked for in one read."""

EXIT_REFUSED, EXIT_STOPPED, EXIT_INTERRUPTED = 1, 2, 130

GO_ON = "Run the same command again to go on: lines already delivered are not billed twice."


@click.command(short_help="Deliver signals from a file, each billed once.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--api-key", metavar="KEY", help="Better: CLOCKNEXT_API_KEY, which no process list shows.")
@click.option(
    "--base-url", metavar="URL", help="Default: CLOCKNEXT_BASE_URL, else the service's own address."
)
@click.option(
    "--allow-insecure-http", is_flag=True, help="Allow http:// to other hosts: the key travels in the clear."
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 256),
    default=8,
    show_default=True,
    help="Most signals in flight; 1 keeps their order.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds for one attempt, connect to last byte.",
)
@click.option(
    "--max-attempts", type=click.IntRange(1), default=8, show_default=True, help="Most attempts a signal."
)
@click.option(
    "--source",
    metavar="NAME",
    default="",
    help="Part of derived keys: tells apart files that may hold the same line at the same number.",
)
@click.option(
    "--refused",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where refused lines go. Default: FILE.refused.jsonl, for - ./stdin.refused.jsonl.",
)
def send(
    *,
    file: str,
    api_key: str | None,
    base_url: str | None,
    allow_insecure_http: bool,
    concurrency: int,
    timeout: float,
    max_attempts: int,
    source: str,
    refused: Path | None,
) -> None:
    """Deliver the signals in FILE (- for standard input), one JSON object a line, of any length.

    \b
    {"customerId": "cus_123", "type": "credit", "model": "gpt-4o", "key": "api_credit", "inputTokens": 1200}
    {"customer_id": "cus_123", "type": "wallet", "model": "gpt-4o", "tokens": {"input": 800, "output": 50}}

    Names are taken as on the wire (customerId) or in snake_case (customer_id); null counts as absent. Types
    are credit, wallet and outcome. A metric is given as "metric": {"ref": NAME, "value": VALUE}.

    Billed once: a line without an idempotencyKey gets one derived from its content and its number, so
    sending the same file again bills nothing twice, for as long as the service remembers keys. Lines may be
    appended, and refused ones mended in place. But a line inserted or removed in the middle gives new keys
    to those after it: they would be billed again. And two files that hold the same line at the same number
    bill it once between them: put a time or an id into each line, or give each file its own --source.

    Refused lines: each is written with its number and the reason to FILE.refused.jsonl, which replaces an
    earlier one. After a top-up, or when they are mended in FILE, run the same command again.

    Several signals are in flight at once. Where their order matters, as with the steps of a run, use
    --concurrency 1.

    \b
    Exit status
    0    every line was delivered
    1    some lines were refused, all others delivered
    2    wrong usage; or stopped: the key was not accepted, or the service could not be reached
    130  stopped by Ctrl-C: signals in flight end first, for at most 5 seconds
    """  # noqa: D301 - click's mark of a block to leave as it is
    console = Console(stderr=True)
    tally = Tally()
    with _opened(file) as (read, size), reporter(console, size) as progress:
        try:
            client = TrioClockNext(
                api_key,
                base_url=base_url,
                timeout=timeout,
                batch=BatchPolicy(max_concurrency=concurrency),
                retry=RetryPolicy(max_attempts=max_attempts),
                on_retry=progress.retrying,
                allow_insecure_http=allow_insecure_http,
            )
        except ClockNextError as error:
            raise CannotStartError(error.message) from None
        with _refused_file(file, refused) as refused_file:

            async def track(one: Signal) -> TrackResult:
                return await client.signals.track(one, wait=True)

            def on_delivered(line: Line, one: Signal, result: TrackResult) -> None:
                tally.add_delivered(one, result)
                progress.update(tally, line.end)

            def on_refused(line: Line, error: ClockNextError) -> None:
                refused_file.add(line, error)
                tally.add_refused(error)
                progress.update(tally, line.end)

            delivery = Delivery(
                read,
                track,
                on_delivered=on_delivered,
                on_refused=on_refused,
                concurrency=concurrency,
                source=source,
            )
            trio.run(_deliver, client, delivery, progress)
    _summarise(tally, refused_file.path)
    click.get_current_context().exit(_conclude(tally, delivery))


async def _deliver(client: TrioClockNext, delivery: Delivery, progress: Reporter) -> None:
    async with client, trio.open_nursery() as nursery:
        await nursery.start(_heed_interrupts, delivery, progress)
        await delivery.run()
        nursery.cancel_scope.cancel()


async def _heed_interrupts(
    delivery: Delivery, progress: Reporter, *, task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            if not delivery.is_stopped:
                progress.say(
                    f"Stopping: waiting up to {GRACE:.0f} s for {delivery.in_flight} signals in flight. "
                    "Ctrl-C again: at once."
                )
            delivery.stop()


@contextmanager
def _opened(file: str) -> Generator[tuple[Read, int | None], None, None]:
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


def _reader(file: io.RawIOBase) -> Read:
    def read() -> bytes:
        data = file.read(CHUNK)
        if data is None:
            raise BlockingIOError("The input is set not to block.")
        return data

    return read


def _refused_file(file: str, refused: Path | None) -> RefusedFile:
    path = refused or Path("stdin.refused.jsonl" if file == "-" else f"{file}.refused.jsonl")
    if file != "-" and path.exists() and path.samefile(file):
        raise click.UsageError("Refused lines can't go to the input itself.")
    try:
        return RefusedFile(path)
    except OSError as error:
        raise CannotStartError(
            f"Refused lines can't be written to {path}: {error.strerror}. Name another file with --refused."
        ) from None


def _summarise(tally: Tally, refused: Path) -> None:
    console = Console()
    if tally.delivered:
        console.print(tally.billed_table())
    if tally.to_be_mended:
        console.print(f"{tally.to_be_mended:,} of them were queued by the service for a person to mend.")
    if tally.refused:
        console.print(tally.refused_table())
    click.echo(f"{tally}.")
    if tally.refused:
        click.echo(f"Refused lines, each with its reason: {refused}")


def _conclude(tally: Tally, delivery: Delivery) -> int:
    if not delivery.is_stopped:
        return EXIT_REFUSED if tally.refused else 0
    match delivery.error:
        case None:
            status, why = EXIT_INTERRUPTED, "Interrupted."
        case ClockNextError() as error:
            status, why = EXIT_STOPPED, f"Stopped: {describe(error)}"
        case error:
            status, why = EXIT_STOPPED, f"Stopped: {error}."
    click.echo(f"{why} {GO_ON}", err=True)
    return status
