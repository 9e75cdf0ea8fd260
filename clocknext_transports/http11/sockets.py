"""What the transports ask of sockets, whoever owns them."""

import select
import socket
from contextlib import suppress
from typing import Protocol

MAX_WAIT = 86400.0
"""Seconds. The system counts in milliseconds, and not far."""


class SocketLike(Protocol):
    """A socket, or what an event loop shows of one."""

    def fileno(self) -> int:
        """Return the file descriptor; -1 when closed."""
        ...

    def shutdown(self, how: int, /) -> None:
        """End both directions."""
        ...


class Poller:
    """Asks one socket whether it can be read from. It is kept, since to make it costs as much as to ask.

    Args:
        sock: The socket.
    """

    def __init__(self, sock: SocketLike) -> None:
        self._sock = sock
        self._poll = None
        if hasattr(select, "poll"):  # not on Windows, where select has no limit on a descriptor's number
            self._poll = select.poll()
            self._poll.register(sock.fileno(), select.POLLIN)

    def is_readable(self, timeout: float = 0.0) -> bool:
        """Tell whether there is anything to read, were it only the end; wait so many seconds for it."""
        descriptor = self._sock.fileno()
        if descriptor < 0:
            return True
        timeout = min(timeout, MAX_WAIT)
        if self._poll is None:
            return bool(select.select([descriptor], [], [], timeout)[0])
        return bool(self._poll.poll(timeout * 1000))


def end(sock: SocketLike) -> None:
    """End a connection under whoever uses it: they find it closed, and close it themselves."""
    with suppress(OSError):  # not connected yet, or no more
        if isinstance(sock, socket.socket):
            # Past SSLSocket.shutdown, which would pull its state away under another thread.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        else:
            sock.shutdown(socket.SHUT_RDWR)
