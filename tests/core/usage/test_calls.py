"""Calls to models as integrations see them: each answer is billed or reported, and nothing is raised."""

import asyncio
import copy
import gc
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from clocknext_core import TrackResult
from clocknext_core.resources.calls import PROVIDER, ModelCall
from clocknext_core.usage import meter as meters
from clocknext_core.usage.attribution import Attribution, Origin, Scope, start_call
from clocknext_core.usage.streams import AbortPolicy, Drain
from tests.core.usage.shapes import CHAT_USAGE, chat
from tests.core.usage.test_metering import Client
from tests.core.usage.test_streams import CHAT

WHO = Attribution(customer_id="cus_1", key="chat_credit")
ID = "chatcmpl-77aa88bb"
RESPONSE = chat(CHAT_USAGE, id=ID)
NAMELESS = {name: value for name, value in RESPONSE.items() if name != "id"}
RUNNING = {"id": "resp_aabbccdd11", "status": "queued", "background": True, "usage": None, "model": "gpt-4o"}
USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
DONE = {**RUNNING, "status": "completed", "usage": USAGE}
STREAM: list[dict[str, object]] = [{**chunk, "id": ID, "model": "gpt-4o"} for chunk in CHAT]


class Broken:
    """A response that raises."""

    @property
    def id(self) -> object:
        raise RuntimeError

    @property
    def status(self) -> object:
        raise RuntimeError


def started(client: Client, origin: Origin | None = None, on_abort: AbortPolicy = "partial") -> ModelCall:
    return client.signals.start_call(Origin(attribution=WHO) if origin is None else origin, on_abort=on_abort)


def test_an_answer_is_held_once() -> None:
    client = Client()
    started(client).answered(RESPONSE)
    started(client).answered(RESPONSE)
    assert len(client.held) == 1
    assert client.reasons == ["seen_already"]


def test_what_was_dropped_may_be_recorded_again() -> None:
    client = Client()
    client.result = TrackResult({}, idempotency_key="k", queued=True, dropped="queue_full")
    started(client).answered(RESPONSE)
    started(client).answered(RESPONSE)
    assert len(client.held) == 2
    assert client.reasons == []


def test_a_client_need_not_say_what_became_of_what_it_holds() -> None:
    client = Client()
    client.result = None  # type: ignore[assignment]
    started(client).answered(RESPONSE)
    started(client).answered(RESPONSE)
    assert len(client.held) == 1
    assert client.reasons == ["seen_already"]


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ({"id": ID, "choices": []}, "no_usage"),
        ({"id": ID, "usage": {"prompt_tokens": 0, "completion_tokens": 0}}, "no_usage"),
        ({"id": ID, "usage": {"completion_tokens": 5}}, "unknown_shape"),
        ({"id": ID, "usage": {"what": 1}}, "unknown_shape"),
        (Broken(), "unknown_shape"),
    ],
)
def test_what_can_not_be_read_is_reported(response: object, reason: str) -> None:
    client = Client()
    started(client).answered(response)
    assert client.reasons == [reason]
    assert client.unbilled[0].customer_id == "cus_1"
    said = "RuntimeError" if isinstance(response, Broken) else "response"
    assert client.unbilled[0].detail.startswith(said)
    assert client.held == []


def test_an_answer_from_a_frameworks_own_cache_is_not_billed() -> None:
    client = Client()
    started(client).answered(RESPONSE, is_cached=True)
    started(client).answered({"text": "no usage"}, is_cached=True)
    assert client.reasons == ["cache_hit", "cache_hit"]
    assert [each.reading is None for each in client.unbilled] == [False, True]
    assert client.held == []


def test_a_call_without_a_customer_is_reported_with_what_it_used() -> None:
    client = Client()
    scope = Scope("scope_1", WHO)
    scope.end()
    for each in (None, scope):
        started(client, start_call(each)).answered(RESPONSE)
    assert [(each.reason, each.customer_id) for each in client.unbilled] == [
        ("unattributed", None),
        ("scope_ended", "cus_1"),
    ]
    assert all(each.reading is not None for each in client.unbilled)
    started(client, Origin(customer_id="cus_1")).answered(RESPONSE)
    assert client.reasons[-1] == "unattributed"


def test_what_runs_in_the_background_is_billed_to_whom_it_was_begun_for_and_once() -> None:
    client = Client()
    started(client).answered(RUNNING)
    other = Origin(attribution=Attribution(customer_id="cus_2", key="chat_credit"))
    started(client, other).retrieved({**RUNNING, "status": "in_progress"})
    assert (client.held, client.reasons) == ([], [])
    for _ in range(2):
        started(client, other).retrieved(DONE)
    assert [b"cus_1" in each.body for each in client.held] == [True]
    assert client.reasons == ["seen_already"]


