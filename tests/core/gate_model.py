"""The gate and the retry budget, said once more: what an outbox's model holds them against.

It predicts all but the jitter. Of that it knows the bounds, and once it has been told when the gate opens,
and found it within them, it goes by that.
"""

from typing import Literal, TypeAlias

from clocknext_core import Answer, Config, Failure

NEVER = float("-inf")

Health: TypeAlias = Literal["works", "busy", "down", "unclear"]


def health_of(answer: Answer, verdict: str) -> Health:
    """Tell what an answer says of the service.

    Args:
        answer: The answer.
        verdict: What it does to the signal: it ends it, or it is to be repeated, or it is not the API's.
    """
    if isinstance(answer, Failure) or answer.status in (408, 502, 503, 504) or verdict == "misdirected":
        return "down"
    if answer.status == 429:
        return "busy"
    if verdict == "retry" and answer.status < 300:
        return "down"
    return "works" if verdict != "retry" or answer.status == 409 else "unclear"


class GateBook:
    """What is known of the host.

    Args:
        config: The client's configuration.
    """

    def __init__(self, config: Config) -> None:
        self._retry = config.retry
        self._is_holding = config.batch.outage == "hold"
        self._full = config.batch.most_concurrency
        self.width = self._full
        self.paused_until = NEVER
        self.opens_at = NEVER
        self.worked = 0
        """Answers that showed the service working."""
        self.outages = 0
        """First attempts that failed as a probe."""
        self.tokens = 500
        self.loans = 0
        self._latest = NEVER
        self._closed_at = NEVER
        self._failures = 0

    @property
    def is_outage(self) -> bool:
        """Whether five attempts failed in a row, and none of them by the signal's fault."""
        return self._is_holding and self._failures >= 5

    def counts_against_signal(self, health: Health, *, worked: int) -> bool:
        """Tell whether a failed attempt is one of the signal's own, which are bounded.

        Args:
            health: What it said of the service.
            worked: How many answers had shown the service working when the signal was recorded, or
                failed last.
        """
        if not self._is_holding or health == "works":
            return True
        return health == "unclear" and self.worked > worked

    def observe(
        self,
        health: Health,
        retry_after: float | None,
        *,
        sent_at: float,
        price: int,
        now: float,
        is_first: bool = False,
    ) -> None:
        """Take what an attempt showed."""
        is_news = sent_at >= self._closed_at
        if health == "works":
            self._failures = 0
            self.worked += 1
            self.tokens = min(500, self.tokens + max(price, 1))
            if is_news:
                self.width = min(self.width + 1, self._full)
        elif is_news:
            self.outages += self.is_outage and is_first
            self._failures += 1
            if self.is_outage:
                ceiling = min(self._retry.base_delay * 2 ** (self._failures - 5), self._retry.max_delay)
                self._close(now, ceiling / 2, ceiling)
        self.pause(retry_after, now=now)

    def pause(self, retry_after: float | None, *, now: float) -> None:
        """Take a Retry-After."""
        if retry_after is not None and retry_after > 0:
            self.paused_until = max(self.paused_until, now + retry_after)
            self._close(now, retry_after, retry_after + min(retry_after / 8, self._retry.max_delay))

    def _close(self, now: float, least: float, most: float) -> None:
        self.opens_at = max(self.opens_at, now + least)
        self._latest = max(self._latest, now + most)
        self.width, self._closed_at = 1, now

    def learn(self, opens_at: float, width: int) -> None:
        """Hold the real gate against what it may be, and go by it from then on."""
        assert self.opens_at <= opens_at <= self._latest
        assert width == self.width
        self.opens_at = self._latest = opens_at

    def can_repeat(self, price: int) -> bool:
        """Tell whether a repeat may go out, as far as the budget goes."""
        return self.tokens >= price or not self.loans

    def pay(self, price: int) -> bool:
        """Pay for a repeat; `False`: it goes out on loan."""
        assert self.can_repeat(price), "more repeats than the budget allows"
        is_paid = self.tokens >= price
        if is_paid:
            self.tokens -= price
        else:
            self.loans += 1
        return is_paid
