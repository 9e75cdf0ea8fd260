"""OpenAI Agents: what the models of a run answer is billed, by a provider or a model around them."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, Unpack, cast

from clocknext_core.resources.calls import ModelCall
from clocknext_core.usage.streams import AbortPolicy
from clocknext_transports.client.base import ClientBase
from clocknext_transports.integrations.watching import Billed, attribution_of, check_client

M = TypeVar("M")


def metered(
    model: M,
    cnk: ClientBase[Any, Any, Any],
    *,
    on_abort: AbortPolicy = "partial",
    **billed: Unpack[Billed],
) -> M:
    """Return a model, or a provider of models, like the one given, whose requests are billed.

    A stream is asked for its usage where the settings do not say.

    Run hooks would see neither the model's name nor a stream that is cancelled or incomplete, nor that an
    attempt was repeated; the model sees all of them.

    Args:
        model: A `ModelProvider` for a whole run, as in `RunConfig(model_provider=metered(MultiProvider(),
            cnk))`, or a `Model` of one agent. It is not changed.
        cnk: Any client of ClockNext; it is never waited for.
        on_abort: What a stream is billed that is broken off; see `AbortPolicy`.
        billed: Who is billed for all calls. Default: as the `billing` block says that a call starts in.

    Raises:
        ValidationError: A bad argument, or `model` is neither.
    """
    attribution = attribution_of(billed)
    cnk.start_call(attribution, on_abort=on_abort)  # a bad policy is an error here

    def start(name: str | None) -> ModelCall:
        return cnk.start_call(attribution, on_abort=on_abort, model=name)

    if callable(getattr(model, "get_model", None)):
        return cast("M", _provider(model, start))
    check_client(model, "get_response", "stream_response")
    return cast("M", _model(model, start))


def _provider(provider: Any, start: Callable[[str | None], ModelCall]) -> Any:
    kind = cast("Any", type(provider))

    def get_model(self: Any, model_name: str | None) -> Any:
        return _model(kind.get_model(self, model_name), start)

    return _like(provider, {"get_model": get_model})


def _model(model: Any, start: Callable[[str | None], ModelCall]) -> Any:
    kind = cast("Any", type(model))

    async def get_response(self: Any, *arguments: Any, **more: Any) -> Any:
        call = start(_name_of(self))
        try:
            response = await kind.get_response(self, *arguments, **more)
        except BaseException as error:
            call.failed(error)
            raise
        call.answered(response)
        return response

    def stream_response(
        self: Any,
        system_instructions: Any,
        input: Any,  # noqa: A002 - the SDK's name
        model_settings: Any,
        *arguments: Any,
        **more: Any,
    ) -> Any:
        call = start(_name_of(self))
        if model_settings.include_usage is None:  # chat completions have to be asked
            model_settings = dataclasses.replace(model_settings, include_usage=True)
        stream = kind.stream_response(self, system_instructions, input, model_settings, *arguments, **more)
        return call.watch_async(stream)

    return _like(model, {"get_response": get_response, "stream_response": stream_response})


def _name_of(model: Any) -> str | None:
    name = getattr(model, "model", None)
    return None if name is None else str(name)


def _like(one: Any, own: dict[str, Any]) -> Any:
    """Copy an object, with methods of ours in the place of its own."""
    twin, kind = copy.copy(one), cast("Any", type(one))
    twin.__class__ = type(kind.__name__, (kind,), {**own, "__module__": kind.__module__})
    return twin
