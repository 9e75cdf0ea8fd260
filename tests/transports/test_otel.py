"""OpenTelemetry: counters that any thread collects, a span for each attempt, and no harm done."""

import gc
import logging
import signal as signals
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from typing import TypeAlias, get_args

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from clocknext_core import (
    BatchPolicy,
    Failure,
    NetworkError,
    Operation,
    RateLimitError,
    Request,
    RetryPolicy,
    WalletSignal,
)
from clocknext_core.operations import USAGE_PATH, path_of
from clocknext_core.signals import encode_dry_run
from clocknext_core.states import DropReason
from clocknext_transports import ClockNext
from clocknext_transports.emulator import Hold, scripted
from clocknext_transports.otel import _clients, instrument  # pyright: ignore[reportPrivateUsage]
from tests.contract.answers import Answer, by_key, found, held, in_turn, priced, refused, sent_to
from tests.contract.clients import Options
from tests.life.interrupts import TimeIsUpError
from tests.transports.support import KEY, NATIVE, PATIENCE, Native, closed_port
from tests.transports.watched import PERSONAL, AnyClient, opened, signal

Point: TypeAlias = tuple[Mapping[str, object], float]

each_kind = pytest.mark.parametrize("kind", NATIVE)


class Observatory:
    """The SDK's providers, and what they were told."""

    def __init__(self, *processors: SpanProcessor) -> None:
        self._reader = InMemoryMetricReader()
        self._exporter = InMemorySpanExporter()
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracers = TracerProvider(shutdown_on_exit=False)
        for processor in (*processors, SimpleSpanProcessor(self._exporter)):
            self.tracers.add_span_processor(processor)

    def instrument(self, client: AnyClient) -> None:
        """Have it told of a client."""
        instrument(client, meter_provider=self.meters, tracer_provider=self.tracers)

    def spans(self) -> tuple[ReadableSpan, ...]:
        """Those that have ended."""
        return self._exporter.get_finished_spans()

    def points(self, name: str) -> list[NumberDataPoint | HistogramDataPoint]:
        """Collect a metric's points, in this thread."""
        collected = self._reader.get_metrics_data()
        found: list[NumberDataPoint | HistogramDataPoint] = []
        for resource in collected.resource_metrics if collected is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        for point in metric.data.data_points:
                            assert isinstance(point, NumberDataPoint | HistogramDataPoint)
                            found.append(point)
        return found

    def by(self, attribute: str, name: str) -> dict[object, float]:
        """Collect the figures of a metric by the values of an attribute."""
        figures: dict[object, float] = {}
        for point in self.points(name):
            assert isinstance(point, NumberDataPoint)
            value = (point.attributes or {})[attribute]
            assert value not in figures
            figures[value] = point.value
        return figures

    def read(self, name: str) -> float:
        """Collect the one figure of a metric."""
        (figure,) = self.by("clocknext.client.id", name).values()
        return figure

    def gate(self) -> object:
        """Collect the state the gate is in."""
        figures = self.by("clocknext.gate.state", "clocknext.gate.state")
        assert sorted(figures.values()) == [0, 0, 0, 1]
        return next(state for state, figure in figures.items() if figure)


@each_kind
def test_counters_are_collected_in_another_thread(kind: Native) -> None:
    gate = Hold()
    answers: dict[str, Answer] = {"poor": refused(422), "down": refused(503), "slow": held(gate)}
    batch = BatchPolicy(max_size=1, max_concurrency=1, max_queue_size=4, outage="drop")
    told = Observatory()
    with (
        scripted([by_key(answers)]) as server,
        opened(kind, server.url, told.instrument, batch=batch) as client,
    ):
        client.record(signal("slow"))
        assert gate.wait_arrived(PATIENCE)
        for key in ("good", "poor", "down", "many"):
            client.record(signal(key))
        assert told.read("clocknext.signals.recorded") == 5
        assert told.read("clocknext.signals.held") == 4
        assert told.read("clocknext.signals.held_bytes") == 4 * len(server.requests[0].body)
        assert told.read("clocknext.signals.in_flight") == 1
        assert told.gate() == "open"
        gate.release()
        client.close(PATIENCE)
        assert told.read("clocknext.signals.recorded") == 5
        assert told.read("clocknext.signals.held") == told.read("clocknext.signals.in_flight") == 0
        assert told.read("clocknext.signals.delivered") == 2
        assert told.read("clocknext.signals.rejected") == 1
        dropped = told.by("clocknext.drop.reason", "clocknext.signals.dropped")
        assert dropped == {**dict.fromkeys(get_args(DropReason), 0), "queue_full": 1, "send_failed": 1}
        assert told.read("clocknext.signals.parked") == told.read("clocknext.signals.storing") == 0
        assert told.read("clocknext.retries") == 1


