"""`clocknext verify`: what the signals of a file would cost. None is billed."""

from dataclasses import dataclass, field

import click
from rich.console import Console

from clocknext_core import ClockNextError, Signal, UsageLog
from clocknext_core.text import shortened
from clocknext_transports import TrioClockNext
from clocknext_transports.cli.connection import Connection, with_connection
from clocknext_transports.cli.delivery import Delivery
from clocknext_transports.cli.lines import Line
from clocknext_transports.cli.progress import reporter
from clocknext_transports.cli.stream import (
    conclude,
    concurrency_option,
    file_argument,
    opened,
    run,
    source_option,
)
from clocknext_transports.cli.tables import Justify, Table, cell, say, show
from clocknext_transports.cli.tally import BILLED_HEADINGS, Billed, billed_rows, describe

MAX_MODELS = 1000
"""Most models of which the sums are kept apart."""
MAX_MODEL_LENGTH = 200

NOTHING_BILLED = "The signals priced so far were not billed."


@dataclass(slots=True)
class Estimate:
    """What signals would cost. Its memory grows with the customers and models, not with the signals."""

    customers: dict[tuple[str, ...], Billed] = field(default_factory=dict[tuple[str, ...], Billed])
    models: dict[tuple[str, ...], Billed] = field(default_factory=dict[tuple[str, ...], Billed])
    """By model and type of signal."""
    priced: int = 0
    refused: int = 0

    def __str__(self) -> str:
        return f"{self.priced:,} priced, {self.refused:,} refused"

    def add(self, signal: Signal, log: UsageLog) -> None:
        """Add a signal and what the service says it would cost."""
        self.priced += 1
        self.customers.setdefault((cell(signal.customer_id),), Billed()).add(log)
        # The server's spelling, since it matches models without case. It may answer with any text.
        model = shortened(cell(log.model or signal.model), MAX_MODEL_LENGTH)
        label = (model, signal.type)
        if label not in self.models and len(self.models) >= MAX_MODELS:
            label = ("(others)", signal.type)
        self.models.setdefault(label, Billed()).add(log)

    def tables(self) -> tuple[Table, Table]:
        """Make the tables by customer, and by model and type."""
        numbers: dict[str, Justify] = dict.fromkeys(BILLED_HEADINGS, "right")
        return (
            Table(
                {"Customer": "left", **numbers}, billed_rows(self.customers), "By customer", has_total=True
            ),
            Table(
                {"Model": "left", "Type": "left", **numbers},
                billed_rows(self.models),
                "By model and type",
                has_total=True,
            ),
        )


@click.command(short_help="What the signals of a file would cost; bills nothing.")
@file_argument
@with_connection(max_attempts=8)
@concurrency_option
@source_option
def verify(connection: Connection, *, file: str, concurrency: int, source: str) -> None:
    """Have the service check and price the signals in FILE (- for standard input), and record none of them.

    FILE is read as by `clocknext send`. The tables say what it would cost, by customer and by model and
    type. Refused lines go to stderr, each with its number and the reason.

    The service compares each signal with the current balances. A balance that suffices for each signal alone
    may not suffice for all of them.

    \b
    Exit status
    0    the service would take every line
    1    it would refuse some
    2    wrong usage; or stopped: the key was not accepted, the service could not be reached, or it
         gave no price
    130  stopped by Ctrl-C
    """  # noqa: D301 - click's mark of a block to leave as it is
    estimate = Estimate()
    with opened(file) as (read, size), reporter(Console(stderr=True), size) as progress:
        client = connection.client(TrioClockNext, concurrency=concurrency, on_retry=progress.retrying)

        def stop_at(line: Line) -> None:
            # A service that knows no dry runs takes them for signals: the fewer it gets, the better. They
            # have the keys that `send` would give them, so that sending the file does not bill them again.
            # Others are in flight, so it is not known which line was the first.
            problem = "The service gave no price: it may not know dry runs, and have recorded signals"
            delivery.fail(ClockNextError(f"{problem}, line {line.number} among them"))

        def on_priced(line: Line, signal: Signal, log: UsageLog | None) -> None:
            if log is None:
                stop_at(line)
                return
            if line.number not in delivery.keys.repeated:
                estimate.add(signal, log)
            progress.update(estimate, line.end)

        def on_refused(line: Line, error: ClockNextError) -> None:
            if error.status == 202:
                stop_at(line)
                return
            estimate.refused += 1
            progress.say(f"Line {line.number}: {describe(error)}")
            progress.update(estimate, line.end)

        delivery = Delivery(
            read,
            client.signals.verify,
            on_delivered=on_priced,
            on_refused=on_refused,
            concurrency=concurrency,
            source=source,
        )
        run(client, delivery, progress.say)
    if estimate.priced:
        show(*estimate.tables())
    say(f"{estimate}." if delivery.is_stopped else f"{estimate}. Nothing was billed.")
    click.get_current_context().exit(conclude(delivery, refused=estimate.refused > 0, stopped=NOTHING_BILLED))
