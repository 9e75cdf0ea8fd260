"""A diff of two drivers shows only what differs in kind."""

import re
from difflib import SequenceMatcher
from itertools import combinations
from pathlib import Path

import pytest

import clocknext_transports

WORLDS = ("sync", "asyncio", "trio")
LEAST_RATIO = 0.6


def plain(world: str) -> str:
    """Return a driver's text without what colour and module names add to it."""
    text = (Path(clocknext_transports.__file__).parent / world / "driver.py").read_text(encoding="utf-8")
    text = text.replace("await ", "").replace("async ", "")
    return re.sub(r"\b(?:asyncio|trio\.lowlevel|trio\.abc|trio|threading|_thread)\.", "", text)


@pytest.mark.parametrize(("one", "other"), list(combinations(WORLDS, 2)))
def test_two_drivers_are_alike(one: str, other: str) -> None:
    ratio = SequenceMatcher(None, plain(one), plain(other), autojunk=False).ratio()
    assert ratio >= LEAST_RATIO, f"{one} and {other}: {ratio:.2f}"