@each_kind
def test_a_pause_is_seen_on_the_drivers_own_clock(kind: Native) -> None:
    told = Observatory()
    answers = [refused(429, headers={"retry-after-ms": "100"}), refused(429, headers={"retry-after": "3600"})]
    options: Options = {"retry": RetryPolicy(max_attempts=1), "batch": BatchPolicy(max_concurrency=2)}
    with (
        scripted(answers) as server,
        opened(kind, server.url, told.instrument, **options) as client,
    ):
        assert told.gate() == "open"
        with pytest.raises(RateLimitError):
            client.record(signal("a"), wait=True)
        deadline_at = time.monotonic() + PATIENCE
        while told.gate() == "paused":
            assert time.monotonic() < deadline_at
        assert told.gate() == "probing"  # nothing has been sent meanwhile: only time has passed
        with pytest.raises(RateLimitError):
            client.record(signal("b"), wait=True)
        assert told.gate() == "paused"


@each_kind
def test_an_attempt_has_a_span_and_a_duration(kind: Native) -> None:
    told = Observatory()
    answers: dict[str, Answer] = {"": found(), "busy": in_turn(refused(503, "cus_secret!"), priced())}
    with (
        scripted([by_key(answers)]) as server,
        opened(kind, f"{server.url}/billing", told.instrument) as client,
    ):
        client.run(READ)
        client.run(SEARCH)
        client.record(signal("busy"))
        client.close(PATIENCE)
        requests = server.requests
    where = {"server.address": "127.0.0.1", "server.port": int(server.url.rpartition(":")[2])}
    about = {"clocknext.idempotency_key": "busy", "clocknext.signal.type": "credit"}
    get = {"http.request.method": "GET", **where}
    post = {"http.request.method": "POST", **where}
    failed = {"http.response.status_code": 503, "error.type": "503"}
    worked = {"http.response.status_code": 200}
    assert [(span.name, dict(span.attributes or {}), span.status.status_code) for span in told.spans()] == [
        ("GET /api/v1/customers", {**get, **worked}, StatusCode.UNSET),
        ("GET /api/v1/customers", {**get, **worked}, StatusCode.UNSET),
        ("POST /api/v1/usage", {**post, **about, **failed}, StatusCode.ERROR),
        ("POST /api/v1/usage", {**post, **about, **worked}, StatusCode.UNSET),
    ]
    assert {span.kind for span in told.spans()} == {SpanKind.CLIENT}
    points = told.points("http.client.request.duration")
    assert [dict(point.attributes or {}) for point in points] == [
        {**get, **worked},
        {**post, **failed},
        {**post, **worked},
    ]
    for point, count in zip(points, (2, 1, 1), strict=True):
        assert isinstance(point, HistogramDataPoint)
        assert point.count == count
        assert 0.0 < point.sum < PATIENCE
    # The requests are as they are without it.
    names = {name.lower() for request in requests for name in request.headers}
    usual = {"authorization", "accept", "accept-encoding", "user-agent", "content-type"}
    assert names == usual | {"host", "content-length"}
    everything = " ".join(span.to_json() for span in told.spans())
    assert not [secret for secret in PERSONAL if secret in everything]


