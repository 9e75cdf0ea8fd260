"""What is found around a usage, and what is said of a response that can't be billed: one by one."""

from types import SimpleNamespace
from typing import Any

import pytest

from clocknext_core.usage.counts import IN_ANOTHER_UNIT
from clocknext_core.usage.reading import Reading, explain, read

CHAT = {"prompt_tokens": 10, "completion_tokens": 5}
GEMINI = {"prompt_token_count": 10, "candidates_token_count": 5}
CALLED: list[object] = [{"parts": [{"text": "Hello."}, {"function_call": {}}]}]
CALLED_IN_JSON: list[object] = [{"parts": [{"functionCall": {}}]}]
SAID = [{"parts": [{"text": "Hello."}]}]
TWO_STEPS = [{"usage": CHAT}, {"usage": CHAT}]


class Pages:
    """A stream."""

    def __next__(self) -> object:
        raise StopIteration


class Raw:
    """A raw response of OpenAI's SDK."""

    def parse(self) -> None:
        """Parse it."""


class Run:
    """A run of Pydantic AI."""

    def usage(self) -> None:
        """Add it up."""


EACH = "give it to readings() or signals.from_result(), which record each request"
WITHOUT = "has no token usage that is known: "
BEFORE = "as a count of tokens before a call has (count_tokens): give the response of the call itself"
STREAMED = (
    "Of a stream, give the last chunk; OpenAI has to be asked for usage there, with "
    'stream_options={"include_usage": True}'
)
FUNCTIONS = (
    "is the last of several requests that google-genai made (automatic function calling), and their usage is "
    "not in it: switch that off (automatic_function_calling=AutomaticFunctionCallingConfig(disable=True)) "
    "and record each response, or stream and record each"
)
AGENT = (
    "is the last of several requests of a LlamaIndex agent, and their usage is not in it: record the raw "
    "response of each AgentOutput event of the run"
)
FAILED = "It is an error of the provider's, which costs nothing"
OVER_HTTP = "It is the response of an HTTP client: give what its json() returns"
LAST = (
    "give the last chunk or the final message (Anthropic: get_final_message()), or meter the stream with "
    "signals.from_stream()"
)
NO_BILLS: list[tuple[object, str]] = [
    ([CHAT], f"response: is a list, not a response: {EACH}"),
    (
        {"object": "response.input_tokens", "input_tokens": 5},
        "response: is a count of tokens before a call: give the response of the call itself",
    ),
    ({"automatic_function_calling_history": CALLED, "usage_metadata": GEMINI}, f"response: {FUNCTIONS}"),
    ({"automaticFunctionCallingHistory": CALLED_IN_JSON, "usage": GEMINI}, f"response: {FUNCTIONS}"),
    (
        {"current_agent_name": "a", "tool_calls": [{"tool_output": {"text": "x"}}], "usage": CHAT},
        f"response: {AGENT}",
    ),
    ({"steps": TWO_STEPS, "usage": CHAT}, f"response: is the result of 2 requests: {EACH}"),
    (
        {"custom_id": "x", "result": {"type": "errored", "error": {}}},
        "response: is a line of a batch that did not succeed, which costs nothing",
    ),
    (
        {"type": "response.failed", "response": {"id": "x", "usage": None}},
        "response: is a failure without usage, which costs nothing",
    ),
    ({"type": "error", "error": {}}, "response: is a failure without usage, which costs nothing"),
    ({"usage": {"total_tokens": 5}}, f"response.usage: has a total and no other count, {BEFORE}"),
    ({"input_tokens": 5}, f"response: has a prompt count and nothing else, {BEFORE}"),
    ("{}", f"response: {WITHOUT}str without attributes. It is text: give what json.loads() makes of it"),
    (
        {"error": {"message": "No."}},
        f"response: {WITHOUT}dict with the keys 'error'. {FAILED}",
    ),
    (
        Raw(),
        f"response: {WITHOUT}Raw without attributes. It is a raw response: give what its parse() returns",
    ),
    (Run(), f"response: {WITHOUT}Run without attributes. It is a run: {EACH}"),
    (
        SimpleNamespace(json=dict, status=200),
        f"response: {WITHOUT}SimpleNamespace with the attributes 'json', 'status'. {OVER_HTTP}",
    ),
    (
        Pages(),
        f"response: {WITHOUT}Pages without attributes. It is a stream: meter it with signals.from_stream()",
    ),
    ({"a": 1}, f"response: {WITHOUT}dict with the keys 'a'. {STREAMED}"),
    (None, f"response: {WITHOUT}NoneType without attributes. {STREAMED}"),
    ({"usage": {"what": 1}}, "response: has token usage of an unknown shape: dict with the keys 'what'"),
    ({"seconds": 5}, f"response.seconds: {IN_ANOTHER_UNIT}"),
    ({"metadata": {"seconds": 5}}, f"response.metadata.seconds: {IN_ANOTHER_UNIT}"),
    (
        {"message": {"status": "in_progress"}},
        f"response: is not final, its status is in_progress; {LAST}",
    ),
]


