"""Signals: what is refused and by which name, and the exact bytes that are sent."""

import json
import pickle
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from clocknext_core import (
    CreditSignal,
    EncodedSignal,
    OutcomeSignal,
    Signal,
    Tokens,
    ValidationError,
    WalletSignal,
)
from clocknext_core.limits import MAX_BODY_BYTES, MAX_CUSTOM_BYTES
from clocknext_core.signals import (
    BODY_FIELDS,
    decode,
    encode,
    encode_dry_run,
    make_signal,
    type_and_key,
)
from tests.core.support import counting_keys, no_key

LARGEST = 2**53 - 1
HUGE = 10**5000
SURROGATE = "\ud800"
LEAST: Mapping[str, Any] = {"customer_id": "cus_1", "model": "m", "idempotency_key": "idem"}
KINDS: Mapping[str, Callable[..., Signal]] = {
    "credit": CreditSignal,
    "wallet": WalletSignal,
    "outcome": OutcomeSignal,
}


def make(kind: str = "credit", /, **fields: object) -> Signal:
    named = {"key": "k"} if kind != "wallet" and "agent_key" not in fields else {}
    return KINDS[kind](**{**LEAST, **named, **fields})


def text_of(signal: Signal) -> str:
    return encode(signal, no_key).body.decode()


# The bytes


@pytest.mark.parametrize(
    ("signal", "body"),
    [
        (
            make("wallet"),
            (
                '{"customerId":"cus_1","type":"wallet","model":"m","inputTokens":0,"outputTokens":0,"idempotencyKey":"idem"}'
            ),
        ),
        (
            make("credit"),
            (
                '{"customerId":"cus_1","type":"credit","model":"m","inputTokens":0,"outputTokens":0,"key":"k",'
                '"idempotencyKey":"idem"}'
            ),
        ),
        (
            make("credit", agent_key="k", tokens=Tokens(input=1200, output=340, cache=0)),
            (
                '{"customerId":"cus_1","type":"credit","model":"m","inputTokens":1200,"outputTokens":340,"cacheTokens":0,'
                '"agentKey":"k","idempotencyKey":"idem"}'
            ),
        ),
        (
            make(
                "credit",
                tokens={"input": 1},
                member="a@b.c",
                status="FAILURE",
                custom={"é": [1.5, None, True, {"x": "\n"}]},
                metric={"ref": "voice_ai", "value": "wb21"},
            ),
            (
                '{"customerId":"cus_1","type":"credit","model":"m","inputTokens":1,"outputTokens":0,"key":"k",'
                '"voice_ai":"wb21","member":"a@b.c","status":"FAILURE","custom":{"é":[1.5,null,true,{"x":"\\n"}]},'
                '"idempotencyKey":"idem"}'
            ),
        ),
        (
            make("outcome", run_id="run_1", complete=False, metric={"ref": "m2", "value": None}),
            (
                '{"customerId":"cus_1","type":"outcome","model":"m","inputTokens":0,"outputTokens":0,"key":"k",'
                '"runId":"run_1","complete":false,"m2":null,"idempotencyKey":"idem"}'
            ),
        ),
    ],
)
def test_the_exact_body(signal: Signal, body: str) -> None:
    assert text_of(signal) == body


def test_the_server_ignores_metrics_of_wallet_signals_so_none_is_sent() -> None:
    assert "voice" not in text_of(make("wallet", metric={"ref": "voice", "value": 1}))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_out_is_not_sent(kind: str) -> None:
    absent = dict.fromkeys(("tokens", "member", "status", "custom", "metric"))
    assert text_of(make(kind, **absent)) == text_of(make(kind)) == text_of(make(kind, member=""))
    assert "null" not in text_of(make(kind))
    assert make(kind, **absent) == make(kind) == make(kind, member="")
    assert make(kind).tokens is None


@pytest.mark.parametrize(
    "tokens",
    [
        Tokens(input=3, output=0),
        {"input": 3},
        {"input": 3, "output": 0, "cache": None},
        {"input": 3, "output": None},
        MappingProxyType({"input": 3}),
    ],
)
def test_tokens_may_be_a_mapping(tokens: object) -> None:
    assert json.loads(text_of(make(tokens=tokens))) == {
        **json.loads(text_of(make())),
        "inputTokens": 3,
        "outputTokens": 0,
    }


