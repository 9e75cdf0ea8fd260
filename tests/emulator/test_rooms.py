"""The emulator's rooms: `books` imports no other, and each of the next ones those before it."""

import ast
from pathlib import Path

import pytest

from clocknext_transports import emulator

FOLDER = Path(emulator.__file__).parent
PACKAGE = "clocknext_transports.emulator"
ALLOWED = {
    "books": {f"{PACKAGE}.books"},
    "api": {f"{PACKAGE}.books", f"{PACKAGE}.api"},
    "page": {f"{PACKAGE}.books", f"{PACKAGE}.api", f"{PACKAGE}.page"},
    "server": {f"{PACKAGE}.books", f"{PACKAGE}.api", f"{PACKAGE}.page", f"{PACKAGE}.server"},
    "models": {f"{PACKAGE}.books", f"{PACKAGE}.api", f"{PACKAGE}.server", f"{PACKAGE}.models"},
}
FILES = [path for room in ALLOWED for path in sorted((FOLDER / room).glob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_room_imports_only_what_is_below_it(path: Path) -> None:
    allowed = tuple(ALLOWED[path.parent.name])
    modules = [
        node.module
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module is not None
    ]
    ours = [module for module in modules if module.startswith("clocknext_transports")]
    assert [module for module in ours if not module.startswith(allowed)] == []
