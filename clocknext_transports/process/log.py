"""The logger of the whole package: `clocknext`."""

import logging

logger: logging.Logger = logging.getLogger("clocknext")
logger.addHandler(logging.NullHandler())  # silent, unless the program configures logging
