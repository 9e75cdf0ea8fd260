"""Recorded exchanges with the API: a call, what went over the wire, and what the caller got.

`exchanges.json` is a list of objects:

    name         what the exchange shows
    client       batch and retry policy, where they differ from `BATCH` and `RETRY`
    method       resource and method, such as `customers.get`
    positional   the ids a method takes by position
    arguments    its keyword arguments
    signal       for `signals.verify`: the signal, its type beside its fields
    buffered     in place of arguments: signals recorded one after another without waiting, then a flush
    answers      the server's script: status, headers and body text in order, the last one repeating
    requests     what the server saw; a single one was repeated `attempts` times
    outcome      `value` (as `plain` makes it), or `error`; of buffered signals `report` and `max_in_flight`
    hooks        the hooks that ran, in order; a signal is known by its agent key

Where the client that was recorded took a page of HTML, an empty body or an array for a success, the right
outcome stands here instead. `backoff.json` and `retry_after.json` are tables of what went in and came out.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

from clocknext_core import (
    BatchPolicy,
    ClockNextError,
    CreditSignal,
    FlushReport,
    Model,
    OutcomeSignal,
    Retrying,
    RetryPolicy,
    Signal,
    TrackResult,
    WalletSignal,
)
from clocknext_core.models import Items

Json: TypeAlias = dict[str, Any]

BATCH = BatchPolicy(outage="drop")
"""The recorded client gives signals up in an outage."""
RETRY = RetryPolicy(max_attempts=5, base_delay=0.001, max_delay=0.004)
"""The policy the exchanges were recorded under: quick, so that a replay in real time is quick as well."""

_FOLDER = Path(__file__).parent
_SIGNALS: Mapping[str, type[CreditSignal | WalletSignal | OutcomeSignal]] = {
    "credit": CreditSignal,
    "wallet": WalletSignal,
    "outcome": OutcomeSignal,
}


@dataclass(frozen=True)
class ScriptedAnswer:
    """One answer of the server."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True)
class SeenRequest:
    """One request as a server sees it: header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None


@dataclass(frozen=True)
class ExpectedRequest:
    """One request as it was recorded."""

    method: str
    target: str
    authorization: str
    """The scheme."""
    content_type: str | None
    body: Json | None
    """Parsed; `None` when there was none."""

    def check(self, seen: SeenRequest, api_key: str) -> None:
        """Compare with a request."""
        assert (seen.method, seen.target) == (self.method, self.target)
        assert seen.headers.get("authorization") == f"{self.authorization} {api_key}"
        assert seen.headers.get("content-type") == self.content_type
        assert (json.loads(seen.body) if seen.body else None) == self.body


@dataclass(frozen=True)
class Exchange:
    """One recorded exchange; see the module for its fields."""

    name: str
    method: str
    batch: BatchPolicy
    retry: RetryPolicy
    positional: Sequence[object]
    arguments: Mapping[str, object]
    buffered: Sequence[Mapping[str, object]]
    answers: Sequence[ScriptedAnswer]
    requests: Sequence[ExpectedRequest]
    """Every request, repeats included."""
    outcome: Json
    hooks: Sequence[Json]

    def __str__(self) -> str:
        return self.name

    def answer(self, number: int) -> ScriptedAnswer:
        """Return the server's answer to the request of this number, from 0."""
        return self.answers[min(number, len(self.answers) - 1)]

    def check_requests(self, seen: Sequence[SeenRequest], api_key: str, *, in_order: bool = True) -> None:
        """Compare what the server saw; without `in_order` as a set, for signals sent at the same time."""
        assert len(seen) == len(self.requests), f"{len(seen)} attempts, not {len(self.requests)}"
        if not in_order:
            seen = sorted(seen, key=lambda request: _signal_key(json.loads(request.body or b"{}")))
        expected = self.requests if in_order else sorted(self.requests, key=lambda one: _signal_key(one.body))
        for one, request in zip(expected, seen, strict=True):
            one.check(request, api_key)

    def check_outcome(self, outcome: object) -> None:
        """Compare what a call returned, or the error it raised."""
        if isinstance(outcome, ClockNextError):
            assert "error" in self.outcome, f"raised {outcome!r}"
            assert plain_error(outcome) == self.outcome["error"]
        else:
            assert "value" in self.outcome, f"returned {outcome!r}, was to raise {self.outcome['error']}"
            assert plain(outcome) == self.outcome["value"]

    def check_report(self, report: FlushReport) -> None:
        """Compare what a flush reported of buffered signals."""
        assert {
            "delivered": report.delivered,
            "failed": sorted(_name(failed.signal) for failed in report.failed),
            "pending": report.pending,
        } == self.outcome["report"]

    @property
    def max_in_flight(self) -> int:
        """Most requests the server may see at a time."""
        return int(self.outcome["max_in_flight"])


