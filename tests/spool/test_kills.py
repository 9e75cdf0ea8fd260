"""Matrix row 16: SIGKILL anywhere. Accepted means in the spool."""

import re
import subprocess
import sys
from pathlib import Path

TIMES = 20


def test_what_was_acknowledged_outlives_sigkill_at_any_point(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.spool.kills", "--times", str(TIMES), "--directory", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", done.stdout)}
    assert (said["killed"], said["lost"]) == (TIMES, 0)
    assert min(said["acknowledged"], said["kept"], said["adopted"]) > TIMES, "there was something to lose"
