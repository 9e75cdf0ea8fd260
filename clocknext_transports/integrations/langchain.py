"""LangChain and LangGraph: what their models answer is billed, by a callback."""

import importlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Unpack
from uuid import UUID

from clocknext_core.resources.calls import ModelCall
from clocknext_transports.client.base import ClientBase
from clocknext_transports.integrations.watching import Billed, starting

if TYPE_CHECKING:
    from clocknext_transports.integrations.watching import Callbacks as BaseCallbackHandler
else:
    from langchain_core.callbacks import BaseCallbackHandler


class ClockNextCallbackHandler(BaseCallbackHandler):
    """A callback of LangChain: `model.invoke(..., config={"callbacks": [ClockNextCallbackHandler(cnk)]})`.

    Each request of a chain, an agent or a graph is billed. Answers from LangChain's own cache are reported as
    `cache_hit`, and streams that are left early as `partial`.

    Args:
        cnk: Any client of ClockNext; it is never waited for.
        billed: Who is billed for all calls. Default: as the `billing` block says that a call starts in.

    Raises:
        ValidationError: A bad argument.
    """

    run_inline = True
    """Where a call starts, and not in a thread: there the block is open that says who is billed."""

    def __init__(self, cnk: ClientBase[Any, Any, Any], **billed: Unpack[Billed]) -> None:
        super().__init__()
        self._start = starting(cnk, billed, "langchain")
        self._calls: dict[UUID, ModelCall] = {}

    def everywhere(self) -> None:
        """Have every model of this process call it, without a `callbacks` entry."""
        hooks: Any = importlib.import_module("langchain_core.tracers.context")
        hooks.register_configure_hook(ContextVar("clocknext_langchain", default=self), inheritable=True)

    def on_llm_start(self, serialized: object, prompts: object, *, run_id: UUID, **details: object) -> None:
        """Capture who is billed."""
        self._calls[run_id] = self._start()

    def on_chat_model_start(
        self, serialized: object, messages: object, *, run_id: UUID, **details: object
    ) -> None:
        """Capture who is billed."""
        self._calls[run_id] = self._start()

    def on_llm_end(self, response: Any, *, run_id: UUID, **details: object) -> None:
        """Hand over the answer to one prompt."""
        call = self._calls.pop(run_id, None)
        if call is not None:
            call.answered(_answer_in(response))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **details: object) -> None:
        """Hand over a failure, and what came before it."""
        call = self._calls.pop(run_id, None)
        if call is not None:
            seen = _answer_in(details.get("response"))
            # LangChain makes a message of the error's own response, which is no part of an answer.
            is_refusal = "status_code" in getattr(seen, "response_metadata", {})
            call.failed(error, None if is_refusal else seen)


def _answer_in(result: Any) -> object:
    """Return the message in a result of LangChain, or the result, where its model knows no messages."""
    generations = getattr(result, "generations", None)
    first = generations[0][0] if generations and generations[0] else None
    return getattr(first, "message", result if first is not None else None)
