"""HTTP/1.1 without a socket: bytes in, bytes out. Shared by the three native transports.

`Exchange` decides how one request becomes one answer: which connection it takes, when a stale one is
replaced, when a connection may be kept. It asks for I/O one step at a time, and a transport only does it.
"""

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Generic, TypeAlias

from clocknext_core import Answer, Failure, Origin, Request, Response
from clocknext_transports.http11.pool import Pool, S
from clocknext_transports.http11.tls import explained
from clocknext_transports.process.interrupts import let_pass

FREE_RECEIVES = 256
"""Receives of one answer that are never delayed; each `BYTES_PER_RECEIVE` bytes received allow one more."""
BYTES_PER_RECEIVE = 256
PAUSE = 0.005
"""Seconds before each receive beyond those, so that an answer in tiny pieces takes little CPU time."""


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
        self.epoch: int = pool.epoch
        """The pool's epoch when the exchange was made."""
        self._script = _script(request, pool, self.epoch)

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


def _script(request: Request, pool: Pool[S], epoch: int) -> _Script[S]:
    # A request that must not be repeated gets a new connection, which can't be stale.
    stream = pool.take(request.origin) if request.replay_safe else None
    if stream is not None:
        answer = yield from _attempt(request, stream, pool, epoch)
        # `None`: the server has most likely closed it. A repeat is safe, or it would not have gone out here.
        if answer is not None:
            return answer
    was_sent = stream is not None
    try:
        connected = yield Connect(request.origin)
    except OSError as error:
        let_pass(error)
        if isinstance(error, TimeoutError):
            return Failure(f"Timed out connecting to {request.origin}.", processed=was_sent)
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
    except OSError as error:
        let_pass(error)
        if isinstance(error, TimeoutError):
            return Failure("Timed out waiting for the answer.")
        answer = Failure(f"The connection broke: {error}")
    finally:
        if connection.is_reusable:
            pool.give(stream, epoch=epoch)
        else:
            stream.abort()
    if isinstance(answer, Failure) and is_reused and not connection.has_received:
        return None
    return answer
