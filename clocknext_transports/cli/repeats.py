"""Which signals of a run were billed before it: the service answers a repeat with the first result."""

import time
from collections.abc import Callable
from datetime import datetime
from math import inf
from typing import Any

from clocknext_core import Request, Response, UsageLog
from clocknext_core.backoff import http_date
from clocknext_core.messages import Answer


class Repeats:
    """Tell a log of this run from one of an earlier run, by the time at which the service recorded it.

    The two clocks are taken to agree, unless the `Date` of the answers shows that they don't. Then the start
    of the run is estimated on the service's clock, rather too early: a repeat may count as new, but nothing
    new as a repeat.

    Args:
        clock: Returns this machine's time, in seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock: Callable[[], float] = clock
        self._began_at = clock()
        self._least, self._most = -inf, inf
        """Bounds of the seconds by which the service's clock is ahead of this machine's."""

    def observe(self, date: str | None, *, sent_at: float, received_at: float) -> None:
        """Take the `Date` of an answer, and when its exchange began and ended."""
        if (second := http_date(date)) is not None:
            self._least = max(self._least, second - received_at)
            self._most = min(self._most, second + 1 - sent_at)

    def includes(self, log: UsageLog) -> bool:
        """Return whether the service had recorded it before the run began."""
        try:
            recorded = datetime.fromisoformat(log.created_at or "")
        except (TypeError, ValueError):
            return False
        ahead = 0 if self._least <= 0 <= self._most else self._least
        return recorded.tzinfo is not None and recorded.timestamp() < self._began_at + ahead

    def watch(self, transport: Any) -> Any:
        """Wrap a transport, to observe its answers."""
        return _Watched(transport, self)


class _Watched:
    """A transport that shows each answer to `Repeats`."""

    def __init__(self, within: Any, repeats: Repeats) -> None:
        self._within = within
        self._repeats = repeats

    def __getattr__(self, name: str) -> Any:
        return getattr(self._within, name)

    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        clock = self._repeats.clock
        sent_at = clock()
        answer: Answer = await self._within.exchange(request, deadline_at=deadline_at)
        if isinstance(answer, Response):
            self._repeats.observe(answer.header("date"), sent_at=sent_at, received_at=clock())
        return answer
