"""JSON Lines, purely: bytes in, lines out; a line in, a signal out, under a key that can be derived again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from typing import NoReturn, cast, get_args

from clocknext_core import ClockNextError, Signal, ValidationError
from clocknext_core.checks import check_choice
from clocknext_core.errors import invalid
from clocknext_core.limits import MAX_BODY_BYTES
from clocknext_core.signals import (
    ARGUMENTS,
    FIELDS_OF,
    IN_EVERY_SIGNAL,
    SignalType,
    make_signal,
)
from clocknext_core.tokens import WIRE_NAMES
from clocknext_core.wire import camel_case

MAX_LINE_BYTES = 4 * MAX_BODY_BYTES
"""Most bytes of a line that are kept. By blanks and escapes it may be longer than the body made of it."""

_BOM = b"\xef\xbb\xbf"
_MAX_NAME_SHOWN = 60
_LEAST_PREFIX = 4
"""Characters of a name that make it likely to be the beginning of a field's."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line that is not blank."""

    number: int
    """Counted from 1, blank lines included, as an editor does."""
    content: bytes
    """Without its end, blanks around it and a byte order mark: CRLF or LF makes no difference."""
    end: int
    """Bytes of input up to the end of this line."""
    is_cut: bool = False
    """Whether it was longer than `MAX_LINE_BYTES`; `content` is then its beginning."""

    @property
    def text(self) -> str:
        """The content as text; what is not UTF-8 is shown as escapes."""
        return self.content.decode("utf-8", "backslashreplace")


class Splitter:
    """Cut a stream of bytes into lines. It holds one unfinished line at most, and no more than its limit."""

    def __init__(self) -> None:
        self._started = bytearray()
        self._is_cut = False
        self._number = 0
        self._offset = 0

    def feed(self, data: bytes) -> list[Line]:
        """Take the next bytes and return the lines that end in them. `b""` ends the last line."""
        *ends, rest = data.split(b"\n")
        lines = [line for part in ends if (line := self._end(part, 1)) is not None]
        self._add(rest)
        if not data and (last := self._end(b"", 0)) is not None:
            lines.append(last)
        return lines

    def _add(self, part: bytes) -> None:
        room = MAX_LINE_BYTES - len(self._started)
        self._started += part[:room]
        self._is_cut |= len(part) > room
        self._offset += len(part)

    def _end(self, part: bytes, separator: int) -> Line | None:
        self._add(part)
        self._number += 1
        self._offset += separator
        content, is_cut = bytes(self._started), self._is_cut
        self._started.clear()
        self._is_cut = False
        if self._number == 1:
            content = content.removeprefix(_BOM)
        content = content.strip()
        return Line(self._number, content, self._offset, is_cut) if content or is_cut else None


def check_beginning(content: bytes) -> None:
    """Check that an input is JSON Lines of signals, by its first line that is not blank.

    Raises:
        NotSignalsError: It can't be: one message says so, instead of a refusal for each line.
    """
    if content.startswith(REFUSED_MARK):
        raise NotSignalsError(
            "The input lists lines that were refused. Mend them in the file they are of, and send that "
            "again: what was delivered of it is not billed again"
        )
    if content.startswith(b"{") and content != b"{":
        return
    for mark, problem, remedy in _OTHER_FORMATS:
        if content.startswith(mark):
            raise NotSignalsError(f"{_NOT_LINES}{problem}. {remedy}")
    start = content[:_MAX_NAME_SHOWN].decode("utf-8", "backslashreplace")
    comma = " CSV has to be converted first." if b"," in content else ""
    raise NotSignalsError(f"{_NOT_LINES}it begins with {start!r}. Give one JSON object a line.{comma}")


class NotSignalsError(ClockNextError):
    """An input is no JSON Lines of signals at all."""


REFUSED_MARK = b'{"line": '
"""What each line of a file of refused lines begins with."""
_NOT_LINES = "The input is not JSON Lines: "

_OTHER_FORMATS = (
    (b"\x1f\x8b", "it is compressed with gzip", "Give it unpacked: gunzip -c FILE | clocknext send -"),
    (b"PK\x03\x04", "it is a zip archive", "Unpack it first."),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd", "Give it unpacked: zstdcat FILE | clocknext send -"),
    (b"\xff\xfe", "it is UTF-16", "Convert it to UTF-8: iconv -f UTF-16 -t UTF-8 FILE | clocknext send -"),
    (b"\xfe\xff", "it is UTF-16", "Convert it to UTF-8: iconv -f UTF-16 -t UTF-8 FILE | clocknext send -"),
    (b"[", "it is a JSON array", "Give one object a line: jq -c '.[]' FILE | clocknext send -"),
    (b"{", "its objects take several lines", "Give one object a line: jq -c . FILE | clocknext send -"),
)
"""What other files begin with, what that is, and what to do."""