def test_a_dry_run_says_so_and_needs_no_key() -> None:
    body = json.loads(encode_dry_run(make(idempotency_key=None)))
    assert body == {
        "customerId": "cus_1",
        "type": "credit",
        "model": "m",
        "inputTokens": 0,
        "outputTokens": 0,
        "key": "k",
        "dryRun": True,
    }
    assert json.loads(encode_dry_run(make())) == {**body, "idempotencyKey": "idem"}


# The key


def test_a_signal_keeps_its_key_and_gets_one_where_it_has_none() -> None:
    keys = counting_keys()
    own = encode(make(), keys)
    assert (own.idempotency_key, own.signal) == ("idem", make())
    keyless = make(idempotency_key=None)
    first, second = encode(keyless, keys), encode(keyless, keys)
    assert (first.idempotency_key, second.idempotency_key) == ("key-1", "key-2")
    assert json.loads(first.body)["idempotencyKey"] == "key-1"
    assert first.signal == make(idempotency_key="key-1")
    assert keyless.idempotency_key is None
    assert first.body.decode() not in repr(first)


@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_with_a_key_set_is_the_same_but_for_that(kind: str) -> None:
    rest: dict[str, object] = {"custom": {"a": 1}, "member": "a@b.c", "tokens": {"input": 1}}
    rest["metric"] = {"ref": "voice", "value": [1]}
    signal = make(kind, **rest)
    assert type(signal.with_idempotency_key("new")) is type(signal)
    assert signal.with_idempotency_key("new") == make(kind, **rest, idempotency_key="new")
    assert signal.with_idempotency_key("idem") == signal == pickle.loads(pickle.dumps(signal))
    assert hash(signal) == hash(signal.with_idempotency_key("idem"))


def test_what_the_caller_changes_afterwards_changes_nothing() -> None:
    custom: dict[str, Any] = {"list": [1], "dict": {"a": 1}}
    metric: dict[str, object] = {"ref": "voice", "value": [1]}
    tokens: dict[str, int | None] = {"input": 1}
    signal = make(custom=custom, metric=metric, tokens=tokens)
    encoded = encode(signal, no_key)
    before = encoded.body
    custom["list"].append(2)
    custom["dict"]["a"] = float("nan")
    custom["more"] = 1
    metric["value"] = 2
    tokens["input"] = 2
    assert encoded.body == before
    assert json.loads(before)["custom"] == {"list": [1], "dict": {"a": 1}}
    assert (json.loads(before)["voice"], json.loads(before)["inputTokens"]) == ([1], 1)


# Refusals, each by the name of its argument

NOT_TEXT = [None, 5, b"x", ["x"], True]
BLANK = ["", " ", "\t\n", "\u00a0"]
TOO_LONG = ["x" * 256]

REFUSED: Mapping[tuple[str, str, str], list[object]] = {
    ("*", "customer_id", "customer_id"): [*NOT_TEXT, *BLANK, SURROGATE],
    ("*", "model", "model"): [*NOT_TEXT, *BLANK, SURROGATE],
    ("*", "idempotency_key", "idempotency_key"): [*NOT_TEXT[1:], *BLANK, *TOO_LONG, SURROGATE],
    ("*", "member", "member"): [*(5, b"a@b.c", ["a@b.c"], False, " ", f"{SURROGATE}@b")],
    ("*", "status", "status"): ["", "success", "DONE", 1, True, ["SUCCESS"], HUGE],
    ("*", "tokens", "tokens"): [5, [1, 2], "12", True, {"total": 1}, {"Input": 1}, {1: 1}, {HUGE: 1}],
    ("*", "custom", "custom"): [
        *(
            5,
            "x",
            [1],
            True,
            [("a", 1)],
            {"a": float("nan")},
            {"a": float("inf")},
            {"a": object()},
            {"a": {1, 2}},
        ),
        *(
            {"a": b"x"},
            {("a",): 1},
            {"a": SURROGATE},
            {SURROGATE: 1},
            {"a": 1j},
            {"a": HUGE},
            {float("nan"): 1},
        ),
        *({"a": MappingProxyType({})}, {"a": [[[{"b": float("-inf")}]]]}),
    ],
    ("*", "metric", "metric"): [
        *(
            5,
            "x",
            [1],
            {},
            {"ref": "x"},
            {"value": 1},
            {"ref": "x", "value": 1, "unit": "s"},
            {"ref": "", "value": 1},
        ),
        *({"ref": 5, "value": 1}, {"ref": None, "value": 1}),
        *({"ref": name, "value": 1} for name in sorted(BODY_FIELDS)),
    ],
    ("credit", "metric", "metric"): [
        *(
            {"ref": "x", "value": float("nan")},
            {"ref": "x", "value": object()},
            {"ref": SURROGATE, "value": 1},
        ),
        {"ref": "x", "value": SURROGATE},
    ],
    ("outcome", "metric", "metric"): [{"ref": "x", "value": float("nan")}],
    ("credit", "key", "key"): [*NOT_TEXT[1:], *BLANK, SURROGATE],
    ("outcome", "key", "key"): [*NOT_TEXT[1:], *BLANK, SURROGATE],
    ("credit", "agent_key", "agent_key"): [*NOT_TEXT[1:], *BLANK, SURROGATE],
    ("outcome", "agent_key", "agent_key"): [*NOT_TEXT[1:], *BLANK, SURROGATE],
    ("outcome", "run_id", "run_id"): [*NOT_TEXT[1:], *BLANK, *TOO_LONG, SURROGATE],
    ("outcome", "complete", "complete"): [0, 1, "true", []],
}
CASES = [
    pytest.param(each, argument, named, value, id=f"{each}-{argument}-{number}")
    for (kind, argument, named), values in REFUSED.items()
    for each in (KINDS if kind == "*" else [kind])
    for number, value in enumerate(values)
]


