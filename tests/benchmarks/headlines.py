"""What a reader wants to know first, each as a picture of a few bars."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.plots import Bar, draw_bars
from tests.benchmarks.rounds import Result


def _microseconds(value: float) -> tuple[float, str]:
    return value, f"{value * 1e6:.3g} µs"


def _milliseconds(value: float) -> tuple[float, str]:
    return value, f"{value * 1e3:.3g} ms"


def _each_second(value: float) -> tuple[float, str]:
    return 1 / value, f"{float(f'{1 / value:.3g}'):,.0f} a second"


@dataclass(frozen=True)
class Headline:
    """A picture of some figures of one benchmark."""

    benchmark: str
    file: str
    title: str
    show: Callable[[float], tuple[float, str]]
    """Gives a bar's length, and its value for people."""
    names: Mapping[str, str]
    """The figures, in order, and what they are called in the picture."""
    ours: frozenset[str]

    def draw(self, result: Result) -> str | None:
        """Draw it; `None` where none of its figures was measured."""
        bars = [
            Bar(shown, *self.show(median(figure.value for figure in figures)), name in self.ours)
            for name, shown in self.names.items()
            if (figures := result.figures.get(name))
        ]
        return draw_bars(self.title, bars) if bars else None


def _headline(
    benchmark: str,
    title: str,
    show: Callable[[float], tuple[float, str]],
    ours: Mapping[str, str],
    others: Mapping[str, str],
) -> Headline:
    return Headline(benchmark, f"{benchmark}.svg", title, show, {**ours, **others}, frozenset(ours))


HEADLINES: Sequence[Headline] = (
    _headline(
        "recording",
        "Recording a signal: what the program waits",
        _microseconds,
        {
            "signals.credit, threads": "ClockNext",
            "signals.credit, asyncio": "ClockNext, asyncio",
            "signals.credit, trio": "ClockNext, trio",
        },
        {
            "plain function": "a plain function",
            "OpenTelemetry span": "OpenTelemetry span",
            "segment track": "segment track",
            "posthog capture": "posthog capture",
        },
    ),
    _headline(
        "draining",
        "Delivering, five requests at once, a server that answers at once",
        _each_second,
        {
            "threads driver, 5 at once": "ClockNext, threads",
            "asyncio driver, 5 at once": "ClockNext, asyncio",
            "trio driver, 5 at once": "ClockNext, trio",
        },
        {
            "bare h11, asyncio, 5 at once": "a bare loop of h11, asyncio",
            "bare h11, threads, 5 at once": "a bare loop of h11, threads",
            "httpx AsyncClient": "httpx AsyncClient",
            "official client, Node": "the official client, Node",
        },
    ),
    _headline(
        "distant",
        "Delivering what was held to a service 50 ms away",
        _each_second,
        {
            'threads driver, "auto"': '"auto", threads',
            'asyncio driver, "auto"': '"auto", asyncio',
            'trio driver, "auto"': '"auto", trio',
        },
        {
            "threads driver, 64 at once": "64 at once, threads",
            "threads driver, 5 at once": "5 at once, threads (the default)",
        },
    ),
    _headline(
        "cold",
        "A whole process that delivers one signal",
        _milliseconds,
        {
            "first signal, awaited": "ClockNext, awaited",
            "first signal, buffered and closed": "ClockNext, buffered",
        },
        {
            "an interpreter that posts by hand": "posting by hand",
            "first post by httpx": "httpx",
            "an interpreter alone": "an interpreter alone",
        },
    ),
    _headline(
        "spool",
        "Recording durably, on the disk before the call returns",
        _microseconds,
        {"durable, one thread": "spool, one thread", "durable, 64 tasks": "spool, 64 tasks"},
        {"write and fsync": "a write and an fsync", "64 writes and an fsync": "64 writes and an fsync"},
    ),
    _headline(
        "metering",
        "A model's stream of 200 chunks",
        _milliseconds,
        {"the same, metered": "metered"},
        {"a stream of 200 chunks": "not metered"},
    ),
)


def draw_headlines(results: Mapping[str, Result]) -> dict[str, str]:
    """Draw those whose benchmark was run, by file name."""
    drawn = {each.file: each.draw(results[each.benchmark]) for each in HEADLINES if each.benchmark in results}
    return {file: picture for file, picture in drawn.items() if picture is not None}
