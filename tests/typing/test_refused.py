"""Wrong and missing arguments, and `await` in the wrong world, are errors to mypy and to pyright."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REFUSED = Path(__file__).with_name("refused.py")
ACCEPTED = 'ClockNext(api_key="cnk_x")  # type: ignore[arg-type]\n'
"""A right call that is marked as a wrong one."""

CHECKERS = {
    "mypy": (sys.executable, "-m", "mypy", "--no-error-summary", "--no-pretty", "--cache-dir"),
    "pyright": (sys.executable, "-m", "pyright", "--pythonpath", sys.executable),
}
UNNECESSARY = {"mypy": "unused-ignore", "pyright": "reportUnnecessaryTypeIgnoreComment"}


@pytest.mark.parametrize("checker", CHECKERS)
def test_each_wrong_call_is_an_error_and_an_accepted_one_would_be_noticed(
    checker: str, tmp_path: Path
) -> None:
    marked = tmp_path / "marked.py"
    text = REFUSED.read_text("utf-8") + ACCEPTED
    assert text.count("# type: ignore[") > 90
    marked.write_text(text, "utf-8")
    folder = [str(tmp_path / "cache")] if checker == "mypy" else []
    command = [*CHECKERS[checker], *folder, str(marked)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    found = re.findall(r"marked\.py:(\d+).* error: .*[\[(]([\w-]+)[\])]$", done.stdout, re.MULTILINE)
    last = len(text.splitlines())
    assert found == [(str(last), UNNECESSARY[checker])], done.stdout + done.stderr
    assert done.returncode == 1
