"""The simple part of HTTP/1.1: writing a request's head, and reading an ordinary answer at once.

Most answers are alike: a few headers, and a body with a length or in one chunk. They are read here, in a
tenth of the time that a complete parser takes. Everything else is left to `answers`, from its first byte on.
What is accepted here must be a subset of what h11 accepts, with the same result.
"""

import re

from clocknext_core import Request, Response
from clocknext_core.messages import Header

MAX_PLAIN_HEAD = 4096
"""Most bytes of a head that is read here."""

_TOKEN_CHARACTERS = r"!#$%&'*+.^_`|~0-9A-Za-z-"  # noqa: S105 - HTTP's word for such a name
_TOKEN = re.compile(f"[{_TOKEN_CHARACTERS}]+")
_TARGET = re.compile("/[!-~]*")  # without the slash, a URL made of it could lead to another host
_VALUE = re.compile("(?:[!-~](?:[\t -~]*[!-~])?)?")
_CONNECTION_HEADERS = ("connection", "content-length", "host", "transfer-encoding", "upgrade")
"""Headers that only a transport may set: they decide how the server reads the connection."""

_HEAD = re.compile(
    rf"HTTP/1\.1 ([2-5]\d\d) [\t -~]*\r\n((?:[{_TOKEN_CHARACTERS}]+:[\t -~]*\r\n)+)\r\n".encode(),
)
_DELICATE = frozenset({"connection", "content-encoding", "content-length", "transfer-encoding"})
"""Headers that decide how the rest of the answer is read."""
_CHUNK = re.compile(rb"([1-9A-Fa-f][0-9A-Fa-f]{0,7})\r\n")
"""The first line of a chunk with a body and without an extension."""
_LAST = b"\r\n0\r\n\r\n"
"""What follows the bytes of an only chunk, where no trailers do."""
_BODILESS = (204, 304)
"""Statuses whose answers have no body, whatever length the head gives."""
_FRAMED_ODDLY = ("HEAD", "CONNECT")
"""Methods whose answers are framed by other rules."""


def write_head(request: Request) -> bytes:
    """Return a request's head without its length and its end.

    Raises:
        ValueError: The request can't be sent over HTTP/1.1 unchanged.
    """
    headers = (("Host", request.origin.authority), *request.headers)
    is_sound = _TOKEN.fullmatch(request.method) and _TARGET.fullmatch(request.target)
    for name, value in headers:
        is_sound = is_sound and _TOKEN.fullmatch(name) and _VALUE.fullmatch(value)
    if not is_sound or any(name.lower() in _CONNECTION_HEADERS for name, _ in request.headers):
        raise ValueError("The request can't be sent over HTTP/1.1 as it is.")  # without its headers: the key
    lines = (f"{request.method} {request.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers))
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def read_plain(
    method: str, data: bytes | bytearray, *, max_answer_bytes: int, received_at: float
) -> Response | int | None:
    """Return an ordinary answer that is complete, with nothing behind it.

    Args:
        method: The request's method.
        data: All bytes that have come.
        max_answer_bytes: Most bytes of the body.
        received_at: When it came, in seconds since 1970.

    Returns:
        The answer; or, where this may be the beginning of an ordinary answer, how many bytes there must be
        before more can be said; or `None`: it is something else.
    """
    found = _HEAD.match(data, 0, MAX_PLAIN_HEAD)
    if found is None or method in _FRAMED_ODDLY:
        return None
    headers: list[Header] = []
    length = None
    is_chunked = False
    for line in found[2].decode("ascii").splitlines():
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip()
        headers.append((name, value))
        if name not in _DELICATE:
            continue
        if name == "content-length" and length is None and value.isdigit() and len(value) < 10:
            length = int(value)
        elif name == "transfer-encoding" and value == "chunked" and not is_chunked:
            is_chunked = True
        elif name != "connection" or value.lower() != "keep-alive":
            return None
    status = int(found[1])
    start = found.end()
    if is_chunked is (length is not None) or status in _BODILESS:
        return None
    if is_chunked:
        if start == len(data):
            return start + 1
        if (chunk := _CHUNK.match(data, start)) is None:
            return None
        start, length = chunk.end(), int(chunk[1], 16)
    assert length is not None  # a body has a length, or its only chunk has one
    end = start + length
    rest, last = data[end:], _LAST if is_chunked else b""
    if length > max_answer_bytes or not last.startswith(rest):
        return None
    if len(data) < end + len(last):
        return max(end, len(data) + 1)
    return Response(status, headers, bytes(data[start:end]), received_at)
