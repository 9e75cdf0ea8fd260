"""The threads of the client: how many there are, when they start, sleep and end, and what they never lose."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from clocknext_core import (
    Answer,
    BatchPolicy,
    ClockNextError,
    Config,
    CreditSignal,
    EncodedSignal,
    Engine,
    Failure,
    FlushReport,
    HookEvent,
    NetworkError,
    Operation,
    Outbox,
    OutboxOutput,
    Request,
    Response,
    Retrying,
    RetryPolicy,
    Signal,
    TrackResult,
)
from clocknext_core.delivery import signal_operation
from clocknext_core.signals import encode
from clocknext_transports.client.hooks import Hooks, OnDrop, OnError, OnFlush, OnRetry
from clocknext_transports.client.script import Script
from clocknext_transports.client.serving import Waiter
from clocknext_transports.sync import ClockNext
from clocknext_transports.sync.clock import Clock
from clocknext_transports.sync.driver import Driver
from clocknext_transports.sync.threads import Event
from tests.life.support import wait_until
from tests.transports.support import KEY, SOON

OK = Response(200, [], b'{"ok": true}')
BUSY = Response(503, [], b"{}")
REFUSED = Response(400, [], b'{"ok": false, "error": "no"}')


class FakeClock(Clock):
    """Time that passes only when a test says so. Threads that wait for it really wait."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []
        """How long each sleep was to last."""
        self._waiting: list[tuple[threading.Condition, float | None]] = []
        self._changed = threading.Condition()

    def now(self) -> float:
        return self.time

    def sleep_until(self, at: float) -> None:
        self.slept.append(at - self.time)
        self.time = max(self.time, at)

    def wait_until(self, condition: threading.Condition, at: float | None) -> None:
        entry = (condition, at)
        with self._changed:
            self._waiting.append(entry)
            self._changed.notify_all()
        try:
            condition.wait(SOON)
        finally:
            with self._changed:
                self._waiting.remove(entry)

    def wait_for_sleeper(self, at: float | None) -> None:
        """Wait until the driver's threads sleep until then."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(until == at for _, until in self._waiting), SOON)

    def wait_for_sleeper_with_time(self) -> list[float]:
        """Wait until a thread sleeps until some time; return these times."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(at is not None for _, at in self._waiting), SOON)
            return [at for _, at in self._waiting if at is not None]

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake those whose time has come."""
        self.time += seconds
        with self._changed:
            due = [condition for condition, at in self._waiting if at is not None and at <= self.time]
        for condition in due:
            with condition:
                condition.notify_all()


class FakeTransport:
    """Answers from a script, once a test lets it."""

    def __init__(self, *answers: Answer | Exception, held: bool = False) -> None:
        self._answers = list(answers) or [OK]
        self._changed = threading.Condition()
        self._tokens = 0 if held else 1_000_000
        self.requests: list[Request] = []
        self.deadlines: list[float] = []
        self.threads: set[threading.Thread] = set()
        self.in_flight = 0
        self.most_in_flight = 0
        self.is_closed = False

    def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        with self._changed:
            number = len(self.requests)
            self.requests.append(request)
            self.deadlines.append(deadline_at)
            self.threads.add(threading.current_thread())
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._tokens or self.is_closed, SOON)
            self._tokens -= 1
            self.in_flight -= 1
            self._changed.notify_all()
            if self.is_closed:
                return Failure("The client was closed.")
        outcome = self._answers[min(number, len(self._answers) - 1)]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def close(self) -> None:
        with self._changed:
            self.is_closed = True
            self._changed.notify_all()

    def let(self, count: int = 1_000_000) -> None:
        """Let that many exchanges end."""
        with self._changed:
            self._tokens += count
            self._changed.notify_all()

    def wait_requests(self, count: int) -> None:
        """Wait until that many requests have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests) >= count, SOON), len(self.requests)


