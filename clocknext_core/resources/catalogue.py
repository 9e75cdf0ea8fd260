"""What plans, credits, outcomes and units have in common: definitions that are listed, written and retired.

The methods that are alike are written once, here. A resource says what its definitions are called, and every
method gets its own signature and documentation from that. What a definition consists of differs: a resource
states its own `create` and `update`.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, ClassVar, Generic, TypedDict, TypeVar

from clocknext_core.binding import Resource, S, endpoint
from clocknext_core.checks import check_bool
from clocknext_core.envelope import Payload
from clocknext_core.models import Items, Model
from clocknext_core.operations import Operation, json_body, optional_flag, path_id, path_of
from clocknext_core.resources.payloads import many, nothing, one

D = TypeVar("D", bound=Model)


class Definition(TypedDict, total=False):
    """What every definition has."""

    description: Annotated[str | None, "What it is, for people. `None`, as left out: nothing."]
    is_active: Annotated[bool, "Whether it can be sold. Left out: it can, if it is new; else as it is."]


class Named(TypedDict, total=False):
    """What every definition must have when it is created, and may have when it is replaced."""

    name: Annotated[str, "What people call it; not blank."]


class Catalogue(Resource[S], Generic[S, D]):
    """List, read, retire and delete definitions of one kind; a resource adds how they are written."""

    kind: type[D]
    """The model of one definition."""
    noun: ClassVar[str]
    """The payload key of one definition; of several it is this with an s."""
    segment: ClassVar[str]
    """The path segment of the resource."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, method in vars(Catalogue).items():
            if isinstance(method, endpoint):
                setattr(cls, name, endpoint(cls._specialised(method.build)))

    @classmethod
    def _specialised(cls, build: Callable[..., Any]) -> Callable[..., Any]:
        """Make a builder that says what this resource returns and where: `Plan` for D, `plans` in a path."""

        @wraps(build)
        def specialised(*args: Any, **kwargs: Any) -> Any:
            return build(*args, **kwargs)

        returns = build.__annotations__["return"]
        if returns.__parameters__:
            specialised.__annotations__ = {**build.__annotations__, "return": returns[cls.kind]}
        documentation = build.__doc__ or ""  # absent under python -OO
        specialised.__doc__ = documentation.replace("{noun}", cls.noun).replace("{segment}", cls.segment)
        return specialised

    @endpoint
    def list(self, *, active: bool | None = None) -> Operation[Items[D]]:
        """Read every {noun}: `GET /api/v1/{segment}`.

        Args:
            active: `True`: those that are active; `False` is sent as such. Default: no filter.

        Raises:
            ValidationError: `active` is not a bool.
        """
        path = path_of(self.segment, query={"active": optional_flag("active", active)})
        return Operation("GET", path, many(self.kind, f"{self.noun}s"))

    @endpoint
    def get(self, definition_id: str, /) -> Operation[D]:
        """Read one {noun}: `GET /api/v1/{segment}/{id}`.

        Raises:
            NotFoundError: There is no such {noun}.
        """
        return Operation("GET", self._path(definition_id), self._read_one)

    @endpoint
    def set_active(self, definition_id: str, /, *, is_active: bool) -> Operation[D]:
        """Retire one {noun}, or take it up again: `PATCH /api/v1/{segment}/{id}`. Sent once.

        Args:
            definition_id: Which one.
            is_active: Whether it can be sold from now on. The rest of the definition stays as it is.

        Raises:
            NotFoundError: There is no such {noun}.
        """
        return self._update(definition_id, {"is_active": check_bool("is_active", is_active)})

    @endpoint
    def delete(self, definition_id: str, /) -> Operation[None]:
        """Delete one {noun}: `DELETE /api/v1/{segment}/{id}`.

        Raises:
            NotFoundError: There is no such {noun}; also when a retry finds the first attempt did it.
        """
        return Operation("DELETE", self._path(definition_id), nothing)

    def _path(self, definition_id: object) -> str:
        return path_of(self.segment, path_id("definition_id", definition_id))

    def _create(self, fields: Mapping[str, object]) -> Operation[D]:
        return Operation("POST", path_of(self.segment), self._read_one, json_body(fields))

    def _update(self, definition_id: object, fields: Mapping[str, object]) -> Operation[D]:
        return Operation("PATCH", self._path(definition_id), self._read_one, json_body(fields))

    def _read_one(self, payload: Payload) -> D:
        return one(self.kind, self.noun)(payload)
