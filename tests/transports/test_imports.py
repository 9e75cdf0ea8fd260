"""What importing loads, and what is said when an optional package is missing."""

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

from clocknext_transports import spool, sync
from tests.transports.support import PATIENCE


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(program: str) -> set[str]:
    """The top-level modules a program loads beyond those of a bare interpreter."""
    tell = "import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    names: list[str] = json.loads(run(f"{program}\n{tell}"))
    bare: list[str] = json.loads(run(tell))
    return {*names} - {*bare}


def third_party(names: set[str]) -> set[str]:
    return names - sys.stdlib_module_names


def test_the_core_loads_nothing_but_the_standard_library() -> None:
    loaded = loaded_by("import clocknext_core")
    assert third_party(loaded) == {"clocknext_core"}
    assert not loaded & {
        "asyncio",
        "ssl",
        "socket",
        "threading",
        "logging",
        "http",
        "selectors",
        "subprocess",
    }


def test_a_client_without_a_spool_loads_no_sqlite_and_one_is_there_for_the_asking() -> None:
    loaded = loaded_by("from clocknext_transports import ClockNext")
    assert not loaded & {"sqlite3", "secrets"}
    assert "sqlite3" in loaded_by("from clocknext_transports.spool import SqliteSpool")
    with pytest.raises(AttributeError, match="NoSuchSpool"):
        getattr(spool, "NoSuchSpool")  # noqa: B009 - the checkers know that there is none


def test_the_package_alone_loads_next_to_nothing() -> None:
    assert third_party(loaded_by("import clocknext_transports")) == {"clocknext_transports"}


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("ClockNext", set[str]()),
        ("AsyncClockNext", {"h11", "asyncio", "ssl"}),
        ("TrioClockNext", {"h11", "trio", "ssl"}),
    ],
)
def test_each_client_loads_only_its_own_world(name: str, needs: set[str]) -> None:
    loaded = loaded_by(f"from clocknext_transports import {name}")
    worlds = {"h11", "ssl", "asyncio", "trio", "httpx", "httpx2", "httpcore", "anyio", "click", "rich"}
    assert loaded & worlds == needs


@pytest.mark.parametrize(
    ("transport", "needs"), [("None", {"h11"}), ("SimpleNamespace(exchange=print, close=print)", set[str]())]
)
def test_threads_load_the_native_transport_when_a_client_is_made_without_another_one(
    transport: str, needs: set[str]
) -> None:
    loaded = loaded_by(
        "from types import SimpleNamespace\n"
        "from clocknext_transports import ClockNext\n"
        f"ClockNext('cnk_test_1', transport={transport}).close()"
    )
    assert third_party(loaded) - {"clocknext_core", "clocknext_transports"} == needs


def test_the_native_transport_is_there_for_the_asking() -> None:
    assert third_party(loaded_by("from clocknext_transports.sync import NativeTransport")) >= {"h11"}
    with pytest.raises(AttributeError, match="NoSuchTransport"):
        getattr(sync, "NoSuchTransport")  # noqa: B009 - the checkers know that there is none


def test_the_names_are_listed_and_kept() -> None:
    import clocknext_transports

    assert {"ClockNext", "AsyncClockNext", "TrioClockNext"} <= {*dir(clocknext_transports)}
    assert clocknext_transports.ClockNext is clocknext_transports.ClockNext
    with pytest.raises(AttributeError, match="NoSuchClient"):
        getattr(clocknext_transports, "NoSuchClient")  # noqa: B009 - the checkers know that there is none


@pytest.mark.parametrize(
    ("missing", "program", "says"),
    [
        (["trio"], "from clocknext_transports import TrioClockNext", ["trio"]),
        (["anyio"], "from clocknext_transports.httpx import HttpxTransport", ["httpx", "httpx2"]),
    ],
)
def test_a_missing_package_is_named(missing: Sequence[str], program: str, says: Sequence[str]) -> None:
    hide = "import sys; " + "; ".join(f"sys.modules[{name!r}] = None" for name in missing)
    told = run(f"{hide}\ntry:\n    {program}\nexcept ImportError as error:\n    print(error)")
    assert all(word in told for word in says)


@pytest.mark.parametrize("name", ["ClockNext", "AsyncClockNext"])
def test_the_others_work_without_trio_and_httpx(name: str) -> None:
    absent = ", ".join(f"{each}=None" for each in ("trio", "httpx", "httpx2", "anyio", "click", "rich"))
    hide = f"import sys; sys.modules.update({absent})"
    made = f"from clocknext_transports import {name}; print({name}('cnk_x', base_url='http://127.0.0.1:1'))"
    assert f"{name.removeprefix('Async')} http://127.0.0.1:1 pending=0" in run(f"{hide}\n{made}")
