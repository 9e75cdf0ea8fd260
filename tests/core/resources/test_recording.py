"""What each call that records a signal records: the signal its own class makes, and whether to wait."""

import asyncio
import json
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import pytest

from clocknext_core import (
    CreditSignal,
    EncodedSignal,
    OutcomeSignal,
    Signal,
    Tokens,
    TrackResult,
    ValidationError,
    WalletSignal,
)
from clocknext_core.resources.binding import Async, Blocking
from clocknext_core.resources.signals import Signals
from clocknext_core.signals import encode


class Recorder:
    """A client of threads that keeps what it is given to record."""

    is_async = False
    cancellations: tuple[type[BaseException], ...] = ()

    def __init__(self) -> None:
        self.recorded: list[tuple[EncodedSignal, bool | None]] = []

    def run(self, operation: object, /) -> Any:
        raise AssertionError("no test here runs an operation")

    def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> Any:
        self.recorded.append((encoded, wait))
        return TrackResult({}, idempotency_key="k", queued=True)

    def hold(self, encoded: EncodedSignal, /) -> None:
        raise AssertionError("no test here holds a signal")

    def make_key(self) -> str:
        return MADE


class AsyncRecorder(Recorder):
    """The same for asyncio and trio."""

    is_async = True
    cancellations: tuple[type[BaseException], ...] = ()

    async def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> Any:
        return super().record(encoded, wait)


MADE = "made"


def sent_of(signal: Signal) -> EncodedSignal:
    """What a client is given of a signal."""
    return encode(signal, lambda: MADE)


COMMON: dict[str, Any] = {
    "customer_id": "cus_1",
    "model": "m",
    "tokens": Tokens(input=1, output=2, cache=3),
    "member": "a@b.c",
    "status": "PENDING",
    "custom": {"feature": "x"},
    "metric": {"ref": "pages", "value": 2},
    "idempotency_key": "key-1",
}
LEAST: dict[str, Any] = {"customer_id": "cus_1", "model": "m"}
OUTCOME: dict[str, Any] = {"agent_key": "a.b", "run_id": "r", "complete": True}

CALLS: list[tuple[Callable[[Signals[Any]], Callable[..., Any]], type[Signal], dict[str, Any]]] = [
    (lambda signals: signals.credit, CreditSignal, {**COMMON, "key": "k"}),
    (lambda signals: signals.credit, CreditSignal, {**LEAST, "agent_key": "k"}),
    (lambda signals: signals.wallet, WalletSignal, COMMON),
    (lambda signals: signals.wallet, WalletSignal, LEAST),
    (lambda signals: signals.outcome, OutcomeSignal, {**COMMON, **OUTCOME}),
    (lambda signals: signals.outcome, OutcomeSignal, {**LEAST, "key": "a"}),
]


@pytest.mark.parametrize("wait", [None, True, False])
@pytest.mark.parametrize(("method", "kind", "arguments"), CALLS)
def test_a_call_records_the_signal_of_its_arguments(
    method: Callable[[Signals[Any]], Callable[..., Any]],
    kind: type[Signal],
    arguments: dict[str, Any],
    wait: bool | None,
) -> None:
    client = Recorder()
    result = method(Signals(client))(**arguments, **({} if wait is None else {"wait": wait}))
    assert result.queued
    ((recorded, waits),) = client.recorded
    expected = sent_of(kind(**arguments))  # its fields are in the order of the class, not of the call
    assert (recorded.idempotency_key, recorded.type) == (expected.idempotency_key, expected.type)
    assert (json.loads(recorded.body), waits) == (json.loads(expected.body), wait)


@pytest.mark.parametrize("wait", [None, True, False])
def test_a_signal_object_is_recorded_as_it_is(wait: bool | None) -> None:
    client = Recorder()
    signals: Signals[Blocking] = Signals(client)
    signal = CreditSignal(**COMMON, key="k")
    assert signals.track(signal, wait=wait).queued
    (recorded,) = client.recorded
    assert recorded == (sent_of(signal), wait)


def test_an_awaited_recording_is_made_when_it_is_awaited() -> None:
    client = AsyncRecorder()
    signals: Signals[Async] = Signals(client)

    async def main() -> None:
        result = signals.credit(**LEAST, key="k")
        assert client.recorded == []
        assert (await result).queued

    asyncio.run(main())
    assert client.recorded == [(sent_of(CreditSignal(**LEAST, key="k")), None)]


class Count(IntEnum):
    """Counts of a class of their own."""

    LEAST = 0
    MOST = 2**53 - 1


@pytest.mark.parametrize("count", [0, 1, 2**53 - 1, *Count])
def test_a_count_is_recorded_as_it_is(count: int) -> None:
    client = Recorder()
    signals: Signals[Blocking] = Signals(client)
    signals.wallet(**LEAST, tokens={"output": count, "cache": None})
    body = json.loads(client.recorded[0][0].body)
    assert (body["inputTokens"], body["outputTokens"]) == (0, count)
    assert "cacheTokens" not in body


@pytest.mark.parametrize("count", [-1, 2**53, True, 1.0, "1"])
def test_what_is_no_count_is_not_recorded(count: Any) -> None:
    client = Recorder()
    signals: Signals[Blocking] = Signals(client)
    with pytest.raises(ValidationError, match=r"^tokens\.cache: must be "):
        signals.wallet(**LEAST, tokens={"input": 1, "cache": count})
    assert client.recorded == []


def test_an_empty_member_is_none() -> None:
    client = Recorder()
    signals: Signals[Blocking] = Signals(client)
    signals.credit(**LEAST, key="k", member="")
    assert client.recorded == [(sent_of(CreditSignal(**LEAST, key="k")), None)]
    assert b"member" not in client.recorded[0][0].body


def test_the_metric_of_a_wallet_signal_is_checked_though_it_is_not_sent() -> None:
    client = Recorder()
    signals: Signals[Blocking] = Signals(client)
    with pytest.raises(ValidationError, match=r"^metric\.ref: "):
        signals.wallet(**LEAST, metric={"ref": "model", "value": 1})
    assert client.recorded == []


def test_a_bad_argument_records_nothing() -> None:
    client = Recorder()
    signals: Signals[Blocking] = Signals(client)
    with pytest.raises(ValidationError, match=r"^customer_id: "):
        signals.wallet(customer_id=" ", model="m")
    assert client.recorded == []
