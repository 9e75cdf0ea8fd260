"""HTTP/1.1 without a socket: bytes in, bytes out, over h11. Shared by the three native transports.

`Exchange` decides how one request becomes one answer: which connection it takes, when a stale one is
replaced, when a connection may be kept. It asks for I/O one step at a time, and a transport only does it.
"""

import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

import h11

from clocknext_core import Answer, Failure, Origin, Request, Response

MAX_ANSWER_BYTES = 1024 * 1024
"""Most bytes of an answer's body that are read, by default."""


class Connection:
    """One connection's HTTP/1.1 state: exchanges follow each other, one at a time.

    Args:
        max_answer_bytes: A longer answer is a failure.
        wall_clock: Seconds since 1970, to stamp answers with.
    """

    def __init__(
        self, *, max_answer_bytes: int = MAX_ANSWER_BYTES, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._h11 = h11.Connection(h11.CLIENT)
        self._max_answer_bytes = max_answer_bytes
        self._wall_clock = wall_clock
        self._head: h11.Response | None = None
        self._body = bytearray()
        self.has_received = False
        """Whether any byte came since the request was sent: until then a reused connection may be stale."""
        self.is_reusable = False
        """Whether the next request may go over this connection. Set when an exchange has ended well."""

    def send(self, request: Request) -> bytes:
        """Begin an exchange: return the bytes of the request."""
        self.has_received = self.is_reusable = False
        self._head = None
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
        try:
            self._h11.receive_data(data)
            return self._read_events()
        except h11.RemoteProtocolError:
            # Without h11's own words, which may quote the peer, and the peer our key.
            if not data:
                return Failure("The connection was closed in the middle of the answer.")
            return Failure("The answer is not valid HTTP.")

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
            and not has_ended
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
    """Idle keep-alive connections, the latest used on top.

    Args:
        limit: Most connections kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._idle: list[S] = []

    def take(self) -> S | None:
        """Take an idle connection that still looks alive."""
        while self._idle:
            try:
                stream = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            if not stream.is_stale():
                return stream
            stream.abort()
        return None

    def give(self, stream: S) -> None:
        """Keep a connection for later, or close it if there are enough."""
        if len(self._idle) < self._limit:
            self._idle.append(stream)
        else:
            stream.abort()

    def clear(self) -> list[S]:
        """Close every idle connection, and return them."""
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
    # A request that must not be repeated gets a connection that can't be stale.
    stream = pool.take() if request.replay_safe else None
    if stream is not None:
        answer = yield from _attempt(request, stream, pool)
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
    answer = yield from _attempt(request, connected, pool)
    assert answer is not None  # a fresh connection is not stale
    return answer


def _attempt(
    request: Request, stream: S, pool: Pool[S]
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
            pool.give(stream)
        else:
            stream.abort()
    if isinstance(answer, Failure) and is_reused and not connection.has_received:
        return None
    return answer
