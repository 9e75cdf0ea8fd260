"""The types as both checkers see them; run, the tests show that what comes is what is promised."""

import json
from collections.abc import Coroutine
from typing import Any, assert_type

import pytest

from clocknext_core import CreditSignal, ValidationError
from clocknext_core.models import (
    Adjustment,
    CatalogueModel,
    Identity,
    Items,
    Plan,
    PurchaseChange,
    Unit,
    UnitBalance,
    UnitRecord,
    UsageLog,
)
from clocknext_core.resources.units import UnitTierDefinition
from tests.core.resources.support import FakeAsyncClient, FakeClient

ANSWER: dict[str, object] = {
    "ok": True,
    "plans": [{}],
    "units": [{"unitName": "Seat"}],
    "models": [{}],
    "usageLog": {},
}
SIGNAL = CreditSignal(customer_id="cus_1", model="m", key="k")


def test_blocking() -> None:
    client = FakeClient(ANSWER)
    plans = assert_type(client.plans.list(active=True), Items[Plan])
    assert [type(plan) for plan in plans] == [Plan]
    assert_type(plans[0].name, str | None)
    assert_type(plans[0].is_active, bool | None)
    assert type(assert_type(client.units.create(name="Seat", agent_key="seat"), Unit)) is Unit
    tier: UnitTierDefinition = {"upTo": None, "price": 0.5}
    client.units.update("u", pricing_type="SLAB", tiers=[tier], description=None)
    client.plans.create(
        name="Pro", components=[{"type": "CREDIT", "billingMode": "ADVANCE", "creditId": "c", "quantity": 5}]
    )
    assert type(assert_type(client.units.list(), Items[Unit])[0]) is Unit
    assert (
        type(assert_type(client.customers.unit_balance("c", unit_name="Seat"), UnitBalance | None))
        is UnitBalance
    )
    assert (
        assert_type(client.customers.adjust_unit("c", unit_id="u", amount=-1), Adjustment).remaining is None
    )
    assert type(assert_type(client.signals.verify(SIGNAL), UsageLog | None)) is UsageLog
    assert type(assert_type(client.signals.unit(customer_id="c", agent_key="a"), UnitRecord)) is UnitRecord
    assert type(assert_type(client.purchases.cancel("p"), PurchaseChange)) is PurchaseChange
    assert type(assert_type(client.workspace.me(), Identity)) is Identity
    assert type(assert_type(client.workspace.models(), Items[CatalogueModel])[0]) is CatalogueModel


def finish(coroutine: Coroutine[Any, Any, object]) -> object:
    """Run a coroutine that never really waits."""
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    return stopped.value.value


def test_async() -> None:
    client = FakeAsyncClient(ANSWER)
    listing = assert_type(client.plans.list(active=False), Coroutine[Any, Any, Items[Plan]])
    assert finish(listing) == [Plan({})]
    balance = assert_type(
        client.customers.unit_balance("c", unit_name="Seat"), Coroutine[Any, Any, UnitBalance | None]
    )
    assert finish(balance) == UnitBalance({"unitName": "Seat"})
    verified = assert_type(client.signals.verify(SIGNAL), Coroutine[Any, Any, UsageLog | None])
    assert finish(verified) == UsageLog({})
    me = assert_type(client.workspace.me(), Coroutine[Any, Any, Identity])
    assert isinstance(finish(me), Identity)


def test_what_the_checkers_do_not_know_is_sent() -> None:
    client = FakeClient()
    client.plans.create(name="N", added_later=1)  # type: ignore[call-arg]
    client.plans.update("p", billing_cycle="HOURLY")  # type: ignore[arg-type]
    client.purchases.create(customer_id="c", plan_id="p", added_later=1)  # type: ignore[call-arg]
    client.webhooks.upsert(kind="K", url="https://x.example", added_later=1)  # type: ignore[call-arg]
    client.customers.update_member("c", "m", added_later=1)  # type: ignore[call-arg]
    assert [json.loads(request.body or b"") for request in client.requests] == [
        {"name": "N", "addedLater": 1},
        {"billingCycle": "HOURLY"},
        {"customerId": "c", "planId": "p", "addedLater": 1},
        {"kind": "K", "url": "https://x.example", "addedLater": 1},
        {"addedLater": 1},
    ]


def test_what_the_checkers_refuse_is_refused() -> None:
    client = FakeClient()
    with pytest.raises(TypeError):
        client.plans.create(agent_key="x")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        client.plans.list(True)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        client.plans.set_active("x", False)  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match=r"^base_price: "):
        client.credits.create(name="N", base_price="1")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match=r"^tiers\[0\].price: "):
        client.units.update("u", tiers=[{"upTo": None, "price": "1"}])  # type: ignore[typeddict-item]
    with pytest.raises(ValidationError, match=r"^steps\[0\]: "):
        client.outcomes.create(name="N", steps=["triage"])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        client.customers.adjust_credit("c", unit_id="u", amount=1)  # type: ignore[call-arg]
    assert client.requests == []
