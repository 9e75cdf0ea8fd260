from typing import Any

import pytest

from clocknext_transports.emulator import Catalogue, Customer, Ledger
from tests.emulator.support import EXAMPLE, NOW, call, send


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def create(ledger: Ledger, **fields: object) -> str:
    body = {"name": "Stark", "email": "tony@stark.example"} | fields
    status, content = call(ledger, "POST", "/api/v1/customers", body)
    assert status == 201
    identity = content["customer"]["id"]
    assert isinstance(identity, str)
    return identity


def test_a_customers_life(ledger: Ledger) -> None:
    customer = create(ledger, notes="new", phone=None)
    status, content = call(ledger, "GET", f"/api/v1/customers/{customer}")
    assert status == 200
    assert content == {
        "ok": True,
        "customer": {
            "id": customer,
            "name": "Stark",
            "email": "tony@stark.example",
            "description": None,
            "website": None,
            "phone": None,
            "legalName": None,
            "addressLine1": None,
            "addressLine2": None,
            "city": None,
            "state": None,
            "country": None,
            "pincode": None,
            "taxId": None,
            "notes": "new",
            "logoUrl": None,
            "currencyCode": "USD",
            "createdAt": "2026-07-01T10:00:00.000Z",
            "updatedAt": "2026-07-01T10:00:00.000Z",
        },
    }
    changes = {"phone": "1", "notes": None}
    changed = call(ledger, "PATCH", f"/api/v1/customers/{customer}", changes, now=NOW + 1)[1]["customer"]
    assert (changed["phone"], changed["notes"], changed["name"]) == ("1", None, "Stark")
    assert changed["updatedAt"] == "2026-07-01T10:00:01.000Z"
    assert call(ledger, "DELETE", f"/api/v1/customers/{customer}") == (200, {"ok": True})
    missing = (404, {"ok": False, "error": f'No customer with id "{customer}".'})
    assert call(ledger, "GET", f"/api/v1/customers/{customer}") == missing
    assert call(ledger, "DELETE", f"/api/v1/customers/{customer}") == missing
    assert call(ledger, "PATCH", f"/api/v1/customers/{customer}", {}) == missing


def test_a_new_customer_can_be_billed_at_once(ledger: Ledger) -> None:
    status, _ = send(ledger, customerId=create(ledger), model="gpt-4o")
    assert status == 200


def test_without_a_default_plan_a_new_customer_cannot() -> None:
    ledger = Ledger(Catalogue(default_plan=None))
    customer = create(ledger)
    assert send(ledger, customerId=customer, model="gpt-4o")[0] == 422
    plan = call(ledger, "GET", f"/api/v1/customers/{customer}/plan")
    assert plan == (200, {"ok": True, "plan": None, "purchase": None})


def test_a_new_id_is_never_one_in_use() -> None:
    ledger = Ledger(Catalogue(customers=[Customer("cus_1"), Customer("cus_2")]))
    assert create(ledger) == "cus_3"


def test_signals_of_a_deleted_customer_stay(ledger: Ledger) -> None:
    customer = create(ledger)
    send(ledger, customerId=customer, model="gpt-4o")
    call(ledger, "DELETE", f"/api/v1/customers/{customer}")
    assert ledger.bill(customer).signals == 1


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"email": "a@b.c"}, "name: is required"),
        ({"name": "A"}, "email: is required"),
        ({}, "name: is required; email: is required"),
        ({"name": " ", "email": "a@b.c"}, "name: must not be blank"),
        ({"name": None, "email": "a@b.c"}, "name: must be a string"),
        ({"name": "A", "email": "nobody"}, "email: must be an e-mail address"),
        ({"name": "A", "email": "a@b.c", "city": 7}, "city: must be a string or null"),
        (
            {"name": "A", "email": "a@b.c", "currencyCode": "usd"},
            "currencyCode: must be an ISO 4217 code such as USD",
        ),
    ],
)
def test_fields_are_validated(ledger: Ledger, body: dict[str, object], error: str) -> None:
    assert call(ledger, "POST", "/api/v1/customers", body) == (400, {"ok": False, "error": error})


