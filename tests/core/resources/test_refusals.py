"""Bad arguments: a `ValidationError` that names the argument, and nothing sent."""

from collections.abc import Callable
from typing import Any

import pytest

from clocknext_core import ValidationError
from clocknext_core.resources.customers import CustomerDetails
from tests.core.resources.support import FakeClient, unchecked

BAD_IDS: tuple[object, ...] = ("", "  ", ".", "..", None, 7, b"x", "\ud800")
BAD_TEXTS: tuple[object, ...] = ("", " ", None, 7)
BAD_FILTERS: tuple[object, ...] = (" ", 7, ["x"], "\ud800")
BAD_LIMITS: tuple[object, ...] = (-1, 1.5, "5", True)
BAD_BOOLS: tuple[object, ...] = (0, 1, "true", [])
BAD_AMOUNTS: tuple[object, ...] = (None, "5", True, float("nan"), float("inf"))
BAD_EMAILS: tuple[object, ...] = ("a", "a@", "@b", "a b@c", 7)
BAD_NUMBERS: tuple[object, ...] = (None, "5", True, float("nan"), float("-inf"), 10**400, [1])
BAD_NULLABLE_NUMBERS: tuple[object, ...] = BAD_NUMBERS[1:]
BAD_FLAGS: tuple[object, ...] = (None, *BAD_BOOLS)
BAD_NULLABLE_TEXTS: tuple[object, ...] = (7, True, b"x", ["x"], "\ud800")
BAD_AGENT_KEYS: tuple[object, ...] = (*BAD_TEXTS, "Api", "a b", "a/b", "é", "a\n", b"a", "\ud800")
BAD_ROWS: tuple[object, ...] = (None, "x", 7, {"name": "x"}, {1})
UNENCODABLE: tuple[object, ...] = (float("nan"), {1, 2}, object(), "\ud800", [b"x"])

Case = tuple[str, str, Callable[[FakeClient, Any], object], tuple[object, ...]]
"""The method, the argument, a call that gives it, and the values it must refuse."""


DEFINED: dict[str, dict[str, tuple[object, ...]]] = {
    "plans": {
        "description": BAD_NULLABLE_TEXTS,
        "is_active": BAD_FLAGS,
        "billing_cycle": BAD_TEXTS,
        "components": BAD_ROWS,
        "components[1]": (None, "x", [], 7),
        "components[1].type": BAD_TEXTS,
        "components[1].billingMode": BAD_TEXTS,
        "components[1].amount": BAD_NULLABLE_NUMBERS,
        "components[1].creditId": BAD_NULLABLE_TEXTS[:-1],
        "components[1].outcomeId": BAD_NULLABLE_TEXTS[:-1],
        "components[1].unitId": BAD_NULLABLE_TEXTS[:-1],
        "components[1].quantity": BAD_NULLABLE_NUMBERS,
        "currency_code": BAD_NULLABLE_TEXTS,
        "wallet_funded_arrear": BAD_FLAGS,
        "price_adjustment": BAD_NUMBERS,
        "carry_forward": BAD_FLAGS,
    },
    "credits": {
        "description": BAD_NULLABLE_TEXTS,
        "is_active": BAD_FLAGS,
        "agent_key": BAD_AGENT_KEYS,
        "base_price": BAD_NUMBERS,
        "margin_percent": BAD_NUMBERS,
        "price_per_credit": BAD_NUMBERS,
        "tokens_per_credit": BAD_NUMBERS,
    },
    "outcomes": {
        "description": BAD_NULLABLE_TEXTS,
        "is_active": BAD_FLAGS,
        "agent_key": BAD_AGENT_KEYS,
        "base_price": BAD_NUMBERS,
        "margin_percent": BAD_NUMBERS,
        "price_per_outcome": BAD_NUMBERS,
        "steps": BAD_ROWS,
        "steps[1]": (None, "x", [], 7),
        "steps[1].name": BAD_TEXTS,
        "steps[1].agentKey": BAD_AGENT_KEYS,
        "steps[1].basePrice": BAD_NUMBERS,
    },
    "units": {
        "description": BAD_NULLABLE_TEXTS,
        "is_active": BAD_FLAGS,
        "agent_key": BAD_AGENT_KEYS,
        "pricing_type": BAD_TEXTS,
        "flat_price": BAD_NUMBERS,
        "tiers": BAD_ROWS,
        "tiers[1]": (None, "x", [], 7),
        "tiers[1].upTo": BAD_NULLABLE_NUMBERS,
        "tiers[1].price": BAD_NUMBERS,
    },
}
"""Every field of a definition, by resource, and what it refuses; also in the second row of a list."""


