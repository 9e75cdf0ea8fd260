"""The facts of docs/protocol.md about the service: a test of the same name for each, in the page's order."""

import re
import socket
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from clocknext_transports.emulator import AcceptOnly, Catalogue, Customer, Ledger, emulator
from tests.docs import DOCS
from tests.emulator.support import (
    EXAMPLE,
    KEY,
    NOW,
    call,
    create,
    fetch,
    read_to_end,
    received,
    refused,
    send,
    signal,
)

USAGE = "/api/v1/usage"
SIGNAL = "/api/v1/signal"
STATES: tuple[AcceptOnly, ...] = ("thin", "thick", "thick-queued")
DAY = 86_400
PLAN: dict[str, Any] = {
    "name": "P",
    "billingCycle": "MONTHLY",
    "components": [{"type": "FLAT", "billingMode": "ADVANCE", "amount": 1}],
}


@pytest.fixture
def ledger() -> Ledger:
    """The default catalogue, the models of the pricing example, and a customer for its signal."""
    default = Catalogue()
    return Ledger(
        Catalogue(
            models=[*default.models, *EXAMPLE.models],
            credits=[*default.credits, *(c for c in EXAMPLE.credits if c.key != "api_credit")],
            customers=[*default.customers, Customer("cus_1", wallet=10, credits={"api_credit": 100})],
        )
    )


@pytest.fixture
def example() -> Ledger:
    return Ledger(EXAMPLE)


def refusal(answer: tuple[int, dict[str, Any]]) -> tuple[int, str, str | None]:
    status, content = answer
    return status, content["statusDetail"]["message"], content["result"].get("errorReason")


def field_of(answer: tuple[int, dict[str, Any]]) -> str:
    status, content = answer
    assert (status, content["result"]["errorReason"]) == (400, "INVALID_BODY")
    return str(content["result"]["issues"][0]["field"])


def patch(ledger: Ledger, path: str, body: Mapping[str, object]) -> dict[str, Any]:
    status, content = call(ledger, "PATCH", f"/api/v1/{path}", dict(body))
    assert status == 200, content
    (changed,) = [value for name, value in content.items() if name != "ok"]
    return dict(changed)


def ids(ledger: Ledger, path: str) -> list[str]:
    rows: list[dict[str, Any]] = fetch(ledger, path)[path]
    return [row["id"] for row in rows]


def plan_of(ledger: Ledger, *components: Mapping[str, object], **more: object) -> str:
    """Create a plan, of components in advance unless they say otherwise."""
    sold = [{"billingMode": "ADVANCE", **component} for component in components]
    return str(create(ledger, "plans", {**PLAN, "components": sold, **more})["id"])


def buy(ledger: Ledger, plan: str, customer: str = "cus_123", **more: object) -> dict[str, Any]:
    return create(ledger, "purchases", {"customerId": customer, "planId": plan, **more})


def taken(state: AcceptOnly, body: object, **how: Any) -> tuple[int, dict[str, Any]]:
    return call(Ledger(EXAMPLE, accept_only=state), "POST", SIGNAL, body, **how)


def reason(state: AcceptOnly, body: object, **how: Any) -> str:
    status, content = taken(state, body, **how)
    return str(content["result"].get("errorReason") or content["result"].get("status") or status)


# Requests


def test_bearer_key(ledger: Ledger) -> None:
    assert call(ledger, "GET", "/api/v1/me")[0] == 200
    for wrong in (None, "Basic x", ledger.api_key, "Bearer cnk_other"):
        assert call(ledger, "GET", "/api/v1/me", authorization=wrong) == (
            401,
            {"ok": False, "error": "Invalid API key."},
        )


def test_expired_key(ledger: Ledger) -> None:
    answer = call(ledger, "POST", USAGE, signal(), authorization="Bearer cnk_test_expired")
    assert refusal(answer) == (401, "This API key has expired.", "API_KEY_REJECTED")


def test_json_only(ledger: Ledger) -> None:
    for kind in (None, "text/plain"):
        assert call(ledger, "POST", "/api/v1/customers", {"name": "A"}, content_type=kind)[0] == 415


def test_ids_in_paths() -> None:
    ledger = Ledger(Catalogue(customers=[Customer("a b/c")]))
    assert call(ledger, "GET", "/api/v1/customers/a%20b%2Fc")[0] == 200


def test_empty_parameters(ledger: Ledger) -> None:
    assert fetch(ledger, "customers?q=&limit=&cursor=") == fetch(ledger, "customers")


