"""Blocking sockets: the native transport for threads."""

import queue
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from clocknext_core import Answer, Origin, Request
from clocknext_transports.http11 import (
    ENDS,
    MAX_ANSWER_BYTES,
    TRUSTED_FOR,
    Connect,
    Connection,
    Exchange,
    Pool,
    Receive,
    Send,
)
from clocknext_transports.http11.sockets import Poller, end
from clocknext_transports.http11.tls import default_context
from clocknext_transports.sync.clock import Clock

if TYPE_CHECKING:
    import ssl

CHUNK = 65536

Addresses: TypeAlias = Sequence[tuple[int, int, int, str, Any]]


class Transport(Protocol):
    """Carries requests. Used by several threads at a time.

    A method `restart()`, where there is one, is called in a forked child, before anything else: it leaves the
    parent's connections alone, and begins anew.
    """

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
    """One socket and its HTTP state.

    The socket does not block, and is waited for only where it must be: every call that might block gives the
    interpreter's lock to another thread, and with many at work it is long until it comes back.
    """

    def __init__(self, sock: socket.socket, connection: Connection, clock: Clock) -> None:
        self.socket = sock
        self.connection = connection
        self._clock = clock
        self._used_at = clock.now()
        self._poller = Poller(sock)
        sock.settimeout(0)

    def send(self, data: bytes, timeout: float) -> None:
        """Send all of it."""
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self.socket.settimeout(timeout)
            self.socket.sendall(data[sent:])
            self.socket.settimeout(0)

    def receive(self, timeout: float) -> bytes:
        """Receive some."""
        data = self._read(timeout)
        self._used_at = self._clock.now()
        return data

    def _read(self, timeout: float) -> bytes:
        if not self._poller.is_readable(timeout):
            raise TimeoutError
        return self.socket.recv(CHUNK)

    def is_stale(self) -> bool:
        """Whether there is anything to read, were it only the end, or it has been idle for too long."""
        return self._clock.now() - self._used_at > TRUSTED_FOR or self._poller.is_readable()

    def abort(self) -> None:
        """Close the socket."""
        self.socket.close()


class SecureStream(Stream):
    """A socket with TLS: what it has to wait for, only its own methods know."""

    socket: "ssl.SSLSocket"

    def send(self, data: bytes, timeout: float) -> None:
        """Send all of it."""
        self.socket.settimeout(timeout)
        self.socket.sendall(data)

    def _read(self, timeout: float) -> bytes:
        self.socket.settimeout(timeout)
        return self.socket.recv(CHUNK)

    def is_stale(self) -> bool:
        """Whether it is stale as any socket, or holds bytes that were decrypted and not read."""
        return self.socket.pending() > 0 or super().is_stale()


