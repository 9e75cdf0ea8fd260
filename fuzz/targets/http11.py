"""The HTTP/1.1 exchange: `Connection`, `Exchange` and `Pool`, fed arbitrary bytes in arbitrary splits.

Invariant: whatever bytes a peer sends, and however the network cuts them,

- nothing is raised; after the peer has closed there is an answer: a response or a failure;
- the same bytes give the same answer in any splits: the same response, or a failure each time;
- the short cut for plain answers shows nowhere: without it, the same parts give the same answer just as soon,
  and the connection is kept or not as with it;
- a response is complete: had the peer closed at any cut before its end, it were a failure. Only a body that
  by its headers lasts until the peer closes is exempt, since HTTP cannot tell its end from a loss; then no
  part of it opens as a payload, unless its JSON object was complete;
- no body is longer than the cap, and none is compressed, which could be a bomb;
- a connection is kept only after a complete answer with nothing behind it, and then carries a next exchange;
- every stream is closed once or kept once; a request that is not safe to repeat is sent at most once, a safe
  one at most twice, and twice only where a kept connection broke before the first byte;
- a failure's message is short and never shows the API key, even when the peer echoed it;
- no answer holds up an event loop: the fuzzer takes what lasts half a minute for a finding.

Allowed exceptions:

- a chunk's extension, or trailers, of more than `MAX_FRAMING_BYTES` may be read or refused, as the splits
  have it: h11 limits only what is incomplete, and tells nobody where the framing of a chunk begins.
"""

from collections.abc import Sequence
from itertools import accumulate

from clocknext_core import Answer, ClockNextError, Config, Failure, Request, Response
from clocknext_core.envelope import open_answer
from clocknext_transports.http11 import Connect, Connection, Exchange, Pool, Send
from clocknext_transports.http11.answers import MAX_FRAMING_BYTES, MAX_HEAD_BYTES
from fuzz.decoding import KEY, Decoder, cut, expanded, holds_key, with_key

MAX_BYTES = 1024

CAP = 300
NOW = 1_782_900_000.0
CONFIG = Config(KEY)
FINE_BYTES = 700
"""Inputs up to this length are also fed byte by byte."""
COARSE = 977
LONGEST = 2 * MAX_HEAD_BYTES + CAP

NEXT = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext"
KEPT = (None, "alive", "breaks before it has sent", "ends", "resets")
"""What becomes of a connection that is kept from before; `None`: there is none."""

TOKENS = (
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 \r\n"),
    *(
        b"HTTP/1.1 101 Switching Protocols\r\n",
        b"HTTP/1.1 304 Not Modified\r\n",
        b"\r\n\r\n",
        b"\r\n",
        b"\n\n",
    ),
    *(
        b"Content-Length: ",
        b"Content-Length: 12\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
    ),
    *(b"Connection: keep-alive\r\n", b"Content-Encoding: gzip\r\n", b"Content-Encoding: identity\r\n"),
    *(b"0\r\n\r\n", b"c\r\n", b"5;ext=1\r\n", b"Transfer-Encoding: identity, chunked\r\n", b'{"ok":true}'),
    *(b"\xff\x01", b"\xff\x10", b"\xff\x41", b"\xff\x00", b"\x01", b"Upgrade: x\r\n", b"x: y\r\n", b" x\r\n"),
)


