"""Gathering streams: what each provider sends, and every way a stream ends."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from clocknext_core import Tokens, ValidationError
from clocknext_core.usage.attribution import Unbilled
from clocknext_core.usage.reading import Reading
from clocknext_core.usage.streams import AbortPolicy, Drain, Ending, Gathered, Gatherer, Partial
from tests.core.usage.shapes import CHAT_USAGE, chat, message, response
from tests.core.usage.support import as_objects


def chat_chunk(content: str | None = "H", reason: str | None = None, **more: object) -> dict[str, object]:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": reason}
    return {
        "id": "chatcmpl-77aa88bb",
        "model": "gpt-4o-2024-08-06",
        "choices": [choice],
        "usage": None,
        **more,
    }


CHAT: list[dict[str, object]] = [
    chat_chunk(),
    chat_chunk("i"),
    chat_chunk(None, "stop"),
    chat_chunk(choices=[], usage=CHAT_USAGE),
]
CHAT_READING = Reading(
    tokens=Tokens(input=86, output=300, cache=1920),
    model="gpt-4o-2024-08-06",
    response_id="chatcmpl-77aa88bb",
    provider="openai",
)
RESPONSES: list[dict[str, object]] = [
    {"type": "response.created", "response": response(None, status="in_progress")},
    {"type": "response.output_text.delta", "delta": "Hi"},
    {
        "type": "response.completed",
        "response": response({"input_tokens": 10, "output_tokens": 4, "total_tokens": 14}),
    },
]
ANTHROPIC: list[dict[str, object]] = [
    {
        "type": "message_start",
        "message": message(
            {"input_tokens": 9, "cache_read_input_tokens": 50, "output_tokens": 1}, stop_reason=None
        ),
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 67}},
    {"type": "message_stop"},
]


def gemini(made: int, reason: str | None = None) -> dict[str, object]:
    candidate = {
        "content": {"parts": [{"text": "H"}]},
        **({} if reason is None else {"finish_reason": reason}),
    }
    usage = {"prompt_token_count": 12, "candidates_token_count": made, "total_token_count": 12 + made}
    return {
        "candidates": [candidate],
        "model_version": "gemini-2.5-flash",
        "response_id": "r-1",
        "usage_metadata": usage,
    }


GEMINI: list[dict[str, object]] = [gemini(1), gemini(5), gemini(9, "STOP")]
COHERE: list[dict[str, object]] = [
    {"type": "message-start", "id": "co-1", "delta": {"message": {"role": "assistant"}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hi"}}}},
    {
        "type": "message-end",
        "delta": {
            "finish_reason": "COMPLETE",
            "usage": {"billed_units": {"input_tokens": 6, "output_tokens": 2}},
        },
    },
]
MISTRAL: list[dict[str, object]] = [
    {
        "data": {
            "id": "m-1",
            "model": "mistral-small",
            "choices": [{"delta": {"content": "H"}, "finish_reason": None}],
        }
    },
    {
        "data": {
            "id": "m-1",
            "model": "mistral-small",
            "choices": [{"delta": {"content": ""}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 6, "completion_tokens": 2, "total_tokens": 8},
        }
    },
]
BEDROCK: list[dict[str, object]] = [
    {"messageStart": {"role": "assistant"}},
    {"contentBlockDelta": {"delta": {"text": "Hi"}, "contentBlockIndex": 0}},
    {"messageStop": {"stopReason": "end_turn"}},
    {
        "metadata": {
            "usage": {"inputTokens": 6, "outputTokens": 2, "totalTokens": 8},
            "metrics": {"latencyMs": 9},
        }
    },
]
LITELLM: list[dict[str, object]] = [
    chat_chunk(),
    chat_chunk(None, "stop"),
    chat_chunk(None, usage={"prompt_tokens": 6, "completion_tokens": 2, "total_tokens": 8}),
]
INVOKED: list[dict[str, object]] = [
    {"chunk": {"bytes": json.dumps({"type": "content_block_delta", "delta": {"text": "Hi"}}).encode()}},
    {
        "chunk": {
            "bytes": json.dumps(
                {
                    "type": "message_stop",
                    "amazon-bedrock-invocationMetrics": {"inputTokenCount": 6, "outputTokenCount": 2},
                }
            ).encode()
        }
    },
]
TITAN: list[dict[str, object]] = [
    {"outputText": "H", "completionReason": None, "chunk": {}},
    {
        "outputText": "i",
        "totalOutputTextTokenCount": 2,
        "completionReason": "FINISH",
        "inputTextTokenCount": 6,
    },
]
OLLAMA: list[dict[str, object]] = [
    {"model": "llama3.2", "message": {"content": "H"}, "done": False},
    {"model": "llama3.2", "message": {"content": ""}, "done": True, "prompt_eval_count": 6, "eval_count": 2},
]
GROQ: list[dict[str, object]] = [
    chat_chunk(),
    chat_chunk(
        None, "stop", x_groq={"usage": {"prompt_tokens": 6, "completion_tokens": 2, "total_tokens": 8}}
    ),
]
KIMI: list[dict[str, object]] = [
    chat_chunk(),
    chat_chunk(
        choices=[
            {"delta": {}, "finish_reason": "stop", "usage": {"prompt_tokens": 6, "completion_tokens": 2}}
        ]
    ),
]
SIX_TWO = Tokens(input=6, output=2)


def ended(chunks: list[Any], how: Ending = "completed", policy: AbortPolicy = "partial") -> Gathered:
    results: list[Gathered] = []
    for stream in (chunks, [as_objects(chunk) for chunk in chunks]):
        gatherer = Gatherer(policy)
        for chunk in stream:
            gatherer.feed(chunk)
        results.append(gatherer.finish(how))
    assert results[0] == results[1]
    return results[0]


@pytest.mark.parametrize(
    ("chunks", "tokens", "model", "response_id"),
    [
        (CHAT, CHAT_READING.tokens, "gpt-4o-2024-08-06", "chatcmpl-77aa88bb"),
        (RESPONSES, Tokens(input=10, output=4), "gpt-4.1-2025-04-14", "resp_1"),
        (ANTHROPIC, Tokens(input=9, output=67, cache=50), "claude-sonnet-4-5", "msg_1"),
        (GEMINI, Tokens(input=12, output=9), "gemini-2.5-flash", "r-1"),
        (MISTRAL, SIX_TWO, "mistral-small", "m-1"),
        (COHERE, SIX_TWO, None, "co-1"),
        (BEDROCK, SIX_TWO, None, None),
        (LITELLM, SIX_TWO, "gpt-4o-2024-08-06", "chatcmpl-77aa88bb"),
        (INVOKED, SIX_TWO, None, None),
        (OLLAMA, SIX_TWO, "llama3.2", None),
        (TITAN, SIX_TWO, None, None),
        (GROQ, SIX_TWO, "gpt-4o-2024-08-06", "chatcmpl-77aa88bb"),
        (KIMI, SIX_TWO, "gpt-4o-2024-08-06", "chatcmpl-77aa88bb"),
    ],
    ids=[
        *(
            "chat",
            "responses",
            "anthropic",
            "gemini",
            "mistral",
            "cohere",
            "bedrock",
            "litellm",
            "invoke-model",
        ),
        *("ollama", "titan", "groq", "kimi"),
    ],
)
def test_a_stream_that_is_read_to_its_end(
    chunks: list[Any], tokens: Tokens, model: str | None, response_id: str | None
) -> None:
    reading, unbilled = ended(chunks)
    assert reading is not None
    assert (reading.tokens, reading.model, reading.response_id) == (tokens, model, response_id)
    assert reading.is_final
    assert unbilled is None


def test_the_final_message_of_anthropics_helper_counts() -> None:
    helper = [
        *ANTHROPIC[:-1],
        {"type": "message_stop", "message": message({"input_tokens": 9, "output_tokens": 67})},
    ]
    reading, _ = ended(helper)
    assert reading is not None
    assert reading.tokens == Tokens(input=9, output=67)


def test_a_delta_of_anthropics_that_repeats_the_prompt_counts_it_once() -> None:
    delta = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"input_tokens": 9, "output_tokens": 67},
    }
    reading, _ = ended([ANTHROPIC[0], delta])
    assert reading is not None
    assert reading.tokens == Tokens(input=9, output=67, cache=50)
    alone, _ = ended([delta])
    assert alone is not None
    assert alone.tokens == Tokens(input=9, output=67)


def test_lines_of_server_sent_events() -> None:
    gatherer = Gatherer()
    for chunk in CHAT:
        gatherer.feed(f"data: {json.dumps(chunk)}\n\n")
    for line in ("data: [DONE]\n\n", "data: {usage", b"", ": ping", 'data: {"usage": '):
        gatherer.feed(line)
    assert gatherer.finish("completed") == (CHAT_READING, None)


def test_usage_without_anything_in_it_replaces_nothing() -> None:
    empty = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    reading, _ = ended([*CHAT, chat_chunk(choices=[], usage=empty)])
    assert reading is not None
    assert reading.tokens == CHAT_READING.tokens


def test_a_stream_without_usage() -> None:
    for chunks in ([], CHAT[:3]):
        reading, unbilled = ended(chunks)
        assert reading is None
        assert unbilled is not None
        assert unbilled.reason == "no_usage"
        assert "include_usage" in unbilled.detail


def test_a_stream_whose_usage_can_not_be_read() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "cache_tokens": 5}
    reading, unbilled = ended([*CHAT[:3], chat_chunk(choices=[], usage=usage)])
    assert reading is None
    assert unbilled is not None
    assert unbilled.reason == "unknown_shape"
    assert "cache_tokens" in unbilled.detail


@pytest.mark.parametrize("chunks", [ANTHROPIC[:3], GEMINI[:2]], ids=["anthropic", "gemini"])
def test_a_stream_that_ends_without_saying_so_is_partial(chunks: list[Any]) -> None:
    reading, unbilled = ended(chunks)
    assert reading is None
    assert unbilled is not None
    assert (unbilled.reason, unbilled.detail) == ("partial", "the stream ended early")
    assert unbilled.reading is not None


ABORTS: list[Ending] = ["break", "closed", "cancelled", "collected", "failed"]


@pytest.mark.parametrize("how", ABORTS)
def test_an_aborted_stream_is_reported_with_what_was_seen(how: Ending) -> None:
    reading, unbilled = ended(ANTHROPIC[:3], how)
    assert reading is None
    assert unbilled is not None
    assert unbilled.reason == "partial"
    assert how in unbilled.detail
    assert unbilled.reading is not None
    assert (unbilled.reading.tokens, unbilled.reading.is_final) == (
        Tokens(input=9, output=1, cache=50),
        False,
    )
    nothing_seen = ended(CHAT[:2], how).unbilled
    assert nothing_seen is not None
    assert (nothing_seen.reason, nothing_seen.reading) == ("partial", None)


@pytest.mark.parametrize("how", ABORTS)
def test_an_aborted_stream_whose_usage_was_seen_is_billed(how: Ending) -> None:
    reading, unbilled = ended(CHAT, how)
    assert reading is not None
    assert (reading.tokens, reading.is_final, unbilled) == (CHAT_READING.tokens, True, None)


def test_an_error_before_the_first_chunk_costs_nothing() -> None:
    assert ended([], "failed") == (None, None)


@pytest.mark.parametrize("how", ABORTS[:4])
def test_an_abort_before_the_first_chunk_may_cost_something(how: Ending) -> None:
    unbilled = ended([], how).unbilled
    assert unbilled is not None
    assert unbilled.reason == "partial"


def test_a_stream_is_finished_once() -> None:
    gatherer = Gatherer()
    gatherer.feed(CHAT[3])
    assert gatherer.finish("completed").reading is not None
    assert gatherer.finish("collected") == (None, None)


def test_an_estimate_of_the_users_own() -> None:
    asked: list[Partial] = []

    def estimate(partial: Partial) -> dict[str, int | None]:
        asked.append(partial)
        return {"input": 9, "output": 3 * partial.chunks}

    reading, unbilled = ended(ANTHROPIC[:3], "break", estimate)
    assert unbilled is None
    assert reading is not None
    assert (reading.tokens, reading.model, reading.is_final) == (
        Tokens(input=9, output=9),
        "claude-sonnet-4-5",
        False,
    )
    assert [(each.ending, each.chunks) for each in asked] == [("break", 3)] * 2
    unseen = ended(CHAT[:2], "break", estimate).reading
    assert unseen is not None
    assert (unseen.response_id, unseen.tokens) == ("chatcmpl-77aa88bb", Tokens(input=9, output=6))


def test_an_estimate_that_fails_or_has_none_is_reported() -> None:
    def raises(_: Partial) -> None:
        raise RuntimeError

    failed = ended(CHAT[:2], "break", raises).unbilled
    assert failed is not None
    assert (failed.reason, failed.detail) == ("partial", "the estimate raised RuntimeError")
    wrong = ended(CHAT[:2], "break", lambda _: {"words": 3}).unbilled
    assert wrong is not None
    assert wrong.detail == "the estimate raised ValidationError"
    none = ended(CHAT[:2], "break", lambda _: None).unbilled
    assert none is not None
    assert none.reason == "partial"


def test_draining_reads_on_within_its_bounds() -> None:
    gatherer = Gatherer(Drain(max_chunks=2, max_seconds=1.0))
    gatherer.feed(CHAT[0])
    assert gatherer.wants_more(elapsed=0.0)
    assert gatherer.wants_more(elapsed=0.9)
    assert not gatherer.wants_more(elapsed=0.9)
    late = Gatherer(Drain(max_chunks=2, max_seconds=1.0))
    assert not late.wants_more(elapsed=1.0)


def test_draining_stops_where_there_is_nothing_to_gain() -> None:
    settled = Gatherer(Drain())
    settled.feed(CHAT[3])
    assert settled.is_settled
    assert not settled.wants_more(elapsed=0.0)
    assert not Gatherer().wants_more(elapsed=0.0)
    assert settled.finish("break").reading is not None


def test_a_stream_that_was_not_drained_to_its_end_is_partial() -> None:
    unbilled = ended(CHAT[:2], "break", Drain()).unbilled
    assert unbilled is not None
    assert unbilled.reason == "partial"


class Hostile:
    """A chunk whose every attribute raises."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)


