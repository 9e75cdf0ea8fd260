"""The client for asyncio."""

from clocknext_transports.asyncio.client import ClockNext
from clocknext_transports.asyncio.transport import NativeTransport
from clocknext_transports.loops.driver import Transport

__all__ = ["ClockNext", "NativeTransport", "Transport"]
