"""Shapes of gateways, frameworks, telemetry and servers of one's own, and answers of theirs that go on."""

from clocknext_core import Tokens
from tests.core.usage.shapes import CHAT_USAGE, Shape, chat, shape

FOUND = Tokens(input=86, output=300, cache=1920)

AGENT_FRAMEWORK = "https://github.com/microsoft/agent-framework/tree/main/python/packages"
AI_SDK = "https://github.com/vercel/ai/issues/9921"
LLAMA = "https://github.com/ggml-org/llama.cpp/pull/15827"
LLAMA_SERVER = "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md"
OPENROUTER = "https://openrouter.ai/docs/use-cases/usage-accounting"


def openrouter(usage: object, **choice: object) -> dict[str, object]:
    """Make the last chunk of a stream of OpenRouter's."""
    last = {
        "index": 0,
        "delta": {"role": "assistant", "content": ""},
        "finish_reason": None,
        "native_finish_reason": None,
        "logprobs": None,
        **choice,
    }
    chunk = {"id": "gen-1754854411-aBcDeF", "provider": "Google", "object": "chat.completion.chunk"}
    return {**chunk, "model": "google/gemini-2.5-flash", "choices": [last], "usage": usage}


def ai_sdk(usage: dict[str, int], anthropic: object) -> dict[str, object]:
    """Make a result of the AI SDK over Anthropic."""
    return {
        "text": "Hi",
        "finishReason": "stop",
        "usage": usage,
        "providerMetadata": {"anthropic": anthropic},
    }


_COUNTED_BY_AI_SDK = {"inputTokens": 9, "outputTokens": 67, "totalTokens": 76}
_READ_BY_AI_SDK = {"inputTokens": 5000, "outputTokens": 67, "totalTokens": 5067, "cachedInputTokens": 3000}

GATEWAYS: list[Shape] = [
    shape(
        "openrouter-last-chunk-after-the-one-that-stops",
        openrouter({"prompt_tokens": 22, "completion_tokens": 7, "total_tokens": 29, "cost": 0.000171}),
        tokens=Tokens(input=22, output=7),
        model="google/gemini-2.5-flash",
        source=OPENROUTER,
    ),
    shape(
        "openrouter-last-chunk-that-stops",
        openrouter(CHAT_USAGE, finish_reason="stop", native_finish_reason="STOP"),
        tokens=FOUND,
        source=OPENROUTER,
    ),
    shape(
        "litellm-log-without-a-cache-hit",
        {
            "id": "chatcmpl-1",
            "model": "gpt-4o",
            "cache_hit": False,
            "cache_key": None,
            "saved_cache_cost": 0.0,
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "metadata": {"usage_object": CHAT_USAGE},
        },
        tokens=FOUND,
        source="https://docs.litellm.ai/docs/proxy/logging_spec",
    ),
    shape(
        "litellm-row-of-spend",
        {
            "request_id": "chatcmpl-1",
            "cache_hit": "None",
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
        },
        tokens=Tokens(input=2006, output=300),
        source="https://docs.litellm.ai/docs/proxy/db_info",
    ),
    shape(
        "cloudflare-log",
        {"id": "01J", "model": "gpt-4o", "cached": False, "tokens_in": 10, "tokens_out": 20, "success": True},
        tokens=Tokens(input=10, output=20),
        source="https://developers.cloudflare.com/api/resources/ai_gateway/subresources/logs",
    ),
    shape(
        "cloudflare-log-of-a-cache-hit",
        {"id": "01J", "model": "gpt-4o", "cached": True, "tokens_in": 10, "tokens_out": 20, "success": True},
        says="response.cached: says that a cache was hit",
        source="https://developers.cloudflare.com/api/resources/ai_gateway/subresources/logs",
    ),
    shape(
        "row-with-texts-about-reasoning",
        {"prompt_tokens": 7, "completion_tokens": 2, "reasoning_effort": "high", "reasoning": "Two and two"},
        tokens=Tokens(input=7, output=2),
        source="https://platform.openai.com/docs/api-reference/chat/object",
    ),
]

