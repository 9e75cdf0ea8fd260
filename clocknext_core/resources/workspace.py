"""The workspace: the organisation an API key belongs to, and the models it has enabled."""

from clocknext_core.models import CatalogueModel, Identity, Items
from clocknext_core.operations import Operation, optional_flag, path_of
from clocknext_core.resources.binding import Resource, S, endpoint
from clocknext_core.resources.payloads import many


class Workspace(Resource[S]):
    """Read the organisation of an API key, and its models."""

    @endpoint
    def me(self) -> Operation[Identity]:
        """Read which organisation the key belongs to, `sandbox` or `live`: `GET /api/v1/me`.

        Raises:
            AuthError: The key is unknown or expired.
        """
        return Operation("GET", path_of("me"), Identity)

    @endpoint
    def models(self, *, active: bool | None = None) -> Operation[Items[CatalogueModel]]:
        """Read the models signals can name, with their prices: `GET /api/v1/models`.

        Args:
            active: `True`: those that are active; `False` is sent as such. Default: no filter.

        Raises:
            ValidationError: `active` is not a bool.
        """
        path = path_of("models", query={"active": optional_flag("active", active)})
        return Operation("GET", path, many(CatalogueModel, "models"))
