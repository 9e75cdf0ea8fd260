"""What stands beside a usage, or in it, and knows more of the cache than the usage itself."""

from collections.abc import Iterable
from typing import Final, cast

from clocknext_core.errors import ValidationError
from clocknext_core.usage.counts import Counts, Field, is_number, read_counts
from clocknext_core.usage.finding import Found
from clocknext_core.usage.lookup import fields_of, first, get, is_holder, items_of, may_have

_METADATA: Final = ("providerMetadata", "provider_metadata", "experimental_providerMetadata")
_BESIDE: Final = frozenset({"timings", *_METADATA})
_NATIVE: Final = frozenset({"nativeUsage"})
_CACHE_N: Final = "response.timings.cache_n"


def read_all(found: Found, further: Iterable[Found]) -> tuple[Found, Counts]:
    """Read a usage with what is beside it; the provider's usage replaces a framework's that says less.

    Args:
        found: The nearest usage.
        further: The usages that are farther away.

    Raises:
        ValidationError: The usage can't be billed; see `read_counts`.
    """
    holder = found.holders[-1]
    if may_have(holder, _BESIDE):
        counts = _of_anthropic(holder, found) or _with_timings(holder, read_counts(found.usage, found.path))
    else:
        counts = read_counts(found.usage, found.path)
    if counts.cache is None and (not found.path.endswith(".usage") or may_have(found.usage, _NATIVE)):
        # LangChain over Mistral and LiteLLM's logging object drop the cache from one usage and keep it in
        # another; Spring AI has the provider's in its own.
        for other in further:
            try:
                more = read_counts(other.usage, other.path)
            except ValidationError:
                continue
            if more.cache is not None and _is_same(counts, more):
                return other._replace(holders=found.holders), more
    return found, counts


def _is_same(counts: Counts, more: Counts) -> bool:
    return (counts.input, counts.output) == (more.input + (more.cache or 0), more.output)


def _of_anthropic(holder: object, found: Found) -> Counts | None:
    """Read the AI SDK over Anthropic, whose versions count the cache inside the prompt or beside it."""
    metadata = get(first(holder, *_METADATA), "anthropic")
    if metadata is None or len(items_of(get(holder, "steps"))) > 1:  # it is that of the last step
        return None
    own = get(metadata, "usage")
    if is_holder(own):
        counts = read_counts(own, f"{found.path.rpartition('.')[0]}.{_METADATA[0]}.anthropic.usage")
        return counts if counts.output == read_counts(found.usage, found.path).output else None
    written = get(metadata, "cacheCreationInputTokens")
    if not written:
        return None
    return read_counts({**fields_of(found.usage), "cacheCreationInputTokens": written}, found.path)


def _with_timings(holder: object, counts: Counts) -> Counts:
    """Take what llama.cpp says of its cache with the times: its usage may not have it."""
    said = get(get(holder, "timings"), "cache_n")
    if counts.cache is not None or not is_number(said):
        return counts
    cached = int(cast("int", said))
    if not 0 <= cached <= counts.input:
        return counts
    field = Field(_CACHE_N, cached, "cached")
    return counts._replace(input=counts.input - cached, cache=cached, fields=(*counts.fields, field))
