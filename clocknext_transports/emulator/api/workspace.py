"""The workspace of an API key: the organisation, its models, and tokens for the customer portal.

Known rules: `POST /api/v1/models` enables a model of the service's price list; it is idempotent; a model
without a listed price is enabled at 0; an unknown model and an unknown provider are refused alike. A guess:
the status of that refusal, 404.
"""

from clocknext_transports.emulator.api.routes import Handled, Route
from clocknext_transports.emulator.api.signals import ORGANISATION_ID
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.catalogue import Model
from clocknext_transports.emulator.books.envelopes import Payload, Refusal, timestamp
from clocknext_transports.emulator.books.pricing import Rates
from clocknext_transports.emulator.books.validation import Fields, query_flag

_DEFAULT_TTL = 600
_MAX_TTL = 86_400


def show_me(books: Books, call: Handled) -> Payload:  # noqa: ARG001 - a handler's signature
    """Return the organisation. An emulated one is always a sandbox."""
    return Payload(
        {"organization": {"id": ORGANISATION_ID, "name": books.organisation}, "environment": "sandbox"}
    )


def list_models(books: Books, call: Handled) -> Payload:
    """Return the enabled models; with `active`, those that are active or inactive."""
    active = query_flag(call.query, "active")
    found = books.models.values()
    return Payload(
        {"models": [_show(*entry) for entry in found if active is None or entry[0].active is active]}
    )


def enable_model(books: Books, call: Handled) -> Payload:
    """Enable a model at its listed price. Enabling it again changes nothing."""
    fields = Fields(call.body)
    provider = fields.required_text("provider")
    model_id = fields.required_text("modelId")
    fields.choice("pricingMode", ("AUTO",))
    fields.finish()
    listed = books.listed.get((provider.casefold(), model_id.casefold()))
    if listed is None:
        raise Refusal(404, f'No model "{model_id}" of the provider "{provider}" in the price list.')
    is_new = listed.id.casefold() not in books.models
    if is_new:
        books.add_model(Model(listed.id, listed.input, listed.output, listed.cache, provider=listed.provider))
    return Payload({"model": _show(*books.models[listed.id.casefold()])}, 201 if is_new else 200)


def create_portal_token(books: Books, call: Handled) -> Payload:
    """Make a short-lived token: `ttlSeconds` is 1 to 86,400, 600 by default."""
    fields = Fields(call.body)
    customer_id = fields.required_text("customerId")
    ttl = fields.integer("ttlSeconds", minimum=1, maximum=_MAX_TTL) or _DEFAULT_TTL
    fields.email("memberEmail")
    fields.finish()
    books.account(customer_id)
    return Payload(
        {"token": books.new_id("ptk"), "expiresAt": timestamp(call.now + ttl), "expiresIn": ttl},
    )


def _show(model: Model, rates: Rates) -> dict[str, object]:
    return {
        "modelId": model.id,
        "provider": model.provider,
        "inputPrice": float(rates.input),
        "outputPrice": float(rates.output),
        "cachePrice": float(rates.cache),
        "isActive": model.active,
    }


ROUTES = (
    Route("GET", "/api/v1/me", show_me),
    Route("GET", "/api/v1/models", list_models),
    Route("POST", "/api/v1/models", enable_model),
    Route("POST", "/api/v1/portal/token", create_portal_token),
)
