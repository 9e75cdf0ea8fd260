"""The rules of `pytest -m quick`: none is stale, and some test of every folder stays in the minute."""

from pathlib import Path

import pytest

from tests.quick import SLOW, TESTS, is_quick_file

TEST_FILES = sorted(TESTS.rglob("test_*.py"))
WITHOUT_QUICK_TESTS = {"benchmarks", "browser", "simulation", "typing"}
"""Folders of measurements, a browser, long searches and type checkers."""


@pytest.mark.parametrize("pattern", SLOW)
def test_a_rule_excludes_some_file(pattern: str) -> None:
    assert any(file.match(pattern) for file in TEST_FILES)


def test_every_other_folder_has_quick_tests() -> None:
    def folders(files: list[Path]) -> set[str]:
        return {file.relative_to(TESTS).parts[0] for file in files}

    quick = folders([file for file in TEST_FILES if is_quick_file(file)])
    assert folders(TEST_FILES) - quick == WITHOUT_QUICK_TESTS


def test_a_test_of_the_minute_is_marked(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("quick") is not None