class Odd(dict[str, object]):
    """Usage that fails when it is read, and not before."""

    def items(self) -> Any:
        raise RuntimeError


def test_nothing_raises_into_the_stream() -> None:
    gatherer = Gatherer()
    gatherer.feed(Hostile())
    unbilled = gatherer.finish("completed").unbilled
    assert unbilled == Unbilled(reason="unknown_shape", detail="a chunk could not be read: RuntimeError")
    later = Gatherer()
    later.feed({"usage": Odd(prompt_tokens=5)})
    unbilled = later.finish("completed").unbilled
    assert unbilled == Unbilled(reason="unknown_shape", detail="the usage could not be read: RuntimeError")
    asked = Gatherer(Drain())
    asked.feed({"usage": Odd(prompt_tokens=5)})
    assert not asked.is_settled


@pytest.mark.parametrize(
    "chunk", [None, 5, "text", b"\xff", [], {}, {"choices": []}, {"choices": 3}, {"usage": "no"}]
)
def test_a_chunk_of_any_kind_is_passed_over(chunk: object) -> None:
    gatherer = Gatherer()
    gatherer.feed(chunk)
    unbilled = gatherer.finish("completed").unbilled
    assert unbilled is not None
    assert unbilled.reason == "no_usage"


@dataclass
class Choice:
    finish_reason: str | None = None


