"""What the transports ask of sockets, whoever owns them."""

import select
import socket
from contextlib import suppress
from typing import Protocol


class SocketLike(Protocol):
    """A socket, or what an event loop shows of one."""

    def fileno(self) -> int:
        """Return the file descriptor; -1 when closed."""
        ...

    def shutdown(self, how: int, /) -> None:
        """End both directions."""
        ...


def is_readable(sock: SocketLike) -> bool:
    """Tell, at once, whether there is anything to read, were it only the end."""
    if sock.fileno() < 0:
        return True
    if not hasattr(select, "poll"):  # Windows, where select has no limit on the descriptor's number
        return bool(select.select([sock.fileno()], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def end(sock: SocketLike) -> None:
    """End a connection under whoever uses it: they find it closed, and close it themselves."""
    with suppress(OSError):  # not connected yet, or no more
        if isinstance(sock, socket.socket):
            # Past SSLSocket.shutdown, which would pull its state away under another thread.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        else:
            sock.shutdown(socket.SHUT_RDWR)
