"""Models: attributes over a payload, which keep it as it came."""

from typing import Any

import pytest

from clocknext_core import EncodedSignal, models, outputs
from clocknext_core.models import (
    Adjustment,
    Balances,
    CatalogueModel,
    Credit,
    CreditBalance,
    Customer,
    CustomerPage,
    CustomerPlan,
    Field,
    Identity,
    Invoice,
    InvoiceDetails,
    Items,
    Many,
    Member,
    Model,
    One,
    Outcome,
    OutcomeBalance,
    OutcomeStep,
    PayLink,
    Payment,
    PaymentDetails,
    Plan,
    PlanComponent,
    PortalToken,
    Purchase,
    PurchaseChange,
    Revenue,
    RevenueDay,
    TrackResult,
    Unit,
    UnitBalance,
    UnitEvent,
    UnitRecord,
    UnitTier,
    UnitUsage,
    Usage,
    UsageLog,
    UsageTotals,
    Wallet,
    WalletBalance,
    WalletEntry,
    WalletTransaction,
    Webhook,
)
from clocknext_core.wire import camel_case


def test_on_the_class_an_attribute_is_its_declaration() -> None:
    assert isinstance(Customer.name, Field)
    assert isinstance(InvoiceDetails.plan, One)
    assert isinstance(CustomerPage.customers, Many)
    assert InvoiceDetails.plan.kind is Plan


def test_a_nested_object_is_a_model_and_anything_else_in_its_place_is_none() -> None:
    plan = InvoiceDetails({"plan": {"id": "plan_1"}}).plan
    assert type(plan) is Plan
    assert plan.raw == {"id": "plan_1"}
    for odd in (None, "plan_1", ["plan_1"], 7):
        details = InvoiceDetails({"plan": odd})
        assert details.plan is None
        assert details.raw == {"plan": odd}
    assert InvoiceDetails({}).plan is None


def test_a_nested_list_is_of_models_and_anything_else_in_its_place_is_empty() -> None:
    customers = CustomerPage({"customers": [{"id": "1"}, None]}).customers
    assert isinstance(customers, Items)
    assert customers == [Customer({"id": "1"}), Customer({})]
    assert customers.raw == [{"id": "1"}, None]
    for odd in (None, "1", {"id": "1"}):
        assert CustomerPage({"customers": odd}).customers == []


def test_a_model_has_its_own_copy_of_the_first_level() -> None:
    payload: dict[str, object] = {"id": "1"}
    customer = Customer(payload)
    payload["id"] = "2"
    assert (customer.id, customer.raw) == ("1", {"id": "1"})


def test_models_are_equal_by_kind_and_payload() -> None:
    assert Customer({"id": "1"}) == Customer({"id": "1"})
    assert Customer({"id": "1"}) != Customer({"id": "2"})
    assert Customer({"id": "1"}) != Plan({"id": "1"})
    assert Customer({"id": "1"}) != {"id": "1"}
    with pytest.raises(TypeError, match="unhashable"):
        hash(Customer({}))


def test_a_model_shows_what_it_has() -> None:
    assert repr(Customer({"id": "1", "name": "", "email": None, "unknown": 1})) == "Customer(id='1', name='')"
    page = CustomerPage({"customers": [{"id": "1"}], "nextCursor": "c"})
    assert repr(page) == "CustomerPage(customers=[Customer(id='1')], next_cursor='c')"
    assert repr(CustomerPage({"customers": []})) == "CustomerPage()"
    assert repr(Model({"id": "1"})) == "Model()"


def test_a_token_is_not_shown() -> None:
    token = PortalToken({"token": "ptk_secret", "expiresAt": "2026-07-01T10:10:00.000Z", "expiresIn": 600})
    assert token.token == "ptk_secret"
    assert repr(token) == "PortalToken(expires_at='2026-07-01T10:10:00.000Z')"


