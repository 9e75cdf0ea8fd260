"""Signals: what is billed. Checked when they are made, encoded once when they are recorded.

A signal's fields stand in one table, `FIELDS`: the argument, the wire name and the check of each. What makes,
reads and names signals reads that table. To add a field, add its row, its type in one of the TypedDicts below
it, and its attribute in a class of signals.

The body of `POST /api/v1/usage` is fixed by `encode`: nothing the caller does to its objects afterwards can
change what is sent, and every attempt sends the same bytes under the same idempotency key.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeAlias, TypedDict, Unpack, cast, get_args

from clocknext_core.checks import (
    check_bool,
    check_choice,
    check_id,
    check_instance,
    check_mapping,
    check_text,
    place,
)
from clocknext_core.errors import ValidationError, invalid, unexpected
from clocknext_core.limits import check_limits
from clocknext_core.signatures import spell_out
from clocknext_core.tokens import WIRE_NAMES, Tokens, TokensLike, put_counts
from clocknext_core.values import Value
from clocknext_core.wire import encode_json

Body: TypeAlias = dict[str, object]
"""What is sent of a signal, not encoded yet."""
SignalType: TypeAlias = Literal["credit", "wallet", "outcome"]
SignalStatus: TypeAlias = Literal["SUCCESS", "FAILURE", "PENDING"]

# The table


class SignalField(NamedTuple):
    """A field of a signal."""

    argument: str
    wire_name: str | None
    """Its name in the body; `None`: the check returns several fields under their own names."""
    check: Callable[[str, Any], Any]
    """Returns what is sent for the argument's name and value; `None`: nothing is.

    Raises:
        ValidationError: The value is not one that the field takes; it names the argument.
    """
    types: tuple[SignalType, ...] = get_args(SignalType)


def _check_member(name: str, value: object) -> str | None:
    return None if value == "" else check_text(name, value)


def _check_custom(name: str, value: Mapping[str, object]) -> Mapping[str, object]:
    if isinstance(value, dict):
        return value
    check_mapping(name, value)
    return dict(value)  # JSON is encoded of a dict alone


def _check_metric(name: str, metric: Mapping[str, object], *, is_sent: bool = True) -> Body:
    check_mapping(name, metric)
    if set(metric) != {"ref", "value"}:
        raise invalid(name, "must have exactly the keys ref and value")
    ref = check_text(f"{name}.ref", metric["ref"])
    if ref in BODY_FIELDS:
        raise invalid(f"{name}.ref", f"must not be {ref!r}, a field of the signal itself")
    if ref == "__proto__":
        raise invalid(f"{name}.ref", f"must not be {ref!r}: the server refuses such a name")
    return {ref: metric["value"]} if is_sent else {}


_NO_TOKENS = Tokens()

FIELDS = (
    SignalField("key", "key", check_text, ("credit", "outcome")),
    SignalField("agent_key", "agentKey", check_text, ("credit", "outcome")),
    SignalField("run_id", "runId", check_id, ("outcome",)),
    SignalField("complete", "complete", check_bool, ("outcome",)),
    SignalField("metric", None, _check_metric, ("credit", "outcome")),
    SignalField("metric", None, partial(_check_metric, is_sent=False), ("wallet",)),
    SignalField("member", "member", _check_member),
    SignalField("status", "status", partial(check_choice, choices=get_args(SignalStatus))),
    SignalField("custom", "custom", _check_custom),
    SignalField("idempotency_key", "idempotencyKey", check_id),
)
"""Every field that may be left out. The server ignores the metric of a wallet signal.

Customer, model and tokens, which every signal has, are arguments of their own wherever a signal is made.
"""
IN_EVERY_SIGNAL = ("customer_id", "model", "tokens")
"""The arguments that every signal has, besides those in the table."""


class StepFields(TypedDict, total=False):
    """What may be said of any signal, and of a run's step. `None` is the same as leaving a field out."""

    status: SignalStatus | None
    custom: Mapping[str, object] | None
    metric: Mapping[str, object] | None


class SignalFields(StepFields, total=False):
    """What may be said of a wallet signal, besides customer, model and tokens."""

    member: str | None
    idempotency_key: str | None


class CreditFields(SignalFields, total=False):
    """What may be said of a credit signal."""

    key: str | None
    agent_key: str | None


class OutcomeFields(CreditFields, total=False):
    """What may be said of an outcome signal."""

    run_id: str | None
    complete: bool | None


