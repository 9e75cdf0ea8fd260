"""What SQLite leaves unread of a write-ahead log.

A log is a chain: each frame's checksum covers all frames before it. At the first that does not fit SQLite
takes the log to end, silently, since that is what a commit that was cut short looks like. But after a flipped
bit whole commits follow, of signals that were acknowledged. Their pages are read here: a row's own checksum
says whether it is as it was written.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

Value: TypeAlias = bytes | int | float | None

_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}
"""What a log begins with, and the byte order of its checksums."""
_HEADER, _FRAME_HEADER = 32, 24
_LEAF = 0x0D
"""What a page of rows begins with."""


class _Frame(NamedTuple):
    commits: bool
    salts: bytes
    checksum: tuple[int, int]
    header: bytes
    page: bytes


def unread(path: Path) -> list[tuple[Value, ...]]:
    """Return the columns of all rows in frames that SQLite will not read, if a whole commit is among them.

    Args:
        path: The log; it need not be there.

    Raises:
        OSError: It can't be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    if len(content) < _HEADER:
        return []
    magic, _, page_size, _ = struct.unpack(">IIII", content[:16])
    order = _MAGIC.get(magic, "<")
    if page_size not in (512 << shift for shift in range(8)):
        page_size = 4096  # what it always is, unless it is damaged
    frames = [*_frames(content, page_size)]
    behind = _behind_damage(content, frames, order)
    if not any(frame.commits for frame in behind):
        return []  # a commit that was cut short, which nobody was told of
    return [row for frame in behind for row in _rows(frame.page)]


def _frames(content: bytes, page_size: int) -> Iterator[_Frame]:
    for at in range(_HEADER, len(content) - _FRAME_HEADER - page_size + 1, _FRAME_HEADER + page_size):
        _, size, _, _, one, two = struct.unpack(">IIIIII", content[at : at + _FRAME_HEADER])
        start = at + _FRAME_HEADER
        page = content[start : start + page_size]
        yield _Frame(size != 0, content[at + 8 : at + 16], (one, two), content[at : at + 8], page)


def _behind_damage(content: bytes, frames: list[_Frame], order: str) -> list[_Frame]:
    """Return the frames of this log's generation from the first on that breaks the chain."""
    header, salts = content[:24], content[16:24]
    if _checksum(header, (0, 0), order) != struct.unpack(">II", content[24:32]):
        # Nothing in the header is to be trusted: the generation is that of the first frame.
        return [frame for frame in frames if frame.salts == frames[0].salts]
    running = struct.unpack(">II", content[24:32])
    for number, frame in enumerate(frames):
        running = _checksum(frame.header + frame.page, (running[0], running[1]), order)
        if frame.salts != salts or running != frame.checksum:
            behind = [later for later in frames[number:] if later.salts == salts]
            # One frame over those of an older log: a kill came between its header and its page.
            was_cut_short = len(behind) == 1 and number + 1 < len(frames)
            return [] if was_cut_short else behind
    return []


def _checksum(data: bytes, start: tuple[int, int], order: str) -> tuple[int, int]:
    one, two = start
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & 0xFFFFFFFF
        two = (two + odd + one) & 0xFFFFFFFF
    return one, two


def _rows(page: bytes) -> Iterator[tuple[Value, ...]]:
    """Read the rows of a page, if it is one of rows. One that goes on in other pages is left out."""
    if page[0] != _LEAF:
        return
    count = int.from_bytes(page[3:5])
    for number in range(count):
        try:
            at = int.from_bytes(page[8 + 2 * number : 10 + 2 * number])
            length, at = _varint(page, at)
            _, at = _varint(page, at)
            if length <= len(page) - 35:
                yield tuple(_columns(page[at : at + length]))
        except (IndexError, struct.error):
            continue  # damaged: nothing of it is to be trusted


def _columns(record: bytes) -> Iterator[Value]:
    at_data, at = _varint(record, 0)
    end = at_data
    while at < end:
        kind, at = _varint(record, at)
        if kind >= 12:
            length = (kind - 12) // 2
            yield record[at_data : at_data + length]
        elif kind == 7:
            length = 8
            yield float(struct.unpack(">d", record[at_data : at_data + 8])[0])
        elif kind in (8, 9):
            length = 0
            yield kind - 8
        else:
            length = (0, 1, 2, 3, 4, 6, 8)[kind]
            yield int.from_bytes(record[at_data : at_data + length], signed=True) if length else None
        at_data += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read an integer of SQLite's variable length, and tell where it ends."""
    value = 0
    for length in range(9):
        byte = data[at + length]
        if length == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + length + 1
    raise AssertionError("the ninth byte ends it")