@pytest.mark.parametrize(("kind", "argument", "named", "value"), CASES)
def test_a_bad_argument_is_refused_by_name(kind: str, argument: str, named: str, value: object) -> None:
    with pytest.raises(ValidationError, match=rf"^{named}\b") as caught:
        encode(make(kind, **{argument: value}), no_key if argument != "idempotency_key" else counting_keys())
    assert caught.value.status is None
    assert not caught.value.retryable


@pytest.mark.parametrize("kind", ["credit", "outcome"])
def test_exactly_one_of_key_and_agent_key_is_given(kind: str) -> None:
    for keys in ({}, {"key": None, "agent_key": None}, {"key": "a", "agent_key": "a"}):
        with pytest.raises(ValidationError, match=r"^key: .*agent_key"):
            KINDS[kind](**LEAST, **keys)


NOT_COUNTS: list[Any] = [-1, 1.0, 1.5, "1", True, LARGEST + 1, HUGE, -HUGE, [1], float("nan")]


@pytest.mark.parametrize("name", ["input", "output", "cache"])
def test_a_count_that_is_no_count_is_refused_by_name(name: str) -> None:
    for count in NOT_COUNTS:
        with pytest.raises(ValidationError, match=rf"^tokens\.{name}: "):
            Tokens(**{name: count})
        with pytest.raises(ValidationError, match=rf"^tokens\.{name}: "):
            make(tokens={name: count})


def test_the_largest_count_is_sent_as_it_is() -> None:
    assert json.loads(text_of(make(tokens={"input": LARGEST, "cache": LARGEST})))["inputTokens"] == LARGEST


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(
            ("idempotency_key", "x"),
            ("idempotency_key", "x" * 255),
            ("customer_id", "x" * 1000),
            ("member", "a@b"),
            ("member", "user 7"),
        ),
        *(("model", " padded "), ("customer_id", "\0"), ("custom", {}), ("key", "é/..")),
        *(("status", "SUCCESS"), ("status", "PENDING"), ("custom", {"a": {"b": [1, "2", None, 3.5, False]}})),
    ],
)
def test_the_ends_of_each_range_are_taken(argument: str, value: object) -> None:
    names = {"customer_id": "customerId", "idempotency_key": "idempotencyKey"}
    assert json.loads(text_of(make(**{argument: value})))[names.get(argument, argument)] == value


def test_a_cycle_and_deep_nesting_are_refused_by_name() -> None:
    cycle: dict[str, object] = {}
    cycle["self"] = cycle
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]
    for kind, argument, value in (
        ("credit", "custom", cycle),
        ("wallet", "custom", {"a": deep}),
        ("outcome", "metric", {"ref": "x", "value": deep}),
        ("outcome", "metric", {"ref": "x", "value": cycle}),
    ):
        with pytest.raises(ValidationError, match=rf"^{argument}: "):
            text_of(make(kind, **{argument: value}))
    while isinstance(deep, list):  # taken apart by hand: freeing it in one go recurses too
        deep = deep.pop()


