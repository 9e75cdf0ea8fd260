"""The workspace behind the key, its models, and tokens for the customer portal."""

from clocknext_transports.emulator.api.routes import Handled, Route
from clocknext_transports.emulator.api.signals import ORGANISATION_ID
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.envelopes import Payload, timestamp
from clocknext_transports.emulator.books.validation import Fields, query_flag

_DEFAULT_TTL = 600
_MAX_TTL = 86_400


def show_me(books: Books, call: Handled) -> Payload:  # noqa: ARG001 - a handler's signature
    """Return the organisation. An emulated one is always a sandbox."""
    return Payload(
        {"organization": {"id": ORGANISATION_ID, "name": books.organisation}, "environment": "sandbox"}
    )


def list_models(books: Books, call: Handled) -> Payload:
    """Return the models, all of them or the active or inactive ones."""
    active = query_flag(call.query, "active")
    return Payload(
        {
            "models": [
                {
                    "modelId": model.id,
                    "inputPrice": float(rates.input),
                    "outputPrice": float(rates.output),
                    "cachePrice": float(rates.cache),
                    "isActive": model.active,
                }
                for model, rates in books.models.values()
                if active is None or model.active is active
            ]
        }
    )


def create_portal_token(books: Books, call: Handled) -> Payload:
    """Make a short-lived token: `ttlSeconds` 1 to 86,400, 600 by default."""
    fields = Fields(call.body)
    customer_id = fields.required_text("customerId")
    ttl = fields.integer("ttlSeconds", minimum=1, maximum=_MAX_TTL) or _DEFAULT_TTL
    fields.email("memberEmail")
    fields.finish()
    books.account(customer_id)
    return Payload(
        {"token": books.new_id("ptk"), "expiresAt": timestamp(call.now + ttl), "expiresIn": ttl},
    )


ROUTES = (
    Route("GET", "/api/v1/me", show_me),
    Route("GET", "/api/v1/models", list_models),
    Route("POST", "/api/v1/portal/token", create_portal_token),
)