def test_an_update_cannot_clear_what_is_required(ledger: Ledger) -> None:
    assert call(ledger, "PATCH", "/api/v1/customers/cus_123", {"name": None})[0] == 400
    assert call(ledger, "PATCH", "/api/v1/customers/cus_123", {"currencyCode": None})[0] == 200


def names(ledger: Ledger, query: str) -> tuple[list[str], str | None]:
    status, content = call(ledger, "GET", f"/api/v1/customers{query}")
    assert status == 200
    return [customer["id"] for customer in content["customers"]], content["nextCursor"]


def test_pages_follow_the_cursor_to_the_end() -> None:
    ledger = Ledger(Catalogue(customers=[Customer(f"cus_{n}") for n in range(5)]))
    first, cursor = names(ledger, "?limit=2")
    second, cursor_2 = names(ledger, f"?limit=2&cursor={cursor}")
    third, end = names(ledger, f"?limit=2&cursor={cursor_2}")
    assert (first, second, third, end) == (["cus_4", "cus_3"], ["cus_2", "cus_1"], ["cus_0"], None)
    assert names(ledger, "?limit=5")[1] is None
    assert names(ledger, "?cursor=&limit=") == ([f"cus_{n}" for n in (4, 3, 2, 1, 0)], None)


def test_a_cursor_survives_the_deletion_of_what_it_points_at() -> None:
    ledger = Ledger(Catalogue(customers=[Customer(f"cus_{n}") for n in range(4)]))
    _, cursor = names(ledger, "?limit=2")
    call(ledger, "DELETE", "/api/v1/customers/cus_2")
    assert names(ledger, f"?limit=9&cursor={cursor}") == (["cus_1", "cus_0"], None)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("GLOB", ["cus_456"]),
        ("initech.example", ["cus_789"]),
        ("ac", ["cus_789", "cus_123"]),
        ("nobody", []),
    ],
)
def test_search_looks_at_name_and_email(ledger: Ledger, query: str, found: list[str]) -> None:
    assert names(ledger, f"?q={query}")[0] == found


def test_search_and_pages_go_together() -> None:
    ledger = Ledger(
        Catalogue(customers=[Customer(f"cus_{n}", name="even" if n % 2 == 0 else "odd") for n in range(6)])
    )
    first, cursor = names(ledger, "?q=odd&limit=2")
    assert (first, names(ledger, f"?q=odd&limit=2&cursor={cursor}")) == (
        ["cus_5", "cus_3"],
        (["cus_1"], None),
    )


@pytest.mark.parametrize("query", ["?limit=0", "?limit=1001", "?limit=-1", "?limit=1.5", "?cursor=nonsense"])
def test_a_listing_refuses_what_it_cannot_read(ledger: Ledger, query: str) -> None:
    status, content = call(ledger, "GET", f"/api/v1/customers{query}")
    assert (status, content["ok"]) == (400, False)


def test_ids_are_decoded_one_segment_at_a_time() -> None:
    ledger = Ledger(Catalogue(customers=[Customer("a b/c")]))
    assert call(ledger, "GET", "/api/v1/customers/a%20b%2Fc")[0] == 200
    assert call(ledger, "GET", "/api/v1/customers/a%20b/c")[0] == 404


def test_balances_show_every_component() -> None:
    ledger = Ledger(EXAMPLE)
    send(ledger)
    assert call(ledger, "GET", "/api/v1/customers/cus_1/balances")[1] == {
        "ok": True,
        "wallet": {"balance": 10.0, "currencyCode": "USD"},
        "credits": [{"creditId": "api_credit", "creditName": "api_credit", "remaining": 99.975}],
        "outcomes": [{"outcomeId": "resolved_ticket", "outcomeName": "Resolved ticket", "remaining": 2.0}],
        "units": [],
    }
    assert call(ledger, "GET", "/api/v1/customers/cus_bare/balances")[1]["wallet"] is None