@pytest.mark.parametrize("filler", ["x", "é", "\N{GRINNING FACE}", '"'])
def test_custom_may_be_32_kib_once_encoded_and_not_a_byte_more(filler: str) -> None:
    width = len(json.dumps(filler, ensure_ascii=False).encode()) - 2
    empty = len(b'{"a":""}')
    count, rest = divmod(MAX_CUSTOM_BYTES - empty, width)
    fits = {"a": filler * count + "x" * rest}
    assert (
        len(json.dumps(fits, ensure_ascii=False, separators=(",", ":")).encode()) == MAX_CUSTOM_BYTES == 32768
    )
    assert text_of(make(custom=fits))
    with pytest.raises(ValidationError, match=r"^custom: "):
        text_of(make(custom={"a": fits["a"] + "x"}))


def test_a_body_may_be_64_kib_once_encoded_and_not_a_byte_more() -> None:
    room = MAX_BODY_BYTES - len(text_of(make(model="é")).encode())
    fits = make(model="é" + "x" * room)
    assert len(encode(fits, no_key).body) == MAX_BODY_BYTES == 65536
    with pytest.raises(ValidationError, match=r"^signal: "):
        text_of(make(model="é" + "x" * (room + 1)))
    with pytest.raises(ValidationError, match=r"^signal: "):
        encode_dry_run(fits)


NAMES = st.text().filter(lambda name: name not in ("__proto__", "constructor"))
"""Names that the server does not refuse."""
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


@given(
    custom=st.dictionaries(NAMES, JSON, max_size=4),
    customer=st.text(min_size=1),
    key=st.text(min_size=1, max_size=255),
)
def test_what_is_text_and_json_arrives_as_it_was(custom: dict[str, object], customer: str, key: str) -> None:
    if not (customer.strip() and key.strip()):
        return
    body = json.loads(text_of(make(customer_id=customer, custom=custom, idempotency_key=key)))
    assert (body["customerId"], body["custom"], body["idempotencyKey"]) == (customer, custom, key)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.binary(max_size=3)
    | st.builds(lambda: HUGE)  # not `just`, which would try to print it
    | st.builds(object),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=())) | st.integers() | st.none(), inner, max_size=3
        )
    ),
    max_leaves=6,
)
ARGUMENTS = (
    "customer_id",
    "model",
    "key",
    "tokens",
    "member",
    "status",
    "custom",
    "metric",
    "idempotency_key",
)


@given(fields=st.dictionaries(st.sampled_from(ARGUMENTS), ANYTHING, max_size=3))
def test_any_arguments_make_a_body_or_one_validation_error(fields: dict[str, object]) -> None:
    try:
        encoded = encode(make(**fields), counting_keys())
    except ValidationError as error:
        named = str(error).partition(":")[0].partition(".")[0]
    else:
        named = "signal"
        body = json.loads(encoded.body)
        assert isinstance(body, dict)
        # Hooks and reports read the signal back from its bytes.
        assert json.loads(encode(encoded.signal, no_key).body) == body
    assert named in {*ARGUMENTS, "signal"}


def test_only_signals_are_encoded() -> None:
    for value in (None, {"type": "credit"}, "signal", CreditSignal):
        with pytest.raises(ValidationError, match=r"^signal: "):
            encode(value, no_key)  # type: ignore[arg-type]
        with pytest.raises(ValidationError, match=r"^signal: "):
            encode_dry_run(value)  # type: ignore[arg-type]


def test_a_completed_step_is_the_same_but_for_that_and_its_key() -> None:
    step = make("outcome", run_id="r", member="a@b.c")
    assert isinstance(step, OutcomeSignal)
    assert step.completed("r/complete") == make(
        "outcome", run_id="r", member="a@b.c", complete=True, idempotency_key="r/complete"
    )
    assert step.complete is None
    for bad in ("", "x" * 256):
        with pytest.raises(ValidationError, match=r"^idempotency_key: "):
            step.completed(bad)


def test_a_signal_is_of_one_of_the_kinds() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Signal(customer_id="cus_1", model="m")  # type: ignore[abstract]


class Fickle(dict[str, float]):
    """Something that can't be encoded at first, as if another thread changed it at that moment."""

    asked = 0

    def items(self) -> Any:
        self.asked += 1
        return [("a", float("nan") if self.asked == 1 else 0.0)]


