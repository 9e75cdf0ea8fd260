"""The spool: signals on disk until they are delivered, so that they survive the process and the power.

`SqliteSpool` is the one that clients use when they are given a path; it is imported when it is first asked
for, so that a client without a spool loads no SQLite. A spool of your own is a class with the methods of
`Spool`.
"""

from typing import TYPE_CHECKING

from clocknext_transports.spool.protocol import CountingSpool, Problem, SharedSpool, Spool, Stored
from clocknext_transports.spool.writer import SpoolWriter

if TYPE_CHECKING:
    from clocknext_transports.spool.sqlite import SqliteSpool
else:
    # Hidden from type checkers, which would take it for leave to import any name.
    def __getattr__(name: str) -> object:
        if name != "SqliteSpool":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from clocknext_transports.spool.sqlite import SqliteSpool

        globals()[name] = SqliteSpool
        return SqliteSpool


__all__ = ["CountingSpool", "Problem", "SharedSpool", "Spool", "SpoolWriter", "SqliteSpool", "Stored"]
