"""Exchanges over one pool beside a model that knows what the peers will say, to the byte.

The model parses nothing: it is told with each answer where it ends, what it means and whether the connection
may be kept. It keeps its own list of idle connections and of who holds which, and after every step each
connection is held by one exchange, or idle, or closed exactly once.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from clocknext_core import Answer, Failure, Request, Response
from clocknext_transports.http11 import Connect, Connection, Exchange, Pool, Receive, Send, Step
from tests.transports.support import KEY, request

URL = "https://api.example"
NOW = 1_782_900_000.0
CAP = 60
"""Most bytes of an answer's body: small, so that answers around it are cheap to cut at every byte."""

OK = "HTTP/1.1 200 OK"
CODED = "Transfer-Encoding: chunked"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"

ERRORS: Mapping[str, OSError] = {
    "reset": ConnectionResetError("reset"),
    "broken pipe": BrokenPipeError("broken pipe"),
    "no route": OSError(113, "No route to host"),
}


@dataclass(frozen=True)
class Wire:
    """What a peer says to one request, and what that means."""

    data: bytes
    due: int | None
    """After so many bytes there is an outcome; `None`: not before the peer closes."""
    response: Response | None = None
    """The outcome, if it is an answer."""
    keeps: bool = False
    """Whether the connection may be used again, if nothing came after the answer."""
    exact: bool = True
    """Whether there is no outcome before it is due."""
    open_from: int | None = None
    """Where a body begins that goes on until the peer closes."""


def _head(line: str, *fields: str) -> bytes:
    return "\r\n".join([line, *fields, "", ""]).encode()


def _whole(
    head: bytes,
    body: bytes = b"",
    *,
    content: bytes | None = None,
    status: int = 200,
    keeps: bool = True,
    rest: bytes = b"",
) -> Wire:
    """Make a complete answer: its head, its body as sent and as meant, and what follows unasked."""
    data = head + body
    lines = head.rpartition(b"HTTP/1.")[2].decode("latin-1").split("\r\n")[1:-2]
    pairs = [line.partition(":") for line in lines]
    headers = [(name.lower(), value.strip()) for name, _, value in pairs]
    meant = Response(status, headers, body if content is None else content, NOW)
    return Wire(data + rest, len(data), meant, keeps)


def _length(body: bytes) -> str:
    return f"Content-Length: {len(body)}"


def _chunks(*parts: bytes, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    sent = b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts)
    return sent + b"0\r\n" + trailers + b"\r\n"


