"""What the servers of tests/life/test_hosts.py serve: applications that record a signal for each request."""

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from clocknext_core import BatchPolicy
from clocknext_transports import AsyncClockNext, ClockNext

# So large a batch, and so long an interval, that what is held at the end is sent at the end, or not at all.
BATCH = BatchPolicy(max_size=1000, max_interval=float(os.environ.get("INTERVAL", "600")))
KEY, URL = os.environ["KEY"], os.environ["URL"]

client = ClockNext(KEY, base_url=URL, batch=BATCH)
"""Made at import, and so before a server forks."""


def wsgi(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Record a signal whose key is the path, and answer with the process's number.

    If the query names a FIFO, the answer comes when somebody has opened that to write.
    """
    key = str(environ["PATH_INFO"]).strip("/")
    client.signals.wallet(customer_id="cus_123", model="gpt-4o", idempotency_key=key)
    if fifo := environ["QUERY_STRING"]:
        with open(fifo):
            pass
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


@asynccontextmanager
async def _opened() -> AsyncGenerator[AsyncClockNext, None]:
    async with AsyncClockNext(KEY, base_url=URL, batch=BATCH) as opened:
        yield opened


Event = dict[str, Any]


class Asgi:
    """An application of ASGI that opens its client in its lifespan, or at the first request without one."""

    def __init__(self, *, has_lifespan: bool = True) -> None:
        self._has_lifespan = has_lifespan
        self._client: AsyncClockNext | ClockNext = client

    async def __call__(
        self, scope: Event, receive: Callable[[], Awaitable[Event]], send: Callable[[Event], Awaitable[None]]
    ) -> None:
        """Serve."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            key = str(scope["path"]).strip("/")
            recorded: Any = self._client.signals.wallet(
                customer_id="cus_123", model="gpt-4o", idempotency_key=key
            )
            if isinstance(self._client, AsyncClockNext):
                await recorded
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": str(os.getpid()).encode()})

    async def _live(
        self, receive: Callable[[], Awaitable[Event]], send: Callable[[Event], Awaitable[None]]
    ) -> None:
        await receive()
        async with _opened() as self._client:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


asgi = Asgi()
