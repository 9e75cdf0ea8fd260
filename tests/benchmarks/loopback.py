"""A guard: nothing that is measured sends anything to another machine."""

from ipaddress import ip_address
from typing import cast


def refuse_other_hosts(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse connections and look-ups of other hosts than this one, as an audit hook of the interpreter.

    Raises:
        PermissionError: It would leave this machine.
    """
    if event in ("socket.connect", "socket.sendto"):
        address = cast("tuple[object, ...] | str", arguments[1])
        host = "" if isinstance(address, str) else address[0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if not _is_here(host):
        raise PermissionError(f"benchmarks stay on this machine: {event} to {host!r}")


def _is_here(host: object) -> bool:
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if text in ("", None, "localhost"):  # a socket of the file system, or a wildcard
        return True
    try:
        return isinstance(text, str) and ip_address(text).is_loopback
    except ValueError:
        return False
