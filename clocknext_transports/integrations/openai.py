"""OpenAI's SDK: what one of its clients answers is billed."""

import copy
import inspect
import re
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

_USES_A_MODEL = re.compile(
    r"/(?:(?:chat/)?completions|responses(?:/compact)?|embeddings|images/\w+|audio/(?:transcriptions|translations))"
)
_STORED = re.compile(r"/responses/[^/]+")
_COMPLETIONS = re.compile(r"/(?:chat/)?completions")


def metered(
    client: C,
    cnk: ClientBase[Any, Any, Any],
    *,
    on_abort: AbortPolicy = "partial",
    **billed: Unpack[Billed],
) -> C:
    """Return a client like the one given, whose calls are billed; the one given is not changed.

    It covers chat completions, Responses (also in the background), completions, embeddings, images and
    transcriptions: `create`, `parse`, the `stream` helpers, `with_raw_response`, `with_streaming_response`,
    and what `with_options` and `copy` return. A stream is asked for its usage where the caller did not say.

    Args:
        client: `OpenAI`, `AsyncOpenAI`, or one of their kinds for Azure and others.
        cnk: Any client of ClockNext; it is never waited for.
        on_abort: What a stream is billed that is broken off; see `AbortPolicy`.
        billed: Who is billed for all calls. Default: as the `billing` block says that a call starts in.

    Raises:
        ValidationError: A bad argument, or `client` is none of these.
    """
    attribution, kind = attribution_of(billed), cast("Any", type(client))
    check_client(client, "request", "copy")
    cnk.start_call(attribution, on_abort=on_abort)  # a bad policy is an error here

    def start() -> ModelCall:
        return cnk.start_call(attribution, on_abort=on_abort)

    def request(self: Any, cast_to: Any, options: Any, **how: Any) -> Any:
        if _is_retrieval(options):
            result = kind.request(self, cast_to, options, **how)
            start().retrieved(result)
            return result
        if not _uses_a_model(options):
            return kind.request(self, cast_to, options, **how)
        call, (options, hides_usage) = start(), _asking_for_usage(options)
        try:
            result = kind.request(self, cast_to, options, **how)
        except BaseException as error:
            call.failed(error)
            raise
        watch(call, result, hides_usage=hides_usage)
        return result

    async def request_async(self: Any, cast_to: Any, options: Any, **how: Any) -> Any:
        if _is_retrieval(options):
            result = await kind.request(self, cast_to, options, **how)
            start().retrieved(result)
            return result
        if not _uses_a_model(options):
            return await kind.request(self, cast_to, options, **how)
        call, (options, hides_usage) = start(), _asking_for_usage(options)
        try:
            result = await kind.request(self, cast_to, options, **how)
        except BaseException as error:
            call.failed(error)
            raise
        await watch_async(call, result, hides_usage=hides_usage)
        return result

    ours = request_async if inspect.iscoroutinefunction(kind.request) else request
    twin = cast("Any", client).copy()
    # A class of its own, so that copies of the client are metered too.
    twin.__class__ = type(kind.__name__, (kind,), {"request": ours, "__module__": kind.__module__})
    return cast("C", twin)


def _uses_a_model(options: Any) -> bool:
    return options.method.lower() == "post" and _USES_A_MODEL.fullmatch(options.url) is not None


def _is_retrieval(options: Any) -> bool:
    return options.method.lower() == "get" and _STORED.fullmatch(options.url) is not None


def _asking_for_usage(options: Any) -> tuple[Any, bool]:
    """Ask a stream of completions for its usage, unless the caller said; return whether that was done."""
    body: Any = options.json_data
    extra: dict[str, Any] = options.extra_json or {}
    if not isinstance(body, dict) or _COMPLETIONS.fullmatch(options.url) is None or "stream_options" in extra:
        return options, False
    asked = cast("dict[str, Any]", body)
    given: dict[str, Any] = asked.get("stream_options") or {}
    if asked.get("stream") is not True or "include_usage" in given:
        return options, False
    asking = copy.copy(options)
    asking.json_data = {**asked, "stream_options": {**given, "include_usage": True}}
    return asking, True
