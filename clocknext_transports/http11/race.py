"""Happy Eyeballs (RFC 8305): which address of a host is tried when. Pure; the transports connect.

An address that swallows packets delays a connection by `ATTEMPT_DELAY` instead of holding it until the
deadline, and an address family that the kernel does not have costs nothing.
"""

import errno
from collections import deque
from collections.abc import Sequence
from math import inf
from typing import Any, TypeAlias

Address: TypeAlias = tuple[int, int, int, str, Any]
"""As `socket.getaddrinfo` returns it: family, type, protocol, canonical name, and the socket's address."""

ATTEMPT_DELAY = 0.25
"""Seconds after which the next address is tried too, as RFC 8305 recommends."""


class Race:
    """Attempts to connect to the addresses of one host. The first that succeeds wins.

    Ask `next` for an address to try until it returns `None`; report each attempt that fails to
    `handle_failure`; ask again at `wake_at`.

    Args:
        addresses: The host's addresses, most preferred first.
        now: Seconds, on the transport's clock.
    """

    def __init__(self, addresses: Sequence[Address], *, now: float) -> None:
        self._waiting = deque(_interleaved(addresses))
        self._next_at = now
        self._attempts = 0
        self._error: OSError | None = None

    def next(self, *, now: float) -> Address | None:
        """Return the address to try now; `None`: wait for an attempt to end, or until `wake_at`."""
        if not self._waiting or (self._attempts and now < self._next_at):
            return None
        self._attempts += 1
        self._next_at = now + ATTEMPT_DELAY
        return self._waiting.popleft()

    def handle_failure(self, error: OSError) -> None:
        """Note that an attempt failed. The next address may be tried at once."""
        self._attempts -= 1
        self._next_at = -inf
        # A family that the kernel does not have says less than a refusal by the host.
        if self._error is None or error.errno != errno.EAFNOSUPPORT:
            self._error = error

    @property
    def wake_at(self) -> float:
        """When the next address is to be tried; infinity if there is none."""
        return self._next_at if self._waiting else inf

    @property
    def error(self) -> OSError | None:
        """Why no address could be reached; `None` while one still may be."""
        if self._waiting or self._attempts:
            return None
        return self._error or OSError("the host name has no address")


def _interleaved(addresses: Sequence[Address]) -> list[Address]:
    """Return the addresses with the two families in turns, beginning with the most preferred one."""
    rest = [*addresses]
    ordered: list[Address] = []
    while rest:
        other = (at for at, address in enumerate(rest) if ordered and address[0] != ordered[-1][0])
        ordered.append(rest.pop(next(other, 0)))
    return ordered
