"""`signals.from_response`: model and tokens from a response, the rest as the signal's own call has it."""

from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, assert_type

import pytest

from clocknext_core import (
    CreditSignal,
    EncodedSignal,
    OutcomeSignal,
    Signal,
    TrackResult,
    ValidationError,
    WalletSignal,
)
from clocknext_core.resources.binding import Blocking
from clocknext_core.resources.signals import Signals
from tests.core.usage.cases import CHAT, CHAT_TOKENS, CONVERSE_USAGE

MODEL = "gpt-4o"


class Recorder:
    """A client of threads that keeps what it is given to record."""

    is_async = False
    cancellations: tuple[type[BaseException], ...] = ()

    def __init__(self) -> None:
        self.recorded: list[tuple[Signal, bool | None]] = []
        self.signals: Signals[Blocking] = Signals(self)

    def run(self, operation: object, /) -> Any:
        raise AssertionError("no test here runs an operation")

    def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> Any:
        self.recorded.append((encoded.signal, wait))
        return TrackResult({}, idempotency_key="k", queued=True)

    def hold(self, encoded: EncodedSignal, /) -> None:
        raise AssertionError("no test here holds a signal")

    def make_key(self) -> str:
        return "made"


def recorded(**arguments: Any) -> tuple[Signal, bool | None]:
    client = Recorder()
    result = assert_type(client.signals.from_response(CHAT, customer_id="cus_1", **arguments), TrackResult)
    assert result.queued
    (recording,) = client.recorded
    return recording


def without_key(recording: tuple[Signal, bool | None]) -> tuple[Signal, bool | None]:
    signal, wait = recording
    assert signal.idempotency_key is not None
    return signal.with_idempotency_key("made"), wait


def test_a_credit_signal_unless_said_otherwise() -> None:
    recording = recorded(
        key="api_credit",
        member="a@b.c",
        status="SUCCESS",
        custom={"feature": "x"},
        metric={"ref": "pages", "value": 2},
        idempotency_key="chatcmpl-1",
        wait=True,
    )
    signal = CreditSignal(
        customer_id="cus_1",
        model=MODEL,
        key="api_credit",
        tokens=CHAT_TOKENS,
        member="a@b.c",
        status="SUCCESS",
        custom={"feature": "x"},
        metric={"ref": "pages", "value": 2},
        idempotency_key="chatcmpl-1",
    )
    assert recording == (signal, True)


def test_other_types() -> None:
    common: Any = {"customer_id": "cus_1", "model": MODEL, "tokens": CHAT_TOKENS, "idempotency_key": "made"}
    outcome = OutcomeSignal(**common, key="a.b", run_id="r", complete=True)
    assert without_key(recorded(type="wallet")) == (WalletSignal(**common), None)
    assert without_key(recorded(type="credit", agent_key="a")) == (
        CreditSignal(**common, agent_key="a"),
        None,
    )
    assert without_key(recorded(type="outcome", key="a.b", run_id="r", complete=True)) == (outcome, None)
    assert without_key(recorded(type="outcome", agent_key="a.b")) == (
        OutcomeSignal(**common, agent_key="a.b"),
        None,
    )


def test_a_model_given_stands() -> None:
    assert recorded(key="k", model="gpt-4o")[0].model == "gpt-4o"
    client = Recorder()
    client.signals.from_response({"usage": CONVERSE_USAGE}, customer_id="c", type="wallet", model="claude")
    assert client.recorded[0][0].model == "claude"


