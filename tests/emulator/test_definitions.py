"""Plans, credits, outcomes and units: what they have in common, and what each of them checks."""

from typing import Any

import pytest

from clocknext_transports.emulator import Catalogue, Customer, Ledger
from tests.emulator.support import call, create, fetch, refused, send

CREDIT = {"name": "Gold", "agentKey": "gold", "basePrice": 0.5, "marginPercent": 20}
OUTCOME = {
    "name": "Won",
    "pricePerOutcome": 5,
    "steps": [{"name": "Ask", "agentKey": "won.ask"}, {"name": "Sign", "agentKey": "won.sign"}],
}
UNIT = {"name": "Page", "agentKey": "page", "pricingType": "FLAT", "flatPrice": 0.25}
PLAN = {
    "name": "Pro",
    "billingCycle": "MONTHLY",
    "components": [{"type": "WALLET", "billingMode": "ADVANCE", "amount": 10}],
}
KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("credits", "credit", CREDIT),
    ("outcomes", "outcome", OUTCOME),
    ("units-catalog", "unit", UNIT),
    ("plans", "plan", PLAN),
]
every_kind = pytest.mark.parametrize(("path", "noun", "body"), KINDS, ids=[kind[1] for kind in KINDS])


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def ids(ledger: Ledger, path: str, query: str = "") -> list[str]:
    (rows,) = [value for name, value in fetch(ledger, path + query).items() if name != "ok"]
    return [row["id"] for row in rows]


@every_kind
def test_a_definitions_life(ledger: Ledger, path: str, noun: str, body: dict[str, Any]) -> None:
    before = ids(ledger, path)
    made = create(ledger, path, {**body, "description": "new"})
    assert made["isActive"] is True
    assert made["description"] == "new"
    assert fetch(ledger, f"{path}/{made['id']}") == {"ok": True, noun: made}
    assert ids(ledger, path) == [*before, made["id"]]
    assert call(ledger, "DELETE", f"/api/v1/{path}/{made['id']}") == (200, {"ok": True})
    assert ids(ledger, path) == before
    for method, sent in (("GET", None), ("DELETE", None), ("PATCH", {"isActive": True})):
        assert refused(ledger, method, f"{path}/{made['id']}", sent) == (
            404,
            f'No {noun} with id "{made["id"]}".',
        )


@every_kind
def test_an_update_replaces_and_does_not_merge(
    ledger: Ledger, path: str, noun: str, body: dict[str, Any]
) -> None:
    made = create(ledger, path, {**body, "description": "old"})
    status, content = call(ledger, "PATCH", f"/api/v1/{path}/{made['id']}", {**body, "name": "Other"})
    assert status == 200
    assert content[noun] == {**made, "name": "Other", "description": None}
    partial = {"name": "Half"}
    assert refused(ledger, "PATCH", f"{path}/{made['id']}", partial)[0] == 400
    assert fetch(ledger, f"{path}/{made['id']}")[noun]["name"] == "Other"


def renamed(body: dict[str, Any]) -> dict[str, Any]:
    """The same definition under other agent keys."""
    other = body | ({"agentKey": "other"} if "agentKey" in body else {})
    return other | ({"steps": [{"name": "A", "agentKey": "other.a"}]} if "steps" in body else {})


@every_kind
def test_is_active_alone_is_set_and_the_rest_stays(
    ledger: Ledger, path: str, noun: str, body: dict[str, Any]
) -> None:
    made = create(ledger, path, body)
    target = f"/api/v1/{path}/{made['id']}"
    assert call(ledger, "PATCH", target, {"isActive": False})[1][noun] == {**made, "isActive": False}
    assert made["id"] in ids(ledger, path, "?active=false")
    assert made["id"] not in ids(ledger, path, "?active=true")
    assert made["id"] in ids(ledger, path)
    assert call(ledger, "PATCH", target, body)[1][noun]["isActive"] is False
    assert call(ledger, "PATCH", target, {**body, "isActive": True})[1][noun]["isActive"] is False
    assert call(ledger, "PATCH", target, {"isActive": True})[1][noun] == made
    assert call(ledger, "PATCH", target, {**body, "isActive": False})[1][noun]["isActive"] is True
    retired = create(ledger, path, {**renamed(body), "isActive": False})
    assert retired["isActive"] is False
    assert refused(ledger, "PATCH", f"{path}/{made['id']}", {"isActive": "no"}) == (
        400,
        "isActive: must be true or false",
    )
    assert call(ledger, "GET", f"/api/v1/{path}?active=maybe")[0] == 400


