"""Shapes of usage from the public record, and what they come to: tokens, or an error that says what to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from clocknext_core import Tokens


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A response as JSON, cut down to what matters."""

    name: str
    response: object
    tokens: Tokens | None
    says: str
    """What the error says, where there are no tokens."""
    source: str
    """Where the shape is documented, or was reported."""
    model: str | None = None
    id: str | None = None
    tier: str | None = None
    provider: str | None = None
    other: Mapping[str, int] = field(default_factory=dict[str, int])


def shape(
    name: str,
    response: object,
    *,
    source: str,
    tokens: Tokens | None = None,
    says: str = "",
    model: str | None = None,
    id: str | None = None,  # noqa: A002
    tier: str | None = None,
    provider: str | None = None,
    other: Mapping[str, int] | None = None,
) -> Shape:
    return Shape(
        name=name,
        response=response,
        tokens=tokens,
        says=says,
        source=source,
        model=model,
        id=id,
        tier=tier,
        provider=provider,
        other=other or {},
    )


CHAT_USAGE: dict[str, object] = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 120},
}


def chat(usage: object, **more: object) -> dict[str, object]:
    """Make an answer of OpenAI's chat completions."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
    model = "gpt-4o-2024-08-06"
    kind = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": model}
    return {**kind, "choices": [choice], **more, "usage": usage}


def response(usage: object, **more: object) -> dict[str, object]:
    """Make an answer of OpenAI's Responses."""
    kind = {"id": "resp_1", "object": "response", "created_at": 1700000000, "status": "completed"}
    rest: dict[str, object] = {"output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    return {**kind, "model": "gpt-4.1-2025-04-14", **rest, "metadata": {}, **more, "usage": usage}


def message(usage: object, **more: object) -> dict[str, object]:
    """Make an answer of Anthropic's Messages."""
    kind = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5"}
    rest = {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn", "stop_sequence": None}
    return {**kind, **rest, **more, "usage": usage}


SHAPES = [
    shape(
        "bedrock-nova-invoke",
        {
            "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}},
            "stopReason": "end_turn",
            "usage": {
                "inputTokens": 5,
                "outputTokens": 60,
                "totalTokens": 65,
                "cacheReadInputTokenCount": 2000,
                "cacheWriteInputTokenCount": 100,
            },
        },
        tokens=Tokens(input=105, output=60, cache=2000),
        source="https://docs.aws.amazon.com/nova/latest/userguide/using-invoke-api.html",
    ),
    shape(
        "anthropic-bedrock-invoke-stream-metrics",
        {
            "type": "message_stop",
            "amazon-bedrock-invocationMetrics": {
                "inputTokenCount": 3,
                "outputTokenCount": 13,
                "invocationLatency": 3037,
                "firstByteLatency": 2635,
                "cacheReadInputTokenCount": 900,
                "cacheWriteInputTokenCount": 25037,
            },
        },
        tokens=Tokens(input=25040, output=13, cache=900),
        source="https://github.com/langchain-ai/langchain/pull/19127",
    ),
    shape(
        "anthropic-message-start",
        {
            "type": "message_start",
            "message": message(
                {
                    "input_tokens": 9,
                    "cache_creation_input_tokens": 287,
                    "cache_read_input_tokens": 17102,
                    "output_tokens": 1,
                },
                content=[],
                stop_reason=None,
            ),
        },
        says="first event of a stream",
        source="types of Anthropic stream",
    ),
    shape(
        "anthropic-message-1h-cache",
        message(
            {
                "input_tokens": 9,
                "cache_creation_input_tokens": 287,
                "cache_read_input_tokens": 17102,
                "output_tokens": 67,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 287},
                "service_tier": "standard",
            }
        ),
        tokens=Tokens(input=296, output=67, cache=17102),
        source="https://docs.anthropic.com/en/api/messages",
    ),
    shape(
        "anthropic-unfinished-message",
        message(
            {
                "input_tokens": 9,
                "cache_creation_input_tokens": 287,
                "cache_read_input_tokens": 17102,
                "output_tokens": 1,
            },
            stop_reason=None,
        ),
        says="stop_reason is null",
        source="https://docs.anthropic.com/en/api/messages",
    ),
    shape(
        "anthropic-advisor",
        message(
            {
                "input_tokens": 100,
                "output_tokens": 50,
                "iterations": [
                    {
                        "type": "message",
                        "input_tokens": 100,
                        "output_tokens": 50,
                        "cache_creation_input_tokens": 0,
                        "cache_read_input_tokens": 0,
                        "model": "claude-sonnet-4-5",
                    },
                    {
                        "type": "advisor_message",
                        "model": "claude-opus-4-5",
                        "input_tokens": 900,
                        "output_tokens": 400,
                        "cache_creation_input_tokens": 0,
                        "cache_read_input_tokens": 0,
                    },
                ],
            }
        ),
        tokens=Tokens(input=100, output=50),
        source="types of Anthropic beta",
    ),
    shape(
        "anthropic-zero-prompt",
        message({"input_tokens": 0, "output_tokens": 67}),
        says="no prompt count",
        source="https://github.com/BerriAI/litellm/issues/41067",
    ),
    shape(
        "azure-agent-insights",
        {"input_tokens": 2006, "output_tokens": 300, "cached_tokens": 1920, "total_tokens": 2306},
        tokens=Tokens(input=86, output=300, cache=1920),
        source="https://learn.microsoft.com/javascript/api/@azure/ai-projects/agentinsighttokenusage",
    ),
    shape(
        "bedrock-converse-stream-response",
        {"ResponseMetadata": {"RequestId": "x"}, "stream": "..."},
        says="It is a stream",
        source="types of Bedrock ConverseStream",
    ),
    shape(
        "bedrock-invoke-response-headers",
        {
            "ResponseMetadata": {
                "RequestId": "x",
                "HTTPStatusCode": 200,
                "HTTPHeaders": {
                    "x-amzn-bedrock-input-token-count": "25",
                    "x-amzn-bedrock-output-token-count": "119",
                },
            },
            "contentType": "application/json",
            "body": "...",
        },
        tokens=Tokens(input=25, output=119),
        source="https://github.com/boto/boto3/issues/3884",
    ),
    shape(
        "bedrock-converse-stream",
        {
            "metadata": {
                "usage": {
                    "inputTokens": 5,
                    "outputTokens": 60,
                    "totalTokens": 2165,
                    "cacheReadInputTokens": 2000,
                    "cacheWriteInputTokens": 100,
                },
                "metrics": {"latencyMs": 9},
            }
        },
        tokens=Tokens(input=105, output=60, cache=2000),
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html",
    ),
    shape(
        "claude-agent-model-usage",
        {
            "inputTokens": 18,
            "outputTokens": 134,
            "cacheReadInputTokens": 34204,
            "cacheCreationInputTokens": 574,
            "webSearchRequests": 0,
            "costUSD": 0.0144,
            "contextWindow": 200000,
            "maxOutputTokens": 64000,
        },
        tokens=Tokens(input=592, output=134, cache=34204),
        source="types of Claude Agent SDK",
    ),
    shape(
        "claude-agent-assistant-message",
        {
            "model": "claude-sonnet-4-5",
            "content": [],
            "usage": {
                "input_tokens": 9,
                "cache_creation_input_tokens": 287,
                "cache_read_input_tokens": 17102,
                "output_tokens": 1,
            },
            "message_id": "msg_1",
        },
        says="step of the Claude Agent SDK",
        source="https://code.claude.com/docs/en/agent-sdk/cost-tracking",
    ),
    shape(
        "openai-codex-exec",
        {
            "type": "turn.completed",
            "usage": {
                "input_tokens": 226616,
                "cached_input_tokens": 176640,
                "output_tokens": 1670,
                "reasoning_output_tokens": 529,
                "total_tokens": 228286,
            },
        },
        tokens=Tokens(input=49976, output=1670, cache=176640),
        source="https://github.com/PixelPaw-Labs/codex-trace/issues/154",
    ),
    shape(
        "cohere-embed-text",
        {"id": "1", "embeddings": {"float_": []}, "meta": {"billed_units": {"input_tokens": 12.0}}},
        tokens=Tokens(input=12, output=0),
        source="https://docs.cohere.com/v2/docs/how-does-cohere-pricing-work",
    ),
    shape(
        "cohere-embed-image-tokens",
        {
            "id": "1",
            "embeddings": {"float_": []},
            "meta": {"billed_units": {"input_tokens": 12.0, "image_tokens": 1500.0}},
        },
        says="image_tokens: is not known",
        source="types of Cohere embed",
    ),
    shape(
        "cohere-v2",
        {
            "id": "1",
            "finish_reason": "COMPLETE",
            "message": {"role": "assistant"},
            "usage": {
                "billed_units": {"input_tokens": 6772.0, "output_tokens": 248.0},
                "tokens": {"input_tokens": 7596.0, "output_tokens": 645.0},
                "cached_tokens": 448.0,
            },
        },
        tokens=Tokens(input=6772, output=248),
        source="https://docs.cohere.com/v2/docs/how-does-cohere-pricing-work",
    ),
    shape(
        "crewai-usage-metrics",
        {
            "total_tokens": 2306,
            "prompt_tokens": 2006,
            "cached_prompt_tokens": 1920,
            "completion_tokens": 300,
            "successful_requests": 1,
        },
        tokens=Tokens(input=86, output=300, cache=1920),
        source="https://github.com/crewAIInc/crewAI/pull/1596",
    ),
    shape(
        "dspy-response-usage",
        {
            "model": "gpt-4o-2024-08-06",
            "usage": {
                "input_tokens": 2006,
                "output_tokens": 300,
                "total_tokens": 2306,
                "cache_read_tokens": 1920,
                "cache_write_tokens": None,
                "reasoning_tokens": 120,
            },
        },
        tokens=Tokens(input=86, output=300, cache=1920),
        source="types of DSPy response",
    ),
    shape(
        "dashscope-cached-multimodal",
        {
            "status_code": 200,
            "request_id": "r",
            "output": {"choices": []},
            "usage": {
                "input_tokens": 3019,
                "output_tokens": 104,
                "total_tokens": 3123,
                "input_tokens_details": {"text_tokens": 1000, "image_tokens": 2019},
                "output_tokens_details": {"text_tokens": 104},
                "prompt_tokens_details": {"cached_tokens": 2048},
            },
        },
        tokens=Tokens(input=971, output=104, cache=2048),
        source="types of DashScope",
    ),
    shape(
        "deepseek-native",
        chat(
            {
                "prompt_tokens": 5734,
                "completion_tokens": 181,
                "total_tokens": 5915,
                "prompt_cache_hit_tokens": 4480,
                "prompt_cache_miss_tokens": 1254,
            },
            model="deepseek-chat",
        ),
        tokens=Tokens(input=1254, output=181, cache=4480),
        source="https://api-docs.deepseek.com/guides/kv_cache",
    ),
    shape(
        "gemini-batch-line",
        {
            "key": "r1",
            "response": {
                "candidates": [{"finishReason": "STOP"}],
                "modelVersion": "gemini-2.5-flash",
                "usageMetadata": {
                    "promptTokenCount": 15,
                    "candidatesTokenCount": 174,
                    "totalTokenCount": 189,
                },
            },
        },
        tokens=Tokens(input=15, output=174),
        source="https://ai.google.dev/gemini-api/docs/batch-api",
        model="gemini-2.5-flash",
    ),
    shape(
        "gemini-cache-details-only",
        {
            "candidates": [{"finishReason": "STOP"}],
            "usageMetadata": {
                "promptTokenCount": 4583,
                "candidatesTokenCount": 325,
                "thoughtsTokenCount": 874,
                "totalTokenCount": 5782,
                "cacheTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 1240},
                    {"modality": "IMAGE", "tokenCount": 807},
                ],
            },
        },
        tokens=Tokens(input=2536, output=1199, cache=2047),
        source="https://github.com/googleapis/python-genai/issues/795",
    ),
    shape(
        "gemini-afc",
        {
            "candidates": [{"finishReason": "STOP"}],
            "automaticFunctionCallingHistory": [
                {"role": "user", "parts": [{"text": "hi"}]},
                {
                    "role": "model",
                    "parts": [{"functionCall": {"name": "weather", "args": {"city": "Paris"}}}],
                },
                {
                    "role": "user",
                    "parts": [{"functionResponse": {"name": "weather", "response": {"sky": "clear"}}}],
                },
            ],
            "usageMetadata": {"promptTokenCount": 1000, "candidatesTokenCount": 50, "totalTokenCount": 1050},
        },
        says="automatic function calling",
        source="https://github.com/googleapis/python-genai/issues/2838",
    ),
    shape(
        "gemini-prompt-blocked",
        {
            "promptFeedback": {"blockReason": "SAFETY"},
            "usageMetadata": {"promptTokenCount": 12, "totalTokenCount": 12},
        },
        tokens=Tokens(input=12, output=0),
        source="types of Gemini",
    ),
    shape(
        "gemini-embed",
        {"embeddings": [], "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9}},
        tokens=Tokens(input=9, output=0),
        source="types of Gemini embeddings",
    ),
    shape(
        "gemini-unfinished-chunk",
        {
            "candidates": [{"content": {"role": "model", "parts": [{"text": "Hi"}]}, "index": 0}],
            "modelVersion": "gemini-2.5-flash",
            "usageMetadata": {
                "promptTokenCount": 1000,
                "candidatesTokenCount": 1,
                "thoughtsTokenCount": 200,
                "totalTokenCount": 1201,
            },
        },
        says="without a finish reason",
        source="types of Gemini stream",
    ),
    shape(
        "gemini-count-tokens",
        {"totalTokens": 31, "cachedContentTokenCount": 0},
        says="before a call",
        source="types of Gemini count_tokens",
    ),
    shape(
        "google-adk-event",
        {
            "author": "a",
            "modelVersion": "gemini-2.5-flash",
            "usageMetadata": {
                "promptTokenCount": 1000,
                "cachedContentTokenCount": 300,
                "candidatesTokenCount": 50,
                "totalTokenCount": 1050,
            },
        },
        tokens=Tokens(input=700, output=50, cache=300),
        source="types of Google ADK",
    ),
    shape(
        "groq-compound",
        chat(
            {"prompt_tokens": 900, "completion_tokens": 100, "total_tokens": 1000},
            model="groq/compound",
            usage_breakdown={
                "models": [
                    {
                        "model": "m1",
                        "usage": {"prompt_tokens": 500, "completion_tokens": 60, "total_tokens": 560},
                    },
                    {
                        "model": "m2",
                        "usage": {"prompt_tokens": 400, "completion_tokens": 40, "total_tokens": 440},
                    },
                ]
            },
        ),
        tokens=Tokens(input=900, output=100),
        source="types of Groq compound",
    ),
    shape(
        "haystack-chat-message",
        {
            "role": "assistant",
            "meta": {"model": "gpt-4o-2024-08-06", "index": 0, "finish_reason": "stop", "usage": CHAT_USAGE},
        },
        tokens=Tokens(input=86, output=300, cache=1920),
        source="types of Haystack ChatMessage",
    ),
    shape(
        "instructor-raw-response",
        {"city": "Paris", "_raw_response": chat(CHAT_USAGE)},
        tokens=Tokens(input=86, output=300, cache=1920),
        source="types of Instructor",
    ),
    shape(
        "langchain-exclusive-bedrock",
        {
            "content": "Hi",
            "response_metadata": {},
            "usage_metadata": {
                "input_tokens": 5,
                "output_tokens": 60,
                "total_tokens": 2165,
                "input_token_details": {"cache_creation": 100, "cache_read": 2000},
            },
        },
        tokens=Tokens(input=105, output=60, cache=2000),
        source="https://github.com/langchain-ai/langsmith-sdk/issues/1858",
    ),
    shape(
        "langchain-agent-result",
        {
            "messages": [
                {
                    "type": "ai",
                    "content": "",
                    "usage_metadata": {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12},
                    "response_metadata": {"model_name": "gpt-4o"},
                },
                {
                    "type": "ai",
                    "content": "",
                    "usage_metadata": {"input_tokens": 30, "output_tokens": 4, "total_tokens": 34},
                    "response_metadata": {"model_name": "gpt-4o"},
                },
            ]
        },
        says="2 requests",
        source="types of LangChain agent",
    ),
    shape(
        "langchain-mistral-lost-cache",
        {
            "content": "Hi",
            "response_metadata": {"model_name": "mistral-large", "token_usage": CHAT_USAGE},
            "usage_metadata": {"input_tokens": 2006, "output_tokens": 300, "total_tokens": 2306},
        },
        tokens=Tokens(input=86, output=300, cache=1920),
        source="types of LangChain over Mistral",
    ),
    shape(
        "langchain-lost-prompt",
        {
            "content": "Hi",
            "response_metadata": {"model_name": "claude-x"},
            "usage_metadata": {
                "input_tokens": 0,
                "output_tokens": 67,
                "total_tokens": 67,
                "input_token_details": {},
            },
        },
        says="no prompt count",
        source="https://github.com/langchain-ai/langchain/pull/35532",
    ),
    shape(
        "litellm-batch",
        {
            "id": "b",
            "object": "batch",
            "model": "gpt-5-2025-08-07",
            "usage": {
                "completion_tokens": 0,
                "prompt_tokens": 0,
                "total_tokens": 51279835,
                "completion_tokens_details": None,
                "prompt_tokens_details": None,
                "input_tokens": 31493594,
                "output_tokens": 19786241,
                "input_tokens_details": {"cached_tokens": 24045184},
                "output_tokens_details": {"reasoning_tokens": 18373824},
            },
        },
        tokens=Tokens(input=7448410, output=19786241, cache=24045184),
        source="https://github.com/BerriAI/litellm/issues/14884",
    ),
    shape(
        "litellm-standard-logging-object-redacted",
        {
            "id": "chatcmpl-1",
            "call_type": "completion",
            "model": "gpt-4o",
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "response": {"text": "redacted-by-litellm"},
            "metadata": {"usage_object": CHAT_USAGE},
        },
        tokens=Tokens(input=86, output=300, cache=1920),
        source="https://docs.litellm.ai/docs/proxy/logging_spec",
    ),
    shape(
        "litellm-chunk-no-usage",
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1700000000,
            "model": "gpt-4o-2024-08-06",
            "choices": [],
            "usage": None,
        },
        says="stream_options",
        source="https://docs.litellm.ai/docs/completion/usage",
    ),
    shape(
        "llama-index-chat-response",
        {"message": {"role": "assistant"}, "raw": chat(CHAT_USAGE), "additional_kwargs": {}},
        tokens=Tokens(input=86, output=300, cache=1920),
        source="https://github.com/Arize-ai/phoenix/issues/2616",
    ),
    shape(
        "bedrock-llama-invoke",
        {"generation": "Hi", "prompt_token_count": 25, "generation_token_count": 119, "stop_reason": "stop"},
        tokens=Tokens(input=25, output=119),
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-meta.html",
    ),
    shape(
        "mistral-transcription",
        {
            "model": "voxtral-mini-latest",
            "text": "hi",
            "language": "en",
            "segments": [],
            "usage": {
                "prompt_audio_seconds": 203,
                "prompt_tokens": 4,
                "completion_tokens": 635,
                "total_tokens": 3264,
            },
        },
        says="another unit",
        source="https://docs.mistral.ai/models/voxtral-mini-transcribe-25-07",
    ),
    shape(
        "mistral-chat",
        chat(
            {
                "prompt_tokens": 1013,
                "completion_tokens": 30,
                "total_tokens": 1043,
                "prompt_tokens_details": {"cached_tokens": 1008},
            },
            id="1",
            model="mistral-large-latest",
            created=1,
            choices=[],
        ),
        tokens=Tokens(input=5, output=30, cache=1008),
        source="https://docs.mistral.ai",
    ),
    shape(
        "kimi-both-spellings",
        chat(
            {
                "prompt_tokens": 1336,
                "completion_tokens": 31,
                "total_tokens": 1367,
                "cached_tokens": 1280,
                "prompt_tokens_details": {"cached_tokens": 1280},
            },
            model="kimi-k2",
        ),
        tokens=Tokens(input=56, output=31, cache=1280),
        source="types of Moonshot Kimi",
    ),
    shape(
        "kimi-top-level-cached",
        chat(
            {"prompt_tokens": 1336, "completion_tokens": 31, "total_tokens": 1367, "cached_tokens": 1280},
            model="kimi-k2",
        ),
        tokens=Tokens(input=56, output=31, cache=1280),
        source="https://github.com/AstrBotDevs/AstrBot/issues/6614",
    ),
    shape(
        "ollama-native",
        {
            "model": "llama3.2",
            "done": True,
            "message": {"role": "assistant", "content": "hi"},
            "prompt_eval_count": 26,
            "eval_count": 298,
        },
        tokens=Tokens(input=26, output=298),
        source="https://github.com/ollama/ollama/blob/main/docs/api.md",
    ),
    shape(
        "openai-evals-sample-usage",
        {"cached_tokens": 1920, "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306},
        tokens=Tokens(input=86, output=300, cache=1920),
        source="types of OpenAI Evals",
    ),
    shape(
        "openai-chat",
        chat(CHAT_USAGE),
        tokens=Tokens(input=86, output=300, cache=1920),
        source="https://platform.openai.com/docs/guides/prompt-caching",
        model="gpt-4o-2024-08-06",
    ),
    shape(
        "openai-responses-failed-event",
        {"type": "response.failed", "sequence_number": 9, "response": response(None, status="failed")},
        says="costs nothing",
        source="types of OpenAI Responses stream",
    ),
    shape(
        "openai-agents-usage",
        {
            "requests": 2,
            "input_tokens": 24066,
            "input_tokens_details": {"cached_tokens": 23808, "cache_write_tokens": 0},
            "output_tokens": 88,
            "output_tokens_details": {"reasoning_tokens": 40},
            "total_tokens": 24154,
        },
        tokens=Tokens(input=258, output=88, cache=23808),
        source="https://github.com/openai/openai-agents-python/pull/555",
    ),
    shape(
        "openai-agents-streamed-zero",
        {
            "requests": 2,
            "input_tokens": 0,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 0,
        },
        says="nothing but zeros",
        source="https://github.com/openai/openai-agents-python/issues/1722",
    ),
    shape(
        "openai-responses",
        response(
            {
                "input_tokens": 12033,
                "input_tokens_details": {"cached_tokens": 11904, "cache_write_tokens": 64},
                "output_tokens": 44,
                "output_tokens_details": {"reasoning_tokens": 20},
                "total_tokens": 12077,
            }
        ),
        tokens=Tokens(input=129, output=44, cache=11904),
        source="https://platform.openai.com/docs/guides/prompt-caching",
    ),
    shape(
        "openai-assistants-run",
        {
            "id": "run_1",
            "object": "thread.run",
            "assistant_id": "a",
            "thread_id": "t",
            "created_at": 1,
            "status": "completed",
            "model": "gpt-4o",
            "instructions": "",
            "tools": [],
            "metadata": {},
            "parallel_tool_calls": True,
            "usage": {"prompt_tokens": 123, "completion_tokens": 456, "total_tokens": 579},
        },
        tokens=Tokens(input=123, output=456),
        source="types of OpenAI Assistants",
        model="gpt-4o",
    ),
    shape(
        "openai-organization-usage",
        {
            "object": "organization.usage.completions.result",
            "num_model_requests": 3,
            "input_tokens": 6018,
            "input_cached_tokens": 5760,
            "output_tokens": 900,
            "model": "gpt-4o-2024-08-06",
        },
        tokens=Tokens(input=258, output=900, cache=5760),
        source="types of OpenAI usage API",
    ),
    shape(
        "openai-chat-audio",
        chat(
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 60, "text_tokens": 40},
                "completion_tokens_details": {"audio_tokens": 30, "text_tokens": 20},
            }
        ),
        tokens=Tokens(input=100, output=50, cache=0),
        source="https://platform.openai.com/docs/guides/prompt-caching",
    ),
    shape(
        "openai-realtime-response-done",
        {
            "type": "response.done",
            "event_id": "e",
            "response": {
                "id": "r",
                "object": "realtime.response",
                "usage": {
                    "total_tokens": 744,
                    "input_tokens": 513,
                    "output_tokens": 231,
                    "input_token_details": {
                        "cached_tokens": 448,
                        "text_tokens": 113,
                        "audio_tokens": 400,
                        "cached_tokens_details": {"text_tokens": 48, "audio_tokens": 400},
                    },
                },
            },
        },
        tokens=Tokens(input=65, output=231, cache=448),
        source="types of OpenAI Realtime",
    ),
    shape(
        "openai-chat-stream-usage-chunk",
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1700000000,
            "model": "gpt-4o-2024-08-06",
            "choices": [],
            "usage": CHAT_USAGE,
        },
        tokens=Tokens(input=86, output=300, cache=1920),
        source="https://platform.openai.com/docs/guides/prompt-caching",
    ),
    shape(
        "openai-chat-predicted-output",
        chat(
            {
                "prompt_tokens": 440,
                "completion_tokens": 68,
                "total_tokens": 508,
                "completion_tokens_details": {
                    "accepted_prediction_tokens": 20,
                    "rejected_prediction_tokens": 17,
                    "reasoning_tokens": 0,
                },
            }
        ),
        tokens=Tokens(input=440, output=68),
        source="types of OpenAI chat",
    ),
    shape(
        "openai-assistants-run-in-progress",
        {
            "id": "run_1",
            "object": "thread.run",
            "assistant_id": "a",
            "thread_id": "t",
            "created_at": 1,
            "status": "in_progress",
            "model": "gpt-4o",
            "instructions": "",
            "tools": [],
            "metadata": {},
            "parallel_tool_calls": True,
            "usage": None,
        },
        says="its status is in_progress",
        source="types of OpenAI Assistants",
    ),
    shape(
        "openai-chat-stream-no-include-usage",
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1700000000,
            "model": "gpt-4o-2024-08-06",
            "choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": "stop"}],
            "usage": None,
        },
        says="stream_options",
        source="https://platform.openai.com/docs/api-reference/chat",
    ),
    shape(
        "openai-embeddings",
        {
            "object": "list",
            "model": "text-embedding-3-small",
            "data": [],
            "usage": {"prompt_tokens": 8, "total_tokens": 8},
        },
        tokens=Tokens(input=8, output=0),
        source="types of OpenAI embeddings",
        model="text-embedding-3-small",
    ),
    shape(
        "openai-chat-zero-usage",
        chat({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
        says="nothing but zeros",
        source="https://github.com/aws-samples/bedrock-access-gateway/issues/15",
    ),
    shape(
        "openrouter",
        chat(
            {
                "prompt_tokens": 17903,
                "completion_tokens": 60,
                "total_tokens": 17963,
                "cost": 0.01,
                "is_byok": False,
                "prompt_tokens_details": {"cached_tokens": 17817, "cache_write_tokens": 0, "audio_tokens": 0},
                "cost_details": {"upstream_inference_cost": None},
                "completion_tokens_details": {"reasoning_tokens": 0},
            },
            model="anthropic/claude-sonnet-4.5",
        ),
        tokens=Tokens(input=86, output=60, cache=17817),
        source="https://openrouter.ai/docs",
        model="anthropic/claude-sonnet-4.5",
    ),
    shape(
        "perplexity-responses",
        {
            "id": "r",
            "object": "response",
            "model": "sonar",
            "usage": {
                "input_tokens": 2006,
                "input_tokens_details": {"cache_read_input_tokens": 1920, "cache_creation_input_tokens": 0},
                "output_tokens": 300,
                "total_tokens": 2306,
            },
        },
        tokens=Tokens(input=86, output=300, cache=1920),
        source="types of Perplexity Agent API",
    ),
    shape(
        "pydantic-ai-run-usage",
        {
            "input_tokens": 34796,
            "cache_write_tokens": 574,
            "cache_read_tokens": 34204,
            "output_tokens": 134,
            "requests": 2,
            "tool_calls": 1,
            "details": {"input_tokens": 18},
        },
        tokens=Tokens(input=592, output=134, cache=34204),
        source="https://github.com/langfuse/langfuse/issues/12306",
    ),
    shape(
        "pydantic-ai-request-usage",
        {
            "input_tokens": 12033,
            "cache_read_tokens": 11904,
            "output_tokens": 44,
            "output_reasoning_tokens": 20,
        },
        tokens=Tokens(input=129, output=44, cache=11904),
        source="https://github.com/vercel-labs/ai-python/pull/159",
    ),
    shape(
        "strands-openai",
        {"inputTokens": 2006, "outputTokens": 300, "totalTokens": 2306, "cacheReadInputTokens": 1920},
        tokens=Tokens(input=86, output=300, cache=1920),
        source="types of Strands Agents",
    ),
    shape(
        "vercel-ai-sdk-v5",
        {
            "usage": {
                "inputTokens": 2006,
                "outputTokens": 300,
                "totalTokens": 2306,
                "reasoningTokens": 120,
                "cachedInputTokens": 1920,
            }
        },
        tokens=Tokens(input=86, output=300, cache=1920),
        source="https://github.com/langfuse/langfuse/issues/9482",
    ),
    shape(
        "gemini-vertex-embed-statistics",
        {
            "embeddings": [{"values": [0.1], "statistics": {"tokenCount": 9.0, "truncated": False}}],
            "metadata": {"billableCharacterCount": 36},
        },
        says="another unit",
        source="types of Vertex embeddings",
    ),
    shape(
        "voyage-embed",
        {"object": "list", "model": "voyage-3", "data": [], "usage": {"total_tokens": 10}},
        tokens=Tokens(input=10, output=0),
        source="https://docs.voyageai.com/reference/embeddings-api",
    ),
    shape(
        "zhipu",
        chat(
            {
                "prompt_tokens": 1200,
                "completion_tokens": 300,
                "total_tokens": 1500,
                "prompt_tokens_details": {"cached_tokens": 800},
            },
            model="glm-4.6",
        ),
        tokens=Tokens(input=400, output=300, cache=800),
        source="https://docs.z.ai/guides/capabilities/cache",
    ),
    shape(
        "smolagents-token-usage",
        {"input_tokens": 2006, "output_tokens": 300, "total_tokens": 2306},
        tokens=Tokens(input=2006, output=300),
        source="https://github.com/huggingface/smolagents/pull/2143",
    ),
    shape(
        "xai-chat",
        chat(
            {
                "prompt_tokens": 2640,
                "completion_tokens": 182,
                "total_tokens": 3494,
                "prompt_tokens_details": {
                    "text_tokens": 2640,
                    "audio_tokens": 0,
                    "image_tokens": 0,
                    "cached_tokens": 473,
                },
                "completion_tokens_details": {"reasoning_tokens": 672},
            },
            model="grok-4",
        ),
        tokens=Tokens(input=2167, output=854, cache=473),
        source="https://docs.x.ai/developers/advanced-api-usage/prompt-caching/usage-and-pricing",
    ),
    shape(
        "xai-sdk",
        {
            "prompt_tokens": 2640,
            "completion_tokens": 182,
            "reasoning_tokens": 672,
            "total_tokens": 3494,
            "prompt_text_tokens": 2640,
            "cached_prompt_text_tokens": 473,
        },
        tokens=Tokens(input=2167, output=854, cache=473),
        source="https://docs.x.ai",
    ),
    # Totals and reasoning
    shape(
        "gemini-openai-endpoint",
        chat({"prompt_tokens": 20, "completion_tokens": 424, "total_tokens": 1016}, model="gemini-2.5-flash"),
        tokens=Tokens(input=20, output=996),
        source="https://github.com/Clarifai/clarifai-python/pull/978",
    ),
    shape(
        "gemini-through-a-proxy",
        chat(
            {
                "prompt_tokens": 21,
                "completion_tokens": 0,
                "total_tokens": 81,
                "completion_tokens_details": {"reasoning_tokens": 60},
            }
        ),
        tokens=Tokens(input=21, output=60),
        source="https://github.com/router-for-me/CLIProxyAPI/issues/5733",
    ),
    shape(
        "gemini-thoughts-left-out",
        {"usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 198, "totalTokenCount": 623}},
        tokens=Tokens(input=20, output=603),
        source="https://github.com/mozilla-ai/any-llm/issues/1290",
    ),
    shape(
        "gemini-thoughts-inside",
        {
            "usageMetadata": {
                "promptTokenCount": 20,
                "candidatesTokenCount": 603,
                "thoughtsTokenCount": 405,
                "totalTokenCount": 623,
            }
        },
        tokens=Tokens(input=20, output=603),
        source="https://ai.google.dev/api/generate-content#UsageMetadata",
    ),
    shape(
        "gemini-tools-inside",
        {
            "usageMetadata": {
                "promptTokenCount": 140,
                "candidatesTokenCount": 10,
                "toolUsePromptTokenCount": 40,
                "totalTokenCount": 150,
            }
        },
        tokens=Tokens(input=140, output=10),
        source="https://ai.google.dev/api/generate-content#UsageMetadata",
    ),
    shape(
        "xai-responses",
        response(
            {
                "input_tokens": 125,
                "input_tokens_details": {"cached_tokens": 98},
                "output_tokens": 48,
                "output_tokens_details": {"reasoning_tokens": 30},
                "total_tokens": 173,
                "num_sources_used": 3,
                "cost_in_usd_ticks": 12345,
            },
            model="grok-4",
        ),
        tokens=Tokens(input=27, output=48, cache=98),
        other={"num_sources_used": 3},
        source="https://docs.x.ai/developers/advanced-api-usage/prompt-caching/usage-and-pricing",
    ),
    shape(
        "reasoning-above-the-output",
        chat(
            {
                "prompt_tokens": 30,
                "completion_tokens": 20,
                "completion_tokens_details": {"reasoning_tokens": 500},
            }
        ),
        tokens=Tokens(input=30, output=520),
        source="https://github.com/UKGovernmentBEIS/inspect_ai/issues/5528",
    ),
    shape(
        "perplexity-deep-research",
        chat(
            {
                "prompt_tokens": 33,
                "completion_tokens": 7163,
                "total_tokens": 7196,
                "citation_tokens": 14016,
                "num_search_queries": 18,
                "reasoning_tokens": 73997,
            },
            model="sonar-deep-research",
        ),
        says="response.usage.reasoning_tokens: is larger than the output",
        source="https://docs.perplexity.ai/getting-started/pricing",
    ),
    shape(
        "perplexity-sonar",
        chat(
            {
                "prompt_tokens": 14,
                "completion_tokens": 70,
                "total_tokens": 84,
                "search_context_size": "low",
                "num_search_queries": 1,
                "citation_tokens": 7,
            },
            model="sonar",
        ),
        tokens=Tokens(input=14, output=70),
        other={"num_search_queries": 1, "citation_tokens": 7},
        source="https://docs.perplexity.ai/getting-started/pricing",
    ),
    shape(
        "a-total-nothing-explains",
        {
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 190,
                "prompt_tokens_details": {"cached_tokens": 20},
            }
        },
        says="response.usage.total_tokens: is more than",
        source="https://github.com/BerriAI/litellm/issues/14884",
    ),
    shape(
        "a-total-of-zero",
        {"usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 0}},
        tokens=Tokens(input=100, output=50),
        source="https://github.com/BerriAI/litellm/issues/14884",
    ),
    shape(
        "a-total-below-the-counts",
        {
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 120,
                "prompt_tokens_details": {"cached_tokens": 30},
            }
        },
        tokens=Tokens(input=70, output=50, cache=30),
        source="https://github.com/assafelovic/gpt-researcher/issues/2065",
    ),
    shape(
        "predictions-of-openai",
        chat(
            {
                "prompt_tokens": 440,
                "completion_tokens": 68,
                "total_tokens": 508,
                "completion_tokens_details": {
                    "accepted_prediction_tokens": 20,
                    "rejected_prediction_tokens": 17,
                },
            }
        ),
        tokens=Tokens(input=440, output=68),
        source="https://platform.openai.com/docs/guides/predicted-outputs",
    ),
    # Cache: inside, beside, and under which names
    shape(
        "more-cached-than-prompt",
        response(
            {"input_tokens": 5136, "output_tokens": 201, "input_tokens_details": {"cached_tokens": 10192}}
        ),
        tokens=Tokens(input=5136, output=201, cache=10192),
        source="https://github.com/openai/openai-agents-js/issues/995",
    ),
    shape(
        "anthropic-names-inside-by-the-total",
        {
            "usage": {
                "input_tokens": 2006,
                "output_tokens": 300,
                "total_tokens": 2306,
                "cache_read_input_tokens": 1920,
            }
        },
        tokens=Tokens(input=86, output=300, cache=1920),
        source="https://github.com/langfuse/langfuse/issues/12306",
    ),
    shape(
        "anthropic-names-beside-by-the-total",
        {
            "usage": {
                "input_tokens": 86,
                "output_tokens": 300,
                "total_tokens": 406,
                "cache_read_input_tokens": 20,
            }
        },
        tokens=Tokens(input=86, output=300, cache=20),
        source="https://docs.anthropic.com/en/api/messages",
    ),
    shape(
        "anthropic-writes-by-lifetime-alone",
        message(
            {
                "input_tokens": 9,
                "output_tokens": 67,
                "cache_read_input_tokens": 5,
                "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 187},
            }
        ),
        tokens=Tokens(input=296, output=67, cache=5),
        other={"cache_write_tokens": 287, "cache_write_1h_tokens": 187},
        source="https://docs.anthropic.com/en/api/messages",
    ),
    shape(
        "anthropic-all-from-the-cache",
        message({"input_tokens": 0, "output_tokens": 67, "cache_read_input_tokens": 17102}),
        tokens=Tokens(input=0, output=67, cache=17102),
        source="https://docs.anthropic.com/en/api/messages",
    ),
    shape(
        "bedrock-write-by-lifetime",
        {
            "stopReason": "end_turn",
            "usage": {
                "inputTokens": 5,
                "outputTokens": 60,
                "totalTokens": 2165,
                "cacheReadInputTokens": 2000,
                "cacheWriteInputTokens": 100,
                "cacheDetails": [{"ttl": "1h", "inputTokens": 100}],
            },
        },
        tokens=Tokens(input=105, output=60, cache=2000),
        provider="bedrock",
        source="https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html",
    ),
    shape(
        "bedrock-headers-with-cache",
        {
            "ResponseMetadata": {
                "RequestId": "r-1",
                "HTTPHeaders": {
                    "x-amzn-bedrock-input-token-count": "25",
                    "x-amzn-bedrock-output-token-count": "119",
                    "x-amzn-bedrock-cache-read-input-token-count": "7",
                    "x-amzn-bedrock-cache-write-input-token-count": "3",
                },
            }
        },
        tokens=Tokens(input=28, output=119, cache=7),
        id="r-1",
        source="https://github.com/boto/boto3/issues/3884",
    ),
    shape(
        "bedrock-nova-with-a-short-cache",
        {
            "usage": {
                "inputTokens": 500,
                "outputTokens": 60,
                "totalTokens": 560,
                "cacheReadInputTokenCount": 200,
            }
        },
        tokens=Tokens(input=500, output=60, cache=200),
        source="https://docs.aws.amazon.com/nova/latest/userguide/using-invoke-api.html",
    ),
    shape(
        "langchain-tier-names",
        {
            "usage_metadata": {
                "input_tokens": 350,
                "output_tokens": 240,
                "total_tokens": 590,
                "input_token_details": {"flex_cache_read": 50, "flex": 300},
                "output_token_details": {"flex_reasoning": 20, "flex": 220},
            }
        },
        tokens=Tokens(input=300, output=240, cache=50),
        source="https://reference.langchain.com/python/langchain-core/messages/ai/UsageMetadata",
    ),
    shape(
        "langchain-anthropic-writes-by-lifetime",
        {
            "usage_metadata": {
                "input_tokens": 350,
                "output_tokens": 240,
                "total_tokens": 590,
                "input_token_details": {
                    "cache_read": 100,
                    "cache_creation": 0,
                    "ephemeral_5m_input_tokens": 0,
                    "ephemeral_1h_input_tokens": 200,
                },
            }
        },
        tokens=Tokens(input=250, output=240, cache=100),
        other={"cache_write_tokens": 200},
        source="https://reference.langchain.com/python/langchain-core/messages/ai/UsageMetadata",
    ),
    shape(
        "openrouter-generation",
        {
            "data": {
                "id": "gen-1",
                "model": "openai/gpt-4o",
                "tokens_prompt": 90,
                "tokens_completion": 30,
                "native_tokens_prompt": 100,
                "native_tokens_completion": 40,
                "native_tokens_reasoning": 10,
                "native_tokens_cached": 60,
            }
        },
        tokens=Tokens(input=40, output=40, cache=60),
        id="gen-1",
        provider="openrouter",
        model="openai/gpt-4o",
        source="https://openrouter.ai/docs/api-reference/get-a-generation",
    ),
    shape(
        "ai-sdk-v6",
        {
            "totalUsage": {
                "inputTokens": 2006,
                "outputTokens": 300,
                "totalTokens": 2306,
                "inputTokenDetails": {"noCacheTokens": 86, "cacheReadTokens": 1920, "cacheWriteTokens": 0},
                "outputTokenDetails": {"textTokens": 180, "reasoningTokens": 120},
            },
            "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
        },
        tokens=Tokens(input=86, output=300, cache=1920),
        source="https://ai-sdk.dev/docs/reference/ai-sdk-core/generate-text",
    ),
    shape(
        "ai-sdk-provider-v3",
        {
            "usage": {
                "inputTokens": {"total": 2006, "noCache": 86, "cacheRead": 1920, "cacheWrite": None},
                "outputTokens": {"total": 300, "text": 180, "reasoning": 120},
            }
        },
        tokens=Tokens(input=86, output=300, cache=1920),
        source="https://ai-sdk.dev/providers/community-providers/custom-providers",
    ),
    shape(
        "ai-sdk-response",
        {
            "usage": {"promptTokens": 12, "completionTokens": 5, "totalTokens": 17},
            "response": {"id": "msg_9", "modelId": "claude-sonnet-4-5"},
        },
        tokens=Tokens(input=12, output=5),
        id="msg_9",
        model="claude-sonnet-4-5",
        provider="anthropic",
        source="https://ai-sdk.dev/docs/reference/ai-sdk-core/generate-text",
    ),
    shape(
        "cursor-agent",
        {"usage": {"inputTokens": 1000, "outputTokens": 40, "cacheReadTokens": 700, "cacheWriteTokens": 50}},
        tokens=Tokens(input=300, output=40, cache=700),
        source="https://github.com/omnigent-ai/omnigent/issues/1801",
    ),
    shape(
        "dagger",
        {
            "tokenUsage": {
                "inputTokens": 86,
                "outputTokens": 300,
                "totalTokens": 2406,
                "cachedTokenReads": 1920,
                "cachedTokenWrites": 100,
            }
        },
        tokens=Tokens(input=186, output=300, cache=1920),
        source="https://docs.dagger.io/extending/types/llm-token-usage",
    ),
    shape(
        "fireworks",
        {
            "usage": {
                "prompt_tokens": 1336,
                "completion_tokens": 31,
                "total_tokens": 1367,
                "cached_tokens": 1280,
            }
        },
        tokens=Tokens(input=56, output=31, cache=1280),
        source="https://docs.together.ai/docs/prompt-caching",
    ),
    shape(
        "helicone",
        {
            "usage": {
                "prompt_tokens": 2006,
                "completion_tokens": 300,
                "prompt_cache_read_tokens": 1920,
                "prompt_cache_write_tokens": 10,
            }
        },
        tokens=Tokens(input=86, output=300, cache=1920),
        source="https://docs.helicone.ai/rest/request/post-v1requestquery",
    ),
    shape(
        "gigachat",
        chat(
            {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, "precached_prompt_tokens": 2},
            model="GigaChat-2",
        ),
        tokens=Tokens(input=7, output=3, cache=2),
        source="https://developers.sber.ru/docs/ru/gigachat/guides/keeping-context",
    ),
    shape(
        "langfuse-usage-details",
        {"usageDetails": {"input": 86, "output": 300, "input_cached_tokens": 1920, "total": 2306}},
        tokens=Tokens(input=86, output=300, cache=1920),
        source="https://langfuse.com/docs/observability/features/token-and-cost-tracking",
    ),
    shape(
        "langfuse-usage-in-characters",
        {"model": "gpt-4o", "usage": {"input": 10, "output": 5, "total": 15, "unit": "CHARACTERS"}},
        says="response.usage.unit: is a count in another unit",
        source="https://langfuse.com/docs/observability/features/token-and-cost-tracking",
    ),
    shape(
        "langchain4j",
        {
            "metadata": {
                "id": "chatcmpl-1",
                "modelName": "gpt-4o",
                "tokenUsage": {"inputTokenCount": 12, "outputTokenCount": 5, "totalTokenCount": 17},
            }
        },
        tokens=Tokens(input=12, output=5),
        id="chatcmpl-1",
        model="gpt-4o",
        source="https://docs.langchain4j.dev/tutorials/response-metadata",
    ),
    shape(
        "dashscope-explicit-cache",
        chat(
            {
                "prompt_tokens": 1500,
                "completion_tokens": 10,
                "total_tokens": 1510,
                "prompt_tokens_details": {
                    "cache_creation": {"ephemeral_5m_input_tokens": 1400},
                    "cache_creation_input_tokens": 1400,
                    "cache_type": "ephemeral",
                    "cached_tokens": 0,
                },
            }
        ),
        tokens=Tokens(input=1500, output=10, cache=0),
        other={"cache_write_tokens": 1400},
        source="https://help.aliyun.com/zh/model-studio/context-cache",
    ),
    shape(
        "bedrock-converse-with-both-names-for-the-cache",
        {
            "output": {},
            "stopReason": "end_turn",
            "usage": {
                "inputTokens": 30,
                "outputTokens": 10,
                "totalTokens": 540,
                "cacheReadInputTokenCount": 500,
                "cacheReadInputTokens": 500,
                "cacheWriteInputTokenCount": 0,
                "cacheWriteInputTokens": 0,
            },
        },
        tokens=Tokens(input=30, output=10, cache=500),
        provider="bedrock",
        source="https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html",
    ),
    shape(
        "opentelemetry-attributes",
        {
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 5,
            "gen_ai.usage.cache_read.input_tokens": 60,
            "gen_ai.response.model": "gpt-4o",
            "gen_ai.response.id": "chatcmpl-9",
            "gen_ai.provider.name": "openai",
        },
        tokens=Tokens(input=40, output=5, cache=60),
        id="chatcmpl-9",
        model="gpt-4o",
        provider="openai",
        source="https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/",
    ),
    shape(
        "openinference-attributes",
        {
            "llm.token_count.prompt": 100,
            "llm.token_count.completion": 5,
            "llm.token_count.total": 105,
            "llm.token_count.prompt_details.cache_read": 60,
            "llm.model_name": "gpt-4o",
        },
        tokens=Tokens(input=40, output=5, cache=60),
        model="gpt-4o",
        source="https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md",
    ),
    shape(
        "pydantic-ai-of-old",
        {
            "requests": 1,
            "request_tokens": 2006,
            "response_tokens": 300,
            "total_tokens": 2306,
            "details": {"cached_tokens": 1920, "reasoning_tokens": 120},
        },
        tokens=Tokens(input=86, output=300, cache=1920),
        source="https://ai.pydantic.dev/api/usage/",
    ),
    shape(
        "pydantic-ai-response-with-the-id-of-what-was-asked-for",
        {
            "model_name": "gpt-4o-2024-08-06",
            "model_id": "openai:gpt-4o",
            "provider_name": "openai",
            "usage": {"input_tokens": 2006, "cache_read_tokens": 1920, "output_tokens": 300},
        },
        tokens=Tokens(input=86, output=300, cache=1920),
        model="gpt-4o-2024-08-06",
        source="https://ai.pydantic.dev/api/messages/",
    ),
    shape(
        "pydantic-ai-unmeasured",
        {"input_tokens": 220, "output_tokens": 20, "requests": 2, "unmeasured_requests": 1},
        says="unmeasured_requests: says that",
        source="https://ai.pydantic.dev/api/usage/",
    ),
    shape(
        "strands-result",
        {
            "stop_reason": "end_turn",
            "metrics": {
                "cycle_count": 2,
                "accumulated_usage": {
                    "inputTokens": 9,
                    "outputTokens": 60,
                    "totalTokens": 2069,
                    "cacheReadInputTokens": 2000,
                },
            },
        },
        tokens=Tokens(input=9, output=60, cache=2000),
        source="https://strandsagents.com/latest/",
    ),
    shape(
        "agno",
        {
            "model": "gpt-4o",
            "metrics": {
                "input_tokens": 2006,
                "output_tokens": 300,
                "total_tokens": 2306,
                "cache_read_tokens": 1920,
                "cache_write_tokens": 0,
                "reasoning_tokens": 120,
                "audio_input_tokens": 0,
                "time_to_first_token": 0.5,
            },
        },
        tokens=Tokens(input=86, output=300, cache=1920),
        source="https://docs.agno.com/basics/agents/metrics",
    ),
    shape(
        "letta",
        {
            "usage": {
                "completion_tokens": 300,
                "prompt_tokens": 2006,
                "total_tokens": 2306,
                "step_count": 1,
                "cached_input_tokens": 1920,
                "reasoning_tokens": 120,
            }
        },
        tokens=Tokens(input=86, output=300, cache=1920),
        source="https://docs.letta.com/api-reference/agents/messages/create",
    ),
    shape(
        "autogen",
        {
            "source": "assistant",
            "content": "Hi",
            "models_usage": {"prompt_tokens": 50, "completion_tokens": 6},
        },
        tokens=Tokens(input=50, output=6),
        source="https://microsoft.github.io/autogen/stable/reference/python/autogen_core.models.html",
    ),
    shape(
        "codex-token-count",
        {
            "type": "event_msg",
            "payload": {
                "type": "token_count",
                "info": {
                    "total_token_usage": {"input_tokens": 90000, "output_tokens": 900, "total_tokens": 90900},
                    "last_token_usage": {
                        "input_tokens": 9000,
                        "cached_input_tokens": 8000,
                        "output_tokens": 90,
                        "reasoning_output_tokens": 10,
                        "total_tokens": 9090,
                    },
                },
            },
        },
        tokens=Tokens(input=1000, output=90, cache=8000),
        source="https://github.com/PixelPaw-Labs/codex-trace/issues/154",
    ),
    # Names
    shape(
        "titan-text",
        {
            "inputTextTokenCount": 5,
            "results": [{"tokenCount": 32, "outputText": "Hi", "completionReason": "FINISH"}],
        },
        tokens=Tokens(input=5, output=32),
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-text.html",
    ),
    shape(
        "titan-embed",
        {"embedding": [0.1], "inputTextTokenCount": 5},
        tokens=Tokens(input=5),
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html",
    ),
    shape(
        "titan-stream",
        {
            "outputText": "Hi",
            "index": 0,
            "totalOutputTextTokenCount": 32,
            "completionReason": "FINISH",
            "inputTextTokenCount": 5,
        },
        tokens=Tokens(input=5, output=32),
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-text.html",
    ),
    shape(
        "titan-stream-unfinished",
        {
            "outputText": "Hi",
            "index": 0,
            "totalOutputTextTokenCount": 3,
            "completionReason": None,
            "inputTextTokenCount": 5,
        },
        says="completionReason is null",
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-text.html",
    ),
    shape(
        "llama-stream-unfinished",
        {"generation": "Hi", "prompt_token_count": 25, "generation_token_count": 1, "stop_reason": None},
        says="stop_reason is null",
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-meta.html",
    ),
    shape(
        "ollama-unfinished",
        {"model": "llama3.2", "done": False, "prompt_eval_count": 26, "eval_count": 2},
        says="done is false",
        source="https://github.com/ollama/ollama/blob/main/docs/api.md",
    ),
    shape(
        "ollama-embed",
        {"model": "all-minilm", "embeddings": [[0.1]], "total_duration": 14143917, "prompt_eval_count": 8},
        tokens=Tokens(input=8),
        provider="ollama",
        source="https://github.com/ollama/ollama/blob/main/docs/api.md",
    ),
    shape(
        "ollama-without-a-prompt-count",
        {"model": "llama3.2", "done": True, "eval_count": 298},
        says="no prompt count",
        source="https://github.com/ollama/ollama/issues/2068",
    ),
    shape(
        "langchain-ollama",
        {
            "content": "Hi",
            "response_metadata": {
                "model": "llama3.2",
                "done": True,
                "prompt_eval_count": 26,
                "eval_count": 298,
            },
        },
        tokens=Tokens(input=26, output=298),
        model="llama3.2",
        source="https://python.langchain.com/docs/integrations/chat/ollama/",
    ),
    shape(
        "llama-cpp",
        {
            "content": "Hi",
            "prompt": "Say Hi",
            "stop": True,
            "tokens_predicted": 298,
            "tokens_evaluated": 26,
            "tokens_cached": 323,
        },
        tokens=Tokens(input=26, output=298),
        source="https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
    ),
    shape(
        "voyage-sdk",
        {"embeddings": [[0.1]], "total_tokens": 10},
        tokens=Tokens(input=10),
        source="https://docs.voyageai.com/docs/embeddings",
    ),
    shape(
        "voyage-multimodal",
        {
            "object": "list",
            "data": [],
            "model": "voyage-multimodal-3",
            "usage": {"text_tokens": 7, "image_pixels": 2000000, "total_tokens": 3576},
        },
        says="image_pixels: is a count in another unit",
        source="https://docs.voyageai.com/reference/multimodal-embeddings-api",
    ),
    shape(
        "jina-embed",
        {
            "object": "list",
            "data": [],
            "model": "jina-embeddings-v3",
            "usage": {"total_tokens": 10, "prompt_tokens": 10},
        },
        tokens=Tokens(input=10),
        source="https://jina.ai/embeddings/",
    ),
    shape(
        "a-total-alone",
        {"usage": {"total_tokens": 10}},
        says="a total and no other count",
        source="https://docs.voyageai.com/reference/embeddings-api",
    ),
    shape(
        "watsonx",
        {
            "model_id": "ibm/granite-13b",
            "results": [
                {
                    "generated_text": "Hi",
                    "generated_token_count": 7,
                    "input_token_count": 11,
                    "stop_reason": "eos_token",
                }
            ],
        },
        tokens=Tokens(input=11, output=7),
        model="ibm/granite-13b",
        source="https://cloud.ibm.com/apidocs/watsonx-ai#text-generation",
    ),
    shape(
        "replicate",
        {
            "id": "p-1",
            "status": "succeeded",
            "metrics": {"input_token_count": 11, "output_token_count": 7, "predict_time": 1.5},
        },
        tokens=Tokens(input=11, output=7),
        provider="replicate",
        source="https://replicate.com/docs/topics/predictions",
    ),
    shape(
        "yandex",
        {
            "result": {
                "usage": {"inputTextTokens": "20", "completionTokens": "5", "totalTokens": "25"},
                "modelVersion": "06.12.2023",
            }
        },
        tokens=Tokens(input=20, output=5),
        source="https://yandex.cloud/en/docs/foundation-models/",
    ),
    shape(
        "hunyuan",
        {"Response": {"Id": "x", "Usage": {"PromptTokens": 4, "CompletionTokens": 25, "TotalTokens": 29}}},
        tokens=Tokens(input=4, output=25),
        source="https://www.tencentcloud.com/document/product/1729",
    ),
    shape(
        "vertex-palm",
        {
            "predictions": [],
            "metadata": {
                "tokenMetadata": {
                    "inputTokenCount": {"totalBillableCharacters": 20, "totalTokens": 5},
                    "outputTokenCount": {"totalBillableCharacters": 90, "totalTokens": 30},
                }
            },
        },
        tokens=Tokens(input=5, output=30),
        source="https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text",
    ),
    shape(
        "oci-generic",
        {
            "data": {
                "model_id": "meta.llama",
                "chat_response": {"usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}},
            }
        },
        tokens=Tokens(input=9, output=3),
        model="meta.llama",
        source="https://docs.oracle.com/en-us/iaas/api/#/en/generative-ai-inference",
    ),
    shape(
        "cloudflare",
        {
            "success": True,
            "result": {
                "response": "Hi",
                "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
            },
        },
        tokens=Tokens(input=9, output=3),
        source="https://developers.cloudflare.com/workers-ai/",
    ),
    shape(
        "llama-index-kwargs",
        {
            "message": {"role": "assistant"},
            "additional_kwargs": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
        },
        tokens=Tokens(input=9, output=3),
        source="https://docs.llamaindex.ai/en/stable/api_reference/llms/",
    ),
    shape(
        "semantic-kernel",
        {"ai_model_id": "gpt-4o", "metadata": {"usage": {"prompt_tokens": 9, "completion_tokens": 3}}},
        tokens=Tokens(input=9, output=3),
        source="https://learn.microsoft.com/semantic-kernel/concepts/enterprise-readiness/observability/",
    ),
    shape(
        "openai-evals-models",
        {
            "per_model_usage": [
                {
                    "model_name": "gpt-4o",
                    "invocation_count": 1,
                    "prompt_tokens": 9,
                    "cached_tokens": 4,
                    "completion_tokens": 3,
                    "total_tokens": 12,
                }
            ]
        },
        tokens=Tokens(input=5, output=3, cache=4),
        model="gpt-4o",
        source="https://platform.openai.com/docs/api-reference/evals/run-object",
    ),
    # Envelopes
    shape(
        "openai-batch",
        {
            "id": "batch_1",
            "object": "batch",
            "status": "completed",
            "model": "gpt-4o-2024-08-06",
            "usage": {
                "input_tokens": 2006,
                "input_tokens_details": {"cached_tokens": 1920},
                "output_tokens": 300,
                "total_tokens": 2306,
            },
        },
        tokens=Tokens(input=86, output=300, cache=1920),
        tier="batch",
        source="https://platform.openai.com/docs/api-reference/batch/object",
    ),
    shape(
        "openai-batch-line",
        {
            "id": "batch_req_1",
            "custom_id": "r1",
            "response": {"status_code": 200, "request_id": "q", "body": chat(CHAT_USAGE)},
            "error": None,
        },
        tokens=Tokens(input=86, output=300, cache=1920),
        id="chatcmpl-1",
        model="gpt-4o-2024-08-06",
        tier="batch",
        source="https://platform.openai.com/docs/guides/batch",
    ),
    shape(
        "openai-batch-line-of-responses",
        {
            "custom_id": "r1",
            "response": {
                "status_code": 200,
                "body": response({"input_tokens": 10, "output_tokens": 4, "total_tokens": 14}),
            },
        },
        tokens=Tokens(input=10, output=4),
        id="resp_1",
        tier="batch",
        source="https://platform.openai.com/docs/guides/batch",
    ),
    shape(
        "openai-batch-line-in-error",
        {"custom_id": "r1", "response": {"status_code": 400, "body": {"error": {"message": "no"}}}},
        says="no token usage",
        source="https://platform.openai.com/docs/guides/batch",
    ),
    shape(
        "anthropic-batch-line",
        {
            "custom_id": "r1",
            "result": {
                "type": "succeeded",
                "message": message({"input_tokens": 9, "output_tokens": 67, "service_tier": "batch"}),
            },
        },
        tokens=Tokens(input=9, output=67),
        id="msg_1",
        tier="batch",
        provider="anthropic",
        model="claude-sonnet-4-5",
        source="https://docs.anthropic.com/en/api/retrieving-message-batch-results",
    ),
    shape(
        "anthropic-batch-line-expired",
        {"custom_id": "r1", "result": {"type": "expired"}},
        says="did not succeed",
        source="https://docs.anthropic.com/en/api/retrieving-message-batch-results",
    ),
    shape(
        "bedrock-batch-line",
        {
            "recordId": "r1",
            "modelInput": {"max_tokens": 9},
            "modelOutput": message({"input_tokens": 9, "output_tokens": 67}),
        },
        tokens=Tokens(input=9, output=67),
        id="msg_1",
        tier="batch",
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/batch-inference-results.html",
    ),
    shape(
        "litellm-behind-a-callback",
        {
            "response": {
                "body": chat(
                    {
                        "prompt_tokens": 98805,
                        "completion_tokens": 5120,
                        "total_tokens": 103925,
                        "cache_read_input_tokens": 66360,
                        "cache_creation_input_tokens": 32435,
                    }
                )
            }
        },
        tokens=Tokens(input=32445, output=5120, cache=66360),
        other={"cache_write_tokens": 32435},
        source="https://docs.litellm.ai/docs/completion/prompt_caching",
    ),
    shape(
        "kimi-usage-in-the-choice",
        {
            "id": "cmpl-1",
            "object": "chat.completion.chunk",
            "model": "kimi-k2",
            "choices": [
                {
                    "index": 0,
                    "delta": {"role": "assistant"},
                    "finish_reason": "stop",
                    "usage": {"prompt_tokens": 19, "completion_tokens": 13, "total_tokens": 32},
                }
            ],
        },
        tokens=Tokens(input=19, output=13),
        id="cmpl-1",
        model="kimi-k2",
        source="https://platform.moonshot.ai/docs/api/chat",
    ),
    shape(
        "groq-chunk",
        {
            "id": "chatcmpl-2",
            "model": "llama-3.3-70b-versatile",
            "choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": "stop"}],
            "usage": None,
            "x_groq": {
                "id": "req_1",
                "usage": {"prompt_tokens": 18, "completion_tokens": 9, "total_tokens": 27, "queue_time": 0.1},
            },
        },
        tokens=Tokens(input=18, output=9),
        source="https://console.groq.com/docs/prompt-caching",
    ),
    shape(
        "langchain-llm-output",
        {
            "generations": [],
            "llm_output": {
                "token_usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
                "model_name": "gpt-4o",
            },
        },
        tokens=Tokens(input=9, output=3),
        model="gpt-4o",
        source="https://reference.langchain.com/python/langchain-core/outputs/llm_result/LLMResult",
    ),
    shape(
        "langchain-message-ids",
        {
            "type": "ai",
            "id": "run--77",
            "content": "Hi",
            "usage_metadata": {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12},
            "response_metadata": {
                "id": "chatcmpl-7",
                "model_name": "gpt-4o",
                "model_provider": "openai",
                "service_tier": "default",
            },
        },
        tokens=Tokens(input=9, output=3),
        id="chatcmpl-7",
        model="gpt-4o",
        provider="openai",
        tier="default",
        source="https://reference.langchain.com/python/langchain-core/messages/ai/UsageMetadata",
    ),
    shape(
        "bedrock-prompt-router",
        {
            "usage": {"inputTokens": 5, "outputTokens": 6, "totalTokens": 11},
            "stopReason": "end_turn",
            "serviceTier": {"type": "priority"},
            "trace": {
                "promptRouter": {
                    "invokedModelId": "arn:aws:bedrock:us-east-1::foundation-model/anthropic.haiku-v1:0"
                }
            },
            "ResponseMetadata": {"RequestId": "r-9"},
        },
        tokens=Tokens(input=5, output=6),
        id="r-9",
        model="anthropic.haiku-v1:0",
        tier="priority",
        provider="bedrock",
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-routing.html",
    ),
    shape(
        "bedrock-agent-trace",
        {"modelInvocationOutput": {"metadata": {"usage": {"inputTokens": 5, "outputTokens": 6}}}},
        tokens=Tokens(input=5, output=6),
        source="https://docs.aws.amazon.com/bedrock/latest/APIReference/API_Operations_Agents_for_Amazon_Bedrock_Runtime.html",
    ),
    # Not final
    shape(
        "vllm-continuous-usage",
        {
            "id": "chatcmpl-1",
            "choices": [{"index": 0, "delta": {"content": "H"}, "finish_reason": None}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
        },
        says="choices has one without a finish reason",
        source="https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
    ),
    shape(
        "one-of-two-choices-open",
        {
            "choices": [{"finish_reason": "stop"}, {"finish_reason": None}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 1},
        },
        says="without a finish reason",
        source="https://platform.openai.com/docs/api-reference/chat",
    ),
    shape(
        "dashscope-running",
        {
            "output": {"text": "H", "finish_reason": "null"},
            "usage": {"input_tokens": 9, "output_tokens": 1},
            "request_id": "r",
        },
        says="output has no finish reason",
        source="https://help.aliyun.com/zh/model-studio/qwen-api-reference",
    ),
    shape(
        "dashscope-text",
        {
            "status_code": 200,
            "request_id": "r-5",
            "output": {"text": "Hi", "finish_reason": "stop"},
            "usage": {"input_tokens": 9, "output_tokens": 1, "total_tokens": 10, "image_tokens": 4},
        },
        tokens=Tokens(input=9, output=1),
        id="r-5",
        source="https://help.aliyun.com/zh/model-studio/qwen-api-reference",
    ),
    shape(
        "responses-in-background",
        response({"input_tokens": 9, "output_tokens": 1}, status="queued"),
        says="its status is queued",
        source="https://platform.openai.com/docs/guides/background",
    ),
    shape(
        "responses-incomplete",
        {
            "type": "response.incomplete",
            "response": response(
                {"input_tokens": 9, "output_tokens": 16, "total_tokens": 25}, status="incomplete"
            ),
        },
        tokens=Tokens(input=9, output=16),
        source="https://platform.openai.com/docs/api-reference/responses-streaming",
    ),
    shape(
        "anthropic-delta-without-a-prompt",
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 15}},
        says="no prompt count",
        source="https://docs.anthropic.com/en/docs/build-with-claude/streaming",
    ),
    shape(
        "anthropic-delta-open",
        {
            "type": "message_delta",
            "delta": {"stop_reason": None},
            "usage": {"input_tokens": 9, "output_tokens": 15},
        },
        says="stop_reason is null",
        source="https://docs.anthropic.com/en/docs/build-with-claude/streaming",
    ),
    shape(
        "claude-code-step",
        {"type": "assistant", "message": message({"input_tokens": 9, "output_tokens": 1}, stop_reason=None)},
        says="stop_reason is null",
        source="https://github.com/anthropics/claude-code/issues/87303",
    ),
    shape(
        "adk-partial-event",
        {"partial": True, "usage_metadata": {"prompt_token_count": 9, "candidates_token_count": 1}},
        says="partial is true",
        source="https://google.github.io/adk-docs/events/",
    ),
    shape(
        "gemini-unspecified-reason",
        {
            "candidates": [{"finish_reason": "FINISH_REASON_UNSPECIFIED"}],
            "usage_metadata": {"prompt_token_count": 9, "candidates_token_count": 1},
        },
        says="without a finish reason",
        source="https://ai.google.dev/api/generate-content#FinishReason",
    ),
    # No call, no tokens, other units
    shape(
        "anthropic-count-tokens",
        {"input_tokens": 2095},
        says="before a call",
        source="https://docs.anthropic.com/en/api/messages-count-tokens",
    ),
    shape(
        "openai-count-tokens",
        {"object": "response.input_tokens", "input_tokens": 11},
        says="before a call",
        source="https://platform.openai.com/docs/api-reference/responses/input-tokens",
    ),
    shape(
        "bedrock-count-tokens",
        {"inputTokens": 15, "ResponseMetadata": {"RequestId": "r"}},
        says="before a call",
        source="https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CountTokens.html",
    ),
    shape(
        "cohere-rerank",
        {"id": "1", "results": [], "meta": {"billed_units": {"search_units": 1}}},
        says="search_units: is a count in another unit",
        source="https://docs.cohere.com/v2/docs/how-does-cohere-pricing-work",
    ),
    shape(
        "cohere-chat-with-search",
        {"text": "Hi", "meta": {"billed_units": {"input_tokens": 12, "output_tokens": 4, "search_units": 1}}},
        tokens=Tokens(input=12, output=4),
        other={"search_units": 1},
        provider="cohere",
        source="https://docs.cohere.com/v2/docs/how-does-cohere-pricing-work",
    ),
    shape(
        "mistral-ocr",
        {
            "pages": [],
            "model": "mistral-ocr-latest",
            "usage_info": {"pages_processed": 3, "doc_size_bytes": 1000},
        },
        says="pages_processed: is a count in another unit",
        source="https://docs.mistral.ai/capabilities/document_ai/basic_ocr/",
    ),
    shape(
        "openai-transcription-by-the-second",
        {"text": "Hi", "usage": {"type": "duration", "seconds": 9}},
        says="response.usage.seconds: is a count in another unit",
        source="https://platform.openai.com/docs/api-reference/audio/json-object",
    ),
    shape(
        "openai-transcription-by-tokens",
        {
            "text": "Hi",
            "usage": {
                "type": "tokens",
                "input_tokens": 14,
                "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
                "output_tokens": 45,
                "total_tokens": 59,
            },
        },
        tokens=Tokens(input=14, output=45),
        other={"input_audio_tokens": 14},
        source="https://platform.openai.com/docs/api-reference/audio/json-object",
    ),
    shape(
        "openai-image",
        {
            "created": 1,
            "data": [],
            "usage": {
                "total_tokens": 100,
                "input_tokens": 50,
                "output_tokens": 50,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
            },
        },
        tokens=Tokens(input=50, output=50),
        other={"input_image_tokens": 40},
        source="https://platform.openai.com/docs/api-reference/images/object",
    ),
    shape(
        "openai-usage-api-with-audio",
        {
            "object": "organization.usage.completions.result",
            "input_tokens": 100,
            "output_tokens": 10,
            "input_audio_tokens": 50,
        },
        says="input_audio_tokens: is not known",
        source="https://platform.openai.com/docs/api-reference/usage/completions_object",
    ),
    shape(
        "images-inside-by-the-parts",
        {
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 10,
                "prompt_text_tokens": 40,
                "prompt_image_tokens": 60,
            }
        },
        tokens=Tokens(input=100, output=10),
        source="https://docs.x.ai/docs/guides/image-understanding",
    ),
    shape(
        "an-unknown-cache-count",
        {"usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110, "cache_tokens": 60}},
        says="response.usage.cache_tokens: is not known",
        source="https://github.com/pydantic/genai-prices/issues/334",
    ),
    shape(
        "opencode",
        {"usage": {"input": 86, "output": 300, "reasoning": 0, "cache": {"read": 1920, "write": 0}}},
        tokens=Tokens(input=86, output=300, cache=1920),
        source="https://opencode.ai/docs/sdk/",
    ),
    shape(
        "an-unknown-cache-count-in-details",
        {
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 10,
                "prompt_tokens_details": {"cache_share": 60},
            }
        },
        says="cache_share: is not known",
        source="https://github.com/pydantic/genai-prices/issues/334",
    ),
    shape(
        "anthropic-server-tools",
        message(
            {
                "input_tokens": 9,
                "output_tokens": 67,
                "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
                "service_tier": "priority",
            }
        ),
        tokens=Tokens(input=9, output=67),
        other={"web_search_requests": 2},
        tier="priority",
        source="https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/web-search-tool",
    ),
    shape(
        "anthropic-fast",
        message({"input_tokens": 9, "output_tokens": 67, "speed": "fast"}),
        tokens=Tokens(input=9, output=67),
        tier="fast",
        source="https://github.com/mozex/anthropic-php/releases/tag/1.8.0",
    ),
    shape(
        "anthropic-fallback",
        message(
            {
                "input_tokens": 9,
                "output_tokens": 67,
                "iterations": [
                    {"type": "message", "model": "claude-opus-4-5", "input_tokens": 9, "output_tokens": 2},
                    {
                        "type": "fallback_message",
                        "model": "claude-sonnet-4-5",
                        "input_tokens": 9,
                        "output_tokens": 67,
                    },
                ],
            }
        ),
        tokens=Tokens(input=9, output=67),
        source="https://github.com/mozex/anthropic-php/releases/tag/1.8.0",
    ),
    shape(
        "gemini-audio",
        {
            "usageMetadata": {
                "promptTokenCount": 30,
                "candidatesTokenCount": 5,
                "totalTokenCount": 35,
                "promptTokensDetails": [
                    {"modality": "AUDIO", "tokenCount": 20},
                    {"modality": "TEXT", "tokenCount": 10},
                ],
                "trafficType": "ON_DEMAND",
            }
        },
        tokens=Tokens(input=30, output=5),
        other={"input_audio_tokens": 20},
        tier="ON_DEMAND",
        provider="google",
        source="https://ai.google.dev/api/generate-content#UsageMetadata",
    ),
    shape(
        "the-usage-alone",
        CHAT_USAGE,
        tokens=Tokens(input=86, output=300, cache=1920),
        source="https://platform.openai.com/docs/guides/prompt-caching",
    ),
]
