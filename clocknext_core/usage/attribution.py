"""Who is billed for a call to a model, and the report of a call that is not billed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Literal, TypeAlias, get_args

from clocknext_core.checks import check_choice, check_id
from clocknext_core.errors import invalid
from clocknext_core.signals import FIELDS_OF, SignalType, encode_body, make_body
from clocknext_core.usage.reading import Reading
from clocknext_core.values import MutableValue, Value

Reason: TypeAlias = Literal[
    "no_usage", "partial", "cache_hit", "unattributed", "scope_ended", "unknown_shape", "seen_already"
]
"""Why a call was not billed:

- `no_usage`: the response has no usage; an OpenAI stream that was not asked for it, for one.
- `partial`: a stream was broken off before its counts were final; `Unbilled.reading` has what was seen.
- `cache_hit`: the framework answered from its own cache, and no provider was asked.
- `unattributed`: no customer was named, and no scope was open when the call started.
- `scope_ended`: the call started in a scope that had ended, as in a pool's worker with a stale context.
- `unknown_shape`: there is usage, and it can't be read without a guess; `Unbilled.detail` says why.
- `seen_already`: this exchange was recorded before, by another layer or another call.
"""
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Unbilled(Value):
    """A call to a model that was not billed, for `on_unbilled`."""

    reason: Reason
    reading: Reading | None = None
    """What was read of it; `None` where nothing was."""
    customer_id: str | None = None
    """Who would have been billed; `None` where that is unknown."""
    detail: str = ""
    """What an error said, in plain English; names of fields, never contents."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Attribution(Value):
    """Who is billed, and how: what a signal has besides model and tokens.

    Raises:
        ValidationError: An argument is missing, of the wrong kind, does not belong to the type, or can't be
            sent, such as a `custom` that is too large.
    """

    customer_id: str
    type: SignalType = "credit"
    key: str | None = None
    agent_key: str | None = None
    run_id: str | None = None
    complete: bool | None = None
    member: str | None = None
    custom: Mapping[str, object] | None = None

    def __post_init__(self) -> None:
        check_choice("type", self.type, get_args(SignalType))
        fields = belonging(self.type, self.fields())
        # As a signal, so that what can't be sent raises here and not at each call; the model comes later.
        encode_body(make_body(self.type, fields, customer_id=self.customer_id, model="unknown"))

    def fields(self) -> dict[str, object]:
        """Return the signal's fields by name, without the customer and those that are not given."""
        return {name: value for name in _FIELDS if (value := getattr(self, name)) is not None}


_FIELDS: Final = ("key", "agent_key", "run_id", "complete", "member", "custom")


def belonging(signal_type: SignalType, fields: Mapping[str, object]) -> dict[str, object]:
    """Return the fields that are given, and require that they belong to the type of signal.

    So a key that was forgotten, or one too many, is never a debit of something else.

    Raises:
        ValidationError: One does not belong; the message names it.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    for name in given:
        if name not in FIELDS_OF[signal_type]:
            raise invalid(name, f"does not belong to a {signal_type} signal")
    return given


@dataclass(slots=True, eq=False, repr=False)
class Scope(MutableValue):
    """A stretch of a program whose calls to models are billed to one customer.

    It holds no lock: its two changes, an ordinal taken and the end, are single steps of the interpreter.

    Args:
        id: Tells this scope from all others; with an ordinal it makes keys where a response has no id. A seed
            of the caller's, such as a task's id, makes a retried task find its keys again.
        attribution: Who is billed.
    """

    id: str
    attribution: Attribution
    _ordinals: "count[int]" = field(default_factory=lambda: count(1), repr=False)
    _alike: "dict[str, count[int]]" = field(default_factory=dict[str, "count[int]"], repr=False)
    _has_ended: bool = False

    def __post_init__(self) -> None:
        check_id("id", self.id)

    @property
    def has_ended(self) -> bool:
        """Whether calls that start now are billed to no one."""
        return self._has_ended

    def end(self) -> None:
        """End it: calls that started before are billed still, later ones are not."""
        self._has_ended = True

    def start_call(self) -> "Origin":
        """Capture the scope for a call that starts now."""
        if self._has_ended:
            return Origin(unbilled="scope_ended", customer_id=self.attribution.customer_id)
        return Origin(
            attribution=self.attribution, scope_id=self.id, ordinal=next(self._ordinals), alike=self._alike
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Origin(Value):
    """Who is billed for one call, as it was when the call started.

    Captured once: a scope that ends while the call runs, or a context that changes, alters nothing.
    """

    attribution: Attribution | None = None
    """`None` where no one is billed; `unbilled` says why."""
    unbilled: Reason | None = None
    customer_id: str | None = None
    """Of a scope that had ended: its customer, for the report alone."""
    scope_id: str | None = None
    ordinal: int | None = None
    """Which call of the scope this is, from 1."""
    alike: "dict[str, count[int]] | None" = field(default=None, repr=False, compare=False)
    """The scope's numbers of exchanges that look alike. `None` where there is no call: an answer is handed
    over by hand, and may be handed over again."""

    def place_of(self, exchange: str) -> int:
        """Number exchanges that look alike, from 1; what is handed over by hand is always the first."""
        if self.alike is None:
            return 1
        if len(self.alike) >= MOST_ALIKE and exchange not in self.alike:
            return self.ordinal or 1
        return next(self.alike.setdefault(exchange, count(1)))


MOST_ALIKE: Final = 10_000
"""How many different exchanges a scope numbers. For further ones the number of the call counts."""


_NO_SCOPE: Final = Origin()


def start_call(scope: Scope | None, given: Attribution | None = None) -> Origin:
    """Say who is billed for a call that starts now: who is named with the call, else the scope.

    Args:
        scope: The scope that is open where the call starts; `None`: there is none.
        given: Who was named with the call or with its client; goes before the scope.
    """
    if given is not None:
        captured = _NO_SCOPE if scope is None else scope.start_call()
        return Origin(
            attribution=given,
            scope_id=captured.scope_id,
            ordinal=captured.ordinal,
            alike={} if captured.alike is None else captured.alike,
        )
    return Origin(unbilled="unattributed") if scope is None else scope.start_call()
