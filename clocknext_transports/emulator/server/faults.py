"""Faults: the choice of the requests they hit, and the replies they make. Pure; the server obeys.

Scripted faults come first, in the order of the calls; then chances, drawn from the generator given. The same
seed and the same order of requests hit the same requests.
"""

import gzip
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from random import Random
from types import NoneType
from typing import Literal, TypeAlias, cast, get_args

from clocknext_core.messages import Response
from clocknext_transports.emulator.api.exchange import Received, Reply
from clocknext_transports.emulator.books.checks import check_types, shown
from clocknext_transports.emulator.books.envelopes import (
    SUCCESS_MESSAGE,
    Refusal,
    envelope_for,
    json_response,
    phrase,
    plain_response,
    refuse,
)
from clocknext_transports.emulator.books.validation import Fields, invalid

FaultKind: TypeAlias = Literal[
    "status", "latency", "lost", "reset", "html", "empty", "array", "drip", "truncated", "surplus", "stale",
    "gzip", "huge",
]  # fmt: skip
_KINDS: tuple[str, ...] = get_args(FaultKind)
_COMMITTED = frozenset({"latency", "lost", "drip", "truncated", "surplus", "stale", "gzip", "huge"})
_TYPES: Mapping[str, tuple[type, ...]] = {
    "status": (int, NoneType),
    "retry_after": (str, NoneType),
    "retry_after_ms": (str, NoneType),
    "message": (str, NoneType),
    "seconds": (int, float),
    "bytes_per_second": (int, float),
    "size": (int,),
    "commit": (bool, NoneType),
}
"""The types of a fault's values."""
_MAX_ORDERS = 10_000
_MAX_SHOWN = 5
"""The most faults of one script that are shown."""
_MAX_SECONDS = 86_400.0
_MIN_RATE, _MAX_RATE = 1e-3, 1e9
_MAX_SIZE = 64 * 1024 * 1024
_FILTERS: Mapping[str, tuple["re.Pattern[str]", str]] = {
    "method": (re.compile(r"[A-Z]+"), "'POST'"),
    "path": (re.compile(r"/[^?#]*"), "'/api/v1/usage' or '/api/v1/*'"),
}
"""What a request may have, and examples: a test whose fault can hit none would pass without it."""
_HEADER_VALUE = re.compile(
    r"(?:[^\x00-\x20\x7f\ud800-\udfff](?:[^\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]*"
    r"[^\x00-\x20\x7f\ud800-\udfff])?)?"
)
"""No control character, such as a line break, which would end the header; no blank at either end."""
_HTML = b"<!doctype html><html><title>Not the API</title><h1>Not the API</h1></html>"


@dataclass(frozen=True, slots=True)
class Fault:
    """One way for an exchange to go wrong.

    | kind | effect | the ledger processes the request |
    |---|---|---|
    | `status` | answered `status` (503), with `retry_after`, `retry_after_ms` and `message` | no |
    | `latency` | answered after `seconds` (1) | yes |
    | `lost` | the connection is closed without an answer | yes |
    | `reset` | the connection is reset without an answer | no |
    | `html` | answered `status` (200) with a web page | no |
    | `empty` | answered 200 with nothing | no |
    | `array` | answered 200 with a JSON array | no |
    | `drip` | answered at `bytes_per_second` (100) | yes |
    | `truncated` | the whole length is announced, half of the body sent, the connection closed | yes |
    | `surplus` | a second answer follows that no request asked for | yes |
    | `stale` | answered, then the connection is closed without notice | yes |
    | `gzip` | the answer is compressed, whatever the request accepts | yes |
    | `huge` | the answer is extended to `size` bytes (2 MiB) of valid JSON | yes |

    Raises:
        ValueError: An unknown kind, or a value out of its range.
    """

    kind: FaultKind
    status: int | None = None
    retry_after: str | None = None
    """Sent as it is: seconds, an HTTP date or nonsense, in UTF-8."""
    retry_after_ms: str | None = None
    """Sent as it is, in UTF-8."""
    message: str | None = None
    """The message of the error. Default: the phrase of the status."""
    seconds: float = 1.0
    """At most a day."""
    bytes_per_second: float = 100.0
    """From 0.001 to 1e9."""
    size: int = 2 * 1024 * 1024
    """At most 64 MiB."""
    commit: bool | None = None
    """Whether the ledger processes the request first. Default: as the table says."""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"No fault is called {self.kind!r}. There are: {', '.join(_KINDS)}.")
        check_types("a fault", self, _TYPES, is_bool_int=True)
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError("The status of a fault must be from 200 to 599.")
        if not 0 <= self.seconds <= _MAX_SECONDS:
            raise ValueError(f"The seconds of a fault must be from 0 to {_MAX_SECONDS:g}.")
        if not _MIN_RATE <= self.bytes_per_second <= _MAX_RATE:
            raise ValueError(f"The bytes per second of a fault must be from {_MIN_RATE:g} to {_MAX_RATE:g}.")
        if not 0 <= self.size <= _MAX_SIZE:
            raise ValueError(f"The size of a fault must be from 0 to {_MAX_SIZE}.")
        for name, header in (("retry_after", self.retry_after), ("retry_after_ms", self.retry_after_ms)):
            if header is not None and not is_header_value(header):
                raise ValueError(f"The {name} of a fault must be the value of a header; not {header!r}.")

    @property
    def commits(self) -> bool:
        """Whether the ledger processes the request."""
        return self.kind in _COMMITTED if self.commit is None else self.commit