def test_two_envelopes(ledger: Ledger) -> None:
    assert set(send(ledger)[1]) == {"statusCode", "statusDetail", "result"}
    assert call(ledger, "GET", f"{USAGE}?customerId=cus_1")[1]["ok"] is True
    assert call(ledger, "GET", "/api/v1/customers/nobody")[1]["ok"] is False


def test_unknown_paths(ledger: Ledger) -> None:
    assert refusal(call(ledger, "GET", "/api/v1/nothing"))[::2] == (404, "NOT_FOUND")
    assert refusal(call(ledger, "PUT", USAGE))[::2] == (405, "METHOD_NOT_ALLOWED")


def test_large_heads() -> None:
    for state in (None, "thin"):
        with emulator(accept_only=state) as server:
            head = f"GET / HTTP/1.1\r\nhost: h\r\nx: {'a' * 16 * 1024}\r\n\r\n"
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as wire:
                wire.sendall(head.encode())
                line, _, body = read_to_end(wire).partition(b"\r\n")
        assert b" 431 " in line
        assert b"statusDetail" not in body


def test_workspace(ledger: Ledger) -> None:
    me = fetch(ledger, "me")
    assert (set(me["organization"]), me["environment"]) == ({"id", "name"}, "sandbox")
    priced = {"modelId", "inputPrice", "outputPrice", "cachePrice", "isActive"}
    assert priced <= set(fetch(ledger, "models")["models"][0])


# Signals


def test_required_of_a_signal(ledger: Ledger) -> None:
    for name in ("customerId", "type", "model"):
        assert field_of(send(ledger, **{name: None})) == name
        assert field_of(send(ledger, **{name: " "})) == name


def test_signal_types(ledger: Ledger) -> None:
    assert field_of(send(ledger, type="unit")) == "type"


def test_model_without_case(ledger: Ledger) -> None:
    assert send(ledger, model="EXAMPLE")[1]["result"]["usageLog"]["model"] == "example"


def test_agent_key_or_key(ledger: Ledger) -> None:
    assert field_of(send(ledger, agentKey=None)) == "agentKey"
    assert send(ledger, agentKey=None, key="api_credit", idempotencyKey="a")[0] == 200
    assert send(ledger, key="nonsense", idempotencyKey="b")[0] == 200
    assert send(ledger, agentKey=None, type="wallet", idempotencyKey="c")[0] == 200


def test_token_counts(ledger: Ledger) -> None:
    wrong: tuple[object, ...] = ("1", 1.5, -1, True, 2**53)
    for count in wrong:
        assert field_of(send(ledger, inputTokens=count)) == "inputTokens"
    assert send(ledger, inputTokens=0, outputTokens=2.0, cacheTokens=None)[0] == 200


def test_signal_status(ledger: Ledger) -> None:
    assert send(ledger)[1]["result"]["usageLog"]["status"] == "SUCCESS"
    assert send(ledger, status="FAILURE", idempotencyKey="b")[1]["result"]["usageLog"]["status"] == "FAILURE"
    assert field_of(send(ledger, status="DONE")) == "status"


def test_any_member(ledger: Ledger) -> None:
    assert send(ledger, member="alice")[1]["result"]["usageLog"]["member"] == "alice"


def test_custom_size(ledger: Ledger) -> None:
    largest = {"x": "a" * (32 * 1024 - len('{"x":""}'))}
    assert send(ledger, custom=largest)[0] == 200
    over = {"x": largest["x"] + "a"}
    assert refusal(send(ledger, custom=over, idempotencyKey="b"))[::2] == (413, "CUSTOM_TOO_LARGE")


def test_body_size(ledger: Ledger) -> None:
    raw = received("POST", USAGE, signal()).body
    assert call(ledger, "POST", USAGE, raw.ljust(64 * 1024))[0] == 200
    assert refusal(call(ledger, "POST", USAGE, raw.ljust(64 * 1024 + 1)))[::2] == (413, "BODY_TOO_LARGE")


def test_metrics(ledger: Ledger) -> None:
    assert send(ledger, voice_ai="w")[1]["result"]["usageLog"]["metrics"] == {"voice_ai": "w"}
    wallet = send(ledger, type="wallet", voice_ai="w", idempotencyKey="b")[1]["result"]["usageLog"]
    assert "metrics" not in wallet


def test_fields_of_the_server(ledger: Ledger) -> None:
    log = send(ledger, organizationId="o", signalId="s", receivedAt="r")[1]["result"]["usageLog"]
    assert "metrics" not in log


def test_idempotency_key_length(ledger: Ledger) -> None:
    assert send(ledger, idempotencyKey="k" * 255)[0] == 200
    for key in ("", " ", "k" * 256):
        assert field_of(send(ledger, idempotencyKey=key)) == "idempotencyKey"


