"""A warning for calls that block an event loop."""

import sys
from typing import Final

from clocknext_transports.process.log import logger

_CLIENTS: Final = {"asyncio": "AsyncClockNext", "trio": "TrioClockNext"}
_warned: list[str] = []
"""The kinds of loop that this process was warned about."""


def warn_in_loop() -> None:
    """Log a warning where the calling thread runs an event loop, once each for asyncio and trio.

    Not in an interactive session: a notebook runs its cells in a loop that has nothing else to do.
    """
    kind = _running_loop()
    if kind is not None and kind not in _warned and not hasattr(sys, "ps1"):
        _warned.append(kind)
        logger.warning(
            "A call of ClockNext waits for its answer in a running event loop of %s, and so does all "
            "else that runs in that loop. Use %s there, or call from a thread. Buffered signals do not wait.",
            kind,
            _CLIENTS[kind],
        )


def _running_loop() -> str | None:
    # A loop runs only where its library was imported already.
    for kind, ask in (("asyncio", "get_running_loop"), ("trio.lowlevel", "current_trio_token")):
        try:
            getattr(sys.modules[kind], ask)()
        except (KeyError, AttributeError, RuntimeError):
            continue
        return kind.partition(".")[0]
    return None
