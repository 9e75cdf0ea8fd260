"""Every integration: what a model charges for is billed once, or reported; the user notices nothing."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from copy import deepcopy
from itertools import count

import pytest

from clocknext_core import Unbilled
from clocknext_transports import ClockNext
from clocknext_transports.emulator import Completion, EmulatorServer, ModelServer, ToolCall
from tests.integrations.adapters import ADAPTERS, Adapter
from tests.integrations.conftest import Billed, Reports

# Packages that warn as they are imported or used are no failure of ours.
pytestmark = pytest.mark.filterwarnings("ignore")

WHO = {"customer_id": "cus_123", "key": "chat_credit"}
_numbers = count(1)


def answer(adapter: Adapter, text: str = "One two three.", **more: object) -> Completion:
    """Make an answer with an id as the provider's are."""
    name = f"{adapter.prefix}7f3a{next(_numbers):06x}c0ffee"
    fields: dict[str, object] = {"text": text, "input_tokens": 12, "output_tokens": 7, "response_id": name}
    return Completion(**{**fields, **more})  # type: ignore[arg-type]


def counts(billed: Billed) -> list[tuple[int, int, int]]:
    return sorted((each.input_tokens, each.output_tokens, each.cache_tokens) for each in billed())


def reasons(reports: list[Unbilled]) -> list[str]:
    return [each.reason for each in reports]