def test_repeat(ledger: Ledger) -> None:
    first = send(ledger)
    later = call(ledger, "POST", USAGE, signal(inputTokens=9), now=NOW + 400 * DAY)
    other = send(ledger, customerId="cus_123")
    assert first == later == other
    assert ledger.billed("idem-1") == 1


def test_dry_run(ledger: Ledger) -> None:
    assert send(ledger, dryRun=True)[1]["result"]["usageLog"]["customerCost"] > 0
    assert ledger.signals == ()


def test_usage_read_back(ledger: Ledger) -> None:
    for key in "ab":
        send(ledger, idempotencyKey=key)
    usage = fetch(ledger, "usage?customerId=cus_1&limit=1")
    assert set(usage) == {"ok", "customer", "totals", "logs"}
    assert ([log["idempotencyKey"] for log in usage["logs"]], usage["totals"]["signals"]) == (["b"], 2)


# Prices


def test_credit_price(example: Ledger) -> None:
    log = send(example)[1]["result"]["usageLog"]
    assert (log["providedCost"], log["creditsUsed"], log["customerCost"]) == (0.016125, 0.025, 0.0209625)


def test_wallet_price(example: Ledger) -> None:
    assert send(example, type="wallet")[1]["result"]["usageLog"]["customerCost"] == 0.016125
    assert example.balance("cus_1") == Decimal("9.983875")


def test_outcome_price(example: Ledger) -> None:
    step = {"type": "outcome", "agentKey": "resolved_ticket.triage", "runId": "r"}
    costs = [
        send(example, idempotencyKey=key, complete=complete, **step)[1]["result"]["usageLog"]["customerCost"]
        for key, complete in (("a", None), ("b", True), ("c", True))
    ]
    assert costs == [0, 0.99, 0]


def test_run_ids(ledger: Ledger) -> None:
    def complete(customer: str, key: str, step: str) -> float:
        sent = {"type": "outcome", "agentKey": step, "runId": "r", "complete": True}
        log = send(ledger, customerId=customer, model="gpt-4o", idempotencyKey=key, **sent)[1]
        return float(log["result"]["usageLog"]["customerCost"])

    assert complete("cus_123", "a", "resolved_ticket.answer") == 0.99
    assert complete("cus_456", "b", "qualified_lead.score") == 0


def test_unit_price(ledger: Ledger) -> None:
    def cost_of(key: str, events: int) -> float:
        body = {"customerId": "cus_123", "agentKey": key}
        rows = [call(ledger, "POST", "/api/v1/units", body)[1]["event"] for _ in range(events)]
        return float(round(sum(row["customerCost"] for row in rows), 6))

    assert cost_of("report", 2) == 1.0
    assert cost_of("export", 102) == 10.1
    assert cost_of("seat", 11) == 110.0


def test_unknown_customer(ledger: Ledger) -> None:
    assert refusal(send(ledger, customerId="x")) == (404, 'No customer with id "x".', None)


def test_unknown_model(ledger: Ledger) -> None:
    assert refusal(send(ledger, model="x")) == (422, 'Model "x" is not a valid model.', None)


def test_unknown_agent_key(ledger: Ledger) -> None:
    text = 'No credit with agent key "x" in this workspace.'
    assert refusal(send(ledger, agentKey="x")) == (422, text, None)
    text = 'No outcome step with agent key "x" in this workspace.'
    assert refusal(send(ledger, agentKey="x", type="outcome")) == (422, text, None)


def test_plan_without_the_component(ledger: Ledger) -> None:
    assert refusal(send(ledger, customerId="cus_wallet"))[0] == 422


def test_balance_too_small(ledger: Ledger) -> None:
    status, message, _ = refusal(send(ledger, customerId="cus_low", type="wallet", model="gpt-4o"))
    assert status == 422
    assert message.startswith("Insufficient ")


# Customers, their wallets and members


def test_customer_fields(ledger: Ledger) -> None:
    assert refused(ledger, "POST", "customers", {}) == (400, "name: is required; email: is required")
    made = create(ledger, "customers", {"name": "A", "email": "a@b.c", "notes": "n", "city": "c"})
    changed = patch(ledger, f"customers/{made['id']}", {"notes": None})
    assert (changed["notes"], changed["city"]) == (None, "c")


def test_customers_newest_first(ledger: Ledger) -> None:
    made = [create(ledger, "customers", {"name": "A", "email": f"{n}@b.c"})["id"] for n in range(2)]
    first = fetch(ledger, "customers?limit=2")
    assert [customer["id"] for customer in first["customers"]] == made[::-1]
    rest = fetch(ledger, f"customers?cursor={first['nextCursor']}")
    assert (rest["customers"][0]["id"], rest["nextCursor"]) == ("cus_1", None)