@dataclass
class HookLog:
    """Hooks that write down their calls in the form of the recordings."""

    seen: list[Json] = field(default_factory=list[Json])

    def on_error(self, error: ClockNextError, signal: Signal) -> None:
        """Note a refused signal."""
        self.seen.append({"hook": "on_error", "key": _name(signal), "error": plain_error(error)})

    def on_drop(self, signal: Signal, reason: str) -> None:
        """Note a dropped signal."""
        self.seen.append({"hook": "on_drop", "key": _name(signal), "reason": reason})

    def on_retry(self, event: Retrying) -> None:
        """Note a failed attempt."""
        self.seen.append({"hook": "on_retry", "attempt": event.attempt})

    def on_flush(self, count: int) -> None:
        """Note an emptied buffer."""
        self.seen.append({"hook": "on_flush", "count": count})


def load_exchanges() -> list[Exchange]:
    """Read every recorded exchange."""
    return [_exchange(entry) for entry in load_table("exchanges.json")]


def load_table(name: str) -> list[Json]:
    """Read a recording as it is: a list of objects."""
    table: list[Json] = json.loads((_FOLDER / name).read_text("utf-8"))
    return table


def bound_call(
    client: object, exchange: Exchange
) -> tuple[Callable[..., Any], Sequence[object], Mapping[str, object]]:
    """Find the method an exchange calls, by its public name, and its arguments.

    Args:
        client: Anything with the resources as attributes: `client.customers.get`.
        exchange: The exchange.

    Returns:
        The method, and its positional and keyword arguments. For buffered signals it is the method that
        records one, with no arguments: call it with each of `exchange.buffered`.
    """
    resource, _, name = exchange.method.partition(".")
    method: Callable[..., Any] = getattr(getattr(client, resource), name)
    return method, exchange.positional, exchange.arguments


def plain(value: object) -> object:
    """Turn a result into what the recordings hold: payloads as received, lists of them, `None`.

    Of a recorded signal that is whether it was queued, and its usage log.
    """
    if isinstance(value, TrackResult):
        return {"queued": value.queued, "usage_log": plain(value.usage_log)}
    if isinstance(value, Model | Items):
        return cast(object, value.raw)
    if isinstance(value, list):
        return [plain(each) for each in cast("list[object]", value)]
    return value


def plain_error(error: ClockNextError) -> Json:
    """Turn an error into what the recordings hold."""
    return {
        "type": type(error).__name__,
        "message": str(error),
        "status": error.status,
        "retryable": error.retryable,
    }


def _exchange(entry: Json) -> Exchange:
    client = entry.get("client", {})
    positional = list(entry.get("positional", ()))
    if "signal" in entry:
        fields = dict(entry["signal"])
        positional.append(_SIGNALS[fields.pop("type")](**fields))
    return Exchange(
        name=entry["name"],
        method=entry["method"],
        batch=replace(BATCH, **client.get("batch", {})),
        retry=replace(RETRY, **client.get("retry", {})),
        positional=positional,
        arguments=entry.get("arguments", {}),
        buffered=entry.get("buffered", ()),
        answers=[ScriptedAnswer(**answer) for answer in entry["answers"]],
        requests=[ExpectedRequest(**request) for request in entry["requests"]] * entry.get("attempts", 1),
        outcome=entry["outcome"],
        hooks=entry["hooks"],
    )


def _name(signal: Signal) -> str:
    assert isinstance(signal, CreditSignal)
    return str(signal.agent_key)


def _signal_key(body: Json | None) -> str:
    return str((body or {}).get("idempotencyKey"))
