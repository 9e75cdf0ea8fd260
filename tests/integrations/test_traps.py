"""Traps between a model and a bill that users of other meters fell into, with the real packages.

What is a trap of every package alike, such as streams that are left, is in the contract.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from clocknext_core import Unbilled
from clocknext_core.usage.streams import Drain
from clocknext_transports import ClockNext
from clocknext_transports.emulator import Completion, EmulatorServer, ModelServer
from tests.integrations.adapters import (
    ADAPTERS,
    FORGED,
    MESSAGES,
    Adapter,
    AnthropicSync,
    LangChainSync,
    LiteLLMAsync,
    LiteLLMSync,
    OpenAISync,
)
from tests.integrations.conftest import Billed, Reports
from tests.integrations.test_contract import WHO, answer, counts, reasons

pytestmark = pytest.mark.filterwarnings("ignore")

ASK: dict[str, Any] = {"model": "gpt-4o", "messages": MESSAGES}


@pytest.fixture
def openai(models: ModelServer, cnk: ClockNext) -> OpenAISync:
    return OpenAISync(models.url, cnk)


@pytest.fixture
def anthropic(models: ModelServer, cnk: ClockNext) -> AnthropicSync:
    return AnthropicSync(models.url, cnk)


@pytest.fixture
def litellm(models: ModelServer, cnk: ClockNext) -> LiteLLMSync:
    return LiteLLMSync(models.url, cnk)


@pytest.fixture
def langchain(models: ModelServer, cnk: ClockNext) -> LangChainSync:
    return LangChainSync(models.url, cnk)


def made(name: str, models: ModelServer, cnk: ClockNext) -> Adapter:
    """Make an adapter, where its package is installed."""
    ADAPTERS[name].imported()
    return ADAPTERS[name](models.url, cnk)


@pytest.fixture
def scope(cnk: ClockNext) -> Iterator[None]:
    with cnk.billing(**WHO):  # type: ignore[arg-type]
        yield


# 1. Usage comes in the last chunk alone, and only if asked for


@pytest.mark.usefixtures("scope")
def test_trap_1_usage_is_asked_for_and_the_chunk_that_the_user_did_not_ask_for_is_left_out(
    openai: OpenAISync, models: ModelServer, billed: Billed, reports: list[Unbilled]
) -> None:
    models.script(answer(openai), answer(openai))
    create = openai.client.chat.completions.create
    assert all(chunk.choices for chunk in create(**ASK, stream=True))
    asked = list(create(**ASK, stream=True, stream_options={"include_usage": True}))
    assert [bool(chunk.choices) for chunk in asked[-2:]] == [True, False]
    assert [request.body["stream_options"] for request in models.requests] == [{"include_usage": True}] * 2
    assert counts(billed) == [(12, 7, 0), (12, 7, 0)]
    assert reports == []


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize("how", ["stream_options", "extra_body"])
def test_trap_1_an_explicit_false_is_respected_and_reported(
    how: str, openai: OpenAISync, models: ModelServer, billed: Billed, reports: list[Unbilled]
) -> None:
    models.script(answer(openai))
    no = {"include_usage": False}
    options: dict[str, Any] = {how: no if how == "stream_options" else {"stream_options": no}}
    list(openai.client.chat.completions.create(**ASK, stream=True, **options))
    assert models.requests[0].body["stream_options"] == no
    assert reasons(reports) == ["no_usage"]
    assert billed() == ()


@pytest.mark.usefixtures("scope")
def test_trap_1_the_empty_chunk_that_azure_begins_with_is_passed_on(
    openai: OpenAISync, models: ModelServer, billed: Billed
) -> None:
    models.script(answer(openai, has_empty_chunk=True))
    chunks = list(openai.client.chat.completions.create(**ASK, stream=True))
    assert [len(chunk.choices) for chunk in chunks].count(0) == 1
    assert not chunks[0].choices
    assert counts(billed) == [(12, 7, 0)]


# 2. Aborts are charged all the same


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize("how", ["break", "close", "collected"])
def test_trap_2_a_policy_that_drains_reads_what_an_aborted_stream_costs(
    how: str, models: ModelServer, cnk: ClockNext, billed: Billed, reports: Reports
) -> None:
    adapter = OpenAISync(models.url, cnk, on_abort=Drain())
    models.script(answer(adapter, text="word " * 50))
    if how == "break":
        with adapter.client.chat.completions.create(**ASK, stream=True) as stream:
            for _ in stream:
                break
    else:
        adapter.leave(how)
    if how == "collected":  # a finalizer reads no network
        assert reasons(reports) == ["partial"]
        assert billed() == ()
    else:
        assert counts(billed) == [(12, 7, 0)]
        assert reports == []


@pytest.mark.usefixtures("scope")
def test_trap_2_draining_ends_at_its_bound(
    models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    adapter = OpenAISync(models.url, cnk, on_abort=Drain(max_chunks=3))
    models.script(answer(adapter, text="word " * 50))
    adapter.leave("close")
    assert reasons(reports) == ["partial"]
    assert billed() == ()


# 3. Two layers see one call


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("is_trusted", [True, False])
def test_trap_3_langchain_over_a_metered_client_is_one_bill(
    is_trusted: bool,
    streamed: bool,
    openai: OpenAISync,
    langchain: LangChainSync,
    models: ModelServer,
    cnk: ClockNext,
    billed: Billed,
    reports: list[Unbilled],
) -> None:
    langchain_openai = langchain.imported()
    completions = openai.client.chat.completions
    chat = langchain_openai.ChatOpenAI(
        model="gpt-4o", client=completions, root_client=openai.client, async_client=completions,
        api_key="sk-test", callbacks=[langchain.handler], stream_usage=True,
    )  # fmt: skip
    own = {} if is_trusted else {"response_id": "chatcmpl-523"}
    models.script(answer(openai, cached_tokens=5, **own), answer(openai, cached_tokens=5, **own))
    for _ in range(2):
        with cnk.billing(**WHO):  # type: ignore[arg-type]
            assert "".join(str(c.content) for c in chat.stream("?")) if streamed else chat.invoke("?").content
    assert counts(billed) == [(7, 7, 5), (7, 7, 5)]
    assert reasons(reports) == ["seen_already"] * 2


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize("streamed", [False, True])
def test_trap_3_litellm_over_a_metered_client_is_one_bill(
    streamed: bool,
    openai: OpenAISync,
    litellm: LiteLLMSync,
    models: ModelServer,
    billed: Billed,
    reports: list[Unbilled],
) -> None:
    models.script(answer(openai))
    litellm.call["client"] = openai.client
    assert (litellm.read() if streamed else litellm.complete()) == "One two three."
    litellm.settle(1)
    assert counts(billed) == [(12, 7, 0)]
    assert reasons(reports) == ["seen_already"]


# 4. LiteLLM calls both halves of its callbacks


@pytest.mark.usefixtures("scope")
def test_trap_4_both_callbacks_of_litellm_for_one_call_are_one_bill(
    models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    adapter = LiteLLMAsync(models.url, cnk)
    logger = adapter.litellm.callbacks[0]
    seen: list[dict[str, Any]] = []
    hand_over = logger.log_success_event

    def twice(kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object) -> None:
        seen.append(kwargs)
        hand_over(kwargs, response_obj, start_time, end_time)
        # What the other half gets is the same call, or a copy of what belongs to it.
        hand_over(dict(kwargs), response_obj, start_time, end_time)

    logger.log_success_event = twice
    models.script(answer(adapter))
    adapter.complete()
    assert seen
    assert counts(billed) == [(12, 7, 0)]
    assert reports == []


@pytest.mark.usefixtures("scope")
def test_trap_4_a_router_that_falls_back_is_one_bill(
    litellm: LiteLLMSync, models: ModelServer, billed: Billed, reports: list[Unbilled]
) -> None:
    models.script(Completion(status=500), answer(litellm, model="gpt-4o-mini"))
    call = {name: value for name, value in litellm.call.items() if name != "messages"}
    deployments = [
        {"model_name": name, "litellm_params": {**call, "model": f"openai/{name}"}}
        for name in ("gpt-4o", "gpt-4o-mini")
    ]
    router = litellm.litellm.Router(deployments, fallbacks=[{"gpt-4o": ["gpt-4o-mini"]}], num_retries=0)
    router.completion("gpt-4o", MESSAGES, metadata={**FORGED})
    litellm.settle(1)
    assert len(models.requests) == 2
    assert [(log.model, log.input_tokens) for log in billed()] == [("gpt-4o-mini", 12)]
    assert reports == []


@pytest.mark.parametrize("is_open", [True, False])
def test_trap_4_a_judge_that_a_router_asks_is_a_call_of_the_block_and_of_no_one_else(
    is_open: bool,
    litellm: LiteLLMSync,
    models: ModelServer,
    cnk: ClockNext,
    billed: Billed,
    reports: list[Unbilled],
) -> None:
    """The judge is asked while the call is open, its answer has the same counts, and both name a customer."""
    models.script(answer(litellm), answer(litellm))
    judged: list[object] = []

    def log_pre_api_call(*_arguments: object, **_more: object) -> None:
        if not judged:
            judged.append(None)
            litellm.litellm.completion(**litellm.call, metadata={**FORGED})

    base: Any = import_module("litellm.integrations.custom_logger").CustomLogger
    judge: Any = type("Judge", (base,), {"log_pre_api_call": log_pre_api_call})
    litellm.litellm.callbacks.append(judge())
    with cnk.billing(**WHO) if is_open else nullcontext():  # type: ignore[arg-type]
        litellm.litellm.completion(**litellm.call, metadata={**FORGED})
        litellm.settle(2)
    assert len(models.requests) == 2
    assert counts(billed) == [(12, 7, 0)] * (2 if is_open else 0)
    assert reasons(reports) == ([] if is_open else ["unattributed"] * 2)


BRIDGES: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "responses": lambda litellm, call: litellm.responses(input="Hello?", **call),
    "responses over messages": lambda litellm, call: litellm.responses(
        input="Hello?",
        **{**call, "model": "anthropic/claude-sonnet-4", "api_base": call["api_base"].removesuffix("/v1")},
    ),
    "chat over responses": lambda litellm, call: litellm.completion(
        messages=MESSAGES, **{**call, "model": "openai/responses/gpt-4o"}
    ),
}


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize(
    ("bridge", "streamed", "has_usage"),
    [(bridge, streamed, True) for bridge in BRIDGES for streamed in (False, True)]
    + [("responses", True, False), ("chat over responses", True, False)],
)
def test_trap_4_a_call_that_litellm_takes_over_to_another_api_is_one_bill(
    bridge: str,
    streamed: bool,
    has_usage: bool,
    litellm: LiteLLMSync,
    models: ModelServer,
    billed: Billed,
    reports: Reports,
) -> None:
    models.script(answer(litellm, cached_tokens=5, has_usage=has_usage))
    call = {name: value for name, value in litellm.call.items() if name != "messages"}
    result = BRIDGES[bridge](litellm.litellm, {**call, "stream": streamed})
    if streamed:
        assert [*result]
    litellm.settle(1)
    assert counts(billed) == ([(7, 7, 5)] if has_usage else [])
    assert reasons(reports) == ([] if has_usage else ["no_usage"])


# 5. A framework's own cache calls back with full usage


@pytest.mark.usefixtures("scope")
def test_trap_5_an_answer_of_litellms_cache_is_not_billed(
    litellm: LiteLLMSync, models: ModelServer, billed: Billed, reports: list[Unbilled]
) -> None:
    litellm.litellm.cache = import_module("litellm.caching.caching").Cache(type="local")
    try:
        models.script(answer(litellm))
        for _ in range(2):
            litellm.litellm.completion(**litellm.call, caching=True)
            litellm.settle(1)
    finally:
        litellm.litellm.cache = None
    assert len(models.requests) == 1
    assert counts(billed) == [(12, 7, 0)]
    assert reasons(reports) == ["cache_hit"]


@pytest.mark.usefixtures("scope")
def test_trap_5_an_answer_of_langchains_cache_is_not_billed(
    langchain: LangChainSync, models: ModelServer, billed: Billed, reports: list[Unbilled]
) -> None:
    langchain.chat.cache = import_module("langchain_core.caches").InMemoryCache()
    models.script(answer(langchain))
    assert langchain.complete() == langchain.complete() == "One two three."
    assert len(models.requests) == 1
    assert counts(billed) == [(12, 7, 0)]
    assert reasons(reports) == ["cache_hit"]


# 8. Retries happen inside one call


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize("name", ["openai", "anthropic"])  # hooked around all attempts, and in each
def test_trap_8_attempts_that_fail_inside_one_call_cost_nothing(
    name: str,
    request: pytest.FixtureRequest,
    models: ModelServer,
    billed: Billed,
    reports: list[Unbilled],
) -> None:
    adapter = request.getfixturevalue(name)
    models.script(
        Completion(status=500, retry_after="0"), Completion(status=429, retry_after="0"), answer(adapter)
    )
    assert adapter.read() == "One two three."
    assert len(models.requests) == 3
    assert counts(billed) == [(12, 7, 0)]
    assert reports == []


# 9. Background responses answer elsewhere and later, and are read more than once


def test_trap_9_a_background_response_is_billed_once_to_whom_it_was_begun_for(
    openai: OpenAISync, models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    models.script(answer(openai, response_id="resp_7f3a00c0ffee"))
    with cnk.billing(customer_id="cus_123", key="chat_credit", member="first@b.c"):
        begun = openai.client.responses.create(model="gpt-4o", input="Hello?", background=True)
    assert begun.status == "queued"
    with cnk.billing(customer_id="cus_123", key="chat_credit", member="other@b.c"):
        read = [openai.client.responses.retrieve(begun.id) for _ in range(3)]
    assert read[-1].status == "completed"
    (log,) = billed()
    assert (log.member, log.input_tokens, log.output_tokens) == ("first@b.c", 12, 7)
    assert {*reasons(reports)} <= {"seen_already"}


def test_trap_9_the_lines_of_a_batch_are_billed_once_each_under_the_price_of_batches(
    service: EmulatorServer,
) -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}
    lines = [
        {
            "custom_id": f"request-{number}",
            "response": {
                "status_code": 200,
                "body": {"id": f"chatcmpl-7f3a00c0ffe{number}", "model": "gpt-4o-2024-08-06", "usage": usage},
            },
        }
        for number in range(2)
    ]
    with ClockNext(service.api_key, base_url=service.url) as cnk:
        for line in (*lines, lines[0]):  # a file of results is read more than once
            cnk.signals.from_response(line, model="gpt-4o-batch", customer_id="cus_123", key="chat_credit")
    assert [log.model for log in service.ledger.signals] == ["gpt-4o-batch"] * 2
    assert [log.custom for log in service.ledger.signals] == [{"usage": {"tier": "batch"}}] * 2


def test_trap_9_batches_of_each_provider_are_billed_at_their_price_once_the_client_is_told(
    service: EmulatorServer,
) -> None:
    """The API has one price for a model: `models=` takes the batches of a model to an entry of their own."""
    usage = {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}
    native = {"input_tokens": 12, "output_tokens": 7}
    lines: list[object] = [
        {
            "custom_id": "1",
            "response": {"body": {"id": "chatcmpl-7f3a01c0ffee", "model": "gpt-4o", "usage": usage}},
        },
        {
            "custom_id": "2",
            "result": {
                "type": "succeeded",
                "message": {
                    "id": "msg_7f3a02c0ffee",
                    "model": "gpt-4o",
                    "stop_reason": "end_turn",
                    "usage": native,
                },
            },
        },
        {
            "key": "3",
            "response": {
                "responseId": "7f3a03c0ffee",
                "modelVersion": "gpt-4o",
                "candidates": [{"finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 12, "candidatesTokenCount": 7, "totalTokenCount": 19},
            },
        },
        {"recordId": "4", "modelOutput": {"id": "msg_7f3a04c0ffee", "model": "gpt-4o", "usage": native}},
    ]
    half = {"gpt-4o:batch": "gpt-4o-batch"}
    with ClockNext(service.api_key, base_url=service.url, models=half) as cnk:
        for line in lines:
            cnk.signals.from_response(line, **WHO)  # type: ignore[arg-type]
        cnk.signals.from_result(lines, **WHO)  # type: ignore[arg-type]
        cnk.signals.from_response({"id": "chatcmpl-7f3a05c0ffee", "model": "gpt-4o", "usage": usage}, **WHO)  # type: ignore[arg-type]
        assert cnk.flush(30.0).failed == []
        logs = service.ledger.signals
    assert sorted(log.model for log in logs) == ["gpt-4o", *["gpt-4o-batch"] * 4]
    costs = {log.model: log.provided_cost for log in logs}
    assert costs["gpt-4o-batch"] * 2 == costs["gpt-4o"]


# 10. Helpers that escape wrappers


def _raw(client: Any) -> object:
    return client.chat.completions.with_raw_response.create(**ASK).parse()


def _streaming_response(client: Any) -> object:
    with client.chat.completions.with_streaming_response.create(**ASK) as response:
        return response.parse()


def _parse(client: Any) -> object:
    word = import_module("pydantic").create_model("Word", word=str)
    return client.chat.completions.parse(**ASK, response_format=word)


def _stream_helper(client: Any) -> object:
    with client.chat.completions.stream(**ASK) as stream:
        return [*stream]


def _raw_stream(client: Any) -> object:
    return [*client.chat.completions.with_raw_response.create(**ASK, stream=True).parse()]


HELPERS: list[Callable[[Any], object]] = [
    _raw,
    _streaming_response,
    _parse,
    _stream_helper,
    _raw_stream,
    lambda client: client.with_options(timeout=5).chat.completions.create(**ASK),
    lambda client: client.copy().copy(max_retries=0).chat.completions.create(**ASK),
    lambda client: client.responses.with_raw_response.create(model="gpt-4o", input="?").parse(),
    lambda client: client.embeddings.create(model="text-embedding-3-small", input="?"),
]


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize("call", HELPERS, ids=range(len(HELPERS)))
def test_trap_10_openais_helpers_are_billed_once(
    call: Callable[[Any], object],
    openai: OpenAISync,
    models: ModelServer,
    billed: Billed,
    reports: list[Unbilled],
) -> None:
    models.script(answer(openai, text='{"word": "one"}', model="gpt-4o"))
    assert call(openai.client)
    (log,) = billed()
    assert (log.input_tokens, log.output_tokens) == (12, 0 if models.requests[0].api == "embeddings" else 7)
    assert reports == []


def _anthropic_streaming_response(client: Any, call: dict[str, Any]) -> object:
    with client.messages.with_streaming_response.create(**call) as response:
        return response.parse()


def _anthropic_stream(client: Any, call: dict[str, Any]) -> object:
    with client.messages.stream(**call) as stream:
        return stream.get_final_message()


ANTHROPICS: list[Callable[[Any, dict[str, Any]], object]] = [
    lambda client, call: client.messages.with_raw_response.create(**call).parse(),
    _anthropic_streaming_response,
    _anthropic_stream,
    lambda client, call: client.with_options(timeout=5).messages.create(**call),
    lambda client, call: client.copy().messages.create(**call),
    lambda client, call: client.beta.messages.create(**call),
]


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize("call", ANTHROPICS, ids=range(len(ANTHROPICS)))
def test_trap_10_anthropics_helpers_are_billed_once(
    call: Callable[[Any, dict[str, Any]], object],
    anthropic: AnthropicSync,
    models: ModelServer,
    billed: Billed,
    reports: list[Unbilled],
) -> None:
    models.script(answer(anthropic))
    assert call(anthropic.client, anthropic.call)
    assert counts(billed) == [(12, 7, 0)]
    assert reports == []


@pytest.mark.usefixtures("scope")
def test_trap_10_a_raw_response_that_the_user_never_parses_is_billed(
    openai: OpenAISync, models: ModelServer, billed: Billed
) -> None:
    models.script(answer(openai))
    raw = openai.client.chat.completions.with_raw_response.create(**ASK)
    assert raw.headers["content-type"].startswith("application/json")
    assert counts(billed) == [(12, 7, 0)]


# 11. A stream keeps its type


STREAMED = [
    ("openai", "chat.completions.create", ASK),
    ("openai", "responses.create", {"model": "gpt-4o", "input": "Hello?"}),
    ("anthropic", "messages.create", {"model": "claude-sonnet-4", "messages": MESSAGES, "max_tokens": 100}),
]


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize(("name", "method", "call"), STREAMED)
def test_trap_11_a_stream_keeps_its_type_its_block_and_its_response(
    name: str, method: str, call: dict[str, Any], cnk: ClockNext, models: ModelServer, billed: Billed
) -> None:
    adapter: Any = made(name, models, cnk)
    models.script(answer(adapter), times=2)
    plain = adapter.plain()
    assert isinstance(adapter.client, type(plain))
    with attrgetter(method)(plain)(**call, stream=True) as unmetered:
        read: list[type[Any]] = [type(chunk) for chunk in unmetered]
    stream = attrgetter(method)(adapter.client)(**call, stream=True)
    assert isinstance(stream, type(unmetered))
    assert isinstance(stream.response, type(unmetered.response))
    with stream as entered:
        assert entered is stream
        assert stream.response.status_code == 200
        assert [type(chunk) for chunk in stream] == read
    assert stream.response.is_closed
    stream.close()
    assert counts(billed) == [(12, 7, 0)]


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize(("name", "method", "call"), STREAMED)
def test_trap_11_a_stream_of_asyncio_keeps_its_type_its_block_and_its_response(
    name: str, method: str, call: dict[str, Any], cnk: ClockNext, models: ModelServer, billed: Billed
) -> None:
    adapter: Any = made(f"{name}-asyncio", models, cnk)
    models.script(answer(adapter), times=2)

    async def work() -> None:
        async with adapter.plain() as plain, adapter.client as client:
            assert isinstance(client, type(plain))
            async with await attrgetter(method)(plain)(**call, stream=True) as unmetered:
                read: list[type[Any]] = [type(chunk) async for chunk in unmetered]
            stream = await attrgetter(method)(client)(**call, stream=True)
            assert isinstance(stream, type(unmetered))
            assert isinstance(stream.response, type(unmetered.response))
            async with stream as entered:
                assert entered is stream
                assert stream.response.status_code == 200
                assert [type(chunk) async for chunk in stream] == read
            assert stream.response.is_closed
            await stream.close()

    asyncio.run(work())
    assert counts(billed) == [(12, 7, 0)]


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize("name", ["bedrock", "bedrock-invoke"])
def test_trap_11_a_stream_of_events_keeps_its_type(
    name: str, cnk: ClockNext, models: ModelServer, billed: Billed
) -> None:
    adapter: Any = made(name, models, cnk)
    kind = import_module("botocore.eventstream").EventStream
    models.script(answer(adapter))
    stream = adapter.stream().whole
    assert isinstance(stream, kind)
    assert [*stream]
    stream.close()
    assert counts(billed) == [(12, 7, 0)]


# 12. Pools and workers lose contexts, or keep the first caller's


def test_trap_12_a_worker_that_keeps_the_first_callers_context_bills_nobody_else(
    openai: OpenAISync, models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    models.script(answer(openai), answer(openai), answer(openai))
    with ThreadPoolExecutor(1) as pool:
        with cnk.billing(customer_id="cus_123", key="chat_credit", member="first@b.c"):
            stale = copy_context()
            pool.submit(stale.run, openai.complete).result()
        with cnk.billing(customer_id="cus_123", key="chat_credit", member="second@b.c"):
            pool.submit(stale.run, openai.complete).result()  # a stale context
            pool.submit(openai.complete).result()  # none
    assert [log.member for log in billed()] == ["first@b.c"]
    assert reasons(reports) == ["scope_ended", "unattributed"]


def test_trap_12_a_stream_that_another_task_reads_is_billed_to_whom_it_was_begun_for(
    openai: OpenAISync, models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    models.script(answer(openai))
    with cnk.billing(customer_id="cus_123", key="chat_credit", member="first@b.c"):
        stream = openai.client.chat.completions.create(**ASK, stream=True)
    with (
        ThreadPoolExecutor(1) as pool,
        cnk.billing(customer_id="cus_123", key="chat_credit", member="other@b.c"),
    ):
        pool.submit(copy_context().run, lambda: [*stream]).result()
    assert [log.member for log in billed()] == ["first@b.c"]
    assert reports == []


# 14. Frameworks swallow what a handler raises


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize("name", ["litellm", "langchain"])
def test_trap_14_what_cannot_be_billed_goes_to_the_hook_and_not_into_the_frameworks_log(
    name: str,
    request: pytest.FixtureRequest,
    models: ModelServer,
    cnk: ClockNext,
    reports: list[Unbilled],
    caplog: pytest.LogCaptureFixture,
) -> None:
    adapter = request.getfixturevalue(name)
    models.script(answer(adapter, has_usage=False))
    with caplog.at_level(logging.WARNING):
        adapter.complete()
        adapter.settle(1)
    assert reasons(reports) == ["no_usage"]
    assert cnk.stats().unbilled["no_usage"] == 1
    assert [record.message for record in caplog.records if "Error" in record.message] == []


def test_each_trap_has_a_test_of_its_name() -> None:
    """Traps 15 to 18 are those of agents and of spans."""
    tests = " ".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    named = {
        int(each)
        for found in re.findall(r"def test_trap_((?:\d+_(?:and_)?)+)", tests)
        for each in re.findall(r"\d+", found)
    }
    assert named == set(range(1, 19))


# What every model of a process calls


@contextmanager
def _without_hooks() -> Generator[None, None, None]:
    """Forget the handlers that a test registered for the whole process."""
    context = import_module("langchain_core.tracers.context")
    before = [*context._configure_hooks]
    try:
        yield
    finally:
        context._configure_hooks[:] = before


@pytest.mark.usefixtures("scope")
def test_everywhere_a_handler_of_langchain_is_called_without_being_named(
    langchain: LangChainSync, models: ModelServer, billed: Billed, reports: list[Unbilled]
) -> None:
    async def asked_and_closed() -> None:
        await langchain.chat.ainvoke("Hello?")
        await langchain.chat.root_async_client.close()

    langchain.chat.callbacks = None
    models.script(answer(langchain), answer(langchain), answer(langchain))
    langchain.complete()
    assert billed() == ()
    with _without_hooks():
        langchain.handler.everywhere()
        langchain.complete()
        asyncio.run(asked_and_closed())
    assert counts(billed) == [(12, 7, 0), (12, 7, 0)]
    assert reports == []


@pytest.mark.usefixtures("scope")
def test_everywhere_and_named_a_handler_is_called_once(
    langchain: LangChainSync, models: ModelServer, billed: Billed, reports: list[Unbilled]
) -> None:
    models.script(answer(langchain))
    with _without_hooks():
        langchain.handler.everywhere()
        langchain.complete()
    assert counts(billed) == [(12, 7, 0)]
    assert reports == []