@dataclass
class Chunk:
    """A chunk of a class that declares its fields, as SDKs' do."""

    id: str = "chatcmpl-77aa88bb"
    model: str = "gpt-4o"
    choices: list[Choice] = field(default_factory=lambda: [Choice()])
    usage: object = None


class Extended(Chunk):
    """One with a field beyond those declared, as pydantic keeps them."""

    def __init__(self, extra: dict[str, object]) -> None:
        super().__init__()
        self.__pydantic_extra__ = extra
        self.__dict__.update(extra)


def test_chunks_that_declare_their_fields() -> None:
    gatherer = Gatherer()
    for chunk in (Chunk(), Chunk(choices=[Choice("stop")]), Chunk(choices=[], usage=CHAT_USAGE)):
        gatherer.feed(chunk)
    reading = gatherer.finish("completed").reading
    assert reading is not None
    assert reading.tokens == CHAT_READING.tokens


def test_fields_beyond_the_declared_ones_are_looked_at() -> None:
    gatherer = Gatherer()
    gatherer.feed(Chunk())
    gatherer.feed(Extended({"x_groq": {"usage": {"prompt_tokens": 6, "completion_tokens": 2}}}))
    reading = gatherer.finish("break").reading
    assert reading is None
    gatherer = Gatherer()
    done = Extended({"x_groq": {"usage": {"prompt_tokens": 6, "completion_tokens": 2}}})
    done.choices = [Choice("stop")]
    gatherer.feed(done)
    reading = gatherer.finish("break").reading
    assert reading is not None
    assert reading.tokens == SIX_TWO