ARGUMENTS = {
    "customerId": "customer_id",
    "model": "model",
    **{row.wire_name: row.argument for row in FIELDS if row.wire_name is not None},
}
"""Which argument a field of the body is made of."""
FIELDS_OF: Mapping[SignalType, frozenset[str]] = {
    each: frozenset(row.argument for row in FIELDS if each in row.types) for each in get_args(SignalType)
}
"""The arguments that each type of signal takes, besides customer, model and tokens."""
BODY_FIELDS = frozenset(
    {"type", *ARGUMENTS, *WIRE_NAMES.values(), "dryRun", "organizationId", "signalId", "receivedAt"}
)
"""Names a metric's ref must not take: the body's own, and those the server reserves for itself."""
_ROWS: Mapping[SignalType, Mapping[str, SignalField]] = {
    each: {row.argument: row for row in FIELDS if each in row.types} for each in get_args(SignalType)
}
"""The rows of each type, by argument."""


def make_body(
    signal_type: SignalType,
    fields: Mapping[str, object],
    *,
    customer_id: str,
    model: str,
    tokens: TokensLike | None = None,
) -> Body:
    """Make the body of a signal.

    Args:
        signal_type: Which type of signal.
        fields: Its other arguments by name; `None` is the same as leaving one out.
        customer_id: Who is billed.
        model: Catalogue id of the model.
        tokens: Token counts. Default: 0.

    Raises:
        TypeError: A field is not one that this type takes.
        ValidationError: An argument is missing, of the wrong type or out of range; it names the argument.
    """
    body: Body = {
        "customerId": check_text("customer_id", customer_id),
        "type": signal_type,
        "model": check_text("model", model),
    }
    put_counts(body, _NO_TOKENS if tokens is None else tokens)
    rows = _ROWS[signal_type]
    for argument, value in fields.items():
        row = rows.get(argument)
        if row is None:
            raise unexpected(argument, (*rows, *IN_EVERY_SIGNAL))
        if value is not None and (sent := row.check(argument, value)) is not None:
            if row.wire_name is None:
                body.update(sent)
            else:
                body[row.wire_name] = sent
    if signal_type != "wallet" and ("key" in body) is ("agentKey" in body):
        if "key" in body:
            raise invalid("key", "must not be given together with agent_key: give exactly one")
        raise invalid("key", "is required: give key or agent_key")
    return body


