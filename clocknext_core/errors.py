"""Errors, and the table that gives each HTTP status its class.

Every error extends `ClockNextError`. Inside the core errors are values. They are raised
only by the call that waits for the result.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from clocknext_core.values import Value


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Issue(Value):
    """One complaint of the server about one field of a refused body."""

    field: str
    """The wire name of the field, such as `inputTokens`; empty when the server named none."""
    message: str
    """What is wrong with it, in the server's words."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RequestLine(Value):
    """Which request an error belongs to: its method and path, never its headers."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class ClockNextError(Exception):
    """Base of all errors: a call or a signal failed.

    Raised itself for statuses that have no class of their own (403, 408, 413, 415, 3xx, …) and for a 2xx
    whose body is not the API's JSON object.
    """

    status: int | None
    """The HTTP status; `None` when there was no answer, or no request was sent."""
    retryable: bool
    """Whether the same request may succeed later. It does not say whether the SDK has repeated it already."""
    idempotency_key: str | None
    """The key of the signal concerned. Sending it again under this key can't bill it twice."""
    reason: str | None
    """The server's `errorReason`, a stable upper-case word such as `INVALID_BODY`."""
    issues: tuple[Issue, ...]
    """The server's complaints, field by field."""
    request: RequestLine | None
    """The method and path of the request."""
    retry_after: float | None
    """Seconds the server asked to wait (Retry-After on any status), counted from its answer."""
    received_at: str | None
    """When the server received a signal that it refused, as it says."""
    signal_id: str | None
    """The server's id of the signal that it took or refused, where the answer named one."""
    hint: str | None
    """What to look at where the answer is not the API's: no envelope, or a router's. It names the address."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retryable: bool = False,
        idempotency_key: str | None = None,
        reason: str | None = None,
        issues: Sequence[Issue] = (),
        request: RequestLine | None = None,
        retry_after: float | None = None,
        signal_id: str | None = None,
        received_at: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retryable = retryable
        self.idempotency_key = idempotency_key
        self.reason = reason
        self.issues = tuple(issues)
        self.request = request
        self.retry_after = retry_after
        self.signal_id = signal_id
        self.received_at = received_at
        self.hint = hint

    @property
    def message(self) -> str:
        """What went wrong, in plain English."""
        return str(self.args[0])

    def __repr__(self) -> str:
        shown = [repr(self.message)]
        for name in ("status", "reason", "idempotency_key"):
            value = getattr(self, name)
            if value is not None:
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are rebuilt from `args` alone; the keyword attributes travel as state.
        return type(self), self.args, self.__dict__


class ValidationError(ClockNextError, ValueError):
    """400, or a bad argument found before anything was sent (`status` is then `None`)."""


class AuthError(ClockNextError):
    """401: the API key is missing, unknown or expired."""


class NotFoundError(ClockNextError):
    """404: no such customer, or no such thing."""


class PlanError(ClockNextError):
    """422: the customer's plan, the model or the key does not allow this signal."""


class AllowanceError(ClockNextError):
    """422 whose message says "insufficient": a balance or allowance has run out."""


class ConflictError(ClockNextError):
    """409: another request with the same idempotency key is being processed. Retried automatically."""


class RateLimitError(ClockNextError):
    """429: too many requests. `retry_after` has the server's wait in seconds."""


class ServerError(ClockNextError):
    """5xx: the service failed."""


class NetworkError(ClockNextError):
    """No answer: refused, reset, DNS, TLS or time-out. `status` is `None`."""


class QueueFullError(ClockNextError):
    """The buffer is full and its overflow policy is `raise`: this signal was not recorded."""


class SpoolError(ClockNextError):
    """The spool could not store the signal, for example because the disk is full. It was not recorded."""


ErrorRule: TypeAlias = tuple[type[ClockNextError], bool]

STATUS_TABLE: Mapping[int, ErrorRule] = {
    400: (ValidationError, False),
    401: (AuthError, False),
    404: (NotFoundError, False),
    408: (ClockNextError, True),
    409: (ConflictError, True),
    422: (PlanError, False),
    429: (RateLimitError, True),
}
"""Status → error class and whether it is retryable. 5xx is `SERVER_RULE`, anything else `OTHER_RULE`."""

SERVER_RULE: ErrorRule = (ServerError, True)
OTHER_RULE: ErrorRule = (ClockNextError, False)


def classify(status: int, message: str) -> ErrorRule:
    """Return the class of an error answer, and whether it is retryable.

    Args:
        status: The HTTP status.
        message: The server's message: a 422 that says "insufficient", in any case, is an allowance.
    """
    if status == 422 and "insufficient" in message.lower():
        return AllowanceError, False
    if 500 <= status <= 599:
        return SERVER_RULE
    return STATUS_TABLE.get(status, OTHER_RULE)


def invalid(argument: str, problem: str) -> ValidationError:
    """Build the error for a bad argument: it names the argument and says what is wrong with it."""
    return ValidationError(f"{argument}: {problem}")


_NO_TIME = ("customer_id", "a signal has no time of its own: the service records when it arrives")
_SAID_FOR = {
    "customer": ("customer_id", "did you mean 'customer_id'?"),
    "input_tokens": ("tokens", "did you mean tokens={'input': …}?"),
    "output_tokens": ("tokens", "did you mean tokens={'output': …}?"),
    "cache_tokens": ("tokens", "did you mean tokens={'cache': …}?"),
    **dict.fromkeys(("timestamp", "time", "date", "created_at", "occurred_at"), _NO_TIME),
}
"""Arguments that others have, what stands for each here, and the hint: they are too unlike to be guessed."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like an unknown one; `None`: none is."""
    from difflib import get_close_matches  # most programs never need it

    return next(iter(get_close_matches(name, known, n=1, cutoff=0.65)), None)


def unexpected(name: str, known: Iterable[str], *, function: str = "") -> TypeError:
    """Return the error for an unknown keyword argument, with the known one that is most like it.

    Args:
        name: The argument.
        known: The names of those that are known; in a mapping, with what the hint says of each.
        function: What was called. Default: it is not named.
    """
    near = nearest(name, known)
    hint = ""
    if name in _SAID_FOR and _SAID_FOR[name][0] in known:
        hint = f"; {_SAID_FOR[name][1]}"
    elif near is not None:
        hint = f"; did you mean {known[near] if isinstance(known, Mapping) else repr(near)}?"
    return TypeError(f"{function}{' ' if function else ''}got an unexpected keyword argument {name!r}{hint}")
