"""Threads take over the outbox of an event loop that has ended, as the interpreter exits.

The outbox is the same in all worlds, so signals keep their order, keys and back-off.
"""

from collections.abc import Callable
from typing import cast

from clocknext_core import Answer, Config, Engine, Request
from clocknext_transports.client import environment
from clocknext_transports.client.hooks import Hooks
from clocknext_transports.process.clock import monotonic
from clocknext_transports.sync.calls import Transport
from clocknext_transports.sync.clock import Clock
from clocknext_transports.sync.driver import Driver
from clocknext_transports.sync.transport import NativeTransport


class LoopClock(Clock):
    """Goes on with the time of an event loop that has ended.

    Args:
        ahead: Seconds by which the loop's clock was ahead of `time.monotonic`.
    """

    def __init__(self, ahead: float) -> None:
        self._ahead = ahead

    def now(self) -> float:
        """Return the time in seconds, on the loop's clock."""
        return monotonic() + self._ahead


class _Carrier:
    """Translates deadlines on the loop's clock into those of a transport for threads."""

    def __init__(self, transport: Transport, ahead: float) -> None:
        self._transport = transport
        self._ahead = ahead

    def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        return self._transport.exchange(request, deadline_at=deadline_at - self._ahead)

    def close(self) -> None:
        self._transport.close()


def take_over(engine: Engine, hooks: Hooks, transport: object, *, ahead: float) -> Driver:
    """Return the driver that takes over.

    Args:
        engine: Its outbox holds the signals that the loop left behind; nothing else drives it any more.
        hooks: The client's.
        transport: The one that the client has made. Its `for_threads` returns one with the same settings: the
            environment may name another proxy by now.
        ahead: Seconds by which the loop's clock was ahead of `time.monotonic`.
    """
    for_threads = cast("Callable[[], Transport] | None", getattr(transport, "for_threads", None))
    carrying = _transport(engine.config) if for_threads is None else for_threads()
    return Driver(engine, _Carrier(carrying, ahead), hooks, LoopClock(ahead))


def _transport(config: Config) -> Transport:
    """Return a transport like that of a new client, for a driver whose transports have no `for_threads`."""
    proxy = environment.proxy_for(config.origin)
    if proxy is None:
        return NativeTransport()
    from clocknext_transports.httpx import proxied

    return proxied(proxy)