FRAMEWORKS: list[Shape] = [
    shape(
        "datadog-span",
        {
            "input_tokens": 2006,
            "output_tokens": 300,
            "total_tokens": 2306,
            "cache_read_input_tokens": 320,
            "non_cached_input_tokens": 1686,
        },
        tokens=Tokens(input=1686, output=300, cache=320),
        source="https://docs.datadoghq.com/llm_observability/instrumentation/api",
    ),
    shape(
        "datadog-span-with-a-cold-cache",
        {"input_tokens": 2000, "non_cached_input_tokens": 2000, "output_tokens": 5, "total_tokens": 2005},
        tokens=Tokens(input=2000, output=5),
        source="https://docs.datadoghq.com/llm_observability/instrumentation/api",
    ),
    shape(
        "uncached-in-camel-case",
        {"inputTokens": 2000, "outputTokens": 10, "nonCachedInputTokens": 1500, "cachedInputTokens": 500},
        tokens=Tokens(input=1500, output=10, cache=500),
        source="https://docs.datadoghq.com/llm_observability/instrumentation/api",
    ),
    shape(
        "agent-framework-over-openai",
        {
            "usage_details": {
                "input_token_count": 2006,
                "output_token_count": 300,
                "total_token_count": 2306,
                "cache_read_input_token_count": 1920,
                "openai.cached_input_tokens": 1920,
            }
        },
        tokens=FOUND,
        source=AGENT_FRAMEWORK,
    ),
    shape(
        "agent-framework-over-openai-with-a-write",
        {
            "usage_details": {
                "input_token_count": 2006,
                "output_token_count": 300,
                "total_token_count": 2306,
                "cache_creation_input_token_count": 500,
            }
        },
        tokens=Tokens(input=2006, output=300),
        other={"cache_write_tokens": 500},
        source=AGENT_FRAMEWORK,
    ),
    shape(
        "agent-framework-over-gemini",
        {
            "usage_details": {
                "input_token_count": 20,
                "output_token_count": 8,
                "total_token_count": 34,
                "cache_read_input_token_count": 12,
                "reasoning_output_token_count": 6,
            }
        },
        tokens=Tokens(input=8, output=14, cache=12),
        source=AGENT_FRAMEWORK,
    ),
    shape(
        "agent-framework-over-anthropic",
        {
            "usage_details": {
                "input_token_count": 500,
                "output_token_count": 67,
                "cache_read_input_token_count": 300,
            }
        },
        tokens=Tokens(input=500, output=67, cache=300),
        source=AGENT_FRAMEWORK,
    ),
    shape(
        "adk-of-rust",
        {
            "usage_metadata": {
                "prompt_token_count": 1000,
                "candidates_token_count": 50,
                "total_token_count": 1050,
                "cache_read_input_token_count": 300,
            }
        },
        tokens=Tokens(input=700, output=50, cache=300),
        source="https://docs.rs/adk-core",
    ),
    shape(
        "ai-sdk-over-anthropic-with-its-own-usage",
        ai_sdk(
            _READ_BY_AI_SDK,
            {
                "usage": {
                    "input_tokens": 5000,
                    "cache_read_input_tokens": 3000,
                    "cache_creation_input_tokens": 0,
                    "output_tokens": 67,
                }
            },
        ),
        tokens=Tokens(input=5000, output=67, cache=3000),
        source=AI_SDK,
    ),
    shape(
        "ai-sdk-over-anthropic-which-counts-the-cache-in",
        ai_sdk(
            _READ_BY_AI_SDK,
            {"usage": {"input_tokens": 2000, "cache_read_input_tokens": 3000, "output_tokens": 67}},
        ),
        tokens=Tokens(input=2000, output=67, cache=3000),
        source=AI_SDK,
    ),
    shape(
        "ai-sdk-over-anthropic-with-the-usage-of-another-step",
        ai_sdk(
            _READ_BY_AI_SDK,
            {"usage": {"input_tokens": 7, "cache_read_input_tokens": 3000, "output_tokens": 5}},
        ),
        tokens=Tokens(input=2000, output=67, cache=3000),
        source=AI_SDK,
    ),
    shape(
        "ai-sdk-over-anthropic-with-writes",
        ai_sdk({**_COUNTED_BY_AI_SDK, "cachedInputTokens": 17102}, {"cacheCreationInputTokens": 287}),
        tokens=Tokens(input=296, output=67, cache=17102),
        other={"cache_write_tokens": 287},
        source="https://github.com/vercel/ai/issues/14482",
    ),
    shape(
        "ai-sdk-over-anthropic-with-writes-alone",
        ai_sdk({**_COUNTED_BY_AI_SDK, "cachedInputTokens": 0}, {"cacheCreationInputTokens": 2284}),
        tokens=Tokens(input=2293, output=67, cache=0),
        source="https://github.com/vercel/ai/issues/14482",
    ),
    shape(
        "ai-sdk-over-anthropic-with-writes-counted-in",
        ai_sdk(
            {"inputTokens": 17398, "outputTokens": 67, "totalTokens": 17465, "cachedInputTokens": 17102},
            {"cacheCreationInputTokens": 287},
        ),
        tokens=Tokens(input=296, output=67, cache=17102),
        source=AI_SDK,
    ),
    shape(
        "ai-sdk-over-anthropic-that-says-nothing-of-its-cache",
        ai_sdk(_READ_BY_AI_SDK, {"stopSequence": None, "cacheCreationInputTokens": 0}),
        tokens=Tokens(input=2000, output=67, cache=3000),
        source=AI_SDK,
    ),
    shape(
        "ai-sdk-attributes",
        {"ai.usage.promptTokens": 7, "ai.usage.completionTokens": 2, "ai.model.id": "gpt-4o"},
        tokens=Tokens(input=7, output=2),
        source="https://ai-sdk.dev/docs/ai-sdk-core/telemetry",
    ),
    shape(
        "spring-ai-with-native-usage",
        {
            "metadata": {
                "id": "chatcmpl-1",
                "model": "gpt-4o",
                "usage": {
                    "promptTokens": 2006,
                    "completionTokens": 300,
                    "totalTokens": 2306,
                    "nativeUsage": CHAT_USAGE,
                },
            }
        },
        tokens=FOUND,
        model="gpt-4o",
        id="chatcmpl-1",
        source="https://docs.spring.io/spring-ai/docs/current/api/org/springframework/ai/chat/metadata",
    ),
    shape(
        "genkit-with-an-image",
        {
            "usage": {
                "inputTokens": 1300,
                "outputTokens": 20,
                "totalTokens": 1320,
                "inputCharacters": 40,
                "inputImages": 1,
                "outputImages": 0,
            }
        },
        tokens=Tokens(input=1300, output=20),
        source="https://js.api.genkit.dev/interfaces/genkit._.GenerationUsage.html",
    ),
    shape(
        "gemini-cli-event",
        {
            "model": "gemini-2.5-pro",
            "input_token_count": 1000,
            "output_token_count": 50,
            "cached_content_token_count": 300,
            "thoughts_token_count": 20,
            "tool_token_count": 100,
            "total_token_count": 1170,
        },
        tokens=Tokens(input=800, output=70, cache=300),
        source="https://github.com/google-gemini/gemini-cli/blob/main/docs/cli/telemetry.md",
    ),
    shape(
        "opencode-message",
        {
            "role": "assistant",
            "modelID": "claude-sonnet-4",
            "tokens": {"input": 9, "output": 67, "reasoning": 0, "cache": {"read": 17102, "write": 287}},
        },
        tokens=Tokens(input=296, output=67, cache=17102),
        source="https://github.com/sst/opencode",
    ),
    shape(
        "opencode-message-without-writes",
        {"role": "assistant", "tokens": {"input": 9, "output": 67, "reasoning": 0, "cache": {"read": 17102}}},
        tokens=Tokens(input=9, output=67, cache=17102),
        source="https://github.com/sst/opencode",
    ),
]

