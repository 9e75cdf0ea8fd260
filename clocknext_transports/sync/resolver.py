"""Looking a host name up, with a time-out, which the system's resolver does not have."""

import queue
import socket
import threading
from collections.abc import Sequence
from typing import TypeAlias

from clocknext_core import Origin
from clocknext_transports.http11.race import Address
from clocknext_transports.process import lookups
from clocknext_transports.process.interrupts import let_pass

Addresses: TypeAlias = Sequence[Address]


class Resolver:
    """Looks hosts up, and remembers the last result of each."""

    def __init__(self) -> None:
        self._known: dict[Origin, Addresses] = {}

    def look_up(self, origin: Origin, timeout: float) -> Addresses:
        """Return the addresses of a host: of a name by a thread, and of an address at once.

        Args:
            origin: The host.
            timeout: Seconds to wait at most.

        Raises:
            OSError: The name is not known, or the time is over (`TimeoutError`).
        """
        if origin.host.lower() == "localhost":
            return _addresses(origin)
        try:
            return _addresses(origin, socket.AI_NUMERICHOST)
        except OSError as error:
            let_pass(error)
        outcomes: queue.SimpleQueue[Addresses | OSError] = queue.SimpleQueue()

        def look_up() -> None:
            try:
                outcomes.put(_addresses(origin))
            except OSError as error:
                outcomes.put(error)

        try:
            threading.Thread(target=look_up, name="clocknext look-up", daemon=True).start()
        except RuntimeError:
            # The interpreter is shutting down and starts no thread. An old address beats an endless wait.
            if origin in self._known:
                return self._known[origin]
            if not lookups.hand_over(look_up):
                return _addresses(origin)
        try:
            outcome = outcomes.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(outcome, OSError):
            raise outcome
        self._known[origin] = outcome
        return outcome


def _addresses(origin: Origin, flags: int = 0) -> Addresses:
    return socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM, flags=flags)