def _table(body: bytes) -> dict[str, Wire]:
    start, end = body[:5], body[5:]
    full, over = b"x" * CAP, b"x" * (CAP + 1)
    plain = _head(OK, _length(body))
    to_close = _head(OK, "X: 1")
    over_coded = _head(OK, CODED) + b"%x\r\n" % CAP + full + b"\r\n1\r\nx\r\n0\r\n\r\n"
    return {
        # Answers, and the connection goes on.
        "plain": _whole(plain, body),
        "no reason": _whole(_head("HTTP/1.1 200", _length(body)), body),
        "after others": _whole(INTERIM + plain, body),
        "chunked": _whole(_head(OK, CODED), _chunks(start, end), content=body),
        "chunked, with extension": _whole(_head(OK, CODED), _chunks(body, extension=b";a=1"), content=body),
        "chunked, with trailers": _whole(
            _head(OK, CODED), _chunks(body, trailers=b"X-Sum: 1\r\nY: 2\r\n"), content=body
        ),
        "chunked, empty": _whole(_head(OK, CODED), _chunks(), content=b""),
        "empty": _whole(_head(OK, "Content-Length: 0")),
        "204": _whole(_head("HTTP/1.1 204 No Content"), status=204),
        "204, of no length": _whole(_head("HTTP/1.1 204 No Content", "Content-Length: 0"), status=204),
        "304": _whole(_head("HTTP/1.1 304 Not Modified", "Content-Length: 9"), status=304),
        "503": _whole(
            _head("HTTP/1.1 503 Busy", "Retry-After: 3", _length(body)), body, status=503, keeps=False
        ),
        "identity": _whole(_head(OK, "Content-Encoding: Identity", _length(body)), body),
        "at the cap": _whole(_head(OK, _length(full)), full),
        "at the cap, chunked": _whole(_head(OK, CODED), _chunks(full[1:], b"x"), content=full),
        # Answers, but the connection is over.
        "close": _whole(_head(OK, "Connection: close", _length(body)), body, keeps=False),
        "HTTP/1.0": _whole(
            _head("HTTP/1.0 200 OK", "Connection: keep-alive", _length(body)), body, keeps=False
        ),
        "until close": Wire(to_close + body, None, open_from=len(to_close)),
        "two framings": _whole(
            _head(OK, "Content-Length: 3", CODED), _chunks(body), content=body, keeps=False
        ),
        "204, of some length": _whole(
            _head("HTTP/1.1 204 No Content", _length(body)), status=204, keeps=False, rest=body
        ),
        "204, chunked": _whole(_head("HTTP/1.1 204 No Content", CODED), status=204, keeps=False),
        "answered twice": _whole(plain, body, rest=plain + body),
        # No answers.
        "gzip": Wire(
            _head(OK, "Content-Encoding: gzip", _length(body)) + body,
            len(_head(OK, "Content-Encoding: gzip", _length(body))),
        ),
        "two encodings": Wire(
            _head(OK, "Content-Encoding: identity", "Content-Encoding: br", "Content-Length: 0"),
            len(_head(OK, "Content-Encoding: identity", "Content-Encoding: br", "Content-Length: 0")),
        ),
        "too long": Wire(
            _head(OK, _length(over + over)) + over + over, len(_head(OK, _length(over + over)) + over)
        ),
        "too long, chunked": Wire(over_coded, len(over_coded) - len(b"\r\n0\r\n\r\n")),
        "too long, until close": Wire(to_close + over, len(to_close + over), open_from=len(to_close)),
        "only interim": Wire(INTERIM, None),
        "last chunk missing": Wire(_head(OK, CODED) + _chunks(body)[:-5], None),
        "garbage": Wire(b"\x00\x01\x02 what?\r\n\r\n", 14, exact=False),
        "echo": Wire(f"Bearer {KEY}\r\n\r\n".encode(), len(KEY) + 11, exact=False),
        "mail": Wire(b"220 mail.example\r\n\r\n", 20, exact=False),
        "blank line first": Wire(b"\r\n\r\n" + plain + body, len(plain + body) + 4, exact=False),
        "two lengths": Wire(
            _head(OK, "Content-Length: 1", "Content-Length: 2") + b"x",
            len(_head(OK, "Content-Length: 1", "Content-Length: 2")),
        ),
        "bad chunk": Wire(_head(OK, CODED) + b"zz\r\n", len(_head(OK, CODED)) + 4, exact=False),
        "bad chunk end": Wire(
            _head(OK, CODED) + b"1\r\nxyz\r\n0\r\n\r\n", len(_head(OK, CODED)) + 6, exact=False
        ),
        "upgrade": Wire(
            _head("HTTP/1.1 101 Switching Protocols"), len(_head("HTTP/1.1 101 Switching Protocols"))
        ),
    }


NAMES = sorted(_table(b""))


def wire(name: str, number: int) -> Wire:
    """Make what a peer says, with a body that no other exchange is told."""
    return _table(b'{"ok": %06d}' % number)[name]


class PeerStream:
    """A connection whose peer does as it is told."""

    def __init__(self) -> None:
        self.connection = Connection(max_answer_bytes=CAP, wall_clock=lambda: NOW)
        self.shows_stale = False
        self.aborted = 0
        self.exchanges = 0

    def is_stale(self) -> bool:
        return self.shows_stale

    def abort(self) -> None:
        self.aborted += 1


Stage: TypeAlias = Literal["new", "connecting", "sending", "receiving", "ended"]


@dataclass(eq=False)
class Book:
    """What the model knows of one exchange."""

    exchange: Exchange[PeerStream]
    request: Request
    wire: Wire
    stage: Stage = "new"
    stream: PeerStream | None = None
    is_reused: bool = False
    fed: int = 0
    """Bytes of the answer received over the stream it holds."""
    epoch: int = 0
    """How often the pool had been cleared when it began."""
    sent: int = 0
    """How often the request was given to a connection."""
    outcome: Answer | None = None

    @property
    def held(self) -> PeerStream:
        assert self.stream is not None
        return self.stream


