"""Which fault hits which request: decided here, purely; the server obeys.

Scripted faults come first, in the order they were asked for; then chances, drawn from the generator passed
in. With the same seed and the same order of requests the same ones are hit.
"""

import gzip
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from random import Random
from typing import Literal, TypeAlias, cast, get_args

from clocknext_core.messages import Response
from clocknext_transports.emulator.api.exchange import Received, Reply
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
_HTML = b"<!doctype html><html><title>Not the API</title><h1>Not the API</h1></html>"


@dataclass(frozen=True, slots=True)
class Fault:
    """One way for an exchange to go wrong.

    | kind | what happens | the ledger processes the request |
    |---|---|---|
    | `status` | answered `status` (503), with `retry_after`, `retry_after_ms` and `message` | no |
    | `latency` | answered after `seconds` (1) | yes |
    | `lost` | the connection is closed without an answer | yes |
    | `reset` | the connection is reset without an answer | no |
    | `html` | answered `status` (200) with a web page | no |
    | `empty` | answered 200 with nothing | no |
    | `array` | answered 200 with a JSON array | no |
    | `drip` | answered at `bytes_per_second` (100) | yes |
    | `truncated` | the whole length is promised, half of the body sent, the connection closed | yes |
    | `surplus` | a second answer follows the first, unasked | yes |
    | `stale` | answered, then the connection is closed without a word | yes |
    | `gzip` | the answer is compressed, whatever the request accepts | yes |
    | `huge` | the answer is blown up to `size` bytes (2 MiB) of valid JSON | yes |
    """

    kind: FaultKind
    status: int | None = None
    retry_after: str | None = None
    """Sent as it is: seconds, an HTTP date or rubbish."""
    retry_after_ms: str | None = None
    """Sent as it is."""
    message: str | None = None
    """The error's message; the status's own phrase by default."""
    seconds: float = 1.0
    bytes_per_second: float = 100.0
    size: int = 2 * 1024 * 1024
    commit: bool | None = None
    """Whether the ledger processes the request first; by default as the table says."""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"No fault is called {self.kind!r}. There are: {', '.join(_KINDS)}.")
        if self.seconds < 0 or self.bytes_per_second <= 0 or self.size < 0:
            raise ValueError("Times and sizes of a fault must not be negative, nor its rate zero.")
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError("The status of a fault must be from 200 to 599.")

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


@dataclass(frozen=True, slots=True)
class _Script:
    where: _Where
    faults: deque[Fault | None]


@dataclass(frozen=True, slots=True)
class _Chance:
    where: _Where
    probability: float
    fault: Fault


