import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.spool.support import close_all

MEMORY = "/dev/shm"


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory in memory where there is such a thing: what a disk forgets is simulated, not waited for."""
    directory = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="clocknext-", dir=directory) as name:
        yield Path(name)
