"""One HTTP/1.1 connection without its socket: the bytes of a request, and the answer in those that come."""

import time
from collections.abc import Callable, Sequence

from clocknext_core import Answer, Failure, Origin, Request, Response
from clocknext_core.messages import Header
from clocknext_core.verdicts import DOUBTFUL_FROM
from clocknext_transports.http11.answers import Reader
from clocknext_transports.http11.fast import read_plain, write_head

MAX_ANSWER_BYTES = 1024 * 1024
"""Most bytes of an answer's body that are read, by default."""


class Connection:
    """One connection's HTTP/1.1 state: exchanges follow each other, one at a time.

    Args:
        max_answer_bytes: A longer answer is a failure.
        max_idle_time: Seconds of idleness after which it is not used again; `None`: the default.
        wall_clock: Seconds since 1970, to stamp answers with.
    """

    def __init__(
        self,
        *,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        max_idle_time: float | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._max_answer_bytes = max_answer_bytes
        self.max_idle_time = max_idle_time
        self._wall_clock = wall_clock
        self._method = ""
        self._reader: Reader | None = None
        """Reads the answer, once it has turned out not to be a plain one."""
        self._begun = bytearray()
        """The beginning of an answer that may be a plain one."""
        self._needed = 0
        """How many bytes there must be before more can be said about it."""
        self._head_of: Request | None = None
        """The request whose head was written last: consecutive requests mostly have the same head."""
        self._head = b""
        self.origin: Origin | None = None
        """Where the connection leads to: the origin of its first request. It carries no other's."""
        self.has_received: bool = False
        """Whether any byte came since the request was sent: until then a reused connection may be stale."""
        self.is_reusable: bool = False
        """Whether the next request may go over this connection. Set when an exchange has ended well."""
        self.last_headers: Sequence[Header] = ()
        """The headers of the last answer: a server says there how long it keeps an idle connection."""

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
        self._begun.clear()
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
            answer = self._go_on(data) if self._begun else self._read_plain(data)
            if isinstance(answer, Response):
                self.has_received = True
                return self._end(answer, is_clean=True)
            if answer is not None:
                self._begun += data
                self._needed = answer
                self.has_received = True
                return None
            self._reader = self._make_reader()
            if self._begun:
                self._reader.receive(bytes(self._begun))
        self.has_received = self.has_received or bool(data)
        outcome = self._reader.receive(data)
        if isinstance(outcome, Failure):
            return outcome
        return outcome and self._end(outcome, is_clean=self._reader.is_clean)

    def _end(self, answer: Response, *, is_clean: bool) -> Response:
        self.is_reusable = is_clean and answer.status < DOUBTFUL_FROM
        self.last_headers = answer.headers
        return answer

    def _go_on(self, data: bytes) -> Response | int | None:
        """Read on in a plain answer: many servers send the head, the body and its end one after the other."""
        if not data or len(self._begun) + len(data) < self._needed:
            return self._needed if data else None
        return self._read_plain(self._begun + data)

    def _read_plain(self, data: bytes | bytearray) -> Response | int | None:
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
