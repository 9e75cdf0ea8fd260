"""One seed, played out: a client's core, its server, and what its user does, on one virtual clock.

The client is driven here as the real drivers do it: after an input it asks `wakes_before` whether it must
poll, and it sleeps until the time a `Wait` names. Its clock is not the world's: it jumps, also backwards.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import TypeAlias, assert_never, get_args

from clocknext_core import (
    BatchPolicy,
    Call,
    ClockNextError,
    Closed,
    Config,
    CreditSignal,
    Delivered,
    Engine,
    Failure,
    Operation,
    OutcomeSignal,
    QueueFullError,
    Receipt,
    Response,
    Retrying,
    RetryPolicy,
    Settled,
    Signal,
    Ticket,
    TrackResult,
    Transmit,
    Wait,
    WalletSignal,
)
from clocknext_core.config import Overflow
from clocknext_core.envelope import Payload
from clocknext_core.operations import json_body, path_of, signal_operation
from clocknext_core.signals import encode
from clocknext_transports.emulator.api.exchange import Received
from clocknext_transports.emulator.api.ledger import DEFAULT_API_KEY, Ledger
from clocknext_transports.emulator.books.catalogue import Catalogue
from clocknext_transports.recorder import RecordingEngine
from tests.simulation.network import CALM_LATENCY, EPOCH, Flight, Network, Verdict, Weather
from tests.simulation.oracle import NEVER, Oracle
from tests.simulation.weather import draw_fate

START = 1000.0
"""What the client's clock says at virtual time 0."""

MAX_STEPS = 20_000
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
    last_verdict: Verdict = "retry"
    last_pause: float = 0.0
    last_processed: bool = True
    attempts: int = 0
    outcome: str = "running"

    def touch(self, now: float) -> None:
        """Take the time."""
        self.now = max(self.now, now)