@pytest.mark.parametrize("key", [None, "idem-1"])
@each_kind
def test_a_dry_run_has_a_span_with_a_key_or_without(
    kind: Native, key: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    told = Observatory()
    body = encode_dry_run(WalletSignal(customer_id="cus_1", model="m", idempotency_key=key))
    dry_run: Operation[object] = Operation("POST", USAGE_PATH, dict, body)
    with scripted([priced()]) as server, opened(kind, server.url, told.instrument) as client:
        client.run(dry_run)
    (span,) = told.spans()
    assert (span.attributes or {})["clocknext.signal.type"] == "wallet"
    assert (span.attributes or {}).get("clocknext.idempotency_key") == key
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@each_kind
def test_an_attempt_without_an_answer_has_an_error(kind: Native) -> None:
    told = Observatory()
    once = RetryPolicy(max_attempts=1)
    with (
        closed_port() as url,
        opened(kind, url, told.instrument, retry=once) as client,
        pytest.raises(NetworkError),
    ):
        client.run(READ)
    (span,) = told.spans()
    assert (span.attributes or {})["error.type"] == "NetworkError"
    assert "http.response.status_code" not in (span.attributes or {})
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description


class Indiscreet:
    """A transport that fails, and tells the key."""

    def exchange(self, request: Request, *, deadline_at: float) -> Failure:
        """Fail."""
        return Failure(f"Nobody takes {dict(request.headers)['Authorization']}.")

    def close(self) -> None:
        """Do nothing."""


def test_a_failure_tells_no_key() -> None:
    told = Observatory()
    once = RetryPolicy(max_attempts=1)
    with ClockNext(KEY, base_url="http://127.0.0.1:1", transport=Indiscreet(), retry=once) as client:
        told.instrument(client)
        with pytest.raises(NetworkError):
            client.run(READ)
    (span,) = told.spans()
    assert span.status.description == "Nobody takes Bearer cnk_[redacted]."


@each_kind
def test_an_attempt_that_is_broken_off_ends_its_span(kind: Native) -> None:
    told, gate = Observatory(), Hold()
    with scripted([held(gate)]) as server, opened(kind, server.url, told.instrument) as client:
        client.record(signal("a"))
        assert gate.wait_arrived(PATIENCE)
        assert told.spans() == ()
        client.close(0.0)
        gate.release()
    (span,) = told.spans()
    error = {"sync": "NetworkError", "asyncio": "CancelledError", "trio": "Cancelled"}[kind]
    assert (span.attributes or {})["error.type"] == error
    assert span.status.status_code is StatusCode.ERROR


@each_kind
def test_the_span_of_an_awaited_call_is_a_child_of_the_callers(kind: Native) -> None:
    told = Observatory()
    tracer = told.tracers.get_tracer("test")
    with (
        scripted([found()]) as server,
        opened(kind, server.url, told.instrument) as client,
        tracer.start_as_current_span("request"),
    ):
        client.run(READ)
    attempt, request = told.spans()
    assert request.context is not None
    assert attempt.parent is not None
    assert (request.name, attempt.parent.span_id) == ("request", request.context.span_id)


@each_kind
def test_background_attempts_are_roots(kind: Native) -> None:
    told = Observatory()
    tracer = told.tracers.get_tracer("test")
    with (
        tracer.start_as_current_span("request"),
        scripted([priced()]) as server,
        opened(kind, server.url, told.instrument) as client,
    ):
        client.record(signal("a"))
    attempt, _ = told.spans()
    assert (attempt.name, attempt.parent) == ("POST /api/v1/usage", None)


class Broken(SpanProcessor):
    """A processor that raises, whatever it is told."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Raise."""
        raise LookupError("This processor is broken.")

    def on_end(self, span: ReadableSpan) -> None:
        """Raise."""
        raise LookupError("This processor is broken.")


class BrokenAtTheEnd(Broken):
    """A processor that raises when a span ends."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Do nothing."""


class Striking(Broken):
    """A processor that a signal handler strikes when a span begins."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Raise what the handler of SIGALRM raises."""
        signals.raise_signal(signals.SIGALRM)

    def on_end(self, span: ReadableSpan) -> None:
        """Do nothing."""


class StrikingAtTheEnd(BrokenAtTheEnd):
    """A processor that a signal handler strikes when a span ends."""

    def on_end(self, span: ReadableSpan) -> None:
        """Raise what the handler of SIGALRM raises."""
        signals.raise_signal(signals.SIGALRM)


@pytest.mark.skipif(not hasattr(signals, "SIGALRM"), reason="no such signal here")
@pytest.mark.parametrize("processor", [Striking, StrikingAtTheEnd])
def test_what_a_signal_handler_raises_in_opentelemetry_reaches_the_caller(
    processor: Callable[[], SpanProcessor],
) -> None:
    def strike(*_: object) -> None:
        raise TimeIsUpError

    before = signals.signal(signals.SIGALRM, strike)
    try:
        with scripted([priced()]) as server, ClockNext(KEY, base_url=server.url) as client:
            Observatory(processor()).instrument(client)
            with pytest.raises(TimeIsUpError):
                client.signals.wallet(customer_id="cus_1", model="m", wait=True)
    finally:
        signals.signal(signals.SIGALRM, before)


@each_kind
@pytest.mark.parametrize("processor", [Broken, BrokenAtTheEnd])
def test_what_opentelemetry_raises_stops_nothing(
    kind: Native, processor: Callable[[], SpanProcessor], caplog: pytest.LogCaptureFixture
) -> None:
    told = Observatory(processor())
    flushed: list[int] = []
    with (
        scripted([priced()]) as server,
        opened(kind, server.url, told.instrument, on_flush=flushed.append) as client,
    ):
        client.record(signal("a"), wait=True)
        client.record(signal("b"))
        assert client.close(PATIENCE).delivered == 1
        assert sent_to(server) == ["a", "b"]
    assert flushed == [1]
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert said == ["OpenTelemetry raised; delivery goes on."] * 2
    assert "This processor is broken." in caplog.text


def test_each_client_has_a_number_and_goes_with_it() -> None:
    told = Observatory()
    clients = [instrumented(told) for _ in range(2)]
    with pytest.raises(RuntimeError, match="instrumented already"):
        told.instrument(clients[0])
    ids = [*told.by("clocknext.client.id", "clocknext.retries")]
    assert len(ids) == 2
    gone = weakref.ref(clients.pop(0))
    gc.collect()
    assert gone() is None
    clients.append(instrumented(told))
    left = [*told.by("clocknext.client.id", "clocknext.retries")]
    assert (len(left), left[0]) == (2, ids[1])
    assert len(_clients[told.meters]._observed) == 2  # pyright: ignore[reportPrivateUsage]
    for client in clients:
        client.close()


def instrumented(told: Observatory) -> ClockNext:
    client = ClockNext(KEY, base_url="http://127.0.0.1:1")
    told.instrument(client)
    return client


def test_the_global_providers_may_be_set_later() -> None:
    program = """
import sys
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from clocknext_transports import ClockNext
from clocknext_transports.otel import instrument
with ClockNext("cnk_x", base_url=sys.argv[1]) as cnk:
    instrument(cnk)
    reader, exporter, tracers = InMemoryMetricReader(), InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    metrics.set_meter_provider(MeterProvider([reader]))
    trace.set_tracer_provider(tracers)
    cnk.signals.wallet(customer_id="cus_1", model="m", wait=True)
print([span.name for span in exporter.get_finished_spans()])
(scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
print(len(scope.metrics))
"""
    with scripted([priced()]) as server:
        assert output_of(program, server.url) == "['POST /api/v1/usage']\n12\n"


@each_kind
def test_the_rest_of_the_transport_is_the_clients_own(kind: Native) -> None:
    made: list[AnyClient] = []
    with scripted([priced()]) as server:
        with opened(kind, server.url, made.append) as client:
            before = made[0]._driver.transport  # pyright: ignore[reportPrivateUsage]
            Observatory().instrument(made[0])
            after = made[0]._driver.transport  # pyright: ignore[reportPrivateUsage]
            client.record(signal("a"))
            client.close(PATIENCE)
        assert server.connections == 1
    names = [name for name in dir(before) if not name.startswith("_") and name != "exchange"]
    assert {"close" if kind == "sync" else "aclose"} <= {*names}
    assert [getattr(after, name) for name in names] == [getattr(before, name) for name in names]


def test_the_clients_do_without_it() -> None:
    program = """
import sys
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
sys.modules["opentelemetry"] = None
ClockNext("cnk_x").close()
try:
    import clocknext_transports.otel
except ModuleNotFoundError as error:
    print(error)
"""
    assert (
        output_of(program) == "clocknext_transports.otel needs OpenTelemetry: pip install 'clocknext[otel]'\n"
    )


def output_of(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


READ = Operation("GET", path_of("customers", "cus_secret"), lambda _: None)
SEARCH = Operation("GET", path_of("customers", query={"q": "alice@acme.example"}), lambda _: None)
