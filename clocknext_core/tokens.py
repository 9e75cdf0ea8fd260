"""Token counts of a model call."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from clocknext_core.checks import MAX_INT, check_int, check_mapping, shown
from clocknext_core.errors import invalid
from clocknext_core.usage.response import count_tokens
from clocknext_core.values import Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Tokens(Value):
    """Token counts of one model call.

    Raises:
        ValidationError: A count is not an integer from 0 to 2^53-1. The server does not coerce either.
    """

    input: int = 0
    """Prompt tokens, sent as `inputTokens`."""
    output: int = 0
    """Completion tokens, sent as `outputTokens`."""
    cache: int | None = None
    """Cached prompt tokens, sent as `cacheTokens`; left out when `None`, which the server reads as 0."""

    def __post_init__(self) -> None:
        check_int("tokens.input", self.input, least=0)
        check_int("tokens.output", self.output, least=0)
        if self.cache is not None:
            check_int("tokens.cache", self.cache, least=0)

    @classmethod
    def of(cls, value: "TokensLike") -> "Tokens":
        """Take tokens as they are, or make them from a mapping with `input`, `output` and `cache`.

        Raises:
            ValidationError: It is neither, or has a key that is not one of the three, or a bad count.
        """
        if isinstance(value, Tokens):
            return value
        counts: dict[str, int] = {}
        put_counts(counts, value)
        return cls(
            input=counts["inputTokens"], output=counts["outputTokens"], cache=counts.get("cacheTokens")
        )

    @classmethod
    def from_usage(cls, response: object) -> "Tokens":
        """Read the counts of one request from what a model returned, as `read(response).tokens`.

        Takes what an SDK or an API returned, as an object or a mapping: a response, the last chunk of a
        stream, a line of a batch, or the usage in any of them. Names are read by the role they play, whatever
        the provider; `docs/tokens.md` has the rules.

        `cache` is what was read from the provider's cache, and `None` where it said nothing about it. What
        was written to the cache is in `input`, reasoning in `output`.

        Args:
            response: What the provider's SDK or API returned.

        Raises:
            ValidationError: It has no usage, or usage that can't be billed: see `read`.
        """
        counts = count_tokens(response).counts
        return cls(input=counts.input, output=counts.output, cache=counts.cache)


TokensLike: TypeAlias = Tokens | Mapping[str, int | None]
"""Tokens as the API methods take them: a mapping will do."""

_READING = ". A model's response is read by signals.from_response(response, …)"

WIRE_NAMES = {"input": "inputTokens", "output": "outputTokens", "cache": "cacheTokens"}


def put_counts(body: dict[str, Any], tokens: TokensLike) -> None:
    """Check token counts, and put them into a body: those that are missing as 0, `cacheTokens` not at all.

    Raises:
        ValidationError: As in `Tokens.of`.
    """
    if isinstance(tokens, Tokens):
        body["inputTokens"] = tokens.input
        body["outputTokens"] = tokens.output
        if tokens.cache is not None:
            body["cacheTokens"] = tokens.cache
        return
    body["inputTokens"] = body["outputTokens"] = 0
    check_mapping("tokens", tokens, hint=_READING)
    for name, count in tokens.items():
        wire_name = WIRE_NAMES.get(name)
        if wire_name is None:
            known = "known are input, output and cache"
            raise invalid("tokens", f"has the unknown key {shown(name)}; {known}{_READING}")
        if type(count) is int and 0 <= count <= MAX_INT:  # without a call, which would cost as much again
            body[wire_name] = count
        elif count is not None:
            body[wire_name] = check_int(f"tokens.{name}", count, least=0)
