"""Recording what models answered: a response, the result of a run, or a stream."""

from collections.abc import AsyncIterable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar, Unpack, cast, get_args, overload

from clocknext_core.checks import check_choice, check_keywords
from clocknext_core.envelope import Payload
from clocknext_core.errors import ClockNextError, invalid
from clocknext_core.models import CatalogueModel, TrackResult
from clocknext_core.operations import Operation, path_of
from clocknext_core.resources.binding import Resource, Runner, S, recording
from clocknext_core.resources.calls import ModelCall
from clocknext_core.resources.payloads import many
from clocknext_core.resources.streams import AsyncMeteredStream, MeteredStream
from clocknext_core.signals import (
    FIELDS_OF,
    EncodedSignal,
    OutcomeFields,
    SignalType,
    fix,
    make_body,
)
from clocknext_core.usage.attribution import Attribution, Origin, Unbilled, belonging
from clocknext_core.usage.exchange import exchange_key, is_trusted
from clocknext_core.usage.lookup import check_awaited, get, is_http, is_model
from clocknext_core.usage.meter import Meter, named, with_usage
from clocknext_core.usage.reading import Reading, read
from clocknext_core.usage.runs import readings
from clocknext_core.usage.streams import AbortPolicy, Gathered, Gatherer

T = TypeVar("T")


class _Exchange(NamedTuple):
    """A signal for one exchange with a model."""

    encoded: EncodedSignal
    reading: Reading
    is_derived: bool
    """Whether its key was derived, so that the exchange is remembered."""


