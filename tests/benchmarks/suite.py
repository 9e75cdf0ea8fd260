"""All benchmarks, by the name that `--only` takes."""

from collections.abc import Mapping

from tests.benchmarks import (
    delivering,
    distance,
    holding,
    idling,
    outboxes,
    recording,
    scheduling,
    spooling,
    starting,
)
from tests.benchmarks.setting import Benchmark

BENCHMARKS: Mapping[str, Benchmark] = {
    "recording": recording.measure,
    "draining": delivering.measure_draining,
    "awaited": delivering.measure_awaited,
    "tls": distance.measure_tls,
    "distant": distance.measure_distant,
    "producer": distance.measure_producer,
    "scheduling": scheduling.measure,
    "held": holding.measure_cost,
    "memory": holding.measure_memory,
    "imports": starting.measure_imports,
    "cold": starting.measure_cold,
    "idle": idling.measure,
    "spool": spooling.measure_recording,
    "adopting": spooling.measure_adopting,
    "outbox": outboxes.measure_recording,
    "claims": outboxes.measure_claims,
    "relay": outboxes.measure_draining,
    "relays": outboxes.measure_relays,
    "table": outboxes.measure_size,
}

FOR_PLOTS: Mapping[str, Benchmark] = {"concurrency": delivering.measure_concurrency}
"""Measured only for a plot, or when asked for."""