def test_what_ran_in_the_background_is_billed_once_also_where_its_id_does_not_tell() -> None:
    client, scope = Client(), Scope("scope_1", WHO)
    small = {"id": "resp_523"}
    started(client, start_call(scope)).answered({**RUNNING, **small})
    for _ in range(2):
        started(client, start_call(scope)).retrieved({**DONE, **small})
    assert len(client.held) == 1
    assert client.reasons == ["seen_already"]


@pytest.mark.parametrize("named", [None, WHO])
def test_calls_whose_ids_do_not_tell_and_whose_counts_are_equal_are_billed_each(
    named: Attribution | None,
) -> None:
    client = Client()
    for scope in (Scope("scope_1", WHO), None if named else Scope("scope_2", WHO)):
        for _ in range(3):
            started(client, start_call(scope, named)).answered({**RESPONSE, "id": "__fake_id__"})
    assert len({each.idempotency_key for each in client.held}) == 6
    assert client.reasons == []


def test_what_another_process_began_is_billed_as_the_retrieval_says() -> None:
    client = Client()
    started(client).retrieved(DONE)
    assert len(client.held) == 1


def test_a_response_that_was_billed_when_it_was_created_is_not_billed_when_it_is_read_again() -> None:
    client = Client()
    started(client).retrieved({**DONE, "background": False})
    started(client).retrieved(Broken())
    assert client.held == []
    assert client.reasons == ["unknown_shape"]


def test_only_so_many_running_responses_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "_MOST_RUNNING", 2)
    meter = meters.Meter()
    for name in ("a", "b", "c", None):
        meter.remember(name, Origin(attribution=WHO))
    assert [meter.recall(name) is not None for name in ("a", "b", "c", None)] == [False, True, True, False]


def test_a_failure_costs_nothing_and_a_cancelled_call_may_cost() -> None:
    client = Client()
    started(client).failed(RuntimeError())
    assert client.reasons == []
    started(client).failed(KeyboardInterrupt())
    started(client).unanswered("it was read raw")
    assert client.reasons == ["partial", "no_usage"]
    assert client.unbilled[1].detail == "it was read raw"


def test_answers_of_one_call_without_ids_have_keys_of_their_own() -> None:
    keys: list[set[str]] = []
    for _ in range(2):
        client = Client()
        call = started(client, Scope("scope_1", WHO).start_call())
        for _ in range(3):
            call.answered(NAMELESS)
        keys.append({each.idempotency_key for each in client.held})
    assert len(keys[0]) == 3
    assert keys[0] == keys[1]
    client = Client()
    started(client, Scope("scope_1", WHO).start_call()).answered(NAMELESS)
    assert keys[0] > {each.idempotency_key for each in client.held}, "the first answer is the call's own"
    client = Client()
    call = started(client)
    for _ in range(2):
        call.answered(NAMELESS)
    assert [each.idempotency_key for each in client.held] == ["random-1", "random-2"]


@pytest.mark.parametrize("hides_usage", [False, True])
def test_a_stream_is_watched_and_the_chunk_that_was_not_asked_for_is_left_out(hides_usage: bool) -> None:
    async def chunks() -> AsyncIterator[dict[str, object]]:
        for chunk in STREAM:
            yield chunk

    async def passed_on() -> list[object]:
        return [each async for each in started(Client()).watch_async(chunks(), hides_usage=hides_usage)]

    client = Client()
    expected = [each for each in STREAM if each["choices"] or not hides_usage]
    assert len(expected) == len(STREAM) - hides_usage
    assert list(started(client).watch(iter(STREAM), hides_usage=hides_usage)) == expected
    assert len(client.held) == 1
    assert asyncio.run(passed_on()) == expected


def test_a_stream_that_something_else_passes_on_is_gathered() -> None:
    client = Client()
    call = started(client)
    gatherer = call.gatherer()
    for chunk in STREAM:
        gatherer.feed(chunk)
    call.take(gatherer.finish("completed"))
    assert len(client.held) == 1


@pytest.mark.parametrize(("policy", "billed"), [("partial", 0), (Drain(), 1)])
def test_a_stream_whose_source_is_closed_early_ends_there(policy: Any, billed: int) -> None:
    client = Client()
    stream = started(client, on_abort=policy).watch(iter(STREAM))
    next(stream)
    stream.end_early()
    assert len(client.held) == billed
    assert client.reasons == ["partial"] * (1 - billed)

    async def chunks() -> AsyncIterator[dict[str, object]]:
        for chunk in STREAM:
            yield chunk

    async def broken_off(client: Client) -> None:
        stream = started(client, on_abort=policy).watch_async(chunks())
        await anext(stream)
        await stream.end_early()

    client = Client()
    asyncio.run(broken_off(client))
    assert len(client.held) == billed


