"""The types as both checkers see them; run, the tests show that what comes is what is promised."""

from collections.abc import Coroutine
from typing import Any, assert_type

import pytest

from clocknext_core import CreditSignal
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
from tests.core.resources.support import FakeAsyncClient, FakeClient

ANSWER: dict[str, object] = {"ok": True, "plans": [{}], "units": [{"unitName": "Seat"}], "models": [{}]}
SIGNAL = CreditSignal(customer_id="cus_1", model="m", key="k")


def test_blocking() -> None:
    client = FakeClient(ANSWER)
    plans = assert_type(client.plans.list(active=True), Items[Plan])
    assert [type(plan) for plan in plans] == [Plan]
    assert_type(plans[0].name, str | None)
    assert_type(plans[0].is_active, bool | None)
    assert type(assert_type(client.units.create(name="Seat", agent_key="seat"), Unit)) is Unit
    assert type(assert_type(client.units.list(), Items[Unit])[0]) is Unit
    assert (
        type(assert_type(client.customers.unit_balance("c", unit_name="Seat"), UnitBalance | None))
        is UnitBalance
    )
    assert (
        assert_type(client.customers.adjust_unit("c", unit_id="u", amount=-1), Adjustment).remaining is None
    )
    assert type(assert_type(client.signals.verify(SIGNAL), UsageLog)) is UsageLog
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
    verified = assert_type(client.signals.verify(SIGNAL), Coroutine[Any, Any, UsageLog])
    assert finish(verified) == UsageLog({})
    me = assert_type(client.workspace.me(), Coroutine[Any, Any, Identity])
    assert isinstance(finish(me), Identity)


def test_what_the_checkers_refuse_is_refused() -> None:
    client = FakeClient()
    with pytest.raises(TypeError):
        client.plans.create(agent_key="x")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        client.plans.list(True)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        client.plans.set_active("x", False)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        client.customers.adjust_credit("c", unit_id="u", amount=1)  # type: ignore[call-arg]
    assert client.requests == []
