"""asyncio's event-loop transports: the native transport for asyncio."""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, cast
from weakref import WeakSet

from clocknext_core import Answer, Origin, Request
from clocknext_transports.asyncio.endings import Unstarted, in_thread, unattended, wake
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
from clocknext_transports.http11.race import Address, Race
from clocknext_transports.http11.sockets import Poller
from clocknext_transports.http11.tls import Context
from clocknext_transports.process import fork as forks
from clocknext_transports.process.interrupts import let_pass
from clocknext_transports.sync.transport import NativeTransport as ThreadTransport

T = TypeVar("T")


class Alarm:
    """Lets one task wait until it is woken or a time has come.

    Instead of `asyncio.timeout` and `asyncio.wait`: a task that is stuck in one of those when its loop is
    closed, without being cancelled, may be referred to by their timer alone, and CPython crashes when such a
    task is collected. This timer refers to the alarm, which the waiting task has too.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_set(self) -> bool:
        """Whether a task waits for it."""
        return self._waiter is not None

    async def wait_until(self, at: float) -> None:
        """Wait to be woken, at most until then (seconds on the loop's clock)."""
        self._waiter = self._loop.create_future()
        timer = self._loop.call_at(at, self.wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            timer.cancel()

    def wake(self, _: object = None) -> None:
        """Wake the task that waits, if one does."""
        if self._waiter is not None:
            wake(self._waiter)


CHUNK = 16384
"""Most bytes taken at a time: a chunked answer costs some microseconds for each byte, without a pause."""


class Stream(asyncio.Protocol):
    """One connection and its HTTP state.

    Args:
        connection: The HTTP state.
        sock: The socket under asyncio's transport.
    """

    def __init__(self, connection: Connection, sock: socket.socket) -> None:
        self.connection = connection
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._poller: Poller | None = None
        self._received: list[bytes] = []
        self._alarm = Alarm()
        self._has_ended = False
        self._error: OSError | None = None
        self._age = Age(self._loop.time(), self._loop.time())
        self.closed: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast(asyncio.Transport, transport)
        self._poller = Poller(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        """Keep bytes for the receiver. While there is none, read no further: the bytes may be unasked."""
        self._received.append(data)
        if not self._alarm.is_set and self._transport is not None:
            self._transport.pause_reading()
        self._alarm.wake()

    def eof_received(self) -> None:
        """Note that the peer has ended; the transport closes itself."""
        self._has_ended = True
        self._alarm.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone, and why."""
        self._has_ended = True
        if exc is not None:
            self._error = exc if isinstance(exc, OSError) else ConnectionError(str(exc))
        wake(self.closed)
        self._alarm.wake()

    def send(self, data: memoryview) -> None:
        """Send all of it; a failure shows in `receive`."""
        if self._transport is not None:
            self._transport.write(data)

    async def receive(self, deadline_at: float) -> bytes:
        """Receive some bytes, before the deadline."""
        while not self._received and self._loop.time() < deadline_at:
            if self._error is not None:
                raise self._error
            if self._has_ended:
                return b""
            if self._transport is not None:
                self._transport.resume_reading()
            await self._alarm.wait_until(deadline_at)
        self._age.used_at = self._loop.time()
        if self._age.used_at >= deadline_at:
            raise TimeoutError
        data = b"".join(self._received)
        self._received.clear()
        if len(data) > CHUNK:
            self._received.append(data[CHUNK:])
            await asyncio.sleep(0)  # others go on before the rest is read
        return data[:CHUNK]

    def is_stale(self) -> bool:
        """Return whether the peer ended or sent unasked bytes, or it is old."""
        if self._age.is_over(self._loop.time(), self.connection):
            return True
        if self._has_ended or self._received or self._poller is None:
            return True
        return self._poller.is_readable()  # the loop may have been too busy to read what has come

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is None:
            return
        if self._loop.is_closed():
            self._close_without_loop(self._transport)
        else:
            self._transport.abort()

    def _close_without_loop(self, transport: asyncio.Transport) -> None:
        """Close the connection of a loop that was closed before it."""
        with suppress(RuntimeError):  # it reports to the protocol in the loop's next turn
            transport.abort()
        self._socket.close()
        # What that turn would call; asyncio has no public way to it. Without, the transport takes the socket
        # for open and warns when it is collected.
        within: object = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
        report: object = getattr(within or transport, "_call_connection_lost", None)
        if callable(report) and not self.closed.done():
            with suppress(RuntimeError):  # a task of that loop may have waited for it
                report(None)


async def _close_with_loop(streams: WeakSet[Stream]) -> AsyncGenerator[None, None]:
    """Close connections when their event loop ends: it closes the async generators that it knows first."""
    try:
        yield
    finally:
        for stream in [*streams]:
            stream.abort()


class _OfLoop:
    """The connections of one event loop. No other loop may touch them while that one runs.

    Args:
        max_idle: Most idle connections kept for each origin.
    """

    def __init__(self, max_idle: int) -> None:
        self.pool: Pool[Stream] = Pool(max_idle)
        self.streams: WeakSet[Stream] = WeakSet()
        """All of them, idle or not."""
        self.closing: AsyncGenerator[None, None] | None = None
        """What closes them when the loop ends."""


class NativeTransport:
    """HTTP/1.1 over the event loop.

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
        self._inherited: list[object] = []
        """In a forked child: connections that the parent's event loop still refers to."""
        self._begin()

    def _begin(self) -> None:
        self._context = Context(self._given_context)  # a default one is made again: OpenSSL has locks, too
        self._sockets: set[socket.socket] = set()
        """All open sockets, and some closed ones. Not weakly: the collector could drop an open one."""
        self._loops: dict[asyncio.AbstractEventLoop, _OfLoop] = {}

    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        """Send a request and return its answer, or the failure to get one, before the deadline."""
        exchange = Exchange(request, self._of_running_loop().pool)
        try:
            return await exchange.drive(partial(self._take, deadline_at=deadline_at))
        finally:
            exchange.close()

    async def connect(self, origin: Origin, *, deadline_at: float) -> None:
        """Open a connection for the next exchange with an origin.

        Raises:
            OSError: It could not be opened before the deadline.
        """
        pool = self._of_running_loop().pool
        epoch = pool.epoch
        pool.open(await self._connect(origin, deadline_at), origin, epoch=epoch)

    async def aclose(self) -> None:
        """Close the idle connections of this loop and of those that do not run.

        Exchanges that begin later open new ones. A loop that runs in another thread closes its own when it
        ends.
        """
        loop = asyncio.get_running_loop()
        for other, its in list(self._loops.items()):
            if other is not loop and not other.is_running():
                its.pool.clear()
        here = self._of_running_loop()
        for stream in here.pool.clear():
            await stream.closed
        if here.closing is not None and all(stream.closed.done() for stream in here.streams):
            # Nothing is left for the loop's end, and a loop may end without finishing its generators.
            closing, here.closing = here.closing, None
            await closing.aclose()

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
                forks.forsake(sock.fileno())  # closing it through the loop would end the parent's connection
        self._inherited.append(self._loops)
        self._begin()

    async def _take(
        self, step: Connect | Send[Stream] | Receive[Stream], *, deadline_at: float
    ) -> Stream | bytes | None:
        match step:
            case Connect():
                return await self._connect(step.origin, deadline_at)
            case Send():
                step.stream.send(step.data)
                return None
            case Receive():
                if step.after:
                    now = asyncio.get_running_loop().time()
                    await asyncio.sleep(min(step.after, max(0.0, deadline_at - now)))
                return await step.stream.receive(deadline_at)

    async def _connect(self, origin: Origin, deadline_at: float) -> Stream:
        race = Race(await _look_up(origin, deadline_at), now=asyncio.get_running_loop().time())
        while True:
            sock = await self._first_connected(race, deadline_at)
            try:
                stream = await self._secured(sock, origin, deadline_at)
                await self._close_with_loop(stream)
                return stream
            except OSError as error:
                sock.close()
                let_pass(error)
                race.handle_failure(error)
            except BaseException:
                sock.close()
                raise

    async def _first_connected(self, race: Race, deadline_at: float) -> socket.socket:
        """Return the first socket that connects, and close all others."""
        loop = asyncio.get_running_loop()
        alarm = Alarm()
        connecting: dict[asyncio.Task[None], socket.socket] = {}
        try:
            while True:
                while (address := race.next(now=loop.time())) is not None:
                    try:
                        sock = self._open(address)
                    except OSError as error:
                        let_pass(error)
                        race.handle_failure(error)
                        continue
                    connect = Unstarted(partial(loop.sock_connect, sock, address[4]))
                    task = unattended(loop.create_task(connect))
                    connecting[task] = sock
                    task.add_done_callback(alarm.wake)
                ended = [task for task in connecting if task.done()]
                for task in ended:
                    sock = connecting.pop(task)
                    try:
                        task.result()
                    except OSError as error:
                        sock.close()
                        let_pass(error)
                        race.handle_failure(error)
                    except BaseException:
                        sock.close()
                        raise
                    else:
                        return sock
                if race.error is not None:
                    raise race.error
                if loop.time() >= deadline_at:
                    raise TimeoutError
                if not ended:
                    await alarm.wait_until(min(race.wake_at, deadline_at))
        finally:
            for task, sock in connecting.items():
                _discard(task)
                if loop.is_closed():
                    sock.close()
                else:
                    loop.call_soon(sock.close)  # after the loop has forgotten it

    def _of_running_loop(self) -> _OfLoop:
        loop = asyncio.get_running_loop()
        here = self._loops.get(loop)
        if here is None:
            for other in [other for other in list(self._loops) if other.is_closed()]:
                if (its := self._loops.pop(other, None)) is not None:  # else another thread was faster
                    its.pool.clear()
            here = self._loops[loop] = _OfLoop(self._max_idle)
        return here

    async def _close_with_loop(self, stream: Stream) -> None:
        """Have a connection closed when its loop ends."""
        here = self._of_running_loop()
        here.streams.add(stream)
        if here.closing is None:
            here.closing = _close_with_loop(here.streams)
            await anext(here.closing)

    def _open(self, address: Address) -> socket.socket:
        # Not by create_connection, which leaks a socket when it is cancelled at the wrong moment.
        family, kind, protocol, _, _ = address
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(0)
        self._sockets = {sock, *(other for other in self._sockets if other.fileno() >= 0)}
        return sock

    async def _secured(self, sock: socket.socket, origin: Origin, deadline_at: float) -> Stream:
        loop = asyncio.get_running_loop()
        connection = Connection(max_answer_bytes=self._max_answer_bytes, max_idle_time=self._max_idle_time)
        if origin.scheme == "http":
            stream = Stream(connection, sock)
            try:
                await loop.create_connection(lambda: stream, sock=sock)
            except RuntimeError:
                if loop.is_closed():  # this is being ended, and asyncio could not close the connection
                    stream.abort()
                    raise GeneratorExit from None
                raise
            return stream
        context = await self._context.make_in(partial(in_thread, name="clocknext TLS"))
        left = deadline_at - loop.time()
        if left <= 0:
            raise TimeoutError
        try:
            _, stream = await loop.create_connection(
                lambda: Stream(connection, sock),
                sock=sock,
                ssl=context,
                server_hostname=origin.server_name,
                ssl_handshake_timeout=left,
            )
        except OSError:
            if loop.time() >= deadline_at:  # asyncio calls this time-out an aborted connection
                raise TimeoutError from None
            raise
        return stream


async def _look_up(origin: Origin, deadline_at: float) -> Sequence[Address]:
    """Look the host up: a name in a thread, an address at once."""
    try:
        return socket.getaddrinfo(
            origin.host, origin.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    except OSError as error:
        let_pass(error)
    look_up = partial(socket.getaddrinfo, origin.host, origin.port, type=socket.SOCK_STREAM)
    try:
        answer = in_thread(look_up, name="clocknext look-up")
    except RuntimeError:  # the interpreter is shutting down and starts no thread
        return look_up()
    alarm = Alarm()
    answer.add_done_callback(alarm.wake)
    if not answer.done():
        await alarm.wait_until(deadline_at)
    if not answer.done():
        raise TimeoutError
    return answer.result()


def _discard(task: "asyncio.Task[Any]") -> None:
    """Cancel a task whose result is not wanted."""
    if task.done():
        if not task.cancelled():
            task.exception()  # asyncio logs an exception that was not retrieved
    elif not task.get_loop().is_closed():
        task.cancel()
