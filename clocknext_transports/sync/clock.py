"""The clock of the thread driver: all it knows of time, in one place, so that a test can replace it."""

import threading
import time


class Clock:
    """Monotonic time, and waiting for it."""

    def now(self) -> float:
        """Return the time in seconds; only differences mean anything."""
        return time.monotonic()

    def sleep_until(self, at: float) -> None:
        """Block the calling thread until then."""
        time.sleep(max(0.0, at - self.now()))

    def wait_until(self, condition: threading.Condition, at: float | None) -> None:
        """Wait to be notified, at most until then (`None`: for ever). The condition's lock is held."""
        condition.wait(None if at is None else max(0.0, at - self.now()))
