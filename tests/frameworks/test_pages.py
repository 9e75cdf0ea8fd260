"""The program on each framework's page runs, with the real package."""

import os
import subprocess
import sys

import pytest

from tests.frameworks.support import PATIENCE
from tests.integrations.test_pages import FRAMEWORKS, program_of
from tests.life.test_hosts import ROOT


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_program_on_the_page_runs(name: str) -> None:
    pytest.importorskip(FRAMEWORKS[name], exc_type=ImportError)
    clean = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    done = subprocess.run(  # a framework may be set up once in a process
        [sys.executable, "-c", program_of(name)],
        env={**clean, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, "Error" in done.stderr) == (0, False), done.stderr
