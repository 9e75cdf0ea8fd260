"""Logs the events of a client: one log record an event, with its details as attributes of the record.

What costs money or needs a person is a WARNING, which Python prints on stderr where logging is not
configured. A record names a signal by its idempotency key. What it is about stays out, and so does what the
service said in words: neither customers nor members, no body and no message of a server. Hooks receive those.
"""

import logging
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import assert_never

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
    Unbilled,
)
from clocknext_core.gate import Gate
from clocknext_core.states import DropReason
from clocknext_core.usage.attribution import Reason
from clocknext_transports.client.advice import advice, facts, path_shown
from clocknext_transports.client.quota import Quota
from clocknext_transports.process.interrupts import let_pass

MOST, WINDOW = 10, 60.0
"""Records of a kind written at the level WARNING, and the seconds they count for; the others are DEBUG."""
RETRIES_WINDOW = 600.0
"""Seconds in which one failed attempt that will be repeated is written at the level WARNING."""

LEVELS: Mapping[type[HookEvent], int] = {
    Delivered: logging.DEBUG,
    Retrying: logging.WARNING,
    Emptied: logging.INFO,
    Rejected: logging.WARNING,
    GivenUp: logging.WARNING,
    Mending: logging.WARNING,
    KeyRefused: logging.WARNING,
    Misdirected: logging.WARNING,
    Dropped: logging.WARNING,
    FallingBehind: logging.WARNING,
}
"""The level of an event's records. Those beyond the quota of a WARNING are written at DEBUG."""

_FAILED: Mapping[type[HookEvent], tuple[str, str]] = {
    Rejected: ("rejected", "ClockNext rejected signal %r, which is not billed (%s). %s"),
    GivenUp: ("given_up", "ClockNext signal %r was given up and is not billed (%s). %s"),
    Mending: (
        "mending",
        "ClockNext keeps signal %r for a person to correct: it is not billed yet (%s). %s",
    ),
    KeyRefused: ("key_refused", "ClockNext refused the API key; signal %r stays in the spool (%s). %s"),
    Misdirected: ("misdirected", "ClockNext signal %r stays held: the answer was not the API's (%s). %s"),
}
"""The name and the text of each record about an error: key, facts, advice."""

_TOLD_BY: Mapping[type[HookEvent], str] = {
    Rejected: "on_error and the report of flush() have",
    GivenUp: "on_error and the report of flush() have",
    Mending: "on_error has",
    KeyRefused: "on_error has",
    Misdirected: "on_error has",
    Retrying: "on_retry has",
}
"""What has the server's own words about an event."""

_WHY_DROPPED: Mapping[DropReason, str] = {
    "queue_full": "The queue was full: see max_queue_size, max_queue_bytes and overflow.",
    "closed": "It was not delivered before the client was closed, or recorded after that: see close_timeout "
    "and spool.",
    "expired": "It was older than the spool's window.",
    "send_failed": "It could not be delivered.",
}


_UNBILLED: Mapping[Reason, tuple[int, str]] = {
    "no_usage": (logging.WARNING, "Its answer says nothing of what it used."),
    "partial": (logging.WARNING, "It was left before its counts were final: see on_abort."),
    "cache_hit": (logging.DEBUG, "A framework's cache answered."),
    "unattributed": (
        logging.WARNING,
        "No customer was named: make the call within cnk.billing(…), or name one where the SDK is metered.",
    ),
    "scope_ended": (logging.WARNING, "The billing block that it was made in had ended."),
    "unknown_shape": (logging.WARNING, "What it used can't be read: see `clocknext usage explain`."),
    "seen_already": (logging.DEBUG, "It was recorded before."),
}
"""The level of the record about a call to a model that was not billed, and why it was not."""


