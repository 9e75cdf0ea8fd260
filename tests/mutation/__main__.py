"""`python -m tests.mutation [MODULE ...]`: the mutants that no test of the core notices.

A module is named by its path below clocknext_core, such as `outbox` or `resources/runs`; without one, all are
mutated. The run fails if a mutant survives that `survivors.toml` does not list.
"""

import argparse
import os
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.mutation.mutants import Mutant, modules, mutants_of
from tests.mutation.runner import (
    LATE,
    SURVIVED,
    UNFIT,
    Measured,
    Verdict,
    in_child,
    measure,
    try_cold,
    try_warm,
)

LIST = Path(__file__).with_name("survivors.toml")

Key = tuple[str, str, str]


def accepted() -> dict[Key, str]:
    """Read the list of survivors that change nothing, and why."""
    reasons: dict[Key, str] = {}
    for group in tomllib.loads(LIST.read_text("utf-8")).get("equivalent", []):
        for mutant in group["mutants"]:
            reasons[mutant["at"], mutant["old"], mutant["new"]] = group["why"]
    return reasons


def judge(mutants: Sequence[Mutant], measured: Measured, processes: int) -> dict[Mutant, Verdict]:
    """Try all mutants."""
    verdicts: dict[Mutant, Verdict] = {}
    in_functions = [each for each in mutants if each.in_function and measured.covering(each)]
    if in_functions:
        found = in_child(lambda: try_warm(in_functions, measured, processes))
        verdicts |= zip(in_functions, found, strict=True)
    anew: list[Mutant] = []
    for mutant in mutants:
        imported = "" in measured.executing(mutant)
        code = verdicts[mutant].code if mutant in verdicts else UNFIT
        if code == UNFIT or (code == SURVIVED and imported):
            anew.append(mutant)
        elif verdicts[mutant].killer:
            measured.killed(mutant, verdicts[mutant].killer)
    print(f"{len(anew)} of them to be imported anew", flush=True)
    verdicts |= try_cold(anew, measured, processes)
    return verdicts


def main() -> int:
    """Run from the command line."""
    known = modules()
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="such as outbox or resources/runs")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="mutants at a time")
    arguments = parser.parse_args()
    chosen: list[str] = arguments.modules or known
    for name in chosen:
        if name not in known:
            parser.error(f"no such module: {name}; there are {', '.join(known)}")

    began = time.monotonic()
    mutants = [mutant for name in chosen for mutant in mutants_of(name)]
    measured = in_child(measure)
    print(f"{len(mutants)} mutants, {len(measured.seconds)} tests", flush=True)
    verdicts = judge(mutants, measured, arguments.processes)

    reasons = accepted()
    survivors = [mutant for mutant in mutants if verdicts[mutant].code == SURVIVED]
    made = Counter(mutant.module for mutant in mutants)
    survived = Counter(mutant.module for mutant in survivors)
    late = Counter(mutant.module for mutant in mutants if verdicts[mutant].code == LATE)
    print(f"\n{'module':24}{'mutants':>9}{'killed':>8}{'by time':>8}{'left':>6}{'%':>8}")
    for name in chosen:
        print(row(name, made[name], survived[name], late[name]))
    print(row("all", made.total(), survived.total(), late.total()))
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")

    unlisted = [mutant for mutant in survivors if mutant.key not in reasons]
    alive = {mutant.key for mutant in survivors}
    gone = [key for key in reasons if key[0].partition(":")[0] in chosen and key not in alive]
    for mutant in unlisted:
        print(f"\nSurvived: {mutant}")
    for place, old, new in gone:
        print(f"\nListed, but killed or no longer made: {place}\n    - {old}\n    + {new}")
    return 1 if unlisted or gone else 0


def row(name: str, made: int, survived: int, late: int) -> str:
    """One line of the table."""
    killed = made - survived
    return f"{name:24}{made:9}{killed:8}{late:8}{survived:6}{100 * killed / max(1, made):8.1f}"


if __name__ == "__main__":
    sys.exit(main())
