"""The client for threads."""

from clocknext_transports.sync.client import ClockNext
from clocknext_transports.sync.transport import NativeTransport, Transport

__all__ = ["ClockNext", "NativeTransport", "Transport"]
