"""No request ends the emulator, makes it hang, or leaves state that cannot be read back."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from clocknext_transports.emulator import AcceptOnly, Faults, Ledger, Received
from clocknext_transports.emulator.api.ledger import MAX_BYTES_LOGGED
from clocknext_transports.emulator.server.service import Service
from tests.emulator.support import EXAMPLE, KEY, NOW, call, received, signal

HUGE = "1e400"
READ_BACK = (
    "/api/v1/customers",
    "/api/v1/customers/cus_1",
    "/api/v1/customers/cus_1/members",
    "/api/v1/customers/cus_1/wallet",
    "/api/v1/customers/cus_1/balances",
    "/api/v1/customers/cus_1/plan",
    "/api/v1/customers/cus_1/revenue",
    "/api/v1/usage?customerId=cus_1",
    "/api/v1/units?customerId=cus_1",
    "/api/v1/credits",
    "/api/v1/outcomes",
    "/api/v1/units-catalog",
    "/api/v1/plans",
    "/api/v1/purchases",
    "/api/v1/invoices",
    "/api/v1/payments",
    "/api/v1/webhooks",
    "/api/v1/models",
    "/_emulator/ledger",
    "/_emulator/requests",
    "/_emulator/faults",
)


def answered(service: Service, request: Received) -> tuple[int, Any]:
    response = service.respond(request, now=NOW).response
    assert response is not None
    return response.status, json.loads(response.body)


def read_back(service: Service) -> None:
    for target in READ_BACK:
        assert answered(service, received("GET", target))[0] == 200, target


def written(body: object, raw: str) -> bytes:
    """A body in JSON with `raw` in the place of every "RAW"."""
    return json.dumps(body).replace('"RAW"', raw).encode()


POSTS: list[tuple[str, dict[str, Any]]] = [
    ("/api/v1/usage", signal(custom={"a": "RAW", "b": ["RAW", {"c": "RAW"}]}, metric="RAW")),
    ("/api/v1/customers", {"name": "A", "email": "a@b.c", "extra": "RAW"}),
    ("/api/v1/customers/bulk", {"customers": [{"name": "A", "email": "RAW"}, "RAW"]}),
    ("/api/v1/customers/cus_1/members", {"name": "A", "email": "a@b.c", "role": "RAW", "tags": ["RAW"]}),
    ("/api/v1/customers/cus_1/wallet", {"type": "TOPUP", "amount": 1, "note": "RAW"}),
    ("/api/v1/credits", {"name": "G", "agentKey": "g", "basePrice": 1, "extra": "RAW"}),
    (
        "/api/v1/outcomes",
        {"name": "O", "pricePerOutcome": 1, "steps": [{"name": "S", "agentKey": "s", "extra": "RAW"}]},
    ),
    ("/api/v1/units-catalog", {"name": "U", "agentKey": "u", "pricingType": "FLAT", "extra": "RAW"}),
    (
        "/api/v1/plans",
        {
            "name": "P",
            "billingCycle": "MONTHLY",
            "components": [{"type": "FLAT", "billingMode": "ADVANCE", "amount": 1, "extra": "RAW"}],
        },
    ),
    ("/api/v1/webhooks", {"kind": "K", "url": "https://x", "secret": "RAW", "more": {"a": ["RAW"]}}),
    ("/api/v1/models", {"provider": "openai", "modelId": "gpt-4.1", "extra": "RAW"}),
    ("/api/v1/portal/token", {"customerId": "cus_1", "extra": "RAW"}),
]


@pytest.mark.parametrize("raw", [HUGE, "-1e400", "1" * 5000, '"\\ud800"', "NaN", "[" * 300 + "]" * 300])
@pytest.mark.parametrize(("target", "body"), POSTS, ids=[target for target, _ in POSTS])
def test_odd_values_in_extra_properties_are_stored_as_json_or_refused(
    target: str, body: dict[str, Any], raw: str
) -> None:
    service = Service(Ledger(EXAMPLE), Faults())
    status, _ = answered(service, received("POST", target, written(body, raw)))
    assert status == 400 if raw[0] in "N[" else status < 300
    read_back(service)
    assert answered(service, received("POST", "/api/v1/usage", signal(idempotencyKey="next")))[0] == 200


@pytest.mark.parametrize("state", [None, "thin", "thick", "thick-queued"])
def test_a_number_that_is_too_large_for_a_double_is_null_as_in_javascript(state: AcceptOnly | None) -> None:
    ledger = Ledger(EXAMPLE, accept_only=state)
    for key, number in enumerate((HUGE, "1" + "0" * 400)):
        body = signal(custom={"a": "RAW", "b": [{"c": "RAW"}]}, metric="RAW", idempotencyKey=f"k{key}")
        assert call(ledger, "POST", "/api/v1/usage", written(body, number))[0] in {200, 202}
        log = call(ledger, "GET", "/api/v1/usage?customerId=cus_1")[1]["logs"][0]
        assert (log["custom"], log["metrics"]) == ({"a": None, "b": [{"c": None}]}, {"metric": None})


AMOUNTS = [
    ("/api/v1/customers/cus_1/wallet", {"type": "TOPUP", "amount": "RAW"}),
    ("/api/v1/customers/cus_1/wallet", {"type": "DEBIT", "amount": "RAW"}),
    ("/api/v1/customers/cus_1/credits/adjust", {"creditId": "api_credit", "amount": "RAW"}),
    ("/api/v1/credits", {"name": "G", "agentKey": "g", "basePrice": "RAW", "pricePerCredit": "RAW"}),
    ("/api/v1/credits", {"name": "G", "agentKey": "g", "basePrice": 1, "marginPercent": "RAW"}),
    ("/api/v1/webhooks", {"kind": "K", "url": "https://x", "threshold": "RAW"}),
    (
        "/api/v1/units-catalog",
        {"name": "U", "agentKey": "u", "pricingType": "SLAB", "tiers": [{"upTo": "RAW", "price": "RAW"}]},
    ),
    (
        "/api/v1/plans",
        {
            "name": "P",
            "billingCycle": "MONTHLY",
            "priceAdjustment": "RAW",
            "components": [{"type": "WALLET", "billingMode": "ADVANCE", "amount": "RAW"}],
        },
    ),
]


@pytest.mark.parametrize("raw", [HUGE, "1e15", "1e-300", "5e-324", "-1e400", "1" + "0" * 400, "-0.0"])
@pytest.mark.parametrize(("target", "body"), AMOUNTS)
def test_odd_amounts_are_refused_or_priced(target: str, body: dict[str, Any], raw: str) -> None:
    service = Service(Ledger(EXAMPLE), Faults())
    status, content = answered(service, received("POST", target, written(body, raw)))
    assert status in {200, 201, 400, 422}
    if status == 201 and target == "/api/v1/plans":
        bought = {"customerId": "cus_1", "planId": content["plan"]["id"]}
        assert answered(service, received("POST", "/api/v1/purchases", bought))[0] == 201
    read_back(service)
    largest = signal(inputTokens=2**53 - 1, type="wallet", idempotencyKey="b")
    assert answered(service, received("POST", "/api/v1/usage", largest))[0] in {200, 422}
    read_back(service)


def odd_requests() -> Iterator[Received]:
    headers = {"authorization": KEY, "content-type": "application/json"}
    targets = [
        "",
        "*",
        "/",
        "//",
        "/%",
        "/api/v1/customers/%00",
        "/api/v1/customers/%ff%fe/wallet",
        "http://x/y",
    ]
    targets += [
        "/api/v1/usage?customerId=%00&limit=9999999999",
        "/api/v1/usage?" + "a&" * 5000,
        "/api/v1/%zz",
    ]
    targets += ["/_emulator/", "/_emulator/requests?limit=0", "/_emulator/requests?limit=\u00e9"]
    targets += ["/api/v1/customers?cursor=cur_999999999999999&q=%F0%9F%98%80", "/\u00ff"]
    for target in targets:
        for method in ("GET", "POST", "HEAD", "OPTIONS", "CONNECT", "", "\u00e9", "get"):
            for body in (b"", b"{}", b"\xff", b"[" * 60_000):
                yield Received(method, target, headers, body)


@pytest.mark.parametrize("state", [None, "thin", "thick", "thick-queued"])
def test_odd_targets_and_methods_are_answered(state: AcceptOnly | None) -> None:
    service = Service(Ledger(EXAMPLE, accept_only=state), Faults())
    for request in odd_requests():
        response = service.respond(request, now=NOW).response
        assert response is not None
    read_back(service)


def test_odd_headers_are_answered() -> None:
    for value in ("", "\u00ff", "Bearer \u00ff", "a" * 60_000, "application/json;" * 5000):
        for name in ("authorization", "content-type", "origin", "host", "connection", "sec-fetch-site"):
            for state in (None, "thin", "thick-queued"):
                service = Service(Ledger(EXAMPLE, accept_only=state), Faults())
                for target in ("/api/v1/usage", "/_emulator/ledger", "/health"):
                    request = Received(
                        "POST", target, {"content-type": "application/json", name: value}, b"{}"
                    )
                    assert service.respond(request, now=NOW).response is not None


def test_the_log_of_requests_is_bounded_in_bytes() -> None:
    ledger = Ledger(EXAMPLE)
    request = received("POST", "/", b"x" * 1024 * 1024)
    for _ in range(MAX_BYTES_LOGGED // len(request.body) + 5):
        ledger.log_request(request, now=NOW, status=404)
    assert len(ledger.requests) == MAX_BYTES_LOGGED // len(request.body)
    assert ledger.requests[0].number == 6