def test_what_changes_while_it_is_encoded_is_refused_all_the_same() -> None:
    with pytest.raises(ValidationError, match=r"^signal: can't be encoded as JSON: Out of range float"):
        encode(make(custom={"x": Fickle(a=0.0)}), counting_keys())


# What a server refuses, or some reader of JSON can't read


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("kind", KINDS)
def test_custom_is_nested_a_hundred_deep_at_most(kind: str) -> None:
    body = json.loads(text_of(make(kind, custom={"a": nested(99)})))
    assert body["custom"] == {"a": nested(99)}
    with pytest.raises(ValidationError, match=r"^custom: must be nested at most 100 deep$"):
        text_of(make(kind, custom={"a": nested(100)}))


def test_the_shortest_body_that_is_nested_too_deeply_is_refused_too() -> None:
    with pytest.raises(ValidationError, match=r"^custom: must be nested"):
        encode_dry_run(WalletSignal(customer_id="c", model="m", custom={"": nested(100)}))
    with pytest.raises(ValidationError, match=r"^metric: must be nested"):
        encode_dry_run(
            CreditSignal(customer_id="c", model="m", key="k", metric={"ref": "x", "value": nested(101)})
        )


def test_a_metric_is_nested_a_hundred_deep_at_most() -> None:
    assert text_of(make(metric={"ref": "x", "value": nested(100)}, custom={}))
    with pytest.raises(ValidationError, match=r"^metric: must be nested at most 100 deep$"):
        text_of(make(metric={"ref": "x", "value": nested(101)}, custom={}))


def test_brackets_in_strings_and_side_by_side_make_nothing_deep() -> None:
    custom: dict[str, object] = {"a": '["{' * 200, "b": [[]] * 200, "c": [{"d": '\\"['}] * 50}
    assert json.loads(text_of(make(custom=custom)))["custom"] == custom


def test_what_ends_in_between_is_not_counted_twice_nor_forgotten() -> None:
    def within(depth: int) -> object:
        many: list[object] = [[]] * 60
        value: object = [*many, nested(depth)]
        for _ in range(50):
            value = [value]
        return value

    custom = {"a": within(48)}
    assert json.loads(text_of(make(custom=custom)))["custom"] == custom
    with pytest.raises(ValidationError, match=r"^custom: must be nested"):
        text_of(make(custom={"a": within(49)}))
    beside = {"ref": "x", "value": nested(101)}
    with pytest.raises(ValidationError, match=r"^metric: must be nested"):
        text_of(make(metric=beside, custom={"a": nested(99)}))


REFUSED_NAMES: list[dict[str, object]] = [
    {"__proto__": 1},
    {"a": [1, {"b": {"__proto__": {}}}]},
    {"constructor": {"prototype": 1}},
    {"a": [[{"constructor": {"prototype": None, "x": 1}}]]},
]


@pytest.mark.parametrize("names", REFUSED_NAMES)
def test_names_that_the_server_refuses_are_refused_at_any_depth(names: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"^custom: must not hold the name __proto__"):
        text_of(make(custom=names))
    with pytest.raises(ValidationError, match=r"^metric: must not hold the name __proto__"):
        text_of(make(metric={"ref": "x", "value": [names]}, custom={"a": 1}))


def test_a_metric_can_not_be_named_so_either() -> None:
    for kind in KINDS:
        with pytest.raises(ValidationError, match=r"^metric\.ref: must not be '__proto__'"):
            make(kind, metric={"ref": "__proto__", "value": 1})
    with pytest.raises(ValidationError, match=r"^metric: must not hold"):
        text_of(make(metric={"ref": "constructor", "value": {"prototype": 1}}))


@pytest.mark.parametrize(
    "custom",
    [
        {"prototype": {"constructor": 1}, "constructor": {"proto": 1}},
        {"constructor": ["prototype"], "a": "__proto__"},
        {"a": '"__proto__":1', "_proto_": "constructor"},
    ],
)
def test_names_and_texts_that_only_look_like_these_are_sent(custom: dict[str, object]) -> None:
    assert json.loads(text_of(make(custom=custom)))["custom"] == custom


# The table


def test_an_encoded_signal_knows_its_type() -> None:
    for kind in KINDS:
        encoded = encode(make(kind), no_key)
        assert (encoded.type, encoded.signal.type) == (kind, kind)
        assert decode(encoded.body) == encoded


