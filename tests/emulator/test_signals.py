import json
from decimal import Decimal
from typing import Any

import pytest

from clocknext_transports.emulator import Catalogue, Customer, Ledger, Outcome, Plan
from tests.emulator.support import EXAMPLE, NOW, call, send


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(EXAMPLE)


def refused(answer: tuple[int, dict[str, Any]]) -> tuple[int, str, str | None]:
    status, content = answer
    assert content["statusCode"] == status
    assert content["statusDetail"]["status"] == "ERROR"
    return status, content["statusDetail"]["message"], content["result"].get("errorReason")


def test_a_credit_signal_is_priced_debited_and_recorded(ledger: Ledger) -> None:
    status, content = send(ledger, member="a@b.c", custom={"feature": "x"}, voice_ai="wb21")
    assert status == 200
    assert content["statusCode"] == 200
    assert content["statusDetail"] == {"status": "SUCCESS", "message": "Request processed successfully."}
    assert content["result"]["usageLog"] == {
        "id": "log_1",
        "customerId": "cus_1",
        "type": "credit",
        "model": "example",
        "agentKey": "api_credit",
        "inputTokens": 1500,
        "outputTokens": 750,
        "cacheTokens": 250,
        "creditsUsed": 0.025,
        "providedCost": 0.016125,
        "customerCost": 0.0209625,
        "status": "SUCCESS",
        "member": "a@b.c",
        "custom": {"feature": "x"},
        "idempotencyKey": "idem-1",
        "createdAt": "2026-07-01T10:00:00.000Z",
        "metrics": {"voice_ai": "wb21"},
    }
    assert ledger.balance("cus_1", "api_credit") == Decimal("99.975")
    assert [s.idempotency_key for s in ledger.signals] == ["idem-1"]


def test_a_wallet_signal_debits_the_cost_and_needs_no_key(ledger: Ledger) -> None:
    status, content = send(ledger, type="wallet", agentKey=None, voice_ai="ignored")
    assert status == 200
    assert content["result"]["usageLog"]["customerCost"] == 0.016125
    assert "metrics" not in content["result"]["usageLog"]
    assert ledger.balance("cus_1") == Decimal("9.983875")


def test_the_key_is_read_from_either_name_and_the_later_one_wins(ledger: Ledger) -> None:
    assert send(ledger, agentKey=None, key="api_credit", idempotencyKey="a")[0] == 200
    assert send(ledger, agentKey="api_credit", key="nonsense", idempotencyKey="b")[0] == 200


def test_the_model_is_matched_without_regard_to_case(ledger: Ledger) -> None:
    assert send(ledger, model="EXAMPLE")[1]["result"]["usageLog"]["model"] == "example"


def test_tokens_left_out_count_as_none(ledger: Ledger) -> None:
    log = send(ledger, inputTokens=None, outputTokens=None, cacheTokens=None)[1]["result"]["usageLog"]
    assert (log["inputTokens"], log["outputTokens"], log["cacheTokens"]) == (0, 0, 0)


