"""What the tests of process life share: children, programs, and a server that tells what it was sent."""

import asyncio
import ctypes
import json
import logging
import os
import select
import signal as signals
import socket
import stat
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias, TypeVar

import trio

from clocknext_core import BatchPolicy
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.sync import NativeTransport
from tests.transports.support import KEY, PATIENCE, Peer, keep_answering

T = TypeVar("T")

Kind: TypeAlias = Literal["threads", "asyncio", "trio"]
KINDS: tuple[Kind, ...] = ("threads", "asyncio", "trio")

PATIENT = BatchPolicy(max_size=1000, max_interval=3600.0)
"""Sends on flush and close only."""
AT_ONCE = BatchPolicy(max_size=1)


# Clients


AnyClient: TypeAlias = ClockNext | AsyncClockNext | TrioClockNext


def make_client(kind: Kind, url: str, batch: BatchPolicy = PATIENT) -> AnyClient:
    """Make a client of any kind."""
    if kind == "threads":
        return ClockNext(KEY, base_url=url, batch=batch)
    if kind == "asyncio":
        return AsyncClockNext(KEY, base_url=url, batch=batch)
    return TrioClockNext(KEY, base_url=url, batch=batch)


def hold(client: AnyClient, *keys: str) -> None:
    """Record signals, and leave them held; loops end meanwhile."""
    if isinstance(client, ClockNext):
        for key in keys:
            client.signals.wallet(customer_id="cus_1", model="m", idempotency_key=key)
        return

    async def record() -> None:
        for key in keys:
            await client.signals.wallet(customer_id="cus_1", model="m", idempotency_key=key)

    async def cancelled() -> None:
        assert isinstance(client, TrioClockNext)
        with trio.CancelScope() as scope:
            async with client:
                await record()
                scope.cancel()

    if isinstance(client, AsyncClockNext):
        asyncio.run(record())
    else:
        trio.run(cancelled)


def deliver(client: AnyClient) -> int:
    """Deliver what is held, and return how much that was."""
    if isinstance(client, ClockNext):
        return client.flush().delivered

    async def flush() -> int:
        async with client:
            return (await client.flush()).delivered

    return trio.run(flush) if isinstance(client, TrioClockNext) else asyncio.run(flush())


def close(client: AnyClient) -> None:
    """Close a client."""
    if isinstance(client, ClockNext):
        client.close()
        return

    async def end() -> None:
        async with client:
            await client.close()

    if isinstance(client, TrioClockNext):
        trio.run(end)
    else:
        asyncio.run(end())


def look(client: AnyClient) -> None:
    """Make a foreground call, over a connection that is kept where it can be."""
    if isinstance(client, ClockNext):
        client.customers.get("cus_1")
        return

    async def get() -> None:
        await client.customers.get("cus_1")

    if isinstance(client, TrioClockNext):
        trio.run(get)
    else:
        asyncio.run(get())


def keys(peer: Peer) -> Counter[str]:
    """Count the requests by idempotency key."""
    return Counter(json.loads(seen.body)["idempotencyKey"] for seen in peer.requests if seen.body)


# Children


CHILD_PATIENCE = 3 * PATIENCE
"""Longest wait for a child, seconds: an attempt of it may time out, and be repeated."""


class Child:
    """A forked child that does something in a thread of its own, tells what came of it, and ends.

    Args:
        work: What it does.
        fork: How to fork.
    """

    def __init__(self, work: Callable[[], object], fork: Callable[[], int] = os.fork) -> None:
        self._told, telling = os.pipe()
        self.pid = fork()
        if self.pid == 0:
            _be_child(work, telling)
        os.close(telling)

    def result(self) -> Any:
        """Wait for its end, and return what it told."""
        told = b""
        give_up_at = time.monotonic() + CHILD_PATIENCE + PATIENCE
        try:
            while True:
                ready, _, _ = select.select([self._told], [], [], max(0.0, give_up_at - time.monotonic()))
                assert ready, "the child hangs"
                chunk = os.read(self._told, 65536)
                if not chunk:
                    break
                told += chunk
        except BaseException:
            os.kill(self.pid, signals.SIGKILL)
            raise
        finally:
            os.close(self._told)
            _, status = os.waitpid(self.pid, 0)
        outcome = json.loads(told or b'{"error": "it told nothing"}')
        assert "error" not in outcome, outcome["error"]
        assert os.waitstatus_to_exitcode(status) == 0
        return outcome["result"]


