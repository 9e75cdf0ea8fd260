"""Recording responses, runs and streams, on clients for threads and for event loops: each exchange once."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, cast

import pytest

from clocknext_core import (
    EncodedSignal,
    NetworkError,
    Operation,
    QueueFullError,
    TrackResult,
    Unbilled,
    ValidationError,
)
from clocknext_core.resources.binding import Async, Blocking
from clocknext_core.resources.signals import Signals
from clocknext_core.resources.streams import AsyncMeteredStream, MeteredStream
from clocknext_core.usage.meter import Meter
from clocknext_core.usage.seeds import Seed
from clocknext_core.usage.streams import Drain, Partial
from tests.core.usage.shapes import CHAT_USAGE, chat, message
from tests.core.usage.test_streams import ANTHROPIC, CHAT

ID = "chatcmpl-77aa88bb"
RESPONSE = chat(CHAT_USAGE, id=ID)
WHO: Any = {"customer_id": "cus_1", "key": "chat_credit"}


class Client:
    """A client that keeps what it records; a failure set beforehand is raised once."""

    is_async = False
    cancellations: tuple[type[BaseException], ...] = ()

    def __init__(self, catalogue: list[str] | None = None, **settings: Any) -> None:
        self.recorded: list[EncodedSignal] = []
        self.held: list[EncodedSignal] = []
        self.unbilled: list[Unbilled] = []
        self.asked = self.made = 0
        self.catalogue = catalogue
        self.failure: BaseException | None = None
        self.result = TrackResult({}, idempotency_key="k", queued=True)
        self.meter = Meter(on_unbilled=self.unbilled.append, **settings)
        self.signals: Signals[Blocking] = Signals(self, self.meter)

    def run(self, operation: Operation[Any], /) -> Any:
        assert (operation.method, operation.path) == ("GET", "/api/v1/models")
        self.asked += 1
        if self.catalogue is None:
            raise NetworkError("no")
        return operation.read({"ok": True, "models": [{"modelId": each} for each in self.catalogue]})

    def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> Any:
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        self.recorded.append(encoded)
        return self.result

    def hold(self, encoded: EncodedSignal, /) -> TrackResult:
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        self.held.append(encoded)
        return self.result

    def make_key(self) -> str:
        self.made += 1
        return f"random-{self.made}"

    @property
    def reasons(self) -> list[str]:
        return [each.reason for each in self.unbilled]


class AsyncClient(Client):
    is_async = True
    cancellations: tuple[type[BaseException], ...] = ()

    def __init__(self, catalogue: list[str] | None = None, **settings: Any) -> None:
        super().__init__(catalogue, **settings)
        self.async_signals: Signals[Async] = Signals(self, self.meter)

    def run(self, operation: Operation[Any], /) -> Any:
        async def run() -> Any:
            return Client.run(self, operation)

        return run()

    def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> Any:
        async def record() -> Any:
            return Client.record(self, encoded, wait)

        return record()


KINDS = pytest.mark.parametrize("kind", [Client, AsyncClient])


def done(value: Any) -> Any:
    """Return a result, or wait for it."""
    return asyncio.run(value) if asyncio.iscoroutine(value) else value


@KINDS
def test_one_response_recorded_twice_is_billed_once(kind: type[Client]) -> None:
    client = kind()
    first = done(client.signals.from_response(RESPONSE, **WHO))
    again = done(client.signals.from_response({**RESPONSE, "model": "openai/gpt-4o"}, **WHO))
    assert first is client.result
    (encoded,) = client.recorded
    assert (again.idempotency_key, again.queued, again.raw) == (encoded.idempotency_key, True, {})
    (unbilled,) = client.unbilled
    assert (unbilled.reason, unbilled.customer_id) == ("seen_already", "cus_1")
    assert client.meter.unbilled["seen_already"] == 1
    assert sum(client.meter.unbilled.values()) == 1


@KINDS
def test_another_client_finds_the_same_key(kind: type[Client]) -> None:
    keys: set[str] = set()
    for client in (kind(), kind()):
        done(client.signals.from_response(RESPONSE, **WHO))
        keys.add(client.recorded[0].idempotency_key)
    assert len(keys) == 1


OLLAMA = {**RESPONSE, "id": "chatcmpl-523", "created": 1_700_000_000}
CONSTANT = {**RESPONSE, "id": "__fake_id__", "created": None}


@KINDS
@pytest.mark.parametrize("placeholder", [OLLAMA, CONSTANT, {**RESPONSE, "id": "1"}])
def test_a_placeholder_that_comes_again_with_its_counts_is_reported_with_what_to_do(
    kind: type[Client], placeholder: dict[str, Any]
) -> None:
    client = kind()
    for _ in range(2):
        done(client.signals.from_response(placeholder, **WHO))
    assert len(client.recorded) == 1
    (unbilled,) = client.unbilled
    assert unbilled.reason == "seen_already"
    assert unbilled.detail.endswith("if it is another response, give an idempotency_key of your own")
    done(client.signals.from_response(RESPONSE, **WHO))
    done(client.signals.from_response(RESPONSE, **WHO))
    assert client.unbilled[-1].detail == ""


@KINDS
def test_placeholders_of_other_responses_are_billed(kind: type[Client]) -> None:
    client = kind()
    done(client.signals.from_response(OLLAMA, **WHO))
    done(client.signals.from_response({**OLLAMA, "created": 1_700_000_009}, **WHO))
    assert len({each.idempotency_key for each in client.recorded}) == 2
    assert client.reasons == []


@KINDS
def test_a_constant_is_not_taken_for_recorded_by_a_client_that_comes_later(kind: type[Client]) -> None:
    keys: list[str] = []
    for client in (kind(), kind()):
        client.made = len(keys)  # random keys differ
        done(client.signals.from_response(CONSTANT, **WHO))
        done(client.signals.from_response({**CONSTANT, "id": "dummy"}, **WHO))
        keys += [each.idempotency_key for each in client.recorded]
        assert client.made == len(keys) - 1
    assert len(set(keys)) == 4
    seeded: set[str] = set()
    for _ in range(2):  # work that is done again finds its keys
        again = kind(seed=lambda: Seed("task-1"))
        done(again.signals.from_response(CONSTANT, **WHO))
        seeded.add(again.recorded[0].idempotency_key)
    assert len(seeded - {*keys}) == 1


@KINDS
def test_a_tier_at_another_price_is_another_model(kind: type[Client]) -> None:
    """Lines of batches cost half; a catalogue has one price for a model."""
    client = kind(models={"gpt-4o:batch": "gpt-4o-batch", "gpt-4o": "gpt-4o"})
    lines = [{"custom_id": name, "response": {"body": {**RESPONSE, "id": ID + name}}} for name in "ab"]
    done(client.signals.from_response(lines[0], **WHO))
    done(client.signals.from_result(lines, **WHO))
    done(client.signals.from_response({**RESPONSE, "id": ID + "c"}, **WHO))
    assert [each.signal.model for each in client.recorded] == ["gpt-4o-batch"] * 2 + ["gpt-4o"]
    assert client.reasons == ["seen_already"]


@KINDS
def test_a_key_of_the_callers_own_stands(kind: type[Client]) -> None:
    client = kind()
    for _ in range(2):
        done(client.signals.from_response(RESPONSE, **WHO, idempotency_key="mine"))
    assert [each.idempotency_key for each in client.recorded] == ["mine", "mine"]
    assert client.reasons == []


@KINDS
def test_what_was_not_recorded_may_be_recorded_again(kind: type[Client]) -> None:
    client = kind()
    client.failure = NetworkError("gone")
    with pytest.raises(NetworkError):
        done(client.signals.from_response(RESPONSE, **WHO, wait=True))
    client.result = TrackResult({}, idempotency_key="k", queued=True, dropped="queue_full")
    done(client.signals.from_response(RESPONSE, **WHO))
    client.result = TrackResult({}, idempotency_key="k", queued=True)
    done(client.signals.from_response(RESPONSE, **WHO))
    assert len(client.recorded) == 2
    assert client.reasons == []


@KINDS
def test_the_model_is_the_catalogues(kind: type[Client]) -> None:
    plain, exact, renamed = kind(), kind(models=None), kind(models={"gpt-4o": "four"})
    for client, expected in ((plain, "gpt-4o"), (exact, "gpt-4o-2024-08-06"), (renamed, "four")):
        done(client.signals.from_response(RESPONSE, **WHO))
        assert client.recorded[0].signal.model == expected
    given = kind(models={"gpt-4o": "four"})
    done(given.signals.from_response(RESPONSE, **WHO, model="gpt-4o-2024-08-06"))
    assert given.recorded[0].signal.model == "gpt-4o-2024-08-06"


@KINDS
def test_the_workspace_is_asked_once(kind: type[Client]) -> None:
    client = kind(["gpt-4o-2024-08-06", "gpt-4o"], models="workspace")
    for place in range(2):
        done(client.signals.from_response({**RESPONSE, "id": f"{ID}{place}"}, **WHO))
    assert [each.signal.model for each in client.recorded] == ["gpt-4o-2024-08-06"] * 2
    assert client.asked == 1
    given = kind([], models="workspace")
    done(given.signals.from_response(RESPONSE, **WHO, model="m"))
    assert given.asked == 0


@KINDS
def test_a_workspace_that_can_not_be_asked_costs_nothing(kind: type[Client]) -> None:
    client = kind(None, models="workspace")
    for place in range(2):
        done(client.signals.from_response({**RESPONSE, "id": f"{ID}{place}"}, **WHO))
    assert [each.signal.model for each in client.recorded] == ["gpt-4o"] * 2
    assert client.asked == 1


@KINDS
def test_what_has_no_field_goes_into_custom(kind: type[Client]) -> None:
    client = kind()
    usage = {"input_tokens": 9, "output_tokens": 4, "server_tool_use": {"web_search_requests": 2}}
    answer = message({**usage, "service_tier": "priority"}, id="msg_01XFDUDYJgAACzvn")
    done(client.signals.from_response(answer, **WHO, custom={"feature": "x"}))
    extra = {"web_search_requests": 2, "tier": "priority"}
    assert client.recorded[0].signal.custom == {"usage": extra, "feature": "x"}
    own = {"usage": "mine"}
    done(client.signals.from_response({**answer, "id": "msg_02XFDUDYJgAACzvn"}, **WHO, custom=own))
    assert client.recorded[1].signal.custom == own
    done(client.signals.from_response(RESPONSE, **WHO))
    assert client.recorded[2].signal.custom is None


def run_of(*ids: str | None) -> dict[str, object]:
    return {
        "messages": [
            {
                "type": "ai",
                "usage_metadata": {"input_tokens": 9, "output_tokens": place, "total_tokens": 9 + place},
                "response_metadata": {"id": each, "model_name": "gpt-4o"},
            }
            for place, each in enumerate(ids, 1)
        ]
    }


@KINDS
def test_a_run_is_recorded_request_by_request(kind: type[Client]) -> None:
    client = kind()
    result = run_of("chatcmpl-aaaaaaaa", "chatcmpl-bbbbbbbb")
    assert done(client.signals.from_result(result, **WHO)) == [client.result] * 2
    tokens = [each.signal.tokens for each in client.recorded]
    assert [each.output for each in tokens if each] == [1, 2]
    # The state of the next run has the messages of this one, too.
    longer = run_of("chatcmpl-aaaaaaaa", "chatcmpl-bbbbbbbb", "chatcmpl-cccccccc")
    results = done(client.signals.from_result(longer, **WHO))
    assert [each.raw for each in results] == [{}, {}, {}]
    assert len(client.recorded) == 3
    assert client.reasons == ["seen_already"] * 2


@KINDS
def test_the_last_request_completes_and_each_has_a_key_of_its_own(kind: type[Client]) -> None:
    client = kind()
    own: Any = {"type": "outcome", "run_id": "r", "complete": True, "idempotency_key": "mine"}
    done(client.signals.from_result(run_of(None, None), **WHO, **own))
    signals = [cast("Any", each.signal) for each in client.recorded]
    assert [(each.complete, each.idempotency_key) for each in signals] == [(None, "mine/1"), (True, "mine/2")]
    one = kind()
    done(one.signals.from_result(run_of(None), **WHO, **own))
    assert one.recorded[0].idempotency_key == "mine"


@KINDS
def test_a_model_given_is_for_requests_that_name_none(kind: type[Client]) -> None:
    client = kind()
    usage = {"input_tokens": 9, "output_tokens": 4}
    result = [{"usage": usage}, {"usage": usage, "model": "gpt-4o"}]
    done(client.signals.from_result(result, **WHO, model="claude"))
    assert [each.signal.model for each in client.recorded] == ["claude", "gpt-4o"]
    assert [each.idempotency_key for each in client.recorded] == ["random-1", "random-2"]


@KINDS
def test_nothing_of_a_run_is_recorded_if_one_request_can_not_be(kind: type[Client]) -> None:
    client = kind()
    result = [RESPONSE, {"usage": {"input_tokens": 9, "output_tokens": 4}}]
    with pytest.raises(ValidationError, match=r"^model: is required"):
        done(client.signals.from_result(result, **WHO))
    assert client.recorded == []


# Streams, for threads


def test_the_chunks_pass_and_the_end_is_recorded() -> None:
    client = Client()
    stream = client.signals.from_stream(iter(CHAT), **WHO)
    assert isinstance(stream, MeteredStream)
    assert list(stream) == CHAT
    (encoded,) = client.held
    signal = encoded.signal
    assert (signal.model, signal.tokens and signal.tokens.cache) == ("gpt-4o", 1920)
    assert client.recorded == []
    assert next(stream, None) is None
    stream.close()
    del stream
    assert len(client.held) == 1
    # The answer of the same exchange, seen by another layer, is not billed again.
    client.signals.from_response(RESPONSE, **WHO)
    assert client.recorded == []
    assert client.reasons == ["seen_already"]


def left(how: str) -> str:
    """What is said of a stream that was left so."""
    return f"the stream was broken off ({how})"


class Source:
    """A stream as SDKs have it: a context manager with a response, which can be closed."""

    response = "the response"

    def __init__(self, chunks: list[Any], error: BaseException | None = None) -> None:
        self.chunks = iter(chunks)
        self.error = error
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        yield from self.chunks
        if self.error is not None:
            raise self.error

    def __enter__(self) -> "Source":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise AssertionError("the wrapper closes the stream")

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("response_id", ["chatcmpl-523", "__fake_id__"])
def test_two_streams_with_a_placeholder_and_equal_counts_are_two_calls(response_id: str) -> None:
    client = Client()
    for _ in range(2):
        chunks = [chat(CHAT_USAGE, id=response_id, choices=[])]
        assert [*client.signals.from_stream(iter(chunks), **WHO)] == chunks
    assert len({each.idempotency_key for each in client.held}) == 2
    assert client.reasons == []


def test_a_stream_that_was_recorded_before_is_reported() -> None:
    client = Client()
    for _ in range(2):
        list(client.signals.from_stream(CHAT, **WHO))
    assert (len(client.held), client.reasons) == (1, ["seen_already"])


def test_a_plain_iterator_in_a_block() -> None:
    client = Client()
    with client.signals.from_stream(iter(CHAT), **WHO) as stream:
        assert list(stream) == CHAT
        assert not hasattr(stream, "_private")
        assert not hasattr(stream, "response")
    assert len(client.held) == 1


def test_what_is_not_billed_is_counted_without_a_hook() -> None:
    client = Client()
    client.meter = Meter()
    client.signals = Signals(client, client.meter)
    list(client.signals.from_stream(CHAT[:2], **WHO))
    assert client.meter.unbilled["no_usage"] == 1


def test_a_block_that_is_left_early_is_reported() -> None:
    client = Client()
    source = Source(CHAT)
    with client.signals.from_stream(source, **WHO) as stream:
        assert cast("Any", stream).response == "the response"
        assert "MeteredStream of Source" in repr(stream)
        for _ in stream:
            break
    assert source.closed == 1
    assert client.held == []
    (unbilled,) = client.unbilled
    assert (unbilled.reason, unbilled.customer_id) == ("partial", "cus_1")
    assert unbilled.detail == left("break")


def test_a_stream_that_is_closed_or_whose_source_is_says_so() -> None:
    client = Client()
    stream = client.signals.from_stream(Source(CHAT), **WHO)
    next(stream)
    stream.close()
    early = client.signals.from_stream(Source(CHAT), **WHO)
    next(early)
    early.end_early()
    assert [each.detail for each in client.unbilled] == [left("closed")] * 2


class ToBeEntered(Source):
    """A stream that makes another one as it is entered, as OpenAI's manager does."""

    def __init__(self) -> None:
        super().__init__([])

    def __enter__(self) -> Source:
        return Source(CHAT)


