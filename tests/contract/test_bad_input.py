"""Bad arguments, one at a time: an error at the call that names it, nothing queued, nothing sent."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, cast

import httpx
import pytest

from clocknext_core import (
    BatchPolicy,
    ClockNextError,
    CreditSignal,
    OutcomeSignal,
    RetryPolicy,
    Tokens,
    ValidationError,
    WalletSignal,
)
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from clocknext_transports.emulator import scripted
from clocknext_transports.httpx import AsyncHttpxTransport, HttpxTransport
from tests.contract.answers import by_key, found, record, sent_to
from tests.contract.worlds import KEY, PATIENT_BATCH, World

Arguments: TypeAlias = Mapping[str, object]
Case: TypeAlias = tuple[str, Arguments]
"""The argument that the error must name, and what is given in place of good ones."""

CYCLE: dict[str, object] = {}
CYCLE["self"] = CYCLE
SURROGATE = "\ud800"
NOT_TEXTS: tuple[object, ...] = (None, "", "  ", 7, b"x", ["x"])
NOT_IDS: tuple[object, ...] = (*NOT_TEXTS, ".", "..", SURROGATE)
NOT_COUNTS: tuple[object, ...] = (-1, 1.5, 1.0, "1", True, 2**53, float("nan"))
NOT_LIMITS: tuple[object, ...] = (-1, 1.5, "1", True, 10**5000)

GOOD_WALLET: Arguments = {"customer_id": "cus_123", "model": "gpt-4o"}
GOOD_CREDIT: Arguments = {**GOOD_WALLET, "key": "api_credit"}
GOOD_CUSTOMER: Arguments = {"name": "Acme", "email": "ops@acme.com"}
TEXT_FIELDS = (
    *("description", "website", "phone", "legal_name", "address_line1", "address_line2", "city", "state"),
    *("country", "pincode", "tax_id", "notes", "logo_url", "currency_code"),
)


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def each(argument: str, *values: object) -> list[Case]:
    return [(argument, {argument: value}) for value in values]


SIGNAL_CASES: list[Case] = [
    *each("customer_id", *NOT_TEXTS, SURROGATE),
    *each("model", *NOT_TEXTS, SURROGATE),
    *each("tokens", 5, "input=1", [1, 2], {"prompt": 1}, {"input": 1, "total": 2}),
    *[
        (f"tokens.{name}", {"tokens": {name: bad}})
        for name in ("input", "output", "cache")
        for bad in NOT_COUNTS
    ],
    *each("member", " ", "\t\n", 7, ["alice"], SURROGATE),
    *each("status", "OK", "success", 1, ["SUCCESS"]),
    *each("custom", [1], "text", 5),
    *each("custom", {"n": float("nan")}, {"n": float("inf")}, {"o": object()}, {"s": SURROGATE}, CYCLE),
    *each("custom", {"b": b"bytes"}, {"s": {1, 2}}, {"long": "x" * 32 * 1024}, {(1, 2): 3}),
    *each("custom", {"a": [{"__proto__": 1}]}, {"constructor": {"prototype": 1}}, {"deep": nested(100)}),
    *each("idempotency_key", "", "  ", "x" * 256, 7, SURROGATE),
    *each("metric", {"ref": "pages"}, {"value": 1}, {"ref": "pages", "value": 1, "unit": "x"}, 5, "pages"),
    ("metric.ref", {"metric": {"ref": "customerId", "value": 1}}),
    ("metric.ref", {"metric": {"ref": " ", "value": 1}}),
    ("metric.ref", {"metric": {"ref": 7, "value": 1}}),
    ("metric.ref", {"metric": {"ref": "__proto__", "value": 1}}),
    *each("wait", "yes", 1, 0),
]
KEY_CASES: list[Case] = [
    *each("key", None, "", " ", 7, SURROGATE),
    ("agent_key", {"key": None, "agent_key": ""}),
    ("agent_key", {"key": None, "agent_key": 7}),
    ("key", {"key": "a", "agent_key": "b"}),
]
UNSENDABLE_METRIC: list[Case] = each("metric", {"ref": "pages", "value": float("nan")})
OUTCOME_CASES: list[Case] = [
    *each("run_id", "", " ", "x" * 256, 7, SURROGATE),
    *each("complete", "true", 1, 0),
]
DETAIL_CASES: list[Case] = [case for name in TEXT_FIELDS for case in each(name, 7, True, ["x"], SURROGATE)]
NAME_CASES: list[Case] = [*each("name", *NOT_TEXTS, SURROGATE), *each("email", *NOT_TEXTS, SURROGATE)]

Method: TypeAlias = Callable[[Any, Arguments], Awaitable[object]]

METHODS: dict[str, tuple[Method, Arguments, list[Case]]] = {
    "signals.credit": (
        lambda client, given: client.signals.credit(**given),
        GOOD_CREDIT,
        [*SIGNAL_CASES, *KEY_CASES, *UNSENDABLE_METRIC],
    ),
    "signals.wallet": (lambda client, given: client.signals.wallet(**given), GOOD_WALLET, SIGNAL_CASES),
    "signals.outcome": (
        lambda client, given: client.signals.outcome(**given),
        GOOD_CREDIT,
        [*SIGNAL_CASES, *KEY_CASES, *OUTCOME_CASES, *UNSENDABLE_METRIC],
    ),
    "signals.track": (
        lambda client, given: client.signals.track(given["signal"], wait=given.get("wait")),
        {"signal": WalletSignal(customer_id="cus_123", model="gpt-4o")},
        [*each("signal", None, {"customer_id": "cus_123"}, "signal", WalletSignal), *each("wait", "no", 0)],
    ),
    "signals.list": (
        lambda client, given: client.signals.list(**given),
        {"customer_id": "cus_123"},
        [*each("customer_id", *NOT_TEXTS, SURROGATE), *each("limit", *NOT_LIMITS)],
    ),
    "customers.create": (
        lambda client, given: client.customers.create(**given),
        GOOD_CUSTOMER,
        [*NAME_CASES, *DETAIL_CASES],
    ),
    "customers.get": (
        lambda client, given: client.customers.get(given["customer_id"]),
        {},
        each("customer_id", *NOT_IDS),
    ),
    "customers.update": (
        lambda client, given: client.customers.update(
            given.get("customer_id", "cus_1"),
            **{name: given[name] for name in given if name != "customer_id"},
        ),
        {},
        [*each("customer_id", *NOT_IDS), *NAME_CASES, *DETAIL_CASES],
    ),
    "customers.delete": (
        lambda client, given: client.customers.delete(given["customer_id"]),
        {},
        each("customer_id", *NOT_IDS),
    ),
    "customers.list": (
        lambda client, given: client.customers.list(**given),
        {},
        [*each("limit", *NOT_LIMITS), *each("q", 7, SURROGATE), *each("cursor", 7, SURROGATE)],
    ),
    "customers.iterate": (
        lambda client, given: client.customers.iterate(**given),
        {},
        [*each("limit", *NOT_LIMITS), *each("q", 7, SURROGATE)],
    ),
    "customers.usage": (
        lambda client, given: client.customers.usage(
            given.get("customer_id", "cus_1"), limit=given.get("limit")
        ),
        {},
        [*each("customer_id", *NOT_TEXTS, SURROGATE), *each("limit", *NOT_LIMITS)],
    ),
    "customers.balances": (
        lambda client, given: client.customers.balances(given["customer_id"]),
        {},
        each("customer_id", *NOT_IDS),
    ),
    "customers.plan": (
        lambda client, given: client.customers.plan(given["customer_id"]),
        {},
        each("customer_id", *NOT_IDS),
    ),
    "customers.revenue": (
        lambda client, given: client.customers.revenue(
            given.get("customer_id", "cus_1"), range=given.get("range")
        ),
        {},
        [*each("customer_id", *NOT_IDS), *each("range", 30, " ", SURROGATE)],
    ),
    "portal.create_token": (
        lambda client, given: client.portal.create_token(**given),
        {"customer_id": "cus_1"},
        [
            *each("customer_id", *NOT_TEXTS, SURROGATE),
            *each("ttl_seconds", 0, -1, 1.5, "600", True),
            *each("member_email", "", "alice", 7, SURROGATE),
        ],
    ),
    "flush": (
        lambda client, given: client.flush(given["timeout"]),
        {},
        each("timeout", -1, float("nan"), float("inf"), "1", True),
    ),
    "close": (
        lambda client, given: client.close(given["timeout"]),
        {},
        each("timeout", -1, float("nan"), float("inf"), "1", True),
    ),
}


def names(argument: str, error: ValidationError) -> bool:
    """Whether the message begins with the argument's name."""
    return re.match(rf"{re.escape(argument)}\b", str(error)) is not None


