import json
from collections.abc import Iterable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clocknext_core import CreditSignal, OutcomeSignal, Signal, Tokens, ValidationError, WalletSignal
from clocknext_transports.cli.lines import MAX_LINE_BYTES, Line, Splitter, derive_key, parse
from tests.cli.support import EXAMPLE, wire


def split(*chunks: bytes) -> list[Line]:
    splitter = Splitter()
    lines = [line for chunk in chunks if chunk for line in splitter.feed(chunk)]
    return lines + splitter.feed(b"")


def line(fields: object, number: int = 1) -> Line:
    content = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return Line(number, content, len(content))


def keys(lines: Iterable[bytes], *, end: bytes = b"\n", source: str = "") -> list[str]:
    return [derive_key(each, source=source) for each in split(b"".join(one + end for one in lines))]


CONTENT = st.binary(max_size=12).map(lambda data: b"x" + data.replace(b"\n", b"n").strip())


# Splitting


def test_lines_are_numbered_as_an_editor_does() -> None:
    assert split(b"\xef\xbb\xbfa\r\n\r\n \t\n b \nc") == [
        Line(1, b"a", 6),
        Line(4, b"b", 15),
        Line(5, b"c", 16),
    ]


def test_a_byte_order_mark_counts_on_the_first_line_alone() -> None:
    assert [each.content for each in split(b"\n\xef\xbb\xbfa")] == [b"\xef\xbb\xbfa"]


@pytest.mark.parametrize("nothing", [b"", b"\n", b"\r\n\r\n", b"\xef\xbb\xbf", b" \n "])
def test_nothing_has_no_lines(nothing: bytes) -> None:
    assert split(nothing) == []


@given(st.lists(st.binary(max_size=9) | st.sampled_from([b"\n", b"\r\n", b"a\nb"]), max_size=12))
def test_chunks_make_no_difference(chunks: list[bytes]) -> None:
    assert split(*chunks) == split(b"".join(chunks))


def test_a_line_without_end_is_cut() -> None:
    chunk = b"a" * 100_000
    lines = split(*[chunk] * 100, b"\n{}")
    assert [(each.number, len(each.content), each.is_cut) for each in lines] == [
        (1, MAX_LINE_BYTES, True),
        (2, 2, False),
    ]
    with pytest.raises(ValidationError, match=f"line: is longer than {MAX_LINE_BYTES} bytes"):
        parse(lines[0])


def test_a_line_of_blanks_that_is_cut_is_not_lost() -> None:
    assert [each.is_cut for each in split(b" " * (MAX_LINE_BYTES + 1))] == [True]


# Keys


def test_a_key_is_what_it_was_in_earlier_versions() -> None:
    digest = "d970ab67bfe1c29de099a6cf84d8aa42f8ab8f5a43a9b9f3cfa8e02826d5356e"
    assert derive_key(Line(7, b"{}", 0)) == f"jsonl-{digest}"


@given(st.lists(CONTENT, max_size=20), st.lists(CONTENT, max_size=5))
def test_appending_changes_no_key(lines: list[bytes], more: list[bytes]) -> None:
    assert keys([*lines, *more])[: len(lines)] == keys(lines)


@given(st.lists(CONTENT, min_size=1, max_size=20), st.data())
def test_mending_a_line_changes_its_key_alone(lines: list[bytes], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(lines) - 1))
    mended = [*lines[:at], lines[at] + b"!", *lines[at + 1 :]]
    changed = [number for number, (a, b) in enumerate(zip(keys(lines), keys(mended), strict=True)) if a != b]
    assert changed == [at]


@given(st.lists(CONTENT, max_size=20))
def test_every_line_has_a_key_of_its_own(lines: list[bytes]) -> None:
    found = keys(lines * 2)
    assert len(set(found)) == len(lines) * 2
    assert all(1 <= len(key) <= 255 and key.isascii() for key in found)


@given(st.lists(CONTENT, max_size=20))
def test_line_ends_change_no_key(lines: list[bytes]) -> None:
    assert keys(lines, end=b"\r\n") == keys(lines) == keys(lines, end=b" \n")


