"""Google's Gen AI SDK: what one of its clients answers is billed, each request by itself."""

import copy
import inspect
from functools import partial
from typing import Any, TypeVar, Unpack, cast

from clocknext_core.resources.calls import PROVIDER, ModelCall
from clocknext_core.usage.streams import AbortPolicy
from clocknext_transports.client.base import ClientBase
from clocknext_transports.integrations import watching

C = TypeVar("C")

_ANSWERED = ("_generate_content", "_embed_content")
_STREAMED = "_generate_content_stream"


def metered(
    client: C,
    cnk: ClientBase[Any, Any, Any],
    *,
    on_abort: AbortPolicy = "partial",
    **billed: Unpack[watching.Billed],
) -> C:
    """Return a client like the one given, whose calls are billed; the one given is not changed.

    It covers `models` and `aio.models`: `generate_content`, `generate_content_stream` and `embed_content`,
    and the chats made with it. Automatic function calling is billed as the requests that it makes.

    Args:
        client: `google.genai.Client`, for Gemini or Vertex AI.
        cnk: Any client of ClockNext; it is never waited for.
        on_abort: What a stream is billed that is broken off; see `AbortPolicy`.
        billed: Who is billed for all calls. Default: as the `billing` block says that a call starts in.

    Raises:
        ValidationError: A bad argument, or `client` is another one.
    """
    sdk: Any = client
    watching.check_client(getattr(sdk, "models", sdk), *_ANSWERED, _STREAMED)
    start = watching.starting(cnk, billed, PROVIDER, on_abort)
    twin: Any = copy.copy(sdk)
    twin._models = _hooked(sdk.models, start)  # noqa: SLF001 - the SDK has no hook but its own methods
    twin._aio = copy.copy(sdk.aio)  # noqa: SLF001
    twin._aio._models = _hooked(sdk.aio.models, start)  # noqa: SLF001
    # Both have the same connections: the one given closes them, when neither is used any more.
    twin.clocknext_original = sdk
    return cast("C", watching.with_methods(twin, __del__=_close_nothing))


def _close_nothing(twin: object) -> None:
    """Take the place of the SDK's finalizer, which closes the connections."""


def _hooked(models: Any, start: watching.Start) -> Any:
    kind = cast("Any", type(models))
    is_async = inspect.iscoroutinefunction(kind._generate_content)  # noqa: SLF001
    takes: dict[str, Any] = dict.fromkeys(_ANSWERED, ModelCall.answered)
    takes[_STREAMED] = ModelCall.watch_async if is_async else ModelCall.watch
    hooks = {name: _hook(getattr(kind, name), take, start, is_async) for name, take in takes.items()}
    return watching.with_methods(copy.copy(models), **hooks)


def _hook(method: Any, take: Any, start: watching.Start, is_async: bool) -> Any:
    def begin(self: Any, *, model: str, **arguments: Any) -> watching.Asked:
        call = start(model)
        return watching.Asked(partial(method, self, model=model, **arguments), partial(take, call), call)

    return watching.asking(begin, is_async=is_async)
