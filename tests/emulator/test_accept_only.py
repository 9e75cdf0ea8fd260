"""The newer ingest: signals are taken with 202 and priced unseen."""

import json
from collections.abc import Iterator
from decimal import Decimal

import pytest

from clocknext_core import ClockNextError, Signal
from clocknext_transports import ClockNext
from clocknext_transports.emulator import EmulatorServer, Ledger, emulator
from tests.emulator.support import EXAMPLE, call, send


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(EXAMPLE, accept_only=True)


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with emulator(Ledger(accept_only=True)) as running:
        yield running


def test_a_signal_is_taken_and_billed_unseen(ledger: Ledger) -> None:
    assert send(ledger) == (
        202,
        {
            "statusCode": 202,
            "statusDetail": {"status": "SUCCESS", "message": "Signal accepted for processing."},
            "result": {
                "accepted": True,
                "signalId": "sig_1",
                "receivedAt": "2026-07-01T10:00:00.000Z",
                "organizationId": "org_emulator",
            },
        },
    )
    assert ledger.balance("cus_1", "api_credit") == Decimal("99.975")
    assert (ledger.billed("idem-1"), ledger.held) == (1, ())


def test_a_repeat_is_taken_and_bills_nothing(ledger: Ledger) -> None:
    assert [send(ledger)[1]["result"]["signalId"] for _ in range(2)] == ["sig_1", "sig_2"]
    assert ledger.billed("idem-1") == 1


def test_an_invalid_body_is_queued_for_a_person(ledger: Ledger) -> None:
    status, content = send(ledger, inputTokens=-1)
    assert (status, content["statusDetail"]["message"]) == (202, "Processing in the queue.")
    assert content["statusDetail"]["status"] == "SUCCESS"
    assert content["result"] == {
        "signalId": "sig_1",
        "receivedAt": "2026-07-01T10:00:00.000Z",
        "status": "PENDING",
        "issues": [{"field": "inputTokens", "message": "must be at least 0"}],
    }
    (held,) = ledger.held
    assert (held.signal_id, held.status, held.body["inputTokens"]) == ("sig_1", 400, -1)
    assert ledger.signals == ()


def test_what_cannot_be_billed_is_taken_and_held(ledger: Ledger) -> None:
    assert send(ledger, model="unheard-of")[1]["result"]["accepted"] is True
    (held,) = ledger.held
    assert (held.status, held.message) == (422, 'No model "unheard-of" is enabled in this organisation.')
    assert json.loads(json.dumps(ledger.as_json()))["held"][0]["signalId"] == "sig_1"


def test_an_outcome_needs_its_run(ledger: Ledger) -> None:
    step = {"type": "outcome", "agentKey": "resolved_ticket.triage"}
    assert send(ledger, **step)[1]["result"]["issues"] == [{"field": "runId", "message": "is required"}]
    assert send(ledger, **step, runId="r")[1]["result"]["accepted"] is True


def test_what_is_no_signal_is_refused_all_the_same(ledger: Ledger) -> None:
    for body, status in ((b"{", 400), (b"a" * 70_000, 413)):
        assert call(ledger, "POST", "/api/v1/usage", body)[0] == status
    assert call(ledger, "POST", "/api/v1/usage", {}, authorization=None)[0] == 401
    assert ledger.held == ()


def test_a_dry_run_is_priced(ledger: Ledger) -> None:
    status, content = send(ledger, dryRun=True)
    assert (status, content["result"]["usageLog"]["customerCost"]) == (200, 0.0209625)


def test_a_reset_stays_in_the_mode(ledger: Ledger) -> None:
    send(ledger, inputTokens=-1)
    ledger.reset()
    assert (ledger.held, send(ledger)[0]) == ((), 202)


def test_our_client_sees_both_answers(server: EmulatorServer) -> None:
    failures = list[tuple[ClockNextError, Signal]]()
    with ClockNext(
        server.api_key, base_url=server.url, on_error=lambda error, signal: failures.append((error, signal))
    ) as cnk:
        taken = cnk.signals.credit(customer_id="cus_123", model="gpt-4o", agent_key="api_credit", wait=True)
        assert (taken.accepted, taken.signal_id, taken.mending) == (True, "sig_1", False)
        assert taken.usage_log is None
        assert taken.received_at is not None
        queued = cnk.signals.outcome(
            customer_id="cus_123", model="gpt-4o", agent_key="resolved_ticket.triage", wait=True
        )
        assert (queued.accepted, queued.signal_id, queued.mending) == (None, "sig_2", True)
        assert failures == []
        cnk.signals.wallet(customer_id="cus_123", model="gpt-4o")
        cnk.signals.outcome(customer_id="cus_123", model="gpt-4o", agent_key="x", idempotency_key="buffered")
        assert cnk.flush(timeout=10).pending == 0
    assert [signal.idempotency_key for _, signal in failures] == ["buffered"]
    assert server.ledger.bill("cus_123").signals == 2
    assert [held.body.get("idempotencyKey") == "buffered" for held in server.ledger.held] == [False, True]
