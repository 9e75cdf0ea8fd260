import io
from decimal import Decimal

import pytest
from rich.console import Console

from clocknext_core import (
    NetworkError,
    PlanError,
    Retrying,
    TrackResult,
    ValidationError,
    WalletSignal,
)
from clocknext_transports.cli.progress import INTERVAL, BarReporter, PlainReporter, reporter
from clocknext_transports.cli.tally import Tally, describe, kind_of

SIGNAL = WalletSignal(customer_id="c", model="m")
RETRYING = Retrying(1, 0.25, NetworkError("Could not connect"), None)


def answer(raw: dict[str, object]) -> TrackResult:
    return TrackResult(raw, idempotency_key="k")


def shown(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_sums_take_what_the_server_says() -> None:
    tally = Tally()
    tally.add_delivered(SIGNAL, answer({"usageLog": {"inputTokens": 3, "customerCost": 0.1}}))
    tally.add_delivered(SIGNAL, answer({"usageLog": {"inputTokens": 4, "customerCost": 0.2}}))
    tally.add_delivered(SIGNAL, answer({"usageLog": {"inputTokens": "many", "customerCost": None}}))
    tally.add_delivered(SIGNAL, answer({"accepted": True}))
    assert (tally.billed["wallet"].input_tokens, tally.billed["wallet"].cost) == (7, Decimal("0.3"))
    assert (tally.delivered, tally.unpriced) == (4, 1)
    console = shown(terminal=False)
    console.print(tally.billed_table())
    rows = [line.replace("│", " ").split() for line in text_of(console).splitlines()]
    assert ["priced", "later", "1"] in rows
    assert ["total", "4", "7", "0", "0", "0.300000"] in rows


def test_pending_lines_are_counted_apart_and_the_first_are_named() -> None:
    tally = Tally()
    tally.add_pending(7)
    assert str(tally) == "0 delivered, 1 pending, 0 refused"
    assert tally.pending_text().startswith("Line 7 PENDING: ")
    for number in range(8, 7 + 1_500):
        tally.add_pending(number)
    assert tally.pending_text().startswith("Lines 7, 8, 9, 10")
    assert "26 and 1,480 more PENDING" in tally.pending_text()


def test_refusals_are_counted_by_kind_so_that_they_stay_few() -> None:
    tally = Tally()
    for number in range(1000):
        tally.add_refused(PlanError(f"No credit with key [{number}].", status=422))
    tally.add_refused(ValidationError("line: " + "x" * 9000))
    assert {kind: refusals.lines for kind, refusals in tally.refused.items()} == {
        "PlanError 422": 1000,
        "ValidationError": 1,
    }
    assert str(tally) == "0 delivered, 1,001 refused"
    console = shown(terminal=False)
    console.print(tally.refused_table())
    assert "No credit with key [0]." in text_of(console)
    assert text_of(console).count("x") < 250


@pytest.mark.parametrize("message", ["It failed", "It failed."])
def test_a_description_is_one_sentence(message: str) -> None:
    assert describe(PlanError(message, status=422)) == "PlanError 422: It failed."
    assert kind_of(NetworkError(message)) == "NetworkError"


def test_plain_lines_come_now_and_then() -> None:
    now = 100.0
    console = shown(terminal=False)
    plain = PlainReporter(console, lambda: now)
    tally = Tally(delivered=1)
    plain.update(tally, 10)
    assert text_of(console) == ""
    now += INTERVAL
    plain.update(tally, 20)
    plain.update(tally, 30)
    assert text_of(console) == "1 delivered, 0 refused\n"
    now += INTERVAL
    plain.retrying(RETRYING)
    assert text_of(console).endswith("NetworkError: Could not connect. Trying again in 0.2 s.\n")


def test_a_terminal_has_a_bar_and_anything_else_plain_lines() -> None:
    console = shown(terminal=True)
    with reporter(console, 100) as bar:
        assert isinstance(bar, BarReporter)
        bar.update(Tally(delivered=7), 50)
        bar.retrying(RETRYING)
        bar.say("[bold]said[/bold]")
    assert "[bold]said[/bold]" in text_of(console)
    assert "50%" in text_of(console)
    assert "7 delivered" in text_of(console)
    with reporter(shown(terminal=False), None) as plain:
        assert isinstance(plain, PlainReporter)
