"""Results of runs: one reading a request, whatever the framework calls it."""

from collections.abc import Callable
from types import SimpleNamespace as Thing
from typing import cast

import pytest

from clocknext_core import Tokens, ValidationError
from clocknext_core.usage.parts import Part, parts_of
from clocknext_core.usage.reading import Explanation, Reading, read
from clocknext_core.usage.runs import explanations, readings
from tests.core.usage.shapes import CHAT_USAGE, chat, message, response
from tests.core.usage.support import as_objects


def ai(given: int, made: int, **metadata: object) -> dict[str, object]:
    """Make a message of LangChain's that a model answered."""
    usage = {"input_tokens": given, "output_tokens": made, "total_tokens": given + made}
    return {
        "type": "ai",
        "content": "",
        "usage_metadata": usage,
        "response_metadata": {"model_name": "gpt-4o", **metadata},
    }


def counts(result: object) -> list[tuple[str | None, int, int]]:
    found = [(each.model, each.tokens.input, each.tokens.output) for each in readings(result)]
    assert found == [
        (each.model, each.tokens.input, each.tokens.output) for each in readings(as_objects(result))
    ]
    return found


TWO = [("gpt-4o", 10, 2), ("gpt-4o", 30, 4)]
MESSAGES = [{"type": "human", "content": "Hi"}, ai(10, 2), {"type": "tool", "content": "4"}, ai(30, 4)]


def test_the_messages_of_langchain() -> None:
    assert counts(MESSAGES) == counts({"messages": MESSAGES}) == TWO


def test_the_updates_of_langgraph() -> None:
    assert [each.tokens.input for each in readings({"agent": {"messages": MESSAGES}, "steps_left": 3})] == [
        10,
        30,
    ]


def test_a_list_of_updates() -> None:
    updates = [{"agent": {"messages": MESSAGES[:2]}}, {"agent": {"messages": MESSAGES[3:]}}]
    assert [each.tokens.input for each in readings(updates)] == [10, 30]


def test_the_generations_of_langchain() -> None:
    result = {"generations": [[{"message": ai(10, 2)}], [{"message": ai(30, 4)}]], "llm_output": None}
    assert counts(result) == TWO


def test_langchains_handler_has_a_sum_for_each_model() -> None:
    by_model = {
        "gpt-4o": {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12},
        "claude-sonnet-4-5": {
            "input_tokens": 30,
            "output_tokens": 4,
            "total_tokens": 34,
            "input_token_details": {"cache_read": 20},
        },
    }
    expected = [
        Reading(tokens=Tokens(input=10, output=2), model="gpt-4o"),
        Reading(tokens=Tokens(input=10, output=4, cache=20), model="claude-sonnet-4-5"),
    ]
    assert readings(Thing(usage_metadata=by_model)) == readings(by_model) == expected


def test_the_claude_agent_has_a_usage_for_each_model() -> None:
    step: dict[str, object] = {
        "content": [],
        "message_id": "msg_1",
        "model": "m",
        "usage": {"input_tokens": 9, "output_tokens": 1},
    }
    last: dict[str, object] = {
        "subtype": "success",
        "usage": {"input_tokens": 18, "output_tokens": 134},
        "model_usage": {
            "claude-sonnet-4-5": {"inputTokens": 18, "outputTokens": 134, "cacheReadInputTokens": 34204},
            "claude-haiku-4-5": {"inputTokens": 7, "outputTokens": 3},
        },
    }
    expected = [("claude-sonnet-4-5", 18, 134), ("claude-haiku-4-5", 7, 3)]
    assert [
        (each.model, each.tokens.input, each.tokens.output) for each in readings([step, last])
    ] == expected
    assert [(each.model, each.tokens.input, each.tokens.output) for each in readings(last)] == expected


def test_the_raw_responses_of_openai_agents() -> None:
    usage = {"requests": 1, "input_tokens": 10, "output_tokens": 2, "total_tokens": 12}
    more = {"requests": 1, "input_tokens": 30, "output_tokens": 4, "total_tokens": 34}
    raw: list[dict[str, object]] = [
        {"output": [], "usage": usage, "response_id": "resp_1"},
        {"output": [], "usage": more, "response_id": "resp_2"},
    ]
    result = as_objects({"input": "Hi", "raw_responses": raw, "final_output": "4"})
    assert [(each.response_id, each.tokens.input) for each in readings(result)] == [
        ("resp_1", 10),
        ("resp_2", 30),
    ]


