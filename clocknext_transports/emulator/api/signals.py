"""Signals: `POST /api/v1/usage` of the payments application, and the usage logs read back.

Known rules: an idempotency key is unique in the organisation without expiry, and a repeat gets the first
result; a run id is unique in the organisation, and its outcome is billed once.

Guesses, where the public record says nothing:
- A refusal (4xx) is not remembered under its idempotency key, so a corrected repeat can succeed. A repeat
  gets the first result whatever its body is.
- A signal is priced the same whatever its `status`.
- Without a `runId` each signal with `complete: true` is a run of its own.
- A dry run neither reads nor writes idempotency keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from clocknext_transports.emulator.api.listings import query_customer
from clocknext_transports.emulator.api.routes import Handled, Route
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.catalogue import Outcome
from clocknext_transports.emulator.books.envelopes import Payload, Refusal
from clocknext_transports.emulator.books.pricing import (
    ONE,
    ZERO,
    Price,
    Rates,
    exact,
    plain,
    price_credit,
    price_outcome,
    price_wallet,
)
from clocknext_transports.emulator.books.records import Account, Balance, Booked, SignalType
from clocknext_transports.emulator.books.validation import (
    MAX_TOKENS,
    Fields,
    check_custom,
    query_limit,
    storable,
)

ORGANISATION_ID = "org_emulator"
SIGNAL_TYPES = ("wallet", "credit", "outcome")
_STATUSES = ("SUCCESS", "FAILURE", "PENDING")
_KNOWN = frozenset({
    "customerId", "type", "model", "key", "agentKey", "inputTokens", "outputTokens", "cacheTokens", "member",
    "status", "custom", "idempotencyKey", "runId", "complete", "dryRun",
    "organizationId", "signalId", "receivedAt",  # dropped: the server fills these in itself
})  # fmt: skip
_MAX_LOGS = 1_000_000


@dataclass(frozen=True, slots=True)
class Sent:
    """A signal as read from a valid body."""

    customer_id: str
    type: SignalType
    model: str
    key: str | None
    """The agent key; `None` for wallet signals."""
    tokens: tuple[int, int, int]
    """Input, output, cache."""
    member: str | None
    status: str
    custom: Mapping[str, object] | None
    idempotency_key: str | None
    run_id: str | None
    complete: bool | None
    is_dry_run: bool
    extra: Mapping[str, object]
    """Metrics: the properties that are no field of a signal."""


def record_signal(books: Books, call: Handled) -> Payload:
    """Validate, price, debit and record one signal. A repeat of a recorded one gets its result."""
    sent = _read(call.body)
    if sent.custom is not None:
        check_custom(sent.custom, body_size=call.body_size)
    if sent.idempotency_key is not None and not sent.is_dry_run:
        first = books.first_result(sent.idempotency_key)
        if first is not None:
            books.counters.repeats += 1
            return Payload({"usageLog": first.as_log()})
    signal = book(books, sent, now=call.now)
    if sent.is_dry_run:
        return Payload({"usageLog": {**signal.as_log(), "id": None}, "dryRun": True})
    return Payload({"usageLog": signal.as_log()})


def book(books: Books, sent: Sent, *, now: float) -> Booked:
    """Price a signal, debit it and record it; a dry run is only priced.

    Raises:
        Refusal: 404 or 422, it cannot be billed.
    """
    account = books.account(sent.customer_id)
    model, rates = _model(books, sent.model)
    key = sent.key or ""
    outcome = component = None
    bills = False
    match sent.type:
        case "wallet":
            price = _wallet(account, rates, sent.tokens)
            debit = price.customer_cost
        case "credit":
            component, price = _credit(books, account, rates, sent.tokens, key)
            debit = funded(books, account, account.held["credit"][component], price)
        case "outcome":
            outcome = _outcome_of(books, account, key)
            component = outcome.id
            bills = sent.complete is True and not (
                sent.run_id is not None and books.run_is_billed(sent.run_id)
            )
            price = _step(account, rates, sent.tokens, outcome, bills=bills)
            debit = funded(books, account, account.held["outcome"][component], price)
    signal = Booked(
        id="" if sent.is_dry_run else books.new_id("log"),
        customer_id=sent.customer_id,
        type=sent.type,
        model=model,
        key=sent.key,
        input_tokens=sent.tokens[0],
        output_tokens=sent.tokens[1],
        cache_tokens=sent.tokens[2],
        provided_cost=price.provided_cost,
        credits_used=price.credits_used,
        customer_cost=price.customer_cost,
        wallet_debit=debit,
        status=sent.status,
        created_at=now,
        idempotency_key=sent.idempotency_key,
        member=sent.member,
        custom=sent.custom,
        run_id=sent.run_id,
        complete=sent.complete,
        outcome=None if outcome is None else outcome.key,
        component=component,
        bills_outcome=bills,
        extra=sent.extra,
    )
    if sent.is_dry_run:
        books.counters.dry_runs += 1
    else:
        books.commit(account, signal)
    return signal


def list_signals(books: Books, call: Handled) -> Payload:
    """Return a customer's logs, newest first, and the totals over all of them."""
    account = query_customer(books, call)
    limit = query_limit(call.query, maximum=_MAX_LOGS)
    return Payload(
        {
            "customer": account.as_json(),
            "totals": account.totals.as_json(),
            "logs": [signal.as_log() for signal in reversed(account.signals[-limit:])],
        }
    )