@pytest.mark.parametrize(("response", "error"), NO_BILLS, ids=[str(n) for n in range(len(NO_BILLS))])
def test_what_is_said_of_what_can_not_be_billed(response: object, error: str) -> None:
    assert explain(response).error == error


BILLS: list[tuple[dict[str, Any], dict[str, object]]] = [
    ({"automatic_function_calling_history": SAID, "usage_metadata": GEMINI}, {"provider": "google"}),
    ({"tool_calls": [{"tool_output": {"text": "x"}}], "usage": CHAT}, {}),
    ({"current_agent_name": "a", "tool_calls": [{"tool_output": None}], "usage": CHAT}, {}),
    ({"steps": [{"usage": CHAT}, {"text": "x"}], "usage": CHAT}, {}),
    ({"steps": TWO_STEPS, "totalUsage": CHAT}, {}),
    ({"steps": TWO_STEPS, "token_usage": CHAT}, {}),
    ({"custom_id": "x", "result": {"type": "succeeded", "message": {"usage": CHAT}}}, {"tier": "batch"}),
    ({"result": {"type": "errored", "usage": CHAT}}, {}),
    ({"type": "response.failed", "response": {"id": "x", "usage": CHAT}}, {"response_id": "x"}),
    ({"usage": {**CHAT, "citation_tokens": 3}}, {"other": {"citation_tokens": 3}}),
    ({"usage": {**CHAT, "num_sources_used": 2}}, {"other": {"num_sources_used": 2}}),
    ({"type": "message", "usage": CHAT}, {"provider": "anthropic"}),
    (
        {
            "usage": CHAT,
            "tool_usage": {"image_gen": {"input_tokens": 1, "n": 0, "of": "x", "total_tokens": 1}},
        },
        {"other": {"image_gen_input_tokens": 1}},
    ),
    ({"usage": CHAT, "tool_usage": {"other": 3}}, {}),
    ({"usage": CHAT, "tool_usage": 3}, {}),
    ({"usage": CHAT, "created_at": 17}, {"created_at": 17}),
    ({"usage": CHAT, "created": 1, "created_at": 17}, {"created_at": 1}),
    ({"usage": CHAT, "created": 0, "created_at": 17}, {"created_at": 17}),
    ({"usage": CHAT, "created": 1e300}, {}),
    ({"usage": CHAT, "created": "soon"}, {}),
    ({"usage": CHAT, "id": "run-5"}, {"response_id": "run-5"}),
    ({"usage": CHAT, "id": "lc_5"}, {"response_id": "lc_5"}),
    (
        {"usage": CHAT, "id": "lc_5", "response_metadata": {"id": "real", "model_name": "m"}},
        {"response_id": "real", "model": "m"},
    ),
    ({"usage": CHAT, "id": "run-5", "response_metadata": {"id": "lc_6"}}, {"response_id": "run-5"}),
    ({"usage": CHAT, "service_tier": {"type": "flex"}}, {"tier": "flex"}),
    ({"usage": CHAT, "service_tier": SimpleNamespace(value="flex")}, {"tier": "flex"}),
    ({"usage": CHAT, "traffic_type": "ON_DEMAND"}, {"tier": "ON_DEMAND"}),
    ({"key": "k", "response": {"usage": CHAT}}, {"tier": "batch"}),
    ({"metadata": {"key": "k"}, "response": {"usage": CHAT}}, {"tier": "batch"}),
    ({"processed_time": "x", "response": {"usage": CHAT}}, {"tier": "batch"}),
    ({"metadata": {"a": "b"}, "response": {"usage": CHAT}}, {}),
    ({"key": "k", "usage": CHAT}, {}),
    ({"recordId": "x", "modelOutput": {"usage": CHAT}}, {"tier": "batch"}),
    (
        {"usage": CHAT, "trace": {"promptRouter": {"invokedModelId": "arn:aws:model/anthropic.claude"}}},
        {"model": "anthropic.claude"},
    ),
    ({"data": {"native_tokens_prompt": 10, "native_tokens_completion": 5}}, {}),
]


@pytest.mark.parametrize(("response", "found"), BILLS, ids=[str(n) for n in range(len(BILLS))])
def test_what_is_found_beside_the_counts(response: dict[str, Any], found: dict[str, object]) -> None:
    tokens = read({"usage": CHAT}).tokens
    assert read(response) == Reading(tokens=tokens, **found)  # type: ignore[arg-type]
