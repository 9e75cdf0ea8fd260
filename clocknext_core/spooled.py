"""The buffer with a spool beneath it: a pure machine that wraps an `Outbox`.

A signal is held only once it is stored, and the call that records it waits for that. What is stored is
dropped for no failure that may pass: not after `max_attempts`, not for an API key that is refused (401, 403:
the key may be changed), not at the close. It ends by delivery, by the server's refusal, by an overflow policy
that drops, or it is put in quarantine: for its age, since past the window the server may have forgotten its
key, or as a poison signal (`poison`).

What dead processes left in the spool is adopted (`adoption`): at the start, whenever a flush or close asks
for it, and by a timer, as long as the queue is less than half full. The process's own signals go first.

A *shared* spool (`Config.is_spool_shared`) is one from which several processes take signals at the same time,
such as relays from a table. Four things differ there. Looks are frequent. A signal that the server refuses is
put in quarantine, since the process that recorded it may never learn of it. In an outage adopted signals that
were never attempted are given back, for a process that may reach the service, and one signal is adopted where
none is left to probe with. And a close looks for no more signals.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from clocknext_core.adoption import ADOPTED_AT_ONCE, Adoption
from clocknext_core.backoff import RandomSource
from clocknext_core.config import Config
from clocknext_core.errors import ClockNextError, SpoolError
from clocknext_core.gate import Gate
from clocknext_core.messages import Answer
from clocknext_core.outbox import Outbox, OutboxOutput
from clocknext_core.outputs import (
    Adopt,
    Erase,
    FailedSignal,
    GiveBack,
    GivenUp,
    KeyRefused,
    Quarantine,
    Receipt,
    Settled,
    SpoolDuty,
    Store,
    Ticket,
    Wait,
    WaitReason,
    queued,
)
from clocknext_core.signals import EncodedSignal
from clocknext_core.states import DropReason, Entry, Trigger
from clocknext_core.stats import Stats
from clocknext_core.values import Value
from clocknext_core.verdicts import Verdict

SpooledOutput: TypeAlias = OutboxOutput | SpoolDuty

KEY_REFUSED = (401, 403)
"""Statuses for which a stored signal stays: the API key is refused, which may be changed."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Adopted(Value):
    """A signal that another process left in the spool."""

    signal: EncodedSignal
    age: float
    """Seconds since it was recorded."""


@dataclass(slots=True, eq=False, repr=False)
class _Storing:
    """A signal on its way into the spool, and the call that waits for it."""

    encoded: EncodedSignal
    is_withdrawn: bool = False
    is_attended: bool = True
    """Whether a call waits for it, which fails where it is not stored."""


