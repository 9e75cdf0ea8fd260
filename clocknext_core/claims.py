"""Claims on signals in a shared table: which statement a relay runs next, and what its answer means. Pure.

Any number of relays share one table. Each has a *lease*: a random number, and a row that says until when it
is alive by the server's clock. A signal that is claimed carries the lease of its relay. One without a lease,
or with a lease that is over, may be claimed by anyone. So renewing a lease is one small write, whatever the
number of signals held, and giving everything back is the removal of one row.

Seven rules:

*Guard.* A signal is settled, set aside or given back only by the lease that it carries. A relay that has lost
a signal changes nothing of it. That both have sent it is harmless: they sent the same bytes under the same
idempotency key.

*Beat.* Each renewal counts the lease's beat up from the number that the relay knows. Where that fails,
another process uses the same lease (a copied machine), or a renewal's answer was lost: the relay takes a new
lease and carries its signals over to it.

*Uncertain claims.* Where the answer to a claim was lost, signals may carry the lease that no relay holds. So
the relay takes a new lease, carries over what it knows of, and ends the old one, which frees the rest.

*Rotation.* After `LEASE_LIFE` seconds a lease is replaced in the same way. So a signal that carries a lease
of which no process knows any more that it holds it, such as one that a copy of the relay claimed before it
died, is free after that time, whatever the cause.

*Low-water mark.* A claim begins above the ids claimed before, because those leave dead entries in the index
as long as any old snapshot is in use. It begins `OVERLAP` ids lower, for transactions that took their ids
early and committed late. Every `FULL_LOOK_EVERY` seconds a claim begins at the first id: what committed later
still, and what dead relays left, is found then.

*Batches.* What has ended is settled in batches of up to `SETTLE_BATCH`, sorted by id, and after
`SETTLE_AFTER` seconds at the latest.

*Back-off.* After a failure nothing but a claim that is asked for is tried again before the back-off is over.

Time comes in as `now`, from a monotonic clock of the relay's. It schedules statements and is never compared
with the server's clock.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias, final

from clocknext_core.backoff import RandomSource, backoff_delay
from clocknext_core.config import RetryPolicy
from clocknext_core.outputs import Wait
from clocknext_core.values import Value

Lease: TypeAlias = int
"""A random positive number below 2^63, which names one relay for a while."""

LEASE_SECONDS = 60.0
"""How long a lease lasts by default after it was renewed, by the server's clock.

It is renewed after a third of that, so that two renewals may fail before it is over.
"""
LEASE_LIFE = 300.0
"""Seconds after which a lease is replaced by a new one."""
FULL_LOOK_EVERY = 10.0
"""Seconds between two claims that begin at the first id."""
OVERLAP = 1000
"""How many ids below the highest one claimed a claim begins."""
SETTLE_BATCH = 500
"""Most signals in one statement that settles, sets aside or gives back."""
SETTLE_AFTER = 0.1
"""Seconds that a signal which has ended waits for others to be settled with."""
STATEMENTS = RetryPolicy(max_attempts=1, base_delay=0.2, max_delay=5.0)
"""How soon a statement that failed is tried again."""


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Register(Value):
    """Write the row of a lease, with the beat 0. Report with `handle_done`."""

    lease: Lease


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Renew(Value):
    """Renew a lease whose beat is still the one given. Report with `handle_renewed`."""

    lease: Lease
    beat: int
    rate: float
    """Signals settled in a second since the last renewal."""


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Replace(Value):
    """Write the row of a new lease and carry signals over from the old one, in one transaction.

    Report with `handle_done`.
    """

    old: Lease
    new: Lease
    ids: Sequence[int]
    """What is carried over, as far as it carries the old lease still; sorted."""
    ends_old: bool
    """Whether to remove the row of the old lease, so that all else that carries it can be claimed."""


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Claim(Value):
    """Claim signals, by ascending id. Report with `handle_claimed`."""

    lease: Lease
    above: int
    """Only ids above this one."""
    limit: int


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Settle(Value):
    """Delete signals that carry the lease. Report with `handle_done`."""

    lease: Lease
    ids: Sequence[int]
    """Sorted."""


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SetAside(Value):
    """Move signals that carry the lease into quarantine. Report with `handle_done`."""

    lease: Lease
    ids: Sequence[int]
    """Sorted."""
    reasons: Sequence[str]
    """The reason for each."""


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Unclaim(Value):
    """Take the lease off signals that carry it. Report with `handle_done`."""

    lease: Lease
    ids: Sequence[int]
    """Sorted."""


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Release(Value):
    """Remove the row of the lease: whatever carries it can be claimed. Report with `handle_done`."""

    lease: Lease


Statement: TypeAlias = Register | Renew | Replace | Claim | Settle | SetAside | Unclaim | Release


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Row(Value):
    """A signal that was claimed."""

    id: int
    key: str
    """Its idempotency key."""
    body: bytes = field(repr=False)
    age: float
    """Seconds since it was recorded, by the server's clock."""