class Retries:
    """An `on_retry` hook that remembers, and can be waited for."""

    def __init__(self) -> None:
        self.events: list[Retrying] = []
        self._changed = threading.Condition()

    def __call__(self, event: Retrying) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait(self, count: int) -> Retrying:
        """Wait until that many attempts are to be repeated, and return the last of them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.events) >= count, SOON)
            return self.events[count - 1]


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("clocknext")]


class Bench:
    """A driver over fakes."""

    def __init__(
        self,
        transport: FakeTransport,
        *,
        batch: BatchPolicy,
        retry: RetryPolicy,
        on_error: OnError | None = None,
        on_flush: OnFlush | None = None,
        on_retry: OnRetry | None = None,
        on_drop: OnDrop | None = None,
        clock: FakeClock | None = None,
    ) -> None:
        self.clock = FakeClock() if clock is None else clock
        self.transport = transport
        config = Config(KEY, batch=batch, retry=retry, timeout=10.0)
        self.engine = Engine(config, rng=Random(7), make_key=lambda: "unused")
        hooks = Hooks(on_error=on_error, on_flush=on_flush, on_retry=on_retry, on_drop=on_drop)
        self.driver = Driver(self.engine, transport, hooks, self.clock)
        self.polls = 0
        outbox = self.engine.outbox
        assert isinstance(outbox, Outbox)
        self._poll = outbox.poll
        setattr(outbox, "poll", self._count_poll)  # noqa: B010 - a checker would say: a method
        self._recorded = 0

    def record(self, count: int = 1) -> None:
        for _ in range(count):
            self._recorded += 1
            assert self.driver.record(encoded(f"key-{self._recorded}")).queued

    def _count_poll(self, *, now: float) -> OutboxOutput:
        self.polls += 1
        return self._poll(now=now)


def encoded(key: str) -> EncodedSignal:
    return encode(signal(key), lambda: "unused")


def signal(key: str) -> CreditSignal:
    return CreditSignal(customer_id="cus_1", model="m", key="api", idempotency_key=key)


@contextmanager
def bench(
    transport: FakeTransport,
    *,
    size: int = 1,
    interval: float = 2.0,
    concurrency: int = 5,
    attempts: int = 5,
    on_error: OnError | None = None,
    on_flush: OnFlush | None = None,
    on_retry: OnRetry | None = None,
    on_drop: OnDrop | None = None,
) -> Generator[Bench, None, None]:
    made = Bench(
        transport,
        batch=BatchPolicy(max_size=size, max_interval=interval, max_concurrency=concurrency, outage="drop"),
        retry=RetryPolicy(max_attempts=attempts),
        on_error=on_error,
        on_flush=on_flush,
        on_retry=on_retry,
        on_drop=on_drop,
    )
    try:
        yield made
    finally:
        transport.let()
        made.driver.close(0.0)
    assert not workers()


# How many threads


def test_nothing_recorded_starts_no_thread() -> None:
    with bench(FakeTransport()) as b:
        assert b.driver.flush(None) == FlushReport(0)
        assert not workers()


def test_foreground_calls_start_no_thread() -> None:
    transport = FakeTransport()
    with ClockNext(KEY, transport=transport) as client:
        client.run(Operation("GET", "/api/v1/me", lambda payload: payload))
        client.record(encoded("a"), True)
        assert not workers()
    assert transport.threads == {threading.current_thread()}


def test_sync_mode_starts_no_thread() -> None:
    transport = FakeTransport()
    with ClockNext(KEY, mode="sync", transport=transport) as client:
        for number in range(30):
            assert not client.record(encoded(f"k{number}")).queued
        assert client.flush() == FlushReport(0)
        assert not workers()
    assert transport.threads == {threading.current_thread()}


@pytest.mark.parametrize("concurrency", [1, 2, 5])
def test_there_is_at_most_one_thread_more_than_attempts(concurrency: int) -> None:
    transport = FakeTransport(held=True)
    with bench(transport, concurrency=concurrency) as b:
        b.record(40)
        transport.wait_requests(concurrency)
        assert transport.in_flight == concurrency
        for done in range(1, 41 - concurrency):
            transport.let(1)
            transport.wait_requests(concurrency + done)
            assert len(workers()) <= concurrency + 1
        transport.let()
        assert b.driver.flush(None).delivered == 40
        assert len(workers()) <= concurrency + 1
    assert transport.most_in_flight == concurrency


def test_one_signal_at_a_time_needs_few_threads() -> None:
    transport = FakeTransport()
    with bench(transport, concurrency=50) as b:
        for number in range(20):
            b.record()
            transport.wait_requests(number + 1)
            assert b.driver.flush(None).delivered == 1
        assert len(workers()) <= 3


# Where no thread can be had


@pytest.fixture
def no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system starts no thread: its limit is reached, or the interpreter is shutting down."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


class LonelyClock(FakeClock):
    """Time that passes while the only thread there is waits for it."""

    def wait_until(self, condition: threading.Condition, at: float | None) -> None:
        assert at is not None, "nobody is there to wake this thread"
        self.time = max(self.time, at)


@pytest.mark.usefixtures("no_more_threads")
def test_without_threads_a_flush_does_the_work_itself_and_returns() -> None:
    transport = FakeTransport(BUSY, OK)
    lonely = Bench(transport, batch=BatchPolicy(max_size=1), retry=RetryPolicy(), clock=LonelyClock())
    lonely.record(3)
    assert lonely.driver.flush(None) == FlushReport(3)
    assert len(transport.requests) == 4
    assert transport.threads == {threading.current_thread()}
    assert lonely.driver.close(None) == FlushReport(0)


@pytest.mark.usefixtures("no_more_threads")
def test_without_threads_a_call_that_waits_for_room_makes_it() -> None:
    batch = BatchPolicy(max_size=1, max_queue_size=1, overflow="block")
    transport = FakeTransport()
    lonely = Bench(transport, batch=batch, retry=RetryPolicy(), clock=LonelyClock())
    lonely.record(3)
    assert len(transport.requests) == 2
    assert lonely.driver.close(None) == FlushReport(3)


@pytest.mark.usefixtures("no_more_threads")
def test_without_threads_a_call_that_waits_for_room_gives_up_in_time() -> None:
    batch = BatchPolicy(max_size=1, max_queue_size=1, overflow="block", block_timeout=30.0)
    transport = FakeTransport(Response(503, [("retry-after", "60")], b"{}"))
    lonely = Bench(transport, batch=batch, retry=RetryPolicy(), clock=LonelyClock())
    lonely.record()
    result = lonely.driver.record(encoded("late"))
    assert result.dropped == "queue_full"
    assert lonely.clock.time == 1030.0
    assert lonely.driver.close(0.0).pending == 1


@pytest.mark.usefixtures("no_more_threads")
def test_an_interrupt_in_the_only_thread_there_is_takes_its_attempt_back() -> None:
    class Interrupted(FakeTransport):
        def exchange(self, request: Request, *, deadline_at: float) -> Answer:
            answer = super().exchange(request, deadline_at=deadline_at)
            if len(self.requests) == 1:
                raise KeyboardInterrupt
            return answer

    transport = Interrupted()
    lonely = Bench(transport, batch=BatchPolicy(max_size=1), retry=RetryPolicy(), clock=LonelyClock())
    lonely.record()
    with pytest.raises(KeyboardInterrupt):
        lonely.driver.flush(None)
    counts = lonely.driver.stats()
    assert (counts.held, counts.in_flight) == (1, 0)
    assert lonely.driver.flush(None) == FlushReport(1)
    assert len({request.body for request in transport.requests}) == 1
    assert lonely.driver.close(None) == FlushReport(0)


def test_what_reads_a_result_may_use_the_client() -> None:
    transport = FakeTransport()
    with ClockNext(KEY, transport=transport) as client:

        def read(payload: dict[str, object]) -> int:
            client.signals.wallet(customer_id="cus_1", model="m")
            return client.stats().held

        done: list[int] = []
        caller = threading.Thread(
            target=lambda: done.append(client.run(Operation("GET", "/api/v1/me", read))), daemon=True
        )
        caller.start()
        caller.join(SOON)
        assert done == [1]
        assert client.flush(timeout=SOON).delivered == 1


# When something is sent


def test_a_full_batch_starts_sending() -> None:
    transport = FakeTransport()
    with bench(transport, size=3, interval=3600.0) as b:
        b.record(2)
        b.clock.wait_for_sleeper(1000.0 + 3600.0)
        assert not transport.requests
        b.record()
        transport.wait_requests(3)


def test_the_interval_starts_sending() -> None:
    transport = FakeTransport()
    with bench(transport, size=100, interval=2.0) as b:
        b.record()
        b.clock.wait_for_sleeper(1002.0)
        b.clock.advance(1.5)
        b.record()  # the interval counts from the first
        b.clock.advance(0.25)
        assert not transport.requests
        b.clock.advance(0.25)
        transport.wait_requests(2)
    assert transport.deadlines == [1012.0, 1012.0]


def test_idle_threads_do_not_poll() -> None:
    transport = FakeTransport()
    with bench(transport, concurrency=2) as b:
        b.record(10)
        assert b.driver.flush(None).delivered == 10
        b.clock.wait_for_sleeper(None)
        polls = b.polls
        b.clock.advance(10_000.0)
        b.clock.wait_for_sleeper(None)
        assert b.polls == polls
        assert len(workers()) >= 1


def test_a_retry_waits_on_the_clock() -> None:
    retries = Retries()
    transport = FakeTransport(BUSY, BUSY, OK)
    with bench(transport, on_retry=retries) as b:
        b.record()
        for attempt in (1, 2):
            transport.wait_requests(attempt)
            b.clock.wait_for_sleeper(b.clock.time + (delay := retries.wait(attempt).delay))
            b.clock.advance(delay / 2)
            assert len(transport.requests) == attempt
            b.clock.advance(delay)
        assert b.driver.flush(None) == FlushReport(1)
    assert [event.attempt for event in retries.events] == [1, 2]
    assert len({request.body for request in transport.requests}) == 1


def test_a_foreground_retry_waits_on_the_clock() -> None:
    transport = FakeTransport(Response(429, [("Retry-After", "7")], b"{}"), OK)
    with bench(transport) as b:
        call = b.engine.call(signal_operation(encoded("a")))
        assert isinstance(b.driver.perform(call), TrackResult)
        assert b.clock.slept == [7.0]
        assert transport.deadlines == [1010.0, 1017.0]


def test_a_back_off_holds_no_thread_and_no_slot() -> None:
    retries = Retries()
    with bench(FakeTransport(BUSY), concurrency=2, on_retry=retries) as b:
        b.record(30)
        retries.wait(30)
        counts = b.engine.outbox.stats(now=0.0)
        assert (counts.held, counts.in_flight) == (30, 0)
        assert len(workers()) <= 3


# Interrupts, which may come between any two steps of the main thread


def test_an_interrupt_while_a_thread_starts_leaves_a_client_that_delivers_and_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    with bench(FakeTransport()) as b:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", interrupted)
            with pytest.raises(KeyboardInterrupt):
                b.record()
        assert b.driver.flush(5.0) == FlushReport(1)
        assert b.driver.close(None) == FlushReport(0)


def test_an_interrupt_while_a_hook_is_taken_from_the_queue_leaves_the_others_to_the_next_call() -> None:
    class Interrupted(deque[HookEvent | Waiter | str]):
        def __getitem__(self, index: Any) -> Any:
            del index
            b.driver._serving.queue = deque(self)  # pyright: ignore[reportPrivateUsage]
            raise KeyboardInterrupt

    drops: list[str] = []
    with bench(FakeTransport(), on_drop=lambda signal, _: drops.append(str(signal.idempotency_key))) as b:
        b.driver.close(None)
        b.driver._serving.queue = Interrupted()  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(KeyboardInterrupt):
            b.record()
        assert b.driver.flush(5.0).pending == 0
    assert drops == ["key-1"]


def test_an_interrupted_wait_for_room_lets_in_those_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = FakeTransport(held=True)
    batch = BatchPolicy(
        max_size=1, max_queue_size=2, max_queue_bytes=1000, overflow="block", block_timeout=3600.0
    )
    b = Bench(transport, batch=batch, retry=RetryPolicy())
    b.record(2)
    transport.wait_requests(2)
    waits = {"large": threading.Event(), "small": threading.Event()}
    strikes = threading.Event()
    ended: list[str] = []
    wait = b.driver.background.wait

    def noted(event: Event, until: float | None) -> None:
        if (waiting := waits.get(threading.current_thread().name)) is not None:
            waiting.set()
        if threading.current_thread().name == "large":
            assert strikes.wait(SOON)
            raise KeyboardInterrupt
        wait(event, until)

    def record_large() -> None:
        large = replace(signal("large"), custom={"text": "x" * 750})
        with pytest.raises(KeyboardInterrupt):
            b.driver.record(encode(large, lambda: "unused"))

    def record_small() -> None:
        assert b.driver.record(encoded("small")).dropped is None
        ended.append("small")

    monkeypatch.setattr(b.driver.background, "wait", noted)
    threads = [threading.Thread(target=record_large, name="large")]
    threads.append(threading.Thread(target=record_small, name="small"))
    try:
        for thread in threads:
            thread.start()
            assert waits[thread.name].wait(SOON)
        transport.let(1)  # now there is room for the small one, and the large one is before it
        assert wait_until(lambda: b.driver.held == 1)
        assert ended == []
        strikes.set()
        for thread in threads:
            thread.join(SOON)
        assert ended == ["small"]
        transport.let()
        assert b.driver.flush(None).delivered == 3
    finally:
        b.driver.close(0.0)
    assert b.driver._serving._waiters == {}  # pyright: ignore[reportPrivateUsage]
    assert not workers()


def test_an_event_wakes_whether_it_is_set_before_or_while_it_is_awaited() -> None:
    event = Event(FakeClock())
    event.wait(0.0)
    assert not event.is_set()
    setter = threading.Thread(target=event.set)
    setter.start()
    event.wait(FakeClock().time + SOON)
    assert event.is_set()
    setter.join(SOON)
    event.set()
    event.wait()
    event.wait()


# The end


def test_closing_joins_all_threads() -> None:
    transport = FakeTransport()
    with bench(transport) as b:
        b.record(50)
        assert b.driver.close(None) == FlushReport(50)
        assert not workers()
        assert transport.is_closed


def test_a_thread_that_is_about_to_start_can_be_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    start, errors, joiners = threading.Thread.start, list[Exception](), list[threading.Thread]()

    def join() -> None:
        try:
            b.driver.background.join(b.clock.now())
        except RuntimeError as error:
            errors.append(error)

    def start_late(thread: threading.Thread) -> None:
        joiner = threading.Thread(target=join)
        start(joiner)
        joiner.join(0.1)  # it may have to wait until the thread has started
        joiners.append(joiner)
        start(thread)

    with bench(FakeTransport()) as b:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start_late)
            b.record()
            assert b.driver.flush(None).delivered == 1
        for joiner in joiners:
            joiner.join(SOON)
    assert joiners
    assert not errors


def test_closing_gives_up_in_time_and_reports_what_is_lost() -> None:
    drops: list[tuple[Signal, str]] = []
    transport = FakeTransport(held=True)
    with bench(transport, concurrency=2, on_drop=lambda signal, reason: drops.append((signal, reason))) as b:
        b.record(4)
        transport.wait_requests(2)
        closer = threading.Thread(target=lambda: reports.append(b.driver.close(3.0)), name="closer")
        reports: list[FlushReport] = []
        closer.start()
        b.clock.wait_for_sleeper(b.clock.time + 3.0)
        b.clock.advance(3.0)
        closer.join(SOON)
        assert not workers()
    assert reports == [FlushReport(0, pending=4)]
    assert [(signal.idempotency_key, reason) for signal, reason in drops] == [
        (f"key-{number}", "closed") for number in (1, 2, 3, 4)
    ]


def test_several_threads_may_close() -> None:
    transport = FakeTransport()
    reports: list[FlushReport] = []
    with bench(transport) as b:
        b.record(5)
        closers = [threading.Thread(target=lambda: reports.append(b.driver.close(None))) for _ in range(3)]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join(SOON)
    assert len(reports) == 3
    assert max(report.delivered for report in reports) == 5


def test_recording_after_closing_is_reported() -> None:
    drops: list[str] = []
    with bench(FakeTransport(), on_drop=lambda _, reason: drops.append(reason)) as b:
        b.driver.close(None)
        assert b.driver.record(encoded("late")).dropped == "closed"
    assert drops == ["closed"]


def test_a_hook_must_not_wait_for_itself(caplog: pytest.LogCaptureFixture) -> None:
    tried = threading.Event()

    def flush_again(_count: int) -> None:
        try:
            b.driver.flush(None)
        finally:
            tried.set()

    with bench(FakeTransport(), on_flush=flush_again) as b:
        b.record()
        assert b.driver.flush(None).delivered == 1
        assert tried.wait(SOON)
    assert "A hook raised" in caplog.text


# What goes wrong


class TransportBugError(Exception):
    """A transport's bug, with the key in its message."""


