"""The monotonic clock, also where a test has replaced `time.monotonic`, as freezegun does.

What waits, waits in real time. With a clock that stands still beside it no time-out would ever be over.
"""

import time

_kept = (time.monotonic,)  # not a name of the module: those are replaced as well


def monotonic() -> float:
    """Return the time in seconds; only differences mean anything."""
    return _kept[0]()