class _Term(NamedTuple):
    """What is known of a lease that is registered."""

    rotates_at: float
    """When it is replaced by a new one."""
    beat: int
    renewed_at: float
    settled: int
    """Signals that had been settled then."""

    def renewed(self, now: float, settled: int) -> "_Term":
        return self._replace(beat=self.beat + 1, renewed_at=now, settled=settled)

    def rate(self, now: float, settled: int) -> float:
        """Return how many signals have been settled in a second since it was renewed."""
        seconds = now - self.renewed_at
        return (settled - self.settled) / seconds if seconds > 0 else 0.0


class Claims:
    """The claims of one relay.

    Inputs are `ask`, `settle`, `set_aside`, `give_back`, `hold` and `close`, and the answers to statements:
    `handle_done`, `handle_renewed`, `handle_claimed` and `handle_failed`. The output is `poll`. The driver
    runs one statement at a time and reports it before it polls again.

    Args:
        make_lease: Makes a new lease. Two must never be alike.
        rng: Randomness for the jitter.
        lease_seconds: How long a lease lasts.
    """

    def __init__(
        self, make_lease: Callable[[], Lease], rng: RandomSource, *, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self._renew_every = lease_seconds / 3
        self._make_lease = make_lease
        self._rng = rng
        self._now = -math.inf
        self.lease: Lease = make_lease()
        """The lease that is used, or will be once it is registered."""
        self._old: tuple[Lease, bool] | None = None
        """The lease that was replaced by `lease`, and whether that is to end it."""
        self._term: _Term | None = None
        """`None` before the lease is registered."""
        self._ids: dict[str, int] = {}
        """What is held, by idempotency key."""
        self._settling: set[int] = set()
        self._settles_at = math.inf
        self._aside: dict[int, str] = {}
        self._giving_back: set[int] = set()
        self._wanted: int | None = None
        self._mark = 0
        """The highest id claimed, since the claims went on from the last full look."""
        self._full_look_at = -math.inf
        self._is_closing = False
        self._is_closed = False
        self._failures = 0
        self._retry_at = -math.inf
        self.settled: int = 0
        """Signals settled so far."""

    @property
    def held(self) -> int:
        """Signals claimed or stored, and not yet settled, set aside or given back."""
        return len(self._all_ids())

    @property
    def is_idle(self) -> bool:
        """Whether no statement but a renewal is due, now or later."""
        return not (self._settling or self._aside or self._giving_back)

    # Inputs

    def ask(self, limit: int) -> None:
        """Ask for a claim of at most `limit` signals, as soon as what is due before it is done.

        A failure of any statement takes the request back.
        """
        self._wanted = limit

    def hold(self, key: str, row_id: int) -> None:
        """Take note of a signal that was stored under the current lease."""
        self._ids[key] = row_id

    def settle(self, keys: Sequence[str], *, now: float) -> None:
        """Have signals deleted that have ended. An unknown key is a no-op."""
        self._advance(now)
        ids = self._let_go(keys)
        if ids and not self._settling:
            self._settles_at = self._now + SETTLE_AFTER
        self._settling |= ids

    def set_aside(self, keys: Sequence[str], reason: str) -> None:
        """Have signals moved into quarantine. An unknown key is a no-op."""
        for row_id in self._let_go(keys):
            self._aside[row_id] = reason

    def give_back(self, keys: Sequence[str]) -> None:
        """Have signals given back, for other relays to claim. An unknown key is a no-op."""
        ids = self._let_go(keys)
        self._giving_back |= ids
        if ids:
            self._mark = min(self._mark, min(ids) - 1)

    def close(self) -> None:
        """Have everything settled and the lease ended: all that is held can be claimed by others at once."""
        self._is_closing = True
        self._retry_at = -math.inf

    # Answers

    def handle_done(self, statement: Register | Replace | Settle | SetAside | Unclaim | Release) -> None:
        """Take note that a statement has been carried out."""
        self._succeed()
        match statement:
            case Register() | Replace():
                self._term = _Term(self._now + LEASE_LIFE, 0, self._now, self.settled)
            case Settle():
                self._settling -= {*statement.ids}
                self.settled += len(statement.ids)
                self._settles_at = self._now if self._settling else math.inf
            case SetAside():
                for row_id in statement.ids:
                    del self._aside[row_id]
            case Unclaim():
                self._giving_back -= {*statement.ids}
            case _:  # the lease was released
                self._is_closed = True

    def handle_renewed(self, *, is_ours: bool) -> None:
        """Take the answer to a renewal; `is_ours`: the beat was the one expected."""
        self._succeed()
        if is_ours and self._term is not None:
            self._term = self._term.renewed(self._now, self.settled)
        else:
            self._change_lease(ends_old=False)

    def handle_claimed(self, statement: Claim, rows: Sequence[Row]) -> list[Row]:
        """Take what was claimed; return what of it is not held already.

        What is held can be claimed again if the lease was over for a while.
        """
        self._succeed()
        self._wanted = None
        is_full_look = statement.above == 0
        if is_full_look:
            self._full_look_at = self._now + FULL_LOOK_EVERY
        held = self._all_ids()
        fresh = [row for row in rows if row.id not in held]
        for row in fresh:
            self._ids[row.key] = row.id
        highest = max((row.id for row in rows), default=0)
        # A full look that found all it asked for has more to find behind it.
        goes_on_from_here = is_full_look and len(rows) == statement.limit
        self._mark = highest if goes_on_from_here else max(self._mark, highest)
        return fresh

    def handle_failed(self, statement: Statement, *, is_uncertain: bool) -> None:
        """Take note that a statement failed.

        Args:
            statement: What was to be done.
            is_uncertain: Whether it may have been carried out: its answer was lost.
        """
        self._wanted = None
        self._failures += 1
        self._retry_at = self._now + backoff_delay(self._failures, STATEMENTS, self._rng)
        if isinstance(statement, Claim) and is_uncertain:
            self._change_lease(ends_old=True)

    # Output

    def poll(self, *, now: float) -> Statement | Wait:
        """Return the statement to carry out next, or when there will be one."""
        self._advance(now)
        if self._is_closed:
            return Wait(None)
        if self._now < self._retry_at and self._wanted is None:
            return Wait(self._retry_at)
        if self._term is not None and self._now >= self._term.rotates_at and not self._is_closing:
            self._change_lease(ends_old=True)
        if self._term is None:
            return self._first_statement()
        renews_at = self._term.renewed_at + self._renew_every
        if self._now >= renews_at:
            return Renew(self.lease, self._term.beat, self._term.rate(self._now, self.settled))
        return self._next_statement() or Wait(min(renews_at, self._settles_at))

    def _first_statement(self) -> Statement | Wait:
        if self._old is not None:
            old, ends_old = self._old
            return Replace(old, self.lease, sorted(self._all_ids()), ends_old)
        # At the end, nothing was ever claimed under it.
        return Wait(None) if self._is_closing else Register(self.lease)

    def _next_statement(self) -> Statement | None:
        is_settle_due = self._now >= self._settles_at or len(self._settling) >= SETTLE_BATCH
        if self._settling and (is_settle_due or self._is_closing):
            return Settle(self.lease, sorted(self._settling)[:SETTLE_BATCH])
        if self._aside:
            ids = sorted(self._aside)[:SETTLE_BATCH]
            return SetAside(self.lease, ids, [self._aside[row_id] for row_id in ids])
        if self._giving_back:
            return Unclaim(self.lease, sorted(self._giving_back)[:SETTLE_BATCH])
        if self._is_closing:
            return Release(self.lease)
        if self._wanted is None:
            return None
        is_full_look = self._now >= self._full_look_at
        return Claim(self.lease, 0 if is_full_look else max(0, self._mark - OVERLAP), self._wanted)

    # Within

    def _advance(self, now: float) -> None:
        self._now = max(self._now, now)

    def _all_ids(self) -> set[int]:
        return {*self._ids.values(), *self._settling, *self._aside, *self._giving_back}

    def _let_go(self, keys: Sequence[str]) -> set[int]:
        return {self._ids.pop(key) for key in keys if key in self._ids}

    def _change_lease(self, *, ends_old: bool) -> None:
        self._old = self.lease, ends_old
        self.lease = self._make_lease()
        self._term = None
        self._full_look_at = -math.inf  # what is freed lies below the mark

    def _succeed(self) -> None:
        self._failures = 0
        self._retry_at = -math.inf
