"""The ledger: a ClockNext in memory. It answers requests and remembers what was billed.

It does no I/O, reads no clock and draws no random numbers: the same requests at the same times give the same
bytes. One ledger is one organisation.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from decimal import Decimal

from clocknext_core.messages import Response
from clocknext_transports.emulator.api import (
    credits,  # noqa: A004 - a module, named after its resource
    customers,
    ingest,
    invoices,
    members,
    outcomes,
    payments,
    plans,
    purchases,
    signals,
    units,
    wallet,
    webhooks,
    workspace,
)
from clocknext_transports.emulator.api.exchange import Received
from clocknext_transports.emulator.api.ingest import STATES, AcceptOnly, Keys
from clocknext_transports.emulator.api.routes import Handled, Router, parse_query
from clocknext_transports.emulator.books.books import Books, IdFactory, counting_ids
from clocknext_transports.emulator.books.catalogue import (
    Catalogue,
    Credit,
    Customer,
    Model,
    Outcome,
    Plan,
    Unit,
)
from clocknext_transports.emulator.books.checks import check_kind, shown, some_of, with_article
from clocknext_transports.emulator.books.envelopes import (
    Envelope,
    Refusal,
    envelope_for,
    refuse,
    succeed,
    timestamp,
    unknown_endpoint,
)
from clocknext_transports.emulator.books.pricing import ZERO, add, sum_of
from clocknext_transports.emulator.books.records import Booked, Counters, Held, Totals, UnitEvent
from clocknext_transports.emulator.books.validation import parse_body, parse_json, storable

DEFAULT_API_KEY = "cnk_test_emulator"
EXPIRED_API_KEY = "cnk_test_expired"
MAX_REQUESTS_LOGGED = 100_000
MAX_BYTES_LOGGED = 128 * 1024 * 1024
"""The most bytes of bodies, of requests and answers, that the log of requests keeps."""
ROUTER = Router(
    (
        *signals.ROUTES,
        *units.ROUTES,
        *customers.ROUTES,
        *members.ROUTES,
        *wallet.ROUTES,
        *credits.ROUTES,
        *outcomes.ROUTES,
        *plans.ROUTES,
        *purchases.ROUTES,
        *invoices.ROUTES,
        *payments.ROUTES,
        *webhooks.ROUTES,
        *workspace.ROUTES,
    )
)


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request to the ledger. The API key is not in it."""

    number: int
    """The position in all requests to the ledger, counted from 1."""
    method: str
    target: str
    authorised: bool
    """Whether it carried an Authorization header, right or wrong."""
    content_type: str | None
    user_agent: str | None
    raw_body: bytes = field(repr=False)
    status: int | None
    """The status of the answer; `None` without an answer."""
    fault: str | None
    """The kind of the injected fault, if any."""
    at: float
    """Wall clock, seconds since 1970."""
    connection: int
    """The number of its connection."""
    answer: bytes | None = field(default=None, repr=False)
    """The body of the answer; `None` without an answer."""

    @property
    def size(self) -> int:
        """The bytes of the bodies."""
        return len(self.raw_body) + len(self.answer or b"")

    @property
    def body(self) -> object:
        """The parsed body; `None` without a body and for one that is not JSON."""
        try:
            return storable(parse_json(self.raw_body.decode()))
        except ValueError:
            return None

    def as_json(self) -> dict[str, object]:
        """Return the record as the read-back over HTTP shows it."""
        return {
            "number": self.number,
            "method": self.method,
            "target": self.target,
            "authorised": self.authorised,
            "contentType": self.content_type,
            "userAgent": self.user_agent,
            "body": self.body,
            "status": self.status,
            "fault": self.fault,
            "at": timestamp(self.at),
            "connection": self.connection,
        }


@dataclass(frozen=True, slots=True)
class Bill:
    """The sums over signals and unit events. Every amount is exact."""

    totals: Totals
    wallet: Decimal
    """USD debited from wallets."""
    credits: Mapping[str, Decimal]
    """Credits used, by credit key."""
    outcomes: Mapping[str, int]
    """Outcomes billed, by outcome key."""
    units: Mapping[str, int] = field(default_factory=dict[str, int])
    """Unit events, by unit key."""
    unit_cost: Decimal = ZERO
    """USD charged for unit events; `totals` are of signals only."""

    @property
    def signals(self) -> int:
        """The number of signals."""
        return self.totals.signals

    @property
    def customer_cost(self) -> Decimal:
        """USD charged for signals and events."""
        return add(self.totals.customer_cost, self.unit_cost)

    def as_json(self) -> dict[str, object]:
        """Return the bill as the read-back over HTTP shows it."""
        return {
            **self.totals.as_json(),
            "customerCost": float(self.customer_cost),
            "wallet": float(self.wallet),
            "credits": {key: float(used) for key, used in self.credits.items()},
            "outcomes": dict(self.outcomes),
            "units": dict(self.units),
        }