def test_the_plan_shows_its_components(ledger: Ledger) -> None:
    content = call(ledger, "GET", "/api/v1/customers/cus_wallet/plan")[1]
    assert content["plan"] == {
        "id": "plan_wallet",
        "name": "Wallet only",
        "description": None,
        "billingCycle": "MONTHLY",
        "currencyCode": "USD",
        "isActive": True,
        "walletFundedArrear": False,
        "priceAdjustment": 0.0,
        "components": [{"type": "WALLET", "billingMode": "ADVANCE", "amount": 100.0}],
    }
    assert content["purchase"]["planId"] == "plan_wallet"
    kinds = [
        c["type"] for c in call(ledger, "GET", "/api/v1/customers/cus_123/plan")[1]["plan"]["components"]
    ]
    assert kinds == ["WALLET", *["CREDIT"] * 2, *["OUTCOME"] * 2, *["UNIT"] * 3]


def test_revenue_counts_the_days_asked_for() -> None:
    ledger = Ledger(EXAMPLE)
    day = 86_400
    for number, days_ago in enumerate((40, 3, 3)):
        body = {
            "customerId": "cus_1",
            "type": "wallet",
            "model": "example",
            "inputTokens": 1_000_000,
            "idempotencyKey": f"k{number}",
        }
        assert call(ledger, "POST", "/api/v1/usage", body, now=NOW - days_ago * day)[0] == 200
    content = call(ledger, "GET", "/api/v1/customers/cus_1/revenue?range=30d")[1]
    assert (content["range"], content["currency"]) == ("30d", "USD")
    assert (content["signals"], content["revenue"], content["cost"]) == (2, 6.0, 6.0)
    assert content["series"] == [{"date": "2026-06-28", "signals": 2, "revenue": 6.0, "cost": 6.0}]
    assert call(ledger, "GET", "/api/v1/customers/cus_1/revenue?range=60d")[1]["signals"] == 3
    assert call(ledger, "GET", "/api/v1/customers/cus_1/revenue")[1] == content


@pytest.mark.parametrize("text", ["0d", "30", "d", "-1d", "30m", "99999d"])
def test_a_range_is_a_number_of_days(ledger: Ledger, text: str) -> None:
    assert call(ledger, "GET", f"/api/v1/customers/cus_123/revenue?range={text}")[0] == 400


def test_portal_tokens(ledger: Ledger) -> None:
    target = "/api/v1/portal/token"
    assert call(ledger, "POST", target, {"customerId": "cus_123"})[1] == {
        "ok": True,
        "token": "ptk_1",
        "expiresAt": "2026-07-01T10:10:00.000Z",
        "expiresIn": 600,
    }
    content = call(
        ledger, "POST", target, {"customerId": "cus_123", "ttlSeconds": 60, "memberEmail": "a@b.c"}
    )[1]
    assert (content["token"], content["expiresIn"]) == ("ptk_2", 60)
    assert call(ledger, "POST", target, {"customerId": "x"})[0] == 404
    for bad in (
        {},
        {"customerId": "cus_123", "ttlSeconds": 0},
        {"customerId": "cus_123", "memberEmail": "x"},
    ):
        assert call(ledger, "POST", target, bad)[0] == 400


def test_the_workspace_and_its_models(ledger: Ledger) -> None:
    me = call(ledger, "GET", "/api/v1/me")[1]
    assert (me["ok"], me["environment"]) == (True, "sandbox")
    models = call(ledger, "GET", "/api/v1/models")[1]["models"]
    assert {
        "modelId": "gpt-4o",
        "provider": "openai",
        "inputPrice": 2.5,
        "outputPrice": 10.0,
        "cachePrice": 1.25,
        "isActive": True,
    } in (models)
    inactive = call(ledger, "GET", "/api/v1/models?active=false")[1]["models"]
    assert [model["modelId"] for model in inactive] == ["gpt-4"]
    assert len(call(ledger, "GET", "/api/v1/models?active=true")[1]["models"]) == len(models) - 1
    assert call(ledger, "GET", "/api/v1/models?active=yes")[0] == 400


def bulk(ledger: Ledger, rows: object) -> tuple[int, dict[str, Any]]:
    return call(ledger, "POST", "/api/v1/customers/bulk", {"customers": rows})


