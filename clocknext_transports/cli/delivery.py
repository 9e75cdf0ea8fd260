"""Deliver lines: a fixed number at a time, whatever the length of the input, with an orderly stop."""

from collections import deque
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Generic, TypeAlias, TypeVar

import trio

from clocknext_core import ClockNextError, Signal
from clocknext_core.errors import invalid
from clocknext_core.signals import encode
from clocknext_transports.cli.lines import Line, NotSignalsError, Splitter, check_beginning, parse
from clocknext_transports.client.environment import new_key

T = TypeVar("T")

GRACE = 5.0
"""Seconds that signals in flight have to end, after the delivery was stopped."""

Read: TypeAlias = Callable[[], bytes]
"""Reads some of the input, `b""` at its end. May block: it is called in a thread."""
Track: TypeAlias = Callable[[Signal], Awaitable[T]]
"""Sends a signal and waits for the answer, or raises the error that ended its last attempt."""


class Source:
    """Lines of an input that is read as they are wanted."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._splitter = Splitter()
        self._lines: deque[Line] = deque()
        self._has_begun = False
        self._has_ended = False
        self._reading = trio.CancelScope()
        self._lock = trio.Lock()

    async def next(self) -> Line | None:
        """Return the next line; `None` at the end, or once stopped.

        Raises:
            OSError: The input can't be read.
            NotSignalsError: It is no JSON Lines of signals.
        """
        async with self._lock:
            while not self._lines and not self._has_ended:
                data = None
                with trio.CancelScope() as self._reading:
                    data = await trio.to_thread.run_sync(self._read, abandon_on_cancel=True)
                if data is not None:
                    self._lines.extend(self._splitter.feed(data))
                    if self._lines and not self._has_begun:
                        self._has_begun = True
                        check_beginning(self._lines[0].content)
                self._has_ended |= not data
            return self._lines.popleft() if self._lines else None

    def stop(self) -> None:
        """Give no more lines, even if the input is being waited for."""
        self._lines.clear()
        self._has_ended = True
        self._reading.cancel()


MOST_KEYS = 10_000
"""Latest lines among which a key that comes twice is noticed."""


class Keys:
    """The idempotency keys of the latest lines: under each, the service bills one signal."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[int, bytes]] = {}
        """For each key the number of the line, and a digest of what it says."""
        self.repeated: set[int] = set()
        """Numbers of lines that say what an earlier one says, under its key."""

    def check(self, line: Line, signal: Signal) -> None:
        """Take a line.

        Raises:
            ValidationError: An earlier line has the key, and says something else.
        """
        encoded = encode(signal, new_key)
        said = blake2b(encoded.body, digest_size=16).digest()
        number, earlier = self._lines.setdefault(encoded.idempotency_key, (line.number, said))
        if earlier != said:
            raise invalid(
                "idempotencyKey", f"is that of line {number}, which says something else: one is billed"
            )
        if number != line.number:
            self.repeated.add(line.number)
        if len(self._lines) > MOST_KEYS:
            del self._lines[next(iter(self._lines))]


class Delivery(Generic[T]):
    """Read lines, send each as a signal, and report its result.

    At most `concurrency` lines are in flight; besides those, only the bytes of one read of the input are
    held. A failure that does not concern one line stops the delivery: a key that is not accepted, an address
    that is not the API, an input that can't be read or is no JSON Lines, or a service that is down. The
    service counts as down when a signal has used up its attempts and no other was delivered meanwhile;
    otherwise only that signal is refused.

    Args:
        read: Reads the input.
        track: Sends a signal.
        on_delivered: Called with a line, its signal and the answer.
        on_refused: Called with a line and the error. An `OSError` it raises stops the delivery.
        concurrency: Most lines in flight at once.
        source: Part of derived keys.
    """

    def __init__(
        self,
        read: Read,
        track: Track[T],
        *,
        on_delivered: Callable[[Line, Signal, T], object],
        on_refused: Callable[[Line, ClockNextError], object],
        concurrency: int,
        source: str = "",
    ) -> None:
        self._source = Source(read)
        self._track = track
        self._on_delivered = on_delivered
        self._on_refused = on_refused
        self._concurrency = concurrency
        self._source_name = source
        self._scope = trio.CancelScope()
        self._delivered = 0
        self.keys: Keys = Keys()
        self.in_flight: int = 0
        """Lines in flight."""
        self.is_stopped: bool = False
        """Whether it was stopped before the end of the input."""
        self.error: ClockNextError | OSError | None = None
        """The error that stopped it; `None` if `stop` did."""

    async def run(self) -> None:
        """Deliver until the end of the input, or until stopped."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                for _ in range(self._concurrency):
                    nursery.start_soon(self._work)

    def stop(self) -> None:
        """Begin no more lines, and let those in flight end within `GRACE` seconds. Again: end at once."""
        if self.is_stopped:
            self._scope.cancel()
            return
        self.is_stopped = True
        self._scope.deadline = trio.current_time() + GRACE
        self._source.stop()

    def fail(self, error: ClockNextError | OSError) -> None:
        """Stop because of an error that does not concern one line alone."""
        if not self.is_stopped:
            self.error = error
            self.stop()

    async def _work(self) -> None:
        try:
            while (line := await self._source.next()) is not None:
                await self._deliver(line)
        except (OSError, NotSignalsError) as error:
            self.fail(error)

    async def _deliver(self, line: Line) -> None:
        delivered_before = self._delivered
        self.in_flight += 1
        try:
            signal = parse(line, source=self._source_name)
            self.keys.check(line, signal)
            result = await self._track(signal)
        except ClockNextError as error:
            if _concerns_all(error) or (error.retryable and self._delivered == delivered_before):
                self.fail(error)
            else:
                self._on_refused(line, error)
        else:
            self._delivered += 1
            self._on_delivered(line, signal, result)
        finally:
            self.in_flight -= 1


def _concerns_all(error: ClockNextError) -> bool:
    """Return whether every other line would get the same answer: it is the key or the address."""
    status = error.status or 0
    unknown_path = status == 404 and error.reason == "NOT_FOUND"
    return status in (401, 403, 405) or 300 <= status <= 399 or unknown_path