@pytest.mark.parametrize(
    ("path", "user"),
    [
        ("credits/api_credit", 'The credit "API credit" is in use by the plan "Scale".'),
        ("outcomes/qualified_lead", 'The outcome "Qualified lead" is in use by the plan "Scale".'),
        ("units-catalog/report", 'The unit "Report" is in use by the plan "Scale".'),
        (
            "plans/plan_wallet",
            'The plan "Wallet only" is in use by the purchase "pur_cus_wallet" of customer "cus_wallet".',
        ),
    ],
)
def test_what_is_in_use_is_not_deleted(ledger: Ledger, path: str, user: str) -> None:
    assert refused(ledger, "DELETE", path) == (422, user)
    assert call(ledger, "GET", f"/api/v1/{path}")[0] == 200


def test_a_purchase_keeps_what_it_sold_in_use_and_the_plan_for_ever() -> None:
    ledger = Ledger(Catalogue(plans=(), customers=(), default_plan=None))
    customer = create(ledger, "customers", {"name": "A", "email": "a@b.c"})["id"]
    credit = create(ledger, "credits", CREDIT)["id"]
    component = {"type": "CREDIT", "billingMode": "ADVANCE", "creditId": credit, "quantity": 5}
    plan = create(ledger, "plans", {**PLAN, "components": [component]})["id"]
    purchase = create(ledger, "purchases", {"customerId": customer, "planId": plan})["id"]
    assert call(ledger, "PATCH", f"/api/v1/plans/{plan}", PLAN)[0] == 200
    user = f'the purchase "{purchase}" of customer "{customer}".'
    assert refused(ledger, "DELETE", f"credits/{credit}") == (
        422,
        f'The credit "Gold" is in use by the customer "{customer}".',
    )
    assert refused(ledger, "DELETE", f"plans/{plan}") == (422, f'The plan "Pro" is in use by {user}')
    assert call(ledger, "POST", f"/api/v1/purchases/{purchase}/cancel")[0] == 200
    assert call(ledger, "DELETE", f"/api/v1/credits/{credit}")[0] == 200
    assert refused(ledger, "DELETE", f"plans/{plan}") == (422, f'The plan "Pro" is in use by {user}')


def test_a_definition_that_a_customer_holds_is_not_deleted() -> None:
    ledger = Ledger(Catalogue(plans=(), customers=[Customer("cus_1")], default_plan=None))
    credit = create(ledger, "credits", CREDIT)["id"]
    held = {"creditId": credit, "amount": 1}
    assert call(ledger, "POST", "/api/v1/customers/cus_1/credits/adjust", held)[0] == 200
    assert refused(ledger, "DELETE", f"credits/{credit}") == (
        422,
        'The credit "Gold" is in use by the customer "cus_1".',
    )
    assert call(ledger, "DELETE", "/api/v1/customers/cus_1")[0] == 200
    assert call(ledger, "DELETE", f"/api/v1/credits/{credit}")[0] == 200


def test_the_catalogues_plans_are_listed_with_their_components(ledger: Ledger) -> None:
    plans = fetch(ledger, "plans")["plans"]
    assert [plan["id"] for plan in plans] == ["plan_scale", "plan_wallet"]
    assert plans[0]["components"][1] == {
        "type": "CREDIT",
        "billingMode": "ADVANCE",
        "creditId": "api_credit",
        "quantity": 100_000_000.0,
    }
    assert fetch(ledger, "customers/cus_123/plan")["plan"] == plans[0]


def test_a_credit_shows_what_one_costs(ledger: Ledger) -> None:
    assert create(ledger, "credits", {**CREDIT, "tokensPerCredit": 1000}) == {
        "id": "crd_1",
        "name": "Gold",
        "description": None,
        "agentKey": "gold",
        "basePrice": 0.5,
        "marginPercent": 20.0,
        "pricePerCredit": 0.6,
        "tokensPerCredit": 1000.0,
        "isActive": True,
    }


def test_an_outcome_shows_its_steps(ledger: Ledger) -> None:
    made = create(ledger, "outcomes", {**OUTCOME, "agentKey": "won"})
    assert (made["agentKey"], made["pricePerOutcome"]) == ("won", 5.0)
    assert (made["basePrice"], made["marginPercent"]) == (None, 0.0)
    bare = {"basePrice": 2, "marginPercent": 150, "steps": [{"name": "A", "agentKey": "a", "basePrice": 2}]}
    shown = create(ledger, "outcomes", {**OUTCOME, **bare})
    assert (shown["basePrice"], shown["marginPercent"], shown["pricePerOutcome"]) == (2.0, 150.0, 5.0)
    assert shown["steps"][0]["basePrice"] == 2.0
    assert "agentKey" not in shown
    assert made["steps"][1] == {"id": "won.sign", "name": "Sign", "agentKey": "won.sign", "basePrice": None}
    found = fetch(ledger, "outcomes/resolved_ticket")["outcome"]
    assert found["steps"][0]["agentKey"] == "resolved_ticket.triage"


