"""A client that is disabled: no key, no request, no thread; bad arguments are errors as ever."""

from pathlib import Path

import pytest

from clocknext_core import ClockNextError, ValidationError, WalletSignal
from clocknext_transports.emulator import emulator
from tests.contract.worlds import World


async def test_it_needs_no_key_checks_signals_and_sends_nothing(world: World, tmp_path: Path) -> None:
    with emulator() as server:
        async with world.open(server.url, api_key=None, disabled=True, spool=tmp_path / "spool") as client:
            buffered = await client.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 8})
            awaited = await client.signals.credit(
                customer_id="c", model="gpt-4o", key="api_credit", wait=True
            )
            assert [buffered.dropped, awaited.dropped] == ["disabled", "disabled"]
            assert buffered.queued
            assert buffered.idempotency_key != awaited.idempotency_key
            with pytest.raises(ValidationError, match=r"^customer_id: "):
                await client.signals.wallet(customer_id="", model="gpt-4o")
            stats = client.stats()
            assert (stats.recorded, stats.dropped["disabled"], stats.held) == (2, 2, 0)
            report = await client.flush()
            assert (report.delivered, report.pending, [*report.failed]) == (0, 0, [])
        assert server.ledger.requests == ()
    assert world.hooks.seen == []
    assert not (tmp_path / "spool").exists()


async def test_what_must_answer_raises_and_says_why(world: World) -> None:
    async with world.open("http://127.0.0.1:9", disabled=True) as client:
        for call in (
            lambda: client.customers.get("cus_123"),
            lambda: client.signals.verify(WalletSignal(customer_id="c", model="m")),
        ):
            with pytest.raises(ClockNextError, match="disabled=True, or CLOCKNEXT_DISABLED"):
                await call()
        report = await client.check()
    assert [problem.subject for problem in report.problems] == ["client"]
    assert "CLOCKNEXT_DISABLED" in report.problems[0].remedy


async def test_the_environment_switches_it_off_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOCKNEXT_DISABLED", "1")
    client = world.create("http://127.0.0.1:9", api_key=None)  # trio's records outside the block, too
    result = await client.signals.wallet(customer_id="cus_123", model="gpt-4o")
    assert result.dropped == "disabled"
    await client.close()
