"""What the page shows: follows a ledger, request by request, and says what has changed since.

A view is as large as the log of requests that it follows, and bounded with it. Every change has a number, so
that a page asks for what is newer than the last change that it has seen.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TypeVar

from clocknext_transports.emulator.api.ledger import Ledger, RequestRecord
from clocknext_transports.emulator.books.pricing import ZERO, add, plain
from clocknext_transports.emulator.books.records import Account, Booked
from clocknext_transports.emulator.page.entries import (
    Attempt,
    Entry,
    State,
    answer_of,
    object_in,
    signal_of,
    text_of,
)
from clocknext_transports.emulator.page.mistakes import Mistakes
from clocknext_transports.emulator.page.worked import worked_out

K = TypeVar("K")
V = TypeVar("V")

MAX_ENTRIES = 100_000
MAX_SENT = 200
"""The most entries in one message: those that are newer. A page asks for older ones."""
MAX_BEHIND = 100
"""The most requests that are left to be read when a page is opened."""
MAX_RUNS = 10_000
MAX_STEPS = 100
"""The most steps of a run that are shown."""
_FAULTS: Mapping[str, str] = {
    "lost": "a fault on purpose: processed, and the answer was lost",
    "reset": "a fault on purpose: the connection was reset before it was processed",
    "status": "a fault on purpose, before it was processed",
}


class Changing(OrderedDict[K, V]):
    """Things in the order of their latest change, each with the number of that change."""

    def __init__(self) -> None:
        super().__init__()
        self._changed: dict[K, int] = {}

    def change(self, key: K, value: V, number: int) -> None:
        """Put a thing last, with the number of its change."""
        self[key] = value
        self.move_to_end(key)
        self._changed[key] = number

    def forget(self, key: K) -> None:
        """Forget a thing."""
        self.pop(key, None)
        self._changed.pop(key, None)

    def since(self, number: int, *, most: int) -> list[V]:
        """Return what has changed since, the latest change first."""
        found: list[V] = []
        for key in reversed(self):
            if self._changed[key] <= number or len(found) == most:
                break
            found.append(self[key])
        return found


class View:
    """What the page shows of one ledger. The ledger's guard is held while it reads.

    Args:
        ledger: The ledger that it follows.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.change: int = 1
        """The number of the latest change."""
        self.resets: int = 0
        """How often the ledger was reset."""
        self.epoch: int = 0
        """Changes when something is gone: a page that has seen another one begins anew."""
        self._start()

    def _start(self) -> None:
        self._books = self._ledger.books
        self._read = 0
        self._signals_read = 0
        self._keyless: dict[str, Booked] = {}
        """Signals without an idempotency key, by the id of their log."""
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        """By their number, the oldest first."""
        self._by_key: dict[str, Entry] = {}
        self._changing: Changing[int, Entry] = Changing()
        self._runs: Changing[str, list[Booked]] = Changing()
        self._accounts: Changing[str, dict[str, object]] = Changing()
        self._most: dict[tuple[str, str], Decimal] = {}
        """The highest balance seen, by customer and component: the length of a full bar."""
        self._billed = ZERO
        self.mistakes: Mistakes = Mistakes()
        self._look_at_accounts(self._books.accounts)

    @property
    def is_behind(self) -> bool:
        """Whether more than `MAX_BEHIND` requests have not been read."""
        books = self._ledger.books
        read = self._read if books is self._books else 0  # after a reset all is new
        return books.counters.requests - read > MAX_BEHIND

    def update(self) -> list[tuple[Entry, Attempt]]:
        """Read what the ledger has logged since the last time; return the attempts of signals in it."""
        with self._ledger.guard:
            if self._ledger.books is not self._books:
                self.resets += 1
                self._start()
                self.change += 1
                self.epoch += 1
            self._read_signals()
            attempts: list[tuple[Entry, Attempt]] = []
            touched: set[str] = set()
            is_all_touched = False
            for record in self._ledger.requests_since(self._read):
                self._read = record.number
                self.change += 1
                body = signal_of(record)
                if body is None:
                    is_all_touched |= record.method != "GET"
                    continue
                attempts.append(self._take(record, body))
                touched.add(str(body.get("customerId")))
            if is_all_touched or len(self._books.accounts) != len(self._accounts):
                touched = {*self._books.accounts, *self._accounts}
            self._look_at_accounts(touched)
            return attempts

    def _take(self, record: RequestRecord, body: dict[str, object]) -> tuple[Entry, Attempt]:
        key = body.get("idempotencyKey")
        key = key if isinstance(key, str) and key else None
        is_dry_run = body.get("dryRun") is True
        entry = None if key is None or is_dry_run else self._by_key.get(key)
        if entry is None:
            entry = Entry(record.number, key, body)
            self._entries[record.number] = entry
            if key is not None and not is_dry_run:
                self._by_key[key] = entry
            if len(self._entries) > MAX_ENTRIES:
                self._forget(next(iter(self._entries)))
        before = entry.booked
        attempt = self._attempt(entry, record)
        if attempt.state == "held" or (before is None and entry.booked is not None):
            entry.body = body  # what was refused may have been corrected
        entry.add(attempt)
        self.mistakes.look_at(entry, attempt)
        self._changing.change(entry.number, entry, self.change)
        return entry, attempt

    def _forget(self, number: int) -> None:
        entry = self._entries.pop(number)
        self._changing.forget(number)
        if entry.key is not None and self._by_key.get(entry.key) is entry:
            del self._by_key[entry.key]

    def _attempt(self, entry: Entry, record: RequestRecord) -> Attempt:
        answer = answer_of(record)
        result = object_in(answer, "result")
        said = text_of(object_in(answer, "statusDetail").get("message")) or text_of(answer.get("error")) or ""
        log = object_in(result, "usageLog")
        if result.get("dryRun") is True:
            return Attempt(record, "dry run", "priced, and not billed")
        state: State
        if record.status is not None and 200 <= record.status < 300 and (log or result.get("signalId")):
            state = self._taken(entry, log, text_of(result.get("signalId")))
        elif record.fault is not None:
            before = entry.booked
            state, said = "failed", _FAULTS.get(record.fault, f"a fault on purpose: {record.fault}")
            entry.booked = before or self._found(entry.key)
        else:
            state = "refused"
        if state == "held":
            said = next((each.message for each in reversed(self._books.held)), said)
        return Attempt(record, state, said)

    def _taken(self, entry: Entry, log: dict[str, object], signal_id: str | None) -> State:
        """Say how a signal that was taken is settled: the ingest says no more than that it has it."""
        if signal_id is not None and any(each.signal_id == signal_id for each in self._books.held[-5:]):
            return "held"
        if entry.booked is not None:
            return "repeat"
        entry.booked = self._found(entry.key) or self._keyless.get(str(log.get("id")))
        if entry.booked is None and signal_id is not None and self._books.signals:
            entry.booked = self._books.signals[-1]  # without a key: the ingest has settled it at once
        return "billed"

    def _found(self, key: str | None) -> Booked | None:
        return None if key is None else self._books.first_result(key)

    def _read_signals(self) -> None:
        for signal in self._books.signals[self._signals_read :]:
            self._billed = add(self._billed, signal.customer_cost)
            if signal.idempotency_key is None:
                self._keyless[signal.id] = signal
            if signal.run_id is not None:
                steps = self._runs.get(signal.run_id, [])
                steps.append(signal)
                self._runs.change(signal.run_id, steps, self.change + 1)
                if len(self._runs) > MAX_RUNS:
                    self._runs.forget(next(iter(self._runs)))
        self._signals_read = len(self._books.signals)

    def _look_at_accounts(self, ids: Iterable[str]) -> None:
        for customer_id in ids:
            account = self._books.accounts.get(customer_id)
            if account is None:
                if customer_id in self._accounts:
                    self._accounts.forget(customer_id)
                    self.epoch += 1
                continue
            shown = self._shown(account)
            if self._accounts.get(customer_id) != shown:
                self._accounts.change(customer_id, shown, self.change)

    def _shown(self, account: Account) -> dict[str, object]:
        bars: list[dict[str, object]] = []
        if account.wallet is not None:
            bars.append(self._bar(account.id, "wallet", "wallet, USD", account.wallet.left))
        for noun, shelf in self._books.items.items():
            for item, balance in account.held[noun].items():
                name = f"{shelf.name_of(item)} ({noun}s)"
                bars.append(self._bar(account.id, f"{noun} {item}", name, balance.left))
        return {"id": account.id, "name": text_of(account.details.get("name")), "bars": bars}

    def _bar(self, customer_id: str, component: str, name: str, left: Decimal) -> dict[str, object]:
        where = (customer_id, component)
        most = self._most[where] = max(self._most.get(where, ZERO), left)
        return {"name": name, "left": plain(left), "part": float(left / most) if most else 0.0}

    # What a page asks for

    def since(self, number: int) -> dict[str, object]:
        """Return what has changed since: counters, the newest entries, customers, runs and mistakes."""
        with self._ledger.guard:
            counters = self._books.counters
            if number == 0:
                entries = self._newest(before=None)
            else:
                entries = self._changing.since(number, most=MAX_SENT)
            return {
                "change": self.change,
                "resets": self.resets,
                "counters": {
                    "billed": len(self._books.signals),
                    "refused": counters.refused,
                    "held": len(self._books.held),
                    "repeats": counters.repeats,
                    "requests": counters.requests,
                    "money": plain(self._billed),
                },
                "entries": [entry.as_json() for entry in entries],
                "total": len(self._entries),
                "customers": self._accounts.since(number or -1, most=MAX_SENT),
                "runs": [_run(steps) for steps in self._runs.since(number, most=MAX_SENT)],
                "mistakes": [each.as_json() for each in self.mistakes.found.values()],
            }

    def older(self, before: int) -> dict[str, object]:
        """Return the entries that are older than one, the newest first."""
        with self._ledger.guard:
            return {"entries": [entry.as_json() for entry in self._newest(before=before)]}

    def _newest(self, *, before: int | None) -> list[Entry]:
        found: list[Entry] = []
        for number in reversed(self._entries):
            if before is not None and number >= before:
                continue
            found.append(self._entries[number])
            if len(found) == MAX_SENT:
                break
        return found

    def detail(self, number: int) -> dict[str, object] | None:
        """Return all that is known of one entry; `None`: there is none of this number."""
        with self._ledger.guard:
            entry = self._entries.get(number)
            if entry is None:
                return None
            first = entry.attempts[0].record
            return {
                **entry.as_json(),
                "attempts": [
                    {
                        **attempt.as_json(),
                        "after": round(attempt.record.at - first.at, 3),
                        "answer": None if attempt.record.answer is None else text(attempt.record.answer),
                    }
                    for attempt in entry.attempts
                ],
                "request": {
                    "line": f"{first.method} {first.target}",
                    "userAgent": first.user_agent,
                    "body": text(first.raw_body),
                },
                "price": [] if entry.booked is None else worked_out(self._books, entry.booked),
                "log": None if entry.booked is None else entry.booked.as_log(),
            }


MAX_TEXT = 64 * 1024
"""The most bytes of a body or an answer that are shown."""


def text(body: bytes) -> str:
    """Return bytes from outside as text."""
    shown = body[:MAX_TEXT].decode("utf-8", "replace")
    return shown if len(body) <= MAX_TEXT else f"{shown}… ({len(body):,} bytes)"


def _run(steps: list[Booked]) -> dict[str, object]:
    cost = ZERO
    for step in steps:
        cost = add(cost, step.customer_cost)
    return {
        "id": steps[0].run_id,
        "customer": steps[0].customer_id,
        "outcome": steps[0].outcome,
        "billed": any(step.bills_outcome for step in steps),
        "cost": plain(cost),
        "count": len(steps),
        "steps": [
            {
                "key": step.key,
                "model": step.model,
                "tokens": [step.input_tokens, step.output_tokens, step.cache_tokens],
                "complete": step.complete is True,
            }
            for step in steps[:MAX_STEPS]
        ],
    }