def test_many_customers_are_created_in_one_call_and_a_bad_row_stops_none(ledger: Ledger) -> None:
    create(ledger, email="taken@b.c")
    status, content = bulk(
        ledger,
        [
            {"name": "A", "email": "a@b.c", "notes": "first"},
            {"name": "B"},
            {"email": "c@b.c", "name": " "},
            "no row",
            {"name": "D", "email": "taken@b.c"},
            {"name": "E", "email": "a@b.c"},
            {"name": "F", "email": 7},
            {"name": "G", "email": "g@b.c"},
        ],
    )
    assert status == 200
    rows = content["results"]
    assert [(row["email"], row.get("error")) for row in rows] == [
        ("a@b.c", None),
        (None, "email: is required"),
        ("c@b.c", "name: must not be blank"),
        (None, "name: is required; email: is required"),
        ("taken@b.c", 'Another customer has the address "taken@b.c".'),
        ("a@b.c", 'Another customer has the address "a@b.c".'),
        (7, "email: must be a string"),
        ("g@b.c", None),
    ]
    first = call(ledger, "GET", f"/api/v1/customers/{rows[0]['id']}")[1]["customer"]
    assert (first["name"], first["notes"]) == ("A", "first")
    assert names(ledger, "?limit=2")[0] == [rows[7]["id"], rows[0]["id"]]
    assert send(ledger, customerId=rows[7]["id"], model="gpt-4o")[0] == 200


def test_a_bulk_call_takes_one_to_two_hundred_rows(ledger: Ledger) -> None:
    rows = [{"name": "A", "email": f"{n}@b.c", "notes": "x" * 1000} for n in range(201)]
    refused: list[object] = [[], rows, None, {}]
    for each in refused:
        assert bulk(ledger, each) == (
            400,
            {"ok": False, "error": "customers: must be a list of 1 to 200"},
        )
    assert call(ledger, "POST", "/api/v1/customers/bulk", {})[1]["error"] == "customers: is required"
    assert len(bulk(ledger, rows[:200])[1]["results"]) == 200


def enable(ledger: Ledger, provider: object, model: object, **more: object) -> tuple[int, dict[str, Any]]:
    body = {"provider": provider, "modelId": model, "pricingMode": "AUTO", **more}
    return call(ledger, "POST", "/api/v1/models", body)


def test_a_listed_model_is_enabled_once_at_its_price(ledger: Ledger) -> None:
    assert send(ledger, customerId="cus_123", model="gpt-4.1")[0] == 422
    status, content = enable(ledger, "OpenAI", "GPT-4.1")
    assert (status, content["model"]) == (
        201,
        {
            "modelId": "gpt-4.1",
            "provider": "openai",
            "inputPrice": 2.0,
            "outputPrice": 8.0,
            "cachePrice": 0.5,
            "isActive": True,
        },
    )
    assert enable(ledger, "openai", "gpt-4.1") == (200, content)
    assert send(ledger, customerId="cus_123", model="gpt-4.1")[0] == 200
    ids = [model["modelId"] for model in call(ledger, "GET", "/api/v1/models")[1]["models"]]
    assert ids.count("gpt-4.1") == 1


def test_a_model_that_is_enabled_already_is_a_success(ledger: Ledger) -> None:
    status, content = enable(ledger, "openai", "gpt-4o")
    assert (status, content["model"]["inputPrice"]) == (200, 2.5)
    assert enable(ledger, "openai", "gpt-4")[1]["model"]["isActive"] is False


def test_a_model_without_a_listed_price_is_enabled_at_nothing(ledger: Ledger) -> None:
    model = enable(ledger, "meta", "llama-preview")[1]["model"]
    assert (model["inputPrice"], model["outputPrice"], model["cachePrice"]) == (0.0, 0.0, 0.0)


def test_an_unknown_model_and_an_unknown_provider_are_refused_alike(ledger: Ledger) -> None:
    unknown = [enable(ledger, "openai", "nope"), enable(ledger, "nobody", "gpt-4.1")]
    assert [status for status, _ in unknown] == [404, 404]
    texts = [
        content["error"].replace("nope", "gpt-4.1").replace("nobody", "openai") for _, content in unknown
    ]
    assert texts[0] == texts[1]
    assert enable(ledger, "openai", "gpt-4.1", pricingMode="MANUAL")[0] == 400
