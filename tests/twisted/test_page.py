"""docs/writing-a-driver.md: its program for Twisted runs, and the driver is as short as it says."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from clocknext_transports.emulator import emulator

DOCS = Path(__file__).parent.parent.parent / "docs"
DRIVER = DOCS / "examples" / "twisted_driver.py"
PAGE = (DOCS / "writing-a-driver.md").read_text(encoding="utf-8")


def test_the_program_runs_and_bills() -> None:
    (found,) = re.findall(r"^\.\. code-block:: python\n\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    plain = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with emulator() as server:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(found)],
            env={
                **plain,
                "PYTHONPATH": os.fspath(DRIVER.parent),
                "CLOCKNEXT_API_KEY": server.api_key,
                "CLOCKNEXT_BASE_URL": server.url,
            },
            cwd=DOCS.parent,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert [signal.customer_id for signal in server.ledger.signals] == ["cus_123"]


def test_the_driver_has_at_most_135_lines_of_code() -> None:
    lines = [line.strip() for line in DRIVER.read_text(encoding="utf-8").splitlines()]
    code = [line for line in lines if line and not line.startswith("#")]
    assert 0 < len(code) <= 135
    assert "135 lines of code" in PAGE
