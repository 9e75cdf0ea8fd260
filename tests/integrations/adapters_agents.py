"""The adapters of agent frameworks, Google's SDK, boto3 and OpenTelemetry."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any, ClassVar

import pytest

from clocknext_transports import ClockNext
from tests.integrations.adapters import (
    ASKED,
    FORGED,
    FORGED_HEADERS,
    MESSAGES,
    Adapter,
    AsyncAdapter,
    SyncAdapter,
    Texts,
)

GEMINI_MODEL, BEDROCK_MODEL = "gemini-2.5-flash", "anthropic.claude-sonnet-4"


class OpenAIAgents(AsyncAdapter):
    package = "agents"
    prefix = "resp_"
    pace = 20_000  # a task of its own reads ahead of the user
    forged: ClassVar[dict[str, Any]] = {
        "model_settings": {"metadata": FORGED, "extra_headers": FORGED_HEADERS},
        "trace_metadata": FORGED,
        "group_id": "cus_456",
    }

    def __init__(self, url: str, cnk: ClockNext) -> None:
        super().__init__(url, cnk)
        self.agents = self.imported()
        self.agents.set_tracing_disabled(True)
        openai = pytest.importorskip("openai")
        self.make: Callable[[], Any] = lambda: openai.AsyncOpenAI(api_key="sk-test", base_url=f"{url}/v1")
        self.client: Any = self.make()
        # A tool that is asked for ends the run, so that a run is one request.
        look_up = self.agents.function_tool(_look_up, name_override="look_up")
        self.agent = self.agents.Agent(
            name="Helper", model=self.model, tools=[look_up], tool_use_behavior="stop_on_first_tool"
        )

    def config(self, *, model_settings: Any = None, **more: Any) -> Any:
        from clocknext_transports.integrations.openai_agents import metered

        provider = self.agents.OpenAIProvider(openai_client=self.client)
        if model_settings is not None:
            more["model_settings"] = self.agents.ModelSettings(**model_settings)
        return self.agents.RunConfig(model_provider=metered(provider, self.cnk), **more)

    async def aclose(self) -> None:
        await self.client.close()
        self.client = self.make()

    async def acomplete(self, **more: Any) -> str:
        run = await self.agents.Runner.run(self.agent, "Hello?", run_config=self.config(**more))
        return str(run.final_output)

    async def astream(self) -> AsyncIterator[str]:
        run = self.agents.Runner.run_streamed(self.agent, "Hello?", run_config=self.config())
        async with aclosing(run.stream_events()) as events:
            try:
                async for event in events:
                    data: Any = getattr(event, "data", None)
                    if getattr(data, "type", None) == "response.output_text.delta":
                        yield data.delta
            finally:
                run.cancel()  # else the events that are left read the model's answer to its end


class PydanticAI(AsyncAdapter):
    package = "pydantic_ai"
    # Its cancel scopes belong to a task, so test_agents.py cancels it within one.
    ways_out: ClassVar[tuple[str, ...]] = ("break", "close", "collected")
    forged: ClassVar[dict[str, Any]] = {
        "metadata": FORGED,
        "model_settings": {"openai_user": "cus_456", "extra_headers": FORGED_HEADERS},
    }

    def __init__(self, url: str, cnk: ClockNext) -> None:
        super().__init__(url, cnk)
        self.pydantic_ai = self.imported()
        self.openai = pytest.importorskip("openai")
        self.prepare()

    def prepare(self) -> None:
        ai = self.pydantic_ai
        models = pytest.importorskip("pydantic_ai.models.openai")
        providers = pytest.importorskip("pydantic_ai.providers.openai")
        self.client: Any = self.openai.AsyncOpenAI(api_key="sk-test", base_url=f"{self.url}/v1")
        model = models.OpenAIChatModel(
            self.model, provider=providers.OpenAIProvider(openai_client=self.client)
        )
        self.agent: Any = ai.Agent(
            self.metered(model),
            # A tool that is asked for ends the run, so that a run is one request.
            output_type=[str, ai.DeferredToolRequests],
            toolsets=[ai.ExternalToolset([ai.ToolDefinition(name="look_up")])],
        )

    def metered(self, model: Any) -> Any:
        from clocknext_transports.integrations.pydantic_ai import MeteredModel

        return MeteredModel(model, self.cnk)

    async def aclose(self) -> None:
        await self.client.close()
        self.prepare()

    async def acomplete(self, **more: Any) -> str:
        return str((await self.agent.run("Hello?", **more)).output)

    async def astream(self) -> AsyncIterator[str]:
        async with self.agent.run_stream("Hello?") as run:
            text = ""
            async with aclosing(run.stream_response(debounce_by=None)) as responses:
                async for response in responses:
                    before, text = text, response.text or ""
                    yield text.removeprefix(before)


class OpenTelemetry(SyncAdapter):
    """Spans as the GenAI conventions say, around OpenAI's SDK; test_agents.py has those of Pydantic AI."""

    package = "openai"
    forged: ClassVar[dict[str, Any]] = {
        f"{prefix}{name}": value
        for prefix in (
            "",
            "user.",
            "enduser.",
            "gen_ai.",
            "langfuse.user.",
            "traceloop.association.properties.",
        )
        for name, value in {"id": "cus_456", **FORGED}.items()
    }

    def __init__(self, url: str, cnk: ClockNext) -> None:
        super().__init__(url, cnk)
        openai = self.imported()
        from opentelemetry.sdk.trace import TracerProvider

        from clocknext_transports.integrations.opentelemetry import ClockNextSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(ClockNextSpanProcessor(cnk))
        self.tracer = provider.get_tracer("tests")
        self.client: Any = openai.OpenAI(api_key="sk-test", base_url=f"{url}/v1")

    def span(self) -> Any:
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": self.model}
        return self.tracer.start_as_current_span(f"chat {self.model}", attributes=attributes)

    def complete(self, **more: Any) -> str:
        with self.span() as span:
            span.set_attributes(more)
            answer = self.client.chat.completions.create(model=self.model, messages=MESSAGES)
            _describe(span, answer)
            return str(answer.choices[0].message.content)

    def stream(self) -> Iterator[str]:
        with self.span() as span:
            for chunk in self.client.chat.completions.create(model=self.model, messages=MESSAGES, **ASKED):
                _describe(span, chunk)
                yield str(chunk.choices[0].delta.content or "") if chunk.choices else ""


