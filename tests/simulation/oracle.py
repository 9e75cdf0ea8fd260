"""What an outbox must do, said once more and otherwise.

It keeps plain lists and predicts every event (not their order), every `Wait` and every report. It never
predicts the jitter, but holds the delay it is told of against the policy and what the server asked for.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from clocknext_core import (
    Adopt,
    Answer,
    BatchPolicy,
    Closed,
    Config,
    Delivered,
    Dropped,
    EncodedSignal,
    Erase,
    Flushed,
    FlushReport,
    OutboxOutput,
    Quarantine,
    Receipt,
    Rejected,
    Retrying,
    RetryPolicy,
    Settled,
    Stats,
    Store,
    Ticket,
    TrackResult,
    Transmit,
    Wait,
)
from clocknext_core.gate import Gate
from clocknext_core.models import DropReason
from tests.core.gate_model import GateBook, health_of
from tests.simulation.network import Flight

NEVER = float("-inf")

Event: TypeAlias = tuple[object, ...]


@dataclass(eq=False)
class Entry:
    """One signal, from its recording to its end."""

    key: str
    body: bytes
    place: str = "new"
    """`blocked`, `fresh`, `in flight`, `waiting`; then `delivered`, `rejected`, `raised`, `withdrawn`, or why
    it was dropped."""
    number: int = 0
    """Its place in the order recorded."""
    attempts: int = 0
    """Abandoned ones are not counted."""
    strikes: int = 0
    """Failed attempts that count against it, as the policy bounds them."""
    tried_at: float = NEVER
    """When it was recorded, or failed last."""
    sent_at: float = NEVER
    price: int = 0
    """Of its next repeat."""
    is_on_loan: bool = False
    was_sent: bool = False
    not_before: float | None = NEVER
    """When the next attempt may start; `None` between a failure and the event that tells its delay."""
    pause: float = 0.0
    is_told: bool = False
    """A flush has reported its end."""

    @property
    def is_held(self) -> bool:
        """Whether it is recorded and has not ended."""
        return self.place in ("fresh", "in flight", "waiting")


@dataclass(eq=False)
class FlushBook:
    """One flush that waits."""

    ticket: Ticket
    awaits: list[Entry]
    tells: list[Entry]
    began_at: float
    deadline_at: float | None
    closes: bool


@dataclass(frozen=True)
class Expected:
    """What a flush's report must say."""

    delivered: int
    failed: Counter[str]
    pending: int


@dataclass(eq=False)
class Blocked:
    """A call that waits for room."""

    ticket: Ticket
    entry: Entry
    deadline_at: float


