"""The buffer of signals: which one is sent when, and how each of them ends. The heart of the SDK, and pure.

How it thinks
-------------
A recorded signal is *held* until it ends, and it ends once. While held it is in one of three places:

    fresh       recorded, never attempted; a queue in the order recorded
    in flight   one attempt is under way, known by its ticket
    backing off its last attempt failed; a heap by the time the next one may start

`states.TRANSITIONS` has all moves there are: every change of state goes through it.

Five rules decide when an attempt starts:

*Slots.* At most `max_concurrency` are in flight. A back-off holds no slot, so that it never delays others.

*The batch.* Fresh signals stay until `max_size` of them are there, the first has waited `max_interval`, the
queue is full (`room`), or a flush or close wants them out. Then they go, one request each, until none is
left. Signals whose back-off is over do not wait for a batch and go first: they are the older ones. Those that
fail again and again take turns with fresh ones, and half of the slots: each may last until its time-out.

*The gate* (`gate`). A Retry-After, on whatever status, speaks for the host: nothing at all is sent before it
is over. While the service is down only a probe goes out. Then concurrency ramps up by one per success.

*The budget* (`budget`). Repeats of all signals together are bounded.

Three things end a signal: the server's acknowledgement, its refusal, a drop that is reported. A failure that
is the service's (`verdicts`) says nothing about the signal and uses up none of its attempts; an answer that
is not the API's is one. An ambiguous failure (a 500) counts only if another signal has succeeded since this
signal's last attempt. A signal that meets nothing but failures while others are delivered is given up when
chance can't explain that (`poison`).

Flushes are in `flushes`, the limits of the queue in `room`, and what a spool beneath it adds in `spooled`.

Time comes in as `now` and is clamped: a clock that goes backwards stands still. Inputs may come in any number
before a poll; `poll` returns what they led to, one by one, until `Wait`. A ticket not in flight is ignored.
"""

import math
from collections import deque
from heapq import heappop, heappush
from typing import TypeAlias, get_args

from clocknext_core.backlog import Backlog
from clocknext_core.backoff import RandomSource, retry_delay
from clocknext_core.budget import FIRST_ATTEMPT, PRICES, Budget
from clocknext_core.config import Config
from clocknext_core.delivery import mending_error, signal_request, track_result
from clocknext_core.envelope import Payload, open_answer
from clocknext_core.errors import ClockNextError
from clocknext_core.flushes import Flush, Flushes
from clocknext_core.gate import Gate
from clocknext_core.messages import Answer
from clocknext_core.models import TrackResult
from clocknext_core.outputs import (
    Closed,
    Delivered,
    Dropped,
    Emptied,
    FailedSignal,
    FlushReport,
    GivenUp,
    HookEvent,
    Mending,
    Misdirected,
    Receipt,
    Rejected,
    Retrying,
    Settled,
    Ticket,
    Transmit,
    Wait,
    WaitReason,
    dropped,
    queued,
)
from clocknext_core.poison import Evidence
from clocknext_core.room import Blocked, Room
from clocknext_core.signals import EncodedSignal
from clocknext_core.states import DropReason, Entry, Trigger
from clocknext_core.stats import Stats
from clocknext_core.verdicts import Verdict, judge

_Event: TypeAlias = HookEvent | Settled[FlushReport] | Settled[TrackResult]
OutboxOutput: TypeAlias = _Event | Transmit | Wait | Closed
_Timer: TypeAlias = tuple[float, WaitReason]
"""When to wake up, and for what."""
_NEVER: _Timer = (math.inf, WaitReason.INTERVAL)