class Metering(Resource[S]):
    """Records what models answered; the part of `Signals` that reads responses.

    Args:
        runner: The client.
        meter: What the client knows of its exchanges. Default: a new one.
    """

    _unlisted = frozenset({"runner", "start_call"})
    _may_ask: bool = True
    """Whether a call may ask the service for its catalogue."""

    def __init__(self, runner: Runner, meter: Meter | None = None) -> None:
        super().__init__(runner)
        self._meter = Meter() if meter is None else meter

    @recording
    def from_response(
        self,
        response: object,
        /,
        *,
        customer_id: str,
        type: SignalType = "credit",  # noqa: A002
        model: str | None = None,
        wait: bool | None = None,
        **fields: Unpack[OutcomeFields],
    ) -> TrackResult:
        """Record a signal with the model and the tokens that a model's response names.

        A credit signal, unless `type` says otherwise; which arguments it takes follows from the type, and one
        that does not belong to it is an error. So a forgotten key is never a debit of the wallet instead.
        Arguments, result and errors beyond these are those of `credit` and `outcome`.

        Recording one response twice bills it once: the idempotency key is derived from the response's id, the
        customer, the type and the key, and what this client recorded before is not sent again.

        Args:
            response: What a provider's SDK returned, or the last chunk of a stream: see `read`.
            customer_id: Who is billed.
            type: `credit`, `wallet` or `outcome`.
            model: Catalogue id of the model, sent as given. Default: the response's, as the client's `models`
                says: without a date at its end.
            key: The credit's or the outcome step's key, sent as `key`. Give this or `agent_key`; no wallet
                signal has one.
            agent_key: The same, sent as `agentKey`.
            run_id: Groups the steps of one run of an outcome.
            complete: `True` bills the outcome, once.
            member: The member of the customer who caused it: their e-mail address, or any other string.
            status: `SUCCESS` (the server's default), `FAILURE` or `PENDING`.
            custom: A JSON object of your choice: at most 32 KiB once encoded, nested at most 100 deep. The
                response's tier and the counts that the API has no field for are added to it as `usage`.
            metric: `{"ref": name, "value": value}`, sent as a property of that name.
            idempotency_key: The server bills a key once. Default: derived from the response.
            wait: Send it now and wait for the answer. Default: as the client's `mode` says.

        Returns:
            A `TrackResult`; where the response was recorded before, it has the key and nothing else.

        Raises:
            ValidationError: The response has no known usage, or names no model and `model` was not given; or
                a bad argument. Nothing was recorded.
            ClockNextError: The call waited, and the server refused the signal or could not be reached.
        """
        given = _given(type, fields)
        result: TrackResult = self._record_first([read(response)], customer_id, type, model, given, wait)
        return result

    @recording
    def from_result(
        self,
        result: object,
        /,
        *,
        customer_id: str,
        type: SignalType = "credit",  # noqa: A002
        model: str | None = None,
        wait: bool | None = None,
        **fields: Unpack[OutcomeFields],
    ) -> list[TrackResult]:
        """Record a signal for each request of a run: of an agent, a chain or a batch.

        Arguments and errors are those of `from_response`, but for these. A request that this client recorded
        before, such as one in the history of a LangGraph thread, is not recorded again.

        Args:
            result: What the framework returned: see `readings`.
            customer_id: Who is billed.
            type: `credit`, `wallet` or `outcome`.
            model: The model of requests that name none, as those of OpenAI Agents do not.
            key: As for `from_response`.
            agent_key: As for `from_response`.
            run_id: As for `from_response`.
            complete: As for `from_response`; it goes with the last request.
            member: As for `from_response`.
            status: As for `from_response`.
            custom: As for `from_response`.
            metric: As for `from_response`.
            idempotency_key: What the keys are made of: a slash and the number of the request follow.
            wait: As for `from_response`.

        Returns:
            A result for each request, in their order.

        Raises:
            ValidationError: A request has no known usage or no model, or a bad argument. Nothing was
            recorded.
            ClockNextError: The call waited, and the server refused a signal or could not be reached; those
                before it are recorded.
        """
        given = _given(type, fields)
        found = [named(reading, model) for reading in readings(result)]
        results: list[TrackResult] = self._record_all(found, customer_id, type, None, given, wait)
        return results

    @overload
    def from_stream(
        self,
        stream: Iterable[T],
        /,
        *,
        customer_id: str,
        type: SignalType = "credit",
        model: str | None = None,
        on_abort: AbortPolicy = "partial",
        **fields: Unpack[OutcomeFields],
    ) -> MeteredStream[T]: ...
    @overload
    def from_stream(
        self,
        stream: AsyncIterable[T],
        /,
        *,
        customer_id: str,
        type: SignalType = "credit",
        model: str | None = None,
        on_abort: AbortPolicy = "partial",
        **fields: Unpack[OutcomeFields],
    ) -> AsyncMeteredStream[T]: ...
    def from_stream(
        self,
        stream: Iterable[T] | AsyncIterable[T] | object,
        /,
        *,
        customer_id: str,
        type: SignalType = "credit",  # noqa: A002
        model: str | None = None,
        on_abort: AbortPolicy = "partial",
        **fields: Unpack[OutcomeFields],
    ) -> MeteredStream[T] | AsyncMeteredStream[T]:
        """Pass a model's stream on, chunk by chunk, and record a signal when it ends, however it ends.

        The chunks are the same, for a `for` loop or an `async for` loop as the stream is; no chunk is kept.
        It is recorded without waiting. Once the stream is wrapped, nothing of metering raises into it: what
        can't be billed goes to `on_unbilled`. Use it as a context manager if the stream may be left early.

        Args:
            stream: What a provider's SDK returned for `stream=True`: of OpenAI (chat completions, which have
                to be asked for usage, and Responses), Anthropic, Gemini, Mistral, Cohere, Bedrock, LiteLLM
                and what speaks like them.
            customer_id: Who is billed.
            type: `credit`, `wallet` or `outcome`.
            model: Catalogue id of the model, sent as given. Default: the stream's.
            on_abort: What a stream is billed that is broken off before its counts are final: `"partial"`, a
                `Drain` or a function of yours. See `AbortPolicy`.
            fields: As for `from_response`.

        Raises:
            ValidationError: A bad argument, or the stream is none.
        """
        self._check_may_stream()
        _check_stream(stream)
        given = _given(type, fields)
        # A bad argument is an error here, and not at the end of the stream.
        sample = "unknown" if model is None else model
        fix(type, make_body(type, given, customer_id=customer_id, model=sample), str)
        gatherer = Gatherer(on_abort, let_pass=self._meter.let_pass)

        # A stream is read once, and so is a call of its own, as a response that is handed over is not.
        origin = Origin(attribution=_attribution(customer_id, type, given), alike={})

        def record(gathered: Gathered) -> None:
            self._record_gathered(gathered, origin, model, given)

        if isinstance(stream, AsyncIterable):
            chunks = cast("AsyncIterable[T]", stream)
            return AsyncMeteredStream(chunks, gatherer, record, self._meter.clock)
        if isinstance(stream, Iterable):
            return MeteredStream(cast("Iterable[T]", stream), gatherer, record, self._meter.clock)
        check_awaited("stream", stream)
        raise invalid("stream", "must be an iterator or an asynchronous one: give what the SDK returned")

    def start_call(
        self,
        origin: Origin,
        *,
        on_abort: AbortPolicy = "partial",
        outer: ModelCall | None = None,
        model: str | None = None,
        layer: str | None = None,
    ) -> ModelCall:
        """Begin a call to a model whose answer is handed over later, by an integration.

        Args:
            origin: Who is billed.
            on_abort: What a stream is billed that is broken off before its counts are final.
            outer: The call that was open where it starts.
            model: The model that was asked, for an answer that names none.
            layer: What sees the call; see `ModelCall`.
        """
        record = self._record_gathered
        return ModelCall(self._meter, origin, record, on_abort, outer, model=model, layer=layer)

    def _check_may_stream(self) -> None:
        """Raise `ValidationError` where a signal can't be recorded at the end of a stream."""

    def _record_gathered(
        self,
        gathered: Gathered,
        origin: Origin,
        model: str | None = None,
        given: Mapping[str, object] | None = None,
    ) -> None:
        """Record or report what a call comes to, within the user's request: nothing of metering is raised."""
        reading, unbilled = gathered
        attribution = origin.attribution
        customer_id = origin.customer_id if attribution is None else attribution.customer_id
        if unbilled is not None:
            self._meter.report(replace(unbilled, customer_id=customer_id))
        if reading is None:
            return
        if attribution is None:
            reason = origin.unbilled or "unattributed"
            self._meter.report(Unbilled(reason=reason, reading=reading, customer_id=customer_id))
            return
        try:
            exchange = self._exchange(
                reading, attribution, model, attribution.fields() if given is None else given, origin
            )
            if self._is_new(exchange, attribution.customer_id):
                self._hold(exchange)
        except Exception as error:  # noqa: BLE001 - the user's request must not break over its metering
            detail = error.message if isinstance(error, ClockNextError) else type(error).__name__
            report = Unbilled(reason="unknown_shape", reading=reading, customer_id=customer_id, detail=detail)
            self._meter.report(report)
            self._meter.let_pass(error)

    def _hold(self, exchange: _Exchange) -> None:
        try:
            result = self.runner.hold(exchange.encoded)
        except BaseException:
            self._meter.seen.forget(exchange.encoded.idempotency_key)
            raise
        if result is not None:
            self._forget_dropped(exchange, result)

    def _exchange(
        self,
        reading: Reading,
        attribution: Attribution,
        model: str | None,
        given: Mapping[str, object],
        origin: Origin | None = None,
    ) -> _Exchange:
        fields = dict(given)
        custom = with_usage(attribution.custom, reading)
        if custom is not None:
            fields["custom"] = custom
        is_derived = "idempotency_key" not in given
        if is_derived:
            seed = self._meter.seed()
            make_key = self.runner.make_key
            known_by = partial(self._meter.client_id, make_key)
            if seed is not None:
                known_by = partial(str, seed.text)
                billed = (attribution.customer_id, attribution.type, attribution.key or attribution.agent_key)
                make_key = partial(seed.key, "exchange", *billed)
            key = exchange_key(reading, attribution, make_key=make_key, origin=origin, known_by=known_by)
            fields["idempotency_key"] = key
        body = make_body(
            attribution.type,
            fields,
            customer_id=attribution.customer_id,
            model=self._meter.model_of(reading, model),
            tokens=reading.tokens,
        )
        return _Exchange(fix(attribution.type, body, self.runner.make_key), reading, is_derived)

    def _is_new(self, exchange: _Exchange, customer_id: str) -> bool:
        """Remember an exchange; report one that was recorded before."""
        if not exchange.is_derived or self._meter.seen.add(exchange.encoded.idempotency_key):
            return True
        reading = exchange.reading
        detail = "" if reading.response_id is None or is_trusted(reading.response_id) else _LIKE_ANOTHER
        self._meter.report(
            Unbilled(reason="seen_already", reading=reading, customer_id=customer_id, detail=detail)
        )
        return False

    def _record_first(self, found: Sequence[Reading], *arguments: Any) -> Any:
        if not self.runner.is_async:
            return self._record_all(found, *arguments)[0]

        async def first() -> TrackResult:
            results: list[TrackResult] = await self._record_all(found, *arguments)
            return results[0]

        return first()

    def _record_all(  # noqa: PLR0917 - passed on as they came
        self,
        found: Sequence[Reading],
        customer_id: str,
        signal_type: SignalType,
        model: str | None,
        given: Mapping[str, object],
        wait: bool | None,
    ) -> Any:
        wants_catalogue = model is None and self._may_ask and self._meter.wants_catalogue

        shares = [(each, _share(given, place, len(found))) for place, each in enumerate(found, 1)]

        def exchanges() -> list[_Exchange]:
            return [
                self._exchange(reading, _attribution(customer_id, signal_type, share), model, share)
                for reading, share in shares
            ]

        async def record_async() -> list[TrackResult]:
            if wants_catalogue:
                with self._learning():
                    self._meter.learn_catalogue(await self.runner.run(_catalogue()))
            results: list[TrackResult] = []
            for each in exchanges():
                with self._remembering(each, customer_id) as is_new:
                    results.append(await self.runner.record(each.encoded, wait) if is_new else _seen(each))
                    self._forget_dropped(each, results[-1])
            return results

        if self.runner.is_async:
            return record_async()
        if wants_catalogue:
            with self._learning():
                self._meter.learn_catalogue(self.runner.run(_catalogue()))
        results: list[TrackResult] = []
        for each in exchanges():
            with self._remembering(each, customer_id) as is_new:
                results.append(self.runner.record(each.encoded, wait) if is_new else _seen(each))
                self._forget_dropped(each, results[-1])
        return results

    @contextmanager
    def _learning(self) -> Generator[None, None, None]:
        """Ask for the catalogue once: where it can't be read, names lose their date, as by default."""
        try:
            yield
        except ClockNextError:
            self._meter.learn_catalogue(())

    @contextmanager
    def _remembering(self, exchange: _Exchange, customer_id: str) -> Generator[bool, None, None]:
        """Remember an exchange unless recording it fails; yields whether it is new."""
        is_new = self._is_new(exchange, customer_id)
        try:
            yield is_new
        except BaseException:
            self._meter.seen.forget(exchange.encoded.idempotency_key)
            raise

    def _forget_dropped(self, exchange: _Exchange, result: TrackResult) -> None:
        if result.dropped is not None:
            self._meter.seen.forget(exchange.encoded.idempotency_key)