class FakeStream:
    """A stream that counts how often it was closed.

    Args:
        connection: Its HTTP state.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.aborted = 0

    def is_stale(self) -> bool:
        """Say that nothing is known against it."""
        return False

    def abort(self) -> None:
        """Count."""
        self.aborted += 1


class Careful(Connection):
    """A connection that takes no short cut."""

    def _read_plain(self, data: bytes | bytearray) -> None:
        del data


def check(data: bytes) -> None:
    """Feed an answer: two choices, a number of places to cut at (two bytes each), then what the peer says."""
    decoder = Decoder(data)
    is_safe = decoder.below(2) == 1
    kept = decoder.pick(KEPT)
    places = [decoder.below(65536) for _ in range(decoder.below(8))]
    wire = with_key(expanded(decoder.rest(), LONGEST))
    request = _request(is_safe=is_safe)
    parts = cut(wire, places)
    answer = _check_splits(wire, parts, request)
    _check_short_cut([wire] if wire else [], request)
    _check_short_cut(parts, request)
    _check_exchange(parts, request, kept, answer)


def _request(*, is_safe: bool) -> Request:
    return Request("POST", "/api/v1/usage", CONFIG.origin, CONFIG.json_headers, b"{}", replay_safe=is_safe)


def _connection(kind: type[Connection] = Connection) -> Connection:
    return kind(max_answer_bytes=CAP, wall_clock=lambda: NOW)


def _feed(
    parts: Sequence[bytes], request: Request, kind: type[Connection] = Connection
) -> tuple[Answer, Connection, int]:
    """Feed the parts, then the end; return the answer and how many parts (the end is one) it took."""
    connection = _connection(kind)
    connection.send(request)
    for number, part in enumerate((*parts, b""), 1):
        assert part or number == len(parts) + 1
        answer = connection.receive(part)
        if answer is not None:
            return answer, connection, number
    raise AssertionError("no answer after the end")


def _check_splits(wire: bytes, parts: Sequence[bytes], request: Request) -> Answer:
    """Feed the same in three ways; return the answer to `parts`."""
    fine = range(len(wire)) if len(wire) <= FINE_BYTES else range(0, len(wire), COARSE)
    whole, kept, taken = _feed([wire] if wire else [], request)
    _check_answer(whole, kept, [wire][:taken], request)
    answers: list[Answer] = []
    for pieces in (cut(wire, fine), parts):
        answer, kept_too, taken = _feed(pieces, request)
        _check_answer(answer, kept_too, pieces[:taken], request)
        if isinstance(whole, Response) and isinstance(answer, Response):
            assert answer == whole, "cutting changed the answer"
            assert kept_too.is_reusable or not kept.is_reusable
        elif type(answer) is not type(whole):
            assert len(wire) > MAX_FRAMING_BYTES, (
                "cutting made an answer of a failure, or a failure of an answer"
            )
            assert b"chunked" in wire.lower()
        answers.append(answer)
    return answers[-1]


def _check_short_cut(parts: Sequence[bytes], request: Request) -> None:
    answer, kept, taken = _feed(parts, request)
    careful, kept_by_care, taken_with_care = _feed(parts, request, Careful)
    assert (answer, taken) == (careful, taken_with_care), "the short cut reads something else"
    assert kept.is_reusable == kept_by_care.is_reusable, "the short cut keeps another connection"
    assert kept.has_received == kept_by_care.has_received


def _check_answer(answer: Answer, connection: Connection, parts: Sequence[bytes], request: Request) -> None:
    if isinstance(answer, Failure):
        assert answer.processed
        assert not connection.is_reusable
        assert len(answer.message) < 100
        assert not holds_key(repr(answer))
        return
    assert len(answer.body) <= CAP
    encodings = [value for name, value in answer.headers if name == "content-encoding"]
    assert all(value.lower() in ("", "identity") for value in encodings)
    _check_complete(answer, parts, request)
    if connection.is_reusable:
        one_byte_less, _, _ = _feed([b"".join(parts)[:-1]], request)
        assert isinstance(one_byte_less, Failure), "a connection was kept with something behind the answer"
        connection.send(request)
        assert connection.receive(NEXT) == Response(200, [("content-length", "4")], b"next", NOW)


def _check_complete(answer: Response, parts: Sequence[bytes], request: Request) -> None:
    """Lose the end of what made the answer: it must not be one."""
    wire = b"".join(parts)
    until_close = (
        answer.header("transfer-encoding") is None
        and answer.header("content-length") is None
        and answer.status not in (204, 304)
    )
    edges = {edge for edge in accumulate(map(len, parts)) if edge < len(wire)}
    ends = sorted(edges)[:4] + sorted(edges)[-4:]
    # The answer may have been complete before the last part was, so that only earlier parts are too few.
    for end in ends:
        cut_short, _, _ = _feed([wire[:end]], request)
        if until_close and isinstance(cut_short, Response):
            assert answer.body.startswith(cut_short.body)
            payload = open_answer(cut_short, request=request, config=CONFIG)
            if not isinstance(payload, ClockNextError) and cut_short.status != 204:
                assert answer.body[len(cut_short.body) :].strip() == b"" or isinstance(
                    open_answer(answer, request=request, config=CONFIG), ClockNextError
                )
        else:
            assert isinstance(cut_short, Failure), "an incomplete answer was taken for one"


def _check_exchange(parts: Sequence[bytes], request: Request, kept: str | None, expected: Answer) -> None:
    """Carry the request out as a transport does, over a pool that may hold a connection."""
    pool = Pool[FakeStream](1)
    streams: list[FakeStream] = []
    if kept is not None:
        streams.append(FakeStream(_connection()))
        streams[0].connection.send(request)
        assert isinstance(streams[0].connection.receive(NEXT), Response)
        pool.give(streams[0])
    exchange = Exchange(request, pool)
    step = exchange.start()
    sent: list[bytes] = []
    waiting: list[bytes] = []
    while not isinstance(step, Response | Failure):
        if isinstance(step, Connect):
            streams.append(FakeStream(_connection()))
            step = exchange.resume(streams[-1])
            continue
        is_kept = kept is not None and step.stream is streams[0]
        if isinstance(step, Send):
            waiting = [*parts, b""]
            if is_kept and kept == "breaks before it has sent":
                step = exchange.fail(BrokenPipeError("broken pipe"))
                sent.append(b"")
            else:
                sent.append(bytes(step.data))
                step = exchange.resume(None)
        elif is_kept and kept == "ends":
            step = exchange.resume(b"")
        elif is_kept and kept == "resets":
            step = exchange.fail(ConnectionResetError("reset"))
        else:
            step = exchange.resume(waiting.pop(0))
    exchange.close()
    is_retried = request.replay_safe and kept is not None and (kept != "alive" or not parts)
    assert len(sent) == 1 + is_retried
    assert len({data for data in sent if data}) == 1, "the retry sent other bytes"
    assert len(streams) == (kept is not None) + (is_retried or not request.replay_safe or kept is None)
    assert type(step) is type(expected)
    if isinstance(step, Response):
        assert step == expected
    idle = pool.clear()
    assert len(idle) <= 1
    assert all(stream.connection.is_reusable for stream in idle)
    assert [stream.aborted for stream in streams] == [1] * len(streams)
