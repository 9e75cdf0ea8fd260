"""What every benchmark is told."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tests.benchmarks.rounds import Result
from tests.benchmarks.servers import Server

QUICK = 20
"""By how much there is less of everything in a quick run."""


@dataclass(frozen=True)
class Setting:
    """Against which server, how often, how much."""

    server: Server
    """Answers everything alike."""
    rounds: int
    is_quick: bool = False
    official: Path | None = None
    """The official client's bundle for Node, where there is one to compare with."""

    def pieces(self, usual: int) -> int:
        """Return how many of something to measure."""
        return max(2, usual // QUICK) if self.is_quick else usual


Benchmark: TypeAlias = Callable[[Setting], Result]
