"""ASGI: what requests recorded is delivered when the server stops; each request has a `billing` block."""

import asyncio
import importlib
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, nullcontext
from inspect import Parameter, Signature, isawaitable
from typing import Any, Literal, NoReturn, TypeAlias, Unpack, cast

from clocknext_core import FlushReport
from clocknext_core.errors import invalid
from clocknext_transports.asyncio.tasks import running_loop
from clocknext_transports.integrations.hosting import (
    AnyClient,
    Customer,
    Details,
    block_for,
    check_details,
    check_function,
)
from clocknext_transports.integrations.watching import check_cnk
from clocknext_transports.process.log import logger

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
CustomerOf: TypeAlias = Callable[[Message], Customer | Awaitable[Customer]]

_CUSTOMER = frozenset({"customer"})


class ClockNextMiddleware:
    """Wraps an application of ASGI, also one without a lifespan, as Django's is.

    When the server stops, and the application's own shutdown is over, what is held is delivered, for
    `cnk.close_timeout` seconds at most. What is left stays held for the interpreter's exit. uvicorn ends by
    SIGTERM without exit handlers: there it is dropped as `closed`, and each signal reported to `on_drop`.

    The client is not closed otherwise, so that an application can be started again; only the block of a
    `TrioClockNext` is opened at the start and closed at the end.

    Args:
        app: The application.
        cnk: Any client of ClockNext.
        customer: Returns who is billed for a request, from its ASGI scope: a customer's id, keywords of
            `billing`, or `None`; it may be a coroutine function. What it raises ends the request. Default: no
            `billing` block is opened. Take the customer from your own session, never from a header.
        details: What else the `billing` block says.

    Raises:
        TypeError: A detail is none of `billing`.
        ValidationError: `cnk` is no client, `customer` no function, or a detail of the wrong kind, or given
            without `customer`.
    """

    def __init__(
        self, app: App, cnk: AnyClient, *, customer: CustomerOf | None = None, **details: Unpack[Details]
    ) -> None:
        check_cnk(cnk)
        check_details(details, beside=_CUSTOMER)  # at first: an unknown one may be `customer`, misspelt
        if customer is not None:
            check_function("customer", customer, arguments=("scope",))
        elif details:
            raise invalid("customer", f"is required with {next(iter(details))}: it says who is billed")
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
        TypeError: A detail is none of `billing`.
        ValidationError: `cnk` is no client, `customer` no function, or a detail of the wrong kind.
    """
    check_cnk(cnk)
    check_function("customer", customer)
    check_details(details)
    return _Dependency(cnk, importlib.import_module("fastapi").Depends(customer), details)


class _Dependency:
    """What `billed_to` makes: FastAPI reads its signature, and calls it with the customer."""

    def __init__(self, cnk: AnyClient, customer: object, details: Details) -> None:
        self._cnk = cnk
        self._details = details
        parameter = Parameter("customer", Parameter.KEYWORD_ONLY, default=customer)
        self.__signature__ = Signature([parameter])

    async def __call__(self, *, customer: Customer) -> AsyncGenerator[None, None]:
        """Open the block of a request."""
        with block_for(self._cnk, customer, self._details):
            yield

    @property
    def dependency(self) -> NoReturn:
        """What FastAPI asks of `Depends(…)`, and so of this where that was forgotten."""
        raise TypeError("billed_to(…) is given to FastAPI within Depends: Depends(billed_to(…))")


async def deliver(cnk: AnyClient) -> None:
    """Deliver what is held, for `cnk.close_timeout` seconds at most.

    What is left stays held for the interpreter's exit, which delivers or reports it. Where that does not
    come, the client is closed, which reports each signal.
    """
    report = await _call(cnk, "flush", cnk.close_timeout)
    if not report.pending:
        return
    if _ends_by_signal():
        await _call(cnk, "close", 0.0)
        return
    logger.warning(
        "ClockNext signals not delivered when the server stopped: %d. They stay held: they are sent as the "
        "process exits, or reported one by one.",
        report.pending,
    )


async def _call(cnk: AnyClient, method: Literal["flush", "close"], timeout: float) -> FlushReport:
    """Call a method of a client of any world, without blocking the loop of another one."""
    call: Any = getattr(cnk, method)
    if cnk.is_async:
        return cast("FlushReport", await call(timeout))
    if running_loop() is not None:
        return cast("FlushReport", await asyncio.to_thread(call, timeout))
    return cast("FlushReport", call(timeout))


def _ends_by_signal() -> bool:
    """Return whether uvicorn will end the process by the signal that stops it, without exit handlers.

    From 0.29 on it catches signals, and raises them again when the lifespan is over, with the handlers that
    were there before. After a SIGINT that is an ordinary exit. There is no public way to ask.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    caught = cast("list[object]", getattr(server, "_captured_signals", []))
    return any(number != signal.SIGINT for number in caught)


def _block_of(cnk: AnyClient) -> AbstractAsyncContextManager[object]:
    """Return the block of a client that sends within its block only."""
    trio_client = sys.modules.get("clocknext_transports.trio.client")
    if trio_client is not None and isinstance(cnk, trio_client.TrioClockNext):
        return cast("AbstractAsyncContextManager[object]", cnk)
    return nullcontext()
