"""What the user's own functions do stops no delivery, and holds up no flush beyond its time-out."""

import asyncio
import logging
import threading
from collections.abc import Callable

import pytest

from clocknext_core import BatchPolicy, ClockNextError, Signal
from clocknext_transports.emulator import Hold, scripted
from tests.contract.answers import by_key, held, record, record_all, refused, sent_to
from tests.contract.clients import PATIENCE
from tests.contract.worlds import LogKeeper, World, in_threads

AT_ONCE = BatchPolicy(max_size=1)


class OwnError(BaseException):
    """Neither an `Exception` nor one that Python knows."""


RAISED: dict[str, Callable[[], BaseException]] = {
    "error": lambda: ValueError("mine"),
    "cancelled": lambda: asyncio.CancelledError("of a future of mine"),
    "generator exit": GeneratorExit,
    "system exit": lambda: SystemExit(3),
    "base exception": lambda: OwnError("mine"),
}


@pytest.mark.parametrize("made", RAISED.values(), ids=RAISED)
async def test_whatever_a_hook_raises_delivery_goes_on(
    world: World, made: Callable[[], BaseException], log: LogKeeper
) -> None:
    called: list[str | None] = []

    def on_error(error: ClockNextError, signal: Signal) -> None:
        called.append(signal.idempotency_key)
        raise made()

    with scripted([by_key({"bad": refused(400), "worse": refused(400)})]) as server:
        async with world.open(server.url, batch=AT_ONCE, on_error=on_error) as client:
            for bad, good in (("bad", "good"), ("worse", "better")):
                await record_all(client, [bad, good])
                report = await client.flush(timeout=PATIENCE)
                assert (report.delivered, len(report.failed), report.pending) == (1, 1, 0)
        assert sorted(sent_to(server)) == ["bad", "better", "good", "worse"]
    assert called == ["bad", "worse"]
    # Each hook runs by itself: what one raises does not take the next one's call.
    assert [key for _, _, key in world.hooks.of("on_drop")] == ["bad", "worse"]
    assert len(log.take()) == 2


@in_threads
async def test_a_hook_that_does_not_return_holds_up_neither_other_signals_nor_a_flush(world: World) -> None:
    entered, may_end = threading.Event(), threading.Event()
    gate = Hold()

    def on_error(error: ClockNextError, signal: Signal) -> None:
        entered.set()
        may_end.wait(2 * PATIENCE)

    with scripted([by_key({"bad": refused(400), "good": held(gate)})]) as server:
        async with world.open(server.url, batch=AT_ONCE, on_error=on_error) as client:
            await record(client, "bad")
            assert entered.wait(PATIENCE)
            await record(client, "good")
            await world.arrived(gate)
            gate.release()
            report = await client.flush(timeout=0.1)
            assert not may_end.is_set()  # the flush has returned, and the hook has not
            assert report.delivered + report.pending == 1
            await record(client, "another", wait=True)
            may_end.set()
        assert sorted(sent_to(server)) == ["another", "bad", "good"]


@in_threads
async def test_a_log_handler_may_use_the_client(world: World) -> None:
    answered = threading.Event()

    class Looking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert client.pending >= 0
            answered.set()

    handler = Looking()
    logger = logging.getLogger("clocknext")
    with scripted([by_key({"bad": refused(400)})]) as server:
        async with world.open(server.url, batch=AT_ONCE) as client:
            logger.addHandler(handler)
            try:
                await record(client, "bad")
                report = await client.flush(timeout=PATIENCE)
                assert (len(report.failed), report.pending) == (1, 0)
            finally:
                logger.removeHandler(handler)
    assert answered.is_set()
