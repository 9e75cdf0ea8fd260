"""Notices when more is recorded than `max_concurrency` lets through, while the service is well. Pure."""

import math

from clocknext_core.outputs import FallingBehind

OVER = 60.0
"""Seconds for which the number of held signals grows before it is reported."""
LOOK_EVERY = 10.0
"""Seconds between two looks; at each of them more must be held than at the one before."""


class Backlog:
    """Follows the number of held signals. It reports once.

    Args:
        max_concurrency: Most attempts in flight at once.
    """

    def __init__(self, max_concurrency: int) -> None:
        self._max_concurrency = max_concurrency
        self.looks_at: float = -math.inf
        """When `observe` is to be called next: after the first delivery from then on."""
        self._held = 0
        self._began: tuple[float, int, int] | None = None
        """When the number began to grow, and the counts of that time; `None`: it does not."""

    def observe(
        self, *, held: int, recorded: int, delivered: int, is_well: bool, now: float
    ) -> FallingBehind | None:
        """Take the counts; return the event when it is time for it.

        Args:
            held: Signals held.
            recorded: Signals recorded so far.
            delivered: Signals delivered so far.
            is_well: Whether the gate is open, and as many attempts were in flight as may be.
            now: The time, in seconds.
        """
        is_growing = is_well and held > self._held
        self._held, self.looks_at = held, now + LOOK_EVERY
        if not is_growing:
            self._began = None
            return None
        since, recorded_before, delivered_before = self._began = self._began or (now, recorded, delivered)
        if now - since < OVER:
            return None
        self.looks_at = math.inf
        return FallingBehind(
            held, now - since, recorded - recorded_before, delivered - delivered_before, self._max_concurrency
        )
