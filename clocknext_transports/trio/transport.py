"""trio's streams: the native transport for trio."""

import ssl
from collections.abc import Generator
from contextlib import contextmanager

import trio

from clocknext_core import Answer, Origin, Request
from clocknext_transports.http11 import MAX_ANSWER_BYTES, Connect, Connection, Exchange, Pool, Receive, Send
from clocknext_transports.tls import default_context

CHUNK = 65536


class Stream:
    """One connection and its HTTP state."""

    def __init__(
        self,
        tcp: trio.SocketStream,
        secured: "trio.SSLStream[trio.SocketStream] | None",
        connection: Connection,
    ) -> None:
        self._tcp = tcp
        self._secured = secured
        self._stream = tcp if secured is None else secured
        self.connection = connection

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        with _as_os_error():
            await self._stream.send_all(data)

    async def receive(self) -> bytes:
        """Receive some."""
        with _as_os_error():
            return bytes(await self._stream.receive_some(CHUNK))

    def is_stale(self) -> bool:
        """Whether there is anything to read, were it only the end."""
        return self._tcp.socket.is_readable() or self._has_undecrypted()

    def _has_undecrypted(self) -> bool:
        """Whether the TLS layer holds bytes that were received and not read."""
        if self._secured is None:
            return False
        # There is no public way to ask. Should it go, connections are no longer reused, which is safe.
        incoming: ssl.MemoryBIO | None = getattr(self._secured, "_incoming", None)
        return incoming is None or incoming.pending > 0

    def abort(self) -> None:
        """Close the connection at once."""
        self._tcp.socket.close()


class NativeTransport:
    """HTTP/1.1 over trio's streams and h11.

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
        self._pool: Pool[Stream] = Pool(max_idle)
        self._max_answer_bytes = max_answer_bytes
        self._ssl_context = ssl_context

    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Send a request and return its answer, or the failure to get one, before the deadline."""
        exchange = Exchange(request, self._pool)
        try:
            with trio.move_on_at(deadline_at):
                return await exchange.drive(self._take)
            return exchange.expire()
        finally:
            exchange.close()

    async def aclose(self) -> None:
        """Close every idle connection."""
        self._pool.clear()

    async def _take(self, step: Connect | Send[Stream] | Receive[Stream]) -> Stream | bytes | None:
        match step:
            case Connect():
                return await self._connect(step.origin)
            case Send():
                await step.stream.send(step.data)
                return None
            case Receive():
                return await step.stream.receive()

    async def _connect(self, origin: Origin) -> Stream:
        secured = None
        tcp = await trio.open_tcp_stream(origin.host, origin.port)
        try:
            if origin.scheme == "https":
                if self._ssl_context is None:
                    self._ssl_context = await trio.to_thread.run_sync(default_context)  # it reads files
                secured = trio.SSLStream(
                    tcp, self._ssl_context, server_hostname=origin.host, https_compatible=True
                )
                with _as_os_error():
                    await secured.do_handshake()
        except BaseException:
            tcp.socket.close()
            raise
        return Stream(tcp, secured, Connection(max_answer_bytes=self._max_answer_bytes))


@contextmanager
def _as_os_error() -> Generator[None, None, None]:
    """Speak of broken streams as sockets do."""
    try:
        yield
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise ConnectionError(str(error.__cause__ or error) or "the connection was closed") from error
