"""Rows of hours and of fleets, in virtual time, on the pure core."""

from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from itertools import count, pairwise
from random import Random

import pytest

from clocknext_core import Answer, BatchPolicy, Config, Failure, Request, Response
from clocknext_core.backoff import RETRY_AFTER_CAP
from clocknext_core.budget import CAPACITY, FIRST_ATTEMPT, PRICES
from clocknext_core.verdicts import Verdict
from clocknext_transports.emulator import DEFAULT_API_KEY
from tests.matrix.support import check_billed_once
from tests.matrix.virtual import Bills, Core, play

HOUR = 3600.0
DAY = 24 * HOUR
EPOCH = 1_750_000_000.0
"""The wall clock at virtual time 0, seconds since 1970."""

CONFIG = Config(DEFAULT_API_KEY)
"""All defaults."""


ENVELOPE = b'{"ok": false, "error": "No."}'
"""The API's word, not a proxy's."""


class Failing(Bills):
    """A server that fails for a while, then bills.

    Args:
        until: When it is well again.
        answer: What it says until then.
    """

    def __init__(self, until: float, answer: Answer) -> None:
        super().__init__()
        self.failed_at: list[float] = []
        self._until = until
        self._answer = answer

    def __call__(self, request: Request, now: float) -> tuple[Answer, float]:
        if now < self._until:
            self.failed_at.append(now)
            return self._answer, 0.05
        return super().__call__(request, now)


def keys(count: int, name: str = "k") -> list[str]:
    """The keys that a core gives to its first signals."""
    return [f"{name}{number}" for number in range(count)]


def most_within(times: list[float], seconds: float) -> int:
    """The most of these times, in order, that lie in any window of so many seconds."""
    most = first = 0
    for number, at in enumerate(times):
        while times[first] <= at - seconds:
            first += 1
        most = max(most, number - first + 1)
    return most


@pytest.mark.parametrize("status", [429, 503, 422])
@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ([("retry-after", "120")], 120.0),
        ([("retry-after-ms", "1500"), ("retry-after", "120")], 1.5),
        ([("retry-after", "Sun, 15 Jun 2025 16:06:40 GMT"), ("date", "Sun, 15 Jun 2025 15:06:40 GMT")], HOUR),
        ([("retry-after", "Sun, 15 Jun 2025 16:06:40 GMT")], HOUR),
        ([("retry-after", "1e300")], RETRY_AFTER_CAP),
        ([("retry-after", "Sun, 15 Jun 2125 16:06:40 GMT")], RETRY_AFTER_CAP),
        ([("retry-after", "soon"), ("retry-after-ms", "\x1f13")], 0.0),
        ([("retry-after", "-5")], 0.0),
    ],
)
def test_row_05_retry_after(status: int, headers: list[tuple[str, str]], wait: float) -> None:
    """On any status, up to a day: nothing at all goes out before; then one probe, then more."""
    served = Failing(0.01, Response(status, headers, ENVELOPE, EPOCH))
    core = Core(replace(CONFIG, batch=BatchPolicy(max_size=1)), served)
    play([core], [(0.0, 0), *[(1.0, 0)] * 50], until=2 * DAY)
    after = core.sent_at[1:]
    spread = min(wait / 8, CONFIG.retry.max_delay) + CONFIG.retry.base_delay + 0.05
    assert wait <= after[0] <= max(wait, 1.0) + spread
    assert len(served.failed_at) == 1
    if wait > 1.0:
        assert after[1] > after[0]  # a probe: the next goes when its answer is there
    rejected = int(status == 422)
    core.check_nothing_is_lost(51, rejected=rejected)
    check_billed_once(served.ledger, keys(51)[rejected:])


def test_row_06_500_for_hours() -> None:
    """Six hours of 500 under load, all defaults: a bounded rate of requests, and nothing lost."""
    served = Failing(6 * HOUR, Response(500, [], ENVELOPE, EPOCH))
    core = Core(CONFIG, served)
    signals = 2000
    every = 8 * HOUR / signals
    play([core], [(number * every, 0) for number in range(signals)], until=9 * HOUR)
    # Not in vain: it did fail, and all along it was asked.
    assert max(later - earlier for earlier, later in pairwise(served.failed_at)) < 15.0
    assert served.failed_at[-1] > 6 * HOUR - 15.0
    # From the second minute on each probe waits for the longest back-off, half of which is certain.
    most = 60.0 / (CONFIG.retry.max_delay / 2) + 1
    assert most_within([at for at in served.failed_at if at > 60.0], 60.0) <= most
    assert len([at for at in served.failed_at if at <= 60.0]) < 30
    core.check_nothing_is_lost(signals)
    assert core.seen["Rejected"] == core.seen["GivenUp"] == core.seen["Dropped"] == 0
    check_billed_once(served.ledger, keys(signals))
    # And recovery was no burst: a probe, then no more at once than are allowed, each answered in 0.05 s.
    back = [at for at in core.sent_at if at >= 6 * HOUR]
    assert back[1] - back[0] >= 0.049
    assert most_within(back, 0.049) <= CONFIG.batch.most_concurrency


