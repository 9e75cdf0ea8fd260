"""The buffer: which signal is sent when, and what becomes of it. The heart of the SDK, and all of it pure.

How it thinks
-------------
A recorded signal is *held* until it ends, and it ends once. While held it is in one of three places:

    fresh       recorded, never attempted; a queue in the order recorded
    in flight   one attempt is under way, known by its ticket
    backing off its last attempt failed; a heap by the time the next one may start

`TRANSITIONS` says which moves there are, and the code can make no other: every change of state goes through
it, and the diagram in the documentation is drawn from it.

Five rules decide when an attempt starts:

*Slots.* At most `max_concurrency` are in flight. Only an attempt holds a slot, a back-off does not, so a slow
or failing signal never holds up the others.

*The batch.* Fresh signals stay until `max_size` of them are there, the first has waited `max_interval`, or a
flush or close wants them out. Then they go, one request each, until none is left. Signals whose back-off
is over do not wait for a batch and go first: they are the older ones.

*The gate* (`gate`). A Retry-After, on whatever status, speaks for the host: nothing at all is sent before it
is over. While the service is down only a probe goes out. After both it is let recover: one, two, three.

*The budget* (`budget`). Repeats of all signals together are bounded.

Three things end a signal: the server's acknowledgement, its refusal, a drop that is reported. A failure that
is the service's (`verdicts`) says nothing about the signal and uses up none of its attempts. One that may be
either counts only if the service has shown, since the signal's last attempt, that it works for others.

A flush is a list of nothing: a sequence number and a count of what was held up to it. So the work
per signal does not grow with how many are held, only with how many flushes wait at the same time. Without a
deadline it sits out an outage of up to `Config.patience`; then it says what is pending.

With a spool (`Config.spool_window`) a signal is held only once it is stored, and the call that records it
waits for that. What is stored is dropped for no failure that may pass: not after `max_attempts`, not for a
key that is refused (401, 403: somebody will change it), not at close. It ends by delivery, by the server's
refusal, by an overflow policy that drops, or by its age: past the window the server may have forgotten its
key.

Time comes in as `now` and is clamped: a clock that goes backwards stands still. Inputs may come in any number
before a poll; `poll` gives what they led to, one output at a time, until it says `Wait`. Nothing that comes
late can do harm: a ticket that is no longer in flight is ignored.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import heappop, heappush
from typing import TypeAlias

from clocknext_core.backoff import RandomSource, retry_delay
from clocknext_core.budget import FIRST_ATTEMPT, PRICES, Budget
from clocknext_core.config import Config
from clocknext_core.envelope import Payload, open_answer
from clocknext_core.errors import ClockNextError, QueueFullError, SpoolError
from clocknext_core.gate import Gate, GateState
from clocknext_core.messages import Answer, Request
from clocknext_core.models import DropReason, TrackResult
from clocknext_core.operations import signal_request, track_result
from clocknext_core.outputs import (
    Adopt,
    Closed,
    Delivered,
    Dropped,
    Erase,
    FailedSignal,
    Flushed,
    FlushReport,
    HookEvent,
    Quarantine,
    Rejected,
    Retrying,
    Settled,
    SpoolDuty,
    Store,
    Ticket,
    Transmit,
    Wait,
)
from clocknext_core.signals import EncodedSignal
from clocknext_core.verdicts import Verdict, judge

OutboxEvent: TypeAlias = HookEvent | SpoolDuty | Settled[FlushReport] | Settled[TrackResult]
OutboxOutput: TypeAlias = OutboxEvent | Transmit | Wait | Closed


class State(StrEnum):
    """Where a recorded signal is."""

    FRESH = "fresh"
    IN_FLIGHT = "in flight"
    BACKING_OFF = "backing off"
    DELIVERED = "delivered"
    REJECTED = "rejected"
    DROPPED = "dropped"
    PARKED = "parked"


class Trigger(StrEnum):
    """What moves a signal on."""

    TRANSMIT = "transmit"
    ACKNOWLEDGE = "acknowledged"
    RETRY = "failed, retryable"
    REFUSE = "refused"
    GIVE_UP = "failed, last attempt"
    ABANDON = "attempt abandoned"
    DISCARD = "queue full, closed, or too old"
    PARK = "closed, with a spool"


TRANSITIONS: Mapping[State, Mapping[Trigger, State]] = {
    State.FRESH: {
        Trigger.TRANSMIT: State.IN_FLIGHT,
        Trigger.DISCARD: State.DROPPED,
        Trigger.PARK: State.PARKED,
    },
    State.IN_FLIGHT: {
        Trigger.ACKNOWLEDGE: State.DELIVERED,
        Trigger.RETRY: State.BACKING_OFF,
        Trigger.ABANDON: State.BACKING_OFF,
        Trigger.REFUSE: State.REJECTED,
        Trigger.GIVE_UP: State.DROPPED,
        Trigger.DISCARD: State.DROPPED,
        Trigger.PARK: State.PARKED,
    },
    State.BACKING_OFF: {
        Trigger.TRANSMIT: State.IN_FLIGHT,
        Trigger.DISCARD: State.DROPPED,
        Trigger.PARK: State.PARKED,
    },
    State.DELIVERED: {},
    State.REJECTED: {},
    State.DROPPED: {},
    State.PARKED: {},
}
"""Every move a signal can make. The four last states are final; what is parked, another process sends."""

KEY_REFUSED = (401, 403)
"""What a spool outlives: a signal whose API key is refused stays, until somebody changes the key."""

ADOPTED_AT_ONCE = 500
"""Most signals that are taken over from the spool in one go."""


@dataclass(slots=True)
class Receipt:
    """What recording a signal came to."""

    result: TrackResult
    ticket: Ticket | None = None
    """Where the call has to wait, for room in the queue or for the spool: wait for this to settle."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """A signal that another process left in the spool."""

    signal: EncodedSignal
    age: float
    """Seconds since it was recorded."""


@dataclass(frozen=True, slots=True)
class Stats:
    """How many buffered signals there were, what became of them, and how the service does.

    recorded = held + delivered + rejected + dropped + parked, at every step.
    """

    recorded: int
    """Also those that were adopted."""
    held: int
    held_bytes: int
    """Size of the bodies of what is held."""
    in_flight: int
    delivered: int
    rejected: int
    """Refused by the server for good."""
    dropped: Mapping[DropReason, int]
    """Ended otherwise, by reason. `send_failed`: given up after the last attempt."""
    parked: int
    """Left in the spool at the close, for the next process."""
    storing: int
    """Not recorded yet: on their way into the spool."""
    retries: int
    """Failed attempts that were, or will be, repeated."""
    gate: GateState
    """`open`, or held back: `paused` by a Retry-After or an outage, then `probing`, then `ramping`."""
    opens_in: float
    """Seconds until a paused gate opens; else 0."""


class _Entry:
    """One held signal."""

    __slots__ = (
        "attempts",
        "encoded",
        "expires_at",
        "is_on_loan",
        "price",
        "request",
        "sent_at",
        "sequence",
        "state",
        "strikes",
        "tried_at",
    )

    def __init__(self, sequence: int, encoded: EncodedSignal, now: float, expires_at: float) -> None:
        self.sequence = sequence
        self.encoded = encoded
        self.request: Request | None = None
        """What every attempt sends; made for the first."""
        self.attempts = 0
        """Sent so often; those broken off are not counted."""
        self.strikes = 0
        """Of these, how many failed by the signal's own fault, as far as can be told."""
        self.tried_at = now
        """When its last attempt failed, or when it was recorded."""
        self.sent_at = now
        self.expires_at = expires_at
        self.price = 0
        """What a repeat takes from the budget; 0 before the first failure."""
        self.is_on_loan = False
        self.state = State.FRESH

    @property
    def size(self) -> int:
        return len(self.encoded.body)

    def move(self, trigger: Trigger) -> None:
        self.state = TRANSITIONS[self.state][trigger]

    def __lt__(self, other: "_Entry") -> bool:
        return self.sequence < other.sequence