@pytest.mark.parametrize(
    ("path", "changes", "message"),
    [
        ("credits", {"name": " "}, "name: must not be blank"),
        ("credits", {"agentKey": None}, "agentKey: must be a string"),
        ("credits", {"agentKey": "Gold!"}, "agentKey: must be lower case, of the characters a-z0-9._-"),
        ("credits", {"basePrice": 0}, "basePrice: must be above 0"),
        ("credits", {"basePrice": "1"}, "basePrice: must be a number"),
        ("credits", {"basePrice": True}, "basePrice: must be a number"),
        ("credits", {"basePrice": 1e300}, "basePrice: must be at most 1000000000000000"),
        ("credits", {"marginPercent": -1}, "marginPercent: must be at least 0"),
        ("credits", {"marginPercent": 301}, "marginPercent: must be at most 300"),
        ("credits", {"basePrice": 1e-13}, "basePrice: must be at least 0.000000000001"),
        ("credits", {"pricePerCredit": -1}, "pricePerCredit: must be at least 0"),
        ("outcomes", {"marginPercent": 300.5}, "marginPercent: must be at most 300"),
        ("outcomes", {"agentKey": "Won!"}, "agentKey: must be lower case, of the characters a-z0-9._-"),
        (
            "outcomes",
            {"steps": [{"name": "A", "agentKey": "a"}, {"name": "A", "agentKey": "b"}]},
            "steps: must have different names",
        ),
        ("plans", {"walletFundedArrear": 1}, "walletFundedArrear: must be true or false"),
        ("plans", {"priceAdjustment": "1"}, "priceAdjustment: must be a number"),
        ("plans", {"carryForward": "no"}, "carryForward: must be true or false"),
        ("credits", {"description": 7}, "description: must be a string or null"),
        ("outcomes", {"steps": []}, "steps: must be a list of one or more"),
        ("outcomes", {"steps": ["a"]}, "steps[0]: must be an object"),
        ("outcomes", {"steps": [{"name": "A"}]}, "steps[0].agentKey: is required"),
        (
            "outcomes",
            {"steps": [{"name": "A", "agentKey": "a"}, {"name": "B", "agentKey": "a"}]},
            "steps: must have different keys",
        ),
        (
            "outcomes",
            {"steps": [{"name": f"A{n}", "agentKey": f"s{n}"} for n in range(51)]},
            "steps: must be at most 50",
        ),
        ("units-catalog", {"pricingType": "ODD"}, "pricingType: must be one of FLAT, SLAB, VOLUME"),
        ("units-catalog", {"pricingType": "SLAB"}, "tiers: is required"),
        (
            "units-catalog",
            {"pricingType": "SLAB", "tiers": [{"upTo": None, "price": 1}, {"upTo": 9, "price": 1}]},
            "tiers[0].upTo: must be a number, except in the last tier",
        ),
        (
            "units-catalog",
            {"pricingType": "SLAB", "tiers": [{"upTo": 9, "price": 1}, {"upTo": 9, "price": 1}]},
            "tiers[1].upTo: must be above that of the tier before",
        ),
        ("units-catalog", {"pricingType": "VOLUME", "tiers": [{"upTo": 9}]}, "tiers[0].price: is required"),
        (
            "units-catalog",
            {"pricingType": "VOLUME", "tiers": [{"upTo": n + 1, "price": 1} for n in range(51)]},
            "tiers: must be at most 50",
        ),
        ("plans", {"components": None}, "components: must be a list of one or more"),
        (
            "plans",
            {"billingCycle": "DAILY"},
            "billingCycle: must be one of MONTHLY, QUARTERLY, SEMI_ANNUAL, YEARLY, EVERY_5_MIN, FREE",
        ),
        ("plans", {"currencyCode": "euro"}, "currencyCode: must be an ISO 4217 code such as USD"),
        (
            "plans",
            {"components": [{"type": "UNIT", "billingMode": "ARREAR"}]},
            "components[0].unitId: is required",
        ),
        (
            "plans",
            {"components": [{"type": "FLAT", "amount": 1, "billingMode": "LATER"}]},
            "components[0].billingMode: must be one of ADVANCE, ARREAR",
        ),
    ],
)
def test_each_field_is_validated(ledger: Ledger, path: str, changes: dict[str, object], message: str) -> None:
    (body,) = [kind[2] for kind in KINDS if kind[0] == path]
    assert refused(ledger, "POST", path, {**body, **changes}) == (400, message)
    assert ids(ledger, path) == ids(Ledger(), path)


