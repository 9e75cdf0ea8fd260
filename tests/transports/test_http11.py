"""The HTTP/1.1 state of one connection: bytes in, an answer out, however the bytes are cut."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clocknext_core import Answer, Config, Failure, NetworkError, Origin, Request, Response
from clocknext_core.envelope import open_answer
from clocknext_transports.http11 import Connection
from tests.transports.support import JSON, KEY, answer, request

URL = "https://api.example"
NOW = 1_782_900_000.0
LIMIT = 1000

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


def begun(sent: Request | None = None) -> Connection:
    connection = Connection(max_answer_bytes=LIMIT, wall_clock=lambda: NOW)
    connection.send(sent or request(URL))
    return connection


def feed(connection: Connection, parts: Iterable[bytes]) -> Answer | None:
    """Give it the parts until there is an answer, as a transport does."""
    for part in parts:
        if (outcome := connection.receive(part)) is not None:
            return outcome
    return None


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut into parts, none of them empty: that would be the end."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


def outcome_of(
    data: bytes, parts: Sequence[bytes], sent: Request | None = None
) -> tuple[Answer | None, bool]:
    connection = begun(sent)
    outcome = feed(connection, [*parts, b""])
    assert outcome is not None  # after the end there is always an answer
    return outcome, connection.is_reusable


ok = Response(200, [("content-length", "12")], JSON, NOW)

ANSWERS: dict[str, tuple[bytes, Response, bool]] = {
    "plain": (answer(), ok, True),
    "lower case reason, odd spacing": (
        b"HTTP/1.1 200 \r\ncontent-length:   12   \r\n\r\n" + JSON,
        ok,
        True,
    ),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 12\r\n\r\n" + JSON, ok, True),
    "interim": (INTERIM + answer(), ok, True),
    "chunked": (
        CHUNKED + b'5;ext=1\r\n{"ok"\r\n7\r\n: true}\r\n0\r\n\r\n',
        Response(200, [("transfer-encoding", "chunked")], JSON, NOW),
        True,
    ),
    "chunked with trailers": (
        CHUNKED + b'c\r\n{"ok": true}\r\n0\r\nX-Sum: 1\r\n\r\n',
        Response(200, [("transfer-encoding", "chunked")], JSON, NOW),
        True,
    ),
    "until close": (answer(framed=False), Response(200, [], JSON, NOW), False),
    "close": (
        answer(JSON, "Connection: close"),
        Response(200, [("connection", "close"), ("content-length", "12")], JSON, NOW),
        False,
    ),
    "HTTP/1.0": (answer(version="1.0"), ok, False),
    "HTTP/1.0 keep-alive": (
        answer(JSON, "Connection: keep-alive", version="1.0"),
        Response(200, [("connection", "keep-alive"), ("content-length", "12")], JSON, NOW),
        False,
    ),
    "204": (answer(b"", framed=False, status="204 No Content"), Response(204, [], b"", NOW), True),
    "304": (
        answer(b"", "Content-Length: 12", framed=False, status="304 Not Modified"),
        Response(304, [("content-length", "12")], b"", NOW),
        True,
    ),
    "empty": (answer(b""), Response(200, [("content-length", "0")], b"", NOW), True),
    "redirect": (
        answer(b"", "Location: https://elsewhere.example", status="307 Temporary Redirect"),
        Response(307, [("location", "https://elsewhere.example"), ("content-length", "0")], b"", NOW),
        True,
    ),
    "unknown status": (
        answer(b"", status="599 Odd"),
        Response(599, [("content-length", "0")], b"", NOW),
        False,
    ),
    "identity": (
        answer(JSON, "Content-Encoding: Identity "),
        Response(200, [("content-encoding", "Identity"), ("content-length", "12")], JSON, NOW),
        True,
    ),
    "as long as the limit": (
        answer(b"x" * LIMIT),
        Response(200, [("content-length", str(LIMIT))], b"x" * LIMIT, NOW),
        True,
    ),
    "header that is not ASCII": (
        b"HTTP/1.1 200 OK\r\nX-Name: caf\xe9\r\nContent-Length: 12\r\n\r\n" + JSON,
        Response(200, [("x-name", "caf\xe9"), ("content-length", "12")], JSON, NOW),
        True,
    ),
}

FAILURES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", ""),
    "head cut": (answer()[:30], ""),
    "body cut": (answer()[:-1], ""),
    "chunk cut": (CHUNKED + b"c\r\n{", ""),
    "last chunk missing": (CHUNKED + b'c\r\n{"ok": true}\r\n', ""),
    "interim only": (INTERIM, ""),
    "too long by length": (answer(b"x" * (LIMIT + 1)), "longer than 1000 bytes"),
    "too long in chunks": (
        CHUNKED + b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n" + b"x" * 501 + b"\r\n0\r\n\r\n",
        "longer",
    ),
    "too long until close": (answer(b"x" * (LIMIT + 1), framed=False), "longer"),
    "head too long": (answer(JSON, f"X-Pad: {'x' * 200_000}"), "not valid HTTP"),
    "head with too many fields": (answer(JSON, *["X-Pad: x"] * 20_000), "not valid HTTP"),
    "gzip": (answer(JSON, "Content-Encoding: gzip"), "compressed"),
    "two encodings": (answer(JSON, "Content-Encoding: identity", "Content-Encoding: br"), "compressed"),
    "too many headers": (b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * 1000, "more than 1000 lines"),
    "too long extensions": (CHUNKED + (b"1;" + b"e" * 900 + b"\r\nx\r\n") * 100, "too many small chunks"),
    "gzip by transfer": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "not valid HTTP"),
    "upgrade": (answer(b"", framed=False, status="101 Switching Protocols"), ""),
    "two lengths": (answer(JSON, "Content-Length: 3"), "not valid HTTP"),
    "negative length": (answer(JSON, "Content-Length: -3", framed=False), "not valid HTTP"),
    "length of many digits": (answer(JSON, f"Content-Length: {'9' * 5000}", framed=False), "not valid HTTP"),
    "bad chunk size": (CHUNKED + b"zz\r\n", "not valid HTTP"),
    "garbage": (b"\x00\x01\x02", "not valid HTTP"),
    "mail": (b"220 mail.example ESMTP\r\n\r\n", "not valid HTTP"),
    "space in a name": (answer(JSON, "X Bad: 1"), "not valid HTTP"),
    "folded": (b"HTTP/1.1 200 OK\r\n X: 1\r\n\r\n", "not valid HTTP"),
}


def cuttings(data: bytes) -> list[list[bytes]]:
    """Cut as a transport reads a fast peer, 64 KiB at a time, and as finely as is bearable."""
    return [
        cut(data, range(0, len(data), 65536)),
        cut(data, range(0, len(data), 1 if len(data) < 20_000 else 777)),
    ]


@pytest.mark.parametrize("name", ANSWERS)
def test_a_complete_answer_is_read_whole_and_bytewise(name: str) -> None:
    data, expected, is_reusable = ANSWERS[name]
    for parts in cuttings(data):
        outcome, kept = outcome_of(data, parts)
        assert outcome == expected
        assert kept == is_reusable


@pytest.mark.parametrize("name", FAILURES)
def test_what_is_no_answer_is_a_failure_whole_and_bytewise(name: str) -> None:
    data, says = FAILURES[name]
    for parts in cuttings(data):
        outcome, kept = outcome_of(data, parts)
        assert isinstance(outcome, Failure)
        assert says in outcome.message
        assert outcome.processed
        assert not kept


@given(st.sampled_from([*ANSWERS.values()]), st.lists(st.integers(min_value=0), max_size=12))
def test_cutting_changes_nothing(known: tuple[bytes, Response, bool], places: list[int]) -> None:
    data, expected, is_reusable = known
    assert outcome_of(data, cut(data, places)) == (expected, is_reusable)


KNOWN = st.sampled_from(
    [*(entry[0] for entry in ANSWERS.values()), *(entry[0] for entry in FAILURES.values())]
)
NOISE = st.binary(max_size=40) | st.sampled_from(
    [b"\r\n", b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n", CHUNKED, b"\0", b": "]
)


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """Make bytes that are nearly HTTP: a known answer with something put in, left out or doubled."""
    data = draw(KNOWN)[:4000]
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.integers(0, 10))
        data = data[:start] + draw(NOISE) + data[end:]
    return data


@given(st.binary() | spoilt(), st.lists(st.integers(min_value=0), max_size=5))
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n" + JSON + b"\0", [])
def test_no_bytes_raise(data: bytes, places: list[int]) -> None:
    whole, _ = outcome_of(data, [data] if data else [])
    in_parts, _ = outcome_of(data, cut(data, places))
    assert type(whole) is type(in_parts)
    if isinstance(whole, Response):
        assert whole == in_parts
        assert len(whole.body) <= LIMIT
    else:
        assert isinstance(whole, Failure)
        assert KEY not in whole.message


AWKWARD_KEY = "cnk_a'b\\c\"d"
"""A key that a repr does not show as it is."""


@pytest.mark.parametrize("key", [KEY, AWKWARD_KEY], ids=["usual", "awkward"])
@pytest.mark.parametrize(
    "before", ["", "HTTP/1.1 ", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: "]
)
def test_a_peer_that_echoes_the_key_does_not_get_it_into_the_error(key: str, before: str) -> None:
    sent = request(URL)
    outcome = begun(sent).receive(f"{before}{key}\r\n\r\n".encode())
    assert isinstance(outcome, Failure)
    error = open_answer(outcome, request=sent, config=Config(key))
    assert isinstance(error, NetworkError)
    for shown in (key, repr(key)[1:-1], key.replace("'", "\\'").replace("\\c", "\\\\c")):
        assert shown not in error.message


@pytest.mark.parametrize("data", [b"x" * 10_000 + b"\r\n\r\n", answer(JSON, f"X {'y' * 10_000}: 1")])
def test_a_failure_is_short(data: bytes) -> None:
    outcome = begun().receive(data)
    assert isinstance(outcome, Failure)
    assert len(outcome.message) < 500


@given(spoilt())
def test_a_kept_connection_has_nothing_left_over(data: bytes) -> None:
    connection = begun()
    feed(connection, [data])
    if connection.is_reusable:
        connection.send(request(URL))
        assert connection.receive(answer(b"next")) == Response(200, [("content-length", "4")], b"next", NOW)


@pytest.mark.parametrize("surplus", [b"x", b"\r\n", b"\0", answer()])
def test_surplus_bytes_with_the_answer_retire_the_connection(surplus: bytes) -> None:
    for data in (answer(), CHUNKED + b"0\r\n\r\n", answer(b"", framed=False, status="204 No Content")):
        connection = begun()
        assert isinstance(connection.receive(data + surplus), Response)
        assert not connection.is_reusable


def test_exchanges_follow_each_other() -> None:
    connection = begun()
    for number in range(5):
        body = b"%d" % number
        assert feed(connection, cut(answer(body), [3, 40])) == Response(
            200, [("content-length", "1")], body, NOW
        )
        assert connection.is_reusable
        connection.send(request(URL))
        assert (connection.is_reusable, connection.has_received) == (False, False)


def test_the_first_byte_is_noticed() -> None:
    connection = begun()
    assert not connection.has_received
    connection.receive(b"H")
    assert connection.has_received


def test_the_end_is_not_a_byte() -> None:
    connection = begun()
    assert isinstance(connection.receive(b""), Failure)
    assert not connection.has_received


# What is sent


def sent(of: Request) -> bytes:
    return Connection().send(of)


def test_the_bytes_of_a_signal() -> None:
    head, _, body = sent(request("https://api.example:8443/billing")).partition(b"\r\n\r\n")
    assert body == b"{}"
    line, *headers = head.split(b"\r\n")
    assert line == b"POST /billing/api/v1/usage HTTP/1.1"
    assert headers[0] == b"Host: api.example:8443"
    assert sorted(header.split(b":")[0].lower() for header in headers) == [
        b"accept",
        b"accept-encoding",
        b"authorization",
        b"content-length",
        b"content-type",
        b"host",
        b"user-agent",
    ]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://api.example", "api.example"),
        ("https://api.example:443", "api.example"),
        ("https://api.example:80", "api.example:80"),
        ("http://127.0.0.1:80", "127.0.0.1"),
        ("http://127.0.0.1:443", "127.0.0.1:443"),
        ("https://[2001:db8::1]:8443", "[2001:db8::1]:8443"),
        ("https://[::1]", "[::1]"),
    ],
)
def test_the_host_header_leaves_out_the_default_port(url: str, host: str) -> None:
    assert f"\r\nHost: {host}\r\n".encode() in sent(request(url))


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        ("GET", None, None),
        ("DELETE", None, None),
        ("POST", None, 0),
        ("PUT", None, 0),
        ("PATCH", b"{}", 2),
        ("DELETE", b"{}", 2),
    ],
)
def test_the_length_is_sent_where_it_means_something(
    method: str, body: bytes | None, length: int | None
) -> None:
    lines = sent(request(URL, method=method, body=body)).lower().split(b"\r\n")
    lengths = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")]
    assert lengths == ([] if length is None else [length])


@pytest.mark.parametrize(
    "broken",
    [
        Request("GET", "/a b", Origin("https", "api.example", 443), ()),
        Request("GET", "/a\r\nX: 1", Origin("https", "api.example", 443), ()),
        Request("GET", "/", Origin("https", "api.example", 443), (("X", "a\r\nb"),)),
        Request("GET", "/", Origin("https", "api.example", 443), (("X", "a\0b"),)),
        Request("GET", "/", Origin("https", "api.example\r\nX: 1", 443), ()),
    ],
)
def test_what_would_smuggle_is_refused(broken: Request) -> None:
    connection = Connection()
    with pytest.raises(ValueError, match="can't be sent"):
        connection.send(broken)
    assert not connection.is_reusable


def test_an_answer_in_chunks_of_one_byte_is_broken_off_early() -> None:
    fed = 0
    connection = Connection()
    connection.send(request("https://api.example"))
    assert connection.receive(CHUNKED) is None
    outcome = None
    while outcome is None:
        outcome = connection.receive(b"1\r\nx\r\n" * 10)
        fed += 10
    assert isinstance(outcome, Failure)
    assert "too many small chunks" in outcome.message
    assert fed < 3000


def test_an_answer_in_small_chunks_is_read() -> None:
    body = bytes(range(256)) * 100
    parts = [body[at : at + 8] for at in range(0, len(body), 8)]
    coded = b"".join(b"8\r\n%b\r\n" % part for part in parts) + b"0\r\n\r\n"
    connection = Connection()
    connection.send(request("https://api.example"))
    outcome = connection.receive(CHUNKED + coded)
    assert isinstance(outcome, Response)
    assert outcome.body == body
