"""Further shapes of usage, by provider: what each comes to is what its documentation says."""

from clocknext_core import Tokens
from tests.core.usage.shapes import CHAT_USAGE, Shape, chat, message, response, shape

OPENAI: list[Shape] = [
    shape(
        "realtime-transcription",
        {
            "type": "conversation.item.input_audio_transcription.completed",
            "event_id": "event_1",
            "item_id": "item_1",
            "content_index": 0,
            "transcript": "Hi",
            "usage": {
                "type": "tokens",
                "total_tokens": 26,
                "input_tokens": 17,
                "input_token_details": {"text_tokens": 0, "audio_tokens": 17},
                "output_tokens": 9,
            },
        },
        tokens=Tokens(input=17, output=9),
        other={"input_audio_tokens": 17},
        source="https://platform.openai.com/docs/api-reference/realtime-server-events",
    ),
    shape(
        "realtime-transcription-by-the-second",
        {
            "type": "conversation.item.input_audio_transcription.completed",
            "item_id": "item_1",
            "transcript": "Hi",
            "usage": {"type": "duration", "seconds": 3.5},
        },
        says="response.usage.seconds: is a count in another unit",
        source="https://platform.openai.com/docs/api-reference/realtime-server-events",
    ),
    shape(
        "realtime-cancelled",
        {
            "type": "response.done",
            "event_id": "event_1",
            "response": {
                "id": "resp_BGGwTqCPSkkcRqcf",
                "object": "realtime.response",
                "status": "cancelled",
                "usage": {
                    "total_tokens": 253,
                    "input_tokens": 132,
                    "output_tokens": 121,
                    "input_token_details": {
                        "text_tokens": 119,
                        "audio_tokens": 13,
                        "image_tokens": 0,
                        "cached_tokens": 64,
                        "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0, "image_tokens": 0},
                    },
                    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
                },
            },
        },
        tokens=Tokens(input=68, output=121, cache=64),
        other={"input_audio_tokens": 13, "output_audio_tokens": 91},
        id="resp_BGGwTqCPSkkcRqcf",
        source="https://platform.openai.com/docs/guides/realtime-costs",
    ),
    shape(
        "realtime-begun",
        {
            "type": "response.created",
            "response": {
                "id": "resp_1",
                "object": "realtime.response",
                "status": "in_progress",
                "usage": None,
            },
        },
        says="its status is in_progress",
        source="https://platform.openai.com/docs/api-reference/realtime-server-events",
    ),
    shape(
        "responses-with-an-image-tool",
        response(
            {"input_tokens": 2000, "output_tokens": 30, "total_tokens": 2030},
            tool_usage={
                "image_gen": {
                    "input_tokens": 1550,
                    "input_tokens_details": {"image_tokens": 1521, "text_tokens": 29},
                    "output_tokens": 515,
                    "output_tokens_details": {"image_tokens": 515, "text_tokens": 0},
                    "total_tokens": 2065,
                },
                "web_search": {"num_requests": 2},
                "code_interpreter": None,
            },
        ),
        tokens=Tokens(input=2000, output=30),
        other={"image_gen_input_tokens": 1550, "image_gen_output_tokens": 515, "web_search_num_requests": 2},
        source="https://github.com/Wei-Shaw/sub2api/issues/4644",
    ),
    shape(
        "responses-with-tools-that-were-not-used",
        {
            "type": "response.completed",
            "response": response(
                {"input_tokens": 20, "output_tokens": 3, "total_tokens": 23},
                tool_usage={
                    "image_gen": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0},
                    "web_search": {"num_requests": 0},
                },
            ),
        },
        tokens=Tokens(input=20, output=3),
        source="https://platform.openai.com/docs/api-reference/responses/object",
    ),
    shape(
        "responses-cancelled-in-the-background",
        response(None, status="cancelled"),
        says="no token usage that is known",
        source="https://platform.openai.com/docs/guides/background",
    ),
    shape(
        "responses-cut-off-at-a-limit",
        response(
            {
                "input_tokens": 300,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 64,
                "output_tokens_details": {"reasoning_tokens": 64},
                "total_tokens": 364,
            },
            status="incomplete",
            incomplete_details={"reason": "max_output_tokens"},
        ),
        tokens=Tokens(input=300, output=64, cache=0),
        source="https://platform.openai.com/docs/guides/reasoning",
    ),
    shape(
        "image-with-text",
        {
            "created": 1713833628,
            "data": [{"b64_json": "..."}],
            "output_format": "png",
            "usage": {
                "total_tokens": 1180,
                "input_tokens": 60,
                "output_tokens": 1120,
                "input_tokens_details": {"text_tokens": 20, "image_tokens": 40},
                "output_tokens_details": {"image_tokens": 1056, "text_tokens": 64},
            },
        },
        tokens=Tokens(input=60, output=1120),
        other={"input_image_tokens": 40, "output_image_tokens": 1056},
        source="https://platform.openai.com/docs/api-reference/images/object",
    ),
    shape(
        "image-stream-completed",
        {
            "type": "image_generation.completed",
            "b64_json": "...",
            "created_at": 1620000000,
            "usage": {
                "total_tokens": 100,
                "input_tokens": 50,
                "output_tokens": 50,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
            },
        },
        tokens=Tokens(input=50, output=50),
        other={"input_image_tokens": 40},
        source="https://platform.openai.com/docs/api-reference/images-streaming",
    ),
    shape(
        "image-without-usage",
        {"created": 1589478378, "data": [{"url": "..."}]},
        says="no token usage that is known",
        source="https://platform.openai.com/docs/api-reference/images/create",
    ),
    shape(
        "speech-done",
        {
            "type": "speech.audio.done",
            "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115},
        },
        tokens=Tokens(input=14, output=101),
        source="https://platform.openai.com/docs/api-reference/audio/speech-audio-done-event",
    ),
    shape(
        "transcript-done",
        {
            "type": "transcript.text.done",
            "text": "Hi",
            "usage": {
                "type": "tokens",
                "input_tokens": 14,
                "input_token_details": {"text_tokens": 10, "audio_tokens": 4},
                "output_tokens": 31,
                "total_tokens": 45,
            },
        },
        tokens=Tokens(input=14, output=31),
        other={"input_audio_tokens": 4},
        source="https://platform.openai.com/docs/api-reference/audio/transcript-text-done-event",
    ),
    shape(
        "moderation",
        {"id": "modr-970d409ef3", "model": "omni-moderation-latest", "results": [{"flagged": False}]},
        says="no token usage that is known",
        source="https://platform.openai.com/docs/api-reference/moderations/object",
    ),
    shape(
        "assistants-run-with-cache",
        {
            "id": "run_abc123",
            "object": "thread.run",
            "status": "incomplete",
            "model": "gpt-4o",
            "usage": {
                "prompt_tokens": 123,
                "completion_tokens": 456,
                "total_tokens": 579,
                "prompt_token_details": {"cached_tokens": 100},
            },
        },
        tokens=Tokens(input=23, output=456, cache=100),
        model="gpt-4o",
        source="https://platform.openai.com/docs/api-reference/runs/object",
    ),
    shape(
        "fine-tuning-job",
        {"id": "ftjob-1", "object": "fine_tuning.job", "status": "succeeded", "trained_tokens": 5768},
        says="no token usage that is known",
        source="https://platform.openai.com/docs/api-reference/fine-tuning/object",
    ),
    shape(
        "evals-run",
        {
            "object": "eval.run",
            "status": "completed",
            "per_model_usage": [
                {
                    "model_name": "gpt-4o",
                    "invocation_count": 3,
                    "prompt_tokens": 600,
                    "completion_tokens": 90,
                    "total_tokens": 690,
                    "cached_tokens": 100,
                }
            ],
        },
        tokens=Tokens(input=500, output=90, cache=100),
        model="gpt-4o",
        source="https://platform.openai.com/docs/api-reference/evals/run-object",
    ),
]

