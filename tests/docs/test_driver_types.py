"""The drivers of the documentation are complete: a type checker finds no output that they forget."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs import ROOT
from tests.docs.test_examples import EXAMPLES, Block

DRIVERS = [block for block in EXAMPLES if "assert_never" in block.code]


def problems(code: str, folder: Path) -> str:
    """Check a program with mypy, strictly, and return what it says."""
    program = folder / "program.py"
    program.write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(program)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("driver", DRIVERS, ids=str)
def test_a_driver_of_the_documentation_forgets_no_output(driver: Block, tmp_path: Path) -> None:
    assert problems(driver.code, tmp_path) == ""


def test_an_output_that_is_forgotten_is_found(tmp_path: Path) -> None:
    code = DRIVERS[0].code.replace("case HookOutput():", "case int():")
    assert "assert_never" in problems(code, tmp_path)


def test_there_are_drivers_to_be_checked() -> None:
    assert {block.page.name for block in DRIVERS} >= {"drivers.md", "writing-a-driver.md"}
