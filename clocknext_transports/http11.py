"""HTTP/1.1 without a socket: bytes in, bytes out, over h11. Shared by the three native transports.

`Exchange` decides how one request becomes one answer: which connection it takes, when a stale one is
replaced, when a connection may be kept. It asks for I/O one step at a time, and a transport only does it.
"""

import re
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

import h11

from clocknext_core import Answer, Failure, Origin, Request, Response

MAX_ANSWER_BYTES = 1024 * 1024
"""Most bytes of an answer's body that are read, by default."""

TRUSTED_FOR = 60.0
"""Seconds that a kept connection is trusted. Beyond them, whatever lies between may have forgotten it.

A function that was frozen for hours, or a machine that slept, finds such connections when it goes on.
"""
MAX_HEAD_BYTES = 64 * 1024
"""Most bytes of an answer's head, together with the interim answers before it."""
MAX_FRAMING_BYTES = 2048
"""Most bytes of a chunk's size and extension, or of the trailers, that h11 holds while it is incomplete."""

_NOT_HTTP = "The answer is not valid HTTP."
_HEAD_END = re.compile(rb"\n\r?\n")
_SPOILT = re.compile(rb"[\0\v\f]|\r[^\n]")
"""What no head may hold. h11 refuses it too, but its time grows with the square of the blanks before it:
a minute for an answer of 64 KiB. No deadline can interrupt that."""


class Connection:
    """One connection's HTTP/1.1 state: exchanges follow each other, one at a time.

    Args:
        max_answer_bytes: A longer answer is a failure.
        wall_clock: Seconds since 1970, to stamp answers with.
    """

    def __init__(
        self, *, max_answer_bytes: int = MAX_ANSWER_BYTES, wall_clock: Callable[[], float] = time.time
    ) -> None:
        # Of a head this limits nothing: h11 is given each complete.
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_FRAMING_BYTES)
        self._max_answer_bytes = max_answer_bytes
        self._wall_clock = wall_clock
        self._head: h11.Response | None = None
        self._head_bytes = 0
        self._unread = bytearray()
        """What has come and h11 was not given yet."""
        self._body = bytearray()
        self.has_received = False
        """Whether any byte came since the request was sent: until then a reused connection may be stale."""
        self.is_reusable = False
        """Whether the next request may go over this connection. Set when an exchange has ended well."""

    def send(self, request: Request) -> bytes:
        """Begin an exchange: return the bytes of the request."""
        self.has_received = self.is_reusable = False
        self._head = None
        self._head_bytes = 0
        self._body.clear()
        headers = [("Host", request.origin.authority), *request.headers]
        body = request.body or b""
        if body or request.method not in ("GET", "DELETE"):
            headers.append(("Content-Length", str(len(body))))
        parts = [
            self._h11.send(h11.Request(method=request.method, target=request.target, headers=headers)),
            self._h11.send(h11.Data(data=body)) if body else b"",
            self._h11.send(h11.EndOfMessage()),
        ]
        return b"".join(part for part in parts if part)

    def receive(self, data: bytes) -> Answer | None:
        """Take bytes as they came (`b""`: the peer closed). Return the answer once it is complete."""
        self.has_received = self.has_received or bool(data)
        if not data and self._head is None:
            return Failure("The connection was closed before an answer came.")
        start = max(0, len(self._unread) - 2)  # the end of a head may be cut
        self._unread += data
        try:
            if self._head is None:
                answer = self._read_heads(start)
                if answer is not None or self._head is None:
                    return answer
            return self._read_body(has_ended=not data)
        except h11.RemoteProtocolError:
            # Without h11's own words, which may quote the peer, and the peer our key.
            if not data:
                return Failure("The connection was closed in the middle of the answer.")
            return Failure(_NOT_HTTP)

    def _read_heads(self, start: int) -> Answer | None:
        """Give h11 the head and the interim answers before it, each once it is complete."""
        while self._head is None:
            found = _HEAD_END.search(self._unread, start)
            end = len(self._unread) if found is None else found.end()
            if self._head_bytes + end > MAX_HEAD_BYTES:
                return Failure(f"{_NOT_HTTP} Its head is longer than {MAX_HEAD_BYTES} bytes.")
            if _SPOILT.search(self._unread, start, end):
                return Failure(_NOT_HTTP)
            if found is None:
                return None
            self._head_bytes += end
            start = 0
            if (answer := self._give(end)) is not None:
                return answer
        return None

    def _read_body(self, *, has_ended: bool) -> Answer | None:
        # Little at a time: h11 limits only what is incomplete, so it accepts no more than twice the limit.
        while self._unread:
            if (answer := self._give(MAX_FRAMING_BYTES)) is not None:
                return answer
        return self._give(0) if has_ended else None

    def _give(self, count: int) -> Answer | None:
        """Give h11 so many bytes of what has come (none: the peer closed), and see what it makes of them."""
        data = bytes(self._unread[:count])
        del self._unread[:count]
        self._h11.receive_data(data)
        return self._read_events()

    def _read_events(self) -> Answer | None:
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                return None
            if isinstance(event, h11.Response):
                self._head = event
                if problem := _refused_encoding(event):
                    return problem
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > self._max_answer_bytes:
                    return Failure(f"The answer is longer than {self._max_answer_bytes} bytes.")
            elif isinstance(event, h11.EndOfMessage):
                return self._finish()
            else:
                assert isinstance(event, h11.InformationalResponse)  # h11 raises on an early end

    def _finish(self) -> Response:
        head = self._head
        assert head is not None  # h11 ends no message it has not begun
        surplus, has_ended = self._h11.trailing_data
        if (
            not surplus
            and not self._unread
            and not has_ended
            and not _is_framed_doubtfully(head)
            and self._h11.our_state is h11.DONE
            and self._h11.their_state is h11.DONE
        ):
            self._h11.start_next_cycle()
            self.is_reusable = True
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers]
        return Response(head.status_code, headers, bytes(self._body), self._wall_clock())