ANTHROPIC: list[Shape] = [
    shape(
        "anthropic-both-lifetimes-and-a-search",
        message(
            {
                "input_tokens": 105,
                "output_tokens": 6039,
                "cache_read_input_tokens": 7123,
                "cache_creation_input_tokens": 7345,
                "cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 7045},
                "server_tool_use": {"web_search_requests": 1},
                "service_tier": "standard",
                "inference_geo": "us",
            }
        ),
        tokens=Tokens(input=7450, output=6039, cache=7123),
        other={"cache_write_tokens": 7345, "cache_write_1h_tokens": 7045, "web_search_requests": 1},
        source="https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching",
    ),
    shape(
        "anthropic-context-edited",
        message(
            {"input_tokens": 2000, "output_tokens": 40},
            context_management={
                "applied_edits": [
                    {
                        "type": "clear_tool_uses_20250919",
                        "cleared_tool_uses": 8,
                        "cleared_input_tokens": 50000,
                    }
                ]
            },
        ),
        tokens=Tokens(input=2000, output=40),
        source="https://docs.anthropic.com/en/docs/build-with-claude/context-editing",
    ),
    shape(
        "anthropic-count-tokens-with-editing",
        {"input_tokens": 25000, "context_management": {"original_input_tokens": 70000}},
        says="count of tokens before a call",
        source="https://docs.anthropic.com/en/docs/build-with-claude/context-editing",
    ),
    shape(
        "anthropic-paused-turn",
        message({"input_tokens": 9, "output_tokens": 67}, stop_reason="pause_turn"),
        tokens=Tokens(input=9, output=67),
        source="https://docs.anthropic.com/en/api/handling-stop-reasons",
    ),
    shape(
        "anthropic-refusal",
        message({"input_tokens": 564, "output_tokens": 22}, stop_reason="refusal"),
        tokens=Tokens(input=564, output=22),
        source="https://docs.anthropic.com/en/docs/test-and-evaluate/strengthen-guardrails/handle-streaming-refusals",
    ),
    shape(
        "anthropic-batch-line-errored",
        {
            "custom_id": "second",
            "result": {"type": "errored", "error": {"type": "error", "error": {"type": "invalid_request"}}},
        },
        says="did not succeed, which costs nothing",
        source="https://docs.anthropic.com/en/docs/build-with-claude/batch-processing",
    ),
    shape(
        "anthropic-usage-report",
        {
            "uncached_input_tokens": 1500,
            "cache_creation": {"ephemeral_1h_input_tokens": 1000, "ephemeral_5m_input_tokens": 500},
            "cache_read_input_tokens": 200,
            "output_tokens": 500,
            "server_tool_use": {"web_search_requests": 10},
            "model": "claude-sonnet-4-20250514",
            "service_tier": "standard",
        },
        tokens=Tokens(input=3000, output=500, cache=200),
        source="https://docs.anthropic.com/en/api/admin-api/usage-cost/get-messages-usage-report",
    ),
    shape(
        "claude-code-result",
        {
            "type": "result",
            "subtype": "success",
            "num_turns": 2,
            "total_cost_usd": 0.0144,
            "usage": {
                "input_tokens": 18,
                "cache_creation_input_tokens": 574,
                "cache_read_input_tokens": 34204,
                "output_tokens": 134,
                "server_tool_use": {"web_search_requests": 0},
                "service_tier": "standard",
            },
            "result": "Hi",
        },
        tokens=Tokens(input=592, output=134, cache=34204),
        source="https://docs.anthropic.com/en/docs/claude-code/sdk/sdk-python",
    ),
]

