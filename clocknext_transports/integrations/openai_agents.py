"""OpenAI Agents: what the models of a run answer is billed, by a provider or a model around them."""

import copy
import dataclasses
import inspect
from functools import partial
from typing import Any, TypeVar, Unpack, cast

from clocknext_core.usage.streams import AbortPolicy
from clocknext_transports.client.base import ClientBase
from clocknext_transports.integrations import watching

M = TypeVar("M")


def metered(
    model: M,
    cnk: ClientBase[Any, Any, Any],
    *,
    on_abort: AbortPolicy = "partial",
    **billed: Unpack[watching.Billed],
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
    start, kind = watching.starting(cnk, billed, "openai_agents", on_abort), cast("Any", type(model))
    if not callable(getattr(model, "get_model", None)):
        watching.check_client(model, "get_response", "stream_response")
        return cast("M", _model(model, start))

    def get_model(self: Any, model_name: str | None) -> Any:
        return _model(kind.get_model(self, model_name), start)

    return cast("M", watching.with_methods(copy.copy(model), get_model=get_model))


def _model(model: Any, start: watching.Start) -> Any:
    kind = cast("Any", type(model))

    def begin(self: Any, *arguments: Any, **more: Any) -> watching.Asked:
        call = start(_name_of(self))
        return watching.Asked(partial(kind.get_response, self, *arguments, **more), call.answered, call)

    def begin_stream(*arguments: Any, **more: Any) -> watching.Asked:
        asked = inspect.signature(kind.stream_response).bind(*arguments, **more)
        settings = asked.arguments.get("model_settings")
        if settings is not None and settings.include_usage is None:  # chat completions have to be asked
            asked.arguments["model_settings"] = dataclasses.replace(settings, include_usage=True)
        call = start(_name_of(arguments[0]))
        ask = partial(kind.stream_response, *asked.args, **asked.kwargs)
        return watching.Asked(ask, call.watch_async, call)

    return watching.with_methods(
        copy.copy(model),
        get_response=watching.asking(begin, is_async=True),
        stream_response=watching.asking(begin_stream, is_async=False),
    )


def _name_of(model: Any) -> str | None:
    name = getattr(model, "model", None)
    return None if name is None else str(name)
