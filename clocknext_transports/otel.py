"""OpenTelemetry: what a client does, as metrics and spans. Needs the extra `otel`.

The metrics of buffered signals are the client's own counters, read whenever they are collected: recording
and sending a signal costs nothing more. Each attempt has a span, and is counted in a histogram by duration
and outcome. Both are measured around the transport, whose requests go out as they are: no header is added.

Attributes and metrics have the names of the semantic conventions where these know them. What would identify
a person stays out: no URL, since paths and queries may name customers, and nothing of a body but a signal's
idempotency key and type.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar, get_args
from weakref import WeakKeyDictionary, WeakMethod

try:
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import CallbackOptions, Histogram, MeterProvider, Observation
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
except ModuleNotFoundError as _missing:
    hint = "clocknext_transports.otel needs OpenTelemetry: pip install 'clocknext[otel]'"
    raise ModuleNotFoundError(hint, name="opentelemetry") from _missing

from clocknext_core import Answer, NetworkError, Request, Response, Stats, __version__
from clocknext_core.gate import GateState
from clocknext_core.operations import USAGE_PATH
from clocknext_core.signals import type_and_key
from clocknext_transports.client.base import ClientBase
from clocknext_transports.loops.calls import Transport as AsyncTransport
from clocknext_transports.process.clock import monotonic
from clocknext_transports.process.interrupts import let_pass
from clocknext_transports.process.log import logger
from clocknext_transports.sync import Transport

TransportT = TypeVar("TransportT")

Attributes: TypeAlias = Mapping[str, str | int]
Reading: TypeAlias = tuple[int, Attributes]
"""A figure and its attributes."""
Read: TypeAlias = Callable[[Stats], list[Reading]]

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds, as the semantic conventions have them."""

RESOURCE_DEPTH = 4
"""A path's parts that are the same for all requests to a resource: the empty one, `api`, `v1`, its name."""

RAISED = "OpenTelemetry raised; delivery goes on."

COUNTERS: Mapping[str, tuple[str, str, Read]] = {
    "clocknext.signals.recorded": (
        "{signal}",
        "Buffered signals recorded",
        lambda stats: [(stats.recorded, {})],
    ),
    "clocknext.signals.delivered": (
        "{signal}",
        "Buffered signals that the service acknowledged",
        lambda stats: [(stats.delivered, {})],
    ),
    "clocknext.signals.rejected": (
        "{signal}",
        "Buffered signals that the service refused for good",
        lambda stats: [(stats.rejected, {})],
    ),
    "clocknext.signals.dropped": (
        "{signal}",
        "Buffered signals given up or never sent",
        lambda stats: [
            (number, {"clocknext.drop.reason": reason}) for reason, number in stats.dropped.items()
        ],
    ),
    "clocknext.signals.parked": (
        "{signal}",
        "Buffered signals left in the spool for the next process",
        lambda stats: [(stats.parked, {})],
    ),
    "clocknext.retries": (
        "{retry}",
        "Failed attempts of buffered signals that were, or will be, repeated",
        lambda stats: [(stats.retries, {})],
    ),
}
"""Name to unit, description and figures of what only ever grows."""

LEVELS: Mapping[str, tuple[str, str, Read]] = {
    "clocknext.signals.held": (
        "{signal}",
        "Buffered signals that have not ended",
        lambda stats: [(stats.held, {})],
    ),
    "clocknext.signals.held_bytes": (
        "By",
        "Size of the bodies of the signals held",
        lambda stats: [(stats.held_bytes, {})],
    ),
    "clocknext.signals.in_flight": (
        "{signal}",
        "Buffered signals with an attempt under way",
        lambda stats: [(stats.in_flight, {})],
    ),
    "clocknext.signals.storing": (
        "{signal}",
        "Signals not recorded yet, on their way into the spool",
        lambda stats: [(stats.storing, {})],
    ),
    "clocknext.gate.state": (
        "1",
        "1 for the state the gate is in, 0 for the others",
        lambda stats: [
            (int(state == stats.gate), {"clocknext.gate.state": state}) for state in get_args(GateState)
        ],
    ),
}
"""Name to unit, description and figures of what rises and falls."""


def instrument(
    client: ClientBase[Any, Any, Any],
    *,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
) -> None:
    """Instrument a client with OpenTelemetry.

    Call it once, for a client of any kind; the global providers may be set later. It does not keep the client
    alive, and does not change its hooks. An exception from OpenTelemetry is logged and stops no delivery.

    Args:
        client: A `ClockNext`, `AsyncClockNext` or `TrioClockNext`.
        meter_provider: Where metrics go. Default: the global one.
        tracer_provider: Where spans go. Default: the global one.

    Raises:
        RuntimeError: The client is instrumented already.
    """
    observed = _Observed(client)
    tracer = trace.get_tracer("clocknext", __version__, tracer_provider)
    around = _AsyncAround if client.is_async else _BlockingAround

    def wrap(transport: Any) -> object:
        if isinstance(transport, _Around):
            raise RuntimeError("The client is instrumented already.")
        clients = _clients_of(metrics.get_meter_provider() if meter_provider is None else meter_provider)
        clients.add(observed)
        return around(transport, partial(_Attempt, observed, tracer, clients.duration))

    client.wrap_transport(wrap)