class SpooledOutbox:
    """An outbox whose signals are stored before they are accepted.

    It has the inputs of `Outbox`, and four more: `handle_stored`, `handle_adopted`, `handle_adoption_failed`
    and `handle_expired`. `poll` returns the outputs of `Outbox`, and the duties to the spool (`SpoolDuty`).

    Args:
        config: As for `Outbox`; `spool_window` must be set.
        rng: Randomness for the jitter.
    """

    def __init__(self, config: Config, rng: RandomSource) -> None:
        self._outbox = _StoredOutbox(config, rng)
        self._adoption = self._outbox.adoption
        self._duties = self._outbox.duties
        self.gate: Gate = self._outbox.gate
        """The host's, which awaited calls respect too."""

    @property
    def held(self) -> int:
        """Signals recorded and not yet ended."""
        return self._outbox.held

    @property
    def held_bytes(self) -> int:
        """Size of the bodies of the signals held."""
        return self._outbox.held_bytes

    @property
    def has_work(self) -> bool:
        """Whether there is anything to poll for, now or later: until the close, the next look at least."""
        return self._outbox.has_work

    @property
    def is_closing(self) -> bool:
        """Whether `close` was called: signals are refused from then on."""
        return self._outbox.is_closing

    def stats(self, *, now: float) -> Stats:
        """Count the signals, and say how the service does. Changes nothing."""
        return self._outbox.stats(now=now)

    # Inputs

    def record(self, encoded: EncodedSignal, *, now: float, may_wait: bool = True) -> Receipt:
        """Have a signal stored and then held, or do what the overflow policy says if the queue is full.

        See `Outbox.record`.

        Raises:
            QueueFullError: The queue is full and the policy is `raise`; nothing was recorded.
        """
        receipt = self._outbox.record(encoded, now=now, may_wait=may_wait)
        if not may_wait and receipt.ticket is not None:
            self._outbox.storing[receipt.ticket].is_attended = False
        return receipt

    def handle_stored(self, ticket: Ticket, error: SpoolError | None, *, now: float) -> None:
        """Take note that a signal is in the spool, or why it is not. An unknown ticket is a no-op.

        What is not stored is not recorded, and its call fails; where no call waits, it is given up.
        """
        self._outbox.handle_stored(ticket, error, now=now)

    def handle_adopted(
        self, signals: Sequence[Adopted], *, is_last: bool, left_behind: int = 0, now: float
    ) -> None:
        """Take over signals that dead processes left in the spool.

        Args:
            signals: What was taken over and can be sent; those that can't be read are not among them.
            is_last: Whether the spool has nothing more to be taken over, not even what can't be read.
            left_behind: How many more are known to be there.
            now: The time.
        """
        self._outbox.handle_adopted(signals, is_last=is_last, left_behind=left_behind, now=now)

    def handle_adoption_failed(self, *, is_final: bool = False, now: float) -> None:
        """Take note that the spool could not be looked into; `is_final`: nor will it be later."""
        self._outbox.handle_adoption_failed(is_final=is_final, now=now)

    def handle_expired(self, encoded: EncodedSignal, *, now: float) -> None:
        """Take note that a signal of a dead process was too old to be taken over, and is in quarantine."""
        self._outbox.handle_expired(encoded, now=now)

    def handle_answer(self, ticket: Ticket, answer: Answer, *, now: float) -> None:
        """Take the answer to an attempt, or its failure. A late or unknown ticket is a no-op."""
        self._outbox.handle_answer(ticket, answer, now=now)

    def abandon(self, ticket: Ticket, *, now: float | None = None) -> None:
        """Take back an attempt that the driver broke off before it had an answer; see `Outbox.abandon`."""
        self._outbox.abandon(ticket, now=now)

    def withdraw(self, ticket: Ticket, *, now: float) -> None:
        """Forget a signal whose call gave up waiting, for room or for the spool.

        A no-op once it has been recorded.
        """
        self._outbox.withdraw(ticket, now=now)

    def flush(self, *, now: float, deadline_at: float | None = None) -> Ticket:
        """Send everything held, and what dead processes left in the spool; see `Outbox.flush`.

        Without a deadline, a flush waits for adopted signals for `Config.patience` at most.
        """
        return self._outbox.flush(now=now, deadline_at=deadline_at)

    def close(self, *, now: float | None = None, deadline_at: float | None = None) -> Ticket:
        """Refuse new signals and flush; then `poll` returns `Closed`. What is still held stays stored."""
        return self._outbox.close(now=now, deadline_at=deadline_at)

    # Output

    def poll(self, *, now: float) -> SpooledOutput:
        """Return the next output, after firing the timers that are due."""
        self._outbox.give_back(now)
        if self._duties:
            return self._duties.popleft()
        if self._outbox.wants_to_adopt(now):
            return self._outbox.begin_to_adopt()
        output = self._outbox.poll(now=now)
        if isinstance(output, Wait) and self._is_before(self._adoption.looks_at, output.until):
            return Wait(self._adoption.looks_at, WaitReason.ADOPTION)
        return output

    def wakes_before(self, until: float | None) -> bool:
        """Return whether the driver must poll now, after an input, instead of sleeping until `until`."""
        if self._duties or self._outbox.wants_to_adopt(None):
            return True
        return self._is_before(self._adoption.looks_at, until) or self._outbox.wakes_before(until)

    def _is_before(self, time: float | None, until: float | None) -> bool:
        return time is not None and (until is None or time < until)


