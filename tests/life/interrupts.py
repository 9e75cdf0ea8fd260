"""Interrupt the main thread while it uses a client: `python -m tests.life.interrupts --rounds 10000`.

A signal's handler raises in the midst of a call. Half of the rounds use a real timer, half strike at one of
the points where the interpreter runs handlers: where a function begins, and where one written in C returns.
What the handler raises must reach the caller; afterwards the client's counts must agree, and it must go on,
deliver what it holds, and close. A thread that hangs ends the run: its stack is printed.

Under asyncio and trio each call has a loop of its own, and the client goes from loop to loop. The handler is
the loop's own for Ctrl-C: asyncio's cancels the task, trio's raises where trio allows it.
"""

import argparse
import asyncio
import faulthandler
import gc
import json
import logging
import random
import selectors
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from itertools import count
from types import FrameType
from typing import Any, cast, get_args

import trio

import clocknext_core
import clocknext_transports
from clocknext_core import Answer, BatchPolicy, QueueFullError, Request, Response, Signal
from clocknext_core.config import Overflow
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.emulator import EmulatorServer, emulator
from tests.life.support import wait_until
from tests.transports.support import KEY

CHECK_EVERY = 25
"""Rounds after which a client delivers everything and closes, and another is made."""
HANG = 60.0
"""Seconds after which a call hangs."""
LONGEST = {"threads": 0.0004, "sockets": 0.002, "asyncio": 0.0015, "trio": 0.003}
"""Seconds after which a timer strikes at the latest: a loop has to begin first."""
POINTS = {"threads": 400, "sockets": 1500, "asyncio": 400, "trio": 400}
"""Points that a call may be struck at, counted from its beginning."""
CUSTOMER = "cus_123"


class TimeIsUpError(Exception):
    """What most limits raise: an ordinary exception."""


class TimeIsUpOSError(TimeoutError):
    """What some raise: one that sockets raise, too."""


class Stop(KeyboardInterrupt):
    """What Ctrl-C raises."""


KINDS: tuple[type[BaseException], ...] = (TimeIsUpError, TimeIsUpOSError, Stop)


class Service:
    """A transport that takes everything, and counts what it was sent."""

    def __init__(self) -> None:
        self.keys: Counter[str] = Counter()

    def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Answer at once."""
        del deadline_at
        if request.body:
            self.keys[json.loads(request.body).get("idempotencyKey", "")] += 1
        status = b'{"statusCode":200,"statusDetail":{"status":"SUCCESS","message":"OK"},"result":{}}'
        return Response(200, [("Content-Type", "application/json")], status)

    def close(self) -> None:
        """Have nothing to close."""


class LoopService(Service):
    """The same for event loops: it takes a turn of the loop to answer."""

    def __init__(self, turn: Callable[[], Any]) -> None:
        super().__init__()
        self._turn = turn

    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:  # type: ignore[override]
        """Answer soon."""
        await self._turn()
        return super().exchange(request, deadline_at=deadline_at)

    async def aclose(self) -> None:
        """Have nothing to close."""


OURS = tuple(path for package in (clocknext_core, clocknext_transports) for path in package.__path__)
"""Where the client's code is."""


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(OURS)


def _stack(frame: FrameType | None) -> list[FrameType]:
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _starts_a_thread(stack: list[FrameType]) -> bool:
    """Return whether Python is starting a thread: interrupted there, it leaves half of one."""
    return any(frame.f_code is threading.Thread.start.__code__ for frame in stack)


def _swallows_os_errors(stack: list[FrameType]) -> bool:
    """Return whether Python is about to drop an `OSError`, whoever raises it."""
    return stack[0].f_code is selectors.DefaultSelector.unregister.__code__