def test_a_stream_that_closes_its_source_at_its_end_has_completed() -> None:
    client = Client()

    def chunks() -> Iterator[dict[str, object]]:
        yield from STREAM[:1]
        stream.end_early()

    stream = started(client).watch(chunks())
    assert len(list(stream)) == 1
    assert client.reasons == ["no_usage"]

    async def chunks_async() -> AsyncIterator[dict[str, object]]:
        for chunk in STREAM[:1]:
            yield chunk
        await watched[0].end_early()

    async def read(client: Client) -> None:
        watched.append(started(client).watch_async(chunks_async()))
        assert len([each async for each in watched[0]]) == 1

    watched: list[Any] = []
    client = Client()
    asyncio.run(read(client))
    assert client.reasons == ["no_usage"]


def test_two_layers_over_one_call_bill_once_though_the_outer_one_lost_the_id_and_the_cache() -> None:
    client = Client()
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    details = {**usage, "prompt_tokens_details": {"cached_tokens": 4}}
    outer = started(client)
    middle = client.signals.start_call(Origin(attribution=WHO), outer=outer)
    inner = client.signals.start_call(Origin(attribution=WHO), outer=middle)
    inner.answered(chat(details, id=ID))
    middle.answered(chat(usage, id="run-another-id"))
    outer.answered(chat(usage, id="lc_run--another-id"))
    assert len(client.held) == 1
    assert client.reasons == ["seen_already", "seen_already"]


def test_what_another_call_cost_says_nothing_about_this_one() -> None:
    client = Client()
    outer = started(client)
    client.signals.start_call(Origin(attribution=WHO), outer=outer).answered(RESPONSE)
    more = {"prompt_tokens": 2006, "completion_tokens": 901, "total_tokens": 2907}
    outer.answered(chat(more, id="run-1234567"))
    after = client.signals.start_call(Origin(attribution=WHO), outer=outer)
    after.answered(chat(CHAT_USAGE, id="chatcmpl-another1"))
    assert len(client.held) == 3
    assert client.reasons == []


def test_each_bill_within_a_call_is_taken_off_once() -> None:
    client = Client()
    outer = started(client)
    for number in range(2):
        inner = client.signals.start_call(Origin(attribution=WHO), outer=outer)
        inner.answered(chat(CHAT_USAGE, id=f"chatcmpl-aabbcc0{number}"))
    for number in range(3):
        outer.answered(chat(CHAT_USAGE, id=f"run-{number}"))
    assert (len(client.held), client.reasons) == (3, ["seen_already"] * 2)
    assert all(each.reading is not None for each in client.unbilled)


def test_a_call_within_that_nobody_is_billed_for_takes_nothing_off() -> None:
    client = Client()
    outer = started(client)
    client.signals.start_call(Origin(customer_id="cus_1"), outer=outer).answered(RESPONSE)
    outer.answered(chat(CHAT_USAGE, id="run-1"))
    assert (len(client.held), client.reasons) == (1, ["unattributed"])


def within(client: Client, outer: ModelCall | None, layer: str | None = None) -> ModelCall:
    return client.signals.start_call(Origin(attribution=WHO), outer=outer, layer=layer)


def end_by_another_answer(call: ModelCall) -> None:
    call.answered(chat({"prompt_tokens": 9, "completion_tokens": 1}, id="run-1234567"))


def end_by_running_on(call: ModelCall) -> None:
    call.answered(RUNNING)


def end_by_failure(call: ModelCall) -> None:
    call.failed(ValueError())


@pytest.mark.parametrize(
    "end",
    [
        end_by_another_answer,
        end_by_running_on,
        end_by_failure,
    ],
)
def test_the_second_call_within_a_call_is_the_same_exchange_too(end: Callable[[ModelCall], None]) -> None:
    client = Client()
    outer = within(client, None, "langchain")
    first = within(client, outer, PROVIDER)
    end(first)
    assert first.has_ended
    assert not outer.has_ended
    within(client, first, PROVIDER).answered(RESPONSE)
    held = len(client.held)
    outer.answered(chat(CHAT_USAGE, id="lc_run--another-id"))
    assert len(client.held) == held
    assert client.reasons == ["seen_already"]


@pytest.mark.parametrize(
    ("around", "layer", "billed"),
    [
        ("langchain", PROVIDER, 1),
        ("langchain", None, 1),
        (None, "langchain", 1),
        (None, None, 1),
        ("langchain", "langchain", 2),
        (PROVIDER, PROVIDER, 2),
        (PROVIDER, "langchain", 2),
        (PROVIDER, None, 2),
    ],
)
def test_calls_side_by_side_with_equal_counts_are_billed_each(
    around: str | None, layer: str | None, billed: int
) -> None:
    """Two streams of one client, of which the later one ends first."""
    client = Client()
    first = within(client, None, around)
    within(client, first, layer).answered(RESPONSE)
    first.answered(chat(CHAT_USAGE, id="chatcmpl-another1"))
    assert len(client.held) == billed
    assert client.reasons == ["seen_already"] * (2 - billed)