def _read(body: Mapping[str, object]) -> Sent:
    """Read a signal from a body.

    Raises:
        Refusal: 400 `INVALID_BODY`, with every issue.
    """
    fields = Fields(body)
    customer_id = fields.required_text("customerId")
    kind = cast("SignalType | None", fields.choice("type", SIGNAL_TYPES))
    fields.require("type")
    model = fields.required_text("model")
    key = None
    if kind in {"credit", "outcome"}:
        key = fields.text("agentKey" if "agentKey" in fields else "key")
        if "agentKey" not in fields and "key" not in fields:
            fields.reject("agentKey", f"is required for {kind} signals")
    tokens = (
        fields.integer("inputTokens", minimum=0, maximum=MAX_TOKENS) or 0,
        fields.integer("outputTokens", minimum=0, maximum=MAX_TOKENS) or 0,
        fields.integer("cacheTokens", minimum=0, maximum=MAX_TOKENS) or 0,
    )
    member = fields.text("member")
    status = fields.choice("status", _STATUSES) or "SUCCESS"
    custom = fields.mapping("custom")
    idempotency_key = fields.text("idempotencyKey", max_length=255)
    run_id = complete = None
    if kind == "outcome":
        run_id = fields.text("runId", max_length=255)
        complete = fields.flag("complete")
    dry_run = fields.flag("dryRun") or False
    fields.finish()
    if kind is None:
        raise AssertionError("a signal without a type was refused above")
    return Sent(
        customer_id,
        kind,
        model,
        key,
        tokens,
        member,
        status,
        None if custom is None else cast("Mapping[str, object]", storable(custom)),
        idempotency_key,
        run_id,
        complete,
        dry_run,
        extra_of(body, kind),
    )


def extra_of(body: Mapping[str, object], kind: SignalType) -> dict[str, object]:
    """Return the metrics in a body: properties that are no field. Wallet signals have none."""
    if kind == "wallet":
        return {}
    return {name: storable(value) for name, value in body.items() if name not in _KNOWN}


def funded(books: Books, account: Account, balance: Balance, price: Price) -> Decimal:
    """Return the USD that usage of a component takes from the wallet, which may fall below zero for it."""
    return price.customer_cost if books.is_funded(account, balance) else ZERO


def _model(books: Books, model_id: str) -> tuple[str, Rates]:
    found = books.models.get(model_id.casefold())
    if found is None:
        raise Refusal(422, f'Model "{model_id}" is not a valid model.')
    model, rates = found
    if not model.active:
        raise Refusal(422, f'The model "{model.id}" is not active.')
    return model.id, rates


def unknown_key(what: str, key: str) -> Refusal:
    """Make the refusal of an agent key that nothing has."""
    return Refusal(422, f'No {what} with agent key "{key}" in this workspace.')


def lacking(account: Account, component: str) -> Refusal:
    """Make the refusal of a component that the customer's plan does not have."""
    return Refusal(422, f'The plan of customer "{account.id}" has no {component}.')


def _wallet(account: Account, rates: Rates, tokens: tuple[int, int, int]) -> Price:
    if account.wallet is None:
        raise lacking(account, "wallet")
    price = price_wallet(rates, *tokens)
    if not account.wallet.bears(price.customer_cost):
        raise Refusal(
            422,
            f"Insufficient wallet balance: {plain(price.customer_cost)} USD needed, "
            f"{plain(account.wallet.left)} USD left.",
        )
    return price


def _credit(
    books: Books, account: Account, rates: Rates, tokens: tuple[int, int, int], key: str
) -> tuple[str, Price]:
    credit = books.credits.by_key.get(key)
    if credit is None:
        raise unknown_key("credit", key)
    balance = account.held["credit"].get(credit.id)
    if balance is None:
        raise lacking(account, f'credit "{key}"')
    price = price_credit(
        rates, *tokens, base_price=exact(credit.base_price), price_per_credit=credit.price_per_credit
    )
    if not balance.bears(price.credits_used):
        raise Refusal(
            422,
            f"Insufficient credit balance: {plain(price.credits_used)} of {key} needed, "
            f"{plain(balance.left)} left.",
        )
    return credit.id, price


def _outcome_of(books: Books, account: Account, step: str) -> Outcome:
    outcome = books.outcomes.by_key.get(step)
    if outcome is None:
        raise unknown_key("outcome step", step)
    if outcome.id not in account.held["outcome"]:
        raise lacking(account, f'outcome "{outcome.key}"')
    return outcome


def _step(
    account: Account, rates: Rates, tokens: tuple[int, int, int], outcome: Outcome, *, bills: bool
) -> Price:
    if bills and not account.held["outcome"][outcome.id].bears(ONE):
        raise Refusal(422, f"Insufficient outcome balance: no {outcome.key} left.")
    return price_outcome(rates, *tokens, price=exact(outcome.price), bills=bills)


ROUTES = (
    Route("POST", "/api/v1/usage", record_signal),
    Route("GET", "/api/v1/usage", list_signals),
    Route("GET", "/api/v1/customers/{}/usage", list_signals),
)
