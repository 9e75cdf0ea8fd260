"""The command line: measure, side by side, and show."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from clocknext_core import __version__
from tests.benchmarks import plots
from tests.benchmarks.delivering import concurrency_series
from tests.benchmarks.headlines import draw_headlines
from tests.benchmarks.holding import cost_series
from tests.benchmarks.processes import keeping_bytecode
from tests.benchmarks.report import as_json, as_text
from tests.benchmarks.rounds import Result
from tests.benchmarks.servers import Server, constant_server
from tests.benchmarks.setting import Setting
from tests.benchmarks.suite import BENCHMARKS, FOR_PLOTS

ROUNDS = 7
QUICK_ROUNDS = 2


def main(words: Sequence[str] | None = None) -> int:
    """Carry out a command; return the exit status."""
    every = {**BENCHMARKS, **FOR_PLOTS}
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=every, metavar="NAME", help=", ".join(every))
    parser.add_argument("--quick", action="store_true", help="little of everything: to see that it works")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"default: {ROUNDS}, or {QUICK_ROUNDS}")
    parser.add_argument("--json", action="store_true", help="print JSON and no table")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="write figures and pictures there")
    parser.add_argument("--official", type=Path, metavar="BUNDLE", help="the official client, for Node")
    chosen = parser.parse_args(words)
    names = list(BENCHMARKS) if chosen.only is None else list(dict.fromkeys(chosen.only))
    if chosen.plot is not None:
        names += [name for name in ("held", "concurrency") if name not in names]
    rounds = chosen.rounds or (QUICK_ROUNDS if chosen.quick else ROUNDS)
    before = _load()
    results: dict[str, Result] = {}
    with keeping_bytecode(), constant_server() as server:
        for name in names:
            print(f"{name} …", file=sys.stderr, flush=True)
            results[name] = every[name](Setting(server, rounds, chosen.quick, chosen.official))
    environment = _environment(server, rounds, f"{before} before, {_load()} after")
    shown = as_json(environment, results) if chosen.json else as_text(environment, results)
    print(json.dumps(shown, indent=2) if chosen.json else shown)
    if chosen.plot is not None:
        chosen.plot.mkdir(parents=True, exist_ok=True)
        (chosen.plot / "figures.txt").write_text(as_text(environment, results) + "\n", encoding="utf-8")
        for file, picture in draw_headlines(results).items():
            (chosen.plot / file).write_text(picture, encoding="utf-8")
        write_curves(chosen.plot, results)
    return 0


def write_curves(folder: Path, results: Mapping[str, Result]) -> None:
    """Draw the curves of `held` and of `concurrency`."""
    steps = _medians(results["held"], cost_series())
    steps["all of it"] = {held: sum(curve[held] for curve in steps.values()) for held in steps["record"]}
    cost = plots.draw(
        "µs in the core for one signal",
        "signals held",
        [
            plots.Curve(name, {held: seconds * 1e6 for held, seconds in points.items()}, colour)
            for (name, points), colour in zip(steps.items(), plots.COLOURS, strict=False)
        ],
        base=10,
    )
    (folder / "cost-by-held.svg").write_text(cost, encoding="utf-8")
    drivers = _medians(results["concurrency"], concurrency_series())
    throughput = plots.draw(
        "Signals delivered per second",
        "attempts at once",
        [
            plots.Curve(
                name,
                {width: 1 / seconds for width, seconds in points.items()},
                plots.COLOURS[number // 2],
                is_dashed=number % 2 == 1,
            )
            for number, (name, points) in enumerate(drivers.items())
        ],
        base=2,
    )
    (folder / "throughput-by-concurrency.svg").write_text(throughput, encoding="utf-8")


def _medians(result: Result, series: Mapping[str, Mapping[int, str]]) -> dict[str, dict[int, float]]:
    return {
        curve: {
            place: median(figure.value for figure in result.figures[name])
            for place, name in points.items()
            if name in result.figures
        }
        for curve, points in series.items()
    }


def _environment(server: Server, rounds: int, load: str) -> dict[str, str]:
    return {
        "clocknext": __version__,
        "Python": f"{platform.python_version()}, {platform.system()} on {platform.machine()}",
        "processors": str(os.cpu_count()),
        "load": load,
        "server": server.name,
        "rounds": str(rounds),
    }


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
