"""Outcomes: workflows of one or more steps, billed when they are complete."""

from collections.abc import Sequence
from typing import Annotated, TypedDict, Unpack

from clocknext_core.models import Items, Outcome
from clocknext_core.operations import Operation
from clocknext_core.resources.binding import S, endpoint
from clocknext_core.resources.offerings import Definition, Named, Offerings
from clocknext_core.resources.writes import AgentKey, checked


class _RequiredOfStep(TypedDict):
    name: Annotated[str, "Name for people; not blank, unique."]
    agentKey: Annotated[
        AgentKey, "The key by which signals name it: lower case, of the characters `a-z0-9._-`, unique."
    ]


class OutcomeStepDefinition(_RequiredOfStep, total=False):
    """One step of an outcome, named as on the wire."""

    basePrice: Annotated[float, "Cost of the step's tokens, USD."]


class OutcomeDefinition(Definition, total=False):
    """Fields of an outcome, besides its name."""

    agent_key: Annotated[
        AgentKey,
        "The outcome's key: lower case, of the characters `a-z0-9._-`. Signals name its steps instead.",
    ]
    base_price: Annotated[float, "Cost of the tokens of one outcome, all its steps together, USD."]
    margin_percent: Annotated[float, "Per cent added to the base price; below 0 a discount."]
    price_per_outcome: Annotated[float, "Price that a customer pays for one outcome, USD."]
    steps: Annotated[Sequence[OutcomeStepDefinition], "One to fifty steps, named as on the wire."]


class OutcomeChanges(Named, OutcomeDefinition, total=False):
    """All fields of an outcome."""


class Outcomes(Offerings[S, Outcome]):
    """Define outcomes. Signals name a step by its `agentKey`."""

    kind = Outcome
    noun = "outcome"
    segment = "outcomes"

    @endpoint
    def list(self, *, active: bool | None = None) -> Operation[Items[Outcome]]:
        """Read every outcome: `GET /api/v1/outcomes`.

        Args:
            active: `True`: those that are active; `False` is sent as such. Default: no filter.

        Raises:
            ValidationError: `active` is not a bool.
        """
        return self._list(active)

    @endpoint
    def get(self, definition_id: str, /) -> Operation[Outcome]:
        """Read an outcome: `GET /api/v1/outcomes/{id}`.

        Raises:
            NotFoundError: There is no such outcome.
        """
        return self._get(definition_id)

    @endpoint
    def create(self, /, *, name: str, **definition: Unpack[OutcomeDefinition]) -> Operation[Outcome]:
        """Create an outcome: `POST /api/v1/outcomes`. Sent once: a repeat could create it twice.

        A field that is not listed is sent as well, in camelCase: the server may know it.

        Args:
            name: Name for people; not blank.
            definition: The fields of `OutcomeDefinition`, by name.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
        """
        return self._create(checked(OutcomeChanges, {"name": name, **definition}))

    @endpoint
    def update(self, definition_id: str, /, **definition: Unpack[OutcomeChanges]) -> Operation[Outcome]:
        """Replace an outcome: `PATCH /api/v1/outcomes/{id}`. Sent once.

        The server takes what is sent for the whole definition, so give every field. A field
        that is not listed is sent as well, in camelCase.

        Args:
            definition_id: The outcome's id.
            definition: The fields of `OutcomeChanges`, by name.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
            NotFoundError: There is no such outcome.
        """
        return self._update(definition_id, checked(OutcomeChanges, definition))

    @endpoint
    def set_active(self, definition_id: str, /, *, is_active: bool) -> Operation[Outcome]:
        """Retire an outcome, or take it up again: `PATCH /api/v1/outcomes/{id}`. Sent once.

        Args:
            definition_id: The outcome's id.
            is_active: Whether it can be sold from now on. The rest of the definition stays as it is.

        Raises:
            NotFoundError: There is no such outcome.
        """
        return self._set_active(definition_id, is_active)

    @endpoint
    def delete(self, definition_id: str, /) -> Operation[None]:
        """Delete an outcome: `DELETE /api/v1/outcomes/{id}`.

        Raises:
            NotFoundError: There is no such outcome; also when a retry finds the first attempt did it.
        """
        return self._delete(definition_id)