class _Observed:
    """What telemetry knows of a client: it holds a weak reference."""

    _numbers = count(1)

    def __init__(self, client: ClientBase[Any, Any, Any]) -> None:
        self._config = client.config
        origin = self._config.origin
        self.origin: Attributes = {"server.address": origin.host, "server.port": origin.port}
        self._attributes = {**self.origin, "clocknext.client.id": str(next(self._numbers))}
        self._stats_at = WeakMethod(client.stats_at)
        self._ahead = 0.0
        """Seconds by which the driver's clock is ahead of `time.monotonic`, as the latest attempt showed: in
        the thread that collects metrics, an event loop's can't be read."""

    @property
    def is_alive(self) -> bool:
        return self._stats_at() is not None

    def observe(self, read: Read) -> Iterator[Observation]:
        """Read some figures; none once the client is gone."""
        if (stats_at := self._stats_at()) is not None:
            for figure, attributes in read(stats_at(monotonic() + self._ahead)):
                yield Observation(figure, {**self._attributes, **attributes})

    def synchronise(self, deadline_at: float) -> None:
        """Learn the time on the driver's clock, from the deadline of an attempt that starts now."""
        self._ahead = deadline_at - self._config.timeout - monotonic()

    def name_of(self, request: Request) -> str:
        """Name a request by its resource, so that requests of one kind share a name."""
        return f"{request.method} {'/'.join(self._path_of(request).split('/')[:RESOURCE_DEPTH])}"

    def signal_of(self, request: Request) -> Attributes:
        """Return the type and the key of the signal that a request carries, if it carries one."""
        if request.body is None or self._path_of(request) != USAGE_PATH:
            return {}
        signal_type, key = type_and_key(request.body)
        about = {"clocknext.signal.type": signal_type}
        return about if key is None else {**about, "clocknext.idempotency_key": key}

    def redact(self, text: str) -> str:
        """Return it without the API key."""
        return self._config.redact(text)

    def _path_of(self, request: Request) -> str:
        return request.target.removeprefix(self._config.path_prefix).partition("?")[0]


class _Clients:
    """The instruments of one meter provider, and the clients whose counters they read.

    An instrument is made once: a second of the same name would be ignored with its callback.
    """

    def __init__(self, provider: MeterProvider) -> None:
        meter = metrics.get_meter("clocknext", __version__, provider)
        self._observed: list[_Observed] = []
        for name, (unit, description, read) in COUNTERS.items():
            meter.create_observable_counter(name, [partial(self._observe, read)], unit, description)
        for name, (unit, description, read) in LEVELS.items():
            meter.create_observable_up_down_counter(name, [partial(self._observe, read)], unit, description)
        self.duration = meter.create_histogram(
            "http.client.request.duration",
            "s",
            "Duration of attempts",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )

    def add(self, observed: _Observed) -> None:
        """Read this client's counters too; no longer those of clients that are gone."""
        self._observed = [*(each for each in self._observed if each.is_alive), observed]

    def _observe(self, read: Read, options: CallbackOptions) -> Iterator[Observation]:
        del options
        for observed in self._observed:
            yield from observed.observe(read)


_clients: WeakKeyDictionary[MeterProvider, _Clients] = WeakKeyDictionary()


def _clients_of(provider: MeterProvider) -> _Clients:
    if provider not in _clients:
        _clients[provider] = _Clients(provider)
    return _clients[provider]


class _Attempt:
    """Measures one attempt, in a `with` block.

    Its span is a child of the span that is current where the attempt is made: in an awaited call, the
    caller's; in the background, none. It does not become the current one itself.
    """

    def __init__(
        self, observed: _Observed, tracer: Tracer, duration: Histogram, request: Request, deadline_at: float
    ) -> None:
        self._observed = observed
        self._tracer = tracer
        self._duration = duration
        self._request = request
        self._span: Span = trace.INVALID_SPAN
        self._attributes: dict[str, str | int] = {"http.request.method": request.method, **observed.origin}
        self.answer: Answer | None = None
        """The result, for the block to fill in."""
        self._observed.synchronise(deadline_at)
        self._began_at = time.perf_counter()

    def __enter__(self) -> Self:
        try:
            name = self._observed.name_of(self._request)
            self._span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=self._attributes)
            if self._span.is_recording():
                self._span.set_attributes(self._observed.signal_of(self._request))
        except Exception as error:  # noqa: BLE001 - telemetry must not stop delivery
            let_pass(error)
            logger.exception(RAISED)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end(kind)
        except Exception as raised:  # noqa: BLE001 - telemetry must not stop delivery
            let_pass(raised)
            logger.exception(RAISED)

    def _end(self, raised: type[BaseException] | None) -> None:
        took = time.perf_counter() - self._began_at
        outcome: dict[str, str | int] = {}
        failure: str | None = None
        if isinstance(self.answer, Response):
            outcome["http.response.status_code"] = self.answer.status
            if self.answer.status >= 400:
                outcome["error.type"] = str(self.answer.status)
        elif self.answer is not None:
            outcome["error.type"] = NetworkError.__name__
            failure = self._observed.redact(self.answer.message)
        elif raised is not None:
            outcome["error.type"] = raised.__name__
        self._span.set_attributes(outcome)
        if "error.type" in outcome:
            self._span.set_status(Status(StatusCode.ERROR, failure))
        self._span.end()
        self._duration.record(took, {**self._attributes, **outcome})


class _Around(Generic[TransportT]):
    """A transport around another one, which does all but exchanges."""

    def __init__(self, transport: TransportT, begin: Callable[[Request, float], _Attempt]) -> None:
        self._transport = transport
        self._begin = begin

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


class _BlockingAround(_Around[Transport]):
    def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        with self._begin(request, deadline_at) as attempt:
            attempt.answer = self._transport.exchange(request, deadline_at=deadline_at)
            return attempt.answer


class _AsyncAround(_Around[AsyncTransport]):
    async def exchange(self, request: Request, *, deadline_at: float) -> Answer:
        with self._begin(request, deadline_at) as attempt:
            attempt.answer = await self._transport.exchange(request, deadline_at=deadline_at)
            return attempt.answer
