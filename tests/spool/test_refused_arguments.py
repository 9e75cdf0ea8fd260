"""A client whose arguments are refused has opened nothing: no directory, no lock, no descriptor."""

import os
from pathlib import Path
from typing import Any

import pytest

from clocknext_core import ValidationError
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
from tests.transports.support import KEY

BAD: dict[str, dict[str, Any]] = {
    "api_key": {"api_key": "bad key"},
    "base_url": {"base_url": "ftp://127.0.0.1"},
    "mode": {"mode": "slow"},
    "timeout": {"timeout": -1.0},
    "batch": {"batch": 3},
    "on_error": {"on_error": 3},
    "transport": {"transport": object()},
    "close_timeout": {"close_timeout": float("nan")},
}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a spool needs POSIX")
@pytest.mark.parametrize("made", [ClockNext, AsyncClockNext, TrioClockNext])
@pytest.mark.parametrize("name", BAD)
def test_a_client_that_is_refused_leaves_no_spool_open(made: Any, name: str, tmp_path: Path) -> None:
    path = tmp_path / "spool"
    before = descriptors()
    for _ in range(3):
        with pytest.raises(ValidationError, match=name):
            made(**{"api_key": KEY, "spool": path, **BAD[name]})
    assert not path.exists()
    assert descriptors() == before
