"""Many seeds: which failed, and whether what they prove is worth anything."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tests.simulation.world import World

MUST_HAPPEN = (
    *("wait", "retry", "repeat", "repeat answered from memory", "late answer", "late commit", "abandoned"),
    *("queue_full", "send_failed", "closed", "rejected", "given up, but billed", "raised", "close"),
    *("blocked", "admitted", "block timed out", "withdrawn", "clock set back", "clock set forward"),
    *("flush", "flush out of time", "flush during an outage", "weather: outage", "weather: recovery"),
    *("pause: seconds", "pause: fraction", "pause: ms", "pause: bad ms", "pause: negative", "pause: date"),
    *("pause: absurd", "pause: garbage", "fate: refused", "fate: lost answer", "fate: request late"),
    *("fate: html", "fate: truncated", "fate: 408", "fate: 409", "fate: 429", "fate: 503"),
    *("call retried", "call succeeded", "call failed", "call cancelled", "late answer to a call"),
    *("gate open", "gate paused", "gate probing", "gate ramping", "out of patience"),
    *("held beyond its attempts", "call waits for the host", "call never sent"),
    *("crash", "adopted", "not stored", "look failed", "parked", "expired", "left at the close"),
    *("killed while it stored", "killed in flight", "Emptied"),
    *("poison given up", "misdirected", "fate: 404 html"),
    *("call out of patience", "fate: 500 after commit", "fate: 500 with a success in it"),
)


@dataclass(frozen=True)
class Failed:
    """A seed that broke a promise."""

    seed: int
    reason: str

    def __str__(self) -> str:
        return f"python -m tests.simulation --seed {self.seed}  # {self.reason}"


def play(seed: int, write: Callable[[str], object] | None = None) -> Counter[str]:
    """Play a seed; return what happened, and how often.

    Raises:
        AssertionError: The core broke a promise.
    """
    world = World(seed, write)
    world.run()
    return world.seen


def play_many(seeds: Iterable[int]) -> tuple[Counter[str], list[Failed]]:
    """Play seeds; return what happened over all of them, and those that failed."""
    seen: Counter[str] = Counter()
    failures: list[Failed] = []
    for seed in seeds:
        try:
            seen += play(seed)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the seed's
            failures.append(Failed(seed, f"{type(error).__name__}: {str(error)[:200]}"))
    return seen, failures


def missing(seen: Counter[str]) -> Sequence[str]:
    """List what must happen over a run that is to prove anything, and did not."""
    return [name for name in MUST_HAPPEN if not seen[name]]
