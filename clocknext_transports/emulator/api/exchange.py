"""What crosses the border between the emulator's decisions and its HTTP server.

A `Responder` decides; the server obeys. A responder is pure: a request and the time in, a `Reply` out. The
reply says what to send and how to misbehave while sending it, so that no fault needs code of its own in the
server.
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
    """Names in lower case; a header sent twice has its values joined with a comma."""
    body: bytes = field(default=b"", repr=False)
    connection: int = 0
    """Number of the connection it came in on, counted from 1; 0 where there was none."""

    @property
    def path(self) -> str:
        """The target without its query, still percent-encoded."""
        return self.target.partition("?")[0]


class Hold:
    """Hold answers back until a test lets them go. Thread-safe.

    Give it to a `Reply` (or, with an answer, to `scripted`): the request is taken and counted, and its answer
    waits for `release`. Requests that come after the release pass straight through.
    """

    def __init__(self) -> None:
        self._condition = Condition()
        self._arrived = 0
        self._released = False
        self._waiting: list[Callable[[], object]] = []

    @property
    def arrived(self) -> int:
        """How many requests have reached the gate so far."""
        with self._condition:
            return self._arrived

    def wait_arrived(self, timeout: float, *, count: int = 1) -> bool:
        """Block the calling thread until `count` requests have arrived; `False` after `timeout` seconds."""
        with self._condition:
            return self._condition.wait_for(lambda: self._arrived >= count, timeout)

    def release(self) -> None:
        """Let every held answer go, and every later one pass."""
        with self._condition:
            self._released = True
            waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()

    def arrive(self, wake: Callable[[], object]) -> None:
        """Count a request in, and have `wake` called once the gate is open: now, if it already is.

        For the server. `wake` runs on whichever thread releases.
        """
        with self._condition:
            self._arrived += 1
            self._condition.notify_all()
            if not self._released:
                self._waiting.append(wake)
                return
        wake()


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server is to do about a request."""

    response: Response | None = None
    """The answer; `None` sends nothing. The server adds Content-Length where the headers give no framing."""
    raw: bytes | None = None
    """Bytes to send as they are, in place of `response`."""
    delay: float = 0.0
    """Seconds to hold the answer back. The request has been processed by then."""
    gate: Hold | None = None
    """Hold the answer back until this is released."""
    bytes_per_second: float | None = None
    """Send the answer, head and body, no faster than this."""
    cut: bool = False
    """Promise the whole length, send half of the body, then end as `ending` says (never `keep`)."""
    surplus: bytes = b""
    """Bytes sent right after the complete answer."""
    ending: Literal["keep", "close", "reset"] = "keep"
    """Afterwards: go on with the connection as HTTP allows, close it, or reset it (RST)."""


class Responder(Protocol):
    """Decide what to answer. Called from one thread, never concurrently."""

    def respond(self, request: Received, *, now: float) -> Reply:
        """Answer a request that arrived at `now` (wall clock, seconds since 1970)."""
        ...
