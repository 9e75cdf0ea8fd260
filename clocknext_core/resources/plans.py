"""Plans: what customers can be sold."""

from clocknext_core.binding import S
from clocknext_core.models import Plan
from clocknext_core.resources.catalogue import Catalogue


class Plans(Catalogue[S, Plan]):
    """Define plans.

    A plan has `components`, each of type `WALLET`, `FLAT`, `CREDIT`, `OUTCOME` or `UNIT` and billed in
    `ADVANCE` or in `ARREAR`, and a `billing_cycle`: `MONTHLY`, `QUARTERLY`, `SEMI_ANNUAL`, `YEARLY`,
    `EVERY_5_MIN` or `FREE`.
    """

    kind = Plan
    noun = "plan"
    segment = "plans"
