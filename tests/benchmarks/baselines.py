"""Bare h11 loops: what a program does that only wants its requests answered, written plainly.

They send the headers that the library sends, and look at the status. They hold no signal, read no JSON, retry
nothing, know no deadline, and trust every connection.
"""

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Sequence

import h11
import trio

from clocknext_core.config import USER_AGENT
from tests.benchmarks.rounds import Figure, Stopwatch
from tests.benchmarks.typical import API_KEY, PATH

HOST = "127.0.0.1"
CHUNK = 65536

HEADERS = [
    ("Host", HOST),
    ("Authorization", f"Bearer {API_KEY}"),
    ("Accept", "application/json"),
    ("Accept-Encoding", "identity"),
    ("User-Agent", USER_AGENT),
    ("Content-Type", "application/json"),
]


class Bare:
    """One connection's h11."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT)

    def request(self, body: bytes) -> bytes:
        """Return the bytes of a request."""
        headers = [*HEADERS, ("Content-Length", str(len(body)))]
        parts = (
            self._http.send(h11.Request(method="POST", target=PATH, headers=headers)),
            self._http.send(h11.Data(data=body)),
            self._http.send(h11.EndOfMessage()),
        )
        return b"".join(part for part in parts if part)

    def is_answered(self, data: bytes) -> bool:
        """Take bytes; tell whether the answer is complete."""
        self._http.receive_data(data)
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                return False
            if isinstance(event, h11.Response) and event.status_code != 200:
                raise RuntimeError(f"The server answered {event.status_code}.")
            if isinstance(event, h11.EndOfMessage):
                self._http.start_next_cycle()
                return True


class BlockingConnection:
    """One socket."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._bare = Bare()

    def post(self, body: bytes) -> None:
        """Send a request and read the answer."""
        self._socket.sendall(self._bare.request(body))
        while not self._bare.is_answered(self._socket.recv(CHUNK)):
            pass

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class AsyncioConnection:
    """One pair of asyncio's streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._bare = Bare()

    @classmethod
    async def open(cls, port: int) -> "AsyncioConnection":
        """Connect."""
        return cls(*await asyncio.open_connection(HOST, port))

    async def post(self, body: bytes) -> None:
        """Send a request and read the answer."""
        self._writer.write(self._bare.request(body))
        while not self._bare.is_answered(await self._reader.read(CHUNK)):
            pass

    async def close(self) -> None:
        """Close it."""
        self._writer.close()
        await self._writer.wait_closed()


class TrioConnection:
    """One stream of trio's."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._bare = Bare()

    @classmethod
    async def open(cls, port: int) -> "TrioConnection":
        """Connect."""
        return cls(await trio.open_tcp_stream(HOST, port))

    async def post(self, body: bytes) -> None:
        """Send a request and read the answer."""
        await self._stream.send_all(self._bare.request(body))
        while not self._bare.is_answered(bytes(await self._stream.receive_some(CHUNK))):
            pass

    async def close(self) -> None:
        """Close it."""
        await self._stream.aclose()


def drain_in_threads(port: int, bodies: Sequence[bytes], concurrency: int) -> Figure:
    """Post all, in so many threads with a warm connection each."""
    pending = deque(bodies)
    connections = [BlockingConnection(port) for _ in range(concurrency)]

    def work(connection: BlockingConnection) -> None:
        while True:
            try:
                body = pending.popleft()
            except IndexError:
                return
            connection.post(body)

    for connection in connections:
        connection.post(bodies[0])
    threads = [threading.Thread(target=work, args=(connection,)) for connection in connections]
    watch = Stopwatch()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    figure = watch.per(len(bodies))
    for connection in connections:
        connection.close()
    return figure


def drain_in_asyncio(port: int, bodies: Sequence[bytes], concurrency: int) -> Figure:
    """Post all, in so many tasks with a warm connection each."""

    async def work(connection: AsyncioConnection, pending: deque[bytes]) -> None:
        while pending:
            await connection.post(pending.popleft())

    async def drain() -> Figure:
        pending = deque(bodies)
        connections = [await AsyncioConnection.open(port) for _ in range(concurrency)]
        for connection in connections:
            await connection.post(bodies[0])
        watch = Stopwatch()
        await asyncio.gather(*(work(connection, pending) for connection in connections))
        figure = watch.per(len(bodies))
        for connection in connections:
            await connection.close()
        return figure

    return asyncio.run(drain())


def drain_in_trio(port: int, bodies: Sequence[bytes], concurrency: int) -> Figure:
    """Post all, in so many tasks with a warm connection each."""

    async def work(connection: TrioConnection, pending: deque[bytes]) -> None:
        while pending:
            await connection.post(pending.popleft())

    async def drain() -> Figure:
        pending = deque(bodies)
        connections = [await TrioConnection.open(port) for _ in range(concurrency)]
        for connection in connections:
            await connection.post(bodies[0])
        watch = Stopwatch()
        async with trio.open_nursery() as nursery:
            for connection in connections:
                nursery.start_soon(work, connection, pending)
        figure = watch.per(len(bodies))
        for connection in connections:
            await connection.close()
        return figure

    return trio.run(drain)
