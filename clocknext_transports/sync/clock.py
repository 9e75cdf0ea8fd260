"""The clock of the thread driver: all it knows of time, in one place, so that a test can replace it."""

import threading
import time

from clocknext_transports.process.clock import MAX_WAIT, monotonic


def capped(seconds: float) -> float:
    """Return how long to wait at once: systems refuse very long waits. What waits looks at the time again."""
    return min(max(0.0, seconds), MAX_WAIT)


class Clock:
    """Monotonic time, and waiting for it."""

    def now(self) -> float:
        """Return the time in seconds; only differences mean anything."""
        return monotonic()

    def sleep_until(self, at: float) -> None:
        """Block the calling thread until then."""
        while (left := at - self.now()) > 0:
            time.sleep(capped(left))

    def wait_until(self, condition: threading.Condition, at: float | None) -> None:
        """Wait to be notified, at most until then (`None`: for ever). The condition's lock is held."""
        condition.wait(None if at is None else capped(at - self.now()))
