"""Outcomes: workflows of one or more steps, billed when they are complete."""

from collections.abc import Sequence
from typing import Annotated, TypedDict, Unpack

from clocknext_core.binding import S, endpoint
from clocknext_core.models import Outcome
from clocknext_core.operations import Operation
from clocknext_core.resources.catalogue import Catalogue, Definition, Named
from clocknext_core.resources.writes import AgentKey, checked


class _RequiredOfStep(TypedDict):
    name: Annotated[str, "What people call it; not blank, no other step's."]
    agentKey: Annotated[
        AgentKey, "What signals name it by: lower case, of the characters `a-z0-9._-`, no other step's."
    ]


class OutcomeStepDefinition(_RequiredOfStep, total=False):
    """One step of an outcome, named as on the wire."""

    basePrice: Annotated[float, "What the tokens of the step cost, USD."]


class OutcomeDefinition(Definition, total=False):
    """What an outcome has besides its name."""

    agent_key: Annotated[
        AgentKey,
        "The outcome's own key: lower case, of the characters `a-z0-9._-`. Signals name its steps instead.",
    ]
    base_price: Annotated[float, "What the tokens of one outcome cost, all its steps together, USD."]
    margin_percent: Annotated[float, "What is added to the base price, per cent of it; a discount below 0."]
    price_per_outcome: Annotated[float, "What a customer pays for one outcome, USD."]
    steps: Annotated[Sequence[OutcomeStepDefinition], "One to fifty steps, named as on the wire."]


class OutcomeChanges(Named, OutcomeDefinition, total=False):
    """All fields of an outcome."""


class Outcomes(Catalogue[S, Outcome]):
    """Define outcomes. Signals name a step by its `agentKey`."""

    kind = Outcome
    noun = "outcome"
    segment = "outcomes"

    @endpoint
    def create(self, /, *, name: str, **definition: Unpack[OutcomeDefinition]) -> Operation[Outcome]:
        """Create an outcome: `POST /api/v1/outcomes`. Sent once: a repeat could create it twice.

        A field that is not listed is sent as well, in camelCase: the server may know it.

        Args:
            name: What people call it; not blank.
            definition: The fields of `OutcomeDefinition`.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
        """
        return self._create(checked(OutcomeChanges, {"name": name, **definition}))

    @endpoint
    def update(self, definition_id: str, /, **definition: Unpack[OutcomeChanges]) -> Operation[Outcome]:
        """Replace an outcome: `PATCH /api/v1/outcomes/{id}`. Sent once.

        The server takes what is sent for the whole definition, so give all the fields it shall have. A field
        that is not listed is sent as well, in camelCase.

        Args:
            definition_id: Which one.
            definition: The fields of `OutcomeChanges`.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
            NotFoundError: There is no such outcome.
        """
        return self._update(definition_id, checked(OutcomeChanges, definition))
