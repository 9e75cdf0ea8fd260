"""What the tests of the transports share: a raw peer on loopback, and every transport behind one face."""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol, Self, TypeAlias, TypedDict, TypeVar, Unpack, get_args

import anyio
import anyio.from_thread
import pytest
import trustme

from clocknext_core import (
    Answer,
    BatchPolicy,
    Config,
    FlushReport,
    Operation,
    Origin,
    Request,
    RetryPolicy,
    Signal,
    TrackResult,
)
from clocknext_core.signals import encode
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.asyncio import NativeTransport as AsyncioTransport
from clocknext_transports.http11 import MAX_ANSWER_BYTES
from clocknext_transports.httpx import AsyncHttpxTransport, HttpxTransport
from clocknext_transports.sync import NativeTransport as SyncTransport
from clocknext_transports.trio import NativeTransport as TrioTransport

T = TypeVar("T")

KEY = "cnk_test_5ecret/+key"
"""The API key of every test: it must turn up in no message, repr or log."""

PATIENCE = 20.0
"""Seconds after which a peer or a transport gives up, so that a broken test ends."""
SOON = 5.0
"""Seconds that count as at once on a busy machine: far below what the peers hold out."""

JSON = b'{"ok": true}'

Native: TypeAlias = Literal["sync", "asyncio", "trio"]
Kind: TypeAlias = Literal[
    "sync",
    "asyncio",
    "trio",
    "httpx",
    "httpx-asyncio",
    "httpx-trio",
    "httpx2",
    "httpx2-asyncio",
    "httpx2-trio",
]
NATIVE: tuple[Native, ...] = ("sync", "asyncio", "trio")
KINDS: tuple[Kind, ...] = get_args(Kind)


# Requests and answers


def request(
    url: str,
    *,
    method: str = "POST",
    target: str = "/api/v1/usage",
    body: bytes | None = b"{}",
    safe: bool = True,
) -> Request:
    """Make a request to an origin, with the headers a client sends."""
    config = Config(KEY, base_url=url, allow_insecure_http=True)
    headers = config.headers if body is None else config.json_headers
    return Request(method, config.path_prefix + target, config.origin, headers, body, safe)


def answer(
    body: bytes = JSON, *headers: str, status: str = "200 OK", version: str = "1.1", framed: bool = True
) -> bytes:
    """Make the bytes of an answer."""
    framing = [f"Content-Length: {len(body)}"] if framed else []
    return "\r\n".join([f"HTTP/{version} {status}", *headers, *framing, "", ""]).encode() + body


# The peer


@dataclass(frozen=True)
class Seen:
    """One request as the peer read it."""

    connection: int
    line: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def target(self) -> str:
        """The second word of the request line."""
        return self.line.split(" ")[1]


