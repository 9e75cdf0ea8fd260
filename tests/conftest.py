"""Fixtures for the whole suite: no API key in a log, an error or a file; cheap garbage collection."""

import functools
import gc
import logging
import re
import sys
import traceback
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from clocknext_core import ClockNextError
from clocknext_transports.process import lookups
from clocknext_transports.recorder import TraceFile
from clocknext_transports.spool import SqliteSpool, Stored
from tests.quick import is_quick, is_quick_file

# How long an example takes depends on what else the machine does.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# Python 3.12's thread for look-ups at the exit would live as long as this process, in which tests count
# threads and fork; what it is for is tested in processes of its own.
lookups.IS_NEEDED = False

_KEY = re.compile(r"cnk_(?!\[)[!-~]{3,}")
"""Any API key, those of all tests among them; not `cnk_[redacted]`, nor what a cut has left of that."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Under `-m quick` leave out files without a quick test: importing them takes longer than the rest."""
    return True if config.option.markexpr == "quick" and not is_quick_file(collection_path) else None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests of a contributor's minute."""
    if is_quick(item):
        item.add_marker("quick")


class _Guard:
    """Looks for API keys in what is logged, and in the errors that clients make."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.usual_factory = logging.getLogRecordFactory()

    def look(self, what: str, *texts: object) -> None:
        """Note it if one of the texts has a key in it."""
        for text in map(str, texts):
            if "cnk_" in text and (key := _KEY.search(text)):
                self.found.append(f"{what}: …{text[max(0, key.start() - 80) : key.start()]}(here was a key)")

    def make_record(self, *args: object, **kwargs: object) -> logging.LogRecord:
        """Make a log record, of any logger, as it is made else."""
        record: logging.LogRecord = self.usual_factory(*args, **kwargs)
        if not record.name.startswith(("httpx", "httpcore")):  # which log what a service says, as it says it
            trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
            self.look(f"A record of {record.name}", record.getMessage(), trace, record.stack_info)
        return record

    def look_at(self, error: ClockNextError) -> None:
        """Look at an error that was just made, and at what it comes from."""
        self.look(f"A {type(error).__name__}", *error.args, error.idempotency_key, error.reason, error.issues)
        cause, left = sys.exception(), 10
        while cause is not None and left:
            self.look(f"What a {type(error).__name__} comes from", cause, repr(cause))
            cause, left = cause.__cause__ or cause.__context__, left - 1


@pytest.fixture(scope="session")
def _guard() -> Generator[_Guard, None, None]:
    guard = _Guard()
    make = ClockNextError.__init__

    @functools.wraps(make)
    def make_and_look(error: ClockNextError, *args: object, **kwargs: object) -> None:
        make(error, *args, **kwargs)  # type: ignore[arg-type]
        guard.look_at(error)

    def write_and_look(file: TraceFile, line: str) -> None:
        guard.look("A trace", line)
        write(file, line)

    def append_and_look(spool: SqliteSpool, signals: Sequence[Stored]) -> None:
        guard.look("A spool", *(signal.body.decode("utf-8", "replace") for signal in signals))
        append(spool, signals)

    write, append = TraceFile.write, SqliteSpool.append
    logger = logging.getLogger("clocknext")
    usual_level = logger.level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClockNextError, "__init__", make_and_look)
        patch.setattr(TraceFile, "write", write_and_look)
        patch.setattr(SqliteSpool, "append", append_and_look)
        logger.setLevel(logging.DEBUG)
        logging.setLogRecordFactory(guard.make_record)
        yield guard
        logging.setLogRecordFactory(guard.usual_factory)
        logger.setLevel(usual_level)


@pytest.fixture(autouse=True)
def _no_key_is_told(_guard: _Guard) -> Generator[None, None, None]:
    """Fail a test in which an API key was logged, at any level, or was in an error, a trace or a spool."""
    yield
    found, _guard.found = _guard.found, []
    assert found == []


@pytest.fixture(scope="module", autouse=True)
def _left_alone_by_the_garbage_collector() -> None:
    """Keep all there is before a module's tests out of the garbage collections in them.

    Hundreds of tests collect garbage, to see what an object says when it goes. They would else go through
    every module of every package, and every report of every test before them: a third of the suite's time.
    """
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let all of it be collected again."""
    gc.unfreeze()