class EnteredInPlace(Source):
    """A stream whose `__enter__` returns nothing."""

    def __enter__(self) -> None:  # type: ignore[override]
        self.chunks = iter(CHAT)


@pytest.mark.parametrize("make", [ToBeEntered, lambda: EnteredInPlace([])])
def test_a_block_of_a_stream_that_has_to_be_entered(make: Callable[[], Source]) -> None:
    client = Client()
    with client.signals.from_stream(make(), **WHO) as stream:
        assert [*stream] == CHAT
    assert (len(client.held), client.unbilled) == (1, [])


def test_an_error_in_the_block_is_the_callers() -> None:
    client = Client()
    for error in (RuntimeError, KeyboardInterrupt):

        def fail(error: type[BaseException] = error) -> None:
            with client.signals.from_stream(Source(CHAT), **WHO) as stream:
                next(stream)
                raise error

        with pytest.raises(error):
            fail()
    assert client.reasons == ["partial", "partial"]
    assert [each.detail for each in client.unbilled] == [left("break"), left("cancelled")]


@pytest.mark.parametrize(("error", "how"), [(ValueError(), "failed"), (KeyboardInterrupt(), "cancelled")])
def test_an_error_of_the_stream_is_raised_and_reported(error: BaseException, how: str) -> None:
    client = Client()
    stream = client.signals.from_stream(Source(ANTHROPIC[:3], error), **WHO)
    with pytest.raises(type(error)):
        list(stream)
    (unbilled,) = client.unbilled
    assert unbilled.detail == left(how)
    assert unbilled.reading is not None