class NativeTransport:
    """HTTP/1.1 over sockets.

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
        ssl_context: "ssl.SSLContext | None" = None,
        clock: Clock | None = None,
    ) -> None:
        self._max_idle = max_idle
        self._max_answer_bytes = max_answer_bytes
        self._given_context = ssl_context
        self._clock = clock or Clock()
        self._is_closed = False
        self._begin()

    def _begin(self) -> None:
        self._ssl_context = self._given_context  # one of ours is made anew: OpenSSL has locks, too
        self._pool: Pool[Stream] = Pool(self._max_idle)
        self._sockets: set[socket.socket] = set()
        """All that are open, and some no longer. Not known weakly: the collector would be quicker."""
        self._busy: dict[Exchange[Stream], socket.socket] = {}
        """The sockets that are connected, sent to or received from right now, by who does it."""
        self._addresses: dict[Origin, Addresses] = {}
        """What was looked up last."""
        self._lock = threading.Lock()

    def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Send a request and return its answer, or the failure to get one, before the deadline."""
        exchange = Exchange(request, self._pool)
        try:
            step = exchange.start()
            while not isinstance(step, ENDS):
                try:
                    result = self._take(step, exchange, deadline_at)
                except OSError as error:
                    step = exchange.fail(error)
                else:
                    step = exchange.resume(result)
            return step
        finally:
            exchange.close()
            with self._lock:
                self._busy.pop(exchange, None)

    def close(self) -> None:
        """Close every connection, also those in use: their exchanges fail."""
        with self._lock:
            self._is_closed = True
            for sock in self._busy.values():
                end(sock)
        self._pool.clear()

    @property
    def is_open(self) -> bool:
        """Whether any connection is."""
        if not self._lock.acquire(blocking=False):  # the collector may ask, in a thread that has it
            return True
        try:
            return any(sock.fileno() >= 0 for sock in self._sockets)
        finally:
            self._lock.release()

    def restart(self) -> None:
        """Begin anew after a fork, in the child. Connections are closed there, and live on in the parent."""
        for sock in self._sockets:
            sock.close()  # without a word to the peer: it would be the parent's word
        self._begin()

    def _take(
        self,
        step: Connect | Send[Stream] | Receive[Stream],
        exchange: Exchange[Stream],
        deadline_at: float,
    ) -> Stream | bytes | None:
        match step:
            case Connect():
                return self._connect(step.origin, exchange, deadline_at)
            case Send():
                self._use(step.stream.socket, exchange)
                step.stream.send(step.data, self._left(deadline_at))
                return None
            case Receive():
                return step.stream.receive(self._left(deadline_at))

    def _use(self, sock: socket.socket, exchange: Exchange[Stream]) -> None:
        """Let `close` interrupt what happens to a socket, until the exchange ends or uses another."""
        with self._lock:
            if self._is_closed:
                raise ConnectionAbortedError("the client was closed")
            self._busy[exchange] = sock

    def _left(self, deadline_at: float) -> float:
        left = deadline_at - self._clock.now()
        if left <= 0:
            raise TimeoutError
        return left

    def _connect(self, origin: Origin, exchange: Exchange[Stream], deadline_at: float) -> Stream:
        addresses = self._look_up(origin, deadline_at)
        failed: OSError = OSError("the host name has no address")
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            # An address that swallows packets must leave time for the next one.
            timeout = self._left(deadline_at) / (len(addresses) - tried)
            sock = socket.socket(family, kind, protocol)
            self._note(sock)
            try:
                sock.settimeout(timeout)
                self._use(sock, exchange)
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return self._secured(sock, origin, exchange, deadline_at)
            except OSError as error:
                sock.close()
                failed = error
            except BaseException:
                sock.close()
                raise
        raise failed

    def _note(self, sock: socket.socket) -> None:
        with self._lock:
            self._sockets = {sock, *(other for other in self._sockets if other.fileno() >= 0)}

    def _look_up(self, origin: Origin, deadline_at: float) -> Addresses:
        """Look the host up. The system's resolver knows no time-out, so a name is looked up in a thread."""
        if origin.host.lower() == "localhost":
            return _addresses(origin)
        try:
            return _addresses(origin, socket.AI_NUMERICHOST)
        except OSError:
            pass
        outcomes: queue.SimpleQueue[Addresses | OSError] = queue.SimpleQueue()

        def look_up() -> None:
            try:
                outcomes.put(_addresses(origin))
            except OSError as error:
                outcomes.put(error)

        try:
            threading.Thread(target=look_up, name="clocknext look-up", daemon=True).start()
        except RuntimeError:
            # The interpreter is shutting down, and starts no thread. An old address beats an endless wait.
            return self._addresses.get(origin) or _addresses(origin)
        try:
            outcome = outcomes.get(timeout=self._left(deadline_at))
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(outcome, OSError):
            raise outcome
        self._addresses[origin] = outcome
        return outcome

    def _secured(
        self, sock: socket.socket, origin: Origin, exchange: Exchange[Stream], deadline_at: float
    ) -> Stream:
        connection = Connection(max_answer_bytes=self._max_answer_bytes)
        if origin.scheme != "https":
            return Stream(sock, connection, self._clock)
        if self._ssl_context is None:
            self._ssl_context = default_context()
        sock.settimeout(self._left(deadline_at))
        # Wrapping takes the descriptor over, so what `close` may interrupt is the wrapped socket.
        secured = self._ssl_context.wrap_socket(
            sock, server_hostname=origin.host, do_handshake_on_connect=False
        )
        self._note(secured)
        try:
            self._use(secured, exchange)
            secured.do_handshake()
        except BaseException:
            secured.close()
            raise
        return SecureStream(secured, connection, self._clock)


def _addresses(origin: Origin, flags: int = 0) -> Addresses:
    return socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM, flags=flags)