@given(st.text(max_size=5), st.text(max_size=5), st.integers(1, 30), st.integers(1, 30), CONTENT)
def test_source_and_number_are_told_apart(a: str, b: str, m: int, n: int, content: bytes) -> None:
    same = derive_key(Line(m, content, 0), source=a) == derive_key(Line(n, content, 0), source=b)
    assert same == ((a, m) == (b, n))


def test_a_line_inserted_shifts_the_keys_after_it() -> None:
    before, after = keys([b"a", b"b", b"c"]), keys([b"a", b"new", b"b", b"c"])
    assert before[0] == after[0]
    assert not set(before[1:]) & set(after)


def test_a_key_in_the_line_is_kept() -> None:
    assert parse(line(wire(idempotencyKey="mine"))).idempotency_key == "mine"


def test_a_line_without_a_key_gets_the_derived_one() -> None:
    one = line(wire(), number=3)
    assert parse(one, source="a").idempotency_key == derive_key(one, source="a")


# Signals

WALLET = WalletSignal(
    customer_id="c", model="m", tokens=Tokens(input=1, output=2, cache=3), idempotency_key="k"
)
CREDIT = CreditSignal(
    customer_id="c",
    model="m",
    agent_key="a",
    member="a@b.c",
    status="FAILURE",
    custom={"customerId": 1},
    metric={"ref": "pages", "value": 2},
    idempotency_key="k",
)
OUTCOME = OutcomeSignal(customer_id="c", model="m", key="a", run_id="r", complete=True, idempotency_key="k")
BASE = {"customerId": "c", "model": "m", "idempotencyKey": "k"}


@pytest.mark.parametrize(
    ("fields", "signal"),
    [
        ({"type": "wallet", "inputTokens": 1, "outputTokens": 2, "cacheTokens": 3}, WALLET),
        ({"type": "wallet", "input_tokens": 1, "output_tokens": 2, "cache_tokens": 3}, WALLET),
        ({"type": "wallet", "tokens": {"input": 1, "output": 2, "cache": 3}}, WALLET),
        ({"type": "wallet", "inputTokens": 1.0, "outputTokens": 2, "cacheTokens": 3.0}, WALLET),
        ({"type": "wallet", "tokens": {"input": 1.0, "output": 2.0, "cache": 3}}, WALLET),
        ({"type": "wallet", "tokens": {"input": 1, "output": 2, "cache": 3}, "key": None}, WALLET),
        (
            {
                "type": "credit",
                "agentKey": "a",
                "member": "a@b.c",
                "status": "FAILURE",
                "custom": {"customerId": 1},
                "metric": {"ref": "pages", "value": 2},
            },
            CREDIT,
        ),
        ({"type": "outcome", "key": "a", "runId": "r", "complete": True, "inputTokens": None}, OUTCOME),
        ({"type": "outcome", "key": "a", "run_id": "r", "complete": True}, OUTCOME),
    ],
)
def test_names_of_the_wire_and_snake_case(fields: dict[str, object], signal: Signal) -> None:
    assert parse(line(BASE | fields)) == signal
    snake = {"customer_id": "c", "model": "m", "idempotency_key": "k"}
    assert parse(line(snake | fields)) == signal


