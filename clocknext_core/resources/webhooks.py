"""Webhooks: the addresses to which the server reports events, one for each kind of event."""

from typing import Annotated, TypedDict, Unpack

from clocknext_core.checks import check_text
from clocknext_core.models import Items, Webhook
from clocknext_core.operations import Operation, json_body, path_id, path_of
from clocknext_core.resources.binding import Resource, S, endpoint
from clocknext_core.resources.payloads import many, nothing, one
from clocknext_core.resources.writes import checked


class WebhookDetails(TypedDict, total=False):
    """Optional fields of a webhook. Leaving one out leaves it alone."""

    threshold: Annotated[
        float | None,
        "Value below which the event is sent, such as a wallet balance in USD. `None` clears it.",
    ]


class Webhooks(Resource[S]):
    """Set which address receives which kind of event."""

    @endpoint
    def list(self) -> Operation[Items[Webhook]]:
        """Read every webhook: `GET /api/v1/webhooks`."""
        return Operation("GET", path_of("webhooks"), many(Webhook, "webhooks"))

    @endpoint
    def upsert(self, /, *, kind: str, url: str, **details: Unpack[WebhookDetails]) -> Operation[Webhook]:
        """Set the webhook for one kind of event, new or not: `POST /api/v1/webhooks`. Sent once.

        A field that is not listed is sent as well, in camelCase: the server may know it.

        Args:
            kind: The kind of event, such as `WALLET_LOW`.
            url: The address that receives it.
            details: The fields of `WebhookDetails`.

        Raises:
            ValidationError: A bad argument, or the server refused a field.
        """
        fields = {
            "kind": check_text("kind", kind),
            "url": check_text("url", url),
            **checked(WebhookDetails, details),
        }
        return Operation("POST", path_of("webhooks"), one(Webhook, "webhook"), json_body(fields))

    @endpoint
    def delete(self, kind: str, /) -> Operation[None]:
        """Delete the webhook for one kind of event: `DELETE /api/v1/webhooks/{kind}`.

        Raises:
            NotFoundError: There is no such webhook; also when a retry finds the first attempt did it.
        """
        return Operation("DELETE", path_of("webhooks", path_id("kind", kind)), nothing)
