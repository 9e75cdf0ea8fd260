"""What a test asserts of its ledger: what was billed, refused and held, each with the nearest miss."""

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from typing import Any, TypeVar, cast

from clocknext_transports import ClockNext
from clocknext_transports.client.base import ClientBase
from clocknext_transports.emulator import (
    AcceptOnly,
    Bill,
    Booked,
    Catalogue,
    Customer,
    EmulatorServer,
    Fault,
    Faults,
    RequestRecord,
)
from clocknext_transports.emulator.api.ingest import STATES
from clocknext_transports.process import fork

T = TypeVar("T")

WAIT = 5.0
"""Seconds that an assertion waits for signals that are on their way."""
_PAUSE = 0.01
_SIGNALS = "/api/v1/usage"
_ALLOWED = ("held", "refused", "open")
_AT_IMPORT = (
    "such as by an import. Set `clocknext_session = true` in pytest's configuration: then clients made at "
    "import use the emulator too."
)
_MEANING: Mapping[str, str] = {"input": "input_tokens", "output": "output_tokens", "cache": "cache_tokens"}
_EXPECTED = (
    *("customer_id", "type", "model", "key", "input", "output", "cache", "member", "status", "custom"),
    *("run_id", "complete", "idempotency_key", "customer_cost", "credits_used"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """How the ledger of a test begins, and what does not fail it at its end."""

    catalogue: Catalogue | None = None
    balances: Mapping[str, Mapping[str, float]] | None = None
    mode: AcceptOnly | None = None
    faults: Sequence[Fault] = ()
    allow: Collection[str] = ()

    def with_(self, changes: Mapping[str, object]) -> "Settings":
        """Return these settings with changes.

        Raises:
            ValueError: A name is unknown, or a value is not what its name takes.
        """
        known = [each.name for each in fields(self)]
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"The marker clocknext has no {name!r}. It has: {', '.join(known)}.")
            is_right, takes = _TAKES[name]
            if not is_right(value):
                raise ValueError(f"The marker clocknext takes {name}={takes}; not {value!r}.")
        return replace(self, **cast("dict[str, Any]", dict(changes)))


def _is_each(value: object, is_right: Callable[[object], bool]) -> bool:
    return (
        isinstance(value, Collection)
        and not isinstance(value, str | bytes | Mapping)
        and all(map(is_right, cast("Collection[object]", value)))
    )


def _is_balances(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(customer_id, str)
        and isinstance(amounts, Mapping)
        and all(isinstance(key, str) for key in cast("Mapping[object, object]", amounts))
        and all(
            isinstance(amount, int | float) for amount in cast("Mapping[object, object]", amounts).values()
        )
        for customer_id, amounts in cast("Mapping[object, object]", value).items()
    )


_TAKES: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "catalogue": (lambda value: value is None or isinstance(value, Catalogue), "a Catalogue"),
    "balances": (
        lambda value: value is None or _is_balances(value),
        "{customer: {'wallet' or the key of a credit, outcome or unit: amount}}",
    ),
    "mode": (lambda value: value is None or value in STATES, " or ".join(map(repr, STATES))),
    "faults": (
        lambda value: _is_each(value, lambda fault: fault is None or isinstance(fault, Fault)),
        'a list of Fault, such as [Fault("lost")]',
    ),
    "allow": (
        lambda value: _is_each(value, lambda name: name in _ALLOWED),
        f"a set of {', '.join(map(repr, _ALLOWED))}",
    ),
}
"""What tells whether a setting is right, and what to say where it is not."""


@dataclass(slots=True)
class Refused:
    """A signal that the server refused."""

    number: int
    status: int
    message: str
    body: Mapping[str, object] = field(repr=False)

    def __str__(self) -> str:
        return (
            f"{self.status} {self.message} (customer {self.body.get('customerId')!r}, model "
            f"{self.body.get('model')!r})"
        )


