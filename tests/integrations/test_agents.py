"""What agents, Google's SDK and spans have: runs of many requests, placeholder ids, sums that repeat."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from clocknext_core import Unbilled, ValidationError
from clocknext_transports import ClockNext
from clocknext_transports.emulator import Completion, ModelServer, ToolCall
from tests.integrations.conftest import Billed
from tests.integrations.test_contract import WHO, counts, reasons

pytestmark = pytest.mark.filterwarnings("ignore")

ASKS = Completion(tool_calls=[ToolCall("look_up", {"what": "weather"})], input_tokens=12, output_tokens=7)
ANSWERS = Completion("Sunny.", input_tokens=30, output_tokens=9)
SLOW = Completion("word " * 200, input_tokens=12, output_tokens=200, bytes_per_second=20_000)


def look_up(what: str) -> str:
    """Look something up."""
    return f"{what}: sunny"


def run(work: Callable[[Any], Awaitable[Any]], models: ModelServer) -> Any:
    """Run something with a client of OpenAI's SDK, which is closed at the end."""
    openai = pytest.importorskip("openai")

    async def worked() -> Any:
        async with openai.AsyncOpenAI(api_key="sk-test", base_url=f"{models.url}/v1") as client:
            return await work(client)

    return asyncio.run(worked())


def agents_config(client: Any, cnk: ClockNext, *, use_responses: bool = True) -> Any:
    agents = pytest.importorskip("agents", exc_type=ImportError)
    from clocknext_transports.integrations.openai_agents import metered

    agents.set_tracing_disabled(True)
    provider = agents.OpenAIProvider(openai_client=client, use_responses=use_responses)
    return agents.RunConfig(model_provider=metered(provider, cnk))


def pydantic_model(client: Any) -> Any:
    pytest.importorskip("pydantic_ai", exc_type=ImportError)
    models = pytest.importorskip("pydantic_ai.models.openai")
    providers = pytest.importorskip("pydantic_ai.providers.openai")
    return models.OpenAIChatModel("gpt-4o", provider=providers.OpenAIProvider(openai_client=client))


