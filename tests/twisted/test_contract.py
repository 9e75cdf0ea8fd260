"""Every scenario of tests/contract, over Twisted, but for those that only concern another world."""

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, cast

import pytest

import tests.contract

_MODULES = [
    import_module(f"{tests.contract.__name__}.{found.name}")
    for found in iter_modules(tests.contract.__path__)
    if found.name.startswith("test_")
]


def _scenarios(module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, scenario in inspect.getmembers(module, inspect.iscoroutinefunction):
        if not name.startswith("test_") or not _concerns_twisted(scenario):
            continue
        yield name, _copied(scenario)


def _marks(scenario: object) -> list[pytest.Mark]:
    return cast("list[pytest.Mark]", getattr(scenario, "pytestmark", []))


def _concerns_twisted(scenario: object) -> bool:
    """Whether it is for every world, or for all that have tasks."""
    worlds = [mark.args[1] for mark in _marks(scenario) if _chooses_worlds(mark)]
    return all({"asyncio-native", "trio-native"} & set(names) != set() and len(names) > 2 for names in worlds)


def _chooses_worlds(mark: pytest.Mark) -> bool:
    return mark.name == "parametrize" and mark.args[0] == "world"


def _copied(scenario: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(scenario)
    async def copy(**arguments: object) -> None:
        await scenario(**arguments)

    copied = cast(Any, copy)
    copied.pytestmark = [mark for mark in _marks(scenario) if not _chooses_worlds(mark)]
    return copy


for _module in _MODULES:
    globals().update(_scenarios(_module))
