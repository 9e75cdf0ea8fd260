"""The providers' own packages, where they are installed: their types, filled as they fill them."""

import asyncio
import gc
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from clocknext_core import Tokens
from clocknext_core.usage.reading import read
from clocknext_core.usage.runs import readings
from clocknext_core.usage.streams import Gatherer
from tests.core.usage.cases import (
    CASES,
    CHAT,
    CHAT_TOKENS,
    CHUNK,
    CONVERSE_TOKENS,
    CONVERSE_USAGE,
    LANGCHAIN,
    MESSAGE,
    MESSAGE_USAGE,
    RESPONSE,
    RESPONSE_TOKENS,
    Case,
)

# Packages that warn as they are imported are no failure of ours.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def _collected_where_its_warnings_are_expected() -> Iterator[None]:
    """Collect what packages leave behind while this module's filter holds: else another module is blamed."""
    yield
    gc.collect()


def skip_unless(module: str) -> Any:
    return pytest.importorskip(module, exc_type=ImportError)


@pytest.mark.parametrize("case", [case for case in CASES if case.kind], ids=lambda case: case.name)
def test_own_type(case: Case) -> None:
    assert case.kind
    module, name = case.kind
    kind = getattr(skip_unless(module), name)
    response = kind.model_validate(case.response)
    assert Tokens.from_usage(response) == case.tokens
    assert Tokens.from_usage(response.model_dump()) == case.tokens
    if case.model:
        assert read(response).model == case.model


@pytest.mark.parametrize(
    ("operation", "body", "tokens"), [("Converse", {"usage": CONVERSE_USAGE}, CONVERSE_TOKENS)]
)
def test_bedrock(operation: str, body: dict[str, object], tokens: Tokens) -> None:
    skip_unless("boto3")
    session = skip_unless("botocore.session").get_session()
    shape = session.get_service_model("bedrock-runtime").operation_model(operation).output_shape
    parser = skip_unless("botocore.parsers").create_parser("rest-json")
    answer = parser.parse({"status_code": 200, "headers": {}, "body": json.dumps(body).encode()}, shape)
    assert Tokens.from_usage(answer) == tokens


@pytest.mark.parametrize("provider", ["anthropic", "bedrock"])
def test_litellm(provider: str) -> None:
    types: Any = skip_unless("litellm.types.utils")
    if provider == "anthropic":
        config = skip_unless("litellm.llms.anthropic.chat.transformation").AnthropicConfig()
        usage = config.calculate_usage(usage_object=MESSAGE_USAGE, reasoning_content=None)
        expected = Tokens(input=296, output=67, cache=17102)
    else:
        config = skip_unless("litellm.llms.bedrock.chat.converse_transformation").AmazonConverseConfig()
        usage = config.transform_usage(CONVERSE_USAGE)
        expected = CONVERSE_TOKENS
    response = types.ModelResponse(model="claude-sonnet-4-5", usage=usage)
    assert Tokens.from_usage(response) == Tokens.from_usage(usage) == expected
    assert read(response).model == "claude-sonnet-4-5"
    chunk = types.ModelResponseStream(model="claude-sonnet-4-5", choices=[], usage=usage)
    assert Tokens.from_usage(chunk) == expected


def test_langchain_chunks_added_up() -> None:
    kind = skip_unless("langchain_core.messages").AIMessageChunk
    merged = kind(content="Hel") + kind(content="lo") + kind.model_validate(LANGCHAIN)
    assert Tokens.from_usage(merged) == Tokens(input=250, output=240, cache=100)


def test_gemini_interactions() -> None:
    kind = skip_unless("google.genai._gaos.types.interactions.usage").Usage
    usage = kind(
        total_input_tokens=100, total_cached_tokens=60, total_output_tokens=20, total_thought_tokens=30
    )
    assert Tokens.from_usage(usage) == Tokens(input=40, output=50, cache=60)


def test_the_messages_of_langgraph() -> None:
    messages = skip_unless("langchain_core.messages")
    state = {"messages": [messages.HumanMessage("Hi"), messages.AIMessage.model_validate(LANGCHAIN)]}
    assert [each.tokens for each in readings(state)] == [Tokens(input=250, output=240, cache=100)]


def test_the_handler_of_langchain() -> None:
    handler = skip_unless("langchain_core.callbacks").UsageMetadataCallbackHandler()
    messages, outputs = skip_unless("langchain_core.messages"), skip_unless("langchain_core.outputs")
    message = messages.AIMessage.model_validate(LANGCHAIN)
    handler.on_llm_end(outputs.LLMResult(generations=[[outputs.ChatGeneration(message=message)]]))
    (reading,) = readings(handler)
    assert (reading.model, reading.tokens) == ("claude-sonnet-4-5", Tokens(input=250, output=240, cache=100))
    result = outputs.LLMResult(generations=[[outputs.ChatGeneration(message=message)]])
    assert [each.tokens for each in readings(result)] == [reading.tokens]


def test_a_run_of_pydantic_ai() -> None:
    agent = skip_unless("pydantic_ai").Agent(skip_unless("pydantic_ai.models.test").TestModel())
    result = asyncio.run(agent.run("Hi"))  # `run_sync` leaves a loop behind
    (reading,) = readings(result)
    assert (reading.model, reading.tokens.input > 0, reading.tokens.output > 0) == ("test", True, True)
    usage = skip_unless("pydantic_ai.usage").RequestUsage
    kept = usage(input_tokens=34796, cache_write_tokens=574, cache_read_tokens=34204, output_tokens=134)
    assert Tokens.from_usage(kept) == Tokens(input=592, output=134, cache=34204)