@contextmanager
def _harmless() -> Generator[None, None, None]:
    """Drop what a log handler or filter raises. What a signal handler raises there is its caller's."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - delivery must not stop over a log record
        let_pass(error)


class EventLog:
    """Writes the events of one client to a logger. What the logger raises is dropped.

    Args:
        logger: Where they go.
        clock: Returns seconds, for the quota of records.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._quota = Quota(MOST, WINDOW, clock)
        self._retries = Quota(1, RETRIES_WINDOW, clock)
        self._gate: Gate | None = None
        self._is_outage = False
        self._turns: dict[int, bool] = {}
        """The events, by `id`, with which an outage began (`True`) or ended, until they are written."""

    def watch(self, gate: Gate) -> None:
        """Log the outages of this gate from now on, and of no other."""
        self._gate = gate
        self._is_outage = False
        self._turns = {}

    def admit(self, event: HookEvent) -> bool:
        """Take note of an event as it comes, and return whether `note` may write anything.

        The lock is held. By the time that the event is written, the outage it began may be over.
        """
        if self._gate is not None and (is_outage := self._gate.is_outage) is not self._is_outage:
            self._is_outage = self._turns[id(event)] = is_outage
            return True
        return self._logger.isEnabledFor(LEVELS[type(event)])

    def note(self, event: HookEvent) -> None:
        """Write an event, after the outage that began or ended with it."""
        if (is_outage := self._turns.pop(id(event), None)) is not None:
            with _harmless():
                self._note_outage(event, is_outage=is_outage)
        if self._logger.isEnabledFor(LEVELS[type(event)]):
            with _harmless():
                self._write(event)

    def note_unbilled(self, unbilled: Unbilled) -> None:
        """Write that a call to a model was not billed."""
        level, why = _UNBILLED[unbilled.reason]
        if unbilled.detail:  # what looks like a repeat may be none, and a bill is lost
            level = logging.WARNING
        if not self._logger.isEnabledFor(level):
            return
        model = None if unbilled.reading is None else unbilled.reading.model
        detail = f", {unbilled.detail.rstrip('.')}" if unbilled.detail else ""
        with _harmless():
            self._log(
                level,
                "unbilled",
                "ClockNext does not bill a call to %s: %s%s. %s on_unbilled has what was seen of it.",
                "a model" if model is None else repr(model),
                unbilled.reason,
                detail,
                why,
                kind=f"unbilled {unbilled.reason}",
                fields={"reason": unbilled.reason, "model": model},
            )

    def note_raised(self, event: HookEvent) -> None:
        """Write the traceback of the exception that a hook raised and that is being handled."""
        level = logging.ERROR if self._quota.admit("hooks that raised") else logging.DEBUG
        with _harmless():
            self._logger.log(
                level, "A hook raised on %s; delivery goes on.", type(event).__name__, exc_info=True
            )

    def finish(self, *, kept: int = 0) -> None:
        """Write how many records were left out, as the client closes.

        Args:
            kept: Signals that were not delivered and stay in the spool.
        """
        if kept:
            with _harmless():
                self._logger.warning(
                    "ClockNext signals not delivered before the client was closed: %d. They stay in the "
                    "spool, for the next process that opens it.",
                    kept,
                    extra={"event_name": "kept", "count": kept},
                )
        for kind, count in self._quota.take_all_left_out().items():
            with _harmless():
                self._logger.warning(
                    "ClockNext log records of %s that were left out: %d. They are at DEBUG.",
                    kind,
                    count,
                    extra={"event_name": "left_out", "count": count},
                )

    def _note_outage(self, event: HookEvent, *, is_outage: bool) -> None:
        if not is_outage:
            self._log(
                logging.WARNING,
                "outage_ended",
                "ClockNext works again: the outage is over, and held signals are sent.",
            )
            return
        error = event.error if isinstance(event, Retrying | GivenUp | Misdirected | KeyRefused) else None
        why = "" if error is None else f" ({facts(error)}). {advice(error, _TOLD_BY[type(event)])}"
        self._log(
            logging.WARNING,
            "outage_began",
            "ClockNext does not work, or can't be reached: signals are held and sent when it works%s",
            why or ".",
            fields={} if error is None else _fields_of(error),
        )

    def _write(self, event: HookEvent) -> None:
        level = LEVELS[type(event)]
        match event:
            case Delivered():
                key = event.encoded.idempotency_key
                self._log(level, "delivered", "Signal %r was delivered.", key, fields=_about(event))
            case Rejected() | GivenUp() | Mending() | KeyRefused() | Misdirected():
                name, message = _FAILED[type(event)]
                if isinstance(event, Misdirected):
                    self._retries.admit("retrying")  # which would say the same once more
                key, error = event.encoded.idempotency_key, event.error
                self._log(
                    level,
                    name,
                    message,
                    key,
                    facts(error),
                    advice(error, _TOLD_BY[type(event)]),
                    kind=f"{name} {type(error).__name__}",
                    fields=_about(event) | _fields_of(error),
                )
            case Retrying():
                self._log(
                    level,
                    "retrying",
                    "ClockNext attempt %d failed (%s). It is repeated in at least %.3f s. %s",
                    event.attempt,
                    facts(event.error),
                    event.delay,
                    advice(event.error, _TOLD_BY[type(event)]),
                    fields={"attempt": event.attempt, "delay": event.delay}
                    | _about(event)
                    | _fields_of(event.error),
                )
            case Dropped():
                self._log(
                    level,
                    "dropped",
                    "ClockNext signal %r was dropped and is not billed (%s). %s",
                    event.encoded.idempotency_key,
                    event.reason,
                    _WHY_DROPPED[event.reason],
                    kind=f"dropped {event.reason}",
                    fields={"reason": event.reason} | _about(event),
                )
            case Emptied():
                self._log(
                    level,
                    "emptied",
                    "No signal is held any more; delivered since the last time: %d.",
                    event.count,
                    fields={"count": event.count},
                )
            case FallingBehind():
                self._log(
                    level,
                    "falling_behind",
                    "ClockNext works, but more is recorded than is delivered: %d signals are held; "
                    "in %.0f s %d were recorded and %d delivered, %d at once. "
                    'Raise BatchPolicy.max_concurrency, or set it to "auto".',
                    event.held,
                    event.seconds,
                    event.recorded,
                    event.delivered,
                    event.max_concurrency,
                    fields={
                        "held": event.held,
                        "seconds": event.seconds,
                        "recorded": event.recorded,
                        "delivered": event.delivered,
                        "max_concurrency": event.max_concurrency,
                    },
                )
            case _:
                assert_never(event)

    def _log(
        self,
        level: int,
        name: str,
        message: str,
        *arguments: object,
        kind: str | None = None,
        fields: Mapping[str, object] | None = None,
    ) -> None:
        if level >= logging.WARNING:
            kind = name if kind is None else kind
            quota = self._retries if name == "retrying" else self._quota
            if not quota.admit(kind):
                level = logging.DEBUG
            elif left_out := self._quota.take_left_out(kind):
                message += " (Left out before, of this kind: %d.)"
                arguments = (*arguments, left_out)
        self._logger.log(level, message, *arguments, extra={"event_name": name, **(fields or {})})


def _about(
    event: Delivered | Rejected | GivenUp | Mending | KeyRefused | Misdirected | Retrying | Dropped,
) -> dict[str, object]:
    encoded = event.encoded
    if encoded is None:
        return {}
    return {"idempotency_key": encoded.idempotency_key, "signal_type": encoded.type}


def _fields_of(error: ClockNextError) -> dict[str, object]:
    method = None if error.request is None else error.request.method
    return {
        "error_type": type(error).__name__,
        "status": error.status,
        "reason": error.reason,
        "method": method,
        "path": path_shown(error),
    }
