"""Credits: what tokens are sold as, priced by what a credit costs plus your margin."""

from clocknext_core.binding import S
from clocknext_core.models import Credit
from clocknext_core.resources.catalogue import Catalogue


class Credits(Catalogue[S, Credit]):
    """Define credits. Signals name one by its `agent_key`: lower case, of the characters `a-z0-9._-`."""

    kind = Credit
    noun = "credit"
    segment = "credits"
