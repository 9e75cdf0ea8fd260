import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clocknext_transports.emulator import (
    EXPIRED_API_KEY,
    Catalogue,
    Credit,
    Customer,
    Ledger,
    Model,
    Outcome,
)
from clocknext_transports.emulator.api.ledger import MAX_REQUESTS_LOGGED
from tests.emulator.support import EXAMPLE, KEY, NOW, call, received, send, signal

USAGE = "/api/v1/usage"


@pytest.mark.parametrize(
    ("authorization", "message", "reason"),
    [
        (None, "Invalid API key.", "API_KEY_MISSING"),
        ("", "Invalid API key.", "API_KEY_REJECTED"),
        ("cnk_test_emulator", "Invalid API key.", "API_KEY_REJECTED"),
        ("Basic cnk_test_emulator", "Invalid API key.", "API_KEY_REJECTED"),
        ("Bearer cnk_other", "Invalid API key.", "API_KEY_REJECTED"),
        (f"Bearer {EXPIRED_API_KEY}", "This API key has expired.", "API_KEY_REJECTED"),
    ],
)
def test_only_the_key_with_its_scheme_gets_in(authorization: str | None, message: str, reason: str) -> None:
    ledger = Ledger(EXAMPLE)
    status, content = call(ledger, "POST", USAGE, signal(), authorization=authorization)
    assert (status, content) == (
        401,
        {
            "statusCode": 401,
            "statusDetail": {"status": "ERROR", "message": message},
            "result": {"errorReason": reason},
        },
    )
    legacy = call(ledger, "GET", "/api/v1/customers", authorization=authorization)
    assert legacy == (401, {"ok": False, "error": message})
    assert ledger.signals == ()


def test_the_key_can_be_chosen() -> None:
    ledger = Ledger(EXAMPLE, api_key="cnk_mine", expired_keys=("cnk_old",))
    assert call(ledger, "GET", "/api/v1/me", authorization="Bearer cnk_mine")[0] == 200
    assert call(ledger, "GET", "/api/v1/me", authorization=KEY)[0] == 401
    expired = call(ledger, "GET", "/api/v1/me", authorization="Bearer cnk_old")[1]
    assert expired["error"] == "This API key has expired."


