"""Signals: what is billed. Checked when they are made, encoded once when they are recorded.

The body of `POST /api/v1/usage` is fixed here: after `encode` nothing the caller does to its objects can
change what is sent, and every attempt sends the same bytes under the same idempotency key.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal, Self, TypeAlias, cast, get_args

from clocknext_core.checks import (
    check_bool,
    check_choice,
    check_email,
    check_id,
    check_instance,
    check_int,
    check_mapping,
    check_text,
    shown,
)
from clocknext_core.errors import ValidationError, invalid
from clocknext_core.usage import read_usage

SignalType: TypeAlias = Literal["credit", "wallet", "outcome"]
SignalStatus: TypeAlias = Literal["SUCCESS", "FAILURE", "PENDING"]

MAX_CUSTOM_BYTES = 32 * 1024
MAX_BODY_BYTES = 64 * 1024

BODY_FIELDS = frozenset(
    {
        *("customerId", "type", "model", "key", "agentKey", "inputTokens", "outputTokens", "cacheTokens"),
        *("member", "status", "custom", "idempotencyKey", "runId", "complete", "dryRun"),
        *("organizationId", "signalId", "receivedAt"),
    }
)
"""Names a metric's ref must not take: the body's own, and those the server reserves for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Token counts of one model call.

    Raises:
        ValidationError: A count is not an integer from 0 to 2^53-1. The server does not coerce either.
    """

    input: int = 0
    """Prompt tokens, sent as `inputTokens`."""
    output: int = 0
    """Completion tokens, sent as `outputTokens`."""
    cache: int | None = None
    """Cached prompt tokens, sent as `cacheTokens`; left out when `None`, which the server reads as 0."""

    def __post_init__(self) -> None:
        check_int("tokens.input", self.input, least=0)
        check_int("tokens.output", self.output, least=0)
        if self.cache is not None:
            check_int("tokens.cache", self.cache, least=0)

    @classmethod
    def of(cls, value: "TokensLike") -> "Tokens":
        """Take tokens as they are, or make them from a mapping with `input`, `output` and `cache`.

        Raises:
            ValidationError: It is neither, or has a key that is not one of the three, or a bad count.
        """
        if isinstance(value, Tokens):
            return value
        check_mapping("tokens", value)
        for name in value:
            if name not in ("input", "output", "cache"):
                raise invalid(
                    "tokens", f"has the unknown key {shown(name)}; known are input, output and cache"
                )
        return cls(**{name: count for name, count in value.items() if count is not None})

    @classmethod
    def from_usage(cls, response: object) -> "Tokens":
        """Read the counts from what a model returned, cached tokens counted once.

        Takes the responses of OpenAI (chat completions and Responses), Anthropic, Google Gemini, Mistral,
        Cohere, Bedrock Converse, Groq, LiteLLM and LangChain, and of whatever speaks OpenAI's chat
        completions: as objects or mappings, the last chunk of a stream, or the usage in any of them.

        `cache` is what was read from the provider's cache, and `None` where it said nothing about it. What
        was written to the cache is in `input`, reasoning in `output`. The provider's prompt total is `input`
        and `cache` together.

        Args:
            response: What the provider's SDK or API returned.

        Raises:
            ValidationError: It has no usage, usage of an unknown shape, or a count that is not an integer
                from 0 to 2^53-1. The message shows names, never contents.
        """
        return cls(**read_usage(response)._asdict())


TokensLike: TypeAlias = Tokens | Mapping[str, int | None]
"""Tokens as the API methods take them: a mapping will do."""


@dataclass(frozen=True, slots=True, init=False)
class Signal(ABC):
    """What all three kinds of signal have in common.

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
    """E-mail of the member of the customer who caused it."""
    status: SignalStatus | None
    """How the metered call ended; the server assumes `SUCCESS`."""
    custom: Mapping[str, object] | None = field(hash=False)
    """Anything of your own, a JSON object of at most 32 KiB once encoded."""
    metric: Mapping[str, object] | None = field(hash=False)
    """`{"ref": name, "value": value}`: sent as a property of that name. Not sent for a wallet signal,
    where the server ignores it."""
    idempotency_key: str | None
    """1 to 255 characters. The server bills a key once; without one, the SDK makes one per signal."""

    def __init__(
        self,
        *,
        customer_id: str,
        model: str,
        tokens: TokensLike | None = None,
        member: str | None = None,
        status: SignalStatus | None = None,
        custom: Mapping[str, object] | None = None,
        metric: Mapping[str, object] | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        put = object.__setattr__
        check_text("customer_id", customer_id)
        put(self, "customer_id", customer_id)
        check_text("model", model)
        put(self, "model", model)
        put(self, "tokens", None if tokens is None else Tokens.of(tokens))
        put(self, "member", _checked_member(member))
        if status is not None:
            check_choice("status", status, get_args(SignalStatus))
        put(self, "status", status)
        if custom is not None:
            check_mapping("custom", custom)
        put(self, "custom", custom)
        if metric is not None:
            _check_metric(metric)
        put(self, "metric", metric)
        if idempotency_key is not None:
            check_id("idempotency_key", idempotency_key)
        put(self, "idempotency_key", idempotency_key)

    def with_idempotency_key(self, key: str) -> Self:
        """Return the same signal with its idempotency key set."""
        return self._with(idempotency_key=key)

    def _with(self, **changes: object) -> Self:
        copy = object.__new__(type(self))
        for name in _field_names(type(self)):
            object.__setattr__(copy, name, getattr(self, name))
        for name, value in changes.items():
            object.__setattr__(copy, name, value)
        return copy

    @abstractmethod
    def add_own_fields(self, body: dict[str, object]) -> None:
        """Add what only this kind of signal sends."""


def _field_names(kind: type[Signal]) -> tuple[str, ...]:
    if kind not in _FIELD_NAMES:
        _FIELD_NAMES[kind] = tuple(each.name for each in fields(kind))
    return _FIELD_NAMES[kind]


_FIELD_NAMES: dict[type[Signal], tuple[str, ...]] = {}


@dataclass(frozen=True, slots=True, init=False)
class WalletSignal(Signal):
    """Debits the customer's USD wallet at the model's cost, without margin."""

    type: ClassVar[SignalType] = "wallet"

    def add_own_fields(self, body: dict[str, object]) -> None:
        """Add what only this kind of signal sends."""


@dataclass(frozen=True, slots=True, init=False)
class CreditSignal(Signal):
    """Metered against a credit, charged at the model's real cost plus your margin.

    Exactly one of `key` (sent as `key`) and `agent_key` (sent as `agentKey`) names the credit.
    """

    type: ClassVar[SignalType] = "credit"

    key: str | None
    agent_key: str | None

    def __init__(
        self,
        *,
        customer_id: str,
        model: str,
        key: str | None = None,
        agent_key: str | None = None,
        tokens: TokensLike | None = None,
        member: str | None = None,
        status: SignalStatus | None = None,
        custom: Mapping[str, object] | None = None,
        metric: Mapping[str, object] | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        Signal.__init__(
            self,
            customer_id=customer_id,
            model=model,
            tokens=tokens,
            member=member,
            status=status,
            custom=custom,
            metric=metric,
            idempotency_key=idempotency_key,
        )
        _check_one_key(key, agent_key)
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "agent_key", agent_key)

    def add_own_fields(self, body: dict[str, object]) -> None:
        """Add what only this kind of signal sends."""
        _put_key(body, self.key, self.agent_key)
        _put_metric(body, self.metric)


@dataclass(frozen=True, slots=True, init=False)
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

    def __init__(
        self,
        *,
        customer_id: str,
        model: str,
        key: str | None = None,
        agent_key: str | None = None,
        run_id: str | None = None,
        complete: bool | None = None,
        tokens: TokensLike | None = None,
        member: str | None = None,
        status: SignalStatus | None = None,
        custom: Mapping[str, object] | None = None,
        metric: Mapping[str, object] | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        Signal.__init__(
            self,
            customer_id=customer_id,
            model=model,
            tokens=tokens,
            member=member,
            status=status,
            custom=custom,
            metric=metric,
            idempotency_key=idempotency_key,
        )
        _check_one_key(key, agent_key)
        if run_id is not None:
            check_id("run_id", run_id)
        if complete is not None:
            check_bool("complete", complete)
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "agent_key", agent_key)
        object.__setattr__(self, "run_id", run_id)
        object.__setattr__(self, "complete", complete)

    def completed(self, idempotency_key: str) -> Self:
        """Return the same signal as the one that completes its run, under a key of its own."""
        return self._with(complete=True, idempotency_key=check_id("idempotency_key", idempotency_key))

    def add_own_fields(self, body: dict[str, object]) -> None:
        """Add what only this kind of signal sends."""
        _put_key(body, self.key, self.agent_key)
        if self.run_id is not None:
            body["runId"] = self.run_id
        if self.complete is not None:
            body["complete"] = self.complete
        _put_metric(body, self.metric)


@dataclass(frozen=True, slots=True)
class EncodedSignal:
    """A signal as it will be sent, by every attempt."""

    signal: Signal
    """The signal, its idempotency key filled in: what hooks and reports show."""
    idempotency_key: str
    body: bytes = field(repr=False)
    """The JSON body, UTF-8."""


def encode(signal: Signal, make_key: Callable[[], str]) -> EncodedSignal:
    """Fix a signal's key and bytes.

    Args:
        signal: The signal.
        make_key: Makes an idempotency key for a signal that has none.

    Raises:
        ValidationError: Something can't be encoded as JSON (NaN, a cycle, a lone surrogate, an object of
            some class), `custom` is larger than 32 KiB or the whole body larger than 64 KiB.
    """
    check_instance("signal", signal, Signal)
    idempotency_key = signal.idempotency_key
    if idempotency_key is None:
        idempotency_key = make_key()
        signal = signal.with_idempotency_key(idempotency_key)
    return EncodedSignal(signal, idempotency_key, _encode_body(_body(signal)))


def decode(body: bytes) -> EncodedSignal:
    """Read a signal back from the bytes it was encoded to; these stay as they are.

    Raises:
        ValidationError: They are not those of a signal with its key.
    """
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError):
        raise invalid("body", "is not JSON") from None
    left = dict(cast("dict[str, object]", document)) if isinstance(document, dict) else {}
    kind = next((each for each in _KINDS if each.type == left.get("type")), None)
    if kind is None:
        raise invalid("body", "is that of no signal")
    del left["type"]
    tokens = {name: left.pop(wire) for name, wire in _TOKENS.items() if wire in left}
    arguments = {_ARGUMENTS[wire]: left.pop(wire) for wire in list(left) if wire in _ARGUMENTS}
    metric = [{"ref": ref, "value": value} for ref, value in left.items()]
    try:
        signal = kind(tokens=tokens, metric=next(iter(metric), None), **arguments)  # type: ignore[arg-type]  # it checks them
    except TypeError:
        raise invalid("body", f"is not that of a {kind.type} signal") from None
    if signal.idempotency_key is None or len(metric) > 1:
        raise invalid("body", f"is not that of a {kind.type} signal with its key")
    return EncodedSignal(signal, signal.idempotency_key, body)


