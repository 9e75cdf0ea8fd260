"""Kill a client with a spool with SIGKILL, again and again, until all it has to record is billed.

A child process records signals against the emulator, which loses answers, resets connections and answers
503. It says of each signal that its call has returned. The parent kills it at random moments and starts it
again with what has not been acknowledged yet. In the end each acknowledged signal must be on the bill, once.

Without a spool (`--without`) nobody records twice, and the other half is shown: what is lost is what was
held.

    python -m tests.spool.crashes --times 200 --signals 20000 [--kind asyncio] [--without]
"""

import argparse
import asyncio
import json
import math
import os
import random
import select
import signal
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn, TypeAlias, get_args

import trio

from clocknext_core import Answer, BatchPolicy, Request, Response, RetryPolicy, TrackResult
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext, sync
from clocknext_transports.emulator import DEFAULT_API_KEY, EmulatorServer, Fault, emulator
from clocknext_transports.loops.calls import Transport as LoopTransport

Kind: TypeAlias = Literal["threads", "asyncio", "trio"]
KINDS: tuple[Kind, ...] = get_args(Kind)

RECORDERS = 8
"""Threads or tasks that record at the same time."""
BATCH = BatchPolicy(max_size=10, max_interval=0.05, max_queue_size=60, overflow="block", block_timeout=600.0)
RETRY = RetryPolicy(base_delay=0.005, max_delay=0.05)
FAULTS = ((0.05, Fault("lost")), (0.05, Fault("reset")), (0.03, Fault("status", status=503)))
TURN = 0.02
"""Seconds between looks at what is left in the end."""
LAST_LIVES = 20
"""Most lives that it takes to drain the spool: a client that closes does not wait for what it could adopt."""
STUCK = 120.0
"""Seconds without a word from a child after which it is taken to hang."""


# What both sides say: a mark and a key

ACKNOWLEDGED, SENT, ANSWERED, ALL_RECORDED, BROKEN = "+", ">", "<", "=", "!"


