"""Clients against a server with a capacity, in virtual time: how much it serves, how fast, and to whom.

The server is some way off, serves some requests at once and queues the rest, and may refuse what exceeds its
rate. The clients are outboxes, driven as the real drivers do it.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random
from statistics import median

from clocknext_core import (
    BatchPolicy,
    Config,
    CreditSignal,
    Dropped,
    Engine,
    Outbox,
    Response,
    Transmit,
    Wait,
)
from clocknext_core.signals import encode

_ANSWER = Response(
    200,
    [("content-type", "application/json")],
    b'{"statusCode":200,"statusDetail":{"status":"SUCCESS","message":"ok"},"result":{}}',
)


def _refusal(status: int, retry_after: float | None) -> Response:
    headers = [("content-type", "application/json")]
    if retry_after is not None:
        headers.append(("retry-after", f"{retry_after:g}"))
    detail = b'{"statusCode":%d,"statusDetail":{"status":"ERROR","message":"no"},"result":{}}' % status
    return Response(status, headers, detail)


@dataclass(frozen=True)
class Service:
    """What the server does."""

    away: float = 0.05
    """Seconds that a request and its answer are on the way, together."""
    serves: int | None = None
    """Requests at once; the others wait in order. `None`: any number."""
    takes: Callable[[Random], float] = lambda rng: 0.0
    """Returns the seconds to serve a request."""
    most: float | None = None
    """Requests a second, beyond which it answers 429."""
    retry_after: float | None = None
    """Seconds that it says with a 429."""
    fails: float = 0.0
    """Share of requests that it answers with 503, by chance."""
    window: bool = True
    """Whether the rate counts by the second, or in a bucket that holds a tenth of it."""


@dataclass
class Seen:
    """What a client has met."""

    delivered: list[float] = field(default_factory=list[float])
    """When, seconds."""
    latencies: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """When an answer came, and how long after its request."""
    statuses: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    dropped: int = 0
    widths: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])

    def share_of(self, status: int, *, after: float = 0.0) -> float:
        """Return the share of answers with a status."""
        statuses = [each for at, each in self.statuses if at >= after]
        return statuses.count(status) / max(1, len(statuses))

    def rate(self, start: float, end: float) -> float:
        """Return the signals delivered a second."""
        return sum(start <= at < end for at in self.delivered) / (end - start)

    def median_latency(self, start: float = 0.0) -> float:
        """Return the median latency of the answers."""
        return median(latency for at, latency in self.latencies if at >= start)


class Field:
    """Clients and their server on one clock.

    Args:
        service: The server.
        seed: Decides all chance.
    """

    def __init__(self, service: Service, seed: int = 0) -> None:
        self.now = 0.0
        self._service = service
        self._rng = Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._serving = 0
        self._queue: deque[Callable[[], None]] = deque()
        self._second = -1
        self._in_second = 0
        self._tokens = 0.0
        self._filled_at = 0.0
        self.clients: list[Client] = []

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Have something done at a time."""
        heappush(self._events, (time, next(self._numbers), action))

    def add(self, concurrency: "int | str", *, work: float = 0.0, **policy: object) -> "Client":
        """Add a client; `work`: seconds that its event loop takes for each of three steps of an attempt."""
        client = Client(self, concurrency, Random(self._rng.random()), work, **policy)
        self.clients.append(client)
        return client

    def run(self, until: float, is_over: Callable[[], bool] = lambda: False) -> None:
        """Go on until then."""
        while self._events and self._events[0][0] <= until and not is_over():
            self.now, _, action = heappop(self._events)
            action()
        if not is_over():
            self.now = until

    def send(self, answer: Callable[[Response], None]) -> None:
        """Send a request; its answer comes later."""
        self.at(self.now + self._service.away / 2, lambda: self._arrive(answer))

    def _arrive(self, answer: Callable[[Response], None]) -> None:
        service = self._service

        def reply(response: Response) -> None:
            self.at(self.now + service.away / 2, lambda: answer(response))

        if not self._is_within_rate():
            reply(_refusal(429, service.retry_after))
        elif self._rng.random() < service.fails:
            reply(_refusal(503, None))
        else:
            self._queue.append(lambda: reply(_ANSWER))
            self._serve()

    def _is_within_rate(self) -> bool:
        most = self._service.most
        if most is None:
            return True
        if self._service.window:
            if int(self.now) != self._second:
                self._second, self._in_second = int(self.now), 0
            self._in_second += 1
            return self._in_second <= most
        self._tokens = min(most / 10, self._tokens + (self.now - self._filled_at) * most)
        self._filled_at = self.now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _serve(self) -> None:
        while self._queue and (self._service.serves is None or self._serving < self._service.serves):
            self._serving += 1
            self.at(self.now + self._service.takes(self._rng), self._done(self._queue.popleft()))

    def _done(self, reply: Callable[[], None]) -> Callable[[], None]:
        def done() -> None:
            self._serving -= 1
            reply()
            self._serve()

        return done