def test_a_whole_answer_in_one_chunk() -> None:
    reading, _ = ended([chat(CHAT_USAGE, service_tier="flex")])
    assert reading is not None
    assert (reading.tokens, reading.tier) == (CHAT_READING.tokens, "flex")


@pytest.mark.parametrize("policy", ["bill", None, 3])
def test_a_policy_that_is_none(policy: Any) -> None:
    with pytest.raises(ValidationError, match=r"^on_abort: must be"):
        Gatherer(policy)


@pytest.mark.parametrize(
    "bounds", [{"max_chunks": 0}, {"max_seconds": 0}, {"max_seconds": -1.0}, {"max_chunks": 1.5}]
)
def test_bounds_that_are_none(bounds: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"^max_"):
        Drain(**bounds)


def test_what_is_drained_by_default() -> None:
    assert (Drain().max_chunks, Drain().max_seconds) == (10_000, 10.0)
    with pytest.raises(ValidationError) as caught:
        Gatherer(3)  # type: ignore[arg-type]
    assert caught.value.message == 'on_abort: must be "partial", a Drain or a function, not int'


def test_what_a_stream_without_usage_says_to_do() -> None:
    unbilled = ended(CHAT[:3]).unbilled
    assert unbilled is not None
    assert unbilled.detail == (
        'the stream had no usage; OpenAI has to be asked for it, with stream_options={"include_usage": True}'
    )
    aborted = ended(CHAT[:1], "closed").unbilled
    assert aborted is not None
    assert aborted.detail == "the stream was broken off (closed)"


