"""HTTP/1.1 answers of every kind, read by h11: in pieces, in chunks, until the peer closes, or invalid."""

import re
from collections.abc import Callable

import h11

from clocknext_core import Answer, Failure, Response

MAX_HEAD_BYTES = 64 * 1024
"""Most bytes of an answer's head, together with the interim answers before it."""
MAX_FRAMING_BYTES = 2048
"""Most bytes of a chunk's size and extension, or of the trailers, that h11 holds while it is incomplete."""
MAX_HEAD_LINES = 1000
"""Most lines of one head: h11's time grows with them."""
FREE_FRAMING_BYTES = 8 * 1024
"""Bytes of chunk sizes, extensions and trailers beyond which they may be no more than the body's bytes.

Reading a chunk takes the same time whatever its length: a MiB in chunks of one byte would take ten seconds of
CPU time.
"""

_NOT_HTTP = "The answer is not valid HTTP."
_HEAD_END = re.compile(rb"\n\r?\n")
_SPOILT = re.compile(rb"[\0\v\f]|\r[^\n]")
"""Bytes that no head may hold. h11 refuses them too, but its time grows with the square of the blanks before
them: a minute for an answer of 64 KiB, which no deadline can interrupt."""


class Reader:
    """Reads one answer.

    Args:
        method: The request's method.
        max_answer_bytes: Most bytes of the body; a longer one is a failure.
        wall_clock: Returns the seconds since 1970, to stamp the answer with.
    """

    def __init__(self, method: str, *, max_answer_bytes: int, wall_clock: Callable[[], float]) -> None:
        # This does not limit a head: h11 gets each head complete.
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_FRAMING_BYTES)
        # h11 writes no request here; it needs the method to know how to read the answer.
        self._h11.send(h11.Request(method=method, target="/", headers=[("Host", "")]))
        self._h11.send(h11.EndOfMessage())
        self._max_answer_bytes = max_answer_bytes
        self._wall_clock = wall_clock
        self._head: h11.Response | None = None
        self._head_bytes = 0
        self._head_lines = 0
        self._unread = bytearray()
        """Bytes that have come and that h11 has not got yet."""
        self._body = bytearray()
        self._body_bytes_given = 0
        """Bytes behind the head that h11 has got, framing included."""
        self.is_clean: bool = False
        """Whether the next exchange may go over the same connection. Set when an answer has ended well."""

    def receive(self, data: bytes) -> Answer | None:
        """Take bytes as they came (`b""`: the peer closed). Return the answer once it is complete."""
        held = len(self._unread)
        self._unread += data
        try:
            if self._head is None:
                if not data:
                    return Failure("The connection was closed before an answer came.")
                answer = self._read_heads(held)
                if answer is not None or self._head is None:
                    return answer
            return self._read_body(has_ended=not data)
        except h11.RemoteProtocolError:
            # Without h11's message, which may quote the server, which may quote the key.
            if not data:
                return Failure("The connection was closed in the middle of the answer.")
            return Failure(_NOT_HTTP)

    def _read_heads(self, counted: int) -> Answer | None:
        """Pass the head and the interim answers before it to h11, each once it is complete."""
        start = max(0, counted - 2)  # the end of a head may be cut
        while self._head is None:
            found = _HEAD_END.search(self._unread, start)
            end = len(self._unread) if found is None else found.end()
            self._head_lines += self._unread.count(b"\n", counted, end)
            if self._head_lines > MAX_HEAD_LINES:
                return Failure(f"{_NOT_HTTP} Its head has more than {MAX_HEAD_LINES} lines.")
            if self._head_bytes + end > MAX_HEAD_BYTES:
                return Failure(f"{_NOT_HTTP} Its head is longer than {MAX_HEAD_BYTES} bytes.")
            if _SPOILT.search(self._unread, start, end):
                return Failure(_NOT_HTTP)
            if found is None:
                return None
            self._head_bytes += end
            start = counted = self._head_lines = 0
            if (answer := self._give(end)) is not None:
                return answer
        return None

    def _read_body(self, *, has_ended: bool) -> Answer | None:
        # In small pieces: h11 limits only what is incomplete, so it accepts no more than twice the limit.
        while self._unread:
            self._body_bytes_given += min(MAX_FRAMING_BYTES, len(self._unread))
            if (answer := self._give(MAX_FRAMING_BYTES)) is not None:
                return answer
            framing = self._body_bytes_given - len(self._body) - MAX_FRAMING_BYTES
            if framing > FREE_FRAMING_BYTES + len(self._body):
                return Failure("The answer came in too many small chunks.")
        return self._give(0) if has_ended else None

    def _give(self, count: int) -> Answer | None:
        """Pass `count` bytes to h11 (0: the peer closed), and return the answer if they complete it."""
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
        assert head is not None  # h11 reports no end before a head
        surplus, has_ended = self._h11.trailing_data
        self.is_clean = (
            not surplus
            and not self._unread
            and not has_ended
            and not _is_framed_doubtfully(head)
            and self._h11.our_state is h11.DONE
            and self._h11.their_state is h11.DONE
        )
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers]
        return Response(head.status_code, headers, bytes(self._body), self._wall_clock())


def _refused_encoding(head: h11.Response) -> Failure | None:
    for name, value in head.headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            return Failure("The answer is compressed, which was not asked for.")
    return None


def _is_framed_doubtfully(head: h11.Response) -> bool:
    """Return whether the server may go on with its answer, which would be read as the next answer."""
    names = (b"content-length", b"transfer-encoding")
    framing = {name: value for name, value in head.headers if name in names}
    if head.status_code == 204:
        return framing not in ({}, {b"content-length": b"0"})
    return len(framing) > 1
