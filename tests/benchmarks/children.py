"""What runs in a process of its own: `python -m tests.benchmarks.children NAME ARGUMENT...`."""

import asyncio
import gc
import json
import re
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import trio

from clocknext_core import Config, CreditSignal, EncodedSignal, Engine, Response, Transmit
from clocknext_core.outputs import Delivered
from clocknext_core.signals import encode
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from tests.benchmarks.ours import NOWHERE
from tests.benchmarks.processes import discard_log
from tests.benchmarks.typical import API_KEY, arguments, holding

ANSWER = b'{"statusCode":200,"statusDetail":{"status":"SUCCESS","message":"OK"},"result":{"usageLog":null}}'
BUSY = b'{"statusCode":503,"statusDetail":{"status":"ERROR","message":"Busy."},"result":{}}'
SLOW = "slow"
"""The model whose signals are answered after `SLOW_SECONDS`; others after `QUICK_SECONDS`."""
REFUSING = "refusing"
"""The model whose signals are answered 503 twice, as quickly as others, before they are taken."""
SLOW_SECONDS = 1.0
QUICK_SECONDS = 0.005

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_KEY = re.compile(rb'"idempotencyKey":"([^"]+)"')


def hold(held: int, batch: int, batches: int) -> None:
    """Hold so many signals, and for each line of input tell the seconds of each step of a signal more.

    The steps are measured on `batches` times `batch` signals: that many are recorded, which makes `held`,
    polled for, answered, and polled for again.
    """
    engine = Engine(
        Config(API_KEY, base_url=NOWHERE, batch=replace(holding(batch), max_size=1)),
        rng=_Even(),
        make_key=lambda: uuid4().hex,
    )
    outbox = engine.outbox
    answer = Response(200, [("Content-Type", "application/json")], ANSWER)

    def encoded(number: int) -> EncodedSignal:
        return encode(CreditSignal(**arguments(number)), engine.make_key)

    began = time.perf_counter()
    for number in range(held - batch):
        outbox.record(encoded(number), now=0.0)
    filling = (time.perf_counter() - began) / (held - batch)
    print(json.dumps({"filling": filling}), flush=True)
    for _ in sys.stdin:
        steps = {"record": 0.0, "poll": 0.0, "handle_answer": 0.0}
        gc.collect()
        for _ in range(batches):
            signals = [encoded(number) for number in range(batch)]
            recording_at = time.perf_counter()
            for signal in signals:
                outbox.record(signal, now=0.0)
            polling_at = time.perf_counter()
            sent = [outbox.poll(now=0.0) for _ in range(batch)]
            tickets = [each.ticket for each in sent if isinstance(each, Transmit)]
            answering_at = time.perf_counter()
            for ticket in tickets:
                outbox.handle_answer(ticket, answer, now=0.0)
            polling_again_at = time.perf_counter()
            told = [outbox.poll(now=0.0) for _ in range(batch)]
            ended_at = time.perf_counter()
            assert len(tickets) == batch
            assert all(isinstance(each, Delivered) for each in told)
            steps["record"] += polling_at - recording_at
            steps["poll"] += answering_at - polling_at + ended_at - polling_again_at
            steps["handle_answer"] += polling_again_at - answering_at
        print(json.dumps({step: spent / (batch * batches) for step, spent in steps.items()}), flush=True)


class _Even:
    """Randomness that nothing here depends on."""

    def random(self) -> float:
        return 0.5


def weigh(held: int) -> None:
    """Tell how many KiB of memory each of so many signals takes that a client holds."""
    client = ClockNext(API_KEY, base_url=NOWHERE, batch=holding())
    for number in range(1000):
        client.signals.credit(**arguments(number))
    before = _resident()
    for number in range(held):
        client.signals.credit(**arguments(number))
    print(json.dumps((_resident() - before) / held / 1024), flush=True)
    client.close(timeout=0)


def _resident() -> int:
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("The system does not tell how much memory a process takes.")


def idle(world: str, url: str) -> None:
    """Deliver a signal, and then have nothing to do until the input ends."""
    {"threads": _idle_in_threads, "asyncio": _idle_in_asyncio, "trio": _idle_in_trio}[world](url)


