"""A table that relays share, as its statements change it, and relays that run the claims' statements on it.

Any statement may fail before it is carried out, or after (its answer is lost). A relay may be killed between
any two of its steps, be copied with its lease, and sleep for longer than a lease lasts. Ids are handed out
before the commits, so that rows appear below ids that were claimed already.
"""

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random

from clocknext_core import Wait, claims
from clocknext_core.claims import (
    LEASE_SECONDS,
    Claim,
    Claims,
    Register,
    Release,
    Renew,
    Replace,
    Row,
    SetAside,
    Settle,
    Statement,
    Unclaim,
)

NO_FAULTS = 0.0


@dataclass
class Stored:
    key: str
    lease: int | None = None
    attempts: int = 0


@dataclass
class Table:
    """The database. Its clock is its own: the relays' may stand anywhere."""

    now: float = 5e9
    last_id: int = 0
    uncommitted: dict[int, Stored] = field(default_factory=dict[int, Stored])
    rows: dict[int, Stored] = field(default_factory=dict[int, Stored])
    alive_until: dict[int, float] = field(default_factory=dict[int, float])
    beats: dict[int, int] = field(default_factory=dict[int, int])
    gone: Counter[str] = field(default_factory=Counter[str])
    """How often each key was deleted or set aside."""
    highest: int = 0
    """The highest id that was ever claimed."""
    seen: Counter[str] = field(default_factory=Counter[str])
    """What has happened, so that a run that meant nothing is noticed."""

    def write(self) -> int:
        self.last_id += 1
        self.uncommitted[self.last_id] = Stored(f"key-{self.last_id}")
        return self.last_id

    def commit(self, row_id: int) -> None:
        self.rows[row_id] = self.uncommitted.pop(row_id)

    def is_alive(self, lease: int | None) -> bool:
        return lease is not None and self.alive_until.get(lease, 0.0) > self.now

    def execute(self, statement: Statement) -> list[Row] | bool | None:
        match statement:
            case Register():
                self._register(statement.lease)
            case Renew():
                if self.beats.get(statement.lease) != statement.beat:
                    self.seen["beat"] += 1
                    return False
                self.seen["revived"] += not self.is_alive(statement.lease)
                self.beats[statement.lease] += 1
                self.alive_until[statement.lease] = self.now + LEASE_SECONDS
                return True
            case Replace():
                self._register(statement.new)
                for row in self._guarded(statement.ids, statement.old).values():
                    row.lease = statement.new
                if statement.ends_old:
                    self._release(statement.old)
                self.seen["replaced"] += 1
            case Claim():
                return self._claim(statement)
            case Settle() | SetAside():
                for row_id, row in self._guarded(statement.ids, statement.lease).items():
                    del self.rows[row_id]
                    self.gone[row.key] += 1
            case Unclaim():
                for row in self._guarded(statement.ids, statement.lease).values():
                    row.lease = None
            case Release():
                self._release(statement.lease)
        return None

    def _register(self, lease: int) -> None:
        self.alive_until[lease] = self.now + LEASE_SECONDS
        self.beats[lease] = 0

    def _release(self, lease: int) -> None:
        self.alive_until.pop(lease, None)
        self.beats.pop(lease, None)

    def _guarded(self, ids: Sequence[int], lease: int) -> dict[int, Stored]:
        assert [*ids] == sorted(set(ids)), "each id once, in order"
        mine = {each: self.rows[each] for each in ids if each in self.rows and self.rows[each].lease == lease}
        self.seen["guarded"] += len(mine) < len(ids)
        return mine

    def _claim(self, claim: Claim) -> list[Row]:
        found: list[Row] = []
        for row_id in sorted(self.rows):
            row = self.rows[row_id]
            if row_id > claim.above and not self.is_alive(row.lease) and len(found) < claim.limit:
                self.seen["taken over"] += row.lease is not None
                self.seen["claimed late"] += claim.above == 0 and row_id < self.highest - claims.OVERLAP
                row.lease = claim.lease
                self.highest = max(self.highest, row_id)
                row.attempts += 1
                found.append(Row(row_id, row.key, b"", 0.0))
        return found


