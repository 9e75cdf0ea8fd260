"""One seed, played out: a client's core, its server, its disk, and what its user does, on one virtual clock.

The client is driven here as the real drivers do it: after an input it asks `wakes_before` whether it must
poll, and it sleeps until the time a `Wait` names. Its clock is not the world's: it jumps, also backwards.
With a spool it is killed now and then, and another process takes over what is on the disk.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import TypeAlias, assert_never, get_args

from clocknext_core import (
    Adopt,
    BatchPolicy,
    Call,
    ClockNextError,
    Closed,
    Config,
    CreditSignal,
    Delivered,
    Engine,
    Erase,
    Failure,
    GiveBack,
    Operation,
    OutcomeSignal,
    Quarantine,
    QueueFullError,
    Receipt,
    Response,
    Retrying,
    RetryPolicy,
    Settled,
    Signal,
    SpoolDuty,
    SpooledOutbox,
    SpoolError,
    Store,
    Ticket,
    TrackResult,
    Transmit,
    Wait,
    WalletSignal,
)
from clocknext_core.config import Overflow
from clocknext_core.delivery import signal_operation
from clocknext_core.envelope import Payload
from clocknext_core.operations import json_body, path_of
from clocknext_core.signals import encode
from clocknext_transports.emulator.api.exchange import Received
from clocknext_transports.emulator.api.ledger import DEFAULT_API_KEY, Ledger
from clocknext_transports.emulator.books.catalogue import Catalogue
from clocknext_transports.recorder import RecordingEngine
from tests.simulation.disk import Disk
from tests.simulation.judge import NEVER, Judge
from tests.simulation.network import CALM_LATENCY, EPOCH, Fate, Flight, Meaning, Network, Weather
from tests.simulation.weather import POISONS, draw_fate

START = 1000.0
"""What the client's clock says at virtual time 0."""

MAX_STEPS = 50_000
"""Of one seed: far more than any takes."""

Action: TypeAlias = Callable[[], None]

_CATALOGUE = Catalogue()
OVERFLOWS: tuple[Overflow, ...] = get_args(Overflow)
NEVER_ENDS = float("inf")

_CHARGES: Mapping[str, tuple[int, int]] = {
    "succeeded": (1, 1),
    "refused": (0, 0),
    "failed": (0, 1),
    "cancelled": (0, 1),
}
"""By how a call ended: how often the server may have done what it asked for, at least and at most."""

_WEATHERS: tuple[Weather, ...] = ("calm", "storm", "storm", "outage", "recovery")


@dataclass(eq=False)
class Claim:
    """A signal whose call is awaited, or any other call."""

    call: "Call[Payload] | Call[TrackResult]"
    key: str | None
    """Of the signal it carries."""
    name: str | None
    """Of the customer it creates."""
    replay_safe: bool
    bodies: set[bytes | None] = field(default_factory=set[bytes | None])
    now: float = NEVER
    """Its clock, which stands still where it would go back."""
    not_before: float = NEVER
    in_flight: Ticket | None = None
    last_meaning: Meaning = "retry"
    last_pause: float = 0.0
    last_processed: bool = True
    attempts: int = 0
    outcome: str = "running"

    def touch(self, now: float) -> None:
        """Take the time."""
        self.now = max(self.now, now)


@dataclass(eq=False)
class Recorded:
    """A buffered signal, over all processes that had it."""

    body: bytes
    is_safe: bool = False
    """Whether it was acknowledged as stored, so that it must survive every crash."""
    ends: list[str] = field(default_factory=list[str])
    """How it ended, in each process that saw it end."""


