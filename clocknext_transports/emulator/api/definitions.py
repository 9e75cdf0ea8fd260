"""What plans, credits, outcomes and units have in common: definitions that are listed, written and retired.

Written once, here; a resource says how its definitions are read and shown. What the public record leaves
open is decided here:
- PATCH with `isActive` alone sets it and leaves the rest. Any other PATCH replaces the whole definition, so
  it needs what creating needs; whether it is active stays as it was, unless it says so.
- What is in use (by a plan that has it as a component, or by a purchase that has not been cancelled) is not
  deleted but refused with 422. A 409 would tell clients to try again.
- Two definitions of a kind cannot have the same key: 422.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeAlias, TypeVar

from clocknext_transports.emulator.api.listings import find
from clocknext_transports.emulator.api.routes import Handled, Route
from clocknext_transports.emulator.books.books import Books, Shelf
from clocknext_transports.emulator.books.catalogue import Credit, Outcome, Plan, Unit
from clocknext_transports.emulator.books.envelopes import Payload, Refusal
from clocknext_transports.emulator.books.validation import Fields, query_flag

Noun: TypeAlias = Literal["plan", "credit", "outcome", "unit"]
D = TypeVar("D", Plan, Credit, Outcome, Unit)


@dataclass(frozen=True, slots=True)
class Common:
    """The fields every definition has, as read from a body."""

    id: str
    name: str
    description: str | None
    active: bool


@dataclass(frozen=True, slots=True)
class Resource(Generic[D]):
    """The endpoints of one kind of definition."""

    noun: Noun
    """The payload key of one; of several it is this with an s."""
    path: str
    prefix: str
    """What the ids it makes begin with."""
    shelf: Callable[[Books], Shelf[D]]
    """Where they are kept."""
    read: Callable[[Books, Fields, Common], D]
    """Makes one of a body's fields; refuses the body if one is at fault."""
    show: Callable[[D], dict[str, object]]
    """Returns the fields of one that others do not have, under their wire names."""

    @property
    def routes(self) -> tuple[Route, ...]:
        """What it answers."""
        return (
            Route("GET", self.path, self._list),
            Route("POST", self.path, self._create),
            Route("GET", f"{self.path}/{{}}", self._fetch),
            Route("PATCH", f"{self.path}/{{}}", self._change),
            Route("DELETE", f"{self.path}/{{}}", self._delete),
        )

    def _list(self, books: Books, call: Handled) -> Payload:
        active = query_flag(call.query, "active")
        found = self.shelf(books).by_id.values()
        return Payload(
            {f"{self.noun}s": [self.full(d) for d in found if active is None or d.active is active]}
        )

    def _create(self, books: Books, call: Handled) -> Payload:
        shelf = self.shelf(books)
        definition = self._read(books, call, books.fresh_id(self.prefix, shelf.by_id), active=True)
        shelf.put(definition)
        return Payload({self.noun: self.full(definition)}, 201)

    def _fetch(self, books: Books, call: Handled) -> Payload:
        return Payload({self.noun: self.full(self._find(books, call))})

    def _change(self, books: Books, call: Handled) -> Payload:
        former = self._find(books, call)
        if set(call.body) == {"isActive"}:
            fields = Fields(call.body)
            active = fields.flag("isActive") or False
            fields.finish()
            definition = replace(former, active=active)
        else:
            definition = self._read(books, call, former.id, active=former.active)
        self.shelf(books).put(definition)
        return Payload({self.noun: self.full(definition)})

    def _delete(self, books: Books, call: Handled) -> Payload:
        definition = self._find(books, call)
        user = _user(books, self.noun, definition.id)
        if user is not None:
            raise Refusal(422, f'The {self.noun} "{definition.name}" is in use by {user}.')
        self.shelf(books).remove(definition.id)
        return Payload({})

    def _find(self, books: Books, call: Handled) -> D:
        return find(self.shelf(books).by_id, self.noun, call.ids[0])

    def _read(self, books: Books, call: Handled, definition_id: str, *, active: bool) -> D:
        fields = Fields(call.body)
        name = fields.required_text("name")
        description = fields.nullable_text("description")
        stated = fields.flag("isActive")
        common = Common(definition_id, name, description, active if stated is None else stated)
        definition = self.read(books, fields, common)
        key = self.shelf(books).taken_key(definition)
        if key is not None:
            raise Refusal(422, f'Another {self.noun} has the key "{key}".')
        return definition

    def full(self, definition: D) -> dict[str, object]:
        """Return one as the API shows it."""
        return {
            "id": definition.id,
            "name": definition.name,
            "description": definition.description,
            **self.show(definition),
            "isActive": definition.active,
        }


def _user(books: Books, noun: Noun, definition_id: str) -> str | None:
    """Tell what a definition is in use by."""

    def sells(plan: Plan) -> bool:
        if noun == "plan":
            return plan.id == definition_id
        return any(c.item == definition_id and c.type == noun.upper() for c in plan.all_components)

    if noun != "plan":
        for plan in books.plans.by_id.values():
            if sells(plan):
                return f'the plan "{plan.name}"'
    for purchase in books.purchases.values():
        if purchase.active and sells(purchase.plan):
            return f'the purchase "{purchase.id}" of customer "{purchase.customer_id}"'
    return None
