"""Blocking sockets: the native transport for threads."""

import select
import socket
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Protocol

from clocknext_core import Answer, Failure, Origin, Request, Response
from clocknext_transports.http11 import MAX_ANSWER_BYTES, Connect, Connection, Exchange, Pool, Receive, Send
from clocknext_transports.sync.clock import Clock
from clocknext_transports.tls import default_context

CHUNK = 65536


class Transport(Protocol):
    """Carries requests. Used by several threads at a time."""

    def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Send a request and return its answer, or the failure to get one, before the deadline.

        Args:
            request: What to send; redirects are not followed, and nothing is repeated.
            deadline_at: When to give up, on the clock of `time.monotonic`.
        """
        ...

    def close(self) -> None:
        """Close every connection, also those in use: their exchanges fail."""
        ...


class Stream:
    """One socket and its HTTP state."""

    def __init__(self, sock: socket.socket, connection: Connection) -> None:
        self.socket = sock
        self.connection = connection

    def send(self, data: bytes, timeout: float) -> None:
        """Send all of it."""
        self.socket.settimeout(timeout)
        self.socket.sendall(data)

    def receive(self, timeout: float) -> bytes:
        """Receive some."""
        self.socket.settimeout(timeout)
        return self.socket.recv(CHUNK)

    def is_stale(self) -> bool:
        """Whether there is anything to read, were it only the end."""
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            return True
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(0))

    def abort(self) -> None:
        """Close the socket."""
        self.socket.close()


class NativeTransport:
    """HTTP/1.1 over sockets and h11.

    Args:
        max_idle: Most idle connections kept.
        max_answer_bytes: A longer answer is a failure.
        ssl_context: Default: the system's trust store, host names checked.
        clock: Where deadlines are read.
    """

    def __init__(
        self,
        *,
        max_idle: int = 5,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        ssl_context: ssl.SSLContext | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._pool: Pool[Stream] = Pool(max_idle)
        self._busy: set[socket.socket] = set()
        """The sockets some thread connects, sends to or receives from right now."""
        self._is_closed = False
        self._lock = threading.Lock()
        self._max_answer_bytes = max_answer_bytes
        self._ssl_context = ssl_context
        self._clock = clock or Clock()

    def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Send a request and return its answer, or the failure to get one, before the deadline."""
        exchange = Exchange(request, self._pool)
        try:
            step = exchange.start()
            while not isinstance(step, Response | Failure):
                try:
                    result = self._take(step, deadline_at)
                except OSError as error:
                    step = exchange.fail(error)
                else:
                    step = exchange.resume(result)
            return step
        finally:
            exchange.close()

    def close(self) -> None:
        """Close every connection, also those in use: their exchanges fail."""
        with self._lock:
            self._is_closed = True
            for sock in self._busy:
                _interrupt(sock)
        self._pool.clear()

    def _take(
        self, step: Connect | Send[Stream] | Receive[Stream], deadline_at: float
    ) -> Stream | bytes | None:
        match step:
            case Connect():
                return self._connect(step.origin, deadline_at)
            case Send():
                with self._using(step.stream.socket):
                    step.stream.send(step.data, self._left(deadline_at))
                return None
            case Receive():
                with self._using(step.stream.socket):
                    return step.stream.receive(self._left(deadline_at))

    @contextmanager
    def _using(self, sock: socket.socket) -> Generator[None, None, None]:
        """Let `close` interrupt what happens to a socket meanwhile."""
        with self._lock:
            if self._is_closed:
                raise ConnectionAbortedError("the client was closed")
            self._busy.add(sock)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(sock)

    def _left(self, deadline_at: float) -> float:
        left = deadline_at - self._clock.now()
        if left <= 0:
            raise TimeoutError
        return left

    def _connect(self, origin: Origin, deadline_at: float) -> Stream:
        addresses = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        failed: OSError = OSError("the host name has no address")
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            # An address that swallows packets must leave time for the next one.
            timeout = self._left(deadline_at) / (len(addresses) - tried)
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(timeout)
                with self._using(sock):
                    sock.connect(address)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return self._secured(sock, origin, deadline_at)
            except OSError as error:
                sock.close()
                failed = error
            except BaseException:
                sock.close()
                raise
        raise failed

    def _secured(self, sock: socket.socket, origin: Origin, deadline_at: float) -> Stream:
        if origin.scheme == "https":
            if self._ssl_context is None:
                self._ssl_context = default_context()
            sock.settimeout(self._left(deadline_at))
            with self._using(sock):
                sock = self._ssl_context.wrap_socket(sock, server_hostname=origin.host)
        return Stream(sock, Connection(max_answer_bytes=self._max_answer_bytes))


def _interrupt(sock: socket.socket) -> None:
    """Wake the thread that waits for a socket; that thread closes it."""
    with suppress(OSError):  # not connected yet, or no more
        # Past SSLSocket.shutdown, which would pull its state away under the other thread.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