class Faults:
    """Decide what goes wrong.

    Args:
        rng: What chances are drawn from; `random.Random(0)` by default.
    """

    def __init__(self, rng: Random | None = None) -> None:
        self._rng = rng or Random(0)  # noqa: S311 - chance for tests, not for secrets
        self._rng_at_start = self._rng.getstate()
        self._scripts: list[_Script] = []
        self._chances: list[_Chance] = []
        self._counts = Counter[FaultKind]()
        self.guard: AbstractContextManager[object] = nullcontext()
        """Entered around every access. Whoever shares the faults between threads puts an `RLock` here."""

    def script(
        self, *faults: Fault | None, times: int = 1, method: str | None = None, path: str | None = None
    ) -> None:
        """Hit the next requests with these faults, one each, in order. `None` lets a request through.

        Args:
            faults: What is to happen.
            times: Go through the list this often.
            method: Only requests with this method count.
            path: Only requests with this path (without query) count; a trailing `*` stands for anything.
        """
        with self.guard:
            self._scripts.append(_Script(_Where(method, path), deque(faults * times)))

    def chance(
        self, probability: float, fault: Fault, *, method: str | None = None, path: str | None = None
    ) -> None:
        """Hit requests with a fault by chance. Several chances exclude each other: each keeps its share.

        Args:
            probability: From 0 to 1.
            fault: What is to happen.
            method: As for `script`.
            path: As for `script`.

        Raises:
            ValueError: Not a probability, or more than 1 with the chances that apply alike.
        """
        where = _Where(method, path)
        with self.guard:
            alike = sum(c.probability for c in self._chances if c.where == where)
            if not 0 <= probability <= 1 or alike + probability > 1 + 1e-9:
                raise ValueError("Probabilities must be from 0 to 1, and come to no more than 1 together.")
            self._chances.append(_Chance(where, probability, fault))

    def decide(self, method: str, path: str) -> Fault | None:
        """Choose the fault for the next request, count it, and move on."""
        with self.guard:
            fault = self._choose(method, path)
            if fault is not None:
                self._counts[fault.kind] += 1
            return fault

    def _choose(self, method: str, path: str) -> Fault | None:
        for script in self._scripts:
            if script.faults and script.where.matches(method, path):
                fault = script.faults.popleft()
                if not script.faults:
                    self._scripts.remove(script)
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
        """How many requests each kind has hit: a copy."""
        with self.guard:
            return self._counts.copy()

    @property
    def pending(self) -> int:
        """How many scripted faults have not been used up."""
        with self.guard:
            return sum(len(script.faults) for script in self._scripts)

    def clear(self) -> None:
        """Let everything through from now on. The counts stay."""
        with self.guard:
            self._scripts.clear()
            self._chances.clear()

    def reset(self) -> None:
        """Clear, forget the counts, and draw chances from the start again."""
        with self.guard:
            self.clear()
            self._counts.clear()
            self._rng.setstate(self._rng_at_start)


def unprocessed(fault: Fault, request: Received, *, now: float) -> Response:
    """Make the answer of a server that never got as far as processing the request."""
    status = fault.status or 503
    message = fault.message or phrase(status)
    response = refuse(envelope_for(request.method, request.path), Refusal(status, message), now=now)
    pauses = (("retry-after", fault.retry_after), ("retry-after-ms", fault.retry_after_ms))
    extra = [(name, value) for name, value in pauses if value is not None]
    return replace(response, headers=(*response.headers, *extra))


def spoil(fault: Fault, request: Received, processed: Response | None, *, now: float) -> Reply:
    """Turn a fault into what the server is to do.

    Args:
        fault: What is to happen.
        request: The request it happens to.
        processed: The ledger's answer; `None` if it was not asked, and a plain 503 stands in for one.
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
    # The worst surplus there is: a client that reuses the connection takes it for its next answer.
    body = (
        b'{"statusCode":200,"statusDetail":{"status":"SUCCESS","message":"'
        + SUCCESS_MESSAGE.encode()
        + b'"},"result":{}}'
    )
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def order(faults: Faults, body: Mapping[str, object]) -> None:
    """Arrange faults from their JSON form: one fault, with `times` or `probability`, `method` and `path`.

    The fault's own fields carry their wire names: `{"kind": "status", "status": 429, "retryAfter": "2"}`.

    Raises:
        Refusal: 400, something is not as it should be.
    """
    fields = Fields(body)
    if "kind" not in fields:
        fields.reject("kind", "is required")
    kind = cast("FaultKind | None", fields.choice("kind", _KINDS))
    status = fields.integer("status", minimum=200, maximum=599)
    retry_after = fields.text("retryAfter")
    retry_after_ms = fields.text("retryAfterMs")
    message = fields.text("message")
    seconds = fields.number("seconds", minimum=0.0)
    rate = fields.number("bytesPerSecond", minimum=1e-3)
    size = fields.integer("size", minimum=0, maximum=2**31)
    commit = fields.flag("commit")
    times = fields.integer("times", minimum=1, maximum=1_000_000)
    probability = fields.number("probability", minimum=0.0, maximum=1.0)
    method, path = fields.text("method"), fields.text("path")
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
    if probability is None:
        faults.script(fault, times=times or 1, method=method, path=path)
    else:
        try:
            faults.chance(probability, fault, method=method, path=path)
        except ValueError as error:
            raise invalid("probability", str(error)) from None