SERVERS: list[Shape] = [
    shape(
        "ollama-with-its-thoughts-as-text",
        {
            "model": "qwen3",
            "response": "4",
            "thinking": "2 plus 2 is 4",
            "done": True,
            "prompt_eval_count": 26,
            "eval_count": 298,
        },
        tokens=Tokens(input=26, output=298),
        source="https://github.com/ollama/ollama/blob/main/docs/api.md",
    ),
    shape(
        "llama-cpp-with-timings",
        {
            "object": "chat.completion.chunk",
            "choices": [],
            "usage": {"prompt_tokens": 237, "completion_tokens": 35, "total_tokens": 272},
            "timings": {"cache_n": 236, "prompt_n": 1, "predicted_n": 35},
        },
        tokens=Tokens(input=1, output=35, cache=236),
        source=LLAMA,
    ),
    shape(
        "llama-cpp-whose-timings-are-of-more-than-the-prompt",
        {
            "choices": [],
            "usage": {"prompt_tokens": 20, "completion_tokens": 35, "total_tokens": 55},
            "timings": {"cache_n": 236, "prompt_n": 1, "predicted_n": 35},
        },
        tokens=Tokens(input=20, output=35),
        source=LLAMA,
    ),
    shape(
        "llama-cpp-with-a-prompt-of-digits",
        {"content": "Hi", "stop": True, "tokens_predicted": 35, "tokens_evaluated": 5, "prompt": "12345"},
        tokens=Tokens(input=5, output=35),
        source=LLAMA_SERVER,
    ),
    shape(
        "llama-cpp-that-goes-on",
        {"content": "Hi", "stop": False, "tokens_predicted": 2, "tokens_evaluated": 237},
        says="response: is not final, stop is false",
        source=LLAMA_SERVER,
    ),
    shape(
        "sglang-that-goes-on",
        {
            "text": "Hi",
            "meta_info": {
                "finish_reason": None,
                "prompt_tokens": 100,
                "completion_tokens": 3,
                "cached_tokens": 64,
            },
        },
        says="response: is not final, finish_reason is null",
        source="https://docs.sglang.ai/basic_usage/native_api.html",
    ),
    shape(
        "sglang-that-ended",
        {
            "text": "Hi",
            "meta_info": {
                "finish_reason": {"type": "stop", "matched": 2},
                "prompt_tokens": 100,
                "completion_tokens": 3,
                "cached_tokens": 64,
            },
        },
        tokens=Tokens(input=36, output=3, cache=64),
        source="https://docs.sglang.ai/basic_usage/native_api.html",
    ),
    shape(
        "lmdeploy-pipeline",
        {"text": "Hi", "input_token_len": 12, "generate_token_len": 20, "finish_reason": "stop"},
        tokens=Tokens(input=12, output=20),
        source="https://lmdeploy.readthedocs.io/en/latest/api/pipeline.html",
    ),
    shape(
        "lorax",
        {
            "generated_text": "Hi",
            "details": {"finish_reason": "length", "prompt_tokens": 12, "generated_tokens": 20},
        },
        tokens=Tokens(input=12, output=20),
        source="https://loraexchange.ai/reference/rest_api",
    ),
    shape(
        "deepinfra",
        {
            "request_id": "R1",
            "inference_status": {"status": "succeeded", "tokens_generated": 42, "tokens_input": 19},
            "results": [{"generated_text": "Hi"}],
            "num_tokens": 42,
            "num_input_tokens": 19,
        },
        tokens=Tokens(input=19, output=42),
        source="https://deepinfra.com/docs/advanced/inference-api",
    ),
    shape(
        "a-generation-without-its-output-is-no-embedding",
        {"results": [{"generated_text": "Hi"}], "num_input_tokens": 19},
        says="response: has a prompt count and nothing else",
        source="https://deepinfra.com/docs/advanced/inference-api",
    ),
]