def test_the_chunk_that_nobody_asked_for_is_hidden_and_no_other() -> None:
    hiding = Gatherer(hides_usage=True)
    assert [hiding.hides(chunk) for chunk in CHAT] == [False, False, False, True]
    assert not hiding.hides(chat_chunk(choices=[]))
    assert not hiding.hides(chat_chunk(usage=CHAT_USAGE))
    assert not hiding.hides({"usage": CHAT_USAGE})
    assert not Gatherer().hides(CHAT[3])


@pytest.mark.parametrize("name", ["model", "model_version", "modelVersion", "model_name"])
@pytest.mark.parametrize("id_name", ["id", "response_id", "responseId"])
@pytest.mark.parametrize("envelope", [None, "message", "response", "data"])
def test_who_answered_is_read_from_the_first_chunks(name: str, id_name: str, envelope: str | None) -> None:
    said: dict[str, object] = {name: "gpt-4o", id_name: "chatcmpl-77aa88bb"}
    reading = ended([said if envelope is None else {envelope: said}, {"usage": CHAT_USAGE}]).reading
    assert reading is not None
    assert (reading.model, reading.response_id, reading.provider) == ("gpt-4o", "chatcmpl-77aa88bb", "openai")


def test_names_are_looked_for_in_a_few_chunks_and_the_first_counts() -> None:
    def named(before: int) -> str | None:
        gatherer = Gatherer()
        nameless: list[object] = [{"choices": []}] * before
        for chunk in (*nameless, {"model": "m"}, {"model": "later", "id": "i"}):
            gatherer.feed(chunk)
        gatherer.feed({"usage": CHAT_USAGE})
        reading = gatherer.finish("completed").reading
        assert reading is not None
        return reading.model

    assert [named(before) for before in (0, 1, 2, 3, 4)] == ["m", "m", "m", "m", None]