@pytest.mark.parametrize(
    ("body", "content_type", "status", "reason"),
    [
        (b"{}", None, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"{}", "text/plain", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"a" * (64 * 1024 + 1), "application/json", 413, "BODY_TOO_LARGE"),
        (b"", "application/json", 400, "EMPTY_BODY"),
        (None, None, 400, "EMPTY_BODY"),
        (b" \n", "application/json", 400, "EMPTY_BODY"),
        (b"{", "application/json", 400, "MALFORMED_JSON"),
        (b'{"a": NaN}', "application/json", 400, "MALFORMED_JSON"),
        (b'{"a": "\xff"}', "application/json", 400, "MALFORMED_JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "application/json", 400, "MALFORMED_JSON"),
        (b"[" * 60_000, "application/json", 400, "MALFORMED_JSON"),
        (b'{"a":' + b"1" * 5000 + b"}", "application/json", 400, "INVALID_BODY"),
        (b'{"a":' + b"[" * 201 + b"]" * 201 + b"}", "application/json", 400, "MALFORMED_JSON"),
        (b"[]", "application/json", 400, "INVALID_BODY"),
        (b"null", "application/json", 400, "INVALID_BODY"),
    ],
)
def test_a_body_must_be_a_json_object(
    body: bytes | None, content_type: str | None, status: int, reason: str
) -> None:
    ledger = Ledger(EXAMPLE)
    got, content = call(ledger, "POST", USAGE, body, content_type=content_type)
    assert (got, content["result"]["errorReason"]) == (status, reason)
    assert call(ledger, "POST", "/api/v1/customers", body, content_type=content_type)[0] == status


def test_a_content_type_may_carry_parameters() -> None:
    body = signal()
    assert (
        call(Ledger(EXAMPLE), "POST", USAGE, body, content_type="Application/JSON; charset=utf-8")[0] == 200
    )


def test_a_body_of_exactly_64_kib_is_taken() -> None:
    raw = json.dumps(signal()).encode()
    assert call(Ledger(EXAMPLE), "POST", USAGE, raw.ljust(64 * 1024))[0] == 200


@pytest.mark.parametrize("target", ["/", "/api/v1", "/api/v1/", "/api/v1/customers/", "/api/v2/usage", "*"])
def test_unknown_paths(target: str) -> None:
    status, content = call(Ledger(), "GET", target)
    assert (status, content["result"]["errorReason"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "target"),
    [("PUT", USAGE), ("DELETE", "/api/v1/customers"), ("POST", "/api/v1/customers/cus_123")],
)
def test_wrong_methods(method: str, target: str) -> None:
    status, content = call(Ledger(), method, target)
    assert (status, content["result"]["errorReason"]) == (405, "METHOD_NOT_ALLOWED")


def test_answers_say_what_they_are_and_when() -> None:
    response = Ledger().handle(received("GET", "/api/v1/me"), now=NOW + 0.9)
    assert response.header("content-type") == "application/json"
    assert response.header("date") == "Wed, 01 Jul 2026 10:00:00 GMT"


def test_lone_surrogates_do_not_break_an_answer() -> None:
    raw = json.dumps(signal(custom={"x": "\ud800"})).encode()
    assert call(Ledger(EXAMPLE), "POST", USAGE, raw)[1]["result"]["usageLog"]["custom"] == {"x": "\ud800"}


def test_the_same_requests_give_the_same_bytes() -> None:
    def play() -> list[bytes]:
        ledger = Ledger(EXAMPLE)
        requests = [
            received("POST", USAGE, signal()),
            received("POST", "/api/v1/customers", {"name": "A", "email": "a@b.c"}),
            received("GET", "/api/v1/customers"),
        ]
        return [ledger.handle(request, now=NOW + n).body for n, request in enumerate(requests)]

    assert play() == play()


def test_ids_can_be_injected() -> None:
    ledger = Ledger(EXAMPLE, ids=lambda prefix: f"{prefix}-x")
    assert send(ledger)[1]["result"]["usageLog"]["id"] == "log-x"


def test_the_request_log_tells_everything_but_the_key() -> None:
    ledger = Ledger(EXAMPLE)
    send(ledger)
    call(ledger, "GET", "/api/v1/customers/nobody?a=b", authorization=None)
    posted, fetched = ledger.requests
    assert (posted.number, posted.method, posted.target, posted.status) == (1, "POST", USAGE, 200)
    assert (posted.authorised, posted.content_type, posted.body) == (True, "application/json", signal())
    assert (posted.at, posted.fault) == (NOW, None)
    assert (fetched.number, fetched.target, fetched.status) == (2, "/api/v1/customers/nobody?a=b", 401)
    assert (fetched.authorised, fetched.content_type, fetched.body) == (False, None, None)
    shown = repr(ledger.requests) + repr(ledger) + json.dumps([r.as_json() for r in ledger.requests])
    assert ledger.api_key not in shown
    assert ledger.api_key not in repr(received("GET", "/"))
    assert ledger.counters.requests == 2


def test_the_request_log_keeps_the_latest() -> None:
    ledger = Ledger()
    request = received("GET", "/", authorization=None)
    for _ in range(MAX_REQUESTS_LOGGED + 1):
        ledger.log_request(request, now=NOW, status=404)
    assert (len(ledger.requests), ledger.requests[0].number) == (MAX_REQUESTS_LOGGED, 2)


def test_bills_sum_up_by_customer_and_component() -> None:
    ledger = Ledger(EXAMPLE)
    ledger.add_customer(Customer("cus_2", wallet=1))
    send(ledger)
    send(ledger, type="wallet", idempotencyKey="b")
    send(ledger, type="outcome", agentKey="resolved_ticket.triage", idempotencyKey="c", complete=True)
    send(ledger, type="wallet", customerId="cus_2", idempotencyKey="d")
    bill = ledger.bill("cus_1")
    assert (bill.signals, bill.wallet) == (3, Decimal("0.016125"))
    assert (bill.credits, bill.outcomes) == ({"api_credit": Decimal("0.025")}, {"resolved_ticket": 1})
    assert bill.customer_cost == Decimal("0.0209625") + Decimal("0.016125") + Decimal("0.99")
    assert (ledger.bill().signals, ledger.bill("nobody").signals) == (4, 0)
    assert ledger.bill().as_json()["wallet"] == 0.03225


def test_a_test_can_arrange_what_it_needs() -> None:
    ledger = Ledger()
    ledger.add_model(Model("mine", input=1, output=1))
    ledger.add_credit(Credit("gold", base_price=1))
    ledger.add_outcome(Outcome("won", steps=["won.it"], price=5))
    ledger.add_customer(Customer("me", wallet=1, credits={"gold": 1}, outcomes={"won": 1}))
    assert send(ledger, customerId="me", model="mine", agentKey="gold")[0] == 200
    won = {"type": "outcome", "agentKey": "won.it", "complete": True, "idempotencyKey": "b"}
    assert send(ledger, customerId="me", model="mine", **won)[1]["result"]["usageLog"]["customerCost"] == 5
    with pytest.raises(KeyError):
        ledger.balance("me", "silver")
    ledger.reset()
    assert send(ledger, customerId="me", model="mine", agentKey="gold")[0] == 404
    assert (len(ledger.requests), ledger.signals) == (1, ())


def test_a_customer_on_a_plan_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="plan the catalogue lacks: 'nope'"):
        Ledger(Catalogue(customers=[Customer("cus_1", plan="nope")]))