class Wire:
    """One connection, as the peer's script has it. What goes wrong with it ends the script quietly."""

    def __init__(self, peer: "Peer", sock: socket.socket, number: int) -> None:
        self.peer = peer
        self.sock = sock
        self.number = number
        self._buffer = b""

    def read(self) -> Seen:
        """Read the next request; `EOFError` when the client has closed."""
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (entry.split(": ", 1) for entry in fields)}
        length = int(headers.get("content-length", "0"))
        while len(self._buffer) < length:
            self._fill()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        seen = Seen(self.number, line, headers, body)
        self.peer.requests.append(seen)
        return seen

    def send(self, *parts: bytes) -> None:
        """Send all of it."""
        for part in parts:
            self.sock.sendall(part)

    def drip(self, data: bytes, pause: float = 0.02) -> None:
        """Send byte by byte until the client has had enough."""
        for byte in data:
            self.send(bytes([byte]))
            self.peer.stopped.wait(pause)

    def reset(self) -> None:
        """Close with a reset instead of an orderly end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()

    def wait_for_end(self) -> None:
        """Read whatever comes until the client closes."""
        with suppress(EOFError):
            while True:
                self._fill()

    def _fill(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self._buffer += data


Script: TypeAlias = Callable[[Wire], None]


class Peer:
    """A server that does to each connection what its script says, in a thread each.

    It ends by itself: every read has a time-out, and leaving the `with` block cuts every connection.
    """

    def __init__(self, script: Script, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self.tls = tls
        self._host = host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, 0), family=family, backlog=128)
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self.port: int = self._listening.getsockname()[1]
        self.requests: list[Seen] = []
        self.connections = 0
        self.ended = 0
        """Connections whose script is over."""
        self.handshake_errors: list[Exception] = []
        self.stopped = threading.Event()
        self._changed = threading.Condition()

    @property
    def url(self) -> str:
        """The base URL, by address."""
        return (
            f"{'http' if self.tls is None else 'https'}://{Origin('https', self._host, self.port).authority}"
        )

    def wait_ended(self, count: int) -> bool:
        """Wait until that many scripts are over."""
        with self._changed:
            return self._changed.wait_for(lambda: self.ended >= count, SOON)

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._threads[0].join(PATIENCE)
        self._listening.close()
        for sock in self._sockets:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def _spawn(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name="peer", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                self.connections += 1
                sock.settimeout(PATIENCE)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                number = self.connections
                self._sockets.append(sock)
                self._spawn(partial(self._converse, sock, number))

    def _converse(self, sock: socket.socket, number: int) -> None:
        try:
            if self.tls is not None:
                try:
                    sock = self.tls.wrap_socket(sock, server_side=True)
                except (OSError, ValueError) as error:
                    self.handshake_errors.append(error)
                    return
                self._sockets.append(sock)
            with suppress(OSError, EOFError):
                self._script(Wire(self, sock, number))
        finally:
            sock.close()
            with self._changed:
                self.ended += 1
                self._changed.notify_all()


def keep_answering(*parts: bytes) -> Script:
    """Make a script that answers every request of a connection alike."""

    def script(wire: Wire) -> None:
        while True:
            wire.read()
            wire.send(*parts or (answer(),))

    return script


def answer_once(*parts: bytes) -> Script:
    """Make a script that answers one request and closes."""

    def script(wire: Wire) -> None:
        wire.read()
        wire.send(*parts or (answer(),))

    return script


def answer_and_hold(*parts: bytes) -> Script:
    """Make a script that answers one request and waits for the client to close."""

    def script(wire: Wire) -> None:
        wire.read()
        wire.send(*parts or (answer(),))
        wire.wait_for_end()

    return script


@contextmanager
def closed_port() -> Generator[str, None, None]:
    """Give the URL of a port nobody listens on, and nobody else gets meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


# The transports


class Carrier(Protocol):
    """A transport of any kind, to be called from any thread."""

    def __call__(self, request: Request, /, *, timeout: float = PATIENCE) -> Answer:
        """Carry one request."""
        ...


@contextmanager
def carrier(
    kind: Kind,
    *,
    max_idle: int = 5,
    max_answer_bytes: int = MAX_ANSWER_BYTES,
    ssl_context: ssl.SSLContext | None = None,
) -> Generator[Carrier, None, None]:
    """Open a transport, with an event loop in a thread of its own where it needs one."""
    with ExitStack() as stack:
        package = pytest.importorskip(kind.partition("-")[0]) if kind.startswith("httpx") else None
        if kind in ("sync", "httpx", "httpx2"):
            blocking: SyncTransport | HttpxTransport
            if package is None:
                blocking = SyncTransport(
                    max_idle=max_idle, max_answer_bytes=max_answer_bytes, ssl_context=ssl_context
                )
            else:
                client = stack.enter_context(package.Client(verify=ssl_context or True, trust_env=False))
                blocking = HttpxTransport(client, max_answer_bytes=max_answer_bytes)
            stack.callback(blocking.close)

            def carry_here(request: Request, *, timeout: float = PATIENCE) -> Answer:
                return blocking.exchange(request, deadline_at=time.monotonic() + timeout)

            yield carry_here
            return
        backend = "trio" if kind.endswith("trio") else "asyncio"
        portal = stack.enter_context(anyio.from_thread.start_blocking_portal(backend))
        transport: AsyncioTransport | TrioTransport | AsyncHttpxTransport
        if package is None:
            native = AsyncioTransport if kind == "asyncio" else TrioTransport
            transport = native(max_idle=max_idle, max_answer_bytes=max_answer_bytes, ssl_context=ssl_context)
        else:
            async_client = package.AsyncClient(verify=ssl_context or True, trust_env=False)
            stack.callback(portal.call, async_client.aclose)
            transport = AsyncHttpxTransport(async_client, max_answer_bytes=max_answer_bytes)
        stack.callback(portal.call, transport.aclose)

        async def carry(request: Request, timeout: float) -> Answer:
            return await transport.exchange(request, deadline_at=anyio.current_time() + timeout)

        def carry_there(request: Request, *, timeout: float = PATIENCE) -> Answer:
            return portal.call(carry, request, timeout)

        yield carry_there


