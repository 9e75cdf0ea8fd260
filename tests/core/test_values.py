"""Values: what crosses a border of the core can't be changed by whoever gets it, nor gain attributes."""

import ast
import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args, get_origin

import pytest

import clocknext_core
from clocknext_core import (
    ClockNextError,
    Closed,
    Config,
    CreditSignal,
    Emptied,
    EncodedSignal,
    FlushReport,
    Operation,
    Origin,
    Request,
    Response,
    Settled,
    Tokens,
    ValidationError,
    Wait,
)
from clocknext_core.diagnosis import CheckReport, Problem
from clocknext_core.outputs import GivenUp, Rejected, WaitReason
from clocknext_core.resources.payloads import nothing
from clocknext_core.signals import WalletSignal
from clocknext_core.spooled import SpooledOutput
from clocknext_core.values import Value
from tests.core.support import KEY

PUBLIC = {
    name: value
    for name, value in ((name, getattr(clocknext_core, name)) for name in clocknext_core.__all__)
    if isinstance(value, type) and is_dataclass(value)
}
OUTPUTS = {"Receipt", *((get_origin(kind) or kind).__name__ for kind in get_args(SpooledOutput))}
"""What the outbox makes one of for each step of each signal: freezing them would cost more than it guards."""
ENCODED, ERROR = EncodedSignal("k", "credit", b"{}"), ClockNextError("no")
ROOT = Path(__file__).parents[2]
ROOMS = ("client", "http11", "process", "sync")
"""What a client for threads loads of the transports."""
UNSHARED = {"EncodedSignal", "Connect", "Send", "Receive"}
"""Made or read for each signal, in files whose length is counted."""


def test_all_but_the_outputs_of_the_machines_are_frozen() -> None:
    thawed = {name for name, kind in PUBLIC.items() if not getattr(kind, "__dataclass_params__").frozen}  # noqa: B009
    assert thawed == OUTPUTS
    assert {"Transmit", "Settled", "Wait", "Closed"} < OUTPUTS < PUBLIC.keys()


@pytest.mark.parametrize("name", sorted(PUBLIC.keys() - {"Config"}))
def test_a_value_has_no_attributes_but_its_own(name: str) -> None:
    kind = PUBLIC[name]
    assert kind.__dictoffset__ == 0
    assert all(each.name in dir(kind) for each in fields(kind))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Tokens(input=1), "input"),
        (CreditSignal(customer_id="c", model="m", key="k"), "customer_id"),
        (CreditSignal(customer_id="c", model="m", key="k"), "key"),
        (EncodedSignal("k", "credit", b"{}"), "idempotency_key"),
        (EncodedSignal("k", "credit", b"{}"), "body"),
        (Config(KEY), "api_key"),
        (Origin("https", "a.example", 443), "host"),
        (Operation("GET", "/x", nothing), "path"),
        (FlushReport(0), "delivered"),
    ],
)
def test_a_frozen_value_refuses_changes(value: object, name: str) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, getattr(value, name))


def test_an_encoded_signal_is_a_value_like_others_though_it_is_made_in_its_own_way() -> None:
    signal = EncodedSignal("k", "credit", b"{}")
    assert (signal.idempotency_key, signal.type, signal.body) == ("k", "credit", b"{}")
    alike = [
        EncodedSignal(body=b"{}", type="credit", idempotency_key="k"),
        copy.deepcopy(signal),
        pickle.loads(pickle.dumps(signal)),
        replace(replace(signal, body=b""), body=b"{}"),
    ]
    assert {signal, *alike} == {signal}
    others = [
        EncodedSignal("l", "credit", b"{}"),
        EncodedSignal("k", "wallet", b"{}"),
        EncodedSignal("k", "credit", b"[]"),
    ]
    assert signal not in others
    assert repr(signal) == "EncodedSignal(idempotency_key='k', type='credit')"
    assert EncodedSignal.__match_args__ == ("idempotency_key", "type", "body")


def test_tokens_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        Tokens(5)  # type: ignore[call-arg]


def test_tokens_are_taken_as_they_are_and_nothing_is_no_tokens() -> None:
    tokens = Tokens(input=1)
    assert Tokens.of(tokens) is tokens
    assert Tokens.of({"output": 2, "cache": 0}) == Tokens(output=2, cache=0)
    with pytest.raises(ValidationError, match=r"^tokens: must be a mapping, not NoneType\. A model"):
        Tokens.of(None)  # type: ignore[arg-type]


def test_values_are_equal_by_what_they_hold() -> None:
    assert Wait(1.0) == Wait(1.0) != Wait(None)
    assert Emptied(1) == Emptied(1) != Emptied(2)
    assert Closed() == Closed()
    assert Tokens(input=1) == Tokens(input=1, output=0) != Tokens(input=1, cache=0)


def test_a_settled_outcome_is_returned_or_raised() -> None:
    assert Settled(1, "value").unwrap() == "value"
    assert Settled(1, None).unwrap() is None
    error = ClockNextError("no")
    with pytest.raises(ClockNextError) as caught:
        Settled[str](1, error).unwrap()
    assert caught.value is error


def test_a_report_without_more_has_nothing_failed_and_nothing_pending() -> None:
    report = FlushReport(3)
    assert (report.delivered, list(report.failed), report.pending) == (3, [], 0)
    assert FlushReport(3).failed is not report.failed


