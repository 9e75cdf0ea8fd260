"""Matrix row 17: power cut, torn writes. With FULL nothing acknowledged is lost; with less it would be."""

from pathlib import Path

import pytest

from tests.spool.power_cut import Cut, Level, lost, run


def all_cuts(path: Path, level: Level, *, seeds: int, cuts: float) -> list[tuple[Cut, set[str]]]:
    found: list[tuple[Cut, set[str]]] = []
    for seed in range(seeds):
        for cut in run(seed, path / f"{seed}", level=level, steps=40, cuts=cuts):
            found.append((cut, lost(cut, path / f"{seed}-{len(found)}")))
    return found


def test_row_17_power_cut_loses_nothing_acknowledged(tmp_path: Path) -> None:
    found = all_cuts(tmp_path, "FULL", seeds=4, cuts=0.004)
    assert [gone for _, gone in found if gone] == []
    assert len(found) > 6
    assert sum(len(cut.stored) for cut, _ in found) > 100


@pytest.mark.parametrize("level", ["NORMAL", "OFF"])
def test_row_17_power_cut_would_lose_what_is_not_synced(tmp_path: Path, level: Level) -> None:
    found = all_cuts(tmp_path, level, seeds=3, cuts=0.004)
    assert sum(len(gone) for _, gone in found) > 0