GOOGLE: list[Shape] = [
    shape(
        "gemini-live-with-thoughts-and-tools",
        {
            "usageMetadata": {
                "promptTokenCount": 100,
                "responseTokenCount": 50,
                "thoughtsTokenCount": 30,
                "toolUsePromptTokenCount": 20,
                "totalTokenCount": 200,
                "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 100}],
                "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 50}],
            }
        },
        tokens=Tokens(input=120, output=80),
        other={"input_audio_tokens": 100, "output_audio_tokens": 50},
        source="https://ai.google.dev/api/live#UsageMetadata",
    ),
    shape(
        "gemini-image",
        {
            "candidates": [{"finishReason": "STOP"}],
            "usageMetadata": {
                "promptTokenCount": 13,
                "candidatesTokenCount": 1290,
                "totalTokenCount": 1303,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 13}],
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
            },
            "modelVersion": "gemini-2.5-flash-image",
            "responseId": "xK2jaOrxBb6nkdUPz6zE-AM",
        },
        tokens=Tokens(input=13, output=1290),
        other={"output_image_tokens": 1290},
        model="gemini-2.5-flash-image",
        id="xK2jaOrxBb6nkdUPz6zE-AM",
        source="https://ai.google.dev/gemini-api/docs/image-generation",
    ),
    shape(
        "gemini-all-spent-on-thoughts",
        {
            "candidates": [{"finishReason": "MAX_TOKENS", "index": 0}],
            "usageMetadata": {"promptTokenCount": 8, "thoughtsTokenCount": 100, "totalTokenCount": 108},
        },
        tokens=Tokens(input=8, output=100),
        source="https://ai.google.dev/gemini-api/docs/thinking",
    ),
    shape(
        "vertex-batch-line",
        {
            "status": "",
            "processed_time": "2025-01-01T00:00:00.000+00:00",
            "request": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
            "response": {
                "candidates": [{"finishReason": "STOP"}],
                "modelVersion": "gemini-2.0-flash-001",
                "usageMetadata": {"promptTokenCount": 8, "candidatesTokenCount": 36, "totalTokenCount": 44},
            },
        },
        tokens=Tokens(input=8, output=36),
        model="gemini-2.0-flash-001",
        tier="batch",
        source="https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/batch-prediction-gemini",
    ),
    shape(
        "gemini-inlined-response",
        {
            "metadata": {"key": "request-1"},
            "response": {
                "candidates": [{"finishReason": "STOP"}],
                "modelVersion": "gemini-2.5-flash",
                "usageMetadata": {"promptTokenCount": 8, "candidatesTokenCount": 36, "totalTokenCount": 44},
            },
        },
        tokens=Tokens(input=8, output=36),
        tier="batch",
        source="https://ai.google.dev/gemini-api/docs/batch-api",
    ),
    shape(
        "gemini-batch-line-in-error",
        {"key": "r2", "error": {"code": 3, "message": "..."}},
        says="no token usage that is known",
        source="https://ai.google.dev/gemini-api/docs/batch-api",
    ),
    shape(
        "genkit",
        {
            "finishReason": "stop",
            "message": {"role": "model", "content": [{"text": "Hi"}]},
            "usage": {
                "inputTokens": 10,
                "outputTokens": 5,
                "totalTokens": 15,
                "inputCharacters": 40,
                "outputCharacters": 20,
                "inputImages": 0,
                "cachedContentTokens": 4,
            },
        },
        tokens=Tokens(input=6, output=5, cache=4),
        source="https://github.com/firebase/genkit (GenerationUsage)",
    ),
]

