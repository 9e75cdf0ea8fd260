"""Showing results: as tables for people, as JSON for programs."""

import math
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from tests.benchmarks.rounds import Result, Unit, spread

Json: TypeAlias = "str | float | int | bool | list[Json] | dict[str, Json] | None"

_PER_SECOND: Mapping[Unit, float] = {
    "µs": 1e6,
    "ms": 1e3,
    "s": 1.0,
    "KiB": 1.0,
    "wake-ups": 1.0,
    "signals": 1.0,
}
_VERDICTS = {True: "met", False: "MISSED", None: ""}


def as_text(environment: Mapping[str, str], results: Mapping[str, Result]) -> str:
    """Make the tables: the figures of each benchmark, then all ratios with their targets."""
    lines = [f"{name}: {value}" for name, value in environment.items()]
    for name, result in results.items():
        lines += ["", f"{result.title} ({name}), {result.unit}"]
        lines += _table(("", "median", "lowest", "highest", "CPU"), _figure_rows(result))
        lines += [f"  {note}" for note in result.notes]
    lines += ["", "Ratios, median of those of the rounds"]
    rows = [row for result in results.values() for row in _ratio_rows(result)]
    lines += _table(("", "median", "lowest", "highest", "by CPU", "target", ""), rows)
    return "\n".join(lines)


def as_json(environment: Mapping[str, str], results: Mapping[str, Result]) -> Json:
    """Make an object of the same; seconds where the unit is one of time."""
    return {
        "environment": dict(environment),
        "benchmarks": {name: _result_as_json(result) for name, result in results.items()},
    }


def _figure_rows(result: Result) -> Iterable[tuple[str, ...]]:
    scale = _PER_SECOND[result.unit]
    for name, figures in result.figures.items():
        middle = spread([figure.value for figure in figures])
        cpu = spread([figure.cpu for figure in figures]).median
        yield (name, *(_number(value * scale) for value in (*middle, cpu)))


def _ratio_rows(result: Result) -> Iterable[tuple[str, ...]]:
    for claim in result.claims:
        if claim.can_be_told(result.figures):
            middle = spread(claim.ratios(result.figures))
            verdict = _VERDICTS[claim.is_met(result.figures)]
            by_cpu = spread(claim.ratios(result.figures, by_cpu=True)).median if claim.theirs else math.nan
            numbers = ("" if math.isnan(value) else f"{value:.2f}" for value in (*middle, by_cpu))
            yield (claim.text, *numbers, claim.target, verdict)


def _number(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.0f}" if value >= 100 or value == 0 else f"{value:.3g}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    table = [head, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _result_as_json(result: Result) -> Json:
    return {
        "title": result.title,
        "unit": result.unit,
        "figures": {
            name: {
                **spread([figure.value for figure in figures])._asdict(),
                "cpu": None if math.isnan(figures[0].cpu) else spread([each.cpu for each in figures]).median,
                "rounds": [figure.value for figure in figures],
            }
            for name, figures in result.figures.items()
        },
        "ratios": [
            {
                "text": claim.text,
                "ours": claim.ours,
                "theirs": list(claim.theirs),
                **spread(claim.ratios(result.figures))._asdict(),
                "most": claim.most,
                "least": claim.least,
                "met": claim.is_met(result.figures),
            }
            for claim in result.claims
            if claim.can_be_told(result.figures)
        ],
        "notes": list(result.notes),
    }
