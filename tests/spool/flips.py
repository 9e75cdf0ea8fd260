"""Flip single bits of a small file that was left behind, or overwrite areas of it, one after the other, and
look what becomes of its signals.

    python -m tests.spool.flips                 every bit: some 20 minutes
    python -m tests.spool.flips --stride 7      every seventh
    python -m tests.spool.flips --log           every bit of the last commit of a write-ahead log
    python -m tests.spool.flips --areas         zeros and garbage over areas of the file and of its log
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from tests.spool.support import adopted, close_all, keys, opened, quarantined, several, stored

FRAME = 24 + 4096
"""Bytes of a frame of the log: its header and a page."""


@dataclass
class Outcome:
    """What came of many flips."""

    flips: int = 0
    set_aside: int = 0
    """How often the whole file was taken for damaged."""
    lost: int = 0
    """How often a signal was in no file but the one that was set aside."""


def made(path: Path, count: int, *, size: int = 0) -> tuple[Path, set[str]]:
    """Make a file that was left behind, and return it and the keys of its signals."""
    spool = opened(path)
    signals = [stored(number, size=size) for number in range(count)]
    spool.append(signals)
    spool.close()
    (file,) = path.glob("*.db")
    return file, {*keys(signals)}


def made_with_log(path: Path, count: int) -> tuple[Path, set[str], Iterable[int]]:
    """Make a file whose last signal is in its log alone.

    Returns:
        The log, the keys of the signals, and the bits of the last commit: of a table's page and an index's.
    """
    spool = opened(path)
    signals = [stored(number) for number in range(count)]
    for signal in signals:
        spool.append([signal])  # a commit of its own
    (log,) = path.glob("*.db-wal")
    contents = {file.name: file.read_bytes() for file in path.iterdir()}
    spool.close()
    for name, content in contents.items():  # as if the process had been killed
        (path / name).write_bytes(content)
    size = log.stat().st_size
    return log, {*keys(signals)}, range(8 * (size - 2 * FRAME), 8 * size)


def flip_each(path: Path, file: Path, expected: set[str], bits: Iterable[int]) -> Outcome:
    """Flip each of the bits in turn, in a file or its log; the other files stay as they are.

    Raises:
        AssertionError: More than one signal was lost, or as for `change_each`.
    """

    def flipped(content: bytes) -> Iterator[tuple[str, bytes]]:
        for bit in bits:
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            yield f"bit {bit}", bytes(changed)

    return change_each(path, file, expected, flipped(file.read_bytes()), most_lost=1)


def areas(content: bytes, *, step: int = 512) -> Iterator[tuple[str, bytes]]:
    """Overwrite areas of a file, sectors and pages at a time, and what is behind them to the end."""
    size = len(content)
    garbage = Random(size).randbytes(size)
    for start in range(0, size, step):
        for length in (512, 4096, 3 * 4096, size):
            end = min(start + length, size)
            for kind, filling in (("zeros", bytes(size)), ("garbage", garbage)):
                yield f"{kind} {start} to {end}", content[:start] + filling[start:end] + content[end:]
    for kind, filling in (("zeros", bytes(size)), ("garbage", garbage)):
        yield f"{kind} behind the end", content + filling


def change_each(
    path: Path,
    file: Path,
    expected: set[str],
    changes: Iterable[tuple[str, bytes]],
    *,
    most_lost: int | None = None,
) -> Outcome:
    """Give a file each of these contents in turn; the other files stay as they are.

    Raises:
        AssertionError: A signal was changed, or lost without a word; the end of one removed another; an
            intact file beside it was not adopted; or more than `most_lost` signals were lost.
    """
    beside = {each: each.read_bytes() for each in path.iterdir() if each != file}
    outcome = Outcome()
    for name, content in changes:
        shutil.rmtree(path)
        path.mkdir(mode=0o700)
        file.write_bytes(content)
        file.chmod(0o600)
        for each, unchanged in beside.items():
            each.write_bytes(unchanged)
            each.chmod(0o600)
        intact = opened(path)
        intact.append(several(["intact"]))
        intact.close()  # its lease is free, and its signals are there
        spool = opened(path)
        signals, problems = adopted(spool)
        given = {*keys(signals)}
        assert "key-intact" in given, f"{name}: an intact file beside it was not adopted"
        given.discard("key-intact")
        assert given <= expected, f"{name}: a changed signal was given out"
        missing = expected - given
        held = quarantined(path)  # under another key, where the bit is in that
        is_kept = bool([*path.glob("*.damaged")])
        assert most_lost is None or len(missing) <= most_lost, f"{name}: {missing} were lost"
        assert len(missing) <= len(held) or is_kept, f"{name}: {missing} lost without a word"
        assert not (held or is_kept) or problems, f"{name}: nothing was told"
        outcome.flips += 1
        outcome.set_aside += is_kept
        outcome.lost += len(missing) > len(held)
        ended = max(given, default="key-intact")
        spool.erase([ended])
        spool.restart()  # as if its process had died
        left = {*keys(adopted(opened(path))[0])}
        assert given - {ended} <= left, f"{name}: the end of {ended} removed another signal"
        close_all()
    return outcome


def main() -> None:
    """Flip the bits that the arguments say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--log", action="store_true")
    parser.add_argument("--areas", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spool"
        if arguments.areas:
            for log in (False, True):
                file, expected, *_ = made_with_log(path, 3) if log else made(path, 3)
                changes = islice(areas(file.read_bytes()), 0, None, arguments.stride)
                sys.stdout.write(f"{change_each(path, file, expected, changes)}\n")
                shutil.rmtree(path)
            return
        if arguments.log:
            file, expected, bits = made_with_log(path, 3)
        else:
            file, expected = made(path, 3)
            bits = range(file.stat().st_size * 8)
        outcome = flip_each(path, file, expected, [*bits][:: arguments.stride])
        sys.stdout.write(f"{outcome}\n")


if __name__ == "__main__":
    main()
