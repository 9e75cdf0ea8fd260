"""Signals: `POST /api/v1/usage` and the usage logs read back.

What the public record leaves open is decided here:
- A refusal (4xx) is not remembered under its idempotency key, so a corrected repeat can succeed. A success is
  remembered for the ledger's lifetime, and a repeat gets the first result whatever its body says.
- A signal is priced the same whatever its `status`.
- Outcome steps cost the customer nothing. `complete: true` bills the outcome once per run; without a `runId`
  each such signal is a run of its own.
- A dry run neither reads nor writes idempotency keys.
- A ledger that accepts only is the newer ingest: it wants a `runId` with every outcome signal, takes what is
  valid with 202 and bills it unseen, and queues an invalid body with 202 `PENDING`. What is taken and cannot
  be billed is held with that, for a person to mend.
"""

from typing import cast

from clocknext_transports.emulator.api.listings import query_customer
from clocknext_transports.emulator.api.routes import Handled, Route
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.catalogue import Outcome
from clocknext_transports.emulator.books.envelopes import Payload, Refusal, timestamp
from clocknext_transports.emulator.books.pricing import (
    ONE,
    Price,
    Rates,
    exact,
    plain,
    price_credit,
    price_outcome,
    price_wallet,
)
from clocknext_transports.emulator.books.records import Account, Booked, Held, SignalType
from clocknext_transports.emulator.books.validation import (
    MAX_TOKENS,
    Fields,
    check_custom,
    query_limit,
)

ORGANISATION_ID = "org_emulator"
_ACCEPTED = "Signal accepted for processing."
_QUEUED = "Processing in the queue."
_HELD = frozenset({400, 404, 422})
"""Refusals that are the signal's own: they are held rather than answered."""
_TYPES = ("wallet", "credit", "outcome")
_STATUSES = ("SUCCESS", "FAILURE", "PENDING")
_KNOWN = frozenset({
    "customerId", "type", "model", "key", "agentKey", "inputTokens", "outputTokens", "cacheTokens", "member",
    "status", "custom", "idempotencyKey", "runId", "complete", "dryRun",
    "organizationId", "signalId", "receivedAt",  # dropped: the server fills these in itself
})  # fmt: skip
_MAX_LOGS = 1_000_000


def take_signal(books: Books, call: Handled) -> Payload:
    """Record one signal and return its log, or where the ledger accepts only, that it was taken."""
    if not books.accept_only or call.body.get("dryRun") is True:
        return record_signal(books, call)
    refusal = None
    try:
        record_signal(books, call)
    except Refusal as refused:
        if refused.status not in _HELD:
            raise
        refusal = refused
    receipt = {"signalId": books.new_id("sig"), "receivedAt": timestamp(call.now)}
    if refusal is not None:
        books.held.append(
            Held(receipt["signalId"], call.body, refusal.status, refusal.message, refusal.issues, call.now)
        )
        if refusal.issues:
            issues = [issue.as_json() for issue in refusal.issues]
            return Payload({**receipt, "status": "PENDING", "issues": issues}, 202, _QUEUED)
    return Payload({"accepted": True, **receipt, "organizationId": ORGANISATION_ID}, 202, _ACCEPTED)


