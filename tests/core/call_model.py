"""Calls on one engine beside a model that keeps its own books and checks every promise after every step.

Each call is driven by hand, so that they overlap in any way; what one server answer asks of all of them, a
pause, is one number here. The model never predicts the jitter, but holds the delay it is told of against the
bounds of the policy.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal, TypeAlias

from clocknext_core import (
    AllowanceError,
    Answer,
    AuthError,
    Call,
    ClockNextError,
    Closed,
    ConflictError,
    Engine,
    Failure,
    NetworkError,
    NotFoundError,
    Operation,
    PlanError,
    RateLimitError,
    Retrying,
    RetryPolicy,
    ServerError,
    Settled,
    TrackResult,
    Transmit,
    ValidationError,
    Wait,
)
from clocknext_core.call import CallOutput
from clocknext_core.delivery import signal_operation
from clocknext_core.envelope import Payload
from clocknext_core.operations import Method, json_body, path_of
from tests.core.support import KEY, answer, config, encoded, no_key, refusal, success

AnyCall: TypeAlias = "Call[Payload] | Call[TrackResult]"
AnyOutput: TypeAlias = CallOutput

NEVER = float("inf")
DAY = 24 * 3600.0


@dataclass(frozen=True)
class Reply:
    """One scripted answer, and what it means by the tables of the protocol."""

    answer: Answer
    error: type[ClockNextError] | None = None
    """`None`: a success."""
    retryable: bool = False
    retry_after: float | None = None
    payload: Mapping[str, object] = field(default_factory=dict[str, object])


def _busy(asks: float | None, **headers: str) -> Reply:
    return Reply(refusal(429, "busy", None, **headers), RateLimitError, retryable=True, retry_after=asks)


REPLIES: Mapping[str, Reply] = {
    "ok": Reply(success({"usageLog": {"id": "log"}}), payload={"usageLog": {"id": "log"}}),
    "accepted": Reply(success({"accepted": True}, 202), payload={"accepted": True}),
    "no content": Reply(answer(204, b"")),
    "legacy ok": Reply(answer(200, {"ok": True, "x": 1}), payload={"x": 1}),
    "500": Reply(refusal(500), ServerError, retryable=True),
    "503 for a while": Reply(refusal(503, retry_after="2"), ServerError, retryable=True, retry_after=2.0),
    "503 for long": Reply(refusal(503, retry_after="900"), ServerError, retryable=True, retry_after=900.0),
    "408": Reply(refusal(408), ClockNextError, retryable=True),
    "409": Reply(refusal(409), ConflictError, retryable=True),
    "429": _busy(3.0, retry_after="3"),
    "429 in ms": _busy(0.25, retry_after_ms="250", retry_after="900"),
    "429 at once": _busy(0.0, retry_after="0"),
    "429 below zero": _busy(0.0, retry_after="-5"),
    "429 by date": _busy(
        4.0, date="Wed, 21 Oct 2015 07:28:00 GMT", retry_after="Wed, 21 Oct 2015 07:28:04 GMT"
    ),
    "429 for ever": _busy(DAY, retry_after="1e99"),
    "429, garbled": _busy(None, retry_after="soon"),
    "429, silent": _busy(None),
    "html": Reply(answer(200, "<html>proxy</html>"), ClockNextError, retryable=True),
    "array": Reply(answer(200, []), ClockNextError, retryable=True),
    "empty": Reply(answer(200, b""), ClockNextError, retryable=True),
    "cut short": Reply(answer(200, b'{"ok": tr'), ClockNextError, retryable=True),
    "echo": Reply(answer(502, f"<html>Authorization: Bearer {KEY}</html>"), ServerError, retryable=True),
    "reset": Reply(Failure("connection reset"), NetworkError, retryable=True),
    "refused connection": Reply(
        Failure(f"connection refused for {KEY}", processed=False), NetworkError, retryable=True
    ),
    "307": Reply(answer(307, b"", location="https://elsewhere.example"), ClockNextError),
    "400": Reply(refusal(400), ValidationError),
    "401": Reply(refusal(401, f"Invalid API key {KEY}."), AuthError),
    "403 with a wait": Reply(refusal(403, retry_after="2"), ClockNextError, retry_after=2.0),
    "404": Reply(refusal(404), NotFoundError),
    "413": Reply(refusal(413), ClockNextError),
    "422": Reply(refusal(422, "The plan has no wallet."), PlanError),
    "422, used up": Reply(refusal(422, "INSUFFICIENT credit balance."), AllowanceError),
    "error in a 200": Reply(refusal(200), ClockNextError),
}

Kind: TypeAlias = Method | Literal["signal"]
KINDS: tuple[Kind, ...] = ("GET", "PUT", "DELETE", "POST", "PATCH", "signal")
SAFE = frozenset({"GET", "PUT", "DELETE", "signal"})


@dataclass(eq=False)
class Book:
    """What the model knows of one call."""

    call: AnyCall
    kind: Kind
    number: int
    now: float = -NEVER
    attempts: int = 0
    first: Transmit | None = None
    is_flying: bool = False
    not_before: float = -NEVER
    failed_at: float = 0.0
    reply: Reply | None = None
    """The latest answer."""
    is_owed_event: bool = False
    """A `Retrying` is due."""
    ended: bool = False
    """No more attempts: settled, or about to be."""
    told: bool = False
    last_wait: Wait | None = None

    @property
    def key(self) -> str | None:
        return f"key-{self.number}" if self.kind == "signal" else None

    @property
    def path(self) -> str:
        return "/api/v1/usage" if self.kind == "signal" else f"/api/v1/customers/c{self.number}"


@dataclass
class World:
    """An engine, the calls begun on it, and a clock that may be set at will."""

    retry: RetryPolicy
    timeout: float = 10.0
    seed: int = 0
    clock: float = 1000.0
    seen: Counter[str] = field(default_factory=Counter[str])
    """What did happen, to tell a run that proves something from one that does not."""

    def __post_init__(self) -> None:
        self.config = config(retry=self.retry, timeout=self.timeout)
        self.engine = Engine(self.config, rng=Random(self.seed), make_key=no_key)
        self.patience = self.retry.max_attempts * (self.timeout + self.retry.max_delay)
        self.paused_until = -NEVER
        self.begun: list[Book] = []
        self.live: list[Book] = []
        """Neither settled nor given up by their driver."""
        self.log: list[str] = []

    # Inputs

    def begin(self, kind: Kind) -> Book:
        number = len(self.begun) + 1
        call: AnyCall
        if kind == "signal":
            call = self.engine.call(signal_operation(encoded(f"key-{number}")))
        else:
            body = json_body({"name": f"c{number}"}) if kind in ("POST", "PUT", "PATCH") else None
            call = self.engine.call(Operation(kind, path_of("customers", f"c{number}"), dict, body))
        book = Book(call, kind, number)
        self.begun.append(book)
        self.live.append(book)
        return book

    def answer(self, book: Book, name: str) -> None:
        """Answer the attempt in flight."""
        assert book.is_flying
        self._touch(book)
        reply = self._reply(book, name)
        book.call.handle_answer(book.attempts, reply.answer, now=self.clock)
        book.is_flying, book.reply, book.failed_at = False, reply, book.now
        wait = reply.retry_after or 0.0
        if wait > 0:
            self.paused_until = max(self.paused_until, book.now + wait)
            self.seen["pause"] += 1
        is_unprocessed = isinstance(reply.answer, Failure) and not reply.answer.processed
        may_repeat = book.kind in SAFE or is_unprocessed
        if reply.error is None:
            book.ended = True
            self.seen["succeeded"] += 1
        elif not reply.retryable:
            book.ended = True
            self.seen["refused"] += 1
        elif book.attempts >= self.retry.max_attempts:
            book.ended = True
            self.seen["used up"] += 1
        elif not may_repeat:
            book.ended = True
            self.seen["not repeated: may have been processed"] += 1
        elif wait > self.patience:
            book.ended = True
            self.seen["gave up at once"] += 1
        else:
            book.is_owed_event = True
            self.seen["retry"] += 1
            self.seen["repeated: certainly unprocessed"] += book.kind not in SAFE

    def answer_late(self, book: Book, ticket: int, name: str) -> None:
        """Answer an attempt that is over, or that never was: nothing comes of it."""
        if book.is_flying and ticket == book.attempts:
            return
        self._touch(book)
        book.call.handle_answer(ticket, self._reply(book, name).answer, now=self.clock)
        self.seen["late answer" if 1 <= ticket <= book.attempts else "unknown ticket"] += 1
        self.seen["duplicate answer"] += ticket == book.attempts

    def give_up(self, book: Book) -> None:
        """The driver is cancelled, and never comes back to the call."""
        self.live.remove(book)
        self.seen["given up in flight" if book.is_flying else "given up"] += 1

    def jump(self, seconds: float) -> None:
        self.clock += seconds
        self.seen["backwards"] += seconds < 0

    def sleep(self, book: Book) -> None:
        """Sleep as long as the call was told to."""
        if book.last_wait is not None and book.last_wait.until is not None:
            self.clock = max(self.clock, book.last_wait.until)
            self.seen["wait"] += 1

    def outlast(self) -> None:
        """Let the host's pause go by, however long: while it lasts every call is sent away."""
        self.clock = max(self.clock, self.paused_until)

    # Output

    def poll(self, book: Book) -> AnyOutput:
        """Take the next output: there is one only that it can be."""
        self._touch(book)
        output = book.call.poll(now=self.clock)
        assert KEY not in repr(output)
        self.log.append(f"{book.number} {output!r}")
        starts_at = max(book.not_before, self.paused_until)
        if book.is_owed_event:
            assert isinstance(output, Retrying)
            self._check_retrying(book, output)
        elif book.told:
            assert output == Closed()
            self.seen["closed"] += 1
        elif book.ended:
            assert isinstance(output, Settled)
            self._check_settled(book, output)
        elif book.is_flying:
            self._check_wait(book, output, None)
        elif self.paused_until > book.now + self.patience:
            assert isinstance(output, Settled), f"waits for longer than a caller would: {output}"
            self._check_sent_away(book, output)
        elif starts_at > book.now:
            self._check_wait(book, output, starts_at)
            self.seen["held up by another's pause"] += self.paused_until > book.not_before
        else:
            assert isinstance(output, Transmit)
            self._check_transmit(book, output)
        return output

    def recover(self) -> None:
        """Let every fault stop: each call that is still driven settles within a bounded number of steps."""
        for book in list(self.live):
            for _ in range(12):
                if book.is_flying:
                    self.answer(book, "ok")
                if isinstance(self.poll(book), Closed):
                    break
                if not book.is_flying:
                    self.sleep(book)
            else:
                raise AssertionError("a call never settles")
        assert not self.live

    # Checks of outputs

    def _check_transmit(self, book: Book, output: Transmit) -> None:
        assert book.now >= book.not_before, "sent before its own back-off"
        assert book.now >= self.paused_until, "sent before the server's Retry-After"
        assert output.deadline_at == book.now + self.timeout
        book.attempts += 1
        assert output.ticket == book.attempts <= self.retry.max_attempts
        request = output.request
        if book.first is None:
            book.first = output
            assert (request.method, request.target) == (
                "POST" if book.kind == "signal" else book.kind,
                book.path,
            )
            assert request.replay_safe == (book.kind in SAFE)
            if book.key is not None:
                assert book.key.encode() in (request.body or b"")
        else:
            assert request == book.first.request, "a repeat with other bytes"
            self.seen["repeat"] += 1
        book.is_flying = True
        book.last_wait = None

    def _check_wait(self, book: Book, output: AnyOutput, until: float | None) -> None:
        assert output == Wait(until)
        assert until is None or until > book.now, "wakes up in the past"
        assert (until is None) == book.is_flying, "sleeps for ever on work"
        assert book.call.poll(now=self.clock) == output, "polling again gives another Wait"
        assert isinstance(output, Wait)
        book.last_wait = output

    def _check_retrying(self, book: Book, event: Retrying) -> None:
        assert book.reply is not None
        ceiling = min(self.retry.base_delay * 2 ** (book.attempts - 1), self.retry.max_delay)
        asked = book.reply.retry_after or 0.0
        assert event.attempt == book.attempts
        assert max(ceiling / 2, asked) <= event.delay <= max(ceiling, asked)
        assert (None if event.signal is None else event.signal.idempotency_key) == book.key
        self._check_error(book, event.error)
        book.is_owed_event = False
        book.not_before = book.failed_at + event.delay

    def _check_settled(self, book: Book, output: Settled[Payload]) -> None:
        assert output.ticket == book.attempts
        assert book.reply is not None
        if book.reply.error is not None:
            assert isinstance(output.outcome, ClockNextError)
            self._check_error(book, output.outcome)
        elif book.key is not None:
            result = book.call.result(output)
            assert isinstance(result, TrackResult)
            assert result.raw == book.reply.payload
            assert (result.idempotency_key, result.queued) == (book.key, False)
        else:
            result = book.call.result(output)
            assert isinstance(result, dict)
            assert {name: value for name, value in result.items() if name != "ok"} == book.reply.payload
        self._end(book)

    def _check_sent_away(self, book: Book, output: Settled[Payload]) -> None:
        """The host's pause is longer than a caller would wait for: the error says how long it is."""
        error = output.outcome
        assert isinstance(error, RateLimitError)
        assert error.retry_after is not None
        assert self.paused_until > book.not_before, "a retry was announced, and is not to be"
        assert abs(error.retry_after - (self.paused_until - book.now)) < 1e-6
        assert (error.retryable, error.status, error.idempotency_key) == (True, None, book.key)
        assert error.request is not None
        assert error.request.path == book.path
        assert ("none was sent" in str(error)) == (not book.attempts), "a caller must know whether one was"
        self.seen["sent away by another's pause"] += 1
        book.ended = True
        self._end(book)

    def _check_error(self, book: Book, error: ClockNextError) -> None:
        reply = book.reply
        assert reply is not None
        assert type(error) is reply.error
        assert (error.retryable, error.retry_after) == (reply.retryable, reply.retry_after)
        assert error.status == (None if isinstance(reply.answer, Failure) else reply.answer.status)
        assert error.idempotency_key == book.key
        assert error.request is not None
        assert error.request.path == book.path
        assert KEY not in str(error)

    def _end(self, book: Book) -> None:
        book.told = True
        if book in self.live:
            self.live.remove(book)
        assert book.call.poll(now=self.clock) == Closed()

    def _touch(self, book: Book) -> None:
        book.now = max(book.now, self.clock)

    def _reply(self, book: Book, name: str) -> Reply:
        if name == "empty" and book.kind == "DELETE":
            return replace(REPLIES[name], error=None)  # there is nothing to say of what is gone
        if name == "429 to the limit":
            return _busy(self.patience, retry_after=repr(self.patience))
        return REPLIES[name]


NAMES = sorted([*REPLIES, "429 to the limit"])
