"""Purchases, and the invoices and payments they make."""

from decimal import Decimal
from typing import Any

import pytest

from clocknext_transports.emulator import (
    Catalogue,
    Component,
    Credit,
    Customer,
    Ledger,
    Outcome,
    Plan,
    Tier,
    Unit,
)
from tests.emulator.support import EXAMPLE, NOW, call, create, fetch, refused, send

TIERS = (Tier(1000, "0.01"), Tier(None, "0.005"))
PRO = Plan(
    "pro",
    wallet=1000,
    credits={"gold": 100},
    outcomes={"won": 50},
    units={"page": 10_000},
    components=[Component("FLAT", 50), Component("CREDIT", None, "silver", arrear=True)],
)
CATALOGUE = Catalogue(
    models=EXAMPLE.models,
    credits=[
        Credit("gold", base_price="0.5", margin_percent=30),
        Credit("silver", base_price="0.001"),
        Credit("example", base_price="0.645", margin_percent=30),
    ],
    outcomes=[Outcome("won", steps=["won.it"], price="0.375")],
    units=[Unit("page", pricing="SLAB", tiers=TIERS), Unit("four", flat_price=4)],
    plans=[
        PRO,
        Plan("basic", name="Basic", wallet=5),
        Plan("free", billing_cycle="FREE", wallet=7, credits={"gold": 10}),
        Plan("rounded", wallet=10, price_adjustment="-0.01"),
        Plan("late", wallet=3, arrear=True, price_adjustment=5),
        Plan(
            "funded",
            wallet="0.01",
            wallet_funded_arrear=True,
            components=[
                Component("CREDIT", None, "example", arrear=True),
                Component("OUTCOME", None, "won", arrear=True),
                Component("UNIT", None, "four", arrear=True),
            ],
        ),
    ],
    customers=[Customer("cus_1"), Customer("cus_2", plan="basic")],
    default_plan="basic",
)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(CATALOGUE)


def buy(ledger: Ledger, plan: str = "pro", customer: str = "cus_1", **fields: object) -> dict[str, Any]:
    return create(ledger, "purchases", {"customerId": customer, "planId": plan, **fields})


def test_a_purchase_grants_what_the_plan_includes(ledger: Ledger) -> None:
    assert buy(ledger, notes="n") == {
        "id": "pur_1",
        "customerId": "cus_1",
        "planId": "pro",
        "status": "ACTIVE",
        "autoPayment": False,
        "pauseReason": None,
        "billingDate": None,
        "notes": "n",
        "voidAfterMinutes": None,
        "createdAt": "2026-07-01T10:00:00.000Z",
        "cancelledAt": None,
    }
    balances = fetch(ledger, "customers/cus_1/balances")
    assert balances["wallet"]["balance"] == 1000
    assert balances["credits"] == [
        {"creditId": "gold", "creditName": "gold", "remaining": 100.0},
        {"creditId": "silver", "creditName": "silver", "remaining": 0.0},
    ]
    assert balances["outcomes"] == [{"outcomeId": "won", "outcomeName": "won", "remaining": 50.0}]
    assert balances["units"] == [{"unitId": "page", "unitName": "page", "remaining": 10_000.0}]
    plan = fetch(ledger, "customers/cus_1/plan")
    assert (plan["plan"]["id"], plan["purchase"]["id"]) == ("pro", "pur_1")


def test_each_component_is_billed_its_own_way(ledger: Ledger) -> None:
    buy(ledger)
    assert send(ledger, agentKey="silver", idempotencyKey="a")[0] == 200
    assert ledger.balance("cus_1", "silver") == Decimal("-16.125")
    assert send(ledger, agentKey="gold", inputTokens=10**8, idempotencyKey="b")[0] == 422


def test_what_is_billed_in_advance_is_invoiced_exactly(ledger: Ledger) -> None:
    buy(ledger)
    (invoice,) = fetch(ledger, "invoices")["invoices"]
    assert (invoice["status"], invoice["amount"]) == ("OPEN", 1000 + 100 * 0.65 + 50 * 0.375 + 55 + 50)
    assert [(line["type"], line["price"]) for line in invoice["lines"]] == [
        ("WALLET", 1000.0),
        ("CREDIT", 65.0),
        ("OUTCOME", 18.75),
        ("UNIT", 55.0),
        ("FLAT", 50.0),
    ]
    read = fetch(ledger, f"invoices/{invoice['id']}")
    assert read == {"ok": True, "invoice": invoice, "plan": fetch(ledger, "plans/pro")["plan"]}
    link = fetch(ledger, f"invoices/{invoice['id']}/pay-link")
    assert (link["invoiceId"], link["url"]) == ("inv_1", "https://pay.emulator.invalid/inv_1")
    assert fetch(ledger, "payments")["payments"] == []


