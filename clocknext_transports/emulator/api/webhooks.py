"""Webhooks: one address for each kind of event. The emulator stores them and calls none."""

from clocknext_transports.emulator.api.routes import Handled, Route
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.envelopes import Payload
from clocknext_transports.emulator.books.validation import Fields

_PATH = "/api/v1/webhooks"


def list_webhooks(books: Books, call: Handled) -> Payload:  # noqa: ARG001 - a handler's signature
    """Return every webhook."""
    return Payload({"webhooks": list(books.webhooks.values())})


def upsert_webhook(books: Books, call: Handled) -> Payload:
    """Set the webhook of a kind of event. A field left out stays as it was, `null` clears one."""
    fields = Fields(call.body)
    kind = fields.required_text("kind")
    url = fields.required_text("url")
    if url and not url.startswith(("https://", "http://")):
        fields.reject("url", "must be an http or https address")
    if not fields.is_null("threshold"):
        fields.amount("threshold")
    fields.finish()
    former = books.webhooks.get(kind) or {"id": books.new_id("whk"), "threshold": None}
    books.webhooks[kind] = {**former, **fields.others(()), "id": former["id"]}
    return Payload({"webhook": books.webhooks[kind]})


def delete_webhook(books: Books, call: Handled) -> Payload:
    """Delete the webhook of a kind of event. It is a success too if there is none."""
    books.webhooks.pop(call.ids[0], None)
    return Payload({})


ROUTES = (
    Route("GET", _PATH, list_webhooks),
    Route("POST", _PATH, upsert_webhook),
    Route("DELETE", f"{_PATH}/{{}}", delete_webhook),
)
