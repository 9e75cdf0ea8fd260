"""Operations: one API call each, as a value. What to send, how to read the answer, whether a repeat is safe.

Resources build them, `call.Call` carries them out, and a client's `run` takes any, including your own.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeAlias, TypeVar, get_args
from urllib.parse import quote, quote_plus

from clocknext_core.checks import check_bool, check_choice, check_instance, check_int, check_text
from clocknext_core.config import Config
from clocknext_core.envelope import Payload
from clocknext_core.errors import ClockNextError, invalid
from clocknext_core.messages import Request
from clocknext_core.signals import EncodedSignal
from clocknext_core.values import Value
from clocknext_core.wire import camel_case, encode_json

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Method: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
QueryValue: TypeAlias = str | int | bool | None

USAGE_PATH = "/api/v1/usage"

_PATH = re.compile(r"/(?!/)(?:[A-Za-z0-9._~!$&'()*+,;=:/?-]|%[0-9A-Fa-f]{2})*")
_DOTS = re.compile(r"(?:^|/)\.\.?(?:[/?]|$)")
"""A segment that some transports would resolve, so that another path is requested."""

MAX_CURSOR_LENGTH = 4096
MAX_PAGES = 100_000
"""Most pages of one iteration, and `MAX_EMPTY_PAGES` of them in a row: a server could send new cursors for
ever."""
MAX_EMPTY_PAGES = 1000


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Operation(Value, Generic[T_co]):
    """One API call.

    Args:
        method: The HTTP method: `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
        path: Path and query below the base URL, percent-encoded; `path_of` makes it. It begins with one `/`
            and has the characters that RFC 3986 allows, but no `@`, and no segment `.` or `..`.
        read: Makes the result of the unwrapped payload, or an error that the call is to raise. It must not
            raise itself, whatever the server left out.
        body: The encoded JSON body; `json_body` makes it. `None`: no body.
        replay_safe: Whether a repeat is harmless, so that a failed attempt may be retried: by default for
            GET, PUT and DELETE. Signals are safe by their idempotency key.
        encoded: The signal it carries, if it carries one.
        read_taken: Reads a payload in place of `read` where the answer's status is 202: the server took the
            request, and has not done it yet. Default: `read`.

    Raises:
        ValidationError: An argument is not as above. No transport sees such an operation.
    """

    method: Method
    path: str
    read: Callable[[Payload], T_co | ClockNextError] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    replay_safe: bool | None = None
    encoded: EncodedSignal | None = None
    read_taken: Callable[[Payload], T_co | ClockNextError] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_choice("method", self.method, get_args(Method))
        check_text("path", self.path)
        if not _PATH.fullmatch(self.path) or _DOTS.search(self.path.partition("?")[0]):
            raise invalid("path", "must begin with a single / and be percent-encoded: see path_of")
        if not callable(self.read):
            raise invalid("read", f"must be callable, not {type(self.read).__name__}")
        if self.read_taken is not None and not callable(self.read_taken):
            raise invalid("read_taken", f"must be callable, not {type(self.read_taken).__name__}")
        if self.body is not None:
            check_instance("body", self.body, bytes)
        if self.replay_safe is not None:
            check_bool("replay_safe", self.replay_safe)

    @property
    def idempotency_key(self) -> str | None:
        """The key of the signal it carries."""
        return None if self.encoded is None else self.encoded.idempotency_key

    def request(self, config: Config) -> Request:
        """Make the request it sends; every attempt sends the same."""
        replay_safe = (
            self.method in ("GET", "PUT", "DELETE") if self.replay_safe is None else self.replay_safe
        )
        return Request(
            self.method,
            config.path_prefix + self.path,
            config.origin,
            config.headers if self.body is None else config.json_headers,
            self.body,
            replay_safe,
        )


class Pages(Generic[T]):
    """Follow a cursor from page to page.

    Ask `next` for the operation that fetches the next page and give its result to `items`, until `next`
    returns `None`. An empty page that has a cursor is not the last.

    Args:
        fetch: Makes the operation for a cursor; `None` is the first page. Its result is the page's items and
            the cursor of the page after it, `None` or empty at the end.
    """

    def __init__(self, fetch: Callable[[str | None], Operation[tuple[Sequence[T], str | None]]]) -> None:
        self._fetch = fetch
        self._cursor: str | None = None
        self._followed: set[int] = set()
        """Hashes of the cursors that were followed, since a cursor may be long."""
        self._empty = 0
        """Empty pages since the last one that was not."""
        self._ended = False

    def next(self) -> Operation[tuple[Sequence[T], str | None]] | None:
        """Make the operation that fetches the next page; `None` after the last."""
        return None if self._ended else self._fetch(self._cursor)

    def items(self, page: tuple[Sequence[T], str | None]) -> Sequence[T]:
        """Take one fetched page and return what is on it.

        Raises:
            ClockNextError: The pages would never end: the server repeated a cursor, or sent too many pages,
                too many empty ones in a row, or too long a cursor.
        """
        items, cursor = page
        self._empty = 0 if items else self._empty + 1
        if cursor:
            if len(cursor) > MAX_CURSOR_LENGTH:
                raise ClockNextError(f"The server sent a cursor of {len(cursor)} characters.")
            if hash(cursor) in self._followed:
                raise ClockNextError("Pagination loop: the server repeated a cursor.")
            if self._empty >= MAX_EMPTY_PAGES:
                raise ClockNextError(f"The server sent {self._empty} empty pages in a row.")
            if len(self._followed) >= MAX_PAGES - 1:
                raise ClockNextError(f"The server sent {MAX_PAGES} pages and more: narrow the search.")
            self._followed.add(hash(cursor))
        self._cursor = cursor
        self._ended = not cursor
        return items


def path_of(*segments: str, query: Mapping[str, QueryValue] | None = None) -> str:
    """Build a path below `/api/v1` of literal and id segments, with a query string.

    Segments are percent-encoded as one each (space `%20`, `/` `%2F`). The query is form-encoded (space `+`);
    absent and empty values are left out, `0` is kept, booleans are `true` and `false`.
    """
    path = "/api/v1/" + "/".join(quote(segment, safe="!~*'()") for segment in segments)
    pairs = [
        f"{_form(name)}={_form(_query_text(value))}"
        for name, value in (query or {}).items()
        if value is not None and value != ""
    ]
    return f"{path}?{'&'.join(pairs)}" if pairs else path


def _query_text(value: str | int) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _form(text: str) -> str:
    # The server form-encodes by the URL standard, which keeps * and encodes ~.
    return quote_plus(text, safe="*").replace("~", "%7E")


def path_id(name: str, value: object) -> str:
    """Check an id that becomes a segment of a path.

    Raises:
        ValidationError: It is blank, `.` or `..` (which would address another resource), or not text.
    """
    text = required_text(name, value)
    if text in (".", ".."):
        raise invalid(name, f"must not be {text!r}")
    return text


def required_text(name: str, value: object) -> str:
    """Check a required text of a path or query: not blank, and encodable."""
    text = check_text(name, value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise invalid(name, "holds a lone surrogate, which is not text") from None
    return text


def optional_text(name: str, value: object) -> str | None:
    """Check an optional text of a query; empty counts as absent."""
    return None if value is None or value == "" else required_text(name, value)


def optional_limit(value: object) -> int | None:
    """Check a page size."""
    return None if value is None else check_int("limit", value, least=0)


def optional_flag(name: str, value: object) -> bool | None:
    """Check an optional boolean of a query."""
    return None if value is None else check_bool(name, value)


def json_body(fields: Mapping[str, object]) -> bytes:
    """Encode a write: snake_case names become the wire's camelCase; `None` stays, as `null` clears a field.

    Values are sent as given: below the first level, names must be those of the wire.

    Raises:
        ValidationError: A value can't be encoded as JSON; it names the argument.
    """
    parts: list[bytes] = []
    for name, value in fields.items():
        try:
            parts.append(encode_json({camel_case(name): value})[1:-1])
        except ValueError as error:
            raise invalid(name, f"can't be encoded as JSON: {error}") from None
    return b"{" + b",".join(parts) + b"}"