def test_a_flush_returns_after_the_hook_that_runs_when_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it settles before it begins to wait."""
    entered, waits = threading.Event(), threading.Event()
    ended: list[bool] = []

    def on_flush(_: int) -> None:  # runs for the last of the events
        entered.set()
        ended.append(waits.wait(SOON))

    def settle_first() -> None:
        assert wait_until(lambda: len(b.driver._serving.queue) > 0)  # pyright: ignore[reportPrivateUsage]

    with bench(FakeTransport(), on_flush=on_flush) as b:
        until_settled = b.driver._until_settled  # pyright: ignore[reportPrivateUsage]

        def wait(waiter: Waiter, deadline_at: float | None) -> Script[None]:
            waits.set()
            return until_settled(waiter, deadline_at)

        b.record()
        assert entered.wait(SOON)
        monkeypatch.setattr(b.driver._serving, "run_hooks_if_alone", settle_first)  # pyright: ignore[reportPrivateUsage]
        monkeypatch.setattr(b.driver, "_until_settled", wait)
        assert b.driver.flush(None) == FlushReport(1)
        assert ended == [True]
        monkeypatch.undo()


def test_a_hook_that_does_not_return_holds_up_no_retry() -> None:
    may_return = threading.Event()
    transport = FakeTransport(BUSY, OK, held=True)
    with bench(transport, on_retry=lambda _: may_return.wait(SOON)) as b:
        b.record()
        transport.wait_requests(1)
        b.clock.wait_for_sleeper(None)
        transport.let(2)
        (retry_at,) = b.clock.wait_for_sleeper_with_time()
        b.clock.advance(retry_at - b.clock.time)
        transport.wait_requests(2)
        may_return.set()
        assert b.driver.flush(None).delivered == 1


def test_a_transport_that_raises_loses_nothing_and_shows_no_key(caplog: pytest.LogCaptureFixture) -> None:
    transport = FakeTransport(TransportBugError(f"Bearer {KEY}"), OK)
    retries = Retries()
    with caplog.at_level(logging.DEBUG), bench(transport, on_retry=retries) as b:
        b.record()
        b.clock.wait_for_sleeper(b.clock.time + retries.wait(1).delay)
        b.clock.advance(60.0)
        assert b.driver.flush(None) == FlushReport(1)
    assert "TransportBugError" in caplog.text
    assert KEY not in caplog.text
    assert isinstance(retries.events[0].error, NetworkError)
    assert KEY not in repr(retries.events[0].error)


def test_a_transport_that_raises_in_the_foreground_is_a_network_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with bench(FakeTransport(TransportBugError(KEY)), attempts=1) as b:
        call = b.engine.call(signal_operation(encoded("a")))
        with pytest.raises(NetworkError) as caught:
            b.driver.perform(call)
    assert KEY not in str(caught.value)
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    "error", [ValueError("hook"), SystemExit(1), KeyboardInterrupt()], ids=["error", "exit", "interrupt"]
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_hook_that_raises_stops_no_delivery(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    def raising(*_: object) -> None:
        raise error

    transport = FakeTransport(REFUSED, BUSY, REFUSED, OK)
    with bench(
        transport, attempts=1, concurrency=1, on_error=raising, on_drop=raising, on_retry=raising
    ) as b:
        b.record(6)
        done = threading.Event()
        reports: list[FlushReport] = []

        def flush() -> None:
            reports.append(b.driver.flush(None))
            done.set()

        threading.Thread(target=flush, daemon=True).start()
        assert done.wait(SOON)
    assert (reports[0].delivered, len(reports[0].failed)) == (3, 3)
    assert all(isinstance(failed.error, ClockNextError) for failed in reports[0].failed)
    assert KEY not in caplog.text


@pytest.mark.parametrize("seed", range(5))
def test_many_threads_lose_nothing(seed: int) -> None:
    """Several recorders, flaky answers, three flushes: every signal ends once."""
    random = Random(seed)
    outcomes: list[Answer | Exception] = [OK, OK, OK, REFUSED, TransportBugError(KEY)]
    answers = random.choices(outcomes, k=300)
    delivered: list[int] = []
    transport = FakeTransport(*answers, OK)
    drops: list[Signal] = []
    with bench(
        transport,
        size=7,
        concurrency=3,
        attempts=1,
        on_flush=delivered.append,
        on_drop=lambda s, _: drops.append(s),
    ) as b:

        def recording(name: str) -> Callable[[], None]:
            def run() -> None:
                for number in range(50):
                    b.driver.record(encoded(f"{name}-{number}"))
                    if number % 20 == 19:
                        b.driver.flush(None)

            return run

        threads = [threading.Thread(target=recording(name)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
            assert not thread.is_alive()
        b.driver.flush(None)
        assert b.engine.outbox.held == 0
        assert len(workers()) <= 4
        b.driver.close(None)
    assert sum(delivered) + len(drops) == 200
    assert len({dropped.idempotency_key for dropped in drops}) == len(drops)
    assert len(transport.requests) == 200
