"""Anthropic's SDK: what one of its clients answers is billed, by the SDK's own middleware."""

import inspect
from typing import Any, TypeVar, Unpack, cast

from clocknext_core.resources.calls import ModelCall
from clocknext_core.usage.streams import AbortPolicy
from clocknext_transports.client.base import ClientBase
from clocknext_transports.integrations.watching import (
    Billed,
    attribution_of,
    check_client,
    watch,
    watch_async,
)

C = TypeVar("C")


def metered(
    client: C,
    cnk: ClientBase[Any, Any, Any],
    *,
    on_abort: AbortPolicy = "partial",
    **billed: Unpack[Billed],
) -> C:
    """Return a client like the one given, whose calls are billed; the one given is not changed.

    It covers messages, also of the beta API: `create`, `parse`, the `stream` helpers, `with_raw_response`,
    `with_streaming_response`, and what `with_options` and `copy` return.

    Args:
        client: `Anthropic`, `AsyncAnthropic`, or one of their kinds for Bedrock, Vertex and others.
        cnk: Any client of ClockNext; it is never waited for.
        on_abort: What a stream is billed that is broken off; see `AbortPolicy`.
        billed: Who is billed for all calls. Default: as the `billing` block says that a call starts in.

    Raises:
        ValidationError: A bad argument, or `client` is none of these.
    """
    attribution = attribution_of(billed)
    check_client(client, "request", "with_middleware")
    cnk.start_call(attribution, on_abort=on_abort)  # a bad policy is an error here

    # The SDK calls these once for each attempt; an attempt that fails is not charged.

    def handle(request: Any, call_next: Any) -> Any:
        if not _uses_a_model(request):
            return call_next(request)
        call = start()
        try:
            response = call_next(request)
        except BaseException as error:
            call.failed(error)
            raise
        if response.http_response.is_success:
            watch(call, response)
        return response

    async def handle_async(request: Any, call_next: Any) -> Any:
        if not _uses_a_model(request):
            return await call_next(request)
        call = start()
        try:
            response = await call_next(request)
        except BaseException as error:
            call.failed(error)
            raise
        if response.http_response.is_success:
            await watch_async(call, response)
        return response

    def start() -> ModelCall:
        return cnk.start_call(attribution, on_abort=on_abort)

    sdk = cast("Any", client)
    return cast(
        "C", sdk.with_middleware(handle_async if inspect.iscoroutinefunction(sdk.request) else handle)
    )


def _uses_a_model(request: Any) -> bool:
    return str(request.method).lower() == "post" and str(request.url).partition("?")[0] == "/v1/messages"