class Client:
    """One client: an outbox that is driven on the common clock, as an event loop does it.

    A turn of the loop handles the answers that have come, one after the other, then polls until there is
    nothing more to send, then sends what it got. What comes meanwhile waits for the next turn.
    """

    def __init__(
        self, world: Field, concurrency: "int | str", rng: Random, work: float, **policy: object
    ) -> None:
        self._world = world
        self._work = work
        self._busy_until = 0.0
        self._came: list[tuple[int, Response]] = []
        self._keys = count()
        batch = BatchPolicy(max_concurrency=concurrency, **policy)  # type: ignore[arg-type]
        self._config = Config("cnk_capacity", batch=batch)
        self._engine = Engine(self._config, rng=rng, make_key=lambda: f"{id(self)}-{next(self._keys)}")
        self.outbox = self._engine.outbox
        assert isinstance(self.outbox, Outbox)
        self.seen = Seen()
        self._wakes_at: float | None = None
        self.events: Counter[str] = Counter()
        self._signal = encode(CreditSignal(customer_id="c", model="m", key="k"), lambda: "key")

    def record(self, signals: int = 1) -> None:
        """Record some signals."""
        for _ in range(signals):
            self.outbox.record(self._signal, now=self._world.now)
        self._serve()

    def produce(self, rate: float, until: float, start: float = 0.0) -> None:
        """Record so many a second."""

        def one() -> None:
            self.record()
            if self._world.now < until:
                self._world.at(self._world.now + 1 / rate, one)

        self._world.at(start, one)

    def _serve(self) -> None:
        outbox, world = self.outbox, self._world
        assert isinstance(outbox, Outbox)
        if world.now < self._busy_until:
            return  # the next turn is to come
        now = world.now
        came, self._came = self._came, []
        for ticket, response in came:
            now += self._work
            outbox.handle_answer(ticket, response, now=now)
        tickets: list[int] = []
        while not isinstance(output := outbox.poll(now=now), Wait):
            if isinstance(output, Transmit):
                now += self._work
                tickets.append(output.ticket)
                self.seen.widths.append((now, outbox.stats(now=now).in_flight))
            else:
                self.seen.dropped += isinstance(output, Dropped)
                self.events[type(output).__name__] += 1
        for ticket in tickets:
            now += self._work
            self._transmit(ticket, now)
        self._busy_until = now
        if now > world.now:
            world.at(now, self._serve)
        self._sleep(output.until)

    def _sleep(self, until: float | None) -> None:
        if until is None or (self._wakes_at is not None and world_before(self._wakes_at, until, self._world)):
            return
        self._wakes_at = until
        self._world.at(max(until, self._world.now), self._serve)

    def _transmit(self, ticket: int, sent_at: float) -> None:
        def answer(response: Response) -> None:
            now = self._world.now
            self.seen.statuses.append((now, response.status))
            if response.status == 200:
                self.seen.delivered.append(now)
                self.seen.latencies.append((now, now - sent_at))
            self._came.append((ticket, response))
            self._serve()

        self._world.at(sent_at, lambda: self._world.send(answer))


def world_before(wakes_at: float, until: float, world: Field) -> bool:
    """Return whether a client wakes early enough as it is."""
    return world.now < wakes_at <= until
