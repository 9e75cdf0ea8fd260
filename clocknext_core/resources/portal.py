"""The customer portal: short-lived tokens for a browser."""

from clocknext_core.checks import check_email, check_int, check_text
from clocknext_core.models import PortalToken
from clocknext_core.operations import Operation, json_body, path_of
from clocknext_core.resources.binding import Resource, S, endpoint
from clocknext_core.resources.payloads import picked


class Portal(Resource[S]):
    """Mint tokens for the embedded customer portal; the API key itself must never reach a browser."""

    @endpoint
    def create_token(
        self, *, customer_id: str, ttl_seconds: int | None = None, member_email: str | None = None
    ) -> Operation[PortalToken]:
        """Mint a token: `POST /api/v1/portal/token`. Sent once.

        Args:
            customer_id: The customer whose portal it opens.
            ttl_seconds: How long it is valid, seconds, at least 1. Default: the server's.
            member_email: The member of the customer it acts for. Default: none.

        Raises:
            NotFoundError: There is no such customer.
        """
        fields: dict[str, object] = {"customer_id": check_text("customer_id", customer_id)}
        if ttl_seconds is not None:
            fields["ttl_seconds"] = check_int("ttl_seconds", ttl_seconds, least=1)
        if member_email is not None:
            fields["member_email"] = check_email("member_email", member_email)
        return Operation("POST", path_of("portal", "token"), picked(PortalToken), json_body(fields))