class LedgerOfTest:
    """The ledger that one test bills to.

    Args:
        server: The server, whose ledger begins anew.
        settings: How.
        api_key: What the clients of this test use. What later tests get with it is not in their ledgers.
            Default: the server's own, which every test may use.

    Raises:
        ValueError: The balances name what the catalogue does not have.
    """

    def __init__(self, server: EmulatorServer, settings: Settings, api_key: str | None = None) -> None:
        self.server: EmulatorServer = server
        """The emulator: `.url`."""
        self.api_key: str = api_key or server.api_key
        """The API key of this test."""
        self._allow = settings.allow
        self._asserted: set[int] = set()
        self._others = {id(client) for client in _clients()}
        """Clients that were there before the test."""
        server.faults.reset()
        if api_key is None:
            self._flush(WAIT, api_key=server.api_key)  # what tests without a ledger have left behind
        server.ledger.renew(settings.catalogue, accept_only=settings.mode, further_key=api_key)
        for customer_id, amounts in (settings.balances or {}).items():
            server.ledger.add_customer(_customer(server, customer_id, amounts), now=time.time())
        if settings.faults:
            server.faults.script(*settings.faults, path=_SIGNALS)

    # Reading

    @property
    def signals(self) -> tuple[Booked, ...]:
        """Every signal that was billed, in order."""
        return self.server.ledger.signals

    @property
    def faults(self) -> Faults:
        """The faults of the server: `.script(Fault("lost"))` hits the next request."""
        return self.server.faults

    def bill(self, customer_id: str | None = None) -> Bill:
        """Return the bill of a customer, or of all of them."""
        return self.server.ledger.bill(customer_id)

    # Asserting

    def billed(self, *, timeout: float = WAIT, **expected: object) -> Booked:
        """Assert that a signal like this was billed, and return the first one.

        It waits for signals that are on their way, and has clients for threads send what they hold. Under an
        event loop, `await cnk.flush()` first: waiting here would hold the loop up.

        Args:
            timeout: Seconds to wait at most.
            expected: Fields of the signal: `customer_id`, `type`, `model`, `key`, `input`, `output`, `cache`,
                `member`, `status`, `custom`, `run_id`, `complete`, `idempotency_key`, `customer_cost`,
                `credits_used`.

        Raises:
            AssertionError: There is none; it shows the nearest one, and what differs.
            TypeError: A field has another name than those.
        """
        for name in expected:
            if name not in _EXPECTED:
                raise TypeError(f"billed() has no field {name!r}. There are: {', '.join(_EXPECTED)}.")
        found = self._wait(lambda: self._first(expected), timeout)
        if found is None:
            raise AssertionError(self._nearest(expected))
        return found

    def nothing_billed(self) -> None:
        """Assert that no signal was billed, and none is on its way from a client for threads.

        Raises:
            AssertionError: Some were; it shows them.
        """
        self._flush(WAIT)
        if self.signals:
            shown = "\n".join(f"  {_shown(signal)}" for signal in self.signals[:10])
            raise AssertionError(f"Nothing should have been billed, but there are:\n{shown}")

    def refused(
        self,
        *,
        status: int | None = None,
        customer_id: str | None = None,
        message: str = "",
        timeout: float = WAIT,
    ) -> Refused:
        """Assert that a signal was refused, and return the first one. All that match count as asserted.

        Args:
            status: The status of the refusal, such as 404 or 422. Default: any.
            customer_id: Whose signal it was. Default: anyone's.
            message: A part of what the server said, without case.
            timeout: Seconds to wait at most.

        Raises:
            AssertionError: There is none; it shows the refusals that there are.
        """

        def matching() -> list[Refused]:
            return [
                each
                for each in self._refusals()
                if status in (None, each.status)
                and customer_id in (None, each.body.get("customerId"))
                and message.lower() in each.message.lower()
            ]

        found = self._wait(matching, timeout)
        if not found:
            others = "".join(f"\n  {each}" for each in self._refusals()) or " none at all"
            raise AssertionError(f"No signal was refused like this. Refused were:{others}")
        self._asserted |= {each.number for each in found}
        return found[0]

    # At the end

    def problems(self) -> list[str]:
        """Return what should fail the test at its end, unless the marker allows it.

        What older clients for threads hold is sent first: the next test would have it in its ledger.
        """
        self.faults.reset()
        self._flush(WAIT, api_key=self.server.api_key)
        found = [
            f"open: {client!r} was not closed: use it in a `with` block."
            for client in _clients()
            if id(client) not in self._others and client.is_unclosed
        ]
        found += [
            f"open: {client!r} holds {client.pending} of this test, which the next test would see: "
            "`await cnk.flush()` at its end."
            for client in _clients()
            if id(client) in self._others and client.pending and self._why_elsewhere(client) is None
        ]
        held = self.server.ledger.held
        found += [f"held: {each.status} {each.message} ({each.body})" for each in held]
        found += [f"refused: {each}" for each in self._refusals() if each.number not in self._asserted]
        return [
            f"clocknext: {each} (allow it with @pytest.mark.clocknext(allow={{{each.partition(':')[0]!r}}}))"
            for each in found
            if each.partition(":")[0] not in self._allow
        ]

    def _refusals(self) -> list[Refused]:
        return [
            refused for record in self.server.ledger.requests if (refused := _refusal(record)) is not None
        ]

    def _first(self, expected: Mapping[str, object]) -> Booked | None:
        return next((each for each in self.signals if not _differences(each, expected)), None)

    def _nearest(self, expected: Mapping[str, object]) -> str:
        wanted = ", ".join(f"{name}={value!r}" for name, value in expected.items()) or "at all"
        lines = [f"No signal was billed with {wanted}."]
        if not self.signals:
            lines.append("None was billed at all.")
            lines += [f"Refused: {each}" for each in self._refusals()[:5]]
            lines.append(
                "Was the client flushed (for asyncio and trio: `await cnk.flush()`) or closed? "
                "Did it use CLOCKNEXT_BASE_URL?"
            )
            return "\n".join([*lines, *self._clients_elsewhere()])
        nearest = min(self.signals, key=lambda each: len(_differences(each, expected)))
        lines.append(f"The nearest of {len(self.signals)} is: {_shown(nearest)}")
        lines += [
            f"  {name}: expected {expected[name]!r}, was {value!r}"
            for name, value in _differences(nearest, expected).items()
        ]
        return "\n".join(lines)

    def _clients_elsewhere(self) -> list[str]:
        """Name the clients in use whose signals can't be in this ledger, and say why."""
        return [
            f"{client!r} {why}"
            for client in _clients()
            if (client.is_unclosed or client.config.disabled)
            and (why := self._why_elsewhere(client)) is not None
        ]

    def _why_elsewhere(self, client: ClientBase[Any, Any, Any]) -> str | None:
        config, is_older = client.config, id(client) in self._others
        if config.disabled:
            return "is disabled, and drops its signals."
        if config.base_url.rstrip("/") != self.server.url:
            if not is_older:
                return "does not bill to this ledger: it was given another base_url."
            return f"does not bill to this ledger: it was made before the test, {_AT_IMPORT}"
        if config.api_key not in (self.api_key, self.server.api_key):
            if not is_older:
                return "does not bill to this ledger: it was given another api_key."
            return "bills to the test that it was made in: close it there, or set `clocknext_session = true`."
        return None

    def _flush(self, timeout: float, *, api_key: str | None = None) -> None:
        """Have the clients for threads that bill to this ledger send what they hold."""
        for client in _clients():
            if (
                isinstance(client, ClockNext)
                and client.pending
                and self._why_elsewhere(client) is None
                and api_key in (None, client.config.api_key)
            ):
                client.flush(timeout)

    def _wait(self, look: Callable[[], T], timeout: float) -> T:
        give_up_at = time.monotonic() + timeout
        found = look()
        if not found:
            self._flush(timeout)
            found = look()
        while not found and time.monotonic() < give_up_at:
            time.sleep(_PAUSE)
            found = look()
        return found