@pytest.mark.parametrize("plan", ["free", "late"])
def test_a_free_plan_and_one_all_in_arrear_are_not_invoiced(ledger: Ledger, plan: str) -> None:
    buy(ledger, plan)
    assert fetch(ledger, "invoices")["invoices"] == []
    assert ledger.balance("cus_1") in {7, 3}


def test_a_price_adjustment_is_due_with_the_rest(ledger: Ledger) -> None:
    buy(ledger, "rounded")
    (invoice,) = fetch(ledger, "invoices")["invoices"]
    assert invoice["amount"] == 9.99
    assert [(line["type"], line["price"]) for line in invoice["lines"]] == [
        ("WALLET", 10.0),
        ("ADJUSTMENT", -0.01),
    ]


def test_the_wallet_funds_what_is_used_in_arrear_at_the_customers_price(ledger: Ledger) -> None:
    buy(ledger, "funded")
    assert fetch(ledger, "invoices")["invoices"][0]["amount"] == 0.01
    assert send(ledger, agentKey="example", idempotencyKey="a")[0] == 200
    assert ledger.balance("cus_1") == Decimal("-0.0109625")
    done = {"type": "outcome", "agentKey": "won.it", "complete": True, "runId": "r"}
    assert send(ledger, idempotencyKey="b", **done)[0] == 200
    event = {"customerId": "cus_1", "agentKey": "four"}
    assert call(ledger, "POST", "/api/v1/units", event)[0] == 200
    assert ledger.balance("cus_1") == Decimal("-4.3859625")
    bill = ledger.bill("cus_1")
    assert (bill.wallet, bill.customer_cost) == (Decimal("4.3959625"), Decimal("4.3959625"))
    status, message = 422, "Insufficient wallet balance"
    answer = send(ledger, type="wallet", idempotencyKey="c")
    assert (answer[0], answer[1]["statusDetail"]["message"][:27]) == (status, message)
    wallet = fetch(ledger, "customers/cus_1/wallet")
    assert [(entry["type"], entry["amount"]) for entry in wallet["transactions"]] == [
        ("USAGE", -0.375),
        ("USAGE", -0.0209625),
        ("USAGE", -4.0),
        ("GRANT", 0.01),
    ]
    top_up = {"type": "TOPUP", "amount": 5}
    assert call(ledger, "POST", "/api/v1/customers/cus_1/wallet", top_up)[1]["balance"] == 0.6140375
    assert len(fetch(ledger, "invoices")["invoices"]) == 1


@pytest.mark.parametrize(
    ("day", "message"),
    [
        ("2026-06-30", "billingDate: must not be in the past"),
        ("2026-7-1", "billingDate: must be a date, YYYY-MM-DD"),
        ("2026-02-30", "billingDate: must be a date, YYYY-MM-DD"),
        ("20260701", "billingDate: must be a date, YYYY-MM-DD"),
        ("2026-07-01T00:00:00Z", "billingDate: must be a date, YYYY-MM-DD"),
        ("", "billingDate: must be a date, YYYY-MM-DD"),
        (1, "billingDate: must be a string or null"),
    ],
)
def test_a_billing_date_is_a_day_that_is_not_past(ledger: Ledger, day: object, message: str) -> None:
    body = {"customerId": "cus_1", "planId": "pro", "billingDate": day}
    status, error = refused(ledger, "POST", "purchases", body)
    assert (status, error.split(";")[0]) == (400, message)


def test_a_purchase_activates_on_its_billing_date_and_cancels_the_one_before(ledger: Ledger) -> None:
    first = buy(ledger, "basic")
    later = buy(ledger, billingDate="2026-07-03")
    assert (later["status"], later["billingDate"]) == ("SCHEDULED", "2026-07-03")
    assert fetch(ledger, "customers/cus_1/plan")["purchase"]["id"] == first["id"]
    assert len(fetch(ledger, "invoices")["invoices"]) == 1
    the_day = NOW + 2 * 86_400
    plan = call(ledger, "GET", "/api/v1/customers/cus_1/plan", now=the_day)[1]
    assert (plan["purchase"]["id"], plan["purchase"]["status"]) == (later["id"], "ACTIVE")
    assert fetch(ledger, f"purchases/{first['id']}")["purchase"]["status"] == "CANCELLED"
    assert [i["status"] for i in fetch(ledger, "invoices")["invoices"]] == ["OPEN", "VOID"]


