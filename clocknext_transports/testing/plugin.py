"""The pytest plugin: fixtures `clocknext_server` and `clocknext_ledger`, and the marker `clocknext`.

Each process has a server of its own, so that the workers of pytest-xdist do not meet.
"""

from collections.abc import Generator
from contextlib import ExitStack
from itertools import count
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
_SESSION = "clocknext_session"
_server_of_session = pytest.StashKey["EmulatorServer"]()
_numbers = count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting of the configuration."""
    parser.addini(
        _SESSION,
        "Whether the environment names the emulator of ClockNext before anything is imported.",
        type="bool",
        default=False,
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Start the emulator of the session before any module of the tests, or of what they test, is imported."""
    _begin_session(early_config)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)
    _begin_session(config)  # a worker of xdist loads a plugin that `-p` names after its conftests


def _begin_session(config: pytest.Config) -> None:
    if _server_of_session in config.stash or not config.getini(_SESSION):
        return
    from clocknext_transports.emulator import emulator

    running = ExitStack()
    try:
        server = running.enter_context(emulator())
    except ImportError as error:
        raise pytest.UsageError(f"{_SESSION}: {error}") from None
    config.add_cleanup(running.close)
    config.stash[_server_of_session] = server
    _name(server, server.api_key, running.enter_context(pytest.MonkeyPatch.context()))


def _name(server: "EmulatorServer", api_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the environment name a server."""
    from clocknext_transports.client import environment

    monkeypatch.setenv(environment.BASE_URL, server.url)
    monkeypatch.setenv(environment.API_KEY, api_key)
    monkeypatch.delenv(environment.DISABLED, raising=False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test that has the marker of its own, and no ledger that it could be about."""
    fixtures: list[str] = getattr(item, "fixturenames", [])
    if "clocknext_ledger" not in fixtures and any(mark.name == "clocknext" for mark in item.own_markers):
        raise pytest.fail.Exception(
            "The marker clocknext is about the fixture clocknext_ledger: take that as an argument.",
            pytrace=False,
        )


@pytest.fixture(scope="session")
def clocknext_server(request: pytest.FixtureRequest) -> "Generator[EmulatorServer, None, None]":
    """A running emulator of ClockNext, one for the session. `.url` and `.api_key` are what a client needs."""
    from clocknext_transports.emulator import emulator

    if _server_of_session in request.config.stash:
        yield request.config.stash[_server_of_session]
        return
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
    from clocknext_transports.testing.ledger import LedgerOfTest, Settings

    # Where clients are made once for all tests, one key has to reach the ledger of each.
    is_shared = _server_of_session in request.config.stash
    api_key = None if is_shared else f"{clocknext_server.api_key}_{next(_numbers)}"
    marks = list(request.node.iter_markers("clocknext"))
    settings = Settings()
    try:
        for mark in reversed(marks):  # the closest one last: it wins
            if mark.args:
                raise ValueError("The marker clocknext takes keywords only.")
            settings = settings.with_(mark.kwargs)
        ledger = LedgerOfTest(clocknext_server, settings, api_key)
    except ValueError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    _name(clocknext_server, ledger.api_key, monkeypatch)
    yield ledger
    if problems := ledger.problems():
        pytest.fail("\n".join(problems), pytrace=False)
