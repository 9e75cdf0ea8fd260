"""The client for asyncio."""

from clocknext_transports.asyncio.client import AsyncClockNext
from clocknext_transports.asyncio.transport import NativeTransport
from clocknext_transports.loops.calls import Transport

__all__ = ["AsyncClockNext", "NativeTransport", "Transport"]