class Striker:
    """Raises in the main thread, once."""

    kinds = KINDS
    is_inside = True
    server: EmulatorServer
    """Where clients send to that use sockets."""

    def __init__(self, rng: random.Random, world: str) -> None:
        self._rng = rng
        self._longest = LONGEST[world]
        self._points = POINTS[world]
        self._kind: type[BaseException] = TimeIsUpError
        self._left = 0
        self._is_armed = False
        self.has_struck = False
        self.struck_at = ""
        """The stack, as text."""
        signal.signal(signal.SIGALRM, self.handle)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Raise, as a signal's handler."""
        del signum
        if self._is_armed and self._may_strike(_stack(frame)):
            self._is_armed = False
            self.has_struck = True
            self.struck_at = "".join(traceback.format_stack(frame))
            self._strike()

    def _may_strike(self, stack: list[FrameType]) -> bool:
        is_dropped = issubclass(self._kind, OSError) and _swallows_os_errors(stack)
        return not (is_dropped or _starts_a_thread(stack))

    def _strike(self) -> None:
        raise self._kind

    def _is_point(self, frame: FrameType) -> bool:
        """Return whether to count a point in this function."""
        return True

    def _count(self, frame: FrameType, event: str, argument: object) -> None:
        if event not in ("call", "c_return") or not self._is_point(frame):
            return
        self._left -= 1
        if self._left == 0:
            sys.setprofile(None)
            self.handle(signal.SIGALRM, frame)

    def during(self, call: Callable[[], object]) -> BaseException | None:
        """Make a call, interrupt it at some point, and return what it raised."""
        self._kind = self._rng.choice(self.kinds)
        self.has_struck = False
        self._is_armed = True
        try:
            if self._rng.random() < 0.5:
                signal.setitimer(signal.ITIMER_REAL, self._rng.uniform(1e-6, self._longest))
            else:
                self._left = self._rng.randrange(2, self._points)
                sys.setprofile(self._count)
            call()
            self._is_armed = False
        except BaseException as error:  # noqa: BLE001 - looked at by whoever asks
            return error
        finally:
            self._is_armed = False
            sys.setprofile(None)
            signal.setitimer(signal.ITIMER_REAL, 0)
        return None


class LoopStriker(Striker):
    """Presses Ctrl-C while the loop's main task runs, and leaves to the loop what comes of it."""

    kinds = (KeyboardInterrupt,)
    is_inside = False
    """Whether the loop's main task runs."""

    def _may_strike(self, stack: list[FrameType]) -> bool:
        # Not where the block itself is: Python calls `__aexit__` and awaits it in two steps, and an interrupt
        # between them leaves any block open, a nursery of trio's too.
        return self.is_inside and stack[0].f_code.co_filename != __file__

    def _is_point(self, frame: FrameType) -> bool:
        return _is_ours(frame)

    def _strike(self) -> None:
        signal.raise_signal(signal.SIGINT)


_numbers = count(1)
"""Of the keys: each is used once."""
BATCHES = (
    BatchPolicy(max_size=5, max_interval=0.001, max_concurrency=2),
    *(
        BatchPolicy(
            max_size=2,
            max_interval=0.001,
            max_concurrency=2,
            max_queue_size=3,
            overflow=overflow,
            block_timeout=0.005,
        )
        for overflow in get_args(Overflow)
    ),
)
"""With room for all signals, and with room for few, and each way to do without."""