def test_views(ledger: Ledger) -> None:
    customer = "customers/cus_123"
    assert {"wallet", "credits", "outcomes", "units"} <= set(fetch(ledger, f"{customer}/balances"))
    assert {"plan", "purchase"} <= set(fetch(ledger, f"{customer}/plan"))
    assert fetch(ledger, f"{customer}/revenue?range=30d")["range"] == "30d"
    assert {"customer", "totals", "logs"} <= set(fetch(ledger, f"{customer}/usage"))


def test_portal_tokens(ledger: Ledger) -> None:
    for asked, lives in (({}, 600), ({"ttlSeconds": 60, "memberEmail": "a@b.c"}, 60)):
        body = {"customerId": "cus_123", **asked}
        token = call(ledger, "POST", "/api/v1/portal/token", body)[1]
        assert (set(token), token["expiresIn"]) == ({"ok", "token", "expiresAt", "expiresIn"}, lives)


def test_bulk(ledger: Ledger) -> None:
    rows = [{"name": "A", "email": "a@b.c"}, {"name": "B"}]
    status, content = call(ledger, "POST", "/api/v1/customers/bulk", {"customers": rows})
    assert (status, [set(row) for row in content["results"]]) == (200, [{"email", "id"}, {"email", "error"}])
    for number in (0, 201):
        many = {"customers": rows[:1] * number}
        assert call(ledger, "POST", "/api/v1/customers/bulk", many)[0] == 400


def test_wallet_entries(ledger: Ledger) -> None:
    path = "customers/cus_1/wallet"
    assert call(ledger, "POST", f"/api/v1/{path}", {"type": "TOPUP", "amount": 5})[1]["balance"] == 15
    assert call(ledger, "POST", f"/api/v1/{path}", {"type": "DEBIT", "amount": 2})[1]["balance"] == 13
    for amount in (0, -1):
        assert refused(ledger, "POST", path, {"type": "ADJUSTMENT", "amount": amount})[0] == 400


def test_adjustments(ledger: Ledger) -> None:
    def adjust(noun: str, item: str) -> dict[str, Any]:
        body = {f"{noun}Id": item, "amount": 2}
        return call(ledger, "POST", f"/api/v1/customers/cus_low/{noun}s/adjust", body)[1]

    assert adjust("credit", "api_credit") == {"ok": True}
    assert adjust("outcome", "qualified_lead") == adjust("unit", "seat") == {"ok": True, "remaining": 3.0}


def test_members(ledger: Ledger) -> None:
    path = "customers/cus_1/members"
    member = call(ledger, "POST", f"/api/v1/{path}", {"name": "A", "email": "a@b.c"})[1]["member"]
    assert patch(ledger, f"{path}/{member['id']}", {"name": "B"})["name"] == "B"
    assert [each["name"] for each in fetch(ledger, path)["members"]] == ["B"]
    assert call(ledger, "DELETE", f"/api/v1/{path}/{member['id']}") == (200, {"ok": True})
    assert fetch(ledger, path)["members"] == []


def test_employee_ids(ledger: Ledger) -> None:
    path = "customers/cus_1/members"
    for number, status in ((1, 201), (2, 409)):
        body = {"name": "A", "email": f"{number}@b.c", "employeeId": "E1"}
        assert call(ledger, "POST", f"/api/v1/{path}", body)[0] == status


# The catalogue


def test_is_active(ledger: Ledger) -> None:
    plan = plan_of(ledger, {"type": "FLAT", "amount": 1})
    assert patch(ledger, f"plans/{plan}", {"isActive": False})["isActive"] is False
    assert patch(ledger, f"plans/{plan}", {**PLAN, "isActive": True})["isActive"] is False
    assert patch(ledger, f"plans/{plan}", {"isActive": True})["isActive"] is True
    assert patch(ledger, f"plans/{plan}", {**PLAN, "isActive": False})["isActive"] is True


def test_full_edits(ledger: Ledger) -> None:
    credit = {"name": "G", "agentKey": "g", "basePrice": 1, "marginPercent": 50, "description": "d"}
    made = create(ledger, "credits", credit)
    changed = patch(ledger, f"credits/{made['id']}", {"name": "H", "agentKey": "g", "basePrice": 1})
    assert (changed["marginPercent"], changed["description"]) == (0, None)


