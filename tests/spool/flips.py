"""Flip single bits of a small file that was left behind, one after the other, and look what becomes of its
signals.

    python -m tests.spool.flips                 every bit: some 20 minutes
    python -m tests.spool.flips --stride 7      every seventh
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.spool.support import adopted, close_all, keys, opened, quarantined, several, stored


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


def flip_each(path: Path, file: Path, expected: set[str], bits: Iterable[int]) -> Outcome:
    """Flip each of the bits in turn.

    Raises:
        AssertionError: A signal was changed, lost without a word, or more than one were lost; or an intact
        file
            beside it was not adopted.
    """
    content = file.read_bytes()
    outcome = Outcome()
    for bit in bits:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        shutil.rmtree(path)
        path.mkdir(mode=0o700)
        file.write_bytes(flipped)
        file.chmod(0o600)
        intact = opened(path)
        intact.append(several(["intact"]))
        intact.restart()  # as if its process had died: its lease is free, and its signals are there
        spool = opened(path)
        signals, problems = adopted(spool)
        given = {*keys(signals)}
        assert "key-intact" in given, f"bit {bit}: an intact file beside it was not adopted"
        given.discard("key-intact")
        assert given <= expected, f"bit {bit}: a changed signal was given out"
        held = {*keys(quarantined(path))}
        missing = expected - given - held
        damaged_keys = held - expected  # a signal in quarantine whose key has the flipped bit
        is_kept = bool([*path.glob("*.damaged")])
        assert len(missing) <= 1, f"bit {bit}: {missing} were lost"
        is_told = bool(damaged_keys or (is_kept and problems))
        assert not missing or is_told, f"bit {bit}: {missing} lost without a word"
        assert not (held or is_kept) or problems, f"bit {bit}: nothing was told"
        outcome.flips += 1
        outcome.set_aside += is_kept
        outcome.lost += bool(missing) and not damaged_keys
        spool.close()
        close_all()
    return outcome


def main() -> None:
    """Flip the bits that the arguments say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stride", type=int, default=1)
    stride: int = parser.parse_args().stride
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spool"
        file, expected = made(path, 3)
        sys.stdout.write(f"{flip_each(path, file, expected, range(0, file.stat().st_size * 8, stride))}\n")


if __name__ == "__main__":
    main()
