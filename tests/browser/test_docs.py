"""The documentation in a browser: no page is wider than its window, and search finds what people type."""

import os
import subprocess
import sys
from collections.abc import Generator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.browser.chromium import Page, executable

pytest.importorskip("sphinx", reason="the documentation is built with Sphinx, which the extra dev brings")

ROOT = Path(__file__).parents[2]
BUILT = "CLOCKNEXT_TESTS_HTML"
"""A folder that has the documentation already; else it is built."""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and logs nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[str, list[str]], None, None]:
    """The address of the documentation, and its pages."""
    if executable() is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    folder = Path(os.environ.get(BUILT) or tmp_path_factory.mktemp("html"))
    if not (folder / "index.html").exists():
        command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(ROOT / "docs"), str(folder)]
        subprocess.run(command, check=True, timeout=300)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    pages = [path.relative_to(folder) for path in folder.rglob("*.html")]
    names = sorted(page.as_posix() for page in pages if not page.parts[0].startswith("_"))
    yield f"http://127.0.0.1:{server.server_port}/", names
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_and_no_line_of_code_is_wider_than_its_column(
    browser: Page, site: tuple[str, list[str]], width: int
) -> None:
    url, pages = site
    assert len(pages) > 40
    browser.resize(width)
    too_wide: list[str] = []
    for page in pages:
        browser.open(url + page)
        lines = browser.run(
            "[...document.querySelectorAll('div.body pre')].some((e) => e.scrollWidth > e.clientWidth)"
        )
        if browser.overflow() > 0 or lines:
            too_wide.append(page)
    browser.resize(1280)
    assert too_wide == []


@pytest.mark.parametrize("word", ["quickstart", "jupyter", "disable", "rate limit", "pytest", "webhook"])
def test_search_finds(browser: Page, site: tuple[str, list[str]], word: str) -> None:
    browser.open(f"{site[0]}search.html?q={word.replace(' ', '+')}")
    browser.until("document.querySelectorAll('#search-results li').length")


def test_code_has_copy_buttons(browser: Page, site: tuple[str, list[str]]) -> None:
    browser.open(f"{site[0]}tutorial.html")
    blocks = browser.run("document.querySelectorAll('div.body div.highlight').length")
    assert browser.texts("button.copy") == ["Copy"] * blocks
    assert blocks > 5
    browser.click("button.copy")
    browser.until("document.querySelector('button.copy').textContent !== 'Copy'")
