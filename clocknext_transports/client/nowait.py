"""Recording without waiting: from any thread, callback or finalizer."""

from collections.abc import Callable
from typing import Any, NoReturn

from clocknext_core.checks import check_bool
from clocknext_core.errors import invalid
from clocknext_core.models import TrackResult
from clocknext_core.operations import Operation
from clocknext_core.resources.binding import Blocking, Completed
from clocknext_core.resources.signals import SignalRecords
from clocknext_core.signals import EncodedSignal
from clocknext_core.usage.meter import Meter


class NoWaitSignals(SignalRecords[Blocking]):
    """Signals that are recorded without waiting. Arguments, results and errors are those of `signals`."""

    _may_ask = False


class NoWait(Completed):
    """What a client does without waiting: neither for the server, nor for room, nor for the spool or a lock.

    Any thread may use it, with or without an event loop, in a callback or a finalizer, whichever kind of
    client it belongs to. No call is a coroutine. A signal is buffered, also in `sync` mode; with a spool, the
    spool's thread stores it. In a full queue, `block` and `raise` are as `drop_newest`. Losses, also those
    that show only later, are reported to `on_drop`.

    Args:
        hold: Buffers a signal without waiting.
        make_key: Makes a new idempotency key.
        meter: What the client knows of its exchanges with models.
    """

    _unlisted = frozenset({"cancellations", "hold", "is_async", "make_key", "record", "run"})
    is_async = False
    cancellations: tuple[type[BaseException], ...] = ()

    def __init__(
        self, hold: Callable[[EncodedSignal], TrackResult], make_key: Callable[[], str], meter: Meter
    ) -> None:
        self.hold = hold
        self.make_key = make_key
        self.signals: NoWaitSignals = NoWaitSignals(self, meter)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> TrackResult:
        """Buffer a signal.

        Raises:
            ValidationError: `wait` is `True`.
        """
        if wait is not None and check_bool("wait", wait):
            raise invalid("wait", "must not be True: nowait never waits; use the client's own signals")
        return self.hold(encoded)

    def run(self, operation: Operation[Any], /) -> NoReturn:
        """Refuse an operation, which would have to wait for the server.

        Raises:
            TypeError: Always.
        """
        raise TypeError(f"nowait only records: {operation.method} {operation.path} has to be awaited.")
