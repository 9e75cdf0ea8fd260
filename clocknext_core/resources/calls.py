"""A call to a model, as an integration sees it: who is billed is captured when it starts."""

from collections.abc import AsyncIterable, Callable, Iterable
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar

from clocknext_core.errors import ClockNextError
from clocknext_core.resources.streams import AsyncMeteredStream, MeteredStream
from clocknext_core.usage.attribution import Origin, Reason, Unbilled
from clocknext_core.usage.finality import is_from_cache, is_running
from clocknext_core.usage.finding import has_prompt_details, has_usage, is_reported
from clocknext_core.usage.lookup import get, text_of
from clocknext_core.usage.meter import Meter, named
from clocknext_core.usage.reading import Reading, read, read_so_far
from clocknext_core.usage.streams import AbortPolicy, Gathered, Gatherer

T = TypeVar("T")

PROVIDER: Final = "provider"
"""The layer of the providers' own SDKs, which is the lowest."""


class ModelCall:
    """One call to a model. Whatever is handed over is billed or reported; nothing raises into the request.

    Args:
        meter: What the client knows of its exchanges.
        origin: Who is billed, as it was when the call started.
        record: Records what was gathered, without waiting and without raising.
        on_abort: What a stream is billed that is broken off.
        outer: The call that was open where this one started. It may be that of another layer, such as
            LangChain's around OpenAI's.
        model: The model that was asked, for an answer that names none.
        layer: What sees the call, such as `langchain`. Two calls of one layer are not within each other, and
            none is within a `PROVIDER`'s. Default: unknown.
    """

    def __init__(
        self,
        meter: Meter,
        origin: Origin,
        record: Callable[[Gathered, Origin], None],
        on_abort: AbortPolicy = "partial",
        outer: "ModelCall | None" = None,
        *,
        model: str | None = None,
        layer: str | None = None,
    ) -> None:
        self._meter = meter
        self._origin = origin
        self._record = record
        self._on_abort: AbortPolicy = on_abort
        self._model = model
        self._layer = layer
        while outer is not None and not outer.may_hold(layer):
            outer = outer._outer  # noqa: SLF001 - its own kind
        self._outer: ModelCall | None = outer
        self._has_ended = False
        self._when_lost: str | None = None
        self._claims = iter((True,))
        self._answers = 0
        self._billed_within: dict[tuple[int, int], int] = {}
        """Counts of what calls within this one billed: prompt and output."""

    def __deepcopy__(self, memo: object) -> "ModelCall":
        """Return the call itself, where a framework copies what it keeps it with: it is billed once."""
        return self

    def __del__(self) -> None:
        if self._when_lost is not None and not self._has_ended:
            self.broken_off(self._when_lost)

    @property
    def has_ended(self) -> bool:
        """Whether its answer, or the failure to get one, was seen."""
        return self._has_ended

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the failure of what was asked in the block; an answer is handed over after it."""
        if error is not None:
            self.failed(error)

    def claim(self) -> bool:
        """Return whether this is the first claim, where a framework may call back twice for one call."""
        return next(self._claims, False)

    def report_when_lost(self, detail: str) -> None:
        """Report the call as broken off when nothing refers to it any more and it has not ended."""
        self._when_lost = detail

    def may_hold(self, layer: str | None) -> bool:
        """Return whether a call of a layer that starts now may be a part of this one."""
        is_same = layer is not None and layer == self._layer
        return not (self._has_ended or is_same or self._layer == PROVIDER)

    def answered(self, response: object, *, is_cached: bool = False) -> None:
        """Take the answer: bill it, or report why not.

        A response that still runs in the background is remembered, and billed when it is `retrieved`.

        Args:
            response: What the SDK or the framework returned.
            is_cached: Whether the framework answered from a cache of its own, so that no provider was asked.
        """
        self._take_read(partial(self._read_answer, response, is_cached=is_cached))

    def _read_answer(self, response: object, *, is_cached: bool) -> Gathered | None:
        if is_cached or is_from_cache(response):
            return Gathered(None, Unbilled(reason="cache_hit", reading=_read_or_none(response)))
        if is_running(response):
            self._has_ended = True
            self._meter.remember(text_of(response, "id"), self._origin)
            return None
        return _gathered(response)

    def _take_read(self, read_it: Callable[[], Gathered | None]) -> None:
        """Take what reading a response comes to; `None`: nothing is to be billed or reported."""
        try:
            gathered = read_it()
        except Exception as error:  # noqa: BLE001 - a response is the user's, and so is what its attributes do
            self._take(Gathered(None, Unbilled(reason="unknown_shape", detail=type(error).__name__)))
            self._meter.let_pass(error)
        else:
            if gathered is not None:
                self._take(gathered)

    def assembled(self, response: object, chunks: Iterable[object] | None) -> None:
        """Take an answer that a framework put together from the chunks of a stream.

        Its counts are billed where chunks reported them. Where none did they are the framework's estimate,
        and `no_usage` is reported.

        Args:
            response: What the framework put together.
            chunks: What the provider sent. `None`: that is not known, and counts with details of the prompt
                are the provider's.
        """
        try:
            is_counted = has_prompt_details(response) if chunks is None else is_reported(response, chunks)
        except Exception as error:  # noqa: BLE001 - as in answered
            self.unanswered(_ESTIMATED)
            self._meter.let_pass(error)
            return
        if is_counted:
            self.answered(response)
        else:
            self.unanswered(_ESTIMATED)

    def retrieved(self, response: object) -> None:
        """Take a response that was asked for again: only what ran in the background is billed, and once.

        It is billed to whom the call was that created it, where this client made that call.
        """
        self._take_read(partial(self._read_retrieved, response))

    def _read_retrieved(self, response: object) -> Gathered | None:
        remembered = self._meter.recall(text_of(response, "id"))
        # It may be asked for any number of times, as what is handed over by hand.
        self._origin = replace(self._origin if remembered is None else remembered, alike=None)
        is_over = (remembered is not None or get(response, "background") is True) and not is_running(response)
        return _gathered(response) if is_over else None

    def failed(self, error: BaseException, seen: object = None, *, has_begun: bool = False) -> None:
        """Take the failure of a call.

        A failure costs nothing, unless an answer had begun, or the call was cancelled and goes on elsewhere.

        Args:
            error: What was raised.
            seen: What had been received of the answer; `None`: nothing that can be handed over.
            has_begun: Whether an answer had begun, also where nothing of it can be handed over.
        """
        self._has_ended = True
        if has_begun or seen is not None or not isinstance(error, Exception):
            self.broken_off(type(error).__name__, seen)

    def broken_off(self, detail: str, seen: object = None) -> None:
        """Report a call that was left before its answer was complete.

        Args:
            detail: How, in plain English.
            seen: What had been received of the answer; `None`: nothing.
        """
        reading = None
        try:
            reading = read_so_far(seen)
        except Exception as error:  # noqa: BLE001 - what was received need not be readable
            self._meter.let_pass(error)
        finally:
            self._take(Gathered(None, Unbilled(reason="partial", reading=reading, detail=detail)))

    def unanswered(self, detail: str) -> None:
        """Report a call whose answer was not seen.

        Args:
            detail: Why, in plain English.
        """
        self._take(Gathered(None, Unbilled(reason="no_usage", detail=detail)))

    def watch(self, stream: Iterable[T], *, hides_usage: bool = False) -> MeteredStream[T]:
        """Watch a stream for a `for` loop.

        Args:
            stream: The stream.
            hides_usage: Whether to leave out the chunk that has usage and no choice, which the user did not
                ask for.
        """
        return MeteredStream(stream, self.gatherer(hides_usage=hides_usage), self._take, self._meter.clock)

    def watch_async(self, stream: AsyncIterable[T], *, hides_usage: bool = False) -> AsyncMeteredStream[T]:
        """Watch a stream for an `async for` loop; see `watch`."""
        gatherer = self.gatherer(hides_usage=hides_usage)
        return AsyncMeteredStream(stream, gatherer, self._take, self._meter.clock)

    def gatherer(self, *, hides_usage: bool = False) -> Gatherer:
        """Make what gathers a stream that something else passes on; give what it finishes with to `take`."""
        return Gatherer(self._on_abort, hides_usage=hides_usage, let_pass=self._meter.let_pass)

    def take(self, gathered: Gathered) -> None:
        """Take what a gatherer finished with."""
        self._take(gathered)

    def _take(self, gathered: Gathered) -> None:
        self._has_ended = True
        self._answers += 1
        reading = gathered.reading
        if reading is not None:
            gathered = Gathered(named(reading, self._model), gathered.unbilled)
            # Layers lose ids and cache counts; a call within with the same counts is the same exchange.
            counts = (reading.tokens.input + (reading.tokens.cache or 0), reading.tokens.output)
            if self._billed_within.get(counts, 0) > 0:
                self._billed_within[counts] -= 1
                gathered = Gathered(None, Unbilled(reason="seen_already", reading=reading))
            elif self._origin.attribution is not None:
                self._tell_outer(counts)
        self._record(gathered, self._origin if self._answers == 1 else self._next_origin())

    def _tell_outer(self, counts: tuple[int, int]) -> None:
        """Note a bill in the calls of the layers around this one."""
        outer = self._outer
        while outer is not None:
            billed = outer._billed_within  # noqa: SLF001 - its own kind
            billed[counts] = billed.get(counts, 0) + 1
            outer = outer._outer  # noqa: SLF001

    def _next_origin(self) -> Origin:
        """Tell further answers of one call apart where they have no ids: each has its own ordinal."""
        origin = self._origin
        if origin.scope_id is None:
            return origin
        return replace(origin, scope_id=f"{origin.scope_id}/{origin.ordinal}", ordinal=self._answers)


_ESTIMATED: Final = (
    "the counts are the framework's estimate, since no chunk of the stream had usage; OpenAI has to be asked "
    'for it, with stream_options={"include_usage": True}'
)


def _gathered(response: object) -> Gathered:
    try:
        return Gathered(read(response), None)
    except ClockNextError as error:
        reason: Reason = "unknown_shape" if has_usage(response) else "no_usage"
        return Gathered(None, Unbilled(reason=reason, detail=error.message))


def _read_or_none(response: object) -> Reading | None:
    try:
        return read(response)
    except ClockNextError:
        return None