def test_prices_as_sent(ledger: Ledger) -> None:
    credit = {"name": "G", "agentKey": "g", "basePrice": 0.01, "marginPercent": 0, "pricePerCredit": 0.05}
    made = create(ledger, "credits", credit)
    assert made["pricePerCredit"] == 0.05
    buy(ledger, plan_of(ledger, {"type": "CREDIT", "creditId": made["id"], "quantity": 100}))
    assert fetch(ledger, "invoices")["invoices"][0]["amount"] == 5
    steps = [{"name": "S", "agentKey": "s", "basePrice": 1}]
    outcome = {"name": "O", "basePrice": 1, "marginPercent": 100, "pricePerOutcome": 7, "steps": steps}
    assert create(ledger, "outcomes", outcome)["pricePerOutcome"] == 7


def test_margins(ledger: Ledger) -> None:
    for margin, status in ((0, 201), (300, 201), (-1, 400), (300.1, 400)):
        body = {"name": "G", "agentKey": f"g{margin}".replace("-", "_"), "basePrice": 1}
        assert call(ledger, "POST", "/api/v1/credits", {**body, "marginPercent": margin})[0] == status


def test_tokens_per_credit(ledger: Ledger) -> None:
    body = {"name": "API credit", "agentKey": "api_credit", "basePrice": 0.01, "tokensPerCredit": 9}
    before = send(ledger, dryRun=True, customerId="cus_123")[1]["result"]["usageLog"]["creditsUsed"]
    assert patch(ledger, "credits/api_credit", body)["tokensPerCredit"] == 9
    assert send(ledger, customerId="cus_123")[1]["result"]["usageLog"]["creditsUsed"] == before


def test_agent_keys(ledger: Ledger) -> None:
    for key in ("api_credit", "qualified_lead.score", "seat"):
        for path, body in (
            ("credits", {"agentKey": key, "basePrice": 1}),
            ("outcomes", {"pricePerOutcome": 1, "steps": [{"name": "S", "agentKey": key}]}),
            ("units-catalog", {"agentKey": key, "pricingType": "FLAT"}),
        ):
            assert refused(ledger, "POST", path, {"name": "N", **body})[0] == 422
    assert refused(ledger, "POST", "credits", {"name": "N", "agentKey": "A!", "basePrice": 1})[0] == 400


def test_outcome_fields(ledger: Ledger) -> None:
    steps = [{"name": "S", "agentKey": "s"}]
    body = {"name": "O", "basePrice": 2, "marginPercent": 50, "pricePerOutcome": 3, "steps": steps}
    made = create(ledger, "outcomes", body)
    assert (made["basePrice"], made["marginPercent"], "agentKey" in made) == (2, 50, False)


def test_steps(ledger: Ledger) -> None:
    def status_of(*steps: tuple[str, str]) -> int:
        rows = [{"name": name, "agentKey": key} for name, key in steps]
        body = {"name": "O", "pricePerOutcome": 1, "steps": rows}
        return call(ledger, "POST", "/api/v1/outcomes", body)[0]

    fifty = [(f"S{n}", f"s{n}") for n in range(50)]
    assert (status_of(), status_of(*fifty, ("x", "x")), status_of(*fifty)) == (400, 400, 201)
    assert status_of(("A", "a"), ("A", "b")) == status_of(("A", "a"), ("B", "a")) == 400


def test_tiers(ledger: Ledger) -> None:
    def status_of(*bounds: int | None) -> int:
        tiers = [{"upTo": bound, "price": 1} for bound in bounds]
        body = {"name": "U", "agentKey": f"u{len(bounds)}", "pricingType": "SLAB", "tiers": tiers}
        return call(ledger, "POST", "/api/v1/units-catalog", body)[0]

    assert (status_of(), status_of(*range(1, 52)), status_of(None, 5)) == (400, 400, 400)
    assert (status_of(*range(1, 51)), status_of(5, None)) == (201, 201)


def test_missing_quantities(ledger: Ledger) -> None:
    parts: tuple[dict[str, str], ...] = ({"type": "WALLET"}, {"type": "CREDIT", "creditId": "api_credit"})
    for part in parts:
        body = {**PLAN, "components": [{"billingMode": "ADVANCE", **part}]}
        assert refused(ledger, "POST", "plans", body)[0] == 422


def test_free_plans(ledger: Ledger) -> None:
    parts: tuple[dict[str, object], ...] = (
        {"type": "FLAT", "amount": 1},
        {"type": "WALLET", "amount": 1, "billingMode": "ARREAR"},
    )
    for part in parts:
        body = {**PLAN, "billingCycle": "FREE", "components": [{"billingMode": "ADVANCE", **part}]}
        assert refused(ledger, "POST", "plans", body)[0] == 422