def _refused_encoding(head: h11.Response) -> Failure | None:
    for name, value in head.headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            return Failure("The answer is compressed, which was not asked for.")
    return None


def _is_framed_doubtfully(head: h11.Response) -> bool:
    """Whether the server may think that its answer goes on: the rest would pass for the next answer."""
    names = (b"content-length", b"transfer-encoding")
    framing = {name: value for name, value in head.headers if name in names}
    if head.status_code == 204:
        return framing not in ({}, {b"content-length": b"0"})
    return len(framing) > 1


class Stream(Protocol):
    """A transport's connection: a socket of its kind, with the HTTP state that belongs to it."""

    connection: Connection

    def is_stale(self) -> bool:
        """Whether an idle connection has been closed by the peer, or has received bytes nobody asked for."""
        ...

    def abort(self) -> None:
        """Close it at once, without waiting for anything."""
        ...


S = TypeVar("S", bound=Stream)


class Pool(Generic[S]):
    """Idle keep-alive connections, the latest used on top. Thread-safe.

    Args:
        limit: Most connections kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._idle: list[S] = []
        self._lock = threading.Lock()
        self.epoch = 0
        """How often it has been cleared."""

    def take(self) -> S | None:
        """Take an idle connection that still looks alive."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                stream = self._idle.pop()
            if not stream.is_stale():
                return stream
            stream.abort()

    def give(self, stream: S, *, epoch: int = 0) -> None:
        """Keep a connection for later, or close it: there are enough, or its exchange began in another epoch.

        What was in use when the pool was cleared would be left open, with nobody to clear again.
        """
        with self._lock:
            is_kept = epoch == self.epoch and len(self._idle) < self._limit
            if is_kept:
                self._idle.append(stream)
        if not is_kept:
            stream.abort()

    def clear(self) -> list[S]:
        """Close every idle connection and return them. Those in use now will be closed after it."""
        with self._lock:
            self.epoch += 1
            streams, self._idle = self._idle, []
        for stream in streams:
            stream.abort()
        return streams


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a connection to the origin (with TLS for https), and resume with it."""

    origin: Origin


@dataclass(frozen=True, slots=True)
class Send(Generic[S]):
    """Send all of these bytes, and resume with nothing."""

    stream: S
    data: bytes


@dataclass(frozen=True, slots=True)
class Receive(Generic[S]):
    """Receive some bytes, and resume with them (`b""`: the peer closed)."""

    stream: S


Step: TypeAlias = Connect | Send[S] | Receive[S]
_Script: TypeAlias = Generator[Step[S], "S | bytes | None", Answer]


class Exchange(Generic[S]):
    """One request and its answer, as steps of I/O for a transport to take.

    Begin with `start`; give the result of each step to `resume` or its `OSError` to `fail`; each returns the
    next step, or the answer, which is the end. `close` at the end in any case: it closes what is not kept.

    Args:
        request: What to send.
        pool: Where connections come from and go back to.
    """

    def __init__(self, request: Request, pool: Pool[S]) -> None:
        self._script = _script(request, pool)

    def start(self) -> Step[S] | Answer:
        """Return the first step."""
        return self.resume(None)

    def resume(self, result: S | bytes | None) -> Step[S] | Answer:
        """Take the result of a step and return the next."""
        try:
            return self._script.send(result)
        except StopIteration as end:
            answer: Answer = end.value
            return answer

    def fail(self, error: OSError) -> Step[S] | Answer:
        """Take the error of a step (`TimeoutError`: the deadline has come) and return the next."""
        try:
            return self._script.throw(error)
        except StopIteration as end:
            answer: Answer = end.value
            return answer

    def expire(self) -> Answer:
        """Return the failure of an exchange whose deadline has come."""
        answer = self.fail(TimeoutError())
        assert isinstance(answer, Response | Failure)  # after the deadline there are no more steps
        return answer

    def close(self) -> None:
        """Break the exchange off, wherever it is."""
        self._script.close()

    async def drive(self, take: Callable[[Step[S]], Awaitable[S | bytes | None]]) -> Answer:
        """Take one step after the other to the end, in a coroutine of any event loop.

        Args:
            take: Takes a step, and returns its result or raises its `OSError`.
        """
        step = self.start()
        while not isinstance(step, Response | Failure):
            try:
                result = await take(step)
            except OSError as error:
                step = self.fail(error)
            else:
                step = self.resume(result)
        return step


def _script(request: Request, pool: Pool[S]) -> _Script[S]:
    epoch = pool.epoch
    # A request that must not be repeated gets a connection that can't be stale.
    stream = pool.take() if request.replay_safe else None
    if stream is not None:
        answer = yield from _attempt(request, stream, pool, epoch)
        # The server closed it while it was idle, most likely. Whether it processed the request can't be told:
        # a repeat is safe, or it would not have gone out here. Once, and never after the deadline.
        if answer is not None:
            return answer
    was_sent = stream is not None
    try:
        connected = yield Connect(request.origin)
    except TimeoutError:
        return Failure(f"Timed out connecting to {request.origin}.", processed=was_sent)
    except OSError as error:
        return Failure(f"Could not connect to {request.origin}: {error}", processed=was_sent)
    assert not isinstance(connected, bytes | None)  # the transport keeps its side of the bargain
    answer = yield from _attempt(request, connected, pool, epoch)
    assert answer is not None  # a fresh connection is not stale
    return answer


def _attempt(
    request: Request, stream: S, pool: Pool[S], epoch: int
) -> Generator[Step[S], "S | bytes | None", Answer | None]:
    """Try over one connection; `None`: it was reused, and broke before the first byte of an answer."""
    connection = stream.connection
    is_reused = connection.is_reusable
    answer: Answer | None = None
    try:
        yield Send(stream, connection.send(request))
        while answer is None:
            data = yield Receive(stream)
            assert isinstance(data, bytes)  # the transport keeps its side of the bargain
            answer = connection.receive(data)
    except TimeoutError:
        return Failure("Timed out waiting for the answer.")
    except OSError as error:
        answer = Failure(f"The connection broke: {error}")
    finally:
        if connection.is_reusable:
            pool.give(stream, epoch=epoch)
        else:
            stream.abort()
    if isinstance(answer, Failure) and is_reused and not connection.has_received:
        return None
    return answer