def encode_dry_run(signal: Signal) -> bytes:
    """Encode a signal that the server is to validate and price, but not to record.

    It needs no idempotency key, since nothing is billed; one is sent if the signal has one.

    Raises:
        ValidationError: As in `encode`.
    """
    check_instance("signal", signal, Signal)
    return _encode_body({**_body(signal), "dryRun": True})


def _body(signal: Signal) -> dict[str, object]:
    body: dict[str, object] = {"customerId": signal.customer_id, "type": signal.type, "model": signal.model}
    tokens = signal.tokens
    if tokens is None:
        body["inputTokens"] = body["outputTokens"] = 0
    else:
        body["inputTokens"] = tokens.input
        body["outputTokens"] = tokens.output
        if tokens.cache is not None:
            body["cacheTokens"] = tokens.cache
    signal.add_own_fields(body)
    if signal.member is not None:
        body["member"] = signal.member
    if signal.status is not None:
        body["status"] = signal.status
    if signal.custom is not None:
        body["custom"] = dict(signal.custom)
    if signal.idempotency_key is not None:
        body["idempotencyKey"] = signal.idempotency_key
    return body


def encode_json(body: object) -> bytes:
    """Encode a value as JSON in UTF-8, compactly and strictly: no NaN, no lone surrogates.

    Raises:
        ValueError: It can't be encoded, and why.
    """
    try:
        return _ENCODER.encode(body).encode()
    except UnicodeEncodeError:
        raise ValueError("holds a lone surrogate, which is not text") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except TypeError as error:
        raise ValueError(str(error)) from None


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _encode_body(body: dict[str, object]) -> bytes:
    try:
        encoded = encode_json(body)
    except ValueError as error:
        raise _first_culprit(body, error) from None
    # Only a body larger than the lesser limit can break either.
    if len(encoded) > MAX_CUSTOM_BYTES:
        if "custom" in body and len(encode_json(body["custom"])) > MAX_CUSTOM_BYTES:
            raise invalid("custom", f"must be at most {MAX_CUSTOM_BYTES} bytes once encoded")
        if len(encoded) > MAX_BODY_BYTES:
            raise invalid("signal", f"must be at most {MAX_BODY_BYTES} bytes once encoded")
    return encoded


