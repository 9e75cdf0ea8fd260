"""Signals: `POST /api/v1/usage` and the usage logs read back.

What the public record leaves open is decided here:
- A refusal (4xx) is not remembered under its idempotency key, so a corrected repeat can succeed. A success is
  remembered for the ledger's lifetime, and a repeat gets the first result whatever its body says.
- A signal is priced the same whatever its `status`.
- Outcome steps cost the customer nothing. `complete: true` bills the outcome once per run; without a `runId`
  each such signal is a run of its own.
- A dry run neither reads nor writes idempotency keys.
"""

from typing import cast

from clocknext_transports.emulator.books import Account, Books, Signal, SignalType
from clocknext_transports.emulator.envelopes import Payload, Refusal
from clocknext_transports.emulator.pricing import (
    Price,
    Rates,
    exact,
    price_credit,
    price_outcome,
    price_wallet,
)
from clocknext_transports.emulator.routes import Call, Route
from clocknext_transports.emulator.validation import (
    MAX_TOKENS,
    Fields,
    check_custom,
    invalid,
    query_limit,
)

_TYPES = ("wallet", "credit", "outcome")
_STATUSES = ("SUCCESS", "FAILURE", "PENDING")
_KNOWN = frozenset({
    "customerId", "type", "model", "key", "agentKey", "inputTokens", "outputTokens", "cacheTokens", "member",
    "status", "custom", "idempotencyKey", "runId", "complete", "dryRun",
    "organizationId", "signalId", "receivedAt",  # dropped: the server fills these in itself
})  # fmt: skip
_DEFAULT_LOGS = 50
_MAX_LOGS = 1_000_000


def record_signal(books: Books, call: Call) -> Payload:
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
    outcome = None
    bills = False
    tokens = (input_tokens, output_tokens, cache_tokens)
    match kind:
        case "wallet":
            price = _wallet(account, rates, tokens)
        case "credit":
            price = _credit(books, account, rates, tokens, key or "")
        case "outcome":
            outcome = _outcome_of(books, account, key or "")
            bills = complete is True and not (
                run_id is not None and books.run_is_billed(customer_id, outcome, run_id)
            )
            price = _step(books, account, rates, tokens, outcome, bills=bills)

    signal = Signal(
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
        outcome=outcome,
        bills_outcome=bills,
        extra={n: v for n, v in call.body.items() if n not in _KNOWN} if kind != "wallet" else {},
    )
    if dry_run:
        books.counters.dry_runs += 1
        return Payload({"usageLog": {**signal.as_log(), "id": None}, "dryRun": True})
    books.commit(account, signal)
    return Payload({"usageLog": signal.as_log()})


def list_signals(books: Books, call: Call) -> Payload:
    """Return a customer's logs, newest first, and the sums over all of them."""
    customer_id = call.ids[0] if call.ids else call.query.get("customerId", "")
    if not customer_id.strip():
        raise invalid("customerId", "is required")
    account = books.account(customer_id)
    limit = query_limit(call.query, default=_DEFAULT_LOGS, maximum=_MAX_LOGS)
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


def _wallet(account: Account, rates: Rates, tokens: tuple[int, int, int]) -> Price:
    if account.wallet is None:
        raise Refusal(422, f'The plan of customer "{account.id}" has no wallet.')
    price = price_wallet(rates, *tokens)
    if price.customer_cost > account.wallet and not account.in_arrear:
        raise Refusal(
            422,
            f"Insufficient wallet balance: {price.customer_cost.normalize():f} USD needed, "
            f"{account.wallet.normalize():f} USD left.",
        )
    return price


def _credit(books: Books, account: Account, rates: Rates, tokens: tuple[int, int, int], key: str) -> Price:
    credit = books.credits.get(key)
    if credit is None:
        raise Refusal(422, f'No credit with key "{key}".')
    balance = account.credits.get(key)
    if balance is None:
        raise Refusal(422, f'The plan of customer "{account.id}" has no credit "{key}".')
    price = price_credit(
        rates, *tokens, base_price=exact(credit.base_price), margin_percent=exact(credit.margin_percent)
    )
    if price.credits_used > balance and not account.in_arrear:
        raise Refusal(
            422,
            f"Insufficient credit balance: {price.credits_used.normalize():f} of {key} needed, "
            f"{balance.normalize():f} left.",
        )
    return price


def _outcome_of(books: Books, account: Account, step: str) -> str:
    outcome = books.outcome_by_step.get(step)
    if outcome is None:
        raise Refusal(422, f'No outcome step with key "{step}".')
    if outcome.key not in account.outcomes:
        raise Refusal(422, f'The plan of customer "{account.id}" has no outcome "{outcome.key}".')
    return outcome.key


def _step(
    books: Books, account: Account, rates: Rates, tokens: tuple[int, int, int], outcome: str, *, bills: bool
) -> Price:
    if bills and account.outcomes[outcome] < 1 and not account.in_arrear:
        raise Refusal(422, f"Insufficient outcome balance: no {outcome} left.")
    return price_outcome(rates, *tokens, price=exact(books.outcomes[outcome].price), bills=bills)


ROUTES = (
    Route("POST", "/api/v1/usage", record_signal),
    Route("GET", "/api/v1/usage", list_signals),
    Route("GET", "/api/v1/customers/{}/usage", list_signals),
)