@dataclass(frozen=True, slots=True)
class _Where:
    method: str | None
    path: str | None

    def matches(self, method: str, path: str) -> bool:
        if self.method is not None and self.method != method:
            return False
        if self.path is None or self.path == path:
            return True
        return self.path.endswith("*") and path.startswith(self.path[:-1])


@dataclass(slots=True, eq=False)
class _Script:
    where: _Where
    faults: tuple[Fault | None, ...]
    total: int
    used: int = 0

    def next(self) -> Fault | None:
        fault = self.faults[self.used % len(self.faults)]
        self.used += 1
        return fault

    def as_json(self) -> dict[str, object]:
        left = self.total - self.used
        return {"kinds": [_name(fault) for fault in self.faults[:_MAX_SHOWN]], "left": left}


@dataclass(frozen=True, slots=True, eq=False)
class _Chance:
    where: _Where
    probability: float
    fault: Fault

    def as_json(self) -> dict[str, object]:
        return {"kinds": [_name(self.fault)], "probability": self.probability}


def _where(method: object, path: object) -> _Where:
    return _Where(_filter("method", method), _filter("path", path))


def _filter(name: str, value: object) -> str | None:
    possible, examples = _FILTERS[name]
    if value is None or (isinstance(value, str) and possible.fullmatch(value)):
        return value
    raise ValueError(
        f"The {name} of a fault must be the {name} of a request, such as {examples}; not {shown(value)}."
    )


def _name(fault: Fault | None) -> str:
    if fault is None:
        return "none"
    return str(fault.status or 503) if fault.kind == "status" else fault.kind


def _check_fault(fault: object) -> None:
    if not isinstance(fault, Fault):
        raise ValueError(f'A fault is a Fault, such as Fault("lost"); not {fault!r}.')


def _check_random(rng: object) -> None:
    if rng is not None and not isinstance(rng, Random):
        raise ValueError(f"Faults() takes a Random: Faults(Random(7)); not {shown(rng)}.")


