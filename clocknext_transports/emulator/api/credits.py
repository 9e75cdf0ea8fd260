"""Credits: what tokens are sold as.

Known rules: prices are stored as sent and never recomputed; the margin is 0 to 300 per cent. A guess: a price
that is not sent is the base price with the margin added.
"""

from clocknext_transports.emulator.api.definitions import Common, Resource
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.catalogue import Credit
from clocknext_transports.emulator.books.pricing import ONE, ZERO, exact
from clocknext_transports.emulator.books.validation import Fields

MAX_MARGIN = 300


def _read(books: Books, fields: Fields, common: Common) -> Credit:  # noqa: ARG001 - as all resources read
    key = fields.required_agent_key()
    base_price = fields.price("basePrice")
    margin = fields.amount("marginPercent", maximum=MAX_MARGIN)
    price = fields.amount("pricePerCredit")
    tokens = fields.amount("tokensPerCredit")
    fields.finish()
    return Credit(
        key,
        base_price or ONE,
        margin or ZERO,
        tokens or ZERO,
        price,
        id=common.id,
        name=common.name,
        description=common.description,
        active=common.active,
    )


def _show(credit: Credit) -> dict[str, object]:
    return {
        "agentKey": credit.key,
        "basePrice": float(exact(credit.base_price)),
        "marginPercent": float(exact(credit.margin_percent)),
        "pricePerCredit": float(credit.price_per_credit),
        "tokensPerCredit": float(exact(credit.tokens_per_credit)),
    }


CREDITS = Resource("credit", "/api/v1/credits", "crd", lambda books: books.credits, _read, _show)
ROUTES = CREDITS.routes
