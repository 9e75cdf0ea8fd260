"""How many attempts at once a service can take, by its answers: `max_concurrency="auto"`. Pure.

Two signs say that there are too many. Answers take longer, since requests wait for each other in a queue of
the server. Or the server refuses (429, 503) or times out. Without either the limit grows, as long as it is
used. The gate has the last word: while it is paused, probing or ramping, fewer attempts start.

*Latency.* The limit moves as in FAST TCP and Netflix's gradient: with a queue it is multiplied by base over
latency, which would empty the queue, and `REST` is added; without one, `STEP` is added. So it comes to rest
with a short queue, and clients that see the same queue come to rest at the same limit. Additive increase with
multiplicative decrease (TCP Reno) was tried: its limits wander much further. Latency is the mean logarithm of
a window of answers, without the time that answers wait in this process for their turn (`gate`). The quickest
answers alone would hide a queue in which only some requests wait. Its error is estimated from the spread, so
that a service whose latency varies is judged by longer windows, and does not seem to queue by chance. The
base is the quickest window, as in Vegas. Where it was not seen for `MEMORY` seconds, a window is sent with a
quarter of the limit, as BBR does, so that a client that began while others kept the server busy learns it.

Latency alone takes the limit no lower than `START`, as many as clients without "auto" send: a client that
knows how quick the idle service is would otherwise give way to one that only knows the busy service.

*Refusals* cut the limit by a tenth, or by a third where the server refuses again as soon as it is asked.
Answers to attempts sent within `SETTLING` seconds after a cut say nothing new, since servers count by the
second. Then the limit follows the curve of CUBIC (RFC 9438): towards where it was cut, slowly around that
point, faster beyond it. So an unknown limit of the server is passed only every `PERIOD` seconds; plain
additive increase would pass it every second, and each time costs refused attempts or a whole Retry-After.
A 429 speaks of the rate and always counts. 503s and time-outs also happen by chance, and count when they are
more than `CHANCE` of the latest answers.
"""

import math

START = 5
"""Attempts at once in the beginning: as many as by default."""
MOST = 64
"""Most attempts at once."""
WINDOW = 10
"""Fewest answers of a window; at least as many as the limit allows at once."""
LONGEST_WINDOW = 200
"""Answers after which a window is judged however much they vary."""
CERTAINTY = 3.0
"""Standard errors by which the latency of a window may differ from the true one."""
SURE = 0.25
"""Possible error of a window's logarithm, at which it is judged and the next one begins."""
UNHEEDED = 2 * START
"""First answers, which are not judged: their connections were opened."""
TOLERANCE = math.log(1.15)
"""Logarithm of how many times the base a latency may be without being a queue."""
STEP = 1.5
"""What a window without a queue adds to the limit."""
REST = 1.5
"""What a window with a queue adds to the limit, after the cut: attempts that a client keeps queued."""
SAME = 0.05
"""Difference of logarithms up to which a window has seen the base."""
FORGETS = 0.002
"""By how much the logarithm of the base grows each second: it doubles in six minutes."""
MEMORY = 10.0
"""Seconds without the base after which it is looked for; at first a second, then twice as long each time."""
LOOK = 0.25
"""Part of the limit with which the base is looked for."""
REFUSED = 0.9
"""Factor of a cut after a refusal."""
REFUSED_AGAIN = 0.65
"""Factor of a cut within `SOON` seconds after another, or after the pause that followed it."""
SOON = 2.0
SETTLING = 1.0
"""Seconds after a cut in which attempts were sent that say nothing new."""
PERIOD = 45.0
"""Seconds after a cut until the limit is again where it was cut."""
CHANCE = 0.1
"""Share of the latest answers that may be 503s and time-outs by chance."""
LATEST = 100
"""How many answers the latest are."""
_GOLDEN = (math.sqrt(5) - 1) / 2