class Faults:
    """Choose the faults of requests.

    Args:
        rng: The generator that chances are drawn from. Default: `random.Random(0)`.

    Raises:
        ValueError: No `Random`.
    """

    def __init__(self, rng: Random | None = None) -> None:
        _check_random(rng)
        self._rng = rng or Random(0)  # noqa: S311 - chance for tests, not for secrets
        self._rng_at_start = self._rng.getstate()
        self._scripts: list[_Script] = []
        self._chances: list[_Chance] = []
        self._latest: list[_Script | _Chance] = []
        """Scripts and chances, in the order in which they were added."""
        self._counts = Counter[FaultKind]()
        self.guard: AbstractContextManager[object] = nullcontext()
        """Entered around every access. Put an `RLock` here to share the faults between threads."""

    def script(
        self, *faults: Fault | None, times: int = 1, method: str | None = None, path: str | None = None
    ) -> None:
        """Hit the next requests with these faults, one each, in order. `None` lets a request through.

        Args:
            faults: The faults.
            times: The number of times to go through them.
            method: Hit only requests with this method.
            path: Hit only requests with this path (without query); a trailing `*` matches any rest.

        Raises:
            ValueError: One is no `Fault`, no request has such a method or path, or there are 10,000 scripts
                and chances already.
        """
        for fault in faults:
            if fault is not None:
                _check_fault(fault)
        where = _where(method, path)
        with self.guard:
            self._check_room()
            if faults and times > 0:
                script = _Script(where, faults, len(faults) * times)
                self._scripts.append(script)
                self._latest.append(script)

    def chance(
        self, probability: float, fault: Fault, *, method: str | None = None, path: str | None = None
    ) -> None:
        """Hit requests with a fault by chance. A request is hit by one chance at most; each keeps its share.

        Args:
            probability: From 0 to 1.
            fault: The fault.
            method: As for `script`.
            path: As for `script`.

        Raises:
            ValueError: No `Fault`, not a probability, no request has such a method or path, or the chances
                with the same method and path add up to more than 1, or there are 10,000 scripts and chances
                already.
        """
        _check_fault(fault)
        where = _where(method, path)
        with self.guard:
            self._check_room()
            alike = sum(c.probability for c in self._chances if c.where == where)
            if not 0 <= probability <= 1 or alike + probability > 1 + 1e-9:
                raise ValueError("Probabilities must be from 0 to 1, and come to no more than 1 together.")
            added = _Chance(where, probability, fault)
            self._chances.append(added)
            self._latest.append(added)

    def _check_room(self) -> None:
        if len(self._scripts) + len(self._chances) >= _MAX_ORDERS:
            raise ValueError(f"There are {_MAX_ORDERS:,} scripts and chances already.")

    def decide(self, method: str, path: str) -> Fault | None:
        """Choose the fault of the next request, and count it."""
        with self.guard:
            fault = self._choose(method, path)
            if fault is not None:
                self._counts[fault.kind] += 1
            return fault

    def _choose(self, method: str, path: str) -> Fault | None:
        for script in self._scripts:
            if script.where.matches(method, path):
                fault = script.next()
                if script.used == script.total:
                    self._scripts.remove(script)
                    self._latest.remove(script)
                return fault
        chances = [chance for chance in self._chances if chance.where.matches(method, path)]
        if chances:
            drawn = self._rng.random()
            for chance in chances:
                drawn -= chance.probability
                if drawn < 0:
                    return chance.fault
        return None

    @property
    def counts(self) -> Counter[FaultKind]:
        """The number of requests that each kind has hit: a copy."""
        with self.guard:
            return self._counts.copy()

    @property
    def pending(self) -> int:
        """The number of scripted faults still to come."""
        with self.guard:
            return sum(script.total - script.used for script in self._scripts)

    def undo(self) -> bool:
        """Remove the script or chance that was added last and still stands; `False`: there is none."""
        with self.guard:
            if not self._latest:
                return False
            last = self._latest.pop()
            if isinstance(last, _Script):
                self._scripts.remove(last)
            else:
                self._chances.remove(last)
            return True

    def standing(self) -> list[dict[str, object]]:
        """Return what will hit requests, in the order added: the kind, and how often or how likely."""
        with self.guard:
            return [each.as_json() for each in self._latest]

    def clear(self) -> None:
        """Remove all scripts and chances. The counts stay."""
        with self.guard:
            self._scripts.clear()
            self._chances.clear()
            self._latest.clear()

    def reset(self) -> None:
        """Remove all scripts and chances, set the counts to 0, and restart the generator."""
        with self.guard:
            self.clear()
            self._counts.clear()
            self._rng.setstate(self._rng_at_start)


def unprocessed(fault: Fault, request: Received, *, now: float) -> Response:
    """Return the answer of a server that did not process the request."""
    status = fault.status or 503
    message = fault.message or phrase(status)
    response = refuse(envelope_for(request.method, request.path), Refusal(status, message), now=now)
    pauses = (("retry-after", fault.retry_after), ("retry-after-ms", fault.retry_after_ms))
    extra = [(name, value) for name, value in pauses if value is not None]
    return replace(response, headers=(*response.headers, *extra))