def test_what_the_server_fills_in_itself_is_dropped_from_a_body(ledger: Ledger) -> None:
    log = send(ledger, organizationId="o", signalId="s", receivedAt="r")[1]["result"]["usageLog"]
    assert "metrics" not in log


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"customerId": None}, "customerId", "is required"),
        ({"customerId": " "}, "customerId", "must not be blank"),
        ({"customerId": 7}, "customerId", "must be a string"),
        ({"type": None}, "type", "is required"),
        ({"type": "unit"}, "type", "must be one of wallet, credit, outcome"),
        ({"type": ["credit"]}, "type", "must be one of wallet, credit, outcome"),
        ({"model": None}, "model", "is required"),
        ({"model": ""}, "model", "must not be blank"),
        ({"agentKey": None}, "agentKey", "is required for credit signals"),
        ({"agentKey": None, "type": "outcome"}, "agentKey", "is required for outcome signals"),
        ({"agentKey": None, "key": " "}, "key", "must not be blank"),
        ({"agentKey": False}, "agentKey", "must be a string"),
        ({"inputTokens": "1"}, "inputTokens", "must be an integer"),
        ({"inputTokens": True}, "inputTokens", "must be an integer"),
        ({"outputTokens": 1.5}, "outputTokens", "must be an integer"),
        ({"outputTokens": -1}, "outputTokens", "must be at least 0"),
        ({"cacheTokens": 2**53}, "cacheTokens", "must be at most 9007199254740991"),
        ({"cacheTokens": []}, "cacheTokens", "must be an integer"),
        ({"member": 7}, "member", "must be a string"),
        ({"member": ""}, "member", "must not be blank"),
        ({"status": "success"}, "status", "must be one of SUCCESS, FAILURE, PENDING"),
        ({"custom": [1]}, "custom", "must be an object"),
        ({"idempotencyKey": ""}, "idempotencyKey", "must not be blank"),
        ({"idempotencyKey": "k" * 256}, "idempotencyKey", "must be at most 255 characters"),
        ({"dryRun": "true"}, "dryRun", "must be true or false"),
        ({"type": "outcome", "runId": ""}, "runId", "must not be blank"),
        ({"type": "outcome", "runId": "r" * 256}, "runId", "must be at most 255 characters"),
        ({"type": "outcome", "complete": 1}, "complete", "must be true or false"),
    ],
)
def test_each_field_is_validated(
    ledger: Ledger, changes: dict[str, object], field: str, message: str
) -> None:
    answer = send(ledger, **changes)
    assert refused(answer) == (400, f"{field}: {message}", "INVALID_BODY")
    assert answer[1]["result"]["issues"] == [{"field": field, "message": message}]
    assert ledger.signals == ()


def test_null_is_not_the_same_as_absent(ledger: Ledger) -> None:
    for field in ("cacheTokens", "member", "custom", "idempotencyKey", "status", "dryRun"):
        body = {"customerId": "cus_1", "type": "wallet", "model": "example", field: None}
        status, content = call(ledger, "POST", "/api/v1/usage", body)
        assert (status, content["result"]["issues"][0]["field"]) == (400, field)


def test_all_issues_are_listed_at_once(ledger: Ledger) -> None:
    status, content = call(ledger, "POST", "/api/v1/usage", {})
    assert status == 400
    assert [issue["field"] for issue in content["result"]["issues"]] == ["customerId", "type", "model"]


def test_limits_are_inclusive(ledger: Ledger) -> None:
    assert send(ledger, idempotencyKey="k" * 255, inputTokens=0, outputTokens=0, cacheTokens=0)[0] == 200
    assert send(ledger, type="wallet", idempotencyKey="b", inputTokens=2**53 - 1)[0] == 422
    assert send(ledger, idempotencyKey="c", inputTokens=2.0)[0] == 200


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"customerId": "cus_x"}, 404, 'No customer with id "cus_x".'),
        ({"model": "unheard-of"}, 422, 'Model "unheard-of" is not a valid model.'),
        ({"model": "retired"}, 422, 'The model "retired" is not active.'),
        ({"agentKey": "nope"}, 422, 'No credit with agent key "nope" in this workspace.'),
        (
            {"type": "outcome"},
            422,
            'No outcome step with agent key "api_credit" in this workspace.',
        ),
        ({"customerId": "cus_bare"}, 422, 'The plan of customer "cus_bare" has no credit "api_credit".'),
        ({"customerId": "cus_bare", "type": "wallet"}, 422, 'The plan of customer "cus_bare" has no wallet.'),
        (
            {"customerId": "cus_bare", "type": "outcome", "agentKey": "resolved_ticket.triage"},
            422,
            'The plan of customer "cus_bare" has no outcome "resolved_ticket".',
        ),
        (
            {"inputTokens": 10**9},
            422,
            "Insufficient credit balance: 4651.180813953488 of api_credit needed, 100 left.",
        ),
        (
            {"type": "wallet", "inputTokens": 10**9},
            422,
            "Insufficient wallet balance: 3000.011625 USD needed, 10 USD left.",
        ),
    ],
)
def test_what_cannot_be_billed_is_refused(
    ledger: Ledger, changes: dict[str, object], status: int, message: str
) -> None:
    assert refused(send(ledger, **changes)) == (status, message, None)
    assert ledger.signals == ()
    assert ledger.counters.refused == 1


