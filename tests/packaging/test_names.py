"""What `clocknext` exports, and what importing it loads."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import clocknext
import clocknext_core
import clocknext_transports
from tests.transports.support import PATIENCE

ROOT = Path(__file__).parents[2]


def loaded_by(program: str) -> set[str]:
    """Return the top-level modules that a program leaves loaded."""
    tell = "\nimport json, sys; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program + tell],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {*json.loads(done.stdout)}


def test_each_name_is_the_object_that_the_packages_have() -> None:
    homes = {
        **dict.fromkeys(clocknext_core.__all__, clocknext_core),
        **dict.fromkeys([*clocknext_transports.__all__, "TrioClockNext"], clocknext_transports),
    }
    assert len(homes) > 50
    for name, home in homes.items():
        assert getattr(clocknext, name) is getattr(home, name), name
    assert {*homes} <= {*dir(clocknext)}


def test_a_star_import_takes_all_but_the_client_that_needs_an_optional_package() -> None:
    assert {*clocknext_core.__all__, *clocknext_transports.__all__} == {*clocknext.__all__}
    assert len(clocknext.__all__) == len({*clocknext.__all__})
    assert "TrioClockNext" in dir(clocknext)
    assert "TrioClockNext" in dir(clocknext_transports)


def test_the_packages_have_one_version() -> None:
    assert clocknext.__version__ == clocknext_core.__version__ == clocknext_transports.__version__


def test_extras_have_the_names_that_every_installer_knows_and_their_pages_give_them() -> None:
    """Installers normalise what they are asked for, and pip 23 does not normalise what the package has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert [name for name in extras if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)] == []
    named = {
        extra
        for dependencies in extras.values()
        for each in dependencies
        for extra in re.sub(r"^clocknext\[(.*)\]$|^.*$", r"\1", each).split(",")
    }
    rows = re.findall(
        r"^\| \[.*\|(.*)\|$", (ROOT / "docs/integrations/index.md").read_text("utf-8"), re.MULTILINE
    )
    assert len(rows) == 18
    told = {extra for row in rows for extra in re.findall(r"`(.*?)`", row)}
    assert all("`" in row or "none" in row for row in rows)
    assert (named - {""}) | told <= {*extras}


def test_a_star_import_of_the_transports_needs_no_optional_package() -> None:
    loaded = loaded_by("import sys; sys.modules['trio'] = None\nfrom clocknext_transports import *")
    assert "clocknext_transports" in loaded


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="module 'clocknext' has no attribute 'NoSuchClient'"):
        getattr(clocknext, "NoSuchClient")  # noqa: B009 - the checkers know that there is none


@pytest.mark.parametrize(
    ("program", "absent"),
    [
        ("import clocknext", {"h11", "asyncio", "trio", "httpx", "ssl", "sqlite3"}),
        ("from clocknext import ClockNext", {"asyncio", "trio", "httpx", "sqlite3"}),
        ("from clocknext import AsyncClockNext", {"trio", "httpx", "sqlite3"}),
    ],
)
def test_a_name_loads_only_what_it_needs(program: str, absent: set[str]) -> None:
    assert loaded_by(program) & absent == set()


def test_trio_is_loaded_with_its_client() -> None:
    assert "trio" in loaded_by("from clocknext import TrioClockNext")
