"""Runs each scenario of this folder, any async test, over Twisted."""

from collections.abc import Generator

import pytest

from tests.contract.conftest import (
    _plain_environment,  # pyright: ignore[reportPrivateUsage] - these scenarios want it too
    log,
    pytest_pyfunc_call,
)
from tests.contract.worlds import LogKeeper
from tests.twisted.worlds import ReactorThread, Twisted

__all__ = ["_plain_environment", "log", "pytest_pyfunc_call"]


@pytest.fixture(scope="session")
def reactor_thread() -> Generator[ReactorThread, None, None]:
    """The reactor, running until the session ends."""
    thread = ReactorThread()
    yield thread
    thread.stop()


@pytest.fixture
def world(reactor_thread: ReactorThread, log: LogKeeper) -> Twisted:
    """The world of Twisted."""
    return Twisted(reactor_thread)
