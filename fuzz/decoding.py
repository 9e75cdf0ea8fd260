"""How targets read their bytes: choices from the front, and the rest as it is."""

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")

KEY = "key_of_fuzz_'\"\\/+key"
"""The API key of every target: as awkward as one may be, it must turn up in no error and no repr."""
KEY_IN_JSON = json.dumps(KEY)[1:-1].replace("/", "\\/")
"""The same as some JSON writers put it."""
SPELLINGS = (KEY, KEY_IN_JSON, json.dumps(KEY)[1:-1], repr(KEY)[1:-1])

SCALARS = (None, True, False, 0, 1, -1, 2**53, 10**400, 0.5, 1e300)


class Decoder:
    """Read choices from the front of the bytes; past the end every byte is 0.

    Args:
        data: The input.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def has_ended(self) -> bool:
        """Whether every byte has been read."""
        return self._at >= len(self._data)

    def below(self, limit: int) -> int:
        """Read a number from 0 to `limit` - 1: of one byte, or of two where one does not reach."""
        width = 1 if limit <= 256 else 2
        number = int.from_bytes(self._data[self._at : self._at + width], "big")
        self._at += width
        return number % limit

    def pick(self, choices: Sequence[T]) -> T:
        """Choose one of several."""
        return choices[self.below(len(choices))]

    def rest(self) -> bytes:
        """Take all that is left."""
        data = self._data[self._at :]
        self._at = len(self._data)
        return data


def built_value(decoder: Decoder, words: Sequence[str], depth: int = 6) -> object:
    """Build a JSON value: from bytes alone, a fuzzer seldom gets past the parser.

    Args:
        decoder: What chooses.
        words: Names and texts to choose from.
        depth: How deep objects and lists may yet be nested.
    """
    kind = decoder.below(16)
    if kind < len(SCALARS):
        return SCALARS[kind]
    if kind < 12 or depth == 0:
        return decoder.pick(words)
    if kind < 14:
        return [built_value(decoder, words, depth - 1) for _ in range(decoder.below(4))]
    return built_object(decoder, words, depth - 1)


def built_object(decoder: Decoder, words: Sequence[str], depth: int = 6) -> dict[str, object]:
    """Build a JSON object; see `built_value`."""
    return {decoder.pick(words): built_value(decoder, words, depth) for _ in range(decoder.below(12))}


def with_key(data: bytes) -> bytes:
    r"""Let a peer echo the API key: `\x01` stands for it, `\x02` for how JSON puts it."""
    return data.replace(b"\x01", KEY.encode()).replace(b"\x02", KEY_IN_JSON.encode())


def holds_key(text: str) -> bool:
    """Tell whether a text shows the API key."""
    return any(spelling in text for spelling in SPELLINGS)


def expanded(data: bytes, limit: int) -> bytes:
    r"""Let a short input make a long one: `\xff` and n repeat the byte before for n KiB; n = 0 is `\xff`.

    Args:
        data: The input.
        limit: How long repetition may make it, bytes.
    """
    before, *repeats = data.split(b"\xff")
    made = bytearray(before)
    for part in repeats:
        count = part[0] if part else 0
        if count == 0:
            made += b"\xff"
        elif made:
            made += made[-1:] * min(count * 1024, limit - len(made))
        made += part[1:]
    return bytes(made)


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut at the given places, taken modulo the length. No part is empty: that would be the end."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]