AMAZON: list[Shape] = [
    shape(
        "converse-with-a-tier",
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
            "metrics": {"latencyMs": 9},
            "serviceTier": {"type": "priority"},
        },
        tokens=Tokens(input=105, output=60, cache=2000),
        tier="priority",
        source="https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html",
    ),
    shape(
        "invoke-of-claude-with-headers",
        {
            "ResponseMetadata": {
                "RequestId": "8b8c1b3e",
                "HTTPHeaders": {
                    "x-amzn-bedrock-input-token-count": "9",
                    "x-amzn-bedrock-output-token-count": "67",
                },
            },
            "body": message(
                {
                    "input_tokens": 9,
                    "cache_creation_input_tokens": 287,
                    "cache_read_input_tokens": 17102,
                    "output_tokens": 67,
                }
            ),
        },
        tokens=Tokens(input=296, output=67, cache=17102),
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages.html",
    ),
    shape(
        "guardrail",
        {
            "usage": {"topicPolicyUnits": 1, "contentPolicyUnits": 1, "wordPolicyUnits": 1},
            "action": "NONE",
            "outputs": [],
        },
        says="unknown shape",
        source="https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ApplyGuardrail.html",
    ),
    shape(
        "invoke-of-mistral",
        {"outputs": [{"text": "Hi", "stop_reason": "stop"}]},
        says="no token usage that is known",
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-mistral-text-completion.html",
    ),
    shape(
        "invoke-of-cohere-command",
        {"id": "x", "prompt": "Hi", "generations": [{"text": "Hi", "finish_reason": "COMPLETE", "id": "y"}]},
        says="no token usage that is known",
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-cohere-command.html",
    ),
    shape(
        "invoke-of-jamba",
        {
            "id": "chat-ae86a1e555f04e5cbddb86cc6a98ce5e",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Hi"}}],
            "usage": {"prompt_tokens": 40, "completion_tokens": 5, "total_tokens": 45},
            "meta": {"requestDurationMillis": 113},
            "model": "jamba-1.5-large",
        },
        tokens=Tokens(input=40, output=5),
        model="jamba-1.5-large",
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-jamba.html",
    ),
    shape(
        "batch-line-of-converse",
        {
            "recordId": "CALL0000001",
            "modelInput": {"messages": []},
            "modelOutput": {
                "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}},
                "stopReason": "end_turn",
                "usage": {"inputTokens": 12, "outputTokens": 7, "totalTokens": 19},
            },
        },
        tokens=Tokens(input=12, output=7),
        tier="batch",
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/batch-inference-results.html",
    ),
    shape(
        "batch-line-of-bedrock-in-error",
        {"recordId": "CALL0000002", "modelInput": {}, "error": {"errorCode": 400, "errorMessage": "..."}},
        says="no token usage that is known",
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/batch-inference-results.html",
    ),
    shape(
        "sagemaker-tgi",
        {"generated_text": "Hi", "details": {"finish_reason": "length", "generated_tokens": 20}},
        says="response.details: has no prompt count",
        source="https://huggingface.co/docs/text-generation-inference/reference/api_reference",
    ),
    shape(
        "tgi-stream-end",
        {
            "index": 20,
            "token": {"id": 1, "text": "."},
            "generated_text": "Hi",
            "details": {"finish_reason": "length", "generated_tokens": 20, "input_length": 5},
        },
        tokens=Tokens(input=5, output=20),
        source="https://huggingface.co/docs/text-generation-inference/reference/api_reference",
    ),
]

RETRIEVAL: list[Shape] = [
    shape(
        "cohere-embed-of-images",
        {"id": "1", "embeddings": {"float": []}, "meta": {"billed_units": {"images": 2}}},
        says="images: is a count in another unit",
        source="https://docs.cohere.com/reference/embed",
    ),
    shape(
        "cohere-classify",
        {"id": "1", "classifications": [], "meta": {"billed_units": {"classifications": 2}}},
        says="classifications: is a count in another unit",
        source="https://docs.cohere.com/reference/classify",
    ),
    shape(
        "litellm-rerank-of-cohere",
        {
            "id": "1",
            "results": [{"index": 0, "relevance_score": 0.9}],
            "meta": {"billed_units": {"search_units": 1, "total_tokens": 150}},
        },
        says="search_units: is a count in another unit",
        source="https://docs.litellm.ai/docs/rerank",
    ),
    shape(
        "openrouter-rerank",
        {
            "id": "gen-rerank-1",
            "model": "cohere/rerank-v3.5",
            "results": [{"index": 0, "relevance_score": 0.9}],
            "usage": {"cost": 0.001, "search_units": 1, "total_tokens": 150},
        },
        says="search_units: is a count in another unit",
        source="https://openrouter.ai/docs/agent-sdk/typescript/api-reference/operations/creatererankusage",
    ),
    shape(
        "voyage-rerank",
        {
            "object": "list",
            "data": [{"relevance_score": 0.4375, "index": 0}],
            "model": "rerank-2.5",
            "usage": {"total_tokens": 26},
        },
        tokens=Tokens(input=26),
        model="rerank-2.5",
        source="https://docs.voyageai.com/reference/reranker-api",
    ),
    shape(
        "jina-rerank",
        {
            "model": "jina-reranker-v2-base-multilingual",
            "usage": {"total_tokens": 815},
            "results": [{"index": 0, "relevance_score": 0.8}],
        },
        tokens=Tokens(input=815),
        source="https://jina.ai/reranker/",
    ),
    shape(
        "nim-rerank",
        {"rankings": [{"index": 0, "logit": 1.5}], "usage": {"prompt_tokens": 50, "total_tokens": 50}},
        tokens=Tokens(input=50),
        source="https://docs.nvidia.com/nim/nemo-retriever/text-reranking/latest/using-reranking.html",
    ),
    shape(
        "dashscope-embed",
        {
            "output": {"embeddings": [{"embedding": [0.1], "text_index": 0}]},
            "usage": {"total_tokens": 26},
            "request_id": "d89c06fb-46a1-47b6-acb9-bfb17f814969",
        },
        tokens=Tokens(input=26),
        id="d89c06fb-46a1-47b6-acb9-bfb17f814969",
        source="https://www.alibabacloud.com/help/en/model-studio/text-embedding-synchronous-api",
    ),
    shape(
        "dashscope-rerank",
        {
            "output": {"results": [{"index": 0, "relevance_score": 0.9}]},
            "usage": {"total_tokens": 79},
            "request_id": "4b0805c0-6b36-490d-8bc1-4365f4c89905",
        },
        tokens=Tokens(input=79),
        source="https://www.alibabacloud.com/help/en/model-studio/text-rerank-api",
    ),
    shape(
        "dashscope-embed-of-images",
        {
            "output": {"embeddings": [{"embedding": [0.1], "index": 0, "type": "image"}]},
            "usage": {"input_tokens": 10, "image_tokens": 896, "image_count": 1},
            "request_id": "1fff9502-a6c5-9472-9ee1-73930fdd04c5",
        },
        says="image",
        source="https://www.alibabacloud.com/help/en/model-studio/multimodal-embedding-api-reference",
    ),
    shape(
        "ai-sdk-embed",
        {"value": "Hi", "embedding": [0.1], "usage": {"tokens": 5}},
        tokens=Tokens(input=5),
        source="https://ai-sdk.dev/docs/reference/ai-sdk-core/embed",
    ),
    shape(
        "mistral-embed",
        {
            "id": "embd-cb3cf0a5",
            "object": "list",
            "data": [],
            "model": "mistral-embed",
            "usage": {"prompt_tokens": 15, "total_tokens": 15, "completion_tokens": 0},
        },
        tokens=Tokens(input=15),
        source="https://docs.mistral.ai/api/#tag/embeddings",
    ),
    shape(
        "siliconflow-rerank",
        {
            "id": "1",
            "results": [{"index": 0, "relevance_score": 0.9}],
            "meta": {
                "billed_units": {"input_tokens": 0, "output_tokens": 0, "search_units": 0},
                "tokens": {"input_tokens": 15, "output_tokens": 0},
            },
        },
        says="nothing but zeros",
        source="https://docs.siliconflow.cn/en/api-reference/rerank/create-rerank",
    ),
]