@pytest.mark.parametrize(
    ("argument", "response", "arguments"),
    [
        ("key", CHAT, {}),
        ("key", CHAT, {"key": "k", "agent_key": "k"}),
        ("key", CHAT, {"type": "outcome"}),
        ("key", CHAT, {"type": "wallet", "key": "k"}),
        ("agent_key", CHAT, {"type": "wallet", "agent_key": "k"}),
        ("run_id", CHAT, {"key": "k", "run_id": "r"}),
        ("run_id", CHAT, {"type": "wallet", "run_id": "r"}),
        ("complete", CHAT, {"key": "k", "complete": False}),
        ("type", CHAT, {"key": "k", "type": "unit"}),
        ("type", CHAT, {"key": "k", "type": None}),
        ("model", {"usage": CONVERSE_USAGE}, {"key": "k"}),
        ("model", CHAT, {"key": "k", "model": " "}),
        ("response", {**CHAT, "usage": None}, {"key": "k"}),
        ("response", None, {"key": "k"}),
        ("customer_id", CHAT, {"key": "k", "customer_id": ""}),
        ("member", CHAT, {"key": "k", "member": " "}),
    ],
)
def test_refusal(argument: str, response: object, arguments: dict[str, Any]) -> None:
    client = Recorder()
    arguments = {"customer_id": "cus_1", **arguments}
    with pytest.raises(ValidationError) as caught:
        client.signals.from_response(response, **arguments)
    assert caught.value.message.startswith(f"{argument}: ")
    assert client.recorded == []


class Awaitable:
    def __await__(self) -> Generator[None, None, object]:
        raise AssertionError("nothing here awaits")


class HttpResponse:
    """As httpx and requests have it."""

    status_code = 200
    headers: dict[str, str] = {}  # noqa: RUF012
    stream = b""

    def json(self) -> object:
        return CHAT

    def __iter__(self) -> Iterator[bytes]:
        raise AssertionError("the body is not read")


class Model:
    """As pydantic has it: iterating gives the fields."""

    __pydantic_fields__: dict[str, object] = {}  # noqa: RUF012

    def __init__(self) -> None:
        self.usage = CHAT["usage"]
        self.status = "completed"

    def json(self) -> str:
        raise AssertionError("it is deprecated")

    def __iter__(self) -> Iterator[tuple[str, object]]:
        yield from vars(self).items()


class EventStream:
    """As botocore has it."""

    def __iter__(self) -> Iterator[object]:
        yield from ()


async def _chunks() -> AsyncIterator[object]:
    yield CHAT


def test_what_was_not_awaited_is_no_response() -> None:
    async def answer() -> object:
        return CHAT

    signals = Recorder().signals
    coroutine = answer()
    says = "is a coroutine, not what it returns: await it first"
    with pytest.raises(ValidationError, match=f"response: {says}"):
        signals.from_response(coroutine, customer_id="cus_1", key="k")
    with pytest.raises(ValidationError, match=f"result: {says}"):
        signals.from_result(coroutine, customer_id="cus_1", key="k")
    with pytest.raises(ValidationError, match=rf"result\[1\]: {says}"):
        signals.from_result([CHAT, coroutine], customer_id="cus_1", key="k")
    with pytest.raises(ValidationError, match=f"stream: {says}"):
        signals.from_stream(coroutine, customer_id="cus_1", key="k")  # type: ignore[call-overload]
    coroutine.close()
    with pytest.raises(ValidationError, match="response: is a Awaitable, not what it returns"):
        signals.from_response(Awaitable(), customer_id="cus_1", key="k")


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (HttpResponse(), "response of an HTTP client: give what its json"),
        (iter([CHAT]), "It is a stream: meter it with signals.from_stream"),
        (aiter(_chunks()), "It is a stream: meter it with signals.from_stream"),
    ],
    ids=["http", "iterator", "asynchronous"],
)
def test_what_is_no_response_yet(response: object, says: str) -> None:
    with pytest.raises(ValidationError, match=f"response: .*{says}"):
        Recorder().signals.from_response(response, customer_id="cus_1", key="k")


@pytest.mark.parametrize(
    ("stream", "says"),
    [
        (CHAT, "is a response: use signals.from_response"),
        (Model(), "is a response: use signals.from_response"),
        ({"body": [1]}, "is a response: use signals.from_response"),
        (HttpResponse(), "is the response of an HTTP client: give its lines"),
        ("text", "is text: give what the SDK returned"),
        (b"data: {}", "is text: give what the SDK returned"),
        ({"stream": EventStream()}, r"has the stream in it: give response\['stream'\]"),
        ({"body": iter(())}, r"has the stream in it: give response\['body'\]"),
    ],
    ids=["dict", "pydantic", "no-stream", "http", "text", "bytes", "boto3", "iterator"],
)
def test_what_is_no_stream(stream: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=f"stream: {says}"):
        Recorder().signals.from_stream(stream, customer_id="cus_1", key="k")
