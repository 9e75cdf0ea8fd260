"""The journal: a log record for each event, its particulars as attributes of the record too.

Silent unless the program configures logging. A record names a signal by its idempotency key. What it is
about stays out, and so does what the service said in words: neither customers nor members, no body and no
message of a server. Whoever needs those has the hooks.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import assert_never

from clocknext_core import ClockNextError, Delivered, Dropped, Flushed, HookEvent, Rejected, Retrying
from clocknext_core.gate import Gate

LEVELS: Mapping[type[HookEvent], int] = {
    Delivered: logging.DEBUG,
    Retrying: logging.DEBUG,
    Flushed: logging.INFO,
    Rejected: logging.WARNING,
    Dropped: logging.WARNING,
}


class Journal:
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

    def note(self, event: HookEvent) -> None:
        """Write an event, after the outage that began or ended with it. Never raises."""
        if self._gate is not None and (is_outage := self._gate.is_outage) is not self._is_outage:
            self._is_outage = is_outage
            self._note_outage(is_outage=is_outage)
        if self._logger.isEnabledFor(LEVELS[type(event)]):
            with suppress(Exception):  # a handler or filter may; there is nobody left to tell
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
            case Rejected():
                self._log(
                    event,
                    "rejected",
                    "Signal %r was not billed: %s.",
                    event.encoded.idempotency_key,
                    _shown(event.error),
                    **_told(event.error),
                )
            case Retrying():
                self._log(
                    event,
                    "retrying",
                    "Attempt %d failed: %s. The next one is %.3f seconds away, or more.",
                    event.attempt,
                    _shown(event.error),
                    event.delay,
                    attempt=event.attempt,
                    delay=event.delay,
                    **_told(event.error),
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
            case Flushed():
                self._log(
                    event,
                    "flushed",
                    "The buffer has been emptied; delivered since the last time: %d.",
                    event.count,
                    count=event.count,
                )
            case _:
                assert_never(event)

    def _log(self, event: HookEvent, name: str, message: str, *arguments: object, **fields: object) -> None:
        encoded = None if isinstance(event, Flushed) else event.encoded
        if encoded is not None:
            fields |= {"idempotency_key": encoded.idempotency_key, "signal_type": encoded.type}
        self._logger.log(LEVELS[type(event)], message, *arguments, extra={"event_name": name, **fields})


def _shown(error: ClockNextError) -> str:
    kind = type(error).__name__
    return kind if error.status is None else f"{kind}, status {error.status}"


def _told(error: ClockNextError) -> dict[str, object]:
    return {"error_type": type(error).__name__, "status": error.status, "reason": error.reason}