class World:
    """A client and its server, and the seed that decides what happens.

    Args:
        seed: Decides everything.
        write: Takes a trace of the client's first process, line by line.
    """

    def __init__(self, seed: int, write: Callable[[str], object] | None = None) -> None:
        self.rng = Random(seed)
        self.seen: Counter[str] = Counter()
        self._poison_left = self.rng.choice((0, 0, 0, 3))
        """How many poison signals are still to be recorded."""
        self._poison: dict[str, Fate] = {}
        self.config = _draw_config(self.rng, is_poisoned=self._poison_left > 0)
        self.ledger = Ledger(_CATALOGUE)
        self.network = Network(self.ledger)
        self.disk = Disk()
        self.steps = 0
        self._seed = seed
        self._keys = count(1)
        self._time = 0.0
        self._events: list[tuple[float, int, Action]] = []
        self._numbers = count()
        self._signals: dict[str, Recorded] = {}
        self._claims: list[Claim] = []
        self._horizon = self.rng.choice((5.0, 20.0, 60.0))
        self._forecast = self._draw_weather()
        self._process = 0
        self._alarm = 0
        self._start(write)

    def _start(self, write: Callable[[str], object] | None = None) -> None:
        """Begin a process: it knows nothing, but what it will find on the disk."""
        self._process += 1
        rng = Random(self._seed + self._process)
        self.engine = _engine(self.config, rng, lambda: f"key-{next(self._keys)}", write)
        self.outbox = self.engine.outbox
        self.judge = Judge(self.config, self.seen)
        self._offset = START - self._time
        self._flying: dict[Ticket, Flight] = {}
        self._sleeping_until: float | None = None

    @property
    def _has_spool(self) -> bool:
        return self.config.spool_window is not None

    def run(self) -> None:
        """Play it all out, and hold the bill against the claims.

        Raises:
            AssertionError: The core broke a promise.
        """
        self._plan()
        self._run_until(self._horizon)
        self._time = self._horizon
        assert self._weather == "calm"
        self._settle_down()
        if self.disk.rows:  # what was left at the close, another process delivers
            self.seen["left at the close"] += 1
            self._start()
            self._settle_down(is_last=True)
        assert not self.disk.rows, "what is stored has not ended"
        self._check_bill()

    # The clock

    @property
    def now(self) -> float:
        """What the client's clock says."""
        return self._time + self._offset

    def _time_of(self, now: float) -> float:
        """Return when the client's clock says `now`, or just after it: a sleep never ends early.

        The two clocks are apart, so that sums are rounded. A sleep that ends a rounding error early is
        followed by another one of no length, for ever.
        """
        time = max(self._time, now - self._offset)
        while time + self._offset < now:
            time += math.ulp(max(abs(time), abs(self._offset), abs(now)))
        return time

    def _at(self, time: float, action: Action) -> None:
        heappush(self._events, (time, next(self._numbers), action))

    def _run_until(self, time: float, is_done: Callable[[], bool] = lambda: False) -> None:
        while self._events and self._events[0][0] <= time and not is_done():
            self._time, _, action = heappop(self._events)
            self.steps += 1
            assert self.steps < MAX_STEPS, "no end in sight"
            self.network.advance(self._time)
            action()

    # What happens

    def _draw_weather(self) -> list[tuple[float, Weather]]:
        forecast: list[tuple[float, Weather]] = []
        time = 0.0
        while time < self._horizon:
            forecast.append((time, self.rng.choice(_WEATHERS)))
            time += self.rng.random() * self._horizon * 0.6
        return [*forecast, (self._horizon, "calm")]

    @property
    def _weather(self) -> Weather:
        now = self._time
        return next(weather for time, weather in reversed(self._forecast) if time <= now)

    def _plan(self) -> None:
        rng = self.rng
        actions: list[tuple[float, Action]] = [
            (30, self._record_some),
            (6, self._flush),
            (6, self._call),
            (4, self._abandon),
            (2, self._withdraw),
            (3, self._jump),
            (6, self._poll_for_nothing),
            (1, self._cancel_call),
            (2, self._answer_nobody),
            (0.3, self._close),
            (2 if self._has_spool else 0, self._crash),
        ]
        weights = [weight for weight, _ in actions]
        for action in rng.choices([action for _, action in actions], weights, k=rng.randint(10, 60)):
            self._at(rng.random() * self._horizon, action)

    def _record_some(self) -> None:
        for _ in range(self.rng.choice((1, 1, 2, 4, 8))):
            self._record()
        self._nudge()

    def _record(self) -> str:
        encoded = encode(self._draw_signal(), self.engine.make_key)
        if self._poison_left and self.rng.random() < 0.1:
            self._poison_left -= 1
            self._poison[encoded.idempotency_key] = self.rng.choice(list(POISONS.values()))
        self._signals[encoded.idempotency_key] = Recorded(encoded.body)
        self.judge.touch(self.now)
        before = self.outbox.stats(now=self.now)
        receipt: Receipt | None = None
        with suppress(QueueFullError):
            receipt = self.outbox.record(encoded, now=self.now)
        self.judge.recorded(encoded, receipt, before)
        self._mark_poison()
        self._check()
        return encoded.idempotency_key

    def _mark_poison(self) -> None:
        for key in self._poison:
            if (known := self.judge.signals.get(key)) is not None:
                known.is_poison = True

    def _draw_signal(self) -> Signal:
        rng = self.rng
        customer = rng.choices(("cus_123", "cus_456", "cus_low", "nobody"), (70, 15, 10, 5))[0]
        model = rng.choices(("gpt-4o", "GPT-4o-Mini", "gpt-4"), (80, 16, 4))[0]
        tokens = {"input": rng.randrange(1000), "output": rng.randrange(100)}
        custom: dict[str, object] = {"n": rng.randrange(10)}
        match rng.randrange(3):
            case 0:
                signal: Signal = CreditSignal(
                    customer_id=customer, model=model, key="api_credit", tokens=tokens, custom=custom
                )
            case 1:
                signal = WalletSignal(customer_id=customer, model=model, tokens=tokens)
            case _:
                signal = OutcomeSignal(
                    customer_id=customer,
                    model=model,
                    agent_key="resolved_ticket.triage",
                    run_id=f"run-{rng.randrange(5)}",
                    complete=rng.random() < 0.5,
                )
        custom["n"] = "changed afterwards"
        return signal

    def _flush(self) -> None:
        self.seen["flush during an outage"] += self.outbox.stats(now=self.now).gate != "open"
        self.judge.touch(self.now)
        deadline_at = None if self.rng.random() < 0.5 else self.judge.now + self.rng.choice((0, 0.5, 5))
        ticket = self.outbox.flush(now=self.now, deadline_at=deadline_at)
        self.judge.flushed(ticket, deadline_at, closes=False)
        self._check()
        self._nudge()

    def _close(self, *, is_patient: bool = False) -> None:
        if self.outbox.is_closing:
            return
        self.judge.touch(self.now)
        has_deadline = not is_patient and self.rng.random() < 0.5
        deadline_at = self.judge.now + self.rng.choice((0, 0.5, 5)) if has_deadline else None
        ticket = self.outbox.close(now=self.now, deadline_at=deadline_at)
        self.judge.flushed(ticket, deadline_at, closes=True)
        self.seen["close"] += 1
        self._check()
        self._nudge()

    def _abandon(self) -> None:
        if self._flying:
            ticket = self.rng.choice(list(self._flying))
            self.judge.touch(self.now)
            self.outbox.abandon(ticket, now=self.now)
            self.judge.abandoned(ticket)
            self._check()
            self._nudge()

    def _withdraw(self) -> None:
        if self.judge.waiting_calls:
            ticket = self.rng.choice(self.judge.waiting_calls)
            self.judge.touch(self.now)
            self.outbox.withdraw(ticket, now=self.now)
            self.judge.withdrawn(ticket)
            self._check()
            self._nudge()

    def _crash(self) -> None:
        """Kill the process, and start another one that has its disk."""
        self._gather_ends()
        for ticket in self._flying:
            self.seen["killed in flight"] += ticket > 0
        self.seen["crash"] += 1
        for claim in self._claims:
            if claim.outcome == "running":
                claim.outcome = "cancelled"
        self._start()
        self._serve()

    def _gather_ends(self) -> None:
        for key, known in self.judge.signals.items():
            if known.place not in ("held", "waiting", "new"):
                self._signals[key].ends.append(known.place)

    def _jump(self) -> None:
        seconds = self.rng.choice((-30.0, -2.0, -0.1, 0.1, 2.0, 30.0))
        self._offset += seconds
        self.seen["clock set back" if seconds < 0 else "clock set forward"] += 1
        self._set_alarm()

    def _poll_for_nothing(self) -> None:
        self._serve()

    def _answer_nobody(self) -> None:
        self.judge.touch(self.now)
        self.outbox.handle_answer(
            self.rng.choice((-1, 0, 10**6)), Response(200, (), b'{"ok": true}'), now=self.now
        )
        self._check()

    # The outbox's driver

    def _nudge(self) -> None:
        if self._time < self._horizon and self.rng.random() < 0.15:
            # Inputs may queue up before a poll.
            self._at(self._time + self.rng.choice((0.0, 0.01)), self._nudge_now)
        else:
            self._nudge_now()

    def _nudge_now(self) -> None:
        if self.outbox.wakes_before(self._sleeping_until):
            self._serve()
        elif self.rng.random() < 0.3:
            self.judge.touch(self.now)
            if self._sleeping_until is None or self.judge.now < self._sleeping_until:
                output = self.outbox.poll(now=self.now)
                assert isinstance(output, Wait | Closed), f"wakes_before kept silent about {output}"
                self.judge.polled(output, self.outbox.stats(now=self.now))

    def _serve(self) -> None:
        while True:
            self.judge.touch(self.now)
            output = self.outbox.poll(now=self.now)
            self.judge.polled(output, self.outbox.stats(now=self.now))
            self._check()
            match output:
                case Transmit():
                    self._transmit(output)
                case Store() | Erase() | Quarantine() | Adopt():
                    self._obey(output)
                case Delivered():
                    key = output.signal.idempotency_key
                    assert self.ledger.billed(str(key)) == 1, f"{key} is told delivered, but not billed"
                case Closed():
                    return
                case Wait():
                    self._sleeping_until = output.until
                    self._set_alarm()
                    return
                case _:
                    pass

    # The disk

    def _obey(self, duty: SpoolDuty) -> None:
        """Carry out a duty to the spool, in its own time."""
        process = self._process
        is_calm = self._weather == "calm"
        fails = not is_calm and self.rng.random() < 0.1
        delay = self.rng.choice((0.0, 0.001, 0.01)) if is_calm else self.rng.choice((0.0, 0.01, 1.0))
        match duty:
            case Store():
                self._at(self._time + delay, lambda: self._store(duty, process, fails=fails))
            case Erase():
                if self.rng.random() < 0.9 or is_calm:  # it need not be durable at once
                    self.disk.take(duty.idempotency_key, process)
                else:
                    key = duty.idempotency_key
                    self._at(self._time + delay, lambda: self._erase(key, process))
            case Quarantine():
                row = self.disk.take(duty.idempotency_key, process)
                assert row is not None
                self.disk.quarantine.append(row)
            case GiveBack():
                raise AssertionError("the spool is not shared")
            case Adopt():
                self._at(self._time + delay, lambda: self._adopt(duty, process, fails=fails))
            case _:
                assert_never(duty)

    def _erase(self, key: str, process: int) -> None:
        if process == self._process:
            self.disk.take(key, process)

    def _store(self, duty: Store, process: int, *, fails: bool) -> None:
        if process != self._process:
            self.seen["killed while it stored"] += 1
            return
        assert isinstance(self.outbox, SpooledOutbox)
        if not fails:
            self.disk.store(duty.signal, process, now=self._time)
        self.judge.touch(self.now)
        error = SpoolError("The disk is full.", retryable=True) if fails else None
        is_withdrawn = duty.ticket not in self.judge.waiting_calls
        self._signals[duty.signal.idempotency_key].is_safe = not (fails or is_withdrawn)
        self.judge.stored(duty.ticket, fails=fails)
        self.outbox.handle_stored(duty.ticket, error, now=self.now)
        self._check()
        self._nudge()

    def _adopt(self, duty: Adopt, process: int, *, fails: bool) -> None:
        if process != self._process:
            return
        assert isinstance(self.outbox, SpooledOutbox)
        window = self.config.spool_window
        assert window is not None
        self.judge.touch(self.now)
        if fails:
            self.seen["look failed"] += 1
            self.outbox.handle_adoption_failed(now=self.now)
        else:
            found, expired, left = self.disk.adopt(process, duty.limit, window=window, now=self._time)
            self.judge.expired(row.signal for row in expired)
            for row in expired:
                self.outbox.handle_expired(row.signal, now=self.now)
            is_last = not found and not expired
            self.judge.adopted(each.signal for each in found)
            self._mark_poison()
            self.outbox.handle_adopted(found, is_last=is_last, left_behind=left, now=self.now)
        self._check()
        self._nudge()

    # The network

    def _set_alarm(self) -> None:
        self._alarm += 1
        alarm = self._alarm
        if self._sleeping_until is not None:
            self._at(self._time_of(self._sleeping_until), lambda: self._wake(alarm))

    def _wake(self, alarm: int) -> None:
        if alarm == self._alarm:
            self.seen["wait"] += 1
            self._serve()

    def _transmit(self, output: Transmit) -> None:
        timeout = self.config.timeout
        fate = draw_fate(self.rng, self._weather, now=self._time, timeout=timeout)
        fate = self._poison.get(key_of(output), fate)
        self.seen[f"fate: {fate.kind}"] += 1
        self.seen[f"weather: {self._weather}"] += 1
        ticket = output.ticket
        flight = self._flying[ticket] = self.network.send(
            output.request, fate, now=self._time, timeout=timeout
        )
        process = self._process
        self._at(flight.ends_at, lambda: self._answer(ticket, flight, process))
        if fate.echo_after is not None:
            self._at(flight.ends_at + fate.echo_after, lambda: self._answer_again(ticket, flight, process))

    def _answer_again(self, ticket: Ticket, flight: Flight, process: int) -> None:
        if process != self._process:
            return
        self.judge.touch(self.now)
        answer = flight.answer or Failure("Again.")
        self.outbox.handle_answer(ticket, answer, now=self.now)
        self.judge.answered(ticket, flight)
        self._check()

    def _answer(self, ticket: Ticket, flight: Flight, process: int) -> None:
        answer = self.network.finish(flight, now=self._time)
        if process != self._process:
            return
        self._flying.pop(ticket, None)
        self.judge.touch(self.now)
        self.outbox.handle_answer(ticket, answer, now=self.now)
        self.judge.answered(ticket, flight)
        self._check()
        self._nudge()

    def _check(self) -> None:
        self.judge.check(self.outbox.stats(now=self.now))

    # Calls

    def _call(self) -> None:
        if self.outbox.is_closing:
            return
        match self.rng.randrange(4):
            case 0:
                self._begin(Operation("GET", "/api/v1/usage?customerId=cus_123&limit=1", _identity))
            case 1:
                name = f"n{len(self._claims)}@new.example"
                body = json_body({"name": "New", "email": name})
                self._begin(Operation("POST", path_of("customers"), _identity, body), name=name)
            case _:
                key = f"call-{len(self._claims)}"
                encoded = encode(self._draw_signal().with_idempotency_key(key), self.engine.make_key)
                call = self.engine.call(signal_operation(encoded))
                self._follow(Claim(call, key, None, replay_safe=True))

    def _begin(self, operation: Operation[Payload], name: str | None = None) -> None:
        call = self.engine.call(operation)
        self._follow(Claim(call, None, name, replay_safe=operation.method == "GET"))

    def _follow(self, claim: Claim) -> None:
        self._claims.append(claim)
        self._drive(claim)

    def _drive(self, claim: Claim) -> None:
        if claim.outcome != "running":
            return
        while True:
            claim.touch(self.now)
            output = claim.call.poll(now=self.now)
            match output:
                case Transmit():
                    self._transmit_call(claim, output)
                    return
                case Retrying():
                    assert output.attempt == claim.attempts
                    assert claim.last_meaning == "retry"
                    assert claim.replay_safe or not claim.last_processed, "an unsafe call is repeated"
                    assert claim.last_pause <= output.delay <= self.config.patience
                    claim.not_before = claim.now + output.delay
                    self.seen["call retried"] += 1
                case Wait():
                    assert output.until is not None
                    assert output.until == max(claim.not_before, self.judge.paused_until)
                    self.seen["call waits for the host"] += output.until > claim.not_before
                    self._at(self._time_of(output.until), lambda: self._drive(claim))
                    return
                case Settled():
                    self._settle_call(claim, output.outcome)
                case Closed():
                    return
                case _:
                    assert_never(output)

    def _transmit_call(self, claim: Claim, output: Transmit) -> None:
        claim.attempts += 1
        assert claim.in_flight is None
        assert claim.attempts <= self.config.retry.max_attempts
        assert claim.now >= claim.not_before, "a call sent before its time"
        assert claim.now >= self.judge.paused_until, "a call sent before the server's Retry-After"
        claim.bodies.add(output.request.body)
        assert len(claim.bodies) == 1
        claim.in_flight = output.ticket
        timeout = self.config.timeout
        fate = draw_fate(self.rng, self._weather, now=self._time, timeout=timeout)
        while fate.kind == "404 html":  # at which a call raises at once
            fate = draw_fate(self.rng, self._weather, now=self._time, timeout=timeout)
        flight = self.network.send(output.request, fate, now=self._time, timeout=timeout)
        self._at(flight.ends_at, lambda: self._answer_call(claim, output.ticket, flight))
        if fate.echo_after is not None:
            self._at(
                flight.ends_at + fate.echo_after, lambda: self._answer_call(claim, output.ticket, flight)
            )

    def _answer_call(self, claim: Claim, ticket: Ticket, flight: Flight) -> None:
        if claim.outcome == "cancelled":
            return
        is_late = ticket != claim.in_flight
        answer = (
            flight.answer or Failure("Again.") if is_late else self.network.finish(flight, now=self._time)
        )
        claim.touch(self.now)
        claim.call.handle_answer(ticket, answer, now=self.now)
        if is_late:
            self.seen["late answer to a call"] += 1
            return
        claim.in_flight = None
        claim.last_meaning, claim.last_pause = flight.meaning, flight.pause or 0.0
        claim.last_processed = flight.processed
        self.judge.paused(flight.pause, now=claim.now)
        self._drive(claim)

    def _settle_call(self, claim: Claim, outcome: object) -> None:
        claim.outcome = "failed" if isinstance(outcome, ClockNextError) else "succeeded"
        self.seen[f"call {claim.outcome}"] += 1
        assert (claim.outcome == "succeeded") == (claim.last_meaning == "delivered")
        if claim.last_meaning == "retry":
            is_last = claim.attempts == self.config.retry.max_attempts
            is_unsafe = not claim.replay_safe and claim.last_processed
            wait = max(claim.last_pause, self.judge.paused_until - claim.now)
            assert is_last or is_unsafe or wait > self.config.patience, "a call gave up early"
            self.seen["call out of patience"] += not (is_last or is_unsafe)
            self.seen["call never sent"] += not claim.attempts
        if claim.outcome == "failed" and claim.last_meaning == "refused":
            claim.outcome = "refused"

    def _cancel_call(self) -> None:
        running = [claim for claim in self._claims if claim.outcome == "running"]
        if running:
            self.rng.choice(running).outcome = "cancelled"
            self.seen["call cancelled"] += 1

    # The end

    def _settle_down(self, *, is_last: bool = False) -> None:
        """Let the good weather do its work: everything held must end, and within a bound.

        Args:
            is_last: No other process comes after this one, so its close waits for everything.
        """
        early = dict(self._flying)
        early_calls = [(claim, claim.in_flight) for claim in self._claims if claim.in_flight is not None]
        # What was sent into bad weather may still fail, or come back with a pause of a day.
        self._run_until(
            NEVER_ENDS,
            lambda: (
                early.keys().isdisjoint(self._flying)
                and not any(
                    call.in_flight == ticket and call.outcome == "running" for call, ticket in early_calls
                )
            ),
        )
        self._serve()
        self._outlast_poison()
        self._drain()
        if not self.outbox.is_closing:
            self._drain_storing()  # a slow write takes up room until it ends, though its call was withdrawn
            probe = self._record()
            self._drain_storing()
            self._flush()
            self._serve()
            self._drain()
            place = self.judge.signals[probe].place
            is_too_old = self._has_spool and place == "expired"
            assert is_too_old or place in ("delivered", "rejected"), "a probe did not get through"
            self._poison_left = 0
            if self.rng.random() < 0.5:
                self._record_some()  # the close has something left to do
            self._close(is_patient=is_last)
            self._serve()
            self._drain()
        self._run_until(NEVER_ENDS, lambda: self.judge.is_closed)
        assert self.judge.is_idle
        assert self.judge.is_closed
        late = self._record()
        assert self.judge.signals[late].place == "closed"
        self._flush()
        self._serve()
        assert self.judge.is_idle
        self._run_until(NEVER_ENDS)
        assert all(claim.outcome != "running" for claim in self._claims), "a call never ended"
        self.network.advance(NEVER_ENDS)
        self._gather_ends()

    def _outlast_poison(self) -> None:
        """Record good signals for as long as a poison one is held: alone, it might be an outage."""
        self._poison_left = 0
        if not self._poison:
            return
        self._serve()
        self._run_until(NEVER_ENDS, lambda: all(row.process == self._process for row in self.disk.rows))
        if not any(known.is_poison for known in self.judge.held):
            return
        self.judge.touch(self.now)
        paused_until = max(self.judge.paused_until, self.judge.now + self.outbox.stats(now=self.now).opens_in)
        self._run_until(paused_until - self._offset)
        self._time = max(self._time, paused_until - self._offset)
        for _ in range(3000):
            if self.outbox.is_closing or not any(known.is_poison for known in self.judge.held):
                return
            self._record()
            self._nudge()
            until = self._time + 0.2
            self._run_until(until)
            self._time = until
        raise AssertionError("a poison signal does not end")

    def _drain_storing(self) -> None:
        self._serve()
        self._run_until(NEVER_ENDS, lambda: not self.outbox.stats(now=self.now).storing)

    def _drain(self) -> None:
        stats = self.outbox.stats(now=self.now)
        # Pauses with their jitter, back-offs, the batch, and for each signal the way there and back, alone.
        longest = self.config.retry.max_delay
        self.judge.touch(self.now)
        now = self.judge.now  # where the clock was set back, it stands still until it gets there again
        pause = max(0.0, self.judge.paused_until - now, stats.opens_in)
        backing_off = max([0.0, *(known.not_before - now for known in self.judge.held)])
        waiting = len(self.judge.held) + len(self.judge.waiting_calls) + len(self.disk.rows)
        limit = max(pause, backing_off) + 4 * longest + self.config.batch.max_interval
        limit += (waiting + 2) * 3 * CALM_LATENCY + 2.0
        if any(known.is_poison for known in self.judge.held):  # alone in a close, it might be an outage
            limit += self.config.patience
        self._run_until(
            now + limit - self._offset,
            lambda: not (self.judge.held or self.judge.waiting_calls or self.disk.rows),
        )
        assert not self.judge.held, "signals are held for longer than anything explains"
        assert not self.judge.waiting_calls, "calls wait for longer than anything explains"
        self._serve()

    def _check_bill(self) -> None:
        """Hold the bill against the claims: nothing missing, nothing spurious, nothing doubled."""
        bodies: dict[str, bytes] = {}
        for key, recorded in self._signals.items():
            times = self.ledger.billed(key)
            ends = recorded.ends
            assert times <= 1, f"{key} was billed {times} times"
            if "delivered" in ends:
                assert times == 1, f"{key} was acknowledged, and is not billed"
            if recorded.is_safe:
                assert any(end != "parked" for end in ends), f"{key} was stored, and vanished: {ends}"
            if set(ends) & {"raised", "closed"} and not self._has_spool:
                self.seen["given up, but billed"] += times
            if ends == ["rejected"]:
                assert times == 0, f"{key} was rejected, and billed"
            self.seen["given up, but billed"] += times and ends == ["send_failed"]
            bodies[key] = recorded.body
        for claim in self._claims:
            if claim.key is None:
                continue
            times = self.ledger.billed(claim.key)
            least, most = _CHARGES[claim.outcome]
            assert least <= times <= most, f"{claim.key} {claim.outcome}, and billed {times} times"
            bodies[claim.key] = next(iter(claim.bodies), None) or b""
        for signal in self.ledger.signals:
            assert signal.idempotency_key is not None
            claimed = json.loads(bodies[signal.idempotency_key])
            assert (signal.customer_id, signal.input_tokens) == (
                claimed["customerId"],
                claimed["inputTokens"],
            )
        assert len(self.ledger.signals) == len({signal.idempotency_key for signal in self.ledger.signals})
        self._check_customers()
        self.seen["repeat answered from memory"] += self.ledger.counters.repeats
        self.seen["late commit"] += self.network.late_commits
        self.seen["billed"] += len(self.ledger.signals)

    def _check_customers(self) -> None:
        creations = {claim.name: claim.outcome for claim in self._claims if claim.name is not None}
        if not creations:
            return
        answer = self.ledger.process(
            Received("GET", "/api/v1/customers?limit=100", {"authorization": f"Bearer {DEFAULT_API_KEY}"}),
            now=EPOCH,
        )
        emails = Counter(customer["email"] for customer in json.loads(answer.body)["customers"])
        for name, outcome in creations.items():
            least, most = _CHARGES[outcome]
            assert least <= emails[name] <= most, f"{name} {outcome}, and was created {emails[name]} times"