class _StoredOutbox(Outbox):
    """The outbox within: it has every signal stored before it holds it, and everything that ends erased."""

    _left_at_close = Trigger.PARK

    def __init__(self, config: Config, rng: RandomSource) -> None:
        super().__init__(config, rng)
        assert config.spool_window is not None  # else there is nothing to store signals in
        self._window = config.spool_window
        """Seconds after which a signal must not be sent any more."""
        self.storing: dict[Ticket, _Storing] = {}
        self.duties: deque[SpoolDuty] = deque()
        self._is_shared = config.is_spool_shared
        self.adoption = Adoption(rng, is_shared=self._is_shared)

    @property
    def has_work(self) -> bool:
        return not self._is_closed or bool(self.storing)

    # Storing

    def _admit(self, encoded: EncodedSignal, ticket: Ticket | None = None) -> Ticket:
        self._room.take(len(encoded.body))
        if self._room.is_full:
            self._start_sending()
        if ticket is None:
            ticket = self._new_ticket()
        self.storing[ticket] = _Storing(encoded)
        self.duties.append(Store(ticket, encoded))
        return ticket

    def handle_stored(self, ticket: Ticket, error: SpoolError | None, *, now: float) -> None:
        self._advance(now)
        storing = self.storing.pop(ticket, None)
        if storing is None:
            return
        encoded = storing.encoded
        if error is None and not storing.is_withdrawn:
            self._hold_stored(encoded, age=0.0, is_adopted=False)
            self._events.append(Settled(ticket, queued(encoded)))
        else:
            self._room.give_back(len(encoded.body))
            if error is None:
                self.duties.append(Erase(encoded.idempotency_key))
            elif storing.is_attended:
                self._events.append(Settled(ticket, error))
            else:
                self._recorded += 1
                self._dropped["send_failed"] += 1
                self._events.append(GivenUp(encoded, error))
                self._flushes.refuse(FailedSignal(encoded, error))
            self._admit_blocked()

    def withdraw(self, ticket: Ticket, *, now: float) -> None:
        super().withdraw(ticket, now=now)
        if ticket in self.storing:
            self.storing[ticket].is_withdrawn = True

    def _hold_stored(self, encoded: EncodedSignal, *, age: float, is_adopted: bool) -> None:
        if self._is_closed:  # it came into the spool, or out of it, too late, and stays there
            self._recorded += 1
            self._parked += 1
        else:
            entry = Entry(
                self._recorded + 1,
                encoded,
                self._now,
                worked=self.gate.worked,
                expires_at=self._now - age + self._window,
                is_adopted=is_adopted,
            )
            self._hold(entry, takes_room=False)

    def _storing_count(self) -> int:
        return len(self.storing)

    # Adoption

    def wants_to_adopt(self, now: float | None) -> bool:
        """Return whether to look into the spool now."""
        self._advance(now)
        if not self.adoption.is_due(self._now):
            return False
        if self._is_shared and (self._is_closing or (self.gate.is_outage and self.held > 0)):
            return False
        # What is adopted may come on top of a queue that has filled meanwhile: half a queue at most.
        return not self._room.is_half_full

    def begin_to_adopt(self) -> Adopt:
        """Begin to look into the spool."""
        self.adoption.begin()
        if self._is_shared and self.gate.is_outage:
            return Adopt(1)  # a probe
        return Adopt(min(self._batch.max_queue_size // 2 + 1, ADOPTED_AT_ONCE))

    def give_back(self, now: float) -> None:
        """In an outage, leave adopted signals that were never attempted to other processes.

        One stays if there is no other to probe with.
        """
        self._advance(now)
        if not (self._is_shared and self.gate.is_outage):
            return
        least = 0 if self._backing_off or self._in_flight or self._fresh else 1
        if len(self._fresh_adopted) <= least:
            return
        while len(self._fresh_adopted) > least:
            entry = self._fresh_adopted.pop()
            self._fresh_bytes -= entry.size
            self._leave(entry, Trigger.PARK)
            self._parked += 1
            self.duties.append(GiveBack(entry.encoded.idempotency_key))
            self._release(entry)
            self._flushes.release(entry)
            self.adoption.left_behind += 1
        self._admit_blocked()
        self._settle_finished()

    def handle_adopted(
        self, signals: Sequence[Adopted], *, is_last: bool, left_behind: int, now: float
    ) -> None:
        self._advance(now)
        for adopted in signals:
            self._room.take(len(adopted.signal.body))
            self._hold_stored(adopted.signal, age=adopted.age, is_adopted=True)
        self._end_looks(self.adoption.find(is_last=is_last, left_behind=left_behind, now=self._now))

    def handle_adoption_failed(self, *, is_final: bool, now: float) -> None:
        self._advance(now)
        self._end_looks(self.adoption.fail(is_final=is_final, now=self._now))

    def handle_expired(self, encoded: EncodedSignal, *, now: float) -> None:
        self._advance(now)
        self._refuse(encoded, "expired")

    def _end_looks(self, number: int | None) -> None:
        if number is not None:
            self._flushes.end_looks(number, self._recorded)
            self._settle_finished()

    def _needs_room(self) -> bool:
        # Half a queue is what a look needs; see `wants_to_adopt`.
        return super()._needs_room() or (self._room.is_half_full and self._flushes.wait_for_looks)

    def _ask_for_a_look(self) -> int | None:
        return None if self._is_shared and self._is_closing else self.adoption.ask()

    def _left_behind(self) -> int:
        return self.adoption.left_behind

    def _shut(self) -> None:
        self.adoption.end()
        super()._shut()

    # Sending

    def _next_to_send(self) -> Entry | None:
        entry = super()._next_to_send()
        if entry is None or entry.expires_at > self._now:
            return entry
        self._discard(entry, "expired")
        return None

    def _judge(self, error: ClockNextError) -> Verdict:
        # A service that locks this client out does not work for it.
        return Verdict.DOWN if _is_key_refused(error) else super()._judge(error)

    def _is_held_after(self, entry: Entry) -> bool:
        return not self._is_poison(entry)

    def _outlives(self, entry: Entry, error: ClockNextError) -> bool:
        if not _is_key_refused(error):
            return False
        if not entry.is_key_refused:
            entry.is_key_refused = True
            self._events.append(KeyRefused(entry.encoded, error))
        return True

    def _leave(
        self,
        entry: Entry,
        trigger: Trigger,
        reason: DropReason | None = None,
        error: ClockNextError | None = None,
    ) -> None:
        super()._leave(entry, trigger)
        key = entry.encoded.idempotency_key
        if reason == "expired":
            self.duties.append(Quarantine(key, "too old to be sent"))
        elif trigger is Trigger.GIVE_UP:
            self.duties.append(Quarantine(key, "failed each time while others were delivered"))
        elif error is not None and self._is_shared:
            self.duties.append(Quarantine(key, f"refused: {error}"))
        elif trigger is not Trigger.PARK:
            self.duties.append(Erase(key))


def _is_key_refused(error: ClockNextError) -> bool:
    return error.status in KEY_REFUSED and error.hint is None
