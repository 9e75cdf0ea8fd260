"""Helpers for sockets, whether a transport or an event loop owns them."""

import errno
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from clocknext_transports.http11.race import Address
from clocknext_transports.process.clock import MAX_WAIT


class SocketLike(Protocol):
    """A socket, or what an event loop shows of one."""

    def fileno(self) -> int:
        """Return the file descriptor; -1 when closed."""
        ...

    def shutdown(self, how: int, /) -> None:
        """End both directions."""
        ...


class Poller:
    """Asks one socket whether it is readable. It is kept, since making one costs as much as asking.

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
        """Return whether the socket is readable (data or EOF), waiting up to `timeout` seconds."""
        descriptor = self._sock.fileno()
        if descriptor < 0:
            return True
        timeout = min(timeout, MAX_WAIT)
        if self._poll is None:
            return bool(select.select([descriptor], [], [], timeout)[0])
        return bool(self._poll.poll(timeout * 1000))


def end(sock: SocketLike) -> None:
    """Shut the socket down, so that the thread blocked on it fails and closes it."""
    with suppress(OSError):  # it is not connected, or no longer
        if isinstance(sock, socket.socket) and hasattr(socket.socket, "shutdown"):  # eventlet's has none
            # Past SSLSocket.shutdown, which would pull its state away under another thread.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        else:
            sock.shutdown(socket.SHUT_RDWR)


_CONNECTING = (0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY, errno.EISCONN)
"""Results of `connect_ex` that are no failure."""


def start_connecting(address: Address, note: Callable[[socket.socket], object]) -> socket.socket:
    """Begin to connect a socket to an address, without waiting.

    Args:
        address: The address.
        note: Called with the socket before anything is done with it.

    Raises:
        OSError: It failed at once.
    """
    family, kind, protocol, _, target = address
    sock = socket.socket(family, kind, protocol)
    note(sock)
    try:
        sock.settimeout(0)
        result = sock.connect_ex(target)
        if result not in _CONNECTING:
            raise OSError(result, os.strerror(result))
    except BaseException:
        sock.close()
        raise
    return sock


def check_connected(sock: socket.socket) -> None:
    """Raise the error of an attempt to connect that has ended, if it failed."""
    if result := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(result, os.strerror(result))
    sock.getpeername()  # raises where `close` shut the socket down meanwhile
