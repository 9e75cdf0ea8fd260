"""What each method sends, and what it makes of the answer."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from clocknext_core import ClockNextError, CreditSignal, OutcomeSignal, Signal, ValidationError, WalletSignal
from clocknext_core.models import Items, Model
from clocknext_core.resources.signals import Signals
from tests.core.resources.support import RESOURCES, FakeClient, unchecked

CREDIT_ROWS = [
    {"creditId": "cr_1", "creditName": "API", "remaining": 1},
    {"creditId": "cr_2", "creditName": "Batch", "remaining": 9},
]
BALANCES = {
    "ok": True,
    "wallet": None,
    "credits": CREDIT_ROWS,
    "outcomes": [{"outcomeId": "o_1", "outcomeName": "Ticket", "remaining": 2}],
    "units": [{"unitId": "u_1", "unitName": "Seat", "remaining": 3}],
}
LOG = {"id": "log_1", "customerId": "cus_1", "creditsUsed": 1.25, "somethingNew": [1]}


@dataclass(frozen=True)
class Exchange:
    """One call, the request it must make, the answer to it, and the value it must return."""

    call: Callable[[FakeClient], Any]
    request: str
    answer: object
    value: object
    body: Mapping[str, object] | None = None
    replay_safe: bool | None = None


GET_ONE = {"id": "x_1", "name": "N", "somethingNew": {"a": None}}


FULL: dict[str, tuple[dict[str, Any], dict[str, object]]] = {
    "plans": (
        {
            "billing_cycle": "SEMI_ANNUAL",
            "components": [
                {"type": "WALLET", "billingMode": "ADVANCE", "amount": 5.5, "creditId": None},
                {"type": "CREDIT", "billingMode": "ADVANCE", "creditId": "cr_1", "quantity": 100},
                {"type": "OUTCOME", "billingMode": "ARREAR", "outcomeId": "o_1", "quantity": None},
                {"type": "SOMETHING_NEW", "billingMode": "ARREAR", "unitId": "u_1", "leftAlone": [1]},
            ],
            "currency_code": "USD",
            "wallet_funded_arrear": True,
            "price_adjustment": -0.01,
            "carry_forward": False,
            "description": "For teams",
            "is_active": True,
        },
        {
            "billingCycle": "SEMI_ANNUAL",
            "components": [
                {"type": "WALLET", "billingMode": "ADVANCE", "amount": 5.5, "creditId": None},
                {"type": "CREDIT", "billingMode": "ADVANCE", "creditId": "cr_1", "quantity": 100},
                {"type": "OUTCOME", "billingMode": "ARREAR", "outcomeId": "o_1", "quantity": None},
                {"type": "SOMETHING_NEW", "billingMode": "ARREAR", "unitId": "u_1", "leftAlone": [1]},
            ],
            "currencyCode": "USD",
            "walletFundedArrear": True,
            "priceAdjustment": -0.01,
            "carryForward": False,
            "description": "For teams",
            "isActive": True,
        },
    ),
    "credits": (
        {
            "agent_key": "api_credit.v-2",
            "base_price": 0.645,
            "margin_percent": 30,
            "price_per_credit": 0.8385,
            "tokens_per_credit": 1000,
            "description": "",
            "is_active": False,
        },
        {
            "agentKey": "api_credit.v-2",
            "basePrice": 0.645,
            "marginPercent": 30,
            "pricePerCredit": 0.8385,
            "tokensPerCredit": 1000,
            "description": "",
            "isActive": False,
        },
    ),
    "outcomes": (
        {
            "agent_key": "ticket",
            "base_price": 1,
            "margin_percent": -5,
            "price_per_outcome": 0.95,
            "steps": ({"name": "Triage", "agentKey": "ticket.triage", "basePrice": 0.5, "added": 1},),
            "description": None,
            "is_active": True,
        },
        {
            "agentKey": "ticket",
            "basePrice": 1,
            "marginPercent": -5,
            "pricePerOutcome": 0.95,
            "steps": [{"name": "Triage", "agentKey": "ticket.triage", "basePrice": 0.5, "added": 1}],
            "description": None,
            "isActive": True,
        },
    ),
    "units": (
        {
            "agent_key": "seat",
            "pricing_type": "VOLUME",
            "flat_price": 0,
            "tiers": [{"upTo": 10, "price": 2.5}, {"upTo": None, "price": 2}],
            "description": None,
            "added_later": "x",
        },
        {
            "agentKey": "seat",
            "pricingType": "VOLUME",
            "flatPrice": 0,
            "tiers": [{"upTo": 10, "price": 2.5}, {"upTo": None, "price": 2}],
            "description": None,
            "addedLater": "x",
        },
    ),
}
"""Every field of a definition, by resource, as given and as sent; and one that nobody knows."""


def definitions(resource: str, path: str, noun: str) -> dict[str, Exchange]:
    """The exchanges that plans, credits, outcomes and units have in common."""

    def of(client: FakeClient) -> Any:
        return getattr(client, resource)

    one = {"ok": True, noun: GET_ONE}
    several = {"ok": True, f"{noun}s": [GET_ONE, {}]}
    written: dict[str, Any] = {
        "name": "N",
        "agent_key": "n",
        "description": None,
        "steps": [{"agentKey": "a", "left_alone": 1}],
    }
    body: dict[str, object] = {
        "name": "N",
        "agentKey": "n",
        "description": None,
        "steps": [{"agentKey": "a", "left_alone": 1}],
    }
    full, full_body = FULL[resource]
    exchanges = {
        "list": Exchange(lambda c: of(c).list(), f"GET {path}", several, [GET_ONE, {}]),
        "list active": Exchange(
            lambda c: of(c).list(active=True), f"GET {path}?active=true", several, [GET_ONE, {}]
        ),
        "list inactive": Exchange(
            lambda c: of(c).list(active=False), f"GET {path}?active=false", {"ok": True}, []
        ),
        "create": Exchange(lambda c: of(c).create(**written), f"POST {path}", one, GET_ONE, body),
        "create name only": Exchange(
            lambda c: of(c).create(name="N"), f"POST {path}", one, GET_ONE, {"name": "N"}
        ),
        "create in full": Exchange(
            lambda c: of(c).create(name="N", **full), f"POST {path}", one, GET_ONE, {"name": "N", **full_body}
        ),
        "update in full": Exchange(
            lambda c: of(c).update("x_1", **full), f"PATCH {path}/x_1", one, GET_ONE, full_body
        ),
        "get": Exchange(lambda c: of(c).get("x/ 1"), f"GET {path}/x%2F%201", one, GET_ONE),
        "update": Exchange(lambda c: of(c).update("x_1", **written), f"PATCH {path}/x_1", one, GET_ONE, body),
        "set_active": Exchange(
            lambda c: of(c).set_active("x_1", is_active=False),
            f"PATCH {path}/x_1",
            one,
            GET_ONE,
            {"isActive": False},
        ),
        "delete": Exchange(lambda c: of(c).delete("x_1"), f"DELETE {path}/x_1", {"ok": True}, None),
    }
    return {f"{resource}.{name}": exchange for name, exchange in exchanges.items()}


EXCHANGES: dict[str, Exchange] = {
    **definitions("plans", "/api/v1/plans", "plan"),
    **definitions("credits", "/api/v1/credits", "credit"),
    **definitions("outcomes", "/api/v1/outcomes", "outcome"),
    **definitions("units", "/api/v1/units-catalog", "unit"),
    "purchases.list": Exchange(
        lambda c: c.purchases.list(customer_id="cus 1", status="ACTIVE", limit=5),
        "GET /api/v1/purchases?customerId=cus+1&status=ACTIVE&limit=5",
        {"ok": True, "purchases": [{"id": "pur_1"}]},
        [{"id": "pur_1"}],
    ),
    "purchases.list all": Exchange(
        lambda c: c.purchases.list(customer_id="", limit=0), "GET /api/v1/purchases?limit=0", {}, []
    ),
    "purchases.create": Exchange(
        lambda c: unchecked(c.purchases).create(
            customer_id="cus_1",
            plan_id="plan_1",
            billing_date="2026-01-31",
            notes=None,
            auto_payment=True,
            void_after_minutes=0,
            added_later={"left_alone": 1},
        ),
        "POST /api/v1/purchases",
        {"ok": True, "purchase": {"id": "pur_1"}},
        {"id": "pur_1"},
        {
            "customerId": "cus_1",
            "planId": "plan_1",
            "billingDate": "2026-01-31",
            "notes": None,
            "autoPayment": True,
            "voidAfterMinutes": 0,
            "addedLater": {"left_alone": 1},
        },
    ),
    "purchases.get": Exchange(
        lambda c: c.purchases.get("pur_1"),
        "GET /api/v1/purchases/pur_1",
        {"ok": True, "purchase": {"id": "pur_1"}},
        {"id": "pur_1"},
    ),
    "purchases.set_auto_payment": Exchange(
        lambda c: c.purchases.set_auto_payment("pur_1", auto_payment=False, pause_reason="asked"),
        "PATCH /api/v1/purchases/pur_1",
        {"ok": True, "purchase": {"id": "pur_1"}},
        {"ok": True, "purchase": {"id": "pur_1"}},
        {"autoPayment": False, "pauseReason": "asked"},
    ),
    "purchases.set_auto_payment clearing": Exchange(
        lambda c: c.purchases.set_auto_payment("pur_1", auto_payment=True, pause_reason=None),
        "PATCH /api/v1/purchases/pur_1",
        {"ok": True},
        {"ok": True},
        {"autoPayment": True, "pauseReason": None},
    ),
    "purchases.set_auto_payment alone": Exchange(
        lambda c: c.purchases.set_auto_payment("pur_1", auto_payment=True),
        "PATCH /api/v1/purchases/pur_1",
        {"ok": True},
        {"ok": True},
        {"autoPayment": True},
    ),
    "purchases.cancel": Exchange(
        lambda c: c.purchases.cancel("pur_1"),
        "POST /api/v1/purchases/pur_1/cancel",
        {"ok": True, "purchase": {"id": "pur_1", "status": "CANCELLED"}},
        {"ok": True, "purchase": {"id": "pur_1", "status": "CANCELLED"}},
    ),
    "invoices.list": Exchange(
        lambda c: c.invoices.list(customer_id="cus_1", status="OPEN", limit=5),
        "GET /api/v1/invoices?customerId=cus_1&status=OPEN&limit=5",
        {"ok": True, "invoices": [{"id": "inv_1"}]},
        [{"id": "inv_1"}],
    ),
    "invoices.get": Exchange(
        lambda c: c.invoices.get("inv_1"),
        "GET /api/v1/invoices/inv_1",
        {"ok": True, "invoice": {"id": "inv_1"}, "plan": None},
        {"ok": True, "invoice": {"id": "inv_1"}, "plan": None},
    ),
    "invoices.pay_link": Exchange(
        lambda c: c.invoices.pay_link("inv_1"),
        "GET /api/v1/invoices/inv_1/pay-link",
        {"ok": True, "url": "https://pay.example/1"},
        {"ok": True, "url": "https://pay.example/1"},
    ),
    "payments.list": Exchange(
        lambda c: c.payments.list(customer_id="cus_1", limit=5),
        "GET /api/v1/payments?customerId=cus_1&limit=5",
        {"ok": True, "payments": [{"id": "pay_1"}]},
        [{"id": "pay_1"}],
    ),
    "payments.get": Exchange(
        lambda c: c.payments.get("pay_1"),
        "GET /api/v1/payments/pay_1",
        {"ok": True, "payment": {"id": "pay_1"}, "plan": None},
        {"ok": True, "payment": {"id": "pay_1"}, "plan": None},
    ),
    "webhooks.list": Exchange(
        lambda c: c.webhooks.list(),
        "GET /api/v1/webhooks",
        {"ok": True, "webhooks": [{"kind": "WALLET_LOW"}]},
        [{"kind": "WALLET_LOW"}],
    ),
    "webhooks.upsert": Exchange(
        lambda c: c.webhooks.upsert(kind="WALLET_LOW", url="https://x.example/h", threshold=10),
        "POST /api/v1/webhooks",
        {"ok": True, "webhook": {"kind": "WALLET_LOW"}},
        {"kind": "WALLET_LOW"},
        {"kind": "WALLET_LOW", "url": "https://x.example/h", "threshold": 10},
    ),
    "webhooks.upsert clearing": Exchange(
        lambda c: unchecked(c.webhooks).upsert(
            kind="WALLET_LOW", url="https://x.example/h", threshold=None, added_later=1
        ),
        "POST /api/v1/webhooks",
        {"ok": True},
        {},
        {"kind": "WALLET_LOW", "url": "https://x.example/h", "threshold": None, "addedLater": 1},
    ),
    "webhooks.delete": Exchange(
        lambda c: c.webhooks.delete("WALLET LOW"), "DELETE /api/v1/webhooks/WALLET%20LOW", {"ok": True}, None
    ),
    "workspace.me": Exchange(
        lambda c: c.workspace.me(),
        "GET /api/v1/me",
        {"ok": True, "organisation": {"id": "org_1"}},
        {"ok": True, "organisation": {"id": "org_1"}},
    ),
    "workspace.models": Exchange(
        lambda c: c.workspace.models(active=True),
        "GET /api/v1/models?active=true",
        {"ok": True, "models": [{"modelId": "gpt-4o", "inputPrice": 2.5}]},
        [{"modelId": "gpt-4o", "inputPrice": 2.5}],
    ),
    "workspace.models all": Exchange(lambda c: c.workspace.models(), "GET /api/v1/models", {"ok": True}, []),
    "customers.list_members": Exchange(
        lambda c: c.customers.list_members("cus_1"),
        "GET /api/v1/customers/cus_1/members",
        {"ok": True, "members": [{"id": "mem_1"}]},
        [{"id": "mem_1"}],
    ),
    "customers.add_member": Exchange(
        lambda c: unchecked(c.customers).add_member("cus_1", name="A", email="a@b.c", is_admin=True),
        "POST /api/v1/customers/cus_1/members",
        {"ok": True, "member": {"id": "mem_1"}},
        {"id": "mem_1"},
        {"name": "A", "email": "a@b.c", "isAdmin": True},
    ),
    "customers.update_member": Exchange(
        lambda c: unchecked(c.customers).update_member("cus_1", "mem/1", name="B", notes=None),
        "PATCH /api/v1/customers/cus_1/members/mem%2F1",
        {"ok": True, "member": {"id": "mem_1", "name": "B"}},
        {"id": "mem_1", "name": "B"},
        {"name": "B", "notes": None},
    ),
    "customers.remove_member": Exchange(
        lambda c: c.customers.remove_member("cus_1", "mem_1"),
        "DELETE /api/v1/customers/cus_1/members/mem_1",
        {"ok": True},
        None,
    ),
    "customers.wallet": Exchange(
        lambda c: c.customers.wallet("cus_1", limit=3),
        "GET /api/v1/customers/cus_1/wallet?limit=3",
        {"ok": True, "balance": 1, "transactions": []},
        {"ok": True, "balance": 1, "transactions": []},
    ),
    "customers.wallet all": Exchange(
        lambda c: c.customers.wallet("cus_1"),
        "GET /api/v1/customers/cus_1/wallet",
        {"ok": True},
        {"ok": True},
    ),
    "customers.add_wallet_entry": Exchange(
        lambda c: c.customers.add_wallet_entry("cus_1", type="TOPUP", amount=5),
        "POST /api/v1/customers/cus_1/wallet",
        {"ok": True, "transaction": {"id": "t"}},
        {"ok": True, "transaction": {"id": "t"}},
        {"type": "TOPUP", "amount": 5},
    ),
    "customers.adjust_credit": Exchange(
        lambda c: c.customers.adjust_credit("cus_1", credit_id="cr_1", amount=2.5),
        "POST /api/v1/customers/cus_1/credits/adjust",
        {"ok": True},
        None,
        {"creditId": "cr_1", "amount": 2.5},
    ),
    "customers.adjust_outcome": Exchange(
        lambda c: c.customers.adjust_outcome("cus_1", outcome_id="o_1", amount=5),
        "POST /api/v1/customers/cus_1/outcomes/adjust",
        {"ok": True, "remaining": 7},
        {"remaining": 7},
        {"outcomeId": "o_1", "amount": 5},
    ),
    "customers.adjust_unit": Exchange(
        lambda c: c.customers.adjust_unit("cus_1", unit_id="u_1", amount=-1),
        "POST /api/v1/customers/cus_1/units/adjust",
        {"ok": True, "remaining": 6},
        {"remaining": 6},
        {"unitId": "u_1", "amount": -1},
    ),
    "customers.credit_balance by id": Exchange(
        lambda c: c.customers.credit_balance("cus_1", credit_id="cr_2"),
        "GET /api/v1/customers/cus_1/balances",
        BALANCES,
        CREDIT_ROWS[1],
    ),
    "customers.credit_balance by name": Exchange(
        lambda c: c.customers.credit_balance("cus_1", credit_name="API"),
        "GET /api/v1/customers/cus_1/balances",
        BALANCES,
        CREDIT_ROWS[0],
    ),
    "customers.outcome_balance by id": Exchange(
        lambda c: c.customers.outcome_balance("cus_1", outcome_id="o_1"),
        "GET /api/v1/customers/cus_1/balances",
        BALANCES,
        {"outcomeId": "o_1", "outcomeName": "Ticket", "remaining": 2},
    ),
    "customers.outcome_balance of none": Exchange(
        lambda c: c.customers.outcome_balance("cus_1", outcome_name="ticket"),
        "GET /api/v1/customers/cus_1/balances",
        BALANCES,
        None,
    ),
    "customers.unit_balance by name": Exchange(
        lambda c: c.customers.unit_balance("cus_1", unit_name="Seat"),
        "GET /api/v1/customers/cus_1/balances",
        BALANCES,
        {"unitId": "u_1", "unitName": "Seat", "remaining": 3},
    ),
    "customers.unit_balance without units": Exchange(
        lambda c: c.customers.unit_balance("cus_1", unit_id="u_1"),
        "GET /api/v1/customers/cus_1/balances",
        {"ok": True, "units": "none"},
        None,
    ),
    "signals.verify": Exchange(
        lambda c: c.signals.verify(
            CreditSignal(
                customer_id="cus_1",
                model="m",
                agent_key="api_credit",
                member="a@b.c",
                tokens={"input": 1, "output": 2, "cache": 0},
                custom={"feature": "summarise"},
                idempotency_key="idem-1",
            )
        ),
        "POST /api/v1/usage",
        {"statusCode": 200, "statusDetail": {"status": "SUCCESS"}, "result": {"usageLog": LOG}},
        LOG,
        {
            "customerId": "cus_1",
            "type": "credit",
            "model": "m",
            "agentKey": "api_credit",
            "inputTokens": 1,
            "outputTokens": 2,
            "cacheTokens": 0,
            "member": "a@b.c",
            "custom": {"feature": "summarise"},
            "idempotencyKey": "idem-1",
            "dryRun": True,
        },
        replay_safe=True,
    ),
    "signals.verify without key": Exchange(
        lambda c: c.signals.verify(WalletSignal(customer_id="cus_1", model="m")),
        "POST /api/v1/usage",
        {"statusCode": 200, "statusDetail": {"status": "SUCCESS"}, "result": None},
        None,
        {
            "customerId": "cus_1",
            "type": "wallet",
            "model": "m",
            "inputTokens": 0,
            "outputTokens": 0,
            "dryRun": True,
        },
        replay_safe=True,
    ),
    "signals.verify of a step": Exchange(
        lambda c: c.signals.verify(
            OutcomeSignal(customer_id="cus_1", model="m", key="o.s", run_id="r", complete=True)
        ),
        "POST /api/v1/usage",
        {"ok": True, "usageLog": LOG},
        LOG,
        {
            "customerId": "cus_1",
            "type": "outcome",
            "model": "m",
            "key": "o.s",
            "runId": "r",
            "complete": True,
            "inputTokens": 0,
            "outputTokens": 0,
            "dryRun": True,
        },
        replay_safe=True,
    ),
    "signals.unit": Exchange(
        lambda c: c.signals.unit(customer_id="cus_1", agent_key="seat", member="a@b.c"),
        "POST /api/v1/units",
        {"ok": True, "event": {"id": "ev_1"}},
        {"ok": True, "event": {"id": "ev_1"}},
        {"customerId": "cus_1", "agentKey": "seat", "member": "a@b.c"},
    ),
    "signals.unit of nobody": Exchange(
        lambda c: c.signals.unit(customer_id="cus_1", agent_key="seat", member=""),
        "POST /api/v1/units",
        {"ok": True},
        {"ok": True},
        {"customerId": "cus_1", "agentKey": "seat"},
    ),
    "signals.unit_usage": Exchange(
        lambda c: c.signals.unit_usage(customer_id="cus_1", limit=5),
        "GET /api/v1/units?customerId=cus_1&limit=5",
        {"ok": True, "balances": [], "events": []},
        {"ok": True, "balances": [], "events": []},
    ),
    "signals.unit_usage all": Exchange(
        lambda c: c.signals.unit_usage(customer_id="cus_1"),
        "GET /api/v1/units?customerId=cus_1",
        {"ok": True},
        {"ok": True},
    ),
    "customers.create": Exchange(
        lambda c: c.customers.create(name="N", email="a@b.c", notes=None, tax_id="t"),
        "POST /api/v1/customers",
        {"ok": True, "customer": GET_ONE},
        GET_ONE,
        {"name": "N", "email": "a@b.c", "notes": None, "taxId": "t"},
    ),
    "customers.get": Exchange(
        lambda c: c.customers.get("cus 1"),
        "GET /api/v1/customers/cus%201",
        {"ok": True, "customer": GET_ONE},
        GET_ONE,
    ),
    "customers.update": Exchange(
        lambda c: c.customers.update("cus_1", name="N", notes=None),
        "PATCH /api/v1/customers/cus_1",
        {"ok": True, "customer": GET_ONE},
        GET_ONE,
        {"name": "N", "notes": None},
    ),
    "customers.delete": Exchange(
        lambda c: c.customers.delete("cus_1"), "DELETE /api/v1/customers/cus_1", {"ok": True}, None
    ),
    "customers.list": Exchange(
        lambda c: c.customers.list(),
        "GET /api/v1/customers",
        {"ok": True, "customers": [GET_ONE], "nextCursor": "c"},
        {"customers": [GET_ONE], "nextCursor": "c"},
    ),
    "customers.list of some": Exchange(
        lambda c: c.customers.list(limit=5, q="a c", cursor="c"),
        "GET /api/v1/customers?limit=5&q=a+c&cursor=c",
        {"ok": True, "customers": []},
        {"customers": []},
    ),
    "customers.balances": Exchange(
        lambda c: c.customers.balances("cus 1"), "GET /api/v1/customers/cus%201/balances", BALANCES, BALANCES
    ),
    "customers.plan": Exchange(
        lambda c: c.customers.plan("cus 1"),
        "GET /api/v1/customers/cus%201/plan",
        {"ok": True, "plan": GET_ONE, "purchase": None},
        {"ok": True, "plan": GET_ONE, "purchase": None},
    ),
    "signals.list": Exchange(
        lambda c: c.signals.list(customer_id="cus_1", limit=5),
        "GET /api/v1/usage?customerId=cus_1&limit=5",
        {"ok": True, "customer": {"id": "cus_1"}, "totals": {}, "logs": [LOG]},
        {"customer": {"id": "cus_1"}, "totals": {}, "logs": [LOG]},
    ),
    "customers.revenue": Exchange(
        lambda c: c.customers.revenue("cus 1"),
        "GET /api/v1/customers/cus%201/revenue",
        {"ok": True, "total": 5},
        {"ok": True, "total": 5},
    ),
    "customers.revenue of a month": Exchange(
        lambda c: c.customers.revenue("cus_1", range="30d"),
        "GET /api/v1/customers/cus_1/revenue?range=30d",
        {"ok": True},
        {"ok": True},
    ),
    "portal.create_token": Exchange(
        lambda c: c.portal.create_token(customer_id="cus_1"),
        "POST /api/v1/portal/token",
        {"ok": True, "token": "t", "expiresAt": "2026-07-01T10:10:00.000Z", "expiresIn": 600},
        {"token": "t", "expiresAt": "2026-07-01T10:10:00.000Z", "expiresIn": 600},
        {"customerId": "cus_1"},
    ),
    "portal.create_token of a member": Exchange(
        lambda c: c.portal.create_token(customer_id="cus_1", ttl_seconds=1, member_email="a@b.c"),
        "POST /api/v1/portal/token",
        {"ok": True},
        {},
        {"customerId": "cus_1", "ttlSeconds": 1, "memberEmail": "a@b.c"},
    ),
    "customers.usage": Exchange(
        lambda c: c.customers.usage("cus_1", limit=50),
        "GET /api/v1/usage?customerId=cus_1&limit=50",
        {"ok": True, "customer": {"id": "cus_1"}, "totals": {}, "logs": [LOG]},
        {"customer": {"id": "cus_1"}, "totals": {}, "logs": [LOG]},
    ),
}


@pytest.mark.parametrize("name", EXCHANGES)
def test_exchange(name: str) -> None:
    exchange = EXCHANGES[name]
    client = FakeClient(exchange.answer)
    result: object = exchange.call(client)
    (request,) = client.requests
    assert f"{request.method} {request.target}" == exchange.request
    assert (request.body is None) == (exchange.body is None)
    if request.body is not None:
        assert json.loads(request.body) == exchange.body
    assert ("Content-Type", "application/json") in request.headers or request.body is None
    replay_safe = (
        request.method in ("GET", "DELETE") if exchange.replay_safe is None else exchange.replay_safe
    )
    assert request.replay_safe is replay_safe
    assert (result.raw if isinstance(result, Model | Items) else result) == exchange.value


def test_every_method_has_an_exchange() -> None:
    methods = {
        f"{resource.__name__.lower()}.{name}"
        for resource in RESOURCES
        for name in dir(resource)
        if not name.startswith("_") and type(getattr(resource, name)).__name__ == "endpoint"
    }
    assert methods == {name.split(" ")[0] for name in EXCHANGES}


def test_what_is_nested_is_read_as_models() -> None:
    client = FakeClient(
        {
            "ok": True,
            "invoice": {"id": "inv_1", "customerId": "cus_1", "status": "OPEN"},
            "plan": {"id": "plan_1", "components": [{"type": "FLAT", "billingMode": "ADVANCE"}]},
        }
    )
    details = client.invoices.get("inv_1")
    assert details.invoice is not None
    assert details.plan is not None
    assert (details.invoice.id, details.invoice.customer_id, details.invoice.status) == (
        "inv_1",
        "cus_1",
        "OPEN",
    )
    assert [(each.type, each.billing_mode) for each in details.plan.components] == [("FLAT", "ADVANCE")]
    client = FakeClient({"ok": True, "balance": 2, "transactions": [{"type": "TOPUP", "amount": 5}]})
    wallet = client.customers.wallet("cus_1")
    assert (wallet.balance, [(each.type, each.amount) for each in wallet.transactions]) == (2, [("TOPUP", 5)])


def test_a_list_of_odd_entries_is_read_as_it_came() -> None:
    client = FakeClient({"ok": True, "plans": [None, "x", {"id": "plan_1"}]})
    plans = client.plans.list()
    assert [plan.id for plan in plans] == [None, None, "plan_1"]
    assert plans.raw == [None, "x", {"id": "plan_1"}]


TAKEN: dict[str, tuple[dict[str, object], str]] = {
    "taken": (
        {"accepted": True, "signalId": "sig_1", "receivedAt": "2026-01-01T00:00:00Z"},
        "The server took the signal and may bill it: it does not know dry runs.",
    ),
    "queued": (
        {"status": "PENDING", "signalId": "sig_1"},
        "The server could not bill the signal and queued it for a person to correct: this was no dry run.",
    ),
    "with an id alone": (
        {"signalId": "sig_1"},
        "The server took the signal and may bill it: it does not know dry runs.",
    ),
    "queued alone": (
        {"status": "PENDING"},
        "The server could not bill the signal and queued it for a person to correct: this was no dry run.",
    ),
    "accepted alone": (
        {"accepted": True},
        "The server took the signal and may bill it: it does not know dry runs.",
    ),
}


@pytest.mark.parametrize(("result", "message"), TAKEN.values(), ids=TAKEN)
@pytest.mark.parametrize("key", ["idem-1", None])
def test_a_dry_run_that_was_none_is_an_error(
    result: dict[str, object], message: str, key: str | None
) -> None:
    signal = WalletSignal(customer_id="cus_1", model="m", idempotency_key=key)
    operation = Signals.verify.build(FakeClient().signals, signal)
    error = operation.read(result)
    assert isinstance(error, ClockNextError)
    assert (str(error), error.status, error.retryable) == (message, 202, False)
    assert (error.signal_id, error.received_at) == (result.get("signalId"), result.get("receivedAt"))
    assert error.idempotency_key == key
    assert operation.read_taken is not None
    by_status = operation.read_taken(result)
    assert isinstance(by_status, ClockNextError)
    assert vars(by_status) == vars(error)
    without = operation.read({**result, "accepted": True, "signalId": 5, "receivedAt": 5})
    assert isinstance(without, ClockNextError)
    assert (without.signal_id, without.received_at) == (None, None)


@pytest.mark.parametrize(
    "result", [{}, {"usageLog": None}, {"accepted": False, "signalId": None}, {"status": "SUCCESS"}]
)
def test_a_dry_run_that_was_given_no_price_is_none_where_the_status_is_not_202(
    result: dict[str, object],
) -> None:
    signal = WalletSignal(customer_id="c", model="m")
    assert FakeClient({"ok": True, **result}).signals.verify(signal) is None
    read_taken = Signals.verify.build(FakeClient().signals, signal).read_taken
    assert read_taken is not None
    error = read_taken(result)
    assert isinstance(error, ClockNextError)
    assert (error.status, error.retryable, error.signal_id) == (202, False, None)
    assert str(error) == "The server took the signal and may bill it: it does not know dry runs."


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({"customer_id": "c", "model": "m"}, WalletSignal(customer_id="c", model="m")),
        (
            {"type": "credit", "customer_id": "c", "model": "m", "key": "api_credit", "tokens": {"input": 5}},
            CreditSignal(customer_id="c", model="m", key="api_credit", tokens={"input": 5}),
        ),
        (
            {"type": "outcome", "customer_id": "c", "model": "m", "agent_key": "a.b", "run_id": "r"},
            OutcomeSignal(customer_id="c", model="m", agent_key="a.b", run_id="r"),
        ),
    ],
)
def test_a_dry_run_takes_the_keywords_of_the_other_signals(
    keywords: dict[str, Any], expected: Signal
) -> None:
    signals = FakeClient().signals
    assert Signals.verify.build(signals, **keywords).body == Signals.verify.build(signals, expected).body


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ((), {}, "^signal: is required: give a signal object, or a signal's keywords$"),
        ((), {"customer_id": "c", "model": "m", "key": "k"}, "^type: is required with a key"),
        ((), {"customer_id": "c", "model": "m", "agent_key": "k"}, "^type: is required with a key"),
        ((), {"type": "unit", "customer_id": "c", "model": "m"}, "^type: must be one of"),
        ((), {"model": "m"}, "^customer_id: must be a string"),
        ((), {"customer_id": "c"}, "^model: must be a string"),
        ((), {"type": "wallet"}, "^customer_id: must be a string"),
        (("no signal",), {"customer_id": "c"}, "^signal: must be"),
        ((WalletSignal(customer_id="c", model="m"),), {"member": "a"}, "^member: must not be given together"),
        (
            (WalletSignal(customer_id="c", model="m"),),
            {"type": "wallet"},
            "^type: must not be given together",
        ),
    ],
)
def test_a_dry_run_of_neither_or_both_is_an_error(
    arguments: tuple[Any, ...], keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Signals.verify.build(FakeClient().signals, *arguments, **keywords)