def test_a_single_count_leaves_the_others_at_their_defaults() -> None:
    assert parse(line(wire(inputTokens=None))).tokens == Tokens(output=30)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "line: is not JSON: Expecting property name enclosed in double quotes at character 2"),
        (b'{"customerId": "cus_123"', "line: is not JSON: "),
        (b'{"model": "m', "line: is not JSON: Unterminated string starting at character 11"),
        (b"{} {}", "line: is not JSON: Extra data at character 4"),
        (b"\xff\xfe{}", "line: is not UTF-8 at byte 1"),
        (b"[1]", "line: is not a JSON object"),
        (b'"text"', "line: is not a JSON object"),
        (b"null", "line: is not a JSON object"),
        (b'{"inputTokens": NaN}', "line: is not JSON: NaN is no JSON number"),
        (
            b'{"a": ' + b"9" * 5000 + b"}",
            "line: is not JSON that can be read: it holds a number of thousands",
        ),
        (b'{"a": ' + b"[" * 100_000, "line: is nested too deeply"),
        (b'{"type": "wallet", "type": "credit"}', "line: gives a name twice in the same object"),
        (wire(type=None), "type: is required"),
        (wire(type="bonus"), "type: must be one of "),
        (wire(type=["wallet"]), "type: must be one of "),
        (wire(customerId=None), "customer_id: is required"),
        (wire(model=None), "model: is required"),
        (wire(customerId=7), "customer_id: must be a string"),
        (wire(customerId=" "), "customer_id: must not be blank"),
        (wire(customer_id="cus_123"), "customer_id: is given twice"),
        (wire(tokens={"input": 1}), "tokens: must not be given together with a count of its own"),
        (wire(inputTokens=1.5), "tokens.input: must be an integer"),
        (wire(inputTokens="1"), "tokens.input: must be an integer"),
        (wire(inputTokens=-1), "tokens.input: must be at least 0"),
        (wire(inputTokens=True), "tokens.input: must be an integer"),
        (wire(inputTokens=2.0**60), "tokens.input: must be at most"),
        (
            b'{"customerId": "c", "type": "wallet", "model": "m", "inputTokens": 1e999}',
            "tokens.input: must be an int",
        ),
        (wire(inputTokens=2**53), "tokens.input: must be at most"),
        (wire(inputTokens=None, outputTokens=None, tokens=[1]), "tokens: must be a mapping"),
        (wire(key="api_credit"), "key: is not a field of wallet signals"),
        (wire(type="credit", key="a", runId="r"), "run_id: is not a field of credit signals"),
        (wire(type="credit"), "key: is required"),
        (wire(type="credit", key="a", agentKey="a"), "key: must not be given together with agent_key"),
        (wire(memebr="a@b.c"), "memebr: is not a field of a signal"),
        (wire(dryRun=True), "dryRun: is not a field of a signal"),
        (wire(customer="cus_1"), "customer: is not a field of a signal: did you mean customerId?"),
        (wire(input_token=1), "input_token: is not a field of a signal: did you mean inputTokens?"),
        (wire(timestamp=1), "timestamp: is not a field of a signal: a signal has no time of its own"),
        (wire(**{"x" * 500: 1}), f"{'x' * 60}…: is not a field of a signal"),
        (wire(member=" "), "member: must not be blank"),
        (wire(idempotencyKey=""), "idempotency_key: must not be blank"),
        (wire(idempotencyKey="k" * 256), "idempotency_key: must be at most 255"),
        (wire(custom=[1]), "custom: must be a mapping"),
        (wire(status="DONE"), "status: must be one of "),
        (wire(metric={"ref": "model", "value": 1}), "metric.ref: must not be 'model'"),
    ],
)
def test_what_is_refused_and_why(content: object, reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse(line(content))
    assert caught.value.message.startswith(reason)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_signal_or_refused(data: bytes) -> None:
    for each in split(data):
        with pytest.raises(ValidationError):
            parse(each)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
)
NAMES = [
    "customerId",
    "type",
    "model",
    "key",
    "tokens",
    "inputTokens",
    "custom",
    "metric",
    "run_id",
    "complete",
]


@given(st.dictionaries(st.sampled_from(NAMES), JSON), st.sampled_from(["credit", "wallet", "outcome"]))
def test_any_fields_are_a_signal_or_refused(fields: dict[str, object], kind: str) -> None:
    one = line({**wire(type=kind), **fields})
    with suppress(ValidationError):
        assert parse(one).idempotency_key == derive_key(one)


def test_text_that_is_not_utf8_can_be_shown() -> None:
    assert Line(1, b"a\xffb", 3).text == "a\\xffb"


def test_the_example_is_all_signals_of_all_types() -> None:
    signals = [parse(each) for each in split(EXAMPLE.read_bytes())]
    assert len(signals) >= 500
    assert {signal.type for signal in signals} == {"credit", "wallet", "outcome"}
    assert len({signal.customer_id for signal in signals}) >= 4
    assert len({signal.model for signal in signals}) >= 4
    assert len({signal.idempotency_key for signal in signals}) == len(signals)
    derived = sum((signal.idempotency_key or "").startswith("jsonl-") for signal in signals)
    assert len(signals) / 2 < derived < len(signals)