class Oracle:
    """Watches an outbox: told of every input, it checks every output and the counts after every step.

    Args:
        config: The outbox's configuration.
        gate: The outbox's gate, of which it learns the jitter.
    """

    def __init__(self, config: Config, gate: Gate) -> None:
        self._real_gate = gate
        self.gate = GateBook(config)
        self._patience = config.patience
        self.batch: BatchPolicy = config.batch
        self.retry: RetryPolicy = config.retry
        self.timeout = config.timeout
        self.seen: Counter[str] = Counter()
        self.entries: list[Entry] = []
        """Every signal that was recorded, or tried to be."""
        self.now = NEVER
        self._recorded: list[Entry] = []
        self._fresh: deque[Entry] = deque()
        self._waiting: list[Entry] = []
        self.in_flight: dict[Ticket, Entry] = {}
        self.blocked: list[Blocked] = []
        self._flushes: list[FlushBook] = []
        self._expected: Counter[Event] = Counter()
        self._reports: dict[Ticket, Expected] = {}
        self._admissions: dict[Ticket, tuple[str, DropReason | None]] = {}
        self._tickets: set[Ticket] = set()
        self._ends: Counter[str] = Counter()
        self._is_sending = False
        self._interval_at: float | None = None
        self._delivered_since_empty = 0
        self.is_closing = False
        self.is_closed = False
        self._last_event: Event = ()

    @property
    def held(self) -> int:
        """How many signals are held."""
        return len(self._fresh) + len(self._waiting) + len(self.in_flight)

    @property
    def held_bytes(self) -> int:
        """How many bytes they have."""
        return sum(len(entry.body) for entry in [*self._fresh, *self._waiting, *self.in_flight.values()])

    @property
    def is_idle(self) -> bool:
        """Whether nothing is held, nobody waits and every event has been told."""
        return not (self.held or self.blocked or self._flushes or self._expected)

    def limit(self, *, latency: float) -> float:
        """Tell by when everything held must have ended, if nothing goes wrong any more.

        Args:
            latency: The longest that an attempt takes from now on.
        """
        times = [self.now, self.gate.opens_at]
        times += [entry.not_before for entry in self._waiting if entry.not_before is not None]
        # After trouble one goes at a time, and what the budget can't pay does for longer.
        turns = self.held + len(self.blocked)
        batches = 1 + (turns if self.blocked else 0)  # those let in make a batch of their own each time
        return max(times) + batches * self.batch.max_interval + turns * latency

    # Inputs

    def touch(self, now: float) -> None:
        """Take the time; it stands still where it would go back."""
        self.now = max(self.now, now)

    def must_raise(self, body: bytes) -> bool:
        """Tell whether recording must raise now."""
        return not self._has_room_for(body) and not self.is_closing and self.batch.overflow == "raise"

    def recorded(self, encoded: EncodedSignal, receipt: Receipt | None) -> None:
        """Take note of a recording and check its receipt; `None`: it raised."""
        entry = Entry(encoded.idempotency_key, encoded.body)
        self.entries.append(entry)
        assert (receipt is None) == self.must_raise(encoded.body)
        if receipt is None:
            entry.place = "raised"
            self.seen["raised"] += 1
            return
        dropped: DropReason | None = None
        if self.is_closing:
            dropped = "closed"
        elif self._has_room_for(entry.body):
            self._hold(entry)
        elif self.batch.overflow == "block":
            assert receipt.ticket is not None
            self._take_ticket(receipt.ticket)
            entry.place = "blocked"
            self.blocked.append(Blocked(receipt.ticket, entry, self.now + self.batch.block_timeout))
            self.seen["blocked"] += 1
        elif self.batch.overflow == "drop_oldest" and self._has_room_for(entry.body, without=self._fresh):
            oldest: list[Entry] = []
            while not self._has_room_for(entry.body):
                oldest.append(self._fresh.popleft())
            self._hold(entry)
            for each in oldest:
                self._drop(each, "queue_full")
            self.seen["dropped several"] += len(oldest) > 1
        else:
            dropped = "queue_full"
        if dropped is not None:
            self._refuse(entry, dropped)
        assert (receipt.ticket is not None) == (entry.place == "blocked")
        result = receipt.result
        assert (result.queued, result.dropped, result.idempotency_key) == (True, dropped, entry.key)

    def paused(self, seconds: float | None, *, now: float) -> None:
        """Take note of the Retry-After that an awaited call was told, on the call's own clock."""
        self.gate.pause(seconds, now=now)
        self._learn()

    def answered(self, ticket: Ticket, flight: Flight, answer: Answer) -> None:
        """Take note of an answer, which may come late."""
        entry = self._land(ticket)
        if entry is None:
            self.seen["late answer"] += 1
            return
        health = health_of(answer, is_final=flight.verdict != "retry")
        counts = self.gate.counts_against_signal(health, tried_at=entry.tried_at)
        was_outage = self.gate.is_outage
        self.gate.observe(health, flight.pause, sent_at=entry.sent_at, price=entry.price, now=self.now)
        self.seen["outage"] += self.gate.is_outage and not was_outage
        self.seen["outage over"] += was_outage and not self.gate.is_outage
        self._learn()
        if flight.verdict == "delivered":
            entry.place = "delivered"
            self._delivered_since_empty += 1
            self._expect("delivered", entry.key)
            self._end(entry)
            return
        self.seen[f"pause: {flight.fate.pause.shape}"] += 1
        entry.strikes += counts
        entry.tried_at = self.now
        entry.price = 5 if health == "busy" else 14
        if flight.verdict == "retry" and entry.strikes < self.retry.max_attempts:
            entry.place, entry.not_before = "waiting", None
            entry.pause = flight.pause or 0.0
            self._waiting.append(entry)
            self._expect("retrying", entry.key, entry.attempts)
            self.seen["retry"] += 1
            self.seen["held beyond its attempts"] += entry.attempts > self.retry.max_attempts
            return
        entry.place = "rejected" if flight.verdict == "refused" else "send_failed"
        self.seen[entry.place] += 1
        self._expect("rejected", entry.key)
        self._expect("dropped", entry.key, "send_failed")
        self._end(entry)

    def abandoned(self, ticket: Ticket) -> None:
        """Take note of an attempt that was taken back."""
        entry = self.in_flight.get(ticket)
        if entry is not None:
            if not entry.is_on_loan:
                self.gate.tokens = min(500, self.gate.tokens + entry.price)
            self._land(ticket)
            entry.attempts -= 1
            entry.place, entry.not_before = "waiting", self.now
            self._waiting.append(entry)
            self.seen["abandoned"] += 1

    def withdrawn(self, ticket: Ticket) -> None:
        """Take note of a call that gave up waiting for room."""
        for blocked in [blocked for blocked in self.blocked if blocked.ticket == ticket]:
            blocked.entry.place = "withdrawn"
            self.blocked.remove(blocked)
            self.seen["withdrawn"] += 1

    def flushed(self, ticket: Ticket, deadline_at: float | None, *, closes: bool) -> None:
        """Take note of a flush, or of a close."""
        self._take_ticket(ticket)
        if closes:
            self.is_closing = True
            while self.blocked:
                self._admit(self.blocked.pop(0))
        if self._waiting or self.now < self.gate.opens_at:
            self.seen["flush during an outage"] += 1
        tells = [entry for entry in self._recorded if not entry.is_told]
        if self._flushes:  # an earlier one that waits is yet to report these: both will
            tells += [entry for entry in self._flushes[-1].tells if entry.is_told]
        awaits = [entry for entry in tells if entry.is_held]
        self._flushes.append(FlushBook(ticket, awaits, tells, self.now, deadline_at, closes))
        self._start_sending()
        self._settle_finished()

    # Output

    def before_poll(self) -> None:
        """Fire the timers, as a poll does when there is nothing else to tell."""
        if self._expected:
            return
        if self._interval_at is not None and self._interval_at <= self.now:
            self._start_sending()
        while self.blocked and self.blocked[0].deadline_at <= self.now:
            blocked = self.blocked.pop(0)
            self._refuse(blocked.entry, "queue_full")
            self._admissions[blocked.ticket] = (blocked.entry.key, "queue_full")
            self._expect("settled", blocked.ticket)
            self.seen["block timed out"] += 1
        for flush in self._overdue():
            self.seen["out of patience"] += flush.deadline_at is None
            self._settle(flush)

    def polled(self, output: OutboxOutput) -> None:
        """Check an output."""
        match output:
            case Transmit():
                self._check_transmit(output)
            case Wait():
                self._check_wait(output)
            case Closed():
                assert self.is_closed
                assert not self._expected
            case Store() | Erase() | Quarantine() | Adopt():
                raise AssertionError("there is no spool")
            case _:
                self._check_event(output)

    def check(self, counts: Stats) -> None:
        """Compare the books."""
        reasons: tuple[DropReason, ...] = ("queue_full", "send_failed", "closed", "expired")
        dropped = {reason: self._ends[reason] for reason in reasons}
        assert counts.recorded == counts.held + counts.delivered + counts.rejected + sum(
            counts.dropped.values()
        ), counts
        assert counts.recorded == len(self._recorded)
        assert counts.held == self.held
        assert counts.in_flight == len(self.in_flight) <= self.batch.max_concurrency
        assert counts.delivered == self._ends["delivered"]
        assert counts.rejected == self._ends["rejected"]
        assert counts.dropped == dropped
        assert counts.retries == self.seen["retry"]
        assert counts.opens_in == max(0.0, self.gate.opens_at - self.now)
        self.seen[f"gate {counts.gate}"] += 1
        assert counts.held_bytes == self.held_bytes
        if not self.is_closing:  # calls that wait for room are let in at close
            assert self.held <= self.batch.max_queue_size
            assert self.held_bytes <= self.batch.max_queue_bytes

    # The oracle's own moves

    def _has_room_for(self, body: bytes, *, without: Iterable[Entry] = ()) -> bool:
        left_out = [len(entry.body) for entry in without]
        is_few = self.held - len(left_out) < self.batch.max_queue_size
        return is_few and self.held_bytes - sum(left_out) + len(body) <= self.batch.max_queue_bytes

    def _take_ticket(self, ticket: Ticket) -> None:
        assert ticket not in self._tickets, "a ticket was given twice"
        self._tickets.add(ticket)

    def _expect(self, *event: object) -> None:
        self._expected[event] += 1

    def _land(self, ticket: Ticket) -> Entry | None:
        entry = self.in_flight.pop(ticket, None)
        if entry is not None and entry.is_on_loan:
            self.gate.loans -= 1
            entry.is_on_loan = False
        return entry

    def _learn(self) -> None:
        self.gate.learn(self._real_gate.opens_at, self._real_gate.width)

    def _gives_up_at(self, flush: FlushBook) -> float:
        if flush.deadline_at is not None:
            return flush.deadline_at
        return max(flush.began_at, self.gate.worked_at) + self._patience

    def _next_repeat_at(self) -> float | None:
        """When the next repeat may start, as far as back-off and budget go; `None` while none may."""
        if not self._waiting:
            return None
        at, entry = min(((_known(entry.not_before), entry) for entry in self._waiting), key=_by_turn)
        return at if self.gate.can_repeat(entry.price) else None

    def _hold(self, entry: Entry) -> None:
        self._recorded.append(entry)
        entry.number, entry.tried_at = len(self._recorded), self.now
        entry.place = "fresh"
        self._fresh.append(entry)
        if not self._is_sending:
            if len(self._fresh) >= self.batch.max_size:
                self._start_sending()
            elif self._interval_at is None:
                self._interval_at = self.now + self.batch.max_interval

    def _admit(self, blocked: Blocked) -> None:
        self._hold(blocked.entry)
        self._admissions[blocked.ticket] = (blocked.entry.key, None)
        self._expect("settled", blocked.ticket)
        self.seen["admitted"] += 1

    def _refuse(self, entry: Entry, reason: DropReason) -> None:
        """Drop one that was never held."""
        self._recorded.append(entry)
        entry.place = reason
        self._ends[reason] += 1
        self.seen[reason] += 1
        self._expect("dropped", entry.key, reason)

    def _drop(self, entry: Entry, reason: DropReason) -> None:
        """Drop one that was held."""
        entry.place = reason
        self.seen[reason] += 1
        self._expect("dropped", entry.key, reason)
        self._end(entry)

    def _start_sending(self) -> None:
        self._is_sending = bool(self._fresh)
        self._interval_at = None

    def _end(self, entry: Entry) -> None:
        self._ends[entry.place] += 1
        while self.blocked and self._has_room_for(self.blocked[0].entry.body):
            self._admit(self.blocked.pop(0))
        if not self.held and not self.is_closed:
            self._expect("flushed", self._delivered_since_empty)
            self._delivered_since_empty = 0
        self._settle_finished()

    def _overdue(self) -> Iterator[FlushBook]:
        for flush in list(self._flushes):
            if self._gives_up_at(flush) <= self.now and flush in self._flushes:
                yield flush

    def _settle_finished(self) -> None:
        for flush in list(self._flushes):
            if flush in self._flushes and not any(entry.is_held for entry in flush.awaits):
                self._settle(flush)

    def _settle(self, flush: FlushBook) -> None:
        self._flushes.remove(flush)
        ended = [entry for entry in flush.tells if not entry.is_held]
        for entry in ended:
            entry.is_told = True
        failed = Counter(entry.key for entry in ended if entry.place != "delivered")
        pending = sum(entry.is_held for entry in flush.awaits)
        self._reports[flush.ticket] = Expected(len(ended) - failed.total(), failed, pending)
        self._expect("settled", flush.ticket)
        self.seen["flush out of time" if pending else "flush"] += 1
        if flush.closes:
            self._shut()

    def _shut(self) -> None:
        self.is_closed = True
        left = [entry for entry in self._recorded if entry.is_held]
        self.in_flight.clear()
        self._waiting.clear()
        self._fresh.clear()
        for entry in left:
            self._drop(entry, "closed")

    # Checks

    def _check_transmit(self, output: Transmit) -> None:
        self._take_ticket(output.ticket)
        assert not self._expected, "sent before its events were told"
        assert output.deadline_at == self.now + self.timeout
        assert self.now >= self.gate.paused_until, "sent before the server's Retry-After"
        assert self.now >= self.gate.opens_at, "sent before the gate opened"
        assert len(self.in_flight) < self.gate.width
        body = output.request.body
        entry = next((entry for entry in self._waiting if entry.body == body), None)
        if entry is not None:
            assert entry.not_before is not None
            assert entry.not_before <= self.now, "sent before its own back-off"
            assert not (self._is_sending and self.gate.is_outage), "a probe that is not fresh"
            self._waiting.remove(entry)
            if entry.price:
                entry.is_on_loan = not self.gate.pay(entry.price)
            self.seen["repeat"] += 1
            self.seen["repeat on loan"] += entry.is_on_loan
        else:
            assert self._is_sending, "sent without a trigger"
            entry = self._fresh.popleft()
            assert entry.body == body, "a first attempt out of order, or with other bytes"
            self._is_sending = bool(self._fresh)
        assert (output.request.method, output.request.target) == ("POST", "/api/v1/usage")
        entry.place = "in flight"
        entry.was_sent = True
        entry.attempts += 1
        entry.sent_at = self.now
        assert entry.strikes < self.retry.max_attempts
        self.in_flight[output.ticket] = entry

    def _check_wait(self, output: Wait) -> None:
        assert not self._expected, f"waits before it has told of {self._expected}"
        times = [self._gives_up_at(flush) for flush in self._flushes]
        times += [blocked.deadline_at for blocked in self.blocked]
        if self._interval_at is not None:
            times.append(self._interval_at)
        if len(self.in_flight) < self.gate.width:
            repeat_at = self._next_repeat_at()
            starts = [] if repeat_at is None else [repeat_at]
            if self._is_sending:
                starts.append(NEVER)
            if starts:
                times.append(max(min(starts), self.gate.opens_at))
        assert output.until == min(times, default=None)
        assert output.until is None or output.until > self.now, "wakes up in the past"
        if self.held and not self.in_flight:
            assert output.until is not None, "sleeps for ever on work"

    def _check_event(
        self,
        output: Delivered
        | Rejected
        | Retrying
        | Dropped
        | Flushed
        | Settled[FlushReport]
        | Settled[TrackResult],
    ) -> None:
        event: Event
        match output:
            case Delivered():
                event = ("delivered", output.signal.idempotency_key)
                assert output.result.idempotency_key == output.signal.idempotency_key
            case Rejected():
                event = ("rejected", output.signal.idempotency_key)
                assert output.error.idempotency_key == output.signal.idempotency_key
            case Retrying():
                assert output.signal is not None
                event = ("retrying", output.signal.idempotency_key, output.attempt)
                self._check_delay(output)
            case Dropped():
                event = ("dropped", output.signal.idempotency_key, output.reason)
                if output.reason == "send_failed":
                    assert self._last_event == ("rejected", output.signal.idempotency_key)
            case Flushed():
                event = ("flushed", output.count)
            case Settled():
                event = ("settled", output.ticket)
                self._check_settled(output)
            case _:
                assert_never(output)
        assert self._expected[event], f"{event} was not due; due are {self._expected}"
        self._expected[event] -= 1
        if not self._expected[event]:
            del self._expected[event]
        self._last_event = event

    def _check_delay(self, event: Retrying) -> None:
        key = None if event.signal is None else event.signal.idempotency_key
        entry = next(entry for entry in self._waiting if entry.key == key)
        ceiling = min(self.retry.base_delay * 2 ** (event.attempt - 1), self.retry.max_delay)
        assert max(ceiling / 2, entry.pause) <= event.delay <= max(ceiling, entry.pause)
        entry.not_before = entry.tried_at + event.delay

    def _check_settled(self, output: Settled[FlushReport] | Settled[TrackResult]) -> None:
        value = output.unwrap()
        if isinstance(value, TrackResult):
            key, dropped = self._admissions.pop(output.ticket)
            assert (value.idempotency_key, value.dropped, value.queued) == (key, dropped, True)
            return
        expected = self._reports.pop(output.ticket)
        told = Counter(str(each.signal.idempotency_key) for each in value.failed)
        assert (value.delivered, value.pending) == (expected.delivered, expected.pending)
        if expected.failed.total() <= self.batch.max_queue_size:
            assert told == expected.failed
        else:
            assert told <= expected.failed
            assert told.total() == self.batch.max_queue_size


def _known(time: float | None) -> float:
    assert time is not None, "it waits before it has told for how long"
    return time


def _by_turn(repeat: tuple[float, Entry]) -> tuple[float, int]:
    at, entry = repeat
    return at, entry.number
