"""Outcomes: workflows of one to fifty steps that are billed when they are complete."""

from clocknext_transports.emulator.api.definitions import Common, Resource
from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.catalogue import Outcome, Step
from clocknext_transports.emulator.books.pricing import ZERO, exact
from clocknext_transports.emulator.books.validation import Fields

_MAX_STEPS = 50


def _read(books: Books, fields: Fields, common: Common) -> Outcome:  # noqa: ARG001 - as all resources read
    # The outcome's own key names it to people; signals name its steps.
    key = fields.required_agent_key() if "agentKey" in fields else common.id
    price = fields.amount("pricePerOutcome", required=True)
    rows = fields.rows("steps", required=True)
    steps = [_step(row) for row in rows]
    if len(steps) > _MAX_STEPS:
        fields.reject("steps", f"must be at most {_MAX_STEPS}")
    if len({step.key for step in steps}) < len(steps):
        fields.reject("steps", "must have different keys")
    fields.finish()
    return Outcome(
        key,
        steps,
        price or ZERO,
        id=common.id,
        name=common.name,
        description=common.description,
        active=common.active,
    )


def _step(row: Fields) -> Step:
    return Step(row.required_agent_key(), row.required_text("name"), row.amount("basePrice"))


def _show(outcome: Outcome) -> dict[str, object]:
    return {
        "agentKey": outcome.key,
        "pricePerOutcome": float(exact(outcome.price)),
        "steps": [
            {
                "id": step.key,
                "name": step.name,
                "agentKey": step.key,
                "basePrice": None if step.base_price is None else float(exact(step.base_price)),
            }
            for step in outcome.all_steps
        ],
    }


OUTCOMES = Resource("outcome", "/api/v1/outcomes", "out", lambda books: books.outcomes, _read, _show)
ROUTES = OUTCOMES.routes
