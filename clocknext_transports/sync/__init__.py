"""The client for threads."""

from typing import TYPE_CHECKING

from clocknext_transports.sync.calls import Transport
from clocknext_transports.sync.client import ClockNext

if TYPE_CHECKING:
    from clocknext_transports.sync.transport import NativeTransport as NativeTransport
else:
    # Hidden from type checkers, which would take it for leave to import any name.
    def __getattr__(name: str) -> object:
        """Import the native transport, and h11, when it is first asked for: a client may have another one."""
        if name != "NativeTransport":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from clocknext_transports.sync.transport import NativeTransport

        return NativeTransport


__all__ = ["ClockNext", "NativeTransport", "Transport"]
