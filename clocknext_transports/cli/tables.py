"""The output of commands: tables with lines on a terminal, aligned text elsewhere, JSON for machines.

All text from a server, an input file or a file's name goes through `printable` before it is printed: it could
move the cursor, hide text, or make the terminal do something.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeAlias, cast

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from clocknext_core.text import printable
from clocknext_transports.cli.decorator import Decorator

Justify: TypeAlias = Literal["left", "right"]

json_option: Decorator = click.option(
    "--json", "as_json", is_flag=True, help="What the service answered, as JSON."
)

_LEAST_WIDTH = 12
"""Cells that a column of texts keeps, unless it needs less."""


@dataclass(frozen=True, slots=True)
class Table:
    """Headings over rows of cells; cells are made with `cell`."""

    columns: Mapping[str, Justify]
    """How each column is justified, by its heading."""
    rows: Sequence[Sequence[str]]
    title: str = ""
    has_total: bool = False
    """Whether the last row is the sum of the others."""

    def framed(self, width: int) -> RichTable | None:
        """Return it for a terminal of this width in cells, texts folded; `None` if that is too narrow."""
        framed = RichTable(title=self.title or None, title_justify="left")
        needed = 1
        for (heading, justify), full in zip(self.columns.items(), self._widths(), strict=True):
            least = full if justify == "right" else min(full, _LEAST_WIDTH)
            needed += least + 3  # a blank on either side, and a line
            framed.add_column(heading, justify=justify, overflow="fold", min_width=least)
        for number, row in enumerate(self.rows, 1):
            if self.has_total and number == len(self.rows):
                framed.add_section()
            framed.add_row(*map(Text, row))
        return framed if needed <= width else None

    def aligned(self) -> str:
        """Return it for a file or another program: a line for each row, columns two blanks apart, uncut."""
        widths = self._widths()
        text = [
            "  ".join(
                _pad(one, width, justify)
                for one, width, justify in zip(line, widths, self.columns.values(), strict=True)
            ).rstrip()
            for line in ([*self.columns], *self.rows)
        ]
        return "\n".join([self.title, *text] if self.title else text)

    def _widths(self) -> list[int]:
        return [max(map(cell_len, column)) for column in zip(self.columns, *self.rows, strict=True)]


def show(*tables: Table) -> None:
    """Print tables on stdout, a blank line between them."""
    console = Console()
    for number, table in enumerate(tables):
        if number:
            click.echo()
        framed = table.framed(console.width) if console.is_terminal else None
        if framed is None:
            click.echo(table.aligned())
        else:
            console.print(framed)


def say(text: str, *, err: bool = False) -> None:
    """Print one line on stdout, or on stderr."""
    click.echo(printable(text), err=err)


def print_json(value: object) -> None:
    """Print one JSON document on stdout. In ASCII, which every locale and terminal can show."""
    click.echo(_json(value, indent=2))


def print_json_line(value: object) -> None:
    """Print one line of JSON Lines on stdout."""
    click.echo(_json(value))


def fields_table(payload: Mapping[str, object], title: str = "") -> Table:
    """Return a table with a row for each field that is not `null`; those of an object are `outer.inner`."""
    rows: list[tuple[str, str]] = []
    for name, value in payload.items():
        if isinstance(value, dict):
            nested = cast("dict[str, object]", value)
            rows += [(f"{name}.{inner}", cell(one)) for inner, one in nested.items() if one is not None]
        elif value is not None:
            rows.append((name, cell(value)))
    return Table(
        {"Field": "left", "Value": "left"}, [(printable(name), shown) for name, shown in rows], title
    )


def cell(value: object) -> str:
    """Return a value of a payload, of any type, as one line. `None` is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{Decimal(str(value)):,f}".removesuffix(".0")
    return printable(value if isinstance(value, str) else _json(value))


def _json(value: object, *, indent: int | None = None) -> str:
    try:
        return json.dumps(value, indent=indent)
    except RecursionError:
        return json.dumps("(nested too deeply to be shown)")


def _pad(text: str, width: int, justify: Justify) -> str:
    blanks = " " * (width - cell_len(text))
    return blanks + text if justify == "right" else text + blanks