def _clients() -> list[ClientBase[Any, Any, Any]]:
    return [each for each in fork.owners() if isinstance(each, ClientBase)]


def _customer(server: EmulatorServer, customer_id: str, amounts: Mapping[str, float]) -> Customer:
    books = server.ledger.books
    items: dict[str, dict[str, float]] = {"credit": {}, "outcome": {}, "unit": {}}
    for key, amount in amounts.items():
        if key == "wallet":
            continue
        for noun, shelf in books.items.items():
            if (item := shelf.by_key.get(key) or shelf.by_id.get(key)) is not None:
                items[noun][item.id] = amount
                break
        else:
            raise ValueError(
                f"The marker clocknext has balances of {key!r}, and the catalogue no such credit, outcome or "
                "unit."
            )
    return Customer(
        customer_id,
        wallet=amounts.get("wallet"),
        credits=items["credit"],
        outcomes=items["outcome"],
        units=items["unit"],
    )


def _refusal(record: RequestRecord) -> Refused | None:
    status = record.status
    if record.fault is not None or status is None or not 400 <= status < 500 or record.method != "POST":
        return None
    if record.target.partition("?")[0] != _SIGNALS:
        return None
    message = ""
    try:
        message = str(json.loads(record.answer or b"")["statusDetail"]["message"])
    except (ValueError, KeyError, TypeError):
        message = (record.answer or b"").decode(errors="replace")[:200]
    body = record.body
    return Refused(
        record.number, status, message, cast("dict[str, object]", body) if isinstance(body, dict) else {}
    )


def _value(signal: Booked, name: str) -> object:
    value: object = getattr(signal, _MEANING.get(name, name))
    return value


def _differences(signal: Booked, expected: Mapping[str, object]) -> dict[str, object]:
    return {
        name: actual
        for name, value in expected.items()
        if not _is_equal(actual := _value(signal, name), value)
    }


def _is_equal(actual: object, expected: object) -> bool:
    if isinstance(actual, Decimal) and isinstance(expected, float):
        return actual == Decimal(str(expected))
    return actual == expected


def _shown(signal: Booked) -> str:
    shown = {name: _value(signal, name) for name in _EXPECTED}
    return ", ".join(f"{name}={value!r}" for name, value in shown.items() if value is not None)
