"""Blocking sockets: the native transport for threads."""

import selectors
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

from clocknext_core import Answer, Origin, Request
from clocknext_transports.http11 import (
    ENDS,
    MAX_ANSWER_BYTES,
    Age,
    Connect,
    Connection,
    Exchange,
    Pool,
    Receive,
    Send,
)
from clocknext_transports.http11.race import Race
from clocknext_transports.http11.sockets import Poller, check_connected, end, start_connecting
from clocknext_transports.http11.tls import Context, Sessions, has_only_tickets
from clocknext_transports.process.clock import MAX_WAIT
from clocknext_transports.process.interrupts import let_pass
from clocknext_transports.sync.clock import Clock
from clocknext_transports.sync.resolver import Resolver

if TYPE_CHECKING:
    import ssl

CHUNK = 65536


class Stream:
    """One socket and its HTTP state.

    The socket does not block, and is waited for only where necessary: every call that might block hands the
    interpreter's lock to another thread, and with many threads at work it takes long to get it back.
    """

    def __init__(self, sock: socket.socket, connection: Connection, clock: Clock) -> None:
        self.socket = sock
        self.connection = connection
        self._clock = clock
        self._age = Age(clock.now(), clock.now())
        self._poller = Poller(sock)
        sock.settimeout(0)

    def send(self, data: memoryview, timeout: float) -> None:
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
        """Receive some bytes."""
        data = self._read(timeout)
        self._age.used_at = self._clock.now()
        return data

    def _read(self, timeout: float) -> bytes:
        if not self._poller.is_readable(timeout):
            raise TimeoutError
        return self.socket.recv(CHUNK)

    def is_stale(self) -> bool:
        """Return whether the socket is readable (data or EOF) or too old."""
        return self._age.is_over(self._clock.now(), self.connection) or self._poller.is_readable()

    def abort(self) -> None:
        """Close the socket."""
        self.socket.close()


class SecureStream(Stream):
    """A socket with TLS. It may have to wait for more than the socket shows, so its own methods wait."""

    socket: "ssl.SSLSocket"
    on_first_bytes: Callable[[], None] | None = None
    """Called when the first bytes have come, before which TLS 1.3 has no session to resume."""

    def send(self, data: memoryview, timeout: float) -> None:
        """Send all of it."""
        self.socket.settimeout(timeout)
        self.socket.sendall(data)

    def _read(self, timeout: float) -> bytes:
        self.socket.settimeout(timeout)
        data = self.socket.recv(CHUNK)
        if self.on_first_bytes is not None:
            self.on_first_bytes()
            self.on_first_bytes = None
        return data

    def is_stale(self) -> bool:
        """Return whether it is stale as any socket, or holds bytes that were decrypted and not read."""
        is_unused = self.on_first_bytes is not None
        if is_unused and self._poller.is_readable() and not has_only_tickets(self.socket):
            return True
        return self.socket.pending() > 0 or super().is_stale()