def test_an_answer_is_billed_once_under_the_catalogues_name(
    adapter: Adapter, models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    models.script(answer(adapter))
    with cnk.billing(customer_id="cus_123", key="chat_credit", member="a@b.c"):
        assert adapter.complete() == "One two three."
        adapter.settle(1)
    (log,) = billed()
    assert (log.customer_id, log.key, log.member, log.model) == (
        "cus_123",
        "chat_credit",
        "a@b.c",
        adapter.model,
    )
    assert (log.input_tokens, log.output_tokens) == (12, 7)
    assert reports == []


def test_a_stream_is_passed_on_and_billed_once(
    adapter: Adapter, models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    models.script(answer(adapter))
    with cnk.billing(**WHO):  # type: ignore[arg-type]
        assert adapter.read() == "One two three."
        adapter.settle(1)
    assert counts(billed) == [(12, 7, 0)]
    assert reports == []


def test_a_stream_that_is_read_while_another_is_open_is_not_taken_for_a_part_of_it(
    adapter: Adapter, models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    models.script(answer(adapter), answer(adapter))
    with cnk.billing(**WHO):  # type: ignore[arg-type]
        adapter.read_within()
        adapter.settle(2)
    assert counts(billed) == [(12, 7, 0), (12, 7, 0)]
    assert reports == []


@pytest.mark.parametrize("streamed", [False, True])
def test_trap_6_and_7_cached_tokens_and_reasoning_are_counted_once(
    streamed: bool, adapter: Adapter, models: ModelServer, cnk: ClockNext, billed: Billed
) -> None:
    models.script(answer(adapter, output_tokens=20, cached_tokens=5, reasoning_tokens=8))
    with cnk.billing(**WHO):  # type: ignore[arg-type]
        adapter.read() if streamed else adapter.complete()
        adapter.settle(1)
    assert counts(billed) == [(7, 20, 5)]


@pytest.mark.parametrize("has_scope", [False, True])
def test_trap_13_a_customer_that_the_request_names_is_not_billed(
    has_scope: bool,
    adapter: Adapter,
    models: ModelServer,
    cnk: ClockNext,
    billed: Billed,
    reports: list[Unbilled],
) -> None:
    models.script(answer(adapter))
    with cnk.billing(**WHO) if has_scope else nullcontext():  # type: ignore[arg-type]
        adapter.complete(**deepcopy(adapter.forged))  # LiteLLM adds to what it is given
        adapter.settle(1)
    found = [(log.customer_id, log.key, log.member) for log in billed()]
    assert found == ([("cus_123", "chat_credit", None)] if has_scope else [])
    assert [(each.reason, each.customer_id) for each in reports] == (
        [] if has_scope else [("unattributed", None)]
    )


@pytest.mark.parametrize(
    ("name", "how"), [(name, how) for name, kind in ADAPTERS.items() for how in kind.ways_out]
)
def test_a_stream_that_is_left_is_reported(
    name: str, how: str, models: ModelServer, cnk: ClockNext, billed: Billed, reports: Reports
) -> None:
    ADAPTERS[name].imported()
    adapter = ADAPTERS[name](models.url, cnk)
    models.script(answer(adapter, text="word " * 200, bytes_per_second=adapter.pace))
    with cnk.billing(**WHO):  # type: ignore[arg-type]
        adapter.leave(how)
    reports.wait()
    assert [(each.reason, each.customer_id) for each in reports] == [("partial", "cus_123")]
    assert billed() == ()


def test_a_stream_that_breaks_after_its_first_chunk_is_reported(
    adapter: Adapter, models: ModelServer, cnk: ClockNext, billed: Billed, reports: Reports
) -> None:
    models.script(answer(adapter, text="word " * 20, cut_after=4), times=10)
    with cnk.billing(**WHO), pytest.raises(Exception, match=r".") as caught:  # type: ignore[arg-type]
        adapter.read()
    assert not isinstance(caught.value, AssertionError)
    del caught
    reports.wait()
    assert reasons(reports) == ["partial"]
    assert billed() == ()


def test_an_error_before_the_first_chunk_costs_nothing(
    adapter: Adapter, models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    models.script(Completion(status=400), times=10)
    with cnk.billing(**WHO):  # type: ignore[arg-type]
        for call in (adapter.complete, adapter.read):
            with pytest.raises(Exception, match=r"."):
                call()
    assert reports == []
    assert billed() == ()


def test_a_retry_inside_the_package_is_one_call(
    adapter: Adapter, models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    models.script(Completion(status=429, retry_after="0"), answer(adapter))
    with cnk.billing(**WHO):  # type: ignore[arg-type]
        adapter.complete()
        adapter.settle(1)
    assert counts(billed) == [(12, 7, 0)]
    assert reports == []


def test_calls_at_the_same_time_are_billed_to_their_own_scopes(
    adapter: Adapter, models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    members = ["a", "b", "c", "d"]
    models.script(*(answer(adapter) for _ in members))
    adapter.complete_in(members)
    adapter.settle(len(members))
    assert sorted(str(each.member) for each in billed()) == members
    assert reports == []


def test_a_pool_with_a_stale_context_bills_no_one(
    adapter: Adapter, models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    models.script(answer(adapter), answer(adapter))
    with ThreadPoolExecutor(1) as pool:
        with cnk.billing(**WHO):  # type: ignore[arg-type]
            stale = copy_context()
            pool.submit(stale.run, adapter.complete).result()
            adapter.settle(1)
        pool.submit(stale.run, adapter.complete).result()
        adapter.settle(1)
    assert counts(billed) == [(12, 7, 0)]
    assert [(each.reason, each.customer_id) for each in reports] == [("scope_ended", "cus_123")]


def test_without_a_scope_nobody_is_billed_and_what_it_used_is_reported(
    adapter: Adapter, models: ModelServer, billed: Billed, reports: list[Unbilled]
) -> None:
    models.script(answer(adapter))
    adapter.complete()
    adapter.settle(1)
    assert billed() == ()
    (report,) = reports
    assert report.reason == "unattributed"
    assert report.reading is not None
    assert (report.reading.tokens.input, report.reading.tokens.output) == (12, 7)


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_without_usage_is_reported(
    streamed: bool,
    adapter: Adapter,
    models: ModelServer,
    cnk: ClockNext,
    billed: Billed,
    reports: list[Unbilled],
) -> None:
    models.script(answer(adapter, has_usage=False))
    with cnk.billing(**WHO):  # type: ignore[arg-type]
        adapter.read() if streamed else adapter.complete()
        adapter.settle(1)
    assert billed() == ()
    assert reasons(reports) == ["no_usage"]


def test_each_request_of_a_tool_loop_is_billed(
    adapter: Adapter, models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    asked = answer(adapter, tool_calls=[ToolCall("look_up", {"what": "weather"})])
    models.script(asked, answer(adapter, input_tokens=20))
    with cnk.billing(**WHO):  # type: ignore[arg-type]
        adapter.read()
        adapter.complete()
        adapter.settle(2)
    assert counts(billed) == [(12, 7, 0), (20, 7, 0)]
    assert reports == []


def test_an_id_that_comes_twice_is_one_answer_if_it_can_be_trusted_and_two_if_not(
    adapter: Adapter, models: ModelServer, cnk: ClockNext, billed: Billed, reports: list[Unbilled]
) -> None:
    one = answer(adapter)
    small = adapter.prefix + "523"
    counted = [answer(adapter, response_id=small, input_tokens=number) for number in (30, 31, 30)]
    models.script(one, one, *counted)
    with cnk.billing(**WHO):  # type: ignore[arg-type]
        for _ in range(5):
            adapter.complete()
        adapter.settle(5)
    assert counts(billed) == [(12, 7, 0), (30, 7, 0), (30, 7, 0), (31, 7, 0)]
    assert reasons(reports) == ["seen_already"]


def broken(unbilled: object) -> None:
    raise RuntimeError("a hook of the user's is broken")


@pytest.mark.parametrize("wound", ["models", "hook", "closed"])
def test_nothing_of_a_broken_meter_reaches_the_request(
    wound: str, request: pytest.FixtureRequest, models: ModelServer, service: EmulatorServer
) -> None:
    for name, kind in ADAPTERS.items():
        kind.imported()
        settings = {"models": broken} if wound == "models" else {"on_unbilled": broken}
        with ClockNext(service.api_key, base_url=service.url, **settings) as cnk:  # type: ignore[arg-type]
            adapter = kind(models.url, cnk)
            models.script(answer(adapter, has_usage=wound != "hook"), times=2)
            if wound == "closed":
                cnk.close()
            with cnk.billing(**WHO):  # type: ignore[arg-type]
                assert adapter.complete() == "One two three.", name
                assert adapter.read() == "One two three.", name
                adapter.settle(2)
            assert sum(cnk.stats().unbilled.values()) == (0 if wound == "closed" else 2), name
    assert service.ledger.signals == ()
