"""The entries of the page: a signal under its idempotency key, with every attempt that carried it."""

import json
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast

from clocknext_transports.emulator.api.ledger import RequestRecord
from clocknext_transports.emulator.books.envelopes import timestamp
from clocknext_transports.emulator.books.pricing import plain
from clocknext_transports.emulator.books.records import Booked
from clocknext_transports.emulator.books.validation import parse_json

State: TypeAlias = Literal["billed", "repeat", "refused", "held", "dry run", "failed"]
"""How an attempt ended; `repeat`: billed before, and not again; `failed`: a fault, so it will be repeated."""

SHOWN_ATTEMPTS = 4
"""The most attempts of an entry in a list."""
KEPT_ATTEMPTS = 100
"""The most attempts of an entry that are kept; the first ones."""
SHOWN_TEXT = 200
SIGNAL_PATHS = frozenset({"/api/v1/usage", "/api/v1/signal"})


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that carried a signal."""

    record: RequestRecord
    state: State
    message: str
    """What the server said, or the fault did."""

    def as_json(self) -> dict[str, object]:
        """Return the attempt as the page reads it."""
        return {
            "number": self.record.number,
            "at": timestamp(self.record.at),
            "state": self.state,
            "status": self.record.status,
            "fault": self.record.fault,
            "message": self.message,
            "connection": self.record.connection,
        }


@dataclass(slots=True)
class Entry:
    """One signal, as all its attempts sent it."""

    number: int
    """The number of the first request that carried it."""
    key: str | None
    """The idempotency key; `None`: the signal had none, and each attempt is an entry."""
    body: dict[str, object]
    """What was billed, or before that what came first."""
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    count: int = 0
    """The number of attempts, those that are not kept included."""
    repeats: int = 0
    """The number of attempts that were answered with the first result, and not billed again."""
    booked: Booked | None = None
    is_held: bool = False

    def add(self, attempt: Attempt) -> None:
        """Add an attempt."""
        self.count += 1
        self.repeats += attempt.state == "repeat"
        self.is_held |= attempt.state == "held"
        if len(self.attempts) < KEPT_ATTEMPTS:
            self.attempts.append(attempt)
        else:
            self.attempts[-1] = attempt

    @property
    def state(self) -> State:
        """How the signal stands."""
        if self.booked is not None:
            return "billed"
        return "held" if self.is_held else self.attempts[-1].state

    def as_json(self) -> dict[str, object]:
        """Return the entry as a list on the page shows it."""
        booked, body = self.booked, self.body
        return {
            "id": self.number,
            "at": timestamp(self.attempts[0].record.at),
            "key": self.key,
            "state": self.state,
            "customer": text_of(body.get("customerId")),
            "type": text_of(body.get("type")),
            "model": text_of(body.get("model")),
            "credit": text_of(body.get("agentKey") or body.get("key")),
            "tokens": [count_of(body.get(name)) for name in ("inputTokens", "outputTokens", "cacheTokens")],
            "cost": None if booked is None else plain(booked.customer_cost),
            "credits": None if booked is None or booked.type != "credit" else plain(booked.credits_used),
            "message": self.attempts[-1].message,
            "attempts": [attempt.as_json() for attempt in self.attempts[:SHOWN_ATTEMPTS]],
            "count": self.count,
            "repeats": self.repeats,
        }


def signal_of(record: RequestRecord) -> dict[str, object] | None:
    """Return the body of a request that carries a signal; `None` for every other request."""
    if record.method != "POST" or record.target.partition("?")[0] not in SIGNAL_PATHS:
        return None
    body = record.body
    return cast("dict[str, object]", body) if isinstance(body, dict) else {}


def answer_of(record: RequestRecord) -> dict[str, object]:
    """Return the parsed answer of a request; empty where it had none, or no JSON object."""
    try:
        parsed = parse_json((record.answer or b"").decode())
    except ValueError:
        return {}
    return cast("dict[str, object]", parsed) if isinstance(parsed, dict) else {}


def object_in(value: object, name: str) -> dict[str, object]:
    """Return a member of a JSON object that is one itself; else an empty one."""
    found = cast("dict[str, object]", value).get(name) if isinstance(value, dict) else None
    return cast("dict[str, object]", found) if isinstance(found, dict) else {}


def text_of(value: object) -> str | None:
    """Return a value of a body, of any type, as a short text; `None` for nothing."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= SHOWN_TEXT else text[: SHOWN_TEXT - 1] + "…"


def count_of(value: object) -> int:
    """Return a number of tokens; 0 for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