_LIKE_ANOTHER: Final = (
    "the response's id is one that other responses have too, and its counts are those of one that was "
    "recorded: if it is another response, give an idempotency_key of your own"
)


def _check_stream(stream: object) -> None:
    """Refuse what can be iterated over and is no stream of chunks.

    Raises:
        ValidationError: It is a response, or text.
    """
    if isinstance(stream, (str, bytes, bytearray)):
        raise invalid("stream", "is text: give what the SDK returned, or the lines one by one")
    if is_http(stream):
        raise invalid(
            "stream",
            "is the response of an HTTP client: give its lines, such as response.iter_lines(), or what its "
            "json() returns to signals.from_response()",
        )
    if isinstance(stream, Mapping) or is_model(stream):
        for name in ("stream", "body"):  # boto3's events
            if hasattr(inner := get(stream, name), "__next__") or type(inner).__name__ == "EventStream":
                raise invalid("stream", f"has the stream in it: give response[{name!r}]")
        raise invalid("stream", "is a response: use signals.from_response()")


def _given(signal_type: SignalType, fields: Mapping[str, object]) -> dict[str, object]:
    """Return the fields that are given; those that do not belong to the type are an error."""
    check_choice("type", signal_type, get_args(SignalType))
    check_keywords(fields, FIELDS_OF["outcome"])
    return belonging(signal_type, fields)


def _attribution(customer_id: str, signal_type: SignalType, given: Mapping[str, object]) -> Attribution:
    fields: dict[str, Any] = {name: given[name] for name in _ATTRIBUTED if name in given}
    return Attribution(customer_id=customer_id, type=signal_type, **fields)


_ATTRIBUTED = ("key", "agent_key", "run_id", "complete", "member", "custom")


def _share(given: Mapping[str, object], place: int, of: int) -> Mapping[str, object]:
    """Return what is given for one request of a run: the last one completes it, and each has its own key."""
    if of == 1:
        return given
    share = {name: value for name, value in given.items() if name != "complete" or place == of}
    if "idempotency_key" in share:
        share["idempotency_key"] = f"{share['idempotency_key']}/{place}"
    return share


def _seen(exchange: _Exchange) -> TrackResult:
    return TrackResult({}, idempotency_key=exchange.encoded.idempotency_key, queued=True)


def _catalogue() -> Operation[list[str]]:
    """Make the operation that reads the ids of the workspace's models."""
    read_models = many(CatalogueModel, "models")

    def read_ids(payload: Payload) -> list[str]:
        return [model.model_id for model in read_models(payload) if model.model_id]

    return Operation("GET", path_of("models"), read_ids)