class GoogleSync(SyncAdapter):
    package = "google.genai"
    model = GEMINI_MODEL
    prefix = ""
    forged: ClassVar[dict[str, Any]] = {"config": {"http_options": {"headers": FORGED_HEADERS}}}

    def __init__(self, url: str, cnk: ClockNext) -> None:
        super().__init__(url, cnk)
        genai = self.imported()
        from clocknext_transports.integrations.google_genai import metered

        retries = {"attempts": 2, "initial_delay": 0.0, "jitter": 0}
        options = {"base_url": url, "retry_options": retries}
        self.make: Callable[[], Any] = lambda: metered(
            genai.Client(api_key="test", http_options=options), cnk
        )
        self.client: Any = self.make()
        self.call = {"model": self.model, "contents": "Hello?"}

    def complete(self, **more: Any) -> str:
        return _text_of(self.client.models.generate_content(**self.call, **more))

    def stream(self) -> Any:
        return Texts(self.client.models.generate_content_stream(**self.call), _text_of)


class GoogleAsync(AsyncAdapter):
    package = "google.genai"
    model = GEMINI_MODEL
    prefix = ""
    forged: ClassVar[dict[str, Any]] = {"config": {"http_options": {"headers": FORGED_HEADERS}}}

    def __init__(self, url: str, cnk: ClockNext) -> None:
        super().__init__(url, cnk)
        sync = GoogleSync(url, cnk)
        self.make, self.client, self.call = sync.make, sync.client, sync.call

    async def aclose(self) -> None:
        await self.client.aio.aclose()
        self.client = self.make()

    async def acomplete(self, **more: Any) -> str:
        return _text_of(await self.client.aio.models.generate_content(**self.call, **more))

    async def astream(self) -> AsyncIterator[str]:
        async with aclosing(await self.client.aio.models.generate_content_stream(**self.call)) as stream:
            async for chunk in stream:
                yield _text_of(chunk)