def test_an_error_before_the_first_chunk_is_no_exchange() -> None:
    client = Client()
    with pytest.raises(ValueError, match="refused"):
        list(client.signals.from_stream(Source([], ValueError("refused")), **WHO))
    assert (client.held, client.unbilled) == ([], [])


def test_a_stream_that_is_forgotten_is_reported() -> None:
    client = Client()
    for _ in client.signals.from_stream(iter(CHAT), **WHO):
        break
    gc.collect()
    assert client.reasons == ["partial"]
    assert client.unbilled[0].detail == left("collected")
    with pytest.raises(ValidationError):
        client.signals.from_stream(3, **WHO)  # type: ignore[call-overload]
    gc.collect()
    assert client.reasons == ["partial"]


def test_draining_reads_what_the_caller_left() -> None:
    client = Client()
    source = Source(CHAT)
    with client.signals.from_stream(source, **WHO, on_abort=Drain()) as stream:
        next(stream)
    assert (len(client.held), client.unbilled, source.closed) == (1, [], 1)


def test_draining_has_bounds() -> None:
    times = iter([0.0, 0.0, 11.0])
    for settings, policy in (({}, Drain(max_chunks=1)), ({"clock": lambda: next(times)}, Drain())):
        client = Client(**cast("Any", settings))
        with client.signals.from_stream(Source(CHAT), **WHO, on_abort=policy) as stream:
            next(stream)
        assert client.reasons == ["partial"]


