"""Starting processes, and ending those that were started."""

import logging
import os
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 10.0
"""Seconds that a process may take to end when it is told to."""


@contextmanager
def running(
    command: Sequence[str], *, pass_fds: Sequence[int] = ()
) -> Generator["subprocess.Popen[str]", None, None]:
    """Run a command beside this process, and end it."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=pass_fds,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def child_command(name: str, *words: str) -> list[str]:
    """Return the command of one of `children`."""
    return [sys.executable, "-m", "tests.benchmarks.children", name, *words]


def read_line(process: "subprocess.Popen[str]") -> str:
    """Read a line that a process prints.

    Raises:
        RuntimeError: It has ended instead.
    """
    assert process.stdout is not None  # it is piped
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"A child ended with status {process.wait()}.")
    return line


def ask(process: "subprocess.Popen[str]") -> str:
    """Send a process an empty line, and read the line it answers."""
    assert process.stdin is not None  # it is piped
    process.stdin.write("\n")
    process.stdin.flush()
    return read_line(process)


def python(code: str, *words: str) -> str:
    """Run Python code in a fresh interpreter, to its end; return what it prints."""
    return output_of([sys.executable, "-c", code, *words])


def output_of(command: Sequence[str]) -> str:
    """Run a command to its end; return what it prints."""
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def keeping_bytecode() -> Generator[None, None, None]:
    """Have children keep the bytecode of what they import, all alike, however it was installed.

    Else the one whose sources were edited last would be compiled in every round.
    """
    before = dict(os.environ)
    with TemporaryDirectory() as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def leave_proxies() -> None:
    """Take proxies out of the environment: all there is to reach is on this machine."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            del os.environ[name]


def discard_log() -> None:
    """Write no record of the library. What is still held at an end is dropped, and each would be a line."""
    logging.getLogger("clocknext").addHandler(logging.NullHandler())
