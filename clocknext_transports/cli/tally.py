"""Sums over the lines of an input, and their tables. Their memory does not grow with the lines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from math import isfinite

from rich.table import Table
from rich.text import Text

from clocknext_core import ClockNextError, Signal, TrackResult, UsageLog
from clocknext_core.text import printable, shortened

MAX_PENDING_SHOWN = 20
"""Most numbers of pending lines that are named."""
_MAX_EXAMPLE = 200

BILLED_HEADINGS = ("Signals", "Input tokens", "Output tokens", "Cache tokens", "Cost (USD)")
"""The headings of the columns for `Billed`."""


@dataclass(slots=True)
class Billed:
    """Sums over usage logs."""

    signals: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_tokens: int = 0
    cost: Decimal = Decimal(0)
    """USD charged to customers."""

    def add(self, log: UsageLog) -> None:
        """Add one log; what the server left out counts as 0."""
        self.signals += 1
        self.input_tokens += _count(log.input_tokens)
        self.output_tokens += _count(log.output_tokens)
        self.cache_tokens += _count(log.cache_tokens)
        if isinstance(log.customer_cost, int | float) and isfinite(log.customer_cost):
            self.cost += Decimal(str(log.customer_cost))

    def include(self, other: "Billed") -> None:
        """Add other sums."""
        self.signals += other.signals
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cache_tokens += other.cache_tokens
        self.cost += other.cost

    def cells(self) -> list[str]:
        """Return the sums as cells under `BILLED_HEADINGS`."""
        counts = (self.signals, self.input_tokens, self.output_tokens, self.cache_tokens)
        return [*(f"{count:,}" for count in counts), f"{self.cost:,.6f}"]


@dataclass(slots=True)
class Refusals:
    """Lines refused for one kind of reason."""

    example: str
    """The first one's reason."""
    lines: int = 0


@dataclass(slots=True)
class Tally:
    """The sums over the lines so far."""

    delivered: int = 0
    billed_before: int = 0
    """Delivered, but billed by an earlier run."""
    unpriced: int = 0
    """Delivered, but priced later (202): no usage log yet."""
    pending: int = 0
    """Taken by the server, which could not bill them: a person has to correct them there."""
    pending_lines: list[int] = field(default_factory=list[int])
    """The numbers of the first of those lines."""
    billed: dict[str, Billed] = field(default_factory=dict[str, Billed])
    """By type of signal."""
    refused: dict[str, Refusals] = field(default_factory=dict[str, Refusals])
    """By kind of reason."""

    @property
    def lines_refused(self) -> int:
        """The number of refused lines."""
        return sum(refusals.lines for refusals in self.refused.values())

    def __str__(self) -> str:
        pending = f"{self.pending:,} pending, " if self.pending else ""
        return f"{self.delivered:,} delivered, {pending}{self.lines_refused:,} refused"

    def add_delivered(self, signal: Signal, result: TrackResult, *, is_repeat: bool = False) -> None:
        """Count a delivered signal; `is_repeat`: it was billed by an earlier run, or by an earlier line."""
        self.delivered += 1
        if is_repeat:
            self.billed_before += 1
        elif result.usage_log is None:
            self.unpriced += 1
        else:
            self.billed.setdefault(signal.type, Billed()).add(result.usage_log)

    def add_pending(self, number: int) -> None:
        """Count a line that the server took and could not bill."""
        self.pending += 1
        if len(self.pending_lines) < MAX_PENDING_SHOWN:
            self.pending_lines.append(number)

    def add_refused(self, error: ClockNextError) -> None:
        """Count a refused line."""
        self.refused.setdefault(kind_of(error), Refusals(_example(error))).lines += 1

    def billed_table(self) -> Table:
        """Return the table of billed signals, by type of signal."""
        table = Table("Billed", title="Delivered signals", title_justify="left")
        for heading in BILLED_HEADINGS:
            table.add_column(heading, justify="right")
        *rows, total = billed_rows({(name,): billed for name, billed in self.billed.items()}, self.unpriced)
        for row in rows:
            table.add_row(*row)
        if self.unpriced:
            table.add_row("priced later", f"{self.unpriced:,}")
        table.add_section()
        table.add_row(*total)
        return table

    def pending_text(self) -> str:
        """Return which lines are pending, in a sentence."""
        numbers = ", ".join(map(str, self.pending_lines))
        more = self.pending - len(self.pending_lines)
        lines = f"{'Line' if self.pending == 1 else 'Lines'} {numbers}" + (
            f" and {more:,} more" if more else ""
        )
        return f"{lines} PENDING: the service took them but could not bill them; correct them there."

    def refused_table(self) -> Table:
        """Return the table of refused lines, by kind of reason."""
        table = Table("Reason", title="Refused lines", title_justify="left")
        table.add_column("Lines", justify="right")
        table.add_column("For example", overflow="fold")
        for name, refusals in sorted(self.refused.items()):
            table.add_row(name, f"{refusals.lines:,}", Text(refusals.example))
        return table


def kind_of(error: ClockNextError) -> str:
    """Return the kind of an error, such as `PlanError 422`. There are few, so they can be counted."""
    return type(error).__name__ + ("" if error.status is None else f" {error.status}")


def describe(error: ClockNextError) -> str:
    """Return in a sentence what went wrong, fit for a terminal."""
    said = error.message.rstrip(".")
    return printable(f"{kind_of(error)}: {said}{'' if said.endswith('?') else '.'}")


def billed_rows(rows: Mapping[tuple[str, ...], Billed], unpriced: int = 0) -> list[list[str]]:
    """Return sums as rows of a table, sorted by their labels, and a last row with the total.

    Args:
        rows: Sums by their labels, which are the first cells of a row; the others are `BILLED_HEADINGS`.
        unpriced: Number of signals that are in no row and count in the total.
    """
    total = Billed(unpriced)
    written: list[list[str]] = []
    for labels, billed in sorted(rows.items(), key=lambda row: row[0]):
        total.include(billed)
        written.append([*labels, *billed.cells()])
    others = len(next(iter(rows), ("",))) - 1
    return [*written, ["total", *[""] * others, *total.cells()]]


def _count(value: object) -> int:
    # The type is the documented one; a server may send another.
    return value if isinstance(value, int) else 0


def _example(error: ClockNextError) -> str:
    return shortened(printable(error.message[: 2 * _MAX_EXAMPLE]), _MAX_EXAMPLE)
