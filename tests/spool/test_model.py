"""The store against a model that is a bag of keys a process, with ends and crashes among the operations."""

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from clocknext_transports.spool import SqliteSpool, Stored
from tests.spool.support import HOUR, NOW, adopted, keys, opened, quarantined

WINDOW = 24 * HOUR
KEYS = [f"key-{number}" for number in range(4)]
"""Few, so that keys recur."""


class Live:
    """A process: its spool, and what the model says it has."""

    def __init__(self, spool: SqliteSpool) -> None:
        self.spool = spool
        self.has: Counter[str] = Counter()


def take(bag: Counter[str], key: str) -> bool:
    """Take one of a key out of a bag, if there is one."""
    if not bag[key]:
        return False
    bag[key] -= 1
    return True


class SpoolMachine(RuleBasedStateMachine):
    """Several spools on one directory, in one process."""

    lives = Bundle("lives")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.path = self.directory / "spool"
        self.now = NOW
        self.known: set[Stored] = set()
        self.left: Counter[str] = Counter()
        self.quarantined: Counter[str] = Counter()
        self.alive: list[Live] = []

    def teardown(self) -> None:
        for life in [*self.alive]:
            self.end(life)
        if self.path.exists():
            late = opened(self.path, now=self.now, window=1e9)
            signals, problems = adopted(late)
            assert (Counter(keys(signals)), problems) == (+self.left, [])
            assert {*signals} <= self.known
            late.close()
        shutil.rmtree(self.directory)

    @rule(target=lives)
    def start(self) -> Live:
        life = Live(SqliteSpool(self.path, window=WINDOW, clock=lambda: self.now))
        self.alive.append(life)
        return life

    @rule(life=lives, keys=st.lists(st.sampled_from(KEYS), max_size=6), size=st.sampled_from([0, 9000]))
    def append(self, life: Live, keys: list[str], size: int) -> None:
        signals: list[Stored] = []
        for key in keys:
            signals.append(Stored(key, f"{len(self.known)}".encode() + bytes(size), self.now))
            self.known.add(signals[-1])
        life.spool.append(signals)
        life.has.update(keys)

    @rule(life=lives, keys=st.lists(st.sampled_from(KEYS), max_size=6))
    def erase(self, life: Live, keys: list[str]) -> None:
        life.spool.erase(keys)
        for key in keys:
            take(life.has, key)

    @rule(life=lives, key=st.sampled_from(KEYS))
    def quarantine(self, life: Live, key: str) -> None:
        life.spool.quarantine([key], "chance")
        self.quarantined[key] += take(life.has, key)

    @rule(life=lives, limit=st.integers(1, 5))
    def adopt(self, life: Live, limit: int) -> None:
        found = life.spool.adopt(limit)
        expired = [problem.signal for problem in life.spool.take_problems()]
        assert len(found) + len(expired) <= limit
        # What another process that lives has begun to adopt from is not to be had.
        assert found or expired or len(self.alive) > 1 or not self.left.total(), "there was something left"
        for signal in found:
            assert signal in self.known
            assert self.now - signal.recorded_at <= WINDOW
            assert take(self.left, signal.idempotency_key)
            life.has[signal.idempotency_key] += 1
        for old in expired:
            assert old in self.known
            assert self.now - old.recorded_at > WINDOW
            assert take(self.left, old.idempotency_key)
            self.quarantined[old.idempotency_key] += 1

    @rule(life=lives)
    def fork_in_the_parent(self, life: Live) -> None:
        life.spool.suspend()
        life.spool.resume()

    @rule(hours=st.sampled_from([1, 30]))
    def pass_time(self, hours: int) -> None:
        self.now += hours * HOUR

    @rule(life=consumes(lives))
    def end(self, life: Live) -> None:
        self._die(life)
        life.spool.close()

    @rule(life=consumes(lives))
    def crash(self, life: Live) -> None:
        # What the system does with a process that is killed: it closes all, and tidies up nothing.
        self._die(life)
        for claim in life.spool._claims():  # pyright: ignore[reportPrivateUsage]
            claim.leave()

    def _die(self, life: Live) -> None:
        # What it had not yet been given of a file it adopts from was never taken from what is left.
        self.alive.remove(life)
        self.left.update(life.has)

    @invariant()
    def quarantine_has_what_was_put_there(self) -> None:
        if self.path.exists():
            assert Counter(keys(quarantined(self.path))) == +self.quarantined


TestModel = SpoolMachine.TestCase
TestModel.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
