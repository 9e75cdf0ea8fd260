"""Every method of our client beyond signals, against a running emulator."""

from collections.abc import Iterator
from typing import Any

import pytest

from clocknext_core import (
    AllowanceError,
    ConflictError,
    CreditSignal,
    NotFoundError,
    PlanError,
    RetryPolicy,
    Tokens,
    ValidationError,
)
from clocknext_core.resources.outcomes import OutcomeStepDefinition
from clocknext_core.resources.plans import PlanComponentDefinition
from clocknext_core.resources.units import UnitTierDefinition
from clocknext_transports import ClockNext
from clocknext_transports.emulator import EmulatorServer, emulator

MODEL = "gpt-4o"


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with emulator() as running:
        yield running


@pytest.fixture
def cnk(server: EmulatorServer) -> Iterator[ClockNext]:
    retry = RetryPolicy(base_delay=0.001, max_delay=0.001)  # a conflict is tried again
    with ClockNext(server.api_key, base_url=server.url, retry=retry) as client:
        yield client


def test_at_the_address_of_the_page_a_signal_is_held(server: EmulatorServer) -> None:
    retry = RetryPolicy(max_attempts=1)
    with ClockNext(server.api_key, base_url=f"{server.url}/_emulator/", retry=retry, close_timeout=0) as cnk:
        cnk.signals.wallet(customer_id="cus_123", model=MODEL, tokens=Tokens(input=1, output=1))
        report = cnk.flush(timeout=5)
        assert (report.failed, report.pending, cnk.stats().misdirected) == ([], 1, 1)


def test_workspace(cnk: ClockNext) -> None:
    assert cnk.workspace.me().raw["environment"] == "sandbox"
    models = cnk.workspace.models(active=True)
    assert all(model.is_active for model in models)
    assert (models[2].model_id, models[2].input_price, models[2].cache_price) == (MODEL, 2.5, 1.25)
    assert [model.model_id for model in cnk.workspace.models(active=False)] == ["gpt-4"]
    assert len(cnk.workspace.models()) == len(models) + 1


def test_credits(cnk: ClockNext) -> None:
    gold = cnk.credits.create(name="Gold", agent_key="gold", base_price=0.5, margin_percent=20)
    assert gold.id is not None
    assert (gold.agent_key, gold.price_per_credit, gold.is_active) == ("gold", 0.6, True)
    assert cnk.credits.get(gold.id) == gold
    changed = cnk.credits.update(gold.id, name="Au", agent_key="gold", base_price=1, description=None)
    assert (changed.name, changed.margin_percent) == ("Au", 0.0)
    assert cnk.credits.set_active(gold.id, is_active=False).is_active is False
    assert [credit.id for credit in cnk.credits.list(active=False)] == [gold.id]
    assert [credit.id for credit in cnk.credits.list(active=True)] == ["api_credit", "chat_credit"]
    cnk.credits.delete(gold.id)
    with pytest.raises(NotFoundError):
        cnk.credits.get(gold.id)
    with pytest.raises(ValidationError, match="basePrice: is required"):
        cnk.credits.create(name="Bad", agent_key="bad")
    with pytest.raises(PlanError, match="in use by the plan"):
        cnk.credits.delete("api_credit")


def test_outcomes(cnk: ClockNext) -> None:
    steps: list[OutcomeStepDefinition] = [{"name": "Ask", "agentKey": "won.ask"}]
    won = cnk.outcomes.create(name="Won", price_per_outcome=5, steps=steps)
    assert won.id is not None
    assert (won.price_per_outcome, [step.agent_key for step in won.steps]) == (5.0, ["won.ask"])
    assert cnk.outcomes.update(won.id, name="W", price_per_outcome=6, steps=steps).price_per_outcome == 6.0
    assert cnk.outcomes.set_active(won.id, is_active=False) == cnk.outcomes.get(won.id)
    assert len(cnk.outcomes.list()) == 3
    cnk.outcomes.delete(won.id)
    assert len(cnk.outcomes.list(active=True)) == 2


