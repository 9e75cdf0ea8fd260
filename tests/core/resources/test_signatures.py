"""What `inspect` and `help` say of a bound method is what it is."""

import inspect
from typing import Any

import pytest

from clocknext_core.binding import Resource, endpoint
from clocknext_core.models import Credit, CreditBalance, Items, Outcome, Plan, Unit, UsageLog
from clocknext_core.resources.catalogue import Catalogue
from clocknext_core.resources.credits import Credits
from clocknext_core.resources.customers import Customers
from clocknext_core.resources.outcomes import Outcomes
from clocknext_core.resources.plans import Plans
from clocknext_core.resources.signals import Signals
from clocknext_core.resources.units import Units
from tests.core.resources.support import RESOURCES, FakeAsyncClient, FakeClient

SIGNATURES: list[tuple[type[Resource[Any]], str, str, object]] = [
    (Plans, "list", "(*, active: bool | None = None)", Items[Plan]),
    (Plans, "create", "(*, name: str, **definition: object)", Plan),
    (Plans, "get", "(definition_id: str, /)", Plan),
    (Plans, "update", "(definition_id: str, /, **definition: object)", Plan),
    (Plans, "set_active", "(definition_id: str, /, *, is_active: bool)", Plan),
    (Plans, "delete", "(definition_id: str, /)", type(None)),
    (Credits, "get", "(definition_id: str, /)", Credit),
    (Outcomes, "get", "(definition_id: str, /)", Outcome),
    (Units, "list", "(*, active: bool | None = None)", Items[Unit]),
    (Customers, "adjust_credit", "(customer_id: str, /, *, credit_id: str, amount: float)", type(None)),
    (
        Customers,
        "credit_balance",
        "(customer_id: str, /, *, credit_id: str | None = None, credit_name: str | None = None)",
        CreditBalance | None,
    ),
    (Signals, "verify", "(signal: clocknext_core.signals.Signal, /)", UsageLog),
]


@pytest.mark.parametrize("client", [FakeClient(), FakeAsyncClient()], ids=["blocking", "async"])
@pytest.mark.parametrize(
    ("resource", "name", "parameters", "returns"),
    SIGNATURES,
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_signature(
    client: FakeClient | FakeAsyncClient,
    resource: type[Resource[Any]],
    name: str,
    parameters: str,
    returns: object,
) -> None:
    bound = getattr(resource(client), name)
    signature = inspect.signature(bound)
    assert str(signature.replace(return_annotation=inspect.Signature.empty)) == parameters
    assert signature.return_annotation == returns
    assert inspect.iscoroutinefunction(bound) is client.is_async
    assert bound.__name__ == name


@pytest.mark.parametrize("client", [FakeClient(), FakeAsyncClient()], ids=["blocking", "async"])
@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.__name__)
def test_every_method_says_what_it_requests(
    client: FakeClient | FakeAsyncClient, resource: type[Resource[Any]]
) -> None:
    names = [name for name in dir(resource) if isinstance(getattr(resource, name), endpoint)]
    assert names
    for name in names:
        bound = getattr(resource(client), name)
        assert inspect.iscoroutinefunction(bound) is client.is_async
        documentation = inspect.getdoc(bound) or ""
        assert "/api/v1/" in documentation, name
        assert not {"{noun}", "{segment}"} & set(documentation.split()), name
        parameters = inspect.signature(bound).parameters.values()
        assert all(each.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD for each in parameters), name


def test_definitions_are_documented_by_their_own_name() -> None:
    assert "GET /api/v1/units-catalog/{id}" in (FakeClient().units.get.__doc__ or "")
    assert "no such outcome" in (FakeClient().outcomes.delete.__doc__ or "")
    assert "{segment}" in (vars(Catalogue)["get"].__doc__ or "")  # the template is not touched


def test_an_unknown_detail_is_an_unexpected_argument() -> None:
    client = FakeClient()
    with pytest.raises(TypeError, match="'reason'"):
        client.purchases.set_auto_payment("p", auto_payment=True, reason="x")  # type: ignore[call-arg]
    assert client.requests == []
