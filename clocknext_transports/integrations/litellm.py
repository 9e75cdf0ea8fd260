"""LiteLLM: what its SDK or its proxy answers is billed, by a callback."""

import functools
import importlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Unpack

from clocknext_core.resources.calls import ModelCall
from clocknext_transports.client.base import ClientBase
from clocknext_transports.integrations.watching import Billed, starting

if TYPE_CHECKING:  # checked without the package

    class CustomLogger:
        """LiteLLM's class of callbacks."""

else:
    from litellm.integrations.custom_logger import CustomLogger

_KEY = "clocknext_call"


class _Started:
    """A call that has started. LiteLLM keeps it with the call, and drops it where the call is left."""

    def __init__(self, call: ModelCall) -> None:
        self._call: ModelCall | None = call
        self.chunks: list[object] = []
        """Those that a whole answer was put together from."""

    def take(self) -> ModelCall | None:
        """Return the call, once."""
        call, self._call = self._call, None
        return call

    def __deepcopy__(self, memo: object) -> "_Started":
        return self

    def __del__(self) -> None:
        call = self.take()
        if call is not None:
            call.broken_off("LiteLLM reported no end of the call")


class ClockNextLogger(CustomLogger):
    """A callback of LiteLLM: `litellm.callbacks = [ClockNextLogger(cnk)]`.

    LiteLLM may call both its synchronous and its asynchronous half for one call, which is billed once. Cache
    hits are reported as `cache_hit`, and streams that are left early as `partial`.

    Args:
        cnk: Any client of ClockNext; it is never waited for.
        billed: Who is billed for all calls. Default: as the `billing` block says that a call starts in.

    Raises:
        ValidationError: A bad argument.
    """

    def __init__(self, cnk: ClientBase[Any, Any, Any], **billed: Unpack[Billed]) -> None:
        super().__init__()
        self._start = starting(cnk, billed, "litellm")
        _note_chunks()

    def log_pre_api_call(self, model: object, messages: object, kwargs: dict[str, Any]) -> None:
        """Capture who is billed; a retry within the call keeps it."""
        if _KEY not in kwargs:
            kwargs[_KEY] = _Started(self._start())

    def log_success_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Hand over an answer."""
        started: _Started = kwargs.get(_KEY) or _Started(self._start())
        kwargs[_KEY] = started
        call = started.take()
        if call is None:
            return
        if kwargs.get("cache_hit") is True:
            call.answered(response_obj, is_cached=True)
        elif kwargs.get("stream"):
            call.assembled(response_obj, started.chunks)
        else:
            call.answered(response_obj)

    def log_failure_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Hand over a failure, and whether an answer had begun."""
        started: _Started | None = kwargs.get(_KEY)
        call = None if started is None else started.take()
        if call is not None:
            error = kwargs.get("exception") or RuntimeError()
            call.failed(error, response_obj, has_begun=kwargs.get("completion_start_time") is not None)

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Hand over an answer."""
        self.log_success_event(kwargs, response_obj, start_time, end_time)

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Hand over a failure."""
        self.log_failure_event(kwargs, response_obj, start_time, end_time)


def _note_chunks() -> None:
    """Keep the chunks that LiteLLM puts a whole answer together from, as that loses who counted its tokens.

    It hands its callbacks the whole alone, with counts of its own where the provider sent none.
    """
    litellm: Any = importlib.import_module("litellm")
    build: Callable[..., Any] = litellm.stream_chunk_builder
    if hasattr(build, "notes_chunks"):
        return

    @functools.wraps(build)
    def noting(chunks: Iterable[object], *args: Any, logging_obj: Any = None, **more: Any) -> Any:
        started = getattr(logging_obj, "model_call_details", {}).get(_KEY)
        if started is not None:
            started.chunks = list(chunks)
        return build(chunks, *args, logging_obj=logging_obj, **more)

    noting.notes_chunks = True  # type: ignore[attr-defined]
    litellm.stream_chunk_builder = noting