class Outbox:
    """The buffer of signals, the attempts in flight, the back-off timers, flush and close.

    Inputs are `record`, `handle_answer`, `abandon`, `withdraw`, `flush` and `close`; the output is `poll`.
    No method blocks or does I/O; none is safe for use by two threads at a time.

    Args:
        config: Batch and retry policy, time-out, and where to send.
        rng: Randomness for the jitter.
    """

    _left_at_close = Trigger.DISCARD
    """What happens to signals that are still held when the close gives up."""

    def __init__(self, config: Config, rng: RandomSource) -> None:
        self._config = config
        self._batch = config.batch
        self._rng = rng
        self.gate: Gate = Gate(config)
        """The host's, which awaited calls respect too."""
        self._budget = Budget()
        concurrency = config.batch.max_concurrency
        self._backlog = None if concurrency == "auto" else Backlog(concurrency)
        self._now = -math.inf
        self._fresh: deque[Entry] = deque()
        """This process's own; they go before those adopted."""
        self._fresh_adopted: deque[Entry] = deque()
        self._backing_off: list[tuple[float, Entry]] = []
        self._in_flight: dict[Ticket, Entry] = {}
        self._held_adopted = 0
        self._held_bytes = 0
        self._fresh_bytes = 0
        self._room = Room(config.batch)
        self._flushes = Flushes(config.patience, config.batch.max_queue_size)
        self._events: deque[_Event] = deque()
        self._last_ticket: Ticket = 0
        self._is_sending = False
        """Whether fresh signals are going out: from a trigger until none is left."""
        self._is_last_a_suspect = False
        """Whether the last attempt that began was of a signal that may be poison."""
        self._interval: _Timer | None = None
        """When the batch's interval is over; `None` while nothing fresh waits for it."""
        self._is_closing = False
        self._is_closed = False
        self._recorded: int = 0
        self._delivered = 0
        self._rejected = 0
        self._dropped: dict[DropReason, int] = dict.fromkeys(get_args(DropReason), 0)
        self._parked = 0
        self._retries = 0
        self._misdirected = 0
        self._evidence = Evidence()
        self._served_at = -math.inf
        """When the service last delivered or refused a signal; a 409 shows it working, and ends nothing."""
        self._outages = 0
        """First attempts that failed as a probe: each confirms an outage."""
        self._delivered_since_empty = 0

    @property
    def held(self) -> int:
        """Signals recorded and not yet ended."""
        return len(self._fresh) + len(self._fresh_adopted) + len(self._in_flight) + len(self._backing_off)

    @property
    def held_bytes(self) -> int:
        """Size of the bodies of the signals held."""
        return self._held_bytes

    @property
    def has_work(self) -> bool:
        """Whether there is anything to poll for, now or later."""
        return self.held > 0

    @property
    def is_closing(self) -> bool:
        """Whether `close` was called: signals are refused from then on."""
        return self._is_closing

    def stats(self, *, now: float) -> Stats:
        """Count the signals, and say how the service does. Changes nothing."""
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
            storing=self._storing_count(),
            retries=self._retries,
            gate=self.gate.state(now),
            opens_in=max(0.0, self.gate.opens_at - now),
            misdirected=self._misdirected,
            left_behind=self._left_behind(),
        )

    # Inputs

    def record(self, encoded: EncodedSignal, *, now: float, may_wait: bool = True) -> Receipt:
        """Take a signal into the buffer, or do what the overflow policy says if it is full.

        Args:
            encoded: The signal.
            now: The time.
            may_wait: Whether the call can wait or fail. Where it can't, `block` and `raise` are as
                `drop_newest`, and a signal that the spool does not take is reported as given up.

        Raises:
            QueueFullError: The queue is full and the policy is `raise`, or it is `block` and the signal would
                never fit; nothing was recorded.
        """
        self._advance(now)
        if self._config.disabled:
            self._recorded += 1
            self._dropped["disabled"] += 1
            return Receipt(queued(encoded, dropped="disabled"))
        size = len(encoded.body)
        if self._is_closing:
            return self._refuse(encoded, "closed")
        if self._room.fits(size):
            return Receipt(queued(encoded), self._admit(encoded))
        self._start_sending()  # to make room
        overflow = self._batch.overflow
        if not may_wait and overflow in {"block", "raise"}:
            return self._refuse(encoded, "queue_full")
        if overflow == "raise" or (overflow == "block" and self._room.never_fits(size)):
            raise self._room.error(encoded)
        if overflow == "block":
            deadline_at = self._now + self._batch.block_timeout
            blocked = Blocked(self._new_ticket(), encoded, deadline_at)
            self._room.block(blocked)
            return Receipt(queued(encoded), blocked.ticket)
        if overflow == "drop_oldest" and self._can_make_room_for(size):
            oldest: list[Entry] = []
            while not self._room.fits(size):
                self._drop_oldest(oldest)
            ticket = self._admit(encoded)
            self._start_sending()
            for entry in oldest:  # only now, or the queue would seem to be empty
                self._note_end(entry, dropped(entry.encoded, "queue_full"))
            return Receipt(queued(encoded), ticket)
        return self._refuse(encoded, "queue_full")

    def handle_answer(self, ticket: Ticket, answer: Answer, *, now: float) -> None:
        """Take the answer to an attempt, or its failure. A late or unknown ticket is a no-op."""
        self._advance(now)
        self.gate.came_at = min(self.gate.came_at, self._now)
        entry = self._take_from_flight(ticket)
        if entry is None:
            return
        request = entry.request
        assert request is not None  # it was transmitted
        key = entry.encoded.idempotency_key
        outcome = open_answer(answer, request=request, config=self._config, idempotency_key=key)
        if isinstance(outcome, ClockNextError):
            self._fail(entry, outcome)
        else:
            self._deliver(entry, outcome)

    def abandon(self, ticket: Ticket, *, now: float | None = None) -> None:
        """Take back an attempt that the driver broke off before it had an answer.

        The signal stays held and goes out again first, under the same key, and the attempt is not counted: it
        says nothing about the signal. A late or unknown ticket is a no-op.

        Args:
            ticket: The attempt's.
            now: The time; `None` where there is no clock to be read: the time of the last input.
        """
        self._advance(now)
        entry = self._take_from_flight(ticket)
        if entry is not None:
            entry.attempts -= 1
            if not entry.is_on_loan:
                self._budget.give(entry.price)
            self._back_off(entry, Trigger.ABANDON, 0.0)

    def withdraw(self, ticket: Ticket, *, now: float) -> None:
        """Forget a signal whose call gave up waiting for room. A no-op once it has been recorded."""
        self._advance(now)
        self._room.withdraw(ticket)
        self._admit_blocked()  # those behind it may fit

    def flush(self, *, now: float, deadline_at: float | None = None) -> Ticket:
        """Send everything held, and settle when it has ended, or when `deadline_at` comes.

        Settles with a `FlushReport` of what was recorded before. Nothing is dropped at the deadline. Without
        one a flush waits through an outage for up to `Config.patience`.
        """
        self._advance(now)
        return self._flush(deadline_at, closes=False)

    def close(self, *, now: float | None = None, deadline_at: float | None = None) -> Ticket:
        """Refuse new signals and flush; then `poll` returns `Closed`.

        Calls that wait for room are let in first. What is still held at `deadline_at` is reported as pending,
        then dropped as `closed`.

        Args:
            now: The time; `None` where there is no clock to be read: the time of the last input.
            deadline_at: When to give up; `None`: as for `flush`.
        """
        self._advance(now)
        self._is_closing = True
        while (blocked := self._room.next_admitted(however_full=True)) is not None:
            self._admit(blocked.encoded, blocked.ticket)
        return self._flush(deadline_at, closes=True)

    # Output

    def poll(self, *, now: float) -> OutboxOutput:
        """Return the next output, after firing the timers that are due."""
        self._advance(now)
        self.gate.came_at = math.inf
        if not self._events:
            self._fire_timers()
        if not self._events and not self._is_closed and (entry := self._next_to_send()) is not None:
            return self._transmit(entry)
        if self._events:
            return self._events.popleft()
        if self._is_closed:
            return Closed()
        timer = self._next_timer()
        return Wait(None) if timer is None else Wait(*timer)

    def wakes_before(self, until: float | None) -> bool:
        """Return whether the driver must poll now, after an input, instead of sleeping until `until`.

        It must if there is something to do before that time, or if that time is over: then the clock has
        jumped, and the sleeping thread or task may not have noticed.
        """
        if self._events or self._is_closed:
            return True
        timer = self._next_timer()
        if until is None:
            return timer is not None
        return until < self._now or (timer is not None and timer[0] < until)

    def _advance(self, now: float | None) -> None:
        if now is not None and now > self._now:
            self._now = now

    def _new_ticket(self) -> Ticket:
        self._last_ticket += 1
        return self._last_ticket

    # With a spool beneath it, these differ

    def _admit(self, encoded: EncodedSignal, ticket: Ticket | None = None) -> Ticket | None:
        """Take in a signal for which there is room.

        Args:
            encoded: The signal.
            ticket: Of the call that has waited for room.

        Returns:
            The ticket for which the call has to wait now; `None`: the signal is held.
        """
        entry = Entry(self._recorded + 1, encoded, self._now, self.gate.worked)
        self._hold(entry, takes_room=True)
        if ticket is not None:
            self._events.append(Settled(ticket, queued(encoded)))
        return None

    def _leave(
        self,
        entry: Entry,
        trigger: Trigger,
        reason: DropReason | None = None,
        error: ClockNextError | None = None,
    ) -> None:
        """Move a signal to the state in which it ends; `reason`: why it is dropped; `error`: the refusal."""
        del reason, error
        entry.move(trigger)

    def _is_held_after(self, entry: Entry) -> bool:
        """Return whether a signal is tried again after a failure that may pass."""
        return entry.strikes < self._config.retry.max_attempts and not self._is_poison(entry)

    def _outlives(self, entry: Entry, error: ClockNextError) -> bool:
        """Return whether a signal is held although the server has refused it."""
        del entry, error
        return False

    def _judge(self, error: ClockNextError) -> Verdict:
        """Judge the service by a failed attempt."""
        return judge(error)

    def _storing_count(self) -> int:
        """Count the signals on their way into the spool."""
        return 0

    def _left_behind(self) -> int:
        """Count the signals of dead processes that are known to be in the spool."""
        return 0

    def _needs_room(self) -> bool:
        """Return whether held signals have to make room for others."""
        return self._room.is_full

    def _ask_for_a_look(self) -> int | None:
        """Ask for a look into the spool; return the number of the look for which a flush waits."""
        return None

    # Recording

    def _can_make_room_for(self, size: int) -> bool:
        # What was attempted may already be billed, so only fresh signals can make room.
        fresh = len(self._fresh) + len(self._fresh_adopted)
        return self._room.fits(size, without=fresh, without_bytes=self._fresh_bytes)

    def _hold(self, entry: Entry, *, takes_room: bool) -> None:
        """Record a signal and hold it; `takes_room`: it has no room yet."""
        room, size = self._room, entry.size
        fresh = self._fresh_adopted if entry.is_adopted else self._fresh
        if self._flushes.waiting:
            self._flushes.hold(entry)
        if not (entry.is_adopted or self._is_sending) and self._interval is None:
            self._interval = (self._now + self._batch.max_interval, WaitReason.INTERVAL)
        # Between these lines nothing is called: there Python runs signal handlers, which may raise.
        self._recorded = entry.sequence
        self._held_bytes += size
        self._fresh_bytes += size
        self._held_adopted += entry.is_adopted
        if takes_room:
            room.count += 1
            room.size += size
        fresh.append(entry)
        is_due = self._is_closing or len(self._fresh) >= self._batch.max_size or self._needs_room()
        if is_due and self._fresh and not self._is_sending:
            self._start_sending()

    def _drop_oldest(self, oldest: list[Entry]) -> None:
        """Drop the fresh signal recorded first, and add it to a list for flushes to count."""
        fresh, room = self._fresh_adopted or self._fresh, self._room
        entry = fresh[0]
        size, event = entry.size, Dropped(entry.encoded, "queue_full")
        # From here to `append` nothing is called, as in `_hold`.
        del fresh[0]
        if not self._fresh:
            self._is_sending = False
        self._fresh_bytes -= size
        self._held_bytes -= size
        self._held_adopted -= entry.is_adopted
        room.count -= 1
        room.size -= size
        self._dropped["queue_full"] += 1
        self._events.append(event)
        oldest.append(entry)
        self._leave(entry, Trigger.DISCARD, "queue_full")

    def _refuse(self, encoded: EncodedSignal, reason: DropReason) -> Receipt:
        """Drop a signal that was never held."""
        self._recorded += 1
        self._dropped[reason] += 1
        self._events.append(Dropped(encoded, reason))
        self._flushes.refuse(dropped(encoded, reason))
        return Receipt(queued(encoded, dropped=reason))

    def _admit_blocked(self) -> None:
        while (blocked := self._room.next_admitted()) is not None:
            self._admit(blocked.encoded, blocked.ticket)

    # Sending

    def _start_sending(self) -> None:
        self._is_sending = bool(self._fresh)
        self._interval = None

    def _take_fresh(self) -> Entry:
        # Those adopted are the older ones, and have waited for long enough; but a process's own go first.
        entry = (self._fresh if self._is_sending else self._fresh_adopted).popleft()
        self._fresh_bytes -= entry.size
        return entry

    def _next_to_send(self) -> Entry | None:
        if self._now < self.gate.opens_at or len(self._in_flight) >= self.gate.width:
            return None
        has_fresh = self._is_sending or bool(self._fresh_adopted)
        is_repeat_due = self._may_repeat() and self._backing_off[0][0] <= self._now
        if is_repeat_due and not (has_fresh and self._is_turn_of_fresh()):
            return heappop(self._backing_off)[1]
        if not has_fresh:
            return None
        entry = self._take_fresh()
        self._is_sending &= bool(self._fresh)
        return entry

    def _is_turn_of_fresh(self) -> bool:
        # A poison signal would make a bad probe, so a probe is a fresh one where there is one.
        if self.gate.is_outage or not self._backing_off[0][1].may_be_poison:
            return self.gate.is_outage
        suspects = sum(entry.may_be_poison for entry in self._in_flight.values())
        return self._is_last_a_suspect or 2 * suspects >= self.gate.width

    def _may_repeat(self) -> bool:
        return bool(self._backing_off) and self._budget.allows(self._backing_off[0][1].price)

    def _transmit(self, entry: Entry) -> Transmit:
        entry.move(Trigger.TRANSMIT)
        entry.attempts += 1
        entry.sent_at = self._now
        self._is_last_a_suspect = entry.may_be_poison
        if entry.price:
            entry.is_on_loan = not self._budget.take(entry.price)
        ticket = self._new_ticket()
        self._in_flight[ticket] = entry
        if entry.request is None:
            entry.request = signal_request(entry.encoded, self._config)
        return Transmit(ticket, entry.request, self._now + self._config.timeout)

    # The end of an attempt

    def _take_from_flight(self, ticket: Ticket) -> Entry | None:
        """Remove the attempt from `_in_flight`; `None` if the ticket is unknown."""
        entry = self._in_flight.pop(ticket, None)
        if entry is not None and entry.is_on_loan:
            self._budget.end_loan()
        return entry

    def _observe(self, entry: Entry, verdict: Verdict, retry_after: float | None = None) -> None:
        """Update gate and budget from an attempt."""
        failed_probes = self.gate.failed_probes
        others = len(self._in_flight)
        self.gate.observe(verdict, self._rng, sent_at=entry.sent_at, now=self._now, others=others)
        # A signal that has failed before may be what makes it look like an outage.
        self._outages += self.gate.failed_probes > failed_probes and entry.attempts == 1
        if verdict is Verdict.WORKS:
            self._budget.give(entry.price or FIRST_ATTEMPT)
        if retry_after is not None:
            self.gate.pause(retry_after, self._rng, now=self._now)

    def _serve(self, entry: Entry) -> None:
        """Take note that the service has delivered or refused a signal."""
        self._evidence.serve(attempts=entry.attempts)
        self._served_at = self._now

    def _deliver(self, entry: Entry, payload: Payload) -> None:
        self._observe(entry, Verdict.WORKS)
        self._serve(entry)
        self._leave(entry, Trigger.ACKNOWLEDGE)
        self._delivered += 1
        self._delivered_since_empty += 1
        result = track_result(payload, entry.encoded)
        self._events.append(Delivered(entry.encoded, result))
        if result.mending:
            self._events.append(Mending(entry.encoded, mending_error(entry.encoded, result, self._config)))
        self._end(entry, None)
        if self._backlog is not None and self._now >= self._backlog.looks_at:
            self._look_at_backlog(self._backlog)

    def _look_at_backlog(self, backlog: Backlog) -> None:
        event = backlog.observe(
            held=self.held,
            recorded=self._recorded,
            delivered=self._delivered,
            is_well=self.gate.state(self._now) == "open" and len(self._in_flight) + 1 >= self.gate.width,
            now=self._now,
        )
        if event is not None:
            self._events.append(event)

    def _fail(self, entry: Entry, error: ClockNextError) -> None:
        verdict = self._judge(error)
        self._observe(entry, verdict, error.retry_after)
        entry.strikes += self._counts_against(entry, verdict)
        entry.worked = self.gate.worked
        entry.price = PRICES[verdict]
        if verdict is Verdict.MISDIRECTED and not entry.is_misdirected:
            entry.is_misdirected = True
            self._misdirected += 1
            self._events.append(Misdirected(entry.encoded, error))
        may_pass = error.retryable or error.hint is not None  # what is not the API's word ends no signal
        if may_pass or verdict is not Verdict.WORKS:
            entry.suspect = self._evidence.fail(entry.suspect, attempts=entry.attempts, outages=self._outages)
        else:
            self._serve(entry)
        if self._is_held_after(entry) if may_pass else self._outlives(entry, error):
            self._retries += 1
            delay = self._delay(entry, error)
            self._events.append(Retrying(entry.attempts, delay, error, entry.encoded))
            self._back_off(entry, Trigger.RETRY, delay)
            return
        if may_pass:
            self._leave(entry, Trigger.GIVE_UP)
            self._dropped["send_failed"] += 1
            self._events.append(GivenUp(entry.encoded, error))
        else:
            self._leave(entry, Trigger.REJECT, error=error)
            self._rejected += 1
            self._events.append(Rejected(entry.encoded, error))
        self._end(entry, FailedSignal(entry.encoded, error))

    def _delay(self, entry: Entry, error: ClockNextError) -> float:
        """Compute the wait until the next attempt."""
        retry = self._config.retry
        delay = retry_delay(error, entry.attempts, retry, self._rng)
        if (suspect := entry.suspect) is None or not 1 < suspect.count == retry.max_attempts - 1:
            return delay
        # The next failure may be the last. Unless others have shown enough, give them time to.
        is_shown = self._evidence.is_conclusive(suspect, more=1)
        return delay if is_shown else max(delay, retry.max_delay - (self._now - entry.sent_at))

    def _is_poison(self, entry: Entry) -> bool:
        """Return whether chance can't explain that all attempts of a signal fail."""
        suspect = entry.suspect
        assert suspect is not None  # it has failed
        is_tried = suspect.count >= self._config.retry.max_attempts
        return is_tried and self._evidence.is_conclusive(suspect)

    def _counts_against(self, entry: Entry, verdict: Verdict) -> bool:
        """Return whether a failed attempt counts against the signal."""
        if self._batch.outage == "drop" or verdict is Verdict.WORKS:
            return True
        return verdict is Verdict.UNCLEAR and self.gate.worked > entry.worked

    def _back_off(self, entry: Entry, trigger: Trigger, delay: float) -> None:
        entry.move(trigger)
        heappush(self._backing_off, (self._now + delay, entry))

    def _discard(self, entry: Entry, reason: DropReason) -> None:
        """Drop a signal that was held."""
        self._leave(entry, Trigger.DISCARD, reason)
        self._dropped[reason] += 1
        self._events.append(Dropped(entry.encoded, reason))
        self._end(entry, dropped(entry.encoded, reason))

    def _end(self, entry: Entry, failed: FailedSignal | None) -> None:
        """Take note that a signal has ended."""
        self._release(entry)
        self._note_end(entry, failed)

    def _note_end(self, entry: Entry, failed: FailedSignal | None) -> None:
        self._flushes.end(entry, failed)
        self._admit_blocked()
        if self.held == 0 and not self._is_closed:
            self._events.append(Emptied(self._delivered_since_empty))
            self._delivered_since_empty = 0
        self._settle_finished()

    def _release(self, entry: Entry) -> None:
        """Take note that a signal is held no longer."""
        self._held_bytes -= entry.size
        self._held_adopted -= entry.is_adopted
        self._room.give_back(entry.size)

    # Flush and close

    def _flush(self, deadline_at: float | None, *, closes: bool) -> Ticket:
        ticket = self._new_ticket()
        self._flushes.begin(
            ticket,
            closes=closes,
            last_sequence=self._recorded,
            own=self.held - self._held_adopted,
            adopted=self._held_adopted,
            look=self._ask_for_a_look(),
            now=self._now,
            deadline_at=deadline_at,
        )
        self._start_sending()
        self._settle_finished()
        return ticket

    def _settle_finished(self) -> None:
        # One at a time: settling a flush that closes the outbox settles the others too.
        while (flush := self._flushes.first_finished(is_storing=self._storing_count() > 0)) is not None:
            self._settle(flush)

    def _settle(self, flush: Flush) -> None:
        self._events.append(Settled(flush.ticket, self._flushes.settle(flush, self._left_behind())))
        if flush.closes and not self._is_closed:
            self._shut()

    def _shut(self) -> None:
        self._is_closed = True
        left = [*self._in_flight.values(), *(entry for _, entry in self._backing_off)]
        left += [*self._fresh, *self._fresh_adopted]
        for place in (self._in_flight, self._backing_off, self._fresh, self._fresh_adopted):
            place.clear()
        for entry in sorted(left):
            if self._left_at_close is Trigger.DISCARD:
                self._discard(entry, "closed")
            else:
                self._leave(entry, self._left_at_close)
                self._parked += 1
                self._release(entry)
        # A flush that still waits waits for nothing: its signals are this process's no longer.
        for flush in [*self._flushes.waiting]:
            self._settle(flush)

    # Timers

    def _fire_timers(self) -> None:
        if self._interval is not None and self._interval[0] <= self._now:
            self._start_sending()
        while (blocked := self._room.next_overdue(self._now)) is not None:
            result = self._refuse(blocked.encoded, "queue_full").result
            self._events.append(Settled(blocked.ticket, result))
        self._admit_blocked()  # those behind them may fit
        while (flush := self._flushes.first_overdue(self._served_at, self._now)) is not None:
            self._settle(flush)
        self._settle_finished()

    def _next_timer(self) -> _Timer | None:
        """Return the earliest of the timers that run."""
        first = _NEVER if self._interval is None else self._interval
        if self._flushes.waiting:
            first = min(first, (self._flushes.wakes_at(self._served_at), WaitReason.FLUSH_DEADLINE))
        if self._room.blocked:
            first = min(first, (self._room.blocked[0].deadline_at, WaitReason.BLOCK_DEADLINE))
        has_fresh = self._is_sending or self._fresh_adopted
        if (self._backing_off or has_fresh) and len(self._in_flight) < self.gate.width:
            opens_at = self.gate.opens_at
            if has_fresh:
                first = min(first, (opens_at, WaitReason.GATE))
            if self._may_repeat():
                due_at = self._backing_off[0][0]
                repeat = (opens_at, WaitReason.GATE) if due_at < opens_at else (due_at, WaitReason.BACK_OFF)
                first = min(first, repeat)
        return None if first is _NEVER else first