class Run:
    """A client and what was done with it.

    Args:
        striker: Interrupts it.
        batch: The client's.
    """

    reaches_its_caller = True
    """Whether what the handler raises always does."""

    def __init__(self, striker: Striker, batch: BatchPolicy) -> None:
        self.striker = striker
        self.batch = batch
        self.service = Service()
        self.client: Any = self.make_client()
        self.dropped: set[str] = set()
        """Those that were held when what was raised closed the client."""
        self.recorded: set[str] = set()
        self.unawaited: set[str] = set()
        """Those recorded without waiting for the lock: an interrupt may have them taken in twice."""
        self.interrupted: set[str] = set()
        """Those whose call was interrupted: they may have been recorded, or not."""
        self.twice = 0
        """How many signals may have been taken in twice: one for each time that an interrupt struck."""
        self.was_late = False
        """Whether threads outlived closing."""
        self.has_open_socket = False
        """Whether a socket is left to the collector, since it was interrupted as it began to connect."""

    def make_client(self) -> object:
        """Make what is interrupted."""
        return ClockNext(KEY, transport=self.service, batch=self.batch, on_drop=self.note_dropped)

    def note_dropped(self, signal: Signal, reason: str) -> None:
        """Take note of a signal that is not sent; where this is interrupted, it is not."""
        del signal
        assert reason == "queue_full"

    @property
    def is_closed(self) -> bool:
        """Whether what was raised has closed the client, as the end of trio's block does."""
        return bool(self.client._driver.engine.outbox.is_closing)

    def carry_out(self, call: Callable[[], Any]) -> Any:
        """Make a call of the client."""
        return call()

    def calls(self) -> list[Callable[[], object]]:
        """What may be interrupted."""
        often = [self.record] * 6 + [self.nowait] * 3
        return [*often, self.flush, self.stats, self.send, self.get, self.close]

    def record(self) -> None:
        """Buffer a signal."""
        self._record(wait=False)

    def send(self) -> None:
        """Send a signal, and wait."""
        self._record(wait=True)

    def _record(self, *, wait: bool) -> None:
        key = f"key-{next(_numbers)}"
        self.interrupted.add(key)
        signals = self.client.signals
        with suppress(QueueFullError):
            self.carry_out(
                lambda: signals.wallet(customer_id=CUSTOMER, model="gpt-4o", idempotency_key=key, wait=wait)
            )
            if not wait:
                self.recorded.add(key)
        self.interrupted -= self.recorded

    def nowait(self) -> None:
        """Buffer a signal without waiting for anything."""
        key = f"key-{next(_numbers)}"
        self.interrupted.add(key)
        self.unawaited.add(key)
        self.client.nowait.signals.wallet(customer_id=CUSTOMER, model="gpt-4o", idempotency_key=key)
        self.recorded.add(key)
        self.interrupted.discard(key)

    def flush(self) -> None:
        """Wait for what is held."""
        self.carry_out(lambda: self.client.flush(timeout=HANG / 2))

    def stats(self) -> None:
        """Count."""
        self.client.stats()

    def get(self) -> None:
        """Make another call."""
        self.carry_out(lambda: self.client.customers.delete(CUSTOMER))

    def close(self) -> None:
        """Close."""
        self.carry_out(lambda: self.client.close(timeout=HANG / 2))

    def check(self) -> None:
        """Check that counts agree, in another thread's way: under the lock."""
        serving = self.client._driver._serving
        with serving.lock:
            serving.take_in()
        stats = self.client.stats()
        ended = stats.delivered + stats.rejected + sum(stats.dropped.values()) + stats.parked
        assert stats.recorded == stats.held + ended, stats
        assert len(self.recorded) <= stats.recorded, stats
        assert stats.recorded <= len(self.recorded) + len(self.interrupted) + self.twice, stats
        if stats.held == 0:
            assert stats.held_bytes == 0, stats

    def end(self) -> None:
        """Deliver, close, and check what came of it."""
        if not self.is_closed:
            report = self.carry_out(lambda: self.client.flush(timeout=HANG / 2))
            assert report.pending == 0, report
            assert not self.dropped
        self.check()
        report = self.carry_out(lambda: self.client.close(timeout=HANG / 2))
        assert report.pending == 0, report
        self.check()
        stats = self.client.stats()
        assert stats.held == 0, stats
        keys = self.sent()
        sent = {key for key in keys if key}
        assert len(self.recorded - sent - self.dropped) <= stats.dropped["queue_full"], self.recorded - sent
        assert sent <= self.recorded | self.interrupted
        self.check_end(keys)

    def sent(self) -> Counter[str]:
        """Count what the service was sent, by idempotency key."""
        return self.service.keys

    def check_end(self, keys: Counter[str]) -> None:
        """Check what is so in one world only."""
        # No attempt was interrupted.
        assert all(keys[key] <= 1 + (key in self.unawaited) for key in self.recorded)
        driver = self.client._driver
        # Closing waits a second for threads that are about to end; a busy machine may not run them in it.
        self.was_late = driver.background.is_working
        # Not by joining: Python takes a thread for ended whose joining was interrupted.
        if not wait_until(lambda: not driver.background.is_working, HANG / 2):
            faulthandler.dump_traceback(all_threads=True)
            raise AssertionError("a thread does not end")
        assert not driver._serving.lock.locked()


class NativeRun(Run):
    """The same over sockets."""

    def make_client(self) -> object:
        """Make what is interrupted."""
        self._server = self.striker.server
        return ClockNext(
            self._server.api_key, base_url=self._server.url, batch=self.batch, on_drop=self.note_dropped
        )

    def get(self) -> None:
        """Make another call."""
        self.client.customers.get(CUSTOMER)

    def sent(self) -> Counter[str]:
        """Count what the service was sent, by idempotency key."""
        keys = self.recorded | self.interrupted
        return Counter({key: billed for key in keys if (billed := self._server.ledger.billed(key))})

    def check_end(self, keys: Counter[str]) -> None:
        """Check what is so in one world only."""
        super().check_end(keys)
        self.has_open_socket = self.client._driver.transport.is_open


class AsyncioRun(Run):
    """The same with asyncio, each call in a loop of its own."""

    reaches_its_caller = False  # asyncio may cancel a task that has just come to its end

    def make_client(self) -> object:
        """Make what is interrupted."""
        self.service = LoopService(lambda: asyncio.sleep(0))
        return AsyncClockNext(KEY, transport=self.service, batch=self.batch)

    def calls(self) -> list[Callable[[], object]]:
        """What may be interrupted."""
        return [self.record, self.record, self.record, self.flush, self.stats, self.send, self.get]

    def carry_out(self, call: Callable[[], Any]) -> Any:
        """Make a call of the client."""

        async def main() -> Any:
            self.striker.is_inside = True
            try:
                return await call()
            finally:
                self.striker.is_inside = False

        return asyncio.run(main())

    def check_end(self, keys: Counter[str]) -> None:
        """Check what is so in one world only."""
        driver = self.client._driver
        assert not driver.background.is_working
        assert not driver._serving.lock.locked()


