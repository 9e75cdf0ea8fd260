"""Plans, which customers buy."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias, TypedDict, Unpack

from clocknext_core.models import Items, Plan
from clocknext_core.operations import Operation
from clocknext_core.resources.binding import S, endpoint
from clocknext_core.resources.offerings import Definition, Named, Offerings
from clocknext_core.resources.writes import checked

BillingCycle: TypeAlias = Literal["MONTHLY", "QUARTERLY", "SEMI_ANNUAL", "YEARLY", "EVERY_5_MIN", "FREE"]
BillingMode: TypeAlias = Literal["ADVANCE", "ARREAR"]
ComponentType: TypeAlias = Literal["WALLET", "FLAT", "CREDIT", "OUTCOME", "UNIT"]


class _RequiredOfComponent(TypedDict):
    type: Annotated[ComponentType, "`WALLET`, `FLAT` (a fee), `CREDIT`, `OUTCOME` or `UNIT`."]
    billingMode: Annotated[BillingMode, "`ADVANCE` (granted and billed at once) or `ARREAR` (as used)."]


class PlanComponentDefinition(_RequiredOfComponent, total=False):
    """One thing a plan grants or charges, named as on the wire.

    A server that shows a component gives `None` for what it does not have; it can be sent back like that.
    """

    amount: Annotated[float | None, "Of `WALLET` and `FLAT`: how much, USD. `None`: of another type."]
    creditId: Annotated[str | None, "Of `CREDIT`: which. `None`: of another type."]
    outcomeId: Annotated[str | None, "Of `OUTCOME`: which. `None`: of another type."]
    unitId: Annotated[str | None, "Of `UNIT`: which. `None`: of another type."]
    quantity: Annotated[
        float | None,
        "Of `CREDIT`, `OUTCOME` and `UNIT` in `ADVANCE`: how many a cycle. `None`: as many as are used.",
    ]


class PlanDefinition(Definition, total=False):
    """Fields of a plan, besides its name."""

    billing_cycle: Annotated[
        BillingCycle, "`MONTHLY`, `QUARTERLY`, `SEMI_ANNUAL`, `YEARLY`, `EVERY_5_MIN` or `FREE`."
    ]
    components: Annotated[
        Sequence[PlanComponentDefinition], "What it grants and charges: one or more, named as on the wire."
    ]
    currency_code: Annotated[str | None, "ISO 4217. `None`, as left out: USD."]
    wallet_funded_arrear: Annotated[
        bool,
        "Whether what is used in `ARREAR` is paid from the wallet at once, instead of being invoiced later. "
        "Left out: it is not.",
    ]
    price_adjustment: Annotated[
        float, "Amount added to the price that is due in advance, USD; below 0 a discount. Left out: 0."
    ]
    carry_forward: Annotated[
        bool,
        "Whether what is left at the end of a cycle goes into the next; newer servers decide themselves.",
    ]


class PlanChanges(Named, PlanDefinition, total=False):
    """All fields of a plan."""


class Plans(Offerings[S, Plan]):
    """Define plans: what is granted and charged, how often, and whether in advance or in arrear."""

    kind = Plan
    noun = "plan"
    segment = "plans"

    @endpoint
    def list(self, *, active: bool | None = None) -> Operation[Items[Plan]]:
        """Read every plan: `GET /api/v1/plans`.

        Args:
            active: `True`: those that are active; `False` is sent as such. Default: no filter.

        Raises:
            ValidationError: `active` is not a bool.
        """
        return self._list(active)

    @endpoint
    def get(self, definition_id: str, /) -> Operation[Plan]:
        """Read a plan: `GET /api/v1/plans/{id}`.

        Raises:
            NotFoundError: There is no such plan.
        """
        return self._get(definition_id)

    @endpoint
    def create(self, /, *, name: str, **definition: Unpack[PlanDefinition]) -> Operation[Plan]:
        """Create a plan: `POST /api/v1/plans`. Sent once: a repeat could create it twice.

        A field that is not listed is sent as well, in camelCase: the server may know it.

        Args:
            name: Name for people; not blank.
            definition: The fields of `PlanDefinition`, by name.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
        """
        return self._create(checked(PlanChanges, {"name": name, **definition}))

    @endpoint
    def update(self, definition_id: str, /, **definition: Unpack[PlanChanges]) -> Operation[Plan]:
        """Replace a plan: `PATCH /api/v1/plans/{id}`. Sent once.

        The server takes what is sent for the whole definition, so give every field. A field
        that is not listed is sent as well, in camelCase. Customers who bought the plan keep what they bought.

        Args:
            definition_id: The plan's id.
            definition: The fields of `PlanChanges`, by name.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
            NotFoundError: There is no such plan.
        """
        return self._update(definition_id, checked(PlanChanges, definition))

    @endpoint
    def set_active(self, definition_id: str, /, *, is_active: bool) -> Operation[Plan]:
        """Retire a plan, or take it up again: `PATCH /api/v1/plans/{id}`. Sent once.

        Args:
            definition_id: The plan's id.
            is_active: Whether it can be sold from now on. The rest of the definition stays as it is.

        Raises:
            NotFoundError: There is no such plan.
        """
        return self._set_active(definition_id, is_active)

    @endpoint
    def delete(self, definition_id: str, /) -> Operation[None]:
        """Delete a plan: `DELETE /api/v1/plans/{id}`.

        Raises:
            NotFoundError: There is no such plan; also when a retry finds the first attempt did it.
        """
        return self._delete(definition_id)
