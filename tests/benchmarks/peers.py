"""Other people's libraries, where they are installed: how they buffer an event, and how httpx posts.

They are kept from sending: their clients get no thread that would, and `__main__` refuses other hosts.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast

import httpx

from tests.benchmarks.baselines import HEADERS
from tests.benchmarks.ours import NOWHERE
from tests.benchmarks.processes import output_of
from tests.benchmarks.rounds import Figure, Stopwatch
from tests.benchmarks.typical import MODEL, NEVER, PATH, body

PLENTY = 10**6


class _PostHog(Protocol):
    def capture(self, event: str, *, distinct_id: str, properties: dict[str, object]) -> object: ...
    def shutdown(self) -> None: ...


class _Segment(Protocol):
    consumers: list[object]

    def track(self, user_id: str, event: str, properties: dict[str, object]) -> object: ...


class _Span(Protocol):
    def end(self) -> None: ...


class _Tracer(Protocol):
    def start_span(self, name: str, *, attributes: dict[str, object]) -> _Span: ...


class _TracerProvider(Protocol):
    def add_span_processor(self, processor: object) -> None: ...
    def get_tracer(self, name: str) -> _Tracer: ...
    def shutdown(self) -> None: ...


def capture_with_posthog(count: int) -> Figure:
    """Buffer so many events."""
    make = cast("Callable[..., _PostHog]", import_module("posthog").Posthog)
    client = make("phc_benchmark", host=NOWHERE, thread=0, max_queue_size=PLENTY)
    logging.getLogger("posthog").setLevel(logging.CRITICAL)  # it complains of what shutting down drops
    capture = client.capture
    watch = Stopwatch()
    for _ in range(count):
        capture(
            "signal",
            distinct_id="cus_123",
            properties={
                "model": MODEL,
                "key": "api_credit",
                "member": "alice@acme.example",
                "tokens": {"input": 1200, "output": 340, "cache": 0},
                "custom": {"feature": "summarize"},
            },
        )
    figure = watch.per(count)
    client.shutdown()
    return figure


def track_with_segment(count: int) -> Figure:
    """Buffer so many events."""
    make = cast("Callable[..., _Segment]", import_module("segment.analytics.client").Client)
    client = make("benchmark", host=NOWHERE, thread=0, max_queue_size=PLENTY)
    client.consumers = []  # without threads it forgets to have none, and its exit fails
    track = client.track
    watch = Stopwatch()
    for _ in range(count):
        track(
            "cus_123",
            "signal",
            {
                "model": MODEL,
                "key": "api_credit",
                "member": "alice@acme.example",
                "tokens": {"input": 1200, "output": 340, "cache": 0},
                "custom": {"feature": "summarize"},
            },
        )
    return watch.per(count)


def trace_with_opentelemetry(count: int) -> Figure:
    """Start and end so many spans, which a batch processor takes."""
    provider = cast("Callable[..., _TracerProvider]", import_module("opentelemetry.sdk.trace").TracerProvider)
    export = import_module("opentelemetry.sdk.trace.export")
    processor = cast("Callable[..., object]", export.BatchSpanProcessor)
    exporter = cast(
        "Callable[[], object]",
        import_module("opentelemetry.sdk.trace.export.in_memory_span_exporter").InMemorySpanExporter,
    )
    tracing = provider(shutdown_on_exit=False)
    tracing.add_span_processor(
        processor(
            exporter(),
            max_queue_size=PLENTY,
            max_export_batch_size=PLENTY,
            schedule_delay_millis=NEVER * 1000,
        )
    )
    start_span = tracing.get_tracer("benchmark").start_span
    watch = Stopwatch()
    for _ in range(count):
        start_span(
            "signal",
            attributes={
                "customer_id": "cus_123",
                "model": MODEL,
                "key": "api_credit",
                "member": "alice@acme.example",
                "tokens.input": 1200,
                "tokens.output": 340,
                "tokens.cache": 0,
                "feature": "summarize",
            },
        ).end()
    figure = watch.per(count)
    tracing.shutdown()
    return figure


BUFFERING: dict[str, tuple[str, Callable[[int], Figure]]] = {
    "posthog": ("posthog capture", capture_with_posthog),
    "segment": ("segment track", track_with_segment),
    "opentelemetry": ("OpenTelemetry span", trace_with_opentelemetry),
}
"""By the package they need: what the contestant is called, and what it does."""


def is_installed(package: str) -> bool:
    """Tell whether a package can be imported: of OpenTelemetry, the SDK."""
    name = {"opentelemetry": "opentelemetry.sdk", "segment": "segment.analytics"}.get(package, package)
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # of its parent
        return False


def drain_with_httpx(url: str, bodies: Sequence[bytes], concurrency: int) -> Figure:
    """Post all by one AsyncClient, in so many tasks with a warm connection each."""

    async def work(client: httpx.AsyncClient, pending: deque[bytes]) -> None:
        while pending:
            (await client.post(PATH, content=pending.popleft())).raise_for_status()

    async def drain() -> Figure:
        pending = deque(bodies)
        async with httpx.AsyncClient(base_url=url, headers=HEADERS[1:]) as client:
            await asyncio.gather(*(client.post(PATH, content=bodies[0]) for _ in range(concurrency)))
            watch = Stopwatch()
            await asyncio.gather(*(work(client, pending) for _ in range(concurrency)))
            return watch.per(len(bodies))

    return asyncio.run(drain())


def post_with_httpx(url: str, count: int) -> Figure:
    """Post so many bodies by one Client, one after the other."""
    with httpx.Client(base_url=url, headers=HEADERS[1:]) as client:
        client.post(PATH, content=body(0)).raise_for_status()
        watch = Stopwatch()
        for number in range(count):
            client.post(PATH, content=body(number)).raise_for_status()
        return watch.per(count)


def drain_with_official(bundle: Path, url: str, count: int, concurrency: int) -> Figure:
    """Send so many signals with the official client, in a process of its own.

    Raises:
        subprocess.CalledProcessError: It could not be loaded, or has not delivered them all.
    """
    script = Path(__file__).with_name("official.mjs")
    command = ["node", script, bundle.absolute(), url, count, concurrency]
    wall, cpu = map(float, output_of([str(word) for word in command]).split())
    return Figure(wall / count, cpu / count)
