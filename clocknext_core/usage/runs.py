"""Reading the result of a run of several requests: one reading a request."""

from dataclasses import replace

from clocknext_core.errors import ValidationError, invalid
from clocknext_core.tokens import Tokens
from clocknext_core.usage.counts import Counts, read_counts
from clocknext_core.usage.lookup import get, is_list, items_of, text_of
from clocknext_core.usage.parts import Part, parts_of
from clocknext_core.usage.reading import Explanation, Reading, explain, read


def readings(result: object) -> list[Reading]:
    """Read every request of a run: of an agent, a chain, a batch, or of one response over several models.

    Takes results of LangChain and LangGraph (messages, state, `LLMResult`, `UsageMetadataCallbackHandler`),
    OpenAI Agents, Pydantic AI, CrewAI, LlamaIndex, smolagents, AutoGen, Haystack, DSPy, Google's ADK, the AI
    SDK and the Claude Agent SDK; lists of responses; and whatever `read` takes. Where a framework keeps only
    the sum (CrewAI) or a sum for each model (LangChain's handler), these are the readings.

    Args:
        result: What the framework returned. A state that has the messages of earlier runs gives their
            readings too; their ids tell `signals.from_result` that it has recorded them.

    Returns:
        One reading a request, in the order of the run; never empty.

    Raises:
        ValidationError: It has no requests, or one of them can't be read; see `read`.
    """
    found = parts_of(result)
    if not found:
        return _of_response(result)
    all_of_them: list[Reading] = []
    for part in found:
        all_of_them += [
            reading if part.model is None else replace(reading, model=part.model)
            for reading in _of_response(part.value)
        ]
    return all_of_them


def explanations(result: object) -> list[Explanation]:
    """Explain every request of a run: for each, what it would be billed as, from which fields, and why."""
    try:
        found = parts_of(result)
    except ValidationError as error:
        return [Explanation(None, error.message, (), ())]
    if not found and is_list(result):
        return [Explanation(None, "result: has no response of a model in it", (), ())]
    return [_explained(part) for part in found or [Part(result)]]


def _explained(part: Part) -> Explanation:
    explanation = explain(part.value)
    reading = explanation.reading
    if reading is None:
        return explanation
    if part.model is not None:
        reading = replace(reading, model=part.model)
    reasons = explanation.reasons
    try:
        many = len(readings(part.value))
    except ValidationError as error:
        reasons = (*reasons, f"signals.from_result records nothing of it: {error.message}")
    else:
        if many > 1:
            reasons = (*reasons, f"{many} models worked on it: signals.from_result records a signal for each")
    return replace(explanation, reading=reading, reasons=reasons)


def _of_response(response: object) -> list[Reading]:
    """Read one response: one reading, or one for each model that worked on it."""
    if is_list(response):
        raise invalid("result", "has no response of a model in it")
    whole = read(response)
    shares = _by_model(response, whole.model)
    if len(shares) < 2:
        return [whole]
    return [
        Reading(
            tokens=Tokens(input=counts.input, output=counts.output, cache=counts.cache),
            model=model,
            # Layers that rename models must not make two ids of one, so the place tells them apart.
            response_id=None if whole.response_id is None else f"{whole.response_id}/{place}",
            provider=whole.provider,
            is_final=whole.is_final,
            tier=whole.tier,
            other=counts.other,
        )
        for place, (model, counts) in enumerate(shares.items())
    ]


def _by_model(response: object, model: str | None) -> dict[str | None, Counts]:
    """Share a response among the models that worked on it: Anthropic's iterations, Groq's breakdown."""
    usage = get(response, "usage")
    shares: dict[str | None, Counts] = {}
    entries = [
        (f"response.usage.iterations[{place}]", entry, entry)
        for place, entry in enumerate(items_of(get(usage, "iterations")))
    ] + [
        (f"response.usage_breakdown.models[{place}].usage", entry, get(entry, "usage"))
        for place, entry in enumerate(items_of(get(get(response, "usage_breakdown"), "models")))
    ]
    for path, entry, used in entries:
        name = text_of(entry, "model") or model
        counts = read_counts(used, path)
        shares[name] = shares[name].plus(counts) if name in shares else counts
    return shares