class Relay:
    """A relay: the claims, and the signals its client holds."""

    def __init__(self, table: Table, rng: Random, now: float) -> None:
        self.table = table
        self.rng = rng
        self.now = now
        self.claims = Claims(self.new_lease, rng)
        self.held: list[str] = []
        self.is_dead = False
        self.is_asked = False
        self.sleeps = 0
        """Steps for which it does nothing."""

    def new_lease(self) -> int:
        return self.rng.getrandbits(63)

    def _memory(self) -> dict[str, object]:
        """What the claims remember, but for what they are made of."""
        return {
            name: value for name, value in vars(self.claims).items() if name not in ("_rng", "_make_lease")
        }

    def copy(self) -> "Relay":
        """A process with the same memory, as the copy of a virtual machine is; its randomness is its own."""
        rng = Random(self.rng.random())
        twin = Relay(self.table, rng, self.now)
        vars(twin.claims).update({**deepcopy(self._memory()), "_rng": rng, "_make_lease": twin.new_lease})
        twin.held = [*self.held]
        return twin

    def run(self, faults: float) -> None:
        """Run what is due; each statement may fail, and each step be the last."""
        for _ in range(100):
            statement = self.claims.poll(now=self.now)
            if isinstance(statement, Wait):
                assert statement.until is None or statement.until > self.now
                return
            fate = self.rng.random()
            if fate < faults:
                self.table.seen["failed"] += 1
                self.claims.handle_failed(statement, is_uncertain=self.rng.random() < 0.5)
                return
            result = self.table.execute(statement)
            if fate < 2 * faults:
                self.table.seen["lost"] += 1
                self.claims.handle_failed(statement, is_uncertain=True)
                return
            if fate < 2.2 * faults:
                self.table.seen["killed"] += 1
                self.is_dead = True
                return
            if isinstance(statement, Claim):
                assert isinstance(result, list)
                assert self.is_asked
                self.held += [row.key for row in self.claims.handle_claimed(statement, result)]
            elif isinstance(statement, Renew):
                self.claims.handle_renewed(is_ours=bool(result))
            else:
                self.claims.handle_done(statement)
        raise AssertionError("the statements never come to an end")

    def end_some(self) -> None:
        """Signals end, are put aside, or are given back."""
        count = self.rng.randrange(1 + len(self.held))
        ended, self.held = self.held[:count], self.held[count:]
        what = self.rng.random()
        if what < 0.8:
            self.claims.settle(ended, now=self.now)
        elif what < 0.9:
            self.claims.set_aside(ended, "refused")
        else:
            self.claims.give_back(ended)
            self.table.seen["given back"] += bool(ended)


class World:
    """A table, writers and relays, with faults by chance until they are told to stop."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.table = Table()
        self.relays = [self._relay() for _ in range(3)]

    def _relay(self) -> Relay:
        return Relay(self.table, Random(self.rng.random()), self.rng.uniform(0, 1e6))

    def step(self, faults: float) -> None:
        rng, table = self.rng, self.table
        for _ in range(rng.randrange(40)):
            table.write()
        for row_id in list(table.uncommitted):
            if rng.random() < 0.5:
                table.commit(row_id)
        self.pass_time(rng.choice((0.01, 0.5, 3.0, 25.0 if faults else 1.0)))
        for relay in list(self.relays):
            if relay.sleeps:
                relay.sleeps -= 1
                continue
            if rng.random() < faults / 2:
                table.seen["slept"] += 1  # for longer than a lease, if it comes to that
                relay.sleeps = rng.randrange(20)
            self.work(relay, faults)
            if rng.random() < faults / 4:
                table.seen["copied"] += 1
                self.relays.append(relay.copy())
        self.relays = [relay for relay in self.relays if not relay.is_dead][:6]
        if len(self.relays) < 2:
            self.relays.append(self._relay())

    def work(self, relay: Relay, faults: float) -> None:
        if len(relay.held) < 20:
            relay.claims.ask(self.rng.choice((1, 10, 500)))
            relay.is_asked = True
        relay.run(faults)
        relay.is_asked = False
        relay.end_some()
        if not relay.is_dead:
            relay.run(faults)

    def pass_time(self, seconds: float) -> None:
        self.table.now += seconds
        for relay in self.relays:
            relay.now += seconds

    def settle(self) -> None:
        """No more faults, no more writes: within a bounded time the table must be empty."""
        for row_id in list(self.table.uncommitted):
            self.table.commit(row_id)
        for _ in range(400):
            if not self.table.rows:
                return
            self.pass_time(1.0)
            for relay in self.relays:
                self.work(relay, NO_FAULTS)
                relay.claims.settle(relay.held, now=relay.now)
                relay.held = []
        raise AssertionError(f"{len(self.table.rows)} signals are stuck")