def in_bytes(text: str) -> bytearray:
    return bytearray(text, "utf-8")


@pytest.mark.parametrize("kind", [str, str.encode, in_bytes])
def test_text_may_come_in_any_form_with_anything_before_it(kind: Any) -> None:
    gatherer = Gatherer()
    texts = [
        'event: x\ndata: {"metadata": {"usage": {"inputTokens": 6, "outputTokens": 2}}}',
        '{"usage": "not an object"}',
    ]
    for text in texts:
        gatherer.feed(kind(text))
    reading = gatherer.finish("completed").reading
    assert reading is not None
    assert reading.tokens == SIX_TWO


@pytest.mark.parametrize(
    "last",
    [
        {"prompt_eval_count": 6, "eval_count": 2, "done": True},
        {"inputTextTokenCount": 6, "totalOutputTextTokenCount": 2, "completionReason": "FINISH"},
    ],
)
def test_text_whose_counts_are_in_no_usage_is_read(last: dict[str, object]) -> None:
    gatherer = Gatherer()
    gatherer.feed(json.dumps(last))
    reading = gatherer.finish("completed").reading
    assert reading is not None
    assert reading.tokens == SIX_TWO


def test_text_that_can_not_be_decoded_is_no_failure() -> None:
    gatherer = Gatherer()
    gatherer.feed(b'\xff data: {"usage": {"prompt_tokens": 6, "completion_tokens": 2}, "choices": []}')
    reading = gatherer.finish("completed").reading
    assert reading is not None
    assert reading.tokens == SIX_TWO


def test_what_is_known_of_a_reading_is_not_replaced_by_what_the_stream_said_first() -> None:
    chunks = [
        {"id": "chatcmpl-first0001", "model": "first"},
        {"id": "msg_last00001", "model": "last", "response": response(CHAT_RESPONSE_USAGE)},
    ]
    reading = ended(chunks).reading
    assert reading is not None
    assert (reading.model, reading.response_id, reading.provider) == (
        "gpt-4.1-2025-04-14",
        "resp_1",
        "openai",
    )


CHAT_RESPONSE_USAGE: dict[str, object] = {"input_tokens": 10, "output_tokens": 4, "total_tokens": 14}


def test_the_tier_of_a_stream_is_read() -> None:
    reading = ended([*CHAT[:3], chat_chunk(choices=[], usage=CHAT_USAGE, service_tier="priority")]).reading
    assert reading is not None
    assert reading.tier == "priority"


def test_a_problem_that_a_later_chunk_clears_is_not_reported() -> None:
    bad = chat_chunk(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 1, "cache_tokens": 5})
    reading, unbilled = ended([bad, *CHAT])
    assert reading is not None
    assert unbilled is None
    # One that nothing clears is said of an abort too, and counts that are all 0 are none.
    aborted = ended([bad], "break").unbilled
    assert aborted is not None
    assert "cache_tokens" in aborted.detail
    zeros = ended([chat_chunk(choices=[], usage={"prompt_tokens": 0, "completion_tokens": 0})]).unbilled
    assert zeros is not None
    assert zeros.reason == "no_usage"


@pytest.mark.parametrize("envelope", ["response", "data", "delta", "message"])
def test_usage_that_can_not_be_read_in_an_envelope_is_reported(envelope: str) -> None:
    unbilled = ended([{envelope: {"usage": {"completion_tokens": 5}}}]).unbilled
    assert unbilled is not None
    assert unbilled.reason == "unknown_shape"