class TrioRun(AsyncioRun):
    """The same with trio, each call in a run of its own, and in a block that is left by cancelling."""

    reaches_its_caller = True

    def make_client(self) -> object:
        """Make what is interrupted."""
        self.service = LoopService(lambda: trio.sleep(0))
        return TrioClockNext(KEY, transport=self.service, batch=self.batch, on_drop=self.note_dropped)

    def note_dropped(self, signal: Signal, reason: str) -> None:
        """Take note of a signal that is not sent."""
        if reason == "closed":
            self.dropped.add(signal.idempotency_key or "")

    def carry_out(self, call: Callable[[], Any]) -> Any:
        """Make a call of the client."""
        results: list[object] = []

        async def main() -> None:
            self.striker.is_inside = True
            try:
                with trio.CancelScope() as scope:
                    async with cast(TrioClockNext, self.client):
                        results.append(await call())
                        scope.cancel()
            finally:
                self.striker.is_inside = False

        trio.run(main)
        return results[0]


WORLDS: dict[str, tuple[type[Run], type[Striker]]] = {
    "threads": (Run, Striker),
    "sockets": (NativeRun, Striker),
    "asyncio": (AsyncioRun, LoopStriker),
    "trio": (TrioRun, LoopStriker),
}


def interrupt(
    rounds: int, seed: int, *, world: str = "threads", seconds: float = float("inf")
) -> Counter[str]:
    """Interrupt calls, and return how often what happened.

    Args:
        world: Whose client.
        rounds: How many calls.
        seed: Repeats a run, but for the timers.
        seconds: When to stop, at the latest.

    Raises:
        AssertionError: A count is off, something was lost, or an exception did not reach its caller.
    """
    rng = random.Random(seed)
    seen: Counter[str] = Counter()
    until = time.monotonic() + seconds
    make_run, make_striker = WORLDS[world]
    striker = make_striker(rng, world)
    servers = ExitStack()
    striker.server = servers.enter_context(emulator())
    gc.collect()
    gc.freeze()
    gc.disable()  # what a finalizer raises, the interpreter prints and passes to nobody
    run = make_run(striker, rng.choice(BATCHES))
    for number in range(1, rounds + 1):
        faulthandler.dump_traceback_later(HANG, exit=True)
        call = rng.choice(run.calls())
        error = striker.during(call)
        seen["calls"] += 1
        seen["struck"] += striker.has_struck
        if error is not None:
            assert isinstance(error, striker.kinds), repr(error)
            seen[f"interrupted {call.__name__}"] += 1
        elif striker.has_struck and make_run.reaches_its_caller:
            what = f"what the handler raised in {call.__name__} did not reach its caller"
            raise AssertionError(f"{what}:\n{striker.struck_at}")
        run.twice += striker.has_struck
        run.check()
        if number % CHECK_EVERY == 0 or number == rounds or run.is_closed:
            seen["closed by what was raised"] += run.is_closed
            run.end()
            seen["threads that outlived closing"] += run.was_late
            seen["sockets that outlived closing"] += run.has_open_socket
            del run
            gc.collect()
            gc.freeze()  # what the server has on its ledger is not looked through again
            run = make_run(striker, rng.choice(BATCHES))
            if time.monotonic() > until:
                break
    gc.unfreeze()
    gc.enable()
    faulthandler.cancel_dump_traceback_later()
    servers.close()
    ours = [thread for thread in threading.enumerate() if thread.name == "clocknext"]
    assert not [thread for thread in ours if _is_stuck(thread)]
    return seen


def _is_stuck(thread: threading.Thread) -> bool:
    thread.join(5.0)
    return thread.is_alive()


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(prog="python -m tests.life.interrupts", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=[*WORLDS])
    arguments: Any = parser.parse_args()
    logging.getLogger("clocknext").addHandler(logging.NullHandler())  # or it would say each drop on stderr
    rounds = arguments.rounds // len(arguments.worlds)
    for world in arguments.worlds:
        print(f"{world}, seed {arguments.seed}", flush=True)
        began = time.monotonic()
        seen = interrupt(rounds, arguments.seed, world=world, seconds=arguments.seconds)
        for what, times in sorted(seen.items()):
            print(f"{times:8} {what}")
        print(f"{time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
