"""LiteLLM: what its SDK or its proxy answers is billed, by a callback."""

from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

from clocknext_core.resources.calls import ModelCall
from clocknext_transports.client.base import ClientBase
from clocknext_transports.integrations.watching import Billed, starting, wrap_once

if TYPE_CHECKING:
    from clocknext_transports.integrations.watching import Callbacks as CustomLogger
else:
    from litellm.integrations.custom_logger import CustomLogger

Details: TypeAlias = dict[str, Any]
"""What LiteLLM keeps of a call. There are ours too: the call, and the chunks that an answer was made of."""
_CALL, _CHUNKS = "clocknext_call", "clocknext_chunks"


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
        wrap_once("litellm", "stream_chunk_builder", _noting_chunks)

    def log_pre_api_call(self, model: object, messages: object, kwargs: Details) -> None:
        """Capture who is billed; a retry within the call keeps it."""
        if _CALL not in kwargs:
            kwargs[_CALL] = self._start()
            kwargs[_CALL].report_when_lost("LiteLLM reported no end of the call")

    def log_success_event(self, kwargs: Details, response_obj: object, *_: object, **__: object) -> None:
        """Hand over an answer."""
        call = kwargs[_CALL] = kwargs.get(_CALL) or self._start()
        is_first, is_cached = call.claim(), kwargs.get("cache_hit") is True
        if is_first and kwargs.get("stream") and not is_cached:
            call.assembled(response_obj, kwargs.get(_CHUNKS))
        elif is_first:
            call.answered(response_obj, is_cached=is_cached)

    def log_failure_event(self, kwargs: Details, response_obj: object, *_: object, **__: object) -> None:
        """Hand over a failure, and whether an answer had begun."""
        call: ModelCall | None = kwargs.get(_CALL)
        if call is not None and call.claim():
            error = kwargs.get("exception") or RuntimeError()
            call.failed(error, response_obj, has_begun=kwargs.get("completion_start_time") is not None)

    async def async_log_success_event(self, *event: Any, **named: Any) -> None:
        """Hand over an answer."""
        self.log_success_event(*event, **named)

    async def async_log_failure_event(self, *event: Any, **named: Any) -> None:
        """Hand over a failure."""
        self.log_failure_event(*event, **named)


def _noting_chunks(build: Any) -> Any:
    """Keep the chunks that LiteLLM puts a whole answer together from, as that loses who counted its tokens.

    It hands its callbacks the whole alone, with counts of its own where the provider sent none.
    """

    def noting(chunks: Any, *args: Any, logging_obj: Any = None, **more: Any) -> Any:
        getattr(logging_obj, "model_call_details", {})[_CHUNKS] = list(chunks)
        return build(chunks, *args, logging_obj=logging_obj, **more)

    return noting
