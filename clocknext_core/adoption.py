"""When to look for signals that dead processes left in the spool.

    due         look as soon as there is room for what is found
    looking     a look is under way
    waiting     look again at a time: the last look found nothing more, or failed
    ended       the outbox has closed, or the spool can't be looked into any more

A look that found signals is followed by another one at once. One that found nothing is repeated every
`LOOK_INTERVAL`, since other processes may die later; one that failed is repeated by `LOOKS`, since the disk
may have been full for a moment. Into a shared spool signals come at any time: there a look that found nothing
is repeated after a random time of up to `SHARED_LOOK_INTERVAL`, and failed ones by `SHARED_LOOKS`.
"""

from enum import StrEnum

from clocknext_core.backoff import RandomSource, backoff_delay
from clocknext_core.config import RetryPolicy

LOOK_INTERVAL = 60.0
"""Seconds between two looks that find nothing."""

LOOKS = RetryPolicy(max_attempts=5, base_delay=0.2, max_delay=LOOK_INTERVAL)
"""How failed looks are repeated. After `max_attempts` failures in a row no flush waits for the next one."""

SHARED_LOOK_INTERVAL = 1.0
"""Most seconds between two looks into a shared spool that find nothing; a fifth of it at least."""

SHARED_LOOKS = RetryPolicy(max_attempts=5, base_delay=0.2, max_delay=5.0)
"""How failed looks into a shared spool are repeated."""

ADOPTED_AT_ONCE = 500
"""Most signals that one look takes over."""


class AdoptionState(StrEnum):
    """Whether to look into the spool."""

    DUE = "due"
    LOOKING = "looking"
    WAITING = "waiting"
    ENDED = "ended"


class Adoption:
    """The looks for what dead processes left behind, each known by its number.

    Args:
        rng: Randomness for the jitter.
        is_shared: Whether other processes use the same spool at the same time.
    """

    def __init__(self, rng: RandomSource, *, is_shared: bool = False) -> None:
        self._rng = rng
        self._is_shared = is_shared
        self._looks = SHARED_LOOKS if is_shared else LOOKS
        self.state: AdoptionState = AdoptionState.DUE
        self.left_behind: int = 0
        """Signals known to be in the spool still, when the last look ended."""
        self.looks_at: float | None = None
        """When the next look is due, while waiting."""
        self._begun = 0
        """The number of the latest look."""
        self._failures = 0
        """Failed looks in a row."""
        self._is_asked_again = False
        """Whether another look was asked for while one was under way."""

    def ask(self) -> int | None:
        """Ask for a look that begins from now on; return its number, or `None` if there is none any more.

        A look that is under way may have passed by what was left behind since it began.
        """
        if self.state is AdoptionState.ENDED:
            return None
        if self.state is AdoptionState.LOOKING:
            self._is_asked_again = True
        else:
            self._look_again_at(None)
        return self._begun + 1

    def is_due(self, now: float) -> bool:
        """Return whether to look now, if there is room for what is found."""
        if self.looks_at is not None and self.looks_at <= now:
            self._look_again_at(None)
        return self.state is AdoptionState.DUE

    def begin(self) -> None:
        """Take note that a look begins."""
        self.state = AdoptionState.LOOKING
        self._begun += 1
        self._is_asked_again = False

    def find(self, *, is_last: bool, left_behind: int, now: float) -> int | None:
        """Take note of what a look found.

        Args:
            is_last: Nothing more is there to be adopted.
            left_behind: Signals known to be there still.
            now: The time.

        Returns:
            The number up to which looks are over; `None`: this one is followed up.
        """
        self.left_behind = left_behind
        self._failures = 0
        if not is_last:
            self._look_again_at(None)
            return None
        self._look_again_at(None if self._is_asked_again else now + self._interval())
        return self._begun

    def fail(self, *, is_final: bool, now: float) -> int | None:
        """Take note that a look failed; `is_final`: so will every other one. Returns as `find` does."""
        if is_final:
            self.end()
            return self._begun + 1
        self._failures += 1
        is_over = self._failures >= self._looks.max_attempts
        delay = backoff_delay(self._failures, self._looks, self._rng)
        self._look_again_at(None if is_over and self._is_asked_again else now + delay)
        return self._begun if is_over else None

    def _interval(self) -> float:
        if not self._is_shared:
            return LOOK_INTERVAL
        return SHARED_LOOK_INTERVAL * (0.2 + 0.8 * self._rng.random())

    def _look_again_at(self, time: float | None) -> None:
        if self.state is not AdoptionState.ENDED:
            self.state = AdoptionState.DUE if time is None else AdoptionState.WAITING
            self.looks_at = time

    def end(self) -> None:
        """Look no more."""
        self.state = AdoptionState.ENDED
        self.looks_at = None