OTHERS: list[Shape] = [
    shape(
        "mistral-conversation-done",
        {
            "event": "conversation.response.done",
            "data": {
                "type": "conversation.response.done",
                "usage": {
                    "prompt_tokens": 188,
                    "completion_tokens": 55,
                    "total_tokens": 7355,
                    "connector_tokens": 7112,
                    "connectors": {"web_search": 1},
                },
            },
        },
        tokens=Tokens(input=7300, output=55),
        source="https://docs.mistral.ai/agents/connectors/websearch",
    ),
    shape(
        "xai-chat-with-ticks",
        chat(
            {
                "prompt_tokens": 199,
                "completion_tokens": 1,
                "total_tokens": 300,
                "prompt_tokens_details": {
                    "text_tokens": 199,
                    "audio_tokens": 0,
                    "image_tokens": 0,
                    "cached_tokens": 163,
                },
                "completion_tokens_details": {"reasoning_tokens": 100, "audio_tokens": 0},
                "num_sources_used": 0,
                "cost_in_usd_ticks": 158500,
            },
            model="grok-4",
        ),
        tokens=Tokens(input=36, output=101, cache=163),
        source="https://docs.x.ai/docs/api-reference#chat-completions",
    ),
    shape(
        "xai-responses-with-tools",
        response(
            {
                "input_tokens": 11365,
                "output_tokens": 498,
                "total_tokens": 11863,
                "input_tokens_details": {"cached_tokens": 9000},
                "output_tokens_details": {"reasoning_tokens": 300},
                "num_sources_used": 0,
                "num_server_side_tools_used": 3,
                "cost_in_usd_ticks": 233008500,
                "server_side_tool_usage_details": {"web_search_calls": 3, "code_interpreter_calls": 0},
                "context_details": {"input_tokens": 3000, "output_tokens": 400},
            },
            model="grok-4",
        ),
        tokens=Tokens(input=2365, output=498, cache=9000),
        other={"web_search_calls": 3},
        source="https://github.com/BerriAI/litellm/pull/39441",
    ),
    shape(
        "xai-image",
        {"data": [{"url": "..."}], "usage": {"cost_in_usd_ticks": 200000000}},
        says="unknown shape",
        source="https://github.com/vercel/ai/pull/13371",
    ),
    shape(
        "groq-with-times",
        chat(
            {
                "queue_time": 0.037,
                "prompt_tokens": 18,
                "prompt_time": 0.0006,
                "completion_tokens": 556,
                "completion_time": 0.46,
                "total_tokens": 574,
                "total_time": 0.46,
            },
            model="llama-3.3-70b-versatile",
            usage_breakdown=None,
            x_groq={"id": "req_01jbd6g2qdfw2adyrt2az8hz4w"},
            service_tier="on_demand",
        ),
        tokens=Tokens(input=18, output=556),
        tier="on_demand",
        source="https://console.groq.com/docs/api-reference#chat-create",
    ),
    shape(
        "groq-transcription",
        {"text": "Hi", "x_groq": {"id": "req_unique_id"}},
        says="no token usage that is known",
        source="https://console.groq.com/docs/api-reference#audio-transcription",
    ),
    shape(
        "perplexity-with-costs",
        chat(
            {
                "prompt_tokens": 14,
                "completion_tokens": 70,
                "total_tokens": 84,
                "search_context_size": "low",
                "cost": {"input_tokens_cost": 0.0, "output_tokens_cost": 0.0001, "request_cost": 0.005},
            },
            model="sonar",
        ),
        tokens=Tokens(input=14, output=70),
        source="https://docs.perplexity.ai/api-reference/chat-completions-post",
    ),
    shape(
        "ollama-generate",
        {
            "model": "llama3.2",
            "created_at": "2023-08-04T19:22:45.499127Z",
            "response": "Hi",
            "done": True,
            "done_reason": "stop",
            "context": [1, 2, 3],
            "total_duration": 10706818083,
            "prompt_eval_count": 26,
            "prompt_eval_duration": 130079000,
            "eval_count": 259,
            "eval_duration": 4232710000,
        },
        tokens=Tokens(input=26, output=259),
        model="llama3.2",
        source="https://github.com/ollama/ollama/blob/main/docs/api.md",
    ),
    shape(
        "vllm",
        chat(
            {
                "prompt_tokens": 12,
                "total_tokens": 20,
                "completion_tokens": 8,
                "prompt_tokens_details": None,
            },
            prompt_logprobs=None,
            kv_transfer_params=None,
        ),
        tokens=Tokens(input=12, output=8),
        source="https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
    ),
    shape(
        "sglang-reasoning",
        chat(
            {
                "prompt_tokens": 12,
                "total_tokens": 20,
                "completion_tokens": 8,
                "prompt_tokens_details": {"cached_tokens": 8},
                "reasoning_tokens": 5,
            }
        ),
        tokens=Tokens(input=4, output=8, cache=8),
        source="https://docs.sglang.ai/basic_usage/openai_api_completions.html",
    ),
    shape(
        "sglang-generate",
        {
            "text": "Hi",
            "output_ids": [1, 2],
            "meta_info": {
                "id": "0b0aeb1ef9d84c1d9d1b8e5f2a8b8c11",
                "finish_reason": {"type": "length", "length": 16},
                "prompt_tokens": 5,
                "completion_tokens": 16,
                "cached_tokens": 1,
                "e2e_latency": 0.22,
            },
        },
        tokens=Tokens(input=4, output=16, cache=1),
        id="0b0aeb1ef9d84c1d9d1b8e5f2a8b8c11",
        source="https://docs.sglang.ai/basic_usage/native_api.html",
    ),
    shape(
        "lm-studio-chat-v0",
        chat(
            {"prompt_tokens": 24, "completion_tokens": 53, "total_tokens": 77},
            stats={"tokens_per_second": 51.4, "time_to_first_token": 0.111, "stop_reason": "eosFound"},
            model_info={"arch": "granite", "context_length": 4096},
        ),
        tokens=Tokens(input=24, output=53),
        source="https://lmstudio.ai/docs/developer/rest/endpoints",
    ),
    shape(
        "lm-studio-chat-v1",
        {
            "model_instance_id": "ibm/granite-4-micro",
            "output": [{"type": "message", "content": "Hi"}],
            "stats": {
                "input_tokens": 646,
                "total_output_tokens": 586,
                "reasoning_output_tokens": 20,
                "tokens_per_second": 29.7,
                "time_to_first_token_seconds": 1.088,
                "model_load_time_seconds": 2.656,
            },
            "response_id": "resp_4ef013eba0def1ed23f19dde72b67974c579113f544086de",
        },
        tokens=Tokens(input=646, output=586),
        id="resp_4ef013eba0def1ed23f19dde72b67974c579113f544086de",
        source="https://lmstudio.ai/docs/developer/rest/chat",
    ),
    shape(
        "lm-studio-sdk",
        {
            "content": "Hi",
            "stats": {
                "stop_reason": "eosFound",
                "tokens_per_second": 40.1,
                "time_to_first_token_sec": 0.2,
                "prompt_tokens_count": 9,
                "predicted_tokens_count": 4,
                "total_tokens_count": 13,
            },
        },
        tokens=Tokens(input=9, output=4),
        source="https://lmstudio.ai/docs/python/llm-prediction/chat-completion",
    ),
    shape(
        "koboldcpp",
        {"results": [{"text": "Hi", "finish_reason": "length", "prompt_tokens": 10, "completion_tokens": 8}]},
        tokens=Tokens(input=10, output=8),
        source="https://lite.koboldai.net/koboldcpp_api",
    ),
    shape(
        "together",
        chat(
            {"prompt_tokens": 31, "completion_tokens": 4, "total_tokens": 35, "cached_tokens": 0},
            prompt=[],
        ),
        tokens=Tokens(input=31, output=4, cache=0),
        source="https://docs.together.ai/reference/chat-completions-1",
    ),
    shape(
        "sambanova",
        chat(
            {
                "acceptance_rate": 4.058139324188232,
                "completion_tokens": 350,
                "completion_tokens_after_first_per_sec": 248.0,
                "completion_tokens_per_sec": 242.8,
                "is_last_response": True,
                "prompt_tokens": 43,
                "time_to_first_token": 0.098,
                "total_latency": 1.5,
                "total_tokens": 393,
                "total_tokens_per_sec": 258.2,
            }
        ),
        tokens=Tokens(input=43, output=350),
        source="https://docs.sambanova.ai/docs/en/api-reference/chat",
    ),
    shape(
        "minimax",
        chat(
            {
                "total_tokens": 262,
                "total_characters": 0,
                "prompt_tokens": 200,
                "completion_tokens": 62,
                "completion_tokens_details": {"reasoning_tokens": 50},
            },
            base_resp={"status_code": 0, "status_msg": ""},
        ),
        tokens=Tokens(input=200, output=62),
        source="https://platform.minimaxi.com/document/ChatCompletion%20v2",
    ),
    shape(
        "ernie",
        {
            "id": "as-bcmt5ct4iy",
            "object": "chat.completion",
            "result": "Hi",
            "is_truncated": False,
            "need_clear_history": False,
            "usage": {"prompt_tokens": 7, "completion_tokens": 10, "total_tokens": 17},
        },
        tokens=Tokens(input=7, output=10),
        source="https://cloud.baidu.com/doc/WENXINWORKSHOP/s/clntwmv7t",
    ),
    shape(
        "doubao",
        chat(
            {
                "prompt_tokens": 19,
                "completion_tokens": 9,
                "total_tokens": 28,
                "prompt_tokens_details": {"cached_tokens": 10, "provisioned_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "provisioned_tokens": 0},
            }
        ),
        tokens=Tokens(input=9, output=9, cache=10),
        source="https://www.volcengine.com/docs/82379/1494384",
    ),
    shape(
        "doubao-image",
        {
            "model": "doubao-seedream-4-0-250828",
            "created": 1757321139,
            "data": [{"url": "..."}],
            "usage": {"generated_images": 1, "output_tokens": 4096, "total_tokens": 4096},
        },
        says="generated_images: is a count in another unit",
        source="https://www.volcengine.com/docs/82379/1541523",
    ),
    shape(
        "qwen-with-a-cache-of-its-own",
        chat(
            {
                "prompt_tokens": 3019,
                "completion_tokens": 104,
                "total_tokens": 3123,
                "prompt_tokens_details": {
                    "cached_tokens": 2048,
                    "cache_creation": {"ephemeral_5m_input_tokens": 500},
                    "cache_creation_input_tokens": 500,
                    "cache_type": "ephemeral",
                },
            },
            model="qwen3-coder-plus",
        ),
        tokens=Tokens(input=971, output=104, cache=2048),
        other={"cache_write_tokens": 500},
        source="https://www.alibabacloud.com/help/en/model-studio/context-cache",
    ),
    shape(
        "dashscope-transcription",
        {"output": {"choices": [{"finish_reason": "stop"}]}, "usage": {"seconds": 9}, "request_id": "r"},
        says="response.usage.seconds: is a count in another unit",
        source="https://www.alibabacloud.com/help/en/model-studio/qwen-speech-recognition",
    ),
    shape(
        "watsonx-chat",
        {
            "id": "chatcmpl-15475d0dea9b4429a55843c77997f8a9",
            "model_id": "ibm/granite-3-8b-instruct",
            "model_version": "1.1.0",
            "created": 1689958352,
            "created_at": "2023-07-21T16:52:32.190Z",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Hi"}}],
            "usage": {"completion_tokens": 47, "prompt_tokens": 59, "total_tokens": 106},
        },
        tokens=Tokens(input=59, output=47),
        model="ibm/granite-3-8b-instruct",
        source="https://ibm.github.io/watsonx-ai-node-sdk/interfaces/1_2_x.WatsonXAI.TextChatResponse.html",
    ),
    shape(
        "databricks-claude",
        chat(
            {
                "prompt_tokens": 1000,
                "completion_tokens": 50,
                "total_tokens": 1050,
                "cache_read_input_tokens": 800,
                "cache_creation_input_tokens": 100,
            },
            model="databricks-claude-sonnet-4",
        ),
        tokens=Tokens(input=200, output=50, cache=800),
        other={"cache_write_tokens": 100},
        source="https://github.com/databricks/databricks-ai-bridge/issues/446",
    ),
    shape(
        "sap-orchestration",
        {
            "request_id": "ceaa358c",
            "module_results": {"templating": []},
            "orchestration_result": chat(CHAT_USAGE),
        },
        tokens=Tokens(input=86, output=300, cache=1920),
        model="gpt-4o-2024-08-06",
        source="https://help.sap.com/docs/sap-ai-core/sap-ai-core-service-guide/orchestration",
    ),
    shape(
        "oci-cohere",
        {
            "modelId": "cohere.command-a-03-2025",
            "modelVersion": "1.0",
            "chatResponse": {
                "apiFormat": "COHERE",
                "text": "Hi",
                "finishReason": "COMPLETE",
                "usage": {
                    "promptTokens": 20,
                    "completionTokens": 6,
                    "totalTokens": 26,
                    "promptTokensDetails": {"cachedTokens": 8},
                },
            },
        },
        tokens=Tokens(input=12, output=6, cache=8),
        model="cohere.command-a-03-2025",
        source="https://docs.oracle.com/en-us/iaas/api/#/en/generative-ai-inference/20231130/ChatResult/",
    ),
]

FRAMEWORKS: list[Shape] = [
    shape(
        "ai-sdk-with-raw",
        {
            "usage": {
                "inputTokens": 2050,
                "outputTokens": 140,
                "totalTokens": 2190,
                "cachedInputTokens": 250,
                "inputTokenDetails": {"noCacheTokens": 1700, "cacheReadTokens": 250, "cacheWriteTokens": 100},
                "outputTokenDetails": {"textTokens": 140},
                "raw": {"input_tokens": 700, "output_tokens": 110, "cache_read_input_tokens": 250},
            }
        },
        tokens=Tokens(input=1800, output=140, cache=250),
        other={"cache_write_tokens": 100},
        source="https://ai-sdk.dev/docs/reference/ai-sdk-core/generate-text",
    ),
    shape(
        "microsoft-extensions",
        {
            "modelId": "gpt-4o-2024-08-06",
            "responseId": "chatcmpl-BaU7vRPm4J1",
            "finishReason": "stop",
            "usage": {
                "inputTokenCount": 100,
                "outputTokenCount": 20,
                "totalTokenCount": 120,
                "cachedInputTokenCount": 80,
                "reasoningTokenCount": 5,
                "additionalCounts": {"InputTokenDetails.AudioTokenCount": 0},
            },
        },
        tokens=Tokens(input=20, output=20, cache=80),
        model="gpt-4o-2024-08-06",
        id="chatcmpl-BaU7vRPm4J1",
        source="https://learn.microsoft.com/dotnet/api/microsoft.extensions.ai.usagedetails",
    ),
    shape(
        "langchain-js",
        {
            "generations": [[{"text": "Hi"}]],
            "llmOutput": {"tokenUsage": {"promptTokens": 9, "completionTokens": 3, "totalTokens": 12}},
        },
        tokens=Tokens(input=9, output=3),
        source="https://v03.api.js.langchain.com/classes/_langchain_openai.ChatOpenAI.html",
    ),
    shape(
        "langsmith-run",
        {
            "id": "01994f64-6b3e-7c1c-8b6b-0f4b4d0f8c11",
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 120,
            "prompt_token_details": {"cache_read": 80},
            "completion_token_details": {"reasoning": 5},
            "prompt_cost": "0.001",
        },
        tokens=Tokens(input=20, output=20, cache=80),
        source="https://docs.smith.langchain.com/reference/data_formats/run_data_format",
    ),
    shape(
        "spring-ai",
        {
            "metadata": {
                "id": "chatcmpl-BaU7vRPm4J1",
                "model": "gpt-4o-2024-08-06",
                "usage": {
                    "promptTokens": 14,
                    "completionTokens": 5,
                    "totalTokens": 19,
                    "nativeUsage": {"prompt_tokens": 14, "completion_tokens": 5, "total_tokens": 19},
                },
            }
        },
        tokens=Tokens(input=14, output=5),
        model="gpt-4o-2024-08-06",
        source="https://docs.spring.io/spring-ai/reference/api/usage-handling.html",
    ),
    shape(
        "litellm-with-lifetimes",
        chat(
            {
                "prompt_tokens": 1000,
                "completion_tokens": 50,
                "total_tokens": 1050,
                "prompt_tokens_details": {
                    "cached_tokens": 600,
                    "cache_creation_tokens": 300,
                    "cache_creation_token_details": {
                        "ephemeral_5m_input_tokens": 100,
                        "ephemeral_1h_input_tokens": 200,
                    },
                    "text_tokens": 100,
                },
                "cache_read_input_tokens": 600,
                "cache_creation_input_tokens": 300,
            },
            model="claude-sonnet-4-5",
        ),
        tokens=Tokens(input=400, output=50, cache=600),
        other={"cache_write_tokens": 300, "cache_write_1h_tokens": 200},
        source="https://github.com/BerriAI/litellm/pull/31724",
    ),
    shape(
        "opentelemetry-cache-attributes",
        {
            "gen_ai.response.model": "claude-sonnet-4-5",
            "gen_ai.response.id": "msg_01XFDUDYJgAACzvnptvVoYEL",
            "gen_ai.usage.input_tokens": 1000,
            "gen_ai.usage.output_tokens": 50,
            "gen_ai.usage.cache_read.input_tokens": 600,
            "gen_ai.usage.cache_creation.input_tokens": 300,
        },
        tokens=Tokens(input=400, output=50, cache=600),
        model="claude-sonnet-4-5",
        source="https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/",
    ),
    shape(
        "haystack-generator",
        {
            "replies": ["Hi"],
            "meta": [
                {
                    "model": "gpt-4o-2024-08-06",
                    "index": 0,
                    "finish_reason": "stop",
                    "usage": {"prompt_tokens": 13, "completion_tokens": 5, "total_tokens": 18},
                }
            ],
        },
        tokens=Tokens(input=13, output=5),
        model="gpt-4o-2024-08-06",
        source="https://docs.haystack.deepset.ai/docs/openaigenerator",
    ),
    shape(
        "smolagents-run",
        {
            "output": "Hi",
            "state": "success",
            "steps": [],
            "token_usage": {"input_tokens": 300, "output_tokens": 40, "total_tokens": 340},
        },
        tokens=Tokens(input=300, output=40),
        source="https://huggingface.co/docs/smolagents/reference/agents#smolagents.RunResult",
    ),
    shape(
        "ag2-summary",
        {
            "total_cost": 0.01,
            "gpt-4o": {"cost": 0.01, "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        },
        says="response",
        source="https://docs.ag2.ai/latest/docs/user-guide/advanced-concepts/llm-observability/",
    ),
    shape(
        "mlflow-gateway",
        {
            "candidates": [{"text": "Hi", "metadata": {"finish_reason": "stop"}, "finish_reason": "stop"}],
            "metadata": {
                "input_tokens": 4,
                "output_tokens": 7,
                "total_tokens": 11,
                "model": "gpt-4o-mini",
                "route_type": "llm/v1/completions",
            },
        },
        tokens=Tokens(input=4, output=7),
        model="gpt-4o-mini",
        source="https://mlflow.org/docs/latest/genai/governance/ai-gateway/",
    ),
]

_WRONG: dict[str, object] = {
    "a-negative-count": -1,
    "a-count-that-is-true": True,
    "half-a-token": 9.5,
    "digits-with-a-comma": "2,006",
    "a-count-beyond-all": 2**53,
}
NO_COUNTS: list[Shape] = [
    *(
        shape(
            name,
            chat({"prompt_tokens": wrong, "completion_tokens": 4}),
            says="prompt_tokens: must be",
            source="https://platform.openai.com/docs/api-reference/chat/object",
        )
        for name, wrong in _WRONG.items()
    ),
    shape(
        "a-cache-that-is-no-number",
        chat({"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": "all"}}),
        says="cached_tokens",
        source="https://platform.openai.com/docs/api-reference/chat/object",
    ),
    shape(
        "deepseek-without-a-prompt",
        chat({"prompt_cache_hit_tokens": 80, "prompt_cache_miss_tokens": 20, "completion_tokens": 5}),
        tokens=Tokens(input=20, output=5, cache=80),
        source="https://api-docs.deepseek.com/guides/kv_cache",
    ),
]
"""What no provider should send, and some do."""

FURTHER = [*OPENAI, *ANTHROPIC, *GOOGLE, *AMAZON, *RETRIEVAL, *OTHERS, *FRAMEWORKS, *NO_COUNTS]
