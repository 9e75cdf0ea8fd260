"""Hooks: the caller's functions, run on the machines' events. One that raises never stops delivery.

Every event that leaves the machines passes here, so the journal is written here too.
"""

import inspect
from collections.abc import Callable
from typing import TypeAlias, TypeVar, assert_never

from clocknext_core import (
    ClockNextError,
    Delivered,
    Dropped,
    Emptied,
    GivenUp,
    HookEvent,
    KeyRefused,
    Mending,
    Rejected,
    Retrying,
    Signal,
    ValidationError,
)
from clocknext_core.models import DropReason
from clocknext_transports.client.events_log import Journal
from clocknext_transports.process.log import logger

OnError: TypeAlias = Callable[[ClockNextError, Signal], object]
OnFlush: TypeAlias = Callable[[int], object]
OnRetry: TypeAlias = Callable[[Retrying], object]
OnDrop: TypeAlias = Callable[[Signal, DropReason], object]

HookT = TypeVar("HookT")


class Hooks:
    """The four hooks of a client; each may be `None`.

    Raises:
        ValidationError: A hook can't be called, or would have to be awaited.
    """

    def __init__(
        self,
        *,
        on_error: OnError | None,
        on_flush: OnFlush | None,
        on_retry: OnRetry | None,
        on_drop: OnDrop | None,
    ) -> None:
        for name, hook in (
            ("on_error", on_error),
            ("on_flush", on_flush),
            ("on_retry", on_retry),
            ("on_drop", on_drop),
        ):
            _check_hook(name, hook)
        self._on_error = on_error
        self._on_flush = on_flush
        self._on_retry = on_retry
        self._on_drop = on_drop
        self.journal = Journal(logger)

    def fire(self, event: HookEvent) -> None:
        """Log an event and run the hooks it calls for. What one raises is logged, with the traceback."""
        self.journal.note(event)
        match event:
            case Rejected() | GivenUp():
                try:
                    self._isolated(event, self._on_error, lambda hook: hook(event.error, event.signal))
                finally:  # whatever the first hook raised
                    self._isolated(event, self._on_drop, lambda hook: hook(event.signal, "send_failed"))
            case Mending() | KeyRefused():
                self._isolated(event, self._on_error, lambda hook: hook(event.error, event.signal))
            case Dropped():
                self._isolated(event, self._on_drop, lambda hook: hook(event.signal, event.reason))
            case Retrying():
                self._isolated(event, self._on_retry, lambda hook: hook(event))
            case Emptied():
                self._isolated(event, self._on_flush, lambda hook: hook(event.count))
            case Delivered():
                pass
            case _:
                assert_never(event)

    def _isolated(self, event: HookEvent, hook: HookT | None, run: Callable[[HookT], object]) -> None:
        if hook is None:
            return
        try:
            run(hook)
        except Exception:  # noqa: BLE001 - a hook of the user must not stop delivery
            logger.exception("A hook raised on %s; delivery goes on.", type(event).__name__)


def _check_hook(name: str, hook: object) -> None:
    if hook is None:
        return
    if not callable(hook):
        raise ValidationError(f"{name}: must be callable, not {type(hook).__name__}")
    if inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(getattr(hook, "__call__", None)):  # noqa: B004
        raise ValidationError(f"{name}: must be a plain function: hooks are not awaited")