def _identity(payload: Payload) -> Payload:
    return payload


def _engine(
    config: Config, rng: Random, make_key: Callable[[], str], write: Callable[[str], object] | None
) -> Engine:
    if write is None:
        return Engine(config, rng=rng, make_key=make_key)
    return RecordingEngine(config, rng=rng, make_key=make_key, write=write)


def key_of(output: Transmit) -> str:
    """Return the idempotency key of the signal that is sent."""
    return str(json.loads(output.request.body or b"{}")["idempotencyKey"])


def _draw_config(rng: Random, *, is_poisoned: bool) -> Config:
    batch = BatchPolicy(
        max_size=rng.choice((1, 2, 3, 5, 20)),
        max_interval=rng.choice((0.0, 0.5, 2.0)),
        max_concurrency=rng.choice((1, 1, 2, 3, 5)),
        max_queue_size=rng.choice((1, 2, 4, 8, 30, 10_000)),
        overflow=rng.choice(OVERFLOWS),
        block_timeout=rng.choice((0.0, 0.5, 5.0, 30.0)),
        max_queue_bytes=rng.choice((300, 1000, 10**6, 10**6)),
        outage=rng.choice(("hold", "hold", "drop")),
    )
    if is_poisoned:  # a queue that poison fills would look like an outage
        batch = replace(batch, max_queue_size=10_000, max_queue_bytes=10**6)
    retry = RetryPolicy(
        max_attempts=rng.choice((1, 2, 3, 5, 5, 100)),
        base_delay=rng.choice((0.0, 0.1, 0.2, 1.0)),
        max_delay=rng.choice((0.2, 2.0, 10.0)),
    )
    if is_poisoned:
        retry = replace(retry, max_attempts=min(retry.max_attempts, 5), base_delay=max(retry.base_delay, 0.1))
    timeout = rng.choice((0.5, 2.0, 10.0))
    window = rng.choice((None, None, None, 10.0, 86_400.0))
    return Config(DEFAULT_API_KEY, timeout=timeout, batch=batch, retry=retry, spool_window=window)
