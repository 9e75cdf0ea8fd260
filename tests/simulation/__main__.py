"""`python -m tests.simulation --seeds 10000 --processes 2`, or `--seed N` to repeat one."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.simulation.runs import Failed, missing, play, play_many

MAX_SHOWN = 20
"""Failing seeds that are printed: one is enough to begin with."""

SHARE = 100
"""Seeds handed to a process at a time."""


def main() -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser("python -m tests.simulation", description="Run seeds of the simulation.")
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, help="only this one, with the whole traceback if it fails")
    parser.add_argument("--trace", type=Path, help="with --seed: write a trace of the client's core there")
    options = parser.parse_args()
    if options.seed is not None:
        lines: list[str] = []
        try:
            seen = play(options.seed, lines.append if options.trace else None)
        finally:
            if options.trace:
                options.trace.write_text("".join(lines))
        _show(seen)
        return 0
    return _run_many(range(options.first, options.first + options.seeds), options.processes)


def _run_many(seeds: range, processes: int) -> int:
    started_at = time.perf_counter()
    seen: Counter[str] = Counter()
    failures: list[Failed] = []
    shares = [seeds[start : start + SHARE] for start in range(0, len(seeds), SHARE)]
    for some, failed in _play_shares(shares, processes):
        seen += some
        failures += failed
        for each in failed[: max(0, MAX_SHOWN - len(failures) + len(failed))]:
            print(each, flush=True)
    took = time.perf_counter() - started_at
    _show(seen)
    print(f"{len(seeds)} seeds, {len(failures)} failed, {took:.1f} s, {len(seeds) / took:.0f} seeds/s")
    if unseen := missing(seen):
        print(f"proves nothing about what never happened: {', '.join(unseen)}")
    return 1 if failures or unseen else 0


def _play_shares(shares: list[range], processes: int) -> Iterable[tuple[Counter[str], list[Failed]]]:
    if processes == 1:
        yield from map(play_many, shares)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(play_many, shares)


def _show(seen: Counter[str]) -> None:
    for name, times in sorted(seen.items()):
        print(f"{times:10,}  {name}")


if __name__ == "__main__":
    sys.exit(main())
