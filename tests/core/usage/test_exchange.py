"""Keys of exchanges, the memory of them, who is billed, and which model's name is recorded."""

import functools
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from clocknext_core import Tokens, ValidationError
from clocknext_core.usage import attribution
from clocknext_core.usage.attribution import REASONS, Attribution, Origin, Scope, Unbilled, start_call
from clocknext_core.usage.catalogue import candidates, check_model_names, match, renamed, without_date
from clocknext_core.usage.exchange import Seen, exchange_key, is_trusted
from clocknext_core.usage.reading import Reading

WHO = Attribution(customer_id="cus_1", key="chat_credit")

KEYS = [
    "x-1c37a1e6c1bef180397d74ae20fa6d941cb3caef",
    "x-e3638f12fa4d76a7a123b2a547d75902caa95c6f",
    "x-34bfc394f0b0bff869a5505a8e9d530d4b643f85",
    "x-b24f745a894d0a0b9fdafd9abbd120563100bb8c",
]


def reading(
    response_id: str | None, *, cache: int | None = 3, output: int = 5, model: str = "gpt-4o"
) -> Reading:
    return Reading(tokens=Tokens(input=9, output=output, cache=cache), model=model, response_id=response_id)


def key(read: Reading, who: Attribution = WHO, origin: Origin | None = None) -> str:
    numbers = count(1)
    return exchange_key(read, who, make_key=lambda: f"random-{next(numbers)}", origin=origin)


@pytest.mark.parametrize(
    ("response_id", "expected"),
    [
        ("chatcmpl-Bx7aQ2mPzK4", True),
        ("resp_68af4030592c81938ec0a5fbab4a3e9f05438e46b5f69a3b", True),
        ("msg_01XFDUDYJgAACzvnptvVoYEL", True),
        ("gen-1743000000-abcdef", True),
        ("cmpl-1234567890123", True),
        ("8f14e45f-ceea-467f-a0e6-5bd1f4b5c3d2", True),
        ("chatcmpl-77aa88bb", True),
        (None, False),
        ("", False),
        (" ", False),
        ("1", False),
        ("chatcmpl-1", False),
        ("chatcmpl-523", False),
        ("chatcmpl-999999999", False),
        ("__fake_id__", False),
        ("fake-response-id-123", False),
        ("null", False),
        ("00000000-0000-0000-0000-000000000000", False),
        ("resp_placeholder_abcdef", False),
        ("abcdefgh", True),
        ("abcdefg", False),
        ("chatcmpl-123456a", False),
        ("chatcmpl-1234567a", True),
        ("chatcmpl_1234567", False),
        ("msg_-_1234567", False),
        ("MSG-1234567A", True),
        ("chatcmpl-123456789", False),
        ("chatcmpl-1234567890", True),
        ("0a0a0a0a0a", True),
        ("x-00000000_00000000", False),
        (" Example-1234567a ", False),
    ],
)
def test_ids_that_tell_a_response_from_others(response_id: str | None, expected: bool) -> None:
    assert is_trusted(response_id) is expected


def test_a_trusted_id_counts_with_customer_type_and_key_alone() -> None:
    first = key(reading("chatcmpl-77aa88bb"))
    assert first == key(reading("chatcmpl-77aa88bb", cache=None, output=6, model="openai/gpt-4o"))
    scope = Scope("job-1", WHO)
    assert first == key(reading("chatcmpl-77aa88bb"), origin=scope.start_call())
    others = [
        reading("chatcmpl-77aa88bc"),
        *(reading("chatcmpl-77aa88bb") for _ in range(4)),
    ]
    whose = [
        WHO,
        Attribution(customer_id="cus_2", key="chat_credit"),
        Attribution(customer_id="cus_1", key="other"),
        Attribution(customer_id="cus_1", type="outcome", key="chat_credit"),
        Attribution(customer_id="cus_1", type="wallet"),
    ]
    keys = [key(read, who) for read, who in zip(others, whose, strict=True)]
    assert len({first, *keys}) == 6
    assert all(8 < len(each) <= 255 for each in keys)
    assert (
        key(reading("chatcmpl-77aa88bb"), Attribution(customer_id="cus_1", agent_key="chat_credit")) == first
    )


def test_keys_are_the_same_in_every_version() -> None:
    """A process that is updated must find the keys of what it has billed before."""
    scope = Scope("job-1", WHO)
    assert [
        key(reading("chatcmpl-77aa88bb")),
        key(reading("1")),
        key(reading("1"), origin=scope.start_call()),
        key(reading(None), origin=scope.start_call()),
    ] == KEYS


