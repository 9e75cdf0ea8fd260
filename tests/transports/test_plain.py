"""The plain path beside h11: it writes and reads what h11 does, to the byte, and leaves the rest to it."""

from collections.abc import Sequence

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clocknext_core import Answer, Origin, Request, Response
from clocknext_transports.http11 import Connection
from clocknext_transports.http11.fast import MAX_PLAIN_HEAD, read_plain, write_head
from tests.transports.support import JSON, KEY, answer, request
from tests.transports.test_http11 import ANSWERS, CHUNKED, FAILURES, LIMIT, NOW, URL, cut, spoilt

LAST = b"0\r\n\r\n"
ONE_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc\r\n" + JSON + b"\r\n" + LAST


class Careful(Connection):
    """Reads every answer by h11."""

    def _read_plain(self, data: bytes | bytearray) -> None:
        del data


def outcome(connection: Connection, sent: Request, parts: Sequence[bytes]) -> tuple[Answer, int, bool, bool]:
    """Return the answer, after how many parts it was there, and what became of the connection."""
    connection.send(sent)
    for taken, part in enumerate([*parts, b""], 1):
        if (found := connection.receive(part)) is not None:
            return found, taken, connection.is_reusable, connection.has_received
    raise AssertionError("no answer after the end")


def is_plain(data: bytes, method: str = "POST") -> bool:
    return isinstance(read_plain(method, data, max_answer_bytes=LIMIT, received_at=NOW), Response)


# Reading

STATUS = ("HTTP/1.1 200 OK", "HTTP/1.1 200 ", "HTTP/1.1 503 O\tK  ", "HTTP/1.1 299 (odd)")
ODD_STATUS = (
    *("HTTP/1.1 200", "HTTP/1.1 204 None", "HTTP/1.1 304 Same", "HTTP/1.1 100 Go on", "HTTP/1.1 199 Odd"),
    *("HTTP/1.1 600 Odd", "HTTP/1.0 200 OK", "HTTP/1.1 200 caf\xe9", "http/1.1 200 OK", "HTTP/1.1  200 OK"),
    *(
        "HTTP/1.1 101 Switching",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 200OK",
        " HTTP/1.1 200 OK",
        "HTTP/1.1 200 \x01",
    ),
)
LENGTH = ("Content-Length: 12", "content-length:12\t", "CONTENT-LENGTH: \t 012")
ODD_LENGTH = (
    *("Content-Length: 11", "Content-Length: 13", "Content-Length: 0", "Content-Length:", "x: y"),
    *(
        "Content-Length: +12",
        "Content-Length: 12, 12",
        "Content-Length: 1_2",
        "Content-Length: 0000000000012",
    ),
    *(
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Content-Length: 12\r\nContent-Length: 12",
    ),
)
LINE = (
    *("Connection: keep-alive", "connection: Keep-Alive ", "Keep-Alive: timeout=5", "x:", "x: \t y \t z \t"),
    *("Upgrade: h2c", "Date: Sun, 22 Nov 2026 12:00:00 GMT", "!#$%&'*+.^_`|~9-: {:}"),
)
ODD_LINE = (
    *("Connection: close", "Connection: x", "Connection: keep-alive, close", "Connection:", "X-A: caf\xe9"),
    *("Content-Encoding: identity", "Content-Encoding: gzip", "Content-Encoding:", "Transfer-Encoding:"),
    *("X Y: 1", ": 1", "x : 1", " folded", "x: \x01", "x: \x7f", "x: \x85y", "x: a\rb", "x", ""),
    *("x\x1c: 1", "Content-Length: 12", "Content-Length: 3"),
)
ENDS_OF_LINES = ("\n", "\r", "\r\r\n", "\r\n ")
BODIES = (b"", JSON[:-1], JSON + b"x", answer(), b"\r\n")


@st.composite
def nearly_plain(draw: st.DrawFn) -> bytes:
    """Make an ordinary answer, but for a thing or two."""
    parts = ("status", "length", "line", "end", "body", "nothing")
    odd = draw(st.sets(st.sampled_from(parts), max_size=2))
    lines = draw(st.lists(st.sampled_from(LINE), max_size=3))
    if "line" in odd:
        lines.append(draw(st.sampled_from(ODD_LINE)))
    lines.append(draw(st.sampled_from(ODD_LENGTH if "length" in odd else LENGTH)))
    lines = [
        draw(st.sampled_from(ODD_STATUS if "status" in odd else STATUS)),
        *draw(st.permutations(lines)),
        "",
    ]
    ends = ["\r\n"] * len(lines)
    if "end" in odd:
        ends[draw(st.integers(0, len(lines) - 1))] = draw(st.sampled_from(ENDS_OF_LINES))
    head = "".join(line + end for line, end in zip(lines, ends, strict=True))
    return head.encode("latin-1") + (draw(st.sampled_from(BODIES)) if "body" in odd else JSON)


