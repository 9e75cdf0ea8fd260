"""Hooks: the caller's functions, run on the machines' events. One that raises never stops delivery.

Every event that leaves the machines passes here, so the journal is written here too.
"""

import inspect
from collections.abc import Callable
from typing import TypeAlias, assert_never

from clocknext_core import (
    ClockNextError,
    Delivered,
    Dropped,
    Flushed,
    HookEvent,
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
        """Log an event and run the hook it calls for. What that raises is logged, with the traceback."""
        self.journal.note(event)
        try:
            self._run(event)
        except Exception:  # noqa: BLE001 - a hook of the user must not stop delivery
            logger.exception("A hook raised on %s; delivery goes on.", type(event).__name__)

    def _run(self, event: HookEvent) -> None:
        match event:
            case Rejected():
                if self._on_error is not None:
                    self._on_error(event.error, event.signal)
            case Dropped():
                if self._on_drop is not None:
                    self._on_drop(event.signal, event.reason)
            case Retrying():
                if self._on_retry is not None:
                    self._on_retry(event)
            case Flushed():
                if self._on_flush is not None:
                    self._on_flush(event.count)
            case Delivered():
                pass
            case _:
                assert_never(event)


def _check_hook(name: str, hook: object) -> None:
    if hook is None:
        return
    if not callable(hook):
        raise ValidationError(f"{name}: must be callable, not {type(hook).__name__}")
    if inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(getattr(hook, "__call__", None)):  # noqa: B004
        raise ValidationError(f"{name}: must be a plain function: hooks are not awaited")