class Ledger:
    """Answer the API's requests and remember what was billed.

    It keeps every signal and the latest 100,000 requests, in memory.

    Args:
        catalogue: What is sold and to whom. Default: a small realistic catalogue.
        api_key: The key that is let in.
        expired_keys: Keys that are refused with 401 "This API key has expired."
        ids: Makes ids from their prefix. Default: they count (`log_1`, `log_2`, …).
        accept_only: Answer signals as the newer ingest does, with 202 and unpriced, in one of its states:
            `thin`, `thick` or `thick-queued`. Default: as the payments application does.

    Raises:
        ValueError: No catalogue, or the ingest has no such state.
    """

    def __init__(
        self,
        catalogue: Catalogue | None = None,
        *,
        api_key: str = DEFAULT_API_KEY,
        expired_keys: tuple[str, ...] = (EXPIRED_API_KEY,),
        ids: IdFactory | None = None,
        accept_only: AcceptOnly | None = None,
    ) -> None:
        if accept_only is not None and accept_only not in STATES:
            raise ValueError(f"accept_only must be one of {', '.join(STATES)}, or None; not {accept_only!r}.")
        self.api_key = api_key
        self._keys = Keys(frozenset({api_key}), frozenset(expired_keys))
        self._expired = _bearers(expired_keys)
        self._known = _bearers({api_key})
        self._retired: set[str] = set()
        """The `Authorization` of the further keys of before."""
        self._catalogue = _catalogue(catalogue)
        self._ids = ids
        self.accept_only: AcceptOnly | None = accept_only
        """The state of the ingest that signals are answered by; `None`: the payments application."""
        self.guard: AbstractContextManager[object] = nullcontext()
        """Entered around every access. Put an `RLock` here to share the ledger between threads."""
        self._start()

    def __repr__(self) -> str:
        return f"<Ledger: {len(self._books.signals)} signals of {len(self._books.accounts)} customers>"

    def _start(self) -> None:
        self._books = Books(self._catalogue, self._ids or counting_ids())
        self._requests = deque[RequestRecord]()
        self._bytes_logged = 0

    def handle(self, request: Received, *, now: float) -> Response:
        """Answer a request and log it.

        Args:
            request: The request, complete.
            now: Wall clock, seconds since 1970.
        """
        with self.guard:
            response = self.process(request, now=now)
            self.log_request(request, now=now, status=response.status, answer=response.body)
            return response

    def process(self, request: Received, *, now: float) -> Response:
        """Answer a request without logging it: for a server that may send another answer."""
        with self.guard:
            self._books.advance(now=now)
            method, path = request.method, request.path
            found = ROUTER.find(path)
            if self.accept_only is not None and (
                ingest.answers(method, path) or found is None or method not in found[0]
            ):
                return ingest.respond(self._books, request, self.accept_only, self._keys, now=now)
            envelope = envelope_for(method, path)
            try:
                if found is None:
                    envelope = Envelope.NEW
                    raise unknown_endpoint(method, path)
                routes, ids = found
                route = routes.get(method)
                if route is None:
                    envelope = Envelope.NEW
                    raise Refusal(405, f"{method} is not allowed on {path}.", reason="METHOD_NOT_ALLOWED")
                self._authorise(request)
                body: Mapping[str, object] = {}
                if route.takes_body:
                    _check_content_type(request)
                    body = parse_body(request.body, limit=route.max_body)
                query = parse_query(request.target)
                payload = route.handler(self._books, Handled(ids, query, body, len(request.body), now))
            except Refusal as refusal:
                self._books.counters.refused += 1
                return refuse(envelope, refusal, now=now)
            return succeed(envelope, payload, now=now)

    def log_request(
        self,
        request: Received,
        *,
        now: float,
        status: int | None,
        fault: str | None = None,
        answer: bytes | None = None,
    ) -> None:
        """Log a request with the status and the body of its answer."""
        with self.guard:
            counters = self._books.counters
            counters.requests += 1
            self._requests.append(
                RequestRecord(
                    number=counters.requests,
                    method=request.method,
                    target=request.target,
                    authorised="authorization" in request.headers,
                    content_type=request.headers.get("content-type"),
                    user_agent=request.headers.get("user-agent"),
                    raw_body=request.body,
                    status=status,
                    fault=fault,
                    at=now,
                    connection=request.connection,
                    answer=answer,
                )
            )
            self._bytes_logged += self._requests[-1].size
            while len(self._requests) > MAX_REQUESTS_LOGGED or self._bytes_logged > MAX_BYTES_LOGGED:
                self._bytes_logged -= self._requests.popleft().size

    def _authorise(self, request: Received) -> None:
        authorization = request.headers.get("authorization")
        if authorization in self._known:
            return
        if authorization is None:
            raise Refusal(401, "Invalid API key.", reason="API_KEY_MISSING")
        expired = authorization in self._expired
        message = "This API key has expired." if expired else "Invalid API key."
        raise Refusal(401, message, reason="API_KEY_REJECTED")

    # Reading back

    @property
    def signals(self) -> tuple[Booked, ...]:
        """Every signal recorded, in order. Dry runs, repeats and refusals are not."""
        with self.guard:
            return tuple(self._books.signals)

    @property
    def unit_events(self) -> tuple[UnitEvent, ...]:
        """Every recorded event of a unit, in order."""
        with self.guard:
            return tuple(self._books.unit_events)

    @property
    def held(self) -> tuple[Held, ...]:
        """Every signal that was answered with 202 and could not be billed, in order."""
        with self.guard:
            return tuple(self._books.held)

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """The latest requests, oldest first: at most 100,000, and 128 MiB of bodies.

        Requests that met a fault are among them; requests to `/_emulator/` are not.
        """
        with self.guard:
            return tuple(self._requests)

    def requests_since(self, number: int) -> list[RequestRecord]:
        """Return the latest requests after the one with this number, oldest first."""
        with self.guard:
            found: list[RequestRecord] = []
            for record in reversed(self._requests):
                if record.number <= number:
                    break
                found.append(record)
            return found[::-1]

    @property
    def books(self) -> Books:
        """The records themselves, for the page: read them while `guard` is held. A reset makes others."""
        return self._books

    @property
    def counters(self) -> Counters:
        """A copy of the counters."""
        with self.guard:
            return Counters(**asdict(self._books.counters))

    def billed(self, idempotency_key: str) -> int:
        """Return the number of signals recorded under a key: at most 1, except by the ingest."""
        with self.guard:
            return self._books.times_recorded(idempotency_key)

    def bill(self, customer_id: str | None = None) -> Bill:
        """Return the bill of a customer, or of all of them; deleted customers are included."""
        chosen = [s for s in self.signals if customer_id is None or s.customer_id == customer_id]
        credits_used = {
            key: Totals.of(s for s in chosen if s.type == "credit" and s.key == key).credits_used
            for key in sorted({s.key for s in chosen if s.type == "credit" and s.key is not None})
        }
        outcomes = dict[str, int]()
        for signal in chosen:
            if signal.bills_outcome and signal.outcome is not None:
                outcomes[signal.outcome] = outcomes.get(signal.outcome, 0) + 1
        events = [e for e in self.unit_events if customer_id is None or e.customer_id == customer_id]
        unit_cost = sum_of(event.customer_cost for event in events)
        wallet = sum_of((s.wallet_debit for s in chosen), sum_of(e.wallet_debit for e in events))
        units_used = dict(Counter(event.key for event in events))
        return Bill(Totals.of(chosen), wallet, credits_used, outcomes, units_used, unit_cost)

    def balance(self, customer_id: str, component: str = "wallet") -> Decimal:
        """Return a balance of a customer, exactly.

        Args:
            customer_id: The customer.
            component: `wallet` (USD), or a credit, outcome or unit, by its id or agent key.

        Raises:
            KeyError: There is no such customer, or they hold no such component: the message says which there
                are.
        """
        with self.guard:
            account = self._books.accounts.get(customer_id)
            if account is None:
                there_are = some_of(self._books.accounts)
                raise KeyError(f"No customer {shown(customer_id)}; there are {there_are}.")
            if component == "wallet" and account.wallet is not None:
                return account.wallet.left
            for noun, shelf in self._books.items.items():
                named = shelf.by_key.get(component)
                balance = account.held[noun].get(component if named is None else named.id)
                if balance is not None:
                    return balance.left
            wallet = () if account.wallet is None else ("wallet",)
            held = some_of((*wallet, *(item for items in account.held.values() for item in items)))
            raise KeyError(f"Customer {customer_id!r} holds no {shown(component)}; they hold {held}.")

    def as_json(self) -> dict[str, object]:
        """Return the whole state as the read-back over HTTP shows it."""
        with self.guard:
            counters = self._books.counters
            return {
                "counters": {
                    "requests": counters.requests,
                    "refused": counters.refused,
                    "repeats": counters.repeats,
                    "dryRuns": counters.dry_runs,
                },
                "bill": self.bill().as_json(),
                "customers": [
                    {
                        **account.as_json(),
                        "balances": customers.balances(self._books, account),
                        "totals": account.totals.as_json(),
                    }
                    for account in self._books.accounts.values()
                ],
                "signals": [signal.as_log() for signal in self._books.signals],
                "held": [held.as_json() for held in self._books.held],
                "unitEvents": [event.as_json() for event in self._books.unit_events],
            }

    # Arranging

    def add_customer(self, customer: Customer, *, now: float = 0.0) -> None:
        """Add or replace a customer.

        Raises:
            ValueError: No `Customer`, or the catalogue has no such plan.
        """
        check_kind("The customer to add", customer, Customer)
        with self.guard:
            self._books.add_customer(customer, now=now)

    def add_model(self, model: Model) -> None:
        """Add or replace a model."""
        check_kind("The model to add", model, Model)
        with self.guard:
            self._books.add_model(model)

    def add_credit(self, credit: Credit) -> None:
        """Add or replace a credit. A new one is held by no customer."""
        check_kind("The credit to add", credit, Credit)
        with self.guard:
            self._books.credits.put(credit)

    def add_outcome(self, outcome: Outcome) -> None:
        """Add or replace an outcome and its steps. A new one is held by no customer."""
        check_kind("The outcome to add", outcome, Outcome)
        with self.guard:
            self._books.outcomes.put(outcome)

    def add_unit(self, unit: Unit) -> None:
        """Add or replace a unit. A new one is held by no customer."""
        check_kind("The unit to add", unit, Unit)
        with self.guard:
            self._books.units.put(unit)

    def add_plan(self, plan: Plan) -> None:
        """Add or replace a plan. Customers who have bought it keep their terms."""
        check_kind("The plan to add", plan, Plan)
        with self.guard:
            self._books.plans.put(plan)

    def is_late(self, request: Received) -> bool:
        """Return whether a request carries the further key of before a `renew`."""
        with self.guard:
            return request.headers.get("authorization") in self._retired

    def renew(
        self,
        catalogue: Catalogue | None = None,
        *,
        accept_only: AcceptOnly | None = None,
        further_key: str | None = None,
    ) -> None:
        """Begin anew, with another catalogue and another state of the ingest.

        Args:
            catalogue: As for a new ledger.
            accept_only: As for a new ledger.
            further_key: An API key that is let in beside `api_key`, until the ledger begins anew. A server
                answers what comes with it later as taken, and nothing here shows it.

        Raises:
            ValueError: No catalogue, or the ingest has no such state; nothing has changed.
        """
        if accept_only is not None and accept_only not in STATES:
            raise ValueError(f"accept_only must be one of {', '.join(STATES)}, or None; not {accept_only!r}.")
        given = _catalogue(catalogue)
        with self.guard:
            self._catalogue = given
            self.accept_only = accept_only
            known = {self.api_key, further_key or self.api_key}
            self._retired |= self._known
            self._known = _bearers(known)
            self._retired -= self._known
            self._keys = Keys(frozenset(known), self._keys.expired)
            self._start()

    def reset(self) -> None:
        """Restore the state of the start: the catalogue given, and nothing recorded."""
        with self.guard:
            self._start()


def _catalogue(given: object) -> Catalogue:
    if given is None:
        return Catalogue()
    if not isinstance(given, Catalogue):
        # Only the type: a string may be an API key.
        got = with_article(type(given))
        raise ValueError(f"A Ledger takes a Catalogue: Ledger(Catalogue(customers=[…])); it got {got}.")
    return given


def _bearers(keys: Iterable[str]) -> frozenset[str]:
    """Return what `Authorization` is with each of these API keys."""
    return frozenset(f"Bearer {key}" for key in keys)


def _check_content_type(request: Received) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and request.body:
        raise Refusal(415, "The body must be application/json.", reason="UNSUPPORTED_MEDIA_TYPE")