@pytest.mark.parametrize("kind", KINDS)
def test_an_argument_that_is_not_the_types_is_a_type_error(kind: str) -> None:
    foreign = {"credit": "run_id", "wallet": "key", "outcome": "type"}[kind]
    with pytest.raises(
        TypeError, match=rf"^got an unexpected keyword argument '{foreign}'($|; did you mean ')"
    ):
        make_signal(make(kind).type, {**LEAST, **make(kind).fields(), foreign: "x"})


# Reading a signal back


@pytest.mark.parametrize(
    "signal",
    [
        WalletSignal(customer_id="c", model="m", idempotency_key="k"),
        WalletSignal(
            customer_id="c", model="m", tokens={"input": 1, "output": 2, "cache": 3}, idempotency_key="k"
        ),
        CreditSignal(
            customer_id="c",
            model="m",
            key="a",
            member="a@b.example",
            status="FAILURE",
            custom={"é": [1, None]},
            metric={"ref": "pages", "value": 7},
            idempotency_key="k",
        ),
        OutcomeSignal(
            customer_id="c", model="m", agent_key="a.b", run_id="r", complete=True, idempotency_key="k"
        ),
    ],
    ids=lambda signal: type(signal).__name__,
)
def test_a_signal_is_read_back_from_its_bytes(signal: Signal) -> None:
    first = encode(signal, no_key)
    again = decode(first.body)
    assert (again.body, again.idempotency_key) == (first.body, "k")
    assert type(again.signal) is type(signal)
    assert encode(again.signal, no_key) == EncodedSignal("k", signal.type, first.body)


@pytest.mark.parametrize("kind", KINDS)
def test_the_type_and_key_of_a_body_are_read(kind: Any) -> None:
    signal = make_signal(kind, {**LEAST, **({} if kind == "wallet" else {"key": "a.b"})})
    assert type_and_key(encode(signal, no_key).body) == (kind, "idem")
    assert type_and_key(b'{"type": "%s"}' % kind.encode()) == (kind, None)
    with pytest.raises(ValidationError, match="body: is not the body of a signal"):
        type_and_key(b'{"type": "unit"}')


def test_any_mapping_is_sent_as_custom() -> None:
    signal = WalletSignal(**LEAST, custom=MappingProxyType({"a": 1}))
    assert json.loads(encode(signal, no_key).body)["custom"] == {"a": 1}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{", "body: is not JSON"),
        (b"\xff", "body: is not JSON"),
        (b"[" * 100_000, "body: is not JSON"),
        (b"[]", "body: is not the body of a signal"),
        (b"[1]", "body: is not the body of a signal"),
        (b"5", "body: is not the body of a signal"),
        (b"null", "body: is not the body of a signal"),
        (b"{}", "body: is not the body of a signal"),
        (b'{"type": ["credit"]}', "body: is not the body of a signal"),
        (b'{"type": "wallet"}', "body: is not that of a wallet signal"),
        (
            b'{"type": "wallet", "customerId": "c", "model": "m"}',
            "body: is not that of a wallet signal with its key",
        ),
        (
            b'{"type": "wallet", "customerId": "c", "model": "m", "idempotencyKey": "k", "key": "a"}',
            "body: is not that of a wallet signal",
        ),
        (
            b'{"type": "wallet", "customerId": "c", "model": "m", "idempotencyKey": "k", "a": 1, "b": 2}',
            "body: is not that of a wallet signal",
        ),
        (
            b'{"type": "wallet", "customerId": "", "model": "m", "idempotencyKey": "k"}',
            "customer_id: must not be blank",
        ),
    ],
)
def test_what_is_no_signal_is_refused(body: bytes, problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        decode(body)
    assert str(caught.value) == problem


RESERVED = (
    *("customerId", "type", "model", "key", "agentKey", "inputTokens", "outputTokens", "cacheTokens"),
    *("member", "status", "custom", "idempotencyKey", "runId", "complete", "dryRun"),
    *("organizationId", "signalId", "receivedAt"),
)


@pytest.mark.parametrize("name", RESERVED)
def test_a_metric_can_not_take_the_place_of_another_field(name: str) -> None:
    with pytest.raises(ValidationError, match=r"^metric\.ref: "):
        make(metric={"ref": name, "value": 1})
    assert json.loads(text_of(make(metric={"ref": f"{name}s", "value": 1})))[f"{name}s"] == 1