def test_an_agents_run_with_tools_and_a_handoff_bills_each_request(
    models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    agents = pytest.importorskip("agents", exc_type=ImportError)
    handoff = Completion(tool_calls=[ToolCall("transfer_to_expert")], input_tokens=15, output_tokens=3)
    models.script(ASKS, handoff, ANSWERS)

    async def work(client: Any) -> str:
        expert = agents.Agent(name="Expert", model="gpt-4o-mini")
        first = agents.Agent(
            name="First", model="gpt-4o", tools=[agents.function_tool(look_up)], handoffs=[expert]
        )
        with cnk.billing(**WHO):  # type: ignore[arg-type]
            return str(
                (await agents.Runner.run(first, "?", run_config=agents_config(client, cnk))).final_output
            )

    assert run(work, models) == "Sunny."
    assert counts(billed) == [(12, 7, 0), (15, 3, 0), (30, 9, 0)]
    assert sorted(log.model for log in billed()) == ["gpt-4o", "gpt-4o", "gpt-4o-mini"]
    assert reports == []


@pytest.mark.parametrize("streamed", [False, True])
def test_trap_15_agents_over_chat_bills_each_run_though_its_ids_are_placeholders_and_it_names_no_model(
    streamed: bool, models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    agents = pytest.importorskip("agents", exc_type=ImportError)
    models.script(ANSWERS, Completion(input_tokens=31, output_tokens=9))

    async def work(client: Any) -> None:
        agent = agents.Agent(name="Helper", model="gpt-4o")
        config = agents_config(client, cnk, use_responses=False)
        with cnk.billing(**WHO):  # type: ignore[arg-type]
            for _ in range(2):
                if streamed:
                    result = agents.Runner.run_streamed(agent, "?", run_config=config)
                    assert [event async for event in result.stream_events()]
                else:
                    await agents.Runner.run(agent, "?", run_config=config)

    run(work, models)
    assert counts(billed) == [(30, 9, 0), (31, 9, 0)]
    assert {log.model for log in billed()} == {"gpt-4o"}
    assert reports == []


def test_trap_15_an_agents_stream_that_is_cancelled_is_reported_with_its_customer(
    models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    agents = pytest.importorskip("agents", exc_type=ImportError)
    models.script(SLOW)

    async def work(client: Any) -> None:
        agent = agents.Agent(name="Helper", model="gpt-4o")
        with cnk.billing(**WHO):  # type: ignore[arg-type]
            result = agents.Runner.run_streamed(agent, "?", run_config=agents_config(client, cnk))
            async for event in result.stream_events():
                if getattr(getattr(event, "data", None), "type", "") == "response.output_text.delta":
                    result.cancel()

    run(work, models)
    assert [(each.reason, each.customer_id) for each in reports] == [("partial", "cus_123")]
    assert billed() == ()


def test_an_agent_over_a_metered_client_is_billed_once(
    models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    agents = pytest.importorskip("agents", exc_type=ImportError)
    from clocknext_transports.integrations.openai import metered

    models.script(ANSWERS, ANSWERS)

    async def work(client: Any) -> None:
        agent = agents.Agent(name="Helper", model="gpt-4o")
        for use_responses in (True, False):
            config = agents_config(metered(client, cnk), cnk, use_responses=use_responses)
            with cnk.billing(**WHO):  # type: ignore[arg-type]
                await agents.Runner.run(agent, "?", run_config=config)

    run(work, models)
    assert counts(billed) == [(30, 9, 0)] * 2
    assert reasons(reports) == ["seen_already"] * 2


def test_a_model_of_one_agent_is_metered_and_what_is_no_model_is_refused(
    models: ModelServer, cnk: ClockNext, billed: Billed
) -> None:
    agents = pytest.importorskip("agents", exc_type=ImportError)
    from clocknext_transports.integrations.openai_agents import metered

    models.script(ANSWERS)

    async def work(client: Any) -> None:
        plain = agents.OpenAIResponsesModel("gpt-4o", client)
        model = metered(plain, cnk, customer_id="cus_123", key="chat_credit")
        assert isinstance(model, agents.OpenAIResponsesModel)
        await agents.Runner.run(agents.Agent(name="Helper", model=model), "?")

    run(work, models)
    assert counts(billed) == [(30, 9, 0)]
    with pytest.raises(ValidationError, match="get_response"):
        metered(object(), cnk)


def test_trap_16_a_pydantic_run_with_tools_and_a_delegate_that_shares_its_usage_bills_each_request_once(
    models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    pydantic_ai = pytest.importorskip("pydantic_ai", exc_type=ImportError)
    from clocknext_transports.integrations.pydantic_ai import MeteredModel

    delegated = Completion("It is.", input_tokens=21, output_tokens=4)
    models.script(ASKS, delegated, ANSWERS)

    async def work(client: Any) -> Any:
        model = MeteredModel(pydantic_model(client), cnk)
        helper = pydantic_ai.Agent(model)

        async def look_up(context: Any, what: str) -> str:
            return str((await helper.run(what, usage=context.usage)).output)

        look_up.__annotations__["context"] = pydantic_ai.RunContext[None]
        agent = pydantic_ai.Agent(model, tools=[pydantic_ai.Tool(look_up, takes_ctx=True)])
        with cnk.billing(**WHO):  # type: ignore[arg-type]
            return await agent.run("?")

    result = run(work, models)
    assert result.output == "Sunny."
    assert counts(billed) == [(12, 7, 0), (21, 4, 0), (30, 9, 0)]
    assert reports == []


def test_trap_8_an_answer_that_a_pydantic_agent_rejects_is_billed_too(
    models: ModelServer, cnk: ClockNext, billed: Billed
) -> None:
    pydantic_ai = pytest.importorskip("pydantic_ai", exc_type=ImportError)
    from clocknext_transports.integrations.pydantic_ai import MeteredModel

    rejected = Completion(tool_calls=[ToolCall("final_result", {"response": "many"})], input_tokens=12)
    accepted = Completion(tool_calls=[ToolCall("final_result", {"response": 3})], input_tokens=31)
    models.script(rejected, accepted)

    async def work(client: Any) -> Any:
        agent = pydantic_ai.Agent(
            MeteredModel(pydantic_model(client), cnk, customer_id="cus_123", key="chat_credit"),
            output_type=pydantic_ai.ToolOutput(int),
        )
        return (await agent.run("?")).output

    assert run(work, models) == 3
    assert counts(billed) == [(12, 5, 0), (31, 5, 0)]


def test_trap_16_a_pydantic_stream_that_is_cancelled_is_reported(
    models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    pydantic_ai = pytest.importorskip("pydantic_ai", exc_type=ImportError)
    from clocknext_transports.integrations.pydantic_ai import MeteredModel

    models.script(SLOW)

    async def work(client: Any) -> None:
        agent = pydantic_ai.Agent(
            MeteredModel(pydantic_model(client), cnk, customer_id="cus_123", key="chat_credit")
        )
        begun = asyncio.Event()

        async def read() -> None:
            async with agent.run_stream("?") as stream:
                async for _ in stream.stream_text(debounce_by=None):
                    begun.set()

        task = asyncio.create_task(read())
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(work, models)
    assert [(each.reason, each.customer_id) for each in reports] == [("partial", "cus_123")]
    assert billed() == ()


def test_automatic_function_calling_is_billed_as_the_requests_that_it_makes(
    models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    genai = pytest.importorskip("google.genai", exc_type=ImportError)
    from clocknext_transports.integrations.google_genai import metered

    models.script(ASKS, ANSWERS)
    client: Any = metered(genai.Client(api_key="test", http_options={"base_url": models.url}), cnk)
    with cnk.billing(**WHO):  # type: ignore[arg-type]
        config = {"tools": [look_up]}
        answer = client.models.generate_content(model="gemini-2.5-flash", contents="?", config=config)
    assert answer.text == "Sunny."
    assert counts(billed) == [(12, 7, 0), (30, 9, 0)]
    assert reports == []
    with pytest.raises(ValidationError, match="automatic_function_calling"):
        cnk.signals.from_response(answer, **WHO)  # type: ignore[arg-type]


def test_a_chat_of_googles_sdk_and_a_client_whose_original_is_gone_are_billed(
    models: ModelServer, cnk: ClockNext, billed: Billed
) -> None:
    genai = pytest.importorskip("google.genai", exc_type=ImportError)
    from clocknext_transports.integrations.google_genai import metered

    models.script(ANSWERS)
    plain = genai.Client(api_key="test", http_options={"base_url": models.url})
    client: Any = metered(plain, cnk, **WHO)  # type: ignore[arg-type]
    assert isinstance(client, genai.Client)
    del client
    plain.models.generate_content(model="gemini-2.5-flash", contents="?")  # its connections are open still
    client = metered(plain, cnk, **WHO)  # type: ignore[arg-type]
    del plain
    client.chats.create(model="gemini-2.5-flash").send_message("?")
    assert counts(billed) == [(10, 5, 0)]


def test_a_bedrock_stream_stays_what_it_is_and_a_body_can_be_read(
    models: ModelServer, cnk: ClockNext, billed: Billed
) -> None:
    boto3 = pytest.importorskip("boto3", exc_type=ImportError)
    eventstream = pytest.importorskip("botocore.eventstream")
    response = pytest.importorskip("botocore.response")
    from clocknext_transports.integrations.bedrock import metered

    models.script(ASKS, ANSWERS)
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=models.url, **keys)
    assert metered(client, cnk) is client
    with cnk.billing(**WHO):  # type: ignore[arg-type]
        messages = [{"role": "user", "content": [{"text": "?"}]}]
        stream = client.converse_stream(modelId="anthropic.claude-sonnet-4", messages=messages)["stream"]
        assert isinstance(stream, eventstream.EventStream)
        assert [name for event in stream for name in event][-1] == "metadata"
        stream.close()
        body = client.invoke_model(modelId="anthropic.claude-sonnet-4", body="{}")["body"]
        assert isinstance(body, response.StreamingBody)
        assert body.read()
    assert counts(billed) == [(12, 7, 0), (30, 9, 0)]


class Traced:
    """A tracer whose spans are billed."""

    def __init__(self, cnk: ClockNext, sampler: Any = None) -> None:
        from opentelemetry.sdk.trace import TracerProvider

        from clocknext_transports.integrations.opentelemetry import ClockNextSpanProcessor

        self.provider = TracerProvider(sampler=sampler)
        self.provider.add_span_processor(ClockNextSpanProcessor(cnk))
        self.tracer = self.provider.get_tracer("tests")


NAMES_OF_VERSIONS: list[dict[str, str | int]] = [
    {
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 9,
        "gen_ai.response.model": "gpt-4o",
    },
    {
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.prompt_tokens": 30,
        "gen_ai.usage.completion_tokens": 9,
        "gen_ai.request.model": "gpt-4o",
    },
    {
        "llm.request.type": "chat",
        "gen_ai.usage.prompt_tokens": 30,
        "gen_ai.usage.completion_tokens": 9,
        "llm.usage.total_tokens": 39,
        "gen_ai.response.model": "gpt-4o",
    },
]


@pytest.mark.parametrize("attributes", NAMES_OF_VERSIONS)
@pytest.mark.parametrize("at_start", [True, False])
def test_trap_18_spans_are_read_whatever_version_of_the_conventions_named_their_attributes(
    at_start: bool,
    attributes: dict[str, str | int],
    cnk: ClockNext,
    billed: Billed,
    reports: list[Unbilled],
) -> None:
    tracer = Traced(cnk).tracer
    started = attributes if at_start else None
    with cnk.billing(**WHO), tracer.start_as_current_span("chat", attributes=started) as span:  # type: ignore[arg-type]
        span.set_attributes(attributes)
    assert [(log.model, log.input_tokens, log.output_tokens) for log in billed()] == [("gpt-4o", 30, 9)]
    assert reports == []


def test_trap_18_spans_of_agents_which_repeat_the_sums_are_not_billed(
    models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    pydantic_ai = pytest.importorskip("pydantic_ai", exc_type=ImportError)
    capabilities = pytest.importorskip("pydantic_ai.capabilities")
    instrumented = pytest.importorskip("pydantic_ai.models.instrumented")
    models.script(ASKS, ANSWERS)
    settings = instrumented.InstrumentationSettings(tracer_provider=Traced(cnk).provider)

    async def work(client: Any) -> None:
        agent = pydantic_ai.Agent(
            pydantic_model(client), tools=[look_up], capabilities=[capabilities.Instrumentation(settings)]
        )
        with cnk.billing(**WHO):  # type: ignore[arg-type]
            await agent.run("?")

    run(work, models)
    assert counts(billed) == [(12, 7, 0), (30, 9, 0)]
    assert reports == []


def test_trap_18_spans_that_are_sampled_out_are_seen_by_nothing(
    cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    tracer = Traced(cnk, ALWAYS_OFF).tracer
    with cnk.billing(**WHO), tracer.start_as_current_span("chat", attributes=NAMES_OF_VERSIONS[0]):  # type: ignore[arg-type]
        pass
    assert billed() == ()
    assert reports == []


def test_trap_17_two_layers_of_one_framework_that_both_report_are_one_bill(
    cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    """LlamaIndex's `complete`, which calls its `chat`: neither has an id, and no event tells of aborts."""
    with cnk.billing(**WHO):  # type: ignore[arg-type]
        complete = cnk.start_call(model="gpt-4o")
        chat = cnk.start_call(model="gpt-4o")
        chat.answered({"usage": {"prompt_tokens": 30, "completion_tokens": 9}})
        complete.answered({"usage": {"prompt_tokens": 30, "completion_tokens": 9}})
        left = cnk.start_call(model="gpt-4o")
        stream = left.watch(iter([{"choices": [{"delta": {"content": "word"}}]}] * 3))
        next(stream)
        del stream
    assert counts(billed) == [(30, 9, 0)]
    assert reasons(reports) == ["seen_already", "partial"]
