"""Credits: the units in which tokens are sold, at their cost plus your margin."""

from typing import Annotated, Unpack

from clocknext_core.models import Credit, Items
from clocknext_core.operations import Operation
from clocknext_core.resources.binding import S, endpoint
from clocknext_core.resources.offerings import Definition, Named, Offerings
from clocknext_core.resources.writes import AgentKey, checked


class CreditDefinition(Definition, total=False):
    """Fields of a credit, besides its name."""

    agent_key: Annotated[
        AgentKey, "The key by which signals name it: lower case, of the characters `a-z0-9._-`, unique."
    ]
    base_price: Annotated[float, "Cost of the tokens of one credit, USD."]
    margin_percent: Annotated[float, "Per cent added to the base price; below 0 a discount."]
    price_per_credit: Annotated[
        float, "Price that a customer pays for one credit, USD: the base price with the margin added."
    ]
    tokens_per_credit: Annotated[float, "Number of tokens in one credit."]


class CreditChanges(Named, CreditDefinition, total=False):
    """All fields of a credit."""


class Credits(Offerings[S, Credit]):
    """Define credits. Signals name one by its `agent_key`."""

    kind = Credit
    noun = "credit"
    segment = "credits"

    @endpoint
    def list(self, *, active: bool | None = None) -> Operation[Items[Credit]]:
        """Read every credit: `GET /api/v1/credits`.

        Args:
            active: `True`: those that are active; `False` is sent as such. Default: no filter.

        Raises:
            ValidationError: `active` is not a bool.
        """
        return self._list(active)

    @endpoint
    def get(self, definition_id: str, /) -> Operation[Credit]:
        """Read a credit: `GET /api/v1/credits/{id}`.

        Raises:
            NotFoundError: There is no such credit.
        """
        return self._get(definition_id)

    @endpoint
    def create(self, /, *, name: str, **definition: Unpack[CreditDefinition]) -> Operation[Credit]:
        """Create a credit: `POST /api/v1/credits`. Sent once: a repeat could create it twice.

        A field that is not listed is sent as well, in camelCase: the server may know it.

        Args:
            name: Name for people; not blank.
            definition: The fields of `CreditDefinition`, by name.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
        """
        return self._create(checked(CreditChanges, {"name": name, **definition}))

    @endpoint
    def update(self, definition_id: str, /, **definition: Unpack[CreditChanges]) -> Operation[Credit]:
        """Replace a credit: `PATCH /api/v1/credits/{id}`. Sent once.

        The server takes what is sent for the whole definition, so give every field. A field
        that is not listed is sent as well, in camelCase.

        Args:
            definition_id: The credit's id.
            definition: The fields of `CreditChanges`, by name.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
            NotFoundError: There is no such credit.
        """
        return self._update(definition_id, checked(CreditChanges, definition))

    @endpoint
    def set_active(self, definition_id: str, /, *, is_active: bool) -> Operation[Credit]:
        """Retire a credit, or take it up again: `PATCH /api/v1/credits/{id}`. Sent once.

        Args:
            definition_id: The credit's id.
            is_active: Whether it can be sold from now on. The rest of the definition stays as it is.

        Raises:
            NotFoundError: There is no such credit.
        """
        return self._set_active(definition_id, is_active)

    @endpoint
    def delete(self, definition_id: str, /) -> Operation[None]:
        """Delete a credit: `DELETE /api/v1/credits/{id}`.

        Raises:
            NotFoundError: There is no such credit; also when a retry finds the first attempt did it.
        """
        return self._delete(definition_id)
