"""Stopping by signal: how a command waits for SIGTERM or Ctrl-C in its main thread."""

import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
_MOST_READ = 4096


class Stop:
    """Whether a signal has asked to stop.

    The interpreter writes the number of each signal to a socket, whichever thread it came to. A wait for a
    lock, as that of an event or a queue, may go on: a signal ends it only if the main thread is in it by
    then, and not on its way there, giving up the interpreter's lock.
    """

    def __init__(self, numbers: socket.socket) -> None:
        self._numbers = numbers
        self._asked = False

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for so long at most, and return whether a signal came by now.

        Args:
            seconds: `None`: until one comes.
        """
        while not self._asked:
            self._numbers.settimeout(None if seconds is None else max(0.0, seconds))
            try:
                numbers = self._numbers.recv(_MOST_READ)
            except (TimeoutError, BlockingIOError):
                break
            self._asked = not _SIGNALS.isdisjoint(numbers)
        return self._asked


@contextmanager
def stopped_by_signals() -> Generator[Stop, None, None]:
    """Have SIGTERM and SIGINT ask to stop for the length of the block. Main thread only."""
    numbers, written = socket.socketpair()
    with numbers, written:
        written.settimeout(0.0)
        descriptor = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        try:
            previous = {number: signal.signal(number, _go_on) for number in _SIGNALS}
            try:
                yield Stop(numbers)
            finally:
                for number, handler in previous.items():
                    signal.signal(number, handler)
        finally:
            signal.set_wakeup_fd(descriptor)


def _go_on(number: int, frame: FrameType | None) -> None:
    """Handle a signal: its number was written to the socket."""
    del number, frame
