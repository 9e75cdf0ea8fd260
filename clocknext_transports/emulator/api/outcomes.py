"""Outcomes: workflows of one to fifty steps that are billed when they are complete.

Known rules: names and agent keys of steps are unique; `basePrice` and `marginPercent` are part of the
definition; the price is stored as sent. Signals name a step, so an outcome needs no key of its own; newer
servers give it one, and it is shown where it was sent.
"""

from collections.abc import Sequence

from clocknext_transports.emulator.api.credits import MAX_MARGIN
from clocknext_transports.emulator.api.definitions import Common, Resource
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.catalogue import Outcome, Step
from clocknext_transports.emulator.books.pricing import ZERO, Amount, exact
from clocknext_transports.emulator.books.validation import Fields

_MAX_STEPS = 50


def _read(books: Books, fields: Fields, common: Common) -> Outcome:  # noqa: ARG001 - as all resources read
    key = common.id if fields.is_null("agentKey") else fields.required_agent_key()
    base_price = fields.amount("basePrice")
    margin = fields.amount("marginPercent", maximum=MAX_MARGIN)
    price = fields.amount("pricePerOutcome", required=True)
    rows = fields.rows("steps", required=True)
    steps = [_step(row) for row in rows]
    if len(steps) > _MAX_STEPS:
        fields.reject("steps", f"must be at most {_MAX_STEPS}")
    _check_unique(fields, "keys", [step.key for step in steps])
    _check_unique(fields, "names", [step.name for step in steps])
    fields.finish()
    return Outcome(
        key,
        steps,
        price or ZERO,
        base_price,
        margin or ZERO,
        id=common.id,
        name=common.name,
        description=common.description,
        active=common.active,
    )


def _check_unique(fields: Fields, what: str, values: Sequence[str]) -> None:
    if len(set(values)) < len(values):
        fields.reject("steps", f"must have different {what}")


def _step(row: Fields) -> Step:
    return Step(row.required_agent_key(), row.required_text("name"), row.amount("basePrice"))


def _show(outcome: Outcome) -> dict[str, object]:
    return {
        **({} if outcome.key == outcome.id else {"agentKey": outcome.key}),
        "basePrice": _shown(outcome.base_price),
        "marginPercent": float(exact(outcome.margin_percent)),
        "pricePerOutcome": float(exact(outcome.price)),
        "steps": [
            {
                "id": step.key,
                "name": step.name,
                "agentKey": step.key,
                "basePrice": _shown(step.base_price),
            }
            for step in outcome.all_steps
        ],
    }


def _shown(price: Amount | None) -> float | None:
    return None if price is None else float(exact(price))


OUTCOMES = Resource("outcome", "/api/v1/outcomes", "out", lambda books: books.outcomes, _read, _show)
ROUTES = OUTCOMES.routes
