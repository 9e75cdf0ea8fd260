"""Wheel, source distribution and editable install hold three typed packages, in a fresh environment."""

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import h11
import pytest

import clocknext
from tests.packaging import strict

pytest.importorskip("hatchling", reason="builds need hatchling, which the extra dev brings")

ROOT = Path(__file__).parents[2]
PACKAGES = {"clocknext", "clocknext_core", "clocknext_transports"}
PATIENCE = 180.0
WITHOUT_TRIO = """
import json
import clocknext
from clocknext import *
from clocknext import ClockNext, Tokens, __version__
try:
    from clocknext import TrioClockNext
except ModuleNotFoundError as error:
    missing = str(error)
with ClockNext("cnk_x", base_url="http://127.0.0.1:1") as client:
    print(json.dumps([clocknext.__file__, __version__, Tokens(input=1).input, client.pending, missing]))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command without the paths of this process. Return what it printed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind: str, source: Path, target: Path) -> Path:
    """Build from a source tree, in a process of its own. Return the file."""
    target.mkdir(parents=True, exist_ok=True)
    program = f"import hatchling.build as build; print(build.build_{kind}(sys.argv[1]))"
    name = run(sys.executable, "-c", f"import sys; {program}", target, cwd=source)
    return target / name.split()[-1]


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {*archive.namelist()}


@dataclass(frozen=True)
class Built:
    """What was built from this source tree."""

    wheel: Path
    sdist: Path
    editable: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    kinds = ("wheel", "sdist", "editable")
    wheel, sdist, editable = (build(kind, ROOT, folder / kind) for kind in kinds)
    return Built(wheel, sdist, editable)


def test_the_wheel_holds_three_typed_packages_and_nothing_else(built: Built) -> None:
    names = names_in(built.wheel)
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert not [name for name in names if "_top" in name or name.endswith(".toml")]
    assert "clocknext_transports/emulator/page/static/page.js" in names
    with zipfile.ZipFile(built.wheel) as archive:
        (points,) = [name for name in names if name.endswith("entry_points.txt")]
        assert b"[pytest11]\nclocknext = clocknext_transports.testing.plugin" in archive.read(points)


def test_the_tests_of_the_source_distribution_are_all_collected(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/docs"]
    collected = run(*command, "tests/packaging", "tests/cli", "tests/emulator", cwd=source)
    assert "test_architecture.py" in collected
    for name in ("CONTRIBUTING.md", "SECURITY.md", "README.md", "CHANGELOG.md", ".ci/run"):
        assert (source / name).exists(), name


LINK = re.compile(r"\]\((?P<address>[^)\s]+)\)")


def metadata_of(built: Built) -> tuple[list[Message], set[str]]:
    """The metadata of the wheel and of the source distribution, and the names of the latter's files."""
    with zipfile.ZipFile(built.wheel) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        of_wheel = wheel.read(name)
    with tarfile.open(built.sdist) as sdist:
        names = {name.partition("/")[2]: name for name in sdist.getnames()}
        file = sdist.extractfile(names["PKG-INFO"])
        assert file is not None
        of_sdist = file.read()
    return [message_from_bytes(of_wheel), message_from_bytes(of_sdist)], {*names}


def test_the_description_has_no_link_that_leads_nowhere(built: Built) -> None:
    found, files = metadata_of(built)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code: list[str] = re.findall(r"(?ms)^```.*?^```$", readme)
    linked = {address.partition("#")[0] for address in LINK.findall(readme) if "://" not in address}
    assert len(linked) > 10
    assert linked <= files
    for each in found:
        assert each["Description-Content-Type"] == "text/markdown"
        payload: Any = each.get_payload(decode=True)
        description = bytes(payload).decode()
        assert [address for address in LINK.findall(description) if not address.startswith("https://")] == []
        assert [file for file in linked if f"`{file}`" not in description] == []
        assert [block for block in code if block not in description] == []
        assert description.startswith(
            "# clocknext for Python\n\nFiles named here are in the source distribution.\n\n"
        )


def test_the_addresses_of_the_project_are_of_the_service(built: Built) -> None:
    for each in metadata_of(built)[0]:
        addresses = [value.partition(", ")[2] for value in each.get_all("Project-URL", [])]
        assert addresses == ["https://app.clocknext.com"]


def test_a_wheel_of_the_source_distribution_is_the_same(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert names_in(build("wheel", source, tmp_path / "again")) == names_in(built.wheel)


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request: pytest.FixtureRequest, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a fresh environment that has the distribution and h11, and no more."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "env", cwd=folder)
    python = folder / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    install: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-index",
        "--no-deps",
    ]
    run(*install, "--disable-pip-version-check", getattr(built, request.param), cwd=folder)
    (folder / "needed").mkdir()
    (folder / "needed" / "h11").symlink_to(Path(h11.__file__).parent, target_is_directory=True)
    where = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    (Path(where) / "needed.pth").write_text(str(folder / "needed"), "utf-8")
    return python


def test_it_is_imported_in_a_fresh_environment_without_trio(installed: Path, tmp_path: Path) -> None:
    printed = run(installed, "-I", "-W", "error", "-c", WITHOUT_TRIO, cwd=tmp_path)
    file, *others = json.loads(printed)
    assert Path(file).parts[-2:] == ("clocknext", "__init__.py")
    assert others == [clocknext.__version__, 1, 0, "TrioClockNext needs trio: pip install 'clocknext[trio]'"]


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_strict_type_checker_knows_its_types(installed: Path, checker: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(Path(strict.__file__).read_text("utf-8"), "utf-8")
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}', "utf-8")
    arguments = {
        "mypy": ["--strict", "--python-executable", str(installed), "--cache-dir", str(tmp_path / "cache")],
        "pyright": ["--pythonpath", str(installed)],
    }
    run(sys.executable, "-m", checker, *arguments[checker], program, cwd=tmp_path)