def test_carry_forward(ledger: Ledger) -> None:
    shown = create(ledger, "plans", {**PLAN, "carryForward": True})
    assert "carryForward" not in shown


def test_wallet_funded_arrear_needs(ledger: Ledger) -> None:
    wallet: dict[str, object] = {"type": "WALLET", "amount": 1}
    late: dict[str, object] = {"type": "UNIT", "unitId": "seat", "billingMode": "ARREAR"}
    for parts in ([wallet], [late], [late, {**wallet, "billingMode": "ARREAR"}]):
        sold = [{"billingMode": "ADVANCE", **part} for part in parts]
        body = {**PLAN, "walletFundedArrear": True, "components": sold}
        assert refused(ledger, "POST", "plans", body)[0] == 422
    plan = plan_of(ledger, wallet, late, walletFundedArrear=True)
    assert fetch(ledger, f"plans/{plan}")["plan"]["walletFundedArrear"] is True


def test_orders(ledger: Ledger) -> None:
    plans = [plan_of(ledger, {"type": "FLAT", "amount": 1}) for _ in range(2)]
    assert ids(ledger, "plans")[-2:] == plans
    bought = [buy(ledger, plan, autoPayment=True)["id"] for plan in plans]
    assert ids(ledger, "purchases")[:2] == bought[::-1]
    assert ids(ledger, "invoices") == ["inv_2", "inv_1"]
    assert ids(ledger, "payments") == ["pay_2", "pay_1"]


def test_active_only(ledger: Ledger) -> None:
    for path in ("plans", "credits", "outcomes", "units-catalog"):
        key = "units" if path == "units-catalog" else path
        first, *others = [row["id"] for row in fetch(ledger, path)[key]]
        patch(ledger, f"{path}/{first}", {"isActive": False})
        assert [row["id"] for row in fetch(ledger, f"{path}?active=true")[key]] == others
    listed = fetch(Ledger(EXAMPLE), "models?active=true")["models"]
    assert [model["modelId"] for model in listed] == ["example"]


def test_deletions(ledger: Ledger) -> None:
    plan = plan_of(ledger, {"type": "FLAT", "amount": 1})
    purchase = buy(ledger, plan)["id"]
    assert call(ledger, "POST", f"/api/v1/purchases/{purchase}/cancel")[0] == 200
    assert refused(ledger, "DELETE", f"plans/{plan}")[0] == 422
    credit = create(ledger, "credits", {"name": "G", "agentKey": "g", "basePrice": 1})["id"]
    held = {"creditId": credit, "amount": 1}
    assert call(ledger, "POST", "/api/v1/customers/cus_1/credits/adjust", held)[0] == 200
    assert refused(ledger, "DELETE", f"credits/{credit}")[0] == 422


def test_enabling_models(ledger: Ledger) -> None:
    def enable(provider: str, model: str) -> tuple[int, dict[str, Any]]:
        body = {"provider": provider, "modelId": model, "pricingMode": "AUTO"}
        return call(ledger, "POST", "/api/v1/models", body)

    assert [enable("openai", "gpt-4.1")[0] for _ in range(2)] == [201, 200]
    assert enable("meta", "llama-preview")[1]["model"]["inputPrice"] == 0
    assert enable("openai", "x")[0] == enable("x", "gpt-4.1")[0] >= 400


# Purchases, invoices and webhooks


def test_due_at_purchase(ledger: Ledger) -> None:
    parts = (
        {"type": "WALLET", "amount": 10},
        {"type": "FLAT", "amount": 5},
        {"type": "CREDIT", "creditId": "api_credit", "quantity": 100},
        {"type": "UNIT", "unitId": "seat", "billingMode": "ARREAR"},
    )
    buy(ledger, plan_of(ledger, *parts, priceAdjustment=-0.3))
    assert fetch(ledger, "invoices")["invoices"][0]["amount"] == 16


def test_no_invoice(ledger: Ledger) -> None:
    buy(ledger, plan_of(ledger, {"type": "WALLET", "amount": 10}, billingCycle="FREE", priceAdjustment=1))
    buy(ledger, plan_of(ledger, {"type": "FLAT", "amount": 9, "billingMode": "ARREAR"}, priceAdjustment=1))
    assert fetch(ledger, "invoices")["invoices"] == []


