"""Outcomes: workflows of one or more steps, billed when they are complete."""

from clocknext_core.binding import S
from clocknext_core.models import Outcome
from clocknext_core.resources.catalogue import Catalogue


class Outcomes(Catalogue[S, Outcome]):
    """Define outcomes. Signals name a step by its `agent_key`: lower case, of the characters `a-z0-9._-`."""

    kind = Outcome
    noun = "outcome"
    segment = "outcomes"
