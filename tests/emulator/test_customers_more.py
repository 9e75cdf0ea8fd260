"""What customers have besides: members, a wallet, adjustments. And the webhooks of the organisation."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clocknext_transports.emulator import Ledger
from tests.emulator.support import EXAMPLE, NOW, call, create, fetch, refused, send

MEMBERS = "customers/cus_1/members"
WALLET = "customers/cus_1/wallet"


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(EXAMPLE)


def test_a_members_life(ledger: Ledger) -> None:
    made = create(ledger, MEMBERS, {"name": "Al", "email": "al@b.c", "role": "dev", "id": "mine"})
    assert made == {
        "id": "mem_1",
        "customerId": "cus_1",
        "name": "Al",
        "email": "al@b.c",
        "role": "dev",
        "createdAt": "2026-07-01T10:00:00.000Z",
    }
    target = f"/api/v1/{MEMBERS}/{made['id']}"
    changed = call(ledger, "PATCH", target, {"role": None, "name": "Bo"})[1]["member"]
    assert changed == {**made, "name": "Bo", "role": None}
    assert fetch(ledger, MEMBERS)["members"] == [changed]
    assert fetch(ledger, "customers/cus_bare/members")["members"] == []
    assert call(ledger, "DELETE", target) == (200, {"ok": True})
    assert refused(ledger, "DELETE", f"{MEMBERS}/mem_1") == (404, 'No member with id "mem_1".')


def test_members_are_validated(ledger: Ledger) -> None:
    create(ledger, MEMBERS, {"name": "Al", "email": "al@b.c"})
    other = create(ledger, MEMBERS, {"name": "Bo", "email": "bo@b.c"})["id"]
    assert refused(ledger, "POST", MEMBERS, {}) == (400, "name: is required; email: is required")
    taken = (422, 'Another member of customer "cus_1" has the address "al@b.c".')
    assert refused(ledger, "POST", MEMBERS, {"name": "C", "email": "al@b.c"}) == taken
    assert refused(ledger, "PATCH", f"{MEMBERS}/{other}", {"email": "al@b.c"}) == taken
    assert call(ledger, "PATCH", f"/api/v1/{MEMBERS}/{other}", {"email": "bo@b.c"})[0] == 200
    assert refused(ledger, "PATCH", f"{MEMBERS}/{other}", {"name": None}) == (400, "name: must be a string")
    assert refused(ledger, "GET", "customers/nobody/members")[0] == 404
    create(ledger, "customers/cus_bare/members", {"name": "Al", "email": "al@b.c"})


def test_an_employee_id_that_is_taken_is_a_conflict(ledger: Ledger) -> None:
    first = create(ledger, MEMBERS, {"name": "Al", "email": "al@b.c", "employeeId": "E1"})["id"]
    other = create(ledger, MEMBERS, {"name": "Bo", "email": "bo@b.c"})["id"]
    taken = (409, 'Another member of customer "cus_1" has the employee id "E1".')
    body = {"name": "C", "email": "c@b.c", "employeeId": "E1"}
    assert refused(ledger, "POST", MEMBERS, body) == taken
    assert refused(ledger, "PATCH", f"{MEMBERS}/{other}", {"employeeId": "E1"}) == taken
    assert call(ledger, "PATCH", f"/api/v1/{MEMBERS}/{first}", {"employeeId": "E1"})[0] == 200
    assert refused(ledger, "PATCH", f"{MEMBERS}/{other}", {"employeeId": 1})[0] == 400
    for number in range(2):
        none = {"name": "C", "email": f"{number}@b.c", "employeeId": None}
        create(ledger, MEMBERS, none)


def test_a_wallets_transactions_add_up_to_its_balance(ledger: Ledger) -> None:
    booked = {"type": "TOPUP", "amount": 5}
    status, content = call(ledger, "POST", f"/api/v1/{WALLET}", booked, now=NOW)
    assert (status, content["balance"]) == (200, 15.0)
    assert content["transaction"] == {
        "id": "txn_cus_1_2",
        "type": "TOPUP",
        "amount": 5.0,
        "createdAt": "2026-07-01T10:00:00.000Z",
    }
    usage = {"customerId": "cus_1", "type": "wallet", "model": "example", "inputTokens": 1_000_000}
    assert call(ledger, "POST", "/api/v1/usage", usage, now=NOW + 1)[0] == 200
    for later, kind, amount in ((2, "DEBIT", 4), (3, "DEBIT", 0.1), (4, "ADJUSTMENT", 0.2)):
        body = {"type": kind, "amount": amount}
        assert call(ledger, "POST", f"/api/v1/{WALLET}", body, now=NOW + later)[0] == 200
    wallet = fetch(ledger, WALLET)
    assert [(t["type"], t["amount"]) for t in wallet["transactions"]] == [
        ("ADJUSTMENT", 0.2),
        ("DEBIT", -0.1),
        ("DEBIT", -4.0),
        ("USAGE", -3.0),
        ("TOPUP", 5.0),
        ("GRANT", 10.0),
    ]
    assert wallet["balance"] == 8.1
    assert str(ledger.balance("cus_1")) == "8.100000000000"
    limited = fetch(ledger, f"{WALLET}?limit=2")
    assert [t["type"] for t in limited["transactions"]] == ["ADJUSTMENT", "DEBIT"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "type: is required; amount: is required"),
        ({"type": "GIFT", "amount": 1}, 400, "type: must be one of TOPUP, DEBIT, ADJUSTMENT"),
        ({"type": "TOPUP", "amount": 0}, 400, "amount: must be above 0"),
        ({"type": "TOPUP", "amount": "5"}, 400, "amount: must be a number"),
        ({"type": "DEBIT", "amount": 10.5}, 422, "Insufficient wallet balance: 10.5 USD needed, 10 left."),
        ({"type": "ADJUSTMENT", "amount": -11}, 400, "amount: must be above 0"),
        ({"type": "DEBIT", "amount": -1}, 400, "amount: must be above 0"),
    ],
)
def test_an_entry_is_validated(ledger: Ledger, body: dict[str, object], status: int, message: str) -> None:
    assert refused(ledger, "POST", WALLET, body) == (status, message)
    assert ledger.balance("cus_1") == 10


def test_a_top_up_opens_a_wallet(ledger: Ledger) -> None:
    assert fetch(ledger, "customers/cus_bare/wallet") == {
        "ok": True,
        "balance": 0.0,
        "currencyCode": "USD",
        "transactions": [],
    }
    body = {"type": "TOPUP", "amount": 1}
    assert call(ledger, "POST", "/api/v1/customers/cus_bare/wallet", body)[0] == 200
    assert send(ledger, customerId="cus_bare", type="wallet")[0] == 200


@pytest.mark.parametrize(
    ("noun", "item", "answer"),
    [
        ("credit", "api_credit", {"ok": True}),
        ("outcome", "resolved_ticket", {"ok": True, "remaining": 5.5}),
        ("unit", "report", {"ok": True, "remaining": 5.5}),
    ],
)
def test_adjustments(ledger: Ledger, noun: str, item: str, answer: dict[str, object]) -> None:
    path = f"customers/cus_bare/{noun}s/adjust"
    given = {f"{noun}Id": item}
    assert call(ledger, "POST", f"/api/v1/{path}", {**given, "amount": 6})[0] == 200
    assert call(ledger, "POST", f"/api/v1/{path}", {**given, "amount": -0.5}) == (200, answer)
    assert ledger.balance("cus_bare", item) == 5.5
    status, message = refused(ledger, "POST", path, {**given, "amount": -6})
    assert (status, message.split(":")[0]) == (422, f"Insufficient {noun} balance")
    assert ledger.balance("cus_bare", item) == 5.5
    assert refused(ledger, "POST", path, {f"{noun}Id": "nope", "amount": 1}) == (
        404,
        f'No {noun} with id "nope".',
    )
    assert refused(ledger, "POST", path, {}) == (
        400,
        f"{noun}Id: is required; amount: is required",
    )


def test_webhooks_are_set_by_kind(ledger: Ledger) -> None:
    body = {"kind": "WALLET_LOW", "url": "https://x.example/h", "threshold": 10}
    status, content = call(ledger, "POST", "/api/v1/webhooks", body)
    assert (status, content["webhook"]) == (200, {"id": "whk_1", **body})
    moved = {"kind": "WALLET_LOW", "url": "https://y.example/h"}
    kept = call(ledger, "POST", "/api/v1/webhooks", moved)[1]["webhook"]
    assert (kept["id"], kept["url"], kept["threshold"]) == ("whk_1", "https://y.example/h", 10)
    cleared = call(ledger, "POST", "/api/v1/webhooks", {**moved, "threshold": None})[1]["webhook"]
    assert cleared["threshold"] is None
    assert fetch(ledger, "webhooks")["webhooks"] == [cleared]
    assert call(ledger, "DELETE", "/api/v1/webhooks/WALLET_LOW") == (200, {"ok": True})
    assert call(ledger, "DELETE", "/api/v1/webhooks/WALLET_LOW") == (200, {"ok": True})
    assert refused(ledger, "POST", "webhooks", {"kind": "A", "url": "ftp://x"}) == (
        400,
        "url: must be an http or https address",
    )
    assert refused(ledger, "POST", "webhooks", {"kind": "A", "url": "http://x", "threshold": "1"})[0] == 400


ENTRIES = st.sampled_from(["TOPUP", "DEBIT", "ADJUSTMENT"])
AMOUNTS = st.decimals("-20", "20", places=3).map(float)
STEPS = st.one_of(
    st.tuples(st.just("entry"), ENTRIES, AMOUNTS),
    st.tuples(st.just("usage"), st.integers(0, 2_000_000)),
    st.tuples(st.just("buy"), st.sampled_from(["plan_wallet", "plan_scale"])),
    st.tuples(st.just("cancel")),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(STEPS, max_size=12))
def test_whatever_happens_a_wallets_transactions_add_up(steps: list[tuple[Any, ...]]) -> None:
    ledger = Ledger()
    customer = create(ledger, "customers", {"name": "A", "email": "a@b.c"})["id"]
    path = f"/api/v1/customers/{customer}"
    for number, step in enumerate(steps):
        match step:
            case ("entry", kind, amount):
                call(ledger, "POST", f"{path}/wallet", {"type": kind, "amount": amount}, now=NOW + number)
            case ("usage", tokens):
                body = {"customerId": customer, "type": "wallet", "model": "gpt-4o", "inputTokens": tokens}
                call(ledger, "POST", "/api/v1/usage", body, now=NOW + number)
            case ("buy", plan):
                create(ledger, "purchases", {"customerId": customer, "planId": plan})
            case _:
                current = fetch(ledger, f"customers/{customer}/plan")["purchase"]
                if current is not None:
                    assert call(ledger, "POST", f"/api/v1/purchases/{current['id']}/cancel")[0] == 200
        wallet = fetch(ledger, f"customers/{customer}/wallet")
        amounts = [Decimal(str(entry["amount"])) for entry in wallet["transactions"]]
        assert sum(amounts, Decimal(0)) == ledger.balance(customer) >= 0
