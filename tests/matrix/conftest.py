"""Runs each scenario of this folder, any async test, in the nine worlds of tests/contract."""

from tests.contract.conftest import (
    _plain_environment,  # pyright: ignore[reportPrivateUsage] - these scenarios want it too
    log,
    pytest_pyfunc_call,
    world,
)

__all__ = ["_plain_environment", "log", "pytest_pyfunc_call", "world"]
