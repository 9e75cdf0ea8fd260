import json
import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from clocknext_core import UsageLog, WalletSignal
from clocknext_transports.cli.errors import WHOSE_KEY
from clocknext_transports.cli.verify import NOTHING_BILLED, Estimate
from clocknext_transports.emulator import (
    EmulatorServer,
    Fault,
    Faults,
    Hold,
    Ledger,
    OnHold,
    emulator,
    scripted,
)
from tests.cli.support import (
    EXAMPLE,
    TIMEOUT,
    besides_progress,
    clocknext,
    connected,
    encoded,
    environment,
    many,
    started,
    wire,
)

USAGE = "/api/v1/usage"
PRICED = json.dumps(
    {"statusDetail": {"status": "SUCCESS"}, "result": {"usageLog": {"customerCost": 0.5}}}
).encode()
ACCEPTED = json.dumps({"statusDetail": {"status": "SUCCESS"}, "result": {"accepted": True}}).encode()
JSON = {"content-type": "application/json"}


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with emulator() as running:
        yield running


@pytest.fixture
def usage(tmp_path: Path) -> Path:
    return tmp_path / "usage.jsonl"


def is_untouched(ledger: Ledger, dry_runs: int) -> bool:
    """Whether so many signals were priced, and none was billed or remembered."""
    return (ledger.counters.dry_runs, len(ledger.signals), ledger.counters.repeats) == (dry_runs, 0, 0)


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_it_says_what_sending_then_costs_and_bills_nothing(server: EmulatorServer) -> None:
    before = clocknext("balances", "cus_123", env=connected(server.url)).stdout
    done = clocknext("verify", EXAMPLE, env=connected(server.url))
    assert (done.returncode, besides_progress(done.stderr)) == (0, "")
    lines = len(EXAMPLE.read_text("utf-8").splitlines())
    assert done.stdout.endswith(f"\n{lines} priced, 0 refused. Nothing was billed.\n")
    assert is_untouched(server.ledger, lines)
    assert not EXAMPLE.with_name(f"{EXAMPLE.name}.refused.jsonl").exists()
    assert clocknext("balances", "cus_123", env=connected(server.url)).stdout == before
    priced = rows(done.stdout)

    assert clocknext("send", EXAMPLE, env=connected(server.url)).returncode == 0
    assert len(server.ledger.signals) == lines
    totals = [row for row in priced if row and row[0] == "total"]
    assert [row[-1] for row in totals] == [f"{server.ledger.bill().customer_cost:,.6f}"] * 2
    for customer in ("cus_123", "cus_456", "cus_789", "cus_wallet"):
        billed = server.ledger.bill(customer)
        assert [customer, f"{billed.signals}", f"{billed.customer_cost:,.6f}"] in [
            [row[0], row[1], row[-1]] for row in priced if len(row) == 6
        ]


def test_the_tables_are_by_customer_and_by_model_and_type(server: EmulatorServer, usage: Path) -> None:
    usage.write_bytes(
        encoded(
            [
                wire(model="GPT-4o", inputTokens=1_000_000, outputTokens=0),
                wire(model="gpt-4o", inputTokens=1_000_000, outputTokens=0),
                wire(model="gpt-4o", type="credit", key="api_credit", inputTokens=1_000_000, outputTokens=0),
                wire(customerId="cus_456", inputTokens=0, outputTokens=1_000_000),
            ]
        )
    )
    done = clocknext("verify", usage, env=connected(server.url))
    by_customer, _, by_model = done.stdout.partition("\n\n")
    assert rows(by_customer)[0] == ["By", "customer"]
    assert rows(by_customer)[2:] == [
        ["cus_123", "3", "3,000,000", "0", "0", "8.250000"],
        ["cus_456", "1", "0", "1,000,000", "0", "0.600000"],
        ["total", "4", "3,000,000", "1,000,000", "0", "8.850000"],
    ]
    assert rows(by_model)[2:-1] == [
        ["gpt-4o", "credit", "1", "1,000,000", "0", "0", "3.250000"],
        ["gpt-4o", "wallet", "2", "2,000,000", "0", "0", "5.000000"],
        ["gpt-4o-mini", "wallet", "1", "0", "1,000,000", "0", "0.600000"],
        ["total", "4", "3,000,000", "1,000,000", "0", "8.850000"],
    ]


def test_refused_lines_go_to_stderr_with_the_reason(server: EmulatorServer, tmp_path: Path) -> None:
    data = encoded(
        [
            wire(),
            {"type": "wallet"},
            wire(customerId="cus_nobody"),
            wire(model="gpt-9"),
            wire(customerId="cus_low"),
        ]
    )
    done = clocknext("verify", "-", env=connected(server.url), cwd=tmp_path, stdin=data + b"not\x1bjson\n")
    assert done.returncode == 1
    reasons = dict(line.removeprefix("Line ").split(": ", 1) for line in done.stderr.splitlines())
    assert {number: reason[:36] for number, reason in reasons.items()} == {
        "2": "ValidationError: customer_id: is req",
        "3": "NotFoundError 404: No customer with ",
        "4": 'PlanError 422: Model "gpt-9" is not ',
        "6": "ValidationError: line: is not JSON: ",
    }
    assert "2 priced, 4 refused. Nothing was billed." in done.stdout
    assert is_untouched(server.ledger, 2)
    assert list(tmp_path.iterdir()) == []


