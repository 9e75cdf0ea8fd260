"""An outbox beside a model that keeps its own books and checks every promise after every step.

The model knows the rules in their plainest form (lists it scans, sets it compares), not the outbox's
structures. It predicts the events as a set, not their order, except where an order is promised; it never
predicts the jitter, but holds the delay it is told of against the bounds of the policy.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TypeAlias, assert_never

from clocknext_core import (
    Adopt,
    Adopted,
    Answer,
    BatchPolicy,
    Closed,
    Delivered,
    Dropped,
    Emptied,
    EncodedSignal,
    Erase,
    Failure,
    FallingBehind,
    FlushReport,
    GiveBack,
    GivenUp,
    HookEvent,
    KeyRefused,
    Mending,
    Misdirected,
    Outbox,
    Quarantine,
    QueueFullError,
    Rejected,
    Retrying,
    RetryPolicy,
    Settled,
    SpooledOutbox,
    SpooledOutput,
    SpoolError,
    Store,
    TrackResult,
    Transmit,
    Wait,
    WaitReason,
)
from clocknext_core.adoption import LOOK_INTERVAL, LOOKS
from tests.core.gate_model import GateBook, health_of
from tests.core.support import KEY, answer, config, credit, encoded, refusal, success

Event: TypeAlias = tuple[str, *tuple[object, ...]]

NEVER = float("inf")

DUTIES = ("store", "erase", "quarantine")
ERRORS: Mapping[type[HookEvent], str] = {
    Rejected: "rejected",
    GivenUp: "given up",
    Mending: "mending",
    Misdirected: "misdirected",
    KeyRefused: "key refused",
}


@dataclass(frozen=True)
class Reply:
    """One scripted answer, and what it means."""

    answer: Answer
    verdict: str
    retry_after: float | None = None


REPLIES: Mapping[str, Reply] = {
    "ok": Reply(success({"usageLog": {"id": "log"}}), "delivered"),
    "accepted": Reply(success({"accepted": True}, 202), "delivered"),
    "to be mended": Reply(success({"accepted": True, "status": "PENDING"}, 202), "mended"),
    "no content": Reply(answer(204, b""), "delivered"),
    "legacy ok": Reply(answer(200, {"ok": True}), "delivered"),
    "500": Reply(refusal(500), "retry"),
    "503": Reply(refusal(503), "retry"),
    "408": Reply(refusal(408), "retry"),
    "409": Reply(refusal(409), "retry"),
    "429": Reply(refusal(429, retry_after="3"), "retry", 3.0),
    "429 in ms": Reply(refusal(429, retry_after_ms="250", retry_after="9"), "retry", 0.25),
    "429 at once": Reply(refusal(429, retry_after="0"), "retry", 0.0),
    "429 of old": Reply(refusal(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), "retry"),
    "503 for long": Reply(refusal(503, retry_after="900"), "retry", 900.0),
    "html": Reply(answer(200, "<html>proxy</html>"), "retry"),
    "array": Reply(answer(200, []), "retry"),
    "empty": Reply(answer(200, b""), "retry"),
    "cut short": Reply(answer(200, b'{"ok": tr'), "retry"),
    "reset": Reply(Failure("connection reset"), "retry"),
    "refused connection": Reply(Failure("connection refused", processed=False), "retry"),
    "404 page": Reply(answer(404, "<html>nginx</html>"), "misdirected"),
    "403 page": Reply(answer(403, "Request blocked."), "misdirected"),
    "502 page": Reply(answer(502, "<html>Bad gateway</html>"), "misdirected"),
    "unknown route": Reply(refusal(404, result={"errorReason": "NOT_FOUND"}), "misdirected"),
    "bare object": Reply(answer(200, {"usageLog": {"id": "log"}}), "retry"),
    "400": Reply(refusal(400), "refused"),
    "401": Reply(refusal(401), "refused"),
    "403 with a wait": Reply(refusal(403, retry_after="2"), "refused", 2.0),
    "413": Reply(refusal(413), "refused"),
    "422": Reply(refusal(422, "Insufficient credit balance."), "refused"),
    "error in a 200": Reply(refusal(200), "refused"),
}


@dataclass(eq=False)
class Book:
    """What the model knows of one signal."""

    signal: EncodedSignal
    place: str = "new"
    attempts: int = 0
    strikes: int = 0
    """Failed attempts that count against it."""
    failures: int = 0
    """Its failures between which others were served, since the last outage."""
    outages: int = 0
    """How often an outage had been confirmed when it failed last."""
    served: int = 0
    """How many signals had been served when it failed last."""
    tried_at: float = 0.0
    """When it failed last."""
    worked: int = 0
    """Answers that had shown the service working when it was recorded, or failed last."""
    sent_at: float = 0.0
    price: int = 0
    is_on_loan: bool = False
    not_before: float = NEVER
    retry_after: float = 0.0
    expires_at: float = NEVER
    is_in_spool: bool = False
    is_adopted: bool = False
    is_misdirected: bool = False
    is_key_refused: bool = False

    @property
    def key(self) -> str:
        return self.signal.idempotency_key

    @property
    def body(self) -> bytes:
        return self.signal.body

    @property
    def is_held(self) -> bool:
        return self.place in ("fresh", "in flight", "waiting", "held at the close")


@dataclass(eq=False)
class FlushBook:
    """What the model knows of one waiting flush."""

    ticket: int
    awaited: list[Book]
    tells: list[Book]
    """Ended or not, the signals its report is about."""
    began_at: float
    deadline_at: float | None
    closes: bool
    look: int | None
    """The look into the spool that it waits for."""
    adopts_until: float
    waits_for_adopted: bool = True


@dataclass(eq=False)
class BlockedBook:
    """A call that waits for room."""

    ticket: int
    book: Book
    deadline_at: float


@dataclass
class World:
    """The outbox, its model, and a clock that may be set at will."""

    batch: BatchPolicy
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    seed: int = 0
    spool_window: float | None = None
    clock: float = 1000.0
    seen: Counter[str] = field(default_factory=Counter[str])
    """What did happen, to tell a run that proves something from one that does not."""

    def __post_init__(self) -> None:
        self.config = replace(config(self.batch, self.retry), spool_window=self.spool_window)
        machine = Outbox if self.spool_window is None else SpooledOutbox
        self.outbox: Outbox | SpooledOutbox = machine(self.config, Random(self.seed))
        self.now = -NEVER
        self.books: dict[str, Book] = {}
        self.recorded: list[Book] = []
        self.ended: list[Book] = []
        self.told: set[Book] = set()
        self.fresh: list[Book] = []
        self.was_suspect = False
        self.served = 0
        self.adopted: list[Book] = []
        """Fresh ones that dead processes left; they wait for no batch."""
        self.waiting: list[Book] = []
        self.flying: dict[int, Book] = {}
        self.blocked: list[BlockedBook] = []
        self.storing: dict[int, Book] = {}
        self.withdrawn: set[int] = set()
        self.looks_from = -NEVER
        """When the next look is due, at the earliest; `NEVER` while one is under way."""
        self.looks_by = -NEVER
        """And at the latest, which is not the same where there is jitter."""
        if not self.is_durable:
            self.looks_from = self.looks_by = NEVER
        self.adopting: int | None = None
        self.looks = 0
        self.is_asked_again = False
        self.failed_looks = 0
        self.left_behind = 0
        self.flushes: list[FlushBook] = []
        self.reports: dict[int, tuple[int, int, Counter[str], int]] = {}
        self.admissions: dict[int, tuple[str, str | None]] = {}
        self.expected: Counter[Event] = Counter()
        self.tickets: set[int] = set()
        self.spent: list[int] = []
        self.gate = GateBook(self.config)
        self.sending = False
        self.interval_at: float | None = None
        self.delivered_since_empty = 0
        self.closing = False
        self.closed = False
        self.served_at = -NEVER
        """When the service last delivered or refused a signal."""
        self.last_wait: Wait | None = None
        self.log: list[str] = []

    # Inputs

    def record(self) -> None:
        book = self._new_book()
        signal = book.signal
        self._touch()
        full = not self._has_room_for(book)
        if full and not self.closing:
            self._start_sending()
            self.seen["full"] += not self.flying
        is_too_large = len(signal.body) > self.batch.max_queue_bytes
        never_waits = self.batch.overflow == "raise" or (self.batch.overflow == "block" and is_too_large)
        refuses = full and not self.closing and never_waits
        try:
            receipt = self.outbox.record(signal, now=self.clock)
        except QueueFullError:
            assert refuses
            self.seen["raised"] += 1
            self.check()
            return
        assert not refuses
        assert receipt.result.queued
        assert receipt.result.idempotency_key == book.key
        dropped: str | None = None
        if self.closing:
            dropped = "closed"
        elif full and self.batch.overflow == "block":
            assert receipt.ticket is not None
            self._new_ticket(receipt.ticket)
            self.blocked.append(BlockedBook(receipt.ticket, book, self.now + self.batch.block_timeout))
            book.place = "blocked"
            self.seen["blocked"] += 1
        elif (
            full
            and self.batch.overflow == "drop_oldest"
            and self._has_room_for(book, without=[*self.adopted, *self.fresh])
        ):
            oldest: list[Book] = []
            while not self._has_room_for(book):
                oldest.append((self.adopted or self.fresh).pop(0))
            self._take_in(book, receipt.ticket)
            self.sending = self.sending and bool(self.fresh)
            for each in oldest:
                self._drop(each, "queue_full")
            self.seen["dropped several"] += len(oldest) > 1
        elif full:
            dropped = "queue_full"
        else:
            self._take_in(book, receipt.ticket)
        if dropped is not None:
            self._refuse(book, dropped)
        assert receipt.result.dropped == dropped
        assert (receipt.ticket is not None) == (book.place in ("blocked", "storing"))
        self.check()

    def store(self, ticket: int, *, fails: bool = False) -> None:
        """Report what became of a signal on its way into the spool."""
        self._touch()
        error = SpoolError("The disk is full.") if fails else None
        assert isinstance(self.outbox, SpooledOutbox)
        self.outbox.handle_stored(ticket, error, now=self.clock)
        book = self.storing.pop(ticket, None)
        if book is None:
            self.seen["stored nothing"] += 1
            self.check()
            return
        if fails:
            book.place = "not stored"
            self._expect("settled", ticket)
            self.admissions[ticket] = (book.key, "not stored")
        elif ticket in self.withdrawn:
            book.place = "withdrawn"
            self._expect("erase", book.key)
        else:
            self.admissions[ticket] = (book.key, None)
            self._expect("settled", ticket)
            book.is_in_spool = True
            if self.closed:
                self._park(book)
            else:
                self._hold(book)
        self.seen["stored"] += not fails
        self.seen["not stored"] += fails
        self._admit_blocked()
        self._settle_finished()
        self.check()

    def adopt(self, count: int, ages: Sequence[float], *, is_last: bool = False) -> None:
        """Report what was taken over from the spool."""
        self._touch()
        books = [self._new_book() for _ in range(count)]
        adopted = [Adopted(book.signal, age) for book, age in zip(books, ages, strict=False)]
        assert isinstance(self.outbox, SpooledOutbox)
        self.outbox.handle_adopted(adopted, is_last=is_last, left_behind=len(self.books), now=self.clock)
        self.left_behind = len(self.books)
        self.adopting, self.failed_looks = None, 0
        for book, age in zip(books, ages, strict=False):
            book.is_in_spool = book.is_adopted = True
            if self.closed:
                self._park(book)
            else:
                self._hold(book, age)
            self.seen["adopted"] += 1
        if is_last and not self.is_asked_again:
            self._look_again(LOOK_INTERVAL, LOOK_INTERVAL)
        else:
            self._look_again(0.0, 0.0)
        if is_last:
            self._end_looks()
        self.check()

    def fail_to_adopt(self) -> None:
        """Report that the spool could not be looked into."""
        self._touch()
        assert isinstance(self.outbox, SpooledOutbox)
        self.outbox.handle_adoption_failed(now=self.clock)
        self.adopting = None
        self.failed_looks += 1
        self.seen["look failed"] += 1
        is_over = self.failed_looks >= LOOKS.max_attempts
        if is_over and self.is_asked_again:
            self._look_again(0.0, 0.0)
        else:
            ceiling = min(LOOKS.base_delay * 2 ** (self.failed_looks - 1), LOOKS.max_delay)
            self._look_again(ceiling / 2, ceiling)
        if is_over:
            self._end_looks()
        self.check()

    def _look_again(self, least: float, most: float) -> None:
        if not self.closed:
            self.looks_from = self.now + least if least else -NEVER
            self.looks_by = self.now + most if most else -NEVER

    def _end_looks(self) -> None:
        for flush in self.flushes:
            if flush.look is not None and flush.look <= self.looks:
                flush.look = None
        self._settle_finished()

    def expire(self) -> None:
        """Report a signal in the spool that was too old to be taken over."""
        book = self._new_book()
        self._touch()
        assert isinstance(self.outbox, SpooledOutbox)
        self.outbox.handle_expired(book.signal, now=self.clock)
        self._refuse(book, "expired")
        self.check()

    def answer(self, ticket: int, name: str) -> None:
        reply = REPLIES[name]
        self._touch()
        self.outbox.handle_answer(ticket, reply.answer, now=self.clock)
        book = self.flying.pop(ticket, None)
        if book is None:
            self.seen["late answer"] += 1
            self.check()
            return
        self.spent.append(ticket)
        self._land(book)
        health = health_of(reply.answer, reply.verdict)
        is_locked_out = self.is_durable and name in ("401", "403 with a wait")
        health = "down" if is_locked_out else health
        counts = self.gate.counts_against_signal(health, worked=book.worked)
        was_outage = self.gate.is_outage
        self.gate.observe(
            health,
            reply.retry_after,
            sent_at=book.sent_at,
            is_first=book.attempts == 1,
            price=book.price,
            now=self.now,
        )
        self.seen["outage"] += self.gate.is_outage and not was_outage
        self.seen["outage over"] += was_outage and not self.gate.is_outage
        self.gate.learn(self.outbox.gate.opens_at, self.outbox.gate.width)
        if reply.verdict in ("delivered", "mended") or (reply.verdict == "refused" and not is_locked_out):
            self.served_at = self.now
            self.served += 1
        else:
            self._suspect(book)
        if reply.verdict in ("delivered", "mended"):
            book.place = "delivered"
            self._erase(book)
            self.delivered_since_empty += 1
            self._expect("delivered", book.key)
            if (
                reply.verdict == "mended"
            ):  # taken, but the caller must be able to see that nothing is billed yet
                self._expect("mending", book.key)
                self.seen["to be mended"] += 1
            self._end(book)
        else:
            book.strikes += counts
            book.price = 5 if health == "busy" else 14
            if reply.verdict == "misdirected":
                self.seen["misdirected"] += 1
                if not book.is_misdirected:
                    book.is_misdirected = True
                    self._expect("misdirected", book.key)
            if is_locked_out:
                self.seen["key refused"] += 1
                if not book.is_key_refused:
                    book.is_key_refused = True
                    self._expect("key refused", book.key)
            self._fail(book, reply, is_locked_out=is_locked_out)
        self.check()

    def abandon(self, ticket: int) -> None:
        self._touch()
        self.outbox.abandon(ticket, now=self.clock)
        book = self.flying.pop(ticket, None)
        if book is not None:
            self.spent.append(ticket)
            book.attempts -= 1
            if not book.is_on_loan:
                self.gate.tokens = min(500, self.gate.tokens + book.price)
            self._land(book)
            book.place, book.not_before = "waiting", self.now
            self.waiting.append(book)
            self.seen["abandoned"] += 1
        self.check()

    def withdraw(self, ticket: int) -> None:
        self._touch()
        self.outbox.withdraw(ticket, now=self.clock)
        if ticket in self.storing:
            self.withdrawn.add(ticket)
            self.seen["withdrawn while it is stored"] += 1
        for blocked in self.blocked:
            if blocked.ticket == ticket:
                blocked.book.place = "withdrawn"
                self.seen["withdrawn"] += 1
        self.blocked = [blocked for blocked in self.blocked if blocked.ticket != ticket]
        self._admit_blocked()
        self.check()

    def flush(self, patience: float | None = None, *, closes: bool = False) -> None:
        self._touch()
        deadline_at = None if patience is None else self.now + patience
        if closes:
            ticket = self.outbox.close(now=self.clock, deadline_at=deadline_at)
            self.closing = True
            while self.blocked:
                self._admit(self.blocked.pop(0))
        else:
            ticket = self.outbox.flush(now=self.clock, deadline_at=deadline_at)
        self._new_ticket(ticket)
        if self.waiting or self.now < self.gate.opens_at:
            self.seen["flush during an outage"] += 1
        tells = [book for book in self.recorded if book not in self.told]
        if self.flushes:  # one that still waits may yet tell of what an earlier report told
            tells += [book for book in self.flushes[-1].tells if book in self.told]
        awaited = [book for book in self.recorded if book.is_held]
        look: int | None = None
        if self.is_durable and not self.closed:
            look = self.looks + 1
            if self.adopting is not None:
                self.is_asked_again = True
            else:
                self._look_again(0.0, 0.0)
        adopts_until = self.now + self.config.patience if deadline_at is None else deadline_at
        flush = FlushBook(ticket, awaited, tells, self.now, deadline_at, closes, look, adopts_until)
        self.flushes.append(flush)
        self._start_sending()
        self._settle_finished()
        self.check()

    def jump(self, seconds: float) -> None:
        self.clock = self.clock + seconds
        if seconds < 0:
            self.seen["backwards"] += 1

    # Output

    def poll(self) -> SpooledOutput:
        self._touch()
        wait = self.last_wait
        quiet = (
            wait is not None
            and (wait.until is None or self.now < wait.until)
            and not self.outbox.wakes_before(wait.until)
        )
        output = self.outbox.poll(now=self.clock)
        if isinstance(output, Adopt):
            assert not any(name in DUTIES for name, *_ in self.expected)
            assert self._may_look(self.looks_from)
            assert output.limit == min(500, 1 + self.batch.max_queue_size // 2)
            self.looks_from = self.looks_by = NEVER
            self.adopting = output.limit
            self.looks += 1
            self.is_asked_again = False
        elif not isinstance(output, Store | Erase | Quarantine):
            assert not self._may_look(self.looks_by)
            if not self.expected:
                self._fire_timers()
            if not self.expected and isinstance(output, Dropped):
                self._expire(str(output.signal.idempotency_key))
        assert KEY not in repr(output)
        self.log.append(repr(output))
        if quiet:
            assert isinstance(output, Wait), f"wakes_before kept silent about {output}"
        match output:
            case Transmit():
                self._check_transmit(output)
            case Wait():
                self._check_wait(output)
            case Closed():
                assert self.closed
                assert not self.expected
                assert self.outbox.poll(now=self.clock) == Closed()
            case Adopt():
                pass
            case GiveBack():
                raise AssertionError("the spool is not shared")
            case _:
                self._check_event(output)
        self.check()
        return output

    def drain(self, name: str | None = None) -> None:
        """Poll until `Wait` or `Closed`; answer what goes out in the meantime, if told how."""
        while not isinstance(output := self.poll(), Wait | Closed):
            if name is not None and isinstance(output, Transmit):
                self.answer(output.ticket, name)

    def recover(self) -> None:
        """Let every fault stop: within a bounded number of steps everything held has been delivered."""
        for ticket in list(self.flying):
            self.answer(ticket, "ok")
        for ticket in list(self.storing):
            self.store(ticket)
        if self.adopting is not None:
            self.adopt(0, [], is_last=True)
        # A signal needs a transmission, its event and a settled waiter, and there is a wait between any two.
        steps = 20 + 12 * (self.held + len(self.blocked) + len(self.flushes) + self.expected.total())
        for _ in range(steps):
            match output := self.poll():
                case Transmit():
                    self.answer(output.ticket, "ok")
                case Store():
                    self.store(output.ticket)
                case Adopt():
                    self.adopt(0, [], is_last=True)
                case Wait(until=None) | Closed():
                    break
                case Wait() if not (self.held or self.flushes or self.blocked or self.storing):
                    break
                case Wait(until=float(until)):
                    self.clock = max(self.clock, until)
                    self.seen["wait"] += 1
                case _:
                    pass
        else:
            raise AssertionError(f"not drained after {steps} steps")
        assert self.held == 0
        assert not self.expected
        assert not self.blocked
        assert not self.flushes
        assert {book.place for book in self.recorded} <= {
            "delivered",
            "refused",
            "send_failed",
            "queue_full",
            "closed",
            "expired",
            "parked",
        }
        assert not self.storing
        assert not any(book.is_in_spool for book in self.recorded if book.place != "parked")
        assert sorted(book.key for book in self.ended) == sorted(book.key for book in self.recorded)

    def check(self) -> None:
        """Compare the books: what was recorded is held or has ended, each exactly once."""
        stats = self.outbox.stats(now=self.now)
        places = Counter(book.place for book in self.recorded)
        assert (
            stats.recorded
            == stats.held + stats.delivered + stats.rejected + sum(stats.dropped.values()) + stats.parked
        )
        assert stats.parked == places["parked"]
        assert stats.storing == len(self.storing)
        assert stats.left_behind == self.left_behind
        assert stats.recorded == len(self.recorded)
        assert stats.held == self.outbox.held == self.held
        assert stats.held_bytes == self.outbox.held_bytes == self.held_bytes
        assert stats.in_flight == len(self.flying) <= self.batch.most_concurrency
        assert stats.delivered == places["delivered"]
        assert stats.rejected == places["refused"]
        assert stats.dropped == {
            reason: places[reason]
            for reason in ("queue_full", "send_failed", "closed", "expired", "disabled")
        }
        assert stats.retries == self.seen["retry"]
        assert stats.misdirected == sum(book.is_misdirected for book in self.books.values())
        assert stats.opens_in == max(0.0, self.gate.opens_at - self.now)
        assert (stats.gate == "paused") == (self.now < self.gate.opens_at)
        if stats.gate == "open":
            assert self.gate.width == self.batch.most_concurrency
        self.seen[f"gate {stats.gate}"] += 1
        assert self.outbox.is_closing == self.closing
        if not self.closing:  # calls that wait for room are let in at close
            on_top = 1 + self.batch.max_queue_size // 2 if self.seen["adopted"] else 0
            assert self.held + len(self.storing) <= self.batch.max_queue_size + on_top
            assert self.held_bytes <= self.batch.max_queue_bytes or self.seen["adopted"]

    # The model's own moves

    @property
    def held(self) -> int:
        return len(self.fresh) + len(self.adopted) + len(self.waiting) + len(self.flying)

    @property
    def held_bytes(self) -> int:
        held = [*self.fresh, *self.adopted, *self.waiting, *self.flying.values()]
        return sum(len(book.body) for book in held)

    @property
    def is_durable(self) -> bool:
        return self.spool_window is not None

    def _new_book(self) -> Book:
        key = f"k{len(self.books)}"
        custom = {"padding": "x" * (100 * (len(self.books) % 4))}
        book = self.books[key] = Book(encoded(replace(credit(key), custom=custom)))
        return book

    def _take_in(self, book: Book, ticket: int | None) -> None:
        if not self.is_durable:
            self._hold(book)
            return
        assert ticket is not None
        self._new_ticket(ticket)
        self._store(book, ticket)

    def _store(self, book: Book, ticket: int) -> None:
        book.place = "storing"
        self.storing[ticket] = book
        if self._is_full():
            self._start_sending()
        self._expect("store", ticket, book.key)

    def _park(self, book: Book) -> None:
        if book not in self.recorded:
            self.recorded.append(book)
        book.place = "parked"
        self.ended.append(book)
        self.seen["parked"] += 1

    def _erase(self, book: Book) -> None:
        if self.is_durable:
            assert book.is_in_spool
            book.is_in_spool = False
            self._expect("erase", book.key)

    def _may_look(self, due_at: float) -> bool:
        """Tell whether it is to look into the spool, if that was due at some time."""
        taken = self.held + len(self.storing)
        return not self.closed and due_at <= self.now and taken < self.batch.max_queue_size / 2

    def _expire(self, key: str) -> None:
        """Take note that the next to be sent had grown too old."""
        book = self.books[key]
        assert self.now >= self.gate.opens_at
        assert len(self.flying) < self.gate.width
        assert book.expires_at <= self.now
        if book.place == "waiting":
            assert book is self._next_repeat()
            self.waiting.remove(book)
        else:
            assert book is self._pop_fresh()
        book.is_in_spool = False
        self._expect("quarantine", book.key)
        self._drop(book, "expired")

    def _pop_fresh(self) -> Book:
        """Take the fresh signal whose turn it is: the process's own go before those adopted."""
        if not self.sending:
            return self.adopted.pop(0)
        book = self.fresh.pop(0)
        self.sending = bool(self.fresh)
        return book

    def _suspect(self, book: Book) -> None:
        """Count a failure, if another signal was served since the last one; each outage begins anew."""
        is_first = book.failures == 0 or book.outages != self.gate.outages
        book.failures = 1 if is_first else book.failures + (self.served > book.served)
        book.outages, book.served = self.gate.outages, self.served

    def _is_turn_of_fresh(self) -> bool:
        """Return whether a fresh signal goes next, though another one's back-off may be over."""
        if not (self.sending or self.adopted):
            return False
        repeat = self._next_repeat()
        if self.gate.is_outage or repeat is None or repeat.failures < 2:
            return self.gate.is_outage
        suspects = [book for book in self.flying.values() if book.failures >= 2]
        self.seen["turn of a fresh one"] += 1
        return self.was_suspect or 2 * len(suspects) >= self.gate.width

    def _has_room_for(self, book: Book, *, without: Sequence[Book] = ()) -> bool:
        held = self.held + len(self.storing) - len(without)
        held_bytes = self.held_bytes - sum(len(each.body) for each in without)
        held_bytes += sum(len(each.body) for each in self.storing.values())
        is_small = held_bytes + len(book.body) <= self.batch.max_queue_bytes
        self.seen["too many bytes"] += held < self.batch.max_queue_size and not is_small
        return held < self.batch.max_queue_size and is_small

    def _land(self, book: Book) -> None:
        if book.is_on_loan:
            self.gate.loans -= 1
            book.is_on_loan = False

    def _gives_up_at(self, flush: FlushBook) -> float:
        if flush.deadline_at is not None:
            return flush.deadline_at
        return max(flush.began_at, self.served_at) + self.config.patience

    def _next_repeat(self) -> Book | None:
        """The signal to be sent again next, if the budget allows it."""
        if any(book.not_before == NEVER for book in self.waiting):
            return None
        ordered = sorted(self.waiting, key=lambda book: (book.not_before, self.recorded.index(book)))
        return next((book for book in ordered[:1] if self.gate.can_repeat(book.price)), None)

    def _touch(self) -> None:
        self.now = max(self.now, self.clock)

    def _new_ticket(self, ticket: int) -> None:
        assert ticket not in self.tickets
        self.tickets.add(ticket)

    def _expect(self, *event: object) -> None:
        kind, *rest = event
        self.expected[(str(kind), *rest)] += 1

    def _hold(self, book: Book, age: float = 0.0) -> None:
        self.recorded.append(book)
        book.place, book.worked = "fresh", self.gate.worked
        if self.spool_window is not None:
            book.expires_at = self.now - age + self.spool_window
        is_closing = False
        for flush in self.flushes:
            is_closing |= flush.closes
            if flush.look is not None if book.is_adopted else is_closing:
                flush.awaited.append(book)
                flush.tells.append(book)
        (self.adopted if book.is_adopted else self.fresh).append(book)
        if self.fresh and not self.sending:
            is_half_full = 2 * (self.held + len(self.storing)) >= self.batch.max_queue_size
            needs_room = is_half_full and any(flush.look is not None for flush in self.flushes)
            if self.closing or len(self.fresh) >= self.batch.max_size or self._is_full() or needs_room:
                self._start_sending()
            elif self.interval_at is None:
                self.interval_at = self.now + self.batch.max_interval

    def _is_full(self) -> bool:
        size = self.held_bytes + sum(len(each.body) for each in self.storing.values())
        count = self.held + len(self.storing)
        if self.blocked and not self._has_room_for(self.blocked[0].book):
            return True
        return count >= self.batch.max_queue_size or size >= self.batch.max_queue_bytes

    def _refuse(self, book: Book, reason: str) -> None:
        self.recorded.append(book)
        book.place = reason
        self.ended.append(book)
        self.seen[reason] += 1
        self._expect("dropped", book.key, reason)

    def _admit_blocked(self) -> None:
        while self.blocked and self._has_room_for(self.blocked[0].book):
            self._admit(self.blocked.pop(0))

    def _admit(self, blocked: BlockedBook) -> None:
        self.seen["admitted"] += 1
        if self.is_durable:
            self._store(blocked.book, blocked.ticket)
            return
        self._hold(blocked.book)
        self.admissions[blocked.ticket] = (blocked.book.key, None)
        self._expect("settled", blocked.ticket)

    def _start_sending(self) -> None:
        self.sending = bool(self.fresh)
        self.interval_at = None

    def _fail(self, book: Book, reply: Reply, *, is_locked_out: bool) -> None:
        book.tried_at, book.worked = self.now, self.gate.worked
        may_pass = reply.verdict in ("retry", "misdirected")
        may_repeat = may_pass and (self.is_durable or book.strikes < self.retry.max_attempts)
        if is_locked_out or may_repeat:
            book.place, book.not_before = "waiting", NEVER
            book.retry_after = reply.retry_after or 0.0
            self.waiting.append(book)
            self._expect("retrying", book.key, book.attempts)
            self.seen["retry"] += 1
            self.seen["held beyond its attempts"] += book.attempts > self.retry.max_attempts
            return
        book.place = "refused" if reply.verdict == "refused" else "send_failed"
        self.seen[book.place] += 1
        self._erase(book)
        self._expect("rejected" if reply.verdict == "refused" else "given up", book.key)
        self._end(book)

    def _drop(self, book: Book, reason: str) -> None:
        book.place = reason
        self.seen[reason] += 1
        if reason != "expired":
            self._erase(book)
        self._expect("dropped", book.key, reason)
        self._end(book)

    def _end(self, book: Book) -> None:
        self.ended.append(book)
        self._admit_blocked()
        if self.held == 0 and not self.closed:
            self._expect("emptied", self.delivered_since_empty)
            self.delivered_since_empty = 0
        self._settle_finished()

    def _settle_finished(self) -> None:
        for flush in list(self.flushes):
            is_waiting = any(
                book.is_held and (flush.waits_for_adopted or not book.is_adopted) for book in flush.awaited
            )
            is_waiting |= flush.look is not None and flush.waits_for_adopted
            is_waiting |= flush.closes and bool(self.storing)
            if flush in self.flushes and not is_waiting:
                self._settle(flush)

    def _settle(self, flush: FlushBook) -> None:
        self.flushes.remove(flush)
        ended = [book for book in flush.tells if not book.is_held and book.place != "parked"]
        self.told.update(ended)
        failed = Counter(book.key for book in ended if book.place != "delivered")
        adopted = sum(book.is_adopted for book in ended if book.place == "delivered")
        pending = sum(book.is_held for book in flush.awaited)
        self.reports[flush.ticket] = (len(ended) - failed.total(), adopted, failed, pending)
        self._expect("settled", flush.ticket)
        if pending:
            self.seen["flush out of time"] += 1
        if flush.closes and not self.closed:
            self._shut()

    def _shut(self) -> None:
        self.closed = True
        left = [book for book in self.recorded if book.is_held]
        self.spent += self.flying
        self.flying, self.waiting, self.fresh, self.adopted = {}, [], [], []
        self.looks_from = self.looks_by = NEVER
        for book in left:
            if self.is_durable:
                book.place = "held at the close"
        while self.is_durable and self.flushes:
            self._settle(self.flushes[0])
        for book in left:
            if self.is_durable:
                self._park(book)
            else:
                self._drop(book, "closed")

    def _fire_timers(self) -> None:
        if self.interval_at is not None and self.interval_at <= self.now:
            self._start_sending()
        while self.blocked and self.blocked[0].deadline_at <= self.now:
            blocked = self.blocked.pop(0)
            self._refuse(blocked.book, "queue_full")
            self.admissions[blocked.ticket] = (blocked.book.key, "queue_full")
            self._expect("settled", blocked.ticket)
            self.seen["block timed out"] += 1
        self._admit_blocked()
        for flush in [flush for flush in self.flushes if self._gives_up_at(flush) <= self.now]:
            if flush in self.flushes:
                self.seen["out of patience"] += flush.deadline_at is None
                self._settle(flush)
        for flush in self.flushes:
            if flush.adopts_until <= self.now:
                self.seen["waits for its own alone"] += flush.waits_for_adopted
                flush.waits_for_adopted = False
        self._settle_finished()

    # Checks of outputs

    def _check_transmit(self, output: Transmit) -> None:
        self._new_ticket(output.ticket)
        book = next(book for book in self.recorded if book.body == output.request.body)
        assert (output.request.method, output.request.target) == ("POST", "/api/v1/usage")
        assert output.request.replay_safe
        assert output.deadline_at == self.now + self.config.timeout
        assert self.now >= self.gate.paused_until, "sent before the server's Retry-After"
        assert self.now >= self.gate.opens_at, "sent before the gate opened"
        assert len(self.flying) < self.gate.width
        repeat = self._next_repeat()
        is_due = repeat is not None and repeat.not_before <= self.now
        if book.place == "waiting":
            assert book is repeat, "not the one whose turn it is"
            assert book.not_before <= self.now, "sent before its own back-off"
            assert not self._is_turn_of_fresh(), "a repeat when it is a fresh one's turn"
            self.waiting.remove(book)
            if book.price:
                book.is_on_loan = not self.gate.pay(book.price)
            self.seen["repeat"] += 1
            self.seen["repeat on loan"] += book.is_on_loan
        else:
            assert book.place == "fresh"
            assert not is_due or self._is_turn_of_fresh(), "a fresh one before one that waited"
            assert self.sending or book.is_adopted, "sent without a trigger"
            assert book is self._pop_fresh(), "first attempts out of order"
        book.place = "in flight"
        book.attempts += 1
        book.sent_at = self.now
        self.was_suspect = book.failures >= 2
        self.seen["probe"] += self.gate.width == 1 < self.batch.most_concurrency
        assert book.strikes < self.retry.max_attempts or self.is_durable
        assert book.expires_at > self.now, "sent past the window"
        self.flying[output.ticket] = book

    def _check_wait(self, output: Wait) -> None:
        assert not self.expected, f"waits with events untold: {self.expected}"
        assert not any(book.not_before == NEVER for book in self.waiting)
        times = [self._gives_up_at(flush) for flush in self.flushes]
        for flush in self.flushes:
            waits = flush.look is not None or any(each.is_adopted and each.is_held for each in flush.awaited)
            if flush.waits_for_adopted and waits:
                times.append(flush.adopts_until)
        times += [blocked.deadline_at for blocked in self.blocked]
        if self.interval_at is not None:
            times.append(self.interval_at)
        if len(self.flying) < self.gate.width:
            repeat = self._next_repeat()
            ready = [] if repeat is None else [repeat.not_before]
            if self.sending or self.adopted:
                ready.append(-NEVER)
            if ready:
                times.append(max(min(ready), self.gate.opens_at))
        if output.reason is WaitReason.ADOPTION:
            assert output.until is not None
            assert self.looks_from <= output.until <= self.looks_by
            self.looks_from = self.looks_by = output.until
        if self.now < self.looks_by < NEVER:
            times.append(
                self.looks_by
                if output.until is None
                else max(self.looks_from, min(output.until, self.looks_by))
            )
        assert output.until == min(times, default=None)
        assert output.until is None or output.until > self.now, "wakes up in the past"
        if self.held and not self.flying:
            assert output.until is not None, "sleeps for ever on work"
        assert self.outbox.poll(now=self.clock) == output, "polling again gives another Wait"
        assert not self.outbox.wakes_before(output.until)
        self.last_wait = output

    def _check_event(
        self,
        output: Store | Erase | Quarantine | HookEvent | Settled[FlushReport] | Settled[TrackResult],
    ) -> None:
        event: Event
        match output:
            case Delivered():
                event = ("delivered", output.signal.idempotency_key)
                assert output.result.idempotency_key == output.signal.idempotency_key
                assert not output.result.queued
            case Rejected() | GivenUp() | Mending() | KeyRefused() | Misdirected():
                event = (ERRORS[type(output)], output.signal.idempotency_key)
                assert output.error.idempotency_key == output.signal.idempotency_key
            case Retrying():
                assert output.signal is not None
                event = ("retrying", output.signal.idempotency_key, output.attempt)
                self._check_delay(output, self.books[str(output.signal.idempotency_key)])
            case Dropped():
                event = ("dropped", output.signal.idempotency_key, output.reason)
            case Emptied():
                event = ("emptied", output.count)
            case FallingBehind():  # when it is due, test_concurrency has
                assert output.max_concurrency == self.batch.most_concurrency
                assert output.recorded > output.delivered
                return
            case Store():
                event = ("store", output.ticket, output.signal.idempotency_key)
            case Erase():
                event = ("erase", output.idempotency_key)
            case Quarantine():
                event = ("quarantine", output.idempotency_key)
            case Settled():
                event = ("settled", output.ticket)
                self._check_settled(output)
            case _:
                assert_never(output)
        assert self.expected[event], f"{event} was not due; due are {self.expected}"
        self.expected[event] -= 1
        self.expected += Counter()  # forget zeros

    def _check_delay(self, event: Retrying, book: Book) -> None:
        ceiling = min(self.retry.base_delay * 2 ** (event.attempt - 1), self.retry.max_delay)
        most = max(ceiling, book.retry_after)
        if event.attempt >= 2:  # the one before the last may wait for longer, for others to be heard
            most = max(most, self.retry.max_delay)
        assert max(ceiling / 2, book.retry_after) <= event.delay <= most
        is_key_refused = self.is_durable and event.error.status in (401, 403)
        assert event.error.retryable or event.error.hint is not None or is_key_refused
        book.not_before = book.tried_at + event.delay

    def _check_settled(self, output: Settled[FlushReport] | Settled[TrackResult]) -> None:
        if isinstance(output.outcome, SpoolError):
            assert self.admissions.pop(output.ticket)[1] == "not stored"
            return
        value = output.unwrap()
        if isinstance(value, TrackResult):
            key, dropped = self.admissions.pop(output.ticket)
            assert (value.idempotency_key, value.dropped, value.queued) == (key, dropped, True)
            return
        delivered, adopted, failed, pending = self.reports.pop(output.ticket)
        assert (value.delivered, value.adopted, value.pending) == (delivered, adopted, pending)
        told = Counter(str(each.error.idempotency_key) for each in value.failed)
        assert told == Counter(str(each.signal.idempotency_key) for each in value.failed)
        if failed.total() <= self.batch.max_queue_size:
            assert told == failed
        else:
            assert told <= failed
            assert told.total() == self.batch.max_queue_size
