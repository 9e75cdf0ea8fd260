"""What `inspect` and `help` say of a bound method is what it is."""

import inspect
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypedDict, Unpack, get_args, get_origin, get_type_hints

import pytest

from clocknext_core import signals
from clocknext_core.models import (
    Credit,
    CreditBalance,
    Customer,
    Items,
    Member,
    Outcome,
    Plan,
    Purchase,
    PurchaseChange,
    Unit,
    Webhook,
)
from clocknext_core.operations import Operation, path_of
from clocknext_core.resources.binding import Blocking, Resource, S, endpoint
from clocknext_core.resources.credits import Credits
from clocknext_core.resources.customers import Customers
from clocknext_core.resources.offerings import Offerings
from clocknext_core.resources.outcomes import Outcomes
from clocknext_core.resources.payloads import nothing
from clocknext_core.resources.plans import Plans
from clocknext_core.resources.purchases import Purchases
from clocknext_core.resources.units import Units
from clocknext_core.resources.webhooks import Webhooks
from tests.core.resources.support import RESOURCES, FakeAsyncClient, FakeClient

CREDIT_FIELDS = (
    "description: str | None = <unset>, is_active: bool = <unset>, agent_key: str = <unset>, "
    "base_price: float = <unset>, margin_percent: float = <unset>, price_per_credit: float = <unset>, "
    "tokens_per_credit: float = <unset>"
)
UNIT_FIELDS = (
    "description: str | None = <unset>, is_active: bool = <unset>, agent_key: str = <unset>, "
    "pricing_type: Literal['FLAT', 'SLAB', 'VOLUME'] = <unset>, flat_price: float = <unset>, "
    "tiers: collections.abc.Sequence[clocknext_core.resources.units.UnitTierDefinition] = <unset>"
)
CUSTOMER_FIELDS = ", ".join(
    f"{name}: str | None = <unset>"
    for name in (
        *("description", "website", "phone", "legal_name", "address_line1", "address_line2", "city", "state"),
        *("country", "pincode", "tax_id", "notes", "logo_url", "currency_code"),
    )
)
PURCHASE_FIELDS = (
    "billing_date: str | None = <unset>, notes: str | None = <unset>, auto_payment: bool = <unset>, "
    "void_after_minutes: int = <unset>"
)
OUTCOME_FIELDS = (
    "description: str | None = <unset>, is_active: bool = <unset>, agent_key: str = <unset>, "
    "base_price: float = <unset>, margin_percent: float = <unset>, price_per_outcome: float = <unset>, "
    "steps: collections.abc.Sequence[clocknext_core.resources.outcomes.OutcomeStepDefinition] = <unset>"
)
PLAN_FIELDS = (
    "description: str | None = <unset>, is_active: bool = <unset>, "
    "billing_cycle: Literal['MONTHLY', 'QUARTERLY', 'SEMI_ANNUAL', 'YEARLY', 'EVERY_5_MIN', 'FREE'] "
    "= <unset>, "
    "components: collections.abc.Sequence[clocknext_core.resources.plans.PlanComponentDefinition] = <unset>, "
    "currency_code: str | None = <unset>, wallet_funded_arrear: bool = <unset>, "
    "price_adjustment: float = <unset>, carry_forward: bool = <unset>"
)
SIGNATURES: list[tuple[type[Resource[Any]], str, str, object]] = [
    (Plans, "create", f"(*, name: str, {PLAN_FIELDS})", Plan),
    (Plans, "list", "(*, active: bool | None = None)", Items[Plan]),
    (Credits, "create", f"(*, name: str, {CREDIT_FIELDS})", Credit),
    (Credits, "update", f"(definition_id: str, /, *, name: str = <unset>, {CREDIT_FIELDS})", Credit),
    (Outcomes, "create", f"(*, name: str, {OUTCOME_FIELDS})", Outcome),
    (Units, "create", f"(*, name: str, {UNIT_FIELDS})", Unit),
    (Units, "update", f"(definition_id: str, /, *, name: str = <unset>, {UNIT_FIELDS})", Unit),
    (Customers, "create", f"(*, name: str, email: str, {CUSTOMER_FIELDS})", Customer),
    (
        Customers,
        "update",
        f"(customer_id: str, /, *, {CUSTOMER_FIELDS}, name: str = <unset>, email: str = <unset>)",
        Customer,
    ),
    (Customers, "add_member", "(customer_id: str, /, *, name: str, email: str)", Member),
    (
        Customers,
        "update_member",
        "(customer_id: str, member_id: str, /, *, name: str = <unset>, email: str = <unset>)",
        Member,
    ),
    (
        Purchases,
        "create",
        f"(*, customer_id: str, plan_id: str, {PURCHASE_FIELDS})",
        Purchase,
    ),
    (
        Purchases,
        "set_auto_payment",
        "(purchase_id: str, /, *, auto_payment: bool, pause_reason: str | None = <unset>)",
        PurchaseChange,
    ),
    (Webhooks, "upsert", "(*, kind: str, url: str, threshold: float | None = <unset>)", Webhook),
    (Plans, "get", "(definition_id: str, /)", Plan),
    (Plans, "set_active", "(definition_id: str, /, *, is_active: bool)", Plan),
    (Plans, "delete", "(definition_id: str, /)", None),
    (Credits, "get", "(definition_id: str, /)", Credit),
    (Outcomes, "get", "(definition_id: str, /)", Outcome),
    (Units, "list", "(*, active: bool | None = None)", Items[Unit]),
    (Customers, "adjust_credit", "(customer_id: str, /, *, credit_id: str, amount: float)", None),
    (
        Customers,
        "credit_balance",
        "(customer_id: str, /, *, credit_id: str | None = None, credit_name: str | None = None)",
        CreditBalance | None,
    ),
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


def public(resource: type[Resource[Any]]) -> list[str]:
    """Its public names. Among the others may be some that other libraries put there."""
    return [name for name in dir(resource) if not name.startswith("_")]


@pytest.mark.parametrize("client", [FakeClient(), FakeAsyncClient()], ids=["blocking", "async"])
@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.__name__)
def test_every_method_says_what_it_requests(
    client: FakeClient | FakeAsyncClient, resource: type[Resource[Any]]
) -> None:
    names = [name for name in public(resource) if isinstance(getattr(resource, name), endpoint)]
    assert names
    for name in names:
        bound = getattr(resource(client), name)
        assert inspect.iscoroutinefunction(bound) is client.is_async
        documentation = inspect.getdoc(bound) or ""
        assert "/api/v1/" in documentation, name
        parameters = inspect.signature(bound).parameters.values()
        assert all(each.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD for each in parameters), name


