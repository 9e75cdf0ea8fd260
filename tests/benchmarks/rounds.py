"""How contestants are compared: they take turns, round by round, and each ratio is of one round.

What they meet from outside (a busy machine, a clock that is turned down) they then meet together. The figure
that counts is the median over the rounds.
"""

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal, NamedTuple, TypeAlias

Unit: TypeAlias = Literal["µs", "ms", "s", "KiB", "wake-ups", "signals"]


class Figure(NamedTuple):
    """What a contestant took in one round."""

    value: float
    """Seconds of wall clock, for a piece or in all; or whatever else the unit says."""
    cpu: float = math.nan
    """The same in CPU seconds of this process, where that says anything."""


Contestant: TypeAlias = Callable[[], Mapping[str, Figure]]
"""Runs for one round and returns its figures by name: the same names in every round."""
Figures: TypeAlias = Mapping[str, Sequence[Figure]]
"""The figures of all rounds, by name."""


class Stopwatch:
    """Takes the time, from when it is made. Garbage of what came before is collected first."""

    def __init__(self) -> None:
        gc.collect()
        self._cpu = time.process_time()
        self._wall = time.perf_counter()

    def per(self, pieces: int) -> Figure:
        """Stop, and return what one of so many pieces took."""
        wall = time.perf_counter() - self._wall
        return Figure(wall / pieces, (time.process_time() - self._cpu) / pieces)


def single(name: str, run: Callable[[], Figure]) -> Contestant:
    """Make a contestant that has one figure."""
    return lambda: {name: run()}


def alternate(contestants: Sequence[Contestant], rounds: int, *, warm_up: bool = True) -> Figures:
    """Have each contestant run once in every round, every other round in reverse.

    Args:
        contestants: Who takes turns.
        rounds: How many rounds count.
        warm_up: Whether there is one more before them, which does not.
    """
    figures: dict[str, list[Figure]] = {}
    unheeded = 1 if warm_up else 0
    for number in range(unheeded + rounds):
        for contestant in contestants if number % 2 == 0 else reversed(contestants):
            for name, figure in contestant().items():
                kept = figures.setdefault(name, [])
                if number >= unheeded:
                    kept.append(figure)
    return figures


class Spread(NamedTuple):
    """The middle and the ends of some figures."""

    median: float
    lowest: float
    highest: float


def spread(values: Sequence[float]) -> Spread:
    """Sum figures up."""
    return Spread(median(values), min(values), max(values))


@dataclass(frozen=True)
class Claim:
    """What a figure of ours should be.

    Give `most` or `least`, or neither where the ratio is only told.
    """

    ours: str
    theirs: tuple[str, ...] = ()
    """Whom it is compared with: in each round the best of these. Without any, the figure itself counts."""
    most: float | None = None
    """Most times what they take."""
    least: float | None = None
    """Least times as many in the same time."""
    theirs_is: str = ""
    """What those are together, where they are several, or have no good name."""
    floor: str = ""
    """Whose figure is first taken off ours: what any of its kind takes. The claim is then about the rest."""
    is_by_cpu: bool = False
    """Whether `most` or `least` is about the CPU's time, not about the clock's."""

    @property
    def text(self) -> str:
        """What is compared with what."""
        theirs = self.theirs_is or ", ".join(self.theirs)
        ours = f"({self.ours} - {self.floor})" if self.floor else self.ours
        return f"{ours} / {theirs}" if theirs else ours

    @property
    def target(self) -> str:
        """What it should be, for people."""
        what = " by CPU" if self.is_by_cpu else ""
        if self.most is not None:
            return f"≤ {self.most:g}{what}"
        return "" if self.least is None else f"≥ {self.least:g}{what}"

    def can_be_told(self, figures: Figures) -> bool:
        """Whether everyone it is about has taken part."""
        return all(figures.get(name) for name in (self.ours, *self.theirs, self.floor or self.ours))

    def ratios(self, figures: Figures, *, by_cpu: bool = False) -> list[float]:
        """Return the ratio of each round, of wall clock or of CPU time."""

        def seconds(name: str) -> list[float]:
            return [figure.cpu if by_cpu else figure.value for figure in figures[name]]

        ours = seconds(self.ours)
        if self.floor:
            ours = [us - least for us, least in zip(ours, seconds(self.floor), strict=True)]
        if not self.theirs:
            return ours
        best = map(min, zip(*map(seconds, self.theirs), strict=True))
        pairs = zip(ours, best, strict=True)
        return [them / us if self.least is not None else us / them for us, them in pairs]

    def is_met(self, figures: Figures) -> bool | None:
        """Tell whether the median is as it should be; `None` where nothing is asked of it."""
        ratio = median(self.ratios(figures, by_cpu=self.is_by_cpu))
        if self.most is not None:
            return ratio <= self.most
        return None if self.least is None else ratio >= self.least


@dataclass(frozen=True)
class Result:
    """What one benchmark measured."""

    title: str
    unit: Unit
    figures: Figures
    claims: Sequence[Claim] = ()
    notes: Sequence[str] = field(default_factory=list[str])
    """What else there is to say, such as who could not take part."""
