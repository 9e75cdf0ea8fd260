"""No import goes to a higher floor, and there is no cycle.

Imports in functions and under `TYPE_CHECKING` count too, and so do modules named as text for `import_module`.
"""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {
    "clocknext_core": ROOT / "clocknext_core",
    "clocknext_transports": ROOT / "clocknext_transports",
    "clocknext": ROOT / "clocknext_transports" / "_top" / "clocknext",
}

FLOORS: tuple[tuple[str, ...], ...] = (
    ("clocknext_core",),
    ("clocknext_core.resources",),
    ("clocknext_transports.process",),
    ("clocknext_transports.http11", "clocknext_transports.spool.protocol"),
    ("clocknext_transports.httpx", "clocknext_transports.spool.files"),
    ("clocknext_transports.spool",),
    ("clocknext_transports.client",),
    ("clocknext_transports.recorder", "clocknext_transports.sync"),
    ("clocknext_transports.loops",),
    ("clocknext_transports.asyncio", "clocknext_transports.trio", "clocknext_transports.otel"),
    ("clocknext_transports.integrations",),
    ("clocknext_transports",),
    ("clocknext_transports.postgres",),
    ("clocknext_transports.postgres.django", "clocknext_transports.postgres.django.migrations"),
    ("clocknext",),
    ("clocknext_transports.emulator.books",),
    ("clocknext_transports.emulator.api",),
    ("clocknext_transports.emulator.page",),
    ("clocknext_transports.emulator.server",),
    ("clocknext_transports.emulator.models",),
    ("clocknext_transports.emulator",),
    ("clocknext_transports.cli", "clocknext_transports.testing"),
    ("clocknext.__main__",),
)
"""The rooms by floor, the lowest first. A room imports from itself and from lower floors only.

A room is a folder or a file; a module belongs to the innermost one. `spool/protocol.py` is a room of its own,
below the spool and its files.
"""

INNER = {"clocknext_core.usage", "clocknext_transports.integrations.django"}
"""Folders that belong to the room around them: it imports from them, and they import from it."""

LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def modules() -> dict[str, Path]:
    """Return every module of the three packages by its name."""
    found: dict[str, Path] = {}
    for package, folder in SOURCES.items():
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder).with_suffix("").parts
            if parts[0] != "_top":
                found[".".join((package, *parts)).removesuffix(".__init__")] = file
    return found


MODULES = modules()


def imported(source: str) -> Iterator[str]:
    """Yield each of our modules that a source imports or names, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names if alias.name in MODULES)
            case ast.ImportFrom(str() as module, names) if module.partition(".")[0] in SOURCES:
                inner = {f"{module}.{alias.name}" for alias in names}
                yield from inner & {*MODULES}
                if not inner <= {*MODULES}:
                    yield module
            case ast.Constant(str() as text) if text in MODULES and "." in text:
                yield text
            case _:
                pass


IMPORTS: Mapping[str, frozenset[str]] = {
    name: frozenset(imported(file.read_text("utf-8"))) - {name} for name, file in MODULES.items()
}


def room_of(module: str) -> str:
    """Return the innermost room that a module is in."""
    while module not in LEVEL:
        module, dot, _ = module.rpartition(".")
        assert dot, "a module without a room"
    return module


def wrong_ways(imports: Mapping[str, frozenset[str]]) -> list[str]:
    """Return each import that leaves its room for one that is not below it."""
    return sorted(
        f"{name} imports {target}"
        for name, targets in imports.items()
        for target in targets
        if (here := room_of(name)) != (there := room_of(target)) and LEVEL[there] >= LEVEL[here]
    )


def cycle_in(imports: Mapping[str, frozenset[str]]) -> list[str]:
    """Return the modules of a cycle of imports, if there is one."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return []


def test_no_import_goes_upward_or_to_a_neighbour() -> None:
    assert sum(map(len, IMPORTS.values())) > 300
    assert wrong_ways(IMPORTS) == []


def test_there_is_no_cycle() -> None:
    assert cycle_in(IMPORTS) == []


def test_the_plan_has_every_folder_and_nothing_that_is_gone() -> None:
    folders = {name for name, file in MODULES.items() if file.name == "__init__.py"}
    files = {name for name in MODULES if name.startswith("clocknext_transports.") and name.count(".") == 1}
    assert {*LEVEL} <= {*MODULES}
    assert folders | files <= {*LEVEL} | INNER
    assert {*MODULES} >= INNER


@pytest.mark.parametrize(
    "line",
    [
        "from clocknext_transports.asyncio import driver",
        "def later():\n    import clocknext_transports.asyncio.driver",
        "if TYPE_CHECKING:\n    from clocknext_transports.asyncio.driver import Driver",
        "import_module('clocknext_transports.asyncio.driver')",
    ],
)
def test_an_import_that_goes_upward_would_be_found(line: str) -> None:
    name = "clocknext_transports.loops.calls"
    doctored = {**IMPORTS, name: IMPORTS[name] | {*imported(line)}}
    assert wrong_ways(doctored) == [f"{name} imports clocknext_transports.asyncio.driver"]
    assert {name, "clocknext_transports.asyncio.driver"} <= {*cycle_in(doctored)}
