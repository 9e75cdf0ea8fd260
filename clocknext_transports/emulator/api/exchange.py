"""Requests and replies: what passes between the emulator's decisions and its HTTP server.

A `Responder` decides, the server obeys. A responder is pure: it takes a request and the time, and returns a
`Reply`, which states the answer and how to misbehave while sending it. So no fault needs code of its own in
the server.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition
from typing import Literal, Protocol

from clocknext_core.messages import Response


@dataclass(frozen=True, slots=True)
class Received:
    """One complete HTTP request, as the server read it.

    Headers and body are left out of the repr: they may hold the API key.
    """

    method: str
    target: str
    """Path and query as sent on the request line."""
    headers: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    """Names in lower case. The values of a repeated header are joined with a comma, but of the API key, host,
    content type and user agent the first counts."""
    body: bytes = field(default=b"", repr=False)
    connection: int = 0
    """The number of its connection, counted from 1; 0 without one."""

    @property
    def path(self) -> str:
        """The target without its query, still percent-encoded."""
        return self.target.partition("?")[0]


class Hold:
    """Hold answers back until a test releases them. Thread-safe.

    Give it to a `Reply`, or with an answer to `scripted`: the request is read and counted, and its answer
    waits for `release`. Answers to requests that arrive after the release are sent at once.
    """

    def __init__(self) -> None:
        self._condition = Condition()
        self._arrived = 0
        self._released = False
        self._waiting: list[Callable[[], object]] = []

    @property
    def arrived(self) -> int:
        """The number of requests whose answers were to be held so far."""
        with self._condition:
            return self._arrived

    def wait_arrived(self, timeout: float, *, count: int = 1) -> bool:
        """Block the calling thread until `count` requests have arrived; `False` after `timeout` seconds."""
        with self._condition:
            return self._condition.wait_for(lambda: self._arrived >= count, timeout)

    def release(self) -> None:
        """Send every held answer, and every later one at once."""
        with self._condition:
            self._released = True
            waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()

    def arrive(self, wake: Callable[[], object]) -> None:
        """Count a request, and call `wake` when its answer is released: at once if it was already.

        For the server. `wake` runs on the thread that releases.
        """
        with self._condition:
            self._arrived += 1
            self._condition.notify_all()
            if not self._released:
                self._waiting.append(wake)
                return
        wake()


class Feed(Protocol):
    """The body of an answer that goes on until the client leaves. Called from the server's thread."""

    def take(self) -> bytes:
        """Return what is to be sent now; nothing where there is nothing new."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """The server's instructions for one request."""

    response: Response | None = None
    """The answer; `None` sends nothing. The server adds Content-Length where the headers give no framing."""
    raw: bytes | None = None
    """Bytes to send as they are, in place of `response`."""
    delay: float = 0.0
    """Seconds to hold the answer back. The request has been processed by then."""
    hold: Hold | None = None
    """Hold the answer back until this is released."""
    bytes_per_second: float | None = None
    """Send the answer, head and body, no faster than this."""
    cut: bool = False
    """Announce the whole length, send half of the body, then end as `ending` says (never `keep`)."""
    surplus: bytes = b""
    """Bytes to send right after the complete answer."""
    feed: Feed | None = None
    """What follows the head of `response`, whose body is not sent."""
    ending: Literal["keep", "close", "reset"] = "keep"
    """Afterwards: keep the connection as HTTP allows, close it, or reset it (RST)."""


class Responder(Protocol):
    """Decide the answer. Called from one thread, never concurrently."""

    def respond(self, request: Received, *, now: float) -> Reply:
        """Answer a request that arrived at `now` (wall clock, seconds since 1970)."""
        ...
