"""The events of the page: what has changed since the last one, as the stream of an EventSource."""

import json
from collections.abc import Callable, Mapping

from clocknext_transports.emulator.page.view import View

_RETRY = "retry: 1000\n"
"""Has a page that lost the server try again after a second."""
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


class Feed:
    """What one page has seen, and what comes next.

    Args:
        view: What the page shows.
        around: Returns what belongs to the page and not to the ledger: the server's id, its faults.
    """

    def __init__(self, view: View, around: Callable[[], Mapping[str, object]]) -> None:
        self._view = view
        self._around = around
        self._seen = 0
        self._epoch: int | None = None
        self._around_seen: Mapping[str, object] | None = None

    def take(self) -> bytes:
        """Return the next event; nothing where nothing has changed."""
        self._view.update()
        around = self._around()
        is_full = self._epoch != self._view.epoch
        if not is_full and self._seen == self._view.change and around == self._around_seen:
            return b""
        changed = self._view.since(0 if is_full else self._seen)
        self._seen, self._epoch, self._around_seen = self._view.change, self._view.epoch, around
        event = _ENCODER.encode({"full": is_full, **around, **changed})
        retry = _RETRY if is_full else ""
        return f"{retry}data: {event}\n\n".encode()
