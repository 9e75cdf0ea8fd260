"""Anthropic's SDK: what one of its clients answers is billed, by the SDK's own middleware."""

import inspect
from functools import partial
from typing import Any, TypeVar, Unpack, cast

from clocknext_core.resources.calls import PROVIDER, ModelCall
from clocknext_core.usage.streams import AbortPolicy
from clocknext_transports.client.base import ClientBase
from clocknext_transports.integrations import watching

C = TypeVar("C")


def metered(
    client: C,
    cnk: ClientBase[Any, Any, Any],
    *,
    on_abort: AbortPolicy = "partial",
    **billed: Unpack[watching.Billed],
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
    watching.check_client(client, "request", "with_middleware")
    start = watching.starting(cnk, billed, PROVIDER, on_abort)

    def begin(request: Any, call_next: Any) -> watching.Asked:
        # The SDK asks once for each attempt; an attempt that fails is not charged.
        call = start() if _asks_a_model(request) else None
        return watching.Asked(partial(call_next, request), partial(_watch, call) if call else None, call)

    sdk = cast("Any", client)
    handle = watching.asking(begin, is_async=inspect.iscoroutinefunction(sdk.request))
    return cast("C", sdk.with_middleware(handle))


def _asks_a_model(request: Any) -> bool:
    return str(request.method).lower() == "post" and str(request.url).partition("?")[0] == "/v1/messages"


def _watch(call: ModelCall, response: Any) -> Any:
    return watching.watch(call, response) if response.http_response.is_success else None