def test_draining_to_an_end_without_usage() -> None:
    client = Client()
    with client.signals.from_stream(Source(CHAT[:3]), **WHO, on_abort=Drain()) as stream:
        next(stream)
    assert client.reasons == ["no_usage"]


def test_draining_that_fails_is_not_the_callers() -> None:
    client = Client()
    with client.signals.from_stream(Source(CHAT[:2], ValueError()), **WHO, on_abort=Drain()) as stream:
        next(stream)
    assert client.reasons == ["partial"]


def test_an_estimate_is_recorded() -> None:
    def estimate(partial: Partial) -> dict[str, int | None]:
        return {"input": 10, "output": partial.chunks}

    client = Client()
    stream = client.signals.from_stream(Source(CHAT), **WHO, on_abort=estimate)
    next(stream)
    stream.close()
    (encoded,) = client.held
    assert (encoded.signal.tokens and encoded.signal.tokens.output) == 1


def test_a_stream_whose_end_can_not_be_recorded_breaks_nothing() -> None:
    client = Client()
    nameless = [
        {"type": "message-end", "delta": {"usage": {"billed_units": {"input_tokens": 6, "output_tokens": 2}}}}
    ]
    assert list(client.signals.from_stream(nameless, **WHO)) == nameless
    assert (client.reasons, client.unbilled[0].detail[:18]) == (["unknown_shape"], "model: is required")
    for failure in (QueueFullError("full"), RuntimeError("closed")):
        client.failure = failure
        assert list(client.signals.from_stream(CHAT, **WHO)) == CHAT
    assert [each.detail for each in client.unbilled[1:]] == ["full", "RuntimeError"]
    list(client.signals.from_stream(CHAT, **WHO))
    assert len(client.held) == 1