# The clients


class Client(Protocol):
    """A client of any kind, to be called from any thread."""

    def run(self, operation: Operation[T], /) -> T:
        """Carry out an operation."""
        ...

    def record(self, signal: Signal, /, *, wait: bool = False) -> TrackResult:
        """Record a signal."""
        ...

    def close(self, timeout: float, /) -> FlushReport:
        """Close the client."""
        ...


class Options(TypedDict, total=False):
    """What a test may set of a client."""

    timeout: float
    batch: BatchPolicy
    retry: RetryPolicy
    allow_insecure_http: bool


SENT_AT_ONCE = BatchPolicy(max_size=1)


class BlockingClient:
    """The client for threads, as it is."""

    def __init__(self, client: ClockNext) -> None:
        self._client = client

    def run(self, operation: Operation[T], /) -> T:
        """Carry out an operation."""
        return self._client.run(operation)

    def record(self, signal: Signal, /, *, wait: bool = False) -> TrackResult:
        """Record a signal."""
        return self._client.record(encode(signal, self._client.make_key), wait)

    def close(self, timeout: float, /) -> FlushReport:
        """Close the client."""
        return self._client.close(timeout)


class PortalClient:
    """A client of an event loop in another thread."""

    def __init__(
        self, client: AsyncClockNext | TrioClockNext, portal: anyio.from_thread.BlockingPortal
    ) -> None:
        self._client = client
        self._portal = portal

    def run(self, operation: Operation[T], /) -> T:
        """Carry out an operation."""
        return self._portal.call(self._client.run, operation)

    def record(self, signal: Signal, /, *, wait: bool = False) -> TrackResult:
        """Record a signal."""
        return self._portal.call(self._client.record, encode(signal, self._client.make_key), wait)

    def close(self, timeout: float, /) -> FlushReport:
        """Close the client."""
        return self._portal.call(self._client.close, timeout)


@contextmanager
def client(
    kind: Native,
    url: str | None = None,
    *,
    api_key: str = KEY,
    ssl_context: ssl.SSLContext | None = None,
    **options: Unpack[Options],
) -> Generator[Client, None, None]:
    """Open a client that sends each signal at once, with its own transport or a TLS context of ours."""
    options = {"batch": SENT_AT_ONCE, "timeout": PATIENCE, **options}
    if kind == "sync":
        native = None if ssl_context is None else SyncTransport(ssl_context=ssl_context)
        with ClockNext(api_key, base_url=url, transport=native, **options) as blocking:
            yield BlockingClient(blocking)
        return
    with anyio.from_thread.start_blocking_portal(kind) as portal:
        made: AsyncClockNext | TrioClockNext
        if kind == "asyncio":
            asyncio_native = None if ssl_context is None else AsyncioTransport(ssl_context=ssl_context)
            made = AsyncClockNext(api_key, base_url=url, transport=asyncio_native, **options)
        else:
            trio_native = None if ssl_context is None else TrioTransport(ssl_context=ssl_context)
            made = TrioClockNext(api_key, base_url=url, transport=trio_native, **options)
        with portal.wrap_async_context_manager(made):
            yield PortalClient(made, portal)


# Certificates


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Make a client's context that trusts one authority alone."""
    return ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())


def serving(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """Make a server's context with a certificate for some names."""
    issued = authority.issue_cert(*names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with issued.private_key_and_cert_chain_pem.tempfile() as path:
        context.load_cert_chain(path)
    return context