@pytest.mark.parametrize("method", METHODS)
async def test_a_bad_argument_is_refused_at_the_call(world: World, method: str) -> None:
    call, good, cases = METHODS[method]
    with scripted([by_key({"": found()})]) as server:
        async with world.open(server.url, batch=PATIENT_BATCH) as client:
            for argument, bad in cases:
                with pytest.raises(ValidationError) as caught:
                    await call(client, {**good, **bad})
                error = caught.value
                assert names(argument, error), f"{bad!r:.200}: {error}"
                assert issubclass(type(error), ValueError)
                assert (error.status, error.retryable) == (None, False)
                assert client.pending == 0
            assert sent_to(server) == []
            await record(client, "good")
            report = await client.flush()
            assert (report.delivered, list(report.failed), report.pending) == (1, [], 0)
        assert len(server.requests) == 1
    assert world.hooks.seen == [("on_flush", 1, None)]


@pytest.mark.parametrize("kind", [WalletSignal, CreditSignal, OutcomeSignal])
def test_a_signal_object_checks_its_arguments_when_it_is_made(
    kind: type[WalletSignal] | type[CreditSignal] | type[OutcomeSignal],
) -> None:
    good = GOOD_WALLET if kind is WalletSignal else GOOD_CREDIT
    encoding = {"custom", "metric"}  # what is in them is looked at when the signal is recorded
    for argument, bad in SIGNAL_CASES:
        if argument in encoding or "wait" in bad or SURROGATE in bad.values():
            continue
        with pytest.raises(ValidationError) as caught:
            kind(**cast("dict[str, Any]", {**good, **bad}))
        assert names(argument, caught.value)


