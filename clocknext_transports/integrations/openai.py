"""OpenAI's SDK: what one of its clients answers is billed."""

import copy
import inspect
import re
from functools import partial
from typing import Any, TypeVar, Unpack, cast

from clocknext_core.resources.calls import PROVIDER
from clocknext_core.usage.streams import AbortPolicy
from clocknext_transports.client.base import ClientBase
from clocknext_transports.integrations import watching

C = TypeVar("C")

_ASKS_A_MODEL = re.compile(
    r"post /(?:(?:chat/)?completions|responses(?:/compact)?|embeddings|images/\w+"
    r"|audio/(?:transcriptions|translations))"
)
_RETRIEVES = re.compile(r"get /responses/[^/]+")
_COMPLETES = re.compile(r"post /(?:chat/)?completions")


def metered(
    client: C,
    cnk: ClientBase[Any, Any, Any],
    *,
    on_abort: AbortPolicy = "partial",
    **billed: Unpack[watching.Billed],
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
    kind = cast("Any", type(client))
    watching.check_client(client, "request", "copy")
    start = watching.starting(cnk, billed, PROVIDER, on_abort)

    def retrieved(stored: object) -> None:
        start().retrieved(stored)

    def begin(self: Any, cast_to: Any, options: Any, **how: Any) -> watching.Asked:
        line = f"{options.method.lower()} {options.url}"
        if _ASKS_A_MODEL.fullmatch(line) is None:
            take = retrieved if _RETRIEVES.fullmatch(line) else None
            return watching.Asked(partial(kind.request, self, cast_to, options, **how), take)
        asking = _asking_for_usage(options) if _COMPLETES.fullmatch(line) else None
        call, ask = start(), partial(kind.request, self, cast_to, asking or options, **how)
        return watching.Asked(ask, partial(watching.watch, call, hides_usage=asking is not None), call)

    request = watching.asking(begin, is_async=inspect.iscoroutinefunction(kind.request))
    # By a class, so that copies of the client are metered too.
    return cast("C", watching.with_methods(cast("Any", client).copy(), request=request))


def _asking_for_usage(options: Any) -> Any:
    """Return options that ask a stream for its usage; `None`: it is none, or the caller said."""
    data: object = options.json_data
    if not isinstance(data, dict):
        return None
    body = cast("dict[str, Any]", data)
    given: dict[str, Any] = body.get("stream_options") or {}
    extra: dict[str, Any] = options.extra_json or {}
    if body.get("stream") is not True or "include_usage" in given or "stream_options" in extra:
        return None
    asking = copy.copy(options)
    asking.json_data = {**body, "stream_options": {**given, "include_usage": True}}
    return asking