def test_the_counts_join_where_the_id_is_not_trusted() -> None:
    first = key(reading("chatcmpl-1"))
    assert first == key(reading("chatcmpl-1", model="other"))
    assert first == key(reading("chatcmpl-1"))
    assert key(reading("chatcmpl-1", cache=None)) == key(reading("chatcmpl-1", cache=0))
    assert key(reading("chatcmpl-1", cache=None)) != key(reading("chatcmpl-1", cache=1))
    others = [
        key(reading("chatcmpl-2")),
        key(reading("")),
        key(reading("chatcmpl-1", output=6)),
        key(reading("chatcmpl-1", cache=4)),
        key(reading("chatcmpl-1"), origin=Scope("job-1", WHO).start_call()),
        key(reading("chatcmpl-1"), origin=Scope("job-2", WHO).start_call()),
    ]
    assert len({first, *others}) == 7


def test_the_time_joins_where_the_id_is_not_trusted_and_there_is_no_scope() -> None:
    """Ollama draws one of a thousand ids: a customer who asks the same again has the same counts."""
    first = replace(reading("chatcmpl-523"), created_at=1_700_000_000)
    later = replace(first, created_at=1_700_000_001)
    assert key(first) == key(first)
    assert len({key(first), key(later), key(reading("chatcmpl-523"))}) == 3
    # Layers of one call may not all know the time; there the scope tells calls apart.
    by_hand = Origin(attribution=WHO, scope_id="job-1")
    assert key(first, origin=by_hand) == key(later, origin=by_hand)
    trusted = replace(reading("chatcmpl-77aa88bb"), created_at=1_700_000_000)
    assert key(trusted) == KEYS[0]


@pytest.mark.parametrize(
    "response_id", ["__fake_id__", "", " ", "resp_placeholder_abcdef", "0", "0000-0000", "UNKNOWN"]
)
def test_a_constant_is_told_apart_by_the_client_that_recorded_it(response_id: str) -> None:
    def made(read: Reading, client: str) -> str:
        return exchange_key(read, WHO, make_key=str, known_by=lambda: client)

    one = reading(response_id)
    assert made(one, "client-1") == made(one, "client-1")
    assert made(one, "client-1") != made(one, "client-2")
    # What tells by itself needs no client: another one finds the key again.
    for other in (replace(one, created_at=1_700_000_000), reading("chatcmpl-523"), reading("1")):
        assert made(other, "client-1") == made(other, "client-2") == key(other)


def test_calls_of_a_scope_that_look_alike_are_numbered_and_found_again_in_any_order() -> None:
    """A placeholder with the same counts is another call, and charged as one."""
    one, other = reading("__fake_id__"), reading("__fake_id__", output=6)
    scope, again = Scope("job-1", WHO), Scope("job-1", WHO)
    keys = [key(each, origin=scope.start_call()) for each in (one, one, other, one)]
    assert len(set(keys)) == 4
    assert {key(each, origin=again.start_call()) for each in (other, one, one, one)} == set(keys)
    # What is handed over by hand may be handed over again, and has the first one's key.
    by_hand = Origin(attribution=WHO, scope_id="job-1")
    assert [key(one, origin=by_hand) for _ in range(2)] == [keys[0]] * 2


def test_a_call_without_a_scope_has_a_key_of_its_own_where_its_id_does_not_tell() -> None:
    made = map("random-{}".format, count(1))
    origins = [start_call(None, WHO) for _ in range(2)]
    keys = [exchange_key(reading("1"), WHO, make_key=made.__next__, origin=each) for each in origins]
    assert keys == ["random-1", "random-2"]
    assert key(reading("chatcmpl-77aa88bb"), origin=origins[0]) == KEYS[0]


def test_a_scope_of_many_exchanges_numbers_the_first_and_tells_the_rest_apart_by_their_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attribution, "MOST_ALIKE", 2)
    scope = Scope("job-1", WHO)
    outputs = [1, 2, 1, 3, 3, 2]
    origins = [scope.start_call() for _ in outputs]
    keys = [
        key(reading("1", output=output), origin=each) for output, each in zip(outputs, origins, strict=True)
    ]
    assert len(set(keys)) == 6
    assert origins[0].alike is not None
    assert len(origins[0].alike) == 2


def test_a_scope_and_the_place_in_it_count_without_an_id() -> None:
    scope = Scope("job-1", WHO)
    calls = [scope.start_call(), scope.start_call()]
    keys = [key(reading(None), origin=origin) for origin in calls]
    assert len(set(keys)) == 2
    again = Scope("job-1", WHO)
    assert keys == [key(reading(None, output=7), origin=again.start_call()) for _ in range(2)]


def test_a_random_key_where_nothing_tells() -> None:
    assert key(reading(None)) == "random-1"
    assert key(reading(None), origin=Origin(attribution=WHO)) == "random-1"


