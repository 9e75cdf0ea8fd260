"""Units: single events, each with a price, without tokens or model."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias, TypedDict, Unpack

from clocknext_core.models import Items, Unit
from clocknext_core.operations import Operation
from clocknext_core.resources.binding import S, endpoint
from clocknext_core.resources.offerings import Definition, Named, Offerings
from clocknext_core.resources.writes import AgentKey, checked

PricingType: TypeAlias = Literal["FLAT", "SLAB", "VOLUME"]


class UnitTierDefinition(TypedDict):
    """One tier of a unit's price, named as on the wire."""

    upTo: Annotated[
        float | None, "The last event it covers, rising from tier to tier; `None`, in the last tier: no end."
    ]
    price: Annotated[float, "Price of one event in this tier, USD."]


class UnitDefinition(Definition, total=False):
    """Fields of a unit, besides its name."""

    agent_key: Annotated[
        AgentKey, "The key by which events name it: lower case, of the characters `a-z0-9._-`, unique."
    ]
    pricing_type: Annotated[
        PricingType,
        "`FLAT` (one price), `SLAB` (each tier at its price) or `VOLUME` (all at that of the tier reached).",
    ]
    flat_price: Annotated[float, "Price of one event, USD; with `FLAT` pricing."]
    tiers: Annotated[
        Sequence[UnitTierDefinition],
        "One to fifty tiers, named as on the wire; with `SLAB` and `VOLUME` pricing.",
    ]


class UnitChanges(Named, UnitDefinition, total=False):
    """All fields of a unit."""


class Units(Offerings[S, Unit]):
    """Define units. Events name one by its `agent_key`."""

    kind = Unit
    noun = "unit"
    segment = "units-catalog"

    @endpoint
    def list(self, *, active: bool | None = None) -> Operation[Items[Unit]]:
        """Read every unit: `GET /api/v1/units-catalog`.

        Args:
            active: `True`: those that are active; `False` is sent as such. Default: no filter.

        Raises:
            ValidationError: `active` is not a bool.
        """
        return self._list(active)

    @endpoint
    def get(self, definition_id: str, /) -> Operation[Unit]:
        """Read a unit: `GET /api/v1/units-catalog/{id}`.

        Raises:
            NotFoundError: There is no such unit.
        """
        return self._get(definition_id)

    @endpoint
    def create(self, /, *, name: str, **definition: Unpack[UnitDefinition]) -> Operation[Unit]:
        """Create a unit: `POST /api/v1/units-catalog`. Sent once: a repeat could create it twice.

        A field that is not listed is sent as well, in camelCase: the server may know it.

        Args:
            name: Name for people; not blank.
            definition: The fields of `UnitDefinition`, by name.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
        """
        return self._create(checked(UnitChanges, {"name": name, **definition}))

    @endpoint
    def update(self, definition_id: str, /, **definition: Unpack[UnitChanges]) -> Operation[Unit]:
        """Replace a unit: `PATCH /api/v1/units-catalog/{id}`. Sent once.

        The server takes what is sent for the whole definition, so give every field. A field
        that is not listed is sent as well, in camelCase.

        Args:
            definition_id: The unit's id.
            definition: The fields of `UnitChanges`, by name.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
            NotFoundError: There is no such unit.
        """
        return self._update(definition_id, checked(UnitChanges, definition))

    @endpoint
    def set_active(self, definition_id: str, /, *, is_active: bool) -> Operation[Unit]:
        """Retire a unit, or take it up again: `PATCH /api/v1/units-catalog/{id}`. Sent once.

        Args:
            definition_id: The unit's id.
            is_active: Whether it can be sold from now on. The rest of the definition stays as it is.

        Raises:
            NotFoundError: There is no such unit.
        """
        return self._set_active(definition_id, is_active)

    @endpoint
    def delete(self, definition_id: str, /) -> Operation[None]:
        """Delete a unit: `DELETE /api/v1/units-catalog/{id}`.

        Raises:
            NotFoundError: There is no such unit; also when a retry finds the first attempt did it.
        """
        return self._delete(definition_id)
