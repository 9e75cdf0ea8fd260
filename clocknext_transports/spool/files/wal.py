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


def unread(path: Path) -> list[Frame]:
    """Return the frames that SQLite will not read, if a whole commit is among them.

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
    magic = struct.unpack(">I", content[:4])[0]
    frames = [*_frames(content)]
    return _behind_damage(content, frames, _MAGIC.get(magic, "<"))


def _frames(content: bytes) -> Iterator[Frame]:
    for at in range(_HEADER, len(content) - _FRAME_HEADER - PAGE_SIZE + 1, _FRAME_HEADER + PAGE_SIZE):
        number, size, _, _, one, two = struct.unpack(">IIIIII", content[at : at + _FRAME_HEADER])
        start = at + _FRAME_HEADER
        page = content[start : start + PAGE_SIZE]
        yield Frame(number, size != 0, content[at + 8 : at + 16], (one, two), content[at : at + 8], page)


def _behind_damage(content: bytes, frames: list[Frame], order: str) -> list[Frame]:
    """Return the frames of this log's generation from the commit on that breaks the chain.

    The frames of that commit before the damage are among them: the signal may be in one of those, and the
    flipped bit in another.
    """
    header, salts = content[:24], content[16:24]
    if _checksum(header, (0, 0), order) != struct.unpack(">II", content[24:32]):
        # Nothing in the header can be trusted: the generation is that of the first frame.
        behind = [frame for frame in frames if frame.salts == frames[0].salts]
        return behind if any(frame.commits for frame in behind) else []
    running = struct.unpack(">II", content[24:32])
    begun = 0  # where the commit begins that is being read
    for number, frame in enumerate(frames):
        running = _checksum(frame.header + frame.page, (running[0], running[1]), order)
        if frame.salts != salts or running != frame.checksum:
            break
        if frame.commits:
            begun = number + 1
    else:
        return []
    behind = [later for later in frames[number:] if _are_alike(later.salts, salts)]
    is_at_the_end = number + 1 == len(frames)
    if is_at_the_end and behind:
        # A whole frame. A kill would have left a part of it: the flipped bit may be that of the commit.
        return frames[begun:]
    # One frame over those of an older log: a kill came between its header and its page.
    was_cut_short = len(behind) == 1
    # A commit that was cut short: its signals were not acknowledged.
    if was_cut_short or not any(frame.commits for frame in behind):
        return []
    return [*frames[begun:number], *behind]


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