def test_a_hook_that_raises_breaks_no_stream() -> None:
    def hook(_: Unbilled) -> None:
        raise RuntimeError

    client = Client()
    client.meter = Meter(on_unbilled=hook)
    client.signals = Signals(client, client.meter)
    assert list(client.signals.from_stream(CHAT[:2], **WHO)) == CHAT[:2]
    assert client.meter.unbilled["no_usage"] == 1


@pytest.mark.parametrize(
    ("argument", "arguments"),
    [
        ("key", {"customer_id": "c"}),
        ("customer_id", {"customer_id": "", "key": "k"}),
        ("type", {**WHO, "type": "unit"}),
        ("model", {**WHO, "model": ""}),
        ("run_id", {**WHO, "run_id": "r"}),
        ("custom", {**WHO, "custom": {"a": {1}}}),
        ("on_abort", {**WHO, "on_abort": "bill"}),
        ("stream", WHO),
    ],
)
def test_a_bad_argument_is_an_error_before_the_first_chunk(argument: str, arguments: dict[str, Any]) -> None:
    client = Client()
    stream: Any = 3 if argument == "stream" else iter(CHAT)
    with pytest.raises(ValidationError, match=f"^{argument}: "):
        client.signals.from_stream(stream, **arguments)
    unknown: Any = {"words": 3}
    with pytest.raises(TypeError):
        client.signals.from_stream(stream, **WHO, **unknown)


