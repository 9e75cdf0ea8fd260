"""The logger of the whole package: `clocknext`."""

import logging
from collections.abc import Callable

from clocknext_transports.process.forklock import undisturbed

logger = logging.getLogger("clocknext")
logger.addHandler(logging.NullHandler())  # silent, unless the program configures logging


def _handle(record: logging.LogRecord, handle: Callable[[logging.LogRecord], None] = logger.handle) -> None:
    with undisturbed():  # by a fork: a handler may be writing to a file
        handle(record)


setattr(logger, "handle", _handle)  # noqa: B010 - every record of ours comes by there
