"""Sockets that trio waits for: the native transport for trio."""

import errno
import socket
import ssl
from contextlib import suppress
from typing import cast

import trio

from clocknext_core import Answer, Origin, Request
from clocknext_transports.http11 import (
    MAX_ANSWER_BYTES,
    Age,
    Connect,
    Connection,
    Exchange,
    Pool,
    Receive,
    Send,
)
from clocknext_transports.http11.race import ATTEMPT_DELAY
from clocknext_transports.http11.sockets import Poller, SocketLike
from clocknext_transports.http11.tls import Context
from clocknext_transports.process import fork as forks
from clocknext_transports.sync.transport import NativeTransport as ThreadTransport

CHUNK = 16384
"""Most bytes taken at a time: a chunked answer costs some microseconds for each byte, without a pause."""


class Stream:
    """One connection and its HTTP state.

    It uses the socket itself: trio's stream lets every other task run before each send.
    """

    def __init__(self, sock: socket.socket, connection: Connection) -> None:
        self._socket = sock
        self._poller = Poller(sock)
        self.connection = connection
        self._age = Age(trio.current_time(), trio.current_time())

    async def send(self, data: memoryview) -> None:
        """Send all of it."""
        while data:
            try:
                data = data[self._socket.send(data) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)

    async def receive(self) -> bytes:
        """Receive some bytes."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            with suppress(BlockingIOError):
                data = self._socket.recv(CHUNK)
                self._age.used_at = trio.current_time()
                return data

    def is_stale(self) -> bool:
        """Return whether the socket is readable (data or EOF) or too old."""
        return self._age.is_over(trio.current_time(), self.connection) or self._poller.is_readable()

    def abort(self) -> None:
        """Close the connection at once."""
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()


TICKETS_WITHIN = 0.25
"""Seconds that a connection opened ahead waits for the tickets that a server of TLS 1.3 sends after the
handshake, unasked: bytes that come later make it stale."""


class SecureStream:
    """One connection with TLS, and its HTTP state."""

    def __init__(
        self,
        tcp: trio.SocketStream,
        secured: "trio.SSLStream[trio.SocketStream]",
        connection: Connection,
    ) -> None:
        self._tcp = tcp
        self._secured = secured
        self.connection = connection
        self._age = Age(trio.current_time(), trio.current_time())

    async def send(self, data: memoryview) -> None:
        """Send all of it."""
        await self._secured.send_all(data)

    async def receive(self) -> bytes:
        """Receive some bytes."""
        data = bytes(await self._secured.receive_some(CHUNK))
        self._age.used_at = trio.current_time()
        return data

    async def takes_only_tickets(self) -> bool:
        """Read what comes right after the handshake; return whether it was nothing but tickets."""
        with trio.move_on_after(TICKETS_WITHIN):
            await self.receive()
            return False
        return True

    def is_stale(self) -> bool:
        """Return whether the socket is readable (data or EOF) or too old, or TLS holds unread bytes."""
        if self._age.is_over(trio.current_time(), self.connection):
            return True
        return self._tcp.socket.is_readable() or self._has_undecrypted()

    def _has_undecrypted(self) -> bool:
        """Return whether the TLS layer holds bytes that were received and not read."""
        # There is no public way to ask. Without the attribute, connections are not reused, which is safe.
        incoming: ssl.MemoryBIO | None = getattr(self._secured, "_incoming", None)
        return incoming is None or incoming.pending > 0

    def abort(self) -> None:
        """Close the connection at once."""
        self._tcp.socket.close()


class NativeTransport:
    """HTTP/1.1 over sockets, or trio's streams with TLS.

    Several clients may share one: connections are kept apart by origin, so that each client's key goes to its
    own server only.

    Args:
        max_idle: Most idle connections kept for each origin.
        max_idle_time: Seconds of idleness after which a connection is not used again. Default: 60. A server
            that announces less, by `Keep-Alive: timeout=`, gets two seconds less than that.
        max_answer_bytes: Most bytes of an answer's body; a longer answer is a failure.
        ssl_context: TLS settings. Default: the system's trust store, host names checked.
    """

    def __init__(
        self,
        *,
        max_idle: int = 5,
        max_idle_time: float | None = None,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._max_idle = max_idle
        self._max_idle_time = max_idle_time
        self._max_answer_bytes = max_answer_bytes
        self._given_context = ssl_context
        self._inherited: list[Pool[Stream | SecureStream]] = []
        """In a forked child: connections that the parent's run still refers to."""
        self._begin()

    def _begin(self) -> None:
        self._context = Context(self._given_context)  # a default one is made again: OpenSSL has locks, too
        self._pool: Pool[Stream | SecureStream] = Pool(self._max_idle)
        self._sockets: set[SocketLike] = set()
        """All open sockets, and some closed ones. Not weakly: the collector could drop an open one."""

    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Send a request and return its answer, or the failure to get one, before the deadline."""
        exchange = Exchange(request, self._pool)
        try:
            with trio.move_on_at(deadline_at):
                return await exchange.drive(self._take)
            return exchange.expire()
        finally:
            exchange.close()

    async def connect(self, origin: Origin, *, deadline_at: float) -> None:
        """Open a connection for the next exchange with an origin.

        Raises:
            OSError: It could not be opened before the deadline.
        """
        epoch = self._pool.epoch
        with trio.move_on_at(deadline_at):
            stream = await self._take(Connect(origin))
            assert not isinstance(stream, bytes | None)  # what `Connect` results in
            if isinstance(stream, SecureStream) and not await stream.takes_only_tickets():
                stream.abort()
                raise ConnectionError("the connection was closed")
            self._pool.open(stream, origin, epoch=epoch)
            return
        raise TimeoutError

    async def aclose(self) -> None:
        """Close every idle connection. Exchanges that begin later open new ones."""
        self._pool.clear()

    def for_threads(self) -> ThreadTransport:
        """Return a transport for threads with the same settings, for when the event loop has ended."""
        return ThreadTransport(max_answer_bytes=self._max_answer_bytes, ssl_context=self._given_context)

    @property
    def is_open(self) -> bool:
        """Whether any connection is."""
        return any(sock.fileno() >= 0 for sock in self._sockets)

    def restart(self) -> None:
        """Start again after a fork, in the child. Connections live on in the parent."""
        for sock in self._sockets:
            if sock.fileno() >= 0:
                forks.forsake(sock.fileno())  # closing it would need the parent's run
        self._inherited.append(self._pool)
        self._begin()

    async def _take(
        self, step: Connect | Send[Stream | SecureStream] | Receive[Stream | SecureStream]
    ) -> Stream | SecureStream | bytes | None:
        try:
            match step:
                case Connect():
                    return await self._connect(step.origin)
                case Send():
                    await step.stream.send(step.data)
                    return None
                case Receive():
                    if step.after:
                        await trio.sleep(step.after)
                    return await step.stream.receive()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionError(str(error.__cause__ or error) or "the connection was closed") from error

    async def _connect(self, origin: Origin) -> Stream | SecureStream:
        try:
            tcp = await trio.open_tcp_stream(origin.host, origin.port, happy_eyeballs_delay=ATTEMPT_DELAY)
        except RuntimeError as error:  # the interpreter is shutting down and starts no thread
            raise OSError(str(error)) from error
        except OSError as error:
            raise _cause_of(error) from error.__cause__  # not from itself: causes would go round
        connection = Connection(max_answer_bytes=self._max_answer_bytes, max_idle_time=self._max_idle_time)
        if origin.scheme == "http":
            bare = tcp.socket
            sock = socket.socket(bare.family, bare.type, bare.proto, fileno=bare.detach())
            sock.settimeout(0)
            self._note(sock)
            return Stream(sock, connection)
        self._note(tcp.socket)
        try:
            context = await self._context.make_in(trio.to_thread.run_sync)
            secured = trio.SSLStream(tcp, context, server_hostname=origin.server_name, https_compatible=True)
            await secured.do_handshake()
        except BaseException:
            tcp.socket.close()
            raise
        return SecureStream(tcp, secured, connection)

    def _note(self, sock: SocketLike) -> None:
        self._sockets = {sock, *(other for other in self._sockets if other.fileno() >= 0)}


def _cause_of(error: OSError) -> OSError:
    """Return why no address could be reached: trio's own error says only that all attempts failed."""
    group: object = error.__cause__
    if not isinstance(group, ExceptionGroup):
        return error
    within = cast("ExceptionGroup[Exception]", group).exceptions
    causes = [each for each in within if isinstance(each, OSError)]
    # A family that the kernel does not have says less than a refusal by the host.
    told = [each for each in causes if each.errno != errno.EAFNOSUPPORT] or causes
    return told[-1] if told else error