@dataclass(slots=True)
class _Tally:
    """Ended signals that no flush has told of yet."""

    delivered: int = 0
    failed: deque[FailedSignal] = field(default_factory=deque[FailedSignal])

    def add(self, failed: FailedSignal | None) -> None:
        if failed is None:
            self.delivered += 1
        else:
            self.failed.append(failed)


@dataclass(slots=True)
class _Flush:
    """One waiting flush: it concerns every signal up to a sequence number."""

    ticket: Ticket
    last_sequence: int
    remaining: int
    tally: _Tally
    began_at: float
    deadline_at: float | None
    closes: bool


@dataclass(slots=True)
class _Blocked:
    """A call that waits for room in the queue."""

    ticket: Ticket
    encoded: EncodedSignal
    deadline_at: float


@dataclass(slots=True)
class _Storing:
    """A signal on its way into the spool, and the call that waits for it."""

    encoded: EncodedSignal
    is_withdrawn: bool = False


class Outbox:
    """The buffer of signals, the attempts in flight, the back-off timers, flush and close.

    Inputs are `record`, `handle_answer`, `abandon`, `withdraw`, `flush` and `close`, with a spool also
    `handle_stored`, `handle_adopted` and `handle_expired`; the output is `poll`.
    No method blocks or does I/O; none is safe for use by two threads at a time.

    Args:
        config: Batch and retry policy, time-out, and where to send.
        rng: Randomness for the jitter.
    """

    def __init__(self, config: Config, rng: RandomSource) -> None:
        self._config = config
        self._batch = config.batch
        self._rng = rng
        self.gate = Gate(config)
        """The host's, which awaited calls respect too."""
        self._budget = Budget()
        self._now = float("-inf")
        self._fresh: deque[_Entry] = deque()
        self._backing_off: list[tuple[float, _Entry]] = []
        self._in_flight: dict[Ticket, _Entry] = {}
        self._blocked: deque[_Blocked] = deque()
        self._storing: dict[Ticket, _Storing] = {}
        self._storing_bytes = 0
        self._has_spool = config.spool_window is not None
        self._window = math.inf if config.spool_window is None else config.spool_window
        """Seconds after which a signal must not be sent any more."""
        self._may_adopt = self._has_spool
        """Whether the spool may hold signals of dead processes that nobody has asked for yet."""
        self._flushes: list[_Flush] = []
        self._events: deque[OutboxEvent] = deque()
        self._last_ticket: Ticket = 0
        self._is_sending = False
        """Whether fresh signals are going out: from a trigger until none is left."""
        self._interval_at: float | None = None
        """When the batch's interval is over; `None` while nothing fresh waits for it."""
        self._fresh_bytes = 0
        self._attempted_bytes = 0
        self._is_closing = False
        self._is_closed = False
        self._recorded = 0
        self._delivered = 0
        self._rejected = 0
        self._dropped: dict[DropReason, int] = {
            "queue_full": 0,
            "send_failed": 0,
            "closed": 0,
            "expired": 0,
        }
        self._parked = 0
        self._retries = 0
        self._delivered_since_empty = 0
        self._unreported = self._new_tally()

    @property
    def held(self) -> int:
        """Signals recorded and not yet ended."""
        return len(self._fresh) + len(self._in_flight) + len(self._backing_off)

    @property
    def held_bytes(self) -> int:
        """Size of the bodies of the signals held."""
        return self._fresh_bytes + self._attempted_bytes

    @property
    def has_work(self) -> bool:
        """Whether there is anything that somebody should poll for, now or later."""
        return bool(self.held or self._storing or self._wants_to_adopt())

    @property
    def is_closing(self) -> bool:
        """Whether `close` was called: signals are refused from then on."""
        return self._is_closing

    def stats(self, *, now: float) -> Stats:
        """Tell what was recorded so far, what became of it, and how the service does. Changes nothing."""
        now = max(self._now, now)
        return Stats(
            recorded=self._recorded,
            held=self.held,
            held_bytes=self.held_bytes,
            in_flight=len(self._in_flight),
            delivered=self._delivered,
            rejected=self._rejected,
            dropped=dict(self._dropped),
            parked=self._parked,
            storing=len(self._storing),
            retries=self._retries,
            gate=self.gate.state(now),
            opens_in=max(0.0, self.gate.opens_at - now),
        )

    # Inputs

    def record(self, encoded: EncodedSignal, *, now: float) -> Receipt:
        """Take a signal into the buffer, or do what the overflow policy says if it is full.

        Raises:
            QueueFullError: The queue is full and the policy is `raise`; nothing was recorded.
        """
        self._advance(now)
        if self._is_closing:
            return self._refuse(encoded, "closed")
        if self._fits(encoded):
            return self._take_in(encoded)
        if self._batch.overflow == "raise":
            raise QueueFullError(
                f"{self.held} signals of {self.held_bytes} bytes are held, and max_queue_size or "
                "max_queue_bytes allows no more; this one was not recorded.",
                retryable=True,
                idempotency_key=encoded.idempotency_key,
            )
        if self._batch.overflow == "block":
            deadline_at = self._now + self._batch.block_timeout
            self._blocked.append(_Blocked(self._new_ticket(), encoded, deadline_at))
            return Receipt(_queued(encoded), self._last_ticket)
        # What was attempted may already be billed, so only fresh signals can make room.
        if self._batch.overflow == "drop_oldest" and self._could_fit(encoded):
            oldest: list[_Entry] = []
            while not self._fits(encoded):
                oldest.append(self._take_fresh())
            receipt = self._take_in(encoded)
            self._is_sending &= bool(self._fresh)  # it may be on its way into the spool
            for entry in oldest:
                self._discard(entry, "queue_full")
            return receipt
        return self._refuse(encoded, "queue_full")

    def handle_stored(self, ticket: Ticket, error: SpoolError | None, *, now: float) -> None:
        """Take note that a signal is in the spool, or why it is not. An unknown ticket is a no-op.

        What is not stored is not recorded, and its call fails.
        """
        self._advance(now)
        storing = self._storing.pop(ticket, None)
        if storing is None:
            return
        encoded = storing.encoded
        self._storing_bytes -= len(encoded.body)
        if error is not None:
            self._events.append(Settled(ticket, error))
        elif storing.is_withdrawn:
            self._events.append(Erase(encoded.idempotency_key))
        else:
            self._hold(encoded, age=0.0)
            self._events.append(Settled(ticket, _queued(encoded)))
        self._admit_blocked()
        self._settle_finished()

    def handle_adopted(self, signals: Sequence[Adopted], *, now: float) -> None:
        """Take over signals from the spool; none: there are no more."""
        self._advance(now)
        self._may_adopt = bool(signals)
        for adopted in signals:
            self._hold(adopted.signal, age=adopted.age)
        if signals:  # they have waited long enough
            self._start_sending()

    def handle_expired(self, encoded: EncodedSignal, *, now: float) -> None:
        """Take note that a signal of a dead process was too old to be taken over, and is in quarantine."""
        self._advance(now)
        self._refuse(encoded, "expired")

    def handle_answer(self, ticket: Ticket, answer: Answer, *, now: float) -> None:
        """Take the answer to an attempt, or its failure. A late or unknown ticket is a no-op."""
        self._advance(now)
        entry = self._land(ticket)
        if entry is None:
            return
        request = entry.request
        assert request is not None  # it was transmitted
        outcome = open_answer(
            answer,
            request=request,
            config=self._config,
            idempotency_key=entry.encoded.idempotency_key,
        )
        if isinstance(outcome, ClockNextError):
            self._fail(entry, outcome)
        else:
            self._deliver(entry, outcome)

    def abandon(self, ticket: Ticket, *, now: float) -> None:
        """Take back an attempt that the driver broke off before it had an answer.

        The signal stays held and goes out again first, under the same key, and the attempt is not counted: it
        says nothing about the signal. A late or unknown ticket is a no-op.
        """
        self._advance(now)
        entry = self._land(ticket)
        if entry is not None:
            entry.attempts -= 1
            if not entry.is_on_loan:
                self._budget.give(entry.price)
            self._back_off(entry, Trigger.ABANDON, 0.0)

    def withdraw(self, ticket: Ticket, *, now: float) -> None:
        """Forget a signal whose call gave up waiting, for room or for the spool.

        A no-op once it has been recorded.
        """
        self._advance(now)
        if ticket in self._storing:
            self._storing[ticket].is_withdrawn = True
        self._blocked = deque(blocked for blocked in self._blocked if blocked.ticket != ticket)

    def flush(self, *, now: float, deadline_at: float | None = None) -> Ticket:
        """Send everything held, and settle when it has ended, or when `deadline_at` comes.

        Settles with a `FlushReport` of what was recorded before. Nothing is dropped at the deadline.
        """
        self._advance(now)
        return self._flush(deadline_at, closes=False)

    def close(self, *, now: float, deadline_at: float | None = None) -> Ticket:
        """Refuse new signals and flush; then `poll` says `Closed`.

        Calls that wait for room are let in first. What is still held at `deadline_at` is reported as pending,
        then dropped as `closed`.
        """
        self._advance(now)
        self._is_closing = True
        while self._blocked:
            self._admit(self._blocked.popleft())
        return self._flush(deadline_at, closes=True)

    # Output

    def poll(self, *, now: float) -> OutboxOutput:
        """Return the next output, after firing the timers that are due."""
        self._advance(now)
        if not self._events:
            self._fire_timers()
        if self._events:
            return self._events.popleft()
        if self._is_closed:
            return Closed()
        if self._wants_to_adopt():
            self._may_adopt = False
            return Adopt(min(self._batch.max_queue_size // 2 + 1, ADOPTED_AT_ONCE))
        if (entry := self._next_to_send()) is not None:
            return self._transmit(entry)
        if self._events:  # the next one had expired
            return self._events.popleft()
        return Wait(self._next_wake_at())

    def wakes_before(self, until: float | None) -> bool:
        """Tell a driver, after an input, whether it must poll although it was told to wait until then.

        So it must where there is something to do before that time, and where that time is over: the clock has
        jumped, and whoever waits may not have noticed.
        """
        if self._events or self._is_closed or self._wants_to_adopt():
            return True
        wake_at = self._next_wake_at()
        if until is None:
            return wake_at is not None
        return until < self._now or (wake_at is not None and wake_at < until)

    def _advance(self, now: float) -> None:
        self._now = max(self._now, now)

    def _new_ticket(self) -> Ticket:
        self._last_ticket += 1
        return self._last_ticket

    def _new_tally(self) -> _Tally:
        # Bounded, for clients that never flush: hooks tell them of failures, a list would only grow.
        return _Tally(failed=deque(maxlen=self._batch.max_queue_size))

    # Recording

    def _fits(self, encoded: EncodedSignal) -> bool:
        held_bytes = self._fresh_bytes + self._attempted_bytes + self._storing_bytes
        return self._is_room_for(encoded, self.held + len(self._storing), held_bytes)

    def _could_fit(self, encoded: EncodedSignal) -> bool:
        """Tell whether it would fit if all that was never attempted made room."""
        held = self.held + len(self._storing) - len(self._fresh)
        return self._is_room_for(encoded, held, self._attempted_bytes + self._storing_bytes)

    def _is_room_for(self, encoded: EncodedSignal, held: int, held_bytes: int) -> bool:
        batch = self._batch
        return held < batch.max_queue_size and held_bytes + len(encoded.body) <= batch.max_queue_bytes

    def _wants_to_adopt(self) -> bool:
        if not self._may_adopt or self._is_closing:
            return False
        # What is adopted may come on top of a queue that has filled meanwhile: half a queue at most.
        return 2 * (self.held + len(self._storing)) < self._batch.max_queue_size

    def _take_in(self, encoded: EncodedSignal) -> Receipt:
        if not self._has_spool:
            self._hold(encoded, age=0.0)
            return Receipt(_queued(encoded))
        ticket = self._new_ticket()
        self._store(ticket, encoded)
        return Receipt(_queued(encoded), ticket)

    def _store(self, ticket: Ticket, encoded: EncodedSignal) -> None:
        self._storing[ticket] = _Storing(encoded)
        self._storing_bytes += len(encoded.body)
        self._events.append(Store(ticket, encoded))

    def _hold(self, encoded: EncodedSignal, *, age: float) -> None:
        self._recorded += 1
        if self._is_closed:  # it came out of the spool, or into it, too late, and stays there
            self._parked += 1
            return
        expires_at = self._now - age + self._window
        self._fresh.append(_Entry(self._recorded, encoded, self._now, expires_at))
        for flush in self._flushes:
            if flush.closes:  # it was on its way into the spool, or from there, when the close began
                flush.remaining += 1
                flush.last_sequence = self._recorded
        self._fresh_bytes += len(encoded.body)
        if not self._is_sending:
            if self._is_closing or len(self._fresh) >= self._batch.max_size:
                self._start_sending()
            elif self._interval_at is None:
                self._interval_at = self._now + self._batch.max_interval

    def _refuse(self, encoded: EncodedSignal, reason: DropReason) -> Receipt:
        """Drop a signal that was never held."""
        self._recorded += 1
        self._dropped[reason] += 1
        self._events.append(Dropped(encoded, reason))
        self._unreported.add(_dropped(encoded, reason))
        return Receipt(_queued(encoded, dropped=reason))

    def _admit(self, blocked: _Blocked) -> None:
        if not self._has_spool:
            self._hold(blocked.encoded, age=0.0)
            self._events.append(Settled(blocked.ticket, _queued(blocked.encoded)))
        else:
            self._store(blocked.ticket, blocked.encoded)

    def _admit_blocked(self) -> None:
        while self._blocked and self._fits(self._blocked[0].encoded):
            self._admit(self._blocked.popleft())

    # Sending

    def _start_sending(self) -> None:
        self._is_sending = bool(self._fresh)
        self._interval_at = None

    def _take_fresh(self) -> _Entry:
        entry = self._fresh.popleft()
        self._fresh_bytes -= entry.size
        return entry

    def _next_to_send(self) -> _Entry | None:
        if self._now < self.gate.opens_at or len(self._in_flight) >= self.gate.width:
            return None
        # A probe is fresh where it can be: a signal that the service chokes on would be a poor one.
        is_repeat_next = self._may_repeat() and not (self._is_sending and self.gate.is_outage)
        if is_repeat_next and self._backing_off[0][0] <= self._now:
            entry = heappop(self._backing_off)[1]
        elif self._is_sending:
            entry = self._take_fresh()
            self._is_sending = bool(self._fresh)
        else:
            return None
        if entry.expires_at > self._now:
            return entry
        self._events.append(Quarantine(entry.encoded.idempotency_key, "too old to be sent"))
        self._discard(entry, "expired")
        return None

    def _may_repeat(self) -> bool:
        return bool(self._backing_off) and self._budget.allows(self._backing_off[0][1].price)

    def _transmit(self, entry: _Entry) -> Transmit:
        entry.move(Trigger.TRANSMIT)
        entry.attempts += 1
        entry.sent_at = self._now
        if entry.price:
            entry.is_on_loan = not self._budget.take(entry.price)
        ticket = self._new_ticket()
        self._in_flight[ticket] = entry
        if entry.request is None:
            entry.request = signal_request(entry.encoded, self._config)
            self._attempted_bytes += entry.size
        return Transmit(ticket, entry.request, self._now + self._config.timeout)

    # What becomes of an attempt

    def _land(self, ticket: Ticket) -> _Entry | None:
        """Take an attempt out of the air; `None`: it is late, or was never there."""
        entry = self._in_flight.pop(ticket, None)
        if entry is not None and entry.is_on_loan:
            self._budget.end_loan()
        return entry

    def _observe(
        self, entry: _Entry, error: ClockNextError | None, *, is_locked_out: bool = False
    ) -> Verdict:
        """Learn from an attempt how the service does: one that locks us out does not work for us."""
        verdict = Verdict.DOWN if is_locked_out else judge(error)
        self.gate.observe(verdict, self._rng, sent_at=entry.sent_at, now=self._now)
        if verdict is Verdict.WORKS:
            self._budget.give(entry.price or FIRST_ATTEMPT)
        if error is not None and error.retry_after is not None:
            self.gate.pause(error.retry_after, self._rng, now=self._now)
        return verdict

    def _deliver(self, entry: _Entry, payload: Payload) -> None:
        self._observe(entry, None)
        entry.move(Trigger.ACKNOWLEDGE)
        self._erase(entry)
        self._delivered += 1
        self._delivered_since_empty += 1
        result = track_result(payload, entry.encoded)
        self._events.append(Delivered(entry.encoded, result))
        if result.pending:
            self._events.append(Rejected(entry.encoded, _to_be_mended(entry.encoded)))
        self._end(entry, None)

    def _fail(self, entry: _Entry, error: ClockNextError) -> None:
        is_locked_out = self._has_spool and error.status in KEY_REFUSED
        verdict = self._observe(entry, error, is_locked_out=is_locked_out)
        entry.strikes += self._is_own_fault(entry, verdict)
        entry.tried_at = self._now
        entry.price = PRICES[verdict]
        if is_locked_out and entry.attempts == 1:
            self._events.append(Rejected(entry.encoded, error))
        if is_locked_out or (error.retryable and self._may_try_again(entry)):
            self._retries += 1
            delay = retry_delay(error, entry.attempts, self._config.retry, self._rng)
            self._events.append(Retrying(entry.attempts, delay, error, entry.encoded))
            self._back_off(entry, Trigger.RETRY, delay)
            return
        if error.retryable:
            entry.move(Trigger.GIVE_UP)
            self._dropped["send_failed"] += 1
        else:
            entry.move(Trigger.REFUSE)
            self._rejected += 1
        self._erase(entry)
        self._events.append(Rejected(entry.encoded, error))
        self._events.append(Dropped(entry.encoded, "send_failed"))
        self._end(entry, FailedSignal(entry.encoded, error))

    def _may_try_again(self, entry: _Entry) -> bool:
        return self._has_spool or entry.strikes < self._config.retry.max_attempts

    def _is_own_fault(self, entry: _Entry, verdict: Verdict) -> bool:
        """Tell whether a failed attempt counts against the signal."""
        if self._batch.outage == "drop" or verdict is Verdict.WORKS:
            return True
        return verdict is Verdict.UNCLEAR and self.gate.worked_at >= entry.tried_at

    def _back_off(self, entry: _Entry, trigger: Trigger, delay: float) -> None:
        entry.move(trigger)
        heappush(self._backing_off, (self._now + delay, entry))

    def _discard(self, entry: _Entry, reason: DropReason) -> None:
        """Drop a signal that was held."""
        entry.move(Trigger.DISCARD)
        self._dropped[reason] += 1
        if reason != "expired":  # which is put aside, not erased
            self._erase(entry)
        self._events.append(Dropped(entry.encoded, reason))
        self._end(entry, _dropped(entry.encoded, reason))

    def _erase(self, entry: _Entry) -> None:
        if self._has_spool:
            self._events.append(Erase(entry.encoded.idempotency_key))

    def _end(self, entry: _Entry, failed: FailedSignal | None) -> None:
        """Count a signal that has left, for every flush it concerns."""
        if entry.request is not None:
            self._attempted_bytes -= entry.size
        self._count(entry, failed)
        self._admit_blocked()
        if self.held == 0 and not self._is_closed:
            self._events.append(Flushed(self._delivered_since_empty))
            self._delivered_since_empty = 0
        self._settle_finished()

    def _settle_finished(self) -> None:
        # One at a time: settling a flush that closes the outbox settles the others too.
        while (flush := next(filter(self._is_finished, self._flushes), None)) is not None:
            self._settle(flush)

    def _is_finished(self, flush: _Flush) -> bool:
        return flush.remaining == 0 and not (flush.closes and self._storing)

    def _count(self, entry: _Entry, failed: FailedSignal | None) -> None:
        concerned = [flush for flush in self._flushes if entry.sequence <= flush.last_sequence]
        for flush in concerned:
            flush.remaining -= 1
            flush.tally.add(failed)
        if not concerned:
            self._unreported.add(failed)

    # Flush and close

    def _flush(self, deadline_at: float | None, *, closes: bool) -> Ticket:
        tally, self._unreported = self._unreported, self._new_tally()
        if self._flushes:
            # An earlier flush still waits and has yet to tell of its signals: this one concerns them too.
            earlier = self._flushes[-1].tally
            tally.delivered += earlier.delivered
            tally.failed = deque([*earlier.failed, *tally.failed], tally.failed.maxlen)
        flush = _Flush(self._new_ticket(), self._recorded, self.held, tally, self._now, deadline_at, closes)
        self._flushes.append(flush)
        self._start_sending()
        self._settle_finished()
        return flush.ticket

    def _settle(self, flush: _Flush) -> None:
        self._flushes.remove(flush)
        report = FlushReport(flush.tally.delivered, list(flush.tally.failed), flush.remaining)
        self._events.append(Settled(flush.ticket, report))
        if flush.closes and not self._is_closed:
            self._shut()

    def _shut(self) -> None:
        self._is_closed = True
        left = [*self._in_flight.values(), *(entry for _, entry in self._backing_off), *self._fresh]
        self._in_flight.clear()
        self._backing_off.clear()
        self._fresh.clear()
        self._fresh_bytes = 0
        for entry in sorted(left):
            if not self._has_spool:
                self._discard(entry, "closed")
            else:
                entry.move(Trigger.PARK)
                self._parked += 1
        self._attempted_bytes = 0
        # A flush that still waits will wait for nothing: what it waited for is no longer this process's.
        while self._flushes:
            self._settle(self._flushes[0])

    # Timers

    def _fire_timers(self) -> None:
        if self._interval_at is not None and self._interval_at <= self._now:
            self._start_sending()
        while self._blocked and self._blocked[0].deadline_at <= self._now:
            blocked = self._blocked.popleft()
            self._events.append(Settled(blocked.ticket, self._refuse(blocked.encoded, "queue_full").result))
        while (flush := next(filter(self._is_overdue, self._flushes), None)) is not None:
            self._settle(flush)

    def _is_overdue(self, flush: _Flush) -> bool:
        return self._gives_up_at(flush) <= self._now

    def _gives_up_at(self, flush: _Flush) -> float:
        if flush.deadline_at is not None:
            return flush.deadline_at
        return max(flush.began_at, self.gate.worked_at) + self._config.patience

    def _next_wake_at(self) -> float | None:
        wake_at = math.inf if self._interval_at is None else self._interval_at
        for flush in self._flushes:
            wake_at = min(wake_at, self._gives_up_at(flush))
        if self._blocked:
            wake_at = min(wake_at, self._blocked[0].deadline_at)
        if (self._is_sending or self._backing_off) and len(self._in_flight) < self.gate.width:
            if self._is_sending:
                wake_at = min(wake_at, self.gate.opens_at)
            if self._may_repeat():
                wake_at = min(wake_at, max(self._backing_off[0][0], self.gate.opens_at))
        return None if wake_at == math.inf else wake_at


def _to_be_mended(encoded: EncodedSignal) -> ClockNextError:
    return ClockNextError(
        "The server refused the signal's body, but keeps it for a person to mend.",
        status=202,
        idempotency_key=encoded.idempotency_key,
    )


def _queued(encoded: EncodedSignal, *, dropped: DropReason | None = None) -> TrackResult:
    return TrackResult({}, idempotency_key=encoded.idempotency_key, queued=True, dropped=dropped)


def _dropped(encoded: EncodedSignal, reason: DropReason) -> FailedSignal:
    error = ClockNextError(
        f"The signal was dropped: {reason}.", retryable=True, idempotency_key=encoded.idempotency_key
    )
    return FailedSignal(encoded, error)