class Moody(Bills):
    """A server that asks for a pause every fifth time, by its own clock.

    Args:
        wall: The client's wall clock at a virtual time.
    """

    def __init__(self, wall: Callable[[float], float]) -> None:
        super().__init__()
        self.pauses = 0
        self._wall = wall
        self._asked = 0

    def __call__(self, request: Request, now: float) -> tuple[Answer, float]:
        self._asked += 1
        response, latency = super().__call__(request, now)
        assert isinstance(response, Response)
        if self._asked % 5 == 0:
            self.pauses += 1
            date, until = (formatdate(EPOCH + at, usegmt=True) for at in (now, now + 30))
            response = Response(503, [("date", date), ("retry-after", until)], b"{}")
        return replace(response, received_at=self._wall(now)), latency


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_row_23_wall_clock_jumps(jump: float) -> None:
    """The wall clock goes a day on, or back, every half minute: each request goes out when it would have."""
    seen: list[float] = []

    def jumping(now: float) -> float:
        seen.append(jump if now % 60 > 30 else 0.0)
        return EPOCH + now + seen[-1]

    steady, jumpy = Moody(lambda now: EPOCH + now), Moody(jumping)
    one, other = Core(CONFIG, steady), Core(CONFIG, jumpy)
    for core in (one, other):
        play([core], [(number * 1.7, 0) for number in range(100)], until=HOUR)
        core.check_nothing_is_lost(100)
    assert len(set(seen)) == 2
    assert jumpy.pauses > 10
    assert other.sent_at == one.sent_at
    check_billed_once(jumpy.ledger, keys(100))


def test_row_23_suspend() -> None:
    """Everything stands still for a day, with attempts in flight: then they go again, and no more at once."""
    asleep_at, awake_at = 5.0, 5.0 + DAY
    bills = Bills(latency=0.5)

    def serve(request: Request, now: float) -> tuple[Answer, float]:
        answer, latency = bills(request, now)
        if now < asleep_at < now + latency:
            return Failure("Timed out waiting for the answer."), latency
        return answer, latency

    core = Core(CONFIG, serve)
    play([core], [(number * 0.05, 0) for number in range(100)], until=asleep_at)
    assert core.outbox.stats(now=asleep_at).in_flight == CONFIG.batch.most_concurrency
    core.step(awake_at)
    play([core], [], until=awake_at + 60.0)
    core.check_nothing_is_lost(100)
    check_billed_once(bills.ledger, keys(100))
    assert bills.ledger.counters.repeats == CONFIG.batch.most_concurrency
    assert most_within([at for at in core.sent_at if at >= awake_at], 0.49) <= CONFIG.batch.most_concurrency


def test_row_23_clock_goes_backwards() -> None:
    """A monotonic clock that is none stands still: nothing goes out early, and nothing is put off."""
    served = Failing(12.5, Response(503, [("retry-after", "30")], b"{}", EPOCH))
    core = Core(CONFIG, served)
    core.step(10.0)
    core.record(10.0 - DAY)
    core.step(11.9)
    assert core.sent_at == []
    play([core], [], until=13.0)
    assert core.sent_at == [12.0]  # the batch's interval after the time it was
    for now in (13.0 - DAY, 14.0, -DAY, 41.9):
        core.record(now)
    assert len(core.sent_at) == 1
    play([core], [], until=60.0)
    assert 42.0 <= core.sent_at[1] < 46.0
    core.check_nothing_is_lost(5)
    check_billed_once(served.ledger, keys(5))


class Overloaded(Bills):
    """A server that is down, then bills so many signals a second, and sends the others away.

    Args:
        until: When it is up.
        rate: Signals a second.
    """

    def __init__(self, until: float, rate: int) -> None:
        super().__init__()
        self.asked = 0
        """Requests since it is up."""
        self.sent_away = 0
        self._until = until
        self._rate = rate
        self._second = -1
        self._left = 0

    def __call__(self, request: Request, now: float) -> tuple[Answer, float]:
        if now < self._until:
            return Failure("Connection refused.", processed=False), 0.001
        self.asked += 1
        if int(now) != self._second:
            self._second, self._left = int(now), self._rate
        if self._left == 0:
            self.sent_away += 1
            return Response(503, [], b"{}", EPOCH + now), 0.01
        self._left -= 1
        return super().__call__(request, now)


