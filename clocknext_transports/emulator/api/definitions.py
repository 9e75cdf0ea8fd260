"""The calls that plans, credits, outcomes and units have in common.

A resource states how its definitions are read and shown; the rest is written once, here. Known rules:
- PATCH with `isActive` alone sets it and nothing else. Any other PATCH replaces the whole definition, needs
  the fields that creating needs, and ignores `isActive`.
- An agent key is unique in the organisation, over credits, outcome steps and units.
- A plan that was bought once is not deleted, nor is a credit that a customer holds.

Guesses: a credit, outcome or unit that a plan or an active purchase sells is not deleted either; these
refusals are 422.
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
    """The fields that every definition has, as read from a body."""

    id: str
    name: str
    description: str | None
    active: bool


@dataclass(frozen=True, slots=True)
class Resource(Generic[D]):
    """The endpoints of one kind of definition."""

    noun: Noun
    """The payload key of one definition; lists add an s."""
    path: str
    prefix: str
    """The prefix of new ids."""
    shelf: Callable[[Books], Shelf[D]]
    """Returns the definitions of this kind."""
    read: Callable[[Books, Fields, Common], D]
    """Makes a definition of a body's fields, or refuses the body."""
    show: Callable[[D], dict[str, object]]
    """Returns the fields that other kinds do not have, under their wire names."""

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes of the resource."""
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
        definition = self._read(books, call, books.fresh_id(self.prefix, shelf.by_id), active=None)
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

    def _read(self, books: Books, call: Handled, definition_id: str, *, active: bool | None) -> D:
        """Read a definition. `active`: its state; `None`: the body states it, and true is the default."""
        fields = Fields(call.body)
        name = fields.required_text("name")
        description = fields.nullable_text("description")
        if active is None:
            stated = fields.flag("isActive")
            active = True if stated is None else stated
        definition = self.read(books, fields, Common(definition_id, name, description, active))
        for key in self.shelf(books).keys(definition):
            holder = books.holder_of(key, but=(self.noun, definition_id))
            if holder is not None:
                noun, item = holder
                raise Refusal(422, f'The agent key "{key}" is taken by the {noun} "{item.name}".')
        return definition

    def full(self, definition: D) -> dict[str, object]:
        """Return a definition as the API shows it."""
        return {
            "id": definition.id,
            "name": definition.name,
            "description": definition.description,
            **self.show(definition),
            "isActive": definition.active,
        }


def _user(books: Books, noun: Noun, definition_id: str) -> str | None:
    """Return what a definition is in use by, in words, if anything."""
    if noun == "plan":
        for purchase in books.purchases.values():
            if purchase.plan.id == definition_id:
                return f'the purchase "{purchase.id}" of customer "{purchase.customer_id}"'
        return None
    for plan in books.plans.by_id.values():
        if any(c.item == definition_id and c.type == noun.upper() for c in plan.all_components):
            return f'the plan "{plan.name}"'
    for account in books.accounts.values():
        sold = () if account.purchase is None else account.purchase.plan.all_components
        is_sold = any(c.item == definition_id and c.type == noun.upper() for c in sold)
        if is_sold or (noun == "credit" and definition_id in account.held[noun]):
            return f'the customer "{account.id}"'
    return None
