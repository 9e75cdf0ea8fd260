"""Gathering a stream: the last usage and the ids, whatever way the stream ends."""

import json
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias, cast

from clocknext_core.checks import check_int, check_seconds
from clocknext_core.errors import ValidationError, invalid
from clocknext_core.tokens import Tokens, TokensLike
from clocknext_core.usage.attribution import Unbilled
from clocknext_core.usage.counts import COUNTED
from clocknext_core.usage.finding import MODEL_NAMES, provider_of_id
from clocknext_core.usage.lookup import fields_of, first, get, is_holder, is_list, items_of, text_of
from clocknext_core.usage.reading import Reading, read_so_far
from clocknext_core.usage.roles import role_of
from clocknext_core.values import Value

Ending: TypeAlias = Literal["completed", "break", "closed", "cancelled", "collected", "failed"]
"""How a stream ended: read to its end; `break`, `close()`, cancelled; garbage-collected; by an error."""


class Partial(NamedTuple):
    """What is known of a stream that was broken off."""

    ending: Ending
    reading: Reading | None
    """The counts so far, which are too low: Anthropic has the prompt at the start, Gemini all so far. `None`
    where nothing was seen, as of OpenAI's streams, whose usage is in the last chunk."""
    chunks: int
    """How many chunks were passed on."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Drain(Value):
    """Read a stream that was broken off to its end, within bounds, for its usage; past them it is `partial`.

    Args:
        max_chunks: Chunks to read at most.
        max_seconds: Seconds to read at most.

    Raises:
        ValidationError: A bound is not positive.
    """

    max_chunks: int = 10_000
    max_seconds: float = 10.0

    def __post_init__(self) -> None:
        check_int("max_chunks", self.max_chunks, least=1)
        check_seconds("max_seconds", self.max_seconds, positive=True)


AbortPolicy: TypeAlias = Literal["partial"] | Drain | Callable[[Partial], TokensLike | None]
"""What an aborted stream is billed, since the provider charges for it all the same.