@pytest.mark.parametrize("name", ["input", "output", "cache"])
def test_tokens_check_their_counts(name: str) -> None:
    for bad in NOT_COUNTS:
        with pytest.raises(ValidationError) as caught:
            Tokens(**cast("dict[str, Any]", {name: bad}))
        assert names(f"tokens.{name}", caught.value)


async def _coroutine_hook(*_: object) -> None:
    raise AssertionError("hooks are not awaited")


NOT_SECONDS: tuple[object, ...] = (-1, float("nan"), float("inf"), "1", True, None)
NOT_HOOKS: tuple[object, ...] = (7, "print", _coroutine_hook)
CLIENT_CASES: list[Case] = [
    *each("api_key", None, "", 7, "cnk_ with space", "cnk_\n", "cnk_ü"),
    *each("base_url", "", "app.clocknext.com", "ftp://a.example", "https://", 7, "https://user:pw@a.example"),
    *each(
        "base_url",
        "https://a.example/?q=1",
        "https://a.example/#x",
        "https://a.example:0",
        "http://a.example",
    ),
    *each(
        "base_url", "https://a.example:99999", "https://a b.example", "https://a.example/ü", "https://[::zz]"
    ),
    *each("mode", "batch", None, True),
    *each("timeout", 0, *NOT_SECONDS),
    *each("batch", {"max_size": 5}, 5),
    *each("retry", {"max_attempts": 5}, 5),
    *each("on_error", *NOT_HOOKS),
    *each("on_flush", *NOT_HOOKS),
    *each("on_retry", *NOT_HOOKS),
    *each("on_drop", *NOT_HOOKS),
    *each("allow_insecure_http", 1, "yes", None),
]


