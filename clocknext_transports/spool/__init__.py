"""The spool: signals on disk until they are delivered, so that they survive the process and the power.

`SqliteSpool` is the one that clients use when they are given a path. A spool of your own is a class with the
methods of `Spool`.
"""

from clocknext_transports.spool.protocol import Problem, Spool, Stored
from clocknext_transports.spool.sqlite import SqliteSpool
from clocknext_transports.spool.writer import SpoolWriter

__all__ = ["Problem", "Spool", "SpoolWriter", "SqliteSpool", "Stored"]
