"""asyncio's event-loop transports: the native transport for asyncio."""

import asyncio
import socket
import ssl
from functools import partial
from typing import cast

from clocknext_core import Answer, Origin, Request
from clocknext_transports.http11 import (
    MAX_ANSWER_BYTES,
    TRUSTED_FOR,
    Connect,
    Connection,
    Exchange,
    Pool,
    Receive,
    Send,
)
from clocknext_transports.http11.sockets import Poller
from clocknext_transports.http11.tls import default_context
from clocknext_transports.process import fork as forks


class Stream(asyncio.Protocol):
    """One connection and its HTTP state."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._poller: Poller | None = None
        self._received: list[bytes] = []
        self._receiver: asyncio.Future[None] | None = None
        self._has_ended = False
        self._error: OSError | None = None
        self._used_at = self._loop.time()
        self.closed: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast(asyncio.Transport, transport)
        self._poller = Poller(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        """Keep bytes for the receiver. Without one, read no more than this: nobody may want it."""
        self._received.append(data)
        if self._receiver is None and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Note that the peer has ended; the transport closes itself."""
        self._has_ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone, and why."""
        self._has_ended = True
        if exc is not None:
            self._error = exc if isinstance(exc, OSError) else ConnectionError(str(exc))
        if not self.closed.done():
            self.closed.set_result(None)
        self._wake()

    def send(self, data: bytes) -> None:
        """Send all of it; a failure shows in `receive`."""
        if self._transport is not None:
            self._transport.write(data)

    async def receive(self, deadline_at: float) -> bytes:
        """Receive some, before the deadline."""
        while not self._received and self._loop.time() < deadline_at:
            if self._error is not None:
                raise self._error
            if self._has_ended:
                return b""
            self._receiver = self._loop.create_future()
            timer = self._loop.call_at(deadline_at, self._wake)
            if self._transport is not None:
                self._transport.resume_reading()
            try:
                await self._receiver
            finally:
                self._receiver = None
                timer.cancel()
        self._used_at = self._loop.time()
        if self._used_at >= deadline_at:
            raise TimeoutError
        data = b"".join(self._received)
        self._received.clear()
        return data

    def is_stale(self) -> bool:
        """Whether the peer has ended or sent what nobody asked for, it is old, or of another event loop."""
        if self.is_foreign() or self._loop.time() - self._used_at > TRUSTED_FOR:
            return True
        if self._has_ended or self._received or self._poller is None:
            return True
        return self._poller.is_readable()  # the loop may have been too busy to read what has come

    def is_foreign(self) -> bool:
        """Whether it belongs to another event loop than the running one."""
        return self._loop is not asyncio.get_running_loop()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None and not self._loop.is_closed():
            self._transport.abort()

    def _wake(self) -> None:
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)


class NativeTransport:
    """HTTP/1.1 over the event loop.

    Args:
        max_idle: Most idle connections kept.
        max_answer_bytes: A longer answer is a failure.
        ssl_context: Default: the system's trust store, host names checked.
    """

    def __init__(
        self,
        *,
        max_idle: int = 5,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._max_idle = max_idle
        self._max_answer_bytes = max_answer_bytes
        self._given_context = ssl_context
        self._inherited: list[Pool[Stream]] = []
        """In a forked child: what the parent's event loop still refers to."""
        self._begin()

    def _begin(self) -> None:
        self._ssl_context = self._given_context  # one of ours is made anew: OpenSSL has locks, too
        self._pool: Pool[Stream] = Pool(self._max_idle)
        self._sockets: set[socket.socket] = set()
        """All that are open, and some no longer. Not known weakly: the collector would be quicker."""

    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Send a request and return its answer, or the failure to get one, before the deadline."""
        exchange = Exchange(request, self._pool)
        try:
            return await exchange.drive(partial(self._take, deadline_at=deadline_at))
        finally:
            exchange.close()

    async def aclose(self) -> None:
        """Close every idle connection."""
        for stream in self._pool.clear():
            if not stream.is_foreign():
                await stream.closed

    @property
    def is_open(self) -> bool:
        """Whether any connection is."""
        return any(sock.fileno() >= 0 for sock in self._sockets)

    def restart(self) -> None:
        """Begin anew after a fork, in the child. Connections live on in the parent."""
        for sock in self._sockets:
            if sock.fileno() >= 0:
                forks.forsake(sock.fileno())  # closed through the loop, the parent's would hear no more
        self._inherited.append(self._pool)
        self._begin()

    async def _take(
        self, step: Connect | Send[Stream] | Receive[Stream], *, deadline_at: float
    ) -> Stream | bytes | None:
        match step:
            case Connect():
                async with asyncio.timeout_at(deadline_at):
                    return await self._connect(step.origin, deadline_at)
            case Send():
                step.stream.send(step.data)
                return None
            case Receive():
                return await step.stream.receive(deadline_at)

    async def _connect(self, origin: Origin, deadline_at: float) -> Stream:
        loop = asyncio.get_running_loop()
        try:
            addresses = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        except RuntimeError:  # the interpreter is shutting down, and starts no thread
            addresses = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        failed: OSError = OSError("the host name has no address")
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            # Not by create_connection, which leaks a socket when it is cancelled at the wrong moment.
            sock = socket.socket(family, kind, protocol)
            self._sockets = {sock, *(other for other in self._sockets if other.fileno() >= 0)}
            try:
                sock.settimeout(0)
                # An address that swallows packets must leave time for the next one.
                async with asyncio.timeout((deadline_at - loop.time()) / (len(addresses) - tried)):
                    await loop.sock_connect(sock, address)
                return await self._secured(sock, origin)
            except OSError as error:
                sock.close()
                failed = error
            except BaseException:
                sock.close()
                raise
        raise failed

    async def _secured(self, sock: socket.socket, origin: Origin) -> Stream:
        secure = origin.scheme == "https"
        if secure and self._ssl_context is None:
            try:
                self._ssl_context = await asyncio.to_thread(default_context)  # it reads files
            except RuntimeError:  # the interpreter is shutting down, and starts no thread
                self._ssl_context = default_context()
        _, stream = await asyncio.get_running_loop().create_connection(
            lambda: Stream(Connection(max_answer_bytes=self._max_answer_bytes)),
            sock=sock,
            ssl=self._ssl_context if secure else None,
            server_hostname=origin.host if secure else None,
        )
        return stream