def writes() -> Iterator[tuple[type[Resource[Any]], str, type[object]]]:
    """Every method that takes the fields of a TypedDict, and that."""
    for resource in RESOURCES:
        for name in public(resource):
            member: object = getattr(resource, name)
            if isinstance(member, endpoint):
                annotations: list[object] = [*member.build.__annotations__.values()]
                for annotation in annotations:
                    if get_origin(annotation) is Unpack:
                        fields: type[object] = get_args(annotation)[0]
                        if fields.__module__ != signals.__name__:  # the fields of a signal, which is no write
                            yield resource, name, fields


WRITES = list(writes())


def test_all_writes_are_found() -> None:
    assert {f"{resource.__name__}.{name}" for resource, name, _ in WRITES} == {
        *(
            f"{noun}.{verb}"
            for noun in ("Plans", "Credits", "Outcomes", "Units")
            for verb in ("create", "update")
        ),
        *(f"Customers.{verb}" for verb in ("create", "update", "add_member", "update_member")),
        "Purchases.create",
        "Purchases.set_auto_payment",
        "Webhooks.upsert",
    }


@pytest.mark.parametrize(
    ("resource", "name", "fields"), WRITES, ids=lambda value: getattr(value, "__name__", value)
)
def test_every_field_is_a_parameter_and_has_a_meaning(
    resource: type[Resource[Any]], name: str, fields: type[object]
) -> None:
    bound = getattr(resource(FakeClient()), name)
    parameters = inspect.signature(bound).parameters
    assert all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    assert bound.__annotations__.keys() == {*parameters, "return"}
    assert f"`{fields.__name__}`" in (inspect.getdoc(bound) or "")
    for field, annotation in get_type_hints(fields, include_extras=True).items():
        assert meaning_of(annotation)
        assert parameters[field].kind is inspect.Parameter.KEYWORD_ONLY
        rows = parameters[field].annotation
        if get_origin(rows) is Sequence:
            assert all(map(meaning_of, get_type_hints(get_args(rows)[0], include_extras=True).values()))


def meaning_of(annotation: Any) -> str:
    """What an annotation says of a field; it speaks of `None` just where that is taken."""
    declared, *notes = get_args(annotation)
    meaning = next(note for note in notes if isinstance(note, str))
    assert meaning.endswith(".")
    assert ("`None`" in meaning) == (type(None) in get_args(declared))
    return meaning


class Bare(TypedDict):
    needed: int


class Dressed(Bare, total=False):
    optional: Annotated[str, "Told."]


class Own(Resource[S]):
    """A resource as a user would write one."""

    @endpoint
    def make(self, **fields: Unpack[Dressed]) -> Operation[None]:
        """Make it.

        Args:
            fields: What it is made of,
                and more on that.
        """
        return Operation("POST", path_of(*fields), nothing)


class Tables(Resource[S]):
    @endpoint
    def drop(self, *labels: Unpack[tuple[str, ...]]) -> Operation[None]:  # noqa: UP044 - as older code has it
        """Drop some."""
        return Operation("DELETE", path_of(*labels), nothing)


def test_only_fields_by_name_are_spelt_out() -> None:
    client = FakeClient()
    tables: Tables[Blocking] = Tables(client)
    tables.drop("a", "b")
    assert client.requests[0].target == "/api/v1/a/b"
    assert list(inspect.signature(tables.drop).parameters) == ["labels"]


def test_a_required_field_has_no_default() -> None:
    client = FakeClient()
    own: Own[Blocking] = Own(client)
    own.make(needed=1, optional="x")
    assert client.requests[0].target == "/api/v1/needed/optional"
    assert str(inspect.signature(own.make)) == "(*, needed: int, optional: str = <unset>) -> None"


@pytest.mark.parametrize("resource", [Plans, Credits, Outcomes, Units], ids=lambda each: each.__name__)
def test_definitions_are_documented_by_their_own_name(resource: type[Offerings[Any, Any]]) -> None:
    for name in ("list", "get", "create", "update", "set_active", "delete"):
        documentation = inspect.getdoc(getattr(resource, name).build) or ""
        assert f" /api/v1/{resource.segment}" in documentation
        assert resource.noun in documentation.partition(":")[0]


def test_definitions_are_generic_in_their_client_alone() -> None:
    for bound in (Plans[Blocking], Credits[Blocking], Outcomes[Blocking], Units[Blocking]):
        assert get_args(bound) == (Blocking,)


def test_an_unknown_detail_is_an_unexpected_argument() -> None:
    client = FakeClient()
    with pytest.raises(TypeError, match="'colour'"):
        client.customers.create(name="A", email="a@b.c", colour="red")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'colour'"):
        client.customers.update("c", colour="red")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'reason'"):
        client.purchases.set_auto_payment("p", auto_payment=True, reason="x")  # type: ignore[call-arg]
    assert client.requests == []