def test_the_new_messages_of_pydantic_ai() -> None:
    new = [
        Thing(kind="request", parts=[]),
        Thing(
            kind="response",
            usage=Thing(
                input_tokens=30, cache_read_tokens=10, cache_write_tokens=0, output_tokens=4, details={}
            ),
            model_name="gpt-4o",
            provider_name="openai",
            provider_response_id="resp_1",
        ),
    ]
    result = Thing(new_messages=lambda: new, all_messages=lambda: [*new, *new], usage=lambda: None)
    (reading,) = readings(result)
    assert reading == Reading(
        tokens=Tokens(input=20, output=4, cache=10), model="gpt-4o", response_id="resp_1", provider="openai"
    )
    assert read(result) == reading


def test_a_run_of_pydantic_ai_is_no_response() -> None:
    new = [Thing(kind="response", usage=Thing(input_tokens=3, output_tokens=4), model_name="m")] * 2
    with pytest.raises(ValidationError, match=r"result of 2 requests: give it to readings\(\)"):
        read(Thing(new_messages=lambda: new, usage=lambda: None))


def test_the_steps_of_smolagents() -> None:
    """Its own count drops the cached tokens; the raw response has them."""
    kept = {"input_tokens": 2006, "output_tokens": 300, "total_tokens": 2306}
    steps = [
        {"task": "?"},
        {"token_usage": kept, "model_output_message": {"role": "assistant", "raw": chat(CHAT_USAGE)}},
        {"token_usage": kept, "model_output_message": None},
    ]
    expected = [Tokens(input=86, output=300, cache=1920), Tokens(input=2006, output=300)]
    assert [each.tokens for each in readings({"output": "4", "steps": steps})] == expected
    assert [each.tokens for each in readings(as_objects({"memory": {"steps": steps}}))] == expected


def test_crewai_keeps_the_sum_alone() -> None:
    usage = {
        "total_tokens": 2306,
        "prompt_tokens": 2006,
        "cached_prompt_tokens": 1920,
        "completion_tokens": 300,
        "successful_requests": 3,
    }
    (reading,) = readings(Thing(raw="4", token_usage=as_objects(usage), tasks_output=[]))
    assert reading.tokens == Tokens(input=86, output=300, cache=1920)


def test_llama_index_keeps_the_response() -> None:
    result = Thing(message=Thing(role="assistant"), raw=as_objects(chat(CHAT_USAGE)))
    assert readings(result) == [read(chat(CHAT_USAGE))]


def test_a_run_of_llama_index_has_the_last_response_alone() -> None:
    called = Thing(tool_name="add", tool_output=Thing(content="4"))
    result = Thing(current_agent_name="a", raw=chat(CHAT_USAGE), tool_calls=[called])
    with pytest.raises(ValidationError, match="the last of several requests"):
        readings(result)
    asked = Thing(current_agent_name="a", raw=chat(CHAT_USAGE), tool_calls=[Thing(tool_name="add")])
    assert readings(asked) == [read(chat(CHAT_USAGE))]


def test_the_ai_sdk_gives_the_last_step_where_it_does_not_add_up() -> None:
    def step(given: int, made: int) -> dict[str, object]:
        usage = {"inputTokens": given, "outputTokens": made}
        return {"usage": usage, "response": {"id": f"r-{given}", "modelId": "gpt-4o"}}

    result = {"usage": {"inputTokens": 30, "outputTokens": 4}, "steps": [step(10, 2), step(30, 4)]}
    assert counts(result) == TWO
    with pytest.raises(ValidationError, match="result of 2 requests"):
        read(result)


def test_a_response_in_an_envelope_is_no_run_of_models() -> None:
    last = {"input_tokens": 9000, "cached_input_tokens": 8000, "output_tokens": 90}
    session = {"input_tokens": 90000, "output_tokens": 900}
    codex = {"payload": {"info": {"total_token_usage": session, "last_token_usage": last}}}
    assert readings(codex) == [read(codex)]
    openrouter = {"data": {"model": "gpt-4o", "tokens_prompt": 9, "tokens_completion": 4}}
    assert readings(openrouter) == [read(openrouter)]
    assert read(openrouter).model == "gpt-4o"


def test_a_usage_of_one_model_is_named_by_it() -> None:
    usage = {"completion_tokens": 61, "prompt_tokens": 260, "total_tokens": 321}
    result = {"openai/gpt-4o-mini": usage}  # DSPy's
    assert [read(result)] == readings(result)
    assert read(result).model == "openai/gpt-4o-mini"
    (explained,) = explanations(result)
    assert explained.reading == read(result)