def test_draining_counts_the_chunks_and_the_seconds_to_their_bounds() -> None:
    gatherer = Gatherer(Drain(max_chunks=3, max_seconds=2.0))
    assert [gatherer.wants_more(elapsed=1.99) for _ in range(4)] == [True, True, True, False]
    assert not Gatherer(Drain(max_seconds=2.0)).wants_more(elapsed=2.0)
    assert Gatherer(Drain(max_chunks=1)).wants_more(elapsed=0.0)


@pytest.mark.parametrize("name", ["usage", "usage_metadata", "usageMetadata"])
def test_usage_that_can_not_be_read_is_told_from_none_by_its_counts(name: str) -> None:
    counted = ended([{name: {"completion_tokens": 5}}]).unbilled
    nothing = ended([{name: {"words": 5}}]).unbilled
    assert counted is not None
    assert nothing is not None
    assert (counted.reason, nothing.reason) == ("unknown_shape", "no_usage")


ENDS: list[tuple[dict[str, object], bool]] = [
    (chat_chunk(None, "stop", usage=CHAT_USAGE), True),
    (chat_chunk("H", None, usage=CHAT_USAGE), False),
    ({"choices": [{"finishReason": "stop"}], "usage": CHAT_USAGE}, True),
    ({"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 6}}, True),
    ({"candidates": [{"content": {}}], "usageMetadata": {"promptTokenCount": 6}}, False),
    (ANTHROPIC[4], False),
    ({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"input_tokens": 3}}, True),
    ({"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"input_tokens": 3}}, False),
    ({"done": True, "prompt_eval_count": 6, "eval_count": 2}, True),
]


@pytest.mark.parametrize(("chunk", "is_billed"), ENDS)
def test_a_break_after_the_final_counts_loses_nothing_and_one_before_is_partial(
    chunk: dict[str, object], is_billed: bool
) -> None:
    gatherer = Gatherer(Drain())
    gatherer.feed(chunk)
    assert gatherer.is_settled is is_billed
    assert gatherer.wants_more(elapsed=0.0) is not is_billed
    reading, unbilled = gatherer.finish("break")
    assert (reading is not None, unbilled is None) == (is_billed, is_billed)


def test_what_a_delta_of_anthropics_leaves_open_replaces_nothing() -> None:
    delta = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"input_tokens": None, "cache_read_input_tokens": None, "output_tokens": 67},
    }
    reading = ended([ANTHROPIC[0], delta], "break").reading
    assert reading is not None
    assert reading.tokens == Tokens(input=9, output=67, cache=50)
    unfinished = ended([ANTHROPIC[0], {**delta, "delta": {"stop_reason": None}}], "break")
    assert unfinished.reading is None


def test_an_estimate_is_of_the_stream_that_was_seen_and_not_final() -> None:
    seen = ended(ANTHROPIC[:3], "break", lambda _: Tokens(input=9, output=9)).reading
    assert seen is not None
    assert (seen.provider, seen.response_id, seen.is_final) == ("anthropic", "msg_1", False)
    unseen = ended(CHAT[:2], "break", lambda _: Tokens(input=9)).reading
    assert unseen == Reading(
        tokens=Tokens(input=9), model=CHAT_READING.model, response_id=CHAT_READING.response_id, is_final=False
    )


@pytest.mark.parametrize("name", ["data", "delta"])
def test_an_envelope_without_usage_is_passed_over_and_one_with_it_read(name: str) -> None:
    usage = {"prompt_tokens": 6, "completion_tokens": 2}
    assert ended([{name: {"content": "H"}}, {name: {"usage": usage}}]).reading is not None
    assert (
        ended([{name: {"meta": {"billed_units": {"input_tokens": 6, "output_tokens": 2}}}}]).reading
        is not None
    )
    unbilled = ended([{name: {"content": "H", "usage": None}}]).unbilled
    assert unbilled is not None
    assert unbilled.reason == "no_usage"