def test_a_balance_can_be_spent_to_the_last_digit_and_not_beyond() -> None:
    ledger = Ledger(Catalogue(models=EXAMPLE.models, customers=[Customer("cus_1", wallet="0.03225")]))
    assert send(ledger, type="wallet", idempotencyKey="a")[0] == 200
    assert send(ledger, type="wallet", idempotencyKey="b")[0] == 200
    assert ledger.balance("cus_1") == 0
    status, message, _ = refused(send(ledger, type="wallet", idempotencyKey="c"))
    assert (status, message) == (422, "Insufficient wallet balance: 0.016125 USD needed, 0 USD left.")


def test_a_plan_in_arrear_never_runs_out() -> None:
    plan = Plan("p", wallet=0, credits={"api_credit": 0}, outcomes={"resolved_ticket": 0}, arrear=True)
    ledger = Ledger(
        Catalogue(
            models=EXAMPLE.models,
            credits=EXAMPLE.credits,
            plans=[plan],
            customers=[Customer("cus_1", plan="p")],
        )
    )
    assert send(ledger, type="wallet", idempotencyKey="a")[0] == 200
    assert send(ledger, idempotencyKey="b")[0] == 200
    done = {"type": "outcome", "agentKey": "resolved_ticket.confirm", "complete": True}
    assert send(ledger, idempotencyKey="c", **done)[0] == 200
    assert ledger.balance("cus_1") == Decimal("-0.016125")
    assert ledger.balance("cus_1", "api_credit") == Decimal("-0.025")
    assert ledger.balance("cus_1", "resolved_ticket") == -1


def test_a_repeat_returns_the_first_result_and_records_nothing(ledger: Ledger) -> None:
    first = send(ledger)
    again = send(ledger)
    changed = call(
        ledger,
        "POST",
        "/api/v1/usage",
        {"customerId": "cus_bare", "type": "wallet", "model": "example", "idempotencyKey": "idem-1"},
        now=NOW + 3600,
    )
    assert first == again == changed
    assert ledger.billed("idem-1") == 1
    assert ledger.counters.repeats == 2
    assert ledger.balance("cus_1", "api_credit") == Decimal("99.975")


def test_a_repeat_succeeds_after_the_balance_has_run_out() -> None:
    ledger = Ledger(Catalogue(models=EXAMPLE.models, customers=[Customer("cus_1", wallet="0.016125")]))
    assert send(ledger, type="wallet") == send(ledger, type="wallet")


def test_a_refusal_is_not_remembered(ledger: Ledger) -> None:
    assert send(ledger, model="unheard-of")[0] == 422
    assert send(ledger)[0] == 200
    assert ledger.billed("idem-1") == 1


def test_without_a_key_every_signal_is_recorded(ledger: Ledger) -> None:
    for _ in range(2):
        assert send(ledger, idempotencyKey=None)[0] == 200
    assert len(ledger.signals) == 2


def test_a_dry_run_prices_and_records_nothing(ledger: Ledger) -> None:
    status, content = send(ledger, dryRun=True)
    assert status == 200
    assert content["result"]["dryRun"] is True
    assert content["result"]["usageLog"]["customerCost"] == 0.0209625
    assert content["result"]["usageLog"]["id"] is None
    assert ledger.signals == ()
    assert ledger.balance("cus_1", "api_credit") == 100
    assert ledger.counters.dry_runs == 1
    assert send(ledger)[1]["result"]["usageLog"]["id"] == "log_1"


def test_a_dry_run_is_refused_as_the_signal_would_be(ledger: Ledger) -> None:
    assert send(ledger, dryRun=True, inputTokens=10**12)[0] == 422


def outcome(
    ledger: Ledger, key: str, step: str = "resolved_ticket.triage", **changes: object
) -> dict[str, Any]:
    status, content = send(ledger, type="outcome", agentKey=step, idempotencyKey=key, **changes)
    assert status == 200
    log: dict[str, Any] = content["result"]["usageLog"]
    return log


def test_steps_cost_nothing_and_the_last_bills_once_per_run(ledger: Ledger) -> None:
    assert outcome(ledger, "a", runId="run_1")["customerCost"] == 0
    assert outcome(ledger, "b", runId="run_1", complete=False)["customerCost"] == 0
    assert (
        outcome(ledger, "c", "resolved_ticket.confirm", runId="run_1", complete=True)["customerCost"] == 0.99
    )
    assert outcome(ledger, "d", "resolved_ticket.confirm", runId="run_1", complete=True)["customerCost"] == 0
    assert ledger.balance("cus_1", "resolved_ticket") == 1
    assert ledger.bill("cus_1").outcomes == {"resolved_ticket": 1}
    assert outcome(ledger, "e", runId="run_2", complete=True)["customerCost"] == 0.99
    status, content = send(
        ledger,
        type="outcome",
        agentKey="resolved_ticket.confirm",
        idempotencyKey="f",
        runId="run_3",
        complete=True,
    )
    assert status == 422
    assert content["statusDetail"]["message"] == "Insufficient outcome balance: no resolved_ticket left."