def test_what_was_seen_is_remembered_up_to_a_limit() -> None:
    seen = Seen(limit=2)
    assert [seen.add(each) for each in ("a", "a", "b", "a", "c", "a")] == [
        True,
        False,
        True,
        False,
        True,
        True,
    ]
    assert len(seen) == 2
    seen.forget("a")
    seen.forget("never")
    assert seen.add("a")
    with pytest.raises(ValidationError, match=r"^limit: must be at least 1"):
        Seen(limit=0)


def test_the_reasons_are_seven() -> None:
    assert len(set(REASONS)) == 7
    assert Unbilled(reason="no_usage") == Unbilled(
        reason="no_usage", reading=None, customer_id=None, detail=""
    )


@pytest.mark.parametrize(
    ("argument", "arguments"),
    [
        ("customer_id", {"customer_id": ""}),
        ("type", {"type": "unit"}),
        ("key", {"key": None}),
        ("key", {"key": ""}),
        ("key", {"agent_key": "a"}),
        ("agent_key", {"key": None, "agent_key": " "}),
        ("key", {"type": "wallet"}),
        ("agent_key", {"type": "wallet", "key": None, "agent_key": "a"}),
        ("run_id", {"run_id": "r"}),
        ("complete", {"complete": True}),
        ("run_id", {"type": "outcome", "run_id": ""}),
        ("complete", {"type": "outcome", "complete": 1}),
        ("member", {"member": " "}),
        ("custom", {"custom": 3}),
        ("custom", {"custom": {"a": {"__proto__": 1}}}),
        ("custom", {"custom": {"constructor": {"prototype": 1}}}),
        ("custom", {"custom": {"a": {1}}}),
        ("custom", {"custom": {"a": "x" * 32 * 1024}}),
        ("custom", {"type": "wallet", "key": None, "custom": {"a": float("nan")}}),
    ],
)
def test_an_attribution_is_checked_when_it_is_made(argument: str, arguments: dict[str, Any]) -> None:
    defaults: dict[str, Any] = {"customer_id": "cus_1", "key": "k"}
    with pytest.raises(ValidationError, match=f"^{argument}: "):
        Attribution(**defaults | arguments)


def test_an_attribution_of_each_type() -> None:
    assert Attribution(customer_id="c", type="wallet", member="a@b.c", custom={"f": 1}).key is None
    assert Attribution(customer_id="c", type="outcome", agent_key="a.b", run_id="r", complete=True).complete


def test_a_scope_is_captured_when_the_call_starts() -> None:
    scope = Scope("job-1", WHO)
    before = scope.start_call()
    scope.end()
    assert scope.has_ended
    assert (before.attribution, before.scope_id, before.ordinal, before.unbilled) == (WHO, "job-1", 1, None)
    after = scope.start_call()
    assert (after.attribution, after.unbilled, after.customer_id) == (None, "scope_ended", "cus_1")
    assert "cus_1" in repr(scope)
    with pytest.raises(ValidationError, match=r"^id: "):
        Scope("", WHO)


def test_who_is_named_with_the_call_goes_before_the_scope() -> None:
    scope = Scope("job-1", WHO)
    other = Attribution(customer_id="cus_2", type="wallet")
    assert start_call(scope) == Origin(attribution=WHO, scope_id="job-1", ordinal=1)
    assert start_call(scope, other) == Origin(attribution=other, scope_id="job-1", ordinal=2)
    assert start_call(None, other) == Origin(attribution=other)
    scope.end()
    assert start_call(scope, other) == Origin(attribution=other)
    assert start_call(scope).unbilled == "scope_ended"
    assert start_call(None) == Origin(unbilled="unattributed")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("claude-3-5-haiku-20241022", "claude-3-5-haiku"),
        ("claude-sonnet-4@20250514", "claude-sonnet-4"),
        ("anthropic.claude-3-haiku-20240307-v1:0", "anthropic.claude-3-haiku"),
        ("gpt-3.5-turbo-0125", "gpt-3.5-turbo"),
        ("gpt-4-0613", "gpt-4"),
        ("mistral-large-2411", "mistral-large"),
        ("command-r-08-2024", "command-r"),
        ("gemini-2.5-flash-preview-05-20", "gemini-2.5-flash-preview"),
        ("gpt-4o", "gpt-4o"),
        ("claude-sonnet-4-5", "claude-sonnet-4-5"),
        ("gemini-2.0-flash-001", "gemini-2.0-flash-001"),
        ("text-embedding-3-small", "text-embedding-3-small"),
        ("text-embedding-ada-002", "text-embedding-ada-002"),
        ("phi-3-mini-128k-instruct", "phi-3-mini-128k-instruct"),
        ("gpt-4-1399", "gpt-4-1399"),
        ("-2024-08-06", "-2024-08-06"),
    ],
)
def test_a_date_at_the_end_is_dropped(name: str, expected: str) -> None:
    assert without_date(name) == expected