def test_more_than_one_model_is_explained_as_one_response() -> None:
    entries = [
        {"type": "message", "model": "claude-sonnet-4-5", "input_tokens": 100, "output_tokens": 50},
        {"type": "advisor_message", "model": "claude-opus-4-5", "input_tokens": 900, "output_tokens": 400},
    ]
    given = message({"input_tokens": 100, "output_tokens": 50, "iterations": entries})
    (explained,) = explanations(given)
    assert explained.reading == read(given)
    assert explained.reasons[-1] == "2 models worked on it: signals.from_result records a signal for each"
    entries[1]["input_tokens"] = "many"
    (explained,) = explanations(given)
    assert explained.reading == read(given)
    assert explained.reasons[-1].startswith("signals.from_result records nothing of it: response.usage")


def test_a_list_without_a_response_is_explained_as_a_run() -> None:
    for nothing in ([], [1, None, {"role": "user"}]):
        (explained,) = explanations(nothing)
        why = "result: has no response of a model in it"
        assert explained == Explanation(reading=None, error=why, fields=(), reasons=())
        with pytest.raises(ValidationError) as caught:
            readings(nothing)
        assert caught.value.message == why


def test_others_that_keep_a_list() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    autogen = {"messages": [{"source": "user"}, {"source": "a", "models_usage": usage}], "stop_reason": None}
    haystack = {"llm": {"replies": [{"role": "assistant", "meta": {"model": "gpt-4o", "usage": usage}}]}}
    dspy = Thing(get_lm_usage=lambda: {"gpt-4o": usage})
    for result in (autogen, haystack, dspy):
        assert [each.tokens for each in readings(result)] == [Tokens(input=10, output=2)]


def test_the_events_of_adk_skip_what_was_partial() -> None:
    usage = {"prompt_token_count": 10, "candidates_token_count": 2}
    events = [
        {"partial": True, "usage_metadata": usage},
        {"usage_metadata": usage, "model_version": "gemini-2.5-pro"},
    ]
    assert counts(events) == [("gemini-2.5-pro", 10, 2)]


