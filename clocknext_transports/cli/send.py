"""`clocknext send`: deliver signals from JSON Lines."""

from pathlib import Path

import click
from rich.console import Console

from clocknext_core import ClockNextError, Signal, TrackResult
from clocknext_core.delivery import mending_error
from clocknext_core.signals import encode
from clocknext_transports import TrioClockNext
from clocknext_transports.cli.connection import Connection, with_connection
from clocknext_transports.cli.delivery import Delivery
from clocknext_transports.cli.errors import CannotStartError
from clocknext_transports.cli.lines import Line
from clocknext_transports.cli.progress import reporter
from clocknext_transports.cli.refused import RefusedFile
from clocknext_transports.cli.repeats import Repeats
from clocknext_transports.cli.stream import (
    conclude,
    concurrency_option,
    file_argument,
    opened,
    run,
    source_option,
)
from clocknext_transports.cli.tables import say
from clocknext_transports.cli.tally import Tally
from clocknext_transports.client.environment import new_key

GO_ON = "Run the same command again to go on: lines already delivered are not billed twice."


@click.command(short_help="Deliver signals from a file, each billed once.")
@file_argument
@with_connection(max_attempts=8)
@concurrency_option
@source_option
@click.option(
    "--refused",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where refused lines go. Default: FILE.refused.jsonl; for standard input stdin.refused.jsonl.",
)
def send(connection: Connection, *, file: str, concurrency: int, source: str, refused: Path | None) -> None:
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
    earlier one at the end of the input. A run that is stopped keeps an earlier one, and leaves its own as
    FILE.refused.jsonl.part. After a top-up, or when they are mended in FILE, run the same command again.

    Pending lines: those that the service took but could not bill (202, PENDING) are counted apart, and
    written to FILE.pending.jsonl in the same way. They are corrected in the service, not sent again.

    Several signals are in flight at once. Where their order matters, as with the steps of a run, use
    --concurrency 1.

    \b
    Exit status
    0    every line was delivered
    1    some lines were refused or are pending, all others delivered
    2    wrong usage; or stopped: the key was not accepted, or the service could not be reached
    130  stopped by Ctrl-C: signals in flight end first, for at most 5 seconds
    """  # noqa: D301 - click's mark of a block to leave as it is
    tally, repeats = Tally(), Repeats()
    with opened(file) as (read, size), reporter(Console(stderr=True), size) as progress:
        client = connection.client(TrioClockNext, concurrency=concurrency, on_retry=progress.retrying)
        client.wrap_transport(repeats.watch)
        path = refused or Path("stdin.refused.jsonl" if file == "-" else f"{file}.refused.jsonl")
        with _file_for(path, file) as refused_file, _file_for(_pending_path(path), file) as pending_file:

            async def track(one: Signal) -> TrackResult:
                return await client.signals.track(one, wait=True)

            def on_delivered(line: Line, one: Signal, result: TrackResult) -> None:
                if result.mending:
                    tally.add_pending(line.number)
                    pending_file.add(line, mending_error(encode(one, new_key), result, client.config))
                else:
                    log = result.usage_log
                    is_repeat = log is not None and repeats.includes(log)
                    is_repeat |= line.number in delivery.keys.repeated
                    tally.add_delivered(one, result, is_repeat=is_repeat)
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
            run(client, delivery, progress.say)
            if not delivery.is_stopped:
                refused_file.complete()
                pending_file.complete()
    _summarise(tally, refused_file.written, pending_file.written)
    is_incomplete = bool(tally.refused or tally.pending)
    click.get_current_context().exit(conclude(delivery, refused=is_incomplete, stopped=GO_ON))


def _pending_path(refused: Path) -> Path:
    """Return where pending lines go: beside the refused ones."""
    return refused.with_name(refused.name.removesuffix(".refused.jsonl") + ".pending.jsonl")


def _file_for(path: Path, file: str) -> RefusedFile:
    if file != "-" and path.exists() and path.samefile(file):
        raise click.UsageError("Refused lines can't go to the input itself.")
    try:
        return RefusedFile(path)
    except OSError as error:
        raise CannotStartError(
            f"Refused lines can't be written to {path}: {error.strerror}. Name another file with --refused."
        ) from None


def _summarise(tally: Tally, refused: Path | None, pending: Path | None) -> None:
    console = Console()
    if tally.delivered > tally.billed_before:
        console.print(tally.billed_table())
    if tally.pending:
        say(tally.pending_text())
    if tally.refused:
        console.print(tally.refused_table())
    say(f"{tally}.")
    if tally.billed_before:
        say(f"Billed before: {tally.billed_before:,}. They were not billed again, and are in no table.")
    if refused is not None:
        say(f"Refused lines, each with its reason: {refused}")
    if pending is not None:
        say(f"Pending lines, each with the service's id of the signal: {pending}")
