"""What a refusal says, word for word: people read it; it names the argument and what is wrong with it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from clocknext_core import Config, CreditSignal, OutcomeSignal, Tokens, ValidationError
from clocknext_core.checks import (
    check_bool,
    check_choice,
    check_email,
    check_id,
    check_instance,
    check_int,
    check_mapping,
    check_number,
    check_seconds,
    check_text,
)
from clocknext_core.operations import json_body, optional_limit, path_id, required_text
from clocknext_core.resources.binding import Blocking
from clocknext_core.resources.runs import Runs
from clocknext_core.resources.signals import Signals
from clocknext_core.resources.writes import check_agent_key
from clocknext_core.signals import encode
from clocknext_core.usage.meter import Meter
from clocknext_core.usage.reading import Reading, read
from tests.core.resources.support import FakeClient, unchecked
from tests.core.support import KEY, no_key

CLIENT = unchecked(FakeClient())
RUNS = Runs[Blocking](unchecked(SimpleNamespace(is_async=False, make_key=lambda: "run-1")))
SIGNALS = unchecked(Signals[Blocking](FakeClient()))
LEAST: dict[str, Any] = {"customer_id": "cus_1", "model": "m", "key": "k"}

READ = "A model's response is read by signals.from_response(response, …)"


def credit(**fields: Any) -> CreditSignal:
    return CreditSignal(**{**LEAST, **fields})


def encoded(**fields: Any) -> object:
    return encode(credit(**fields, idempotency_key="i"), no_key)


def step(key: str = "a", **fields: Any) -> None:
    with RUNS.start(customer_id="c", model="m", run_id="r" * 200) as run:
        run.step(key, **fields)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def cycle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


CHECKS: list[tuple[Callable[[], object], str]] = [
    (lambda: check_text("name", 7), "name: must be a string, not int"),
    (lambda: check_text("name", " "), "name: must not be blank"),
    (lambda: check_id("run_id", "x" * 256), "run_id: must be at most 255 characters, not 256"),
    (lambda: check_email("member", "a@"), "member: must be an e-mail address"),
    (lambda: check_int("limit", True, least=0), "limit: must be an integer, not bool"),
    (lambda: check_int("limit", 2**53, least=0), "limit: must be at most 2^53-1"),
    (lambda: check_int("limit", 4, least=5), "limit: must be at least 5"),
    (lambda: check_bool("active", 1), "active: must be True or False, not int"),
    (lambda: check_number("amount", "5"), "amount: must be a number, not str"),
    (lambda: check_number("amount", float("inf")), "amount: must be finite"),
    (lambda: check_seconds("timeout", -1), "timeout: must be at least 0 seconds"),
    (lambda: check_seconds("timeout", 0, positive=True), "timeout: must be more than 0 seconds"),
    (lambda: check_choice("mode", "x", ("a", "b")), "mode: must be one of 'a', 'b', not 'x'"),
    (lambda: check_choice("mode", 7, ("a",)), "mode: must be one of 'a', not an object of type int"),
    (lambda: check_instance("batch", {}, Config), "batch: must be a Config, not dict"),
    (lambda: check_mapping("custom", []), "custom: must be a mapping, not list"),
    (
        lambda: check_agent_key("agent_key", "Api"),
        "agent_key: must be lower case, of the characters a-z0-9._-, not 'Api'",
    ),
    (lambda: CLIENT.units.update("u", tiers="x"), "tiers: must be a list, not str"),
]

OPERATIONS: list[tuple[Callable[[], object], str]] = [
    (lambda: path_id("customer_id", ".."), "customer_id: must not be '..'"),
    (lambda: required_text("q", "\ud800"), "q: holds a lone surrogate, which is not text"),
    (lambda: optional_limit(-1), "limit: must be at least 0"),
    (
        lambda: json_body({"name": "N", "base_price": "\ud800"}),
        "base_price: can't be encoded as JSON: holds a lone surrogate, which is not text",
    ),
    (
        lambda: CLIENT.customers.credit_balance("c"),
        "credit_id: give exactly one of credit_id and credit_name",
    ),
    (
        lambda: CLIENT.customers.unit_balance("c", unit_id="u", unit_name="U"),
        "unit_id: give exactly one of unit_id and unit_name",
    ),
]

KNOWN_COUNTS = (
    "known are input, output and cache. A model's response is read by signals.from_response(response, …)"
)
SIGNAL: list[tuple[Callable[[], object], str]] = [
    (
        lambda: Tokens.of(unchecked({"inputs": 5})),
        f"tokens: has the unknown key 'inputs'; {KNOWN_COUNTS}",
    ),
    (
        lambda: Tokens.of(unchecked({7: 5})),
        f"tokens: has the unknown key an object of type int; {KNOWN_COUNTS}",
    ),
    (lambda: Tokens.of(unchecked(7)), f"tokens: must be a mapping, not int. {READ}"),
    (lambda: Tokens(cache=-1), "tokens.cache: must be at least 0"),
    (lambda: credit(status="LOST"), "status: must be one of 'SUCCESS', 'FAILURE', 'PENDING', not 'LOST'"),
    (lambda: credit(key=None), "key: is required: give key or agent_key"),
    (
        lambda: credit(agent_key="a"),
        "key: must not be given together with agent_key: give exactly one",
    ),
    (lambda: credit(metric={"ref": "r"}), "metric: must have exactly the keys ref and value"),
    (
        lambda: credit(metric={"ref": "customerId", "value": 1}),
        "metric.ref: must not be 'customerId', a field of the signal itself",
    ),
    (lambda: credit(metric={"ref": " ", "value": 1}), "metric.ref: must not be blank"),
    (
        lambda: OutcomeSignal(**LEAST, complete=unchecked("yes")),
        "complete: must be True or False, not str",
    ),
    (lambda: encode(unchecked({}), no_key), "signal: must be a Signal, not dict"),
    (
        lambda: encoded(custom={"a": object()}),
        "custom: can't be encoded as JSON: Object of type object is not JSON serializable, at ['a']",
    ),
    (
        lambda: encoded(member="\ud800@b.c"),
        "member: can't be encoded as JSON: holds a lone surrogate, which is not text",
    ),
    (
        lambda: encoded(metric={"ref": "pages", "value": nested(100_000)}),
        "metric: can't be encoded as JSON: is nested too deeply",
    ),
    (
        lambda: encoded(metric={"ref": "r", "value": [1, {"x": object()}]}),
        "metric: can't be encoded as JSON: Object of type object is not JSON serializable, at [1]['x']",
    ),
    (
        lambda: encoded(custom={"a": 1, "b": ({"c": cycle()},)}),
        "custom: can't be encoded as JSON: is nested too deeply",
    ),
    (
        lambda: encoded(custom={"b": {(1, 2): 3}}),
        "custom: can't be encoded as JSON: keys must be str, int, float, bool or None, not tuple, at ['b']",
    ),
    (lambda: encoded(custom={"a": "x" * 32_768}), "custom: must be at most 32768 bytes once encoded"),
    (
        lambda: encoded(metric={"ref": "r", "value": "x" * 65_536}),
        "signal: must be at most 65536 bytes once encoded",
    ),
    (
        lambda: SIGNALS.from_response({}, customer_id="c", type="credit", run_id="r"),
        "run_id: does not belong to a credit signal",
    ),
    (
        lambda: SIGNALS.from_response({}, customer_id="c", type="wallet", key="k"),
        "key: does not belong to a wallet signal",
    ),
]

RUN: list[tuple[Callable[[], object], str]] = [
    (
        lambda: step(custom={"a": {1, 2}}),
        "custom: can't be encoded as JSON: Object of type set is not JSON serializable, at ['a']",
    ),
    (
        lambda: step("a" * 60),
        "key: is too long together with run_id: their idempotency key has 255 characters",
    ),
    (lambda: step(ordinal=0), "ordinal: must be at least 1"),
]

USAGE: list[tuple[Callable[[], object], str]] = [
    (
        lambda: read({"type": "message_start"}),
        (
            "response: is not final, it is the first event of a stream, whose output count has only begun; "
            "give "
            "the last chunk or the final message (Anthropic: get_final_message()), or meter the stream with "
            "signals.from_stream()"
        ),
    ),
    (
        lambda: read({"text": "x"}),
        (
            "response: has no token usage that is known: dict with the keys 'text'. Of a stream, give "
            "the last chunk; OpenAI has to be asked for usage there, "
            'with stream_options={"include_usage": True}'
        ),
    ),
    (
        lambda: read({"usage": SimpleNamespace(speed=1, minute=None)}),
        (
            "response: has token usage of an unknown shape: SimpleNamespace with the attributes 'speed', "
            "'minute'"
        ),
    ),
    (
        lambda: read({"usage": {"input_tokens": None, "output_tokens": 1}}),
        (
            "response.usage: has no prompt count (input_tokens, prompt_tokens), so the whole prompt would go "
            "unbilled: give the final message (Anthropic: stream.get_final_message()), the last chunk "
            "(Gemini, "
            "Mistral), or the provider's own response where a gateway or a framework lost the count"
        ),
    ),
    (
        lambda: read({"usage": {"prompt_tokens": 1.5}}),
        "response.usage.prompt_tokens: must be an integer, not float",
    ),
    (
        lambda: Meter().model_of(Reading(tokens=Tokens())),
        "model: is required, since the response names none",
    ),
    (
        lambda: read({f"{n:02}" + "x" * 50: n for n in range(20)}),
        (
            "response: has no token usage that is known: dict with the keys "
            + ", ".join(repr(f"{n:02}" + "x" * 38) for n in range(20))
            + ". Of a stream, give the last chunk; OpenAI has to be asked for usage there, "
            'with stream_options={"include_usage": True}'
        ),
    ),
    (
        lambda: read({f"{n:02}": n for n in range(21)}),
        (
            "response: has no token usage that is known: dict with the keys "
            + ", ".join(repr(f"{n:02}") for n in range(20))
            + ", …. Of a stream, give the last chunk; OpenAI has to be asked for usage there, "
            'with stream_options={"include_usage": True}'
        ),
    ),
]

CONFIG: list[tuple[Callable[[], object], str]] = [
    (lambda: Config(unchecked(None)), "api_key: must be a string, not NoneType"),
    (lambda: Config(""), "api_key: must not be empty"),
    (
        lambda: Config("cnk x"),
        "api_key: must consist of visible ASCII characters, without spaces or line ends",
    ),
    (lambda: Config(KEY, unchecked(7)), "base_url: must be a string, not int"),
    (lambda: Config(KEY, "https://[::1"), "base_url: is not a URL: Invalid IPv6 URL"),
    (
        lambda: Config(KEY, "ftp://a.example"),
        "base_url: must be an absolute https:// URL, such as https://app.clocknext.com",
    ),
    (lambda: Config(KEY, "https://a.example:0"), "base_url: must not have port 0"),
    (lambda: Config(KEY, "https://me@a.example"), "base_url: must not hold a user name or password"),
    (lambda: Config(KEY, "https://a.example/?a=1"), "base_url: must not have a query or fragment"),
    (lambda: Config(KEY, "https://a.example/é"), "base_url: must have its path percent-encoded"),
    (
        lambda: Config(KEY, "http://a.example"),
        (
            "base_url: must use https: plain http would send the API key in the clear "
            "(it is allowed to loopback addresses, elsewhere with allow_insecure_http=True or "
            "CLOCKNEXT_ALLOW_INSECURE_HTTP=1)"
        ),
    ),
    (lambda: Config(KEY, "https://[fe80::1%25x]"), "base_url: has no valid IPv6 address"),
    (lambda: Config(KEY, "https://a..example"), "base_url: has no valid host name"),
    (
        lambda: Config(KEY, "https://a b.example"),
        "base_url: must not hold blanks, tabs, line ends or other control characters",
    ),
]


@pytest.mark.parametrize(
    ("refused", "message"),
    [*CHECKS, *OPERATIONS, *SIGNAL, *RUN, *USAGE, *CONFIG],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_refusal(refused: Callable[[], object], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        refused()
    assert caught.value.message == str(caught.value) == message


def test_other_errors() -> None:
    with pytest.raises(TypeError, match=r"^got an unexpected keyword argument 'colour'$"):
        CLIENT.customers.update("c", colour="red")
    run = RUNS.start(customer_id="c", model="m")
    with pytest.raises(RuntimeError, match=r"^Steps are taken inside the run's `with` block\.$"):
        run.step("a")
    with run, pytest.raises(RuntimeError, match=r"^The run's block has begun already\.$"):
        run.__enter__()
    with RUNS.start(customer_id="c") as begun, pytest.raises(ValidationError) as caught:
        begun.step("a")
    assert str(caught.value) == "model: is required: give it to the step, or to the run for all steps"