@pytest.mark.parametrize(("argument", "bad"), CLIENT_CASES, ids=lambda value: f"{value!s:.40}")
async def test_a_client_checks_its_arguments(world: World, argument: str, bad: Arguments) -> None:
    create: Any = world.create
    with pytest.raises(ValidationError) as caught:
        create(**{"url": "http://127.0.0.1:9", **_renamed(bad)})
    assert names(argument, caught.value), str(caught.value)
    assert issubclass(type(caught.value), ValueError)
    assert KEY not in str(caught.value)


def _renamed(bad: Arguments) -> Arguments:
    """Give the base URL under the name it has for a world."""
    return {"url" if name == "base_url" else name: value for name, value in bad.items()}


@pytest.mark.parametrize("kind", [ClockNext, AsyncClockNext, TrioClockNext])
def test_a_client_checks_its_transport(kind: Callable[..., object]) -> None:
    with httpx.Client(trust_env=False) as http:
        of_the_other_world = (
            AsyncHttpxTransport(httpx.AsyncClient(trust_env=False))
            if kind is ClockNext
            else HttpxTransport(http)
        )
        for bad in ("native", object(), http, HttpxTransport, AsyncHttpxTransport, of_the_other_world):
            with pytest.raises(ValidationError) as caught:
                kind(KEY, base_url="http://127.0.0.1:9", transport=bad)
            assert names("transport", caught.value)


@pytest.mark.parametrize("kind", [HttpxTransport, AsyncHttpxTransport])
def test_a_transport_of_httpx_checks_its_client(kind: Callable[..., object]) -> None:
    with httpx.Client(trust_env=False) as http:
        for bad in ("client", None, httpx.AsyncClient(trust_env=False) if kind is HttpxTransport else http):
            with pytest.raises(ValidationError) as caught:
                kind(bad)
            assert names("client", caught.value)


async def test_a_missing_key_names_the_argument_and_the_variable(world: World) -> None:
    with pytest.raises(ClockNextError, match="api_key") as caught:
        world.create("http://127.0.0.1:9", api_key=None)
    assert "CLOCKNEXT_API_KEY" in str(caught.value)


@pytest.mark.parametrize("name", ["max_size", "max_concurrency", "max_queue_size"])
def test_a_batch_policy_checks_its_numbers(name: str) -> None:
    for bad in (0, *NOT_COUNTS, None):
        with pytest.raises(ValidationError) as caught:
            BatchPolicy(**cast("dict[str, Any]", {name: bad}))
        assert names(name, caught.value)


@pytest.mark.parametrize("name", ["max_interval", "block_timeout"])
def test_a_batch_policy_checks_its_times(name: str) -> None:
    for bad in NOT_SECONDS:
        with pytest.raises(ValidationError) as caught:
            BatchPolicy(**cast("dict[str, Any]", {name: bad}))
        assert names(name, caught.value)


def test_a_batch_policy_checks_its_overflow() -> None:
    for bad in ("drop", None, 1):
        with pytest.raises(ValidationError) as caught:
            BatchPolicy(overflow=cast("Any", bad))
        assert names("overflow", caught.value)


def test_a_retry_policy_checks_its_numbers() -> None:
    cases = [
        *each("max_attempts", 0, *NOT_COUNTS, None),
        *each("base_delay", *NOT_SECONDS),
        *each("max_delay", *NOT_SECONDS),
    ]
    for argument, bad in cases:
        with pytest.raises(ValidationError) as caught:
            RetryPolicy(**cast("dict[str, Any]", bad))
        assert names(argument, caught.value)