CLOUDS: list[Shape] = [
    shape(
        "snowflake-complete",
        {
            "choices": [{"messages": "The answer"}],
            "created": 1708536426,
            "model": "mistral-large2",
            "usage": {"completion_tokens": 95, "prompt_tokens": 210, "total_tokens": 305},
        },
        tokens=Tokens(input=210, output=95),
        model="mistral-large2",
        source="https://docs.snowflake.com/en/sql-reference/functions/complete-snowflake-cortex",
    ),
    shape(
        "databricks-row-of-usage",
        {
            "client_request_id": "1",
            "input_token_count": 15,
            "output_token_count": 25,
            "input_character_count": 60,
            "output_character_count": 100,
        },
        tokens=Tokens(input=15, output=25),
        source="https://docs.databricks.com/aws/en/admin/system-tables/model-serving",
    ),
    shape(
        "bedrock-invocation-log",
        {
            "schemaType": "ModelInvocationLog",
            "modelId": "anthropic.claude-sonnet-4",
            "requestId": "00000000-1111",
            "input": {"inputContentType": "application/json", "inputTokenCount": 12},
            "output": {"outputContentType": "application/json", "outputTokenCount": 20},
        },
        tokens=Tokens(input=12, output=20),
        model="anthropic.claude-sonnet-4",
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/model-invocation-logging.html",
    ),
    shape(
        "bedrock-invocation-log-with-a-cache",
        {
            "modelId": "anthropic.claude-sonnet-4",
            "input": {
                "inputTokenCount": 500,
                "cacheReadInputTokenCount": 300,
                "cacheWriteInputTokenCount": 7,
            },
            "output": {"outputTokenCount": 20},
        },
        tokens=Tokens(input=507, output=20, cache=300),
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/model-invocation-logging.html",
    ),
    shape(
        "coze",
        {"status": "completed", "usage": {"token_count": 298, "output_count": 242, "input_count": 56}},
        tokens=Tokens(input=56, output=242),
        source="https://www.coze.com/docs/developer_guides/chat_v3",
    ),
    shape(
        "dashscope-application",
        {
            "output": {"text": "Hi", "finish_reason": "stop"},
            "usage": {"models": [{"model_id": "qwen-max", "input_tokens": 900, "output_tokens": 120}]},
        },
        tokens=Tokens(input=900, output=120),
        model="qwen-max",
        source="https://help.aliyun.com/zh/model-studio/call-single-agent-application",
    ),
    shape(
        "watsonx-that-goes-on",
        {
            "model_id": "ibm/granite",
            "results": [{"generated_token_count": 1, "input_token_count": 36, "stop_reason": "not_finished"}],
        },
        says="response: is not final, results has one that is not finished",
        source="https://cloud.ibm.com/apidocs/watsonx-ai#text-generation-stream",
    ),
    shape(
        "hunyuan-that-goes-on",
        {
            "Usage": {"PromptTokens": 8, "CompletionTokens": 1, "TotalTokens": 9},
            "Choices": [{"FinishReason": "", "Delta": {"Role": "assistant", "Content": "Hi"}}],
        },
        says="response: is not final, Choices has one without a finish reason",
        source="https://cloud.tencent.com/document/product/1729/105701",
    ),
    shape(
        "hunyuan-that-ended",
        {
            "Usage": {"PromptTokens": 8, "CompletionTokens": 4, "TotalTokens": 12},
            "Choices": [{"FinishReason": "stop", "Delta": {"Role": "assistant", "Content": ""}}],
        },
        tokens=Tokens(input=8, output=4),
        source="https://cloud.tencent.com/document/product/1729/105701",
    ),
    shape(
        "yandex-that-goes-on",
        {
            "result": {
                "alternatives": [{"message": {"text": "Hi"}, "status": "ALTERNATIVE_STATUS_PARTIAL"}],
                "usage": {"inputTextTokens": "19", "completionTokens": "2", "totalTokens": "21"},
            }
        },
        says="response: is not final, alternatives has one that is partial",
        source="https://yandex.cloud/en/docs/foundation-models/text-generation/api-ref",
    ),
    shape(
        "yandex-that-ended",
        {
            "result": {
                "alternatives": [{"message": {"text": "Hi"}, "status": "ALTERNATIVE_STATUS_FINAL"}],
                "usage": {"inputTextTokens": "19", "completionTokens": "6", "totalTokens": "25"},
            }
        },
        tokens=Tokens(input=19, output=6),
        source="https://yandex.cloud/en/docs/foundation-models/text-generation/api-ref",
    ),
    shape(
        "ernie-that-goes-on",
        {
            "is_end": False,
            "result": "Hi",
            "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
        },
        says="response: is not final, is_end is false",
        source="https://cloud.baidu.com/doc/WENXINWORKSHOP/s/clntwmv7t",
    ),
]