def test_the_default_catalogue_bills_every_type_and_runs_one_customer_out() -> None:
    ledger = Ledger()
    for number, kind in enumerate(("credit", "wallet", "outcome")):
        key = {"credit": "chat_credit", "outcome": "qualified_lead.score"}.get(kind)
        changes: dict[str, Any] = {"type": kind, "agentKey": key, "idempotencyKey": f"k{number}"}
        assert send(ledger, customerId="cus_123", model="openai/GPT-OSS-120B", **changes)[0] == 200
    statuses = [
        send(ledger, customerId="cus_low", model="llama-3.3-70b-versatile", idempotencyKey=f"low{n}")[0]
        for n in range(5)
    ]
    assert statuses == [200, 422, 422, 422, 422]


MODELS = (Model("a", input="0.59", output="0.79", cache="0.07"), Model("b", input=3, output=15, cache="1.5"))
CREDITS = (Credit("x", base_price="0.7", margin_percent=33), Credit("y", base_price="0.003"))
OUTCOMES = (Outcome("o", steps=("o.1", "o.2"), price="0.99"),)
START = {"x": Decimal(3), "y": Decimal(1000), "o": Decimal(3), "wallet": Decimal(2)}

signals = st.fixed_dictionaries(
    {
        "customerId": st.sampled_from(["cus_1", "cus_2", "nobody"]),
        "type": st.sampled_from(["credit", "wallet", "outcome"]),
        "model": st.sampled_from(["a", "B", "none"]),
        "key": st.sampled_from(["x", "y", "o.1", "o.2"]),
        "inputTokens": st.one_of(st.integers(0, 500_000), st.just(-1)),
        "outputTokens": st.integers(0, 200_000),
        "cacheTokens": st.integers(0, 100_000),
        "idempotencyKey": st.sampled_from([f"k{n}" for n in range(12)]),
    },
    optional={
        "complete": st.booleans(),
        "runId": st.sampled_from(["r1", "r2"]),
        "dryRun": st.booleans(),
    },
)


@settings(max_examples=60, deadline=None)
@given(st.lists(signals, max_size=40))
def test_money_in_is_money_out(bodies: list[dict[str, object]]) -> None:
    """What the logs say was used is what the balances lost, to the last digit; a key bills once at most."""
    held = {"x": START["x"], "y": START["y"]}
    customers = [Customer(c, wallet=2, credits=held, outcomes={"o": 3}) for c in ("cus_1", "cus_2")]
    ledger = Ledger(Catalogue(models=MODELS, credits=CREDITS, outcomes=OUTCOMES, customers=customers))
    succeeded: dict[str, dict[str, Any]] = {}
    for body in bodies:
        status, content = call(ledger, "POST", USAGE, body)
        assert status in {200, 400, 404, 422}
        if status == 200 and not body.get("dryRun"):
            log = content["result"]["usageLog"]
            assert succeeded.setdefault(str(body["idempotencyKey"]), log) == log
    assert {key: ledger.billed(key) for key in succeeded} == dict.fromkeys(succeeded, 1)
    assert len(ledger.signals) == len(succeeded)
    for customer in ("cus_1", "cus_2"):
        bill = ledger.bill(customer)
        used = {"wallet": bill.wallet, **bill.credits, **bill.outcomes}
        for component, start in START.items():
            left = ledger.balance(customer, component)
            assert left >= 0
            assert start - left == used.get(component, 0)