def test_names_of_the_catalogue() -> None:
    name = "gpt-4o-2024-08-06"
    assert renamed(name, without_date) == renamed(name, "undated") == "gpt-4o"
    assert renamed(name, None) == name
    assert renamed(name, {name: "four", "gpt-4o": "less exact"}) == "four"
    assert renamed(name, {"gpt-4o": "four"}) == "four"
    assert renamed(name, {"other": "o"}) == name
    half = {"gpt-4o:batch": "half", "gpt-4o": "full", f"{name}:flex": "dated"}
    assert [renamed(name, half, tier=tier) for tier in ("batch", "flex", "priority", None)] == [
        "half",
        "dated",
        "full",
        "full",
    ]
    assert renamed(name, None, tier="batch") == name
    assert renamed(name, str.upper) == name.upper()
    assert renamed(name, "workspace") == "gpt-4o"
    assert renamed(name, "workspace", [name, "gpt-4o"]) == name
    assert renamed(name, "workspace", ["other"]) == "gpt-4o"
    with pytest.raises(ValidationError, match=r"^models\(name\): must be a string"):
        renamed(name, lambda _: 3)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("gpt-4o-2024-08-06", ["gpt-4o-2024-08-06", "gpt-4o"], "gpt-4o-2024-08-06"),
        ("gpt-4o-2024-08-06", ["GPT-4o"], "GPT-4o"),
        ("openai/gpt-4o-2024-08-06", ["gpt-4o-2024-08-06"], "gpt-4o-2024-08-06"),
        ("openai/gpt-4o-2024-08-06", ["gpt-4o"], "gpt-4o"),
        ("openrouter/openai/gpt-4o", ["gpt-4o"], "gpt-4o"),
        ("models/gemini-2.5-flash", ["gemini-2.5-flash"], "gemini-2.5-flash"),
        ("us.anthropic.claude-3-haiku-20240307-v1:0", ["claude-3-haiku"], "claude-3-haiku"),
        (
            "anthropic.claude-3-haiku-20240307-v1:0",
            ["claude-3-haiku-20240307-v1:0"],
            "claude-3-haiku-20240307-v1:0",
        ),
        ("gpt-4.1-2025-04-14", ["gpt-4.1"], "gpt-4.1"),
        ("gpt-4.1-2025-04-14", ["gpt-4"], None),
        ("gpt-4o", [], None),
    ],
)
def test_a_name_is_found_in_a_catalogue(name: str, known: list[str], expected: str | None) -> None:
    assert match(name, known) == expected


def test_candidates_begin_with_the_exact_name() -> None:
    names = list(candidates("openai/gpt-4o-2024-08-06"))
    assert names == ["openai/gpt-4o-2024-08-06", "openai/gpt-4o", "gpt-4o-2024-08-06", "gpt-4o"]


def test_what_models_may_be() -> None:
    for models in (None, "undated", "workspace", without_date, {"a": "b"}, {}):
        assert check_model_names(models) is models
    for wrong in ("catalogue", 3, {"a": 3}, {"a": ""}, {3: "a"}):
        with pytest.raises(ValidationError, match=r"^models: must"):
            check_model_names(wrong)
    with pytest.raises(
        ValidationError, match=r"^models: must map names to names: an object of type int is none$"
    ):
        check_model_names({3: "a"})


class Awaited:
    async def __call__(self, name: str) -> str:
        return name


async def asked_elsewhere(name: str) -> str:
    return name


@pytest.mark.parametrize("function", [asked_elsewhere, Awaited()])
def test_a_function_of_names_is_not_awaited(function: object) -> None:
    with pytest.raises(ValidationError, match=r"^models: must be a plain function: it is not awaited$"):
        check_model_names(function)


def without_a_name() -> str:
    return "gpt-4o"


def with_a_tier(name: str, tier: str) -> str:
    return f"{name}:{tier}"


def by_keyword(*, name: str) -> str:
    return name


@pytest.mark.parametrize("function", [without_a_name, with_a_tier, by_keyword])
def test_a_function_of_names_takes_a_name(function: object) -> None:
    called = r"^models: must take what it is called with, by position: \(name\)$"
    with pytest.raises(ValidationError, match=called):
        check_model_names(function)


def with_a_default(name: str, tier: str = "") -> str:
    return name + tier


def of_any(*names: str) -> str:
    return names[0]


@functools.wraps(without_a_name)
def decorated(name: str) -> str:
    return name


MAPPED: dict[str, str] = {}


# The last ones are of C, and can't be asked what they take.
@pytest.mark.parametrize(
    "function", [with_a_default, of_any, decorated, MAPPED.get, functools.lru_cache(decorated), str]
)
def test_a_function_of_names_that_can_be_called_is_taken(function: object) -> None:
    assert check_model_names(function) is function
