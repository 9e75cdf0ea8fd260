"""The emulator, the model server and a client; and each integration, where its package is installed."""

import gc
from collections.abc import Callable, Iterator
from threading import Event
from time import monotonic
from typing import TypeAlias

import pytest

from clocknext_core import Unbilled
from clocknext_transports import ClockNext
from clocknext_transports.emulator import (
    Booked,
    Catalogue,
    EmulatorServer,
    Ledger,
    Model,
    ModelServer,
    emulator,
    model_server,
)
from clocknext_transports.emulator.books.catalogue import DEFAULT_MODELS
from tests.integrations.adapters import ADAPTERS, LIMIT, Adapter
from tests.integrations.adapters_agents import AGENTS

Billed: TypeAlias = Callable[[], tuple[Booked, ...]]
ADAPTERS.update(AGENTS)
OF_OTHERS = (
    Model("gpt-4o-batch", input=1.25, output=5, cache=0.625, provider="openai"),
    Model("gemini-2.5-flash", input=0.3, output=2.5, cache=0.03, provider="google"),
    Model("anthropic.claude-sonnet-4", input=3, output=15, cache=0.3, provider="bedrock"),
)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the surroundings' proxies and settings away from the packages."""
    for scheme in ("http", "https", "all", "no"):
        for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper()):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it is fetched
    monkeypatch.setenv("LANGSMITH_TRACING", "false")


@pytest.fixture(scope="module", autouse=True)
def _collected_where_its_warnings_are_expected() -> Iterator[None]:
    """Collect what packages leave behind while their module's filters hold: else the next is blamed."""
    yield
    gc.collect()


@pytest.fixture
def service() -> Iterator[EmulatorServer]:
    with emulator(Ledger(Catalogue(models=(*DEFAULT_MODELS, *OF_OTHERS)))) as running:
        yield running


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with model_server() as running:
        yield running


class Reports(list[Unbilled]):
    """What was not billed. Some packages let go of a stream in a thread of theirs, after the user has."""

    def wait(self, calls: int = 1) -> None:
        """Wait for so many reports."""
        end = monotonic() + LIMIT
        while len(self) < calls and monotonic() < end:
            gc.collect()
            Event().wait(0.01)


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def cnk(service: EmulatorServer, reports: list[Unbilled]) -> Iterator[ClockNext]:
    with ClockNext(service.api_key, base_url=service.url, on_unbilled=reports.append) as client:
        yield client


@pytest.fixture
def billed(cnk: ClockNext, service: EmulatorServer) -> Billed:
    """What the ledger has, once all is delivered."""

    def flushed() -> tuple[Booked, ...]:
        report = cnk.flush(30.0)
        assert (report.pending, report.failed) == (0, [])
        return service.ledger.signals

    return flushed


@pytest.fixture(params=list(ADAPTERS))
def adapter(request: pytest.FixtureRequest, models: ModelServer, cnk: ClockNext) -> Adapter:
    """Each integration, in each world that its package has."""
    kind = ADAPTERS[request.param]
    kind.imported()
    return kind(models.url, cnk)
