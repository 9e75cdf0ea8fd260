"""The resources of 0.1 against a server that bills: customers, usage, the portal, prices, errors."""

import logging
import traceback

import pytest

from clocknext_core import (
    AllowanceError,
    AuthError,
    ClockNextError,
    NotFoundError,
    PlanError,
    Signal,
    ValidationError,
    WalletSignal,
)
from clocknext_transports.emulator import Catalogue, Customer, Ledger, emulator, scripted
from clocknext_transports.emulator.api.ledger import EXPIRED_API_KEY
from tests.contract.answers import by_key, found, priced, priced_by_nothing, record, refused, taken
from tests.contract.worlds import KEY, PATIENT_BATCH, LogKeeper, World

WRONG_KEY = "cnk_live_5ecretTokenNobodyMaySee"


async def test_a_customers_life(world: World) -> None:
    with emulator() as server:
        async with world.open(server.url) as client:
            made = await client.customers.create(name="Acme", email="ops@acme.com", tax_id="X1", notes=None)
            assert made.id is not None
            assert (made.name, made.email, made.tax_id, made.notes) == ("Acme", "ops@acme.com", "X1", None)
            assert (made.raw["taxId"], made.raw["notes"]) == ("X1", None)

            changed = await client.customers.update(made.id, notes="VIP", city="Zürich")
            assert (changed.notes, changed.city, changed.tax_id) == ("VIP", "Zürich", "X1")
            cleared = await client.customers.update(made.id, notes=None)
            assert (cleared.notes, cleared.city) == (None, "Zürich")
            assert (await client.customers.get(made.id)).raw == cleared.raw

            page = await client.customers.list(limit=1, q="ACME")
            assert [each.id for each in page.customers] == [made.id]  # the newest comes first
            assert page.next_cursor
            following = await client.customers.list(limit=50, q="ACME", cursor=page.next_cursor)
            assert [each.id for each in following.customers] == ["cus_123"]

            await client.customers.delete(made.id)
            with pytest.raises(NotFoundError, match=f'No customer with id "{made.id}"') as caught:
                await client.customers.get(made.id)
            assert (caught.value.status, caught.value.retryable) == (404, False)
            assert str(caught.value.request) == f"GET /api/v1/customers/{made.id}"


async def test_ids_are_one_segment_of_the_path(world: World) -> None:
    with scripted([found()]) as server:
        async with world.open(server.url) as client:
            for strange in ("a b", "a/b", "ü?#%", "a+b"):
                await client.customers.get(strange)
        assert [each.target for each in server.requests] == [
            f"/api/v1/customers/{segment}" for segment in ("a%20b", "a%2Fb", "%C3%BC%3F%23%25", "a%2Bb")
        ]


