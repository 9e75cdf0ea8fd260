"""Runs each scenario of this folder, any async test, in its world."""

import inspect
import logging
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import pytest

from tests.contract.worlds import WORLDS, LogKeeper, World


@pytest.fixture(params=list(WORLDS))
def world(request: pytest.FixtureRequest, log: LogKeeper) -> World:
    """One of the nine worlds."""
    name: str = request.param
    return WORLDS[name]()


@pytest.fixture
def log() -> Generator[LogKeeper, None, None]:
    """What is logged, none of which a test may leave unread."""
    keeper = LogKeeper()
    loggers = [logging.getLogger(name) for name in ("clocknext", "asyncio")]
    for logger in loggers:
        logger.addHandler(keeper)
    yield keeper
    for logger in loggers:
        logger.removeHandler(keeper)
    assert keeper.take() == []


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the surroundings' proxies and settings away from the clients."""
    for scheme in ("http", "https", "all", "no"):
        for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper()):
            monkeypatch.delenv(name, raising=False)
    for name in ("CLOCKNEXT_API_KEY", "CLOCKNEXT_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test in its world."""
    scenario: Callable[..., Coroutine[Any, Any, None]] = pyfuncitem.obj
    if not inspect.iscoroutinefunction(scenario):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(scenario).parameters}
    the_world = arguments["world"]
    assert isinstance(the_world, World)
    the_world.run(lambda: scenario(**arguments))
    return True
