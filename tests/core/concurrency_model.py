"""The limit of attempts at once as its documentation says it, to compare with: slow, and in lists."""

import math
from dataclasses import dataclass, field
from statistics import fmean, pvariance

from clocknext_core import concurrency as rules


@dataclass
class Cut:
    """A cut by a refusal: when, from which limit, and by how much."""

    at: float
    ceiling: float
    depth: float


@dataclass
class Model:
    """What the limit is after each answer."""

    limit: float = 5.0
    width: int = 5
    phase: float = 0.0
    opening: int = rules.UNHEEDED
    share: float = 0.0
    since: float | None = None
    window: list[float] = field(default_factory=list[float])
    judged_at_length: int = 10
    met: bool = False
    base: float | None = None
    judged: float | None = None
    base_seen: float | None = None
    patience: float = 1.0
    looking_from: float | None = None
    cut: Cut | None = None

    def answered(self, sent_at: float, now: float, *, met: bool) -> None:
        self.share = 0.99 * self.share
        if self.opening > 0:
            self.opening -= 1
            self.since = now
        elif self.since is None or sent_at >= self.since:
            self.window.append(math.log(now - sent_at))
            self.met = self.met or met
            if len(self.window) >= self.judged_at_length:
                met, self.met = self.met, False
                self.judge(now, met=met)
        self.phase = math.fmod(self.phase + 2 / (1 + math.sqrt(5)), 1.0)
        self.width = math.floor(self.limit + self.phase)

    def refused(self, sent_at: float, now: float, *, opened_at: float, is_rate: bool) -> None:
        self.share = 0.99 * self.share + 0.01
        if not is_rate and self.share <= 0.1:
            return
        if self.cut is not None and sent_at < self.cut.at + 1.0:
            return
        again = self.cut is not None and now < self.cut.at + 2.0
        again = again or (self.cut is not None and now < opened_at + 2.0)
        before = self.limit
        self.looking_from = None
        self.change(before * (0.65 if again else 0.9), now)
        self.cut = Cut(now, before, max(1.0, before - self.limit))

    def judge(self, now: float, *, met: bool) -> None:
        self.judged_at_length += max(10, math.floor(self.limit))
        mean = fmean(self.window)
        doubt = 3.0 * math.sqrt(pvariance(self.window) / len(self.window))
        is_sure = doubt <= 0.25 or len(self.window) >= 200
        if self.base is not None and self.judged is not None:
            self.base += 0.002 * (now - self.judged)
        self.judged = now
        if is_sure and (self.base is None or mean + doubt <= self.base + 0.05):
            self.base = mean + doubt if self.base is None else min(self.base, mean + doubt)
            self.base_seen = now
        if self.looking_from is not None:
            self.base_seen = now
            before, self.looking_from = self.looking_from, None
            self.change(before, now)
            return
        excess = -math.inf if self.base is None else mean - self.base - math.log(1.15)
        if excess > (0.0 if is_sure else doubt) and self.limit > 5:
            self.change(max(5.0, self.limit / 2, self.limit / math.exp(excess) + 1.5), now)
        elif excess <= 0.0 and met:
            self.limit = max(self.limit, min(self.limit + 1.5, self.bound(now), 64.0))
        if is_sure:
            self.begin()
        unseen = math.inf if self.base_seen is None else now - self.base_seen
        if met and self.limit > 5 and unseen > self.patience:
            self.patience = min(10.0, 2 * self.patience)
            self.looking_from = self.limit
            self.change(self.limit / 4, now)

    def bound(self, now: float) -> float:
        if self.cut is None:
            return 64.0
        return self.cut.ceiling + self.cut.depth * ((now - self.cut.at - 45.0) / 45.0) ** 3

    def change(self, limit: float, now: float) -> None:
        self.limit = min(64.0, max(1.0, limit))
        self.width = math.floor(self.limit + self.phase)
        self.since = now
        self.begin()

    def begin(self) -> None:
        self.window = []
        self.judged_at_length = max(10, math.floor(self.limit))
