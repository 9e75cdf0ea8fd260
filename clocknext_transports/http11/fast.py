"""The plain part of HTTP/1.1, by itself: writing a request's head, and reading an ordinary answer in one go.

Most answers are alike: a few headers, a length, a short body, all in one piece. Such a one is read here, in a
tenth of the time that a parser of everything takes. Whatever is not exactly that is left to `answers`, from
its first byte on, so it never matters who has read an answer.
"""

import re

from clocknext_core import Request, Response
from clocknext_core.messages import Header

MAX_PLAIN_HEAD = 4096
"""Most bytes of a head that is read here."""

_TOKEN_CHARACTERS = r"!#$%&'*+.^_`|~0-9A-Za-z-"  # noqa: S105 - HTTP's word for such a name
_TOKEN = re.compile(f"[{_TOKEN_CHARACTERS}]+")
_TARGET = re.compile("[!-~]+")
_VALUE = re.compile("(?:[!-~](?:[\t -~]*[!-~])?)?")
_CONNECTION_HEADERS = ("connection", "content-length", "host", "transfer-encoding", "upgrade")
"""What a request must leave to its transport: who sets one of these decides how the connection is read."""

_HEAD = re.compile(
    rf"HTTP/1\.1 ([2-5]\d\d) [\t -~]*\r\n((?:[{_TOKEN_CHARACTERS}]+:[\t -~]*\r\n)+)\r\n".encode(),
)
_DELICATE = frozenset({"connection", "content-encoding", "content-length", "transfer-encoding"})
"""Headers that say how to read what follows."""
_BODILESS = (204, 304)
"""Statuses whose answers end with the head, whatever length it names."""
_FRAMED_ODDLY = ("HEAD", "CONNECT")
"""Methods whose answers do."""


def write_head(request: Request) -> bytes:
    """Write a request's head, up to where its length belongs.

    Raises:
        ValueError: It would not arrive as what it is.
    """
    headers = (("Host", request.origin.authority), *request.headers)
    is_sound = _TOKEN.fullmatch(request.method) and _TARGET.fullmatch(request.target)
    for name, value in headers:
        is_sound = is_sound and _TOKEN.fullmatch(name) and _VALUE.fullmatch(value)
    if not is_sound or any(name.lower() in _CONNECTION_HEADERS for name, _ in request.headers):
        raise ValueError("The request can't be sent over HTTP/1.1 as it is.")  # without its headers: the key
    lines = (f"{request.method} {request.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers))
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def read_plain(method: str, data: bytes, *, max_answer_bytes: int, received_at: float) -> Response | None:
    """Read an ordinary answer that is all there, and nothing with it; `None`: it is something else.

    Args:
        method: What it answers.
        data: All that has come.
        max_answer_bytes: Longest body.
        received_at: Seconds since 1970, to stamp the answer with.
    """
    found = _HEAD.match(data, 0, MAX_PLAIN_HEAD)
    if found is None or method in _FRAMED_ODDLY:
        return None
    headers: list[Header] = []
    length = None
    for line in found[2].decode("ascii").splitlines():
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip()
        headers.append((name, value))
        if name not in _DELICATE:
            continue
        if name == "content-length" and length is None and value.isdigit() and len(value) < 10:
            length = int(value)
        elif name != "connection" or value.lower() != "keep-alive":
            return None
    status = int(found[1])
    body = data[found.end() :]
    if length is None or length != len(body) or length > max_answer_bytes or status in _BODILESS:
        return None
    return Response(status, headers, body, received_at)
