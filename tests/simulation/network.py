"""The world between a client and its server: what is lost, late, doubled or garbled there, and the server.

Requests travel, are processed by the emulator's ledger, and answers travel back, each in its own time. What
becomes of a request is its `Fate`, drawn when it is sent. The network also knows what each answer means, by
how it was made: the oracle holds the client's reading against that.
"""

from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import count
from typing import Literal, TypeAlias

from clocknext_core import Answer, Failure, Request
from clocknext_core.backoff import RETRY_AFTER_CAP
from clocknext_transports.emulator.api.exchange import Received, Reply
from clocknext_transports.emulator.api.ledger import Ledger
from clocknext_transports.emulator.server.faults import Fault, spoil

Weather: TypeAlias = Literal["calm", "storm", "outage", "recovery"]
Meaning: TypeAlias = Literal["delivered", "retry", "refused"]

EPOCH = 1_750_000_000.0
"""The server's wall clock at virtual time 0, seconds since 1970."""

CALM_LATENCY = 0.25
"""Longest a request and its answer travel in calm weather, seconds."""

NO_ANSWER = float("inf")


@dataclass(frozen=True)
class Pause:
    """A Retry-After, and the wait it means."""

    shape: str
    retry_after: str | None = None
    retry_after_ms: str | None = None
    seconds: float | None = None
    """What it means; `None`: nothing."""
    date_at: float | None = None
    """For a date: when, seconds since 1970. What it means depends on when the answer was sent."""


NO_PAUSE = Pause("none")


@dataclass(frozen=True)
class Fate:
    """What becomes of one request."""

    kind: str
    fault: Fault | None = None
    pause: Pause = NO_PAUSE
    there: float = 0.0
    """Seconds the request travels; `NO_ANSWER`: it gets lost."""
    back: float = 0.0
    """Seconds the answer travels; `NO_ANSWER`: it gets lost without a sign."""
    status: int | None = None
    """The answer comes under this status, whatever it says."""
    refused: bool = False
    """The connection is not even established."""
    dated: bool = True
    """Whether the answer carries a Date."""
    echo_after: float | None = None
    """The same ticket is answered once more, this much later."""


@dataclass(eq=False)
class Flight:
    """One request under way."""

    request: Request
    fate: Fate
    ends_at: float
    """When the client has its answer, or has given up."""
    is_timed_out: bool
    answer: Answer | None = None
    meaning: Meaning = "retry"
    pause: float | None = None
    """Seconds the answer asks to wait."""
    sent_at: float = 0.0
    """The answer's Date, seconds since 1970."""
    processed: bool = True
    """Whether the server may have processed it, as far as the client can tell."""


class Network:
    """Carries requests to a ledger and back.

    Args:
        ledger: The server.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.late_commits = 0
        """Requests processed after the client had given them up."""
        self._on_the_way: list[tuple[float, int, Flight]] = []
        self._numbers = count()

    def send(self, request: Request, fate: Fate, *, now: float, timeout: float) -> Flight:
        """Let a request travel."""
        arrives_at = now + fate.there
        answered_at = now + fate.back if fate.refused else arrives_at + fate.back
        is_timed_out = answered_at >= now + timeout
        flight = Flight(request, fate, min(answered_at, now + timeout), is_timed_out)
        if not fate.refused and arrives_at < NO_ANSWER:
            heappush(self._on_the_way, (arrives_at, next(self._numbers), flight))
        return flight

    def advance(self, now: float) -> None:
        """Let the server process what has arrived."""
        while self._on_the_way and self._on_the_way[0][0] <= now:
            at, _, flight = heappop(self._on_the_way)
            self.late_commits += at > flight.ends_at
            self._process(flight, EPOCH + at)

    def finish(self, flight: Flight, *, now: float) -> Answer:
        """Return what the client gets of a flight that ends now."""
        self.advance(now)
        if flight.fate.refused:
            flight.processed = False
            return Failure("Connection refused.", processed=False)
        answer = flight.answer
        if flight.is_timed_out or answer is None:
            flight.meaning, flight.pause = "retry", None
            return Failure("The attempt timed out.")
        if isinstance(answer, Failure):
            return answer
        received_at = EPOCH + now
        if not flight.fate.dated:
            headers = [(name, value) for name, value in answer.headers if name != "date"]
            answer = replace(answer, headers=headers)
        flight.pause = _meaning(flight, received_at)
        return replace(answer, received_at=received_at)

    def _process(self, flight: Flight, wall: float) -> None:
        request, fault = flight.request, flight.fate.fault
        flight.sent_at = float(int(wall))
        headers = {name.lower(): value for name, value in request.headers}
        received = Received(request.method, request.target, headers, request.body or b"")
        processed = None
        if fault is None or fault.commits:
            processed = self.ledger.process(received, now=wall)
        if fault is None:
            assert processed is not None  # processed just now
            flight.answer = processed
            flight.meaning = "delivered" if processed.status < 300 else "refused"
            if flight.fate.status is not None:
                flight.answer, flight.meaning = replace(processed, status=flight.fate.status), "retry"
        else:
            flight.answer = _obeyed(spoil(fault, received, processed, now=wall))


def _obeyed(reply: Reply) -> Answer:
    """What a client gets where a server obeys a reply."""
    if reply.response is None:
        return Failure("The connection was closed.")
    if reply.cut:
        return Failure("The answer ended early.")
    return reply.response


def _meaning(flight: Flight, received_at: float) -> float | None:
    pause = flight.fate.pause
    if pause.date_at is None:
        return pause.seconds
    measured_from = flight.sent_at if flight.fate.dated else received_at
    return min(max(pause.date_at - measured_from, 0.0), RETRY_AFTER_CAP)