def test_wallet_funded_arrear(ledger: Ledger) -> None:
    parts = (
        {"type": "WALLET", "amount": 0.01},
        {"type": "CREDIT", "creditId": "api_credit", "billingMode": "ARREAR"},
        {"type": "UNIT", "unitId": "report", "billingMode": "ARREAR"},
    )
    customer = create(ledger, "customers", {"name": "A", "email": "a@b.c"})["id"]
    buy(ledger, plan_of(ledger, *parts, walletFundedArrear=True), customer)
    assert send(ledger, customerId=customer)[0] == 200  # 0.0209625 with the margin
    assert call(ledger, "POST", "/api/v1/units", {"customerId": customer, "agentKey": "report"})[0] == 200
    assert ledger.balance(customer) == Decimal("-0.5109625")
    top_up = {"type": "TOPUP", "amount": 1}
    assert call(ledger, "POST", f"/api/v1/customers/{customer}/wallet", top_up)[1]["balance"] == 0.4890375


def test_one_purchase_at_a_time(ledger: Ledger) -> None:
    first, second = (buy(ledger, "plan_wallet")["id"] for _ in range(2))
    assert fetch(ledger, f"purchases/{first}")["purchase"]["status"] == "CANCELLED"
    third = buy(ledger, "plan_wallet", billingDate="2026-07-02")["id"]
    assert fetch(ledger, f"purchases/{second}")["purchase"]["status"] == "ACTIVE"
    shown = call(ledger, "GET", "/api/v1/customers/cus_123/plan", now=NOW + DAY)[1]
    assert shown["purchase"]["id"] == third
    assert fetch(ledger, f"purchases/{second}")["purchase"]["status"] == "CANCELLED"


def test_billing_date(ledger: Ledger) -> None:
    for day in ("2026-06-30", "2026-02-30", "1 July", "2026-07-01T00:00:00Z"):
        body = {"customerId": "cus_123", "planId": "plan_wallet", "billingDate": day}
        assert refused(ledger, "POST", "purchases", body)[0] == 400
    assert buy(ledger, "plan_wallet", billingDate="2026-07-01")["status"] == "ACTIVE"


def test_purchase_calls(ledger: Ledger) -> None:
    purchase = f"purchases/{buy(ledger, 'plan_wallet')['id']}"
    for asked in ({"autoPayment": True}, {"autoPayment": False, "pauseReason": "r"}):
        assert asked.items() <= patch(ledger, purchase, asked).items()
    assert call(ledger, "POST", f"/api/v1/{purchase}/cancel")[1]["purchase"]["status"] == "CANCELLED"


def test_list_filters(ledger: Ledger) -> None:
    for customer in ("cus_123", "cus_456", "cus_123"):
        buy(ledger, "plan_wallet", customer, autoPayment=True)
    for path in ("purchases", "invoices", "payments"):
        rows = fetch(ledger, f"{path}?customerId=cus_123&limit=1")[path]
        assert [row["customerId"] for row in rows] == ["cus_123"]
    active = fetch(ledger, "purchases?status=ACTIVE&customerId=cus_123")["purchases"]
    assert [row["id"] for row in active] == ["pur_3"]
    assert len(fetch(ledger, "invoices?status=PAID")["invoices"]) == 3
    assert fetch(ledger, "invoices?status=OPEN")["invoices"] == []


def test_pay_links(ledger: Ledger) -> None:
    buy(ledger, "plan_wallet", autoPayment=True)
    assert refused(ledger, "GET", "invoices/inv_1/pay-link")[0] == 409
    void = buy(ledger, "plan_wallet")["id"]
    assert fetch(ledger, "invoices/inv_2/pay-link")["url"]
    assert call(ledger, "POST", f"/api/v1/purchases/{void}/cancel")[0] == 200
    assert refused(ledger, "GET", "invoices/inv_2/pay-link")[0] == 409


def test_webhooks(ledger: Ledger) -> None:
    body = {"kind": "WALLET_LOW", "url": "https://x.example"}
    assert call(ledger, "POST", "/api/v1/webhooks", body)[0] == 200
    for _ in range(2):
        assert call(ledger, "DELETE", "/api/v1/webhooks/WALLET_LOW") == (200, {"ok": True})
    assert fetch(ledger, "webhooks")["webhooks"] == []


# The newer ingest


def test_ingest_thin() -> None:
    assert taken("thin", {"customerId": "x", "inputTokens": 1e3, "outputTokens": 2.0, "type": 7})[0] == 202
    for name in ("customerId", "inputTokens", "outputTokens"):
        assert reason("thin", signal(**{name: None})) == "INVALID_BODY"
    assert taken("thin", signal(), authorization="Bearer whatever")[0] == 202
    assert set(taken("thin", signal())[1]["result"]) == {"signalId", "receivedAt", "accepted"}