METHODS = st.sampled_from(("POST", "GET", "PUT", "DELETE", "HEAD", "head"))


@given(
    data=nearly_plain() | spoilt() | st.sampled_from([data for data, _, _ in ANSWERS.values()]),
    places=st.lists(st.integers(min_value=0), max_size=2),
    method=METHODS,
)
@example(answer(), [], "HEAD")
@example(answer(JSON, "Content-Length: 12"), [], "POST")
@example(answer(b"x" * (LIMIT + 1)), [], "POST")
@example(answer(b"", status="204 No Content"), [], "POST")
@example(answer(status="204 No Content"), [], "POST")
@example(answer(status="304 Not Modified"), [], "POST")
@example(answer(status="100 Continue"), [], "POST")
@example(answer(JSON, "Transfer-Encoding: chunked"), [], "POST")
@example(answer(JSON, "Connection: keep-alive, close"), [], "POST")
def test_it_never_matters_who_has_read_an_answer(data: bytes, places: list[int], method: str) -> None:
    sent = request(URL, method=method)
    parts = cut(data, places) if data else []
    plain, careful = (kind(max_answer_bytes=LIMIT, wall_clock=lambda: NOW) for kind in (Connection, Careful))
    expected = outcome(careful, sent, parts)
    assert outcome(plain, sent, parts) == expected
    if expected[2]:  # and the next exchange is none the wiser
        assert outcome(plain, sent, [answer(b"next")]) == outcome(careful, sent, [answer(b"next")])


@pytest.mark.parametrize(
    "data",
    [
        answer(),
        answer(b""),
        answer(
            JSON, "Connection: keep-alive", "Keep-Alive: timeout=5", "Date: Sun, 22 Nov 2026 12:00:00 GMT"
        ),
        answer(b"{}", status="503 Service Unavailable"),
        answer(b"x" * LIMIT),
        answer(JSON, f"X-Pad: {'x' * 3000}"),
    ],
)
def test_an_ordinary_answer_is_read_without_h11(data: bytes) -> None:
    head, _, body = data.partition(b"\r\n\r\n")
    read = read_plain("POST", data, max_answer_bytes=LIMIT, received_at=NOW)
    assert isinstance(read, Response)
    assert (read.body, read.received_at) == (body, NOW)
    assert len(read.headers) == head.count(b"\r\n")


PIECES = {
    "body apart": [answer()[: -len(JSON)], JSON],
    "body in two": [answer()[:-5], JSON[-5:-2], JSON[-2:]],
    "one chunk": [ONE_CHUNK],
    "one chunk, its end apart": [ONE_CHUNK[:-5], ONE_CHUNK[-5:]],
    "head, chunk and end apart": [ONE_CHUNK[: ONE_CHUNK.index(b"c\r\n")], b"c\r\n" + JSON + b"\r\n", LAST],
    "the end byte by byte": [ONE_CHUNK[:-7], *(bytes([byte]) for byte in ONE_CHUNK[-7:])],
}


@pytest.mark.parametrize("name", PIECES)
def test_an_ordinary_answer_in_pieces_is_read_without_h11(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "_make_reader", None)
    assert outcome(Connection(wall_clock=lambda: NOW), request(URL), PIECES[name])[1:] == (
        len(PIECES[name]),
        True,
        True,
    )


@pytest.mark.parametrize("name", PIECES)
@given(places=st.lists(st.integers(min_value=0), max_size=4), end=st.sampled_from((b"", b"x", b"\r\n", b"0")))
def test_pieces_are_read_as_h11_reads_them(name: str, places: list[int], end: bytes) -> None:
    whole = b"".join(PIECES[name])
    for data in (whole + end, whole[: len(whole) - len(end)] + end):
        plain, careful = (
            kind(max_answer_bytes=LIMIT, wall_clock=lambda: NOW) for kind in (Connection, Careful)
        )
        parts = cut(data, places)
        assert outcome(plain, request(URL), parts) == outcome(careful, request(URL), parts)