def bytes_of(sent: Request) -> bytes:
    """Write the request as it must go out."""
    body = sent.body or b""
    fields = [f"{name}: {value}" for name, value in sent.headers]
    line = f"{sent.method} {sent.target} HTTP/1.1"
    return _head(line, f"Host: {sent.origin.authority}", *fields, _length(body)) + body


@dataclass
class World:
    """A pool, the exchanges that use it, and their model."""

    limit: int
    seen: Counter[str] = field(default_factory=Counter[str])
    """What did happen, to tell a run that proves something from one that does not."""

    def __post_init__(self) -> None:
        self.pool: Pool[PeerStream] = Pool(self.limit)
        self.idle: list[PeerStream] = []
        self.open_streams: set[PeerStream] = set()
        self.closed: list[PeerStream] = []
        self.live: list[Book] = []
        self.number = 0
        self.epoch = 0
        """How often the pool was cleared."""

    # Inputs

    def open(self, name: str, *, safe: bool = True) -> Book:
        self.number += 1
        sent = request(URL, body=b'{"number": %d}' % self.number, safe=safe)
        book = Book(Exchange(sent, self.pool), sent, wire(name, self.number))
        book.epoch = self.epoch
        self.live.append(book)
        return book

    def start(self, book: Book) -> None:
        taken = None
        stale: list[PeerStream] = []
        while book.request.replay_safe and taken is None and self.idle:
            last = self.idle.pop()
            if last.shows_stale:
                stale.append(last)
                self.seen["stale and seen to be"] += 1
            else:
                taken = last
        if not book.request.replay_safe and self.idle:
            self.seen["kept from a kept connection"] += 1
        step = book.exchange.start()
        for stream in stale:
            self._closes(stream)
        if taken is None:
            self._connects(book, step)
        else:
            self._sends(book, step, taken)
            self.seen["reused"] += 1

    def connect(self, book: Book) -> None:
        stream = PeerStream()
        self.open_streams.add(stream)
        self._sends(book, book.exchange.resume(stream), stream)

    def send(self, book: Book) -> None:
        self._receives(book, book.exchange.resume(None))

    def feed(self, book: Book, count: int, surplus: bytes = b"") -> None:
        """Let the next bytes of the answer come, and the surplus in one piece with its last."""
        data = book.wire.data[book.fed : book.fed + count]
        book.fed += len(data)
        if book.wire.response is None or book.fed < len(book.wire.data):
            surplus = b""  # there is no whole answer for it to be surplus to
        data += surplus
        if not data:
            return
        step = book.exchange.resume(data)
        due = book.wire.due
        if due is None or book.fed < due:
            if book.wire.exact or not isinstance(step, Failure):
                self._receives(book, step)
            else:
                self._fails(book, step, processed=True)
        elif book.wire.response is None:
            self.seen["invalid"] += 1
            self._fails(book, step, processed=True)
        else:
            is_clean = book.fed == due and not surplus
            if not is_clean:
                self.seen["surplus"] += 1
            self._answers(book, step, book.wire.response, keeps=book.wire.keeps and is_clean)

    def end(self, book: Book) -> None:
        """Let the peer close in good order."""
        step = book.exchange.resume(b"")
        begins = book.wire.open_from
        if begins is not None and book.fed >= begins:
            head = book.wire.data[:begins].split(b"\r\n")[1:-2]
            pairs = [line.decode().split(": ") for line in head]
            headers = [(name.lower(), value) for name, value in pairs]
            answer = Response(200, headers, book.wire.data[begins : book.fed], NOW)
            self.seen["until close"] += 1
            self._answers(book, step, answer, keeps=False)
        else:
            self._breaks(book, step)

    def fail(self, book: Book, error: OSError) -> None:
        step = book.exchange.fail(error)
        if book.stage == "connecting":
            self.seen["refused"] += 1
            self._fails(book, step, processed=book.sent > 0)
        else:
            self._breaks(book, step)

    def expire(self, book: Book, *, by_error: bool) -> None:
        """Let the deadline come: whatever it was at, that is the end."""
        step = book.exchange.fail(TimeoutError()) if by_error else book.exchange.expire()
        self.seen["timed out"] += 1
        self._fails(book, step, processed=book.stage != "connecting" or book.sent > 0)

    def close(self, book: Book) -> None:
        """Break it off, wherever it is."""
        book.exchange.close()
        self._lets_go(book)
        self.seen["broken off"] += 1
        self.check()

    def trouble(self, stream: PeerStream) -> None:
        """Let the peer of an idle connection close it, or say something unasked."""
        stream.shows_stale = True

    def clear(self) -> None:
        """Close what is idle, as a client does that is closed. What goes on leaves none open after it."""
        self.epoch += 1
        idle, self.idle = self.idle, []
        assert self.pool.clear() == idle
        for stream in idle:
            self._closes(stream)
        self.check()

    def finish(self) -> None:
        """Break off what goes on; then everything that was ever opened is closed, once."""
        for book in list(self.live):
            self.close(book)
        self.clear()
        assert not self.open_streams
        assert {stream.aborted for stream in self.closed} <= {1}

    def check(self) -> None:
        """Compare the books: each connection is held by one exchange, idle, or closed exactly once."""
        held = [book.stream for book in self.live if book.stream is not None]
        assert len(self.idle) <= self.limit
        assert len(held) + len(self.idle) == len(self.open_streams)
        assert {*held, *self.idle} == self.open_streams
        assert not any(stream.aborted for stream in self.open_streams)
        for stream in self.idle:
            assert stream.connection.is_reusable

    # What a step must be

    def _connects(self, book: Book, step: Step[PeerStream] | Answer) -> None:
        assert step == Connect(book.request.origin)
        book.stage = "connecting"
        self.check()

    def _sends(self, book: Book, step: Step[PeerStream] | Answer, stream: PeerStream) -> None:
        assert isinstance(step, Send)
        assert step.stream is stream
        assert step.data == bytes_of(book.request)
        book.is_reused = stream.exchanges > 0
        assert book.request.replay_safe or not book.is_reused, "not replay safe, over a reused connection"
        stream.exchanges += 1
        book.stream, book.stage, book.fed = stream, "sending", 0
        book.sent += 1
        assert book.sent <= (2 if book.request.replay_safe else 1)
        self.check()

    def _receives(self, book: Book, step: Step[PeerStream] | Answer) -> None:
        assert isinstance(step, Receive), f"no outcome is due: {step}"
        assert step.stream is book.stream
        book.stage = "receiving"
        self.check()

    def _breaks(self, book: Book, step: Step[PeerStream] | Answer) -> None:
        """The connection broke. One that may just have been stale is replaced, once."""
        if book.is_reused and book.fed == 0:
            self._closes(book.held)
            book.stream = None
            self.seen["stale retry"] += 1
            self._connects(book, step)
        else:
            self.seen["broken" if book.fed == 0 else "cut short"] += 1
            self._fails(book, step, processed=True)

    def _answers(self, book: Book, step: Step[PeerStream] | Answer, answer: Response, *, keeps: bool) -> None:
        assert step == answer
        stream = book.held
        assert stream.connection.is_reusable == keeps
        if keeps and book.epoch != self.epoch:
            self.seen["outlived a clear"] += 1
        elif keeps and len(self.idle) < self.limit:
            book.stream = None
            self.idle.append(stream)
            self.seen["kept"] += 1
        elif keeps:
            self.seen["pool full"] += 1
        self._settles(book, answer)
        self.seen["answered"] += 1

    def _fails(self, book: Book, step: Step[PeerStream] | Answer, *, processed: bool) -> None:
        assert isinstance(step, Failure), f"an outcome is due: {step}"
        assert step.processed == processed
        assert KEY not in repr(step)
        if not processed:
            self.seen["unprocessed"] += 1
        self._settles(book, step)

    def _settles(self, book: Book, outcome: Answer) -> None:
        assert book.outcome is None, "a second outcome"
        book.outcome = outcome
        self._lets_go(book)
        self.check()
        book.exchange.close()  # as every transport does in the end: it changes nothing
        self.check()

    def _lets_go(self, book: Book) -> None:
        if book.stream is not None:
            self._closes(book.stream)
        book.stream, book.stage = None, "ended"
        self.live.remove(book)

    def _closes(self, stream: PeerStream) -> None:
        assert stream.aborted == 1, "left open"
        self.open_streams.remove(stream)
        self.closed.append(stream)
