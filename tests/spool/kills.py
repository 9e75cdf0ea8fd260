"""Processes with a spool, killed at numbered points, one after the other in the same directory.

Each adopts what the ones before it left, appends and erases, and writes what was acknowledged to a pipe, for
that outlives it. It is killed with SIGKILL at the start of its n-th SQL statement or, every other one, by its
parent after so many acknowledgements, wherever it then is.

    python -m tests.spool.kills --times 200
"""

import argparse
import os
import random
import signal
import sqlite3
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clocknext_core import Adopt, EncodedSignal, Erase, SpoolError, Store
from clocknext_transports.spool import Problem, SpoolWriter, Stored
from clocknext_transports.spool.files import database
from tests.spool.support import NOW, adopted, keys, opened, stored

SIGNALS = 120
"""How many a process appends at most."""
MAX_STATEMENTS = 900


@dataclass
class Books:
    """What the processes said."""

    attempted: set[str] = field(default_factory=set[str])
    acknowledged: set[str] = field(default_factory=set[str])
    erased: set[str] = field(default_factory=set[str])
    adopted: int = 0
    killed: int = 0

    def read(self, line: str) -> None:
        mark, _, key = line.partition(" ")
        if mark == "?":
            self.attempted.add(key)
        elif mark == "+":
            self.acknowledged.add(key)
        elif mark == "-":
            self.erased.add(key)
        else:
            assert mark == "<", f"the process said {line!r}"
            self.adopted += 1

    @property
    def kept(self) -> set[str]:
        """What must be there. What was being erased may be."""
        return self.acknowledged - self.erased


def live(path: Path, number: int, said: int, kill_at: int | None) -> None:
    """Be one of the processes: adopt, append, erase."""
    statements = 0

    def count(_: str) -> None:
        nonlocal statements
        statements += 1
        if statements == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
        connection = real_connect(path, read_only=read_only)
        connection.set_trace_callback(count)
        return connection

    real_connect, database.connect = database.connect, connect
    rng = random.Random(number)
    told = threading.Semaphore(8)  # so many appends are under way at most

    def say(mark: str, key: str) -> None:
        os.write(said, f"{mark} {key}\n".encode())

    def broken(problem: Problem) -> None:
        say("!", problem.message)

    def have_stored(duty: Store, failed: SpoolError | None) -> None:
        key = duty.signal.idempotency_key
        say("!" if failed else "+", failed.message if failed else key)
        if rng.random() < 0.4:
            say("-", key)
            writer.put(Erase(key))
        told.release()

    def have_adopted(found: Sequence[Stored] | SpoolError, left_behind: int) -> None:
        del left_behind
        assert not isinstance(found, SpoolError)
        for key in keys(found):
            say("<", key)
            if rng.random() < 0.5:
                say("-", key)
                writer.put(Erase(key))

    writer = SpoolWriter(
        opened(path), on_stored=have_stored, on_adopted=have_adopted, on_problem=broken, wall=lambda: NOW
    )
    for one in range(SIGNALS):
        if one % 40 == 0:
            writer.put(Adopt(30))
        signal_ = stored(f"{number}-{one}")
        told.acquire()
        say("?", signal_.idempotency_key)
        writer.put(Store(one, EncodedSignal(signal_.idempotency_key, "wallet", signal_.body)))
    signal.pause()  # all is done; the parent puts an end to it


def follow(path: Path, books: Books, number: int, rng: random.Random) -> None:
    """Start a process and see it killed."""
    heard, said = os.pipe()
    kill_at = rng.randrange(1, MAX_STATEMENTS) if number % 2 else None
    kill_after = None if number % 2 else rng.randrange(1, SIGNALS)
    child = os.fork()
    if child == 0:
        os.close(heard)
        try:
            live(path, number, said, kill_at)
        finally:
            os._exit(1)
    os.close(said)
    acknowledged = 0
    with os.fdopen(heard) as lines:
        for line in lines:
            books.read(line.rstrip("\n"))
            acknowledged += line.startswith("+")
            if acknowledged == (SIGNALS if kill_after is None else kill_after):
                os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"process {number} ended by itself: {status}"
    assert os.WTERMSIG(status) == signal.SIGKILL
    books.killed += 1


def campaign(path: Path, times: int, seed: int) -> Books:
    """Kill so many processes, then look what is there.

    Raises:
        AssertionError: Something acknowledged is lost, or something is there that nobody wrote.
    """
    books = Books()
    rng = random.Random(seed)
    for number in range(times):
        follow(path, books, number, rng)
    spool = opened(path)
    signals, problems = adopted(spool)
    assert problems == [], problems
    found: dict[str, Stored] = {one.idempotency_key: one for one in signals}
    assert books.kept <= found.keys(), f"lost: {sorted(books.kept - found.keys())}"
    assert found.keys() <= books.attempted, f"invented: {sorted(found.keys() - books.attempted)}"
    for key, one in found.items():
        assert one == stored(key.removeprefix("key-"))
    spool.erase(keys(signals))
    spool.close()
    assert [*path.iterdir()] == [], "files were left"
    return books


def main() -> None:
    """Kill processes and tell what became of their signals."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(options.directory or directory) / "spool"
        books = campaign(path, options.times, options.seed)
    print(
        f"killed={books.killed} acknowledged={len(books.acknowledged)} kept={len(books.kept)} "
        f"adopted={books.adopted} lost=0"
    )


if __name__ == "__main__":
    main()