@pytest.mark.parametrize("name", FAILURES)
def test_what_is_no_answer_is_not_read_here(name: str) -> None:
    assert not is_plain(FAILURES[name][0])


@pytest.mark.parametrize(
    "data",
    [
        answer()[:-1],
        answer() + b"\n",
        CHUNKED + b"0\r\n\r\n",
        answer(version="1.0"),
        answer(JSON, "Connection: close"),
        answer(JSON, "Content-Encoding: identity"),
        answer(b"", status="304 Not Modified"),
        answer(JSON, f"X-Pad: {'x' * MAX_PLAIN_HEAD}"),
    ],
)
def test_what_is_not_quite_ordinary_is_left_to_h11(data: bytes) -> None:
    assert not is_plain(data)


@pytest.mark.parametrize("method", ["HEAD", "CONNECT"])
def test_what_ends_with_its_head_is_left_to_h11(method: str) -> None:
    assert not is_plain(answer(b""), method)


# Writing


def by_h11(of: Request) -> bytes:
    """Have h11 write a request."""
    connection = h11.Connection(h11.CLIENT)
    headers = [("Host", of.origin.authority), *of.headers]
    if of.body or of.method not in ("GET", "DELETE"):
        headers.append(("Content-Length", str(len(of.body or b""))))
    made = h11.Request(method=of.method, target=of.target, headers=headers)
    parts = [connection.send(made), connection.send(h11.Data(data=of.body)) if of.body else b""]
    parts.append(connection.send(h11.EndOfMessage()))
    return b"".join(part for part in parts if part)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("body", [None, b"", b"{}"])
@pytest.mark.parametrize("url", [URL, "http://[::1]:8080", "https://api.example:80/billing"])
def test_a_request_is_the_bytes_that_h11_writes(method: str, body: bytes | None, url: str) -> None:
    of = request(url, method=method, body=body)
    assert Connection().send(of) == by_h11(of)


ORIGIN = Origin("https", "api.example", 443)
TEXT = st.text(st.characters(max_codepoint=0x100), max_size=8)


@given(method=TEXT, target=TEXT, name=TEXT, value=TEXT, host=TEXT)
@example("GET", "/", "X", "a b\tc", "api.example")
@example("GET", "/", "X", "", "api.example")
@example("GET", "/", "X Y", "", "api.example")
@example("GET", "/", "X", " a", "api.example")
def test_what_is_sent_is_what_h11_would_send(
    method: str, target: str, name: str, value: str, host: str
) -> None:
    for of in (
        Request(method, "/", ORIGIN, ()),
        Request("GET", target, ORIGIN, ()),
        Request("GET", "/", ORIGIN, ((name, value),)),
        Request("GET", "/", Origin("https", host, 443), ()),
    ):
        try:
            sent = Connection().send(of)
        except ValueError:
            continue
        assert sent == by_h11(of)


@pytest.mark.parametrize("name", ["Host", "connection", "Content-Length", "Transfer-Encoding", "UPGRADE"])
def test_headers_of_the_connection_are_the_transports(name: str) -> None:
    with pytest.raises(ValueError, match="can't be sent") as caught:
        write_head(Request("POST", "/", ORIGIN, (("Authorization", f"Bearer {KEY}"), (name, "0"))))
    assert KEY not in str(caught.value)


def test_a_connection_forgets_no_difference_between_requests() -> None:
    connection = Connection()
    requests = [
        request(URL, method=method, body=body)
        for body in (b"{}", b"{1}", None)
        for method in ("POST", "GET", "PUT")
    ]
    requests.append(Request("PUT", "/elsewhere", ORIGIN, requests[-1].headers))
    requests.append(Request("PUT", "/elsewhere", ORIGIN, (*requests[-1].headers, ("X", "1"))))
    for of in [*requests, *reversed(requests)]:
        assert connection.send(of) == by_h11(of)
        assert isinstance(connection.receive(answer()), Response)


def test_a_connection_carries_no_request_to_another_origin() -> None:
    connection = Connection()
    connection.send(request(URL))
    assert isinstance(connection.receive(answer()), Response)
    for other in ("http://api.example", "https://api.example:8443", "https://other.example"):
        with pytest.raises(ValueError, match="can't carry") as caught:
            connection.send(request(other))
        assert KEY not in str(caught.value)
    assert connection.send(request(URL)) == by_h11(request(URL))