def derive_key(line: Line, *, source: str = "") -> str:
    """Derive a line's idempotency key from its number, its content and the source's name: 70 characters.

    The same line of the same file has the same key in every run, two equal lines of a file have two, and
    lines that are appended or changed leave the keys of the others alone. A line inserted or removed before
    it gives a line a new key. It takes no memory, however long the file is.
    """
    return "jsonl-" + sha256(f"{source!r}\n{line.number}\n".encode() + line.content).hexdigest()


def parse(line: Line, *, source: str = "") -> Signal:
    """Turn a line into a signal. Names are taken as on the wire or in snake_case; `null` counts as absent.

    Args:
        line: The line.
        source: What tells this file from others, for lines without an idempotency key: see `derive_key`.

    Raises:
        ValidationError: It is refused, and why.
    """
    fields = _arguments(_read_object(line))
    signal_type = fields.pop("type", None)
    if signal_type is None:
        raise invalid("type", "is required")
    check_choice("type", signal_type, get_args(SignalType))
    signal_type = cast("SignalType", signal_type)
    for name in ("customer_id", "model"):
        if name not in fields:
            raise invalid(name, "is required")
    for name in fields:
        if name not in FIELDS_OF[signal_type] and name not in IN_EVERY_SIGNAL:
            raise invalid(name, f"is not a field of {signal_type} signals")
    fields.setdefault("idempotency_key", derive_key(line, source=source))
    return make_signal(signal_type, fields)


_ARGUMENTS = {
    **{name: name for name in ("type", *IN_EVERY_SIGNAL, *frozenset[str]().union(*FIELDS_OF.values()))},
    **ARGUMENTS,
    **{f"{count}_tokens": f"{count}_tokens" for count in WIRE_NAMES},
    **{wire_name: f"{count}_tokens" for count, wire_name in WIRE_NAMES.items()},
}
"""Names a line may use, and the arguments they stand for."""


def _read_object(line: Line) -> dict[str, object]:
    if line.is_cut:
        raise invalid("line", f"is longer than {MAX_LINE_BYTES} bytes")
    try:
        value: object = _DECODER.decode(line.content.decode())
    except ValidationError:
        raise
    except UnicodeDecodeError as error:
        raise invalid("line", f"is not UTF-8 at byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at")
        raise invalid("line", f"is not JSON: {what} at character {error.pos + 1}") from None
    except ValueError:
        raise invalid(
            "line", "is not JSON that can be read: it holds a number of thousands of digits"
        ) from None
    except RecursionError:
        raise invalid("line", "is nested too deeply") from None
    if not isinstance(value, dict):
        raise invalid("line", "is not a JSON object")
    return cast("dict[str, object]", value)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise invalid("line", "gives a name twice in the same object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise invalid("line", f"is not JSON: {name} is no JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


_TIMES = frozenset({"timestamp", "time", "date", "created_at", "createdat", "occurred_at", "occurredat"})


def _hint(name: str) -> str:
    """Return what may have been meant by a name that is no field's, as the end of a sentence."""
    if name.lower() in _TIMES:
        return ": a signal has no time of its own, the service records when it arrives"
    near = get_close_matches(name, _ARGUMENTS, n=1, cutoff=0.7)
    if not near and len(name) >= _LEAST_PREFIX:
        near = [each for each in _ARGUMENTS if each.lower().startswith(name.lower())][:1]
    if near:
        return f": did you mean {camel_case(_ARGUMENTS[near[0]])}?"
    return ' (a metric is given as "metric": {"ref": …, "value": …})'


def _arguments(found: Mapping[str, object]) -> dict[str, object]:
    """Name the fields as a signal's arguments, and put token counts together."""
    fields: dict[str, object] = {}
    for spelling, value in found.items():
        name = _ARGUMENTS.get(spelling)
        if name is None:
            shown = spelling if len(spelling) <= _MAX_NAME_SHOWN else spelling[:_MAX_NAME_SHOWN] + "…"
            raise invalid(shown, f"is not a field of a signal{_hint(spelling)}")
        if value is None:
            continue
        if name in fields:
            raise invalid(name, "is given twice")
        fields[name] = value
    counts = {count: fields.pop(f"{count}_tokens") for count in WIRE_NAMES if f"{count}_tokens" in fields}
    if counts:
        if "tokens" in fields:
            raise invalid("tokens", "must not be given together with a count of its own")
        fields["tokens"] = counts
    if isinstance(tokens := fields.get("tokens"), dict):
        fields["tokens"] = {name: _whole(count) for name, count in cast("dict[str, object]", tokens).items()}
    return fields


def _whole(count: object) -> object:
    """Make 10 of 10.0, as data frames write it: JSON has one kind of numbers."""
    return int(count) if isinstance(count, float) and count.is_integer() else count