class World:
    """A client and its server, and the seed that decides what happens.

    Args:
        seed: Decides everything.
        write: Takes a trace of the client, line by line.
    """

    def __init__(self, seed: int, write: Callable[[str], object] | None = None) -> None:
        self.rng = Random(seed)
        self.config = _draw_config(self.rng)
        keys = count(1)
        self.engine = _engine(self.config, Random(seed + 1), lambda: f"key-{next(keys)}", write)
        self.outbox = self.engine.outbox
        self.ledger = Ledger(_CATALOGUE)
        self.network = Network(self.ledger)
        self.oracle = Oracle(self.config, self.outbox.gate)
        self.seen: Counter[str] = self.oracle.seen
        self.steps = 0
        self._time = 0.0
        self._offset = START
        self._events: list[tuple[float, int, Action]] = []
        self._numbers = count()
        self._flying: dict[Ticket, Flight] = {}
        self._claims: list[Claim] = []
        self._sleeping_until: float | None = None
        self._alarm = 0
        self._horizon = self.rng.choice((5.0, 20.0, 60.0))
        self._forecast = self._draw_weather()

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
        self._check_bill()

    # The clock

    @property
    def now(self) -> float:
        """What the client's clock says."""
        return self._time + self._offset

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
        ]
        weights = [weight for weight, _ in actions]
        for action in rng.choices([action for _, action in actions], weights, k=rng.randint(10, 60)):
            self._at(rng.random() * self._horizon, action)

    def _record_some(self) -> None:
        for _ in range(self.rng.choice((1, 1, 2, 4, 8))):
            self._record()
        self._nudge()

    def _record(self) -> None:
        encoded = encode(self._draw_signal(), self.engine.make_key)
        self.oracle.touch(self.now)
        receipt: Receipt | None = None
        with suppress(QueueFullError):
            receipt = self.outbox.record(encoded, now=self.now)
        self.oracle.recorded(encoded, receipt)
        self._check()

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
        self.oracle.touch(self.now)
        deadline_at = None if self.rng.random() < 0.5 else self.oracle.now + self.rng.choice((0, 0.5, 5))
        ticket = self.outbox.flush(now=self.now, deadline_at=deadline_at)
        self.oracle.flushed(ticket, deadline_at, closes=False)
        self._check()
        self._nudge()

    def _close(self) -> None:
        if self.outbox.is_closing:
            return
        self.oracle.touch(self.now)
        deadline_at = None if self.rng.random() < 0.5 else self.oracle.now + self.rng.choice((0, 0.5, 5))
        ticket = self.outbox.close(now=self.now, deadline_at=deadline_at)
        self.oracle.flushed(ticket, deadline_at, closes=True)
        self.seen["close"] += 1
        self._check()
        self._nudge()

    def _abandon(self) -> None:
        if self._flying:
            ticket = self.rng.choice(list(self._flying))
            self.oracle.touch(self.now)
            self.outbox.abandon(ticket, now=self.now)
            self.oracle.abandoned(ticket)
            self._check()
            self._nudge()

    def _withdraw(self) -> None:
        if self.oracle.blocked:
            ticket = self.rng.choice(self.oracle.blocked).ticket
            self.oracle.touch(self.now)
            self.outbox.withdraw(ticket, now=self.now)
            self.oracle.withdrawn(ticket)
            self._check()
            self._nudge()

    def _jump(self) -> None:
        seconds = self.rng.choice((-30.0, -2.0, -0.1, 0.1, 2.0, 30.0))
        self._offset += seconds
        self.seen["clock set back" if seconds < 0 else "clock set forward"] += 1
        self._set_alarm()

    def _poll_for_nothing(self) -> None:
        self._serve()

    def _answer_nobody(self) -> None:
        self.oracle.touch(self.now)
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
            self.oracle.touch(self.now)
            if self._sleeping_until is None or self.oracle.now < self._sleeping_until:
                self.oracle.before_poll()
                output = self.outbox.poll(now=self.now)
                assert isinstance(output, Wait | Closed), f"wakes_before kept silent about {output}"
                self.oracle.polled(output)

    def _serve(self) -> None:
        while True:
            self.oracle.touch(self.now)
            self.oracle.before_poll()
            output = self.outbox.poll(now=self.now)
            self.oracle.polled(output)
            self._check()
            match output:
                case Transmit():
                    self._transmit(output)
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

    def _set_alarm(self) -> None:
        self._alarm += 1
        alarm = self._alarm
        if self._sleeping_until is not None:
            self._at(max(self._time, self._sleeping_until - self._offset), lambda: self._wake(alarm))

    def _wake(self, alarm: int) -> None:
        if alarm == self._alarm:
            self.seen["wait"] += 1
            self._serve()

    def _transmit(self, output: Transmit) -> None:
        timeout = self.config.timeout
        fate = draw_fate(self.rng, self._weather, now=self._time, timeout=timeout)
        self.seen[f"fate: {fate.kind}"] += 1
        self.seen[f"weather: {self._weather}"] += 1
        ticket = output.ticket
        flight = self._flying[ticket] = self.network.send(
            output.request, fate, now=self._time, timeout=timeout
        )
        self._at(flight.ends_at, lambda: self._answer(ticket, flight))
        if fate.echo_after is not None:
            self._at(flight.ends_at + fate.echo_after, lambda: self._answer_again(ticket, flight))

    def _answer_again(self, ticket: Ticket, flight: Flight) -> None:
        self.oracle.touch(self.now)
        answer = flight.answer or Failure("Again.")
        self.outbox.handle_answer(ticket, answer, now=self.now)
        self.oracle.answered(ticket, flight, answer)
        self._check()

    def _answer(self, ticket: Ticket, flight: Flight) -> None:
        self._flying.pop(ticket, None)
        answer = self.network.finish(flight, now=self._time)
        self.oracle.touch(self.now)
        self.outbox.handle_answer(ticket, answer, now=self.now)
        self.oracle.answered(ticket, flight, answer)
        self._check()
        self._nudge()

    def _check(self) -> None:
        self.oracle.check(self.outbox.stats(now=self.now))

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
                    assert claim.last_verdict == "retry"
                    assert claim.replay_safe or not claim.last_processed, "an unsafe call is repeated"
                    assert claim.last_pause <= output.delay <= self.config.patience
                    claim.not_before = claim.now + output.delay
                    self.seen["call retried"] += 1
                case Wait():
                    assert output.until is not None
                    assert output.until == max(claim.not_before, self.oracle.gate.paused_until)
                    self.seen["call waits for the host"] += output.until > claim.not_before
                    self._at(max(self._time, output.until - self._offset), lambda: self._drive(claim))
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
        assert claim.now >= self.oracle.gate.paused_until, "a call sent before the server's Retry-After"
        claim.bodies.add(output.request.body)
        assert len(claim.bodies) == 1
        claim.in_flight = output.ticket
        timeout = self.config.timeout
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
        claim.last_verdict, claim.last_pause = flight.verdict, flight.pause or 0.0
        claim.last_processed = flight.processed
        self.oracle.paused(flight.pause, now=claim.now)
        self._drive(claim)

    def _settle_call(self, claim: Claim, outcome: object) -> None:
        claim.outcome = "failed" if isinstance(outcome, ClockNextError) else "succeeded"
        self.seen[f"call {claim.outcome}"] += 1
        assert (claim.outcome == "succeeded") == (claim.last_verdict == "delivered")
        if claim.last_verdict == "retry":
            is_last = claim.attempts == self.config.retry.max_attempts
            is_unsafe = not claim.replay_safe and claim.last_processed
            wait = max(claim.last_pause, self.oracle.gate.paused_until - claim.now)
            assert is_last or is_unsafe or wait > self.config.patience, "a call gave up early"
            self.seen["call out of patience"] += not (is_last or is_unsafe)
            self.seen["call never sent"] += not claim.attempts
        if claim.outcome == "failed" and claim.last_verdict == "refused":
            claim.outcome = "refused"

    def _cancel_call(self) -> None:
        running = [claim for claim in self._claims if claim.outcome == "running"]
        if running:
            self.rng.choice(running).outcome = "cancelled"
            self.seen["call cancelled"] += 1

    # The end

    def _settle_down(self) -> None:
        """Let the good weather do its work: everything held must end, and within the bound."""
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
        self._drain()
        if not self.outbox.is_closing:
            self._record()
            probe = self.oracle.entries[-1]
            self._flush()
            self._serve()
            self._drain()
            assert probe.place in ("delivered", "rejected"), "a probe did not get through"
            if self.rng.random() < 0.5:
                self._record_some()  # the close has something left to do
            self._close()
            self._serve()
            self._drain()
        assert self.oracle.is_idle
        assert self.oracle.is_closed
        self._record()
        assert self.oracle.entries[-1].place == "closed"
        self._flush()
        self._serve()
        assert self.oracle.is_idle
        self._run_until(NEVER_ENDS)
        assert all(claim.outcome != "running" for claim in self._claims), "a call never ended"
        self.network.advance(NEVER_ENDS)

    def _drain(self) -> None:
        limit = self.oracle.limit(latency=CALM_LATENCY) + 0.1
        self._run_until(limit - self._offset, lambda: not self.oracle.held and not self.oracle.blocked)
        assert not self.oracle.held, "signals are held for longer than anything explains"
        self._serve()

    def _check_bill(self) -> None:
        """Hold the bill against the claims: nothing missing, nothing spurious, nothing doubled."""
        bodies: dict[str, bytes] = {}
        for entry in self.oracle.entries:
            times = self.ledger.billed(entry.key)
            if entry.place == "delivered":
                assert times == 1, f"{entry.key} was acknowledged, and billed {times} times"
            elif entry.place == "rejected" or not entry.was_sent:
                assert times == 0, f"{entry.key} was {entry.place}, and billed"
            else:
                assert times <= 1, f"{entry.key} was {entry.place}, and billed {times} times"
                self.seen["given up, but billed"] += times
            bodies[entry.key] = entry.body
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


def _draw_config(rng: Random) -> Config:
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
    retry = RetryPolicy(
        max_attempts=rng.choice((1, 2, 3, 5, 5, 100)),
        base_delay=rng.choice((0.0, 0.1, 0.2, 1.0)),
        max_delay=rng.choice((0.2, 2.0, 10.0)),
    )
    return Config(DEFAULT_API_KEY, timeout=rng.choice((0.5, 2.0, 10.0)), batch=batch, retry=retry)
