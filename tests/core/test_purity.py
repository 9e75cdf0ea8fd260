"""The core is pure: no clock, randomness, threads, I/O or third party, by lint and by reading."""

import ast
import builtins
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "clocknext_core"

PURE = {
    *(
        "abc",
        "ast",
        "collections",
        "contextlib",
        "dataclasses",
        "datetime",
        "difflib",
        "enum",
        "functools",
        "heapq",
        "inspect",
        "ipaddress",
    ),
    *(
        "hashlib",
        "itertools",
        "json",
        "math",
        "operator",
        "re",
        "reprlib",
        "string",
        "types",
        "typing",
        "clocknext_core",
    ),
}
"""What the core may import; of `urllib` the parser alone. That `datetime` reads no clock is checked apart."""

IMPURE_BUILTINS = {"open", "print", "input", "breakpoint", "exec", "eval", "__import__", "compile"}
CLOCKS = {"now", "today", "utcnow", "localtime", "astimezone"}


RUFF = (sys.executable, "-m", "ruff", "check", "--no-cache")


def trees() -> Iterator[tuple[str, ast.Module]]:
    files = sorted(CORE.rglob("*.py"))
    assert len(files) > 20
    for file in files:
        yield str(file.relative_to(ROOT)), ast.parse(file.read_text("utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are banned"
            yield str(node.module)


def is_pure(module: str) -> bool:
    return module == "urllib.parse" or module.partition(".")[0] in PURE


def test_the_core_imports_only_itself_and_pure_parts_of_the_standard_library() -> None:
    impure = [(name, module) for name, tree in trees() for module in imports(tree) if not is_pure(module)]
    assert impure == []


def test_the_reading_would_notice() -> None:
    source = (
        "import time\nfrom urllib.request import urlopen\nimport json, os.path\nfrom clocknext_core import x"
    )
    found = [module for module in imports(ast.parse(source)) if not is_pure(module)]
    assert found == ["time", "urllib.request", "os.path"]


def test_the_core_reads_no_clock_and_calls_no_impure_builtin() -> None:
    assert set(dir(builtins)) >= IMPURE_BUILTINS
    found = [
        (name, ast.unparse(node.func))
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id in IMPURE_BUILTINS)
            or (isinstance(node.func, ast.Attribute) and node.func.attr in CLOCKS)
        )
    ]
    assert found == []


def test_importing_the_core_brings_in_no_third_party_and_no_driver() -> None:
    program = (
        "import sys; before = set(sys.modules); import clocknext_core;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(*sorted(name for name in new if name not in sys.stdlib_module_names))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == ["clocknext_core"]


def lint(source: str) -> str:
    done = subprocess.run(
        [*RUFF, "--output-format=concise", "--stdin-filename", str(CORE / "x.py"), "-"],
        input=source,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


BANNED = (
    *(
        "time",
        "random",
        "uuid",
        "secrets",
        "os",
        "socket",
        "ssl",
        "threading",
        "asyncio",
        "logging",
        "select",
    ),
    *(
        "subprocess",
        "concurrent.futures",
        "queue",
        "sys",
        "io",
        "pathlib",
        "signal",
        "h11",
        "trio",
        "httpx",
        "os.path",
    ),
    *(
        "http.client",
        "urllib.request",
        "multiprocessing",
        "sqlite3",
        "warnings",
        "clocknext_transports",
        "contextvars",
    ),
)


def test_the_lint_rule_bans_each_impure_module_however_it_is_imported() -> None:
    plain = lint("".join(f"import {name}\n" for name in BANNED))
    assert plain.count("TID251") == len(BANNED)
    named = lint("".join(f"from {name} import thing\n" for name in BANNED))
    assert named.count("TID251") == len(BANNED)


@pytest.mark.parametrize("call", ["datetime.now()", "datetime.utcnow()", "datetime.today()", "date.today()"])
def test_the_lint_rule_bans_the_clock_in_datetime(call: str) -> None:
    assert "TID251" in lint(f"from datetime import date, datetime\nprint({call}, date, datetime)\n")


def test_the_lint_rule_leaves_the_core_as_it_is_and_keeps_the_projects_rules() -> None:
    clean = lint(
        "import json\nfrom datetime import UTC, datetime\nat = json, datetime(2026, 1, 1, tzinfo=UTC)\n"
    )
    assert "TID251" not in clean
    assert "TID252" in lint("from . import errors\n")
    done = subprocess.run(
        [*RUFF, "--select", "TID", str(CORE)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout
