"""What the outbox promises (`docs/architecture.md`), checked on what one process of a client does.

The judge knows what a user and a server know: what was recorded, what was sent, what came back, what was
reported. It does not know how the outbox decides, and predicts nothing but what is promised.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from clocknext_core import (
    Closed,
    Config,
    Delivered,
    Dropped,
    Emptied,
    EncodedSignal,
    FlushReport,
    GivenUp,
    KeyRefused,
    Mending,
    Misdirected,
    Receipt,
    Rejected,
    Retrying,
    Settled,
    SpooledOutput,
    Stats,
    Ticket,
    TrackResult,
    Transmit,
    Wait,
)
from tests.simulation.network import Flight

NEVER = float("-inf")

MAY_BE_ITS_FAULT = ("409", "500", "500 after commit", "500 with a success in it")
"""Failures that the API itself has spoken about: these count against a signal while the service works."""

ENDS = {Delivered: "delivered", Rejected: "rejected", GivenUp: "send_failed"}


@dataclass(eq=False)
class Known:
    """A signal, as far as its user and the server know it."""

    key: str
    body: bytes
    recorded_at: float = NEVER
    number: int = 0
    """Its place among those recorded; 0 if its call had to wait: then it is held before that is known."""
    is_adopted: bool = False
    place: str = "new"
    """`new`, `waiting` (its call waits for room or for the disk), `held`; then how it ended."""
    failures: int = 0
    """Attempts that failed."""
    faults: int = 0
    """Of these, how many may be its own fault: others were served since it was recorded, or failed last."""
    is_poison: bool = False
    """Whether all its attempts fail, whatever the weather."""
    is_misdirected: bool = False
    """Whether it was told of as misdirected."""
    was_sent: bool = False
    failed_at: float = NEVER
    not_before: float = NEVER
    """When its back-off is over."""
    others_worked: int = 0
    """How often others had been answered by the service when it was recorded."""
    worked: int = 0
    """How often any had been when it was recorded, or failed last."""


@dataclass(eq=False)
class Waiting:
    """A flush or close that waits."""

    ticket: Ticket
    covers: list[Known]
    began_at: float
    deadline_at: float | None
    closes: bool
    may_cover: list[Known] = field(default_factory=list[Known])
    """Signals that were let in at about the same time."""


@dataclass
class Judge:
    """Told of every input and output of one process, in order.

    Args:
        config: The client's configuration.
        seen: What did happen, to tell a run that proves something from one that does not.
    """

    config: Config
    seen: Counter[str]
    now: float = NEVER
    paused_until: float = NEVER
    """The latest Retry-After: nothing at all is sent before."""
    signals: dict[str, Known] = field(default_factory=dict[str, Known])
    is_closing: bool = False
    is_closed: bool = False

    def __post_init__(self) -> None:
        self.in_flight: dict[Ticket, Known] = {}
        self._calls: dict[Ticket, Known] = {}
        """Calls that wait for room or for the disk."""
        self._flushes: list[Waiting] = []
        self._tickets: set[Ticket] = set()
        self._retries = 0
        self._held = 0
        self._worked = 0
        """Answers that showed the service working."""
        self._reported = 0
        """Delivered signals in all reports."""
        self._did_flushes_overlap = False
        self._has_spool = self.config.spool_window is not None

    # Inputs

    def touch(self, now: float) -> None:
        """Take the time. A clock that goes backwards stands still."""
        self.now = max(self.now, now)

    def recorded(self, encoded: EncodedSignal, receipt: Receipt | None, before: Stats) -> None:
        """Take note of a signal that was recorded; without a receipt the call has raised.

        Args:
            encoded: The signal.
            receipt: What the call returned.
            before: The counts before it.
        """
        known = Known(encoded.idempotency_key, encoded.body, self.now)
        known.others_worked = known.worked = self._worked
        self.signals[known.key] = known
        batch = self.config.batch
        taken = before.held + before.storing
        taken_bytes = before.held_bytes + sum(len(each.body) for each in self._calls.values())
        is_full = taken >= batch.max_queue_size or taken_bytes + len(encoded.body) > batch.max_queue_bytes
        if receipt is None:
            assert is_full, "raised, though there was room"
            known.place = "raised"
        elif receipt.result.dropped is not None:
            known.place = receipt.result.dropped
            assert self.is_closing or is_full, "dropped, though there was room"
        elif receipt.ticket is None:
            self._hold(known, in_order=True)
        else:
            assert self._has_spool or is_full, "a call waits for nothing"
            self._take_ticket(receipt.ticket)
            known.place = "waiting"
            self._calls[receipt.ticket] = known
            self.seen["blocked"] += is_full
        self.seen[known.place] += known.place != "held"

    def stored(self, ticket: Ticket, *, fails: bool) -> None:
        """Take note that a signal is on the disk, or is not."""
        known = self._calls.get(ticket)
        if known is not None and not fails and known.place == "waiting":
            self._hold(known, in_order=True)

    def adopted(self, signals: Iterable[EncodedSignal]) -> None:
        """Take note of what was taken over from dead processes."""
        for encoded in signals:
            known = Known(
                encoded.idempotency_key, encoded.body, self.now, is_adopted=True, others_worked=self._worked
            )
            self.signals[known.key] = known
            self._hold(known, in_order=True)
            self.seen["adopted"] += 1

    def expired(self, signals: Iterable[EncodedSignal]) -> None:
        """Take note of signals of dead processes that were too old."""
        for encoded in signals:
            key = encoded.idempotency_key
            self.signals[key] = Known(key, encoded.body, self.now, place="expired")
            self.seen["expired"] += 1

    def answered(self, ticket: Ticket, flight: Flight) -> None:
        """Take note of an answer."""
        known = self.in_flight.pop(ticket, None)
        if known is None:
            self.seen["late answer"] += 1
            return
        self.paused(flight.pause, now=self.now)
        self.seen[f"pause: {flight.fate.pause.shape}"] += 1
        known.failed_at = self.now
        self.seen[f"pause: {flight.fate.pause.shape}"] += 1
        known.failures += flight.meaning == "retry"
        kind = flight.fate.kind.removeprefix("poison: ")
        known.faults += kind == "409" or (kind in MAY_BE_ITS_FAULT and self._worked > known.worked)
        self._worked += flight.meaning != "retry" or kind == "409"
        known.worked = self._worked

    def paused(self, pause: float | None, *, now: float) -> None:
        """Take note of a Retry-After."""
        if pause:
            self.paused_until = max(self.paused_until, now + pause)

    def abandoned(self, ticket: Ticket) -> None:
        """Take note of an attempt that was taken back."""
        self.seen["abandoned"] += self.in_flight.pop(ticket, None) is not None

    def withdrawn(self, ticket: Ticket) -> None:
        """Take note of a call that gave up waiting."""
        known = self._calls.get(ticket)
        if known is not None and known.place == "waiting":
            known.place = "withdrawn"
            self.seen["withdrawn"] += 1

    def flushed(self, ticket: Ticket, deadline_at: float | None, *, closes: bool) -> None:
        """Take note of a flush, or of a close."""
        self._take_ticket(ticket)
        self.is_closing |= closes
        self._did_flushes_overlap |= bool(self._flushes)
        self._flushes.append(Waiting(ticket, self.held, self.now, deadline_at, closes))

    # Outputs

    @property
    def held(self) -> list[Known]:
        """Signals that are recorded, and of which no end was reported."""
        return [known for known in self.signals.values() if known.place == "held"]

    @property
    def waiting_calls(self) -> list[Ticket]:
        """Calls that wait for room or for the disk."""
        return [ticket for ticket, known in self._calls.items() if known.place == "waiting"]

    @property
    def is_idle(self) -> bool:
        """Whether nothing is held and nobody waits."""
        return not (self.held or self.waiting_calls or self._flushes)

    def polled(self, output: SpooledOutput, counts: Stats) -> None:
        """Check an output."""
        match output:
            case Transmit():
                self._check_transmit(output)
            case Wait():
                self._check_wait(output, counts)
            case Closed():
                assert self.is_closing
                self.is_closed = True
                self.in_flight.clear()
                if self._has_spool:
                    for known in self.held:
                        known.place = "parked"
                        self.seen["parked"] += 1
                assert not self._flushes, "closed before it had settled"
                assert not self.held, "closed, and signals vanished"
            case Delivered() | Rejected() | GivenUp():
                self._end(output.encoded.idempotency_key, ENDS[type(output)])
                if isinstance(output, GivenUp):
                    self._check_given_up(self.signals[output.encoded.idempotency_key])
            case Dropped():
                dropped = self.signals[output.encoded.idempotency_key]
                if dropped.place == "held":
                    self._end(dropped.key, output.reason)
                elif dropped.place == "waiting":
                    dropped.place = output.reason
                    self.seen["block timed out"] += 1
            case Retrying():
                assert output.encoded is not None
                self._check_retrying(output, self.signals[output.encoded.idempotency_key])
            case Settled():
                self._check_settled(output)
            case Misdirected():
                known = self.signals[output.encoded.idempotency_key]
                assert not known.is_misdirected, "told twice"
                assert known.place == "held"
                assert output.error.hint is not None
                known.is_misdirected = True
                self.seen["misdirected"] += 1
            case Mending() | KeyRefused() | Emptied():
                self.seen[type(output).__name__] += 1
            case _:
                pass  # a duty to the spool, which the disk takes

    def check(self, counts: Stats) -> None:
        """Check the counts after any step."""
        ended = counts.delivered + counts.rejected + sum(counts.dropped.values()) + counts.parked
        assert counts.recorded == counts.held + ended, f"the counts do not add up: {counts}"
        assert counts.in_flight <= self.config.batch.most_concurrency, "too many in flight"
        assert counts.opens_in >= 0
        self.seen[f"gate {counts.gate}"] += 1
        batch = self.config.batch
        if not self.is_closing and not self.seen["adopted"]:  # calls that wait for room are let in at close
            assert counts.held + counts.storing <= batch.max_queue_size, "more held than allowed"
            assert counts.held_bytes <= batch.max_queue_bytes, "more bytes held than allowed"

    # The judge's own

    def _take_ticket(self, ticket: Ticket) -> None:
        assert ticket not in self._tickets, "a ticket was given twice"
        self._tickets.add(ticket)

    def _hold(self, known: Known, *, in_order: bool) -> None:
        known.place = "held"
        known.recorded_at = self.now
        self._held += 1
        known.number = self._held if in_order else 0
        for flush in self._flushes:
            flush.may_cover.append(known)

    def _end(self, key: str, place: str) -> None:
        known = self.signals[key]
        assert known.place == "held", f"{key} ended twice: {known.place}, then {place}"
        known.place = place
        self.seen[place] += 1

    def _check_transmit(self, output: Transmit) -> None:
        self._take_ticket(output.ticket)
        assert not self.is_closed
        assert output.deadline_at == self.now + self.config.timeout
        assert (output.request.method, output.request.target) == ("POST", "/api/v1/usage")
        assert output.request.replay_safe
        assert self.now >= self.paused_until, "sent before the server's Retry-After"
        body = output.request.body
        known = next((each for each in self.held if each.body == body), None)
        assert known is not None, "other bytes were sent than were recorded, or nothing held"
        assert known not in self.in_flight.values(), "two attempts of one signal at a time"
        assert self.now >= known.not_before, "sent before its own back-off"
        if not known.was_sent and known.number:
            fresh = [each for each in self.held if not each.was_sent and each.is_adopted == known.is_adopted]
            numbers = [each.number for each in fresh if each.number]
            assert known.number == min(numbers), "a first attempt out of order"
        self.seen["repeat"] += known.was_sent
        known.was_sent = True
        self.in_flight[output.ticket] = known
        assert len(self.in_flight) <= self.config.batch.most_concurrency, "too many in flight"

    def _check_wait(self, output: Wait, counts: Stats) -> None:
        batch = self.config.batch
        held = self.held
        assert counts.held == len(held), "the count of what is held is not what was recorded and not ended"
        assert counts.in_flight == len(self.in_flight)
        assert counts.retries == self._retries
        assert output.until is None or output.until > self.now, "wakes up in the past"
        if held and not self.in_flight:
            assert output.until is not None, "sleeps for ever on work"
        fresh = [known for known in held if not known.was_sent]
        own = [known for known in fresh if not known.is_adopted]
        if counts.gate == "open" and counts.in_flight < batch.most_concurrency:
            is_full = counts.held + counts.storing >= batch.max_queue_size
            is_full |= bool(self.waiting_calls) and not self._has_spool  # by bytes, for the call that waits
            assert not (own and (len(own) >= batch.max_size or is_full)), "a full batch or queue is not sent"
            assert len(own) == len(fresh), "adopted signals are not sent"
            first = min((known.recorded_at for known in own), default=None)
            if first is not None:
                assert output.until is not None
                assert output.until <= first + batch.max_interval, "an interval that does not end"
        for flush in self._flushes:
            assert flush.deadline_at is None or self.now < flush.deadline_at, "a flush ends late"
            is_waiting = any(known.place == "held" for known in [*flush.covers, *flush.may_cover])
            if not self._has_spool:
                assert is_waiting, "a flush that waits for nothing has not ended"
            else:
                self.seen["flush waits for a look"] += not is_waiting

    def _check_retrying(self, event: Retrying, known: Known) -> None:
        assert known.place == "held"
        assert event.delay >= 0
        known.not_before = known.failed_at + event.delay
        self._retries += 1
        self.seen["retry"] += 1
        self.seen["held beyond its attempts"] += known.failures > self.config.retry.max_attempts

    def _check_given_up(self, known: Known) -> None:
        attempts = self.config.retry.max_attempts
        assert known.failures >= attempts, "given up too early"
        if self.config.batch.outage == "hold" or self._has_spool:
            assert self._worked > known.others_worked, "given up, though the service worked for nobody"
            is_faulty = known.faults >= attempts and not self._has_spool
            assert known.is_poison or is_faulty, "given up for what was the service's failure"
        self.seen["poison given up"] += known.is_poison

    def _check_settled(self, output: Settled[FlushReport] | Settled[TrackResult]) -> None:
        if (known := self._calls.pop(output.ticket, None)) is not None:
            outcome = output.outcome
            if isinstance(outcome, TrackResult):
                assert outcome.idempotency_key == known.key
                # A call that gave up after it was let in, and before it heard of it, has recorded its signal.
                if outcome.dropped is None and known.place in ("waiting", "withdrawn"):
                    assert not self._has_spool
                    self._hold(known, in_order=False)
                    self.seen["admitted"] += 1
                assert (outcome.dropped is None) == (known.place != "queue_full")
            else:
                assert known.place in ("waiting", "withdrawn")
                known.place = "not stored"
                self.seen["not stored"] += 1
            return
        flush = next(flush for flush in self._flushes if flush.ticket == output.ticket)
        self._flushes.remove(flush)
        if flush.closes:
            self.in_flight.clear()  # their answers are late now
        report = output.unwrap()
        assert isinstance(report, FlushReport)
        self._check_report(flush, report)

    def _check_report(self, flush: Waiting, report: FlushReport) -> None:
        left = sum(known.place == "held" for known in flush.covers)
        assert report.pending >= left, "a flush has ended before its signals"
        self.seen["flush out of time" if report.pending else "flush"] += 1
        if report.pending and not self.is_closing:
            if flush.deadline_at is not None:
                assert self.now >= flush.deadline_at, "a flush gave up early"
            else:
                assert self.now >= flush.began_at + self.config.patience, "a flush lost its patience early"
                self.seen["out of patience"] += 1
        failed = [str(each.signal.idempotency_key) for each in report.failed]
        assert all(self.signals[key].place not in ("held", "delivered") for key in failed)
        delivered = sum(known.place == "delivered" for known in self.signals.values())
        self._reported += report.delivered
        if not self._did_flushes_overlap:
            assert self._reported <= delivered, "reported twice"
            if flush.closes and not self._has_spool:
                assert self._reported == delivered, "what was delivered is not what was reported"
        assert report.delivered <= delivered
        assert report.adopted <= report.delivered
