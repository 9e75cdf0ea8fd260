"""Saved traces of real runs, replayed through the core of today, line for line.

`threads`, `asyncio` and `trio` were recorded from clients that talked to the emulator over loopback, and
`simulated-…` from seeds of the simulation, whose clocks also go backwards. `python -m tests.traces.record
NAME` records one anew; that is called for only where the core is meant to decide otherwise than before. A
trace from a bug report is put here under a name that says what was wrong, and replayed like the others.
"""

from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent


def saved() -> Sequence[Path]:
    """List the saved traces."""
    return sorted(FOLDER.glob("*.jsonl"))
