"""Signals: what is billed. Checked when they are made, encoded once when they are recorded.

The body of `POST /api/v1/usage` is fixed here: after `encode` nothing the caller does to its objects can
change what is sent, and every attempt sends the same bytes under the same idempotency key.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import ClassVar, Self, cast

from clocknext_core.bodies import (
    ARGUMENTS,
    Body,
    SignalStatus,
    SignalType,
    credit_body,
    encode_body,
    outcome_body,
    wallet_body,
)
from clocknext_core.checks import check_id, check_instance
from clocknext_core.errors import invalid
from clocknext_core.tokens import WIRE_NAMES, Tokens, TokensLike


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
        put(self, "customer_id", customer_id)
        put(self, "model", model)
        put(self, "tokens", None if tokens is None else Tokens.of(tokens))
        put(self, "member", None if member == "" else member)
        put(self, "status", status)
        put(self, "custom", custom)
        put(self, "metric", metric)
        put(self, "idempotency_key", idempotency_key)
        self.as_body()  # which checks them

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
    def as_body(self) -> Body:
        """Make what is sent of it, not encoded yet.

        Raises:
            ValidationError: Something it refers to has been changed since, and is no longer right.
        """


def _field_names(kind: type[Signal]) -> tuple[str, ...]:
    if kind not in _FIELD_NAMES:
        _FIELD_NAMES[kind] = tuple(each.name for each in fields(kind))
    return _FIELD_NAMES[kind]


_FIELD_NAMES: dict[type[Signal], tuple[str, ...]] = {}


@dataclass(frozen=True, slots=True, init=False)
class WalletSignal(Signal):
    """Debits the customer's USD wallet at the model's cost, without margin."""

    type: ClassVar[SignalType] = "wallet"

    def as_body(self) -> Body:
        """Make what is sent of it, not encoded yet."""
        return wallet_body(
            self.customer_id,
            self.model,
            self.tokens,
            self.member,
            self.status,
            self.custom,
            self.metric,
            self.idempotency_key,
        )


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
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "agent_key", agent_key)
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

    def as_body(self) -> Body:
        """Make what is sent of it, not encoded yet."""
        return credit_body(
            self.customer_id,
            self.model,
            self.key,
            self.agent_key,
            self.tokens,
            self.member,
            self.status,
            self.custom,
            self.metric,
            self.idempotency_key,
        )


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
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "agent_key", agent_key)
        object.__setattr__(self, "run_id", run_id)
        object.__setattr__(self, "complete", complete)
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

    def completed(self, idempotency_key: str) -> Self:
        """Return the same signal as the one that completes its run, under a key of its own."""
        return self._with(complete=True, idempotency_key=check_id("idempotency_key", idempotency_key))

    def as_body(self) -> Body:
        """Make what is sent of it, not encoded yet."""
        return outcome_body(
            self.customer_id,
            self.model,
            self.key,
            self.agent_key,
            self.run_id,
            self.complete,
            self.tokens,
            self.member,
            self.status,
            self.custom,
            self.metric,
            self.idempotency_key,
        )


@dataclass(frozen=True, slots=True)
class EncodedSignal:
    """A signal as it will be sent, by every attempt."""

    idempotency_key: str
    body: bytes = field(repr=False)
    """The JSON body, UTF-8."""

    @property
    def signal(self) -> Signal:
        """The signal, its idempotency key filled in: what hooks and reports show.

        It is read back from the body whenever somebody asks for it, which for most signals nobody does. So it
        holds what was sent: the metric of a wallet signal, which is not, is missing.
        """
        return _read(self.body)


def encode(signal: Signal, make_key: Callable[[], str]) -> EncodedSignal:
    """Fix a signal's key and bytes.

    Args:
        signal: The signal.
        make_key: Makes an idempotency key for a signal that has none.

    Raises:
        ValidationError: As in `encode_body`.
    """
    check_instance("signal", signal, Signal)
    return fix(signal.as_body(), make_key)


def fix(body: Body, make_key: Callable[[], str]) -> EncodedSignal:
    """Fix the key and bytes of a signal's body, which stays as it is.

    Raises:
        ValidationError: As in `encode_body`.
    """
    key = body.get("idempotencyKey")
    if key is None:
        key = make_key()
        body = {**body, "idempotencyKey": key}
    assert isinstance(key, str)  # it was checked
    return EncodedSignal(key, encode_body(body))


def decode(body: bytes) -> EncodedSignal:
    """Read a signal back from the bytes it was encoded to; these stay as they are.

    Raises:
        ValidationError: They are not those of a signal with its key.
    """
    signal = _read(body)
    if signal.idempotency_key is None:
        raise invalid("body", f"is not that of a {signal.type} signal with its key")
    return EncodedSignal(signal.idempotency_key, body)


def _read(body: bytes) -> Signal:
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError):
        raise invalid("body", "is not JSON") from None
    left = dict(cast("dict[str, object]", document)) if isinstance(document, dict) else {}
    kind = next((each for each in _KINDS if each.type == left.get("type")), None)
    if kind is None:
        raise invalid("body", "is that of no signal")
    del left["type"]
    counts = {name: left.pop(wire) for name, wire in WIRE_NAMES.items() if wire in left}
    # A signal without tokens sends two zeros.
    tokens = None if list(counts.values()) == [0, 0] else counts
    arguments = {ARGUMENTS[wire]: left.pop(wire) for wire in list(left) if wire in ARGUMENTS}
    if len(left) > 1:
        raise invalid("body", f"is not that of a {kind.type} signal")
    metric = next(({"ref": ref, "value": value} for ref, value in left.items()), None)
    try:
        return kind(tokens=tokens, metric=metric, **arguments)  # type: ignore[arg-type]  # it checks them
    except TypeError:
        raise invalid("body", f"is not that of a {kind.type} signal") from None


_KINDS: tuple[type[Signal], ...] = (CreditSignal, WalletSignal, OutcomeSignal)


def encode_dry_run(signal: Signal) -> bytes:
    """Encode a signal that the server is to validate and price, but not to record.

    It needs no idempotency key, since nothing is billed; one is sent if the signal has one.

    Raises:
        ValidationError: As in `encode_body`.
    """
    check_instance("signal", signal, Signal)
    return encode_body({**signal.as_body(), "dryRun": True})