# Streams, for event loops


class AsyncSource:
    """A stream of an asynchronous SDK."""

    def __init__(
        self, chunks: list[Any], error: BaseException | None = None, *, closing: str = "close"
    ) -> None:
        self.chunks = chunks
        self.error = error
        self.closed = 0
        setattr(self, closing, self._close)

    async def _close(self) -> None:
        self.closed += 1

    async def __aiter__(self) -> AsyncIterator[Any]:
        for chunk in self.chunks:
            yield chunk
        if self.error is not None:
            raise self.error


class Entered(AsyncSource):
    async def __aenter__(self) -> None:
        self.chunks = CHAT


class EnteredAnew(AsyncSource):
    async def __aenter__(self) -> AsyncSource:
        return AsyncSource(CHAT)


def wrapped(client: AsyncClient, source: Any, **more: Any) -> AsyncMeteredStream[Any]:
    chunks: AsyncIterator[Any] = source
    return client.async_signals.from_stream(chunks, **WHO, **more)


def in_a_loop(test: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await test()

    asyncio.run(run())


def test_the_chunks_pass_asynchronously() -> None:
    client = AsyncClient()

    async def test() -> None:
        stream = wrapped(client, AsyncSource(CHAT))
        assert [chunk async for chunk in stream] == CHAT

    in_a_loop(test)
    assert len(client.held) == 1


@pytest.mark.parametrize("closing", ["close", "aclose"])
def test_an_asynchronous_block_that_is_left_early(closing: str) -> None:
    client = AsyncClient()
    source = AsyncSource(CHAT, closing=closing)

    async def test() -> None:
        async with wrapped(client, source) as stream:
            async for _ in stream:
                break
        await getattr(wrapped(client, source), closing)()

    in_a_loop(test)
    assert source.closed == 2
    assert client.reasons == ["partial", "partial"]
    assert [each.detail for each in client.unbilled] == [left("break"), left("closed")]


@pytest.mark.parametrize("kind", [Entered, EnteredAnew])
def test_an_asynchronous_block_of_a_stream_that_has_to_be_entered(kind: type[AsyncSource]) -> None:
    client = AsyncClient()

    async def test() -> None:
        async with wrapped(client, kind([])) as stream:
            assert [chunk async for chunk in stream] == CHAT

    in_a_loop(test)
    assert (len(client.held), client.unbilled) == (1, [])


@pytest.mark.parametrize(
    ("error", "how"), [(ValueError(), "failed"), (asyncio.CancelledError(), "cancelled")]
)
def test_an_error_of_an_asynchronous_stream(error: BaseException, how: str) -> None:
    client = AsyncClient()

    async def test() -> None:
        with pytest.raises(type(error)):
            async for _ in wrapped(client, AsyncSource(ANTHROPIC[:3], error)):
                pass

    in_a_loop(test)
    assert client.unbilled[0].detail == left(how)


def test_a_cancelled_block_is_not_drained() -> None:
    client = AsyncClient()

    async def test() -> None:
        async with wrapped(client, AsyncSource(CHAT), on_abort=Drain()) as stream:
            await anext(stream)
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        in_a_loop(test)
    assert client.unbilled[0].detail == left("cancelled")


def test_draining_asynchronously() -> None:
    full, failing, cut = AsyncClient(), AsyncClient(), AsyncClient()

    async def test() -> None:
        for client, error in ((full, None), (failing, ValueError())):
            chunks = CHAT if error is None else CHAT[:2]
            async with wrapped(client, AsyncSource(chunks, error), on_abort=Drain()) as stream:
                await anext(stream)
        with pytest.raises(asyncio.CancelledError):
            async with wrapped(
                cut, AsyncSource(CHAT[:2], asyncio.CancelledError()), on_abort=Drain()
            ) as stream:
                await anext(stream)

    in_a_loop(test)
    assert (len(full.held), full.unbilled) == (1, [])
    assert failing.reasons == cut.reasons == ["partial"]
    assert (failing.unbilled[0].detail, cut.unbilled[0].detail) == (left("break"), left("cancelled"))
    bounded = AsyncClient()

    async def bounds() -> None:
        async with wrapped(bounded, AsyncSource(CHAT), on_abort=Drain(max_chunks=1)) as stream:
            await anext(stream)

    in_a_loop(bounds)
    assert bounded.reasons == ["partial"]


def test_draining_asynchronously_to_an_end_without_usage() -> None:
    client = AsyncClient()

    async def plain() -> AsyncIterator[Any]:
        for chunk in CHAT[:3]:
            yield chunk

    class Bare:
        """A stream that can't be closed."""

        def __aiter__(self) -> AsyncIterator[Any]:
            return plain()

    async def test() -> None:
        for source in (Bare(), plain()):
            async with wrapped(client, source, on_abort=Drain()) as stream:
                await anext(stream)

    in_a_loop(test)
    assert client.reasons == ["no_usage", "no_usage"]