class BedrockSync(SyncAdapter):
    package = "boto3"
    model = BEDROCK_MODEL
    prefix = ""
    forged: ClassVar[dict[str, Any]] = {"requestMetadata": FORGED}

    def __init__(self, url: str, cnk: ClockNext) -> None:
        super().__init__(url, cnk)
        boto3 = self.imported()
        from clocknext_transports.integrations.bedrock import metered

        client = boto3.client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self.client: Any = metered(client, cnk)
        messages = [{"role": "user", "content": [{"text": "Hello?"}]}]
        self.call: dict[str, Any] = {"modelId": self.model, "messages": messages}

    def complete(self, **more: Any) -> str:
        content = self.client.converse(**self.call, **more)["output"]["message"]["content"]
        return "".join(part.get("text", "") for part in content)

    def stream(self) -> Any:
        stream = self.client.converse_stream(**self.call)["stream"]
        return Texts(
            stream, lambda event: event.get("contentBlockDelta", {}).get("delta", {}).get("text", "")
        )


class BedrockInvoke(BedrockSync):
    """The models' own requests and answers, here Anthropic's."""

    prefix = "msg_"
    forged: ClassVar[dict[str, Any]] = {"metadata": {"user_id": "cus_456"}}

    def __init__(self, url: str, cnk: ClockNext) -> None:
        super().__init__(url, cnk)
        self.call = {"modelId": self.model, "body": self.body()}

    def body(self, **more: Any) -> str:
        asked = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100, "messages": MESSAGES}
        return json.dumps({**asked, **more})

    def complete(self, **more: Any) -> str:
        body = json.load(self.client.invoke_model(**{**self.call, "body": self.body(**more)})["body"])
        return "".join(part.get("text", "") for part in body["content"])

    def stream(self) -> Any:
        stream = self.client.invoke_model_with_response_stream(**self.call)["body"]
        return Texts(
            stream, lambda event: json.loads(event["chunk"]["bytes"]).get("delta", {}).get("text", "")
        )


def _describe(span: Any, answer: Any) -> None:
    span.set_attribute("gen_ai.response.id", answer.id)
    span.set_attribute("gen_ai.response.model", answer.model)
    reasons = [choice.finish_reason for choice in answer.choices if choice.finish_reason]
    if reasons:
        span.set_attribute("gen_ai.response.finish_reasons", reasons)
    if answer.usage is not None:
        span.set_attribute("gen_ai.usage.input_tokens", answer.usage.prompt_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", answer.usage.completion_tokens)
        cached = answer.usage.prompt_tokens_details.cached_tokens
        span.set_attribute("gen_ai.usage.cache_read.input_tokens", cached)


def _look_up(what: str) -> str:
    """Look something up."""
    return what


def _text_of(answer: Any) -> str:
    parts: list[Any] = (answer.candidates[0].content and answer.candidates[0].content.parts) or []
    return "".join(part.text or "" for part in parts)


AGENTS: dict[str, type[Adapter]] = {
    "openai_agents": OpenAIAgents,
    "pydantic_ai": PydanticAI,
    "google_genai": GoogleSync,
    "google_genai-asyncio": GoogleAsync,
    "bedrock": BedrockSync,
    "bedrock-invoke": BedrockInvoke,
    "opentelemetry": OpenTelemetry,
}
