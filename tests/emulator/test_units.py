"""Events of units, and how tiers price them."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clocknext_transports.emulator import Catalogue, Customer, Ledger, Plan, Tier, Unit
from tests.emulator.support import NOW, call, create, fetch, refused

TIERS = (Tier(10, 5), Tier(25, 10), Tier(None, 12))
FALLING = (Tier(2, 3), Tier(None, 1))
CATALOGUE = Catalogue(
    units=[
        Unit("flat", flat_price="0.1", name="Flat"),
        Unit("slab", pricing="SLAB", tiers=TIERS),
        Unit("volume", pricing="VOLUME", tiers=TIERS),
        Unit("falling", pricing="VOLUME", tiers=FALLING),
    ],
    customers=[
        Customer("cus_1", units={"flat": 2, "slab": 100, "volume": 100, "falling": 100}),
        Customer("cus_2"),
    ],
)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(CATALOGUE)


def event(ledger: Ledger, key: str, **fields: object) -> tuple[float, float]:
    body = {"customerId": "cus_1", "agentKey": key, **fields}
    status, content = call(ledger, "POST", "/api/v1/units", body)
    assert status == 200
    return content["event"]["customerCost"], content["remaining"]


def test_an_event_is_priced_and_taken_off(ledger: Ledger) -> None:
    body = {"customerId": "cus_1", "agentKey": "flat", "member": "a@b.c"}
    assert call(ledger, "POST", "/api/v1/units", body) == (
        200,
        {
            "ok": True,
            "event": {
                "id": "evt_1",
                "customerId": "cus_1",
                "unitId": "flat",
                "agentKey": "flat",
                "member": "a@b.c",
                "customerCost": 0.1,
                "createdAt": "2026-07-01T10:00:00.000Z",
            },
            "remaining": 1.0,
        },
    )
    assert event(ledger, "flat") == (0.1, 0.0)
    assert refused(ledger, "POST", "units", body) == (422, "Insufficient unit balance: no flat left.")
    assert ledger.balance("cus_1", "flat") == 0
    bill = ledger.bill("cus_1")
    assert (bill.units, bill.unit_cost, bill.customer_cost) == ({"flat": 2}, Decimal("0.2"), Decimal("0.2"))
    assert [e.member for e in ledger.unit_events] == ["a@b.c", None]


@pytest.mark.parametrize(
    ("key", "totals"),
    [("slab", {10: 50, 11: 60, 25: 200, 26: 212}), ("volume", {10: 50, 11: 110, 25: 250, 26: 312})],
)
def test_tiers_at_their_boundaries(ledger: Ledger, key: str, totals: dict[int, int]) -> None:
    total = 0.0
    for number in range(1, 27):
        total += event(ledger, key)[0]
        if number in totals:
            assert total == totals[number]
    assert ledger.bill("cus_1").customer_cost == totals[26]


def test_a_cheaper_volume_tier_gives_back(ledger: Ledger) -> None:
    assert [event(ledger, "falling")[0] for _ in range(4)] == [3.0, 3.0, -3.0, 1.0]


tiers = st.lists(
    st.tuples(st.integers(1, 50), st.integers(0, 100)), min_size=1, max_size=6, unique_by=lambda t: t[0]
).map(
    lambda pairs: (
        *(Tier(bound, price) for bound, price in sorted(pairs)[:-1]),
        Tier(None, max(pairs)[1]),
    )
)


@given(tiers, st.integers(0, 120))
def test_slab_adds_up_unit_by_unit_and_volume_multiplies(bands: tuple[Tier, ...], quantity: int) -> None:
    def rate(number: int) -> int:
        return next(int(band.price) for band in bands if band.up_to is None or number <= int(band.up_to))

    slab = Unit("u", pricing="SLAB", tiers=bands).cost_of(Decimal(quantity))
    volume = Unit("u", pricing="VOLUME", tiers=bands).cost_of(Decimal(quantity))
    assert slab == sum(rate(number) for number in range(1, quantity + 1))
    assert volume == (quantity * rate(quantity) if quantity else 0)


@pytest.mark.parametrize(("pricing", "cost"), [("SLAB", 40), ("VOLUME", 60)])
def test_the_price_of_a_last_tier_goes_on_beyond_its_bound(pricing: str, cost: int) -> None:
    body = {
        "name": "U",
        "agentKey": "u",
        "pricingType": pricing,
        "tiers": [{"upTo": 10, "price": 1}, {"upTo": 15, "price": 3}],
    }
    ledger = Ledger(CATALOGUE)
    unit = create(ledger, "units-catalog", body)["id"]
    component = {"type": "UNIT", "billingMode": "ADVANCE", "unitId": unit, "quantity": 20}
    plan = create(ledger, "plans", {"name": "P", "billingCycle": "YEARLY", "components": [component]})["id"]
    create(ledger, "purchases", {"customerId": "cus_2", "planId": plan})
    assert fetch(ledger, "invoices")["invoices"][0]["amount"] == cost


def test_in_arrear_events_never_run_out_and_a_new_purchase_counts_from_one() -> None:
    plan = Plan("p", units={"slab": 0}, arrear=True)
    ledger = Ledger(Catalogue(units=CATALOGUE.units, plans=[plan], customers=[Customer("cus_1", plan="p")]))
    costs = [event(ledger, "slab") for _ in range(11)]
    assert costs[9:] == [(5.0, -10.0), (10.0, -11.0)]
    create(ledger, "purchases", {"customerId": "cus_1", "planId": "p"})
    assert event(ledger, "slab") == (5.0, -1.0)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "customerId: is required; agentKey: is required"),
        ({"customerId": "cus_1", "agentKey": "flat", "member": 1}, 400, "member: must be a string"),
        ({"customerId": "nobody", "agentKey": "flat"}, 404, 'No customer with id "nobody".'),
        (
            {"customerId": "cus_1", "agentKey": "nope"},
            422,
            'No unit with agent key "nope" in this workspace.',
        ),
        (
            {"customerId": "cus_2", "agentKey": "flat"},
            422,
            'The plan of customer "cus_2" has no unit "flat".',
        ),
    ],
)
def test_what_cannot_be_billed_is_refused(
    ledger: Ledger, body: dict[str, object], status: int, message: str
) -> None:
    assert refused(ledger, "POST", "units", body) == (status, message)
    assert ledger.unit_events == ()


def test_events_are_listed_newest_first_with_what_is_left(ledger: Ledger) -> None:
    for key in ("flat", "slab", "flat"):
        event(ledger, key)
    content = fetch(ledger, "units?customerId=cus_1&limit=2")
    assert [e["agentKey"] for e in content["events"]] == ["flat", "slab"]
    assert content["balances"][0] == {"unitId": "flat", "unitName": "Flat", "remaining": 0.0}
    assert fetch(ledger, "units?customerId=cus_2") == {"ok": True, "balances": [], "events": []}
    assert refused(ledger, "GET", "units") == (400, "customerId: is required")


def test_revenue_counts_them_in(ledger: Ledger) -> None:
    event(ledger, "slab")
    content = call(ledger, "GET", "/api/v1/customers/cus_1/revenue", now=NOW)[1]
    assert (content["revenue"], content["signals"]) == (5.0, 0)
    assert content["series"] == [{"date": "2026-07-01", "signals": 0, "revenue": 5.0, "cost": 0.0}]