def test_batches() -> None:
    lines = [
        {"custom_id": "a", "response": {"body": chat(CHAT_USAGE)}},
        {"custom_id": "b", "response": {"body": chat(CHAT_USAGE, id="chatcmpl-2")}},
    ]
    assert [(each.response_id, each.tier) for each in readings(lines)] == [
        ("chatcmpl-1", "batch"),
        ("chatcmpl-2", "batch"),
    ]
    job = {
        "dest": {
            "inlined_responses": [
                {"response": {"usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 9}}}
            ]
        }
    }
    assert [each.tokens for each in readings(job)] == [Tokens(input=5, output=4)]


def test_the_advisor_of_anthropic_is_another_model() -> None:
    def entry(kind: str, model: str | None, given: int, made: int) -> dict[str, object]:
        named = {} if model is None else {"model": model}
        return {
            "type": kind,
            "input_tokens": given,
            "output_tokens": made,
            "cache_read_input_tokens": 1,
            "cache_creation_input_tokens": 2,
            **named,
        }

    iterations = [
        entry("message", None, 100, 50),
        entry("advisor_message", "claude-opus-4-5", 900, 400),
        entry("compaction", None, 7, 3),
    ]
    usage = {"input_tokens": 100, "output_tokens": 50, "iterations": iterations, "service_tier": "standard"}
    first, second = readings(message(usage))
    assert (first.model, first.tokens) == ("claude-sonnet-4-5", Tokens(input=111, output=53, cache=2))
    assert (second.model, second.tokens) == ("claude-opus-4-5", Tokens(input=902, output=400, cache=1))
    assert (first.other, second.other) == ({"cache_write_tokens": 4}, {"cache_write_tokens": 2})
    assert first.provider == second.provider == "anthropic"
    assert first.is_final
    assert second.is_final
    assert (first.response_id, second.response_id) == ("msg_1/0", "msg_1/1")
    assert first.tier == second.tier == "standard"


def test_iterations_of_one_model_are_one_reading() -> None:
    usage = {
        "input_tokens": 100,
        "output_tokens": 50,
        "iterations": [{"type": "message", "input_tokens": 100, "output_tokens": 50}],
    }
    assert readings(message(usage)) == [read(message(usage))]


def test_the_models_of_groqs_compound() -> None:
    models = [
        {"model": "m1", "usage": {"prompt_tokens": 500, "completion_tokens": 60}},
        {"model": "m2", "usage": {"prompt_tokens": 400, "completion_tokens": 40}},
    ]
    usage = {"prompt_tokens": 900, "completion_tokens": 100, "total_tokens": 1000}
    result = chat(usage, id=None, usage_breakdown={"models": models})
    assert counts(result) == [("m1", 500, 60), ("m2", 400, 40)]
    assert [each.response_id for each in readings(result)] == [None, None]


def test_one_response_is_a_run_of_one() -> None:
    usage = {"input_tokens": 10, "output_tokens": 4, "total_tokens": 14}
    assert readings(response(usage)) == [read(response(usage))]


def test_an_answer_without_usage_is_an_error_that_says_where() -> None:
    silent = {
        "type": "ai",
        "content": "",
        "usage_metadata": None,
        "response_metadata": {"model_name": "gpt-4o"},
    }
    with pytest.raises(ValidationError, match=r"^result\.messages\[1\]: is a model's answer without usage"):
        readings({"messages": [ai(10, 2), silent]})
    with pytest.raises(ValidationError, match="without usage"):
        readings({"generations": [[{"message": silent}]]})
    with pytest.raises(ValidationError, match="without usage"):
        readings([Thing(kind="response", usage=None)])


def test_an_answer_that_the_application_wrote_is_skipped() -> None:
    example: dict[str, object] = {"type": "ai", "content": "4", "response_metadata": {}}
    assert counts([example, ai(10, 2)]) == TWO[:1]


@pytest.mark.parametrize(
    "result", [[], [None, "text"], {"messages": []}, {}, None, "text", {"agent": {"messages": 3}}]
)
def test_nothing_in_it(result: object) -> None:
    with pytest.raises(ValidationError):
        readings(result)


def test_a_nest_without_end_is_no_run() -> None:
    nest: dict[str, object] = {}
    nest["messages"] = [nest]
    with pytest.raises(ValidationError):
        readings(nest)


def test_function_calls_that_google_made_say_what_to_do() -> None:
    parts = [{"functionCall": {"name": "weather", "args": {"city": "Paris"}}}]
    result = cast(
        "dict[str, object]",
        {
            "automaticFunctionCallingHistory": [
                {"role": "user", "parts": [{"text": "hi"}]},
                {"parts": parts},
            ],
            "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 4},
        },
    )
    with pytest.raises(ValidationError, match="disable=True"):
        readings(result)
    result["automaticFunctionCallingHistory"] = [{"role": "user", "parts": [{"text": "hi"}]}]
    assert readings(result)[0].tokens == Tokens(input=5, output=4)


def test_every_request_is_explained() -> None:
    both = explanations({"messages": MESSAGES})
    assert [each.reading for each in both] == readings(MESSAGES)
    (alone,) = explanations(chat(CHAT_USAGE))
    assert alone.reading == read(chat(CHAT_USAGE))
    silent = {"type": "ai", "content": "", "response_metadata": {"model_name": "gpt-4o"}}
    (refused,) = explanations([silent])
    assert refused.reading is None
    assert "without usage" in (refused.error or "")


SILENT: dict[str, object] = {"type": "ai", "content": "", "response_metadata": {"model": "llama3"}}
"""A model's answer without usage, as LangChain has them of Ollama."""


@pytest.mark.parametrize(
    ("result", "path"),
    [
        ([SILENT], "result[0]"),
        (Thing(new_messages=lambda: [SILENT]), "result.new_messages()[0]"),
        (Thing(get_lm_usage=lambda: {"messages": [SILENT]}), "result.get_lm_usage().messages[0]"),
        (Thing(memory=Thing(steps=[SILENT])), "result.memory.steps[0]"),
        (Thing(dest=Thing(inlined_responses=[SILENT])), "result.dest.inlined_responses[0]"),
        ({"agent": {"messages": [SILENT]}}, "result.agent.messages[0]"),
        ({"generations": [[{"message": SILENT}]]}, "result.generations[0][0]"),
        ([{"agent": {"messages": [ai(1, 1), SILENT]}}], "result[0].agent.messages[1]"),
        ([{"content": "", "message_id": "m", "kind": "response"}], "result[0]"),
    ],
)
def test_an_answer_without_usage_is_found_wherever_it_is(result: object, path: str) -> None:
    with pytest.raises(ValidationError) as caught:
        readings(result)
    assert caught.value.message == (
        f"{path}: is a model's answer without usage: have the framework ask for it (LangChain's streams: "
        "stream_usage=True), or record its requests as they are made"
    )


def node(inner: object) -> object:
    return {"node": inner}


def nested_list(inner: object) -> object:
    return [inner]


def with_messages(inner: object) -> object:
    return Thing(new_messages=lambda: inner)


def with_memory(inner: object) -> object:
    return Thing(memory=inner)


def with_job(inner: object) -> object:
    return Thing(dest=inner)


@pytest.mark.parametrize(
    ("wrap", "innermost", "levels"),
    [
        (node, {"messages": [ai(10, 2)]}, 3),
        (nested_list, ai(10, 2), 4),
        (with_messages, [ai(10, 2)], 3),
        (with_memory, {"steps": [ai(10, 2)]}, 3),
        (with_job, [ai(10, 2)], 3),
    ],
)
def test_a_run_is_looked_into_four_levels_deep(
    wrap: Callable[[object], object], innermost: object, levels: int
) -> None:
    result = innermost
    for _ in range(levels):
        result = wrap(result)
    assert [each.tokens for each in readings(result)] == [Tokens(input=10, output=2)]
    with pytest.raises(ValidationError):
        readings(wrap(result))


@pytest.mark.parametrize("missing", ["content", "message_id"])
def test_a_step_of_the_claude_agent_is_known_by_three_names(missing: str) -> None:
    step: dict[str, object] = {
        "content": "",
        "message_id": "m",
        "usage": {"input_tokens": 3, "output_tokens": 1},
    }
    last = {"usage": {"input_tokens": 9, "output_tokens": 4}}
    assert [each.tokens.input for each in readings([step, last])] == [9]
    del step[missing]
    assert [each.tokens.input for each in readings([step, last])] == [3, 9]


def test_a_usage_for_each_model_is_told_from_a_mapping_of_other_things() -> None:
    both = {"m1": {"input_tokens": 5, "output_tokens": 1}, "m2": {"input_tokens": 6, "output_tokens": 2}}
    assert parts_of({"model_usage": both}) == [Part(usage, model) for model, usage in both.items()]
    assert parts_of(Thing(agent={"messages": [ai(10, 2)]})) == []
    for no_sums in ({**both, "note": {"x": 1}}, {**both, "note": 3}, Thing(**both)):
        assert parts_of({"model_usage": no_sums}) == []


def test_a_bucket_of_a_report_has_a_reading_for_each_model() -> None:
    results = [
        {"input_tokens": 1000, "output_tokens": 500, "input_cached_tokens": 800, "model": "gpt-4o"},
        {"input_tokens": 3000, "output_tokens": 700, "input_cached_tokens": 0, "model": "o3"},
    ]
    assert counts({"object": "bucket", "results": results}) == [("gpt-4o", 200, 500), ("o3", 3000, 700)]


def test_the_models_of_an_application_of_dashscopes() -> None:
    models = [
        {"model_id": "qwen-max", "input_tokens": 900, "output_tokens": 120},
        {"model_id": "qwen-turbo", "input_tokens": 30, "output_tokens": 7},
    ]
    response = {"output": {"text": "Hi", "finish_reason": "stop"}, "usage": {"models": models}}
    assert counts(response) == [("qwen-max", 900, 120), ("qwen-turbo", 30, 7)]
    with pytest.raises(ValidationError, match="is the result of 2 requests"):
        read(response)


def test_a_usage_for_each_model_may_have_a_number_of_tokens_too() -> None:
    result = {"gpt-4o": {"prompt_tokens": 3, "completion_tokens": 2, "tokens": 5}}
    assert [(each.model, each.tokens.input) for each in readings(result)] == [("gpt-4o", 3)]


def test_a_usage_beside_results_is_that_of_the_request() -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": 10}
    result = {"usage": usage, "results": [{"tokens": {"input": 3, "output": 1}}] * 2}
    assert counts(result) == [(None, 20, 10)]


def test_the_models_of_the_gemini_cli() -> None:
    def tokens(**counted: int) -> dict[str, object]:
        return {"api": {"totalRequests": 1}, "tokens": counted}

    pro = tokens(prompt=24939, candidates=20, total=25213, cached=21263, thoughts=154, tool=100)
    flash = tokens(prompt=8965, candidates=10, total=9033, cached=0, thoughts=30, tool=28)
    result = {"response": "Hi", "stats": {"models": {"gemini-2.5-pro": pro, "gemini-2.5-flash": flash}}}
    found = [(each.model, each.tokens.input, each.tokens.output) for each in readings(result)]
    assert found == [
        ("gemini-2.5-pro", 24939 + 100 - 21263, 174),
        ("gemini-2.5-flash", 8993, 40),
    ]
