"""Google's Gen AI SDK: what one of its clients answers is billed, each request by itself."""

import copy
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, Unpack, cast

from clocknext_core.resources.calls import ModelCall
from clocknext_core.usage.streams import AbortPolicy
from clocknext_transports.client.base import ClientBase
from clocknext_transports.integrations.watching import Billed, attribution_of, check_client

C = TypeVar("C")

_ANSWERED = ("_generate_content", "_embed_content")
_STREAMED = "_generate_content_stream"


def metered(
    client: C,
    cnk: ClientBase[Any, Any, Any],
    *,
    on_abort: AbortPolicy = "partial",
    **billed: Unpack[Billed],
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
    attribution = attribution_of(billed)
    sdk: Any = client
    check_client(getattr(sdk, "models", sdk), *_ANSWERED, _STREAMED)
    cnk.start_call(attribution, on_abort=on_abort)  # a bad policy is an error here

    def start(model: str) -> ModelCall:
        return cnk.start_call(attribution, on_abort=on_abort, model=model)

    twin: Any = copy.copy(sdk)
    twin._models = _hooked(sdk.models, start)  # noqa: SLF001 - the SDK has no hook but its own methods
    twin._aio = copy.copy(sdk.aio)  # noqa: SLF001
    twin._aio._models = _hooked(sdk.aio.models, start)  # noqa: SLF001
    # Both have the same connections: the one given closes them, when neither is used any more.
    twin.clocknext_original = sdk
    twin.__class__ = _like(sdk, {"__del__": _close_nothing})
    return cast("C", twin)


def _close_nothing(twin: object) -> None:
    """Take the place of the SDK's finalizer, which closes the connections."""


def _hooked(models: Any, start: Callable[[str], ModelCall]) -> Any:
    kind = cast("Any", type(models))
    is_async = inspect.iscoroutinefunction(kind._generate_content)  # noqa: SLF001
    one, streamed = (_async_hook, _async_stream_hook) if is_async else (_hook, _stream_hook)
    hooks: dict[str, Any] = {name: one(getattr(kind, name), start) for name in _ANSWERED}
    hooked = copy.copy(models)
    hooked.__class__ = _like(models, {**hooks, _STREAMED: streamed(getattr(kind, _STREAMED), start)})
    return hooked


def _like(one: Any, own: dict[str, Any]) -> Any:
    kind = cast("Any", type(one))
    return type(kind.__name__, (kind,), {**own, "__module__": kind.__module__})


def _hook(method: Any, start: Callable[[str], ModelCall]) -> Any:
    def hooked(self: Any, *, model: str, **arguments: Any) -> Any:
        call = start(model)
        try:
            answer = method(self, model=model, **arguments)
        except BaseException as error:
            call.failed(error)
            raise
        call.answered(answer)
        return answer

    return hooked


def _stream_hook(method: Any, start: Callable[[str], ModelCall]) -> Any:
    def hooked(self: Any, *, model: str, **arguments: Any) -> Any:
        return start(model).watch(method(self, model=model, **arguments))

    return hooked


def _async_hook(method: Any, start: Callable[[str], ModelCall]) -> Any:
    def take(call: ModelCall, answer: Any) -> Any:
        call.answered(answer)
        return answer

    return _awaiting(method, start, take)


def _async_stream_hook(method: Any, start: Callable[[str], ModelCall]) -> Any:
    return _awaiting(method, start, ModelCall.watch_async)


def _awaiting(method: Any, start: Callable[[str], ModelCall], take: Callable[[ModelCall, Any], Any]) -> Any:
    """Wrap a coroutine function; `take` gets what it returns, and returns what the user gets."""

    async def hooked(self: Any, *, model: str, **arguments: Any) -> Any:
        call = start(model)
        try:
            answer = await method(self, model=model, **arguments)
        except BaseException as error:
            call.failed(error)
            raise
        return take(call, answer)

    return hooked
