"""Idle connections, kept for the next exchange for as long as they can be trusted."""

import math
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from clocknext_core import Origin
from clocknext_core.messages import Header
from clocknext_transports.http11.connection import Connection

TRUSTED_FOR = 60.0
"""Seconds of idleness after which a kept connection is not used again: a firewall or a load balancer between
may have forgotten it.

A function that was frozen for hours, or a machine that slept, finds such connections when it goes on.
"""

MARGIN = 2.0
"""Seconds before the end of the time that a server keeps an idle connection, at which it is used no more: the
next request would meet the server's closing on its way. At most half of that time."""

CERTAIN = 0.5
"""Seconds of idleness that no server's announcement shortens: the shortest is one second, less the margin."""

MAX_AGE = 300.0
"""Seconds after it was opened at which a connection is not used again, so that a client that never idles
follows a host name that has moved."""


_TIMEOUT = re.compile(r"(?:^|[,\s])timeout\s*=\s*([0-9]{1,9})(?![0-9])")


@dataclass(slots=True, eq=False, repr=False)
class Age:
    """How old a connection is, in seconds on its transport's clock."""

    opened_at: float
    used_at: float
    """When bytes were received over it last."""

    def is_over(self, now: float, connection: Connection) -> bool:
        """Return whether the connection has been idle, or open, for too long to be used again."""
        idle = now - self.used_at
        longest = TRUSTED_FOR if connection.max_idle_time is None else connection.max_idle_time
        if idle > longest or now - self.opened_at > MAX_AGE:
            return True
        return idle > CERTAIN and idle > _announced(connection.last_headers)


def _announced(headers: Sequence[Header]) -> float:
    """Return for how many seconds the server surely keeps the connection; infinity if it does not say."""
    for name, value in headers:
        if name.lower() == "keep-alive" and (found := _TIMEOUT.search(value.lower())):
            seconds = float(found[1])
            return max(seconds - MARGIN, seconds / 2)
    return math.inf


class Stream(Protocol):
    """A transport's connection: a socket of its kind, with the HTTP state that belongs to it."""

    connection: Connection

    def is_stale(self) -> bool:
        """Return whether an idle connection is unfit: too old, closed by the peer, or with unasked bytes."""
        ...

    def abort(self) -> None:
        """Close it at once, without waiting for anything."""
        ...


S = TypeVar("S", bound=Stream)


class Pool(Generic[S]):
    """Idle keep-alive connections by origin, the latest used on top. Thread-safe.

    A transport that serves several clients has one pool. A connection is only ever given out for the origin
    (scheme, host and port) it leads to, so that no server sees the API key of another. TLS settings are the
    transport's, and so the same for all connections of a pool.

    Args:
        limit: Most connections kept for each origin.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._idle: dict[Origin, list[S]] = {}
        self._lock = threading.Lock()
        self.epoch: int = 0
        """How often it has been cleared."""

    def take(self, origin: Origin) -> S | None:
        """Return an idle connection to an origin that still looks alive, `None` if there is none."""
        while True:
            with self._lock:
                idle = self._idle.get(origin)
                if not idle:
                    return None
                stream = idle.pop()
            if not stream.is_stale():
                return stream
            stream.abort()

    def open(self, stream: S, origin: Origin, *, epoch: int) -> None:
        """Keep a connection that has carried nothing yet, for the first exchange with its origin."""
        stream.connection.origin = origin
        stream.connection.is_reusable = True  # so that it is replaced if the server closes it before that
        self.give(stream, epoch=epoch)

    def give(self, stream: S, *, epoch: int = 0) -> None:
        """Keep a connection for later, or close it: there are enough, or its exchange began in another epoch.

        A connection that was in use when the pool was cleared would stay open, since no other clearing may
        follow.
        """
        origin = stream.connection.origin
        is_kept = False
        if origin is not None:
            with self._lock:
                idle = self._idle.setdefault(origin, [])
                is_kept = epoch == self.epoch and len(idle) < self._limit
                if is_kept:
                    idle.append(stream)
        if not is_kept:
            stream.abort()

    def clear(self) -> list[S]:
        """Close every idle connection and return them. Those in use are closed when their exchange ends."""
        with self._lock:
            self.epoch += 1
            streams = [stream for idle in self._idle.values() for stream in idle]
            self._idle = {}
        for stream in streams:
            stream.abort()
        return streams
