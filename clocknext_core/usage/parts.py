"""Finding the responses in the result of a run, by attribute: no framework is imported."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, cast

from clocknext_core.errors import invalid
from clocknext_core.usage.finding import has_own_usage, usages_in
from clocknext_core.usage.lookup import check_awaited, fields_of, get, is_holder, is_list, items_of, text_of
from clocknext_core.usage.roles import role_of


class Part(NamedTuple):
    """The response of one request, or what a framework kept of it."""

    value: object
    model: str | None = None
    """The model, where the result names it beside the usage."""


_LISTS: Final = (
    "raw_responses",  # OpenAI Agents
    "messages",  # LangChain, LangGraph, AutoGen
    "generations",  # LangChain's LLMResult
    "replies",  # Haystack
    "steps",  # smolagents, the AI SDK
    "inlined_responses",  # batches of google-genai
    "inlinedResponses",
    "per_model_usage",  # runs of OpenAI's evals
)
_BY_MODEL: Final = ("usage_metadata", "model_usage", "modelUsage")
"""Where LangChain's handler and the Claude Agent SDK keep a usage for each model."""
_DEPTH: Final = 4
_NOT_MODELS: Final = frozenset(
    {"usage", "response", "metadata", "message", "usage_metadata", "usageMetadata", "token_usage", "meta"}
)
"""What a usage is called, which is no model's name."""


def parts_of(result: object) -> list[Part]:
    """List the responses of a run, in its order; empty where it is not a run that is known.

    Raises:
        ValidationError: An answer of a model in it has no usage.
    """
    return list(_parts(result, "result", _DEPTH))


def _parts(result: object, path: str, depth: int) -> Iterator[Part]:
    if depth == 0:
        return
    check_awaited(path, result)
    if is_list(result):
        for place, item in enumerate(result):
            yield from _item(item, f"{path}[{place}]", depth - 1)
    elif by_model := _by_model(result):
        yield from by_model
    elif inner := _inner_of(result):
        yield from _parts(inner.value, path + inner.path, depth - inner.levels)
    elif isinstance(result, Mapping) and not _has_usage(cast("object", result)):
        # Updates of LangGraph, results of Haystack: a mapping for each node.
        for name, value in fields_of(cast("Mapping[str, object]", result)).items():
            if isinstance(value, Mapping):
                yield from _parts(cast("object", value), f"{path}.{name}", depth - 1)


class _Inner(NamedTuple):
    """What has the responses of a result."""

    value: object
    path: str
    levels: int = 1


def _inner_of(result: object) -> _Inner | None:
    # Pydantic AI: the messages of this run, without the history it was given.
    for name in ("new_messages", "get_lm_usage"):
        method = get(result, name)
        if callable(method):
            return _Inner(method(), f".{name}()")
    for name in _LISTS:
        items = get(result, name)
        if is_list(items):
            return _Inner(items, f".{name}", levels=0)
    results = [] if has_own_usage(result) else items_of(get(result, "results"))
    if sum(map(_has_usage, results)) > 1:  # OpenAI's and Anthropic's reports of usage
        return _Inner(results, ".results", levels=0)
    models = items_of(get(get(result, "usage"), "models"))
    if models:  # an application of DashScope's
        return _Inner(models, ".usage.models")
    for name in ("memory", "dest"):  # smolagents' agent, google-genai's batch job
        inner = get(result, name)
        if inner is not None:
            return _Inner(inner, f".{name}")
    return None


def _item(item: object, path: str, depth: int) -> Iterator[Part]:
    if get(item, "partial") is True:  # ADK repeats what partial events had
        return
    if {"content", "message_id", "usage"} <= fields_of(item).keys():
        return  # a step of the Claude Agent SDK: the ResultMessage has the counts
    output = get(item, "model_output_message")  # smolagents drops cached tokens; the raw response has them
    message = get(item, "message")
    for candidate in (get(output, "raw"), item, message):
        if _has_usage(candidate):
            yield from _by_model(candidate) or [Part(candidate)]
            return
    if _is_answer(item) or _is_answer(message):
        raise invalid(
            path,
            "is a model's answer without usage: have the framework ask for it (LangChain's streams: "
            "stream_usage=True), or record its requests as they are made",
        )
    yield from _parts(item, path, depth)


def _is_answer(message: object) -> bool:
    """Return whether a message came from a model, and was not put there by the application."""
    if get(message, "kind") == "response":
        return True
    return text_of(get(message, "response_metadata"), "model_name", "model") is not None


def _by_model(result: object) -> list[Part]:
    of_gemini_cli = get(get(result, "stats"), "models")
    for holder in (*(get(result, name) for name in _BY_MODEL), of_gemini_cli, result):
        # A usage in an envelope, such as Codex's `last_token_usage`, is no model's.
        if isinstance(holder, Mapping) and not (holder is result and _has_usage(cast("object", holder))):
            usages = fields_of(cast("Mapping[str, object]", holder))
            if not _NOT_MODELS & {*usages} and all(map(_is_usage, usages.values())):
                return [Part(usage, model) for model, usage in usages.items()]
    return []


def _has_usage(response: object) -> bool:
    return next(usages_in(response), None) is not None


def _is_usage(value: object) -> bool:
    tokens = get(value, "tokens")
    names = fields_of(tokens if is_holder(tokens) else value)
    return any(role_of(name).role == "prompt" for name in names)