class NativeTransport:
    """HTTP/1.1 over sockets.

    Several clients may share one: connections are kept apart by origin, so that each client's key goes to its
    own server only. After `close` it can be used again, and opens new connections.

    Args:
        max_idle: Most idle connections kept for each origin.
        max_idle_time: Seconds of idleness after which a connection is not used again. Default: 60. A server
            that announces less, by `Keep-Alive: timeout=`, gets two seconds less than that.
        max_answer_bytes: Most bytes of an answer's body; a longer answer is a failure.
        ssl_context: TLS settings. Default: the system's trust store, host names checked.
        clock: The clock of the deadlines.
    """

    def __init__(
        self,
        *,
        max_idle: int = 5,
        max_idle_time: float | None = None,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        ssl_context: "ssl.SSLContext | None" = None,
        clock: Clock | None = None,
    ) -> None:
        self._max_idle = max_idle
        self._max_idle_time = max_idle_time
        self._max_answer_bytes = max_answer_bytes
        self._given_context = ssl_context
        self._clock = clock or Clock()
        self._begin()

    def _begin(self) -> None:
        self._context = Context(self._given_context)  # a default one is made again: OpenSSL has locks, too
        self._sessions = Sessions()
        self._pool: Pool[Stream] = Pool(self._max_idle)
        self._sockets: set[socket.socket] = set()
        """All open sockets, and some closed ones. Not weakly: the collector could drop an open one."""
        self._busy: dict[Exchange[Stream], tuple[socket.socket, ...]] = {}
        """The sockets that each exchange is connecting, sending to or receiving from now."""
        self._resolver = Resolver()
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

    def connect(self, origin: Origin, *, deadline_at: float) -> None:
        """Open a connection for the next exchange with an origin, or raise its `OSError`."""
        opening = Exchange(Request("GET", "/", origin, ()), self._pool)  # `close` can interrupt it
        try:
            stream = self._connect(origin, opening, deadline_at)
        finally:
            with self._lock:
                self._busy.pop(opening, None)
        self._pool.open(stream, origin, epoch=opening.epoch)

    def close(self) -> None:
        """Close every connection, also those in use: their exchanges fail.

        Exchanges that begin later open new connections.
        """
        with self._lock:
            self._pool.clear()
            for sockets in self._busy.values():
                for sock in sockets:
                    end(sock)

    @property
    def is_open(self) -> bool:
        """Whether any connection is open. The collector may ask, in a thread that has the lock."""
        return any(sock.fileno() >= 0 for sock in self._sockets)

    def restart(self) -> None:
        """Start again after a fork, in the child. Connections are closed there, and live on in the parent."""
        for sock in self._sockets:
            sock.close()  # without TLS's closing message, which would end the parent's connection
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
                self._use(exchange, step.stream.socket)
                step.stream.send(step.data, self._left(deadline_at))
                return None
            case Receive():
                if step.after:
                    self._clock.sleep_until(min(self._clock.now() + step.after, deadline_at))
                return step.stream.receive(self._left(deadline_at))

    def _use(self, exchange: Exchange[Stream], *sockets: socket.socket) -> None:
        """Let `close` interrupt an exchange at these sockets, until it ends or uses others."""
        with self._lock:
            if exchange.epoch != self._pool.epoch:
                raise ConnectionAbortedError("the client was closed")
            self._busy[exchange] = sockets

    def _left(self, deadline_at: float) -> float:
        left = deadline_at - self._clock.now()
        if left <= 0:
            raise TimeoutError
        return min(left, MAX_WAIT)

    def _connect(self, origin: Origin, exchange: Exchange[Stream], deadline_at: float) -> Stream:
        race = Race(self._resolver.look_up(origin, self._left(deadline_at)), now=self._clock.now())
        while True:
            sock = self._first_connected(race, exchange, deadline_at)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return self._secured(sock, origin, exchange, deadline_at)
            except OSError as error:
                sock.close()
                let_pass(error)
                race.handle_failure(error)
            except BaseException:
                sock.close()
                raise

    def _first_connected(self, race: Race, exchange: Exchange[Stream], deadline_at: float) -> socket.socket:
        """Return the first socket that connects, and close all others."""
        connecting: list[socket.socket] = []
        with selectors.DefaultSelector() as selector:
            try:
                while True:
                    while (address := race.next(now=self._clock.now())) is not None:
                        try:
                            connecting.append(start_connecting(address, self._note))
                        except OSError as error:
                            let_pass(error)
                            race.handle_failure(error)
                        else:
                            selector.register(connecting[-1], selectors.EVENT_WRITE)
                            self._use(exchange, *connecting)
                    if race.error is not None:
                        raise race.error
                    left = min(self._left(deadline_at), max(0.0, race.wake_at - self._clock.now()))
                    for ready, _ in selector.select(left):
                        sock = cast(socket.socket, ready.fileobj)
                        selector.unregister(sock)
                        connecting.remove(sock)
                        try:
                            check_connected(sock)
                        except OSError as error:
                            sock.close()
                            let_pass(error)
                            race.handle_failure(error)
                        else:
                            return sock
            finally:
                for sock in connecting:
                    sock.close()

    def _note(self, sock: socket.socket) -> None:
        with self._lock:
            self._sockets = {sock, *(other for other in self._sockets if other.fileno() >= 0)}

    def _secured(
        self, sock: socket.socket, origin: Origin, exchange: Exchange[Stream], deadline_at: float
    ) -> Stream:
        connection = Connection(max_answer_bytes=self._max_answer_bytes, max_idle_time=self._max_idle_time)
        if origin.scheme != "https":
            self._use(exchange, sock)
            return Stream(sock, connection, self._clock)
        context = self._context.make()
        sock.settimeout(self._left(deadline_at))
        # Wrapping takes the descriptor over, so `close` gets a second one. The handshake belongs to wrapping:
        # truststore before 0.10.5 verifies the peer there.
        with sock.dup() as interruptible:
            self._note(interruptible)
            self._use(exchange, interruptible)
            secured = self._sessions.wrap(context, sock, origin)
            self._note(secured)
            try:
                self._use(exchange, secured)
            except BaseException:
                secured.close()
                raise
        stream = SecureStream(secured, connection, self._clock)
        stream.on_first_bytes = partial(self._sessions.remember, secured, origin)
        return stream
