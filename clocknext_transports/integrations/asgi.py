"""ASGI: what requests recorded is delivered when the server stops; each request has a `billing` block."""

import asyncio
import importlib
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, nullcontext
from inspect import isawaitable
from typing import Any, TypeAlias, Unpack, cast

from clocknext_transports.asyncio.tasks import running_loop
from clocknext_transports.integrations.hosting import (
    AnyClient,
    Customer,
    Details,
    block_for,
    check_cnk,
    check_function,
    log_undelivered,
)

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
CustomerOf: TypeAlias = Callable[[Message], Customer | Awaitable[Customer]]


class ClockNextMiddleware:
    """Wraps an application of ASGI, also one without a lifespan, as Django's is.

    When the server stops, and the application's own shutdown is over, what is held is delivered, for
    `cnk.close_timeout` seconds at most. The client is not closed, so that an application can be started
    again; only the block of a `TrioClockNext` is opened at the start and closed at the end.

    Args:
        app: The application.
        cnk: Any client of ClockNext.
        customer: Returns who is billed for a request, from its ASGI scope: a customer's id, keywords of
            `billing`, or `None`; it may be a coroutine function. What it raises ends the request. Default: no
            `billing` block is opened. Take the customer from your own session, never from a header.
        details: What else the `billing` block says.

    Raises:
        ValidationError: `cnk` is no client, or `customer` no function.
    """

    def __init__(
        self, app: App, cnk: AnyClient, *, customer: CustomerOf | None = None, **details: Unpack[Details]
    ) -> None:
        check_cnk(cnk)
        check_function("customer", customer)
        self._app = app
        self._cnk = cnk
        self._customer = customer
        self._details = details

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve a request, a connection or the lifespan."""
        if scope["type"] == "lifespan":
            async with _block_of(self._cnk):
                await self._live(scope, receive, send)
        elif self._customer is None:
            await self._app(scope, receive, send)
        else:
            found = self._customer(scope)
            customer = await found if isawaitable(found) else found
            with block_for(self._cnk, customer, self._details):
                await self._app(scope, receive, send)

    async def _live(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass the lifespan on, or live it where the application does not know it."""
        is_known = False

        async def pass_in() -> Message:
            nonlocal is_known
            is_known = True
            return await receive()

        async def pass_out(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                await deliver(self._cnk)
            await send(message)

        try:
            await self._app(scope, pass_in, pass_out)
        except Exception:
            if is_known:
                raise
        if is_known:
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await pass_out({"type": "lifespan.shutdown.complete"})


def billed_to(
    cnk: AnyClient, customer: Callable[..., Any], **details: Unpack[Details]
) -> Callable[..., AsyncGenerator[None, None]]:
    """Make a dependency of FastAPI that opens the `billing` block of a request: `Depends(billed_to(cnk, …))`.

    The block is open until the response is sent, a streamed one included.

    Args:
        cnk: Any client of ClockNext.
        customer: A dependency of your own that returns who is billed: a customer's id, keywords of `billing`,
            or `None`. Take the customer from your own session, never from a header.
        details: What else the `billing` block says.

    Raises:
        ValidationError: `cnk` is no client, or `customer` no function.
    """
    check_cnk(cnk)
    check_function("customer", customer)
    depends: Any = importlib.import_module("fastapi").Depends

    async def open_block(customer: Any = depends(customer)) -> AsyncGenerator[None, None]:  # noqa: B008
        with block_for(cnk, customer, details):
            yield

    return open_block


async def deliver(cnk: AnyClient) -> None:
    """Deliver what is held, for `cnk.close_timeout` seconds at most, and log what was not delivered."""
    if cnk.is_async:
        report = await cast("Any", cnk).flush(cnk.close_timeout)
    elif running_loop() is not None:
        report = await asyncio.to_thread(cast("Any", cnk).flush, cnk.close_timeout)
    else:
        report = cast("Any", cnk).flush(cnk.close_timeout)
    log_undelivered(report)


def _block_of(cnk: AnyClient) -> AbstractAsyncContextManager[object]:
    """Return the block of a client that sends within its block only."""
    trio_client = sys.modules.get("clocknext_transports.trio.client")
    if trio_client is not None and isinstance(cnk, trio_client.TrioClockNext):
        return cast("AbstractAsyncContextManager[object]", cnk)
    return nullcontext()
