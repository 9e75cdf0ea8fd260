"""The logger of the whole package: `clocknext`.

It has no handler of its own, not even a `NullHandler`: where the program configures logging, its handlers get
each record once, and where it does not, Python prints warnings and errors on stderr (`logging.lastResort`).
"""

import logging

logger: logging.Logger = logging.getLogger("clocknext")