@dataclass(frozen=True)
class Life:
    """One life of the child.

    Args:
        kind: Its client.
        url: Where it sends to.
        spool: Its spool's directory; `None`: it has none.
        keys: What it is to record.
        is_last: Whether it delivers everything, closes and ends; else it waits to be killed.
        said: Where it tells what it does.
    """

    kind: Kind
    url: str
    spool: Path | None
    keys: Sequence[str]
    is_last: bool
    said: int

    def say(self, mark: str, text: str = "") -> None:
        os.write(self.said, f"{mark}{text}\n".encode())  # one piece: pipes split nothing as short

    def live(self) -> None:
        if self.kind == "threads":
            self._live_in_threads()
        elif self.kind == "asyncio":
            asyncio.run(self._live_in_asyncio())
        else:
            trio.run(self._live_in_trio)

    def _live_in_threads(self) -> None:
        client = ClockNext(DEFAULT_API_KEY, base_url=self.url, spool=self.spool, batch=BATCH, retry=RETRY)
        client.wrap_transport(lambda inner: _Telling(inner, self))
        keys, lock = iter(self.keys), threading.Lock()

        def record() -> None:
            while True:
                with lock:
                    key = next(keys, None)
                if key is None:
                    return
                self._acknowledge(
                    key,
                    client.signals.credit(
                        customer_id="cus_123", model="gpt-4o", key="api_credit", idempotency_key=key
                    ),
                )

        threads = [threading.Thread(target=self._told, args=[record]) for _ in range(RECORDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.say(ALL_RECORDED)
        if not self.is_last:
            signal.pause()
        for _ in self._until_adopted(client):
            client.flush()
            time.sleep(TURN)
        client.close()

    def _told(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException:
            self.say(BROKEN, repr(traceback.format_exc()))
            raise

    async def _live_in_asyncio(self) -> None:
        async with AsyncClockNext(
            DEFAULT_API_KEY, base_url=self.url, spool=self.spool, batch=BATCH, retry=RETRY
        ) as client:
            client.wrap_transport(lambda inner: _AsyncTelling(inner, self))
            keys = iter(self.keys)
            async with asyncio.TaskGroup() as tasks:
                for _ in range(RECORDERS):
                    tasks.create_task(self._record(client, keys))
            self.say(ALL_RECORDED)
            if not self.is_last:
                await asyncio.Event().wait()
            for _ in self._until_adopted(client):
                await client.flush()
                await asyncio.sleep(TURN)

    async def _live_in_trio(self) -> None:
        async with TrioClockNext(
            DEFAULT_API_KEY, base_url=self.url, spool=self.spool, batch=BATCH, retry=RETRY
        ) as client:
            client.wrap_transport(lambda inner: _AsyncTelling(inner, self))
            keys = iter(self.keys)
            async with trio.open_nursery() as nursery:
                for _ in range(RECORDERS):
                    nursery.start_soon(self._record, client, keys)
            self.say(ALL_RECORDED)
            if not self.is_last:
                await trio.sleep_forever()
            for _ in self._until_adopted(client):
                await client.flush()
                await trio.sleep(TURN)

    def _until_adopted(self, client: ClockNext | AsyncClockNext | TrioClockNext) -> Iterator[None]:
        """Go on until nothing seems to be left but a file of its own with nothing in it."""
        quiet = 0
        while self.spool is not None and quiet < 3:
            yield
            is_quiet = client.pending == 0 and len([*self.spool.glob("*.db")]) <= 1
            quiet = quiet + 1 if is_quiet else 0

    async def _record(self, client: AsyncClockNext | TrioClockNext, keys: Iterator[str]) -> None:
        for key in keys:
            self._acknowledge(
                key,
                await client.signals.credit(
                    customer_id="cus_123", model="gpt-4o", key="api_credit", idempotency_key=key
                ),
            )

    def _acknowledge(self, key: str, result: TrackResult) -> None:
        if result.dropped is not None:
            self.say(BROKEN, f"{key} was dropped: {result.dropped}")
        self.say(ACKNOWLEDGED, key)


def _key_of(request: Request) -> str:
    return str(json.loads(request.body or b"{}")["idempotencyKey"])


class _Telling:
    """Tells what a client sends, and what is answered."""

    def __init__(self, inner: sync.Transport, life: Life) -> None:
        self._inner = inner
        self._life = life

    def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        self._life.say(SENT, _key_of(request))
        answer = self._inner.exchange(request, deadline_at=deadline_at)
        if isinstance(answer, Response) and answer.status == 200:
            self._life.say(ANSWERED, _key_of(request))
        return answer

    def close(self) -> None:
        self._inner.close()


class _AsyncTelling:
    """The same for event loops."""

    def __init__(self, inner: LoopTransport, life: Life) -> None:
        self._inner = inner
        self._life = life

    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        self._life.say(SENT, _key_of(request))
        answer = await self._inner.exchange(request, deadline_at=deadline_at)
        if isinstance(answer, Response) and answer.status == 200:
            self._life.say(ANSWERED, _key_of(request))
        return answer

    async def aclose(self) -> None:
        await self._inner.aclose()


def _be_child(life: Life) -> NoReturn:
    # In a thread: trio remembers the parent's run for the thread that forked.
    def work() -> None:
        try:
            life.live()
        except BaseException:  # noqa: BLE001 - the parent is told
            life.say(BROKEN, repr(traceback.format_exc()))

    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        os._exit(0)


# The parent


@dataclass
class Books:
    """What the children said, and how they ended."""

    acknowledged: set[str] = field(default_factory=set[str])
    sent: set[str] = field(default_factory=set[str])
    answered: set[str] = field(default_factory=set[str])
    adopted: int = 0
    """Signals first sent by a later life than the one that acknowledged them."""
    kills: int = 0
    kills_while_recording: int = 0

    def read(self, line: str, before: set[str]) -> bool:
        """Take note of what a child says; whether it goes on recording."""
        mark, text = line[0], line[1:]
        if mark == ACKNOWLEDGED:
            assert text not in self.acknowledged, f"{text} was acknowledged twice"
            self.acknowledged.add(text)
        elif mark == SENT:
            self.adopted += text in before and text not in self.sent
            self.sent.add(text)
        elif mark == ANSWERED:
            self.answered.add(text)
        else:
            assert mark == ALL_RECORDED, f"the process said {text}"
        return mark != ALL_RECORDED


@dataclass(frozen=True)
class End:
    """When a life is ended: after so many acknowledged signals, or so many seconds."""

    acknowledged: float = math.inf
    seconds: float = STUCK


def _follow(life: Life, heard: int, books: Books, end: End | None) -> None:
    """Start a life and kill it; or see it end by itself."""
    before = set(books.acknowledged)
    child = os.fork()
    if child == 0:
        os.close(heard)
        _be_child(life)
    os.close(life.said)
    began_at = time.monotonic()
    is_recording, is_killed, rest = bool(life.keys), False, b""
    try:
        while True:
            patience = STUCK if end is None or is_killed else began_at + end.seconds - time.monotonic()
            is_heard = bool(select.select([heard], [], [], max(0.0, patience))[0])
            if is_heard:
                chunk = os.read(heard, 1 << 16)
                if not chunk:
                    break
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    is_recording &= books.read(line.decode(), before)
            assert is_heard or patience < STUCK - 1, "the process hangs"
            count = len(books.acknowledged) - len(before)
            if end is not None and not is_killed and (not is_heard or count >= end.acknowledged):
                os.kill(child, signal.SIGKILL)
                is_killed = True
                books.kills += 1
                books.kills_while_recording += is_recording
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(heard)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == (-signal.SIGKILL if is_killed else 0)
    assert rest == b"", "half a line"


def campaign(
    directory: Path,
    server: EmulatorServer,
    *,
    kind: Kind = "threads",
    times: int,
    signals: int,
    seed: int = 0,
    is_spooled: bool = True,
) -> Books:
    """Kill a client so many times; with a spool, see it end after that.

    Args:
        directory: The spool is made in it.
        server: What it sends to.
        kind: Which client.
        times: How often it is killed.
        signals: How many signals it has to record, in all its lives.
        seed: Decides when it is killed, as far as the system lets it.
        is_spooled: Whether it has a spool. Without one, each life records signals of its own.

    Raises:
        AssertionError: A process hangs, ends by itself, or says that something went wrong.
    """
    books = Books()
    rng = random.Random(seed)
    for probability, fault in FAULTS:
        server.faults.chance(probability, fault)
    keys = [f"k{number}" for number in range(signals)]

    def follow(left: Sequence[str], end: End | None) -> None:
        heard, said = os.pipe()
        path = directory / "spool" if is_spooled else None
        _follow(Life(kind, server.url, path, left, end is None, said), heard, books, end)

    for number in range(times):
        if is_spooled:
            left, share = [key for key in keys if key not in books.acknowledged], times - number + 1
        else:
            left, share = keys[number::times], 1
        if not left or rng.random() < 0.2:
            follow(left, End(seconds=rng.uniform(0.0, 0.3)))  # as it starts, adopts, records or delivers
        else:
            follow(left, End(rng.randint(1, max(1, min(len(left), 2 * len(left) // share)))))
    for _ in range(LAST_LIVES if is_spooled else 0):
        follow([key for key in keys if key not in books.acknowledged], None)
        if not [*(directory / "spool").iterdir()]:
            break  # nothing was left to be adopted
    if is_spooled:
        assert len(books.acknowledged) == signals
        files = [*(directory / "spool").iterdir()]
        assert files == [], f"files were left: {files}"
    return books


def check_billed_once(books: Books, server: EmulatorServer) -> None:
    """Require that each acknowledged signal is on the bill, once, and nothing else is."""
    billed = Counter(str(each.idempotency_key) for each in server.ledger.signals)
    lost = books.acknowledged - billed.keys()
    assert not lost, f"{len(lost)} signals were lost: {sorted(lost)[:5]} …"
    twice = [key for key, count in billed.items() if count > 1]
    assert not twice, f"{len(twice)} signals were billed twice: {twice[:5]} …"
    assert billed.keys() == books.acknowledged


@dataclass(frozen=True)
class Losses:
    """What became of signals without a spool."""

    acknowledged: int
    billed: int
    held: int
    """Acknowledged, and not answered when their process was killed."""
    in_flight: int
    """Of these, sent and billed: only the answer did not come any more."""
    lost: int


def check_losses(books: Books, server: EmulatorServer) -> Losses:
    """Require that what was lost is what was held and had not reached the service yet, and nothing else."""
    billed = Counter(str(each.idempotency_key) for each in server.ledger.signals)
    assert set(billed.values()) <= {1}, "billed twice"
    assert books.answered <= billed.keys() <= books.sent
    held = books.acknowledged - books.answered
    lost = books.acknowledged - billed.keys()
    in_flight = held & billed.keys()
    assert lost == held - in_flight
    assert held - books.sent <= lost
    return Losses(len(books.acknowledged), len(billed), len(held), len(in_flight), len(lost))


def _settle(server: EmulatorServer) -> None:
    """Wait until the server has read what dead processes have sent."""
    count = -1
    while count != len(server.ledger.requests):
        count = len(server.ledger.requests)
        time.sleep(1.0)


def main() -> None:
    """Kill a client with a spool again and again, and tell what became of its signals."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--signals", type=int, default=2000)
    parser.add_argument("--kind", choices=KINDS, default="threads")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--without", action="store_true", help="without a spool")
    options = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)  # the emulator's thread does not outlive the fork
    began_at = time.monotonic()
    with tempfile.TemporaryDirectory() as directory, emulator() as server:
        books = campaign(
            options.directory or Path(directory),
            server,
            kind=options.kind,
            times=options.times,
            signals=options.signals,
            seed=options.seed,
            is_spooled=not options.without,
        )
        print(f"kills={books.kills} (while recording: {books.kills_while_recording})")
        print(f"requests={len(server.ledger.requests)} faults={dict(server.faults.counts)}")
        if options.without:
            _settle(server)
            print(check_losses(books, server))
        else:
            check_billed_once(books, server)
            print(
                f"acknowledged={len(books.acknowledged)} adopted={books.adopted} "
                f"repeats={server.ledger.counters.repeats} lost=0 doubled=0"
            )
    print(f"{time.monotonic() - began_at:.0f} s")


if __name__ == "__main__":
    main()
