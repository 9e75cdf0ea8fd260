"""Idling: how often a process wakes up whose client has nothing to do."""

import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.benchmarks.processes import child_command, read_line, running
from tests.benchmarks.rounds import Claim, Figure, Result, alternate
from tests.benchmarks.setting import Setting

WORLDS = ("threads", "asyncio", "trio")
SETTLING = 0.2
"""Seconds to let what was just done come to rest."""


def measure(setting: Setting) -> Result:
    """Count how often the system has put any thread of such processes on a processor."""
    seconds = 0.3 if setting.is_quick else 3.0
    title = f"Idling for {seconds:g} s after a delivered signal"
    if not Path("/proc/self/task").is_dir():
        return Result(title, "wake-ups", {}, notes=["not measured: the system has no /proc to count them in"])
    with ExitStack() as stack:
        processes = {
            world: stack.enter_context(running(child_command("idle", world, setting.server.url)))
            for world in WORLDS
        }
        for process in processes.values():
            read_line(process)
        time.sleep(SETTLING)
        pids = {world: process.pid for world, process in processes.items()}
        figures = alternate([partial(_watch, pids, seconds)], setting.rounds, warm_up=False)
    return Result(title, "wake-ups", figures, [Claim(_name(world), most=0) for world in WORLDS])


def _name(world: str) -> str:
    return f"wake-ups of an idle client, {world}"


def _watch(pids: dict[str, int], seconds: float) -> dict[str, Figure]:
    before = {world: switches(pid) for world, pid in pids.items()}
    time.sleep(seconds)
    return {_name(world): Figure(switches(pid) - before[world]) for world, pid in pids.items()}


def switches(pid: int) -> int:
    """Count the context switches, voluntary or not, of all threads that a process has."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if "voluntary_ctxt_switches:" in line:
                total += int(line.split()[1])
    return total
