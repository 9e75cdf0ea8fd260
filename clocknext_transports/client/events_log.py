"""Logs the events of a client: one log record an event, with its details as attributes of the record.

Silent unless the program configures logging. A record names a signal by its idempotency key. What it is
about stays out, and so does what the service said in words: neither customers nor members, no body and no
message of a server. Hooks receive those.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import assert_never

from clocknext_core import (
    ClockNextError,
    Delivered,
    Dropped,
    Emptied,
    GivenUp,
    HookEvent,
    KeyRefused,
    Mending,
    Misdirected,
    Rejected,
    Retrying,
)
from clocknext_core.gate import Gate

LEVELS: Mapping[type[HookEvent], int] = {
    Delivered: logging.DEBUG,
    Retrying: logging.DEBUG,
    Emptied: logging.INFO,
    Rejected: logging.WARNING,
    GivenUp: logging.WARNING,
    Mending: logging.WARNING,
    KeyRefused: logging.WARNING,
    Misdirected: logging.WARNING,
    Dropped: logging.WARNING,
}

_FAILED: Mapping[type[HookEvent], tuple[str, str]] = {
    Rejected: ("rejected", "Signal %r was rejected: %s."),
    GivenUp: ("given_up", "Signal %r was given up: %s."),
    Mending: ("mending", "Signal %r was not billed, a person has to mend it: %s."),
    KeyRefused: ("key_refused", "Signal %r stays in the spool, the API key was refused: %s."),
    Misdirected: ("misdirected", "Signal %r stays held, the answer was not the API's: %s."),
}
"""The name and the text of the records that tell of an error."""


class EventLog:
    """Writes the events of one client to a logger.

    Args:
        logger: Where they go.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._gate: Gate | None = None
        self._is_outage = False

    def watch(self, gate: Gate) -> None:
        """Tell of this gate's outages, too; not of those of any other from now on."""
        self._gate = gate
        self._is_outage = False

    def wants(self, event: HookEvent) -> bool:
        """Return whether `note` would write anything."""
        is_outage = self._is_outage if self._gate is None else self._gate.is_outage
        return is_outage is not self._is_outage or self._logger.isEnabledFor(LEVELS[type(event)])

    def note(self, event: HookEvent) -> None:
        """Write an event, after the outage that began or ended with it. Never raises."""
        if self._gate is not None and (is_outage := self._gate.is_outage) is not self._is_outage:
            self._is_outage = is_outage
            self._note_outage(is_outage=is_outage)
        if self._logger.isEnabledFor(LEVELS[type(event)]):
            with suppress(Exception):  # a log handler or filter may raise
                self._write(event)

    def _note_outage(self, *, is_outage: bool) -> None:
        with suppress(Exception):
            if is_outage:
                self._logger.info("An outage of the service began.", extra={"event_name": "outage_began"})
            else:
                self._logger.info("The outage is over.", extra={"event_name": "outage_ended"})

    def _write(self, event: HookEvent) -> None:
        match event:
            case Delivered():
                self._log(event, "delivered", "Signal %r was delivered.", event.encoded.idempotency_key)
            case Rejected() | GivenUp() | Mending() | KeyRefused() | Misdirected():
                name, message = _FAILED[type(event)]
                key, error = event.encoded.idempotency_key, event.error
                self._log(event, name, message, key, _shown(error), **_details(error))
            case Retrying():
                self._log(
                    event,
                    "retrying",
                    "Attempt %d failed: %s. Retrying in at least %.3f s.",
                    event.attempt,
                    _shown(event.error),
                    event.delay,
                    attempt=event.attempt,
                    delay=event.delay,
                    **_details(event.error),
                )
            case Dropped():
                self._log(
                    event,
                    "dropped",
                    "Signal %r was dropped: %s.",
                    event.encoded.idempotency_key,
                    event.reason,
                    reason=event.reason,
                )
            case Emptied():
                self._log(
                    event,
                    "emptied",
                    "No signal is held any more; delivered since the last time: %d.",
                    event.count,
                    count=event.count,
                )
            case _:
                assert_never(event)

    def _log(self, event: HookEvent, name: str, message: str, *arguments: object, **fields: object) -> None:
        encoded = None if isinstance(event, Emptied) else event.encoded
        if encoded is not None:
            fields |= {"idempotency_key": encoded.idempotency_key, "signal_type": encoded.type}
        self._logger.log(LEVELS[type(event)], message, *arguments, extra={"event_name": name, **fields})


def _shown(error: ClockNextError) -> str:
    kind = type(error).__name__
    return kind if error.status is None else f"{kind}, status {error.status}"


def _details(error: ClockNextError) -> dict[str, object]:
    return {"error_type": type(error).__name__, "status": error.status, "reason": error.reason}
