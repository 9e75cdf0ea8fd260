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
        self._since: float | None = None
        """When the number began to grow; `None`: it does not."""
        self._held = 0
        self._recorded = 0
        self._delivered = 0

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
            self._since = None
        elif self._since is None:
            self._since, self._recorded, self._delivered = now, recorded, delivered
        elif now - self._since >= OVER:
            self.looks_at = math.inf
            return FallingBehind(
                held,
                now - self._since,
                recorded - self._recorded,
                delivered - self._delivered,
                self._max_concurrency,
            )
        return None