def fork_from_c() -> int:
    """Fork as C code does that tells Python nothing, such as uWSGI's.

    No other thread waits for the interpreter's lock meanwhile: the child would wait for ever for one that is
    not there to take it.
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)
    _await_rest()
    try:
        return int(ctypes.PyDLL(None).fork())
    finally:
        sys.setswitchinterval(usual)


def _await_rest() -> None:
    """Wait until all other threads of this process sleep: none has run for a while."""
    give_up_at = time.monotonic() + PATIENCE
    before, now = {"": ""}, _runs()
    while now != before:
        assert time.monotonic() < give_up_at, "another thread does not rest"
        time.sleep(0.02)
        before, now = now, _runs()


def _runs() -> dict[str, str]:
    """Return how often each other thread has run, as far as the system tells."""
    counts: dict[str, str] = {}
    for task in Path("/proc/self/task").glob("*"):
        with suppress(OSError):  # it ends
            if task.name != str(threading.get_native_id()):
                counts[task.name] = (task / "schedstat").read_text()
    return counts


def _be_child(work: Callable[[], object], telling: int) -> NoReturn:
    # The file that pytest logs to has a lock that a thread of the parent may have held: see process-life.md.
    root = logging.getLogger()
    root.handlers[:] = [each for each in root.handlers if not isinstance(each, logging.FileHandler)]
    # In a thread: trio remembers the parent's run for the thread that forked.
    outcome: dict[str, object] = {}

    def carry_out() -> None:
        try:
            outcome["result"] = work()
        except BaseException:  # noqa: BLE001 - raised where the result is asked for
            outcome["error"] = traceback.format_exc()

    try:
        worker = threading.Thread(target=carry_out, daemon=True)
        worker.start()
        worker.join(CHILD_PATIENCE)
        told = outcome or {"error": f"It did not come to an end in time.\n{_stacks()}"}
        os.write(telling, json.dumps(told).encode())
    finally:
        os._exit(0)


def _stacks() -> str:
    """Tell where every thread is."""
    stacks = ["".join(traceback.format_stack(frame)) for frame in sys._current_frames().values()]  # pyright: ignore[reportPrivateUsage]
    return "\n".join(stacks)


# Programs


@dataclass(frozen=True)
class Ended:
    """What came of a program."""

    code: int
    output: str
    errors: str
    elapsed: float
    """Seconds it took."""


PROLOGUE = """
import asyncio, gc, logging, os, signal, sys, threading, trio
logging.basicConfig(format="%(name)s %(levelname)s %(message)s")
from clocknext_core import BatchPolicy, RetryPolicy
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.process import exit as atexit
atexit.EXIT_TIMEOUT = float(os.environ.get("EXIT_TIMEOUT", "5"))
KEY, URL = os.environ["KEY"], os.environ["URL"]
WALLET = {"customer_id": "cus_1", "model": "m"}
"""


class Program:
    """A Python program in a process of its own; it is killed if it does not end.

    Args:
        source: The program; it goes on from a prologue that imports what these need.
        url: Where its clients send to.
        prologue: What comes before it.
        environment: What else it finds in its environment.
    """

    def __init__(self, source: str, url: str, prologue: str = PROLOGUE, **environment: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self._began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-W", "default", "-c", prologue + source],
            env=clean | {"KEY": KEY, "URL": url} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # what it forked ends with it, and with that the pipes
        )

    def wait_line(self) -> str:
        """Wait until it prints a line, and return that."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        assert ready, "the program says nothing"
        return self.process.stdout.readline().strip()

    def end(self) -> Ended:
        """Wait for its end."""
        try:
            output, errors = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signals.SIGKILL)
            output, errors = self.process.communicate()
            raise AssertionError(f"The program hangs.\n{errors}") from None
        assert KEY not in output + errors
        return Ended(self.process.returncode, output, errors, time.monotonic() - self._began)


def run(source: str, url: str, prologue: str = PROLOGUE, **environment: str) -> Ended:
    """Run a program to its end."""
    return Program(source, url, prologue, **environment).end()


# What a process has


def descriptors() -> int:
    """Count this process's open files and sockets."""
    return len(os.listdir("/proc/self/fd"))


def workers() -> list[threading.Thread]:
    """List the threads of all clients."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("clocknext")]


def wait_until(is_so: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Wait for what other threads will have done soon, and tell whether they did."""
    patience = threading.Event()
    give_up_at = time.monotonic() + seconds
    while not is_so() and time.monotonic() < give_up_at:
        patience.wait(0.002)
    return is_so()


@contextmanager
def held_by_another_thread(*locks: AbstractContextManager[object]) -> Generator[None, None, None]:
    """Have a thread hold locks for the length of a block. A child forked in it is without that thread."""
    taken, done = threading.Event(), threading.Event()

    def hold_locks() -> None:
        with ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            taken.set()
            done.wait(CHILD_PATIENCE)

    holder = threading.Thread(target=hold_locks)
    holder.start()
    try:
        assert taken.wait(PATIENCE)
        yield
    finally:
        done.set()
        holder.join()


def lock_of(client: ClockNext) -> AbstractContextManager[object]:
    """Return the lock that a client's machines are called under."""
    return client._driver._serving.lock  # pyright: ignore[reportPrivateUsage]


def check_fork_while_all_locks_are_held(fork: Callable[[], int]) -> None:
    """Fork while another thread holds every lock of a client and its transport: the child must not hang."""
    native = NativeTransport()
    with (
        Peer(keep_answering()) as peer,
        ClockNext(KEY, base_url=peer.url, batch=PATIENT, transport=native) as client,
    ):
        hold(client, "parent")

        def work() -> tuple[int, int]:
            hold(client, "child")
            return deliver(client), client.close().pending

        locks = lock_of(client), native._lock, native._pool._lock  # pyright: ignore[reportPrivateUsage]
        with held_by_another_thread(*locks):
            assert Child(work, fork).result() == [1, 0]
        assert client.flush().delivered == 1
        assert keys(peer) == {"parent": 1, "child": 1}


def connections_to(port: int) -> list[int]:
    """List this process's descriptors of connections to a port."""
    return [fd for fd in map(int, os.listdir("/proc/self/fd")) if is_connected_to(fd, port)]


def is_connected_to(descriptor: int, port: int) -> bool:
    """Whether a descriptor is that of a connection to a port."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            return bool(sock.getpeername() == ("127.0.0.1", port))
    except OSError:
        return False
