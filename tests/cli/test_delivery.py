from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio
from trio.testing import MockClock

from clocknext_core import (
    AuthError,
    ClockNextError,
    NetworkError,
    NotFoundError,
    ServerError,
    Signal,
    TrackResult,
)
from clocknext_transports.cli.delivery import GRACE, Delivery, Read
from clocknext_transports.cli.lines import Line
from tests.cli.support import encoded, many, wire

DOWN = NetworkError("down", retryable=True)


def delivered(signal: Signal) -> TrackResult:
    return TrackResult({}, idempotency_key=signal.idempotency_key or "")


def reading(*chunks: bytes) -> Read:
    left = iter(chunks)
    return lambda: next(left, b"")


class Run:
    """A delivery and what it told."""

    def __init__(
        self, read: Read, track: Callable[[Signal], Awaitable[TrackResult]], concurrency: int = 4
    ) -> None:
        self.delivered: list[int] = []
        self.refused: list[tuple[int, ClockNextError]] = []
        self.delivery = Delivery(
            read,
            track,
            on_delivered=lambda line, signal, result: self.delivered.append(line.number),
            on_refused=lambda line, error: self.refused.append((line.number, error)),
            concurrency=concurrency,
        )

    def to_the_end(self) -> "Run":
        trio.run(self.delivery.run, clock=MockClock(autojump_threshold=0))
        return self


def test_every_line_is_delivered_or_refused() -> None:
    async def track(signal: Signal) -> TrackResult:
        await trio.lowlevel.checkpoint()
        if signal.customer_id == "cus_404":
            raise NotFoundError("nobody", status=404)
        return delivered(signal)

    data = encoded([wire(), {}, wire(customerId="cus_404"), wire()])
    run = Run(reading(data[:9], data[9:]), track).to_the_end()
    assert sorted(run.delivered) == [1, 4]
    assert sorted((number, str(error)) for number, error in run.refused) == [
        (2, "type: is required"),
        (3, "nobody"),
    ]
    assert not run.delivery.is_stopped


def test_what_is_held_does_not_grow_with_the_input() -> None:
    a_chunk, chunks, concurrency = 100, 200, 8
    begun = ended = read = most_in_flight = most_held = 0
    chunk = many(a_chunk)

    def produce() -> Iterator[bytes]:
        nonlocal read
        for _ in range(chunks):
            read += a_chunk
            yield chunk

    source = produce()
    all_begun = trio.Event()
    """Set when as many are in flight as there may be: they end together, in waves."""

    async def track(signal: Signal) -> TrackResult:
        nonlocal begun, ended, most_in_flight, most_held, all_begun
        begun += 1
        most_in_flight = max(most_in_flight, begun - ended)
        most_held = max(most_held, read - ended)
        if begun - ended < concurrency:
            await all_begun.wait()
        else:
            all_begun.set()
            all_begun = trio.Event()
            await trio.lowlevel.checkpoint()
        ended += 1
        return delivered(signal)

    count = 0

    def on_delivered(line: Line, signal: Signal, result: TrackResult) -> None:
        nonlocal count
        count += 1

    def on_refused(line: Line, error: ClockNextError) -> None:
        pytest.fail(str(error))

    delivery = Delivery(
        lambda: next(source, b""),
        track,
        on_delivered=on_delivered,
        on_refused=on_refused,
        concurrency=concurrency,
    )
    trio.run(delivery.run)
    assert count == a_chunk * chunks == 20_000
    assert most_in_flight == concurrency
    assert most_held <= a_chunk + concurrency


def test_one_at_a_time_keeps_the_order() -> None:
    async def track(signal: Signal) -> TrackResult:
        await trio.lowlevel.checkpoint()
        return delivered(signal)

    assert Run(reading(many(50)), track, concurrency=1).to_the_end().delivered == [*range(1, 51)]


@pytest.mark.parametrize(
    "error",
    [
        AuthError("who?", status=401),
        ClockNextError("not you", status=403),
        ClockNextError("not so", status=405),
        ClockNextError("elsewhere", status=302),
        NotFoundError("no such endpoint", status=404, reason="NOT_FOUND"),
    ],
    ids=str,
)
def test_what_would_be_answered_to_every_line_stops(error: ClockNextError) -> None:
    begun: list[Signal] = []

    async def track(signal: Signal) -> TrackResult:
        begun.append(signal)
        await trio.lowlevel.checkpoint()
        raise error

    run = Run(reading(many(1000)), track).to_the_end()
    assert run.delivery.error is error
    assert (run.delivered, run.refused) == ([], [])
    assert 1 <= len(begun) <= 4


def test_a_service_that_is_down_stops() -> None:
    async def track(signal: Signal) -> TrackResult:
        if signal.tokens is not None and signal.tokens.input < 10:
            return delivered(signal)
        await trio.sleep(60)
        raise DOWN

    run = Run(reading(many(1000)), track).to_the_end()
    assert run.delivery.error is DOWN
    assert sorted(run.delivered) == [*range(1, 11)]
    assert run.refused == []


def test_a_signal_that_fails_while_others_go_through_is_refused_alone() -> None:
    error = ServerError("poison", status=500, retryable=True)

    async def track(signal: Signal) -> TrackResult:
        if signal.tokens is not None and signal.tokens.input == 5:
            await trio.sleep(3)
            raise error
        await trio.sleep(1)
        return delivered(signal)

    run = Run(reading(many(100)), track).to_the_end()
    assert run.refused == [(6, error)]
    assert len(run.delivered) == 99
    assert not run.delivery.is_stopped


def test_an_input_that_breaks_stops() -> None:
    chunks = iter([many(3)])

    def read() -> bytes:
        for chunk in chunks:
            return chunk
        raise OSError("disk gone")

    async def track(signal: Signal) -> TrackResult:
        await trio.lowlevel.checkpoint()
        return delivered(signal)

    run = Run(read, track).to_the_end()
    assert str(run.delivery.error) == "disk gone"
    assert sorted(run.delivered) == [1, 2, 3]


def test_a_refusal_that_cannot_be_written_down_stops() -> None:
    def on_refused(line: Line, error: ClockNextError) -> None:
        raise OSError("disk full")

    async def track(signal: Signal) -> TrackResult:
        await trio.lowlevel.checkpoint()
        return delivered(signal)

    delivery = Delivery(
        reading(b"{}\n" * 1000),
        track,
        on_delivered=lambda line, signal, result: pytest.fail("delivered"),
        on_refused=on_refused,
        concurrency=2,
    )
    trio.run(delivery.run)
    assert str(delivery.error) == "disk full"


@pytest.mark.parametrize(("stops", "seconds"), [(1, GRACE), (2, 0.0)])
def test_stopping_leaves_those_in_flight_a_grace_and_no_more(stops: int, seconds: float) -> None:
    async def track(signal: Signal) -> TrackResult:
        if signal.tokens is not None and signal.tokens.input % 2:
            await trio.sleep(1)
            return delivered(signal)
        await trio.sleep_forever()
        raise AssertionError

    async def main(run: Run) -> float:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.delivery.run)
            while run.delivery.in_flight < 4:
                await trio.lowlevel.checkpoint()
            stopped_at = trio.current_time()
            for _ in range(stops):
                run.delivery.stop()
        return trio.current_time() - stopped_at

    run = Run(reading(many(1000)), track)
    assert trio.run(main, run, clock=MockClock(autojump_threshold=0)) == seconds
    assert sorted(run.delivered) == ([2, 4] if stops == 1 else [])
    assert (run.delivery.is_stopped, run.delivery.error, run.refused) == (True, None, [])
