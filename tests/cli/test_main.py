import subprocess
import sys

import pytest

from clocknext_core import __version__
from tests.cli.support import clocknext, environment


@pytest.mark.parametrize("missing", ["click", "rich", "trio"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from clocknext_transports.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"The command line needs {missing}: pip install 'clocknext[cli]'\n"


def test_another_module_that_is_missing_is_not_hidden() -> None:
    code = "import sys; sys.modules['queue'] = None; from clocknext_transports.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False
    )
    assert "queue" in done.stderr.splitlines()[-1]
    assert done.returncode == 1


def test_the_version() -> None:
    done = clocknext("--version", env=environment())
    assert (done.returncode, done.stdout) == (0, f"clocknext, version {__version__}\n")


def test_the_package_is_the_command() -> None:
    command = [sys.executable, "-m", "clocknext", "--version"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"clocknext, version {__version__}\n")


def test_the_help_names_the_commands() -> None:
    done = clocknext("--help", env=environment())
    assert done.returncode == 0
    for command in ("demo", "emulator", "send"):
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("group", [(), ("spool",), ("outbox",), ("customers",)])
def test_a_group_without_a_command_shows_its_help(group: tuple[str, ...]) -> None:
    done = clocknext(*group, env=environment())
    shown = clocknext(*group, "--help", env=environment()).stdout
    assert (done.stdout + done.stderr).rstrip("\n") == shown.rstrip("\n")
    assert "\n  " in shown


def test_an_unknown_command() -> None:
    done = clocknext("sned", env=environment())
    assert done.returncode == 2
    assert "No such command 'sned'" in done.stderr
