"""Deliver held signals when the process ends and their client was not closed.

They are delivered if that takes no longer than `EXIT_TIMEOUT`, all clients together, and reported if not.
Python 3.12 starts no more threads by then, so the thread that runs the handlers does its part of the work.

Two handlers serve all clients. One runs early: before handlers that may end what a hook uses. The other is
registered at the import, so it runs late. It delivers what exit handlers record in between: a handler that is
registered during the exit is never called.
"""

import atexit
import os
import sys
from collections.abc import Callable
from typing import Protocol, cast

from clocknext_transports.process import fork as forks
from clocknext_transports.process import lookups
from clocknext_transports.process.clock import monotonic
from clocknext_transports.process.log import logger

EXIT_TIMEOUT = 5.0
"""Seconds the process's end waits for signals still held."""

INTERRUPTED_TIMEOUT = 1.0
"""Seconds it waits instead after a Ctrl-C that the program did not catch."""

GRACE = 1.0
"""Seconds more for what can't be interrupted: a name look-up, a hook."""


class Driver(Protocol):
    """A driver, which may hold signals when the process ends."""

    @property
    def held(self) -> int:
        """Signals recorded and not yet ended."""
        ...

    def begin_exit(self, timeout: float) -> None:
        """Refuse new signals and begin to deliver those held; do not wait for them."""
        ...

    def end_exit(self) -> int:
        """Wait for them until the time-out is over; return how many were not delivered."""
        ...


class _Registry:
    def __init__(self) -> None:
        self._drivers: dict[Driver, None] = {}
        self._took = 0.0
        """Seconds that the last delivery took."""
        self._is_over = False
        self._child: int | None = None
        """The process in which multiprocessing calls `drain` at its end."""

    def register(self, driver: Driver, host: str) -> None:
        """Remember a driver, strongly: it may outlive its client.

        Args:
            driver: The driver.
            host: Where it sends to.
        """
        self._drivers[driver] = None
        if self._is_over:
            logger.warning(
                "A ClockNext client is used after the interpreter's exit has delivered what clients held: "
                "close it, or what it holds is lost."
            )
            return
        lookups.stand_by(host)
        # Anew each time: before a handler that was registered earlier, which may end what a hook uses.
        atexit.unregister(self.drain)
        atexit.register(self.drain)
        # Processes of multiprocessing end without these handlers, up to Python 3.12, but with others.
        if "multiprocessing" in sys.modules and self._child != os.getpid():
            from multiprocessing import parent_process, util

            if parent_process() is not None:
                self._child = os.getpid()
                util.Finalize(None, self.drain, exitpriority=0)

    def unregister(self, driver: Driver) -> None:
        """Forget a driver that holds nothing any more."""
        if driver in self._drivers:
            del self._drivers[driver]
            if not self._drivers:
                lookups.stand_down()

    def drain(self) -> None:
        """Deliver what is held, and report what can't be."""
        self._drain()

    def finish(self) -> None:
        """Deliver what was recorded since `drain`. What comes later is said to be lost."""
        self._drain(spent=self._took)
        self._is_over = True

    def _drain(self, spent: float = 0.0) -> None:
        forks.notice()  # a child that used no client exits, too
        drivers, self._drivers = list(self._drivers), {}
        lost = 0
        timeout = max(0.0, (INTERRUPTED_TIMEOUT if _is_interrupted() else EXIT_TIMEOUT) - spent)
        began_at = monotonic()
        for driver in drivers:
            try:
                driver.begin_exit(timeout)
            except BaseException:  # noqa: BLE001 - the others must not suffer by it
                logger.exception("Held signals can't be delivered at the interpreter's exit.")
        for driver in drivers:
            try:
                lost += driver.end_exit()
            except BaseException:  # noqa: BLE001 - a hook's, or a Ctrl-C, which ends the wait for this one
                logger.exception("The delivery at the interpreter's exit was broken off.")
                lost += driver.held
        self._took = monotonic() - began_at
        if lost:
            logger.warning("ClockNext signals not delivered before the interpreter's exit: %d.", lost)

    def forget(self) -> None:
        """Forget all drivers: in a forked child, they are the parent's."""
        self._drivers = {}
        self._took, self._is_over = 0.0, False

    def __len__(self) -> int:
        return len(self._drivers)


def _is_interrupted() -> bool:
    """Return whether a Ctrl-C that was not caught ends the process."""
    if hasattr(sys, "ps1"):  # an interactive interpreter goes on after one
        return False
    uncaught: object = getattr(sys, "last_value", None)
    if isinstance(uncaught, BaseExceptionGroup):  # under trio, where it struck a task of a nursery
        group = cast("BaseExceptionGroup[BaseException]", uncaught)
        return group.subgroup(KeyboardInterrupt) is not None
    return isinstance(uncaught, KeyboardInterrupt)


_registry = _Registry()
register: Callable[[Driver, str], None] = _registry.register
unregister: Callable[[Driver], None] = _registry.unregister
drain: Callable[[], None] = _registry.drain
"""Delivers what all clients of this process hold, and closes them: for hosts that leave by `os._exit`."""
forks.register_global(_registry.forget)
atexit.register(_registry.finish)


def registered() -> int:
    """Count the drivers that take part in the process's exit."""
    return len(_registry)
