"""`send`'s JSON Lines reader: `Splitter`, `parse` and `derive_key`, then the bytes of the signal.

Invariant: whatever a file holds, and however reads cut it,

- the lines are the same in any splits: those an editor shows, numbered as it numbers them, without their ends
  and the blanks around them; none is lost, and a line's `end` is where its bytes end;
- no more of a line is held than the limit, and a longer one is marked as cut;
- a line becomes a signal or is refused with a `ValidationError` that names a field; a signal says what the
  line said, field by field, and can be sent, or is refused when it is encoded;
- a line with an idempotency key keeps it; any other has the one that can be derived again, which no other
  line of the file has, and which CRLF for LF does not change.

Allowed exceptions:

- `ValidationError` from `parse`: the line is refused; `send` writes it to the file of refused lines;
- `ValidationError` from `encode`: it is not text (a lone surrogate), nested too deeply or too long. The
  client raises it before anything is queued, and `send` refuses the line as well.
"""

import json
from collections.abc import Sequence
from typing import cast

from clocknext_core import Signal, ValidationError
from clocknext_core.signals import BODY_FIELDS, encode
from clocknext_transports.cli.lines import MAX_LINE_BYTES, Line, Splitter, derive_key, parse
from clocknext_transports.cli.tally import describe
from fuzz.decoding import Decoder, built_value, cut, expanded

MAX_BYTES = 2048

BOM = b"\xef\xbb\xbf"
FINE_BYTES = 600
COARSE = 65521
LONGEST = 2 * MAX_LINE_BYTES
SHOWN_BYTES = 4096
"""Lines up to this length are also shown as text, which is slow for what is not UTF-8."""

TYPES = ("credit", "wallet", "outcome", "unit")
NAMES = (
    *sorted(BODY_FIELDS),
    *("customer_id", "agent_key", "input_tokens", "run_id", "idempotency_key", "tokens", "metric", "unknown"),
)
WORDS = (
    *(
        "input",
        "output",
        "cache",
        "ref",
        "value",
        "pages",
        "SUCCESS",
        "FAILURE",
        "a@b.c",
        "k",
        "",
        " ",
        "\ud800",
    ),
    *("é", "x" * 300, "x" * 40_000, "customerId"),
)
TOKENS = (
    *(b'"%s":' % name.encode() for name in NAMES),
    *(b'"input":', b'"output":', b'"cache":', b'"metric":{"ref":"r","value":1}', b'"credit"', b'"wallet"'),
    *(
        b'"outcome"',
        b'"SUCCESS"',
        b'"a@b.c"',
        b"true",
        b"null",
        b"NaN",
        b"1e400",
        b"9007199254740992",
        b"\\ud800",
    ),
    *(
        b'{"customerId":"c","type":"wallet","model":"m"',
        b'{"customerId":"c","type":"credit","model":"m","key":"k"',
    ),
    *(b"\n", b"\r\n", b"\xef\xbb\xbf", b"\xff\x01", b"\xff\xff", b"\xff\x00", b"[[[[[[[[", b'"custom":{'),
)


def check(data: bytes) -> None:
    """Read a file: a number of places to cut at (two bytes each), then what it holds, or is built of."""
    decoder = Decoder(data)
    places = [decoder.below(65536) for _ in range(decoder.below(8))]
    content = expanded(decoder.rest(), LONGEST) if decoder.below(2) == 0 else _built(decoder)
    lines = _split([content] if content else [])
    fine = range(len(content)) if len(content) <= FINE_BYTES else range(0, len(content), COARSE)
    assert _split(cut(content, places)) == lines
    assert _split(cut(content, fine)) == lines
    _check_lines(content, lines)
    keys = [derive_key(line, source="f") for line in lines]
    assert len(set(keys)) == len(keys)
    for line, key in zip(lines, keys, strict=True):
        _check_line(line, key)
    if b"\r" not in content and not any(line.is_cut for line in lines):
        as_windows = _split([content.replace(b"\n", b"\r\n")])
        assert [derive_key(line, source="f") for line in as_windows] == keys


def _built(decoder: Decoder) -> bytes:
    """Build lines that are signals, or nearly."""
    lines: list[str] = []
    while not decoder.has_ended:
        fields: dict[str, object] = {"customerId": "c", "model": "m", "type": decoder.pick(TYPES)}
        fields |= {decoder.pick(NAMES): built_value(decoder, WORDS, 3) for _ in range(decoder.below(8))}
        lines.append(json.dumps(fields))
    return "\n".join(lines).encode()


def _split(parts: Sequence[bytes]) -> list[Line]:
    splitter = Splitter()
    lines = [line for part in parts for line in splitter.feed(part)]
    return lines + splitter.feed(b"")


def _check_lines(content: bytes, lines: Sequence[Line]) -> None:
    """Cut the plain way: all of it at once."""
    expected: list[Line] = []
    end = 0
    pieces = content.split(b"\n")
    for number, piece in enumerate(pieces, 1):
        end += len(piece) + (number < len(pieces))
        is_cut = len(piece) > MAX_LINE_BYTES
        kept = piece[:MAX_LINE_BYTES]
        kept = (kept.removeprefix(BOM) if number == 1 else kept).strip()
        if kept or is_cut:
            expected.append(Line(number, kept, end, is_cut))
    assert lines == expected


def _check_line(line: Line, key: str) -> None:
    assert len(line.content) <= MAX_LINE_BYTES
    if len(line.content) <= SHOWN_BYTES:
        assert json.loads(json.dumps(line.text)) == line.text
    try:
        signal = parse(line, source="f")
    except ValidationError as error:
        _check_refusal(error)
        return
    assert not line.is_cut
    found = cast("dict[str, object]", json.loads(line.content))
    said = {_normal(name): value for name, value in found.items() if value is not None}
    _check_fields(signal, said, key)
    try:
        encoded = encode(signal, _no_key)
    except ValidationError as error:
        _check_refusal(error)
        return
    assert encode(encoded.signal, _no_key).body == encoded.body, "it is read back as something else"
    body = json.loads(encoded.body)
    assert body["idempotencyKey"] == encoded.idempotency_key == signal.idempotency_key
    sent = {_normal(name): value for name, value in body.items()}
    tokens = cast("dict[str, object]", said.get("tokens", {}))
    counts = {f"{name}tokens": value for name, value in tokens.items() if value is not None}
    # An empty member is left out; a wallet signal's metric is not sent, the server would ignore it.
    left_out = {"tokens", "metric", *({"member"} if said.get("member") == "" else ())}
    expected = {name: value for name, value in said.items() if name not in left_out}
    metric = cast("dict[str, object]", said.get("metric", {}))
    if metric and signal.type != "wallet":
        expected[_normal(str(metric["ref"]))] = metric["value"]
    assert {"inputtokens": 0, "outputtokens": 0, "idempotencykey": key, **counts, **expected} == sent


def _check_fields(signal: Signal, said: dict[str, object], key: str) -> None:
    assert signal.type == said["type"]
    assert signal.customer_id == said["customerid"]
    assert signal.model == said["model"]
    assert signal.idempotency_key == said.get("idempotencykey", key)


def _check_refusal(error: ValidationError) -> None:
    field, colon, problem = error.message.partition(": ")
    assert field
    assert colon
    assert problem
    assert len(error.message) < 500, "a refusal quotes without end"
    json.dumps(describe(error))


def _normal(name: str) -> str:
    """Take the spelling out of a name: `customerId` and `customer_id` are one."""
    return name.replace("_", "").lower()


def _no_key() -> str:
    raise AssertionError("every line has a key of its own")
