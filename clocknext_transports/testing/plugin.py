"""The pytest plugin: fixtures `clocknext_server` and `clocknext_ledger`, and the marker `clocknext`.

Each process has a server of its own, so that the workers of pytest-xdist do not meet.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from clocknext_transports.emulator import EmulatorServer
    from clocknext_transports.testing.ledger import LedgerOfTest

_MARKER = (
    "clocknext(catalogue=None, balances=None, mode=None, faults=(), allow=()): how the ledger of "
    "clocknext_ledger begins. balances: {customer: {'wallet' or key: amount}}; mode: 'thin', 'thick' or "
    "'thick-queued', as the ingest; faults: hit the first requests; allow: what does not fail the test at "
    "its end, of 'held', 'refused' and 'open'."
)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture(scope="session")
def clocknext_server() -> "Generator[EmulatorServer, None, None]":
    """A running emulator of ClockNext, one for the session. `.url` and `.api_key` are what a client needs."""
    from clocknext_transports.emulator import emulator

    with emulator() as server:
        yield server


@pytest.fixture
def clocknext_ledger(
    request: pytest.FixtureRequest, clocknext_server: "EmulatorServer", monkeypatch: pytest.MonkeyPatch
) -> "Generator[LedgerOfTest, None, None]":
    """The ledger of this test, empty at its start; the environment's settings name its server.

    At the end the test fails on signals that are held, on refusals that it did not assert with `refused`, and
    on clients that it left open, unless the marker allows them.
    """
    from clocknext_transports.client import environment
    from clocknext_transports.testing.ledger import LedgerOfTest, Settings

    monkeypatch.setenv(environment.BASE_URL, clocknext_server.url)
    monkeypatch.setenv(environment.API_KEY, clocknext_server.api_key)
    monkeypatch.delenv(environment.DISABLED, raising=False)
    marks = list(request.node.iter_markers("clocknext"))
    settings = Settings()
    for mark in reversed(marks):  # the closest one last: it wins
        if mark.args:
            pytest.fail("The marker clocknext takes keywords only.", pytrace=False)
        try:
            settings = settings.with_(mark.kwargs)
        except ValueError as error:
            pytest.fail(str(error), pytrace=False)
    ledger = LedgerOfTest(clocknext_server, settings)
    yield ledger
    problems = ledger.problems()
    clocknext_server.faults.reset()
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