# The classes


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class Signal(Value, ABC):
    """What all three types of signal have in common.

    Raises:
        ValidationError: An argument is missing, of the wrong type or out of range; it names the argument.
    """

    type: ClassVar[SignalType]

    customer_id: str
    """Who is billed."""
    model: str
    """Catalogue id of the model, matched by the server without case."""
    tokens: Tokens | None
    """Token counts; without them 0 is sent."""
    member: str | None
    """The member of the customer who caused it: their e-mail address, or any other string of yours."""
    status: SignalStatus | None
    """How the metered call ended; the server assumes `SUCCESS`."""
    custom: Mapping[str, object] | None = field(hash=False)
    """A JSON object of your choice: at most 32 KiB once encoded, and nested at most 100 deep."""
    metric: Mapping[str, object] | None = field(hash=False)
    """`{"ref": name, "value": value}`: sent as a property of that name. Not sent for a wallet signal,
    where the server ignores it."""
    idempotency_key: str | None
    """1 to 255 characters. The server bills a key once; without one, the SDK makes one per signal."""

    @abstractmethod
    def __init__(
        self,
        *,
        customer_id: str,
        model: str,
        tokens: TokensLike | None = None,
        **fields: Unpack[SignalFields],
    ) -> None: ...

    def _fill(self, customer_id: str, model: str, tokens: TokensLike | None, fields: SignalFields) -> None:
        """Set the fields, once they are checked."""
        make_body(self.type, fields, customer_id=customer_id, model=model, tokens=tokens)
        put = object.__setattr__
        put(self, "customer_id", customer_id)
        put(self, "model", model)
        put(self, "tokens", None if tokens is None else Tokens.of(tokens))
        for name in FIELDS_OF[self.type]:
            put(self, name, fields.get(name))
        if self.member == "":
            put(self, "member", None)

    def with_idempotency_key(self, key: str) -> Self:
        """Return the same signal with its idempotency key set."""
        return self._with(idempotency_key=key)

    def _with(self, **changes: object) -> Self:
        copy = object.__new__(type(self))
        for name in (*IN_EVERY_SIGNAL, *FIELDS_OF[self.type]):
            object.__setattr__(copy, name, changes.get(name, getattr(self, name)))
        return copy

    def fields(self) -> dict[str, object]:
        """Return its arguments by name, without customer, model and tokens."""
        return {name: getattr(self, name) for name in _ROWS[self.type]}

    def as_body(self) -> Body:
        """Make what is sent of it, not encoded yet.

        Raises:
            ValidationError: Something it refers to has been changed since, and is no longer right.
        """
        return make_body(
            self.type,
            self.fields(),
            customer_id=self.customer_id,
            model=self.model,
            tokens=self.tokens,
        )


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class WalletSignal(Signal):
    """Debits the customer's USD wallet at the model's cost, without margin."""

    type: ClassVar[SignalType] = "wallet"

    @spell_out
    def __init__(
        self,
        *,
        customer_id: str,
        model: str,
        tokens: TokensLike | None = None,
        **fields: Unpack[SignalFields],
    ) -> None:
        self._fill(customer_id, model, tokens, fields)


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class CreditSignal(Signal):
    """Metered against a credit, charged at the model's real cost plus your margin.

    Exactly one of `key` (sent as `key`) and `agent_key` (sent as `agentKey`) names the credit.
    """

    type: ClassVar[SignalType] = "credit"

    key: str | None
    agent_key: str | None

    @spell_out
    def __init__(
        self,
        *,
        customer_id: str,
        model: str,
        tokens: TokensLike | None = None,
        **fields: Unpack[CreditFields],
    ) -> None:
        self._fill(customer_id, model, tokens, fields)


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class OutcomeSignal(Signal):
    """Advances one step of a workflow; `key` or `agent_key` (exactly one) is the step's.

    Newer servers group the steps of one run by `run_id` (1 to 255 characters) and bill the outcome once,
    on the step sent with `complete=True`.
    """

    type: ClassVar[SignalType] = "outcome"

    key: str | None
    agent_key: str | None
    run_id: str | None
    complete: bool | None

    @spell_out
    def __init__(
        self,
        *,
        customer_id: str,
        model: str,
        tokens: TokensLike | None = None,
        **fields: Unpack[OutcomeFields],
    ) -> None:
        self._fill(customer_id, model, tokens, fields)

    def completed(self, idempotency_key: str) -> Self:
        """Return the same signal as the one that completes its run, under its own key."""
        return self._with(complete=True, idempotency_key=check_id("idempotency_key", idempotency_key))


_CLASSES: Mapping[SignalType, Callable[..., Signal]] = {
    each.type: each for each in (CreditSignal, WalletSignal, OutcomeSignal)
}
_TYPES: Mapping[str, SignalType] = {each: each for each in _CLASSES}


def make_signal(signal_type: SignalType, arguments: Mapping[str, object]) -> Signal:
    """Make a signal of its arguments by name.

    Raises:
        TypeError: As `make_body`, or the customer or the model is missing.
        ValidationError: As `make_body`.
    """
    return _CLASSES[signal_type](**arguments)


# To bytes and back


@dataclass(frozen=True, slots=True, init=False)
class EncodedSignal:
    """A signal as it will be sent, by every attempt."""

    idempotency_key: str
    type: SignalType
    body: bytes = field(repr=False)
    """The JSON body, UTF-8."""

    def __init__(self, idempotency_key: str, type: SignalType, body: bytes) -> None:  # noqa: A002
        _put_key(self, idempotency_key)
        _put_type(self, type)
        _put_body(self, body)

    @property
    def signal(self) -> Signal:
        """The signal, its idempotency key filled in: what hooks and reports show.

        It is read back from the body each time it is asked for, which for most signals is never. So it holds
        what was sent: the metric of a wallet signal, which is not, is missing.
        """
        return make_signal(*_arguments(self.body))


# A frozen class made by `dataclass` looks up `object.__setattr__` for each field, which takes twice as long.
_put_key, _put_type, _put_body = (
    vars(EncodedSignal)[name].__set__ for name in ("idempotency_key", "type", "body")
)