def spoil(fault: Fault, request: Received, processed: Response | None, *, now: float) -> Reply:
    """Return the reply that a fault makes.

    Args:
        fault: The fault.
        request: The request that it hits.
        processed: The ledger's answer; `None` if the ledger did not process the request: a plain 503.
        now: Wall clock, seconds since 1970.
    """
    answer = processed or unprocessed(replace(fault, status=None), request, now=now)
    match fault.kind:
        case "status":
            return Reply(unprocessed(fault, request, now=now))
        case "latency":
            return Reply(answer, delay=fault.seconds)
        case "lost":
            return Reply(ending="close")
        case "reset":
            return Reply(ending="reset")
        case "html":
            return Reply(plain_response(fault.status or 200, "text/html", _HTML, now=now))
        case "empty":
            return Reply(plain_response(200, "application/json", b"", now=now))
        case "array":
            return Reply(json_response(200, [1, 2], now=now))
        case "drip":
            return Reply(answer, bytes_per_second=fault.bytes_per_second)
        case "truncated":
            return Reply(answer, cut=True, ending="close")
        case "surplus":
            return Reply(answer, surplus=_unasked_answer())
        case "stale":
            return Reply(answer, ending="close")
        case "gzip":
            compressed = gzip.compress(answer.body, mtime=0)
            headers = (*answer.headers, ("content-encoding", "gzip"))
            return Reply(replace(answer, headers=headers, body=compressed))
        case "huge":
            # Blanks after a JSON value are still JSON: only a cap on size can refuse this.
            return Reply(replace(answer, body=answer.body.ljust(fault.size)))


def _unasked_answer() -> bytes:
    # A client that reuses the connection takes this for the answer to its next request.
    body = (
        b'{"statusCode":200,"statusDetail":{"status":"SUCCESS","message":"'
        + SUCCESS_MESSAGE.encode()
        + b'"},"result":{}}'
    )
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def is_header_value(text: str) -> bool:
    """Return whether a text can be sent as the value of a header."""
    return _HEADER_VALUE.fullmatch(text) is not None


_ORDER = (
    *("kind", "status", "retryAfter", "retryAfterMs", "message", "seconds", "bytesPerSecond", "size"),
    *("commit", "times", "probability", "method", "path"),
)
"""The fields of a fault in its JSON form."""


def order(faults: Faults, body: Mapping[str, object]) -> None:
    """Add a fault from its JSON form, with `times` or `probability`, `method` and `path`.

    The fields have their wire names: `{"kind": "status", "status": 429, "retryAfter": "2"}`.

    Raises:
        Refusal: 400, a field is invalid.
    """
    fields = Fields(body)
    if "kind" not in fields:
        fields.reject("kind", "is required")
    kind = cast("FaultKind | None", fields.choice("kind", _KINDS))
    status = fields.integer("status", minimum=200, maximum=599)
    retry_after = _header_value(fields, "retryAfter")
    retry_after_ms = _header_value(fields, "retryAfterMs")
    message = fields.text("message")
    seconds = fields.number("seconds", minimum=0.0, maximum=_MAX_SECONDS)
    rate = fields.number("bytesPerSecond", minimum=_MIN_RATE, maximum=_MAX_RATE)
    size = fields.integer("size", minimum=0, maximum=_MAX_SIZE)
    commit = fields.flag("commit")
    times = fields.integer("times", minimum=1, maximum=1_000_000)
    probability = fields.number("probability", minimum=0.0, maximum=1.0)
    method, path = fields.text("method"), fields.text("path")
    for name in fields.others(_ORDER):
        fields.reject(name, f"is not known; there are {', '.join(_ORDER)}")
    for name, value in (("method", method), ("path", path)):
        try:
            _filter(name, value)
        except ValueError as error:
            fields.reject(name, str(error))
    if times is not None and probability is not None:
        fields.reject("probability", "excludes times")
    fields.finish()
    if kind is None:
        raise AssertionError("a fault without a kind was refused above")
    fault = Fault(kind, status, retry_after, retry_after_ms, message, commit=commit)
    if seconds is not None:
        fault = replace(fault, seconds=seconds)
    if rate is not None:
        fault = replace(fault, bytes_per_second=rate)
    if size is not None:
        fault = replace(fault, size=size)
    try:
        if probability is None:
            faults.script(fault, times=times or 1, method=method, path=path)
        else:
            faults.chance(probability, fault, method=method, path=path)
    except ValueError as error:
        raise invalid("kind" if probability is None else "probability", str(error)) from None


def _header_value(fields: Fields, name: str) -> str | None:
    value = fields.text(name)
    if value is not None and not is_header_value(value):
        fields.reject(name, "must be the value of a header")
        return None
    return value
