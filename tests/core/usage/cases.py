"""Responses in the shapes that providers document, and what they come to."""

from dataclasses import dataclass

from clocknext_core import Tokens


@dataclass(frozen=True)
class Case:
    """A response as JSON, cut down to what matters."""

    name: str
    response: dict[str, object]
    tokens: Tokens
    prompt: int
    """The provider's own prompt total."""
    model: str | None = None
    kind: tuple[str, str] | None = None
    """Module and class of the provider's own type for it, a pydantic model."""


CHAT_USAGE: dict[str, object] = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 120},
}
CHAT_TOKENS = Tokens(input=86, output=300, cache=1920)
CHAT: dict[str, object] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
    "usage": CHAT_USAGE,
}
CHUNK: dict[str, object] = {**CHAT, "object": "chat.completion.chunk", "choices": []}
RESPONSE: dict[str, object] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1700000000,
    "model": "gpt-4.1-2025-04-14",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "metadata": {},
    "usage": {
        "input_tokens": 12033,
        "input_tokens_details": {"cached_tokens": 11904, "cache_write_tokens": 64},
        "output_tokens": 44,
        "output_tokens_details": {"reasoning_tokens": 20},
        "total_tokens": 12077,
    },
}
RESPONSE_TOKENS = Tokens(input=129, output=44, cache=11904)
MESSAGE_USAGE: dict[str, object] = {
    "input_tokens": 9,
    "cache_creation_input_tokens": 287,
    "cache_read_input_tokens": 17102,
    "output_tokens": 67,
    "output_tokens_details": {"thinking_tokens": 40},
}
MESSAGE_TOKENS = Tokens(input=296, output=67, cache=17102)
MESSAGE: dict[str, object] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": MESSAGE_USAGE,
}
GEMINI_USAGE: dict[str, object] = {
    "promptTokenCount": 1000,
    "cachedContentTokenCount": 300,
    "candidatesTokenCount": 50,
    "thoughtsTokenCount": 200,
    "toolUsePromptTokenCount": 40,
    "totalTokenCount": 1290,
}
GEMINI_TOKENS = Tokens(input=740, output=250, cache=300)
COHERE_USAGE: dict[str, object] = {
    "billed_units": {"input_tokens": 6772.0, "output_tokens": 248.0},
    "tokens": {"input_tokens": 7596.0, "output_tokens": 645.0},
    "cached_tokens": 448.0,
}
COHERE_TOKENS = Tokens(input=6772, output=248)
MISTRAL_CHAT: dict[str, object] = {
    **CHAT,
    "model": "mistral-large-latest",
    "usage": {
        "prompt_tokens": 1013,
        "completion_tokens": 30,
        "total_tokens": 1043,
        "prompt_tokens_details": {"cached_tokens": 1008},
    },
}
MISTRAL_TOKENS = Tokens(input=5, output=30, cache=1008)
LANGCHAIN_USAGE: dict[str, object] = {
    "input_tokens": 350,
    "output_tokens": 240,
    "total_tokens": 590,
    "input_token_details": {"audio": 10, "cache_creation": 200, "cache_read": 100},
    "output_token_details": {"reasoning": 200},
}
LANGCHAIN_TOKENS = Tokens(input=250, output=240, cache=100)
LANGCHAIN: dict[str, object] = {
    "content": "Hi",
    "response_metadata": {"model_name": "claude-sonnet-4-5"},
    "usage_metadata": LANGCHAIN_USAGE,
}
CONVERSE_USAGE: dict[str, object] = {
    "inputTokens": 5,
    "outputTokens": 60,
    "totalTokens": 2165,
    "cacheReadInputTokens": 2000,
    "cacheWriteInputTokens": 100,
}
CONVERSE_TOKENS = Tokens(input=105, output=60, cache=2000)

