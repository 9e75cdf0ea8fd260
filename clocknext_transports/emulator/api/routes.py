"""The routes of the API: a handler for each method and path. Ids in paths are percent-decoded."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import parse_qsl, unquote

from clocknext_transports.emulator.books.books import Books
from clocknext_transports.emulator.books.envelopes import Payload
from clocknext_transports.emulator.books.validation import MAX_BODY


@dataclass(frozen=True, slots=True)
class Handled:
    """One authorised request, parsed for its handler."""

    ids: tuple[str, ...]
    """The path's ids, decoded, in order."""
    query: Mapping[str, str]
    """Query parameters. An empty one counts as absent."""
    body: Mapping[str, object]
    """The JSON object in the body; empty on routes that take none."""
    body_size: int
    """Bytes of the body as sent."""
    now: float
    """Wall clock, seconds since 1970."""


Handler: TypeAlias = Callable[[Books, Handled], Payload]


@dataclass(frozen=True, slots=True)
class Route:
    """One call of the API. `{}` in the path stands for an id."""

    method: str
    path: str
    handler: Handler
    bodiless: bool = False
    """Whether the call needs no body, whatever its method."""
    max_body: int = MAX_BODY
    """The most bytes its body may have."""

    @property
    def takes_body(self) -> bool:
        """Whether the call must come with a JSON body."""
        return self.method in {"POST", "PUT", "PATCH"} and not self.bodiless


class Router:
    """Find routes by path in time that does not grow with their number."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._static: dict[str, dict[str, Route]] = {}
        self._with_ids: dict[int, list[tuple[list[str], dict[str, Route]]]] = {}
        by_path: dict[str, dict[str, Route]] = {}
        for route in routes:
            by_path.setdefault(route.path, {})[route.method] = route
        for path, methods in by_path.items():
            if "{}" in path:
                segments = path.split("/")
                self._with_ids.setdefault(len(segments), []).append((segments, methods))
            else:
                self._static[path] = methods

    def find(self, path: str) -> tuple[Mapping[str, Route], tuple[str, ...]] | None:
        """Return the routes of a path by method, and the ids in it; `None` for an unknown path."""
        if (methods := self._static.get(path)) is not None:
            return methods, ()
        segments = path.split("/")
        for pattern, methods in self._with_ids.get(len(segments), ()):
            pairs = list(zip(pattern, segments, strict=True))
            if all(actual if known == "{}" else actual == known for known, actual in pairs):
                return methods, tuple(unquote(actual) for known, actual in pairs if known == "{}")
        return None


def parse_query(target: str) -> dict[str, str]:
    """Parse the form-encoded query of a target. The last of a repeated parameter counts; empty is absent."""
    return dict(parse_qsl(target.partition("?")[2]))
