"""Signals in raw bytes of an SQLite file, found without SQLite.

For files and logs that SQLite does not read, or not to the end. A flipped bit can hide rows in many ways: in
the schema, in the type of a page, in the number of its cells, in a pointer to a cell. But a row is a record
that describes itself: a header with the type and length of each column, then the columns. So every record
that looks like a signal is tried, wherever it is, and the signal's own checksum says whether it is one.

This also finds rows that were deleted and not yet overwritten. Such a signal is sent once more under its key.
"""

import re
import struct
from collections.abc import Callable, Iterator
from typing import TypeAlias

Columns: TypeAlias = tuple[bytes, bytes, float, int]
"""Key, body, time and checksum of a signal."""
ReadPage: TypeAlias = Callable[[int], bytes]
"""Returns a page by its number, counted from 1; what is not there is empty."""

PAGE_SIZE = 4096

_HEADER = re.compile(rb"[\x06-\x09]\x00")
"""How a signal's record begins: the header's length, and the row's number, which is stored elsewhere."""
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}
"""The length of an integer by its type; the last two are 0 and 1 themselves."""
_FLOAT = 7
_LEAF = b"\x0d"
"""How a page begins in which a table's rows are."""


def find(page: bytes, read_page: ReadPage) -> Iterator[Columns]:
    """Find what may be signals on a page.

    Args:
        page: The page.
        read_page: Reads the pages in which a long record goes on.
    """
    for found in _HEADER.finditer(page):
        try:
            columns = _read(page, found.start(), read_page)
        except (IndexError, struct.error):
            continue
        if columns is not None:
            yield columns


def cells(page: bytes, read_page: ReadPage) -> Iterator[Columns | None]:
    """Read the cells of a page in which a table's rows are; `None` for one that is no signal.

    Rows that were deleted are not among them. Pages of other kinds have none.
    """
    count = int.from_bytes(page[3:5]) if page[:1] == _LEAF else 0
    for pointer in range(8, min(8 + 2 * count, len(page)), 2):
        try:
            start = int.from_bytes(page[pointer : pointer + 2])
            for _ in range(2):  # the record's length and the row's number
                while page[start] >= 0x80:
                    start += 1
                start += 1
            columns = _read(page, start, read_page) if _HEADER.match(page, start) else None
        except (IndexError, struct.error):
            columns = None
        yield columns


def _read(page: bytes, start: int, read_page: ReadPage) -> Columns | None:
    """Read the record that begins here, if it has the columns of a signal."""
    end = start + page[start]
    at = start + 2
    key_type, at = _varint(page, at)
    body_type, at = _varint(page, at)
    time_type, checksum_type = page[at], page[at + 1]
    if at + 2 != end or key_type < 12 or key_type % 2 or body_type < 12 or body_type % 2:
        return None
    if (time_type != _FLOAT and time_type not in _INTEGERS) or checksum_type not in _INTEGERS:
        return None
    lengths = (
        (key_type - 12) // 2,
        (body_type - 12) // 2,
        8 if time_type == _FLOAT else _INTEGERS[time_type],
        _INTEGERS[checksum_type],
    )
    data = _payload(page, start, end - start + sum(lengths), read_page)[end - start :]
    if len(data) < sum(lengths):
        return None
    key, data = data[: lengths[0]], data[lengths[0] :]
    body, data = data[: lengths[1]], data[lengths[1] :]
    time, checksum = data[: lengths[2]], data[lengths[2] :]
    recorded_at = struct.unpack(">d", time)[0] if time_type == _FLOAT else float(_integer(time_type, time))
    return key, body, recorded_at, _integer(checksum_type, checksum[: lengths[3]])


def _payload(page: bytes, start: int, length: int, read_page: ReadPage) -> bytes:
    """Return a record of this length, which goes on in other pages if it is long."""
    most = PAGE_SIZE - 35
    if length <= most:
        return page[start : start + length]
    least = (PAGE_SIZE - 12) * 32 // 255 - 23
    local = least + (length - least) % (PAGE_SIZE - 4)
    if local > most:
        local = least
    parts = [page[start : start + local]]
    left = length - local
    following = page[start + local : start + local + 4]
    while left > 0:
        overflow = read_page(int.from_bytes(following))
        if len(overflow) < PAGE_SIZE:
            return b""
        parts.append(overflow[4 : 4 + left])
        left -= len(parts[-1])
        following = overflow[:4]
    return b"".join(parts)


def _integer(kind: int, data: bytes) -> int:
    return kind - 8 if kind in (8, 9) else int.from_bytes(data, signed=True)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read an integer of SQLite's variable length; return it and where it ends."""
    value = 0
    for length in range(3):  # longer ones would be lengths of more than a MiB
        byte = data[at + length]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + length + 1
    raise IndexError("the integer is too long")