def test_ingest_thick() -> None:
    assert taken("thick", signal(type=" CREDIT ", agentKey=None, key="API_CREDIT"))[0] == 202
    assert taken("thick", signal(member="anyone", status="ANY"))[0] == 202
    assert reason("thick", signal(type="unit")) == "INVALID_BODY"
    assert reason("thick", signal(type="outcome")) == "INVALID_BODY"
    assert taken("thick", signal(type="outcome", runId="r"))[0] == 202
    assert reason("thick", signal(), authorization="Bearer whatever") == "API_KEY_REJECTED"


def test_ingest_queued() -> None:
    for body in (b"{", b"", signal(inputTokens=-1), signal(custom={"x": "y" * 40_000})):
        status, content = taken("thick-queued", body)
        assert (status, content["statusDetail"]["message"]) == (202, "Processing in the queue.")
        assert content["result"] == {**content["result"], "status": "PENDING"}
        assert set(content["result"]) == {"signalId", "receivedAt", "status"}
    assert reason("thick-queued", b"{", authorization=None) == "API_KEY_MISSING"
    assert reason("thick-queued", signal(), authorization="Bearer x") == "API_KEY_REJECTED"


def test_ingest_repeats() -> None:
    for state in STATES:
        ledger = Ledger(EXAMPLE, accept_only=state)
        answers = [call(ledger, "POST", SIGNAL, signal())[1]["result"]["signalId"] for _ in range(2)]
        assert (len(set(answers)), ledger.billed("idem-1")) == (2, 2)


def test_ingest_dry_runs() -> None:
    ledger = Ledger(EXAMPLE, accept_only="thin")
    assert call(ledger, "POST", SIGNAL, signal(dryRun=True))[0] == 202
    assert len(ledger.signals) == 1


def test_ingest_scheme() -> None:
    for state in STATES:
        assert taken(state, signal(), authorization=KEY.replace("Bearer ", "bEARER   "))[0] == 202
        for wrong in (None, "Basic x", "Bearer ", "cnk_x"):
            assert reason(state, signal(), authorization=wrong) == "API_KEY_MISSING"


def test_ingest_receipts() -> None:
    for state in STATES:
        ledger = Ledger(EXAMPLE, accept_only=state)
        for path, key in ((SIGNAL, None), ("/nope", KEY)):
            result = call(ledger, "POST", path, signal(), authorization=key)[1]["result"]
            assert {"errorReason", "signalId", "receivedAt"} == set(result)


def test_ingest_first_issue() -> None:
    content = taken("thick", signal(customerId="", inputTokens=-1))[1]
    assert content["statusDetail"]["message"] == "customerId: must NOT have fewer than 1 characters"
    assert {issue["field"] for issue in content["result"]["issues"]} == {"customerId", "inputTokens"}


def test_ingest_prototypes() -> None:
    for poison in ('{"__proto__":1}', '{"a":[{"constructor":{"prototype":1}}]}'):
        raw = received("POST", SIGNAL, signal(custom={"x": "RAW"})).body.replace(b'"RAW"', poison.encode())
        assert reason("thick", raw) == reason("thin", raw) == "MALFORMED_JSON"


def test_ingest_connections() -> None:
    for state in STATES:
        ledger = Ledger(EXAMPLE, accept_only=state)
        for body, closes in (
            (b"{", True),
            (b"", True),
            (b"x" * 70_000, True),
            (signal(), False),
            (b"[]", False),
        ):
            response = ledger.handle(received("POST", SIGNAL, body), now=NOW)
            assert (response.header("connection") == "close") is closes
            assert response.header("keep-alive") == (None if closes else "timeout=72")
            assert response.header("content-type") == "application/json; charset=utf-8"


def test_ingest_methods() -> None:
    for state in STATES:
        for method in ("GET", "PUT", "DELETE"):
            answer = call(Ledger(accept_only=state), method, SIGNAL)
            assert refusal(answer)[::2] == (404, "NOT_FOUND")
        answer = call(Ledger(accept_only=state), "PUT", SIGNAL, b"{")
        assert refusal(answer)[::2] == (400, "MALFORMED_JSON")


def test_ingest_health() -> None:
    for state in STATES:
        status, content = call(Ledger(accept_only=state), "GET", "/health", authorization=None)
        assert (status, content["status"]) == (200, "ok")


def test_the_page_and_this_table_are_the_same() -> None:
    page = (DOCS / "protocol.md").read_text(encoding="utf-8")
    facts = re.findall(
        r"^\| `([a-z_0-9]+)` \| .* \| (?:mission|clients|MCP|ingest|guess)", page, re.MULTILINE
    )
    tests = [name.removeprefix("test_") for name in globals() if name.startswith("test_")]
    assert tests[:-1] == facts
    assert len(facts) > 60
