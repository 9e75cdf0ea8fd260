"""Reading a response: its counts, who answered, and why the counts are what they are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from clocknext_core.errors import ValidationError
from clocknext_core.tokens import Tokens
from clocknext_core.usage.counts import Counts, Field, Placement
from clocknext_core.usage.finding import (
    created_at_of,
    model_of,
    nearest_first,
    provider_of,
    response_id_of,
    tier_of,
    used_by_tools,
)
from clocknext_core.usage.response import count_tokens
from clocknext_core.values import Value

NOTHING_ELSE: Final[Mapping[str, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Reading(Value):
    """What a response of one request says."""

    tokens: Tokens
    """The counts to bill."""
    model: str | None = None
    """The model as the response names it, often dated; `None` where it names none (Cohere, Bedrock)."""
    response_id: str | None = None
    """The provider's id of the response; `None` where it has none."""
    provider: str | None = None
    """Who answered, where the response or its names tell, such as `openai` or `bedrock`."""
    is_final: bool = True
    """Whether the counts are final. `False` only for a stream that was broken off."""
    tier: str | None = None
    """The service tier as the response names it, such as `priority`; `batch` for a line of a batch."""
    other: Mapping[str, int] = field(default_factory=lambda: NOTHING_ELSE)
    """What has no count of its own in the API, or another price than its count: `cache_write_tokens`,
    `input_audio_tokens`, `web_search_requests`, `image_gen_output_tokens` and so on."""
    created_at: int | None = None
    """When the response says that it was made, in seconds since 1970; `None` where it gives no number."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Explanation(Value):
    """How a response is read."""

    reading: Reading | None
    """`None` where it can't be read."""
    error: str | None
    """Why it can't be read; `None` where it can."""
    fields: tuple[Field, ...]
    """The counts that were read: their places, their values and their roles."""
    reasons: tuple[str, ...]
    """Why the counts are what they are, a sentence each."""


def read(response: object) -> Reading:
    """Read what the response of one request says it used.

    Takes what a provider's SDK or API returned, as an object or a mapping; the last chunk of a stream; a
    line of a batch; the usage in any of these. No provider's package is imported.

    Raises:
        ValidationError: It has no usage, or usage that can't be billed: it is not final, counts another unit
            than tokens, has no prompt count, or has a field whose meaning the numbers do not tell. The
            message names the field and what to do, and shows no contents.
    """
    return _read(response)[0]


def read_so_far(response: object) -> Reading:
    """Read a response that need not be final, such as a chunk of a stream that goes on.

    Raises:
        ValidationError: As `read`, but for a response that is not final.
    """
    return _read(response, must_be_final=False)[0]


def explain(response: object) -> Explanation:
    """Read a response and say from which fields, and why."""
    try:
        reading, counts = _read(response)
    except ValidationError as error:
        return Explanation(None, error.message, (), ())
    return Explanation(reading, None, counts.fields, tuple(_reasons(reading, counts)))


def _read(response: object, *, must_be_final: bool = True) -> tuple[Reading, Counts]:
    found, counts, is_final, model = count_tokens(response, must_be_final=must_be_final)
    nearest = nearest_first(found)
    response_id = response_id_of(nearest)
    tools = used_by_tools(nearest)
    reading = Reading(
        tokens=Tokens(input=counts.input, output=counts.output, cache=counts.cache),
        model=model_of(found, nearest) if model is None else model,
        response_id=response_id,
        provider=provider_of(found, nearest, response_id),
        is_final=is_final,
        tier=tier_of(found, nearest),
        other=({**counts.other, **tools} if tools else counts.other) or NOTHING_ELSE,
        created_at=created_at_of(nearest),
    )
    return reading, counts


_INSIDE: Final = {
    "cached": ("the cached tokens are beside the prompt", "the cached tokens are inside the prompt"),
    "written": ("cache writes are beside the prompt", "cache writes are inside the prompt"),
    "reasoning": ("the reasoning tokens are beside the output", "the reasoning tokens are inside the output"),
    "tools": ("the tools' tokens are beside the prompt", "the tools' tokens are inside the prompt"),
}
_BECAUSE: Final = {
    "total": "the total adds up only so",
    "size": "they are more than the count they would be in",
    "names": "that is what the provider's names mean",
}


def _reasons(reading: Reading, counts: Counts) -> list[str]:
    placement: Placement = counts.placement
    roles = {each.role for each in counts.fields if each.value}

    def because(role: str) -> str:
        by = placement.by
        return _BECAUSE["names" if by == "size" and role not in placement.by_size else by]

    said = [
        f"{beside if getattr(placement, role) else inside}: {because(role)}"
        for role, (beside, inside) in _INSIDE.items()
        if role in roles
    ]
    if placement.unexplained:
        said.append(
            f"the total has {placement.unexplained} more than all counts: reasoning, added to the output"
        )
    if counts.total_alone:
        said.append("there is a total and no other count: of embeddings, it is the prompt")
    if counts.other.get("cache_write_tokens"):
        said.append("tokens written to the cache are billed as input; the premium on them is not billed")
    if reading.tokens.cache is None:
        said.append("no cached tokens: the response says nothing about a cache")
    return said