- `"partial"` (the default): nothing; it is reported as `partial`, with what was seen.
- `Drain(...)`: what the rest of the stream says, which is read after the break.
- A function: what it returns for a `Partial`; `None`: it is reported as `partial`.
"""


class Gathered(NamedTuple):
    """What a stream comes to: something to bill, something to report, or neither."""

    reading: Reading | None
    unbilled: Unbilled | None


def check_abort_policy(policy: object) -> AbortPolicy:
    """Require an abort policy.

    Raises:
        ValidationError: It is none.
    """
    if policy == "partial" or isinstance(policy, Drain) or callable(policy):
        return cast("AbortPolicy", policy)
    raise invalid("on_abort", f'must be "partial", a Drain or a function, not {type(policy).__name__}')


_TEXTS: Final = (str, bytes, bytearray)
_FEW: Final = 3
_USAGES: Final = ("usage", "usage_metadata", "usageMetadata")
"""In the last chunk of OpenAI and Mistral, in every chunk of Gemini."""
_ENVELOPED: Final = frozenset({*_USAGES, "meta"})
_LOOKED_AT: Final = frozenset(
    {
        *_USAGES,
        *(
            "response",
            "message",
            "metadata",
            "interaction",
        ),  # events of OpenAI Responses, Anthropic, Bedrock, Gemini
        *("x_groq", "meta", "amazon-bedrock-invocationMetrics", "payload"),
        *("data", "delta", "choices", "chunk", "done", "completionReason"),
    }
)
"""Fields of a chunk that may have usage in them."""


def looked_at(chunk: object) -> Collection[str]:
    """List the names in a chunk that may have usage under them. Called for every chunk, and so quick."""
    kind = type(chunk)
    if kind is dict:
        return _LOOKED_AT.intersection(cast("dict[str, object]", chunk))
    declared = _declared_names(cast("Hashable", kind))
    extra: object = getattr(chunk, "__pydantic_extra__", None)
    return _LOOKED_AT if declared is None or extra else declared


@lru_cache(maxsize=256)
def _declared_names(kind: Hashable) -> tuple[str, ...] | None:
    """List the names that the objects of a class may have; `None` where the class does not say."""
    for declaration in ("__pydantic_fields__", "__dataclass_fields__"):
        fields: object = getattr(kind, declaration, None)
        if isinstance(fields, dict):
            return tuple(name for name in _LOOKED_AT if name in fields or hasattr(kind, name))
    return None


def keep(error: BaseException) -> None:
    """Let no exception pass: it stays where it was caught."""


class Gatherer:
    """Watches the chunks of a stream go by, and says at its end what to bill. Pure; keeps no chunk.

    Nothing but what `let_pass` raises gets into the stream: what can't be read is reported at the end.

    Args:
        policy: What a stream that is broken off is billed.
        hides_usage: Whether the usage was asked for on the user's behalf, so that the chunk which has nothing
            else is not passed on.
        let_pass: Raises an exception again that was caught here and is not metering's, such as a signal
            handler's. Default: none is.

    Raises:
        ValidationError: The policy is none.
    """

    def __init__(
        self,
        policy: AbortPolicy = "partial",
        *,
        hides_usage: bool = False,
        let_pass: Callable[[BaseException], None] = keep,
    ) -> None:
        self._policy: Final = check_abort_policy(policy)
        self.let_pass: Final = let_pass
        self._hides_usage = hides_usage
        self._chunks = 0
        self._reading: Reading | None = None
        self._before: dict[str, object] | None = None
        self._last: dict[str, object] | None = None
        self._problem: str | None = None
        self._knows_names = False
        self._model: str | None = None
        self._response_id: str | None = None
        self._started: dict[str, object] | None = None
        self._has_ended = False
        self._drained = 0

    @property
    def is_settled(self) -> bool:
        """Whether the final counts were seen, so that a break loses nothing."""
        self._read_last()
        return self._reading is not None and self._reading.is_final

    def hides(self, chunk: object) -> bool:
        """Return whether a chunk is not passed on: OpenAI's last one, which has usage and no choices."""
        return self._hides_usage and get(chunk, "usage") is not None and get(chunk, "choices") == []

    def feed(self, chunk: object) -> bool:
        """Take a chunk that is passed on, and return whether it may have usage; only such a one is hidden."""
        self._chunks += 1
        try:
            return self._take(chunk)
        except Exception as error:  # noqa: BLE001 - a chunk is the user's, and so is what its attributes do
            self._problem = f"a chunk could not be read: {type(error).__name__}"
            self.let_pass(error)
            return True

    def _take(self, chunk: object) -> bool:
        """Take what a chunk has to say; return whether it had usage."""
        if isinstance(chunk, _TEXTS):
            self._take_text(chunk)
            return False
        if not self._knows_names:
            self._note_names(chunk)
        for name in looked_at(chunk):
            value = get(chunk, name)
            if value is not None and self._take_field(chunk, name, value):
                return True
        return False

    def _take_field(self, chunk: object, name: str, value: object) -> bool:
        """Take what a field of a chunk has to say; return whether it had the usage."""
        if name == "choices":  # Kimi's last chunk has the usage in its choice
            had = bool(is_list(value) and value and _has_field(value[0]))
        elif name in {"data", "delta"}:  # envelopes that many chunks have
            had = _has_field(value)
        elif name == "chunk":  # Bedrock's InvokeModelWithResponseStream
            raw = get(value, "bytes")
            if raw is not None:
                self._take_text(raw)
            return raw is not None
        elif name in {"done", "completionReason"}:  # Ollama, Titan
            had = value is not False
        elif name in _USAGES and is_holder(value) and get(chunk, "type") is None:
            self._keep(chunk, name, value)
            return True
        else:
            had = is_holder(value)
        if had:
            self._look(chunk)
        return had

    def _take_text(self, raw: object) -> None:
        text = raw if isinstance(raw, str) else bytes(cast("bytes", raw)).decode("utf-8", "replace")
        start = text.find("{")
        if start < 0 or ("usage" not in text and "Count" not in text and "count" not in text):
            return
        try:
            chunk: object = json.loads(text[start:])
        except ValueError:
            return
        self._take(chunk)

    def _note_names(self, chunk: object) -> None:
        for holder in (chunk, get(chunk, "message"), get(chunk, "response"), get(chunk, "data")):
            if holder is not None:
                self._model = self._model or text_of(holder, *MODEL_NAMES)
                self._response_id = self._response_id or text_of(holder, "id", "response_id", "responseId")
        # Events that follow the first few have no names either.
        self._knows_names = (self._model is not None and self._response_id is not None) or self._chunks > _FEW

    def _keep(self, chunk: object, name: str, usage: object) -> None:
        """Keep the usage of a chunk, to be read at the end: Gemini and others send one with every chunk."""
        kept = {name: usage}
        candidates = get(chunk, "candidates")
        if candidates is None:
            kept["choices"] = [
                {"finish_reason": _reason(choice)} for choice in items_of(get(chunk, "choices"))
            ]
            kept["service_tier"] = get(chunk, "service_tier")
        else:
            kept["candidates"] = [{"finish_reason": _reason(each)} for each in items_of(candidates)]
        self._before, self._last = self._last, kept

    def _read_last(self) -> None:
        """Read the usage that was kept; where the last one has nothing in it, the one before."""
        for kept in (self._before, self._last):
            if kept is not None:
                self._read(kept)
        self._before = self._last = None

    def _look(self, chunk: object) -> None:
        """Read the usage in a chunk; a later one replaces an earlier one."""
        kind = get(chunk, "type")
        if kind == "message_start":
            self._started = _given(get(get(chunk, "message"), "usage"))
        elif kind == "message_delta" and self._started is not None:
            # The delta has the final output; whether it repeats the prompt depends on the server.
            self._started |= _given(get(chunk, "usage"))
            chunk = {"type": kind, "delta": get(chunk, "delta"), "usage": self._started}
        self._read(chunk)

    def _read(self, chunk: object) -> None:
        try:
            self._reading = read_so_far(chunk)
            self._problem = None
        except ValidationError as error:
            if _has_usage(chunk):
                self._problem = error.message
        except Exception as error:  # noqa: BLE001 - as in feed
            self._problem = f"the usage could not be read: {type(error).__name__}"
            self.let_pass(error)

    def wants_more(self, *, elapsed: float) -> bool:
        """Return whether to read on after a break: the policy is to drain, and a bound is not reached.

        Args:
            elapsed: Seconds since the break.
        """
        policy = self._policy
        if self.is_settled or not isinstance(policy, Drain):
            return False
        self._drained += 1
        return self._drained <= policy.max_chunks and elapsed < policy.max_seconds

    def finish(self, how: Ending) -> Gathered:
        """End it, and say what to bill or to report. A second call gives neither.

        Args:
            how: The way the stream ended. One that was drained to its end has completed.
        """
        if self._has_ended:
            return Gathered(None, None)
        gathered = self._conclude(how)
        self._has_ended = True  # not before: what a handler raises may strike, and the stream ends again
        return gathered

    def _conclude(self, how: Ending) -> Gathered:
        self._read_last()
        reading = self._named(self._reading)
        if reading is not None and (reading.is_final or (how == "completed" and self._is_whole(reading))):
            return Gathered(reading if reading.is_final else replace(reading, is_final=True), None)
        if how == "completed":
            if reading is not None:
                return Gathered(
                    None, Unbilled(reason="partial", reading=reading, detail="the stream ended early")
                )
            if self._problem is not None:
                return Gathered(None, Unbilled(reason="unknown_shape", detail=self._problem))
            return Gathered(None, Unbilled(reason="no_usage", detail=_NOT_ASKED))
        if how == "failed" and not self._chunks:
            return Gathered(None, None)  # nothing was served, and nothing is charged
        return self._aborted(Partial(how, reading, self._chunks))

    def _is_whole(self, reading: Reading) -> bool:
        """Return whether a stream that went to its end is whole, though its last usage does not say so.

        The last chunk of LiteLLM has usage and an open choice. Anthropic and Gemini say when they are done.
        """
        return self._started is None and reading.provider != "google"

    def _aborted(self, partial: Partial) -> Gathered:
        reading, detail = partial.reading, self._problem or f"the stream was broken off ({partial.ending})"
        if callable(self._policy):
            try:
                estimate = self._policy(partial)
                if estimate is not None:
                    tokens = Tokens.of(estimate)
                    seen = reading or Reading(tokens=tokens, model=self._model, response_id=self._response_id)
                    return Gathered(replace(seen, tokens=tokens, is_final=False), None)
            except Exception as error:  # noqa: BLE001 - the user's function must not break the user's stream
                self.let_pass(error)
                detail = f"the estimate raised {type(error).__name__}"
        return Gathered(None, Unbilled(reason="partial", reading=reading, detail=detail))

    def _named(self, reading: Reading | None) -> Reading | None:
        if reading is None:
            return None
        response_id = reading.response_id or self._response_id
        return replace(
            reading,
            model=reading.model or self._model,
            response_id=response_id,
            provider=reading.provider or provider_of_id(response_id),
        )


_NOT_ASKED: Final = (
    'the stream had no usage; OpenAI has to be asked for it, with stream_options={"include_usage": True}'
)


def _has_field(holder: object) -> bool:
    """Return whether an envelope has usage in it."""
    return not _ENVELOPED.isdisjoint(looked_at(holder)) and first(holder, *_ENVELOPED) is not None


def _reason(choice: object) -> object:
    return first(choice, "finish_reason", "finishReason")


def _given(usage: object) -> dict[str, object]:
    """List what a usage says; what is absent replaces nothing."""
    return {name: value for name, value in fields_of(usage).items() if value is not None}


def _has_usage(chunk: object) -> bool:
    """Return whether a chunk that can't be read has counts in it at all."""
    holders = (chunk, *(get(chunk, name) for name in ("response", "data", "delta", "message")))
    for holder in holders:
        usage = first(holder, "usage", "usage_metadata", "usageMetadata") if is_holder(holder) else None
        if is_holder(usage) and any(
            role_of(name).role in COUNTED and value for name, value in fields_of(usage).items()
        ):
            return True
    return False