class Concurrency:
    """The limit of attempts at once, fed with time and answers."""

    def __init__(self) -> None:
        self.limit: float = START
        """Attempts at once, on average."""
        self.width: int = START
        """Attempts at once now: the limit, rounded up or down so often that it is kept on average."""
        self._phase = 0.0
        self._unheeded = UNHEEDED
        self._since = -math.inf
        """Answers to attempts that began before say nothing of the limit as it is now."""
        self._count = 0
        self._sum = self._squares = 0.0
        self._is_used = False
        """Whether the limit was reached since the window was last judged."""
        self._judged_count = WINDOW
        """Number of answers at which the window is judged next."""
        self._judged_at = math.inf
        self._base = math.inf
        self._base_at = -math.inf
        self._patience = 1.0
        self._before_look: float | None = None
        """The limit, while the base is looked for with less."""
        self._failed_share = 0.0
        self._cut_at = -math.inf
        """When a refusal cut the limit last."""
        self._ceiling = math.inf
        """The limit then."""
        self._depth = 0.0

    def handle_answer(self, *, sent_at: float, now: float, is_used: bool) -> None:
        """Take an answer that shows the service working.

        Args:
            sent_at: When the attempt began, in seconds.
            now: When the answer came.
            is_used: Whether as many attempts were in flight as the limit allows. One such answer in a window
                is enough: an event loop handles several answers before it starts attempts in their place.
        """
        self._failed_share -= self._failed_share / LATEST
        if self._unheeded:
            self._unheeded -= 1
            self._since = now
        elif sent_at >= self._since:
            latency = math.log(max(now - sent_at, 1e-6))
            self._count += 1
            self._sum += latency
            self._squares += latency * latency
            self._is_used |= is_used
            if self._count >= self._judged_count:
                is_used, self._is_used = self._is_used, False
                self._judge(now, is_used=is_used)
        self._phase = (self._phase + _GOLDEN) % 1.0
        self.width = int(self.limit + self._phase)

    def handle_refusal(self, *, sent_at: float, now: float, opened_at: float, is_rate: bool) -> None:
        """Take an answer by which the service has too much to do, or a time-out.

        Args:
            sent_at: When the attempt began, in seconds.
            now: When the answer came.
            opened_at: When the gate opened last.
            is_rate: Whether the answer speaks of the rate (429).
        """
        self._failed_share += (1.0 - self._failed_share) / LATEST
        if sent_at < self._cut_at + SETTLING or not (is_rate or self._failed_share > CHANCE):
            return
        is_again = self._cut_at > -math.inf and now - max(self._cut_at, opened_at) < SOON
        self._ceiling, self._cut_at = self.limit, now
        self._before_look = None
        self._set(self.limit * (REFUSED_AGAIN if is_again else REFUSED), now)
        self._depth = max(1.0, self._ceiling - self.limit)

    def _judge(self, now: float, *, is_used: bool) -> None:
        """Judge the window so far."""
        self._judged_count += max(WINDOW, int(self.limit))
        mean = self._sum / self._count
        variance = max(0.0, self._squares / self._count - mean * mean)
        doubt = CERTAINTY * math.sqrt(variance / self._count)
        is_sure = doubt <= SURE or self._count >= LONGEST_WINDOW
        self._base += FORGETS * max(0.0, now - self._judged_at)
        self._judged_at = now
        if is_sure and mean + doubt <= self._base + SAME:
            self._base = min(self._base, mean + doubt)
            self._base_at = now
        if self._before_look is not None:
            before, self._before_look = self._before_look, None
            self._base_at = now
            self._set(before, now)
            return
        excess = mean - self._base - TOLERANCE
        if excess > (0.0 if is_sure else doubt):
            if self.limit > START:
                self._set(max(START, self.limit / 2, self.limit * math.exp(-excess) + REST), now)
        elif excess <= 0.0 and is_used:
            self.limit = max(self.limit, min(self.limit + STEP, self._bound(now), MOST))
        if is_sure:
            self._restart()
        if now - self._base_at > self._patience and is_used and self.limit > START:
            self._patience = min(2 * self._patience, MEMORY)
            self._before_look = self.limit
            self._set(self.limit * LOOK, now)

    def _bound(self, now: float) -> float:
        """Return how far the limit may have grown since the last refusal."""
        if self._cut_at == -math.inf:
            return MOST
        return self._ceiling + self._depth * ((now - self._cut_at) / PERIOD - 1.0) ** 3

    def _set(self, limit: float, now: float) -> None:
        """Change the limit, and begin a window of answers to attempts that begin from now on."""
        self.limit = min(max(1.0, limit), MOST)
        self.width = int(self.limit + self._phase)
        self._since = now
        self._restart()

    def _restart(self) -> None:
        self._count = 0
        self._sum = self._squares = 0.0
        self._judged_count = max(WINDOW, int(self.limit))