def record_signal(books: Books, call: Handled) -> Payload:
    """Validate, price, debit and record one signal; a repeat of a recorded one returns its result."""
    fields = Fields(call.body)
    customer_id = fields.required_text("customerId")
    kind = cast("SignalType | None", fields.choice("type", _TYPES))
    if "type" not in fields:
        fields.reject("type", "is required")
    model_id = fields.required_text("model")
    key = None
    if kind in {"credit", "outcome"}:
        key = fields.text("agentKey" if "agentKey" in fields else "key")
        if "agentKey" not in fields and "key" not in fields:
            fields.reject("agentKey", f"is required for {kind} signals")
    input_tokens = fields.integer("inputTokens", minimum=0, maximum=MAX_TOKENS) or 0
    output_tokens = fields.integer("outputTokens", minimum=0, maximum=MAX_TOKENS) or 0
    cache_tokens = fields.integer("cacheTokens", minimum=0, maximum=MAX_TOKENS) or 0
    member = fields.email("member")
    status = fields.choice("status", _STATUSES) or "SUCCESS"
    custom = fields.mapping("custom")
    idempotency_key = fields.text("idempotencyKey", max_length=255)
    run_id = complete = None
    if kind == "outcome":
        run_id = fields.text("runId", max_length=255)
        complete = fields.flag("complete")
        if books.accept_only:
            fields.require("runId")
    dry_run = fields.flag("dryRun") or False
    fields.finish()
    if custom is not None:
        check_custom(custom, body_size=call.body_size)
    if kind is None:
        raise AssertionError("a signal without a type was refused above")

    if not dry_run and idempotency_key is not None:
        first = books.first_result(idempotency_key)
        if first is not None:
            books.counters.repeats += 1
            return Payload({"usageLog": first.as_log()})

    account = books.account(customer_id)
    model, rates = _model(books, model_id)
    outcome = component = None
    bills = False
    tokens = (input_tokens, output_tokens, cache_tokens)
    match kind:
        case "wallet":
            price = _wallet(account, rates, tokens)
        case "credit":
            component, price = _credit(books, account, rates, tokens, key or "")
        case "outcome":
            outcome = _outcome_of(books, account, key or "")
            component = outcome.id
            bills = complete is True and not (
                run_id is not None and books.run_is_billed(customer_id, outcome.id, run_id)
            )
            price = _step(account, rates, tokens, outcome, bills=bills)

    signal = Booked(
        id="" if dry_run else books.new_id("log"),
        customer_id=customer_id,
        type=kind,
        model=model,
        key=key,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_tokens=cache_tokens,
        provided_cost=price.provided_cost,
        credits_used=price.credits_used,
        customer_cost=price.customer_cost,
        status=status,
        created_at=call.now,
        idempotency_key=idempotency_key,
        member=member,
        custom=custom,
        run_id=run_id,
        complete=complete,
        outcome=None if outcome is None else outcome.key,
        component=component,
        bills_outcome=bills,
        extra={n: v for n, v in call.body.items() if n not in _KNOWN} if kind != "wallet" else {},
    )
    if dry_run:
        books.counters.dry_runs += 1
        return Payload({"usageLog": {**signal.as_log(), "id": None}, "dryRun": True})
    books.commit(account, signal)
    return Payload({"usageLog": signal.as_log()})


def list_signals(books: Books, call: Handled) -> Payload:
    """Return a customer's logs, newest first, and the sums over all of them."""
    account = query_customer(books, call)
    limit = query_limit(call.query, maximum=_MAX_LOGS)
    return Payload(
        {
            "customer": account.as_json(),
            "totals": account.totals.as_json(),
            "logs": [signal.as_log() for signal in reversed(account.signals[-limit:])],
        }
    )


def _model(books: Books, model_id: str) -> tuple[str, Rates]:
    found = books.models.get(model_id.casefold())
    if found is None:
        raise Refusal(422, f'No model "{model_id}" is enabled in this organisation.')
    model, rates = found
    if not model.active:
        raise Refusal(422, f'The model "{model.id}" is not active.')
    return model.id, rates


def lacking(account: Account, component: str) -> Refusal:
    """Make the refusal of what a customer's plan does not have."""
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
        raise Refusal(422, f'No credit with key "{key}".')
    balance = account.held["credit"].get(credit.id)
    if balance is None:
        raise lacking(account, f'credit "{key}"')
    price = price_credit(
        rates, *tokens, base_price=exact(credit.base_price), margin_percent=exact(credit.margin_percent)
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
        raise Refusal(422, f'No outcome step with key "{step}".')
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
    Route("POST", "/api/v1/usage", take_signal),
    Route("GET", "/api/v1/usage", list_signals),
    Route("GET", "/api/v1/customers/{}/usage", list_signals),
)
