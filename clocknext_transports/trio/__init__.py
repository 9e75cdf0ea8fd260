"""The client for trio."""

from clocknext_transports.loops.calls import Transport
from clocknext_transports.trio.client import TrioClockNext
from clocknext_transports.trio.transport import NativeTransport

__all__ = ["NativeTransport", "Transport", "TrioClockNext"]
