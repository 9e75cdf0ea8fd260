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
from clocknext_transports.http11.tls import explained
from clocknext_transports.process.interrupts import let_pass

MAX_ANSWER_BYTES = 1024 * 1024
"""Most bytes of an answer's body that are read, by default."""

TRUSTED_FOR = 60.0
"""Seconds of idleness after which a kept connection is not used again: a firewall or a load balancer between
may have forgotten it.

A function that was frozen for hours, or a machine that slept, finds such connections when it goes on.
"""

MAX_AGE = 300.0
"""Seconds after it was opened at which a connection is not used again, so that a client that never idles
follows a host name that has moved."""


@dataclass(slots=True)
class Age:
    """How old a connection is, in seconds on its transport's clock."""

    opened_at: float
    used_at: float
    """When bytes were received over it last."""

    def is_over(self, now: float) -> bool:
        """Return whether the connection has been idle, or open, for too long to be used again."""
        return now - self.used_at > TRUSTED_FOR or now - self.opened_at > MAX_AGE


FREE_RECEIVES = 256
"""Receives of one answer that are never delayed; each `BYTES_PER_RECEIVE` bytes received allow one more."""
BYTES_PER_RECEIVE = 256
PAUSE = 0.005
"""Seconds before each receive beyond those, so that an answer in tiny pieces takes little CPU time."""


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
        """Reads the answer, once it has turned out not to be a plain one."""
        self._head_of: Request | None = None
        """The request whose head was written last: consecutive requests mostly have the same head."""
        self._head = b""
        self.origin: Origin | None = None
        """Where the connection leads to: the origin of its first request. It carries no other's."""
        self.has_received: bool = False
        """Whether any byte came since the request was sent: until then a reused connection may be stale."""
        self.is_reusable: bool = False
        """Whether the next request may go over this connection. Set when an exchange has ended well."""

    def send(self, request: Request) -> bytes:
        """Begin an exchange and return the bytes of the request.

        Raises:
            ValueError: The request can't be sent over HTTP/1.1 as it is, or it is for another origin than the
                connection.
        """
        if self.origin not in (None, request.origin):
            raise ValueError(f"A connection to {self.origin} can't carry a request to {request.origin}.")
        self.origin = request.origin
        self.has_received = self.is_reusable = False
        self._reader = None
        self._method = request.method
        if self._head_of is None or not _have_same_head(self._head_of, request):
            self._head = write_head(request)
            self._head_of = request
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


def _have_same_head(one: Request, other: Request) -> bool:
    return (
        one.method == other.method
        and one.target == other.target
        and one.origin == other.origin
        and one.headers == other.headers
    )


class Stream(Protocol):
    """A transport's connection: a socket of its kind, with the HTTP state that belongs to it."""

    connection: Connection

    def is_stale(self) -> bool:
        """Return whether an idle connection is unfit: too old, closed by the peer, or with unasked bytes."""
        ...

    def abort(self) -> None:
        """Close it at once, without waiting for anything."""
        ...


S = TypeVar("S", bound=Stream)