def test_a_purchase_that_is_to_come_can_be_cancelled_or_overtaken(ledger: Ledger) -> None:
    active = buy(ledger, "basic")
    first, second, third = (buy(ledger, billingDate=f"2026-07-0{day}")["id"] for day in (9, 2, 4))
    assert call(ledger, "POST", f"/api/v1/purchases/{second}/cancel")[0] == 200
    assert fetch(ledger, "customers/cus_1/plan")["purchase"]["id"] == active["id"]
    call(ledger, "GET", "/api/v1/me", now=NOW + 5 * 86_400)

    def statuses() -> list[str]:
        found = fetch(ledger, "purchases?customerId=cus_1")["purchases"]
        return [purchase["status"] for purchase in found]

    assert statuses() == ["ACTIVE", "CANCELLED", "CANCELLED", "CANCELLED"]
    assert fetch(ledger, "customers/cus_1/plan")["purchase"]["id"] == third
    buy(ledger, billingDate="2026-08-01")
    assert call(ledger, "DELETE", "/api/v1/customers/cus_1")[0] == 200
    assert set(statuses()) == {"CANCELLED"}
    assert first != second


def test_automatic_payment_pays_at_once(ledger: Ledger) -> None:
    buy(ledger, "basic", autoPayment=True)
    (invoice,) = fetch(ledger, "invoices")["invoices"]
    assert (invoice["status"], invoice["paidAt"]) == ("PAID", "2026-07-01T10:00:00.000Z")
    (payment,) = fetch(ledger, "payments")["payments"]
    assert (payment["invoiceId"], payment["amount"], payment["status"]) == (invoice["id"], 5.0, "SUCCEEDED")
    read = fetch(ledger, f"payments/{payment['id']}")
    assert (read["payment"], read["plan"]["id"]) == (payment, "basic")
    assert refused(ledger, "GET", f"invoices/{invoice['id']}/pay-link") == (
        409,
        'The invoice "inv_1" is not open but PAID.',
    )


def test_automatic_payment_is_switched_and_pays_what_is_open(ledger: Ledger) -> None:
    target = f"/api/v1/purchases/{buy(ledger)['id']}"
    paused = call(ledger, "PATCH", target, {"autoPayment": False, "pauseReason": "asked"})[1]["purchase"]
    assert (paused["autoPayment"], paused["pauseReason"]) == (False, "asked")
    kept = call(ledger, "PATCH", target, {"autoPayment": False})[1]["purchase"]
    assert kept["pauseReason"] == "asked"
    assert fetch(ledger, "payments")["payments"] == []
    cleared = call(ledger, "PATCH", target, {"autoPayment": True, "pauseReason": None})[1]["purchase"]
    assert (cleared["autoPayment"], cleared["pauseReason"]) == (True, None)
    for _ in range(2):
        assert call(ledger, "PATCH", target, {"autoPayment": True})[0] == 200
    assert len(fetch(ledger, "payments")["payments"]) == 1
    assert refused(ledger, "PATCH", "purchases/pur_1", {}) == (400, "autoPayment: is required")


def test_cancelling_ends_allowances_and_open_invoices_but_not_money(ledger: Ledger) -> None:
    purchase = buy(ledger)
    status, content = call(ledger, "POST", f"/api/v1/purchases/{purchase['id']}/cancel", now=NOW + 60)
    assert status == 200
    assert content["purchase"] == {
        **purchase,
        "status": "CANCELLED",
        "cancelledAt": "2026-07-01T10:01:00.000Z",
    }
    assert fetch(ledger, "customers/cus_1/plan") == {"ok": True, "plan": None, "purchase": None}
    assert [i["status"] for i in fetch(ledger, "invoices")["invoices"]] == ["VOID"]
    assert ledger.balance("cus_1") == 1000
    assert send(ledger, agentKey="gold")[0] == 422
    assert refused(ledger, "POST", f"purchases/{purchase['id']}/cancel") == (
        422,
        'The purchase "pur_1" is cancelled already.',
    )


def test_a_purchase_takes_the_place_of_the_one_before(ledger: Ledger) -> None:
    first = buy(ledger)
    second = buy(ledger, "basic")
    assert fetch(ledger, f"purchases/{first['id']}")["purchase"]["status"] == "CANCELLED"
    assert fetch(ledger, "customers/cus_1/plan")["purchase"]["id"] == second["id"]
    assert fetch(ledger, "customers/cus_1/balances")["credits"] == []
    assert ledger.balance("cus_1") == 1005
    assert [i["status"] for i in fetch(ledger, "invoices")["invoices"]] == ["OPEN", "VOID"]


