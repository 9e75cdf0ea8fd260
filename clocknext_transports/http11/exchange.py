"""HTTP/1.1 without a socket: bytes in, bytes out. Shared by the three native transports.

`Exchange` decides how one request becomes one answer: which connection it takes, when a stale one is
replaced, when a connection may be kept. It asks for I/O one step at a time, and a transport only does it.
"""

import threading
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from clocknext_core import Answer, Failure, Origin, Request, Response
from clocknext_transports.http11.answers import Reader
from clocknext_transports.http11.fast import read_plain, write_head

MAX_ANSWER_BYTES = 1024 * 1024
"""Most bytes of an answer's body that are read, by default."""

TRUSTED_FOR = 60.0
"""Seconds that a kept connection is trusted. Beyond them, whatever lies between may have forgotten it.

A function that was frozen for hours, or a machine that slept, finds such connections when it goes on.
"""


class Connection:
    """One connection's HTTP/1.1 state: exchanges follow each other, one at a time.

    Args:
        max_answer_bytes: A longer answer is a failure.
        wall_clock: Seconds since 1970, to stamp answers with.
    """

    def __init__(
        self, *, max_answer_bytes: int = MAX_ANSWER_BYTES, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._max_answer_bytes = max_answer_bytes
        self._wall_clock = wall_clock
        self._method = ""
        self._reader: Reader | None = None
        """What reads the answer, once it has turned out not to be a plain one."""
        self._head_of: object = None
        """The request whose head was written last, without its body: the next one's is the same, mostly."""
        self._head = b""
        self.has_received = False
        """Whether any byte came since the request was sent: until then a reused connection may be stale."""
        self.is_reusable = False
        """Whether the next request may go over this connection. Set when an exchange has ended well."""

    def send(self, request: Request) -> bytes:
        """Begin an exchange: return the bytes of the request.

        Raises:
            ValueError: It would not arrive as what it is.
        """
        self.has_received = self.is_reusable = False
        self._reader = None
        self._method = request.method
        head_of = (request.method, request.target, request.origin, request.headers)
        if head_of != self._head_of:
            self._head = write_head(request)
            self._head_of = head_of
        body = request.body or b""
        if body or request.method not in ("GET", "DELETE"):
            return b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body)
        return self._head + b"\r\n"

    def receive(self, data: bytes) -> Answer | None:
        """Take bytes as they came (`b""`: the peer closed). Return the answer once it is complete."""
        if self._reader is None:
            if (answer := self._read_plain(data)) is not None:
                self.has_received = self.is_reusable = True
                return answer
            self._reader = self._make_reader()
        self.has_received = self.has_received or bool(data)
        outcome = self._reader.receive(data)
        self.is_reusable = self._reader.is_clean
        return outcome

    def _read_plain(self, data: bytes) -> Response | None:
        return read_plain(
            self._method, data, max_answer_bytes=self._max_answer_bytes, received_at=self._wall_clock()
        )

    def _make_reader(self) -> Reader:
        return Reader(self._method, max_answer_bytes=self._max_answer_bytes, wall_clock=self._wall_clock)


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


@dataclass(slots=True)
class Connect:
    """Open a connection to the origin (with TLS for https), and resume with it."""

    origin: Origin


@dataclass(slots=True)
class Send(Generic[S]):
    """Send all of these bytes, and resume with nothing."""

    stream: S
    data: bytes


@dataclass(slots=True)
class Receive(Generic[S]):
    """Receive some bytes, and resume with them (`b""`: the peer closed)."""

    stream: S


Step: TypeAlias = Connect | Send[S] | Receive[S]
ENDS = (Response, Failure)
"""What is no step, but the end of an exchange. A union in its place would be made each time anew."""
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
        assert isinstance(answer, ENDS)  # after the deadline there are no more steps
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
        while not isinstance(step, ENDS):
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