@pytest.mark.parametrize("limit", [1, 2, 3, None])
async def test_every_customer_is_gone_through_page_by_page(world: World, limit: int | None) -> None:
    ids = [f"cus_{number}" for number in range(6)]
    ledger = Ledger(Catalogue(customers=[Customer(each, name=f"Name {each}") for each in ids]))
    with emulator(ledger) as server:
        async with world.open(server.url) as client:
            assert [each.id async for each in client.customers.iterate(limit=limit)] == ids[::-1]
            searched = [each.id async for each in client.customers.iterate(limit=limit, q="cus_3")]
            assert searched == ["cus_3"]
        if limit is not None:
            pages = [each for each in ledger.requests if "q=" not in each.target]
            assert len(pages) == -(-len(ids) // limit)


async def test_iterating_fetches_a_page_when_it_is_needed(world: World) -> None:
    ledger = Ledger(Catalogue(customers=[Customer(f"cus_{number}") for number in range(4)]))
    with emulator(ledger) as server:
        async with world.open(server.url) as client:
            customers = client.customers.iterate(limit=2)
            assert len(ledger.requests) == 0
            seen = 0
            async for _ in customers:
                seen += 1
                assert len(ledger.requests) == (seen + 1) // 2
            assert seen == 4


async def test_an_awaited_signal_returns_its_price(world: World) -> None:
    with emulator() as server:
        async with world.open(server.url) as client:
            tokens = {"input": 1_000_000, "output": 500_000, "cache": 100_000}
            credit = await client.signals.credit(
                customer_id="cus_123", model="GPT-4o", key="api_credit", tokens=tokens, wait=True
            )
            assert credit.usage_log is not None
            # 2.5 + 5 + 0.125 USD; a credit stands for 0.01 USD of it; 30 % margin
            assert credit.usage_log.model == "gpt-4o"
            assert credit.usage_log.provided_cost == pytest.approx(7.625)
            assert credit.usage_log.credits_used == pytest.approx(762.5)
            assert credit.usage_log.customer_cost == pytest.approx(9.9125)
            wallet = await client.signals.track(
                WalletSignal(customer_id="cus_123", model="gpt-4o", tokens=tokens), wait=True
            )
            assert wallet.usage_log is not None
            assert wallet.usage_log.customer_cost == pytest.approx(7.625)
            step = await client.signals.outcome(
                customer_id="cus_123", model="gpt-4o", key="resolved_ticket.triage", wait=True
            )
            assert step.usage_log is not None
            assert step.usage_log.customer_cost == 0
            again = await client.signals.wallet(
                customer_id="cus_123", model="gpt-4o", idempotency_key=wallet.idempotency_key, wait=True
            )
            assert again.raw == wallet.raw
        assert len(server.ledger.signals) == 3


async def test_what_is_known_of_a_customer(world: World) -> None:
    with emulator() as server:
        async with world.open(server.url) as client:
            for number in range(3):
                await client.signals.wallet(
                    customer_id="cus_wallet",
                    model="gpt-4o",
                    tokens={"input": 400_000},
                    member="alice@acme.com",
                    custom={"number": number},
                    wait=True,
                )
            usage = await client.customers.usage("cus_wallet", limit=2)
            assert usage.customer is not None
            assert usage.totals is not None
            assert (usage.customer.id, usage.totals.signals, len(usage.logs)) == ("cus_wallet", 3, 2)
            assert [log.customer_cost for log in usage.logs] == [1.0, 1.0]
            assert usage.logs[0].raw["custom"] == {"number": 2}
            assert (await client.signals.list(customer_id="cus_wallet", limit=2)).raw == usage.raw

            balances = await client.customers.balances("cus_wallet")
            assert balances.wallet is not None
            assert balances.wallet.balance == 97.0
            held = (await client.customers.balances("cus_low")).credits
            assert ("api_credit", 0.25) in [(each.credit_id, each.remaining) for each in held]

            plan = (await client.customers.plan("cus_wallet")).plan
            assert plan is not None
            assert (plan.id, [each.type for each in plan.components]) == ("plan_wallet", ["WALLET"])
            revenue = await client.customers.revenue("cus_wallet", range="30d")
            assert (revenue.raw["revenue"], revenue.raw["range"]) == (3.0, "30d")


async def test_a_portal_token(world: World) -> None:
    with emulator() as server:
        async with world.open(server.url) as client:
            token = await client.portal.create_token(customer_id="cus_123", ttl_seconds=600)
            assert token.token
            assert (token.expires_in, token.raw["token"]) == (600, token.token)
            assert token.expires_at is not None
            assert token.token not in repr(token)
            with pytest.raises(NotFoundError):
                await client.portal.create_token(customer_id="cus_none")


async def test_an_allowance_runs_out(world: World) -> None:
    ledger = Ledger(Catalogue(customers=[Customer("cus_1", wallet=3)]))
    with emulator(ledger) as server:
        async with world.open(server.url, batch=PATIENT_BATCH) as client:

            async def spend(*, wait: bool) -> None:
                await client.signals.wallet(
                    customer_id="cus_1", model="gpt-4o", tokens={"input": 400_000}, wait=wait
                )

            for _ in range(3):
                await spend(wait=True)
            with pytest.raises(AllowanceError, match="Insufficient wallet balance") as caught:
                await spend(wait=True)
            assert (caught.value.status, caught.value.retryable) == (422, False)
            await spend(wait=False)
            report = await client.flush()
            assert [type(each.error) for each in report.failed] == [AllowanceError]
        assert (len(ledger.signals), float(ledger.balance("cus_1"))) == (3, 0.0)
    assert [name for name, _, _ in world.hooks.seen] == ["on_error", "on_drop", "on_flush"]


async def test_what_the_server_refuses_is_told_by_class_reason_and_issues(world: World) -> None:
    with emulator() as server:
        async with world.open(server.url) as client:
            with pytest.raises(NotFoundError, match='No customer with id "cus_x"'):
                await client.signals.wallet(customer_id="cus_x", model="gpt-4o", wait=True)
            with pytest.raises(PlanError, match="no-such-model"):
                await client.signals.wallet(customer_id="cus_123", model="no-such-model", wait=True)
            with pytest.raises(PlanError, match="no_such_credit"):
                await client.signals.credit(
                    customer_id="cus_123", model="gpt-4o", key="no_such_credit", wait=True
                )
            with pytest.raises(ValidationError, match="currencyCode") as caught:
                await client.customers.update("cus_123", currency_code="francs")
            assert caught.value.status == 400
    issue = {"field": "inputTokens", "message": "must be an integer"}
    answer = refused(400, "Bad body.", {}, {"errorReason": "INVALID_BODY", "issues": [issue]})
    with scripted([answer]) as server:
        async with world.open(server.url) as client:
            with pytest.raises(ValidationError) as caught:
                await record(client, "a", wait=True)
        assert caught.value.reason == "INVALID_BODY"
        assert [(each.field, each.message) for each in caught.value.issues] == [
            ("inputTokens", "must be an integer")
        ]


async def test_either_endpoint_may_use_either_envelope(world: World) -> None:
    new = priced(id="log_9")
    legacy = found(name="Acme")
    with scripted([by_key({"new": new, "legacy": legacy}, legacy)]) as server:
        async with world.open(server.url) as client:
            assert (await client.customers.get("cus_1")).name == "Acme"
            log = (await record(client, "new", wait=True)).usage_log
            assert log is not None
            assert log.id == "log_9"
            taken = await record(client, "legacy", wait=True)
            assert (taken.usage_log, taken.raw["customer"]) == (None, {"id": "cus_1", "name": "Acme"})


@pytest.mark.parametrize(
    ("api_key", "message"),
    [(WRONG_KEY, "Invalid API key."), (EXPIRED_API_KEY, "This API key has expired.")],
)
async def test_a_wrong_key_is_refused_and_shown_nowhere(
    world: World, log: LogKeeper, caplog: pytest.LogCaptureFixture, api_key: str, message: str
) -> None:
    def broken(error: ClockNextError, signal: Signal) -> None:
        raise error

    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    with emulator() as server:
        async with world.open(server.url, api_key=api_key, batch=PATIENT_BATCH, on_error=broken) as client:
            with pytest.raises(AuthError, match=message) as caught:
                await client.customers.get("cus_123")
            assert (caught.value.status, caught.value.retryable) == (401, False)
            texts += _shown(caught.value)
            with pytest.raises(AuthError) as caught:
                await record(client, "a", wait=True)
            assert caught.value.reason == "API_KEY_REJECTED"
            texts += _shown(caught.value)
            await record(client, "b")
            report = await client.flush()
            assert [type(each.error) for each in report.failed] == [AuthError]
            texts += [repr(report), repr(client), repr(client.signals), *log.take(), caplog.text]
    assert any("A hook raised" in text for text in texts)
    assert not any(api_key in text for text in texts)


async def test_a_key_that_the_server_repeats_is_redacted(world: World) -> None:
    echo = refused(403, f"Bearer {KEY} may not do this.", {}, {"errorReason": KEY})
    with scripted([echo]) as server:
        async with world.open(server.url) as client:
            with pytest.raises(ClockNextError, match="may not do this") as caught:
                await client.customers.get("cus_1")
    assert not any(KEY in text for text in _shown(caught.value))


def _shown(error: ClockNextError) -> list[str]:
    """Every text an error may end up in."""
    return [
        str(error),
        repr(error),
        repr(vars(error)),
        repr(error.request),
        "".join(traceback.format_exception(error)),
    ]


@pytest.mark.parametrize(
    "result",
    [
        {"accepted": True, "signalId": "sig_1"},
        {"status": "PENDING", "signalId": "sig_1"},
        {},
        {"usageLog": None},
        {"usageLog": {"id": "log_1", "customerCost": 1}, "signalId": "sig_1"},
    ],
)
async def test_a_dry_run_that_the_server_takes_for_a_signal_is_an_error(
    world: World, result: dict[str, object]
) -> None:
    with scripted([taken(**result)]) as server:
        async with world.open(server.url) as client:
            with pytest.raises(ClockNextError) as caught:
                await client.signals.verify(WalletSignal(customer_id="cus_123", model="gpt-4o"))
    assert (caught.value.status, caught.value.retryable, caught.value.signal_id) == (
        202,
        False,
        result.get("signalId"),
    )
    assert len(server.requests) == 1


async def test_a_dry_run_without_a_price_is_none(world: World) -> None:
    with scripted([priced_by_nothing()]) as server:
        async with world.open(server.url) as client:
            signal = WalletSignal(customer_id="cus_123", model="gpt-4o")
            assert await client.signals.verify(signal) is None