def encode(signal: Signal, make_key: Callable[[], str]) -> EncodedSignal:
    """Fix a signal's key and bytes.

    Args:
        signal: The signal.
        make_key: Makes an idempotency key for a signal that has none.

    Raises:
        ValidationError: It is not a signal, or can't be sent: see `encode_body`.
    """
    check_instance("signal", signal, Signal)
    return fix(signal.type, signal.as_body(), make_key)


def fix(signal_type: SignalType, body: Body, make_key: Callable[[], str]) -> EncodedSignal:
    """Fix the key and bytes of a signal's body; a key that is made is put into it.

    Raises:
        ValidationError: As `encode_body`.
    """
    key: Any = body.get("idempotencyKey")
    if key is None:
        key = body["idempotencyKey"] = make_key()
    return EncodedSignal(key, signal_type, encode_body(body))


def encode_dry_run(signal: Signal) -> bytes:
    """Encode a signal that the server is to validate and price, but not to record.

    It needs no idempotency key, since nothing is billed; one is sent if the signal has one.

    Raises:
        ValidationError: As `encode`.
    """
    check_instance("signal", signal, Signal)
    return encode_body({**signal.as_body(), "dryRun": True})


def encode_body(body: Body) -> bytes:
    """Encode a body.

    Raises:
        ValidationError: Something can't be encoded as JSON (NaN, a cycle, a lone surrogate, an object of
            some class) or is nested more than 100 deep, a name is one that the server refuses
            (`__proto__`, or `constructor` of an object that holds `prototype`), `custom` is larger than
            32 KiB or the whole body larger than 64 KiB.
    """
    try:
        encoded = encode_json(body)
    except ValueError as error:
        raise _first_culprit(body, error) from None
    check_limits(body, encoded)
    return encoded


def _first_culprit(body: Body, error: ValueError) -> ValidationError:
    """Find which argument can't be encoded, to name it."""
    for name, value in body.items():
        try:
            encode_json({name: value})
        except ValueError as found:
            reason = f"can't be encoded as JSON: {found}{place(value)}"
            return invalid(ARGUMENTS.get(name, "metric"), reason)
    return invalid("signal", f"can't be encoded as JSON: {error}")  # another thread has changed the culprit


def decode(body: bytes) -> EncodedSignal:
    """Read a signal back from the bytes it was encoded to; these stay as they are.

    Raises:
        ValidationError: They are not those of a signal with its key.
    """
    signal_type, arguments = _arguments(body)
    key = arguments.get("idempotency_key")
    try:  # as where a signal is made, but without the signal, which costs more than the checks
        make_body(signal_type, arguments, **{name: arguments.pop(name) for name in IN_EVERY_SIGNAL})
    except (KeyError, TypeError):
        raise invalid("body", f"is not that of a {signal_type} signal") from None
    if key is None:
        raise invalid("body", f"is not that of a {signal_type} signal with its key")
    return EncodedSignal(key, signal_type, body)


def type_and_key(body: bytes) -> tuple[SignalType, str | None]:
    """Return the type and the idempotency key of the signal in an encoded body, also of a dry run.

    Raises:
        ValidationError: It is not the body of a signal.
    """
    signal_type, fields = _parse(body)
    return signal_type, key if isinstance(key := fields.get("idempotencyKey"), str) else None


def _parse(body: bytes) -> tuple[SignalType, Body]:
    try:
        document: object = json.loads(str(body, "utf-8"))
    except (ValueError, RecursionError):
        raise invalid("body", "is not JSON") from None
    fields = cast("Body", document) if isinstance(document, dict) else {}
    name = fields.get("type")
    signal_type = _TYPES.get(name) if isinstance(name, str) else None
    if signal_type is None:
        raise invalid("body", "is not the body of a signal")
    return signal_type, fields


def _arguments(body: bytes) -> tuple[SignalType, dict[str, Any]]:
    """Return the type of the signal in a body, and the arguments that it was made of."""
    signal_type, left = _parse(body)
    del left["type"]
    counts = {name: left.pop(wire_name) for name, wire_name in WIRE_NAMES.items() if wire_name in left}
    arguments: dict[str, Any] = {ARGUMENTS[name]: left.pop(name) for name in list(left) if name in ARGUMENTS}
    # A signal without tokens sends two zeros.
    arguments["tokens"] = None if list(counts.values()) == [0, 0] else counts
    if len(left) > 1:
        raise invalid("body", f"is not that of a {signal_type} signal")
    for ref, value in left.items():
        arguments["metric"] = {"ref": ref, "value": value}
    return signal_type, arguments
