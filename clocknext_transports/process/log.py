"""The logger of the whole package: `clocknext`.

Unless `CLOCKNEXT_LOG` asks for one it has no handler of its own, not even a `NullHandler`: where the program
configures logging, its handlers get each record once, and where it does not, Python prints warnings and
errors on stderr (`logging.lastResort`).
"""

import logging
from typing import TextIO

logger: logging.Logger = logging.getLogger("clocknext")


class _OwnHandler(logging.StreamHandler[TextIO]):
    """Writes to stderr what `CLOCKNEXT_LOG` asks for."""


def write_to_stderr(level: int) -> None:
    """Write the records of this level and above to stderr, once however often this is called."""
    if any(isinstance(handler, _OwnHandler) for handler in logger.handlers):
        return
    handler = _OwnHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    handler.setLevel(level)
    logger.addHandler(handler)
    if level < logger.getEffectiveLevel():  # other handlers of the program get as much as they did
        logger.setLevel(level)
