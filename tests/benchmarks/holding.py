"""Holding: what one signal more costs where many are held, and what memory each takes."""

import json
import subprocess
from contextlib import ExitStack
from functools import partial

from tests.benchmarks.processes import ask, child_command, output_of, read_line, running
from tests.benchmarks.rounds import Claim, Contestant, Figure, Result, alternate, single
from tests.benchmarks.setting import Setting

STEPS = ("record", "poll", "handle_answer")
HELD = (100, 1000, 10_000, 100_000, 1_000_000)
LARGEST_BATCH = 500


def measure_cost(setting: Setting) -> Result:
    """Measure each step of a signal. Each number of signals is held by a process of its own."""
    held = HELD[:3] if setting.is_quick else HELD
    notes: list[str] = []
    with ExitStack() as stack:
        contestants: list[Contestant] = []
        for count in held:
            batch = min(LARGEST_BATCH, count // 2)
            batches = max(1, setting.pieces(10_000) // batch)
            command = child_command("hold", str(count), str(batch), str(batches))
            process = stack.enter_context(running(command))
            filling = json.loads(read_line(process))["filling"]
            notes.append(f"Filling it with {count:,}: {filling * 1e6:.1f} µs a signal, encoding included.")
            contestants.append(partial(_steps, process, count))
        figures = alternate(contestants, setting.rounds)
    most, least = held[-1], 1000
    claims = [Claim(_name(step, most), (_name(step, least),), most=1.2) for step in STEPS]
    return Result("Steps of one signal in the core, by signals held", "µs", figures, claims, notes)


def cost_series() -> dict[str, dict[int, str]]:
    """Return which figures make which curve: by signals held."""
    return {step: {held: _name(step, held) for held in HELD} for step in STEPS}


def measure_memory(setting: Setting) -> Result:
    """Measure how the memory of a process grows with the signals it holds."""
    command = child_command("weigh", str(setting.pieces(50_000)))

    def weigh() -> Figure:
        return Figure(float(output_of(command)))

    name = "memory of a held signal"
    figures = alternate([single(name, weigh)], setting.rounds, warm_up=False)
    return Result("Memory", "KiB", figures, [Claim(name, most=1.2)])


def _name(step: str, held: int) -> str:
    return f"{step}, {held:,} held"


def _steps(process: "subprocess.Popen[str]", held: int) -> dict[str, Figure]:
    seconds: dict[str, float] = json.loads(ask(process))
    return {_name(step, held): Figure(spent) for step, spent in seconds.items()}