def test_what_is_required_is_named(ledger: Ledger) -> None:
    assert refused(ledger, "POST", "credits", {}) == (
        400,
        "name: is required; agentKey: is required; basePrice: is required",
    )
    assert refused(ledger, "POST", "plans", {"name": "P"}) == (
        400,
        "billingCycle: is required; components: is required",
    )


def component(**fields: object) -> dict[str, object]:
    return {"billingMode": "ADVANCE", **fields}


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"type": "WALLET", "billingMode": "ADVANCE"}, "amount"),
        ({"type": "WALLET", "billingMode": "ARREAR"}, "amount"),
        ({"type": "FLAT", "billingMode": "ADVANCE", "amount": None}, "amount"),
        ({"type": "CREDIT", "billingMode": "ADVANCE", "creditId": "api_credit"}, "quantity"),
        ({"type": "UNIT", "billingMode": "ADVANCE", "unitId": "report", "quantity": None}, "quantity"),
    ],
)
def test_a_missing_quantity_or_amount_is_no_plan(
    ledger: Ledger, fields: dict[str, object], name: str
) -> None:
    body = {**PLAN, "components": [fields]}
    assert refused(ledger, "POST", "plans", body) == (422, f"components[0].{name}: is required")


def test_a_price_is_stored_as_sent_and_never_computed_again(ledger: Ledger) -> None:
    sent = {**CREDIT, "basePrice": 0.01, "marginPercent": 0, "pricePerCredit": 0.05}
    credit = create(ledger, "credits", sent)
    assert credit["pricePerCredit"] == 0.05
    component = {"type": "CREDIT", "billingMode": "ADVANCE", "creditId": credit["id"], "quantity": 100}
    plan = create(ledger, "plans", {**PLAN, "components": [component]})["id"]
    create(ledger, "purchases", {"customerId": "cus_123", "planId": plan})
    assert fetch(ledger, "invoices")["invoices"][0]["amount"] == 5.0
    cost = {"model": "gpt-4o", "inputTokens": 4000, "outputTokens": 0, "cacheTokens": 0}
    log = send(ledger, customerId="cus_123", agentKey="gold", **cost)[1]["result"]["usageLog"]
    assert (log["creditsUsed"], log["customerCost"]) == (1.0, 0.05)
    again = {**sent, "marginPercent": 300, "pricePerCredit": 0}
    assert call(ledger, "PATCH", f"/api/v1/credits/{credit['id']}", again)[1]["credit"]["pricePerCredit"] == 0


@pytest.mark.parametrize(
    ("components", "message"),
    [
        ([{"type": "WALLET", "amount": 1}], "walletFundedArrear needs a credit, outcome or unit in ARREAR."),
        (
            [{"type": "CREDIT", "creditId": "api_credit", "billingMode": "ARREAR"}],
            "walletFundedArrear needs a WALLET component in ADVANCE.",
        ),
        (
            [
                {"type": "UNIT", "unitId": "report", "billingMode": "ARREAR"},
                {"type": "WALLET", "amount": 1, "billingMode": "ARREAR"},
            ],
            "walletFundedArrear needs a WALLET component in ADVANCE.",
        ),
        (
            [
                {"type": "UNIT", "unitId": "report", "quantity": 1},
                {"type": "WALLET", "amount": 1},
                {"type": "FLAT", "amount": 1, "billingMode": "ARREAR"},
            ],
            "walletFundedArrear needs a credit, outcome or unit in ARREAR.",
        ),
    ],
)
def test_arrear_that_the_wallet_funds_needs_both(
    ledger: Ledger, components: list[dict[str, object]], message: str
) -> None:
    body = {**PLAN, "walletFundedArrear": True, "components": [component(**each) for each in components]}
    assert refused(ledger, "POST", "plans", body) == (422, message)


