"""Hooks: the user's functions, run on the machines' events. One that raises never stops delivery.

Every event that leaves the machines passes here, so this is where events are logged.
"""

from collections.abc import Callable
from typing import TypeAlias, assert_never

from clocknext_core import (
    ClockNextError,
    Delivered,
    Dropped,
    Emptied,
    FallingBehind,
    GivenUp,
    HookEvent,
    KeyRefused,
    Mending,
    Misdirected,
    Rejected,
    Retrying,
    Signal,
    Unbilled,
)
from clocknext_core.outputs import key_to_forget
from clocknext_core.states import DropReason
from clocknext_core.usage.exchange import Seen
from clocknext_transports.client.events_log import EventLog
from clocknext_transports.client.hook_checks import check_hooks, check_returned
from clocknext_transports.process.interrupts import let_pass
from clocknext_transports.process.log import logger

OnError: TypeAlias = Callable[[ClockNextError, Signal], object]
OnFlush: TypeAlias = Callable[[int], object]
OnRetry: TypeAlias = Callable[[Retrying], object]
OnDrop: TypeAlias = Callable[[Signal, DropReason], object]
OnUnbilled: TypeAlias = Callable[[Unbilled], object]


class Hooks:
    """The hooks of a client; each may be `None`.

    Raises:
        ValidationError: A hook can't be called with its arguments, or would have to be awaited.
    """

    def __init__(
        self,
        *,
        on_error: OnError | None,
        on_flush: OnFlush | None,
        on_retry: OnRetry | None,
        on_drop: OnDrop | None,
        on_unbilled: OnUnbilled | None = None,
        key_to_forget: Callable[[HookEvent], str | None] = key_to_forget,
    ) -> None:
        check_hooks(
            on_error=on_error, on_flush=on_flush, on_retry=on_retry, on_drop=on_drop, on_unbilled=on_unbilled
        )
        self._on_error = on_error
        self._on_flush = on_flush
        self._on_retry = on_retry
        self._on_drop = on_drop
        self._on_unbilled = on_unbilled
        self._key_to_forget = key_to_forget
        self.log: EventLog = EventLog(logger)
        self.seen: Seen = Seen()  # the client's: what is lost is forgotten, so that it may be recorded again

    def admit(self, event: HookEvent) -> bool:
        """Take note of an event, with the lock held, and return whether `fire` would do anything."""
        if (key := self._key_to_forget(event)) is not None:
            self.seen.forget(key)
        return self.log.admit(event) or (not isinstance(event, Delivered) and bool(self._hooks_of(event)))

    def fire(self, event: HookEvent, *, in_background: bool = False) -> None:
        """Log an event and run its hook. What the hook raises is logged, with the traceback.

        Args:
            event: The event.
            in_background: The hook runs in a thread or task of the driver. Then nothing that it raises is
                raised here. What a signal handler raises while it runs always is.
        """
        try:
            self.log.note(event)
        finally:  # a signal handler may raise where it is logged
            for hook in self._hooks_of(event):
                try:
                    check_returned(hook())
                except BaseException as error:
                    let_pass(error)
                    if not (in_background or isinstance(error, Exception)):
                        raise
                    self.log.note_raised(event)

    def report(self, unbilled: Unbilled) -> None:
        """Run the hook for a call to a model that was not billed; where there is none, log it.

        What the hook raises is logged: the user's request must not break over a report.
        """
        if self._on_unbilled is None:
            self.log.note_unbilled(unbilled)
            return
        try:
            check_returned(self._on_unbilled(unbilled))
        except Exception as error:  # noqa: BLE001 - whatever it is
            let_pass(error)
            logger.exception("The hook on_unbilled raised on %s.", unbilled.reason)

    def _hooks_of(self, event: HookEvent) -> list[Callable[[], object]]:
        """Return the hooks of an event, in order, each to be called without arguments."""
        on_error, on_drop, on_retry, on_flush = self._on_error, self._on_drop, self._on_retry, self._on_flush
        hooks: list[Callable[[], object]] = []
        match event:
            case Rejected() | GivenUp() | Mending() | KeyRefused() | Misdirected():
                if on_error is not None:
                    hooks.append(lambda: on_error(event.error, event.signal))
                if on_drop is not None and isinstance(event, (Rejected, GivenUp)):
                    hooks.append(lambda: on_drop(event.signal, "send_failed"))
            case Dropped():
                if on_drop is not None:
                    hooks.append(lambda: on_drop(event.signal, event.reason))
            case Retrying():
                if on_retry is not None:
                    hooks.append(lambda: on_retry(event))
            case Emptied():
                if on_flush is not None:
                    hooks.append(lambda: on_flush(event.count))
            case Delivered() | FallingBehind():
                pass
            case _:
                assert_never(event)
        return hooks
