"""Recording: what one call costs the caller that buffers a signal, or an event of someone else's."""

from collections.abc import Callable
from functools import partial

from tests.benchmarks import ours, plain
from tests.benchmarks.peers import BUFFERING, is_installed
from tests.benchmarks.rounds import Claim, Figure, Result, Stopwatch, alternate, single
from tests.benchmarks.setting import Setting
from tests.benchmarks.typical import MODEL


def measure(setting: Setting) -> Result:
    """Measure the call."""
    count = setting.pieces(4000)
    contestants = {
        "plain function": partial(_hold, plain.record, count),
        "lean function": partial(_hold, plain.record_leanly, count),
        "signals.credit, threads": partial(ours.record_in_threads, count),
        "signals.credit, asyncio": partial(ours.record_in_asyncio, count),
        "signals.credit, trio": partial(ours.record_in_trio, count),
    }
    notes: list[str] = []
    for package, (name, run) in BUFFERING.items():
        if is_installed(package):
            contestants[name] = partial(run, count)
        else:
            notes.append(f"{name}: {package} is not installed")
    figures = alternate([single(name, run) for name, run in contestants.items()], setting.rounds)
    claims = [
        Claim("signals.credit, threads", ("plain function",), most=1.2),
        Claim("signals.credit, threads", ("lean function",)),
        Claim("signals.credit, threads", ("segment track",), most=0.45),
        Claim("signals.credit, threads", ("posthog capture",), most=0.22),
        Claim("signals.credit, threads", ("OpenTelemetry span",)),
        Claim("signals.credit, asyncio", ("plain function",)),
        Claim("signals.credit, trio", ("plain function",)),
    ]
    return Result("Buffering one signal", "µs", figures, claims, notes)


def _hold(record: Callable[..., str], count: int) -> Figure:
    plain.HELD.clear()
    watch = Stopwatch()
    for _ in range(count):
        record(
            customer_id="cus_123",
            model=MODEL,
            key="api_credit",
            member="alice@acme.example",
            tokens={"input": 1200, "output": 340, "cache": 0},
            custom={"feature": "summarize"},
        )
    return watch.per(count)
