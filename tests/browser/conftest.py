"""The browser, and the skip where there is none."""

import os
from collections.abc import Generator
from pathlib import Path
from typing import cast

import pytest

from tests.browser.chromium import REQUIRED, Page, chromium, executable


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Generator[Page, None, None]:
    """One page of a headless Chromium."""
    if executable() is None:
        message = "there is no Chromium: apt-get install chromium"
        if os.environ.get(REQUIRED) == "required":
            pytest.fail(message)
        pytest.skip(message)
    profile: Path = tmp_path_factory.mktemp("profile")
    with chromium(profile) as page:
        yield page


@pytest.fixture(autouse=True)
def _no_error_in_the_console(request: pytest.FixtureRequest) -> Generator[None, None, None]:
    yield
    if "browser" in request.fixturenames:
        page: Page = request.getfixturevalue("browser")
        events, page.events = page.events, []
        assert [each for each in events if not _is_of_the_network(each)] == []


def _is_of_the_network(event: dict[str, object]) -> bool:
    entry = cast("dict[str, object]", event.get("entry", {}))
    return entry.get("source") == "network"