def given_as(field: str, value: object) -> dict[str, object]:
    """How a value is given for a field: for `steps[1].name` it is `steps=[{}, {"name": value}]`."""
    name, in_row, key = field.partition("[1]")
    if not in_row:
        return {name: value}
    return {name: [{}, {key.removeprefix("."): value} if key else value]}


def definition_refusals(resource: str) -> list[Case]:
    """What plans, credits, outcomes and units refuse alike."""

    def of(client: FakeClient) -> Any:
        return getattr(client, resource)

    cases: list[Case] = [
        ("list", "active", lambda c, v: of(c).list(active=v), BAD_BOOLS),
        ("create", "name", lambda c, v: of(c).create(name=v), BAD_TEXTS),
        ("create", "added_later", lambda c, v: of(c).create(name="N", added_later=v), UNENCODABLE),
        ("get", "definition_id", lambda c, v: of(c).get(v), BAD_IDS),
        ("update", "definition_id", lambda c, v: of(c).update(v), BAD_IDS),
        ("update", "name", lambda c, v: of(c).update("x_1", name=v), BAD_TEXTS),
        ("update", "added_later", lambda c, v: of(c).update("x_1", added_later=v), UNENCODABLE),
        ("set_active", "definition_id", lambda c, v: of(c).set_active(v, is_active=True), BAD_IDS),
        ("set_active", "is_active", lambda c, v: of(c).set_active("x_1", is_active=v), (None, *BAD_BOOLS)),
        ("delete", "definition_id", lambda c, v: of(c).delete(v), BAD_IDS),
    ]

    def written(field: str, values: tuple[object, ...]) -> list[Case]:
        return [
            ("create", field, lambda c, v: of(c).create(name="N", **given_as(field, v)), values),
            ("update", field, lambda c, v: of(c).update("x_1", **given_as(field, v)), values),
        ]

    cases += [case for field, values in DEFINED[resource].items() for case in written(field, values)]
    return [(f"{resource}.{method}", argument, call, values) for method, argument, call, values in cases]


def allowance_refusals(noun: str) -> list[Case]:
    """What the adjustments and balances of credits, outcomes and units refuse alike."""
    by_id, by_name = f"{noun}_id", f"{noun}_name"

    def adjust(client: FakeClient, customer_id: object, adjusted_id: object, amount: object) -> Any:
        return getattr(client.customers, f"adjust_{noun}")(customer_id, **{by_id: adjusted_id}, amount=amount)

    def balance(client: FakeClient, customer_id: object, **by: object) -> Any:
        return getattr(client.customers, f"{noun}_balance")(customer_id, **by)

    cases: list[Case] = [
        (f"adjust_{noun}", "customer_id", lambda c, v: adjust(c, v, "x", 1), BAD_IDS),
        (f"adjust_{noun}", by_id, lambda c, v: adjust(c, "c", v, 1), BAD_TEXTS),
        (f"adjust_{noun}", "amount", lambda c, v: adjust(c, "c", "x", v), BAD_AMOUNTS),
        (f"{noun}_balance", "customer_id", lambda c, v: balance(c, v, **{by_id: "x"}), BAD_IDS),
        (f"{noun}_balance", by_id, lambda c, v: balance(c, "c", **{by_id: v}), BAD_TEXTS),
        (f"{noun}_balance", by_id, lambda c, v: balance(c, "c", **{by_id: v, by_name: v}), ("both",)),
        (f"{noun}_balance", by_name, lambda c, v: balance(c, "c", **{by_name: v}), ("", " ", 7)),
    ]
    return [(f"customers.{method}", argument, call, values) for method, argument, call, values in cases]


