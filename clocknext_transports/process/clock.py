"""The monotonic clock, also where a test has replaced `time.monotonic`, as freezegun does.

What waits, waits in real time. With a clock that stands still beside it no time-out would ever be over.
"""

import time
from collections.abc import Callable
from functools import partial

monotonic: Callable[[], float] = partial(time.monotonic)  # the function itself would be replaced here too
"""Returns the time in seconds; only differences mean anything."""

MAX_WAIT = 86400.0
"""Most seconds of one wait: the system's calls count in milliseconds, and overflow beyond some weeks."""