def _idle_in_threads(url: str) -> None:
    with ClockNext(API_KEY, base_url=url) as client:
        client.signals.credit(**arguments(0))
        client.flush()
        print("idle", flush=True)
        sys.stdin.read()


def _idle_in_asyncio(url: str) -> None:
    async def run() -> None:
        async with AsyncClockNext(API_KEY, base_url=url) as client:
            await client.signals.credit(**arguments(0))
            await client.flush()
            ended = asyncio.Event()
            asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
            print("idle", flush=True)
            await ended.wait()

    asyncio.run(run())


def _idle_in_trio(url: str) -> None:
    async def run() -> None:
        async with TrioClockNext(API_KEY, base_url=url) as client:
            await client.signals.credit(**arguments(0))
            await client.flush()
            print("idle", flush=True)
            await trio.lowlevel.wait_readable(sys.stdin)

    trio.run(run)


def serve_slowly() -> None:
    """Answer each request when its time is over, counted from when it came.

    In a thread for each connection: a sleep is the exactest timer. The answer is ready before it.
    """
    attempts: Counter[bytes] = Counter()

    def answer(body: bytes) -> tuple[int, bytes]:
        key = _KEY.search(body)
        if f'"model":"{REFUSING}"'.encode() not in body or key is None:
            return 200, ANSWER
        attempts[key[1]] += 1
        return (503, BUSY) if attempts[key[1]] <= 2 else (200, ANSWER)

    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = Requests()
        while data := connection.recv(65536):
            came_at = time.monotonic()
            for body in received.take(data):
                answered = response(*answer(body))
                seconds = SLOW_SECONDS if f'"model":"{SLOW}"'.encode() in body else QUICK_SECONDS
                time.sleep(max(0.0, came_at + seconds - time.monotonic()))
                connection.sendall(answered)
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


def serve_constantly(descriptor: int, seconds: float = 0.0, certificate: str | None = None) -> None:
    """Answer all requests alike, on a socket that listens already and other processes may share.

    Args:
        descriptor: The socket's.
        seconds: How long each answer takes.
        certificate: A PEM file with a key and its certificates. Without one, plain HTTP.
    """

    class Answering(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self._transport = transport
            self._received = Requests()

        def data_received(self, data: bytes) -> None:
            for _ in self._received.take(data):
                if seconds:
                    asyncio.get_running_loop().call_later(seconds, self._transport.write, CONSTANT)
                else:
                    self._transport.write(CONSTANT)

    async def run() -> None:
        listener = socket.socket(fileno=descriptor)
        context = None
        if certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate)
        server = await asyncio.get_running_loop().create_server(Answering, sock=listener, ssl=context)
        await server.serve_forever()

    asyncio.run(run())


class Requests:
    """The requests of one connection, as far as these servers read them: by their length."""

    def __init__(self) -> None:
        self._unread = b""

    def take(self, data: bytes) -> list[bytes]:
        """Take bytes, and return the body of each request that is now complete."""
        self._unread += data
        bodies: list[bytes] = []
        while (head_end := self._unread.find(b"\r\n\r\n") + 4) > 3:
            length = _LENGTH.search(self._unread, 0, head_end)
            end = head_end + (0 if length is None else int(length[1]))
            if len(self._unread) < end:
                break
            bodies.append(self._unread[head_end:end])
            self._unread = self._unread[end:]
        return bodies


def response(status: int, body: bytes) -> bytes:
    """Make the bytes of a response."""
    head = f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


CONSTANT = response(200, ANSWER)


def main(name: str, *words: str) -> None:
    """Run the child of that name."""
    match name, words:
        case "hold", (held, batch, batches):
            hold(int(held), int(batch), int(batches))
        case "weigh", (held,):
            weigh(int(held))
        case "idle", (world, url):
            idle(world, url)
        case "serve-slowly", ():
            serve_slowly()
        case "serve-constantly", (descriptor, seconds, *certificate):
            serve_constantly(int(descriptor), float(seconds), *certificate)
        case _:
            raise SystemExit(f"no such child: {name} {' '.join(words)}")


if __name__ == "__main__":
    discard_log()
    main(*sys.argv[1:])