CASES = [
    Case(
        "openai-chat", CHAT, CHAT_TOKENS, 2006, "gpt-4o-2024-08-06", ("openai.types.chat", "ChatCompletion")
    ),
    Case(
        "openai-chat-chunk",
        CHUNK,
        CHAT_TOKENS,
        2006,
        "gpt-4o-2024-08-06",
        ("openai.types.chat", "ChatCompletionChunk"),
    ),
    Case(
        "openai-responses",
        RESPONSE,
        RESPONSE_TOKENS,
        12033,
        "gpt-4.1-2025-04-14",
        ("openai.types.responses", "Response"),
    ),
    Case(
        "openai-responses-completed",
        {"type": "response.completed", "sequence_number": 9, "response": RESPONSE},
        RESPONSE_TOKENS,
        12033,
        "gpt-4.1-2025-04-14",
        ("openai.types.responses", "ResponseCompletedEvent"),
    ),
    Case(
        "openai-realtime",
        {
            "type": "response.done",
            "response": {
                "usage": {
                    "total_tokens": 744,
                    "input_tokens": 513,
                    "output_tokens": 231,
                    "input_token_details": {"cached_tokens": 448, "text_tokens": 513},
                }
            },
        },
        Tokens(input=65, output=231, cache=448),
        513,
    ),
    Case("anthropic", MESSAGE, MESSAGE_TOKENS, 17398, "claude-sonnet-4-5", ("anthropic.types", "Message")),
    Case(
        "anthropic-uncached",
        {**MESSAGE, "usage": {"input_tokens": 25, "output_tokens": 15, "cache_read_input_tokens": None}},
        Tokens(input=25, output=15),
        25,
        "claude-sonnet-4-5",
        ("anthropic.types", "Message"),
    ),
    Case(
        "anthropic-message-delta",
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": MESSAGE_USAGE},
        MESSAGE_TOKENS,
        17398,
        None,
        ("anthropic.types", "RawMessageDeltaEvent"),
    ),
    Case(
        "anthropic-message-stop",
        {"type": "message_stop", "message": MESSAGE},
        MESSAGE_TOKENS,
        17398,
        "claude-sonnet-4-5",
        ("anthropic.lib.streaming", "MessageStopEvent"),
    ),
    Case(
        "anthropic-compaction",
        {
            **MESSAGE,
            "usage": {
                "input_tokens": 23000,
                "output_tokens": 1000,
                "iterations": [
                    {
                        "type": "compaction",
                        "input_tokens": 180000,
                        "output_tokens": 3500,
                        "cache_creation_input_tokens": 0,
                        "cache_read_input_tokens": 7,
                    },
                    {
                        "type": "message",
                        "input_tokens": 23000,
                        "output_tokens": 1000,
                        "cache_creation_input_tokens": 0,
                        "cache_read_input_tokens": 0,
                    },
                ],
            },
        },
        Tokens(input=203000, output=4500, cache=7),
        203007,
        "claude-sonnet-4-5",
        ("anthropic.types.beta", "BetaMessage"),
    ),
    Case(
        "gemini",
        {"candidates": [], "modelVersion": "gemini-2.5-flash", "usageMetadata": GEMINI_USAGE},
        GEMINI_TOKENS,
        1040,
        "gemini-2.5-flash",
        ("google.genai.types", "GenerateContentResponse"),
    ),
    Case(
        "gemini-thoughts-alone",
        {"usageMetadata": {"promptTokenCount": 21, "thoughtsTokenCount": 60, "totalTokenCount": 81}},
        Tokens(input=21, output=60),
        21,
        None,
        ("google.genai.types", "GenerateContentResponse"),
    ),
    Case(
        "gemini-snake-case",
        {
            "model_version": "gemini-2.5-pro",
            "usage_metadata": {"prompt_token_count": 30, "candidates_token_count": None},
        },
        Tokens(input=30),
        30,
        "gemini-2.5-pro",
    ),
    Case(
        "gemini-live",
        {"usageMetadata": {"promptTokenCount": 100, "responseTokenCount": 50, "totalTokenCount": 150}},
        Tokens(input=100, output=50),
        100,
        None,
        ("google.genai.types", "LiveServerMessage"),
    ),
    Case(
        "gemini-live-snake-case",
        {"usage_metadata": {"prompt_token_count": 100, "response_token_count": 50}},
        Tokens(input=100, output=50),
        100,
    ),
    Case(
        "gemini-interactions",
        {
            "event_type": "interaction.completed",
            "interaction": {
                "model": "gemini-2.5-flash",
                "usage": {
                    "total_input_tokens": 100,
                    "total_cached_tokens": 60,
                    "total_output_tokens": 20,
                    "total_thought_tokens": 30,
                    "total_tool_use_tokens": 5,
                    "total_tokens": 155,
                },
            },
        },
        Tokens(input=45, output=50, cache=60),
        105,
        "gemini-2.5-flash",
    ),
    Case(
        "mistral",
        MISTRAL_CHAT,
        MISTRAL_TOKENS,
        1013,
        "mistral-large-latest",
        ("mistralai.client.models", "ChatCompletionResponse"),
    ),
    Case(
        "mistral-event",
        {"data": {**MISTRAL_CHAT, "object": "chat.completion.chunk", "choices": []}},
        MISTRAL_TOKENS,
        1013,
        "mistral-large-latest",
        ("mistralai.client.models", "CompletionEvent"),
    ),
    Case(
        "mistral-conversation",
        {
            "object": "conversation.response",
            "conversation_id": "conv_1",
            "outputs": [],
            "usage": {
                "prompt_tokens": 188,
                "completion_tokens": 55,
                "total_tokens": 7355,
                "connector_tokens": 7112,
            },
        },
        Tokens(input=7300, output=55),
        7300,
        None,
        ("mistralai.client.models", "ConversationResponse"),
    ),
    Case(
        "mistral-conversation-without-tools",
        {
            "object": "conversation.response",
            "conversation_id": "conv_1",
            "outputs": [],
            "usage": {"prompt_tokens": 91, "completion_tokens": 29, "total_tokens": 120},
        },
        Tokens(input=91, output=29),
        91,
        None,
        ("mistralai.client.models", "ConversationResponse"),
    ),
    Case(
        "mistral-top-level-cache",
        {"usage": {"prompt_tokens": 10, "completion_tokens": 1, "num_cached_tokens": 4}},
        Tokens(input=6, output=1, cache=4),
        10,
    ),
    Case(
        "cohere-v2",
        {"id": "1", "finish_reason": "COMPLETE", "message": {"role": "assistant"}, "usage": COHERE_USAGE},
        COHERE_TOKENS,
        6772,
        None,
        ("cohere.v2.types", "V2ChatResponse"),
    ),
    Case(
        "cohere-v2-message-end",
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": COHERE_USAGE}},
        COHERE_TOKENS,
        6772,
        None,
        ("cohere.v2.types", "MessageEndV2ChatStreamResponse"),
    ),
    Case(
        "cohere-v1",
        {"text": "Hi", "meta": {"api_version": {"version": "1"}, **COHERE_USAGE}},
        COHERE_TOKENS,
        6772,
        None,
        ("cohere.types", "NonStreamedChatResponse"),
    ),
    Case(
        "cohere-v1-stream-end",
        {
            "event_type": "stream-end",
            "finish_reason": "COMPLETE",
            "response": {"text": "Hi", "meta": COHERE_USAGE},
        },
        COHERE_TOKENS,
        6772,
        None,
        ("cohere.types", "StreamEndStreamedChatResponse"),
    ),
    Case(
        "cohere-without-billed-units",
        {"usage": {"tokens": {"input_tokens": 71, "output_tokens": 418}}},
        Tokens(input=71, output=418),
        71,
    ),
    Case("bedrock", {"usage": CONVERSE_USAGE, "stopReason": "end_turn"}, CONVERSE_TOKENS, 2105),
    Case(
        "bedrock-stream",
        {"metadata": {"usage": CONVERSE_USAGE, "metrics": {"latencyMs": 9}}},
        CONVERSE_TOKENS,
        2105,
    ),
    Case(
        "groq",
        {**CHAT, "model": "llama-3.3-70b-versatile"},
        CHAT_TOKENS,
        2006,
        "llama-3.3-70b-versatile",
        ("groq.types.chat", "ChatCompletion"),
    ),
    Case(
        "groq-chunk",
        {**CHUNK, "model": "llama-3.3-70b-versatile", "usage": None, "x_groq": {"usage": CHAT_USAGE}},
        CHAT_TOKENS,
        2006,
        "llama-3.3-70b-versatile",
        ("groq.types.chat", "ChatCompletionChunk"),
    ),
    Case(
        "litellm",
        {
            **CHAT,
            "model": "claude-sonnet-4-5",
            "usage": {
                "prompt_tokens": 98805,
                "completion_tokens": 5120,
                "total_tokens": 103925,
                "cache_read_input_tokens": 66360,
                "cache_creation_input_tokens": 32435,
            },
        },
        Tokens(input=32445, output=5120, cache=66360),
        98805,
        "claude-sonnet-4-5",
    ),
    Case(
        "langchain",
        LANGCHAIN,
        LANGCHAIN_TOKENS,
        350,
        "claude-sonnet-4-5",
        ("langchain_core.messages", "AIMessage"),
    ),
    Case(
        "langchain-chunk",
        LANGCHAIN,
        LANGCHAIN_TOKENS,
        350,
        "claude-sonnet-4-5",
        ("langchain_core.messages", "AIMessageChunk"),
    ),
    Case(
        "langchain-service-tier",
        {
            **LANGCHAIN,
            "usage_metadata": {
                **LANGCHAIN_USAGE,
                "input_token_details": {"flex_cache_read": 50, "flex": 300},
            },
        },
        Tokens(input=300, output=240, cache=50),
        350,
        "claude-sonnet-4-5",
    ),
    Case(
        "deepseek",
        {"usage": {"prompt_tokens": 5734, "completion_tokens": 181, "prompt_cache_hit_tokens": 4480}},
        Tokens(input=1254, output=181, cache=4480),
        5734,
    ),
    Case(
        "xai",
        {
            "model": "grok-4",
            "usage": {
                "prompt_tokens": 10120,
                "completion_tokens": 1499,
                "total_tokens": 14428,
                "prompt_tokens_details": {"cached_tokens": 128},
                "completion_tokens_details": {"reasoning_tokens": 2809},
            },
        },
        Tokens(input=9992, output=4308, cache=128),
        10120,
        "grok-4",
    ),
    Case(
        "embedding", {"usage": {"prompt_tokens": 8, "total_tokens": 8}, "model": "e"}, Tokens(input=8), 8, "e"
    ),
]