NO_GUESSES: list[Shape] = [
    shape(
        "a-total-in-an-envelope-is-no-embedding",
        {"data": chat({"total_tokens": 249})},
        says="has a total and no other count",
        source="https://docs.voyageai.com/reference/embeddings-api",
    ),
    shape(
        "a-count-of-tokens-in-an-envelope",
        {"data": {"totalTokens": 31}},
        says="has a total and no other count",
        source="https://ai.google.dev/api/tokens",
    ),
    shape(
        "a-bucket-of-several-results",
        {
            "object": "bucket",
            "results": [
                {"input_tokens": 1000, "output_tokens": 500, "input_cached_tokens": 800, "model": "gpt-4o"},
                {"input_tokens": 3000, "output_tokens": 700, "input_cached_tokens": 0, "model": "o3"},
            ],
        },
        says="response: is the result of 2 requests",
        source="https://platform.openai.com/docs/api-reference/usage/completions_object",
    ),
]

PLAIN: dict[str, object] = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
TEN_FIVE = Tokens(input=10, output=5)
CHAT_API = "https://platform.openai.com/docs/api-reference/chat/object"

_NO_COUNTS: list[dict[str, object]] = [
    {"input_length": 400},
    {"output_count": 40},
    {"candidates": 40},
    {"output": True},
    {"input": "12345"},
    {"output": "42"},
    {"reasoning": "10 and 5"},
    {"thinking": ""},
    {"cache_hit": "None"},
]
_NO_COUNTS_OF_ROWS: list[dict[str, object]] = [
    {"input_length": 400},
    {"finish_reason": None},
    {"cached": False},
]
BESIDE: list[Shape] = [
    *(
        shape(f"beside-real-counts-{number}", {"usage": {**PLAIN, **more}}, tokens=TEN_FIVE, source=CHAT_API)
        for number, more in enumerate(_NO_COUNTS)
    ),
    *(
        shape(f"flat-{number}", {**PLAIN, **more}, tokens=TEN_FIVE, source=CHAT_API)
        for number, more in enumerate(_NO_COUNTS_OF_ROWS)
    ),
    *(
        shape(f"no-count-{number}", {"usage": {**PLAIN, name: value}}, says=name, source=CHAT_API)
        for number, (name, value) in enumerate(
            (
                ("cached_tokens", "4.0"),
                ("cache_creation_input_tokens", "3.0"),
                ("thoughtsTokenCount", "n/a"),
                ("cached_tokens", True),
            )
        )
    ),
    shape(
        "an-output-that-counts-and-a-response",
        {"output": {**PLAIN, "finish_reason": "stop"}, "response": {"usage": PLAIN}},
        tokens=TEN_FIVE,
        source=CHAT_API,
    ),
    shape(
        "a-usage-beside-results-that-count",
        {"usage": PLAIN, "results": [{"tokens": {"input": 3, "output": 1}}, {"tokens": {"input": 7}}]},
        tokens=TEN_FIVE,
        source=CHAT_API,
    ),
    shape(
        "an-error-with-details",
        {"error": "The context is too long", "details": {"input_tokens": 130000}},
        says="has a prompt count and nothing else",
        source="https://loraexchange.ai/reference/rest_api",
    ),
    shape(
        "lorax-that-goes-on",
        {
            "token": {"id": 1, "text": "Hi"},
            "generated_text": None,
            "details": {"finish_reason": None, "prompt_tokens": 3, "generated_tokens": 2},
        },
        says="response: is not final, finish_reason is null",
        source="https://loraexchange.ai/reference/rest_api",
    ),
    shape(
        "opencode-message-with-a-prompt-that-was-cached-whole",
        {"tokens": {"input": 0, "output": 5, "reasoning": 0, "cache": {"read": 1000, "write": 30}}},
        tokens=Tokens(input=30, output=5, cache=1000),
        source="https://github.com/sst/opencode",
    ),
    shape(
        "llama-cpp-that-does-not-know-its-cache",
        {"choices": [], "usage": PLAIN, "timings": {"cache_n": -1, "prompt_n": 10, "predicted_n": 5}},
        tokens=TEN_FIVE,
        source=LLAMA,
    ),
    shape(
        "embeddings-within-data",
        {"data": {"embeddings": [[0.1]]}, "usage": {"total_tokens": 5}},
        tokens=Tokens(input=5),
        source="https://docs.voyageai.com/reference/embeddings-api",
    ),
]

OF_LAYERS = [*GATEWAYS, *FRAMEWORKS, *SERVERS, *CLOUDS, *NO_GUESSES, *BESIDE]
