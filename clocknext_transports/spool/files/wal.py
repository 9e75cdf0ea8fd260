"""The part of SQLite's write-ahead log that SQLite does not read.

A log is a chain: each frame's checksum covers all frames before it. At the first checksum that is wrong
SQLite silently takes the log to end, since a commit that was cut short looks the same. But behind a flipped
bit whole commits may follow, of signals that were acknowledged. Their pages are returned here.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from clocknext_transports.spool.files.records import PAGE_SIZE

_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}
"""The first word of a log, and the byte order of its checksums."""
_HEADER, _FRAME_HEADER = 32, 24
_MAX_AGE = 2**20
"""How often at most a log was begun anew since it was made."""


class Frame(NamedTuple):
    """One page of a log, and what is written about it."""

    number: int
    """The page's number in the file."""
    commits: bool
    """Whether a commit ends with it."""
    salts: bytes
    """They tell this log's frames from those of an older log in the same file."""
    checksum: tuple[int, int]
    header: bytes
    page: bytes


def unread(path: Path) -> tuple[list[Frame], bool]:
    """Return the frames that SQLite will not read, if a whole commit may be among them.

    Args:
        path: The log; it need not be there.

    Returns:
        The frames, and whether parts of the log are no frames at all, such as zeros: what was there is lost.

    Raises:
        OSError: It can't be read.
    """
    content = _content(path)
    return _behind_damage(content, [*_frames(content)])


def frames(path: Path) -> list[Frame]:
    """Return all frames of a log, also those of older logs in the same file.

    Raises:
        OSError: It can't be read.
    """
    return [*_frames(_content(path))]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _frames(content: bytes) -> Iterator[Frame]:
    for at in range(_HEADER, len(content) - _FRAME_HEADER - PAGE_SIZE + 1, _FRAME_HEADER + PAGE_SIZE):
        number, size, _, _, one, two = struct.unpack(">IIIIII", content[at : at + _FRAME_HEADER])
        start = at + _FRAME_HEADER
        page = content[start : start + PAGE_SIZE]
        yield Frame(number, size != 0, content[at + 8 : at + 16], (one, two), content[at : at + 8], page)


def _behind_damage(content: bytes, frames: list[Frame]) -> tuple[list[Frame], bool]:
    """Return the frames of this log's generation from the commit on that breaks the chain.

    The frames of that commit before the damage are among them: the signal may be in one of those, and the
    flipped bit in another.
    """
    if not frames:
        return [], False
    header, salts = content[:24], content[16:24]
    order = _MAGIC.get(int.from_bytes(content[:4]))
    if order is None or _checksum(header, (0, 0), order) != struct.unpack(">II", content[24:32]):
        # Nothing in the header can be trusted, not even which frames are this log's, and which older ones'.
        return frames, True
    running = struct.unpack(">II", content[24:32])
    begun = 0  # where the commit begins that is being read
    for number, frame in enumerate(frames):
        running = _checksum(frame.header + frame.page, (running[0], running[1]), order)
        if frame.salts != salts or running != frame.checksum:
            break
        if frame.commits:
            begun = number + 1
    else:
        return [], False
    behind = [later for later in frames[number:] if _are_alike(later.salts, salts)]
    others = [later for later in frames[number:] if not _are_alike(later.salts, salts)]
    if not all(_is_older(later.salts, salts) for later in others):
        return frames[begun:], True
    is_at_the_end = number + 1 == len(frames)
    if is_at_the_end and behind:
        # A whole frame. A kill would have left a part of it: the flipped bit may be that of the commit.
        return frames[begun:], False
    # One frame over those of an older log: a kill came between its header and its page.
    was_cut_short = len(behind) == 1
    # A commit that was cut short: its signals were not acknowledged.
    if was_cut_short or not any(frame.commits for frame in behind):
        return [], False
    return [*frames[begun:number], *behind], False


def _is_older(salts: bytes, current: bytes) -> bool:
    """Return whether a frame with these salts was left by an earlier log in the same file.

    SQLite adds one to the first salt each time it begins the log anew. Zeros and garbage are no frame's.
    """
    age = (int.from_bytes(current[:4]) - int.from_bytes(salts[:4])) % 2**32
    return 0 < age <= _MAX_AGE and salts != bytes(8)


def _are_alike(one: bytes, other: bytes) -> bool:
    """Return whether salts are the same but for one bit. Those of an older log differ in half of them."""
    return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count() <= 1


def _checksum(data: bytes, start: tuple[int, int], order: str) -> tuple[int, int]:
    one, two = start
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & 0xFFFFFFFF
        two = (two + odd + one) & 0xFFFFFFFF
    return one, two