def test_units_and_their_events(cnk: ClockNext) -> None:
    tiers: list[UnitTierDefinition] = [{"upTo": 1, "price": 2}, {"upTo": None, "price": 1}]
    page = cnk.units.create(name="Page", agent_key="page", pricing_type="VOLUME", tiers=tiers)
    assert page.id is not None
    assert page.raw["tiers"] == [{"upTo": 1.0, "price": 2.0}, {"upTo": None, "price": 1.0}]
    flat = cnk.units.update(page.id, name="Page", agent_key="page", pricing_type="FLAT", flat_price=0.5)
    assert (flat.pricing_type, flat.raw["tiers"], cnk.units.get(page.id)) == ("FLAT", [], flat)
    assert cnk.customers.adjust_unit("cus_123", unit_id=page.id, amount=1).remaining == 1.0
    record = cnk.signals.unit(customer_id="cus_123", agent_key="page", member="a@b.c")
    assert record.raw["remaining"] == 0.0
    with pytest.raises(AllowanceError, match="Insufficient unit balance"):
        cnk.signals.unit(customer_id="cus_123", agent_key="page")
    usage = cnk.signals.unit_usage(customer_id="cus_123", limit=5)
    assert [(event.agent_key, event.member) for event in usage.events] == [("page", "a@b.c")]
    assert [balance.remaining for balance in usage.balances if balance.unit_id == page.id] == [0.0]
    assert cnk.units.set_active(page.id, is_active=False).is_active is False
    assert [unit.id for unit in cnk.units.list(active=False)] == [page.id]
    cnk.units.delete(page.id)
    assert [unit.agent_key for unit in cnk.units.list()] == ["report", "export", "seat"]


def test_plans_purchases_invoices_and_payments(cnk: ClockNext, server: EmulatorServer) -> None:
    components: list[PlanComponentDefinition] = [
        {"type": "WALLET", "billingMode": "ADVANCE", "amount": 50},
        {"type": "CREDIT", "billingMode": "ADVANCE", "creditId": "api_credit", "quantity": 100},
        {"type": "OUTCOME", "billingMode": "ARREAR", "outcomeId": "resolved_ticket"},
    ]
    plan = cnk.plans.create(name="Pro", billing_cycle="MONTHLY", components=components)
    assert plan.id is not None
    assert [(c.type, c.raw["billingMode"]) for c in plan.components] == [
        ("WALLET", "ADVANCE"),
        ("CREDIT", "ADVANCE"),
        ("OUTCOME", "ARREAR"),
    ]
    assert plan in cnk.plans.list(active=True)
    assert cnk.plans.get(plan.id) == plan

    customer = cnk.customers.create(name="Wayne", email="bruce@wayne.example").id
    assert customer is not None
    purchase = cnk.purchases.create(customer_id=customer, plan_id=plan.id)
    assert purchase.id is not None
    assert (purchase.customer_id, purchase.plan_id, purchase.status) == (customer, plan.id, "ACTIVE")
    assert cnk.purchases.get(purchase.id) == purchase
    assert cnk.purchases.list(customer_id=customer, status="ACTIVE", limit=5) == [purchase]
    assert cnk.customers.plan(customer).purchase == purchase
    balances = cnk.customers.balances(customer)
    assert balances.wallet is not None
    assert (balances.wallet.balance, [row.remaining for row in balances.credits]) == (50.0, [100.0])

    (invoice,) = cnk.invoices.list(customer_id=customer, status="OPEN", limit=5)
    assert invoice.id is not None
    assert invoice.raw["amount"] == 51.3
    details = cnk.invoices.get(invoice.id)
    assert (details.invoice, details.plan) == (invoice, plan)
    assert str(cnk.invoices.pay_link(invoice.id).raw["url"]).startswith("https://")

    paused = cnk.purchases.set_auto_payment(purchase.id, auto_payment=False, pause_reason="asked").purchase
    assert paused is not None
    assert paused.pause_reason == "asked"
    resumed = cnk.purchases.set_auto_payment(purchase.id, auto_payment=True, pause_reason=None).purchase
    assert resumed is not None
    assert (resumed.auto_payment, resumed.pause_reason) == (True, None)
    (payment,) = cnk.payments.list(customer_id=customer, limit=5)
    assert payment.id is not None
    paid = cnk.payments.get(payment.id)
    assert (paid.payment, paid.plan) == (payment, plan)
    with pytest.raises(ConflictError, match="not open but PAID"):
        cnk.invoices.pay_link(invoice.id)

    with pytest.raises(PlanError, match="in use by the purchase"):
        cnk.plans.delete(plan.id)
    cancelled = cnk.purchases.cancel(purchase.id).purchase
    assert cancelled is not None
    assert cancelled.status == "CANCELLED"
    assert cnk.customers.plan(customer).plan is None
    renamed = cnk.plans.update(plan.id, name="P", billing_cycle="YEARLY", components=components[:1])
    assert (renamed.billing_cycle, len(renamed.components)) == ("YEARLY", 1)
    assert cnk.plans.set_active(plan.id, is_active=False).is_active is False
    with pytest.raises(PlanError, match="in use by the purchase"):
        cnk.plans.delete(plan.id)
    cancel = next(r for r in server.ledger.requests if r.target.endswith("/cancel"))
    assert (cancel.raw_body, cancel.content_type) == (b"", None)


