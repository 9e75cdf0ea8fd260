"""Units: single events with a price of their own, without tokens or model."""

from clocknext_core.binding import S
from clocknext_core.models import Unit
from clocknext_core.resources.catalogue import Catalogue


class Units(Catalogue[S, Unit]):
    """Define units. Events name one by its `agent_key`: lower case, of the characters `a-z0-9._-`."""

    kind = Unit
    noun = "unit"
    segment = "units-catalog"