def test_a_plan_keeps_its_funding_and_its_adjustment(ledger: Ledger) -> None:
    parts = [
        component(type="WALLET", amount=1),
        component(type="CREDIT", creditId="api_credit", billingMode="ARREAR"),
    ]
    sent = {**PLAN, "walletFundedArrear": True, "priceAdjustment": -0.5, "carryForward": True}
    plan = create(ledger, "plans", {**sent, "components": parts})
    assert (plan["walletFundedArrear"], plan["priceAdjustment"]) == (True, -0.5)
    cleared = call(ledger, "PATCH", f"/api/v1/plans/{plan['id']}", PLAN)[1]["plan"]
    assert (cleared["walletFundedArrear"], cleared["priceAdjustment"]) == (False, 0.0)
    too_low = {**sent, "walletFundedArrear": False, "priceAdjustment": -1.01, "components": parts}
    assert refused(ledger, "POST", "plans", too_low) == (
        422,
        "priceAdjustment must not take the price due at purchase below zero.",
    )
    free = {**PLAN, "billingCycle": "FREE", "priceAdjustment": -100}
    assert create(ledger, "plans", free)["priceAdjustment"] == 0.0


@pytest.mark.parametrize(
    ("components", "status", "message"),
    [
        ([component(type="CREDIT", creditId="nope", quantity=1)], 404, 'No credit with id "nope".'),
        (
            [component(type="WALLET", amount=1), component(type="WALLET", amount=2)],
            422,
            "A plan has each component once.",
        ),
        (
            [component(type="UNIT", unitId="report", quantity=1)] * 2,
            422,
            "A plan has each component once.",
        ),
        (
            [component(type="FLAT", amount=1)],
            422,
            "A FREE plan has components in ADVANCE only, and none of type FLAT.",
        ),
        (
            [{"type": "UNIT", "billingMode": "ARREAR", "unitId": "report"}],
            422,
            "A FREE plan has components in ADVANCE only, and none of type FLAT.",
        ),
    ],
)
def test_a_plan_must_make_sense(ledger: Ledger, components: list[object], status: int, message: str) -> None:
    body = {**PLAN, "billingCycle": "FREE", "components": components}
    assert refused(ledger, "POST", "plans", body) == (status, message)


def test_a_retired_credit_cannot_be_put_in_a_plan_and_goes_on_working_in_others(ledger: Ledger) -> None:
    assert call(ledger, "PATCH", "/api/v1/credits/api_credit", {"isActive": False})[0] == 200
    body = {**PLAN, "components": [component(type="CREDIT", creditId="api_credit", quantity=1)]}
    assert refused(ledger, "POST", "plans", body) == (422, 'The credit "API credit" is not active.')
    assert send(ledger, customerId="cus_123", model="gpt-4o")[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (
            "credits",
            {**CREDIT, "agentKey": "api_credit"},
            'The agent key "api_credit" is taken by the credit "API credit".',
        ),
        (
            "outcomes",
            {**OUTCOME, "steps": [{"name": "T", "agentKey": "resolved_ticket.triage"}]},
            'The agent key "resolved_ticket.triage" is taken by the outcome "Resolved ticket".',
        ),
        (
            "units-catalog",
            {**UNIT, "agentKey": "report"},
            'The agent key "report" is taken by the unit "Report".',
        ),
        (
            "credits",
            {**CREDIT, "agentKey": "qualified_lead.score"},
            'The agent key "qualified_lead.score" is taken by the outcome "Qualified lead".',
        ),
        (
            "outcomes",
            {**OUTCOME, "steps": [{"name": "T", "agentKey": "seat"}]},
            'The agent key "seat" is taken by the unit "Seat".',
        ),
        (
            "units-catalog",
            {**UNIT, "agentKey": "chat_credit"},
            'The agent key "chat_credit" is taken by the credit "Chat credit".',
        ),
    ],
)
def test_agent_keys_are_unique_in_the_organisation(
    ledger: Ledger, path: str, body: dict[str, object], message: str
) -> None:
    assert refused(ledger, "POST", path, body) == (422, message)


def test_a_new_key_takes_the_place_of_the_old_and_balances_stay(ledger: Ledger) -> None:
    made = create(ledger, "credits", CREDIT)
    adjusted = {"creditId": made["id"], "amount": 10}
    assert call(ledger, "POST", "/api/v1/customers/cus_123/credits/adjust", adjusted) == (200, {"ok": True})
    assert call(ledger, "PATCH", f"/api/v1/credits/{made['id']}", {**CREDIT, "agentKey": "au"})[0] == 200
    cost = {"model": "gpt-4o", "inputTokens": 200_000, "outputTokens": 0, "cacheTokens": 0}
    assert send(ledger, customerId="cus_123", agentKey="gold", **cost)[0] == 422
    assert send(ledger, customerId="cus_123", agentKey="au", **cost)[0] == 200
    assert ledger.balance("cus_123", "au") == ledger.balance("cus_123", made["id"]) == 9
