"""What plans, credits, outcomes and units have in common: definitions that are listed, written and retired.

Each resource states its methods, with their documentation, and makes their operations by the functions here.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Generic, TypedDict, TypeVar

from clocknext_core.checks import check_bool
from clocknext_core.envelope import Payload
from clocknext_core.models import Items, Model
from clocknext_core.operations import Operation, json_body, optional_flag, path_id, path_of
from clocknext_core.resources.binding import Resource, S
from clocknext_core.resources.payloads import many, nothing, one

D = TypeVar("D", bound=Model)


class Definition(TypedDict, total=False):
    """What every definition has."""

    description: Annotated[str | None, "Description for people. `None`, as left out: none."]
    is_active: Annotated[bool, "Whether it can be sold. Left out: it can, if it is new; else as it is."]


class Named(TypedDict, total=False):
    """What every definition must have when it is created, and may have when it is replaced."""

    name: Annotated[str, "Name for people; not blank."]


class Offerings(Resource[S], Generic[S, D]):
    """Make the operations on definitions of one kind."""

    kind: type[D]
    """The model of one definition."""
    noun: ClassVar[str]
    """The payload key of one definition; of several it is this with an s."""
    segment: ClassVar[str]
    """The path segment of the resource."""

    def _list(self, active: object) -> Operation[Items[D]]:
        path = path_of(self.segment, query={"active": optional_flag("active", active)})
        return Operation("GET", path, many(self.kind, f"{self.noun}s"))

    def _get(self, definition_id: object) -> Operation[D]:
        return Operation("GET", self._path(definition_id), self._read_one)

    def _create(self, fields: Mapping[str, object]) -> Operation[D]:
        return Operation("POST", path_of(self.segment), self._read_one, json_body(fields))

    def _update(self, definition_id: object, fields: Mapping[str, object]) -> Operation[D]:
        return Operation("PATCH", self._path(definition_id), self._read_one, json_body(fields))

    def _set_active(self, definition_id: object, is_active: object) -> Operation[D]:
        return self._update(definition_id, {"is_active": check_bool("is_active", is_active)})

    def _delete(self, definition_id: object) -> Operation[None]:
        return Operation("DELETE", self._path(definition_id), nothing)

    def _path(self, definition_id: object) -> str:
        return path_of(self.segment, path_id("definition_id", definition_id))

    def _read_one(self, payload: Payload) -> D:
        return one(self.kind, self.noun)(payload)
