"""The gate of the host: when an attempt may start, and how many at once, by what the service shows.

    open        as many attempts at once as the policy allows
    paused      none: a Retry-After lasts, or the service is down and the next probe is not due
    probing     one, to see whether the service is back
    ramping     one more at once for each answer that shows it working, until the gate is open

A Retry-After pauses it, on whatever status it comes: it speaks for the host. So does an outage, which is
`OUTAGE_AFTER` failures of the service in a row and no working answer between them. A few failures among
many answers are no outage, and delay no signal. Each failed probe makes the next pause longer, by the
back-off.

An attempt that started before the gate closed tells nothing new of the service when it fails: five
connections that break at the same time are one event, and count as one.
"""

from typing import Literal, TypeAlias

from clocknext_core.backoff import RandomSource, backoff_delay
from clocknext_core.concurrency import Concurrency
from clocknext_core.config import Config
from clocknext_core.verdicts import Verdict

OUTAGE_AFTER = 5
"""Failures of the service in a row that make an outage: as many as there are attempts at once by default."""

GateState: TypeAlias = Literal["open", "paused", "probing", "ramping"]


class Gate:
    """When the next attempt may start, and how many may be in flight.

    Args:
        config: `max_concurrency` is its full width; with `outage="drop"` only a Retry-After pauses it.
    """

    def __init__(self, config: Config) -> None:
        self._policy = config.retry
        self._most = config.batch.most_concurrency
        self._sees_outages = config.batch.outage == "hold"
        self._concurrency = Concurrency() if config.batch.max_concurrency == "auto" else None
        self._ramp = self._most
        """How many attempts may be in flight as far as the gate opens; `_most`: it is open."""
        self.width: int = self._allowed
        """How many attempts may be in flight."""
        self.paused_until: float = float("-inf")
        """The latest Retry-After: nothing at all is sent before, no awaited call either."""
        self.opens_at: float = float("-inf")
        """No buffered signal is sent before: the pause with its jitter, or the time of the next probe."""
        self.worked: int = 0
        """How many answers showed the service working."""
        self.failed_probes: int = 0
        """Probes that failed, in all outages."""
        self.came_at: float = float("inf")
        """When the first answer since the outbox was last polled was handled.

        An event loop handles all answers that have come before it polls again. Those behind the first have
        waited for the others in this process: that time is not the service's.
        """
        self._closed_at = float("-inf")
        self._failures = 0

    @property
    def is_outage(self) -> bool:
        """Whether the service is down, as far as is known; never with `outage="drop"`."""
        return self._sees_outages and self._failures >= OUTAGE_AFTER

    def state(self, now: float) -> GateState:
        """Name the state it is in."""
        if now < self.opens_at:
            return "paused"
        if self._ramp == self._most and not self.is_outage:
            return "open"
        return "probing" if self.width == 1 else "ramping"

    def pause(self, seconds: float, rng: RandomSource, *, now: float) -> None:
        """Take a Retry-After, in seconds from now; `rng` is for the jitter.

        Jitter only adds to it, an eighth of it at most: clients that were sent away together should not
        come back together.
        """
        if seconds > 0:
            self.paused_until = max(self.paused_until, now + seconds)
            jitter = rng.random() * min(seconds / 8, self._policy.max_delay)
            self._close(now + seconds + jitter, now)

    def observe(
        self, verdict: Verdict, rng: RandomSource, *, sent_at: float, now: float, others: int = 0
    ) -> None:
        """Take what an attempt showed of the service.

        Args:
            verdict: What it showed.
            rng: For the jitter.
            sent_at: When the attempt began.
            now: The time.
            others: How many other attempts are in flight.
        """
        if self._concurrency is not None:
            came_at = min(now, self.came_at)
            self._feed(self._concurrency, verdict, sent_at=sent_at, now=came_at, others=others)
        is_news = sent_at >= self._closed_at
        if verdict is Verdict.WORKS:
            self.worked += 1
            self._failures = 0
            if is_news and self._ramp < self._most:
                self._ramp = self._ramp + 1 if self._ramp + 1 < self._allowed else self._most
        elif is_news:
            self.failed_probes += self.is_outage
            self._failures += 1
            if self.is_outage:
                delay = backoff_delay(self._failures - OUTAGE_AFTER + 1, self._policy, rng)
                self._close(now + delay, now)
        self.width = min(self._ramp, self._allowed)

    @property
    def _allowed(self) -> int:
        """How many attempts may be in flight while the gate is open."""
        return self._most if self._concurrency is None else self._concurrency.width

    def _feed(
        self, concurrency: Concurrency, verdict: Verdict, *, sent_at: float, now: float, others: int
    ) -> None:
        if verdict is Verdict.WORKS:
            concurrency.handle_answer(sent_at=sent_at, now=now, is_used=others + 1 >= self.width)
        elif verdict is Verdict.BUSY or verdict is Verdict.DOWN:
            is_rate = verdict is Verdict.BUSY
            concurrency.handle_refusal(sent_at=sent_at, now=now, opened_at=self.opens_at, is_rate=is_rate)

    def _close(self, until: float, now: float) -> None:
        self.opens_at = max(self.opens_at, until)
        self.width = self._ramp = 1
        self._closed_at = now