def test_a_step_without_a_run_advances_the_workflow(ledger: Ledger) -> None:
    log = outcome(ledger, "a")
    assert (log["customerCost"], log["outcomeKey"], log["runId"]) == (0, "resolved_ticket", None)
    assert outcome(ledger, "b", complete=True)["customerCost"] == 0.99
    assert outcome(ledger, "c", complete=True)["customerCost"] == 0.99
    assert ledger.balance("cus_1", "resolved_ticket") == 0


def test_a_run_id_is_unique_in_the_organisation() -> None:
    outcomes = [Outcome("a", steps=["a.1"], price=1), Outcome("b", steps=["b.1"], price=2)]
    customers = [Customer(name, outcomes={"a": 5, "b": 5}) for name in ("cus_1", "cus_2")]
    ledger = Ledger(Catalogue(models=EXAMPLE.models, outcomes=outcomes, customers=customers))
    assert outcome(ledger, "1", "a.1", runId="r", complete=True)["customerCost"] == 1
    assert outcome(ledger, "2", "b.1", runId="r", complete=True)["customerCost"] == 0
    assert outcome(ledger, "3", "a.1", runId="r", complete=True, customerId="cus_2")["customerCost"] == 0
    assert outcome(ledger, "4", "a.1", runId="s", complete=True, customerId="cus_2")["customerCost"] == 1


@pytest.mark.parametrize("target", ["/api/v1/usage?customerId=cus_1", "/api/v1/customers/cus_1/usage"])
def test_logs_are_listed_newest_first_with_totals(ledger: Ledger, target: str) -> None:
    for number in range(3):
        send(ledger, idempotencyKey=f"k{number}")
    status, content = call(ledger, "GET", target)
    assert status == 200
    assert content["ok"] is True
    assert content["customer"]["id"] == "cus_1"
    assert [log["idempotencyKey"] for log in content["logs"]] == ["k2", "k1", "k0"]
    assert content["totals"] == {
        "signals": 3,
        "inputTokens": 4500,
        "outputTokens": 2250,
        "cacheTokens": 750,
        "providedCost": 0.048375,
        "creditsUsed": 0.075,
        "customerCost": 0.0628875,
    }
    limited = call(ledger, "GET", target + ("&" if "?" in target else "?") + "limit=1")[1]
    assert [log["idempotencyKey"] for log in limited["logs"]] == ["k2"]
    assert limited["totals"] == content["totals"]


@pytest.mark.parametrize(
    ("target", "status", "error"),
    [
        ("/api/v1/usage", 400, "customerId: is required"),
        ("/api/v1/usage?customerId=", 400, "customerId: is required"),
        ("/api/v1/usage?customerId=nobody", 404, 'No customer with id "nobody".'),
        ("/api/v1/usage?customerId=cus_1&limit=0", 400, "limit: must be an integer from 1 to 1000000"),
        ("/api/v1/usage?customerId=cus_1&limit=x", 400, "limit: must be an integer from 1 to 1000000"),
    ],
)
def test_a_listing_is_refused_in_the_legacy_envelope(
    ledger: Ledger, target: str, status: int, error: str
) -> None:
    assert call(ledger, "GET", target) == (status, {"ok": False, "error": error})


def test_custom_is_limited_once_encoded(ledger: Ledger) -> None:
    largest = {"x": "a" * (32 * 1024 - len('{"x":""}'))}
    assert send(ledger, custom=largest)[0] == 200
    over = {"x": largest["x"] + "a"}
    status, _, reason = refused(send(ledger, custom=over, idempotencyKey="b"))
    assert (status, reason) == (413, "CUSTOM_TOO_LARGE")


def test_custom_is_measured_in_utf8_not_in_escapes(ledger: Ledger) -> None:
    text = "é" * 10_000
    assert len(json.dumps(text)) > 32 * 1024
    assert send(ledger, custom={"x": text})[0] == 200