FIELDS: dict[type[Model], dict[str, str]] = {
    UsageLog: {
        "str": "id customerId type model status createdAt",
        "int": "inputTokens outputTokens cacheTokens",
        "float": "creditsUsed providedCost customerCost",
    },
    TrackResult: {"One UsageLog": "usageLog", "bool": "accepted", "str": "signalId receivedAt"},
    Customer: {
        "str": "id name email description website phone legalName addressLine1 addressLine2 "
        "city state country pincode taxId notes logoUrl currencyCode createdAt"
    },
    CustomerPage: {"Many Customer": "customers", "str": "nextCursor"},
    UsageTotals: {
        "int": "signals inputTokens outputTokens cacheTokens",
        "float": "creditsUsed providedCost customerCost",
    },
    Usage: {"One Customer": "customer", "One UsageTotals": "totals", "Many UsageLog": "logs"},
    WalletBalance: {"float": "balance"},
    CreditBalance: {"str": "creditId creditName", "float": "remaining"},
    OutcomeBalance: {"str": "outcomeId outcomeName", "float": "remaining"},
    UnitBalance: {"str": "unitId unitName", "float": "remaining"},
    Balances: {
        "One WalletBalance": "wallet",
        "Many CreditBalance": "credits",
        "Many OutcomeBalance": "outcomes",
        "Many UnitBalance": "units",
    },
    PlanComponent: {"str": "type billingMode creditId outcomeId unitId", "float": "amount quantity"},
    Plan: {
        "str": "id name billingCycle description currencyCode",
        "Many PlanComponent": "components",
        "bool": "walletFundedArrear carryForward isActive",
        "float": "priceAdjustment",
    },
    Purchase: {
        "str": "id customerId planId status pauseReason billingDate notes",
        "bool": "autoPayment",
        "int": "voidAfterMinutes",
    },
    CustomerPlan: {"One Plan": "plan", "One Purchase": "purchase"},
    RevenueDay: {"str": "date", "int": "signals", "float": "revenue cost"},
    Revenue: {
        "str": "customerId range currency from to",
        "int": "signals",
        "float": "revenue cost",
        "Many RevenueDay": "series",
    },
    PortalToken: {"str": "token expiresAt", "int": "expiresIn"},
    Credit: {
        "str": "id name agentKey description",
        "float": "basePrice marginPercent pricePerCredit tokensPerCredit",
        "bool": "isActive",
    },
    OutcomeStep: {"str": "id name agentKey", "float": "basePrice"},
    Outcome: {
        "str": "id name agentKey description",
        "float": "basePrice marginPercent pricePerOutcome",
        "Many OutcomeStep": "steps",
        "bool": "isActive",
    },
    UnitTier: {"float": "upTo price"},
    Unit: {
        "str": "id name agentKey pricingType description",
        "float": "flatPrice",
        "Many UnitTier": "tiers",
        "bool": "isActive",
    },
    UnitEvent: {"str": "id customerId agentKey member"},
    UnitRecord: {},
    UnitUsage: {"Many UnitBalance": "balances", "Many UnitEvent": "events"},
    Member: {"str": "id name email"},
    WalletTransaction: {"str": "id type", "float": "amount"},
    Wallet: {"float": "balance", "Many WalletTransaction": "transactions"},
    WalletEntry: {"One WalletTransaction": "transaction"},
    Adjustment: {"float": "remaining"},
    PurchaseChange: {"One Purchase": "purchase"},
    Invoice: {"str": "id customerId status"},
    InvoiceDetails: {"One Invoice": "invoice", "One Plan": "plan"},
    PayLink: {},
    Payment: {"str": "id customerId"},
    PaymentDetails: {"One Payment": "payment", "One Plan": "plan"},
    Webhook: {"str": "kind url", "float": "threshold"},
    Identity: {},
    CatalogueModel: {"str": "modelId", "float": "inputPrice outputPrice cachePrice", "bool": "isActive"},
}
"""Every field by its name on the wire, under what the server documents it to be."""

