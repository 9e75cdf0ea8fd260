"""Every Python example of README.md and docs/ is a complete program that runs against the emulator."""

import os
import re
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from clocknext_transports.emulator import EmulatorServer, emulator
from tests.docs import DOCS, README, ROOT

WITH_PACKAGES = DOCS / "integrations"
"""Pages whose programs need a package each: `tests/integrations` runs them."""
WITH_DATABASE = DOCS / "many-machines.md"
"""The page whose programs need a database: `tests/postgres` runs them."""
PAGES = [
    page
    for page in (README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("**/*.md")))
    if page.parent != WITH_PACKAGES and page != WITH_DATABASE
]
ON_A_FRESH_MACHINE = (
    "python3 -m venv .venv && .venv/bin/pip install -e '.[cli,trio,httpx]' && .venv/bin/clocknext demo",
    "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/pytest -n 2",
)
_FENCED = re.compile(
    r"^(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)\n(?P<code>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    """The number of its first line of code."""
    info: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def run(self) -> None:
        """Execute it in a namespace of its own; a traceback shows the page and the line."""
        code = compile("\n" * (self.line - 1) + self.code, str(self.page), "exec")
        exec(code, {"__name__": "__main__"})


def blocks_of(*pages: Path) -> Iterator[Block]:
    """Read the fenced blocks of pages."""
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for found in _FENCED.finditer(text):
            line = text.count("\n", 0, found.start("code")) + 1
            yield Block(page, line, found["info"].strip(), found["code"])


BLOCKS = list(blocks_of(*PAGES))
EXAMPLES = [block for block in BLOCKS if block.info == "python"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Generator[EmulatorServer, None, None]:
    """Run an emulator that the environment names, reached directly."""
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    with emulator() as running:
        monkeypatch.setenv("CLOCKNEXT_API_KEY", running.api_key)
        monkeypatch.setenv("CLOCKNEXT_BASE_URL", running.url)
        yield running


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
@pytest.mark.usefixtures("server")
def test_example_runs_and_leaves_no_thread_behind(example: Block) -> None:
    before = set(threading.enumerate())

    example.run()

    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith("clocknext")]


def test_quick_starts_bill(server: EmulatorServer) -> None:
    quick_starts = [example for example in EXAMPLES if example.page == README][:3]

    for example in quick_starts:
        example.run()

    assert [signal.type for signal in server.ledger.signals] == ["credit", "wallet", "outcome"]


def test_pages_have_examples() -> None:
    pages = {example.page.name for example in EXAMPLES}

    assert {"README.md", "configuration.md", "errors.md", "buffering.md", "drivers.md"} <= pages
    assert {"transports.md", "emulator.md"} <= pages


def test_no_python_escapes() -> None:
    escaping = [str(block) for block in BLOCKS if "py" in block.info.lower() and block.info != "python"]

    assert escaping == []


def test_an_example_that_is_wrong_fails() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        Block(README, 7, "python", "1 / 0\n").run()

    assert raised.traceback[-1].lineno == 6  # counted from 0


@pytest.mark.parametrize("command", ON_A_FRESH_MACHINE)
def test_readme_has_the_lines_for_a_fresh_machine(command: str) -> None:
    assert command in README.read_text(encoding="utf-8").splitlines()