def test_row_27_fleet_comes_back_after_an_outage() -> None:
    """A hundred cores meet a service that can't take them all at once: it is asked little more for that."""
    up_at, cores, each = 120.0, 100, 30
    served = Overloaded(up_at, rate=50)
    fleet = [Core(CONFIG, served, f"{number}-") for number in range(cores)]
    play(fleet, [(number, core) for number in range(each) for core in range(cores)], until=up_at + HOUR)
    for core in fleet:
        core.check_nothing_is_lost(each)
    check_billed_once(served.ledger, [key for number in range(cores) for key in keys(each, f"{number}-")])
    # What a core may repeat before its bucket is empty, to its signals.
    budget = (CAPACITY + FIRST_ATTEMPT * each) / PRICES[Verdict.DOWN] / each
    assert served.sent_away > cores * each // 2  # not in vain: they did come too many at a time
    assert served.asked <= (1 + budget) * cores * each


class Whimsical(Bills):
    """A server of which some attempts are answered otherwise.

    Args:
        otherwise: Returns the other answer, given the request and the time; `None`: it bills.
    """

    def __init__(self, otherwise: Callable[[Request, float], Answer | None]) -> None:
        super().__init__()
        self.others = 0
        self._otherwise = otherwise

    def __call__(self, request: Request, now: float) -> tuple[Answer, float]:
        if (other := self._otherwise(request, now)) is not None:
            self.others += 1
            return other, 0.05
        return super().__call__(request, now)


POISONS: dict[str, Answer] = {
    "502": Response(502, [], b"<html>Bad gateway</html>"),
    "503": Response(503, [], ENVELOPE),
    "504": Response(504, [], b""),
    "reset": Failure("connection reset"),
    "firewall's page": Response(403, [], b"<html>Request blocked</html>"),
}


@pytest.mark.parametrize("kind", POISONS)
def test_row_30_one_signal_never_gets_through(kind: str) -> None:
    """Ten a second are delivered, one fails each time: it ends within its attempts and a minute."""
    served = Whimsical(lambda request, _: POISONS[kind] if b'"k7"' in (request.body or b"") else None)
    core = Core(replace(CONFIG, batch=BatchPolicy(max_size=1)), served)
    play([core], [(number / 10, 0) for number in range(600)], until=60.0)
    assert served.others == CONFIG.retry.max_attempts
    assert core.seen["GivenUp"] == 1
    stats = core.outbox.stats(now=60.0)
    assert (stats.delivered, stats.held, stats.dropped["send_failed"]) == (599, 0, 1)
    check_billed_once(served.ledger, [key for key in keys(600) if key != "k7"])


@pytest.mark.parametrize("kind", POISONS)
def test_row_30_a_brown_out_of_half_of_all_attempts_loses_nothing(kind: str) -> None:
    rng = Random(kind)
    served = Whimsical(lambda _request, _now: POISONS[kind] if rng.random() < 0.5 else None)
    core = Core(CONFIG, served)
    play([core], [(number / 2, 0) for number in range(7200)], until=2 * HOUR)
    core.check_nothing_is_lost(7200)
    assert served.others > 5000


def test_row_30_one_dead_backend_of_two_loses_nothing() -> None:
    """A load balancer deals in turn, whatever comes: many a signal meets the dead one several times."""
    turns = count()
    served = Whimsical(lambda _request, _now: POISONS["502"] if next(turns) % 2 else None)
    core = Core(CONFIG, served)
    play([core], [(number / 2, 0) for number in range(7200)], until=2 * HOUR)
    core.check_nothing_is_lost(7200)
    assert served.others > 5000


def test_row_30_a_backend_that_is_dead_every_other_minute_loses_nothing() -> None:
    served = Whimsical(lambda _, now: POISONS["reset"] if now % 120 >= 60 else None)
    core = Core(CONFIG, served)
    play([core], [(float(number), 0) for number in range(3600)], until=2 * HOUR)
    core.check_nothing_is_lost(3600)
    assert served.others > 200


def test_row_30_an_outage_of_everything_loses_nothing() -> None:
    served = Whimsical(lambda _, now: POISONS["502"] if 10.0 <= now < HOUR else None)
    core = Core(CONFIG, served)
    play([core], [(float(number), 0) for number in range(4000)], until=2 * HOUR)
    core.check_nothing_is_lost(4000)
    assert served.others > 300
