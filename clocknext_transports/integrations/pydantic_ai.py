"""Pydantic AI: what a model answers its agents is billed, by a model around it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Unpack

from clocknext_transports.client.base import ClientBase
from clocknext_transports.integrations.watching import Billed, starting

if TYPE_CHECKING:  # checked without the package

    class WrapperModel:
        """Pydantic AI's class of models around another one."""

        wrapped: Any

        def __init__(self, wrapped: object) -> None: ...

else:
    from pydantic_ai.models.wrapper import WrapperModel

_ENDED = ("complete", "suspended")


class MeteredModel(WrapperModel):
    """A model whose requests are billed: `Agent(MeteredModel("openai:gpt-4o", cnk))`.

    Each request is billed, also one whose output the agent rejects and asks for again. Give it the models
    inside a `FallbackModel`, which asks several of them.

    Args:
        model: A model of Pydantic AI, or its name.
        cnk: Any client of ClockNext; it is never waited for.
        billed: Who is billed for all calls. Default: as the `billing` block says that a call starts in.

    Raises:
        ValidationError: A bad argument.
    """

    def __init__(self, model: object, cnk: ClientBase[Any, Any, Any], **billed: Unpack[Billed]) -> None:
        super().__init__(model)
        self._start = starting(cnk, billed, "pydantic_ai")

    async def request(self, *arguments: Any, **more: Any) -> Any:
        """Ask the model, and hand over its answer."""
        with self._start(self.wrapped.model_name) as call:
            response = await self.wrapped.request(*arguments, **more)
        call.answered(response)
        return response

    @asynccontextmanager
    async def request_stream(self, *arguments: Any, **more: Any) -> AsyncGenerator[Any, None]:
        """Ask the model for a stream, and hand over what came of it, however it ends."""
        call = self._start(self.wrapped.model_name)
        stream: Any = None
        try:
            async with self.wrapped.request_stream(*arguments, **more) as stream:
                yield stream
        except BaseException as error:
            if stream is None:
                call.failed(error)
            raise
        finally:
            if stream is not None:
                response = stream.get()
                if response.state in _ENDED:
                    call.answered(response)
                else:
                    call.broken_off(f"the stream was left ({response.state})", response)