def test_when_all_are_refused_there_is_no_table(server: EmulatorServer, tmp_path: Path) -> None:
    done = clocknext("verify", "-", env=connected(server.url), cwd=tmp_path, stdin=b"{}\n{}\n")
    assert (done.returncode, done.stdout) == (1, "0 priced, 2 refused. Nothing was billed.\n")


def test_faults_change_no_price(usage: Path) -> None:
    faults = Faults(Random(5))
    faults.chance(0.1, Fault("lost"))
    faults.chance(0.1, Fault("status"))
    usage.write_bytes(many(60))
    with emulator(Ledger(), faults) as server:
        done = clocknext("verify", usage, "--concurrency", "3", env=connected(server.url))
        assert (done.returncode, besides_progress(done.stderr)) == (0, "")
        assert "60 priced, 0 refused." in done.stdout
        assert min(faults.counts[kind] for kind in ("lost", "status")) > 0
        assert len(server.ledger.signals) == 0
        assert server.max_in_service <= 3


# Stopping


def test_a_key_that_is_not_accepted_stops_at_once(server: EmulatorServer, usage: Path) -> None:
    usage.write_bytes(many(500))
    done = clocknext("verify", usage, env=connected(server.url, "cnk_wrong_key"))
    assert (done.returncode, done.stdout) == (2, "0 priced, 0 refused.\n")
    assert done.stderr == f"Stopped: AuthError 401: Invalid API key. {WHOSE_KEY} {NOTHING_BILLED}\n"
    assert 1 <= len(server.ledger.requests) <= 8


def test_a_service_that_is_not_there_stops(usage: Path) -> None:
    with emulator() as gone:
        url = gone.url
    usage.write_bytes(many(500))
    done = clocknext("verify", usage, "--max-attempts", "1", env=connected(url))
    assert done.returncode == 2
    assert done.stderr.startswith(f"Stopped: NetworkError: Could not connect to {url}")
    assert done.stderr.count("\n") == 1


def test_a_service_that_gives_no_price_may_have_billed_so_it_stops(usage: Path) -> None:
    usage.write_bytes(many(500))
    with scripted([(200, JSON, ACCEPTED)]) as server:
        done = clocknext("verify", usage, "--concurrency", "1", "--source", "s", env=connected(server.url))
        (first,) = server.requests
        clocknext(
            "send", usage, "--concurrency", "1", "--source", "s", env=connected(server.url), cwd=usage.parent
        )
        again = server.requests[1]
    assert (done.returncode, done.stdout) == (2, "0 priced, 0 refused.\n")
    assert "The service gave no price: it may not know dry runs, and have recorded signals" in done.stderr
    assert "line 1 among them" in done.stderr
    sent, dry = json.loads(again.body), json.loads(first.body)
    assert dry == sent | {"dryRun": True}


def test_ctrl_c_shows_what_was_priced(usage: Path) -> None:
    gate = Hold()
    usage.write_bytes(many(100))
    with (
        scripted([OnHold(gate, (200, JSON, PRICED))]) as server,
        started("verify", usage, env=connected(server.url)) as process,
    ):
        assert process.stderr is not None
        assert gate.wait_arrived(TIMEOUT, count=8)
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().startswith("Stopping: waiting up to 5 s for what is in flight (8)")
        gate.release()
        out, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, errors) == (130, "Interrupted. The signals priced so far were not billed.\n")
    assert ["cus_123", "8", "0", "0", "0", "4.000000"] in rows(out)
    assert out.endswith("8 priced, 0 refused.\n")


# Usage


def test_wrong_usage(usage: Path) -> None:
    env = connected("http://127.0.0.1:1")
    for arguments, says in (
        ((), "Missing argument 'FILE'"),
        (("nosuch.jsonl",), "'nosuch.jsonl' does not exist"),
        ((str(EXAMPLE), "--concurrency", "0"), "0 is not in the range"),
    ):
        done = clocknext("verify", *arguments, env=env, cwd=usage.parent)
        assert done.returncode == 2
        assert says in done.stderr


def test_without_a_key() -> None:
    done = clocknext("verify", EXAMPLE, env=environment())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: api_key: is required")


def test_the_estimate_takes_what_the_server_says() -> None:
    estimate = Estimate()
    one = WalletSignal(customer_id="c\x1b", model="M")
    estimate.add(one, UsageLog({"model": "m", "customerCost": 0.1, "inputTokens": 2}))
    estimate.add(one, UsageLog({"customerCost": 0.2}))
    by_customer, by_model = estimate.tables()
    assert by_customer.rows == [
        ["c\\x1b", "2", "2", "0", "0", "0.300000"],
        ["total", "2", "2", "0", "0", "0.300000"],
    ]
    assert [row[:3] for row in by_model.rows] == [
        ["M", "wallet", "1"],
        ["m", "wallet", "1"],
        ["total", "", "2"],
    ]
