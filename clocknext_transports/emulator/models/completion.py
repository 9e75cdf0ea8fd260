"""Scripted answers of a model: the text, the usage, and how the answer fails."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType

from clocknext_transports.emulator.books.checks import check_members, check_types
from clocknext_transports.emulator.server.faults import is_header_value

MAX_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool that the model asks for."""

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict[str, object])


_TYPES: Mapping[str, tuple[type, ...]] = {
    "text": (str,),
    "input_tokens": (int,),
    "output_tokens": (int,),
    "cached_tokens": (int,),
    "cache_write_tokens": (int,),
    "reasoning_tokens": (int,),
    "model": (str, NoneType),
    "response_id": (str, NoneType),
    "has_usage": (bool,),
    "has_empty_chunk": (bool,),
    "status": (int, NoneType),
    "retry_after": (str, NoneType),
    "delay": (int, float),
    "bytes_per_second": (int, float, NoneType),
    "cut_after": (int, NoneType),
}
"""The types of a completion's values."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of a model.

    The counts mean the same for every provider; each reports them by its own rules. OpenAI and Gemini count
    cached tokens inside the input, Anthropic beside it; OpenAI and Anthropic count reasoning inside the
    output, Gemini beside it.

    Raises:
        ValueError: A value is of another type, out of its range or does not fit.
    """

    text: str = "Hello."
    tool_calls: Sequence[ToolCall] = ()
    input_tokens: int = 10
    """All tokens of the prompt, cached ones included."""
    output_tokens: int = 5
    """All tokens of the answer, reasoning included. An embedding has none."""
    cached_tokens: int = 0
    """Tokens read from a cache."""
    cache_write_tokens: int = 0
    """Tokens written to a cache; only Anthropic reports them."""
    reasoning_tokens: int = 0
    model: str | None = None
    """The model's name in the answer. Default: the name in the request, dated where OpenAI dates it."""
    response_id: str | None = None
    """The id of the answer. Default: a new one."""
    has_usage: bool = True
    """Whether the answer reports its usage."""
    has_empty_chunk: bool = False
    """Whether a chat stream begins with a chunk that has no choices, as Azure's do."""
    status: int | None = None
    """Answer with this error instead, such as 429."""
    retry_after: str | None = None
    """The Retry-After header of an error."""
    delay: float = 0.0
    """Seconds before the answer begins."""
    bytes_per_second: float | None = None
    """Send the answer no faster than this. Default: at once."""
    cut_after: int | None = None
    """Close the connection after this many events of a stream; of an answer in one piece, in its middle."""

    def __post_init__(self) -> None:
        counts = {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cached_tokens": self.cached_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "reasoning_tokens": self.reasoning_tokens,
        }
        check_types("a completion", self, _TYPES)
        check_members("The tool_calls of a completion", self.tool_calls, ToolCall)
        for name, count in counts.items():
            if count < 0:
                raise ValueError(f"{name} must not be negative; not {count!r}.")
        if self.cached_tokens + self.cache_write_tokens > self.input_tokens:
            raise ValueError("cached_tokens and cache_write_tokens are part of input_tokens.")
        if self.reasoning_tokens > self.output_tokens:
            raise ValueError("reasoning_tokens are part of output_tokens.")
        if self.status is not None and not 400 <= self.status <= 599:
            raise ValueError(f"status must be from 400 to 599; not {self.status!r}.")
        if self.retry_after is not None and not is_header_value(self.retry_after):
            raise ValueError(f"retry_after must be the value of a header; not {self.retry_after!r}.")
        if not 0 <= self.delay <= MAX_SECONDS:
            raise ValueError(f"delay must be from 0 to {MAX_SECONDS:g} seconds; not {self.delay!r}.")
        if self.bytes_per_second is not None and not 1 <= self.bytes_per_second < math.inf:
            raise ValueError(f"bytes_per_second must be at least 1; not {self.bytes_per_second!r}.")
        if self.cut_after is not None and self.cut_after < 0:
            raise ValueError(f"cut_after must not be negative; not {self.cut_after!r}.")

    @property
    def pieces(self) -> list[str]:
        """The text in the pieces of a stream: words with the blanks before them."""
        pieces = list[str]()
        for character in self.text:
            if pieces and not (character == " " and pieces[-1][-1] != " "):
                pieces[-1] += character
            else:
                pieces.append(character)
        return pieces