def customer_refusals(field: str) -> list[Case]:
    """What the optional fields of a customer refuse."""

    def create(client: FakeClient, value: object) -> Any:
        return unchecked(client.customers).create(name="A", email="a@b.c", **{field: value})

    def update(client: FakeClient, value: object) -> Any:
        return unchecked(client.customers).update("c", **{field: value})

    return [
        ("customers.create", field, create, BAD_NULLABLE_TEXTS),
        ("customers.update", field, update, BAD_NULLABLE_TEXTS),
    ]


REFUSALS: list[Case] = [
    *(
        case
        for resource in ("plans", "credits", "outcomes", "units")
        for case in definition_refusals(resource)
    ),
    ("purchases.list", "customer_id", lambda c, v: c.purchases.list(customer_id=v), BAD_FILTERS),
    ("purchases.list", "status", lambda c, v: c.purchases.list(status=v), BAD_FILTERS),
    ("purchases.list", "limit", lambda c, v: c.purchases.list(limit=v), BAD_LIMITS),
    (
        "purchases.create",
        "customer_id",
        lambda c, v: c.purchases.create(customer_id=v, plan_id="p"),
        BAD_TEXTS,
    ),
    ("purchases.create", "plan_id", lambda c, v: c.purchases.create(customer_id="c", plan_id=v), BAD_TEXTS),
    (
        "purchases.create",
        "notes",
        lambda c, v: c.purchases.create(customer_id="c", plan_id="p", notes=v),
        BAD_NULLABLE_TEXTS,
    ),
    (
        "purchases.create",
        "billing_date",
        lambda c, v: c.purchases.create(customer_id="c", plan_id="p", billing_date=v),
        BAD_NULLABLE_TEXTS,
    ),
    (
        "purchases.create",
        "auto_payment",
        lambda c, v: c.purchases.create(customer_id="c", plan_id="p", auto_payment=v),
        BAD_FLAGS,
    ),
    (
        "purchases.create",
        "void_after_minutes",
        lambda c, v: c.purchases.create(customer_id="c", plan_id="p", void_after_minutes=v),
        (None, *BAD_LIMITS, float("nan")),
    ),
    (
        "purchases.create",
        "added_later",
        lambda c, v: unchecked(c.purchases).create(customer_id="c", plan_id="p", added_later=v),
        UNENCODABLE,
    ),
    ("purchases.get", "purchase_id", lambda c, v: c.purchases.get(v), BAD_IDS),
    (
        "purchases.set_auto_payment",
        "purchase_id",
        lambda c, v: c.purchases.set_auto_payment(v, auto_payment=True),
        BAD_IDS,
    ),
    (
        "purchases.set_auto_payment",
        "auto_payment",
        lambda c, v: c.purchases.set_auto_payment("p", auto_payment=v),
        (None, *BAD_BOOLS),
    ),
    (
        "purchases.set_auto_payment",
        "pause_reason",
        lambda c, v: c.purchases.set_auto_payment("p", auto_payment=False, pause_reason=v),
        (7, ["x"], "\ud800"),
    ),
    ("purchases.cancel", "purchase_id", lambda c, v: c.purchases.cancel(v), BAD_IDS),
    ("invoices.list", "customer_id", lambda c, v: c.invoices.list(customer_id=v), BAD_FILTERS),
    ("invoices.list", "status", lambda c, v: c.invoices.list(status=v), BAD_FILTERS),
    ("invoices.list", "limit", lambda c, v: c.invoices.list(limit=v), BAD_LIMITS),
    ("invoices.get", "invoice_id", lambda c, v: c.invoices.get(v), BAD_IDS),
    ("invoices.pay_link", "invoice_id", lambda c, v: c.invoices.pay_link(v), BAD_IDS),
    ("payments.list", "customer_id", lambda c, v: c.payments.list(customer_id=v), BAD_FILTERS),
    ("payments.list", "limit", lambda c, v: c.payments.list(limit=v), BAD_LIMITS),
    ("payments.get", "payment_id", lambda c, v: c.payments.get(v), BAD_IDS),
    ("webhooks.upsert", "kind", lambda c, v: c.webhooks.upsert(kind=v, url="https://x.example"), BAD_TEXTS),
    ("webhooks.upsert", "url", lambda c, v: c.webhooks.upsert(kind="K", url=v), BAD_TEXTS),
    (
        "webhooks.upsert",
        "threshold",
        lambda c, v: c.webhooks.upsert(kind="K", url="https://x.example", threshold=v),
        BAD_NULLABLE_NUMBERS,
    ),
    ("webhooks.delete", "kind", lambda c, v: c.webhooks.delete(v), BAD_IDS),
    ("workspace.models", "active", lambda c, v: c.workspace.models(active=v), BAD_BOOLS),
    *(case for field in CustomerDetails.__annotations__ for case in customer_refusals(field)),
    ("customers.update", "name", lambda c, v: c.customers.update("c", name=v), BAD_TEXTS),
    ("customers.update", "email", lambda c, v: c.customers.update("c", email=v), BAD_TEXTS),
    ("customers.create", "name", lambda c, v: c.customers.create(name=v, email="a@b.c"), BAD_TEXTS),
    ("customers.create", "email", lambda c, v: c.customers.create(name="A", email=v), BAD_TEXTS),
    ("customers.get", "customer_id", lambda c, v: c.customers.get(v), BAD_IDS),
    ("customers.update", "customer_id", lambda c, v: c.customers.update(v, notes="x"), BAD_IDS),
    ("customers.delete", "customer_id", lambda c, v: c.customers.delete(v), BAD_IDS),
    ("customers.list", "limit", lambda c, v: c.customers.list(limit=v), BAD_LIMITS),
    ("customers.list", "q", lambda c, v: c.customers.list(q=v), BAD_FILTERS),
    ("customers.list", "cursor", lambda c, v: c.customers.list(cursor=v), BAD_FILTERS),
    ("customers.iterate", "limit", lambda c, v: c.customers.iterate(limit=v), BAD_LIMITS),
    ("customers.iterate", "q", lambda c, v: c.customers.iterate(q=v), BAD_FILTERS),
    ("customers.usage", "customer_id", lambda c, v: c.customers.usage(v), BAD_TEXTS),
    ("customers.usage", "limit", lambda c, v: c.customers.usage("c", limit=v), BAD_LIMITS),
    ("customers.balances", "customer_id", lambda c, v: c.customers.balances(v), BAD_IDS),
    ("customers.plan", "customer_id", lambda c, v: c.customers.plan(v), BAD_IDS),
    ("customers.revenue", "customer_id", lambda c, v: c.customers.revenue(v), BAD_IDS),
    ("customers.revenue", "range", lambda c, v: c.customers.revenue("c", range=v), BAD_FILTERS),
    ("portal.create_token", "customer_id", lambda c, v: c.portal.create_token(customer_id=v), BAD_TEXTS),
    (
        "portal.create_token",
        "ttl_seconds",
        lambda c, v: c.portal.create_token(customer_id="c", ttl_seconds=v),
        (0, *BAD_LIMITS),
    ),
    (
        "portal.create_token",
        "member_email",
        lambda c, v: c.portal.create_token(customer_id="c", member_email=v),
        ("", *BAD_EMAILS),
    ),
    ("signals.list", "customer_id", lambda c, v: c.signals.list(customer_id=v), BAD_TEXTS),
    ("signals.list", "limit", lambda c, v: c.signals.list(customer_id="c", limit=v), BAD_LIMITS),
    ("customers.list_members", "customer_id", lambda c, v: c.customers.list_members(v), BAD_IDS),
    (
        "customers.add_member",
        "customer_id",
        lambda c, v: c.customers.add_member(v, name="A", email="a@b.c"),
        BAD_IDS,
    ),
    (
        "customers.add_member",
        "name",
        lambda c, v: c.customers.add_member("c", name=v, email="a@b.c"),
        BAD_TEXTS,
    ),
    (
        "customers.add_member",
        "email",
        lambda c, v: c.customers.add_member("c", name="A", email=v),
        (*BAD_TEXTS, *BAD_EMAILS),
    ),
    (
        "customers.add_member",
        "role",
        lambda c, v: unchecked(c.customers).add_member("c", name="A", email="a@b.c", role=v),
        UNENCODABLE,
    ),
    ("customers.update_member", "customer_id", lambda c, v: c.customers.update_member(v, "m"), BAD_IDS),
    ("customers.update_member", "member_id", lambda c, v: c.customers.update_member("c", v), BAD_IDS),
    ("customers.update_member", "name", lambda c, v: c.customers.update_member("c", "m", name=v), BAD_TEXTS),
    (
        "customers.update_member",
        "email",
        lambda c, v: c.customers.update_member("c", "m", email=v),
        (*BAD_TEXTS, *BAD_EMAILS),
    ),
    ("customers.remove_member", "customer_id", lambda c, v: c.customers.remove_member(v, "m"), BAD_IDS),
    ("customers.remove_member", "member_id", lambda c, v: c.customers.remove_member("c", v), BAD_IDS),
    ("customers.wallet", "customer_id", lambda c, v: c.customers.wallet(v), BAD_IDS),
    ("customers.wallet", "limit", lambda c, v: c.customers.wallet("c", limit=v), BAD_LIMITS),
    (
        "customers.add_wallet_entry",
        "customer_id",
        lambda c, v: c.customers.add_wallet_entry(v, type="TOPUP", amount=1),
        BAD_IDS,
    ),
    (
        "customers.add_wallet_entry",
        "type",
        lambda c, v: c.customers.add_wallet_entry("c", type=v, amount=1),
        BAD_TEXTS,
    ),
    (
        "customers.add_wallet_entry",
        "amount",
        lambda c, v: c.customers.add_wallet_entry("c", type="TOPUP", amount=v),
        BAD_AMOUNTS,
    ),
    *(case for noun in ("credit", "outcome", "unit") for case in allowance_refusals(noun)),
    ("signals.verify", "signal", lambda c, v: c.signals.verify(v), (None, {}, "signal")),
    ("signals.unit", "customer_id", lambda c, v: c.signals.unit(customer_id=v, agent_key="s"), BAD_TEXTS),
    ("signals.unit", "agent_key", lambda c, v: c.signals.unit(customer_id="c", agent_key=v), BAD_TEXTS),
    (
        "signals.unit",
        "member",
        lambda c, v: c.signals.unit(customer_id="c", agent_key="s", member=v),
        (" ", 7),
    ),
    ("signals.unit_usage", "customer_id", lambda c, v: c.signals.unit_usage(customer_id=v), BAD_TEXTS),
    ("signals.unit_usage", "limit", lambda c, v: c.signals.unit_usage(customer_id="c", limit=v), BAD_LIMITS),
]


@pytest.mark.parametrize(
    ("argument", "call", "value"),
    [
        pytest.param(argument, call, value, id=f"{method}-{argument}-{ascii(value)[:20]}")
        for method, argument, call, values in REFUSALS
        for value in values
    ],
)
def test_refusal(argument: str, call: Callable[[FakeClient, Any], object], value: object) -> None:
    client = FakeClient()
    with pytest.raises(ValidationError) as caught:
        call(client, value)
    assert caught.value.message.startswith(f"{argument}: ")
    assert caught.value.status is None
    assert not caught.value.retryable
    assert client.requests == []