def _first_culprit(body: dict[str, object], error: ValueError) -> ValidationError:
    """Find which argument can't be encoded, to name it."""
    culprit = "signal"  # stays so where another thread has changed the culprit since
    for name, value in body.items():
        try:
            encode_json({name: value})
        except ValueError as found:
            culprit, error = _ARGUMENTS.get(name, "metric"), found
            break
    return invalid(culprit, f"can't be encoded as JSON: {error}")


_ARGUMENTS = {
    "customerId": "customer_id",
    "model": "model",
    "key": "key",
    "agentKey": "agent_key",
    "member": "member",
    "custom": "custom",
    "idempotencyKey": "idempotency_key",
    "runId": "run_id",
    "status": "status",
    "complete": "complete",
}
_TOKENS = {"input": "inputTokens", "output": "outputTokens", "cache": "cacheTokens"}
_KINDS: tuple[type[Signal], ...] = (CreditSignal, WalletSignal, OutcomeSignal)


def _checked_member(value: object) -> str | None:
    return None if value is None or value == "" else check_email("member", value)


def _check_one_key(key: object, agent_key: object) -> None:
    if key is None and agent_key is None:
        raise invalid("key", "is required: give key or agent_key")
    if key is not None and agent_key is not None:
        raise invalid("key", "must not be given together with agent_key: give exactly one")
    if key is not None:
        check_text("key", key)
    else:
        check_text("agent_key", agent_key)


def _check_metric(metric: Mapping[str, object]) -> None:
    check_mapping("metric", metric)
    if set(metric) != {"ref", "value"}:
        raise invalid("metric", "must have exactly the keys ref and value")
    ref = check_text("metric.ref", metric["ref"])
    if ref in BODY_FIELDS:
        raise invalid("metric.ref", f"must not be {ref!r}, a field of the signal itself")


def _put_key(body: dict[str, object], key: str | None, agent_key: str | None) -> None:
    if key is not None:
        body["key"] = key
    else:
        body["agentKey"] = agent_key


def _put_metric(body: dict[str, object], metric: Mapping[str, object] | None) -> None:
    if metric is not None:
        body[str(metric["ref"])] = metric["value"]
