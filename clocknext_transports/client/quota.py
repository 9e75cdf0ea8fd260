"""How many log records of a kind are written at their level: many failures must not make many lines."""

import math
from collections.abc import Callable, Mapping


class Quota:
    """Admits the first records of each kind in a time, and counts the others.

    Several threads may ask at once: then a record too many may be admitted.

    Args:
        most: How many of a kind are admitted in a window.
        window: Its length in seconds. It begins with the first record, and again with the first after it.
        clock: Returns seconds; only differences mean anything.
    """

    def __init__(self, most: int, window: float, clock: Callable[[], float]) -> None:
        self._most = most
        self._window = window
        self._clock = clock
        self._begun: dict[str, float] = {}
        self._admitted: dict[str, int] = {}
        self._left_out: dict[str, int] = {}

    def admit(self, kind: str) -> bool:
        """Return whether a record of this kind is to be written at its level; else count it."""
        now = self._clock()
        if now - self._begun.get(kind, -math.inf) >= self._window:
            self._begun[kind] = now
            self._admitted[kind] = 0
        if self._admitted[kind] < self._most:
            self._admitted[kind] += 1
            return True
        self._left_out[kind] = self._left_out.get(kind, 0) + 1
        return False

    def take_left_out(self, kind: str) -> int:
        """Return how many records of a kind were left out since the last time."""
        return self._left_out.pop(kind, 0)

    def take_all_left_out(self) -> Mapping[str, int]:
        """Return how many records of each kind were left out since the last time."""
        taken, self._left_out = self._left_out, {}
        return taken