def test_the_default_plan_ends_with_the_first_purchase_and_a_top_up_does_not(ledger: Ledger) -> None:
    customer = create(ledger, "customers", {"name": "A", "email": "a@b.c"})["id"]
    assert ledger.balance(customer) == 5
    topped = {"type": "TOPUP", "amount": 2}
    assert call(ledger, "POST", f"/api/v1/customers/{customer}/wallet", topped)[0] == 200
    buy(ledger, "pro", customer)
    assert ledger.balance(customer) == 1002


def test_a_customer_keeps_the_terms_they_bought(ledger: Ledger) -> None:
    buy(ledger, "basic")
    changed = {
        "name": "Basic",
        "billingCycle": "YEARLY",
        "components": [{"type": "FLAT", "billingMode": "ADVANCE", "amount": 1}],
    }
    assert call(ledger, "PATCH", "/api/v1/plans/basic", changed)[0] == 200
    assert fetch(ledger, "customers/cus_1/plan")["plan"]["billingCycle"] == "MONTHLY"


def test_a_customer_who_goes_leaves_nothing_open(ledger: Ledger) -> None:
    purchase = buy(ledger)
    assert call(ledger, "DELETE", "/api/v1/customers/cus_1")[0] == 200
    assert fetch(ledger, f"purchases/{purchase['id']}")["purchase"]["status"] == "CANCELLED"
    (invoice,) = fetch(ledger, "invoices")["invoices"]
    assert invoice["status"] == "VOID"
    assert refused(ledger, "GET", f"invoices/{invoice['id']}/pay-link") == (
        409,
        'The invoice "inv_1" is not open but VOID.',
    )


def test_lists_are_narrowed_newest_first(ledger: Ledger) -> None:
    for customer, plan in (("cus_1", "pro"), ("cus_1", "basic"), ("cus_2", "basic")):
        buy(ledger, plan, customer, autoPayment=customer == "cus_2")

    def found(path: str) -> list[str]:
        (rows,) = [value for name, value in fetch(ledger, path).items() if name != "ok"]
        return [row["id"] for row in rows]

    assert found("purchases") == ["pur_3", "pur_2", "pur_1", "pur_cus_2"]
    assert found("purchases?status=ACTIVE") == ["pur_3", "pur_2"]
    assert found("purchases?customerId=cus_1") == ["pur_2", "pur_1"]
    assert found("purchases?customerId=cus_1&status=CANCELLED&limit=5") == ["pur_1"]
    assert found("purchases?limit=1") == ["pur_3"]
    assert found("invoices?customerId=cus_1&status=OPEN") == ["inv_2"]
    assert found("invoices?status=PAID") == ["inv_3"]
    assert found("payments?customerId=cus_2") == ["pay_1"]
    assert found("payments?customerId=cus_1") == []
    assert refused(ledger, "GET", "payments?limit=0")[0] == 400


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "customerId: is required; planId: is required"),
        ({"customerId": "cus_1", "planId": "nope"}, 404, 'No plan with id "nope".'),
        ({"customerId": "nobody", "planId": "pro"}, 404, 'No customer with id "nobody".'),
        (
            {"customerId": "cus_1", "planId": "pro", "autoPayment": 1},
            400,
            "autoPayment: must be true or false",
        ),
    ],
)
def test_a_purchase_is_validated(ledger: Ledger, body: dict[str, object], status: int, message: str) -> None:
    assert refused(ledger, "POST", "purchases", body) == (status, message)


def test_a_retired_plan_is_not_sold(ledger: Ledger) -> None:
    assert call(ledger, "PATCH", "/api/v1/plans/basic", {"isActive": False})[0] == 200
    body = {"customerId": "cus_1", "planId": "basic"}
    assert refused(ledger, "POST", "purchases", body) == (422, 'The plan "Basic" is not active.')
    customer = create(ledger, "customers", {"name": "A", "email": "a@b.c"})["id"]
    assert fetch(ledger, f"customers/{customer}/plan")["plan"] is None


@pytest.mark.parametrize("path", ["purchases/x", "invoices/x", "invoices/x/pay-link", "payments/x"])
def test_what_is_not_there(ledger: Ledger, path: str) -> None:
    noun = path.split("/", maxsplit=1)[0].removesuffix("s")
    assert refused(ledger, "GET", path) == (404, f'No {noun} with id "x".')