SAMPLES: dict[str, object] = {"str": "x", "int": 7, "float": 0.5, "bool": True}


def declared(kind: type[Model]) -> dict[str, tuple[str, str]]:
    """What is declared in a model: by attribute, what it is and its name on the wire."""
    members: dict[str, Any] = {
        name: each for name, each in vars(kind).items() if isinstance(each, Field | Many)
    }

    def nested(each: object) -> str:
        return "One " if isinstance(each, One) else "Many " if isinstance(each, Many) else ""

    return {name: (nested(each) + each.kind.__name__, each.wire_name) for name, each in members.items()}


def test_all_models_are_listed() -> None:
    of_module = {each for each in vars(models).values() if isinstance(each, type) and issubclass(each, Model)}
    assert of_module - {Model} == FIELDS.keys()


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
def test_each_field_is_what_the_server_documents(kind: type[Model]) -> None:
    expected = {wire: what for what, wires in FIELDS[kind].items() for wire in wires.split()}
    fields = declared(kind)
    assert {wire: what for what, wire in fields.values()} == expected
    payload = {wire: SAMPLES.get(what, [{"n": 1}]) for wire, what in expected.items()}
    arguments: dict[str, Any] = {"idempotency_key": "k"} if kind is TrackResult else {}
    model = kind(payload, **arguments)
    for name, (what, wire) in fields.items():
        assert camel_case(name.rstrip("_")) == wire
        if what in SAMPLES:
            assert getattr(model, name) == SAMPLES[what]


def test_a_track_result_says_what_became_of_its_signal() -> None:
    queued = TrackResult({}, idempotency_key="k", queued=True)
    assert (queued.queued, queued.dropped, queued.idempotency_key, queued.usage_log) == (
        True,
        None,
        "k",
        None,
    )
    dropped = TrackResult({}, idempotency_key="k", dropped="queue_full")
    assert (dropped.queued, dropped.dropped) == (False, "queue_full")
    sent = TrackResult({"accepted": True, "signalId": "s"}, idempotency_key="k")
    assert (sent.queued, sent.dropped, sent.accepted, sent.signal_id) == (False, None, True, "s")


def test_the_result_of_a_buffered_call_is_what_the_constructor_makes() -> None:
    signal = EncodedSignal("k", "credit", b"{}")
    assert outputs.queued(signal) == TrackResult({}, idempotency_key="k", queued=True)
    assert outputs.queued(signal, dropped="closed") == TrackResult(
        {}, idempotency_key="k", queued=True, dropped="closed"
    )
    assert outputs.queued(signal).raw is not outputs.queued(signal).raw


def test_track_results_are_equal_by_all_they_say() -> None:
    result = TrackResult({"ok": True}, idempotency_key="k", queued=True)
    assert result == TrackResult({"ok": True}, idempotency_key="k", queued=True)
    for other in (
        TrackResult({}, idempotency_key="k", queued=True),
        TrackResult({"ok": True}, idempotency_key="l", queued=True),
        TrackResult({"ok": True}, idempotency_key="k"),
        TrackResult({"ok": True}, idempotency_key="k", queued=True, dropped="closed"),
        Customer({"ok": True}),
        "k",
    ):
        assert result != other
    with pytest.raises(TypeError, match="unhashable"):
        hash(result)


def test_a_track_result_shows_why_its_signal_was_dropped_if_it_was() -> None:
    queued = TrackResult({}, idempotency_key="k", queued=True)
    assert repr(queued) == "TrackResult(queued=True, idempotency_key='k', usage_log=None)"
    dropped = TrackResult({}, idempotency_key="k", dropped="closed")
    assert repr(dropped) == (
        "TrackResult(queued=False, idempotency_key='k', dropped='closed', usage_log=None)"
    )
    sent = TrackResult({"usageLog": {"id": "log_1"}}, idempotency_key="k")
    assert repr(sent) == "TrackResult(queued=False, idempotency_key='k', usage_log=UsageLog(id='log_1'))"
