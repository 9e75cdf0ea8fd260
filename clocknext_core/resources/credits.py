"""Credits: what tokens are sold as, priced by what a credit costs plus your margin."""

from typing import Annotated, Unpack

from clocknext_core.binding import S, endpoint
from clocknext_core.models import Credit
from clocknext_core.operations import Operation
from clocknext_core.resources.catalogue import Catalogue, Definition, Named
from clocknext_core.resources.writes import AgentKey, checked


class CreditDefinition(Definition, total=False):
    """What a credit has besides its name."""

    agent_key: Annotated[
        AgentKey, "What signals name it by: lower case, of the characters `a-z0-9._-`, no other credit's."
    ]
    base_price: Annotated[float, "What the tokens of one credit cost, USD."]
    margin_percent: Annotated[float, "What is added to the base price, per cent of it; a discount below 0."]
    price_per_credit: Annotated[
        float, "What a customer pays for one credit, USD: the base price with the margin added."
    ]
    tokens_per_credit: Annotated[float, "How many tokens one credit stands for."]


class CreditChanges(Named, CreditDefinition, total=False):
    """All fields of a credit."""


class Credits(Catalogue[S, Credit]):
    """Define credits. Signals name one by its `agent_key`."""

    kind = Credit
    noun = "credit"
    segment = "credits"

    @endpoint
    def create(self, /, *, name: str, **definition: Unpack[CreditDefinition]) -> Operation[Credit]:
        """Create a credit: `POST /api/v1/credits`. Sent once: a repeat could create it twice.

        A field that is not listed is sent as well, in camelCase: the server may know it.

        Args:
            name: What people call it; not blank.
            definition: The fields of `CreditDefinition`.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
        """
        return self._create(checked(CreditChanges, {"name": name, **definition}))

    @endpoint
    def update(self, definition_id: str, /, **definition: Unpack[CreditChanges]) -> Operation[Credit]:
        """Replace a credit: `PATCH /api/v1/credits/{id}`. Sent once.

        The server takes what is sent for the whole definition, so give all the fields it shall have. A field
        that is not listed is sent as well, in camelCase.

        Args:
            definition_id: Which one.
            definition: The fields of `CreditChanges`.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
            NotFoundError: There is no such credit.
        """
        return self._update(definition_id, checked(CreditChanges, definition))
