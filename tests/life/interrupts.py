"""Interrupt the main thread while it uses a client: `python -m tests.life.interrupts --rounds 10000`.

A signal's handler raises in the midst of a call. Half of the rounds use a real timer, half strike at one of
the points where the interpreter runs handlers: where a function begins, and where one written in C returns.
What the handler raises must reach the caller; afterwards the client's counts must agree, and it must go on,
deliver what it holds, and close. A thread that hangs ends the run: its stack is printed.
"""

import argparse
import faulthandler
import gc
import json
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

from clocknext_core import Answer, BatchPolicy, Request, Response
from clocknext_transports import ClockNext
from tests.transports.support import KEY

CHECK_EVERY = 25
"""Rounds after which a client delivers everything and closes, and another is made."""
HANG = 60.0
"""Seconds after which a call hangs."""
LONGEST = 0.0004
"""Seconds after which a timer strikes at the latest."""
POINTS = 400
"""Points that a call may be struck at, counted from its beginning."""


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


def _starts_a_thread(frame: FrameType | None) -> bool:
    """Return whether Python is starting a thread: interrupted there, it leaves half of one."""
    while frame is not None:
        if frame.f_code is threading.Thread.start.__code__:
            return True
        frame = frame.f_back
    return False


class Striker:
    """Raises in the main thread, once."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._kind: type[BaseException] = TimeIsUpError
        self._left = 0
        self._is_armed = False
        self.has_struck = False
        signal.signal(signal.SIGALRM, self.handle)

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Raise, as a signal's handler."""
        del signum
        if not self._is_armed or _starts_a_thread(frame):
            return
        self.has_struck = True
        raise self._kind

    def _count(self, frame: FrameType, event: str, argument: object) -> None:
        if event not in ("call", "c_return"):
            return
        self._left -= 1
        if self._left == 0:
            sys.setprofile(None)
            self.handle(signal.SIGALRM, frame)

    def during(self, call: Callable[[], object]) -> BaseException | None:
        """Make a call, interrupt it at some point, and return what it raised."""
        self._kind = self._rng.choice(KINDS)
        self.has_struck = False
        self._is_armed = True
        try:
            if self._rng.random() < 0.5:
                signal.setitimer(signal.ITIMER_REAL, self._rng.uniform(1e-6, LONGEST))
            else:
                self._left = self._rng.randrange(2, POINTS)
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


class Run:
    """A client and what was done with it."""

    def __init__(self) -> None:
        self.service = Service()
        batch = BatchPolicy(max_size=5, max_interval=0.001, max_concurrency=2)
        self.client = ClockNext(KEY, transport=self.service, batch=batch)
        self.recorded: set[str] = set()
        self.interrupted: set[str] = set()
        """Those whose call was interrupted: they may have been recorded, or not."""
        self.was_late = False
        """Whether threads outlived closing."""
        self._number = 0

    def calls(self) -> list[Callable[[], object]]:
        """What may be interrupted."""
        return [self.record, self.record, self.record, self.flush, self.stats, self.send, self.get]

    def record(self) -> None:
        """Buffer a signal."""
        self._record(wait=False)

    def send(self) -> None:
        """Send a signal, and wait."""
        self._record(wait=True)

    def _record(self, *, wait: bool) -> None:
        self._number += 1
        key = f"key-{self._number}"
        self.interrupted.add(key)
        self.client.signals.wallet(customer_id="cus_1", model="m", idempotency_key=key, wait=wait)
        if not wait:
            self.recorded.add(key)
            self.interrupted.discard(key)

    def flush(self) -> None:
        """Wait for what is held."""
        self.client.flush(timeout=5.0)

    def stats(self) -> None:
        """Count."""
        self.client.stats()

    def get(self) -> None:
        """Make another call."""
        self.client.customers.delete("cus_1")

    def check(self) -> None:
        """Check that counts agree, in another thread's way: under the lock."""
        stats = self.client.stats()
        ended = stats.delivered + stats.rejected + sum(stats.dropped.values()) + stats.parked
        assert stats.recorded == stats.held + ended, stats
        assert len(self.recorded) <= stats.recorded <= len(self.recorded) + len(self.interrupted), stats
        if stats.held == 0:
            assert stats.held_bytes == 0, stats

    def end(self) -> None:
        """Deliver, close, and check what came of it."""
        report = self.client.flush(timeout=HANG / 2)
        assert (report.pending, list(report.failed)) == (0, []), report
        self.check()
        stats = self.client.stats()
        report = self.client.close(timeout=HANG / 2)
        assert report.pending == 0, report
        self.check()
        assert stats.held == 0, stats
        sent = {key for key in self.service.keys if key}
        assert self.recorded <= sent, self.recorded - sent
        assert sent <= self.recorded | self.interrupted
        assert all(self.service.keys[key] == 1 for key in self.recorded)
        driver = self.client._driver  # pyright: ignore[reportPrivateUsage]
        # Closing waits a second for threads that are about to end; a busy machine may not run them in it.
        self.was_late = driver.background.is_working
        driver.background.join(driver._now() + HANG / 2)  # pyright: ignore[reportPrivateUsage]
        if driver.background.is_working:
            faulthandler.dump_traceback(all_threads=True)
            raise AssertionError("a thread does not end")
        assert not driver._serving.lock.locked()  # pyright: ignore[reportPrivateUsage]


def interrupt(rounds: int, seed: int, *, seconds: float = float("inf")) -> Counter[str]:
    """Interrupt calls, and return how often what happened.

    Args:
        rounds: How many calls.
        seed: Repeats a run, but for the timers.
        seconds: When to stop, at the latest.

    Raises:
        AssertionError: A count is off, something was lost, or an exception did not reach its caller.
    """
    rng = random.Random(seed)
    seen: Counter[str] = Counter()
    until = time.monotonic() + seconds
    striker = Striker(rng)
    gc.collect()
    gc.freeze()
    gc.disable()  # what a finalizer raises, the interpreter prints and passes to nobody
    run = Run()
    for number in range(1, rounds + 1):
        faulthandler.dump_traceback_later(HANG, exit=True)
        call = rng.choice(run.calls())
        error = striker.during(call)
        seen["calls"] += 1
        if error is not None:
            assert isinstance(error, KINDS), error
            seen[f"interrupted {call.__name__}"] += 1
        elif striker.has_struck:
            raise AssertionError(f"what the handler raised in {call.__name__} did not reach its caller")
        run.check()
        if number % CHECK_EVERY == 0 or number == rounds:
            run.end()
            seen["threads that outlived closing"] += run.was_late
            run = Run()
            gc.collect()
            if time.monotonic() > until:
                break
    gc.unfreeze()
    gc.enable()
    faulthandler.cancel_dump_traceback_later()
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
    arguments: Any = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    began = time.monotonic()
    seen = interrupt(arguments.rounds, arguments.seed, seconds=arguments.seconds)
    for what, count in sorted(seen.items()):
        print(f"{count:8} {what}")
    print(f"{time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