def test_a_call_is_a_block_that_takes_the_failure_of_what_was_asked_in_it() -> None:
    client = Client()
    with started(client) as call:
        pass
    assert not call.has_ended
    call.answered(RESPONSE)
    with pytest.raises(ValueError, match="bad"), started(client) as call:
        raise ValueError("bad")
    assert call.has_ended
    with pytest.raises(KeyboardInterrupt), started(client):
        raise KeyboardInterrupt
    assert client.reasons == ["partial"]
    assert [each.detail for each in client.unbilled] == ["KeyboardInterrupt"]


def test_a_call_that_is_lost_is_reported_where_nothing_else_tells_its_end() -> None:
    client = Client()
    lost, other, ended = started(client), started(client), started(client)
    for call in (lost, ended):
        call.report_when_lost("no end was reported")
    ended.answered(RESPONSE)
    copied = copy.deepcopy({"kept": lost})
    assert copied["kept"] is lost
    del call, ended, other, lost
    gc.collect()
    assert client.reasons == []
    copied.clear()
    gc.collect()
    assert [(each.reason, each.detail) for each in client.unbilled] == [("partial", "no end was reported")]


def test_a_call_is_claimed_once() -> None:
    call = started(Client())
    assert [call.claim() for _ in range(3)] == [True, False, False]


def test_an_answer_of_langchains_own_cache_is_known_by_its_cost() -> None:
    client = Client()
    usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5, "total_cost": 0}
    started(client).answered({"usage_metadata": usage, "id": ID})
    assert client.reasons == ["cache_hit"]


def test_a_failure_after_an_answer_began_may_cost_and_says_what_was_seen() -> None:
    client = Client()
    started(client).failed(RuntimeError(), RESPONSE)
    started(client).failed(RuntimeError(), Broken())
    started(client).broken_off("left")
    assert client.reasons == ["partial"] * 3
    assert [(each.detail, each.reading is None) for each in client.unbilled] == [
        ("RuntimeError", False),
        ("RuntimeError", True),
        ("left", True),
    ]


def test_an_answer_that_had_begun_is_reported_though_nothing_of_it_can_be_handed_over() -> None:
    client = Client()
    started(client).failed(ValueError(), has_begun=True)
    started(client).failed(ValueError())
    assert client.reasons == ["partial"]


PIECES: list[dict[str, object]] = [{"id": ID, "usage": None}, {"id": ID}]
ESTIMATE = {"prompt_tokens": CHAT_USAGE["prompt_tokens"], "completion_tokens": 99}


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ([*PIECES, {"usage": CHAT_USAGE}], None),
        # Anthropic reports the prompt at its start and the output at its end.
        (
            [
                {"usage": {**CHAT_USAGE, "completion_tokens": 1}},
                {"usage": {**CHAT_USAGE, "prompt_tokens": 0}},
            ],
            None,
        ),
        (PIECES, "no_usage"),
        ([], "no_usage"),
        ([{"usage": ESTIMATE}], "no_usage"),
        (3, "no_usage"),  # whatever can't be read is never billed
        (None, None),  # the usage has details of its prompt
    ],
)
def test_a_whole_that_a_framework_assembled_is_billed_where_chunks_reported_its_counts(
    chunks: Any, reason: str | None
) -> None:
    client = Client()
    started(client).assembled(RESPONSE, chunks)
    assert client.reasons == ([] if reason is None else [reason])
    assert all("the framework's estimate" in each.detail for each in client.unbilled)
    assert len(client.held) == (1 if reason is None else 0)


@pytest.mark.parametrize("usage", [ESTIMATE, {**ESTIMATE, "prompt_tokens_details": None}, None])
def test_a_whole_of_unknown_chunks_without_details_of_its_prompt_is_an_estimate(usage: object) -> None:
    client = Client()
    started(client).assembled(chat(usage, id=ID), None)
    assert client.held == []
    assert client.reasons == ["no_usage"]


def test_an_assembled_whole_without_usage_is_reported() -> None:
    client = Client()
    started(client).assembled({"id": ID, "object": "chat.completion"}, PIECES)
    assert client.reasons == ["no_usage"]


def test_the_model_that_was_asked_stands_in_for_one_that_the_answer_does_not_name() -> None:
    client = Client()
    call = client.signals.start_call(Origin(attribution=WHO), model="gpt-4o-mini")
    call.answered({"usage": USAGE})
    client.signals.start_call(Origin(attribution=WHO), model="gpt-4o-mini").answered(RESPONSE)
    assert [json.loads(each.body)["model"] for each in client.held] == ["gpt-4o-mini", "gpt-4o"]