def test_members_wallet_and_adjustments(cnk: ClockNext) -> None:
    customers: Any = cnk.customers  # the type checkers know of no role
    member = customers.add_member("cus_123", name="Al", email="al@b.c", role="dev")
    assert member.id is not None
    changed = customers.update_member("cus_123", member.id, role=None)
    assert (changed.email, changed.raw["role"]) == ("al@b.c", None)
    assert cnk.customers.list_members("cus_123") == [changed]
    cnk.customers.remove_member("cus_123", member.id)
    assert cnk.customers.list_members("cus_123") == []

    before = cnk.customers.wallet("cus_wallet").balance
    assert before == 100.0
    entry = cnk.customers.add_wallet_entry("cus_wallet", type="TOPUP", amount=5).transaction
    assert entry is not None
    assert (entry.type, entry.amount) == ("TOPUP", 5.0)
    wallet = cnk.customers.wallet("cus_wallet", limit=1)
    assert (wallet.balance, wallet.transactions) == (105.0, [entry])

    cnk.customers.adjust_credit("cus_low", credit_id="api_credit", amount=0.5)
    by_name = cnk.customers.credit_balance("cus_low", credit_name="API credit")
    assert by_name is not None
    assert by_name == cnk.customers.credit_balance("cus_low", credit_id="api_credit")
    assert by_name.remaining == 0.75
    assert cnk.customers.adjust_outcome("cus_low", outcome_id="qualified_lead", amount=2).remaining == 3.0
    assert cnk.customers.adjust_unit("cus_low", unit_id="seat", amount=-1).remaining == 0.0
    outcome = cnk.customers.outcome_balance("cus_low", outcome_name="Qualified lead")
    unit = cnk.customers.unit_balance("cus_low", unit_name="Seat")
    assert (outcome and outcome.remaining, unit and unit.remaining) == (3.0, 0.0)
    assert cnk.customers.unit_balance("cus_low", unit_id="nope") is None
    with pytest.raises(AllowanceError):
        cnk.customers.adjust_unit("cus_low", unit_id="seat", amount=-1)


def test_webhooks(cnk: ClockNext) -> None:
    hook = cnk.webhooks.upsert(kind="WALLET_LOW", url="https://x.example/h", threshold=10)
    assert (hook.kind, hook.url, hook.threshold) == ("WALLET_LOW", "https://x.example/h", 10)
    assert cnk.webhooks.list() == [hook]
    cnk.webhooks.delete("WALLET_LOW")
    assert cnk.webhooks.list() == []


def test_later_signals(cnk: ClockNext, server: EmulatorServer) -> None:
    signal = CreditSignal(
        customer_id="cus_123", model=MODEL, agent_key="api_credit", tokens=Tokens(input=1000)
    )
    verified = cnk.signals.verify(signal)
    assert verified is not None
    assert verified.customer_cost == 0.00325
    assert server.ledger.signals == ()
    metric = {"ref": "voice_ai", "value": "wb21"}
    tagged = cnk.signals.credit(
        customer_id="cus_123", model=MODEL, agent_key="api_credit", metric=metric, wait=True
    )
    assert tagged.usage_log is not None
    assert tagged.usage_log.raw["metrics"] == {"voice_ai": "wb21"}

    def step(name: str, *, complete: bool | None = None) -> float | None:
        log = cnk.signals.outcome(
            customer_id="cus_123",
            model=MODEL,
            agent_key=f"resolved_ticket.{name}",
            run_id="run_1",
            complete=complete,
            wait=True,
        ).usage_log
        assert log is not None
        return log.customer_cost

    costs = [step("triage"), step("answer", complete=False), step("confirm", complete=True)]
    assert costs == [0.0, 0.0, 0.99]
    assert step("confirm", complete=True) == 0.0
    assert server.ledger.bill("cus_123").outcomes == {"resolved_ticket": 1}


def test_a_plan_can_be_sent_back_as_it_was_shown() -> None:
    with emulator() as server, ClockNext(server.api_key, base_url=server.url) as cnk:
        shown = cnk.plans.create(
            name="Usage",
            billing_cycle="MONTHLY",
            components=[{"type": "CREDIT", "billingMode": "ARREAR", "creditId": "api_credit"}],
        )
        components: Any = shown.raw["components"]
        again = cnk.plans.update(shown.id or "", name="Usage", billing_cycle="MONTHLY", components=components)
        assert again.raw["components"] == shown.raw["components"]
