"""Units: single events with a price of their own, without tokens or model."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias, TypedDict, Unpack

from clocknext_core.binding import S, endpoint
from clocknext_core.models import Unit
from clocknext_core.operations import Operation
from clocknext_core.resources.catalogue import Catalogue, Definition, Named
from clocknext_core.resources.writes import AgentKey, checked

PricingType: TypeAlias = Literal["FLAT", "SLAB", "VOLUME"]


class UnitTierDefinition(TypedDict):
    """One tier of a unit's price, named as on the wire."""

    upTo: Annotated[
        float | None, "The last event it covers, rising from tier to tier; `None`, in the last tier: no end."
    ]
    price: Annotated[float, "What one event in it costs, USD."]


class UnitDefinition(Definition, total=False):
    """What a unit has besides its name."""

    agent_key: Annotated[
        AgentKey, "What events name it by: lower case, of the characters `a-z0-9._-`, no other unit's."
    ]
    pricing_type: Annotated[
        PricingType,
        "`FLAT` (one price), `SLAB` (each tier at its own) or `VOLUME` (all at that of the tier reached).",
    ]
    flat_price: Annotated[float, "What one event costs, USD; of `FLAT` pricing."]
    tiers: Annotated[
        Sequence[UnitTierDefinition],
        "One to fifty tiers, named as on the wire; of `SLAB` and `VOLUME` pricing.",
    ]


class UnitChanges(Named, UnitDefinition, total=False):
    """All fields of a unit."""


class Units(Catalogue[S, Unit]):
    """Define units. Events name one by its `agent_key`."""

    kind = Unit
    noun = "unit"
    segment = "units-catalog"

    @endpoint
    def create(self, /, *, name: str, **definition: Unpack[UnitDefinition]) -> Operation[Unit]:
        """Create a unit: `POST /api/v1/units-catalog`. Sent once: a repeat could create it twice.

        A field that is not listed is sent as well, in camelCase: the server may know it.

        Args:
            name: What people call it; not blank.
            definition: The fields of `UnitDefinition`.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
        """
        return self._create(checked(UnitChanges, {"name": name, **definition}))

    @endpoint
    def update(self, definition_id: str, /, **definition: Unpack[UnitChanges]) -> Operation[Unit]:
        """Replace a unit: `PATCH /api/v1/units-catalog/{id}`. Sent once.

        The server takes what is sent for the whole definition, so give all the fields it shall have. A field
        that is not listed is sent as well, in camelCase.

        Args:
            definition_id: Which one.
            definition: The fields of `UnitChanges`.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
            NotFoundError: There is no such unit.
        """
        return self._update(definition_id, checked(UnitChanges, definition))