def test_what_is_left_out_has_its_default() -> None:
    operation = Operation("GET", "/x", nothing)
    assert (operation.body, operation.replay_safe, operation.encoded) == (None, None, None)
    assert operation.idempotency_key is None
    request = Request("GET", "/x", Origin("https", "a.example", 443), ())
    assert (request.body, request.replay_safe) == (None, False)
    assert Response(200, [], b"").received_at is None


def test_what_may_hold_the_key_or_is_long_is_not_shown() -> None:
    request = Request("GET", "/x", Origin("https", "a.example", 443), (("Authorization", KEY),), b"body")
    assert repr(request) == (
        "Request(method='GET', target='/x', origin=Origin(scheme='https', host='a.example', port=443), "
        "replay_safe=False)"
    )
    operation = Operation("POST", "/x", nothing, b"body")
    assert repr(operation) == "Operation(method='POST', path='/x', replay_safe=None, encoded=None)"


@pytest.mark.parametrize(
    ("origin", "authority", "url"),
    [
        (Origin("https", "a.example", 443), "a.example", "https://a.example/x"),
        (Origin("https", "a.example", 80), "a.example:80", "https://a.example:80/x"),
        (Origin("http", "127.0.0.1", 80), "127.0.0.1", "http://127.0.0.1/x"),
        (Origin("http", "127.0.0.1", 443), "127.0.0.1:443", "http://127.0.0.1:443/x"),
        (Origin("http", "::1", 8080), "[::1]:8080", "http://[::1]:8080/x"),
    ],
)
def test_the_port_is_told_where_it_is_not_the_schemes(origin: Origin, authority: str, url: str) -> None:
    assert origin.authority == authority
    assert Request("GET", "/x", origin, ()).url == url
    assert str(origin) == url.removesuffix("/x")


def test_a_header_is_found_whatever_its_case_and_the_first_counts() -> None:
    response = Response(200, [("Retry-AFTER", "1"), ("retry-after", "2"), ("Date", "")], b"")
    assert response.header("retry-after") == "1"
    assert response.header("date") == ""
    assert response.header("content-type") is None


def test_values_of_two_classes_are_never_equal() -> None:
    assert Problem("key", "a", "b") != CheckReport("key", "a", "b")
    assert Emptied(1) != 1
    assert Rejected(ENCODED, ERROR) == Rejected(ENCODED, ERROR) != GivenUp(ENCODED, ERROR)


def test_equal_values_are_one_member_of_a_set_unless_they_may_change() -> None:
    assert (
        len({Origin("https", "a.example", 443), Origin("https", "a.example", 443), FlushReport(1, failed=())})
        == 2
    )
    unhashed = CreditSignal(customer_id="c", model="m", key="k", custom={"a": 1})
    assert len({unhashed, CreditSignal(customer_id="c", model="m", key="k", custom={"a": 1})}) == 1
    for value in (Wait(1.0), Closed(), Rejected(ENCODED, ERROR)):
        with pytest.raises(TypeError, match="unhashable type"):
            hash(value)


def test_a_field_that_is_not_compared_makes_no_difference() -> None:
    assert Wait(1.0, WaitReason.GATE) == Wait(1.0, WaitReason.INTERVAL)


def test_a_value_shows_its_fields_by_name() -> None:
    assert repr(Wait(1.0, WaitReason.GATE)) == "Wait(until=1.0, reason=<WaitReason.GATE: 'gate'>)"
    assert repr(Closed()) == "Closed()"
    assert repr(Rejected(ENCODED, ERROR)) == f"Rejected(encoded={ENCODED!r}, error={ERROR!r})"
    signal = WalletSignal(customer_id="c", model="m")
    assert repr(signal).startswith("WalletSignal(customer_id='c', model='m', tokens=None, member=None, ")


def test_a_value_within_itself_is_shown_once() -> None:
    outer = Settled[object](1, None)
    outer.outcome = [outer]
    assert repr(outer) == "Settled(ticket=1, outcome=[...])"


@pytest.mark.parametrize(
    "value",
    [Tokens(input=1), CreditSignal(customer_id="c", model="m", key="k"), FlushReport(1, ()), Config(KEY)],
)
def test_a_value_can_be_copied_pickled_and_taken_apart(value: Any) -> None:
    for again in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value)), replace(value)):
        assert again is not value
        assert again == value
        assert hash(again) == hash(value)
    assert asdict(value).keys() == {each.name for each in fields(value)}
    match value:
        case Tokens(input=count) | FlushReport(count):
            assert count == 1
        case _:
            assert isinstance(value, CreditSignal | Config)


@pytest.mark.parametrize("room", ["clocknext_core", *(f"clocknext_transports/{each}" for each in ROOMS)])
def test_no_dataclass_of_the_client_has_methods_compiled_that_are_written_once(room: str) -> None:
    compiled: set[str] = set()
    for file in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else []:
                text = ast.unparse(decorator)
                if text.startswith("dataclass") and "eq=False, repr=False" not in text:
                    compiled.add(cast("ast.ClassDef", node).name)
    assert compiled <= UNSHARED


@dataclass(frozen=True, eq=False, repr=False)
class _Pair(Value):
    one: int
    other: int = field(hash=False)
    note: str = field(default="", compare=False)


def test_a_value_is_compared_and_hashed_by_what_its_fields_say() -> None:
    assert _Pair(1, 2) == _Pair(1, 2, "x")
    assert _Pair(1, 2) != _Pair(1, 3)
    assert hash(_Pair(1, 2)) == hash(_Pair(1, 3)) == hash(_Pair(1, 2, "x"))
    assert len({hash(_Pair(number, 2)) for number in range(100)}) == 100
