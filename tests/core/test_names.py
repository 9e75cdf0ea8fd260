"""The names of the core: some are there at once, others when they are first asked for."""

import pytest

import clocknext_core
from clocknext_core import engine, outbox


def test_every_name_that_is_listed_is_there_and_shown() -> None:
    assert {*clocknext_core.__all__} <= {*dir(clocknext_core)}
    assert [name for name in clocknext_core.__all__ if not hasattr(clocknext_core, name)] == []


def test_a_name_is_what_its_module_calls_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(clocknext_core, "Engine", raising=False)  # as if nobody had asked for it yet
    monkeypatch.delattr(clocknext_core, "Stats", raising=False)
    assert clocknext_core.Engine is engine.Engine
    assert clocknext_core.Stats is outbox.Stats
    assert "Engine" in vars(clocknext_core), "it is looked up once"


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match=r"^module 'clocknext_core' has no attribute 'NoSuchMachine'$"):
        getattr(clocknext_core, "NoSuchMachine")  # noqa: B009 - the checkers know that there is none
    assert not hasattr(clocknext_core, "heappush"), "what its modules import is no name of the core"