class Pool(Generic[S]):
    """Idle keep-alive connections by origin, the latest used on top. Thread-safe.

    A transport that serves several clients has one pool. A connection is only ever given out for the origin
    (scheme, host and port) it leads to, so that no server sees the API key of another. TLS settings are the
    transport's, and so the same for all connections of a pool.

    Args:
        limit: Most connections kept for each origin.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._idle: dict[Origin, list[S]] = {}
        self._lock = threading.Lock()
        self.epoch: int = 0
        """How often it has been cleared."""

    def take(self, origin: Origin) -> S | None:
        """Return an idle connection to an origin that still looks alive, `None` if there is none."""
        while True:
            with self._lock:
                idle = self._idle.get(origin)
                if not idle:
                    return None
                stream = idle.pop()
            if not stream.is_stale():
                return stream
            stream.abort()

    def give(self, stream: S, *, epoch: int = 0) -> None:
        """Keep a connection for later, or close it: there are enough, or its exchange began in another epoch.

        A connection that was in use when the pool was cleared would stay open, since no other clearing may
        follow.
        """
        origin = stream.connection.origin
        is_kept = False
        if origin is not None:
            with self._lock:
                idle = self._idle.setdefault(origin, [])
                is_kept = epoch == self.epoch and len(idle) < self._limit
                if is_kept:
                    idle.append(stream)
        if not is_kept:
            stream.abort()

    def clear(self) -> list[S]:
        """Close every idle connection and return them. Those in use are closed when their exchange ends."""
        with self._lock:
            self.epoch += 1
            streams = [stream for idle in self._idle.values() for stream in idle]
            self._idle = {}
        for stream in streams:
            stream.abort()
        return streams


@dataclass(slots=True)
class Connect:
    """Open a connection to the origin (with TLS for https), and resume with it."""

    origin: Origin


@dataclass(slots=True)
class Send(Generic[S]):
    """Send all of these bytes, and resume with nothing.

    The bytes hold the API key. They are a view, whose repr shows nothing of them: where an exception strikes
    a blocking send, tracebacks and error reports show the variables of its frames.
    """

    stream: S
    data: memoryview


@dataclass(slots=True)
class Receive(Generic[S]):
    """Receive some bytes, and resume with them (`b""`: the peer closed)."""

    stream: S
    after: float = 0.0
    """Seconds to wait first: more than 0 where the answer comes in too many small pieces."""


Step: TypeAlias = Connect | Send[S] | Receive[S]
ENDS = (Response, Failure)
"""The classes that end an exchange. As a tuple: a union would be built at each `isinstance`."""
_Script: TypeAlias = Generator[Step[S], "S | bytes | None", Answer]


class Exchange(Generic[S]):
    """One request and its answer, as steps of I/O for a transport to take.

    Begin with `start`; give the result of each step to `resume` or its `OSError` to `fail`; each returns the
    next step, or the answer, which is the end. `close` at the end in any case: it closes what is not kept.

    Args:
        request: The request to send.
        pool: Where connections come from and go back to.
    """

    def __init__(self, request: Request, pool: Pool[S]) -> None:
        self._pool = pool
        self._script = _script(request, pool)
        self.epoch: int = pool.epoch
        """The pool's epoch when the exchange began."""

    def start(self) -> Step[S] | Answer:
        """Return the first step."""
        self.epoch = self._pool.epoch
        return self.resume(None)

    def resume(self, result: S | bytes | None) -> Step[S] | Answer:
        """Take the result of a step and return the next."""
        try:
            return self._script.send(result)
        except StopIteration as end:
            answer: Answer = end.value
            return answer

    def fail(self, error: OSError) -> Step[S] | Answer:
        """Take the error of a step (`TimeoutError`: the deadline has come) and return the next.

        A signal handler's is raised again: it is not the connection's.
        """
        let_pass(error)
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
    # A request that must not be repeated gets a new connection, which can't be stale.
    stream = pool.take(request.origin) if request.replay_safe else None
    if stream is not None:
        answer = yield from _attempt(request, stream, pool, epoch)
        # `None`: most likely the server closed it while it was idle. Whether it processed the request is not
        # known, but a repeat is safe, or the request would not have gone out here. It is repeated once.
        if answer is not None:
            return answer
    was_sent = stream is not None
    try:
        connected = yield Connect(request.origin)
    except TimeoutError:
        return Failure(f"Timed out connecting to {request.origin}.", processed=was_sent)
    except OSError as error:
        return Failure(f"Could not connect to {request.origin}: {explained(error)}", processed=was_sent)
    assert not isinstance(connected, bytes | None)  # a transport resumes `Connect` with a stream
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
    allowed = FREE_RECEIVES
    try:
        yield Send(stream, memoryview(connection.send(request)))
        while answer is None:
            data = yield Receive(stream, 0.0 if allowed > 0 else PAUSE)
            assert isinstance(data, bytes)  # a transport resumes `Receive` with bytes
            allowed += len(data) // BYTES_PER_RECEIVE - 1
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
