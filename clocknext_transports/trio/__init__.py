"""The client for trio."""

from clocknext_transports.loops.driver import Transport
from clocknext_transports.trio.client import ClockNext
from clocknext_transports.trio.transport import NativeTransport

__all__ = ["ClockNext", "NativeTransport", "Transport"]