def test_a_run_of_openai_agents() -> None:
    agents = skip_unless("agents")
    usage = agents.Usage(requests=1, input_tokens=10, output_tokens=2, total_tokens=12)
    answer = agents.ModelResponse(output=[], usage=usage, response_id="resp_68af4030592c")
    run = SimpleNamespace(raw_responses=[answer, answer], final_output="4")
    assert [(each.response_id, each.tokens.input) for each in readings(run)] == [
        ("resp_68af4030592c", 10)
    ] * 2


def test_a_run_of_smolagents() -> None:
    memory = skip_unless("smolagents.memory")
    monitoring = skip_unless("smolagents.monitoring")
    usage = monitoring.TokenUsage(input_tokens=10, output_tokens=2)
    timing = monitoring.Timing(start_time=0.0)
    step = memory.ActionStep(step_number=1, timing=timing, token_usage=usage)
    assert [each.tokens for each in readings([step])] == [Tokens(input=10, output=2)]
    run = SimpleNamespace(output="4", steps=[step.dict()])
    assert [each.tokens for each in readings(run)] == [Tokens(input=10, output=2)]


def test_a_response_of_llama_index() -> None:
    llms = skip_unless("llama_index.core.llms")
    raw = skip_unless("openai.types.chat").ChatCompletion.model_validate(CHAT)
    answer = llms.ChatResponse(message=llms.ChatMessage(content="Hi"), raw=raw)
    assert [each.tokens for each in readings(answer)] == [CHAT_TOKENS]


def streamed(chunks: list[Any]) -> Any:
    gatherer = Gatherer()
    for chunk in chunks:
        gatherer.feed(chunk)
    return gatherer.finish("completed").reading


def test_a_stream_of_openais_chunks() -> None:
    kind = skip_unless("openai.types.chat").ChatCompletionChunk
    open_choice = [{"index": 0, "delta": {"content": "H"}, "finish_reason": None}]
    chunks = [
        kind.model_validate({**CHUNK, "choices": open_choice, "usage": None}),
        kind.model_validate(CHUNK),
    ]
    assert streamed(chunks).tokens == CHAT_TOKENS
    groq = {
        **CHUNK,
        "usage": None,
        "x_groq": {"id": "r", "usage": {"prompt_tokens": 6, "completion_tokens": 2}},
    }
    assert streamed([chunks[0], kind.model_validate(groq)]).tokens == Tokens(input=6, output=2)


def test_a_stream_of_openais_responses() -> None:
    types = skip_unless("openai.types.responses")
    event = {"type": "response.completed", "sequence_number": 9, "response": RESPONSE}
    begun = {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "usage": None}}
    chunks = [
        types.ResponseCreatedEvent.model_validate(begun),
        types.ResponseCompletedEvent.model_validate(event),
    ]
    reading = streamed(chunks)
    assert (reading.tokens, reading.model, reading.response_id) == (
        RESPONSE_TOKENS,
        RESPONSE["model"],
        "resp_1",
    )


def test_a_stream_of_anthropics_events() -> None:
    types = skip_unless("anthropic.types")
    start: dict[str, object] = {
        **MESSAGE,
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 9, "output_tokens": 1},
    }
    text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "H"}}
    delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 67}}
    chunks = [
        types.RawMessageStartEvent.model_validate({"type": "message_start", "message": start}),
        types.RawContentBlockDeltaEvent.model_validate(text),
        types.RawMessageDeltaEvent.model_validate(delta),
        types.RawMessageStopEvent(type="message_stop"),
    ]
    reading = streamed(chunks)
    assert (reading.tokens, reading.response_id) == (Tokens(input=9, output=67), "msg_1")


def test_a_stream_of_geminis_chunks() -> None:
    kind = skip_unless("google.genai.types").GenerateContentResponse
    chunks = [
        kind.model_validate(
            {
                "responseId": "r",
                "modelVersion": "gemini-2.5-flash",
                "candidates": [{"content": {"parts": [{"text": "H"}]}, "finishReason": reason}],
                "usageMetadata": {
                    "promptTokenCount": 9,
                    "candidatesTokenCount": made,
                    "totalTokenCount": 9 + made,
                },
            }
        )
        for reason, made in ((None, 1), ("STOP", 4))
    ]
    assert streamed(chunks).tokens == Tokens(input=9, output=4)
    assert streamed(chunks[:1]) is None


def test_a_stream_of_litellms_chunks() -> None:
    types: Any = skip_unless("litellm.types.utils")
    usage = types.Usage(prompt_tokens=6, completion_tokens=2, total_tokens=8)
    chunks = [
        types.ModelResponseStream(id="c-1", model="gpt-4o"),
        types.ModelResponseStream(id="c-1", model="gpt-4o", usage=usage),
    ]
    assert streamed(chunks).tokens == Tokens(input=6, output=2)


def test_a_stream_of_coheres_and_mistrals_events() -> None:
    end = skip_unless("cohere.v2.types").MessageEndV2ChatStreamResponse
    units = {"billed_units": {"input_tokens": 6, "output_tokens": 2}}
    event = {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": units}}
    assert streamed([end.model_validate(event)]).tokens == Tokens(input=6, output=2)
    completion = skip_unless("mistralai.client.models").CompletionEvent
    assert streamed([completion.model_validate({"data": {**CHUNK}})]).tokens == CHAT_TOKENS
