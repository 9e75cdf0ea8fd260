"""Every Python example of README.md and docs/ passes mypy --strict, in one run over all of them."""

import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tests.docs import README, ROOT
from tests.docs.test_examples import EXAMPLES, WITH_DATABASE, Block, blocks_of

ERROR = re.compile(r"^(?P<file>[\w.]+):(?P<line>\d+): error: (?P<text>.*)$", re.MULTILINE)


def module_of(example: Block) -> str:
    """Return a module's name for an example: its page and line."""
    page = example.page.relative_to(ROOT).with_suffix("").as_posix()
    return re.sub(r"\W", "_", f"{page}_{example.line}")


def errors_in(examples: Iterable[Block], folder: Path) -> Sequence[str]:
    """Check examples as modules in a folder. Return each error with its page and line."""
    pages = {f"{module_of(example)}.py": example for example in examples}
    for name, example in pages.items():
        (folder / name).write_text("\n" * (example.line - 1) + example.code, "utf-8")
    options = ("--no-error-summary", "--no-pretty", "--cache-dir", str(folder / "cache"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), *options, *pages],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    found = [
        f"{pages[each['file']].page.relative_to(ROOT)}:{each['line']}: {each['text']}"
        for each in ERROR.finditer(done.stdout)
    ]
    assert done.returncode == (1 if found else 0), done.stdout + done.stderr
    return found


def test_every_example_is_typed(tmp_path: Path) -> None:
    with_database = [block for block in blocks_of(WITH_DATABASE) if block.info == "python"]
    examples = [*EXAMPLES, *with_database]
    assert len({module_of(example) for example in examples}) == len(examples) > 40
    assert errors_in(examples, tmp_path) == []


def test_examples_that_are_wrong_are_found_with_their_page_and_line(tmp_path: Path) -> None:
    wrong = [
        Block(README, 7, "python", "from clocknext import Tokens\n\nTokens(input='1')\n"),
        Block(README, 17, "python", "def half(x):\n    return x / 2\n"),
        Block(README, 27, "python", "from clocknext import NoSuchName\n"),
    ]
    found = [(error.split(": ")[0], error.split()[-1]) for error in errors_in(wrong, tmp_path)]
    assert sorted(found) == [
        ("README.md:17", "[no-untyped-def]"),
        ("README.md:27", "[attr-defined]"),
        ("README.md:9", "[arg-type]"),
    ]


def test_an_output_that_a_driver_forgets_is_found(tmp_path: Path) -> None:
    drivers = [example for example in EXAMPLES if "assert_never" in example.code]
    assert {driver.page.name for driver in drivers} >= {"drivers.md", "writing-a-driver.md"}
    forgetful = [
        replace(driver, code=driver.code.replace("case HookOutput():", "case int():")) for driver in drivers
    ]
    found = errors_in(forgetful, tmp_path)
    assert sum("assert_never" in error for error in found) == len(drivers)
