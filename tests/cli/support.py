"""What the tests of the command line share: the real process, and signals as lines."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import clocknext_transports

TIMEOUT = 60.0
KEY = "cnk_test_emulator"
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "usage.jsonl"
COMMAND = [sys.executable, "-W", "error", "-m", "clocknext_transports.cli"]

_ROOT = Path(clocknext_transports.__file__).parents[1]
_FOREIGN = ("CLOCKNEXT_", "HTTP_", "HTTPS_", "ALL_", "NO_")


def environment(**settings: str) -> dict[str, str]:
    """This process's environment, without settings and proxies of whoever runs the tests."""
    own = {name: value for name, value in os.environ.items() if not name.upper().startswith(_FOREIGN)}
    return own | {"PYTHONPATH": str(_ROOT), "PYTHONUTF8": "1"} | settings


def connected(url: str, key: str = KEY) -> dict[str, str]:
    return environment(CLOCKNEXT_BASE_URL=url, CLOCKNEXT_API_KEY=key)


_PROGRESS = re.compile(
    r"[0-9,]+ (priced|delivered), ([0-9,]+ pending, )?[0-9,]+ refused|.* Trying again in [0-9.]+ s\."
)


def clocknext(
    *arguments: str | Path, env: Mapping[str, str], cwd: Path | None = None, stdin: bytes | None = None
) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=env,
        cwd=cwd,
        input=stdin or b"",
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@contextmanager
def started(
    *arguments: str | Path, env: Mapping[str, str], cwd: Path | None = None
) -> "Generator[subprocess.Popen[str], None, None]":
    """A process that is still running; whatever happens, it is not any more in the end."""
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env=env,
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], bool]) -> None:
    """Ask again until it holds. The condition is a round trip to some server, so this does not spin."""
    give_up_at = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > give_up_at:
            pytest.fail("it never came to hold")


def ledger_of(url: str) -> dict[str, Any]:
    with httpx.Client(trust_env=False, timeout=TIMEOUT) as client:
        read: dict[str, Any] = client.get(f"{url}/_emulator/ledger").json()
        return read


def wire(**changes: object) -> dict[str, object]:
    """A wallet signal named as on the wire; `None` leaves a field out."""
    fields: dict[str, object] = {
        "customerId": "cus_123",
        "type": "wallet",
        "model": "gpt-4o-mini",
        "inputTokens": 120,
        "outputTokens": 30,
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def encoded(lines: Sequence[object]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def many(count: int) -> bytes:
    return encoded([wire(inputTokens=number) for number in range(count)])


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def besides_progress(stderr: str) -> str:
    """Return what a command said on stderr, but for the lines of its progress: a busy machine has some."""
    return "".join(line for line in stderr.splitlines(keepends=True) if not _PROGRESS.fullmatch(line.strip()))
